//! What the main judge must find, each beside its nearest legal history.

use net::resp::value::Value;

use crate::history::sample::{ENTITY, batch, bulk, log, once, own_batch, refused, told, unknown};
use crate::history::versions::{Checked, check};
use crate::history::{ChosenBatch, Operation, Violation};

const OK: Value = Value::OK;

fn int(number: i64) -> Value {
    Value::Integer(number)
}

fn judge(history: &[Operation], batches: &[ChosenBatch]) -> Result<Checked, Violation> {
    check(history, &log(batches.to_vec()))
}

fn passes(history: &[Operation], batches: &[ChosenBatch]) -> Checked {
    judge(history, batches).unwrap_or_else(|violation| panic!("{violation}"))
}

/// Whether `invariant` is found to be broken, in words that say `what`.
fn finds(history: &[Operation], batches: &[ChosenBatch], invariant: &str, what: &str) {
    match judge(history, batches) {
        Ok(checked) => panic!("nothing was found: {checked:?}"),
        Err(violation) => {
            assert_eq!(violation.invariant, invariant, "{violation}");
            assert!(violation.what.contains(what), "{violation}");
        }
    }
}

/// A batch of one write with an id.
fn noted(id: &str, reply: Value, key: &str, value: &str) -> ChosenBatch {
    batch(&[(id, reply)], &[(key, Some(value))])
}

/// A batch of writes without ids that leave one value.
fn plain(key: &str, value: &str) -> ChosenBatch {
    batch(&[], &[(key, Some(value))])
}

#[test]
fn a_stale_read_is_found() {
    let set = |value: &str, times, entry| told(&format!("SET k {value}"), times, OK, entry);
    let batches = [plain("k", "1"), plain("k", "2")];
    let writes = [set("1", (0, 1), 1), set("2", (2, 3), 2)];
    let with = |read: Operation| [&writes[..], &[read]].concat();
    let checked = passes(&with(told("GET k", (4, 5), bulk("2"), 2)), &batches);
    assert_eq!((checked.reads, checked.writes, checked.real_time_pairs), (1, 2, 2));
    // Called before the second write was answered, it may see the first.
    passes(&with(told("GET k", (3, 5), bulk("1"), 1)), &batches);
    finds(&with(told("GET k", (4, 5), bulk("1"), 1)), &batches, "linearizable", "comes after");
    finds(&with(told("GET k", (4, 5), bulk("1"), 2)), &batches, "linearizable", "it is Bulk");
}

#[test]
fn reads_of_one_batch_may_see_it_half_done_only_before_it_is_known() {
    let batches = [batch(&[("a", int(1)), ("b", int(2))], &[("n", Some("2"))])];
    let writes = [
        once("a", told("INCR n", (0, 5), int(1), 1)),
        once("b", told("INCR n", (0, 5), int(2), 1)),
    ];
    let with = |read: Operation| [&writes[..], &[read]].concat();
    for seen in [Value::Null, bulk("1"), bulk("2")] {
        passes(&with(told("GET n", (1, 9), seen, 1)), &batches);
    }
    let three = with(told("GET n", (1, 9), bulk("3"), 1));
    finds(&three, &batches, "linearizable", "no state of entry 1");
    let late = with(told("GET n", (6, 9), bulk("1"), 1));
    finds(&late, &batches, "linearizable", "after entry 1 it is");
    // What one read knew, a later one must know.
    let two = |called_at| {
        let reads =
            [told("GET n", (1, 3), bulk("2"), 1), told("GET n", (called_at, 9), bulk("1"), 1)];
        [&writes[..], &reads].concat()
    };
    passes(&two(3), &batches);
    finds(&two(4), &batches, "linearizable", "after entry 1 it is");
}

#[test]
fn a_read_from_the_future_is_found() {
    let history = [told("SET k 1", (5, 6), OK, 1), told("GET k", (0, 1), bulk("1"), 1)];
    finds(&history, &[plain("k", "1")], "linearizable", "known before the call: client 1's SET");
    let history = [once("a", history[0].clone()), history[1].clone()];
    finds(&history, &[noted("a", OK, "k", "1")], "linearizable", "known at 1, and carries");
    finds(&[told("GET k", (0, 1), Value::Null, 1)], &[], "linearizable", "up to 0");
}

