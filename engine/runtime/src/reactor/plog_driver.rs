//! Carries out what the log asks for: one durable write at a time, a bounded number of reads, and
//! spare segments from the node's preparing thread.
//!
//! A failed or short write is the end: what reached the disk is unknown then, and a second attempt
//! could make a promise durable that was never answered for. A failed read is tried once more and
//! then reported, because the shard can abstain for that one entity.

use engine::shard::{LogSpace, ReadFailed, ReadId, StringShard};
use engine::time::Time;
use plog::block::AlignedBuffer;
use plog::location::Location;
use plog::log::SegmentWrite;
use plog::segment::SegmentId;

use crate::node::log_files::LogFiles;
use crate::node::log_line;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::metrics::{Metrics, record};
use crate::reactor::ring::{Completion, Payload, Ring};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::Kind;

/// Reads of the log in flight at most.
const READS_MAX: usize = 64;

/// Read buffers kept for reuse.
const READ_BUFFERS_KEPT: usize = 16;

/// Read buffers above this size are not kept, in bytes.
const READ_BUFFER_KEPT_SIZE: usize = 64 << 10;

/// How long to wait before asking for a spare segment again after there was no space for one, in
/// microseconds.
const SPARE_RETRY_US: u64 = 1_000_000;

/// The owner of operations that need no owner.
const NOBODY: Key = Key { index: 0, generation: 0 };

#[derive(Debug)]
struct WriteInFlight {
    segment: SegmentId,
    offset: u64,
    length: usize,
    submitted_us: u64,
    first_appended_us: u64,
}

#[derive(Debug)]
struct ReadInFlight {
    read: ReadId,
    location: Location,
    retried: bool,
    submitted_us: u64,
}

/// The log's hands on one core.
#[derive(Debug)]
pub struct PlogDriver {
    files: LogFiles,
    write: Option<WriteInFlight>,
    reads: Slab<ReadInFlight>,
    read_buffers: Vec<AlignedBuffer>,
    /// When the first record that is not handed out for writing was appended.
    first_appended_us: Option<u64>,
    /// Records that were in the log when the last write was handed out.
    records_written: u64,
    /// Spares asked for and neither ready nor failed.
    spares_outstanding: usize,
    spares_rest_until_us: u64,
    space: SpaceLeft,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SpaceLeft {
    Yes,
    No,
}

impl PlogDriver {
    /// A driver for these files.
    #[must_use]
    pub fn new(files: LogFiles) -> Self {
        Self {
            files,
            write: None,
            reads: Slab::new(),
            read_buffers: Vec::new(),
            first_appended_us: None,
            records_written: 0,
            spares_outstanding: 0,
            spares_rest_until_us: 0,
            space: SpaceLeft::Yes,
        }
    }

    /// Whether a write is in flight.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// Reads in flight.
    #[must_use]
    pub fn reads_in_flight(&self) -> usize {
        self.reads.len()
    }

    /// Whether the preparing thread owes this core an answer, which comes without a completion.
    #[must_use]
    pub fn awaits_spare(&self) -> bool {
        self.spares_outstanding > 0
    }

    /// The log's files.
    #[must_use]
    pub fn files(&self) -> &LogFiles {
        &self.files
    }

    /// The log's files, to add and remove some.
    pub fn files_mut(&mut self) -> &mut LogFiles {
        &mut self.files
    }

    /// Asks for the spares that the log wants, and hands it those that are ready.
    pub fn tend_spares(&mut self, now: Time, shard: &mut StringShard, metrics: &mut Metrics) {
        if self.spares_outstanding > 0 {
            while let Some(ready) = self.files.take_spare() {
                self.spares_outstanding = self.spares_outstanding.saturating_sub(1);
                match ready.result {
                    Ok(()) => {
                        shard.handle_spare(ready.spare);
                        if self.space == SpaceLeft::No {
                            log_line::info("there is space for the log again", &[]);
                            self.space = SpaceLeft::Yes;
                            shard.set_log_space(LogSpace::Available);
                        }
                    }
                    Err(error) => {
                        metrics.counters.spares_failed += 1;
                        log_line::error(
                            "cannot prepare a log segment; trying again",
                            &[("error", &error)],
                        );
                        self.spares_rest_until_us = now.0 + SPARE_RETRY_US;
                        // What is left of the current segment can still be written to; only when
                        // another one is needed is there no way on.
                        if self.space == SpaceLeft::Yes {
                            self.space = SpaceLeft::No;
                            shard.set_log_space(LogSpace::Full);
                        }
                    }
                }
            }
        }
        if now.0 < self.spares_rest_until_us {
            return;
        }
        while shard.spares_wanted() > self.spares_outstanding {
            let spare = shard.name_spare();
            if !self.files.request_spare(spare) {
                break;
            }
            self.spares_outstanding += 1;
        }
    }

    /// Notes when something began to wait for the disk; for the statistics.
    pub fn note_pending(&mut self, now: Time, shard: &StringShard) {
        if self.first_appended_us.is_none() && shard.log().pending_bytes() > 0 {
            self.first_appended_us = Some(now.0);
        }
    }

