//! The model against the engine's own state machine, and what was chosen as it reads it.

use engine::batch::{BatchBuilder, InvalidBatch};
use engine::state_machine::StateMachine as _;
use engine::state_machine::strings::operation::Operation;
use engine::state_machine::strings::{Overlay, Strings, VALUE_SIZE_MAX};
use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::vocabulary::Entry;

use crate::history::command::Command;
use crate::history::model::State;
use crate::history::sample::{Chance, batch, words};
use crate::history::{ChosenBatch, InvalidValue};

/// A command made by chance, on one of `key_count` keys.
fn command(chance: &mut Chance, key_count: usize, entry: u64) -> Vec<Vec<u8>> {
    const VALUES: [&str; 8] =
        ["", "1", "-7", "01", "text", "9223372036854775807", "-9223372036854775808", "-0"];
    const AMOUNTS: [&str; 6] = ["0", "1", "-1", "x", "9223372036854775807", "-9223372036854775808"];
    const OPTIONS: [&str; 12] = [
        "NX",
        "xx",
        "GET",
        "NX GET",
        "XX get",
        "IFEQ 1",
        "ifeq text GET",
        "NX XX",
        "IFEQ",
        "NX NX",
        "GET IFEQ 1 IFEQ 1",
        "FOO",
    ];
    let (a, b) = (chance.below(key_count), chance.below(key_count));
    let (v, w) = (VALUES[chance.below(8)], VALUES[chance.below(8)]);
    let amount = AMOUNTS[chance.below(6)];
    let version = match chance.below(8) {
        0 => "x".to_owned(),
        1 => "-1".to_owned(),
        2..4 => "0".to_owned(),
        _ => entry.saturating_sub(chance.next() % 4).to_string(),
    };
    words(&match chance.below(24) {
        0 => format!("GET k{a}"),
        1..4 => format!("set k{a} {v}"),
        4..7 => format!("SET k{a} {v} {}", OPTIONS[chance.below(12)]),
        7 => format!("GETSET k{a} {v}"),
        8 => format!("GetDel k{a}"),
        9 => format!("MSET k{a} {v} k{b} {w}"),
        10 => format!("MGET k{a} k{b} k{a}"),
        11 => format!("DEL k{a} k{b} k{a}"),
        12 => format!("UNLINK k{a}"),
        13 => format!("EXISTS k{a} k{b} k{a}"),
        14 => format!("APPEND k{a} {v}"),
        15 => format!("INCRBY k{a} {amount}"),
        16 => format!("DECRBY k{a} {amount}"),
        17 => format!("INCR k{a}"),
        18 => format!("decr k{a}"),
        19 => format!("CERTUS VERSION k{a}"),
        20 => format!("certus cas k{a} {version} {v}"),
        21 => format!("SETNX k{a} {v}"),
        22 => format!("STRLEN k{a}"),
        _ => format!("TYPE k{a}"),
    })
}

fn assert_same(model: &State, engine: &Strings) {
    assert_eq!(u32::try_from(model.keys.len()).unwrap(), engine.key_count());
    for (key, record) in &model.keys {
        assert_eq!(engine.value(key), Some(&record.value));
        assert_eq!(engine.version(key), Some(Entry(record.version)));
    }
}

