//! Carries out what a shard wants done with the files of checkpoints and freed segments: writes go
//! through the core's ring, one at a time and not durable by themselves; whatever blocks goes to
//! the file thread.
//!
//! A checkpoint that cannot be written for want of room waits and is tried again, as soon as the
//! reserve is given back: the log before stays until it is done. Any other error is the end, as
//! with the log: the index names what was written of it already, which cannot be relied upon any
//! more, while a start has the checkpoint that counts and the whole log behind it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use engine::abstention::Abstention;
use engine::shard::{FileJob, FileStep, StringShard};
use engine::time::Time;
use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::writer::CheckpointWrite;
use plog::segment::SegmentId;
use plog::vocabulary::BootEpoch;

use crate::node::checkpoint_files;
use crate::node::file_worker::{BlockingJob, FileDone, FileWorkerChannel};
use crate::node::log_files::LogFiles;
use crate::node::log_line;
use crate::node::reserve_file::ReserveJob;
use crate::reactor::disk_reserve::DiskReserve;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::metrics::{Metrics, record};
use crate::reactor::reached_note::ReachedNote;
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
    /// Where the bytes begin in their buffer.
    begin: usize,
    /// How many of them are written.
    done: usize,
    submitted_us: u64,
}

/// See the module page.
#[derive(Debug)]
pub struct FileDriver {
    worker: FileWorkerChannel,
    write: Option<PartWrite>,
    /// A write that was short: the rest of it says why.
    rest: Option<(PartWrite, AlignedBuffer)>,
    /// A write for which there was no room, and when to try it again.
    waits_for_room: Option<(CheckpointWrite, u64)>,
    /// An adoption for which there was no room, and when to try it again.
    adopts_again: Option<(Pointer, u64)>,
    jobs_under_way: usize,
    reserve: DiskReserve,
    reached: ReachedNote,
    has_noted_loss: bool,
    /// When the checkpoint being written began.
    begun_us: Option<u64>,
}

impl FileDriver {
    /// A driver with this way to the file thread, and this reserve for a full disk.
    #[must_use]
    pub fn new(worker: FileWorkerChannel, reserve: DiskReserve) -> Self {
        Self {
            worker,
            write: None,
            rest: None,
            waits_for_room: None,
            adopts_again: None,
            jobs_under_way: 0,
            reserve,
            reached: ReachedNote::default(),
            has_noted_loss: false,
            begun_us: None,
        }
    }

    /// Whether something comes without a completion: the file thread owes an answer, or a write
    /// waits for room.
    #[must_use]
    pub fn must_look_again(&self) -> bool {
        self.jobs_under_way > 0
            || self.waits_for_room.is_some()
            || self.adopts_again.is_some()
            || self.reached.is_pending()
    }

    /// The log has a durable frame in this segment, which it had just opened.
    pub fn note_reached(&mut self, segment: SegmentId) {
        self.reached.note(segment);
    }

    /// Something could not be read back: the next start has to know, unless it knows from before.
    pub fn note_loss(&mut self, loss: Abstention) {
        if !std::mem::replace(&mut self.has_noted_loss, true) {
            self.start(BlockingJob::NoteLoss(loss));
        }
    }

    /// The core has rejoined in the boot `epoch`: what says otherwise goes.
    pub fn note_rejoined(&mut self, epoch: BootEpoch) {
        self.start(BlockingJob::NoteRejoined(epoch));
    }

    /// What is set aside for a full disk.
    #[must_use]
    pub fn reserve(&self) -> &DiskReserve {
        &self.reserve
    }

