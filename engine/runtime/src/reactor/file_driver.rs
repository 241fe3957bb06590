//! Carries out what a shard wants done with the files of checkpoints and freed segments: writes go
//! through the core's ring, one at a time and not durable by themselves; whatever blocks goes to
//! the file thread.
//!
//! A checkpoint that cannot be written for want of room waits and is tried again: the log before
//! stays until it is done. Any other error is the end, as with the log.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use engine::shard::{FileJob, FileStep, StringShard};
use engine::time::Time;
use plog::block::AlignedBuffer;
use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::writer::CheckpointWrite;

use crate::node::checkpoint_files;
use crate::node::file_worker::{FileDone, FileWorkerChannel};
use crate::node::log_files::LogFiles;
use crate::node::log_line;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::metrics::{Metrics, record};
use crate::reactor::ring::{Completion, Payload, Ring};
use crate::reactor::slab::Key;
use crate::reactor::user_data::Kind;

/// The owner of operations that need no owner.
const NOBODY: Key = Key { index: 0, generation: 0 };

/// How long to wait before a checkpoint's write is tried again for which there was no room, in
/// microseconds.
const RETRY_US: u64 = 1_000_000;

#[derive(Debug)]
struct PartWrite {
    part: PartId,
    offset: u64,
    length: usize,
    submitted_us: u64,
}

/// See the module page.
#[derive(Debug)]
pub struct FileDriver {
    worker: FileWorkerChannel,
    write: Option<PartWrite>,
    /// A write for which there was no room, and when to try it again.
    waits_for_room: Option<(CheckpointWrite, u64)>,
    /// An adoption for which there was no room, and when to try it again.
    adopts_again: Option<(Pointer, u64)>,
    jobs_under_way: usize,
    /// When the checkpoint being written began.
    begun_us: Option<u64>,
}

impl FileDriver {
    /// A driver with this way to the file thread.
    #[must_use]
    pub fn new(worker: FileWorkerChannel) -> Self {
        Self {
            worker,
            write: None,
            waits_for_room: None,
            adopts_again: None,
            jobs_under_way: 0,
            begun_us: None,
        }
    }

    /// Whether something comes without a completion: the file thread owes an answer, or a write
    /// waits for room.
    #[must_use]
    pub fn must_look_again(&self) -> bool {
        self.jobs_under_way > 0 || self.waits_for_room.is_some() || self.adopts_again.is_some()
    }

