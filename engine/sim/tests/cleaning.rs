//! Checkpoints and the cleaner under an operator's hand, and what is held for peers.

use engine::config::ShardConfig;
use engine::status::ShardStatus;
use net::resp::value::Value;
use plog::checkpoint::CheckpointId;
use sim::faults::Faults;
use sim::world::{CoreId, World, WorldConfig};

const FIRST: CoreId = CoreId { node: 0, core: 0 };

/// A cluster with segments of 64 KiB, of which a log may hold so many: four are in reserve.
fn world(segments_max: usize, configure: fn(&mut ShardConfig)) -> World {
    let mut world = World::with_config(WorldConfig {
        configure,
        segment_size: 64 << 10,
        segments_max,
        recycles: true,
        ..WorldConfig::calm(1, &[1, 1, 1])
    });
    world.run_for(50_000);
    world
}

/// Checkpoints when they are asked for, or the log nears its limit; nothing is held.
fn on_request(config: &mut ShardConfig) {
    config.checkpoint_log_bytes = 64 << 10;
    config.checkpoint_log_percent = 1_000_000;
    config.log_hold_bytes = 0;
    config.clean_bytes_per_second = 1 << 40;
}

fn status(world: &World) -> ShardStatus {
    world.shard(FIRST).status()
}

/// Writes `count` values of 4000 bytes. The first refusal, if there is one.
fn write(world: &mut World, count: usize) -> Option<String> {
    let value = "v".repeat(4000);
    for number in 0..count {
        let set = world.submit(0, &["SET", &format!("key{}", number % 5), &value]);
        if let Value::Error(error) = world.answer(set, 20_000_000) {
            return Some(error.to_string());
        }
    }
    None
}

#[test]
fn a_checkpoint_that_is_asked_for_comes_and_one_under_way_does_not_count_for_it() {
    let mut world = world(8, on_request);
    assert_eq!(write(&mut world, 3), None);
    assert_eq!(status(&world).checkpoint, 0, "none was due");
    assert_eq!(world.request_checkpoint(0), [CheckpointId(1)]);
    assert_eq!(status(&world).checkpointing, 1);
    assert_eq!(world.request_checkpoint(0), [CheckpointId(2)]);
    assert!(world.run_until(10_000_000, |world| status(world).checkpoint == 2));
    world.run_for(1_000_000);
    let counters = status(&world).counters;
    assert_eq!((counters.checkpoints, status(&world).checkpointing), (2, 0));
    world.crash(0);
    world.start(0);
    assert_eq!(status(&world).checkpoint, 2, "a start finds it");
}

#[test]
fn a_paused_cleaner_frees_nothing_and_at_the_limit_writes_are_refused_until_it_is_resumed() {
    let mut world = world(8, on_request);
    world.pause_cleaner(0, true);
    let refusal = write(&mut world, 200).expect("the log's bound holds");
    assert!(refusal.contains("MISCONF") && refusal.contains("CERTUS CLEANER RESUME"), "{refusal}");
    let full = status(&world);
    assert_eq!((full.cleaner_paused, full.log_full, full.counters.segments_freed), (1, 1, 0));
    assert!(full.counters.checkpoints > 0 && full.segments_freeable > 0, "checkpoints go on");
    let get = world.submit(0, &["GET", "key0"]);
    assert_eq!(world.answer(get, 1_000_000), Value::bulk("v".repeat(4000)));
    world.pause_cleaner(0, false);
    world.run_for(1_000_000);
    assert_eq!((status(&world).log_full, status(&world).segments_freeable), (0, 0));
    assert_eq!(write(&mut world, 100), None);
    world.pause_cleaner(0, true);
    world.crash(0);
    world.start(0);
    assert_eq!(status(&world).cleaner_paused, 0, "a pause ends with the node");
}

#[test]
fn segments_go_no_faster_than_the_rate_says() {
    let mut world = world(20, |config| {
        on_request(config);
        // One segment in a second.
        config.clean_bytes_per_second = 64 << 10;
    });
    world.pause_cleaner(0, true);
    // Two segments, and a little of the third: far from the limit.
    assert_eq!(write(&mut world, 17), None);
    world.request_checkpoint(0);
    world.run_for(500_000);
    let before = status(&world);
    assert_eq!((before.segments_freeable, before.log_near_limit), (2, 0), "{before:?}");
    world.pause_cleaner(0, false);
    world.run_for(500_000);
    assert_eq!(status(&world).counters.segments_freed, 1);
    world.run_for(1_000_000);
    assert_eq!(status(&world).counters.segments_freed, 2);
}

/// Brings up a replica that missed 12 entries of a large entity, with so many entries held below
/// an image. Entries that it learned, and images that it took.
fn caught_up(configure: fn(&mut ShardConfig)) -> (u64, u64) {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, configure);
    world.run_for(50_000);
    let filler = "f".repeat(20_000);
    let set = world.submit(0, &["SET", "{e}filler", &filler]);
    assert_eq!(world.answer(set, 1_000_000), Value::OK);
    world.run_for(1_000_000);
    world.crash(2);
    for number in 0..12 {
        let set = world.submit(0, &["SET", "{e}key", &number.to_string()]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    // The marks of those chosen are on disk; then the image of the last is in the checkpoint.
    world.run_for(1_000_000);
    for node in [0, 1] {
        world.request_checkpoint(node);
    }
    world.run_for(1_000_000);
    world.start(2);
    let entity = net::resp::slot::entity_of(b"{e}key");
    let last = world.chosen_here(0, entity);
    assert!(world.run_until(60_000_000, |world| world.chosen_here(2, entity) == last));
    let counters = world.shard(CoreId { node: 2, core: 0 }).status().counters;
    (counters.catch_up_entries, counters.images_installed)
}

#[test]
fn a_peer_that_is_no_further_behind_than_the_hold_gets_entries_and_another_the_whole_entity() {
    let (entries, images) = caught_up(|config| config.hold_entries = 12);
    assert!(entries >= 12 && images == 0, "{entries} entries, {images} images");
    let (_, images) = caught_up(|config| config.hold_entries = 2);
    assert!(images > 0, "entries below the hold are not known any more");
}
