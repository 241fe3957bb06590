//! The admin endpoint: `/healthz`, `/readyz`, `/status` and `/metrics` over HTTP.
//!
//! It runs in the background of core 0. Cores send it their status once a second over a bounded
//! channel, so that answering never reaches into another core, and a hurried scraper costs the
//! cores nothing. This file is the pure half, request in and answer out; the sockets are
//! [`crate::executor::serve_in_background`]'s.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use plog::configuration::Members;
use plog::vocabulary::{AcceptorId, BootEpoch};
use serde_json::{Map, Value, json};

use crate::core_setup::NodeIdentity;
use crate::executor::Exchange;
use crate::reactor::member_orders::configuration_json;
use crate::reactor::node_shared::{CoreCounters, NodeShared};

/// Admin connections open at once.
pub const CONNECTIONS_MAX: usize = 16;
/// Largest request read, in bytes.
pub const REQUEST_SIZE_MAX: usize = 16 << 10;

/// A core's status, as sent to core 0.
#[derive(Debug)]
pub struct CoreStatus {
    /// Which core.
    pub core: u16,
    /// When it was made.
    pub made: Instant,
    /// What it says.
    pub status: Value,
}

/// Whether the node has come up; set once.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// All cores listen.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether all cores listen.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the admin endpoint answers from.
#[derive(Debug)]
pub struct Admin {
    identity: NodeIdentity,
    started: Instant,
    shared: Arc<NodeShared>,
    readiness: Arc<Readiness>,
    statuses: Receiver<CoreStatus>,
    latest: RefCell<Vec<Option<CoreStatus>>>,
    /// Connections open now: the core gives way more often while there are some.
    open: Rc<Cell<usize>>,
}