#[test]
fn what_was_never_written_is_absent() {
    let read = |reply| [told("GET k", (0, 1), reply, 0)];
    assert_eq!(passes(&read(Value::Null), &[]).reads, 1);
    finds(&read(bulk("1")), &[], "linearizable", "after entry 0 it is Null");
    // A write that changes nothing may stand there, too.
    passes(&[told("DEL k", (0, 1), int(0), 0)], &[]);
    finds(&[told("DEL k", (0, 1), int(1), 0)], &[], "linearizable", "");
    finds(&[told("SET k 1", (0, 1), OK, 0)], &[], "linearizable", "");
}

#[test]
fn a_lost_write_is_found() {
    let first = once("a", told("SET k 1", (0, 1), OK, 1));
    let second = told("SET k 2", (2, 3), OK, 2);
    let batches = [noted("a", OK, "k", "1"), noted("b", OK, "k", "2")];
    passes(&[first.clone(), once("b", second.clone())], &batches);
    let lost = [noted("a", OK, "k", "1"), ChosenBatch::default()];
    let history = [first.clone(), once("b", second.clone())];
    finds(&history, &lost, "linearizable", "no entry carries the id");
    passes(&[first.clone(), second.clone()], &[batches[0].clone(), plain("k", "2")]);
    finds(&[first, second], &lost, "linearizable", "entry 2 has no place for client 1's SET");
}

#[test]
fn a_lost_update_is_found() {
    let history = [
        once("a", told("INCR n", (0, 5), int(1), 1)),
        once("b", told("INCR n", (0, 5), int(1), 2)),
    ];
    let batches = [noted("a", int(1), "n", "1"), noted("b", int(1), "n", "1")];
    finds(&history, &batches, "linearizable", "answers Integer(1), not Integer(2)");
    let history: Vec<Operation> =
        history.into_iter().map(|incr| Operation { request_id: None, ..incr }).collect();
    finds(&history, &[plain("n", "1"), plain("n", "1")], "linearizable", "entry 2");
}

#[test]
fn an_id_in_two_entries_is_found() {
    let history = [once("a", told("INCR n", (0, 9), int(1), 2))];
    let once_only = noted("a", int(1), "n", "1");
    assert_eq!(passes(&history, &[once_only.clone(), ChosenBatch::default()]).duplicates, 1);
    let again = noted("a", int(2), "n", "2");
    finds(&history, &[once_only.clone(), again.clone()], "exactly-once", "entry 2");
    let mut chosen = log(vec![once_only]);
    chosen.insert(plog::vocabulary::EntityId(8), vec![again]);
    assert_eq!(check(&history, &chosen).unwrap_err().invariant, "exactly-once");
}

#[test]
fn a_write_applied_twice_is_found() {
    let history = [once("a", told("INCR n", (0, 1), int(1), 1))];
    let first = noted("a", int(1), "n", "1");
    finds(
        &history,
        &[first, plain("n", "2")],
        "exactly-once",
        "took effect twice explains entry 2",
    );
    finds(&history, &[noted("a", int(1), "n", "2")], "exactly-once", "explains entry 1");
    let history = [told("APPEND k x;", (0, 1), int(2), 1)];
    finds(&history, &[plain("k", "x;"), plain("k", "x;x;")], "exactly-once", "entry 2");
    // The same of unknown fate: it may take effect once, and late.
    let set = told("SET n 5", (2, 3), OK, 1);
    let history = [unknown("INCR n", 0), set.clone()];
    let checked = passes(&history, &[plain("n", "5"), plain("n", "6")]);
    assert_eq!(checked.unknown_applied, 1);
    let batches = [plain("n", "5"), plain("n", "6"), plain("n", "7")];
    finds(&history, &batches, "exactly-once", "entries 2, 3");
    let history = [unknown("INCR n", 0), set, unknown("INCR n", 4)];
    assert_eq!(passes(&history, &batches).unknown_applied, 2);
}