#[test]
fn batches_by_chance_agree_with_the_engine() {
    let (mut changed, mut unchanged) = (0, 0);
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let key_count = [1, 3, 30][chance.below(3)];
        let mut engine = Strings::default();
        let (mut by_commands, mut by_effects) = (State::default(), State::default());
        for entry in 1..=150 {
            let mut overlay = Overlay::default();
            let mut builder = BatchBuilder::default();
            let mut ids = Vec::new();
            for number in 0..1 + chance.below(8) {
                let words = command(&mut chance, key_count, entry);
                let arguments = Arguments::from_slices(&words);
                let command = Command::parse(&words).expect("the model knows it");
                let reply = engine.evaluate(&mut overlay, &arguments);
                let evaluated = by_commands.evaluate(&command);
                assert_eq!(evaluated.reply, reply, "seed {seed} entry {entry} {command:?}");
                assert_eq!(
                    by_commands.changes_if_replied(&command, &reply).as_ref(),
                    Some(&evaluated.changes)
                );
                let is_observer = evaluated.changes.is_empty();
                assert_eq!(by_commands.is_observed(&command, &reply), is_observer);
                for change in &evaluated.changes {
                    // `MSET` of one key twice leaves what stands last.
                    let last = evaluated.changes.iter().rfind(|other| other.key == change.key);
                    let value = last.and_then(|last| last.value.as_deref());
                    assert!(command.can_leave(change.key, value), "{command:?}");
                    assert!(command.can_be_part_of(change.key, value), "{command:?}");
                    assert!(command.keys().contains(&change.key) && command.is_write());
                }
                *(if is_observer { &mut unchanged } else { &mut changed }) += 1;
                by_commands.apply(&evaluated.changes, entry);
                let operation = Operation::of(&arguments).expect("the engine knows it");
                assert_eq!(operation.is_write(), command.is_write(), "{command:?}");
                let id = format!("{seed}-{entry}-{number}").into_bytes();
                builder.add_request(&id, &reply);
                ids.push((id, reply.to_resp3()));
            }
            let value = builder.finish(|out| Strings::encode_effects(&overlay, out));
            let chosen = ChosenBatch::parse(&value).expect("the engine's own batch");
            assert_eq!(chosen.requests, ids);
            by_effects.apply_effects(&chosen.effects, entry).expect("made for this state");
            let effects = engine::batch::Batch::parse(&value).unwrap().effects();
            engine.apply(Entry(entry), effects).expect("the engine's own effects");
            assert_same(&by_effects, &engine);
            assert_eq!(by_commands, by_effects);
        }
    }
    assert!(changed > 10_000 && unchanged > 10_000);
}

#[test]
fn values_above_the_limit_are_refused_and_change_nothing() {
    let larger = "x".repeat(VALUE_SIZE_MAX + 1);
    let mut state = State::default();
    let refused = Value::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    for text in [
        format!("SET a {larger}"),
        format!("SET a {larger} GET"),
        format!("SETNX a {larger}"),
        format!("GETSET a {larger}"),
        format!("MSET b 1 a {larger}"),
        format!("CERTUS CAS a 0 {larger}"),
        format!("APPEND a {larger}"),
    ] {
        let words = words(&text);
        let command = Command::parse(&words).unwrap();
        let evaluated = state.evaluate(&command);
        assert_eq!((evaluated.reply, evaluated.changes.len()), (refused.clone(), 0));
    }
    let words = words(&format!("SET a {}", &larger[1..]));
    let command = Command::parse(&words).unwrap();
    let changes = state.evaluate(&command).changes;
    state.apply(&changes, 1);
    assert_eq!(state.value(b"a").map(<[u8]>::len), Some(VALUE_SIZE_MAX));
}

#[test]
fn what_the_model_does_not_know_is_no_command() {
    for text in [
        "GET",
        "GET a b",
        "MSET a",
        "MSET a 1 b",
        "LPUSH a 1",
        "SET a",
        "SET a 1 EX 5",
        "SET a 1 KEEPTTL",
        "CERTUS",
        "CERTUS STATUS",
        "CERTUS CAS a 1",
        "DEL",
        "INCR a 1",
    ] {
        assert_eq!(Command::parse(&words(text)), None, "{text}");
    }
    assert_eq!(Command::parse(&[]), None);
}

#[test]
fn what_changes_nothing_has_no_changes_and_setting_the_same_is_a_change() {
    let mut state = State::default();
    let set = words("SET a 1");
    let set = Command::parse(&set).unwrap();
    let changes = state.evaluate(&set).changes;
    state.apply(&changes, 1);
    assert_eq!(state.evaluate(&set).changes.len(), 1);
    state.apply(&changes, 2);
    assert_eq!(state.keys[b"a".as_slice()].version, 2);
    let append = words("APPEND b ");
    let append = Command::parse(&append).unwrap();
    assert_eq!(state.evaluate(&append).changes.len(), 1, "an empty value is a value");
}