    /// Takes what the file thread has done, and starts what the shard wants.
    ///
    /// # Errors
    ///
    /// When a file cannot be made, adopted or freed for another reason than want of room.
    pub fn turn(
        &mut self,
        now: Time,
        shard: &mut StringShard,
        files: &mut LogFiles,
        ring: &mut Ring,
        metrics: &mut Metrics,
    ) -> Result<(), FatalReason> {
        while let Some(done) = self.worker.take_done() {
            self.handle_done(now, done, shard, files, metrics)?;
        }
        if let Some((_, again_us)) = self.waits_for_room
            && now.0 >= again_us
        {
            let (write, _) = self.waits_for_room.take().expect("just seen");
            self.submit(now, write, files, ring)?;
        }
        if let Some((pointer, again_us)) = self.adopts_again
            && now.0 >= again_us
        {
            self.adopts_again = None;
            self.start(FileJob::Adopt(pointer));
        }
        while let Some(step) = shard.poll_file_step() {
            match step {
                FileStep::Write(write) => {
                    self.begun_us.get_or_insert(now.0);
                    self.submit(now, write, files, ring)?;
                }
                FileStep::Job(job) => {
                    match job {
                        FileJob::Adopt(_) => {}
                        FileJob::Remove { checkpoint, parts } => {
                            (0..parts).for_each(|part| files.close_part(checkpoint.part(part)));
                        }
                        FileJob::Free { segment, .. } => files.close_segment(segment),
                    }
                    self.start(job);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, job: FileJob) {
        assert!(self.worker.start(job), "a core has fewer jobs under way than may wait");
        self.jobs_under_way += 1;
    }

    fn handle_done(
        &mut self,
        now: Time,
        done: FileDone,
        shard: &mut StringShard,
        files: &LogFiles,
        metrics: &mut Metrics,
    ) -> Result<(), FatalReason> {
        self.jobs_under_way -= 1;
        let took_us = u64::try_from(done.took.as_micros()).unwrap_or(u64::MAX);
        if let Err(error) = done.result {
            if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
                && let FileJob::Adopt(pointer) = done.job
            {
                log_line::error(
                    "no room to adopt a checkpoint; trying again",
                    &[("error", &error)],
                );
                self.adopts_again = Some((pointer, now.0 + RETRY_US));
                return Ok(());
            }
            return Err(FatalReason::CheckpointFiles { error });
        }
        match done.job {
            FileJob::Adopt(pointer) => {
                shard.handle_adopted(now, pointer);
                let begun = self.begun_us.take().unwrap_or(now.0);
                record(&mut metrics.checkpoint_us, now.since_us(Time(begun)));
                log_line::info(
                    "checkpoint adopted",
                    &[
                        ("checkpoint", &pointer.checkpoint),
                        ("bytes", &pointer.bytes),
                        ("parts", &pointer.parts),
                        ("floor", &pointer.floor),
                        ("segments", &files.count()),
                        ("milliseconds", &(now.since_us(Time(begun)) / 1000)),
                    ],
                );
            }
            FileJob::Remove { .. } => {}
            FileJob::Free { segment, becomes } => {
                record(&mut metrics.free_us, took_us);
                shard.handle_freed(segment);
                if let Some(spare) = becomes {
                    shard.handle_spare(spare);
                }
            }
        }
        Ok(())
    }

    fn submit(
        &mut self,
        now: Time,
        write: CheckpointWrite,
        files: &mut LogFiles,
        ring: &mut Ring,
    ) -> Result<(), FatalReason> {
        let CheckpointWrite { part, offset, buffer } = write;
        if offset == 0 {
            let path = checkpoint_files::temporary(files.directory(), part);
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .custom_flags(libc::O_DIRECT)
                .open(&path);
            match made {
                Ok(file) => files.add_part(part, OwnedFd::from(file)),
                Err(error) if is_want_of_room(&error) => {
                    self.wait_for_room(now, CheckpointWrite { part, offset, buffer }, &error);
                    return Ok(());
                }
                Err(error) => return Err(FatalReason::CheckpointFiles { error }),
            }
        }
        let file = files.segment(part.file());
        let file = file.ok_or_else(|| FatalReason::MissingSegment { segment: part.file() })?;
        let length = buffer.len();
        self.write = Some(PartWrite { part, offset, length, submitted_us: now.0 });
        ring.write(Kind::CheckpointWrite, NOBODY, file, buffer, offset);
        Ok(())
    }

    fn wait_for_room(&mut self, now: Time, write: CheckpointWrite, error: &std::io::Error) {
        log_line::error("no room for a checkpoint; trying again", &[("error", error)]);
        self.waits_for_room = Some((write, now.0 + RETRY_US));
    }

    /// A write ended.
    ///
    /// # Errors
    ///
    /// When it failed for another reason than want of room.
    pub fn handle_written(
        &mut self,
        now: Time,
        completion: Completion,
        shard: &mut StringShard,
        metrics: &mut Metrics,
    ) -> Result<(), FatalReason> {
        let PartWrite { part, offset, length, submitted_us } =
            self.write.take().expect("a completion belongs to the write in flight");
        let outcome = completion.outcome();
        let Payload::Blocks(buffer) = completion.payload else {
            unreachable!("a checkpoint's write carries blocks")
        };
        let buffer: AlignedBuffer = buffer;
        match outcome {
            Ok(written) if written == length => {
                record(&mut metrics.checkpoint_write_us, now.since_us(Time(submitted_us)));
                shard.handle_checkpoint_written(now, buffer);
                Ok(())
            }
            // What was written of it is written again.
            Ok(_) => {
                let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
                self.wait_for_room(now, CheckpointWrite { part, offset, buffer }, &error);
                Ok(())
            }
            Err(error) if is_want_of_room(&error) => {
                self.wait_for_room(now, CheckpointWrite { part, offset, buffer }, &error);
                Ok(())
            }
            Err(error) => Err(FatalReason::CheckpointFiles { error }),
        }
    }
}

fn is_want_of_room(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