#[test]
fn a_token_appended_twice_is_found_in_the_final_value() {
    let append = |token: &str, entry| told(&format!("APPEND k {token}"), (0, 9), int(4), entry);
    let history = [told("SET k a;", (0, 9), OK, 1), append("b;", 2)];
    assert_eq!(passes(&history, &[plain("k", "a;"), plain("k", "a;b;")]).tokens, 2);
    // Alone, without the replay: two were asked for, three are there.
    let state = |value: &str| {
        let mut state = crate::history::model::State::default();
        let effects = [(b"k".to_vec(), Some(value.as_bytes().to_vec()))];
        state.apply_effects(&effects, 1).unwrap();
        state
    };
    let history = [append("a;", 1), append("a;", 1), append("b;", 1)];
    let places = std::collections::BTreeMap::new();
    let subjects: Vec<_> =
        history.iter().map(|append| super::Subject::new(append, &places).unwrap()).collect();
    assert_eq!(super::tokens::check_tokens(&subjects, &state("a;b;a;")), Ok(3));
    for wrong in ["a;a;b;a;", "b;b;", "c;"] {
        let violation = super::tokens::check_tokens(&subjects, &state(wrong)).unwrap_err();
        assert_eq!(violation.invariant, "exactly-once", "{wrong}");
    }
    // Values that are not made of such tokens are left alone.
    assert_eq!(super::tokens::check_tokens(&subjects, &state("aa")), Ok(0));
}

#[test]
fn what_nobody_asked_for_is_found() {
    let history = [told("SET k 1", (0, 1), OK, 1)];
    passes(&history, &[plain("k", "1")]);
    finds(&history, &[plain("k", "2")], "validity", "2, as the value of k: it was never asked for");
    finds(&history, &[plain("q", "1")], "validity", "as the value of q");
    let batches = [plain("k", "1"), batch(&[], &[("k", None)])];
    finds(&history, &batches, "validity", "deletion of k");
    finds(&history, &[noted("x", OK, "k", "1")], "validity", "which is nobody's");
    let mut chosen = log(vec![noted("a", OK, "k", "1")]);
    let history_of_other = [once("a", unknown("SET k 1", 0))];
    assert!(check(&history_of_other, &chosen).is_ok());
    let batches = chosen.remove(&ENTITY).unwrap();
    chosen.insert(plog::vocabulary::EntityId(8), batches);
    assert_eq!(check(&history_of_other, &chosen).unwrap_err().invariant, "validity");
    // Asked for, but not yet.
    let read = told("GET k", (0, 5), bulk("1"), 1);
    let history = [told("SET k 1", (6, 7), OK, 2), read, unknown("SET k 2", 6)];
    finds(&history, &[plain("k", "1"), plain("k", "1")], "validity", "only by");
}

#[test]
fn what_was_refused_leaves_nothing() {
    let batches = [noted("a", OK, "k", "1")];
    let other = once("a", told("SET k 1", (0, 1), OK, 1));
    let with = |operation: Operation| [other.clone(), operation];
    assert_eq!(passes(&with(once("b", refused("SET k 2", (0, 1)))), &batches).refused, 1);
    let by_id = [batches[0].clone(), noted("b", OK, "k", "2")];
    let history = with(once("b", refused("SET k 2", (0, 1))));
    finds(&history, &by_id, "validity", "refused at 1");
    let by_value = [batches[0].clone(), plain("k", "2")];
    finds(&with(refused("SET k 2", (0, 1))), &by_value, "validity", "refused at 1");
    passes(&with(unknown("SET k 2", 0)), &by_value);
    // Hidden behind something that was asked for.
    let hidden = [batches[0].clone(), plain("k", "1x;y;")];
    let append = told("APPEND k y;", (0, 9), int(5), 2);
    let history = [other.clone(), append.clone(), refused("APPEND k x;", (0, 1))];
    finds(&history, &hidden, "validity", "only a command that was refused");
    passes(&[other, append, unknown("APPEND k x;", 0)], &hidden);
}

