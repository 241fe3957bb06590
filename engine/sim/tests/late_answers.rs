//! Schedules in which something late must not matter: answers to an earlier boot, and slow copies
//! of commands that were answered already.

use engine::config::ShardConfig;
use net::peer::message::PeerMessage;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::World;

fn plain(_: &mut ShardConfig) {}

#[test]
fn an_answer_to_an_earlier_boots_read_check_does_not_count() {
    let mut w = World::new(1, &[1, 1, 1], Faults::NONE, plain);
    w.run_for(50_000);
    w.hold(|_, to, m| to.node == 0 && matches!(m, PeerMessage::ReadAnswer(_)));
    let g = w.submit(0, &["GET", "k"]);
    w.run_for(10_000);
    assert!(w.reply(g).is_none());
    assert!(w.held_count() == 1);
    w.crash(0);
    w.start(0);
    w.run_for(50_000);
    for p in [1, 2] {
        w.cut(0, p);
        w.cut(p, 0);
    }
    let s = w.submit(1, &["SET", "k", "new"]);
    assert_eq!(w.answer(s, 5_000_000), Value::simple("OK"));
    w.run_for(1_000);
    let g = w.submit(0, &["GET", "k"]);
    w.run_for(1_000);
    w.heal();
    assert!(w.reply(g).is_none());
    w.release_held();
    let v = w.answer(g, 5_000_000);
    assert_eq!(v, Value::bulk(b"new".to_vec()), "STALE READ");
}

#[test]
fn an_answer_to_an_earlier_boots_forward_answers_nobody() {
    let mut w = World::new(1, &[1, 1, 1], Faults::NONE, plain);
    w.run_for(50_000);
    let s = w.submit(1, &["INCR", "k"]);
    w.answer(s, 1_000_000);
    let s = w.submit(1, &["INCR", "k"]);
    w.answer(s, 1_000_000);
    w.hold(|_, to, m| to.node == 0 && matches!(m, PeerMessage::ForwardAnswer(_)));
    w.run_for(1000);
    let f = w.submit(0, &["INCR", "k"]);
    w.run_for(10_000);
    assert!(w.reply(f).is_none());
    assert_eq!(w.held_count(), 1);
    w.crash(0);
    w.start(0);
    w.run_for(50_000);
    let s = w.submit(1, &["INCR", "k"]);
    w.answer(s, 1_000_000);
    w.run_for(1000);
    w.cut(0, 1);
    w.cut(0, 2);
    let f = w.submit(0, &["SET", "k", "mine"]);
    w.run_for(500);
    w.release_held();
    w.run_for(5_000);
    let r = w.reply(f).map(|(at, value)| (at, value.clone()));
    assert!(r.is_none(), "WRONG REPLY to a SET that nobody saw: {r:?}");
}

#[test]
fn a_slow_forwarded_copy_does_not_act_after_the_answer() {
    let mut w = World::new(1, &[1, 1, 1], Faults::NONE, plain);
    w.run_for(50_000);
    for c in [&["SET", "k", "1"][..], &["DEL", "k"]] {
        let s = w.submit(1, c);
        w.answer(s, 1_000_000);
    }
    w.run_for(500);
    w.hold(|from, to, m| from.node == 0 && to.node == 1 && matches!(m, PeerMessage::Forward(_)));
    // In one batch with a write, so that it is forwarded under the lease.
    let d0 = w.submit(0, &["GET", "k"]);
    let d = w.submit(0, &["DEL", "k"]);
    let s = w.submit(0, &["SET", "{k}b", "1"]);
    let d_reply = w.answer(d, 1_000_000);
    w.answer(s, 1_000_000);
    w.answer(d0, 1_000_000);
    println!("held {} DEL said {d_reply:?}", w.held_count());
    let s = w.submit(2, &["SET", "k", "2"]);
    w.answer(s, 1_000_000);
    w.release_held();
    w.run_for(500_000);
    let g = w.submit(2, &["GET", "k"]);
    let g = w.answer(g, 1_000_000);
    assert_eq!(d_reply, Value::Integer(0));
    assert_eq!(g, Value::bulk(b"2".to_vec()), "the answered DEL acted later");
}

#[test]
fn a_request_id_that_changed_nothing_is_spent_all_the_same() {
    // CERTUS ONCE at node 0 (its accept requests are slow), UNKNOWN; retried at node 1: 0; then
    // it must not act.
    let mut w = World::new(1, &[1, 1, 1], Faults::NONE, |c| c.request_timeout_us = 150_000);
    w.run_for(50_000);
    for c in [&["SET", "k", "1"][..], &["DEL", "k"]] {
        let s = w.submit(1, c);
        w.answer(s, 1_000_000);
    }
    w.run_for(500);
    w.hold(|from, to, m| from.node == 0 && to.node == 1 && matches!(m, PeerMessage::Forward(_)));
    let g = w.submit(0, &["GET", "k"]);
    let d = w.submit_once(0, &["DEL", "k"], "x");
    let s = w.submit(0, &["SET", "{k}b", "1"]);
    let first = w.answer(d, 2_000_000);
    let _ = (g, s);
    let d = w.submit_once(2, &["DEL", "k"], "x");
    let second = w.answer(d, 1_000_000);
    let s = w.submit(2, &["SET", "k", "2"]);
    w.answer(s, 1_000_000);
    let held = w.held_count();
    w.release_held();
    w.run_for(400_000);
    let g = w.submit(2, &["GET", "k"]);
    let g = w.answer(g, 1_000_000);
    println!("held {held} first {first:?} second {second:?} get {g:?}");
    assert_eq!(g, Value::bulk(b"2".to_vec()), "acted after it was answered");
}
