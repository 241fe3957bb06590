//! The strings against a naive model, their encodings, and their replies word for word.

use std::collections::BTreeMap;

use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::vocabulary::Entry;

use crate::state_machine::strings::{Overlay, Strings, VALUE_SIZE_MAX};
use crate::state_machine::{InvalidState, StateMachine};

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// Runs `words` as a batch of its own on `state`, as the next entry, and returns the reply.
fn run(state: &mut Strings, words: &[&str]) -> Value {
    run_arguments(state, &Arguments::from_slices(words))
}

fn run_arguments(state: &mut Strings, arguments: &Arguments) -> Value {
    let mut overlay = Overlay::default();
    let reply = state.evaluate(&mut overlay, arguments);
    apply(state, &overlay);
    reply
}

fn apply(state: &mut Strings, overlay: &Overlay) {
    let mut effects = Vec::new();
    Strings::encode_effects(overlay, &mut effects);
    assert!(effects.is_empty() || Strings::has_effects(overlay));
    state.apply(state.applied().next(), &effects).expect("the state's own effects");
}

fn encode(state: &Strings) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// Runs a script of lines `command → reply`, each command an entry of its own.
fn script(text: &str) {
    let mut state = Strings::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once(" → ").expect("a line has an arrow");
        let words: Vec<&str> =
            command.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let mut reply = String::new();
        print(&run(&mut state, &words), &mut reply);
        assert_eq!(reply, expected, "{command}");
    }
}

fn print(value: &Value, out: &mut String) {
    match value {
        Value::Simple(text) => out.push_str(&format!("+{text}")),
        Value::Error(error) => out.push_str(&format!("-{}", error.text())),
        Value::Integer(number) => out.push_str(&format!(":{number}")),
        Value::Bulk(bytes) => out.push_str(&format!("\"{}\"", bytes.escape_ascii())),
        Value::Null => out.push_str("nil"),
        Value::Array(values) => {
            for value in values {
                print(value, out);
                out.push(' ');
            }
            out.truncate(out.trim_end().len());
        }
        other => panic!("a reply that no command on strings gives: {other:?}"),
    }
}

#[test]
fn values_are_set_read_and_deleted() {
    script(
        "GET a → nil
         SET a 1 → +OK
         get a → \"1\"
         GETSET a 2 → \"1\"
         GETSET b 3 → nil
         MGET a b c a → \"2\" \"3\" nil \"2\"
         EXISTS a b c a → :3
         TYPE a → +string
         TYPE c → +none
         STRLEN a → :1
         STRLEN c → :0
         GETDEL a → \"2\"
         GETDEL a → nil
         SETNX b 4 → :0
         SETNX a 4 → :1
         DEL a a c → :1
         UNLINK a b → :1
         MSET a 1 b 2 a 3 → +OK
         MGET a b → \"3\" \"2\"
         APPEND a xyz → :4
         APPEND c '' → :0
         GET a → \"3xyz\"
         EXISTS c → :1
         SET '' '' → +OK
         GET '' → \"\"",
    );
}

#[test]
fn set_obeys_its_conditions() {
    script(
        "SET a 1 XX → nil
         SET a 1 XX GET → nil
         GET a → nil
         SET a 1 NX → +OK
         SET a 2 NX → nil
         SET a 2 NX GET → \"1\"
         GET a → \"1\"
         SET a 2 XX GET → \"1\"
         GET a → \"2\"
         SET a 3 IFEQ 1 → nil
         SET a 3 IFEQ 2 → +OK
         SET a 4 IFEQ 2 GET → \"3\"
         SET a 4 IFEQ 3 GET → \"3\"
         SET b 4 IFEQ '' → nil
         SET b 4 GET → nil
         MGET a b → \"4\" \"4\"
         SET a 5 NX XX → -ERR syntax error
         GET a → \"4\"",
    );
}

#[test]
fn counters_keep_to_64_bits_and_to_integers() {
    script(
        "INCR n → :1
         INCRBY n 9 → :10
         DECR n → :9
         DECRBY n 10 → :-1
         GET n → \"-1\"
         DECRBY n -9223372036854775808 → -ERR decrement would overflow
         DECRBY n x → -ERR value is not an integer or out of range
         INCRBY n 01 → -ERR value is not an integer or out of range
         SET n 9223372036854775807 → +OK
         INCR n → -ERR increment or decrement would overflow
         DECRBY n 9223372036854775807 → :0
         INCRBY n -9223372036854775808 → :-9223372036854775808
         DECR n → -ERR increment or decrement would overflow
         GET n → \"-9223372036854775808\"
         SET n 9223372036854775808 → +OK
         DECR n → -ERR value is not an integer or out of range
         SET n '' → +OK
         INCR n → -ERR value is not an integer or out of range",
    );
}

