//! What an operator relies on of a follower, step by step.

use engine::shard::{FOLLOWERS_MAX, FollowingStatus, PeerCore};
use net::peer::message::{FollowRequest, PeerMessage};
use net::resp::slot::entity_of;
use net::resp::value::Value;
use plog::vocabulary::{AcceptorId, Generation};
use sim::world::{CoreId, Transport, World, WorldConfig};

const FOLLOWER: u8 = 3;

/// Three replicas of two cores and a follower of three, all connected.
fn world() -> World {
    let mut world = World::with_config(WorldConfig {
        followers: vec![3],
        transport: Transport::Streams,
        configure: |config| {
            config.sweep_every_us = 60_000_000;
            config.follow_every_us = 20_000;
        },
        ..WorldConfig::calm(7, &[2, 2, 2])
    });
    world.run_for(200_000);
    world
}

fn following(world: &World) -> Vec<FollowingStatus> {
    let cores = (0..3).map(|core| world.shard(CoreId { node: FOLLOWER, core }).following());
    cores.map(|status| status.expect("it follows")).collect()
}

fn write(world: &mut World, node: u8, keys: u32) {
    for number in 0..keys {
        let ticket = world.submit(node, &["INCR", &format!("key-{number}")]);
        assert!(matches!(world.answer(ticket, 1_000_000), Value::Integer(_)));
    }
}

/// Whether the follower holds what the replica does.
fn is_equal(world: &World, node: u8, keys: u32) -> bool {
    (0..keys).all(|number| {
        let entity = entity_of(format!("key-{number}").as_bytes());
        world.chosen_here(FOLLOWER, entity) == world.chosen_here(node, entity)
    })
}

#[test]
fn what_is_written_is_told_at_once_and_no_sweep_is_needed() {
    let mut world = world();
    assert!(following(&world).iter().all(|status| status.in_step_at.is_some()));
    let sweeps = world.follower_counters().sweeps;
    write(&mut world, 1, 40);
    world.run_for(2_000);
    assert!(is_equal(&world, 1, 40), "two milliseconds are enough");
    assert_eq!(world.follower_counters().sweeps, sweeps, "it was told");
    assert!(world.follower_counters().told_received >= 40);
    let before = following(&world);
    world.run_for(100_000);
    for (before, now) in before.iter().zip(following(&world)) {
        assert!(now.in_step_at > before.in_step_at && now.lagging == 0, "{now:?}");
    }
}

/// More than two pages of them.
const MANY_KEYS: u32 = 1100;

/// The questions of a whole walk over them.
const PAGES: u64 = 3;

/// Single cores, of which the replicas hold many entities, and their follower is started.
fn world_of_a_late_follower() -> World {
    let mut world = World::with_config(WorldConfig {
        followers: vec![1],
        transport: Transport::Streams,
        configure: |config| {
            config.sweep_every_us = 60_000_000;
            config.follow_every_us = 20_000;
        },
        ..WorldConfig::calm(7, &[1, 1, 1])
    });
    world.run_for(200_000);
    world.crash(FOLLOWER);
    write(&mut world, 0, MANY_KEYS);
    world.run_for(1_000_000);
    world.start(FOLLOWER);
    world
}

fn status(world: &World) -> FollowingStatus {
    world.shard(CoreId { node: FOLLOWER, core: 0 }).following().expect("it follows")
}

#[test]
fn a_follower_that_comes_late_walks_page_by_page_through_what_there_was_before() {
    let mut world = world_of_a_late_follower();
    let before = world.follower_counters();
    let until = world.now() + 10_000_000;
    assert!(world.run_until(until, |world| world.is_in_step(FOLLOWER)), "{:?}", status(&world));
    assert!(is_equal(&world, 0, MANY_KEYS), "in step, so it holds all");
    let now = world.follower_counters();
    assert_eq!(now.streams_followed - before.streams_followed, 1);
    assert_eq!(now.sweeps - before.sweeps, 1);
    assert!(now.sweep_messages - before.sweep_messages >= PAGES, "page by page");
    assert!(now.swept_behind - before.swept_behind >= u64::from(MANY_KEYS));
}

#[test]
fn when_the_replica_dies_amid_a_walk_the_next_one_is_walked_from_the_beginning() {
    let mut world = world_of_a_late_follower();
    let asked = |world: &World| world.follower_counters().sweep_messages;
    let (before, walks) = (asked(&world), world.follower_counters().sweeps);
    let until = world.now() + 10_000_000;
    assert!(world.run_until(until, |world| asked(world) == before + 2), "{:?}", status(&world));
    let first = status(&world);
    assert_eq!(first.in_step_at, None, "a page is missing");
    let AcceptorId(dead) = first.replica.expect("it follows");
    world.crash(dead);
    let until = world.now() + 10_000_000;
    assert!(world.run_until(until, |world| world.is_in_step(FOLLOWER)), "{:?}", status(&world));
    assert_ne!(status(&world).replica, first.replica);
    assert!(is_equal(&world, (dead + 1) % 3, MANY_KEYS), "in step, so it holds all");
    assert!(asked(&world) >= before + 2 + PAGES, "from the first page on");
    assert_eq!(world.follower_counters().sweeps - walks, 1, "the other walk has no end");
}

