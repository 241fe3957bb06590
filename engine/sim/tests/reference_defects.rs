//! The safety defects reproduced in the systems Certus learns from, as schedules.
//!
//! In each, every acknowledgement and every applied value is compared over all replicas after every
//! event: the world's checker panics when two replicas apply different values to one entry.
//! `scripts/protecting-lines` shows that each schedule fails without the line that protects from
//! it.

use engine::config::ShardConfig;
use net::peer::message::PeerMessage;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

fn patient(config: &mut ShardConfig) {
    // No timer interferes with the schedule.
    config.retry_us = 60_000_000;
    config.request_timeout_us = 600_000_000;
    config.sweep_every_us = 600_000_000;
    config.duel_lease_us = 0;
}

fn answered(world: &World, ticket: u64) -> bool {
    world.reply(ticket).is_some()
}

/// Certain (2020): a slot that was stored, then dropped from memory, was taken for empty without a
/// look at the disk. A late accept request then got a second value chosen.
#[test]
fn an_evicted_acceptor_remembers_what_it_accepted() {
    let mut world = World::new(11, &[1, 1, 1], Faults::NONE, |config| {
        patient(config);
        config.entities_in_memory_max = 2;
    });
    world.run_for(50_000);
    // Node 0 originates entry 1, and so is pre-authorised for entry 2.
    let first = world.submit(0, &["APPEND", "k", "1"]);
    assert_eq!(world.answer(first, 1_000_000), Value::Integer(1));
    world.run_for(1_000_000);
    // Its accept requests for entry 2 are on their way for long.
    world.hold(|from, _, message| from.node == 0 && matches!(message, PeerMessage::Entry(_)));
    let late = world.submit(0, &["APPEND", "k", "late"]);
    world.run_for(100_000);
    assert_eq!(world.held_count(), 2);
    // Nodes 1 and 2 choose another value for entry 2, and the client of node 1 is told.
    let won = world.submit(1, &["APPEND", "k", "2"]);
    assert_eq!(world.answer(won, 1_000_000), Value::Integer(2));
    world.run_for(1_000_000);
    // Node 2 forgets the entity, for want of memory.
    let entity = entity_of(b"k");
    let core = CoreId { node: 2, core: 0 };
    for number in 0..50 {
        let other = world.submit(2, &["GET", &format!("other{number}")]);
        world.answer(other, 1_000_000);
        world.run_for(300_000);
    }
    assert!(world.shard(core).applied(entity).is_none(), "node 2 still has the entity in memory");
    // Now the late requests arrive.
    assert!(world.release_held() >= 2);
    assert_eq!(world.answer(late, 10_000_000), Value::Integer(6), "it went into a later entry");
    world.run_for(1_000_000);
    for node in 0..3 {
        let get = world.submit(node, &["GET", "k"]);
        assert_eq!(world.answer(get, 1_000_000), Value::bulk(b"12late".to_vec()));
    }
}

