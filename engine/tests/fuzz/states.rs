//! Effects and states of the strings, and the request ids beside them: one encoding each, and what
//! is refused changes nothing.

use std::ops::Range;
use std::rc::Rc;

use engine::request_ids::RequestIds;
use engine::state_machine::strings::{Overlay, Strings};
use engine::state_machine::{InvalidState, StateMachine};
use net::resp::arguments::Arguments;
use plog::vocabulary::Entry;

use crate::batches::request_fields;
use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};

thread_local! {
    static STATES: Rc<[Vec<u8>]> =
        (0..24).map(|seed| encoded(&made_state(&mut Random(seed)))).collect();
    static EFFECTS: Rc<[Vec<u8>]> = (0..24).map(|seed| made_effects(&mut Random(seed))).collect();
    static IDS: Rc<[Vec<u8>]> = (0..12).map(|seed| made_ids(&mut Random(seed))).collect();
}

/// One of few keys, so that commands meet.
fn any_key(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => b"a".to_vec(),
        1 => b"b".to_vec(),
        2 => Vec::new(),
        _ => vec![random.byte(), 7],
    }
}

fn any_command(random: &mut Random) -> Arguments {
    let (key, value) = (any_key(random), random.bytes(30));
    match random.below(6) {
        0 => Arguments::from_slices(&[&b"DEL"[..], &key, &any_key(random)]),
        1 => Arguments::from_slices(&[&b"APPEND"[..], &key, &value]),
        2 => Arguments::from_slices(&[&b"INCR"[..], &key]),
        3 => Arguments::from_slices(&[&b"MSET"[..], &key, &value, &any_key(random), b"3"]),
        _ => Arguments::from_slices(&[&b"SET"[..], &key, &value]),
    }
}

/// The effects of a few commands on `state`.
fn effects_on(state: &Strings, random: &mut Random) -> Vec<u8> {
    let (mut overlay, mut effects) = (Overlay::default(), Vec::new());
    for _ in 0..=random.below(4) {
        state.evaluate(&mut overlay, &any_command(random));
    }
    Strings::encode_effects(&overlay, &mut effects);
    effects
}

/// A state after a few entries; now and then of many keys, which are kept in another form.
pub fn made_state(random: &mut Random) -> Strings {
    let mut state = Strings::default();
    for _ in 0..random.below(6) {
        let effects = effects_on(&state, random);
        state.apply(state.applied().next(), &effects).expect("the state's own effects");
    }
    if random.below(6) == 0 {
        let pairs = (0..20).flat_map(|number: u8| [vec![number], vec![number; 3]]);
        let words: Vec<Vec<u8>> = std::iter::once(b"MSET".to_vec()).chain(pairs).collect();
        let mut overlay = Overlay::default();
        state.evaluate(&mut overlay, &Arguments::from_slices(&words));
        let mut effects = Vec::new();
        Strings::encode_effects(&overlay, &mut effects);
        state.apply(state.applied().next(), &effects).expect("the state's own effects");
    }
    state
}

pub fn encoded(state: &Strings) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// The state that effects are applied to.
fn base() -> Strings {
    made_state(&mut Random(3))
}

/// Effects, on the base state or another.
fn made_effects(random: &mut Random) -> Vec<u8> {
    let state = if random.below(3) == 0 { made_state(random) } else { base() };
    effects_on(&state, random)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// A change as the page on effects lays it out.
#[derive(Debug, PartialEq)]
struct Change<'a> {
    key: &'a [u8],
    /// Absent for a deletion.
    value: Option<&'a [u8]>,
}

/// A second reader of effects: the changes, with the fields of each.
fn read_effects(bytes: &[u8]) -> (Vec<Change<'_>>, Vec<Range<usize>>, bool) {
    let (mut changes, mut fields, mut at) = (Vec::new(), Vec::new(), 4);
    let Some(count) = u32_at(bytes, 0) else { return (changes, fields, bytes.is_empty()) };
    fields.push(0..4);
    for _ in 0..count {
        let (Some(kind), Some(key_size)) = (bytes.get(at), u32_at(bytes, at + 1)) else { break };
        fields.extend([at..at + 1, at + 1..at + 5]);
        let (value_size, begin) = match kind {
            1 => (u32_at(bytes, at + 5), at + 9),
            2 => (None, at + 5),
            _ => break,
        };
        if *kind == 1 && value_size.is_some() {
            fields.push(at + 5..at + 9);
        }
        let middle = begin.saturating_add(key_size);
        let end = middle.saturating_add(value_size.unwrap_or(0));
        let Some(key) = bytes.get(begin..middle) else { break };
        if end > bytes.len() || (*kind == 1 && value_size.is_none()) {
            break;
        }
        let ascends = changes.last().is_none_or(|last: &Change<'_>| last.key < key);
        if !ascends {
            break;
        }
        changes.push(Change { key, value: value_size.map(|_| &bytes[middle..end]) });
        at = end;
    }
    let whole = count > 0 && changes.len() == count && at == bytes.len();
    (changes, fields, whole)
}

struct Effects;

impl Format for Effects {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        read_effects(bytes).1
    }

    fn repair(&self, _bytes: &mut [u8]) {}
}

