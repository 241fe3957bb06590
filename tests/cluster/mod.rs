//! A cluster of real processes for the tests beside: started with `certus dev`, killed with
//! SIGKILL, started again with the commands it left in `cluster.json`.
//!
//! What processes do takes the time it takes, so these tests wait for conditions, each with a
//! deadline that only a node that hangs can miss.

#![allow(dead_code, reason = "each test program uses another part of this module")]

pub mod load;
#[path = "../../bin/certus/dev/port_blocks.rs"]
pub mod port_blocks;
#[path = "../../bin/certus/dev/process.rs"]
pub mod process;
pub mod random;
#[path = "../../bin/certus/resp_client.rs"]
pub mod resp_client;
mod status;

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::resp::value::Value;
use rustix::process::Signal;

use port_blocks::PortBlocks;
use process::Process;
use resp_client::{ClientError, RespClient};

/// A condition that is not met after this long never will be.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a node may take to answer one command.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Small segments and frequent checkpoints, so that tests come to new ones, and a quick look for
/// entities left behind.
const SETTINGS: &[&str] = &[
    "log.segment_size_bytes=8388608",
    "log.spare_segments=1",
    "log.checkpoint_log_bytes=1048576",
    "log.checkpoint_log_percent=50",
    "log.hold_bytes=0",
    "log.disk_reserve_bytes=4194304",
    "limits.peer_frame_size_max_bytes=7340032",
    "consensus.sweep_every_ms=500",
];

/// A running cluster of three. Dropping it stops it, whatever became of its nodes.
#[derive(Debug)]
pub struct Cluster {
    /// Its directory.
    pub directory: PathBuf,
    /// Its nodes, by id: the first three.
    pub nodes: Vec<Node>,
    /// How many replicas it has, be they among these or not.
    pub replicas: u8,
    /// Its followers, in the order in which they were added.
    pub followers: Vec<Node>,
    /// What keeps others from its ports, also while no node of it runs.
    port_blocks: Vec<PortBlocks>,
}

/// One node of it.
#[derive(Debug)]
pub struct Node {
    /// Index in the replica set.
    pub id: u8,
    /// Where it serves clients.
    pub client: SocketAddr,
    /// Where it listens for peers.
    pub peer: SocketAddr,
    /// Where it answers operators.
    pub admin: SocketAddr,
    /// Its identity and log.
    pub data_directory: PathBuf,
    /// Its configuration.
    pub config_file: PathBuf,
    /// What it says.
    pub log_file: PathBuf,
    command: Vec<String>,
    process: Option<Process>,
    /// The process again, when it was started here.
    child: Option<Child>,
}

/// Runs `certus` with these words.
pub fn certus(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_certus"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("certus runs")
}

/// The number that a variable of the environment says, for a test that can be told to do more.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a whole number"))
}

/// A name for a directory of the test `name`, of which nothing is there.
pub fn scratch_directory(name: &str) -> PathBuf {
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("what an earlier run left can be removed");
    }
    directory
}

/// Starts `certusd` with a configuration that it must refuse. The exit status, and what it said:
/// one fatal line.
pub fn refused_start(config: &Path) -> (i32, String) {
    refused_start_with(config, &[])
}

