//! After the last fault: all replicas become equal, and every node reads what was acknowledged.

use std::time::{Duration, Instant};

use net::resp::value::Value;

use crate::check::Violation;
use crate::failure::Failure;
use crate::resp_client::RespClient;
use crate::scene::Scene;
use crate::workload::client::{Client, Record};
use crate::workload::keys::{self, name_of};

/// As long as the number of unlike keys falls in this time, replicas are becoming equal; and as
/// long as that of entities of which a damaged node abstains does, it is being repaired.
const PROGRESS_WITHIN: Duration = Duration::from_secs(10);

/// Keys that are named when replicas stay unlike.
const NAMED: usize = 5;

/// Ids of who reads at the end, from here on; no workload has so many clients.
const AUDITORS: u16 = 60_000;

/// Waits until all is equal, and reads everything at every node; what the auditor noted.
///
/// # Errors
///
/// Violations.
pub fn audit(scene: &mut Scene) -> Result<Record, Failure> {
    // A read finishes what is still open: a write whose client heard nothing may come to be now.
    let mut record = read_everywhere(scene, AUDITORS)?;
    wait_for_repair(scene)?;
    let took = wait_until_equal(scene)?;
    record.extend(read_everywhere(scene, AUDITORS + 100)?);
    compare_local_reads(scene)?;
    scene.say(&format!("all replicas of {} keys equal after {} ms", keys::COUNT, took.as_millis()));
    Ok(record)
}

/// Reads every key at every node, at all nodes at once, past the proxy.
fn read_everywhere(scene: &mut Scene, first_id: u16) -> Result<Record, Failure> {
    let nodes = scene.cluster.nodes.iter().map(|node| node.place.client);
    let auditors = (first_id..).zip(nodes).map(|(id, node)| scene.workload.client(id, vec![node]));
    let threads: Vec<_> =
        auditors.map(|auditor| std::thread::spawn(|| read_all(auditor))).collect();
    let mut record = Record::default();
    for (id, thread) in scene.cluster.ids().zip(threads) {
        let (mut noted, unread) = thread.join().expect("an auditor ends");
        // Each knows one node only.
        noted.operations.iter_mut().for_each(|operation| operation.node = id);
        record.extend(noted);
        scene.check_running(id)?;
        if let Some(key) = unread {
            let key = name_of(key);
            let what = format!("{key} cannot be read at node {id} although all are well");
            return Err(Failure::violation("availability", what, scene.now()));
        }
    }
    scene.sleep(Duration::ZERO)?;
    Ok(record)
}

/// What an auditor noted, and the first key that could not be read.
fn read_all(mut auditor: Client) -> (Record, Option<u32>) {
    let unread = (0..keys::COUNT).find(|key| auditor.read(*key).is_none());
    (auditor.into_record(), unread)
}

/// A node that was damaged is waited for as long as it abstains of ever fewer entities.
fn wait_for_repair(scene: &mut Scene) -> Result<(), Failure> {
    let Some(id) = scene.damaged else { return Ok(()) };
    let mut fewest = u64::MAX;
    let mut progress = Instant::now();
    while fewest > 0 && progress.elapsed() < PROGRESS_WITHIN {
        if let Some(abstaining) = scene.cluster.node(id).abstaining()
            && abstaining < fewest
        {
            (fewest, progress) = (abstaining, Instant::now());
        }
        scene.sleep(Duration::from_millis(100))?;
    }
    let state = if fewest > 0 { "still abstains" } else { "takes part again" };
    scene.say(&format!("node {id}, which was damaged, {state}"));
    Ok(())
}

/// What replicas say of each key's history.
#[derive(Debug)]
struct Comparison {
    /// One connection for each node.
    clients: Vec<(u8, RespClient)>,
    /// The node that may abstain of some entities.
    damaged: Option<u8>,
    unlike: Vec<u32>,
}

impl Comparison {
    /// Compares the keys that were unlike so far; how many are left, and some of them.
    fn compare(&mut self) -> Result<Vec<String>, Failure> {
        let mut named = Vec::new();
        let mut left = Vec::new();
        for key in std::mem::take(&mut self.unlike) {
            let mut said = Vec::new();
            for (id, client) in &mut self.clients {
                let reply = client.ask(&["CERTUS", "ENTITY", &name_of(key)]);
                let history = match reply {
                    Ok(reply) if self.damaged == Some(*id) && abstains_of(&reply) => continue,
                    Ok(reply) => history_in(&reply),
                    Err(error) => format!("{error}"),
                };
                said.push((*id, history));
            }
            if said.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                if named.len() < NAMED {
                    named.push(format!("{}: {said:?}", name_of(key)));
                }
                left.push(key);
            }
        }
        self.unlike = left;
        Ok(named)
    }
}

