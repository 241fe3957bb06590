//! Carries out what the log asks for: one durable write at a time, a bounded number of reads, and
//! spare segments from the node's preparing thread.
//!
//! A failed or short write is the end: what reached the disk is unknown then, and a second attempt
//! could make a promise durable that was never answered for. A failed read is tried once more and
//! then reported, because the shard can abstain for that one entity.

use std::collections::VecDeque;

use engine::shard::{FinishedLoad, LogSpace, ReadFailed, ReadId, StringShard};
use engine::time::Time;
use plog::block::AlignedBuffer;
use plog::location::{Location, read_back};
use plog::log::SegmentWrite;
use plog::segment::SegmentId;
use plog::summary::RecordSummary;

use crate::node::log_files::LogFiles;
use crate::node::log_line;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::metrics::{Metrics, record};
use crate::reactor::ring::{Completion, Payload, Ring};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::slow_operations::{SlowOperation, SlowOperations, Written};
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
    waited_for_us: u64,
    written: Written,
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
    /// Since when each frame that waits for the disk does, oldest first; as many as the log has.
    waiting_since_us: VecDeque<u64>,
    slow: SlowOperations,
    /// Spares asked for and neither ready nor failed.
    spares_outstanding: usize,
    spares_rest_until_us: u64,
    space: LogSpace,
}

/// Whether the space set aside for a full disk is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reserve {
    /// Yes, or there is to be none.
    Whole,
    /// It was given back: all that is left belongs to the checkpoint under way.
    GivenBack,
}