/// The same with further arguments.
pub fn refused_start_with(config: &Path, arguments: &[&str]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_certusd"))
        .args(["--config".as_ref(), config.as_os_str()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("certusd can be started");
    let mut ended = None;
    let deadline = Instant::now() + PATIENCE;
    while ended.is_none() && Instant::now() < deadline {
        ended = child.try_wait().expect("a child can be looked at");
        std::thread::sleep(Duration::from_millis(5));
    }
    if ended.is_none() {
        child.kill().expect("a child can be killed");
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let status = ended.unwrap_or_else(|| panic!("the start was not refused: {said}"));
    let fatal = said.lines().filter(|line| line.starts_with("certusd: fatal: ")).count();
    assert_eq!(fatal, 1, "one line says why: {said}");
    (status.code().expect("it ends by itself"), said)
}

/// Waits until `condition` holds.
///
/// # Panics
///
/// When it does not within [`PATIENCE`]; `what` says what was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells the clients of a test to stop when it goes, also by a failure: the test would otherwise
/// wait for them for ever.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Cluster {
    /// A fresh cluster of three nodes of one core, for the test `name`.
    ///
    /// With `CLUSTER_REPLICAS=5` in the environment there are two more of them: one that only
    /// votes, and one that is down from the start. So each fault of a test is the second at a time,
    /// and what needs a majority needs the same two of the first three as ever.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same with further arguments of `certus dev`.
    pub fn start_with(name: &str, arguments: &[&str]) -> Self {
        Self::start_in(scratch_directory(name), arguments)
    }

    /// The same in a directory of the test's choice.
    pub fn start_in(directory: PathBuf, arguments: &[&str]) -> Self {
        let text = directory.display().to_string();
        let mut words = vec!["dev", "--detach", "--client-port", "0", "--dir", &text];
        for setting in SETTINGS {
            words.extend(["--set", setting]);
        }
        let replicas = number("CLUSTER_REPLICAS", 3);
        assert!(matches!(replicas, 3 | 5), "CLUSTER_REPLICAS is {replicas}: 3 or 5");
        let nodes = replicas.to_string();
        if !arguments.contains(&"--nodes") {
            words.extend(["--nodes", &nodes]);
        }
        words.extend(arguments);
        let output = certus(&words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "certus dev: {}: {error}", output.status);
        let file = fs::read(directory.join("cluster.json")).expect("certus dev wrote cluster.json");
        let file: serde_json::Value = serde_json::from_slice(&file).expect("cluster.json is JSON");
        let nodes = file["nodes"].as_array().expect("a list of nodes");
        let mut nodes: Vec<Node> = nodes.iter().map(Node::read).collect();
        let ports = nodes.iter().flat_map(|node| [node.client, node.peer, node.admin]);
        let port_blocks = PortBlocks::hold_those_of(ports.map(|address| address.port()));
        let port_blocks = port_blocks.into_iter().collect();
        let replicas = u8::try_from(nodes.len()).expect("a handful");
        if replicas == 5 && !arguments.contains(&"--nodes") {
            nodes[4].kill();
            nodes.truncate(3);
        }
        Self { directory, nodes, replicas, followers: Vec::new(), port_blocks }
    }

    /// Starts another follower, of so many cores, and returns its place. `follower` is its table.
    pub fn add_follower(&mut self, cores: u16, follower: &str) -> usize {
        let place = self.followers.len();
        let id = 16 + u8::try_from(place).expect("few followers");
        let directory = self.directory.join(format!("follower-{id}"));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let (mut addresses, port_blocks) = addresses(2 + cores);
        self.port_blocks.push(port_blocks);
        let mut next = || addresses.next().expect("as many as asked for");
        let (client, admin, peer) = (next(), next(), next());
        let node = Node {
            id,
            client,
            admin,
            peer,
            data_directory: directory.join("data"),
            config_file: directory.join("certusd.toml"),
            log_file: directory.join("certusd.log"),
            command: vec![
                env!("CARGO_BIN_EXE_certusd").to_owned(),
                "--config".to_owned(),
                directory.join("certusd.toml").display().to_string(),
            ],
            process: None,
            child: None,
        };
        fs::write(&node.log_file, "").expect("a file can be written");
        self.followers.push(node);
        self.configure_follower(place, cores, follower);
        self.followers[place].start(&[]);
        place
    }

    /// Writes a follower's configuration: a node's, but for what makes it a follower.
    pub fn configure_follower(&self, place: usize, cores: u16, follower: &str) {
        let node = &self.followers[place];
        let text = fs::read_to_string(&self.nodes[0].config_file).expect("it is there");
        let mut table: toml::Table = toml::from_str(&text).expect("it is TOML");
        let mut set = |key: &str, value: toml::Value| drop(table.insert(key.to_owned(), value));
        let text = |text: String| toml::Value::String(text);
        set("node_id", toml::Value::Integer(node.id.into()));
        set("cores", toml::Value::Integer(cores.into()));
        set("core_client_port_first", toml::Value::Integer(0));
        set("data_directory", text(node.data_directory.display().to_string()));
        set("client_address", text(node.client.to_string()));
        set("peer_address", text(node.peer.to_string()));
        set("admin_address", text(node.admin.to_string()));
        let follower: toml::Table = toml::from_str(follower).expect("it is TOML");
        set("follower", toml::Value::Table(follower));
        let text = toml::to_string(&table).expect("a table is TOML");
        fs::write(&node.config_file, text).expect("a file can be written");
    }

    /// A client of node `id`.
    pub fn client(&self, id: usize) -> RespClient {
        self.nodes[id].connect().expect("a node that is up takes connections")
    }

    /// Ends a node as a power failure would.
    pub fn kill(&mut self, id: usize) {
        self.nodes[id].kill();
    }

    /// Starts a node again, and does not wait for it.
    pub fn restart(&mut self, id: usize) {
        self.nodes[id].start(&[]);
    }

    /// The same with further arguments of `certusd`.
    pub fn restart_with(&mut self, id: usize, arguments: &[&str]) {
        self.nodes[id].start(arguments);
    }

    /// Waits until a node serves.
    pub fn wait_until_ready(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        wait_until(&format!("node {id} to serve"), || {
            node.check_running();
            node.serves()
        });
    }

    /// Ends a node that may have ended by itself.
    pub fn end_whatever_runs(&mut self, id: usize) {
        let process = self.nodes[id].process.take().expect("it was started");
        process.signal(Signal::KILL).expect("a process of this user takes signals");
        self.nodes[id].reap();
    }

    /// Stops a node in order.
    pub fn stop_node(&mut self, id: usize) {
        let process = self.nodes[id].process.take().expect("it runs");
        process.signal(Signal::TERM).expect("a process of this user takes signals");
        let ended = process.wait_until(Instant::now() + PATIENCE).expect("it can be waited for");
        assert!(ended, "node {id} does not stop when it is told to");
        self.nodes[id].reap();
    }

    /// Waits until a node has ended by itself; its exit status, if it was started again here.
    pub fn wait_until_ended(&mut self, id: usize) -> Option<i32> {
        let node = &mut self.nodes[id];
        let process = node.process.take().expect("it was started");
        let ended = process.wait_until(Instant::now() + PATIENCE).expect("it can be waited for");
        assert!(ended, "node {id} does not end:\n{}", node.log_end());
        let status = node.child.take()?.wait().expect("a child can be waited for");
        assert!(status.code().is_some(), "node {id} was ended by a signal: {status}");
        status.code()
    }

    /// Waits until all replicas hold the same history of every one of `keys`, and returns how many
    /// entries each has.
    pub fn wait_until_equal(&self, keys: &[String]) -> Vec<u64> {
        let all = self.nodes.iter().chain(&self.followers);
        let connect = |node: &Node| node.connect().expect("a node that is up takes connections");
        let mut clients: Vec<RespClient> = all.map(connect).collect();
        keys.iter()
            .map(|key| {
                let mut seen = Vec::new();
                let deadline = Instant::now() + PATIENCE;
                loop {
                    seen.clear();
                    seen.extend(clients.iter_mut().map(|client| history(client, key)));
                    if seen.windows(2).all(|pair| pair[0] == pair[1]) {
                        break seen[0].0;
                    }
                    assert!(
                        Instant::now() < deadline,
                        "the replicas of {key} do not become equal (applied, chain): {seen:?}"
                    );
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for follower in &mut self.followers {
            if let Some(process) = follower.process.take() {
                process.signal(Signal::KILL).ok();
            }
            follower.reap();
        }
        let output = certus(&["dev", "stop", "--dir", &self.directory.display().to_string()]);
        for node in &mut self.nodes {
            node.reap();
        }
        if std::thread::panicking() {
            // Kept for whoever looks into it.
            println!("the cluster's directory is {}", self.directory.display());
            for node in self.nodes.iter().chain(&self.followers) {
                println!("-- the end of node {}'s log:\n{}", node.id, node.log_end());
            }
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "certus dev stop: {}: {said}", output.status);
        fs::remove_dir_all(&self.directory).expect("the cluster's directory can be removed");
    }
}

impl Node {
    fn read(record: &serde_json::Value) -> Self {
        let text = |key: &str| record[key].as_str().expect("a text").to_owned();
        let address = |key: &str| text(key).parse().expect("an address");
        let pid = record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let process = Process::open(pid.expect("a process id")).expect("it can be looked for");
        Self {
            id: record["id"].as_u64().and_then(|id| u8::try_from(id).ok()).expect("a node id"),
            client: address("client"),
            peer: address("peer"),
            admin: address("admin"),
            data_directory: text("data_directory").into(),
            config_file: text("config_file").into(),
            log_file: text("log_file").into(),
            command: serde_json::from_value(record["command"].clone()).expect("a list of words"),
            process: Some(process.expect("certus dev leaves its nodes running")),
            child: None,
        }
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// A client of the node.
    ///
    /// # Errors
    ///
    /// When it does not take the connection.
    pub fn connect(&self) -> Result<RespClient, ClientError> {
        RespClient::connect(self.client, ANSWER_TIMEOUT)
    }

    /// Whether it serves: it answers, and so does a majority behind it.
    pub fn serves(&self) -> bool {
        let answer =
            self.connect().and_then(|mut client| client.ask(&["GET", "nobody-writes-this"]));
        matches!(answer, Ok(Value::Null))
    }

    /// Fails if the process has ended by itself.
    pub fn check_running(&self) {
        let process = self.process.as_ref().expect("it was started");
        let running = process.is_running().expect("it can be looked at");
        assert!(running, "node {} ended by itself:\n{}", self.id, self.log_end());
    }

    /// Ends it as a power failure would.
    pub fn kill(&mut self) {
        self.check_running();
        let process = self.process.take().expect("checked to run");
        process.signal(Signal::KILL).expect("a process of this user takes signals");
        let ended = process.wait_until(Instant::now() + PATIENCE).expect("it can be waited for");
        assert!(ended, "node {} survives SIGKILL", self.id);
        self.reap();
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        process.signal(signal).expect("a process of this user takes signals");
    }

    /// Starts it, and does not wait for it.
    pub fn start(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "node {} runs", self.id);
        // The kernel ends the rings of a killed process, and with them its sockets, a little later
        // than the process itself.
        wait_until(&format!("the ports of node {} to be free", self.id), || {
            [self.client, self.peer, self.admin].map(TcpListener::bind).iter().all(Result::is_ok)
        });
        let log = OpenOptions::new().append(true).open(&self.log_file).expect("its log is there");
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be doubled"))
            .stderr(log)
            .spawn()
            .expect("certusd can be started");
        self.process = Process::open(child.id()).expect("a child can be looked for");
        self.child = Some(child);
    }

    /// Takes note of the end of a process that was started here.
    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.wait().expect("a child can be waited for");
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = fs::read(&self.log_file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Addresses of this machine, one after the other, that nobody else takes while what comes with
/// them is there.
pub fn addresses(count: u16) -> (impl Iterator<Item = SocketAddr>, PortBlocks) {
    let blocks = PortBlocks::hold(count, std::process::id()).expect("there are free ports");
    let first = blocks.first;
    ((first..first + count).map(|port| (Ipv4Addr::LOCALHOST, port).into()), blocks)
}

/// How many entries of `key`'s entity a node has applied, and the checksum over them.
fn history(client: &mut RespClient, key: &str) -> (u64, String) {
    let reply = client.ask(&["CERTUS", "ENTITY", key]).expect("a node that is up answers");
    let Value::Array(fields) = &reply else { return (0, format!("{reply:?}")) };
    let field = |name: &str| {
        let position = fields.iter().position(|field| text(field) == name);
        &fields[position.expect("a field of CERTUS ENTITY") + 1]
    };
    let Value::Integer(applied) = field("applied") else { panic!("applied is a number") };
    let applied = u64::try_from(*applied).expect("not negative");
    (applied, text(field("chain")))
}

/// A byte string as text; of anything else a description.
pub fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}