#[test]
fn a_copy_that_is_told_something_else_is_found() {
    let other = once("b", told("SET k 2", (2, 3), OK, 2));
    let batches = [noted("a", Value::Null, "k", "1"), noted("b", OK, "k", "2")];
    let copy = |reply| [once("a", told("GETSET k 1", (0, 9), reply, 2)), other.clone()];
    assert_eq!(passes(&copy(Value::Null), &batches).duplicates, 1);
    finds(&copy(bulk("2")), &batches, "exactly-once", "entry 1 says");
    // Recorded wrong is wrong for everybody.
    let batches = [noted("a", bulk("0"), "k", "1"), batches[1].clone()];
    finds(&copy(bulk("0")), &batches, "linearizable", "not Null");
}

#[test]
fn real_time_order_is_kept() {
    let set = |id: &str, value: &str, times, entry| {
        once(id, told(&format!("SET k {value}"), times, OK, entry))
    };
    let batches = [noted("a", OK, "k", "1"), noted("b", OK, "k", "2")];
    passes(&[set("a", "1", (0, 5), 1), set("b", "2", (2, 3), 2)], &batches);
    let history = [set("a", "1", (4, 5), 1), set("b", "2", (2, 3), 2)];
    finds(&history, &batches, "linearizable", "comes after");
    // The same behind the later entry of a copy.
    let history = [set("a", "1", (4, 5), 2), set("b", "2", (2, 3), 2)];
    finds(&history, &batches, "linearizable", "was known at 3, and carries the later");
    // Both in one batch: then neither was answered before the other was called.
    let both = [batch(&[("a", OK), ("b", OK)], &[("k", Some("2"))])];
    passes(&[set("a", "1", (0, 5), 1), set("b", "2", (5, 6), 1)], &both);
    let history = [set("a", "1", (0, 5), 1), set("b", "2", (6, 7), 1)];
    finds(&history, &both, "linearizable", "was known at 5");
    let history: Vec<Operation> =
        history.into_iter().map(|set| Operation { request_id: None, ..set }).collect();
    finds(&history, &[plain("k", "2")], "linearizable", "was known before the call");
}

#[test]
fn a_reply_that_names_the_wrong_entry_is_found() {
    let batches = [noted("a", OK, "k", "1"), noted("b", OK, "k", "2")];
    let history =
        [once("a", told("SET k 1", (0, 9), OK, 1)), once("b", told("SET k 2", (0, 9), OK, 1))];
    finds(&history, &batches, "linearizable", "entry 2 carries the id");
    let history = [told("SET k 1", (0, 9), OK, 2), told("SET k 2", (0, 9), OK, 1)];
    // Either was applied in the other's entry, or twice: there is no telling.
    finds(&history, &[plain("k", "1"), plain("k", "2")], "exactly-once", "entry 1");
}

#[test]
fn a_torn_write_of_several_keys_is_found() {
    let set = told("MSET a 1 b 2", (0, 1), OK, 1);
    let whole = batch(&[], &[("a", Some("1")), ("b", Some("2"))]);
    passes(std::slice::from_ref(&set), std::slice::from_ref(&whole));
    let torn = [plain("a", "1")];
    finds(std::slice::from_ref(&set), &torn, "linearizable", "entry 1");
    finds(&[once("x", set.clone())], &[noted("x", OK, "a", "1")], "linearizable", "entry 1");
    let halves = [plain("a", "1"), plain("b", "2")];
    finds(std::slice::from_ref(&set), &halves, "linearizable", "entry 1");
    // Seen half done.
    let read = |seen| [set.clone(), told("MGET a b", (0, 1), Value::Array(seen), 1)];
    passes(&read(vec![Value::Null, Value::Null]), std::slice::from_ref(&whole));
    let seen = vec![bulk("1"), Value::Null];
    finds(&read(seen), &[whole], "linearizable", "no state of entry 1");
}