#[test]
fn a_version_is_the_entry_of_the_last_change() {
    script(
        "CERTUS VERSION a → nil
         CERTUS CAS a 0 x → :1
         CERTUS VERSION a → :2
         SET a x → +OK
         certus version a → :4
         CERTUS CAS a 2 y → :0
         CERTUS CAS a 4 y → :1
         CERTUS CAS a 0 z → :0
         GET a → \"y\"
         CERTUS VERSION a → :7
         SET a z NX → nil
         CERTUS VERSION a → :7
         DEL a → :1
         CERTUS VERSION a → nil
         CERTUS CAS a x y → -ERR value is not an integer or out of range
         CERTUS CAS a -1 y → -ERR version is negative: 0 stands for an absent key",
    );
}

#[test]
fn a_command_that_arrives_malformed_is_answered_with_an_error() {
    script(
        "GET → -ERR wrong number of arguments for 'get' command
         MSET a 1 b → -ERR wrong number of arguments for 'mset' command
         CERTUS CAS a → -ERR wrong number of arguments for 'certus|cas' command
         CERTUS → -ERR this replica does not know the command
         LPUSH a b → -ERR this replica does not know the command",
    );
    assert!(run(&mut Strings::default(), &[]).is_error());
}

#[test]
fn values_above_the_limit_are_refused_and_change_nothing() {
    let largest = "x".repeat(VALUE_SIZE_MAX);
    let larger = "x".repeat(VALUE_SIZE_MAX + 1);
    let mut state = Strings::default();
    let refused = Value::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    let commands: [&[&str]; 6] = [
        &["SET", "a", &larger],
        &["SET", "a", &larger, "GET"],
        &["SETNX", "a", &larger],
        &["GETSET", "a", &larger],
        &["MSET", "b", "1", "a", &larger],
        &["CERTUS", "CAS", "a", "0", &larger],
    ];
    for words in commands {
        let mut overlay = Overlay::default();
        assert_eq!(state.evaluate(&mut overlay, &Arguments::from_slices(words)), refused);
        assert!(!Strings::has_effects(&overlay), "{}", words[0]);
    }
    assert_eq!(run(&mut state, &["SET", "a", &largest]), Value::OK);
    assert_eq!(run(&mut state, &["APPEND", "a", ""]), Value::Integer(1 << 20));
    assert_eq!(run(&mut state, &["APPEND", "a", "x"]), refused);
}

#[test]
fn commands_that_change_nothing_have_no_effects() {
    let mut state = Strings::default();
    run(&mut state, &["SET", "a", "1"]);
    let unchanging: [&[&str]; 9] = [
        &["GET", "a"],
        &["DEL", "b"],
        &["GETDEL", "b"],
        &["SET", "a", "2", "NX"],
        &["SET", "b", "2", "XX"],
        &["SETNX", "a", "2"],
        &["SET", "a", "2", "IFEQ", "2"],
        &["CERTUS", "CAS", "a", "7", "2"],
        &["INCRBY", "a", "x"],
    ];
    for words in unchanging {
        let mut overlay = Overlay::default();
        state.evaluate(&mut overlay, &Arguments::from_slices(words));
        assert!(!Strings::has_effects(&overlay), "{words:?}");
    }
    // The same value again is a change: the version tells.
    let changing: [&[&str]; 4] =
        [&["SET", "a", "1"], &["INCRBY", "a", "0"], &["APPEND", "a", ""], &["MSET", "a", "1"]];
    for words in changing {
        let mut overlay = Overlay::default();
        state.evaluate(&mut overlay, &Arguments::from_slices(words));
        assert!(Strings::has_effects(&overlay), "{words:?}");
    }
}