#[test]
fn a_follower_that_is_cut_off_holds_nobody_up_and_makes_up_for_what_it_missed() {
    let mut world = world();
    for node in 0..3 {
        world.cut(node, FOLLOWER);
        world.cut(FOLLOWER, node);
    }
    write(&mut world, 0, 40);
    assert!(!is_equal(&world, 0, 40));
    world.run_for(3_000_000);
    assert!(following(&world).iter().all(|status| status.replica.is_none()), "nobody is heard");
    world.heal();
    let done = world.run_until(world.now() + 1_000_000, |world| {
        is_equal(world, 0, 40) && following(world).iter().all(|status| status.replica.is_some())
    });
    assert!(done, "{:?}", following(&world));
}

#[test]
fn when_the_replica_dies_another_is_followed_and_nothing_is_missed_between() {
    let mut world = world();
    let followed = following(&world)[0].replica.expect("it follows");
    let AcceptorId(dead) = followed;
    let other = (dead + 1) % 3;
    world.crash(dead);
    write(&mut world, other, 40);
    let done = world.run_until(world.now() + 1_000_000, |world| {
        let turned =
            |status: &FollowingStatus| status.replica.is_some_and(|replica| replica != followed);
        following(world).iter().all(turned) && is_equal(world, other, 40)
    });
    assert!(done, "{:?}", following(&world));
    assert!(world.follower_counters().failovers >= 1);
}

#[test]
fn a_core_tells_so_many_followers_and_forgets_those_that_ask_no_more() {
    let mut world = world();
    let id = CoreId { node: 0, core: 0 };
    let before = world.shard(id).status();
    let most = u64::try_from(FOLLOWERS_MAX).expect("few");
    let asked = u8::try_from(FOLLOWERS_MAX + 6).expect("few");
    for node in 100..100 + asked {
        let from = PeerCore { acceptor: AcceptorId(node), core: 0 };
        let request = FollowRequest { number: 1, stream: None, core_count: 1 };
        world.with_shard(id, |shard, now| {
            let message = PeerMessage::Follow(request);
            shard.handle_message(now, from, Generation::FIRST, message);
            // Nobody is there to be told.
            while shard.poll_message().is_some() {}
        });
    }
    let status = world.shard(id).status();
    assert_eq!(status.followers, most);
    let refused = status.counters.follows_refused - before.counters.follows_refused;
    assert_eq!(refused, 6 + before.followers);
    world.run_for(1_000_000);
    assert!(world.shard(id).status().followers <= 3, "the follower's own cores at most");
}

#[test]
fn a_wrong_copy_at_a_follower_is_replaced_by_a_replica_s() {
    let mut world = world();
    write(&mut world, 0, 1);
    world.run_for(50_000);
    let entity = entity_of(b"key-0");
    world.may_be_damaged(FOLLOWER);
    assert!(world.pretend_another_history(FOLLOWER, entity));
    let before = world.follower_counters();
    write(&mut world, 1, 1);
    world.run_for(2_000_000);
    let now = world.follower_counters();
    assert_eq!((now.diverged - before.diverged, now.healed - before.healed), (1, 1));
    assert_eq!(now.images_installed - before.images_installed, 1);
    assert!(is_equal(&world, 1, 1));
    let chains = |node: u8| {
        let shard = world.shard(world.owner(node, entity));
        shard.applied(entity).expect("it was written just now")
    };
    assert_eq!(chains(FOLLOWER), chains(1));
    let replicas = (0..3).flat_map(|node| (0..2).map(move |core| CoreId { node, core }));
    let doubts: u64 = replicas.map(|id| world.shard(id).counters().diverged).sum();
    assert_eq!(doubts, 0, "no replica heeds a follower");
}

#[test]
fn a_follower_is_no_part_of_a_majority() {
    let mut world = world();
    world.crash(1);
    world.crash(2);
    let ticket = world.submit(0, &["INCR", "key"]);
    let reply = world.answer(ticket, 30_000_000);
    assert!(
        matches!(&reply, Value::Error(error) if error.word() == "UNKNOWN"
        || error.word() == "CLUSTERDOWN"),
        "{reply:?}"
    );
}
