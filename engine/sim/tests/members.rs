//! Nodes join and leave while clients ask: what an operator and a client see of it.

use engine::membership::MembershipRefused;
use net::resp::value::Value;
use plog::configuration::{Change, ChangeRefused};
use plog::vocabulary::AcceptorId;
use sim::world::{CoreId, World, WorldConfig};

const SECOND: u64 = 1_000_000;

/// Five nodes, of which the first three vote.
fn world() -> World {
    let mut world = World::with_config(WorldConfig {
        membership: Some(3),
        configure: |config| {
            config.retry_us = 20_000;
            config.request_timeout_us = SECOND;
            config.sweep_every_us = SECOND / 2;
        },
        ..WorldConfig::calm(7, &[1, 2, 1, 1, 2])
    });
    world.run_for(SECOND / 10);
    world
}

/// Asks a node for a change until it is adopted there.
fn change(world: &mut World, node: u8, change: Change) {
    let before = world.configuration_of(node).version;
    for _ in 0..1000 {
        match world.change_membership(node, change) {
            Ok(wanted) => assert_eq!(wanted.version, before + 1),
            Err(
                MembershipRefused::NotSettled { .. }
                | MembershipRefused::LearnerBehind { .. }
                | MembershipRefused::UnderWay { .. },
            ) => {}
            Err(refused) => panic!("{change:?} at node {node}: {refused}"),
        }
        world.run_for(5_000);
        if world.configuration_of(node).version > before {
            return;
        }
    }
    panic!("{change:?} is not decided");
}

fn make_voter(world: &mut World, node: u8, joins: u8) {
    change(world, node, Change::AddLearner(AcceptorId(joins)));
    change(world, node, Change::Promote(AcceptorId(joins)));
}

fn set(world: &mut World, node: u8, key: &str, value: &str) {
    let ticket = world.submit(node, &["SET", key, value]);
    assert_eq!(world.answer(ticket, SECOND), Value::OK);
}

fn get(world: &mut World, node: u8, key: &str) -> Value {
    let ticket = world.submit(node, &["GET", key]);
    world.answer(ticket, 3 * SECOND)
}

fn is_error(value: &Value, word: &str) -> bool {
    matches!(value, Value::Error(error) if error.word() == word)
}

#[test]
fn a_voter_is_replaced_and_the_others_serve_on() {
    let mut world = world();
    set(&mut world, 0, "before", "1");
    assert!(is_error(&get(&mut world, 3, "before"), "REMOVED"), "it is no member yet");
    make_voter(&mut world, 1, 3);
    change(&mut world, 1, Change::Remove(AcceptorId(0)));
    set(&mut world, 3, "after", "2");
    world.run_for(SECOND);
    assert!(is_error(&get(&mut world, 0, "before"), "REMOVED"), "it heard that it is none");
    // Nodes 1 and 3 are a majority of those that vote now.
    world.crash(2);
    for node in [1, 3] {
        assert_eq!(get(&mut world, node, "before"), Value::bulk(&b"1"[..]));
        assert_eq!(get(&mut world, node, "after"), Value::bulk(&b"2"[..]));
    }
}

#[test]
fn what_two_of_three_chose_survives_them_when_two_others_joined() {
    let mut world = world();
    for other in [0, 1, 3, 4] {
        world.cut(2, other);
        world.cut(other, 2);
    }
    for number in 0..20 {
        set(&mut world, 0, &format!("key-{number}"), "kept");
    }
    world.heal();
    make_voter(&mut world, 0, 3);
    make_voter(&mut world, 0, 4);
    world.crash(0);
    world.crash(1);
    for number in 0..20 {
        let value = get(&mut world, 2 + number % 3, &format!("key-{number}"));
        assert_eq!(value, Value::bulk(&b"kept"[..]), "key-{number}");
    }
}

