//! A node whose data was lost is sent all entities by a peer, and something comes between: the
//! sender dies, the receiver does, their links are cut, or bits flip on the way. The node takes
//! part in everything in the end, its clients never see anything that is half there, and its memory
//! is bounded.
//!
//! `TRANSFER_ROUNDS` says how often, `TRANSFER_SEED` at which moments.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;
#[allow(dead_code, reason = "a part of the nemesis, of which not everything is used here")]
#[path = "../bin/certus-nemesis/proxy/mod.rs"]
mod proxy;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use net::resp::value::Value;
use serde_json::Value as Json;

use cluster::port_blocks::PortBlocks;
use cluster::random::Random;
use cluster::resp_client::RespClient;
use cluster::{Cluster, StopOnDrop, addresses, number, wait_until};
use proxy::{Proxy, Rule, Way};

/// The node that loses its data.
const NODE: usize = 2;
const ENTITIES: usize = 3_000;
const VALUE_SIZE: usize = 4_000;
/// So that a transfer takes a second and a half.
const RATE: &str = "catch_up.rate_bytes_per_s=8000000";
/// A node with its twelve megabytes of data, pages under way, and room in its logs and links.
const MEMORY_MAX_KIB: u64 = 256 << 10;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Interruption {
    SenderDies,
    ReceiverDies,
    LinksAreCut,
    BitsFlip,
}

const ALL: [Interruption; 4] = [
    Interruption::SenderDies,
    Interruption::ReceiverDies,
    Interruption::LinksAreCut,
    Interruption::BitsFlip,
];

fn key(number: usize) -> String {
    format!("key{number}")
}

fn value(number: usize) -> String {
    format!("{number:08}").repeat(VALUE_SIZE / 8)
}

/// A cluster whose nodes reach each other through a proxy alone.
struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    /// By link: who dials whom.
    links: Vec<(usize, usize)>,
    random: Random,
    outcomes: BTreeMap<(Interruption, &'static str), usize>,
    memory_kib: u64,
    _port_blocks: PortBlocks,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::start_with("transfers", &["--set", RATE]);
        for id in 0..3 {
            cluster.stop_node(id);
        }
        let (mut own, port_blocks) = addresses(6);
        let mut ways = Vec::new();
        let mut links = Vec::new();
        for from in 0..3 {
            let file = cluster.nodes[from].config_file.clone();
            let mut said: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
            for to in (0..3).filter(|to| *to != from) {
                let way = Way { from: own.next().unwrap(), to: cluster.nodes[to].peer };
                said["node"][to]["peer"] = way.from.to_string().into();
                ways.push(way);
                links.push((from, to));
            }
            fs::write(&file, said.to_string()).unwrap();
        }
        let proxy = Proxy::start(&ways).unwrap();
        for id in 0..3 {
            cluster.restart(id);
        }
        for id in 0..3 {
            cluster.wait_until_ready(id);
        }
        let mut client = cluster.client(0);
        for number in 0..ENTITIES {
            let reply = client.ask(&["SET", &key(number), &value(number)]).unwrap();
            assert!(!reply.is_error(), "{reply:?}");
        }
        let random = Random::new(seed);
        Self {
            cluster,
            proxy,
            links,
            random,
            outcomes: BTreeMap::new(),
            memory_kib: 0,
            _port_blocks: port_blocks,
        }
    }

    /// What a node says of its one core; `None` when it does not answer.
    fn core(&self, id: usize) -> Option<Json> {
        Some(self.cluster.nodes[id].status()?["cores"][0]["shard"].clone())
    }

    fn counter(&self, id: usize, name: &str) -> u64 {
        self.core(id).and_then(|core| core["counters"][name].as_u64()).unwrap_or(0)
    }

    fn set_links(&self, rule: Rule) {
        for (link, (from, to)) in self.links.iter().enumerate() {
            if *from == NODE || *to == NODE {
                self.proxy.set(link, rule);
            }
        }
    }

    /// Has the node lose its data, and lets something come between when it is sent them.
    fn round(&mut self, interruption: Interruption) {
        let sent = |scene: &Self| [0, 1].map(|id| scene.counter(id, "transfer_images_sent"));
        let before = sent(self);
        self.cluster.kill(NODE);
        fs::remove_dir_all(&self.cluster.nodes[NODE].data_directory).unwrap();
        self.cluster.restart_with(NODE, &["--replace"]);
        let wanted = u64::try_from(1 + self.random.below(ENTITIES * 3 / 4)).unwrap();
        let sender = |scene: &Self| {
            let now = sent(scene);
            [0, 1].into_iter().find(|id| now[*id] >= before[*id] + wanted)
        };
        wait_until("the transfer to come so far", || {
            self.cluster.nodes[NODE].check_running();
            sender(self).is_some()
        });
        let sender = sender(self).unwrap();
        let was_under_way = !self.cluster.nodes[NODE].is_whole();
        let took_effect = match interruption {
            Interruption::SenderDies => {
                self.cluster.kill(sender);
                thread::sleep(Duration::from_millis(100));
                self.cluster.restart(sender);
                true
            }
            Interruption::ReceiverDies => {
                self.note_memory();
                self.cluster.kill(NODE);
                self.cluster.restart(NODE);
                true
            }
            Interruption::LinksAreCut => {
                self.set_links(Rule::Cut);
                let all: Vec<usize> = (0..self.links.len()).collect();
                wait_until("links to be cut", || self.proxy.effects(&all)[0] > 0);
                thread::sleep(Duration::from_millis(300));
                self.set_links(Rule::Open);
                true
            }
            Interruption::BitsFlip => {
                let all: Vec<usize> = (0..self.links.len()).collect();
                let before = self.proxy.effects(&all)[3];
                let after = u32::try_from(self.random.below(400_000)).unwrap();
                self.set_links(Rule::Garble(after));
                thread::sleep(Duration::from_millis(500));
                self.set_links(Rule::Open);
                self.proxy.effects(&all)[3] > before
            }
        };
        self.cluster.wait_until_whole(NODE);
        self.cluster.wait_until_ready(sender);
        self.note_memory();
        let outcome = match (was_under_way, took_effect) {
            (true, true) => "interrupted",
            (false, _) => "too late",
            (true, false) => "nothing happened",
        };
        *self.outcomes.entry((interruption, outcome)).or_default() += 1;
        self.check_all();
    }

    /// The most that the node ever held.
    fn note_memory(&mut self) {
        let path = format!("/proc/{}/status", self.cluster.nodes[NODE].process_id());
        let said = fs::read_to_string(path).unwrap();
        let line = said.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        self.memory_kib = self.memory_kib.max(kib);
        assert!(kib <= MEMORY_MAX_KIB, "the node held {kib} KiB");
    }

    /// Everything is there, at the node itself.
    fn check_all(&self) {
        let mut client = self.cluster.client(NODE);
        assert_eq!(client.ask(&["READONLY"]).unwrap(), Value::OK);
        for number in 0..ENTITIES {
            let read = client.ask(&["GET", &key(number)]).unwrap();
            assert!(read == Value::bulk(value(number).into_bytes()), "{number}: {read:.60?}");
        }
    }
}

