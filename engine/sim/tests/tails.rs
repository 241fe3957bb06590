//! What tails rest on in the log, record by record.

#![allow(clippy::unwrap_used, reason = "a failing test shows what an error was")]

use engine::config::ShardConfig;
use engine::request::{ChangesQuestion, CoreQuestion, EntityRequest, Ticket};
use engine::shard::StringShard;
use engine::tail::change::{Change, Page};
use engine::tail::{LogPosition, What};
use engine::time::Time;
use net::resp::value::Value;
use plog::entry_record::EntryRecord;
use plog::frame_walk::FramePlace;
use plog::identity::LogIdentity;
use plog::log::{Log, Urgency};
use plog::log_config::LogConfig;
use plog::log_record::{LogRecord, LoggedValue};
use plog::recovery::Scanner;
use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Lsn, ValueId};

const IDENTITY: LogIdentity =
    LogIdentity { cluster: 1, node: 0, incarnation: 9, core: 0, core_count: 1 };
const ENTITY: EntityId = EntityId(5);
const SEGMENT_SIZE: u32 = 64 << 10;

fn log_config() -> LogConfig {
    LogConfig {
        segment_size: SEGMENT_SIZE,
        frame_size_max: 16 << 10,
        ..LogConfig::for_identity(IDENTITY)
    }
}

/// A core with one segment, and what drives it.
struct Node {
    file: Vec<u8>,
    boots: u32,
    shard: StringShard,
    now: u64,
}

impl Node {
    /// Starts from a file.
    fn start(file: Vec<u8>, boots: u32) -> Self {
        let config = ShardConfig::new(AcceptorId(0), 3, BootEpoch(boots));
        let mut shard = StringShard::new(config, log_config());
        let mut scanner = Scanner::new(IDENTITY);
        scanner.begin_segment(SegmentId(1), u64::from(SEGMENT_SIZE));
        let mut records = Vec::new();
        scanner.feed(&file, &mut |scanned| records.push(scanned)).unwrap();
        shard.recover_records(&records);
        shard.finish_recovery(scanner.finish().tail(), None);
        (0..4).for_each(|spare| shard.handle_spare(SpareId(spare)));
        Self { file, boots, shard, now: 1_000 }
    }

    /// The same node after a crash.
    fn restart(self) -> Self {
        Self::start(self.file, self.boots + 1)
    }

    /// Does what the shard wants for a second.
    fn drive(&mut self) {
        for _ in 0..20 {
            self.now += 50_000;
            self.shard.handle_tick(Time(self.now));
            while let Some(read) = self.shard.poll_read() {
                let (offset, length) = read.location.blocks();
                let begin = usize::try_from(offset).unwrap();
                let blocks = self.file[begin..begin + length].to_vec();
                self.shard.handle_read(Time(self.now), read.read, Ok(&blocks));
            }
            if let Some(write) = self.shard.poll_write() {
                let begin = usize::try_from(write.offset).unwrap();
                self.file[begin..begin + write.buffer.len()].copy_from_slice(&write.buffer);
                self.shard.handle_written(Time(self.now), write.buffer);
            }
            while self.shard.poll_message().is_some() {}
        }
    }

    /// All that is told from the beginning of the log, page by page, `count` lines each.
    fn tell(&mut self, count: usize) -> Vec<(What, u64, String)> {
        let scan = FramePlace { segment: SegmentId(1), offset: 4096, chain: 0 };
        let mut after = LogPosition { log: 9, scan, told: Lsn(0), lines: 0 };
        let mut told = Vec::new();
        loop {
            let question = ChangesQuestion { after: Some(after), pattern: None, count };
            let request = EntityRequest::Core(CoreQuestion::Changes(Box::new(question)));
            self.shard.handle_request(Time(self.now), Ticket::default(), ENTITY, request);
            self.drive();
            let reply = self.shard.poll_reply().expect("a page");
            let page = Page::read(&reply.value).unwrap_or_else(|_| panic!("{:?}", reply.value));
            assert!(page.changes.len() <= count);
            let line = |change: &Change| {
                let key = String::from_utf8(change.key.clone()).unwrap();
                (change.what, change.entry.0, key)
            };
            told.extend(page.changes.iter().map(line));
            assert!(page.is_at_end || page.next != after, "it goes on");
            after = page.next;
            if page.is_at_end {
                return told;
            }
        }
    }
}

fn value_id(entry: u64) -> ValueId {
    ValueId { originator: AcceptorId(1), epoch: BootEpoch(1), counter: entry }
}

fn ballot() -> Ballot {
    Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(1) }
}

/// A batch that sets these keys to `v`.
fn setting(keys: &[&str]) -> Vec<u8> {
    let mut batch = vec![1, 0, 0];
    batch.extend_from_slice(&u32::try_from(keys.len()).unwrap().to_le_bytes());
    for key in keys {
        batch.push(1);
        batch.extend_from_slice(&u32::try_from(key.len()).unwrap().to_le_bytes());
        batch.extend_from_slice(&1u32.to_le_bytes());
        batch.extend_from_slice(key.as_bytes());
        batch.push(b'v');
    }
    batch
}

/// What is logged of an entry that a peer told this node.
fn learned(entry: u64, keys: &[&str]) -> LogRecord {
    let record = EntryRecord {
        accepted: ballot(),
        promised: ballot(),
        value_id: Some(value_id(entry)),
        chosen: true,
        ..EntryRecord::default()
    };
    let value = LoggedValue::Inline(setting(keys).into());
    LogRecord::Entry { entity: ENTITY, entry: Entry(entry), record, value }
}

