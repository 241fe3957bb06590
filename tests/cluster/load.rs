//! Clients that load a cluster while its nodes are killed, damaged or replaced, and what must be
//! true of what they were told.
//!
//! Writers append numbered words to keys of their own, so that a key's value is the history of what
//! took effect: an acknowledged word stands there once and in order, a refused one never, and one
//! whose fate was unknown at most once. Counters are incremented with `CERTUS ONCE` and retried
//! until acknowledged, so that they must be exact.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use net::resp::value::Value;

use super::resp_client::{ClientError, RespClient};
use super::{Cluster, PATIENCE, StopOnDrop, text, wait_until};

const WRITERS: usize = 4;
const COUNTERS: usize = 3;
/// Words in one key, after which a writer takes another.
const WORDS_PER_KEY: u64 = 60;
/// Requests that make for progress, so that there is something to lose.
const PROGRESS: u64 = 60;
/// Nodes from here on follow.
const FOLLOWER_ID_FIRST: u8 = 16;
/// How long a client waits for an answer before it turns to another node.
const CLIENT_PATIENCE: Duration = Duration::from_secs(3);

/// What has been done to the clients so far.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a>(&'a AtomicU64);

impl Progress<'_> {
    /// Waits until some more requests have succeeded.
    pub fn wait(&self) {
        let before = self.0.load(Ordering::Relaxed);
        wait_until("clients to make progress", || {
            self.0.load(Ordering::Relaxed) >= before + PROGRESS
        });
    }
}

/// Loads a cluster of three while `action` lasts, which leaves all its nodes up; then looks whether
/// all that was acknowledged is there, and waits until all replicas are equal. How many words were
/// acknowledged. Each `round` of a cluster has keys of its own.
pub fn under_load(
    cluster: &mut Cluster,
    round: u64,
    action: impl FnOnce(&mut Cluster, Progress<'_>),
) -> u64 {
    let nodes: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.client).collect();
    let stopping = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let load = Load { round, nodes: &nodes, stopping: &stopping, done: &done };
    let load = &load;
    let (journals, counted) = thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || write_words(load, number))).collect();
        let counters: Vec<_> =
            (0..WRITERS).map(|number| scope.spawn(move || count(load, number))).collect();
        let guard = StopOnDrop(&stopping);
        action(cluster, Progress(&done));
        drop(guard);
        let join = |handle: ScopedJoinHandle<'_, Journal>| handle.join().expect("a writer ends");
        let journals: Vec<Journal> = writers.into_iter().map(join).collect();
        let counted: Vec<[u64; COUNTERS]> =
            counters.into_iter().map(|handle| handle.join().expect("a counter ends")).collect();
        (journals, counted)
    });
    let acknowledged = check_words(cluster, &journals);
    check_counters(cluster, round, &counted);
    let keys: Vec<String> = journals.iter().flat_map(BTreeMap::keys).cloned().collect();
    let counter_keys = (0..COUNTERS).map(|counter| counter_key(round, counter));
    cluster.wait_until_equal(&keys.into_iter().chain(counter_keys).collect::<Vec<_>>());
    acknowledged
}

/// What a client learned of a word it appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    Acknowledged,
    Refused,
    Unknown,
}

/// What one writer did, by key: its words, in the order of sending.
type Journal = BTreeMap<String, Vec<(String, Fate)>>;

#[derive(Debug)]
struct Load<'a> {
    round: u64,
    nodes: &'a [SocketAddr],
    stopping: &'a AtomicBool,
    /// Requests that succeeded.
    done: &'a AtomicU64,
}

/// A client that goes on to another node when one is gone.
#[derive(Debug)]
struct Client<'a> {
    nodes: &'a [SocketAddr],
    node: usize,
    connection: Option<RespClient>,
}

impl<'a> Client<'a> {
    fn new(nodes: &'a [SocketAddr], number: usize) -> Self {
        Self { nodes, node: number % nodes.len(), connection: None }
    }

    /// One attempt at one node. Without a connection nothing was sent, so [`None`].
    fn ask(&mut self, words: &[&str]) -> Option<Result<Value, ClientError>> {
        if self.connection.is_none() {
            match RespClient::connect(self.nodes[self.node], CLIENT_PATIENCE) {
                Ok(connection) => self.connection = Some(connection),
                Err(_) => {
                    self.turn_to_next();
                    return None;
                }
            }
        }
        let answer = self.connection.as_mut()?.ask(words);
        if !matches!(&answer, Ok(value) if !value.is_error()) {
            self.turn_to_next();
        }
        Some(answer)
    }

    fn turn_to_next(&mut self) {
        self.connection = None;
        self.node = (self.node + 1) % self.nodes.len();
        // All nodes may be gone; without a pause their clients would only keep them from starting.
        thread::sleep(Duration::from_millis(2));
    }
}