/// A field of what a replica says of an entity; nothing where it says something else.
fn field<'a>(reply: &'a Value, name: &'static str) -> Option<&'a Value> {
    let Value::Array(fields) = reply else { return None };
    let mut pairs = fields.chunks_exact(2);
    pairs.find(|pair| pair[0] == Value::bulk(name.as_bytes())).map(|pair| &pair[1])
}

fn abstains_of(reply: &Value) -> bool {
    field(reply, "abstains") != Some(&Value::Integer(0))
}

/// How far a replica has applied an entity's entries, and their checksum.
fn history_in(reply: &Value) -> String {
    let said = ["applied", "chain", "diverged", "abstains"].map(|name| match field(reply, name) {
        Some(Value::Bulk(text)) => String::from_utf8_lossy(text).into_owned(),
        Some(Value::Integer(number)) => number.to_string(),
        other => format!("{other:?}"),
    });
    said.join("/")
}

fn wait_until_equal(scene: &mut Scene) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut clients = Vec::new();
    for node in &scene.cluster.nodes {
        let client = node.connect().ok_or_else(|| {
            let what = format!("node {} takes no connection", node.id);
            Failure::violation("availability", what, scene.now())
        })?;
        clients.push((node.id, client));
    }
    let damaged = scene.damaged;
    let mut comparison = Comparison { clients, damaged, unlike: (0..keys::COUNT).collect() };
    let mut fewest = usize::MAX;
    let mut progress = Instant::now();
    loop {
        let named = comparison.compare()?;
        let left = comparison.unlike.len();
        if left == 0 {
            return Ok(begin.elapsed());
        }
        if left < fewest {
            (fewest, progress) = (left, Instant::now());
        }
        if progress.elapsed() > PROGRESS_WITHIN {
            let what = format!(
                "the replicas of {left} keys stay unlike (applied/chain/diverged/abstains): {}",
                named.join("; ")
            );
            return Err(Failure::violation("convergence", what, scene.now()));
        }
        scene.sleep(Duration::from_millis(50))?;
    }
}

/// What a replica reads without asking the others is what they all read now.
fn compare_local_reads(scene: &mut Scene) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for node in &scene.cluster.nodes {
        let Some(mut client) = node.connect() else { continue };
        if client.ask(&["READONLY"]).is_ok_and(|reply| reply == Value::OK) {
            clients.push((node.id, client));
        }
    }
    if clients.len() < scene.cluster.nodes.len() {
        let what = "a node takes no connection for local reads";
        return Err(Failure::violation("availability", what, scene.now()));
    }
    for key in 0..keys::COUNT {
        let name = name_of(key);
        let mut said = Vec::new();
        for (id, client) in &mut clients {
            let reply = client.ask(&["GET", &name]).map_err(|error| {
                let what = format!("node {id} does not answer a local read of {name}: {error}");
                Failure::violation("availability", what, scene.workload.now())
            })?;
            said.push((*id, reply));
        }
        if said.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let what = format!("local reads of {name} differ between equal replicas: {said:?}");
            let violation =
                Violation { key: Some(key), rule: "convergence", what, at: scene.now() };
            return Err(Failure::Violation(violation));
        }
    }
    Ok(())
}

/// Stops all nodes in order, and has the files of those that are whole looked at.
///
/// # Errors
///
/// Violations: a node that does not stop, or leaves damaged files.
pub fn stop(scene: &mut Scene) -> Result<(), Failure> {
    let certus = scene.cluster.certus.clone();
    for id in scene.cluster.ids() {
        let status = scene.cluster.node(id).stop()?;
        if status.is_none_or(|status| !status.success()) {
            let lines = scene.cluster.node(id).last_lines();
            let what = format!("node {id} does not stop in order: {status:?}\n{lines}");
            return Err(Failure::violation("nodes run", what, scene.now()));
        }
        if scene.damaged == Some(id) {
            continue;
        }
        let data = &scene.cluster.node(id).place.data_directory;
        let output =
            std::process::Command::new(&certus).args(["plog", "verify"]).arg(data).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            let what = format!("the files of node {id} are damaged: {said}");
            return Err(Failure::violation("files", what, scene.now()));
        }
    }
    scene.say("all nodes stopped in order, their files are clean");
    Ok(())
}
