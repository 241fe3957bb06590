//! What the second judge must find, each beside its nearest legal history.

use net::resp::value::Value;
use plog::vocabulary::Entry;

use crate::history::sample::{batch, bulk, log, once, refused, told, unknown};
use crate::history::wgl::{WINDOW_OPERATIONS_MAX, check_windows};
use crate::history::{ChosenBatch, Operation, Outcome, Violation};

const OK: Value = Value::OK;

fn int(number: i64) -> Value {
    Value::Integer(number)
}

/// Without a log: the windows begin at the empty state.
fn judge(history: &[Operation]) -> Result<usize, Violation> {
    let free: Vec<Operation> = history.iter().map(without_entry).collect();
    check_windows(&free, &log(Vec::new()))
}

/// An answered operation as if nobody knew its entry.
fn without_entry(operation: &Operation) -> Operation {
    let outcome = match operation.outcome.clone() {
        Outcome::Replied { at, reply, .. } => Outcome::Replied { at, reply, entry: Entry::ZERO },
        other => other,
    };
    Operation { outcome, ..operation.clone() }
}

fn passes(history: &[Operation]) {
    assert_eq!(judge(history), Ok(1));
}

fn finds(history: &[Operation]) {
    match judge(history) {
        Ok(windows) => panic!("nothing was found in {windows} windows"),
        Err(violation) => assert_eq!(violation.invariant, "linearizable", "{violation}"),
    }
}

fn call(text: &str, times: (u64, u64), reply: Value) -> Operation {
    told(text, times, reply, 0)
}

#[test]
fn a_stale_read_is_found() {
    let set = call("SET k 1", (0, 5), OK);
    passes(&[set.clone(), call("GET k", (5, 6), Value::Null)]);
    passes(&[set.clone(), call("GET k", (6, 7), bulk("1"))]);
    finds(&[set.clone(), call("GET k", (6, 7), Value::Null)]);
    // What one saw, the next must see.
    let first = call("GET k", (1, 2), bulk("1"));
    passes(&[set.clone(), first.clone(), call("GET k", (3, 4), bulk("1"))]);
    finds(&[set, first, call("GET k", (3, 4), Value::Null)]);
}

#[test]
fn lost_doubled_and_torn_writes_are_found() {
    let incr = |times, count| call("INCR n", times, int(count));
    passes(&[incr((0, 5), 2), incr((0, 5), 1)]);
    finds(&[incr((0, 5), 1), incr((0, 5), 1)]);
    finds(&[incr((0, 1), 2), incr((2, 3), 1)]);
    finds(&[incr((0, 1), 2)]);
    finds(&[incr((0, 1), 1), call("GET n", (2, 3), bulk("2"))]);
    let set = call("MSET a 1 b 2", (0, 9), OK);
    let seen = |a: Value, b: Value| call("MGET a b", (1, 2), Value::Array(vec![a, b]));
    passes(&[set.clone(), seen(bulk("1"), bulk("2"))]);
    passes(&[set.clone(), seen(Value::Null, Value::Null)]);
    finds(&[set, seen(bulk("1"), Value::Null)]);
}

#[test]
fn a_phantom_and_what_was_refused_are_found() {
    finds(&[call("GET k", (0, 1), bulk("1"))]);
    let read = call("GET k", (2, 3), bulk("1"));
    passes(&[unknown("SET k 1", 0), read.clone()]);
    finds(&[refused("SET k 1", (0, 1)), read.clone()]);
    finds(&[unknown("SET k 1", 4), read]);
}

#[test]
fn what_is_of_unknown_fate_takes_effect_once_at_any_time_or_never() {
    let set = call("SET n 5", (2, 3), OK);
    let get = |times, text: &str| call("GET n", times, bulk(text));
    let open = unknown("INCR n", 0);
    passes(&[open.clone(), set.clone(), get((4, 5), "5"), get((6, 7), "6")]);
    passes(&[open.clone(), set.clone(), get((4, 5), "5"), get((6, 7), "5")]);
    finds(&[open.clone(), set.clone(), get((4, 5), "6"), get((6, 7), "5")]);
    finds(&[open, set, get((4, 5), "6"), get((6, 7), "7")]);
}

#[test]
fn to_set_what_is_there_already_may_have_to_come_later() {
    let history = [
        call("SET k 1", (0, 1), OK),
        call("SET k 1", (2, 9), OK),
        call("SET k 2", (2, 3), OK),
        call("GET k", (4, 5), bulk("2")),
        call("GET k", (6, 7), bulk("1")),
    ];
    passes(&history);
    finds(&[&history[..1], &history[2..]].concat());
}