#[test]
fn effects_that_do_not_fit_are_found() {
    let history = [told("DEL k", (0, 9), int(1), 1)];
    finds(&history, &[batch(&[], &[("k", None)])], "order", "not there");
    // What comes and goes in one batch leaves nothing.
    let history = [told("SET k 1", (0, 9), OK, 1), told("DEL k", (0, 9), int(1), 1)];
    passes(&history, &[ChosenBatch::default()]);
    finds(&history, &[plain("k", "1")], "linearizable", "entry 1");
    finds(&history[1..], &[ChosenBatch::default()], "linearizable", "entry 1");
}

#[test]
fn versions_are_entries() {
    let set = told("SET k 1", (0, 9), OK, 2);
    let batches = [ChosenBatch::default(), plain("k", "1")];
    let version = |version, entry| [set.clone(), told("CERTUS VERSION k", (0, 9), version, entry)];
    passes(&version(int(2), 2), &batches);
    passes(&version(Value::Null, 1), &batches);
    finds(&version(int(1), 2), &batches, "linearizable", "no state of entry 2");
    let swap = |expected: u64, reply| {
        let swap = format!("CERTUS CAS k {expected} x");
        [set.clone(), told(&swap, (0, 9), int(reply), 3)]
    };
    let swapped = [batches[0].clone(), batches[1].clone(), plain("k", "x")];
    passes(&swap(2, 1), &swapped);
    finds(&swap(1, 1), &swapped, "linearizable", "entry 3");
}

#[test]
fn forwarded_commands_are_found_under_the_ids_that_replicas_made_up() {
    let get_set = |entry| told("GETSET k 2", (2, 9), bulk("1"), entry);
    let set = told("SET k 1", (0, 1), OK, 1);
    let first = plain("k", "1");
    let forwarded = own_batch(1, &bulk("1"), &[("k", Some("2"))]);
    passes(&[set.clone(), get_set(2)], &[first.clone(), forwarded.clone()]);
    // A copy answered from memory names a later entry.
    let batches = [first.clone(), forwarded.clone(), ChosenBatch::default()];
    passes(&[set.clone(), get_set(3)], &batches);
    finds(&[set.clone(), get_set(1)], &batches, "linearizable", "entry 1");
    // Not called yet when its entry was known.
    let read = told("GET k", (0, 1), bulk("2"), 2);
    finds(&[set.clone(), get_set(3), read], &batches, "validity", "only by");
    // Its client never heard of it, or was told something else.
    passes(&[set.clone(), unknown("GETSET k 2", 2)], &batches);
    let other = told("GETSET k 2", (2, 9), Value::Null, 2);
    finds(&[set.clone(), other], &batches, "linearizable", "entry 2");
    finds(std::slice::from_ref(&set), &batches, "validity", "never asked for");
    // One command is not two requests.
    let twice = own_batch(2, &bulk("2"), &[("k", Some("2"))]);
    let batches = [first, forwarded, twice];
    finds(&[set.clone(), unknown("GETSET k 2", 2)], &batches, "exactly-once", "entries 2, 3");
    passes(&[set, unknown("GETSET k 2", 2), unknown("GETSET k 2", 3)], &batches);
}

