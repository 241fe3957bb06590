//! Locks on checkpoints and registered mirrors: what they keep, and when they give way.

use engine::config::ShardConfig;
use engine::shard::{LOCKS_MAX, LockLost, LockRefused, LockedCheckpoint, MirrorRefused};
use net::resp::value::Value;
use plog::segment::SegmentId;
use sim::world::{CoreId, World, WorldConfig};

const SEGMENT: u32 = 64 << 10;
const CORE: CoreId = CoreId { node: 0, core: 0 };

fn configure(config: &mut ShardConfig) {
    config.checkpoint_log_bytes = 32 << 10;
    config.checkpoint_log_percent = 0;
    config.checkpoint_bytes_per_second = 100 << 20;
    config.log_hold_bytes = 0;
    config.checkpoint_lock_us = 1_000_000;
    config.mirror_log_bytes = 6 * u64::from(SEGMENT);
}

fn world(segments_max: usize) -> World {
    let mut world = World::with_config(WorldConfig {
        configure,
        segment_size: SEGMENT,
        segments_max,
        recycles: true,
        ..WorldConfig::calm(1, &[1, 1, 1])
    });
    world.run_for(50_000);
    world
}

/// Writes until so many further segments were opened.
fn fill(world: &mut World, segments: u64) {
    let value = "x".repeat(4000);
    let newest = |world: &World| world.shard(CORE).log().current_segment().map_or(0, |at| at.0);
    let end = newest(world) + segments;
    let mut number = 0;
    while newest(world) < end {
        number += 1;
        let key = format!("key{}", number % 3);
        let set = world.submit(0, &["SET", &key, &value]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    world.run_for(10_000);
}

fn lock(world: &mut World) -> LockedCheckpoint {
    world.with_shard(CORE, |shard, now| shard.lock_checkpoint(now)).expect("there is one")
}

fn has_parts(world: &World, locked: &LockedCheckpoint) -> bool {
    let checkpoint = locked.pointer.checkpoint;
    let there: Vec<_> = world.disk(CORE).parts(checkpoint).map(|(part, _)| part).collect();
    locked.parts().eq(there)
}

fn oldest(world: &World) -> SegmentId {
    world.disk(CORE).segments(SegmentId::FIRST).next().expect("there is a log").0
}

#[test]
fn a_locked_checkpoint_stays_with_the_log_behind_it_while_others_are_adopted() {
    let mut world = world(usize::MAX);
    let none = world.with_shard(CORE, |shard, now| shard.lock_checkpoint(now));
    assert_eq!(none, Err(LockRefused::NoCheckpoint));
    fill(&mut world, 2);
    let first = lock(&mut world);
    fill(&mut world, 3);
    let second = lock(&mut world);
    assert!(second.pointer.checkpoint > first.pointer.checkpoint, "adopted meanwhile");
    fill(&mut world, 3);
    assert!(has_parts(&world, &first) && has_parts(&world, &second));
    assert_eq!(oldest(&world), first.pointer.floor);
    assert_eq!(world.shard(CORE).stands_at(), first.pointer.floor, "the minimum of all");
    assert_eq!(world.shard(CORE).status().checkpoints_locked, 2);
    world.with_shard(CORE, |shard, now| shard.unlock_checkpoint(now, first.lock)).unwrap();
    world.run_for(50_000);
    assert!(!has_parts(&world, &first) && has_parts(&world, &second));
    assert_eq!(oldest(&world), second.pointer.floor);
    let again = world.with_shard(CORE, |shard, now| shard.unlock_checkpoint(now, first.lock));
    assert_eq!(again, Err(LockLost));
    world.with_shard(CORE, |shard, now| shard.unlock_checkpoint(now, second.lock)).unwrap();
    world.run_for(50_000);
    assert!(!has_parts(&world, &second));
    assert_eq!(world.shard(CORE).status().counters.checkpoint_locks, 2);
}

#[test]
fn a_lock_ends_at_its_deadline_unless_it_is_renewed_and_there_are_not_many() {
    let mut world = world(usize::MAX);
    fill(&mut world, 2);
    let locks: Vec<_> = (0..LOCKS_MAX).map(|_| lock(&mut world)).collect();
    let refused = world.with_shard(CORE, |shard, now| shard.lock_checkpoint(now));
    assert_eq!(refused, Err(LockRefused::TooMany));
    world.run_for(900_000);
    let until =
        world.with_shard(CORE, |shard, now| shard.renew_checkpoint_lock(now, locks[0].lock));
    assert!(until.unwrap() > locks[0].until);
    fill(&mut world, 2);
    world.run_for(200_000);
    assert!(has_parts(&world, &locks[0]), "one of them was renewed");
    let lost = world.with_shard(CORE, |shard, now| shard.renew_checkpoint_lock(now, locks[1].lock));
    assert_eq!(lost, Err(LockLost));
    // Nobody has to ask for the last one to end: the disk is not theirs for ever.
    world.run_for(1_000_000);
    assert!(!has_parts(&world, &locks[0]));
    let counters = world.shard(CORE).status().counters;
    assert_eq!(counters.checkpoint_locks_expired, u64::try_from(LOCKS_MAX).unwrap());
    assert_eq!(counters.checkpoint_locks_refused, 1);
}

#[test]
fn locks_and_mirrors_give_way_before_the_log_is_full_and_are_told() {
    let mut world = world(8);
    fill(&mut world, 2);
    let locked = lock(&mut world);
    let from = world.shard(CORE).stands_at();
    let mirror = world.with_shard(CORE, |shard, _| shard.register_mirror(from)).unwrap();
    // Every write is answered, although both would keep more than the log may hold.
    fill(&mut world, 12);
    let counters = world.shard(CORE).status().counters;
    assert_eq!((counters.checkpoint_locks_broken, counters.mirrors_overrun), (1, 1));
    let lost = world.with_shard(CORE, |shard, now| shard.renew_checkpoint_lock(now, locked.lock));
    assert_eq!(lost, Err(LockLost));
    let freed = world.with_shard(CORE, |shard, _| shard.mirror_stands_at(mirror, from));
    let freed = freed.unwrap_err();
    assert_eq!((freed.wanted, freed.oldest), (from, oldest(&world)));
    let refused = world.with_shard(CORE, |shard, _| shard.register_mirror(from));
    assert_eq!(refused, Err(MirrorRefused::Freed(freed)));
}

#[test]
fn a_mirror_keeps_the_log_from_where_it_stands_but_no_more_than_its_bound() {
    let mut world = world(usize::MAX);
    fill(&mut world, 2);
    let from = world.shard(CORE).stands_at();
    let mirror = world.with_shard(CORE, |shard, _| shard.register_mirror(from)).unwrap();
    fill(&mut world, 4);
    assert_eq!(oldest(&world), from);
    let next = from.next();
    world.with_shard(CORE, |shard, _| shard.mirror_stands_at(mirror, next)).unwrap();
    world.run_for(50_000);
    assert_eq!(oldest(&world), next, "what it has read can go");
    fill(&mut world, 6);
    assert!(oldest(&world) > next);
    assert_eq!(world.shard(CORE).status().counters.mirrors_overrun, 1);
    let freed = world.with_shard(CORE, |shard, _| shard.mirror_stands_at(mirror, next));
    assert!(freed.is_err());
    // Once it has begun anew it keeps what it needs again.
    let from = world.shard(CORE).stands_at();
    world.with_shard(CORE, |shard, _| shard.mirror_stands_at(mirror, from)).unwrap();
    fill(&mut world, 3);
    assert_eq!(oldest(&world), from);
    world.with_shard(CORE, |shard, _| shard.unregister_mirror(mirror));
    fill(&mut world, 1);
    assert!(oldest(&world) > from);
    assert_eq!(world.shard(CORE).status().mirrors, 0);
}