/// Reads at the node while it comes and goes: whatever is not an error is the whole value.
fn read_along(address: SocketAddr, stopping: &AtomicBool, reads: &AtomicU64) {
    let mut random = Random::new(7);
    let mut connection: Option<RespClient> = None;
    while !stopping.load(Ordering::Relaxed) {
        if connection.is_none() {
            connection = RespClient::connect(address, Duration::from_secs(2)).ok();
        }
        let Some(client) = &mut connection else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let number = random.below(ENTITIES);
        match client.ask(&["GET", &key(number)]) {
            Ok(Value::Error(_)) => thread::sleep(Duration::from_millis(2)),
            Ok(read) => {
                assert!(read == Value::bulk(value(number).into_bytes()), "{number}: {read:.60?}");
                reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => connection = None,
        }
    }
}

#[test]
fn interrupted_transfers_complete() {
    let rounds = usize::try_from(number("TRANSFER_ROUNDS", ALL.len() as u64)).unwrap();
    let seed = number("TRANSFER_SEED", 1);
    let mut scene = Scene::new(seed);
    let (stopping, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = scene.cluster.nodes[NODE].client;
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_along(address, &stopping, &reads));
        let guard = StopOnDrop(&stopping);
        for round in 0..rounds {
            scene.round(ALL[round % ALL.len()]);
            assert!(!reader.is_finished(), "the reader has ended");
        }
        drop(guard);
        reader.join().expect("it saw nothing that is half there");
    });
    let Scene { outcomes, memory_kib, .. } = &scene;
    let reads = reads.load(Ordering::Relaxed);
    println!("seed {seed}, {rounds} transfers: {outcomes:?}");
    println!("{reads} reads meanwhile; the node held {memory_kib} KiB at most");
    let interrupted: usize =
        outcomes.iter().filter(|((_, name), _)| *name == "interrupted").map(|(_, n)| n).sum();
    assert!(interrupted * 10 >= rounds * 8, "{interrupted} of {rounds} were interrupted");
    assert!(reads > 0, "nobody could read");
}
