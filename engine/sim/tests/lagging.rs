//! Nodes that were away are told what they lack, and not what they hold.

use std::cell::Cell;
use std::rc::Rc;

use engine::config::ShardConfig;
use engine::shard::{CatchUpRates, Rate};
use engine::status::Counters;
use net::peer::message::PeerMessage;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};
use sim::faults::Faults;
use sim::world::{CoreId, World};

const KEYS: u64 = 1_000;

fn by_confirmations(config: &mut ShardConfig) {
    config.sweep_every_us = 500_000;
    config.digest_every_us = 0;
    config.lag_entities_max = 1 << 16;
}

fn with_little_memory_for_it(config: &mut ShardConfig) {
    by_confirmations(config);
    config.lag_entities_max = 10;
}

fn by_comparing(config: &mut ShardConfig) {
    config.sweep_every_us = 500_000;
    config.digest_every_us = 500_000;
    config.lag_entities_max = 0;
}

fn with_all(config: &mut ShardConfig) {
    by_confirmations(config);
    config.digest_every_us = 5_000_000;
}

fn key(number: u64) -> String {
    format!("key{number}")
}

fn set(world: &mut World, keys: impl Iterator<Item = u64>) {
    for number in keys {
        let ticket = world.submit(0, &["SET", &key(number), "x"]);
        assert_eq!(world.answer(ticket, 1_000_000), Value::OK);
    }
}

/// A cluster with some keys, of which every node knows that the others hold them.
fn world(cores: &[u16], configure: fn(&mut ShardConfig)) -> World {
    let mut world = World::new(3, cores, Faults::NONE, configure);
    world.run_for(50_000);
    set(&mut world, 0..KEYS);
    world.run_for(3_000_000);
    world
}

/// What the shards counted while node 2 was away, `keys` of the others changed, and it came back.
fn away(world: &mut World, keys: impl Iterator<Item = u64>) -> [Counters; 2] {
    world.crash(2);
    set(world, keys);
    world.run_for(500_000);
    let before = world.counters();
    world.start(2);
    world.run_for(1_500_000);
    [before, world.counters()]
}

fn assert_equal_everywhere(world: &World) {
    for number in 0..KEYS {
        let entity = entity_of(key(number).as_bytes());
        let held: Vec<Entry> = (0..3).map(|node| world.chosen_here(node, entity)).collect();
        assert!(held[0] > Entry::ZERO && held[0] == held[1] && held[1] == held[2], "{held:?}");
    }
}

#[test]
fn a_node_that_was_away_is_told_what_changed_and_nothing_else() {
    for cores in [[1, 1, 1], [2, 1, 3]] {
        let mut world = world(&cores, with_all);
        let [before, after] = away(&mut world, 100..140);
        assert_equal_everywhere(&world);
        let told = after.lag_entities - before.lag_entities;
        // By both peers; and they are told what they may lack of it, once it has caught up.
        assert!((80..=4 * 40).contains(&told), "{told} entities with cores {cores:?}");
        assert!(after.lag_recent > before.lag_recent);
        // The others knew what it holds; they compare what it holds when it is in step with them.
        for core in 0..cores[2] {
            let of_away = world.shard(CoreId { node: 2, core }).status().counters;
            assert_eq!((of_away.sweeps_whole, of_away.lag_confirmed > 0), (0, true));
        }
        assert!(after.sweeps_whole > before.sweeps_whole);
        assert_eq!(after.digests_unequal - before.digests_unequal, 0);
        assert_eq!(after.catch_up_entries - before.catch_up_entries, 40);
    }
}

#[test]
fn readers_ask_the_peer_that_has_nothing_to_make_up_for() {
    let mut world = world(&[1, 1, 1], by_confirmations);
    world.crash(2);
    set(&mut world, 0..200);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    world.hold(move |from, to, message| {
        let is_check = matches!(message, PeerMessage::ReadCheck(_));
        count.set(count.get() + u32::from(is_check && from.node == 0 && to.node == 2));
        false
    });
    world.start(2);
    let rate = Rate { entries: 100, bytes: 0 };
    world.set_catch_up_rates(2, CatchUpRates { all: rate, peer: rate });
    world.run_for(200_000);
    let read_all = |world: &mut World| {
        for number in 500..540 {
            let ticket = world.submit(0, &["GET", &key(number)]);
            assert_eq!(world.answer(ticket, 5_000), Value::bulk(b"x".to_vec()));
        }
    };
    read_all(&mut world);
    let last = entity_of(key(199).as_bytes());
    assert!(world.chosen_here(2, last) < world.chosen_here(0, last), "it is behind still");
    assert_eq!(asked.get(), 0, "it was asked in the middle of catching up");
    world.set_catch_up_rates(2, CatchUpRates::default());
    world.run_for(1_000_000);
    assert_equal_everywhere(&world);
    read_all(&mut world);
    assert!(asked.get() > 10, "{} of 40: in step again, and not asked", asked.get());
}