/// One exported counter: its name, its meaning, and where it is.
type Counter = (&'static str, &'static str, &'static str, fn(&CoreCounters) -> &AtomicU64);

const COUNTERS: &[Counter] = &[
    ("certus_keys", "gauge", "Keys held.", |core| &core.keys),
    ("certus_entities", "gauge", "Entities in the log.", |core| &core.entities),
    ("certus_state_bytes", "gauge", "Bytes of entity state in memory.", |core| &core.state_bytes),
    ("certus_index_bytes", "gauge", "Bytes of the places of all entities.", |core| {
        &core.index_bytes
    }),
    ("certus_accounted_bytes", "gauge", "Bytes of all that grows with data.", |core| {
        &core.accounted_bytes
    }),
    ("certus_log_bytes", "gauge", "Size of the log's segment files in bytes.", |core| {
        &core.log_bytes
    }),
    ("certus_abstaining", "gauge", "1 when the core abstains after a loss.", |core| {
        &core.abstaining
    }),
    ("certus_rejoining", "gauge", "1 while the core rejoins after a loss.", |core| &core.rejoining),
    ("certus_cleaner_paused", "gauge", "1 when an operator paused the cleaner.", |core| {
        &core.cleaner_paused
    }),
    ("certus_log_full", "gauge", "1 when writes are refused for want of room.", |core| {
        &core.log_full
    }),
    ("certus_connections", "gauge", "Client connections open.", |core| &core.connections),
    ("certus_connections_accepted_total", "counter", "Client connections accepted.", |core| {
        &core.accepted
    }),
    ("certus_connections_refused_total", "counter", "Client connections refused.", |core| {
        &core.refused
    }),
    ("certus_commands_total", "counter", "Client requests parsed.", |core| &core.commands),
    ("certus_client_received_bytes_total", "counter", "Bytes from clients.", |core| &core.bytes_in),
    ("certus_client_sent_bytes_total", "counter", "Bytes to clients.", |core| &core.bytes_out),
];

impl Admin {
    /// An endpoint that answers from `shared` and from what arrives by `statuses`.
    #[must_use]
    pub fn new(
        identity: NodeIdentity,
        started: Instant,
        shared: Arc<NodeShared>,
        readiness: Arc<Readiness>,
        statuses: Receiver<CoreStatus>,
    ) -> Self {
        let latest = RefCell::new(shared.cores.iter().map(|_| None).collect());
        Self { identity, started, shared, readiness, statuses, latest, open: Rc::default() }
    }

    /// How many connections are open; shared, so that the core's loop can look.
    #[must_use]
    pub fn open(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.open)
    }

    /// Takes what the cores sent.
    pub fn collect(&self) {
        let mut latest = self.latest.borrow_mut();
        while let Ok(status) = self.statuses.try_recv() {
            if let Some(place) = latest.get_mut(usize::from(status.core)) {
                *place = Some(status);
            }
        }
    }

    fn respond(&self, path: &str) -> (u16, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        self.collect();
        let (stopping, ready) = (self.shared.is_stopping(), self.readiness.is_ready());
        match path {
            "/healthz" => (200, TEXT, "ok\n".to_owned()),
            "/readyz" if stopping => (503, TEXT, "stopping\n".to_owned()),
            "/readyz" if ready => (200, TEXT, "ready\n".to_owned()),
            "/readyz" => (503, TEXT, "starting\n".to_owned()),
            "/status" => (200, "application/json", format!("{}\n", self.status())),
            "/metrics" => (200, "text/plain; version=0.0.4", self.metrics()),
            _ => (404, TEXT, "try /healthz, /readyz, /status or /metrics\n".to_owned()),
        }
    }

    fn status(&self) -> Value {
        let shared = &self.shared;
        let peers: Map<String, Value> = (0..self.identity.replicas)
            .filter(|node| *node != self.identity.node_id)
            .map(|node| (node.to_string(), json!({ "live": shared.is_live(node) })))
            .collect();
        let voters = self.voters();
        // A follower, or a node that is no voter, counts for nobody.
        let live = voters
            .iter()
            .filter(|node| node.0 == self.identity.node_id || shared.is_live(node.0))
            .count();
        let majority = voters.majority();
        let cores: Vec<Value> = self
            .latest
            .borrow()
            .iter()
            .map(|latest| match latest {
                Some(latest) => {
                    let age = u64::try_from(latest.made.elapsed().as_millis()).unwrap_or(u64::MAX);
                    json!({ "core": latest.core, "age_ms": age, "status": latest.status })
                }
                None => Value::Null,
            })
            .collect();
        json!({
            "healthy": live >= majority && self.readiness.is_ready() && !shared.is_stopping(),
            "more_nodes_may_fail": live.saturating_sub(majority),
            "ready": self.readiness.is_ready(),
            "stopping": shared.is_stopping(),
            "node": {
                "cluster_id": format!("{:#018x}", self.identity.cluster_id),
                "node_id": self.identity.node_id,
                "replicas": self.identity.replicas,
                "incarnation": format!("{:#034x}", self.identity.incarnation),
                "boot_epoch": self.identity.boot_epoch,
                "generation": BootEpoch(self.identity.boot_epoch).generation().0,
                "version": env!("CARGO_PKG_VERSION"),
                "process_id": std::process::id(),
                "uptime_s": self.started.elapsed().as_secs(),
            },
            "peers": peers,
            "membership": shared.configuration().map(|present| configuration_json(&present)),
            "cores": cores,
        })
    }

    /// Who votes.
    fn voters(&self) -> Members {
        match self.shared.configuration() {
            Some(present) => present.voters,
            None => Members::first(self.identity.replicas),
        }
    }

    fn push_membership(&self, text: &mut String) {
        let Some(present) = self.shared.configuration() else { return };
        push_head(text, "certus_configuration_version", "gauge", "Version of the membership.");
        push_line(text, &format!("certus_configuration_version {}", present.version));
        push_head(text, "certus_voter", "gauge", "1 when the node votes.");
        for node in 0..self.identity.replicas {
            let votes = u8::from(present.voters.contains(AcceptorId(node)));
            push_line(text, &format!("certus_voter{{node=\"{node}\"}} {votes}"));
        }
        push_head(text, "certus_learner", "gauge", "1 when the node learns, to vote later.");
        for node in 0..self.identity.replicas {
            let learns = u8::from(present.learners.contains(AcceptorId(node)));
            push_line(text, &format!("certus_learner{{node=\"{node}\"}} {learns}"));
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        for (name, kind, help, counter) in COUNTERS {
            push_head(&mut text, name, kind, help);
            for (index, core) in self.shared.cores.iter().enumerate() {
                let value = counter(core).load(Ordering::Relaxed);
                push_line(&mut text, &format!("{name}{{core=\"{index}\"}} {value}"));
            }
        }
        push_head(&mut text, "certus_peer_live", "gauge", "1 when the peer is heard.");
        for node in (0..self.identity.replicas).filter(|node| *node != self.identity.node_id) {
            let live = u8::from(self.shared.is_live(node));
            push_line(&mut text, &format!("certus_peer_live{{node=\"{node}\"}} {live}"));
        }
        self.push_membership(&mut text);
        for (name, help, bytes) in [
            ("certus_resident_bytes", "Memory of the process.", &self.shared.resident_bytes),
            (
                "certus_memory_budget_bytes",
                "What certus_accounted_bytes may come to.",
                &self.shared.memory_budget,
            ),
        ] {
            push_head(&mut text, name, "gauge", help);
            push_line(&mut text, &format!("{name} {}", bytes.load(Ordering::Relaxed)));
        }
        push_head(&mut text, "certus_ready", "gauge", "1 when all cores listen.");
        push_line(&mut text, &format!("certus_ready {}", u8::from(self.readiness.is_ready())));
        push_head(&mut text, "certus_uptime_seconds", "gauge", "Seconds since the start.");
        push_line(
            &mut text,
            &format!("certus_uptime_seconds {}", self.started.elapsed().as_secs()),
        );
        // Samples of one name must stand together, so they are gathered over the cores first.
        let mut samples = std::collections::BTreeMap::new();
        for latest in self.latest.borrow().iter().flatten() {
            flatten("certus_core", &latest.status, latest.core, &mut samples);
        }
        for (name, values) in samples {
            push_head(&mut text, &name, "untyped", "See CERTUS STATUS.");
            for (core, value) in values {
                push_line(&mut text, &format!("{name}{{core=\"{core}\"}} {value}"));
            }
        }
        text
    }
}

impl Exchange for Admin {
    fn answer(&self, received: &[u8]) -> Option<Vec<u8>> {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&received[..end]);
        let mut words = head.lines().next().unwrap_or("").split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = target.split('?').next().unwrap_or("");
        let (status, kind, body) = match method {
            "GET" | "HEAD" => self.respond(path),
            _ => (405, "text/plain; charset=utf-8", "only GET and HEAD\n".to_owned()),
        };
        let reason = match status {
            200 => "OK",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Service Unavailable",
        };
        let mut answer = format!(
            "HTTP/1.0 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        if method != "HEAD" {
            answer.push_str(&body);
        }
        Some(answer.into_bytes())
    }

    fn connections_changed(&self, open: usize) {
        self.open.set(open);
    }
}

