//! A node that lost all it had gets it back from one peer, a page at a time, whatever comes
//! between.

use engine::config::ShardConfig;
use engine::shard::Rate;
use engine::status::Counters;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, Transport, World, WorldConfig};

const KEYS: u64 = 300;

fn paged(config: &mut ShardConfig) {
    config.transfer_entities_min = 20;
    config.transfer_page_bytes = 1_000;
}

/// A cluster in which node 2 begins again with new disks.
fn world(seed: u64, cores: &[u16], configure: fn(&mut ShardConfig)) -> World {
    let faults = Faults { delay_max_us: 300, write_max_us: 1_000, ..Faults::NONE };
    let calm = WorldConfig::calm(seed, cores);
    let transport = Transport::Streams;
    let mut world = World::with_config(WorldConfig { faults, transport, configure, ..calm });
    world.run_for(50_000);
    for key in 0..KEYS {
        let set = world.submit(0, &["SET", &key.to_string(), &format!("value of {key}")]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    world.run_for(100_000);
    world.crash(2);
    world.wipe(2);
    world.start(2);
    world
}

fn counters(world: &World, node: u8, core: u16) -> Counters {
    world.shard(CoreId { node, core }).status().counters
}

fn sent(world: &World, nodes: &[(u8, u16)]) -> u64 {
    nodes.iter().map(|(node, core)| counters(world, *node, *core).transfer_images_sent).sum()
}

fn rejoin(world: &mut World) {
    let deadline = world.now() + 20_000_000;
    assert!(world.run_until(deadline, |world| world.is_whole(2)));
}

/// With node 2 and `other` alone every key is there.
fn holds_all(world: &mut World, other: u8) {
    world.crash(1 - other);
    world.run_for(100_000);
    for key in 0..KEYS {
        let get = world.submit(2, &["GET", &key.to_string()]);
        let value = world.answer(get, 2_000_000);
        assert_eq!(value, Value::bulk(format!("value of {key}").into_bytes()));
    }
}

#[test]
fn whoever_misses_many_entities_is_sent_all_of_them_by_one_peer() {
    for (seed, cores, others) in
        [(1, [1, 1, 1], &[(0, 0), (1, 0)][..]), (2, [2, 3, 1], &[(0, 0), (0, 1), (1, 0), (1, 1)])]
    {
        let mut world = world(seed, &cores, paged);
        rejoin(&mut world);
        let mine = counters(&world, 2, 0);
        assert!(matches!(mine.transfers, 1 | 2), "a link may be full when a page comes");
        assert_eq!(mine.transfer_images, KEYS, "seed {seed}");
        assert!(mine.transfer_pages > 10, "{} pages", mine.transfer_pages);
        assert_eq!(mine.catch_ups, 0, "nothing is left to be asked for one by one");
        // A link that is full drops a page; it is asked for again.
        assert!(sent(&world, others) < 2 * KEYS, "{} were sent", sent(&world, others));
        holds_all(&mut world, 1);
    }
}

#[test]
fn each_core_gets_what_is_its_own() {
    let mut world = world(3, &[1, 1, 3], paged);
    rejoin(&mut world);
    let taken = |core| counters(&world, 2, core).transfer_images;
    assert_eq!(taken(0) + taken(1) + taken(2), KEYS);
    // Only what is asked for is sent, but for pages that a full link dropped.
    assert!(sent(&world, &[(0, 0), (1, 0)]) < 2 * KEYS);
    holds_all(&mut world, 0);
}

#[test]
fn who_misses_few_asks_for_each() {
    let mut world = world(4, &[1, 1, 1], |config| config.transfer_entities_min = 301);
    rejoin(&mut world);
    assert_eq!(counters(&world, 2, 0).transfers, 0);
    holds_all(&mut world, 1);
}

#[test]
fn a_transfer_goes_on_where_it_was_when_the_asker_dies() {
    for seed in 5..9 {
        let mut world = world(seed, &[1, 1, 1], |config| {
            paged(config);
            config.catch_up_rates.all = Rate { entries: 1_000, bytes: 0 };
            config.lazy_flush_us = 5_000;
        });
        let mut deaths = 0;
        while !world.is_whole(2) && deaths < 20 {
            let before = sent(&world, &[(0, 0), (1, 0)]);
            let deadline = world.now() + 10_000_000;
            let goes_on = |world: &World| sent(world, &[(0, 0), (1, 0)]) >= before + 42;
            world.run_until(deadline, |world| goes_on(world) || world.is_whole(2));
            // So that some of it is durable.
            world.run_for(20_000);
            if !world.is_whole(2) {
                world.crash(2);
                world.start(2);
                deaths += 1;
            }
        }
        assert!((2..20).contains(&deaths), "seed {seed}: {deaths} deaths");
        let all = sent(&world, &[(0, 0), (1, 0)]);
        // What was sent last was on its way, or not durable yet.
        assert!(all <= KEYS + 120 * deaths, "seed {seed}: {all} images for {deaths} deaths");
        holds_all(&mut world, 1);
    }
}

#[test]
fn another_peer_goes_on_when_the_one_that_sends_is_gone() {
    for seed in 9..13 {
        let mut world = world(seed, &[1, 1, 1], paged);
        let deadline = world.now() + 10_000_000;
        let has_begun = |world: &World| world.is_up(2) && counters(world, 2, 0).transfer_pages >= 3;
        assert!(world.run_until(deadline, has_begun));
        let first = u8::from(counters(&world, 0, 0).transfer_images_sent == 0);
        let before = counters(&world, first, 0).transfer_images_sent;
        world.crash(first);
        rejoin(&mut world);
        let mine = counters(&world, 2, 0);
        assert_eq!((mine.transfers, mine.transfer_images), (2, KEYS), "seed {seed}");
        let after = counters(&world, 1 - first, 0).transfer_images_sent;
        assert!(before > 0 && after > 0 && after < KEYS, "seed {seed}: {before}, then {after}");
        world.start(first);
        world.run_for(200_000);
        holds_all(&mut world, 1 - first);
    }
}

#[test]
fn pages_come_no_faster_than_the_rate() {
    let mut world = world(13, &[1, 1, 1], |config| {
        paged(config);
        config.catch_up_rates.all = Rate { entries: 100, bytes: 0 };
    });
    let began = world.now();
    rejoin(&mut world);
    let took = world.now() - began;
    assert!(took >= 2_500_000, "300 entities at 100 a second took {took} us");
    assert_eq!(counters(&world, 2, 0).transfer_images, KEYS);
}
