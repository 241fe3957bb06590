//! Whole entities from a peer or from the log, as a shard takes them: one that can be read is
//! installed as it is, any other changes nothing.

use std::ops::Range;
use std::rc::Rc;

use engine::config::ShardConfig;
use engine::context::Event;
use engine::request::{Command, EntityRequest, Freshness, Ticket};
use engine::request_ids::RequestIds;
use engine::shard::{PeerCore, StringShard};
use engine::state_machine::StateMachine;
use engine::state_machine::strings::Strings;
use engine::time::Time;
use net::peer::message::{ChosenNotice, EntityImage, PeerMessage};
use net::peer::message_rules;
use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::identity::LogIdentity;
use plog::location::Location;
use plog::log_config::LogConfig;
use plog::log_record::LogRecord;
use plog::segment::SegmentId;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Generation, Lsn, ValueId};

use crate::batches::request_fields;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};
use crate::states::{encoded, made_ids, made_state, state_fields};

const ENTITY: EntityId = EntityId(77);
const PEER: PeerCore = PeerCore { acceptor: AcceptorId(1), core: 0 };
const VALUE_ID: ValueId = ValueId { originator: AcceptorId(1), epoch: BootEpoch(2), counter: 5 };

thread_local! {
    static IMAGES: Rc<[Vec<u8>]> = (0..24).map(|seed| made_image(&mut Random(seed))).collect();
}

fn made_image(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(made_ids(random));
    bytes.extend(encoded(&made_state(random)));
    bytes
}

struct Images;

impl Format for Images {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let (mut fields, end) = request_fields(bytes, 1, 4);
        fields.extend(state_fields(bytes, end));
        // One of many, and the first to be looked at.
        let often = 1 + fields.len() / 6;
        fields.extend(std::iter::repeat_n(0..1.min(bytes.len()), often));
        fields
    }

    fn repair(&self, _bytes: &mut [u8]) {}
}

/// Reads the state in an image; `None` for what is none.
type Read = fn(&[u8]) -> Option<Strings>;

/// By the page on images.
fn read(bytes: &[u8]) -> Option<Strings> {
    let rest = bytes.strip_prefix(&[1])?;
    let (_, used) = RequestIds::decode(rest).ok()?;
    Strings::decode(&rest[used..]).ok()
}

fn log_config() -> LogConfig {
    LogConfig::for_identity(LogIdentity {
        cluster: 1,
        node: 0,
        incarnation: 1,
        core: 0,
        core_count: 1,
    })
}

fn new_shard() -> StringShard {
    StringShard::new(ShardConfig::new(AcceptorId(0), 3, BootEpoch(1)), log_config())
}

fn get(shard: &mut StringShard, key: &[u8]) -> Value {
    ask(shard, key).expect("a local read is answered at once")
}

fn ask(shard: &mut StringShard, key: &[u8]) -> Option<Value> {
    let command = Command {
        arguments: Arguments::from_slices(&[b"GET", key]),
        request_id: None,
        freshness: Freshness::Local,
    };
    let request = EntityRequest::Command(command);
    shard.handle_request(Time(2), Ticket::default(), ENTITY, request);
    shard.poll_reply().map(|reply| reply.value)
}

/// Every key has the state's value.
fn check_content(shard: &mut StringShard, state: &Strings) {
    for key in [&b"a"[..], b"b", b"", &[3], &[200, 7]] {
        let expected = state.value(key).map_or(Value::Null, |value| Value::bulk(Rc::clone(value)));
        assert_eq!(get(shard, key), expected, "{}", key.escape_ascii());
    }
}

/// The next entry, chosen at a peer, is applied.
fn check_next(shard: &mut StringShard, applied: Entry) {
    let notice = ChosenNotice {
        entity: ENTITY,
        entry: applied.next(),
        ballot: Ballot { round: 1, epoch: BootEpoch(2), acceptor: AcceptorId(1) },
        value_id: ValueId { counter: 6, ..VALUE_ID },
        chain: shard.applied(ENTITY).map_or(0, |(_, chain)| engine::chain::extend(chain, &[])),
        value: Some(Rc::from([])),
    };
    shard.handle_message(Time(3), PEER, Generation::FIRST, PeerMessage::Chosen(notice));
    assert_eq!(shard.applied(ENTITY).map(|(entry, _)| entry), Some(applied.next()));
    assert_eq!(shard.poll_event(), None);
}

fn image_of(bytes: &[u8], applied: Entry) -> EntityImage {
    EntityImage {
        entity: ENTITY,
        applied,
        chain: 9,
        last_value_id: Some(VALUE_ID),
        recent: vec![VALUE_ID],
        state: bytes.into(),
        max_chosen: applied,
    }
}

