//! While one node of three is gone, the clients of the others notice nothing: no error, and no
//! pause. There is no leader whose loss must first be found out.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use net::resp::value::Value;

use cluster::random::Random;
use cluster::resp_client::RespClient;
use cluster::{ANSWER_TIMEOUT, Cluster, StopOnDrop, wait_until};

/// The longest that an answer may take, whatever happens to the third node.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Answers that the clients together must get in each of the phases.
const PROGRESS: u64 = 1500;

const KEYS: usize = 500;

#[test]
fn clients_of_the_other_nodes_notice_nothing_when_one_is_killed_and_comes_back() {
    let mut cluster = Cluster::start("availability");
    let stopping = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let survivors = [cluster.nodes[0].client, cluster.nodes[2].client];
    thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let (stopping, done) = (&stopping, &done);
                scope.spawn(move || use_node(survivors[number % 2], number, stopping, done))
            })
            .collect();
        let guard = StopOnDrop(&stopping);
        let phase = |name: &str| {
            let before = done.load(Ordering::Relaxed);
            let begin = Instant::now();
            // Longer than it takes to notice a silent peer, so that the phase covers that moment.
            wait_until(name, || {
                done.load(Ordering::Relaxed) >= before + PROGRESS
                    && begin.elapsed() > Duration::from_secs(3)
            });
        };
        phase("work with all nodes");
        cluster.kill(1);
        phase("work with one node gone");
        cluster.restart(1);
        cluster.wait_until_ready(1);
        phase("work with the node back");
        drop(guard);
        for client in clients {
            let longest = client.join().expect("a client saw no error");
            println!("longest pause of a client: {longest:?}");
            assert!(longest < PAUSE_MAX, "a client waited {longest:?} for one answer");
        }
    });
    let keys: Vec<String> = (0..KEYS).step_by(50).map(|key| format!("key:{key}")).collect();
    cluster.wait_until_equal(&keys);
}

/// Reads and writes over one connection until told to stop; the longest wait for an answer.
fn use_node(node: SocketAddr, number: usize, stopping: &AtomicBool, done: &AtomicU64) -> Duration {
    let seed = u64::try_from(number).expect("a usize fits 64 bits");
    let mut random = Random::new(seed);
    let mut client = RespClient::connect(node, ANSWER_TIMEOUT).expect("the node is up");
    let mut longest = Duration::ZERO;
    while !stopping.load(Ordering::Relaxed) {
        let key = format!("key:{}", random.below(KEYS));
        let value = random.next().to_string();
        let begin = Instant::now();
        let reply = if random.below(2) == 0 {
            client.ask(&["SET", &key, &value])
        } else {
            client.ask(&["GET", &key])
        };
        longest = longest.max(begin.elapsed());
        match reply {
            Ok(Value::Error(error)) => {
                // What the node holds of the key says what it waited for.
                let entity = client.ask(&["CERTUS", "ENTITY", &key]);
                panic!("client {number} was told after {longest:?}: {error}; {key}: {entity:?}");
            }
            Ok(_) => done.fetch_add(1, Ordering::Relaxed),
            Err(error) => panic!("client {number}: {error}"),
        };
    }
    longest
}