#[test]
fn later_commands_of_a_batch_see_the_earlier_ones() {
    let mut state = Strings::default();
    run(&mut state, &["SET", "old", "1"]);
    let mut overlay = Overlay::default();
    let mut step = |words: &[&str]| {
        let mut reply = String::new();
        print(&state.evaluate(&mut overlay, &Arguments::from_slices(words)), &mut reply);
        reply
    };
    assert_eq!(step(&["SET", "new", "1"]), "+OK");
    assert_eq!(step(&["CERTUS", "VERSION", "new"]), ":2", "the entry that the batch will be");
    assert_eq!(step(&["CERTUS", "CAS", "new", "2", "3"]), ":1");
    assert_eq!(step(&["APPEND", "new", "4"]), ":2");
    assert_eq!(step(&["APPEND", "new", "5"]), ":3");
    assert_eq!(step(&["GET", "new"]), "\"345\"");
    assert_eq!(step(&["INCR", "new"]), ":346");
    assert_eq!(step(&["DEL", "new", "old"]), ":2");
    assert_eq!(step(&["EXISTS", "new", "old"]), ":0");
    assert_eq!(step(&["CERTUS", "VERSION", "old"]), "nil");
    apply(&mut state, &overlay);
    assert_eq!(state.key_count(), 0);

    // What comes and goes within a batch leaves nothing to replicate, but the replies rest on it.
    let mut overlay = Overlay::default();
    for words in [["SET", "new", "1"].as_slice(), &["DEL", "new"]] {
        state.evaluate(&mut overlay, &Arguments::from_slices(words));
    }
    assert!(Strings::has_effects(&overlay));
    let mut effects = Vec::new();
    Strings::encode_effects(&overlay, &mut effects);
    assert!(effects.is_empty());
}

/// The state as the simplest program keeps it: each key's value and version.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    keys: BTreeMap<String, (String, u64)>,
}

impl Model {
    fn get(&self, key: &str) -> Value {
        self.keys.get(key).map_or(Value::Null, |(value, _)| Value::bulk(value.clone().into_bytes()))
    }

    fn run(&mut self, entry: u64, words: &[&str]) -> Value {
        let present = |model: &Self, key: &str| i64::from(model.keys.contains_key(key));
        match words {
            ["GET", key] => self.get(key),
            ["SET", key, value] => {
                self.keys.insert((*key).to_owned(), ((*value).to_owned(), entry));
                Value::OK
            }
            ["SET", key, value, "NX"] if present(self, key) == 0 => {
                self.run(entry, &["SET", key, value])
            }
            ["SET", key, value, "XX"] if present(self, key) == 1 => {
                self.run(entry, &["SET", key, value])
            }
            ["SET", _, _, _] => Value::Null,
            ["GETSET", key, value] | ["SET", key, value, "IFEQ", _, "GET"] => {
                let old = self.get(key);
                let same = words.len() == 3 || old == Value::bulk(words[4].to_owned().into_bytes());
                if same {
                    self.run(entry, &["SET", key, value]);
                }
                old
            }
            ["GETDEL", key] => {
                let old = self.get(key);
                self.keys.remove(*key);
                old
            }
            ["MSET", pairs @ ..] => {
                for pair in pairs.chunks(2) {
                    self.run(entry, &["SET", pair[0], pair[1]]);
                }
                Value::OK
            }
            ["MGET", keys @ ..] => Value::Array(keys.iter().map(|key| self.get(key)).collect()),
            ["DEL", keys @ ..] => {
                let gone = keys.iter().filter(|key| self.keys.remove(**key).is_some()).count();
                Value::Integer(i64::try_from(gone).unwrap())
            }
            ["EXISTS", keys @ ..] => {
                Value::Integer(keys.iter().map(|key| present(self, key)).sum())
            }
            ["APPEND", key, tail] => {
                let value = self.keys.get(*key).map_or("", |(value, _)| value).to_owned() + tail;
                self.run(entry, &["SET", key, &value]);
                Value::Integer(i64::try_from(value.len()).unwrap())
            }
            ["INCRBY", key, amount] => {
                let value = self.keys.get(*key).map_or("0", |(value, _)| value).to_owned();
                let number = value.parse::<i64>().ok().filter(|n| n.to_string() == value);
                let Some(number) = number else {
                    return Value::error("ERR value is not an integer or out of range");
                };
                let Some(sum) = number.checked_add(amount.parse().unwrap()) else {
                    return Value::error("ERR increment or decrement would overflow");
                };
                self.run(entry, &["SET", key, &sum.to_string()]);
                Value::Integer(sum)
            }
            ["CERTUS", "VERSION", key] => {
                self.keys.get(*key).map_or(Value::Null, |(_, version)| {
                    Value::Integer(i64::try_from(*version).unwrap())
                })
            }
            ["CERTUS", "CAS", key, version, value] => {
                let now = self.keys.get(*key).map_or(0, |(_, version)| *version);
                let equal = now.to_string() == *version;
                if equal {
                    self.run(entry, &["SET", key, value]);
                }
                Value::Integer(i64::from(equal))
            }
            other => panic!("the model does not know {other:?}"),
        }
    }