/// One batch as the bytes of an entry.
fn example() -> Vec<u8> {
    let mut builder = BatchBuilder::default();
    builder.add_request(b"first", &Value::Integer(2));
    let mut state = Strings::default();
    let mut overlay = Overlay::default();
    state.evaluate(&mut overlay, &Arguments::from_slices(&["MSET", "a", "1", "b", ""]));
    let mut effects = Vec::new();
    Strings::encode_effects(&overlay, &mut effects);
    state.apply(Entry(1), &effects).unwrap();
    let mut overlay = Overlay::default();
    for words in [["DEL", "a"].as_slice(), &["APPEND", "b", "2"]] {
        state.evaluate(&mut overlay, &Arguments::from_slices(words));
    }
    builder.finish(|out| Strings::encode_effects(&overlay, out))
}

#[test]
fn a_chosen_value_is_read_and_a_malformed_one_is_not() {
    let value = example();
    let expected = batch(&[("first", Value::Integer(2))], &[("a", None), ("b", Some("2"))]);
    assert_eq!(ChosenBatch::parse(&value), Ok(expected));
    assert_eq!(ChosenBatch::parse(b""), Ok(ChosenBatch::default()));
    assert_eq!(ChosenBatch::parse(&[1, 0, 0]), Ok(ChosenBatch::default()));
    let unknown = InvalidValue::Batch(InvalidBatch::UnknownFormat(9));
    assert_eq!(ChosenBatch::parse(&[9]), Err(unknown));
    // Cut anywhere but before the effects; or with more behind.
    let effects = value.len() - (4 + 1 + 4 + 1 + 1 + 8 + 1 + 1);
    for end in 1..value.len() {
        let parsed = ChosenBatch::parse(&value[..end]);
        assert_eq!(parsed.is_ok(), end == effects, "{end}: {parsed:?}");
    }
    let malformed = |effects: &[u8]| {
        let value = [&[1, 0, 0], effects].concat();
        match ChosenBatch::parse(&value) {
            Err(InvalidValue::Effects { offset, size }) => {
                assert_eq!(size, effects.len());
                offset
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(malformed(&[&value[effects..], b"x"].concat()), value.len() - effects);
    assert_eq!(malformed(b"\0\0\0\0"), 0);
    assert_eq!(malformed(b"\x01\0\0\0\x03\x01\0\0\0a"), 4, "no such kind");
    assert_eq!(malformed(b"\x02\0\0\0\x02\x01\0\0\0b\x02\x01\0\0\0a"), 10, "descending");
    assert_eq!(malformed(b"\x02\0\0\0\x02\x01\0\0\0a\x02\x01\0\0\0a"), 10, "twice the same");
    assert_eq!(malformed(b"\xff\xff\xff\xff\x02\xff\xff\xff\xff"), 4);
}

#[test]
fn what_a_value_shows_of_its_commands() {
    let shows = |text: &str, value: Option<&str>| {
        let words = words(text);
        let command = Command::parse(&words).unwrap();
        command.can_be_part_of(b"k", value.map(str::as_bytes))
    };
    assert!(shows("SET k a;", Some("a;b;")) && shows("APPEND k b;", Some("a;b;c;")));
    assert!(shows("MSET q 1 k a;", Some("a;b;")) && shows("DEL q k", None));
    assert!(shows("INCR k", Some("7")) && shows("APPEND k ", Some("7")));
    assert!(!shows("SET k b;", Some("a;b;")) && !shows("SET q a;", Some("a;b;")));
    assert!(!shows("APPEND k d;", Some("a;b;")) && !shows("APPEND q b;", Some("a;b;")));
    assert!(!shows("INCR k", Some("a;")) && !shows("SET k a;", None) && !shows("DEL q", None));
    assert!(!shows("GET k", Some("a;")) && !shows("MSET q a; k b;", Some("a;b;")));
}

#[test]
fn a_deletion_of_what_is_not_there_is_not_applied() {
    let effects = [(b"a".to_vec(), None)];
    assert_eq!(State::default().apply_effects(&effects, 1), Err(&b"a"[..]));
}