#[test]
fn one_command_is_one_request_and_every_answered_one_has_a_place() {
    // Two requests of one batch.
    let two = own_batch(1, &OK, &[("k", Some("1"))]);
    let requests = [&two.requests[..], &[(vec![0xFF, 2], OK.to_resp3())]].concat();
    let two = [ChosenBatch { requests, ..two }];
    passes(&[unknown("SET k 1", 0), unknown("SET k 1", 0)], &two);
    finds(&[unknown("SET k 1", 0)], &two, "exactly-once", "entry 1");
    // Two commands that both name a later entry, and one request for them.
    let get_set = told("GETSET k 2", (2, 9), bulk("1"), 3);
    let request = own_batch(1, &bulk("1"), &[("k", Some("2"))]);
    let batches = [plain("k", "1"), request, ChosenBatch::default()];
    let set = told("SET k 1", (0, 1), OK, 1);
    passes(&[set.clone(), get_set.clone()], &batches);
    let history = [set, get_set.clone(), get_set];
    finds(&history, &batches, "exactly-once", "entries 2, 3");
    // One that could be in the batch without an id was taken for the request of one that cannot.
    let set = |entry| told("SET k 1", (0, 9), OK, entry);
    let request = own_batch(1, &OK, &[("k", Some("1"))]);
    let batches = [request, ChosenBatch::default()];
    assert_eq!(passes(&[set(1), set(2)], &batches).reallotted, 1);
    finds(&[set(1), set(2), set(2)], &batches, "exactly-once", "entries 1, 2");
    // Nor can one of unknown fate be in a batch more often than it was called.
    let effect = [plain("n", "2")];
    passes(&[unknown("INCR n", 0), unknown("INCR n", 0)], &effect);
    finds(&[unknown("INCR n", 0)], &effect, "exactly-once", "entry 1");
}

#[test]
fn a_request_that_changed_nothing_is_somebodys() {
    let set = told("SET k 1", (0, 1), OK, 1);
    let batches = [plain("k", "1"), own_batch(1, &int(0), &[])];
    passes(&[set.clone(), told("SETNX k 2", (2, 3), int(0), 2)], &batches);
    passes(&[set.clone(), unknown("SETNX k 2", 2)], &batches);
    passes(&[set.clone(), told("SETNX k 2", (2, 9), int(0), 2), unknown("DEL q", 2)], &batches);
    finds(&[set.clone(), unknown("SETNX q 2", 2)], &batches, "linearizable", "entry 2");
    finds(&[set.clone(), refused("SETNX k 2", (2, 3))], &batches, "validity", "refused");
    // One that was called when the entry was known sees it, but is not in it.
    let read = told("GET k", (2, 3), bulk("1"), 2);
    let late = told("SETNX k 2", (4, 5), int(0), 2);
    passes(&[set.clone(), read.clone(), late.clone(), unknown("SETNX k 2", 3)], &batches);
    finds(&[set, read, late], &batches, "linearizable", "entry 2");
}

#[test]
fn operations_of_unknown_fate_are_allotted_anew_when_a_later_batch_needs_them() {
    // Either explains entry 1, only one of them entry 2.
    let history = [unknown("SET n 1", 0), unknown("INCR n", 0)];
    let checked = passes(&history, &[plain("n", "1"), plain("n", "2")]);
    assert_eq!((checked.unknown_applied, checked.reallotted), (2, 1));
    let history = [unknown("INCR n", 0), unknown("SETNX n 1", 0), unknown("SET n 1", 3)];
    let read = told("GET n", (0, 2), bulk("1"), 1);
    let mut all = history.to_vec();
    all.push(read);
    let batches = [plain("n", "1"), plain("n", "2"), plain("n", "1")];
    assert_eq!(passes(&all, &batches).unknown_applied, 3);
    let batches = [plain("n", "1"), plain("n", "1")];
    let history = [unknown("INCR n", 0), unknown("SET n 1", 5)];
    let mut all = history.to_vec();
    all.push(told("GET n", (0, 2), bulk("1"), 1));
    passes(&all, &batches);
    // Nothing that was called by 3 explains entry 2.
    all.push(told("GET n", (0, 3), bulk("1"), 2));
    finds(&all, &batches, "linearizable", "entry 2");
}

#[test]
fn a_whole_batch_of_unknown_fate_is_explained() {
    // The node that proposed it died with all its clients' replies.
    let history: Vec<Operation> =
        (0..9).map(|number| unknown(&format!("APPEND k {number};"), number)).collect();
    let checked = passes(&history, &[plain("k", "3;1;4;0;5;8;2;6;7;")]);
    assert_eq!((checked.unknown_applied, checked.given_up), (9, 0));
    finds(&history, &[plain("k", "3;1;4;1;")], "exactly-once", "took effect twice");
}

