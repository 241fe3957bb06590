//! How many instructions each stage of a request takes: counted, so that they can be compared
//! between runs on noisy machines.
//!
//! ```text
//! scripts/instructions            counts them, and compares with benches/stages/baseline.txt
//! ```
//!
//! Needs valgrind and `gungraun-runner`; the script installs both. Every benchmark does
//! [`OPERATIONS`] of its kind. What it works on is made before, and not counted. The last ones are
//! whole requests, of all three replicas together, with everything between them but the kernel.

#![allow(
    unused_qualifications,
    missing_docs,
    reason = "the harness's macros write code that has them"
)]

mod trio;

use std::hint::black_box;
use std::rc::Rc;

use engine::request::{Freshness, Ticket};
use engine::state_machine::StateMachine as _;
use engine::state_machine::strings::Strings;
use gungraun::prelude::*;
use net::peer::frame::FRAME_SIZE_MAX_DEFAULT;
use net::peer::frame_decoder::FrameDecoder;
use net::peer::frame_encoder::FrameEncoder;
use net::peer::message::{CarriedValue, EntryMessage, PeerMessage, Request};
use net::resp::arguments::Arguments;
use net::resp::request_parser::{Limits, Parsed, RequestParser};
use plog::entry_record::EntryRecord;
use plog::identity::LogIdentity;
use plog::index::Index;
use plog::location::Location;
use plog::log::{Log, Urgency};
use plog::log_config::LogConfig;
use plog::log_record::{LogRecord, LoggedValue};
use plog::segment::{SegmentId, SpareId};
use plog::summary::RecordSummary;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};
use runtime::mesh::message::MeshMessage;
use runtime::mesh::{MeshEnd, mesh};

use crate::trio::Trio;

/// As in the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What each benchmark does.
const OPERATIONS: u64 = 1024;

/// What one frame, one log write or one turn carries where many are under way.
const AT_ONCE: u64 = 64;

const VALUE: [u8; 128] = [b'v'; 128];

