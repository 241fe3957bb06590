//! How fast a replica that was away takes over what it missed.

use engine::config::ShardConfig;
use engine::shard::{CatchUpRates, Rate};
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

const AWAY: CoreId = CoreId { node: 2, core: 0 };
const KEYS: usize = 300;

/// A cluster in which node 2 is back after it missed one entry of each of so many entities.
fn world(configure: fn(&mut ShardConfig)) -> World {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, configure);
    world.run_for(50_000);
    world.crash(2);
    for key in 0..KEYS {
        let set = world.submit(0, &["SET", &key.to_string(), "x"]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    world.start(2);
    world
}

fn caught_up(world: &World) -> u64 {
    world.shard(AWAY).status().counters.catch_up_entries
}

fn slow(config: &mut ShardConfig) {
    config.catch_up_rates.all = Rate { entries: 50, bytes: 0 };
}

#[test]
fn what_a_sweep_found_comes_no_faster_than_the_rate_and_comes_all_the_same() {
    let mut free = world(|_| {});
    free.run_for(500_000);
    assert_eq!(caught_up(&free), 300, "without a limit it takes a moment");
    assert_eq!(free.shard(AWAY).status().counters.catch_up_waits, 0);
    let mut world = world(slow);
    for second in 1..=5 {
        world.run_for(1_000_000);
        // A burst of a tenth of a second, and what was asked for at once.
        let most = second * 50 + 5 + 64;
        assert!(caught_up(&world) <= most, "{} after {second} s", caught_up(&world));
        assert!(caught_up(&world) >= (second - 1) * 50, "{} after {second} s", caught_up(&world));
    }
    assert!(world.shard(AWAY).status().counters.catch_up_waits > 0);
    world.run_for(3_000_000);
    assert_eq!(caught_up(&world), 300);
    assert_eq!(world.shard(AWAY).status().behind, 0);
}

#[test]
fn what_a_client_needs_does_not_wait_for_the_rate() {
    let mut world = world(slow);
    world.run_for(200_000);
    let before = caught_up(&world);
    for key in KEYS - 20..KEYS {
        let get = world.submit(2, &["GET", &key.to_string()]);
        assert_eq!(world.answer(get, 50_000), Value::bulk("x"));
    }
    assert!(before < 200, "the sweep is far from done");
}

#[test]
fn new_rates_hold_at_once() {
    let mut world = world(slow);
    world.run_for(200_000);
    assert!(caught_up(&world) < 200);
    world.set_catch_up_rates(2, CatchUpRates::default());
    world.run_for(300_000);
    assert_eq!(caught_up(&world), 300);
}
