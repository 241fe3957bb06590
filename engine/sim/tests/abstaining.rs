//! A node whose log is damaged starts, and its clients are served through the others. While its
//! disk has no room for another log it abstains; then it rejoins.

use engine::config::ShardConfig;
use engine::request::Freshness;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

const PATIENCE_US: u64 = 6_000_000;

fn as_is(_: &mut ShardConfig) {}

/// A cluster with a few keys, in which the logs of `damaged` were damaged and their nodes started
/// again, with full disks.
fn damaged_world(seed: u64, cores: &[u16], damaged: &[u8]) -> World {
    let faults = Faults { delay_max_us: 300, write_max_us: 1_000, ..Faults::NONE };
    let mut world = World::new(seed, cores, faults, as_is);
    world.run_for(50_000);
    for number in 0..40 {
        let (key, value) = (format!("key{}", number % 8), format!("value{number}"));
        let ticket = world.submit(0, &["SET", &key, &value]);
        world.answer(ticket, PATIENCE_US);
    }
    world.run_for(1_000_000);
    for node in damaged {
        world.may_be_damaged(*node);
        world.crash(*node);
        for _ in 0..100 {
            world.rot(*node);
        }
        world.set_disk_full(*node, true);
        world.start(*node);
        assert!(world.has_loss(*node) && !world.is_whole(*node), "seed {seed}");
    }
    world.run_for(200_000);
    world
}

fn ask(world: &mut World, node: u8, words: &[&str]) -> Value {
    let ticket = world.submit(node, words);
    world.answer(ticket, PATIENCE_US)
}

fn text(text: &str) -> Value {
    Value::bulk(text.as_bytes().to_vec())
}

fn field(value: &Value, name: &str) -> Option<Value> {
    let Value::Map(fields) = value else { return None };
    fields.iter().find(|(key, _)| *key == text(name)).map(|(_, value)| value.clone())
}

fn is_error(value: &Value, word: &str) -> bool {
    matches!(value, Value::Error(error) if error.word() == word)
}

#[test]
fn a_damaged_nodes_clients_are_served_by_the_others_and_it_writes_nothing() {
    for seed in 0..4 {
        let mut world = damaged_world(seed, &[1, 1, 1], &[2]);
        let damaged = CoreId { node: 2, core: 0 };
        let writes = world.writes(damaged);
        for number in 32..40 {
            let key = format!("key{}", number % 8);
            assert_eq!(ask(&mut world, 2, &["GET", &key]), text(&format!("value{number}")));
        }
        // A write here is seen there, and a write there here, by local reads, too.
        assert_eq!(ask(&mut world, 2, &["SET", "key1", "new"]), Value::Simple("OK".into()));
        assert_eq!(ask(&mut world, 0, &["GET", "key1"]), text("new"));
        assert_eq!(ask(&mut world, 1, &["SET", "key2", "newer"]), Value::Simple("OK".into()));
        let local = world.submit_bytes(2, &["GET", "key2"], None, Freshness::Local);
        assert_eq!(world.answer(local, PATIENCE_US), text("newer"));
        for _ in 0..2 {
            let once = world.submit_once(2, &["INCR", "count"], "id-1");
            assert_eq!(world.answer(once, PATIENCE_US), Value::Integer(1));
        }
        // An error of the command itself is its answer.
        assert!(is_error(&ask(&mut world, 2, &["INCR", "key1"]), "ERR"));
        let inspected = world.inspect(2, "key1");
        let inspected = world.answer(inspected, PATIENCE_US);
        assert_eq!(field(&inspected, "abstains"), Some(Value::Integer(1)));
        let reason = format!("{:?}", field(&inspected, "reason"));
        assert!(reason.contains("Bulk") && !reason.contains("None"), "{reason}");
        let status = world.shard(damaged).status();
        assert_eq!((status.abstaining_cores, status.commands_held), (1, 0));
        assert!(status.abstaining > 0 && status.counters.relayed > 8);
        assert_eq!(world.writes(damaged), writes, "a damaged log is never appended to");
        assert_eq!(world.shard(damaged).spares_wanted(), 0);
    }
}

#[test]
fn a_restart_does_not_make_a_node_take_part_again() {
    for seed in 0..8 {
        let mut world = damaged_world(seed, &[1, 2, 1], &[1]);
        let before: Vec<_> =
            (0..2).map(|core| world.shard(CoreId { node: 1, core }).abstention()).collect();
        assert!(before.iter().any(Option::is_some));
        for _ in 0..3 {
            // While it is down its log may be cut off before the damage.
            world.crash(1);
            world.start(1);
            world.run_for(100_000);
            for core in 0..2 {
                let now = world.shard(CoreId { node: 1, core }).abstention();
                assert_eq!(now, before[usize::from(core)], "seed {seed}");
            }
        }
        assert_eq!(ask(&mut world, 1, &["GET", "key7"]), text("value39"));
    }
}