/// Every number in `value`, named by its path.
fn flatten(
    name: &str,
    value: &Value,
    core: u16,
    samples: &mut std::collections::BTreeMap<String, Vec<(u16, String)>>,
) {
    match value {
        Value::Number(number) => {
            samples.entry(name.to_owned()).or_default().push((core, number.to_string()));
        }
        Value::Bool(flag) => {
            samples.entry(name.to_owned()).or_default().push((core, u8::from(*flag).to_string()));
        }
        Value::Object(members) => {
            for (key, member) in members {
                let word: String = key
                    .chars()
                    .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' })
                    .collect();
                flatten(&format!("{name}_{word}"), member, core, samples);
            }
        }
        // Lists have no names for their members, and texts no numbers.
        Value::Array(_) | Value::String(_) | Value::Null => {}
    }
}

fn push_head(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
        .expect("writing to a String never fails");
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    use net::peer::handshake::Role;
    use plog::configuration::{Configuration, Members};
    use serde_json::{Value, json};

    use super::{Admin, CoreStatus, Readiness};
    use crate::core_setup::NodeIdentity;
    use crate::executor::Exchange as _;
    use crate::reactor::node_shared::NodeShared;

    fn admin() -> (Admin, Arc<NodeShared>, Arc<Readiness>) {
        let identity = NodeIdentity {
            cluster_id: 0xC0FFEE,
            node_id: 1,
            incarnation: 5,
            boot_epoch: 2,
            replicas: 3,
            role: Role::Replica,
        };
        let (shared, readiness) = (Arc::new(NodeShared::new(2, 3)), Arc::default());
        let (sender, statuses) = sync_channel(4);
        let status = json!({ "log": { "frames": 7, "full": false }, "name": "x", "list": [1] });
        sender.send(CoreStatus { core: 1, made: Instant::now(), status }).unwrap();
        let admin = Admin::new(
            identity,
            Instant::now(),
            Arc::clone(&shared),
            Arc::clone(&readiness),
            statuses,
        );
        (admin, shared, readiness)
    }

    fn get(admin: &Admin, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = String::from_utf8(admin.answer(request.as_bytes()).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[test]
    fn readiness_follows_starting_ready_and_stopping() {
        let (admin, shared, readiness) = admin();
        assert_eq!(get(&admin, "/healthz").1, "ok\n");
        assert_eq!(
            get(&admin, "/readyz"),
            ("HTTP/1.0 503 Service Unavailable".to_owned(), "starting\n".to_owned())
        );
        readiness.set();
        assert_eq!(get(&admin, "/readyz?verbose").1, "ready\n");
        shared.stop();
        assert_eq!(get(&admin, "/readyz").1, "stopping\n");
    }

    #[test]
    fn status_says_whether_the_node_is_healthy_and_how_many_more_may_fail() {
        let (admin, shared, readiness) = admin();
        readiness.set();
        let read =
            |admin: &Admin| -> Value { serde_json::from_str(&get(admin, "/status").1).unwrap() };
        assert_eq!(read(&admin)["healthy"], json!(false), "alone, one of three decides nothing");
        shared.peers[0].inbound_links.store(1, std::sync::atomic::Ordering::Relaxed);
        let status = read(&admin);
        assert_eq!(status["healthy"], json!(true));
        assert_eq!(status["more_nodes_may_fail"], json!(0));
        assert_eq!(status["node"]["boot_epoch"], json!(2));
        assert_eq!(status["cores"][0], Value::Null);
        assert_eq!(status["cores"][1]["status"]["log"]["frames"], json!(7));
    }

    #[test]
    fn where_members_change_voters_are_counted_and_shown() {
        let (admin, shared, readiness) = admin();
        readiness.set();
        assert!(!get(&admin, "/metrics").1.contains("certus_voter"));
        let [voters, learners] = [0b011, 0b100].map(Members::from_bits);
        shared.goes_by(&Configuration { version: 7, voters, learners });
        let read =
            |admin: &Admin| -> Value { serde_json::from_str(&get(admin, "/status").1).unwrap() };
        // Two voters, of which it hears itself, and a learner, which does not count.
        shared.peers[2].inbound_links.store(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(read(&admin)["healthy"], json!(false));
        shared.peers[0].inbound_links.store(1, std::sync::atomic::Ordering::Relaxed);
        let status = read(&admin);
        assert_eq!(status["healthy"], json!(true));
        assert_eq!(
            status["membership"],
            json!({ "version": 7, "voters": [0, 1], "learners": [2] })
        );
        let (_, body) = get(&admin, "/metrics");
        for line in [
            "certus_configuration_version 7\n",
            "certus_voter{node=\"1\"} 1\n",
            "certus_voter{node=\"2\"} 0\n",
            "certus_learner{node=\"2\"} 1\n",
        ] {
            assert!(body.contains(line), "{line}");
        }
    }

    #[test]
    fn metrics_name_every_number_once_and_skip_what_is_none() {
        let (admin, shared, _) = admin();
        shared.cores[1].keys.store(42, std::sync::atomic::Ordering::Relaxed);
        let (_, body) = get(&admin, "/metrics");
        assert!(body.contains("certus_keys{core=\"1\"} 42\n"));
        assert!(body.contains("certus_core_log_frames{core=\"1\"} 7\n"));
        assert!(body.contains("certus_core_log_full{core=\"1\"} 0\n"));
        assert!(!body.contains("certus_core_name") && !body.contains("certus_core_list"));
        let types = body.lines().filter(|line| line.starts_with("# TYPE certus_keys ")).count();
        assert_eq!(types, 1);
    }

    #[test]
    fn a_half_request_waits_and_a_strange_one_is_told() {
        let (admin, _, _) = admin();
        assert_eq!(admin.answer(b"GET /healthz HTTP/1.1\r\n"), None);
        let answer = admin.answer(b"POST /healthz HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 405 "));
        let answer = admin.answer(b"\xff\xfe\r\n\r\n").unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 405 "));
        assert!(get(&admin, "/nothing").0.contains("404"));
        let head = admin.answer(b"HEAD /healthz HTTP/1.0\r\n\r\n").unwrap();
        assert!(head.ends_with(b"\r\n\r\n"));
    }
}
