//! Whole clusters of three and five replicas in one thread: what a client relies on.

use engine::config::ShardConfig;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

fn as_is(_: &mut ShardConfig) {}

fn world(cores: &[u16]) -> World {
    let mut world = World::new(1, cores, Faults::NONE, as_is);
    world.run_for(50_000);
    world
}

fn text(text: &str) -> Value {
    Value::bulk(text.as_bytes().to_vec())
}

#[test]
fn a_write_at_one_replica_is_read_at_every_other() {
    for cores in [&[1, 1, 1][..], &[1, 1, 1, 1, 1], &[1, 2, 3], &[2, 2, 4]] {
        let mut world = world(cores);
        for (number, node) in (0..world.node_count()).enumerate() {
            let key = format!("key{number}");
            let set = world.submit(node, &["SET", &key, "value"]);
            assert_eq!(world.answer(set, 1_000_000), Value::OK);
            for reader in 0..world.node_count() {
                let get = world.submit(reader, &["GET", &key]);
                assert_eq!(world.answer(get, 1_000_000), text("value"), "on {reader} of {cores:?}");
            }
        }
        assert!(world.checker.compared.applied > 0);
    }
}

#[test]
fn the_second_write_of_an_entity_takes_one_round_trip() {
    let mut world = world(&[1, 1, 1]);
    let first = world.submit(0, &["SET", "k", "1"]);
    world.answer(first, 1_000_000);
    let core = CoreId { node: 0, core: 0 };
    let prepares = world.shard(core).status().counters.prepares;
    assert_eq!(prepares, 1, "nobody is pre-authorised for the first entry");
    for _ in 0..10 {
        let set = world.submit(0, &["SET", "k", "2"]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    let counters = world.shard(core).status().counters;
    assert_eq!((counters.prepares, counters.pre_authorised), (1, 10));
}

#[test]
fn a_read_of_a_settled_key_writes_nothing() {
    let mut world = world(&[1, 1, 1]);
    let set = world.submit(0, &["SET", "k", "1"]);
    world.answer(set, 1_000_000);
    world.run_for(2_000_000);
    let writes = |world: &World| (0..3).map(|node| world.writes(CoreId { node, core: 0 })).sum();
    let before: u64 = writes(&world);
    for node in [0, 1, 2, 0, 1, 2] {
        let get = world.submit(node, &["GET", "k"]);
        assert_eq!(world.answer(get, 1_000_000), text("1"));
        let again = world.submit(node, &["SETNX", "k", "2"]);
        assert_eq!(world.answer(again, 1_000_000), Value::Integer(0));
    }
    world.run_for(2_000_000);
    assert_eq!(writes(&world), before);
}

#[test]
fn commands_that_wait_together_share_an_entry() {
    let mut world = world(&[1, 1, 1]);
    let first = world.submit(0, &["INCR", "n"]);
    world.answer(first, 1_000_000);
    let tickets: Vec<u64> = (0..100).map(|_| world.submit(0, &["INCR", "n"])).collect();
    for (ticket, expected) in tickets.iter().zip(2..) {
        assert_eq!(world.answer(*ticket, 1_000_000), Value::Integer(expected));
    }
    let entity = entity_of(b"n");
    let (_, applied, _) = world.chains(entity)[0];
    assert!(applied.0 <= 4, "100 commands took {} entries", applied.0);
}

#[test]
fn duelling_replicas_all_get_through_and_count_exactly() {
    let mut world = world(&[1, 1, 1]);
    let mut tickets = Vec::new();
    for _ in 0..30 {
        for node in 0..3 {
            tickets.push(world.submit(node, &["INCR", "hot"]));
        }
        world.run_for(137);
    }
    let mut seen: Vec<i64> = Vec::new();
    for ticket in tickets {
        match world.answer(ticket, 5_000_000) {
            Value::Integer(count) => seen.push(count),
            other => panic!("{other:?}"),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=90).collect::<Vec<i64>>());
}

#[test]
fn two_of_three_serve_on_and_one_alone_says_so() {
    let mut world = world(&[1, 1, 1]);
    world.crash(2);
    let set = world.submit(0, &["SET", "k", "1"]);
    assert_eq!(world.answer(set, 1_000_000), Value::OK);
    let get = world.submit(1, &["GET", "k"]);
    assert_eq!(world.answer(get, 1_000_000), text("1"));
    world.crash(1);
    let get = world.submit(0, &["GET", "k"]);
    let reply = world.answer(get, 10_000_000);
    assert!(matches!(&reply, Value::Error(error) if error.word() == "CLUSTERDOWN"), "{reply:?}");
    let set = world.submit(0, &["SET", "k", "2"]);
    let reply = world.answer(set, 10_000_000);
    assert!(matches!(&reply, Value::Error(error) if error.word() == "UNKNOWN"), "{reply:?}");
}

#[test]
fn a_node_that_was_down_converges_without_any_client_touching_its_entities() {
    let mut world = World::new(3, &[1, 1, 1], Faults::NONE, |config| {
        config.image_every_entries = 8;
        config.hold_entries = 4;
    });
    world.run_for(50_000);
    world.crash(2);
    for number in 0..60 {
        // Some entities get more entries than are held: these need an image.
        for key in ["a", "b", "c"] {
            let set = world.submit(0, &["SET", key, &format!("v{number}")]);
            assert_eq!(world.answer(set, 1_000_000), Value::OK);
        }
        let once = format!("once{number}");
        let set = world.submit(1, &["SET", &once, "v"]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    world.start(2);
    world.run_for(3_000_000);
    let mut keys = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    keys.extend((0..60).map(|number| format!("once{number}")));
    for key in keys {
        let chains = world.chains(entity_of(key.as_bytes()));
        assert_eq!(chains.len(), 3, "{key}: {chains:?}");
        assert!(chains.iter().all(|chain| (chain.1, chain.2) == (chains[0].1, chains[0].2)));
    }
}

#[test]
fn everything_acknowledged_survives_a_crash_of_all_nodes() {
    for seed in 0..20 {
        let mut world = World::new(seed, &[1, 1, 1], Faults::NONE, as_is);
        world.run_for(50_000);
        let mut expected = Vec::new();
        for number in 0..40_u8 {
            let key = format!("k{}", number % 7);
            let set = world.submit(number % 3, &["SET", &key, &format!("v{number}")]);
            assert_eq!(world.answer(set, 1_000_000), Value::OK);
            expected.retain(|(known, _)| *known != key);
            expected.push((key, format!("v{number}")));
        }
        for node in 0..3 {
            world.crash(node);
        }
        for node in 0..3 {
            world.start(node);
        }
        world.run_for(100_000);
        for (key, value) in &expected {
            let get = world.submit(u8::try_from(seed % 3).unwrap(), &["GET", key]);
            assert_eq!(world.answer(get, 5_000_000), text(value), "{key}, seed {seed}");
        }
    }
}

#[test]
fn large_values_and_evicted_entities_come_back_from_the_log() {
    let mut world = World::new(5, &[1, 1, 1], Faults::NONE, |config| {
        config.entities_in_memory_max = 4;
    });
    world.run_for(50_000);
    let value = |number: u8| format!("{number}-{}", "x".repeat(3000 + usize::from(number)));
    for number in 0..40 {
        let set = world.submit(number % 3, &["SET", &format!("k{number}"), &value(number)]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    world.run_for(1_000_000);
    for number in 0..40 {
        let reader = (number + 1) % 3;
        let get = world.submit(reader, &["GET", &format!("k{number}")]);
        assert_eq!(world.answer(get, 1_000_000), text(&value(number)));
    }
    let status = world.shard(CoreId { node: 0, core: 0 }).status();
    assert!(status.counters.evictions > 0 && status.counters.loads > 0, "{status:?}");
    assert!(status.entities_in_memory <= 8, "{}", status.entities_in_memory);
    assert_eq!(status.keys, 40);
}

#[test]
fn a_retried_request_id_is_applied_once_on_whatever_node() {
    let mut world = world(&[1, 1, 1]);
    for node in [0, 1, 2, 0] {
        let incr = world.submit_once(node, &["INCR", "n"], "same");
        assert_eq!(world.answer(incr, 1_000_000), Value::Integer(1));
    }
    let incr = world.submit_once(1, &["INCR", "n"], "other");
    assert_eq!(world.answer(incr, 1_000_000), Value::Integer(2));
}

#[test]
fn a_full_shard_refuses_new_keys_but_not_a_look_at_them() {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, |config| config.entities_max = 2);
    world.run_for(50_000);
    for key in ["a", "b"] {
        let set = world.submit(0, &["SET", key, "1"]);
        assert_eq!(world.answer(set, 1_000_000), Value::OK);
    }
    let refused = world.submit(0, &["SET", "c", "1"]);
    let reply = world.answer(refused, 1_000_000);
    assert!(format!("{reply:?}").contains("OOM"), "{reply:?}");
    let get = world.submit(0, &["GET", "c"]);
    assert_eq!(world.answer(get, 1_000_000), Value::Null);
    let set = world.submit(1, &["SET", "a", "2"]);
    assert_eq!(world.answer(set, 1_000_000), Value::OK, "what is there goes on");
}

#[test]
fn a_batch_ends_when_its_effects_are_large_though_its_commands_are_small() {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, |config| {
        config.batch_bytes_max = 8 << 10;
    });
    world.run_for(50_000);
    let large = "x".repeat(4 << 10);
    for number in 0..10 {
        let set = world.submit(0, &["SET", &format!("{{t}}{number}"), &large]);
        world.answer(set, 1_000_000);
    }
    let core = CoreId { node: 0, core: 0 };
    let before = world.shard(core).status().counters.chosen;
    // All but the first wait for its entry, and could go into the next one together.
    let appends: Vec<u64> = (0..10)
        .map(|number| world.submit(0, &["APPEND", &format!("{{t}}{number}"), "y"]))
        .collect();
    for append in appends {
        assert_eq!(world.answer(append, 1_000_000), Value::Integer((4 << 10) + 1));
    }
    let entries = world.shard(core).status().counters.chosen - before;
    assert_eq!(entries, 1 + 5, "of two appended values each");
}