#[test]
fn a_search_without_end_is_given_up_and_counted() {
    let mut history: Vec<Operation> =
        (0..40).map(|number| unknown(&format!("INCRBY n {}", 1_u64 << number), number)).collect();
    let sum = (1_u64 << 40) - 2;
    let checked = passes(&history, &[plain("n", &sum.to_string())]);
    assert_eq!((checked.searched, checked.given_up), (1, 1));
    // What nobody can have asked for is found all the same.
    finds(&history, &[plain("n", "text")], "validity", "never asked for");
    history.push(once("a", told("INCR n", (90, 91), int(1), 1)));
    let batches = [noted("a", int(1), "n", &sum.to_string())];
    assert_eq!(passes(&history, &batches).given_up, 1);
}

#[test]
fn a_batch_as_large_as_they_come_is_searched() {
    let ids: Vec<String> = (1..=1024).map(|number| format!("id-{number}")).collect();
    let requests: Vec<(&str, Value)> =
        ids.iter().zip(1..).map(|(id, count)| (id.as_str(), int(count))).collect();
    let batches = [batch(&requests, &[("n", Some("1024")), ("k", Some("1"))])];
    let mut history: Vec<Operation> = ids
        .iter()
        .zip(1..)
        .map(|(id, count)| once(id, told("INCR n", (0, 9), int(count), 1)))
        .collect();
    history.push(told("SET k 1", (0, 9), OK, 1));
    history.push(told("GET n", (0, 9), bulk("512"), 1));
    let seen = |n: Value, k: Value| told("MGET n k", (0, 9), Value::Array(vec![n, k]), 1);
    history.push(seen(bulk("700"), Value::Null));
    history.push(seen(bulk("900"), bulk("1")));
    let checked = passes(&history, &batches);
    assert_eq!((checked.searched, checked.given_up), (1, 0));
    // The key is set after 700 of them, or before 600, but not both.
    history.push(seen(bulk("600"), bulk("1")));
    finds(&history, &batches, "linearizable", "no order of its commands explains entry 1");
}

#[test]
fn a_full_entity_may_refuse_what_makes_it_larger() {
    let large = "x".repeat(1 << 20);
    let full = Value::error("OOM keys that share a {tag} may hold 4 MiB in all; use another tag");
    let mut history = Vec::new();
    let mut batches = Vec::new();
    for (key, entry) in ["a", "b", "c"].into_iter().zip(1..) {
        history.push(told(&format!("SET {key} {large}"), (0, 9), OK, entry));
        batches.push(plain(key, &large));
    }
    history.push(told(&format!("SET d {large}"), (0, 9), full.clone(), 3));
    passes(&history, &batches);
    // But not halfway, and not while there is room.
    history[3] = told(&format!("MSET d 1 e {large}"), (0, 9), full.clone(), 4);
    finds(&history, &[&batches[..], &[plain("d", "1")]].concat(), "linearizable", "entry 4");
    finds(&[told("SET d 1", (0, 9), full, 0)], &[], "linearizable", "");
}

#[test]
fn a_history_that_contradicts_itself_is_refused() {
    finds(&[told("LPUSH k 1", (0, 1), int(1), 1)], &[], "history", "does not know");
    finds(&[told("SET k 1 EX 5", (0, 1), OK, 1)], &[], "history", "does not know");
    finds(&[told("GET k", (2, 1), Value::Null, 0)], &[], "history", "before it was called");
    let twice = [once("a", unknown("SET k 1", 0)), once("a", unknown("SET k 2", 0))];
    finds(&twice, &[], "history", "have one id");
}

#[test]
fn final_states_are_handed_back() {
    let history = [told("SET k 1", (0, 1), OK, 1), told("INCR k", (2, 3), int(2), 3)];
    let batches = [plain("k", "1"), ChosenBatch::default(), plain("k", "2")];
    let checked = passes(&history, &batches);
    let record = &checked.states[&ENTITY].keys[b"k".as_slice()];
    assert_eq!((&*record.value, record.version), (&b"2"[..], 3));
}
