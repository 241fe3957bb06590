//! Copies that differ: nothing is served from a doubtful one, it is found out which is wrong, and
//! that one is replaced.

use engine::config::ShardConfig;
use engine::status::Counters;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use plog::vocabulary::EntityId;
use sim::faults::Faults;
use sim::world::{CoreId, World};

const KEY: &str = "balance";

fn without_digests(config: &mut ShardConfig) {
    config.digest_every_us = 0;
}

fn with_digests(config: &mut ShardConfig) {
    config.digest_every_us = 300_000;
}

fn entity() -> EntityId {
    entity_of(KEY.as_bytes())
}

/// A cluster in which everybody has the key; every node may find a copy of its own doubtful.
fn world(nodes: usize, configure: fn(&mut ShardConfig)) -> World {
    let mut world = World::new(5, &vec![1; nodes], Faults::NONE, configure);
    world.run_for(50_000);
    for value in ["1", "2", "3"] {
        let ticket = world.submit(0, &["SET", KEY, value]);
        assert_eq!(world.answer(ticket, 1_000_000), Value::OK);
    }
    world.run_for(100_000);
    for node in 0..world.node_count() {
        world.may_be_damaged(node);
    }
    world
}

fn counters(world: &World, node: u8) -> Counters {
    *world.shard(CoreId { node, core: 0 }).counters()
}

fn in_doubt(world: &World, node: u8) -> bool {
    world.shard(world.owner(node, entity())).glance().in_doubt > 0
}

fn read(world: &mut World, node: u8) -> Value {
    let ticket = world.submit(node, &["GET", KEY]);
    world.answer(ticket, 2_000_000)
}

fn assert_equal_everywhere(world: &World, nodes: usize) {
    let chains = world.chains(entity());
    assert_eq!(chains.len(), nodes);
    let (_, entry, chain) = chains[0];
    assert!(chains.iter().all(|copy| (copy.1, copy.2) == (entry, chain)), "{chains:?}");
}

#[test]
fn a_wrong_copy_is_replaced_and_serves_again() {
    let mut world = world(3, without_digests);
    assert!(world.pretend_another_history(2, entity()));
    // Its own read check shows it.
    assert!(matches!(read(&mut world, 2), Value::Error(_)));
    assert!(in_doubt(&world, 2));
    // Its clients are served through the others meanwhile.
    assert_eq!(read(&mut world, 2), Value::bulk(&b"3"[..]));
    assert_eq!(counters(&world, 2).relayed, 1);
    world.run_for(2_000_000);
    assert_eq!(read(&mut world, 2), Value::bulk(&b"3"[..]));
    assert_equal_everywhere(&world, 3);
    let [first, second, wrong] = [0, 1, 2].map(|node| counters(&world, node));
    assert_eq!((wrong.diverged, wrong.healed, wrong.images_installed), (1, 1, 1));
    assert_eq!([first, second].map(|right| (right.diverged, right.images_installed)), [(0, 0); 2]);
    // What it took is on its disk, too.
    world.crash(2);
    world.start(2);
    world.run_for(500_000);
    assert_eq!(read(&mut world, 2), Value::bulk(&b"3"[..]));
    assert_equal_everywhere(&world, 3);
    assert_eq!(counters(&world, 2).diverged, 0);
}

#[test]
fn right_copies_that_a_wrong_one_makes_doubtful_find_each_other() {
    let mut world = world(3, without_digests);
    assert!(world.pretend_another_history(2, entity()));
    let asked: Vec<u64> = [0, 1].map(|node| world.submit(node, &["GET", KEY])).into();
    world.run_for(2_000_000);
    for ticket in asked {
        let answer = world.answer(ticket, 1);
        let is_right = answer == Value::bulk(&b"3"[..]);
        assert!(is_right || matches!(answer, Value::Error(_)), "{answer:?}");
    }
    for node in 0..3 {
        assert_eq!(read(&mut world, node), Value::bulk(&b"3"[..]), "node {node}");
    }
    assert_equal_everywhere(&world, 3);
    let all = world.counters();
    assert!(all.diverged >= 2, "a right copy was made doubtful: {}", all.diverged);
    assert_eq!((all.healed, all.images_installed), (all.diverged, 1));
}

#[test]
fn with_too_few_words_a_wrong_copy_stays_in_doubt() {
    let mut world = world(3, without_digests);
    world.crash(1);
    world.run_for(200_000);
    assert!(world.pretend_another_history(2, entity()));
    assert!(matches!(read(&mut world, 2), Value::Error(_)));
    world.run_for(10_000_000);
    // Two copies, and two words.
    assert!(in_doubt(&world, 2));
    assert_eq!(counters(&world, 2).images_installed, 0);
    world.start(1);
    world.run_for(3_000_000);
    for node in 0..3 {
        assert_eq!(read(&mut world, node), Value::bulk(&b"3"[..]), "node {node}");
    }
    assert_equal_everywhere(&world, 3);
}

#[test]
fn two_wrong_copies_of_five_do_not_confirm_each_other() {
    let mut world = world(5, with_digests);
    for node in [1, 3] {
        assert!(world.pretend_another_history(node, entity()));
    }
    world.run_for(5_000_000);
    for node in 0..5 {
        assert_eq!(read(&mut world, node), Value::bulk(&b"3"[..]), "node {node}");
    }
    assert_equal_everywhere(&world, 5);
    for node in [1, 3] {
        assert_eq!(counters(&world, node).healed, 1, "node {node}");
    }
    assert_eq!(world.counters().images_installed, 2);
}

#[test]
fn a_wrong_copy_is_replaced_while_the_entity_is_written() {
    let mut world = world(3, without_digests);
    assert!(world.pretend_another_history(2, entity()));
    let mut written = 3_u64;
    for _ in 0..400 {
        written += 1;
        let ticket = world.submit(0, &["SET", KEY, &written.to_string()]);
        assert_eq!(world.answer(ticket, 2_000_000), Value::OK);
        world.run_for(1_500);
    }
    assert!(counters(&world, 2).diverged > 0, "notices carry the chain");
    let healed = counters(&world, 2).healed;
    assert!(healed > 0 && !in_doubt(&world, 2), "not while it is written: {healed}");
    world.run_for(100_000);
    assert_eq!(read(&mut world, 2), Value::bulk(written.to_string().into_bytes()));
    assert_equal_everywhere(&world, 3);
}