fn entity(number: u64) -> EntityId {
    // As spread as hashes are.
    EntityId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn ballot() -> Ballot {
    Ballot::pre_authorised(BootEpoch(1), AcceptorId(1))
}

fn value_id(number: u64) -> ValueId {
    ValueId { originator: AcceptorId(1), epoch: BootEpoch(1), counter: number }
}

fn accepted(number: u64) -> EntryRecord {
    let ballot = ballot();
    EntryRecord {
        prepared: Ballot::NONE,
        promised: ballot,
        accepted: ballot,
        value_id: Some(value_id(number)),
        chosen: false,
    }
}

fn entry_record(number: u64, entry: Entry) -> LogRecord {
    let value = LoggedValue::Inline(VALUE.into());
    LogRecord::Entry { entity: entity(number), entry, record: accepted(number), value }
}

// A client's bytes.

fn requests() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..OPERATIONS {
        let key = format!("key:{number:08}");
        bytes.extend_from_slice(format!("*3\r\n$3\r\nSET\r\n$12\r\n{key}\r\n$128\r\n").as_bytes());
        bytes.extend_from_slice(&VALUE);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[library_benchmark(setup = requests)]
#[bench::set()]
fn parse_request(bytes: Vec<u8>) -> usize {
    let mut parser = RequestParser::new(Limits::default());
    let (mut rest, mut size) = (&bytes[..], 0);
    while let Ok(Parsed::Request { arguments, consumed }) = parser.next_request(rest) {
        size += arguments.size();
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty());
    size
}

// The log.

fn records() -> (Log, Vec<LogRecord>) {
    let identity = LogIdentity { cluster: 1, node: 0, incarnation: 9, core: 0, core_count: 1 };
    let mut log = Log::new(LogConfig::for_identity(identity), None);
    log.handle_spare(SpareId(1));
    let record = |number| entry_record(number, Entry(7));
    // A first write, so that buffers are there.
    for number in 0..AT_ONCE {
        log.append(&record(OPERATIONS + number), Urgency::Now);
    }
    let write = log.poll_write().expect("something was appended");
    log.handle_written(write.buffer);
    (log, (0..OPERATIONS).map(record).collect())
}

#[library_benchmark(setup = records)]
#[bench::accepted()]
fn write_log_record((mut log, records): (Log, Vec<LogRecord>)) -> Log {
    for records in records.chunks(usize::try_from(AT_ONCE).expect("it is small")) {
        for record in records {
            log.append(record, Urgency::Now);
        }
        let write = log.poll_write().expect("something was appended");
        log.handle_written(write.buffer);
    }
    log
}

fn pages() -> Vec<u8> {
    vec![7; 4096 * usize::try_from(OPERATIONS).expect("it is small")]
}

#[library_benchmark(setup = pages)]
#[bench::page()]
fn checksum_page(bytes: Vec<u8>) -> u32 {
    bytes.chunks(4096).fold(0, |sum, page| sum ^ crc32fast::hash(black_box(page)))
}

fn summaries() -> (Index, Vec<(RecordSummary, Location)>) {
    let mut index = Index::new(16);
    let mut summaries = Vec::new();
    for number in 0..OPERATIONS {
        let record = entry_record(number, Entry(1));
        let offset = u32::try_from(4096 + number * 256).expect("it is small");
        let location = Location::new(SegmentId(1), offset, 256, 7);
        index.note(&RecordSummary::of(&record), location);
        let chosen = LogRecord::Chosen {
            entity: entity(number),
            entry: Entry(1),
            ballot: ballot(),
            value_id: value_id(number),
            chain: 7,
        };
        summaries.push((RecordSummary::of(&chosen), location));
    }
    (index, summaries)
}

#[library_benchmark(setup = summaries)]
#[bench::chosen()]
fn note_in_index((mut index, summaries): (Index, Vec<(RecordSummary, Location)>)) -> Index {
    for (summary, location) in &summaries {
        index.note(summary, *location);
    }
    index
}

// Between replicas.

fn messages() -> Vec<PeerMessage> {
    let value: Rc<[u8]> = VALUE.into();
    let message = |number| {
        let id = value_id(number);
        PeerMessage::Entry(EntryMessage {
            entity: entity(number),
            entry: Entry(7),
            mine: EntryRecord::default(),
            yours: EntryRecord::default(),
            request: Some(Request { ballot: ballot(), value_id: Some(id) }),
            values: vec![CarriedValue { id, bytes: Rc::clone(&value) }],
            max_chosen: Entry(6),
        })
    };
    (0..OPERATIONS).map(message).collect()
}

fn encode(encoder: &mut FrameEncoder, messages: &[PeerMessage], output: &mut Vec<u8>) {
    for messages in messages.chunks(usize::try_from(AT_ONCE).expect("it is small")) {
        encoder.encode(messages, output).expect("they fit");
    }
}

fn messages_and_encoder() -> (FrameEncoder, Vec<PeerMessage>, Vec<u8>) {
    let (mut encoder, messages, mut output) = (FrameEncoder::default(), messages(), Vec::new());
    encode(&mut encoder, &messages, &mut output);
    output.clear();
    (encoder, messages, output)
}

type Encoding = (FrameEncoder, Vec<PeerMessage>, Vec<u8>);

#[library_benchmark(setup = messages_and_encoder)]
#[bench::accept()]
fn encode_peer_message((mut encoder, messages, mut output): Encoding) -> Vec<u8> {
    encode(&mut encoder, &messages, &mut output);
    output
}

fn frames() -> (FrameDecoder, Vec<u8>) {
    let mut output = Vec::new();
    encode(&mut FrameEncoder::default(), &messages(), &mut output);
    (FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT, 3), output)
}

#[library_benchmark(setup = frames)]
#[bench::accept()]
fn decode_peer_message((mut decoder, bytes): (FrameDecoder, Vec<u8>)) -> usize {
    let mut count = 0;
    for bytes in bytes.chunks(16 << 10) {
        decoder.push(bytes);
        while let Some(messages) = decoder.next_frame().expect("they were encoded just now") {
            count += black_box(messages).len();
        }
    }
    assert_eq!(Ok(count), usize::try_from(OPERATIONS));
    count
}

// Between cores.

fn mesh_messages() -> (Vec<MeshEnd>, Vec<MeshMessage>) {
    let message = |number| {
        let request = trio::command(&[b"SET", b"key", &VALUE], Freshness::Linearizable);
        let ticket = Ticket { core: 0, connection: 1, sequence: number };
        MeshMessage::Request { ticket, entity: entity(number), request, sent_us: 1 }
    };
    let ends = mesh(2).expect("a process may have event counters");
    (ends, (0..OPERATIONS).map(message).collect())
}

#[library_benchmark(setup = mesh_messages)]
#[bench::both_ways()]
fn hop_to_a_core_and_back((mut ends, messages): (Vec<MeshEnd>, Vec<MeshMessage>)) -> usize {
    let (one, other) = ends.split_at_mut(1);
    let (one, other) = (&mut one[0], &mut other[0]);
    let mut count = 0;
    for message in messages {
        one.send_request(1, message);
        let Some(MeshMessage::Request { ticket, .. }) = other.receive(0) else { break };
        other.send_answer(0, MeshMessage::Reply { ticket, encoded: Vec::new() });
        count += usize::from(one.receive(1).is_some());
    }
    assert_eq!(Ok(count), usize::try_from(OPERATIONS));
    count
}

// The state machine.

fn effects() -> (Strings, Vec<u8>) {
    let (mut state, mut encoded) = (Strings::default(), Vec::new());
    let mut overlay = Default::default();
    let command = Arguments::from_slices(&[&b"SET"[..], b"key:00000007", &VALUE]);
    state.evaluate(&mut overlay, &command);
    Strings::encode_effects(&overlay, &mut encoded);
    state.apply(Entry(1), &encoded).expect("encoded just now");
    (state, encoded)
}

#[library_benchmark(setup = effects)]
#[bench::set()]
fn apply_effects((mut state, encoded): (Strings, Vec<u8>)) -> Strings {
    for number in 0..OPERATIONS {
        state.apply(Entry(2 + number), &encoded).expect("it was applied before");
    }
    state
}

#[library_benchmark(setup = effects)]
#[bench::set()]
fn evaluate_command((state, _): (Strings, Vec<u8>)) -> usize {
    let command = Arguments::from_slices(&[&b"SET"[..], b"key:00000007", &VALUE]);
    let mut encoded = Vec::new();
    for _ in 0..OPERATIONS {
        let mut overlay = Default::default();
        black_box(state.evaluate(&mut overlay, &command));
        encoded.clear();
        Strings::encode_effects(&overlay, &mut encoded);
    }
    encoded.len()
}

// Whole requests.

/// What clients ask, over and over.
#[derive(Clone, Copy)]
struct Load {
    words: &'static [&'static [u8]],
    /// Of as many keys as requests are under way, or of one.
    is_one_key: bool,
    at_once: u64,
    freshness: Freshness,
}