fn check_from_peer(read: Read, bytes: &[u8], applied: Entry, tally: &mut Tally) {
    let mut shard = new_shard();
    shard.finish_recovery(None, None);
    assert_eq!(get(&mut shard, b"a"), Value::Null, "it is in memory now");
    let message = PeerMessage::Image(image_of(bytes, applied));
    assert_eq!(message_rules::check(&message, 3), Ok(()));
    shard.handle_message(Time(1), PEER, Generation::FIRST, message.clone());
    let (now, chain) = shard.applied(ENTITY).expect("in memory");
    let installed = shard.status().counters.images_installed;
    match read(bytes).filter(|_| applied > Entry::ZERO) {
        Some(state) => {
            assert_eq!((now, chain, installed), (applied, 9, 1));
            check_content(&mut shard, &state);
            // A second copy changes nothing.
            shard.handle_message(Time(1), PEER, Generation::FIRST, message);
            assert_eq!(shard.status().counters.images_installed, 1);
            check_next(&mut shard, applied);
            tally.count(&"Installed");
        }
        None => {
            assert_eq!((now, chain, installed), (Entry::ZERO, 0, 0));
            check_content(&mut shard, &Strings::default());
            tally.count(&"Refused");
        }
    }
}

fn recovered(bytes: &[u8], applied: Entry) -> StringShard {
    let record = LogRecord::Image {
        entity: ENTITY,
        applied,
        chain: 9,
        last_value_id: Some(VALUE_ID),
        state: bytes.into(),
    };
    let mut shard = new_shard();
    let location = Location::new(SegmentId(1), 4160, 64, 0);
    shard.recover_record(Lsn(1), location, &record);
    shard.finish_recovery(None, None);
    shard
}

fn check_from_log(read: Read, bytes: &[u8], applied: Entry, tally: &mut Tally) {
    let mut shard = recovered(bytes, applied);
    let event = shard.poll_event();
    match read(bytes).filter(|_| applied > Entry::ZERO) {
        Some(state) => {
            assert_eq!(event, None);
            assert_eq!(shard.applied(ENTITY), Some((applied, 9)));
            check_content(&mut shard, &state);
            check_next(&mut shard, applied);
        }
        None if applied > Entry::ZERO => {
            let Some(Event::Diverged { entity, entry, .. }) = event else { panic!("{event:?}") };
            assert_eq!((entity, entry), (ENTITY, applied), "said aloud, and not served");
            assert_eq!(shard.applied(ENTITY), None);
            // Whoever asks is served through the others, of whom nobody is there.
            assert_eq!(ask(&mut shard, b"a"), None);
            assert_eq!(shard.counters().relayed, 1);
            tally.count(&"Abstains");
        }
        None => assert_eq!(event, None, "nothing was applied there"),
    }
}

fn check(read: Read, plan: &Plan, tally: &mut Tally) {
    let images = IMAGES.with(Rc::clone);
    let bytes = plan.input(&Images, &images, made_image);
    // An image that says of itself to be of another entry than the message is refused: see below.
    let applied = read(&bytes).map_or(Entry(plan.seed % 9), |state| state.applied());
    if applied >= message_rules::ENTRY_MAX {
        return tally.count(&"Implausible");
    }
    check_from_peer(read, &bytes, applied, tally);
    check_from_log(read, &bytes, applied, tally);
}

#[test]
fn fuzz_entity_image() {
    fuzz!(30_000, |plan, tally| check(read, plan, tally), |tally| {
        tally.expect(1000, &["Installed", "Refused", "Abstains"]);
    });
}

/// A made image of a state with more than one entry applied.
fn example() -> (Vec<u8>, Entry) {
    let made = (0..100).map(|seed| made_image(&mut Random(seed)));
    let image = made.map(|bytes| (read(&bytes).expect("made by us").applied(), bytes));
    let (applied, bytes) =
        image.into_iter().find(|(applied, _)| applied.0 > 1).expect("one of many");
    (bytes, applied)
}

#[test]
fn a_shard_that_reads_images_another_way_is_found() {
    let fails = |read: Read| fails(2000, |plan, tally| check(read, plan, tally));
    // What is compared is the shard and the page: here the page is wrong. Any format is read.
    assert!(fails(|bytes| {
        let mut bytes = bytes.to_vec();
        *bytes.first_mut()? = 1;
        read(&bytes)
    }));
    // Something may be left over.
    assert!(fails(|bytes| {
        (0..bytes.len().min(9)).find_map(|cut| read(&bytes[..bytes.len() - cut]))
    }));
    // A value is another one.
    assert!(fails(|bytes| {
        let mut state = read(bytes)?;
        let effects = b"\x01\0\0\0\x01\x01\0\0\0\x01\0\0\0ax";
        state.apply(state.applied().next(), effects).ok()?;
        Some(state)
    }));
}

#[test]
fn an_image_whose_state_is_of_another_entry_is_refused() {
    // The message says that the state is as of `applied`, the state says otherwise. Both are bytes
    // from outside, and the next entry that is chosen trips the state machine's assertion.
    let (bytes, applied) = example();
    let mut shard = new_shard();
    shard.finish_recovery(None, None);
    assert_eq!(get(&mut shard, b"a"), Value::Null);
    let image = image_of(&bytes, applied.next());
    shard.handle_message(Time(1), PEER, Generation::FIRST, PeerMessage::Image(image));
    let (now, _) = shard.applied(ENTITY).expect("in memory");
    check_next(&mut shard, now);
}