#[test]
fn more_than_can_be_kept_in_mind_is_told_all_the_same_and_nothing_else() {
    let mut world = world(&[1, 1, 1], with_little_memory_for_it);
    let [before, after] = away(&mut world, 100..400);
    assert_equal_everywhere(&world);
    assert!(after.lag_walks > before.lag_walks);
    let told = after.lag_entities - before.lag_entities;
    assert!((600..=1_200).contains(&told), "{told} entities");
    assert_eq!(after.digests_unequal - before.digests_unequal, 0);
}

#[test]
fn peers_that_forgot_who_lags_are_compared_with() {
    let mut world = world(&[1, 1, 1], by_confirmations);
    world.crash(2);
    set(&mut world, 100..140);
    world.crash(0);
    world.crash(1);
    let before = world.counters();
    for node in 0..3 {
        world.start(node);
    }
    world.run_for(2_000_000);
    let after = world.counters();
    assert_equal_everywhere(&world);
    assert!(after.sweeps_whole >= before.sweeps_whole + 6, "nobody knew anything");
    assert!(after.digests_equal > before.digests_equal, "0 and 1 hold the same");
    // From then on each knows again.
    let [before, after] = away(&mut world, 100..110);
    assert_equal_everywhere(&world);
    assert_eq!(after.sweeps_whole - before.sweeps_whole, 2, "who was away has forgotten, too");
}

#[test]
fn without_knowing_who_lags_everything_is_compared_and_only_what_differs_is_told() {
    let mut world = world(&[1, 1, 1], by_comparing);
    let [before, after] = away(&mut world, 100..101);
    assert_equal_everywhere(&world);
    assert_eq!((after.lag_recent, after.lag_walks, after.lag_confirmed), (0, 0, 0));
    assert!(after.digests_unequal > before.digests_unequal);
    assert!(after.digests_equal > before.digests_equal);
}

#[test]
fn in_a_quiet_cluster_nothing_is_sent_for_sweeps() {
    let mut world = world(&[1, 1, 1], by_confirmations);
    let before = world.counters();
    world.run_for(60_000_000);
    assert_eq!(world.counters().sweep_messages, before.sweep_messages);
    let statuses = (0..3).map(|node| world.shard(world.owner(node, EntityId(0))).status());
    for status in statuses {
        assert_eq!((status.unconfirmed, status.sweep_left, status.behind), ([0; 5], 0, 0));
    }
}

#[test]
fn in_a_quiet_cluster_a_comparison_takes_a_question_and_an_answer_for_thousands_of_entities() {
    let mut world = world(&[1, 1, 1], with_all);
    world.run_for(10_000_000);
    let before = world.counters();
    world.run_for(50_000_000);
    let after = world.counters();
    // 512 entities and the rest of 1,000: two ranges, for each pair and direction.
    let ranges = after.digests_equal - before.digests_equal;
    assert!((9 * 6 * 2..=10 * 6 * 2).contains(&ranges), "{ranges} ranges in ten comparisons");
    assert_eq!(after.digests_without_chains, before.digests_without_chains);
    assert_eq!(after.sweep_messages - before.sweep_messages, 2 * ranges);
    assert_eq!(after.digests_unequal, before.digests_unequal);
}

#[test]
fn what_each_node_has_not_confirmed_can_be_seen() {
    let mut world = world(&[1, 1, 1], by_confirmations);
    world.crash(2);
    set(&mut world, 0..30);
    world.run_for(1_500_000);
    let status = world.shard(world.owner(0, EntityId(0))).status();
    assert_eq!(status.unconfirmed[..3], [0, 0, 30]);
    world.start(2);
    world.run_for(2_000_000);
    let status = world.shard(world.owner(0, EntityId(0))).status();
    assert_eq!(status.unconfirmed, [0; 5]);
    let of_started = world.shard(world.owner(2, EntityId(0))).status();
    assert!(of_started.counters.lag_confirmed >= 2);
}