    fn matches(&self, state: &Strings) {
        let of_state: BTreeMap<String, (String, u64)> = state
            .keys
            .iter()
            .map(|(key, record)| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (text(key), (text(&record.value), record.version.0))
            })
            .collect();
        assert_eq!(of_state, self.keys);
        let content: usize =
            self.keys.iter().map(|(key, (value, _))| key.len() + value.len()).sum();
        assert_eq!(state.content_bytes, content);
        assert_eq!(usize::try_from(state.key_count()).unwrap(), self.keys.len());
        assert!(state.memory_bytes() > content);
    }
}

/// A command made by chance, on one of `key_count` keys.
fn command(chance: &mut Chance, key_count: usize, entry: u64) -> Vec<String> {
    const VALUES: [&str; 8] =
        ["", "1", "-7", "01", "text", "9223372036854775807", "-9223372036854775808", "x"];
    let key = |chance: &mut Chance| format!("k{}", chance.below(key_count));
    let (a, b) = (key(chance), key(chance));
    let (v, w) = (chance.pick(&VALUES), chance.pick(&VALUES));
    let version = entry.saturating_sub(chance.next() % 4).to_string();
    let version = if chance.below(3) == 0 { "0" } else { &version };
    let amount = chance.pick(&["0", "1", "-1", "9223372036854775807", "-9223372036854775808"]);
    let words: &[&str] = match chance.below(18) {
        0..2 => &["GET", &a],
        2..5 => &["SET", &a, v],
        5 => &["SET", &a, v, "NX"],
        6 => &["SET", &a, v, "XX"],
        7 => &["SET", &a, v, "IFEQ", w, "GET"],
        8 => &["GETSET", &a, v],
        9 => &["GETDEL", &a],
        10 => &["MSET", &a, v, &b, w],
        11 => &["MGET", &a, &b],
        12 => &["DEL", &a, &b],
        13 => &["EXISTS", &a, &b],
        14 => &["APPEND", &a, v],
        15 => &["INCRBY", &a, amount],
        16 => &["CERTUS", "VERSION", &a],
        _ => &["CERTUS", "CAS", &a, version, v],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn batches_by_chance_agree_with_the_model() {
    for seed in 0..60 {
        let mut chance = Chance(seed);
        // From nearly always one key to enough for a tree.
        let key_count = [1, 3, 60][chance.below(3)];
        let mut state = Strings::default();
        let mut model = Model::default();
        let (mut changed_batches, mut unchanged_batches) = (0, 0);
        for entry in 1..=150 {
            let mut expected = false;
            let mut overlay = Overlay::default();
            for _ in 0..1 + chance.below(8) {
                let words = command(&mut chance, key_count, entry);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let before = model.clone();
                let reply = state.evaluate(&mut overlay, &Arguments::from_slices(&words));
                assert_eq!(reply, model.run(entry, &words), "seed {seed} entry {entry} {words:?}");
                expected |= model != before;
            }
            let changed = Strings::has_effects(&overlay);
            assert_eq!(changed, expected, "seed {seed} entry {entry}");
            *(if changed { &mut changed_batches } else { &mut unchanged_batches }) += 1;
            apply(&mut state, &overlay);
            model.matches(&state);

            let bytes = encode(&state);
            let decoded = Strings::decode(&bytes).expect("the state's own encoding");
            assert_eq!(decoded.applied(), Entry(entry));
            assert_eq!(encode(&decoded), bytes);
            model.matches(&decoded);
            if chance.below(10) == 0 {
                state = decoded;
            }
        }
        assert!(changed_batches > 0 && unchanged_batches > 0);
    }
}

#[test]
fn a_batch_is_the_same_as_its_commands_one_at_a_time_but_for_versions() {
    for seed in 100..160 {
        let mut chance = Chance(seed);
        let key_count = [1, 3, 60][chance.below(3)];
        let (mut batched, mut single) = (Strings::default(), Strings::default());
        for _ in 0..100 {
            let mut overlay = Overlay::default();
            for _ in 0..chance.below(10) {
                let words = command(&mut chance, key_count, 1);
                if words[0] == "CERTUS" {
                    continue;
                }
                let arguments = Arguments::from_slices(&words);
                let reply = batched.evaluate(&mut overlay, &arguments);
                assert_eq!(reply, run_arguments(&mut single, &arguments), "seed {seed} {words:?}");
            }
            apply(&mut batched, &overlay);
            let content = |state: &Strings| -> Vec<(Vec<u8>, Vec<u8>)> {
                state.keys.iter().map(|(key, record)| (key.into(), record.value.to_vec())).collect()
            };
            assert_eq!(content(&batched), content(&single));
        }
    }
}

/// Effects of every kind on several keys, and the state they are for.
fn sample() -> (Strings, Vec<u8>) {
    let mut state = Strings::default();
    run(&mut state, &["MSET", "a", "1", "b", "", "", "3"]);
    let mut overlay = Overlay::default();
    for words in [["APPEND", "a", "2"].as_slice(), &["DEL", "b"], &["SET", "c", "4"]] {
        state.evaluate(&mut overlay, &Arguments::from_slices(words));
    }
    let mut effects = Vec::new();
    Strings::encode_effects(&overlay, &mut effects);
    (state, effects)
}

#[test]
fn the_encodings_are_as_documented() {
    let (mut state, effects) = sample();
    let expected = b"\x03\0\0\0\
        \x01\x01\0\0\0\x02\0\0\0a12\
        \x02\x01\0\0\0b\
        \x01\x01\0\0\0\x01\0\0\0c4";
    assert_eq!(effects, expected);
    state.apply(Entry(2), &effects).expect("the state's own effects");
    let expected = b"\x01\x02\0\0\0\0\0\0\0\x03\0\0\0\
        \0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\x003\
        \x01\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0a12\
        \x01\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0c4";
    assert_eq!(encode(&state), expected);
}

#[test]
fn encodings_cut_at_any_byte_are_refused_and_nothing_is_applied() {
    let (mut state, effects) = sample();
    let before = encode(&state);
    for end in 1..effects.len() {
        let error = state.apply(Entry(2), &effects[..end]).expect_err("cut");
        assert_eq!((error.what, error.length), ("effects", end));
        assert!(error.offset <= end);
        assert_eq!(encode(&state), before);
    }
    for end in 0..before.len() {
        let error = Strings::decode(&before[..end]).expect_err("cut");
        assert_eq!((error.what, error.length), ("state", end));
    }
}

#[test]
fn encodings_with_more_behind_or_out_of_order_are_refused() {
    let (mut state, effects) = sample();
    let before = encode(&state);
    let mut refuse = |effects: &[u8]| -> InvalidState {
        let error = state.apply(Entry(2), effects).expect_err("malformed");
        assert_eq!(encode(&state), before);
        error
    };
    let mut longer = effects.clone();
    longer.push(0);
    assert_eq!(refuse(&longer).offset, effects.len());
    assert_eq!(refuse(b"\0\0\0\0").offset, 0, "nothing is no bytes, not a count of 0");
    assert_eq!(refuse(b"\x01\0\0\0\x03\x01\0\0\0a").offset, 4, "no such kind");
    assert_eq!(refuse(b"\x01\0\0\0\x02\x01\0\0\0z").offset, 4, "z is not there to be deleted");
    assert_eq!(refuse(b"\x02\0\0\0\x02\x01\0\0\0b\x02\x01\0\0\0a").offset, 10, "descending");
    assert_eq!(refuse(b"\x02\0\0\0\x02\x01\0\0\0a\x02\x01\0\0\0a").offset, 10, "twice the same");
    assert_eq!(refuse(b"\xff\xff\xff\xff\x01\xff\xff\xff\xff\xff\xff\xff\xff").offset, 13);

    let mut longer = before.clone();
    longer.push(0);
    assert_eq!(Strings::decode(&longer).expect_err("longer").offset, before.len());
    let mut other_format = before.clone();
    other_format[0] = 2;
    assert_eq!(Strings::decode(&other_format).expect_err("format").offset, 0);
    let mut from_the_future = before.clone();
    from_the_future[1] = 0;
    assert_eq!(Strings::decode(&from_the_future).expect_err("version above applied").offset, 13);
    let mut never_changed = before;
    never_changed[21] = 0;
    assert_eq!(Strings::decode(&never_changed).expect_err("version 0").offset, 13);
}

#[test]
fn garbage_is_never_taken_for_something_that_encodes_otherwise() {
    let mut chance = Chance(7);
    let (sample_state, sample_effects) = sample();
    let sample_image = encode(&sample_state);
    let mut decoded = 0;
    for _ in 0..20_000 {
        let mut effects = sample_effects.clone();
        let mut image = sample_image.clone();
        for bytes in [&mut effects, &mut image] {
            for _ in 0..1 + chance.below(3) {
                let index = chance.below(bytes.len());
                bytes[index] = chance.next().to_le_bytes()[0];
            }
        }
        let mut state = sample_state.clone();
        if state.apply(Entry(2), &effects).is_err() {
            assert_eq!(encode(&state), sample_image);
        }
        if let Ok(state) = Strings::decode(&image) {
            assert_eq!(encode(&state), image);
            decoded += 1;
        }
    }
    assert!(decoded > 0, "a changed value still decodes");
}

#[test]
#[should_panic(expected = "entry 2 was to be applied after entry 0")]
fn a_lost_entry_is_noticed() {
    Strings::default().apply(Entry(2), &[]).expect("never reached");
}

#[test]
fn keys_of_one_tag_hold_so_much_and_may_always_shrink() {
    let mut state = Strings::default();
    let mut entry = Entry::ZERO;
    let run = |state: &mut Strings, entry: &mut Entry, words: &[&str]| {
        let mut overlay = Overlay::default();
        let reply = state.evaluate(&mut overlay, &Arguments::from_slices(words));
        if Strings::has_effects(&overlay) {
            let mut effects = Vec::new();
            Strings::encode_effects(&overlay, &mut effects);
            *entry = entry.next();
            state.apply(*entry, &effects).unwrap();
        }
        reply
    };
    let large = "x".repeat(1 << 20);
    for key in ["{t}1", "{t}2", "{t}3"] {
        assert_eq!(run(&mut state, &mut entry, &["SET", key, &large]), Value::OK);
    }
    let refused = run(&mut state, &mut entry, &["SET", "{t}4", &large]);
    assert!(matches!(&refused, Value::Error(error) if error.word() == "OOM"), "{refused:?}");
    assert_eq!(run(&mut state, &mut entry, &["SET", "{t}1", "small"]), Value::OK);
    assert_eq!(run(&mut state, &mut entry, &["SET", "{t}4", &large]), Value::OK);
    assert!(state.memory_bytes() <= super::ENTITY_SIZE_MAX);
}

#[test]
fn a_refused_mset_sets_nothing() {
    let mut state = Strings::default();
    let large = "x".repeat(1 << 20);
    for (key, entry) in ["{t}1", "{t}2", "{t}3"].into_iter().zip(1..) {
        let mut overlay = Overlay::default();
        let set = Arguments::from_slices(&["SET", key, &large]);
        assert_eq!(state.evaluate(&mut overlay, &set), Value::OK);
        let mut effects = Vec::new();
        Strings::encode_effects(&overlay, &mut effects);
        state.apply(Entry(entry), &effects).unwrap();
    }
    let mut overlay = Overlay::default();
    let set = Arguments::from_slices(&["MSET", "{t}4", "small", "{t}5", &large]);
    let reply = state.evaluate(&mut overlay, &set);
    assert!(matches!(reply, Value::Error(_)), "{reply:?}");
    assert!(!Strings::has_effects(&overlay), "an error was replied, and {{t}}4 is set");
}

#[test]
fn what_comes_and_goes_in_a_batch_takes_no_room() {
    let state = Strings::default();
    let large = "x".repeat(1 << 20);
    let mut overlay = Overlay::default();
    for _ in 0..6 {
        let set = Arguments::from_slices(&["SET", "a", &large]);
        assert_eq!(state.evaluate(&mut overlay, &set), Value::OK);
        let delete = Arguments::from_slices(&["DEL", "a"]);
        assert_eq!(state.evaluate(&mut overlay, &delete), Value::Integer(1));
    }
}