#[test]
fn with_room_for_another_log_a_damaged_node_rejoins_and_votes_again() {
    for seed in 0..6 {
        let mut world = damaged_world(seed, &[1, 2, 1], &[1]);
        world.set_disk_full(1, false);
        while world.has_loss(1) {
            world.crash(1);
            world.start(1);
        }
        assert!(!world.is_whole(1), "it has to hear from the others first");
        // One of the others is not enough: it may not know what this node promised to the third.
        world.crash(2);
        world.run_for(3_000_000);
        assert!(!world.is_whole(1), "seed {seed}");
        world.start(2);
        let deadline = world.now() + 10_000_000;
        assert!(world.run_until(deadline, |world| world.is_whole(1)), "seed {seed}");
        // Now its votes count: with it alone there is a majority.
        world.crash(0);
        world.run_for(100_000);
        assert_eq!(ask(&mut world, 1, &["GET", "key7"]), text("value39"));
        assert_eq!(ask(&mut world, 1, &["SET", "key7", "again"]), Value::Simple("OK".into()));
        for core in 0..2 {
            assert_eq!(world.shard(CoreId { node: 1, core }).rejoins(), None);
        }
        assert!(world.coverage.rejoins > 0 && world.coverage.logs_put_aside > 0);
    }
}

#[test]
fn a_node_with_new_disks_is_registered_rejoins_and_holds_all_it_held() {
    for seed in 0..6 {
        let faults = Faults { delay_max_us: 300, write_max_us: 1_000, ..Faults::NONE };
        let mut world = World::new(seed, &[1, 1, 1], faults, as_is);
        world.run_for(50_000);
        for life in 1..=3 {
            for number in 0..16 {
                let (key, value) = (format!("key{number}"), format!("{life}.{number}"));
                assert_eq!(ask(&mut world, 1, &["SET", &key, &value]), Value::Simple("OK".into()));
            }
            world.crash(2);
            world.wipe(2);
            world.start(2);
            let deadline = world.now() + 10_000_000;
            assert!(world.run_until(deadline, |world| world.is_whole(2)), "seed {seed}");
            assert_eq!(world.epoch(2), (life << 20) + 1, "each life is a generation of its own");
            world.crash(0);
            world.run_for(100_000);
            for number in 0..16 {
                let key = format!("key{number}");
                assert_eq!(ask(&mut world, 2, &["GET", &key]), text(&format!("{life}.{number}")));
            }
            world.start(0);
            world.run_for(1_000_000);
        }
    }
}

#[test]
fn who_is_asked_and_abstains_too_hands_nothing_on_and_the_next_is_asked() {
    let mut world = damaged_world(3, &[1; 5], &[1, 4]);
    for number in 0..12 {
        let key = format!("other{number}");
        let asker = [1, 4][number % 2];
        assert_eq!(ask(&mut world, asker, &["APPEND", &key, "ab"]), Value::Integer(2));
        assert_eq!(ask(&mut world, 0, &["GET", &key]), text("ab"));
    }
    let abstainers = [1, 4].map(|node| world.shard(CoreId { node, core: 0 }).status().counters);
    assert!(abstainers.iter().any(|counters| counters.retries > 0), "one asked the other");
    assert!(abstainers.iter().all(|counters| counters.forwarded == 0));
}

#[test]
fn the_others_reads_do_not_wait_for_who_abstains() {
    let mut world = damaged_world(5, &[1, 1, 1], &[2]);
    let mut slow = 0;
    for number in 0..300 {
        let asked = world.now();
        let key = format!("key{}", number % 8);
        ask(&mut world, u8::from(number % 2 == 0), &["GET", &key]);
        slow += u32::from(world.now() - asked > 50_000);
    }
    assert!(slow <= 4, "{slow} of 300 reads waited for a replica that never answers");
}

#[test]
fn without_a_majority_an_abstainers_clients_hear_so_in_time() {
    let mut world = damaged_world(6, &[1, 1, 1], &[2]);
    world.crash(1);
    world.run_for(100_000);
    let (read, write) = (world.submit(2, &["GET", "key1"]), world.submit(2, &["INCR", "count"]));
    assert!(is_error(&world.answer(read, PATIENCE_US), "CLUSTERDOWN"));
    assert!(is_error(&world.answer(write, PATIENCE_US), "UNKNOWN"), "it was handed out");
    world.crash(0);
    world.run_for(100_000);
    let (read, write) = (world.submit(2, &["GET", "key1"]), world.submit(2, &["INCR", "count"]));
    assert!(is_error(&world.answer(read, PATIENCE_US), "CLUSTERDOWN"));
    assert!(is_error(&world.answer(write, PATIENCE_US), "CLUSTERDOWN"), "nobody was there");
    world.start(0);
    world.start(1);
    world.run_for(1_000_000);
    assert!(matches!(ask(&mut world, 2, &["INCR", "count"]), Value::Integer(1 | 2)));
}