#[test]
fn versions_are_learned() {
    let version = |times, version| call("CERTUS VERSION k", times, version);
    let swap = |times, expected: u64, reply| {
        call(&format!("CERTUS CAS k {expected} x"), times, int(reply))
    };
    let set = |times| call("SET k 1", times, OK);
    passes(&[version((0, 1), Value::Null), set((2, 3)), version((4, 5), int(7))]);
    finds(&[set((2, 3)), version((4, 5), Value::Null)]);
    finds(&[version((0, 1), int(1)), set((2, 3))]);
    // Known versions only go up, and stay while nothing is written.
    finds(&[set((0, 1)), version((2, 3), int(7)), version((4, 5), int(8))]);
    passes(&[set((0, 1)), version((2, 3), int(7)), set((4, 5)), version((6, 7), int(8))]);
    finds(&[set((0, 1)), version((2, 3), int(7)), set((4, 5)), version((6, 7), int(6))]);
    // A swap agrees with what is known.
    let known = [set((0, 1)), version((2, 3), int(7))];
    passes(&[&known[..], &[swap((4, 5), 7, 1)]].concat());
    passes(&[&known[..], &[swap((4, 5), 6, 0)]].concat());
    finds(&[&known[..], &[swap((4, 5), 6, 1)]].concat());
    finds(&[&known[..], &[swap((4, 5), 7, 0)]].concat());
    passes(&[swap((0, 1), 0, 1), call("GET k", (2, 3), bulk("x"))]);
    finds(&[swap((0, 1), 0, 0)]);
    finds(&[swap((0, 1), 0, 1), swap((2, 3), 0, 1)]);
}

#[test]
fn a_window_begins_where_the_log_says() {
    // Too many at once for one window, then a quiet moment, then a read of what they left.
    let crowd: u64 = u64::try_from(WINDOW_OPERATIONS_MAX).unwrap() + 1;
    let mut history: Vec<Operation> =
        (1..=crowd).map(|count| told("INCR n", (0, 10), int(1), count)).collect();
    let text: Vec<String> = (1..=crowd).map(|count| count.to_string()).collect();
    let batches: Vec<ChosenBatch> =
        text.iter().map(|count| batch(&[], &[("n", Some(count.as_str()))])).collect();
    let chosen = log(batches);
    assert_eq!(check_windows(&history, &chosen), Ok(0), "the crowd is not judged");
    history.push(told("GET n", (11, 12), bulk(&crowd.to_string()), crowd));
    assert_eq!(check_windows(&history, &chosen), Ok(1));
    *history.last_mut().unwrap() = told("GET n", (11, 12), bulk("1"), crowd);
    assert_eq!(check_windows(&history, &chosen).unwrap_err().invariant, "linearizable");
    // A state cannot be had of entries that were never chosen.
    history.truncate(history.len() - 1);
    history.push(told("GET n", (11, 12), bulk("1"), crowd + 1));
    history.push(told("GET n", (14, 15), bulk("1"), crowd + 1));
    assert!(check_windows(&history, &chosen).is_err());
}

#[test]
fn an_id_that_the_log_has_before_the_window_is_not_applied_in_it() {
    let mut history = vec![once("a", unknown("INCR n", 0))];
    history.extend((0..24).map(|number| told("GET n", (10, 20 + number), bulk("1"), 1)));
    history.push(told("GET n", (50, 51), bulk("2"), 1));
    let noted = log(vec![batch(&[("a", int(1))], &[("n", Some("1"))])]);
    let plain = log(vec![batch(&[], &[("n", Some("1"))])]);
    assert!(check_windows(&history, &noted).is_err());
    // Without its id nobody knows: it may still be on its way.
    assert_eq!(check_windows(&history, &plain), Ok(1));
}

#[test]
fn quiet_stretches_are_joined_while_there_is_room() {
    let incr = |time, count: i64, entry| told("INCR n", (time, time + 1), int(count), entry);
    // The log says nothing of the kind: only a window that spans all of it can judge it.
    let none = log(vec![ChosenBatch::default(); 30]);
    let joined = [incr(0, 1, 1), incr(10, 2, 2), incr(20, 3, 3)];
    assert_eq!(check_windows(&joined, &none), Ok(1));
    let history: Vec<Operation> = (0..30).map(|number| incr(number * 10, 1, number + 1)).collect();
    assert!(check_windows(&history, &none).is_err());
}

#[test]
fn what_the_model_does_not_know_is_refused() {
    let violation = judge(&[call("LPUSH k 1", (0, 1), int(1))]).unwrap_err();
    assert_eq!(violation.invariant, "history");
}