fn write_words(load: &Load<'_>, writer: usize) -> Journal {
    let mut journal = Journal::new();
    let mut client = Client::new(load.nodes, writer);
    for number in 0.. {
        if load.stopping.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("words:{}:{writer}:{}", load.round, number / WORDS_PER_KEY);
        let word = format!("{number},");
        let Some(answer) = client.ask(&["APPEND", &key, &word]) else { continue };
        let fate = match answer {
            Ok(Value::Error(error)) => match error.word() {
                "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "LOADING" | "REMOVED" => Fate::Refused,
                "UNKNOWN" => Fate::Unknown,
                _ => panic!("writer {writer} was told: {error}"),
            },
            Ok(_) => Fate::Acknowledged,
            Err(_) => Fate::Unknown,
        };
        if fate == Fate::Acknowledged {
            load.done.fetch_add(1, Ordering::Relaxed);
        }
        journal.entry(key).or_default().push((word, fate));
    }
    journal
}

/// Increments the counters in turn until told to stop; how often each, all acknowledged.
fn count(load: &Load<'_>, number: usize) -> [u64; COUNTERS] {
    let mut counted = [0; COUNTERS];
    let mut client = Client::new(load.nodes, number);
    for turn in 0.. {
        if load.stopping.load(Ordering::Relaxed) {
            break;
        }
        let counter = turn % COUNTERS;
        let key = counter_key(load.round, counter);
        let id = format!("{}-{number}-{turn}", load.round);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.ask(&["CERTUS", "ONCE", &id, "INCR", &key]) {
                Some(Ok(Value::Integer(_))) => break,
                Some(Ok(Value::Error(error)))
                    if ["CLUSTERDOWN", "TRYAGAIN", "BUSY", "LOADING", "UNKNOWN", "REMOVED"]
                        .contains(&error.word()) => {}
                Some(Ok(other)) => panic!("counter {number} was told: {other:?}"),
                Some(Err(_)) | None => {}
            }
            assert!(Instant::now() < deadline, "no node increments {key} within {PATIENCE:?}");
        }
        counted[counter] += 1;
        load.done.fetch_add(1, Ordering::Relaxed);
    }
    counted
}

fn counter_key(round: u64, counter: usize) -> String {
    format!("counter:{round}:{counter}")
}

/// Compares what is stored with what clients were told; how many words were acknowledged.
fn check_words(cluster: &Cluster, journals: &[Journal]) -> u64 {
    let standing = cluster.standing().filter(|node| node.id < FOLLOWER_ID_FIRST);
    let mut clients: Vec<RespClient> =
        standing.map(|node| node.connect().expect("a node that is up takes connections")).collect();
    let count = clients.len();
    let mut acknowledged = 0;
    for (number, (key, sent)) in journals.iter().flatten().enumerate() {
        let value = clients[number % count].ask(&["GET", key]).expect("a node that is up answers");
        let stored = match &value {
            Value::Null => String::new(),
            value => text(value),
        };
        let words: Vec<&str> = stored.split_inclusive(',').collect();
        acknowledged += check_history(key, sent, &words).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    acknowledged
}

/// How many words were acknowledged, or what is wrong with what is stored.
///
/// # Errors
///
/// What contradicts what the client was told.
pub fn check_history(key: &str, sent: &[(String, Fate)], stored: &[&str]) -> Result<u64, String> {
    let wrong = |word: &str, what: &str| {
        Err(format!("{key}: {word} {what}; stored {stored:?}, sent {sent:?}"))
    };
    let mut last_acknowledged = None;
    let mut acknowledged = 0;
    for (word, fate) in sent {
        let mut places = (0..stored.len()).filter(|&place| stored[place] == word);
        let place = places.next();
        if places.next().is_some() {
            return wrong(word, "took effect more than once");
        }
        match (fate, place) {
            (Fate::Acknowledged, None) => return wrong(word, "was acknowledged and is lost"),
            (Fate::Acknowledged, Some(_)) if place <= last_acknowledged => {
                return wrong(word, "stands before one acknowledged earlier");
            }
            (Fate::Acknowledged, Some(_)) => {
                last_acknowledged = place;
                acknowledged += 1;
            }
            (Fate::Refused, Some(_)) => return wrong(word, "was refused and is there"),
            (Fate::Refused, None) | (Fate::Unknown, _) => {}
        }
    }
    let is_known = |word: &str| sent.iter().any(|(sent, _)| sent == word);
    match stored.iter().find(|word| !is_known(word)) {
        Some(word) => wrong(word, "was sent by nobody"),
        None => Ok(acknowledged),
    }
}

fn check_counters(cluster: &Cluster, round: u64, counted: &[[u64; COUNTERS]]) {
    for counter in 0..COUNTERS {
        let key = counter_key(round, counter);
        let expected: u64 = counted.iter().map(|counts| counts[counter]).sum();
        for node in cluster.standing().filter(|node| node.id < FOLLOWER_ID_FIRST) {
            let mut client = node.connect().expect("a node that is up takes connections");
            let value = client.ask(&["GET", &key]).expect("a node that is up answers");
            assert_eq!(text(&value), expected.to_string(), "{key} at node {}", node.id);
        }
    }
}