/// Certain (2020), five replicas: "my accepted ballot is my own" let two nodes skip the prepare of
/// the same entry, when a value had been rescued and so chosen at two ballots.
#[test]
fn a_rescued_value_pre_authorises_its_originator_alone() {
    let mut world = World::new(12, &[1, 1, 1, 1, 1], Faults::NONE, patient);
    world.run_for(50_000);
    // Node 0 gets its value accepted by 2 and 4, a majority with itself, but hears nothing back.
    world.hold(|from, to, _| to.node == 0 || from.node == 0 && (to.node == 1 || to.node == 3));
    let rescued = world.submit(0, &["APPEND", "k", "v"]);
    world.run_for(100_000);
    assert!(!answered(&world, rescued));
    // Its prepare went to 2 and 4; let their promises in, and its accept requests out to them.
    let promises = world.release_matching(|_, to, _| to.node == 0);
    assert!(promises >= 2, "{promises}");
    world.hold(|from, to, _| to.node == 0 || from.node == 0 && (to.node == 1 || to.node == 3));
    world.run_for(100_000);
    assert!(!answered(&world, rescued), "its acceptances are held back");
    // Node 1 rescues the value with 2 and 3.
    world.hold(|from, to, _| {
        to.node == 0
            || from.node == 0 && (to.node == 1 || to.node == 3)
            || to.node == 4
            || from.node == 4
    });
    let not_set = world.submit(1, &["SETNX", "k", "w"]);
    assert_eq!(world.answer(not_set, 1_000_000), Value::Integer(0));
    let rescuer = CoreId { node: 1, core: 0 };
    assert_eq!(world.shard(rescuer).status().counters.rescues, 1);
    let applied = world.shard(rescuer).applied(entity_of(b"k"));
    assert_eq!(applied.map(|(entry, _)| entry.0), Some(1), "the rescued value is chosen");
    // Node 0 now hears its acceptances: the value is chosen at its ballot, too.
    world.release_matching(|from, to, _| to.node == 0 && (from.node == 2 || from.node == 4));
    world.hold(|from, to, _| {
        // Each of 0 and 1 reaches a majority of its own, with node 2 in both.
        matches!((from.node, to.node), (0, 1) | (1, 0) | (0, 3) | (3, 0) | (1, 4) | (4, 1))
    });
    world.run_for(100_000);
    let by_originator = world.submit(0, &["APPEND", "k", "A"]);
    let by_rescuer = world.submit(1, &["APPEND", "k", "B"]);
    world.run_for(1_000_000);
    world.release_held();
    world.run_for(120_000_000);
    let lengths = [by_originator, by_rescuer].map(|ticket| world.answer(ticket, 1_000_000));
    assert!(
        lengths == [Value::Integer(2), Value::Integer(3)]
            || lengths == [Value::Integer(3), Value::Integer(2)],
        "{lengths:?}"
    );
}

/// PhxPaxos: an acceptor inferred from a proposer's request for the next entry that the value it
/// had accepted from that proposer had won, although another value was chosen.
#[test]
fn a_request_for_the_next_entry_says_nothing_of_the_value_accepted_before() {
    let mut world = World::new(13, &[1, 1, 1, 1, 1], Faults::NONE, patient);
    world.run_for(50_000);
    let first = world.submit(0, &["APPEND", "k", "1"]);
    world.answer(first, 1_000_000);
    world.run_for(1_000_000);
    // Node 0's accept request for entry 2 reaches node 4 alone.
    world.hold(|from, to, _| {
        from.node == 0 && to.node != 4 || to.node == 4 && from.node != 0 || from.node == 4
    });
    let lost = world.submit(0, &["APPEND", "k", "x"]);
    world.run_for(100_000);
    // Node 1 gets another value chosen there, with 2 and 3; node 4 hears nothing of it.
    let won = world.submit(1, &["APPEND", "k", "2"]);
    assert_eq!(world.answer(won, 1_000_000), Value::Integer(2));
    world.run_for(100_000);
    // Node 0 learns that, tries again at entry 3, and node 4 sees that request.
    world.release_matching(|from, to, _| from.node == 0 && to.node != 4);
    world.hold(|from, to, _| to.node == 4 && from.node != 0 || from.node == 4);
    assert_eq!(world.answer(lost, 100_000_000), Value::Integer(3));
    world.run_for(100_000);
    // Then the notice for entry 2, and at last the rest.
    let notices = world.release_matching(|_, to, message| {
        to.node == 4 && matches!(message, PeerMessage::Chosen(_))
    });
    assert!(notices > 0);
    world.run_for(100_000);
    world.release_held();
    world.run_for(120_000_000);
    for node in 0..5 {
        let get = world.submit(node, &["GET", "k"]);
        assert_eq!(world.answer(get, 100_000_000), Value::bulk(b"12x".to_vec()), "node {node}");
    }
}
