//! A read of a key that nobody writes costs no disk write on any node, however linearizable it is.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs;
use std::time::{Duration, Instant};

use net::resp::value::Value;

use cluster::{Cluster, text, wait_until};

const KEYS: usize = 300;
const READS_PER_NODE: usize = 1500;

/// A node that wrote nothing for this long has nothing left to write: longer than its lazy flush
/// and its comparisons with the others take.
const QUIET: Duration = Duration::from_millis(1500);

#[test]
fn linearizable_reads_of_settled_keys_write_nothing_to_disk() {
    let cluster = Cluster::start("reads-write-nothing");
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key:{key}")).collect();
    for (number, key) in keys.iter().enumerate() {
        let mut client = cluster.client(number % 3);
        assert_eq!(client.ask(&["SET", key, key]).unwrap(), Value::OK);
    }
    cluster.wait_until_equal(&keys);
    let before = wait_until_quiet(&cluster);
    assert!(before.iter().all(|&bytes| bytes > 0), "writes are counted: {before:?}");
    for id in 0..3 {
        let mut client = cluster.client(id);
        for number in 0..READS_PER_NODE {
            let key = &keys[number % KEYS];
            assert_eq!(text(&client.ask(&["GET", key]).unwrap()), *key);
        }
    }
    assert_eq!(wait_until_quiet(&cluster), before, "bytes written by each node");
    // What is measured can be seen to change.
    assert_eq!(cluster.client(0).ask(&["SET", "key:0", "other"]).unwrap(), Value::OK);
    let after = wait_until_quiet(&cluster);
    assert!(after.iter().zip(&before).all(|(after, before)| after > before), "{after:?}");
}

/// Waits until no node writes any more; the bytes that each has written.
fn wait_until_quiet(cluster: &Cluster) -> Vec<u64> {
    let read = || -> Vec<u64> {
        cluster.nodes.iter().map(|node| written_bytes(node.process_id())).collect()
    };
    let mut seen = read();
    let mut since = Instant::now();
    wait_until("the nodes to write nothing any more", || {
        let now = read();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() > QUIET
    });
    seen
}

fn written_bytes(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).expect("our process's figures");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).expect("a line write_bytes")
}