/// A node whose log holds these records.
fn node_with(records: &[LogRecord]) -> Node {
    let mut log = Log::new(log_config(), None);
    log.handle_spare(SpareId(0));
    for record in records {
        log.append(record, Urgency::Now);
    }
    let write = log.poll_write().unwrap();
    let mut file = vec![0; usize::try_from(SEGMENT_SIZE).unwrap()];
    file[..write.buffer.len()].copy_from_slice(&write.buffer);
    Node::start(file, 2)
}

#[test]
fn an_entry_whose_mark_a_crash_took_is_marked_once_and_told_once() {
    let mut node = node_with(&[learned(1, &["a"]), learned(2, &["b", "c"])]);
    let expected: Vec<(What, u64, String)> = [(1, "a"), (2, "b"), (2, "c")]
        .map(|(entry, key)| (What::Set, entry, key.to_owned()))
        .to_vec();
    node.drive();
    assert_eq!(node.shard.counters().marks_made_up_for, 2);
    assert_eq!(node.tell(100), expected);
    // Every page cut there is.
    assert_eq!(node.tell(1), expected);
    let mut node = node.restart();
    node.drive();
    assert_eq!(node.shard.counters().marks_made_up_for, 0, "they are on disk");
    assert_eq!(node.tell(2), expected);
}

#[test]
fn what_is_known_to_be_chosen_behind_a_hole_is_not_told() {
    let mut node = node_with(&[learned(1, &["a"]), learned(3, &["b"])]);
    node.drive();
    assert_eq!(node.shard.counters().marks_made_up_for, 1);
    assert_eq!(node.tell(1), [(What::Set, 1, "a".to_owned())]);
}

#[test]
fn an_image_right_behind_its_mark_is_not_told_and_any_other_is() {
    let mark = |entry: u64, chain: u32| {
        let (entity, entry, value_id) = (ENTITY, Entry(entry), value_id(entry));
        LogRecord::Chosen { entity, entry, ballot: ballot(), value_id, chain }
    };
    let chain = engine::chain::extend(0, &setting(&["a"]));
    // As the engine encodes an entity without request ids: see `entity_state`.
    let image = |applied: u64, chain: u32| {
        let mut whole = node_with(&[learned(1, &["a"])]);
        whole.drive();
        let state = whole.shard.encoded(ENTITY).unwrap();
        assert_eq!(whole.shard.applied(ENTITY).unwrap().0, Entry(applied));
        let last_value_id = Some(value_id(applied));
        LogRecord::Image { entity: ENTITY, applied: Entry(applied), chain, last_value_id, state }
    };
    let of_mark = [learned(1, &["a"]), mark(1, chain), image(1, chain)];
    assert_eq!(node_with(&of_mark).tell(8), [(What::Set, 1, "a".to_owned())]);
    let whole = |node: &mut Node| {
        let told = node.tell(1);
        told.into_iter().map(|(what, ..)| what).collect::<Vec<_>>()
    };
    let taken_over = [image(1, chain)];
    let expected = [What::BeginReset, What::State, What::EndReset];
    assert_eq!(whole(&mut node_with(&taken_over)), expected);
    // A wrong copy that was replaced at the entry it stood at.
    let replaced = [learned(1, &["a"]), mark(1, chain ^ 1), image(1, chain)];
    assert_eq!(whole(&mut node_with(&replaced)), [&[What::Set], &expected[..]].concat());
}

#[test]
fn more_questions_than_a_core_serves_wait_and_more_than_may_wait_are_refused() {
    let mut node = node_with(&[learned(1, &["a"])]);
    node.drive();
    let scan = FramePlace { segment: SegmentId(1), offset: 4096, chain: 0 };
    let after = LogPosition { log: 9, scan, told: Lsn(0), lines: 0 };
    let ask = |node: &mut Node, after, sequence: u64| {
        let question = ChangesQuestion { after: Some(after), pattern: None, count: 10 };
        let request = EntityRequest::Core(CoreQuestion::Changes(Box::new(question)));
        let ticket = Ticket { sequence, ..Ticket::default() };
        node.shard.handle_request(Time(node.now), ticket, ENTITY, request);
    };
    (0..300).for_each(|sequence| ask(&mut node, after, sequence));
    let mut refused = Vec::new();
    while let Some(reply) = node.shard.poll_reply() {
        assert!(matches!(&reply.value, Value::Error(error) if error.word() == "TRYAGAIN"));
        refused.push(reply.ticket.sequence);
    }
    assert_eq!(refused, (260..300).collect::<Vec<u64>>(), "4 are served, 256 wait");
    node.drive();
    let mut told = Vec::new();
    while let Some(reply) = node.shard.poll_reply() {
        assert_eq!(Page::read(&reply.value).unwrap().changes.len(), 1);
        told.push(reply.ticket.sequence);
    }
    assert_eq!(told, (0..260).collect::<Vec<u64>>());
    let counters = node.shard.counters();
    assert_eq!((counters.tail_waits, counters.tail_refused), (256, 40));
    // Positions of another log, beyond this one, of bytes that are no frame.
    let wrong = [
        LogPosition { log: 8, ..after },
        LogPosition { told: Lsn(1 << 40), ..after },
        LogPosition { scan: FramePlace { offset: 8192, chain: 7, ..scan }, ..after },
        LogPosition { scan: FramePlace { offset: 4097, ..scan }, ..after },
        LogPosition { scan: FramePlace { segment: SegmentId(0), ..scan }, ..after },
        LogPosition { scan: FramePlace { segment: SegmentId(9), ..scan }, ..after },
    ];
    for position in wrong {
        ask(&mut node, position, 1);
        node.drive();
        let reply = node.shard.poll_reply().expect("it is answered");
        let is_gone = matches!(&reply.value, Value::Error(error) if error.word() == "GONE");
        assert!(is_gone, "{position:?}: {:?}", reply.value);
    }
    assert_eq!(node.shard.counters().tail_gone, 6);
}