impl PlogDriver {
    /// A driver for these files. Operations that take longer than `slow_operation_us` are told to
    /// the operator; 0 = none are.
    #[must_use]
    pub fn new(files: LogFiles, slow_operation_us: u64) -> Self {
        Self {
            files,
            write: None,
            reads: Slab::new(),
            read_buffers: Vec::new(),
            waiting_since_us: VecDeque::new(),
            slow: SlowOperations::new(slow_operation_us),
            spares_outstanding: 0,
            spares_rest_until_us: 0,
            space: LogSpace::Available,
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

    /// Asks for the spares that the log wants, and hands it those that are ready. Writes that were
    /// refused for want of room are taken again when the reserve is whole and a spare is there.
    pub fn tend_spares(
        &mut self,
        now: Time,
        reserve: Reserve,
        shard: &mut StringShard,
        metrics: &mut Metrics,
    ) {
        if self.spares_outstanding > 0 {
            while let Some(ready) = self.files.take_spare() {
                self.spares_outstanding = self.spares_outstanding.saturating_sub(1);
                match ready.result {
                    Ok(()) => {
                        shard.handle_spare(ready.spare);
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
                        if self.space == LogSpace::Available && shard.log().spares_ready() == 0 {
                            self.set_space(LogSpace::Full, shard);
                        }
                    }
                }
            }
        }
        match (self.space, reserve) {
            (LogSpace::Available | LogSpace::Full, Reserve::GivenBack) => {
                self.set_space(LogSpace::FullReserveGivenBack, shard);
            }
            (LogSpace::FullReserveGivenBack, Reserve::Whole) => {
                self.set_space(LogSpace::Full, shard);
                self.spares_rest_until_us = now.0;
            }
            // A spare may also have come from a segment that was freed.
            (LogSpace::Full, Reserve::Whole) if shard.log().spares_ready() > 0 => {
                log_line::info("there is space for the log again", &[]);
                self.set_space(LogSpace::Available, shard);
            }
            _ => {}
        }
        let settles = shard.log().settles_for_want_of_a_segment();
        let is_for_checkpoint = self.space == LogSpace::FullReserveGivenBack;
        if now.0 < self.spares_rest_until_us || is_for_checkpoint && !settles {
            return;
        }
        while shard.spares_wanted() > self.spares_outstanding {
            let spare = shard.name_spare();
            if !self.files.request_spare(spare) {
                break;
            }
            self.spares_outstanding += 1;
            if is_for_checkpoint {
                break;
            }
        }
    }

    fn set_space(&mut self, space: LogSpace, shard: &mut StringShard) {
        self.space = space;
        shard.set_log_space(space);
    }

    /// Notes which frames began to wait for the disk; for the figures.
    pub fn note_pending(&mut self, now: Time, shard: &StringShard) {
        self.waiting_since_us.resize(shard.log().frames_waiting(), now.0);
    }

    /// Tells of a write that takes too long while it does: one that never ends is told, too.
    pub fn watch_write(&mut self, now: Time) {
        let Some(write) = &self.write else { return };
        let so_far_us = now.since_us(Time(write.submitted_us));
        if self.slow.is_slow(so_far_us) {
            self.slow.tell(now, so_far_us, SlowOperation::Unfinished(write.written));
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
        let Some(write) = shard.poll_write() else { return Ok(false) };
        let SegmentWrite { segment, offset, buffer, opens, records, first } = write;
        if let Some(spare) = opens {
            self.files.open_spare(spare, segment).map_err(|error| FatalReason::OpenSegment {
                spare,
                segment,
                error,
            })?;
        }
        let file = self.files.segment(segment).ok_or(FatalReason::MissingSegment { segment })?;
        let length = buffer.len();
        let waited_for_us = self.waiting_since_us.pop_front().unwrap_or(now.0);
        record(&mut metrics.log_write_records, u64::from(records));
        record(&mut metrics.log_write_bytes, u64::try_from(length).expect("a length fits 64 bits"));
        self.write = Some(WriteInFlight {
            segment,
            offset,
            length,
            submitted_us: now.0,
            waited_for_us,
            written: Written { first, records },
        });
        ring.write_durable(Kind::LogWrite, NOBODY, file, buffer, offset);
        Ok(true)
    }

    /// The write ended. The segment, if its first frame is durable now.
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
    ) -> Result<Option<SegmentId>, FatalReason> {
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
        let write_us = now.since_us(Time(write.submitted_us));
        record(&mut metrics.log_write_us, write_us);
        if self.slow.is_slow(write_us) {
            metrics.counters.slow_writes += 1;
            self.slow.tell(now, write_us, SlowOperation::Write(write.written));
        }
        let commit_us = now.since_us(Time(write.waited_for_us));
        record(&mut metrics.commit_us, commit_us);
        if self.slow.is_slow(commit_us) {
            metrics.counters.slow_commits += 1;
            self.slow.tell(now, commit_us, SlowOperation::Commit(write.written));
        }
        shard.handle_written(now, buffer);
        Ok((offset == 0).then_some(segment))
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
            let read_us = now.since_us(Time(in_flight.submitted_us));
            record(&mut metrics.log_read_us, read_us);
            if self.slow.is_slow(read_us) {
                metrics.counters.slow_reads += 1;
                self.slow.tell(now, read_us, slow_read(location, &buffer));
            }
            shard.handle_read(now, read, Ok(&buffer));
            self.note_load(now, shard, metrics);
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

    /// Takes note of the load that ended with the read just handled, if one did.
    fn note_load(&mut self, now: Time, shard: &mut StringShard, metrics: &mut Metrics) {
        let Some(load) = shard.poll_finished_load() else { return };
        let FinishedLoad { entity, applied, records, took_us } = load;
        record(&mut metrics.load_us, took_us);
        if self.slow.is_slow(took_us) {
            metrics.counters.slow_loads += 1;
            self.slow.tell(now, took_us, SlowOperation::Load { entity, applied, records });
        }
    }

    fn keep(&mut self, buffer: AlignedBuffer) {
        if self.read_buffers.len() < READ_BUFFERS_KEPT && buffer.capacity() <= READ_BUFFER_KEPT_SIZE
        {
            self.read_buffers.push(buffer);
        }
    }
}

/// What a slow read was about, as far as its bytes say it.
fn slow_read(location: Location, blocks: &[u8]) -> SlowOperation {
    let record = read_back(location, blocks).ok().map(|record| RecordSummary::of(&record));
    SlowOperation::Read {
        segment: location.segment(),
        offset: location.offset,
        record: record.map(|record| (record.entity(), record.entry())),
    }
}

/// Whether the read may be tried once more; from now on it may not.
fn in_flight_retry(reads: &mut Slab<ReadInFlight>, key: Key) -> bool {
    let read = reads.get_mut(key).expect("the caller found it");
    !std::mem::replace(&mut read.retried, true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use engine::config::ShardConfig;
    use engine::request::{Command, EntityRequest, Freshness, Ticket};
    use engine::shard::StringShard;
    use engine::time::Time;
    use plog::identity::LogIdentity;
    use plog::log_config::LogConfig;
    use plog::segment::SpareId;
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId};

    use super::PlogDriver;
    use crate::node::log_files::LogFiles;
    use crate::node::segment_preparer::{SegmentPreparer, make_spare};
    use crate::node::test_directory::TestDirectory;
    use crate::reactor::metrics::Metrics;
    use crate::reactor::ring::Ring;
    use crate::reactor::user_data::Kind;

    const SEGMENT_SIZE: u32 = 16 << 20;

    /// Waits no longer than this for the kernel, unless something hangs.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// One core's log on a real ring, with a clock of the test's.
    struct Bench {
        shard: StringShard,
        driver: PlogDriver,
        ring: Ring,
        metrics: Metrics,
        now: Time,
        _directory: TestDirectory,
    }

    impl Bench {
        /// A replica set of one, which keeps one entity in memory.
        fn new(slow_operation_us: u64) -> Self {
            let directory = TestDirectory::new();
            let identity =
                LogIdentity { cluster: 1, node: 0, incarnation: 1, core: 0, core_count: 1 };
            let log_config =
                LogConfig { segment_size: SEGMENT_SIZE, ..LogConfig::for_identity(identity) };
            let config = ShardConfig {
                entities_in_memory_max: 1,
                ..ShardConfig::new(AcceptorId(0), 1, BootEpoch(1))
            };
            let mut shard = StringShard::new(config, log_config);
            shard.finish_recovery(None, None);
            make_spare(directory.path(), SpareId(1), SEGMENT_SIZE, None).unwrap();
            shard.handle_spare(SpareId(1));
            let place = directory.path().to_owned();
            let (_preparer, mut channels) =
                SegmentPreparer::start(vec![place], SEGMENT_SIZE, 1 << 40).unwrap();
            let files = LogFiles::new(
                directory.path().to_owned(),
                BTreeMap::new(),
                BTreeMap::new(),
                channels.remove(0),
            );
            Self {
                shard,
                driver: PlogDriver::new(files, slow_operation_us),
                ring: Ring::new().unwrap(),
                metrics: Metrics::default(),
                now: Time(1_000_000),
                _directory: directory,
            }
        }

        fn ask(&mut self, entity: u64, words: &[&str]) {
            let command = Command {
                arguments: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
                request_id: None,
                freshness: Freshness::Linearizable,
            };
            let request = EntityRequest::Command(command);
            self.shard.handle_request(self.now, Ticket::default(), EntityId(entity), request);
        }

        /// Starts what the log asks for, and lets all of it take `each_us`, until nothing is left.
        fn settle(&mut self, each_us: u64) {
            loop {
                let Self { shard, driver, ring, metrics, .. } = self;
                driver.note_pending(self.now, shard);
                driver.start_write(self.now, shard, ring, metrics).unwrap();
                driver.start_reads(self.now, shard, ring).unwrap();
                if !driver.is_writing() && driver.reads_in_flight() == 0 {
                    return;
                }
                self.now = self.now.after_us(each_us);
                driver.watch_write(self.now);
                let mut completions = Vec::new();
                ring.enter(PATIENCE).unwrap();
                ring.reap(&mut completions);
                assert!(!completions.is_empty(), "the disk does not answer");
                for completion in completions {
                    match completion.kind {
                        Kind::LogWrite => {
                            driver.handle_written(self.now, completion, shard, metrics).unwrap();
                        }
                        Kind::LogRead => {
                            driver.handle_read(self.now, completion, shard, ring, metrics).unwrap();
                        }
                        other => panic!("{other:?} was not asked for"),
                    }
                }
            }
        }

        /// Has a cold entity read back, everything taking `each_us`.
        fn write_evict_and_read_back(&mut self, each_us: u64) {
            for entity in 1..=20 {
                self.ask(entity, &["SET", "key", "value"]);
                self.settle(each_us);
                self.shard.flush();
                self.settle(each_us);
            }
            assert!(self.shard.status().counters.evictions > 0);
            self.ask(1, &["GET", "key"]);
            self.settle(each_us);
            assert_eq!(self.shard.status().counters.loads, 1);
        }
    }

    #[test]
    fn what_takes_longer_than_the_threshold_is_counted_by_its_kind() {
        let mut bench = Bench::new(100_000);
        bench.write_evict_and_read_back(100_000);
        let counters = &bench.metrics.counters;
        let slow = [counters.slow_commits, counters.slow_writes, counters.slow_reads];
        assert_eq!((slow, counters.slow_loads), ([0; 3], 0), "not longer than the threshold");

        let mut bench = Bench::new(100_000);
        bench.write_evict_and_read_back(150_000);
        let Metrics { counters, commit_us, log_write_us, log_read_us, load_us, .. } =
            &bench.metrics;
        let writes = bench.shard.log().counters().frames;
        assert!(writes >= 40, "each write, and its mark: {writes}");
        assert_eq!((counters.slow_writes, log_write_us.len()), (writes, writes));
        assert_eq!((counters.slow_commits, commit_us.len()), (writes, writes));
        assert_eq!(counters.slow_reads, log_read_us.len());
        assert!(counters.slow_reads >= 1);
        assert_eq!((counters.slow_loads, load_us.len()), (1, 1));
        for histogram in [commit_us, log_write_us, log_read_us, load_us] {
            assert!(histogram.equivalent(histogram.max(), 150_000), "{}", histogram.max());
            assert!(histogram.equivalent(histogram.min(), 150_000), "{}", histogram.min());
        }
    }

    #[test]
    fn a_commit_takes_from_when_its_records_are_waited_for_and_not_from_when_lazy_ones_came() {
        let mut bench = Bench::new(0);
        bench.ask(1, &["SET", "key", "value"]);
        bench.settle(1_000);
        assert!(bench.shard.log().pending_bytes() > 0, "the mark of the chosen entry is lazy");
        bench.driver.note_pending(bench.now, &bench.shard);
        bench.now = bench.now.after_us(10_000_000);
        bench.shard.flush();
        bench.settle(2_000);
        let commit_us = &bench.metrics.commit_us;
        assert_eq!(commit_us.len(), 3, "a promise, a vote, and the mark");
        assert!(commit_us.equivalent(commit_us.max(), 2_000), "{}", commit_us.max());
        assert_eq!(bench.metrics.log_write_records.len(), 3);
        assert_eq!(bench.metrics.log_write_records.min(), 1);
    }

    #[test]
    fn a_commit_counts_its_time_in_line_behind_the_write_before_it() {
        let mut bench = Bench::new(0);
        bench.ask(1, &["SET", "key", "value"]);
        let Bench { shard, driver, ring, metrics, .. } = &mut bench;
        driver.note_pending(Time(0), shard);
        assert!(driver.start_write(Time(0), shard, ring, metrics).unwrap());
        bench.now = Time(100);
        bench.ask(2, &["SET", "key", "value"]);
        bench.driver.note_pending(Time(100), &bench.shard);
        bench.settle(9_900);
        let commit_us = &bench.metrics.commit_us;
        // It had to wait from 100 to 10,000, and was written until 19,900.
        assert!(commit_us.equivalent(commit_us.max(), 19_800), "{}", commit_us.max());
    }
}