type Apply = fn(&mut Strings, &[u8]) -> Result<(), InvalidState>;

fn apply(state: &mut Strings, effects: &[u8]) -> Result<(), InvalidState> {
    state.apply(state.applied().next(), effects)
}

fn check_effects(apply: Apply, plan: &Plan, tally: &mut Tally) {
    let samples = EFFECTS.with(Rc::clone);
    let bytes = plan.input(&Effects, &samples, made_effects);
    let before = base();
    let mut after = before.clone();
    let (applied, held) = peak(|| apply(&mut after, &bytes));
    let limit = 40 * bytes.len() + 4096;
    assert!(held <= limit, "{held} bytes were held for {} bytes", bytes.len());
    let (changes, _, is_whole) = read_effects(&bytes);
    let fits =
        changes.iter().all(|change| change.value.is_some() || before.value(change.key).is_some());
    assert_eq!(applied.is_ok(), is_whole && fits, "{applied:?} for {changes:?}");
    if let Err(InvalidState { offset, length, .. }) = applied {
        assert!(offset <= length && length == bytes.len());
        assert_eq!(encoded(&after), encoded(&before), "what is refused changes nothing");
        return tally.count(&if is_whole { "OtherState" } else { "Malformed" });
    }
    let entry = before.applied().next();
    assert_eq!(after.applied(), entry);
    for Change { key, value } in &changes {
        assert_eq!(after.value(key).map(|value| &value[..]), *value);
        assert_eq!(after.version(key), value.map(|_| entry));
    }
    for key in [&b"a"[..], b"b", b""] {
        if changes.iter().all(|change| change.key != key) {
            assert_eq!(after.value(key), before.value(key), "an untouched key");
            assert_eq!(after.version(key), before.version(key));
        }
    }
    let again = Strings::decode(&encoded(&after)).expect("our own words");
    assert_eq!(encoded(&again), encoded(&after));
    assert_eq!(again.memory_bytes(), after.memory_bytes(), "sizes are counted alike");
    tally.count(&if changes.is_empty() { "Nothing" } else { "Applied" });
}

#[test]
fn fuzz_effects() {
    fuzz!(50_000, |plan, tally| check_effects(apply, plan, tally), |tally| {
        tally.expect(1000, &["Applied", "Malformed"]);
        tally.expect(20, &["Nothing", "OtherState"]);
    });
}

#[test]
fn an_application_of_effects_that_is_wrong_is_found() {
    let fails = |apply: Apply| fails(2000, |plan, tally| check_effects(apply, plan, tally));
    // Applies what comes before the error.
    assert!(fails(|state, effects| {
        let applied = apply(state, effects);
        if applied.is_err() {
            apply(state, &[])?;
        }
        applied
    }));
    // Passes over what is left at the end.
    assert!(fails(|state, effects| {
        (0..4)
            .find_map(|cut| apply(state, effects.get(..effects.len().checked_sub(cut)?)?).ok())
            .map_or_else(|| apply(state, effects), Ok)
    }));
    // Deletes what is not there.
    assert!(fails(|state, effects| match apply(state, effects) {
        Err(_) if effects.get(4) == Some(&2) => apply(state, &[]),
        applied => applied,
    }));
}

struct States;

/// The numbers of a state that begins at `begin`.
pub fn state_fields(bytes: &[u8], begin: usize) -> Vec<Range<usize>> {
    let mut fields = vec![begin..begin + 1, begin + 1..begin + 9, begin + 9..begin + 13];
    let mut at = begin + 13;
    while let (Some(key), Some(value)) = (u32_at(bytes, at), u32_at(bytes, at + 4)) {
        fields.extend([at..at + 4, at + 4..at + 8, at + 8..at + 16]);
        at = (at + 16).saturating_add(key).saturating_add(value);
        if at > bytes.len() {
            break;
        }
    }
    fields.retain(|field| field.end <= bytes.len());
    fields
}

impl Format for States {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        state_fields(bytes, 0)
    }

    fn repair(&self, _bytes: &mut [u8]) {}
}

type Decode = fn(&[u8]) -> Result<Strings, InvalidState>;