    /// Whether a checkpoint waits for room.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_room.is_some() || self.adopts_again.is_some()
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
            self.start(BlockingJob::File(FileJob::Adopt(pointer)));
        }
        if let Some((write, buffer)) = self.rest.take() {
            self.submit_bytes(write, buffer, files, ring)?;
        }
        while let Some(step) = shard.poll_file_step(now) {
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
                    self.start(BlockingJob::File(job));
                }
            }
        }
        if let Some(segment) = self.reached.poll(now) {
            self.start(BlockingJob::Reached(segment));
        }
        // Behind what lets old files go. What was given back belongs to the checkpoint until it is
        // done.
        let is_needed = self.reserve.is_given_back() && shard.is_checkpointing();
        if !is_needed && let Some(job) = self.reserve.poll(now) {
            self.start(BlockingJob::Reserve(job));
        }
        Ok(())
    }

    fn start(&mut self, job: BlockingJob) {
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
        let job = match done.job {
            BlockingJob::File(job) => job,
            BlockingJob::Reserve(job) => {
                self.reserve.handle_done(now, job, &done.result);
                if job == ReserveJob::GiveBack {
                    // Now there is room, if there ever is.
                    let waiting = self.waits_for_room.iter_mut().map(|(_, again_us)| again_us);
                    let adopting = self.adopts_again.iter_mut().map(|(_, again_us)| again_us);
                    waiting.chain(adopting).for_each(|again_us| *again_us = now.0);
                }
                return Ok(());
            }
            BlockingJob::NoteLoss(_) | BlockingJob::NoteRejoined(_) => {
                tell_of_note(&done);
                return Ok(());
            }
            BlockingJob::Reached(segment) => {
                return match done.result {
                    Err(error) if !is_want_of_room(&error) => {
                        Err(FatalReason::CheckpointFiles { error })
                    }
                    result => {
                        self.reached.handle_done(now, segment, result.is_ok());
                        Ok(())
                    }
                };
            }
        };
        if let Err(error) = done.result {
            if is_want_of_room(&error)
                && let FileJob::Adopt(pointer) = job
            {
                log_line::error(
                    "no room to adopt a checkpoint; trying again",
                    &[("error", &error)],
                );
                self.adopts_again = Some((pointer, now.0 + RETRY_US));
                self.give_back_reserve();
                return Ok(());
            }
            return Err(FatalReason::CheckpointFiles { error });
        }
        match job {
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
        let begin = buffer.as_ptr().addr() - buffer.whole().as_ptr().addr();
        let length = buffer.len();
        let write = PartWrite { part, offset, length, begin, done: 0, submitted_us: now.0 };
        self.submit_bytes(write, buffer, files, ring)
    }

    fn submit_bytes(
        &mut self,
        write: PartWrite,
        buffer: AlignedBuffer,
        files: &LogFiles,
        ring: &mut Ring,
    ) -> Result<(), FatalReason> {
        let segment = write.part.file();
        let file = files.segment(segment).ok_or(FatalReason::MissingSegment { segment })?;
        let done = u64::try_from(write.done).expect("a length fits 64 bits");
        ring.write(Kind::CheckpointWrite, NOBODY, file, buffer, write.offset + done);
        self.write = Some(write);
        Ok(())
    }

    fn wait_for_room(&mut self, now: Time, write: CheckpointWrite, error: &std::io::Error) {
        log_line::error("no room for a checkpoint; trying again", &[("error", error)]);
        self.waits_for_room = Some((write, now.0 + RETRY_US));
        self.give_back_reserve();
    }

    fn give_back_reserve(&mut self) {
        if let Some(job) = self.reserve.give_back() {
            self.start(BlockingJob::Reserve(job));
        }
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
        let mut write = self.write.take().expect("a completion belongs to the write in flight");
        let outcome = completion.outcome();
        let Payload::Blocks(buffer) = completion.payload else {
            unreachable!("a checkpoint's write carries blocks")
        };
        let mut buffer: AlignedBuffer = buffer;
        let all = write.begin..write.begin + write.length;
        let before = write.done;
        if let Ok(written) = &outcome {
            write.done += written;
        }
        if write.done == write.length {
            record(&mut metrics.checkpoint_write_us, now.since_us(Time(write.submitted_us)));
            buffer.set_window(all);
            shard.handle_checkpoint_written(now, buffer);
            return Ok(());
        }
        // The disk takes whole blocks only.
        write.done -= write.done % BLOCK_SIZE;
        let no_room = || std::io::Error::from_raw_os_error(libc::ENOSPC);
        let error = match outcome {
            Ok(_) if write.done > before => {
                buffer.set_window(all.start + write.done..all.end);
                self.rest = Some((write, buffer));
                return Ok(());
            }
            Ok(_) => no_room(),
            Err(error) => error,
        };
        if !is_want_of_room(&error) {
            return Err(FatalReason::CheckpointFiles { error });
        }
        // All of it is written again.
        buffer.set_window(all);
        let PartWrite { part, offset, .. } = write;
        self.wait_for_room(now, CheckpointWrite { part, offset, buffer }, &error);
        Ok(())
    }
}

/// Neither note is needed for what this process does: without the first the next start goes by the
/// log alone, which it reads as a whole, and without the second the core rejoins once more.
fn tell_of_note(done: &FileDone) {
    if let Err(error) = &done.result {
        log_line::error(
            "what a core lost, or that it has rejoined, cannot be noted; the next start finds out",
            &[("error", error)],
        );
    }
}

/// By its kind: an error that names its file has no number any more.
fn is_want_of_room(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
