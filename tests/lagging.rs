//! A node that was away is told what changed meanwhile, and not what it holds; and nodes that are
//! started anew one after the other come to hold the same.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use net::resp::value::Value;

use cluster::{Cluster, wait_until};

const KEYS: usize = 200_000;

/// Keys that change while a node is away.
const CHANGED: usize = 1_000;

/// Commands out at a time.
const WINDOW: usize = 1_000;

/// Entities on a page.
const PAGE: u64 = 512;

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Sets keys to `value`, many at a time.
fn set(cluster: &Cluster, id: usize, keys: &[usize], value: &str) {
    let mut client = cluster.client(id);
    for some in keys.chunks(WINDOW) {
        for number in some {
            client.send(&["SET", &key(*number), value]).unwrap();
        }
        for number in some {
            assert_eq!(client.receive().unwrap(), Value::OK, "{}", key(*number));
        }
    }
}

/// The keys that a node's own copy does not hold at `value`.
fn unlike(cluster: &Cluster, id: usize, keys: &[usize], value: &str) -> Vec<String> {
    let mut client = cluster.client(id);
    client.ask(&["READONLY"]).unwrap();
    let mut unlike = Vec::new();
    for number in keys {
        let held = client.ask(&["GET", &key(*number)]).unwrap();
        if held != Value::bulk(value.as_bytes().to_vec()) {
            unlike.push(format!("{}: {held:?}", key(*number)));
        }
    }
    unlike
}

/// The sum over a node's cores of a number in its status; `None` when it does not answer.
fn sum(cluster: &Cluster, id: usize, pointer: &str) -> Option<u64> {
    let status = cluster.nodes[id].status()?;
    let cores = status["cores"].as_array()?;
    cores.iter().map(|core| core.pointer(pointer)?.as_u64()).sum()
}

fn counted(cluster: &Cluster, nodes: &[usize], counter: &str) -> u64 {
    let pointer = format!("/shard/counters/{counter}");
    nodes.iter().map(|id| sum(cluster, *id, &pointer).unwrap()).sum()
}

/// Waits until every node has confirmed to every other that it lacks nothing.
fn wait_until_in_step(cluster: &Cluster) {
    wait_until("all nodes to be in step", || {
        (0..cluster.nodes.len()).all(|id| {
            cluster.nodes[id].check_running();
            let gauges = ["unconfirmed", "behind"].map(|name| format!("/shard/gauges/{name}"));
            gauges.iter().all(|gauge| sum(cluster, id, gauge) == Some(0))
        })
    });
}

#[test]
fn what_a_node_that_was_away_is_told_follows_from_what_changed_and_not_from_all_keys() {
    let mut cluster = Cluster::start_with("lagging", &["--cores", "2"]);
    let all: Vec<usize> = (0..KEYS).collect();
    set(&cluster, 0, &all, "old");
    wait_until_in_step(&cluster);
    cluster.kill(2);
    let changed: Vec<usize> = (0..KEYS).step_by(KEYS / CHANGED).collect();
    assert_eq!(changed.len(), CHANGED);
    set(&cluster, 1, &changed, "new");
    let before = ["lag_pages", "lag_entities"].map(|name| counted(&cluster, &[0, 1], name));
    cluster.restart(2);
    cluster.wait_until_ready(2);
    wait_until_in_step(&cluster);
    let after = ["lag_pages", "lag_entities"].map(|name| counted(&cluster, &[0, 1], name));
    let [pages, entities] = [after[0] - before[0], after[1] - before[1]];
    let whole = 2 * (KEYS as u64).div_ceil(PAGE);
    println!("{entities} entities on {pages} pages; a walk over all would be {whole} pages");
    assert!(entities >= CHANGED as u64, "it was told what it lacks");
    // By each of two peers to the other two, and some of it once more where a walk began anew.
    assert!(entities <= 8 * CHANGED as u64, "{entities} entities were told for {CHANGED}");
    assert!(pages <= whole / 10, "{pages} pages");
    // Its peers knew what it holds.
    assert_eq!(counted(&cluster, &[2], "sweeps_whole"), 0);
    assert_eq!(unlike(&cluster, 2, &changed, "new"), Vec::<String>::new());
    assert!(cluster.nodes[2].log_end().contains("in step with a core of a peer again"));

    // One after the other is stopped, or killed, and the others go on.
    for id in 0..3 {
        if id == 1 {
            cluster.kill(id);
        } else {
            cluster.stop_node(id);
        }
        let value = format!("while {id} was away");
        set(&cluster, (id + 1) % 3, &changed, &value);
        cluster.restart(id);
        cluster.wait_until_ready(id);
        wait_until_in_step(&cluster);
        for other in 0..3 {
            assert_eq!(unlike(&cluster, other, &changed, &value), Vec::<String>::new());
        }
    }
    let sample: Vec<usize> = (1..KEYS).step_by(KEYS / 100).collect();
    for id in 0..3 {
        assert_eq!(unlike(&cluster, id, &sample, "old"), Vec::<String>::new());
    }
    assert_eq!(counted(&cluster, &[0, 1, 2], "chains_unlike"), 0);
}