fn check_state(decode: Decode, plan: &Plan, tally: &mut Tally) {
    let samples = STATES.with(Rc::clone);
    let bytes = plan.input(&States, &samples, |random| encoded(&made_state(random)));
    let (decoded, held) = peak(|| decode(&bytes));
    let limit = 20 * bytes.len() + 4096;
    assert!(held <= limit, "{held} bytes were held for {} bytes", bytes.len());
    match decoded {
        Ok(state) => {
            assert!(encoded(&state) == bytes, "a state has one encoding only");
            assert!(usize::try_from(state.key_count()).expect("fits") * 16 <= bytes.len());
            for cut in &plan.cuts {
                assert!(decode(&bytes[..usize::from(*cut) % bytes.len()]).is_err(), "a prefix");
            }
            let mut longer = bytes;
            longer.push(0);
            assert!(decode(&longer).is_err(), "a byte is left over");
            tally.count(&if state.key_count() > 0 { "Keys" } else { "NoKeys" });
        }
        Err(InvalidState { what, offset, length }) => {
            assert!(what == "state" && offset <= length && length == bytes.len());
            tally.count(&"Malformed");
        }
    }
}

#[test]
fn fuzz_state() {
    fuzz!(50_000, |plan, tally| check_state(Strings::decode, plan, tally), |tally| {
        tally.expect(1000, &["Keys", "Malformed"]);
        tally.expect(200, &["NoKeys"]);
    });
}

#[test]
fn a_decoder_of_states_that_is_wrong_is_found() {
    let fails = |decode: Decode| fails(2000, |plan, tally| check_state(decode, plan, tally));
    // Does not look at what is left over.
    assert!(fails(|bytes| {
        let shorter = (0..bytes.len().min(9)).map(|cut| &bytes[..bytes.len() - cut]);
        shorter.map(Strings::decode).find(Result::is_ok).unwrap_or_else(|| Strings::decode(bytes))
    }));
    // Makes room for as many keys as are announced.
    assert!(fails(|bytes| {
        let count = u32_at(bytes, 9).unwrap_or(0).min(1 << 20);
        drop(std::hint::black_box(Vec::<u64>::with_capacity(count)));
        Strings::decode(bytes)
    }));
}

pub fn made_ids(random: &mut Random) -> Vec<u8> {
    let mut ids = RequestIds::default();
    for number in 0..random.below(6) {
        let mut id = random.bytes(20);
        id.push(u8::try_from(number).expect("few"));
        assert!(ids.remember(&id, &random.bytes(40), 100), "ids differ in their last byte");
    }
    let mut bytes = Vec::new();
    ids.encode(&mut bytes);
    bytes
}

struct Ids;

impl Format for Ids {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        request_fields(bytes, 0, 4).0
    }

    fn repair(&self, _bytes: &mut [u8]) {}
}

type DecodeIds = fn(&[u8]) -> Result<(RequestIds, usize), InvalidState>;

fn check_ids(decode: DecodeIds, plan: &Plan, tally: &mut Tally) {
    let samples = IDS.with(Rc::clone);
    let bytes = plan.input(&Ids, &samples, made_ids);
    let (decoded, held) = peak(|| decode(&bytes));
    let limit = 60 * bytes.len() + 4096;
    assert!(held <= limit, "{held} bytes were held for {} bytes", bytes.len());
    match decoded {
        Ok((ids, used)) => {
            let mut again = Vec::new();
            ids.encode(&mut again);
            assert!(again == bytes[..used], "request ids have one encoding only");
            for cut in &plan.cuts {
                assert!(decode(&bytes[..usize::from(*cut) % used]).is_err(), "a prefix");
            }
            tally.count(&if ids.is_empty() { "NoIds" } else { "Ids" });
        }
        Err(InvalidState { what, offset, length }) => {
            assert!(what == "request ids" && offset <= length && length == bytes.len());
            tally.count(&"Malformed");
        }
    }
}

#[test]
fn fuzz_request_ids() {
    fuzz!(50_000, |plan, tally| check_ids(RequestIds::decode, plan, tally), |tally| {
        tally.expect(1000, &["Ids", "NoIds", "Malformed"]);
    });
}

#[test]
fn a_decoder_of_request_ids_that_is_wrong_is_found() {
    let fails = |decode: DecodeIds| fails(2000, |plan, tally| check_ids(decode, plan, tally));
    // Takes a list that is cut short for one that is over.
    assert!(fails(|bytes| match RequestIds::decode(bytes) {
        Err(error) if bytes.len() < 8 => Err(error),
        Err(_) => Ok((RequestIds::default(), 4)),
        decoded => decoded,
    }));
    // Does not say how much it used.
    assert!(fails(|bytes| RequestIds::decode(bytes).map(|(ids, _)| (ids, bytes.len()))));
}

#[test]
fn an_entry_is_named_by_the_state_after_it() {
    let state = base();
    assert!(state.applied() > Entry::ZERO && state.key_count() > 0, "the base is worth changing");
}
