//! A disk in memory, and a driver for the log that owns it.

use std::collections::BTreeMap;
use std::rc::Rc;

use plog::block::BLOCK_SIZE;
use plog::entry_record::EntryRecord;
use plog::identity::LogIdentity;
use plog::index::Index;
use plog::location::{Location, read_back};
use plog::log::{Log, LogConfig, SegmentWrite, Urgency};
use plog::log_record::{LogRecord, LoggedValue};
use plog::recovery::{Recovered, ScanError, ScannedRecord, Scanner};
use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Lsn, ValueId};

pub const BLOCKS: usize = 16;
pub const HELD: usize = 8;

pub fn identity() -> LogIdentity {
    LogIdentity {
        cluster: 0x0102_0304_0506_0708,
        node: 2,
        incarnation: 0x1111_2222_3333_4444_5555_6666_7777_8888,
        core: 1,
        core_count: 4,
    }
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_size: u32::try_from(BLOCKS * BLOCK_SIZE).expect("fits"),
        frame_size_max: u32::try_from(4 * BLOCK_SIZE).expect("fits"),
        pending_bytes_max: 8 * BLOCK_SIZE,
        ..LogConfig::for_identity(identity())
    }
}

/// What a scan of the disk gave.
pub struct Scan {
    pub outcome: Recovered,
    pub records: Vec<ScannedRecord>,
    pub index: Index,
}

impl Scan {
    pub fn log_records(&self) -> Vec<LogRecord> {
        self.records.iter().map(|scanned| scanned.record.clone()).collect()
    }
}

#[derive(Clone, Default)]
pub struct Disk {
    pub files: BTreeMap<SegmentId, Vec<u8>>,
    pub spares: BTreeMap<SpareId, Vec<u8>>,
}

impl Disk {
    pub fn prepare(&mut self, log: &mut Log) {
        while log.spares_wanted() > 0 {
            let spare = log.name_spare();
            self.spares.insert(spare, vec![0; BLOCKS * BLOCK_SIZE]);
            log.handle_spare(spare);
        }
    }

    pub fn open(&mut self, write: &SegmentWrite) {
        if let Some(spare) = write.opens {
            let file = self.spares.remove(&spare).expect("the log names a spare that is there");
            assert!(self.files.insert(write.segment, file).is_none(), "opened twice");
        }
    }

    pub fn write(&mut self, write: &SegmentWrite) {
        self.open(write);
        let file = self.files.get_mut(&write.segment).expect("opened before");
        let begin = usize::try_from(write.offset).expect("fits");
        file[begin..begin + write.buffer.len()].copy_from_slice(&write.buffer);
    }

    /// Writes until the log has nothing more to write.
    pub fn run(&mut self, log: &mut Log) {
        self.prepare(log);
        while let Some(write) = log.poll_write() {
            self.write(&write);
            log.handle_written(write.buffer);
            self.prepare(log);
        }
    }

    /// Appends each record in a frame of its own.
    pub fn append_each(&mut self, log: &mut Log, records: &[LogRecord]) {
        for record in records {
            let lsn = log.append(record, Urgency::Now);
            self.run(log);
            assert_eq!(log.durable(), lsn);
        }
    }

    pub fn scan(&self) -> Scan {
        self.try_scan(&identity(), 3 * BLOCK_SIZE + 5).expect("the log is ours")
    }

    pub fn try_scan(&self, identity: &LogIdentity, chunk: usize) -> Result<Scan, ScanError> {
        let mut scanner = Scanner::new(*identity);
        let mut records: Vec<ScannedRecord> = Vec::new();
        let mut index = Index::new(HELD);
        for (segment, file) in &self.files {
            scanner.begin_segment(*segment, file.len() as u64);
            for chunk in file.chunks(chunk) {
                scanner.feed(chunk, &mut |scanned| {
                    index.note(&scanned.summary(), scanned.location);
                    records.push(scanned);
                })?;
            }
        }
        assert!(records.is_sorted_by(|left, right| left.lsn < right.lsn));
        Ok(Scan { outcome: scanner.finish(), records, index })
    }

    /// A log that goes on where this disk's ends.
    pub fn resume(&mut self) -> Log {
        let scan = self.scan();
        let mut log = Log::new(config(), scan.outcome.tail()).with_index(scan.index);
        for spare in self.spares.keys() {
            log.handle_spare(*spare);
        }
        log
    }

    pub fn read(&self, location: Location) -> LogRecord {
        let (begin, length) = location.blocks();
        let begin = usize::try_from(begin).expect("fits");
        let file = &self.files[&location.segment()];
        read_back(location, &file[begin..begin + length]).expect("a good record")
    }
}

pub fn new_log() -> (Disk, Log) {
    let log = Log::new(config(), None).with_index(Index::new(HELD));
    (Disk::default(), log)
}

pub fn ballot(round: u32) -> Ballot {
    Ballot { round, epoch: BootEpoch(3), acceptor: AcceptorId(1) }
}

pub fn value_id(counter: u64) -> ValueId {
    ValueId { originator: AcceptorId(1), epoch: BootEpoch(3), counter }
}

pub fn bytes(fill: u8, length: usize) -> Rc<[u8]> {
    vec![fill; length].into()
}

pub fn accepted(round: u32, value: u64) -> EntryRecord {
    EntryRecord {
        prepared: ballot(round),
        promised: ballot(round),
        accepted: ballot(round),
        value_id: Some(value_id(value)),
        chosen: false,
    }
}

pub fn entry(entity: u64, entry: u64, record: EntryRecord, value: LoggedValue) -> LogRecord {
    LogRecord::Entry { entity: EntityId(entity), entry: Entry(entry), record, value }
}

/// An accepted value of `length` bytes in its entry record.
pub fn inline(entity: u64, number: u64, length: usize) -> LogRecord {
    let fill = u8::try_from(number % 250 + 1).expect("fits");
    entry(entity, number, accepted(1, number), LoggedValue::Inline(bytes(fill, length)))
}

pub fn value(entity: u64, entry: u64, id: u64, bytes: Rc<[u8]>) -> LogRecord {
    let (entity, entry) = (EntityId(entity), Entry(entry));
    LogRecord::Value { entity, entry, value_id: value_id(id), bytes }
}

pub fn chosen(entity: u64, entry: u64, round: u32, id: u64) -> LogRecord {
    let (entity, entry) = (EntityId(entity), Entry(entry));
    LogRecord::Chosen {
        entity,
        entry,
        ballot: ballot(round),
        value_id: value_id(id),
        chain: 0xc0de_0000 ^ u32::try_from(entry.0).expect("fits"),
    }
}

pub fn image(entity: u64, applied: u64, length: usize) -> LogRecord {
    LogRecord::Image {
        entity: EntityId(entity),
        applied: Entry(applied),
        chain: 77,
        last_value_id: (applied > 0).then(|| value_id(applied)),
        state: bytes(0xab, length),
    }
}

/// A fixed sequence of numbers without pattern.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

pub fn lsn_of(outcome: &Recovered) -> Lsn {
    outcome.tail().expect("not empty").last_lsn
}
