//! One limit for the memory of a shard, and large entities that do not stay in it.

use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

const CORE: CoreId = CoreId { node: 0, core: 0 };

fn value(number: u8, length: usize) -> String {
    format!("{number}-{}", "x".repeat(length))
}

fn set(world: &mut World, node: u8, key: &str, value: &str) -> Value {
    let set = world.submit(node, &["SET", key, value]);
    world.answer(set, 1_000_000)
}

fn get(world: &mut World, node: u8, key: &str) -> Value {
    let get = world.submit(node, &["GET", key]);
    world.answer(get, 1_000_000)
}

#[test]
fn three_times_the_limit_is_written_and_read_and_memory_stays_within_it() {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, |config| {
        config.memory_bytes_max = 256 << 10;
    });
    world.run_for(50_000);
    for number in 0..200 {
        let key = format!("k{number}");
        assert_eq!(set(&mut world, number % 3, &key, &value(number, 4000)), Value::OK);
    }
    for number in 0..200 {
        let reply = get(&mut world, (number + 1) % 3, &format!("k{number}"));
        assert_eq!(reply, Value::bulk(value(number, 4000).into_bytes()));
    }
    world.run_for(1_000_000);
    for node in 0..3 {
        let status = world.shard(CoreId { node, core: 0 }).status();
        assert!(status.accounted_bytes <= status.memory_limit, "{status:?}");
        assert!(status.entities_in_memory > 10, "it is used, too: {status:?}");
        assert!(status.counters.loads > 0, "{status:?}");
    }
}

#[test]
fn an_index_that_takes_its_share_refuses_new_keys_and_nothing_else() {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, |config| {
        config.memory_bytes_max = 128 << 10;
    });
    world.run_for(50_000);
    let refused = (0..2000).find_map(|number| {
        let reply = set(&mut world, 0, &format!("k{number}"), "1");
        (reply != Value::OK).then_some((number, format!("{reply:?}")))
    });
    let (number, reply) = refused.expect("2000 places take more than three quarters of it");
    assert!(reply.contains("OOM") && reply.contains("raise memory.limit_bytes"), "{reply}");
    assert!(number > 50, "{number} entities fit");
    assert_eq!(get(&mut world, 0, "another"), Value::Null, "a look makes nothing that lasts");
    assert_eq!(set(&mut world, 0, "k0", "2"), Value::OK, "what is there goes on");
    assert_eq!(get(&mut world, 1, "k0"), Value::bulk(b"2".to_vec()));
}

#[test]
fn large_entities_leave_memory_and_come_back_with_few_reads() {
    let mut world = World::new(1, &[1, 1, 1], Faults::NONE, |config| {
        config.values_on_disk_above = 1024;
        config.values_cache_bytes = 0;
    });
    world.run_for(50_000);
    assert_eq!(set(&mut world, 0, "small", "1"), Value::OK);
    for number in 0..20 {
        assert_eq!(set(&mut world, 0, "large", &value(number, 8000)), Value::OK);
    }
    for _ in 0..100 {
        let append = world.submit(0, &["APPEND", "large", "y"]);
        assert!(matches!(world.answer(append, 1_000_000), Value::Integer(_)));
    }
    world.run_for(1_000_000);
    let before = world.shard(CORE).status();
    assert_eq!((before.large_entities, before.large_bytes), (0, 0));
    assert_eq!(before.entities_in_memory, 1, "the small one stays");
    let length = world.submit(0, &["STRLEN", "large"]);
    assert_eq!(world.answer(length, 1_000_000), Value::Integer(8003 + 100));
    let after = world.shard(CORE).status().counters;
    let reads = after.load_reads - before.counters.load_reads;
    let bytes = after.load_bytes - before.counters.load_bytes;
    assert_eq!(after.large_loads - before.counters.large_loads, 1);
    assert!((1..=65).contains(&reads), "{reads} reads");
    assert!((8000..=4 * 8200).contains(&bytes), "{bytes} bytes");
    world.run_for(1_000_000);
    assert_eq!(world.shard(CORE).status().large_entities, 0, "and it leaves again");
}