    /// Starts the write that the log asks for, if it asks for one. Whether it did.
    ///
    /// # Errors
    ///
    /// When the next segment cannot be opened.
    pub fn start_write(
        &mut self,
        now: Time,
        shard: &mut StringShard,
        ring: &mut Ring,
        metrics: &mut Metrics,
    ) -> Result<bool, FatalReason> {
        if self.write.is_some() {
            return Ok(false);
        }
        let Some(SegmentWrite { segment, offset, buffer, opens }) = shard.poll_write() else {
            return Ok(false);
        };
        if let Some(spare) = opens {
            self.files.open_spare(spare, segment).map_err(|error| FatalReason::OpenSegment {
                spare,
                segment,
                error,
            })?;
        }
        let file = self.files.segment(segment).ok_or(FatalReason::MissingSegment { segment })?;
        let length = buffer.len();
        let first_appended_us = self.first_appended_us.take().unwrap_or(now.0);
        let records = shard.log().counters().records;
        record(&mut metrics.log_write_records, records.saturating_sub(self.records_written));
        self.records_written = records;
        record(&mut metrics.log_write_bytes, u64::try_from(length).expect("a length fits 64 bits"));
        self.write =
            Some(WriteInFlight { segment, offset, length, submitted_us: now.0, first_appended_us });
        ring.write_durable(Kind::LogWrite, NOBODY, file, buffer, offset);
        Ok(true)
    }

    /// The write ended.
    ///
    /// # Errors
    ///
    /// When not all of it is durable.
    pub fn handle_written(
        &mut self,
        now: Time,
        completion: Completion,
        shard: &mut StringShard,
        metrics: &mut Metrics,
    ) -> Result<(), FatalReason> {
        let write = self.write.take().expect("a completion belongs to the write in flight");
        let WriteInFlight { segment, offset, length, .. } = write;
        let written = completion.outcome().map_err(|error| FatalReason::LogWrite {
            segment,
            offset,
            length,
            error,
        })?;
        if written != length {
            return Err(FatalReason::ShortLogWrite { segment, offset, length, written });
        }
        let Payload::Blocks(buffer) = completion.payload else {
            unreachable!("a log write carries blocks")
        };
        record(&mut metrics.log_write_us, now.since_us(Time(write.submitted_us)));
        record(&mut metrics.commit_us, now.since_us(Time(write.first_appended_us)));
        shard.handle_written(now, buffer);
        Ok(())
    }

    /// Starts the reads that the shard asks for, as far as the bound allows.
    ///
    /// # Errors
    ///
    /// When the log refers to a segment that is not open.
    pub fn start_reads(
        &mut self,
        now: Time,
        shard: &mut StringShard,
        ring: &mut Ring,
    ) -> Result<(), FatalReason> {
        while self.reads.len() < READS_MAX {
            let Some(wanted) = shard.poll_read() else { break };
            let key = self.reads.insert(ReadInFlight {
                read: wanted.read,
                location: wanted.location,
                retried: false,
                submitted_us: now.0,
            });
            self.submit_read(key, ring)?;
        }
        Ok(())
    }

    fn submit_read(&mut self, key: Key, ring: &mut Ring) -> Result<(), FatalReason> {
        let location = self.reads.get(key).expect("the caller has it").location;
        let segment = location.segment();
        let file = self.files.segment(segment).ok_or(FatalReason::MissingSegment { segment })?;
        let (offset, length) = location.blocks();
        let mut buffer = self.read_buffers.pop().unwrap_or_else(|| AlignedBuffer::zeroed(length));
        buffer.reserve(length);
        buffer.set_window(0..length);
        ring.read(Kind::LogRead, key, file, buffer, offset);
        Ok(())
    }

    /// A read ended.
    ///
    /// # Errors
    ///
    /// When a second attempt cannot even be started.
    pub fn handle_read(
        &mut self,
        now: Time,
        completion: Completion,
        shard: &mut StringShard,
        ring: &mut Ring,
        metrics: &mut Metrics,
    ) -> Result<(), FatalReason> {
        let key = completion.owner;
        let outcome = completion.outcome();
        let Payload::Blocks(buffer) = completion.payload else {
            unreachable!("a log read carries blocks")
        };
        let in_flight = self.reads.get_mut(key).expect("kept until it completes");
        let (read, location) = (in_flight.read, in_flight.location);
        let (offset, length) = location.blocks();
        if matches!(outcome, Ok(count) if count == length) {
            record(&mut metrics.log_read_us, now.since_us(Time(in_flight.submitted_us)));
            shard.handle_read(now, read, Ok(&buffer));
            self.reads.remove(key);
            self.keep(buffer);
            return Ok(());
        }
        let reason = outcome.map_or_else(
            |error| error.to_string(),
            |count| format!("only {count} of {length} bytes were read"),
        );
        let fields: [log_line::Field<'_>; 3] = [
            ("segment", &format!("{:016x}", location.segment().0)),
            ("offset", &offset),
            ("error", &reason),
        ];
        self.keep(buffer);
        if in_flight_retry(&mut self.reads, key) {
            log_line::warn("reading the log failed; trying once more", &fields);
            return self.submit_read(key, ring);
        }
        metrics.counters.log_reads_failed += 1;
        log_line::error("reading the log failed twice; its entity is not served here", &fields);
        self.reads.remove(key);
        shard.handle_read(now, read, Err(ReadFailed));
        Ok(())
    }

    fn keep(&mut self, buffer: AlignedBuffer) {
        if self.read_buffers.len() < READ_BUFFERS_KEPT && buffer.capacity() <= READ_BUFFER_KEPT_SIZE
        {
            self.read_buffers.push(buffer);
        }
    }
}

/// Whether the read may be tried once more; from now on it may not.
fn in_flight_retry(reads: &mut Slab<ReadInFlight>, key: Key) -> bool {
    let read = reads.get_mut(key).expect("the caller found it");
    !std::mem::replace(&mut read.retried, true)
}