#[test]
fn a_removed_node_that_did_not_hear_of_it_reads_nothing_stale() {
    let mut world = world();
    set(&mut world, 0, "key", "old");
    for other in 1..5 {
        world.cut(0, other);
        world.cut(other, 0);
    }
    make_voter(&mut world, 1, 3);
    change(&mut world, 1, Change::Remove(AcceptorId(0)));
    set(&mut world, 1, "key", "new");
    assert_eq!(world.configuration_of(0).version, 0);
    assert!(is_error(&get(&mut world, 0, "key"), "CLUSTERDOWN"));
    // Whoever it can ask tells it.
    world.heal();
    for other in [1, 3, 4] {
        world.cut(0, other);
        world.cut(other, 0);
    }
    world.run_for(2 * SECOND);
    assert!(is_error(&get(&mut world, 0, "key"), "REMOVED"));
}

#[test]
fn one_voter_can_be_left_and_become_five_again() {
    let mut world = world();
    set(&mut world, 2, "key", "kept");
    change(&mut world, 0, Change::Remove(AcceptorId(1)));
    change(&mut world, 0, Change::Remove(AcceptorId(2)));
    let last = world.change_membership(0, Change::Remove(AcceptorId(0)));
    let reason = ChangeRefused::LastVoter { node: 0 };
    assert_eq!(last, Err(MembershipRefused::Change { reason }));
    world.crash(1);
    world.crash(2);
    assert_eq!(get(&mut world, 0, "key"), Value::bulk(&b"kept"[..]));
    world.start(1);
    world.start(2);
    (1..5).for_each(|joins| make_voter(&mut world, 0, joins));
    assert_eq!(world.newest_configuration().voters.count(), 5);
    world.crash(0);
    assert_eq!(get(&mut world, 4, "key"), Value::bulk(&b"kept"[..]));
}

#[test]
fn a_learner_holds_what_is_chosen_and_counts_for_nobody() {
    let mut world = world();
    set(&mut world, 0, "key", "1");
    change(&mut world, 0, Change::AddLearner(AcceptorId(3)));
    set(&mut world, 3, "key", "2");
    assert_eq!(get(&mut world, 3, "key"), Value::bulk(&b"2"[..]), "it proposes and reads");
    world.crash(1);
    world.crash(2);
    let ticket = world.submit(0, &["SET", "key", "3"]);
    let reply = world.answer(ticket, 3 * SECOND);
    assert!(matches!(reply, Value::Error(_)), "one voter of three and a learner: {reply:?}");
}

#[test]
fn a_removed_voter_may_be_the_only_one_to_know_and_is_needed_until_the_others_do() {
    let mut world = world();
    change(&mut world, 0, Change::Remove(AcceptorId(2)));
    world.run_for(SECOND);
    assert_eq!(world.configurations_in_force().len(), 1);
    let before = world.configuration_of(0).version;
    let removal = Change::Remove(AcceptorId(0));
    let wanted = loop {
        match world.change_membership(0, removal) {
            Ok(wanted) => break wanted,
            Err(MembershipRefused::NotSettled { .. }) => world.run_for(SECOND / 10),
            Err(refused) => panic!("{refused}"),
        }
    };
    let accepted = |world: &World| {
        let votes = world.shard(CoreId { node: 1, core: 0 }).membership_votes();
        votes.instance == wanted.version && votes.accepted.is_some()
    };
    while !accepted(&world) {
        world.run_for(10);
    }
    // Its vote arrives, and what that makes known does not leave.
    (1..5).for_each(|other| world.cut(0, other));
    while world.configuration_of(0).version == before {
        world.run_for(10);
    }
    assert_eq!(world.configuration_of(1).version, before, "the voter that is left heard nothing");
    let versions = |world: &World| -> Vec<u32> {
        world.configurations_in_force().iter().map(|present| present.version).collect()
    };
    assert_eq!(versions(&world), [before, wanted.version]);
    // Without the one that was removed, the other cannot decide anything, or learn what was.
    world.crash(0);
    world.run_for(5 * SECOND);
    assert_eq!(versions(&world), [before, wanted.version]);
    world.heal();
    world.start(0);
    world.run_for(SECOND);
    assert_eq!(versions(&world), [wanted.version]);
}