const SET: Load = Load {
    words: &[b"SET", b"", &VALUE],
    is_one_key: false,
    at_once: AT_ONCE,
    freshness: Freshness::Linearizable,
};
const GET: Load = Load { words: &[b"GET", b""], ..SET };
const LOCAL_GET: Load = Load { freshness: Freshness::Local, ..GET };
const INCR: Load = Load { words: &[b"INCR", b"count"], is_one_key: true, ..SET };

impl Load {
    fn one_by_one(self) -> Self {
        Self { at_once: 1, ..self }
    }

    /// So many requests.
    fn run(&self, trio: &mut Trio, operations: u64) {
        for number in 0..operations {
            let of_turn = number % self.at_once;
            let key = format!("key:{of_turn:08}");
            let mut words = self.words.to_vec();
            if !self.is_one_key {
                words[1] = key.as_bytes();
            }
            // The same node for the same key, as clients who know the nodes ask.
            let node = if self.is_one_key { 0 } else { of_turn % 3 };
            trio.request(usize::try_from(node).expect("few"), &words, self.freshness);
            if of_turn + 1 == self.at_once {
                trio.run();
            }
        }
    }
}

fn loaded(load: Load) -> (Trio, Load) {
    let mut trio = Trio::start();
    Load { at_once: AT_ONCE, ..SET }.run(&mut trio, 4 * AT_ONCE);
    load.run(&mut trio, 4 * AT_ONCE);
    trio.pass(400_000);
    trio.replies = 0;
    (trio, load)
}

#[library_benchmark(setup = loaded)]
#[bench::write_one(SET.one_by_one())]
#[bench::write_of_64(SET)]
#[bench::read_one(GET.one_by_one())]
#[bench::read_of_64(GET)]
#[bench::local_read_of_64(LOCAL_GET)]
#[bench::increment_of_64_of_one_key(INCR)]
fn request((mut trio, load): (Trio, Load)) -> usize {
    load.run(&mut trio, OPERATIONS);
    assert_eq!(Ok(trio.replies), usize::try_from(OPERATIONS), "all were answered");
    trio.reply_bytes
}

library_benchmark_group!(
    name = stages,
    benchmarks = [
        parse_request,
        evaluate_command,
        write_log_record,
        checksum_page,
        note_in_index,
        encode_peer_message,
        decode_peer_message,
        hop_to_a_core_and_back,
        apply_effects,
        request,
    ]
);

main!(library_benchmark_groups = stages);
