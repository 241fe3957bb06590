//! Whole clusters in one process: real reactors, sockets, io_uring and segment files, one thread
//! for each core of each node.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::config::ShardConfig;
use engine::session::NodeInfo;
use engine::shard::StringShard;
use net::peer::handshake::{HANDSHAKE_SIZE, HandshakeDialler, LocalNode, Role, Target};
use plog::identity::LogIdentity;
use plog::log_config::LogConfig;
use plog::vocabulary::{AcceptorId, BootEpoch};
use runtime::core_setup::{CoreSetup, Limits, NodeIdentity, PeerAddress};
use runtime::mesh::mesh;
use runtime::node::file_worker::FileWorker;
use runtime::node::known_incarnations::KnownIncarnations;
use runtime::node::log_files::LogFiles;
use runtime::node::segment_preparer::SegmentPreparer;
use runtime::reactor::core::{Core, Turn};
use runtime::reactor::disk_reserve::DiskReserve;
use runtime::reactor::node_shared::NodeShared;

const CLUSTER: u64 = 0xce27;
const SEGMENT_SIZE: u32 = 4 << 20;

/// Nobody waits this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Listeners {
    client: TcpListener,
    /// By core, on consecutive ports.
    peer: Vec<TcpListener>,
}

struct Node {
    client: SocketAddr,
    /// Of core 0.
    peer: SocketAddr,
    shared: Arc<NodeShared>,
    cores: Vec<JoinHandle<()>>,
    preparer: Option<SegmentPreparer>,
}

struct Cluster {
    directory: PathBuf,
    nodes: Vec<Node>,
}

impl Cluster {
    /// A node for each of these core counts.
    fn start(core_counts: &[u16], limits: Limits) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("certus-reactor-{}-{number}", std::process::id()));
        // One left by an earlier process with this number means nothing.
        std::fs::remove_dir_all(&directory).ok();
        let listeners: Vec<Listeners> = core_counts.iter().map(|count| listen(*count)).collect();
        let addresses: Vec<PeerAddress> = (0..)
            .zip(&listeners)
            .map(|(node_id, listeners)| PeerAddress {
                node_id,
                host: "127.0.0.1".to_owned(),
                port: listeners.peer[0].local_addr().unwrap().port(),
            })
            .collect();
        let nodes = (0..)
            .zip(listeners)
            .map(|(node_id, listeners)| {
                start_node(node_id, listeners, &addresses, &directory, limits)
            })
            .collect();
        Self { directory, nodes }
    }

    fn client(&self, node: usize) -> Client {
        Client::connect(self.nodes[node].client)
    }

    /// Stops one node in order.
    fn stop_node(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.shared.stop();
        for core in node.cores.drain(..) {
            core.join().unwrap();
        }
        if let Some(preparer) = node.preparer.take() {
            preparer.join();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            if std::thread::panicking() {
                self.nodes[node].shared.stop();
            } else {
                self.stop_node(node);
            }
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

/// A client port, and as many consecutive peer ports as there are cores.
fn listen(core_count: u16) -> Listeners {
    let client = TcpListener::bind("127.0.0.1:0").unwrap();
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let more: Option<Vec<TcpListener>> = (1..core_count)
            .map(|core| TcpListener::bind(("127.0.0.1", port.checked_add(core)?)).ok())
            .collect();
        if let Some(more) = more {
            let peer = std::iter::once(first).chain(more).collect();
            return Listeners { client, peer };
        }
    }
}

fn start_node(
    node_id: u8,
    listeners: Listeners,
    addresses: &[PeerAddress],
    directory: &Path,
    limits: Limits,
) -> Node {
    let replicas = u8::try_from(addresses.len()).unwrap();
    let core_count = u16::try_from(listeners.peer.len()).unwrap();
    let directory = directory.join(format!("node-{node_id}"));
    let peers_directory = directory.join("peers");
    std::fs::create_dir_all(&peers_directory).unwrap();
    let known_incarnations = Arc::new(KnownIncarnations::load(&peers_directory).unwrap());
    let core_directories: Vec<_> =
        (0..core_count).map(|core| directory.join(format!("core-{core}"))).collect();
    for core in &core_directories {
        std::fs::create_dir_all(core).unwrap();
    }
    // It ends with the cores.
    let (_, file_channels) = FileWorker::start(core_directories.clone()).unwrap();
    let (preparer, channels) =
        SegmentPreparer::start(core_directories.clone(), SEGMENT_SIZE, u64::MAX).unwrap();
    let shared = Arc::new(NodeShared::new(core_count, replicas));
    let client = listeners.client.local_addr().unwrap();
    let peer = listeners.peer[0].local_addr().unwrap();
    let incarnation = 0x1000 + u128::from(node_id);
    let mut cores = Vec::new();
    let ends = mesh(core_count).unwrap();
    let parts = (0..).zip(listeners.peer).zip(ends).zip(channels).zip(core_directories);
    for (((((core, peer_listener), end), channel), files), file_worker) in parts.zip(file_channels)
    {
        let shared = Arc::clone(&shared);
        let known_incarnations = Arc::clone(&known_incarnations);
        let client_listener = listeners.client.try_clone().unwrap();
        let peers: Vec<PeerAddress> =
            addresses.iter().filter(|peer| peer.node_id != node_id).cloned().collect();
        let thread = move || {
            let identity =
                LogIdentity { cluster: CLUSTER, node: node_id, incarnation, core, core_count };
            let log_config =
                LogConfig { segment_size: SEGMENT_SIZE, ..LogConfig::for_identity(identity) };
            let shard_config = ShardConfig::new(AcceptorId(node_id), replicas, BootEpoch(1));
            let mut shard = StringShard::new(shard_config, log_config);
            shard.finish_recovery(None, None);
            let core = Core::new(CoreSetup {
                core,
                core_count,
                shard,
                shard_config,
                slow_operation_us: 0,
                log_files: LogFiles::new(files, BTreeMap::new(), BTreeMap::new(), channel),
                file_worker,
                disk_reserve: DiskReserve::new(1 << 20, None),
                identity: NodeIdentity {
                    cluster_id: CLUSTER,
                    node_id,
                    incarnation,
                    boot_epoch: 1,
                    replicas,
                    role: Role::Replica,
                },
                peers,
                client_listeners: vec![client_listener],
                peer_listener,
                mesh: end,
                node_info: Rc::new(NodeInfo {
                    node_id,
                    acceptor_count: replicas,
                    core_count,
                    core,
                    ..NodeInfo::default()
                }),
                limits,
                membership: None,
                known_incarnations,
                shared,
            });
            run(core.unwrap());
        };
        cores.push(std::thread::Builder::new().spawn(thread).unwrap());
    }
    Node { client, peer, shared, cores, preparer: Some(preparer) }
}

fn run(mut core: Core) {
    loop {
        match core.turn(Duration::from_millis(100)) {
            Turn::Busy | Turn::Idle => {}
            Turn::Stopped => return,
            Turn::Fatal(reason) => panic!("{reason}"),
        }
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends one command and reads its reply.
    fn ask(&mut self, words: &[&str]) -> String {
        self.send(&command(words));
        self.reply()
    }

    /// A reply as text: bulk strings without their length, arrays as their number of elements
    /// followed by them.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        let count = self.stream.read_line(&mut line).unwrap();
        assert!(count > 0, "the connection was closed");
        let line = line.trim_end().to_owned();
        let number = |text: &str| text.parse::<i64>().unwrap();
        match line.split_at(1) {
            ("$", length) if number(length) >= 0 => {
                let mut bytes = vec![0; usize::try_from(number(length)).unwrap() + 2];
                self.stream.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                String::from_utf8(bytes).unwrap()
            }
            ("*", length) if number(length) >= 0 => {
                let parts: Vec<String> = (0..number(length)).map(|_| self.reply()).collect();
                parts.join(" ")
            }
            _ => line,
        }
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

#[test]
fn what_one_node_acknowledged_every_node_reads() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let mut clients: Vec<Client> = (0..3).map(|node| cluster.client(node)).collect();
    for round in 0..60 {
        let (key, value) = (format!("key-{round}"), format!("value-{round}"));
        assert_eq!(clients[round % 3].ask(&["SET", &key, &value]), "+OK");
        for client in &mut clients {
            assert_eq!(client.ask(&["GET", &key]), value);
        }
    }
    assert_eq!(clients[0].ask(&["GET", "absent"]), "$-1");
}

#[test]
fn cores_of_nodes_with_different_core_counts_find_each_other() {
    let cluster = Cluster::start(&[1, 2, 3], Limits::default());
    let mut clients: Vec<Client> = (0..3).map(|node| cluster.client(node)).collect();
    for round in 0..120 {
        let (key, value) = (format!("key-{round}"), format!("value-{round}"));
        assert_eq!(clients[round % 3].ask(&["SET", &key, &value]), "+OK");
        assert_eq!(clients[(round + 1) % 3].ask(&["GET", &key]), value);
    }
}

#[test]
fn pipelined_replies_come_in_order_though_their_entities_live_on_other_cores() {
    // A small pipeline limit, so that reading stops and goes on many times.
    let limits = Limits { pipeline_max: 16, ..Limits::default() };
    let cluster = Cluster::start(&[2, 2, 2], limits);
    let mut client = cluster.client(1);
    let mut bytes = Vec::new();
    const COUNT: usize = 2000;
    for round in 0..COUNT {
        let (key, value) = (format!("k{}", round % 50), format!("v{round}"));
        bytes.extend_from_slice(&command(&["SET", &key, &value]));
        bytes.extend_from_slice(&command(&["ECHO", &value]));
        bytes.extend_from_slice(&command(&["GET", &key]));
        bytes.extend_from_slice(b"NOSUCH\r\n");
    }
    let mut writer = client.stream.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for round in 0..COUNT {
        let value = format!("v{round}");
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), value);
        assert_eq!(client.reply(), value, "a read after a write on one connection sees it");
        assert!(client.reply().starts_with("-ERR unknown command"));
    }
    sender.join().unwrap();
}

#[test]
fn many_clients_on_every_core_count_together_without_losing_one() {
    let cluster = Cluster::start(&[2, 2, 2], Limits::default());
    const CLIENTS: usize = 24;
    const EACH: usize = 50;
    let threads: Vec<JoinHandle<()>> = (0..CLIENTS)
        .map(|index| {
            let address = cluster.nodes[index % 3].client;
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..EACH {
                    let reply = client.ask(&["INCR", &format!("counter-{}", index % 4)]);
                    assert!(reply.starts_with(':'), "{reply}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let mut client = cluster.client(0);
    for counter in 0..4 {
        let expected = (CLIENTS / 4 * EACH).to_string();
        assert_eq!(client.ask(&["GET", &format!("counter-{counter}")]), expected);
    }
}

#[test]
fn two_of_three_nodes_go_on_without_the_third() {
    let mut cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let mut client = cluster.client(0);
    assert_eq!(client.ask(&["SET", "key", "before"]), "+OK");
    cluster.stop_node(2);
    for round in 0..50 {
        let key = format!("key-{round}");
        assert_eq!(client.ask(&["SET", &key, "after"]), "+OK");
        assert_eq!(cluster.client(1).ask(&["GET", &key]), "after");
    }
    assert_eq!(cluster.client(1).ask(&["GET", "key"]), "before");
}

#[test]
fn a_large_value_survives_the_way_through_every_buffer() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let value: String =
        (0..1 << 20).map(|index| char::from(b"abcdefghijklmnopqrstuvwxyz"[index % 26])).collect();
    let mut client = cluster.client(0);
    for key in ["one", "two", "three"] {
        assert_eq!(client.ask(&["SET", key, &value]), "+OK");
    }
    for node in 0..3 {
        for key in ["one", "two", "three"] {
            assert!(cluster.client(node).ask(&["GET", key]) == value);
        }
    }
}

#[test]
fn a_client_that_stops_sending_still_gets_every_reply() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let mut client = cluster.client(0);
    let mut bytes = Vec::new();
    for round in 0..100 {
        bytes.extend_from_slice(&command(&["SET", "key", &round.to_string()]));
    }
    bytes.extend_from_slice(&command(&["GET", "key"]));
    client.send(&bytes);
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..100 {
        assert_eq!(client.reply(), "+OK");
    }
    assert_eq!(client.reply(), "99");
    assert!(client.is_closed());
}

#[test]
fn bytes_that_are_no_request_are_answered_once_and_end_the_connection() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let mut client = cluster.client(0);
    client.send(b"*1\r\n$4\r\nPING\r\n*1\r\n!4\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(client.reply(), "+PONG");
    assert_eq!(client.reply(), "-ERR Protocol error: expected '$', got '!'");
    assert!(client.is_closed());
    let mut client = cluster.client(0);
    assert_eq!(client.ask(&["QUIT"]), "+OK");
    assert!(client.is_closed());
}

#[test]
fn a_connection_too_many_is_told_so_and_one_that_does_not_read_is_closed() {
    let limits = Limits { connections_max: 2, output_buffer_max: 4 << 20, ..Limits::default() };
    let cluster = Cluster::start(&[1, 1, 1], limits);
    let mut first = cluster.client(0);
    assert_eq!(first.ask(&["PING"]), "+PONG");
    let mut second = cluster.client(0);
    assert_eq!(second.ask(&["PING"]), "+PONG");
    let mut third = cluster.client(0);
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    // Echoes that are never read: more than the output limit and all socket buffers together.
    let echo = command(&["ECHO", &"x".repeat(1 << 19)]);
    let mut sent = 0_usize;
    while sent < 400 && second.stream.get_mut().write_all(&echo).is_ok() {
        sent += 1;
    }
    assert!(sent < 400, "the node went on taking requests of a client that reads nothing");
    assert_eq!(first.ask(&["PING"]), "+PONG", "others are not affected");
}

#[test]
fn questions_about_the_node_are_answered_from_all_its_cores() {
    let cluster = Cluster::start(&[2, 2, 2], Limits::default());
    let mut client = cluster.client(0);
    for round in 0..40 {
        assert_eq!(client.ask(&["SET", &format!("key-{round}"), "value"]), "+OK");
        assert_eq!(client.ask(&["GET", &format!("key-{round}")]), "value");
    }
    let status: serde_json::Value =
        serde_json::from_str(&client.ask(&["CERTUS", "STATUS"])).unwrap();
    assert_eq!(status["cores"].as_array().unwrap().len(), 2);
    let total = |pointer: &str| -> u64 {
        let cores = status["cores"].as_array().unwrap();
        cores.iter().map(|core| core.pointer(pointer).unwrap().as_u64().unwrap()).sum()
    };
    assert_eq!(total("/metrics/stages/write_us/count"), 40);
    assert_eq!(total("/metrics/stages/read_us/count"), 40);
    assert_eq!(total("/shard/gauges/keys"), 40);
    assert!(total("/metrics/stages/log_write_us/count") > 0);
    assert!(total("/metrics/stages/mesh_us/count") > 0, "some keys belong to the other core");
    assert!(total("/metrics/counters/peer_messages_out") > 0);
    assert!(total("/ring/enters") > 0);
    assert_eq!(client.ask(&["DBSIZE"]), ":40");
    let info = client.ask(&["INFO"]);
    assert!(info.contains("connected_clients:1"), "{info}");
    assert!(info.contains("keys=40"), "{info}");
}

#[test]
fn a_stranger_on_the_peer_port_is_closed_and_disturbs_nobody() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let mut client = cluster.client(0);
    assert_eq!(client.ask(&["SET", "key", "value"]), "+OK");
    let local = LocalNode {
        cluster_id: CLUSTER,
        node_id: 1,
        replicas: 3,
        incarnation: 0x1001,
        boot_epoch: 1,
        core_count: 1,
        core: 0,
        role: Role::Replica,
    };
    let hello = |local| HandshakeDialler::new(local, Target { node_id: 0, core: 0 }).hello();
    // Another protocol; another cluster; a node whose data directory was made anew. The last two
    // are told why.
    let strangers: [(Vec<u8>, usize); 3] = [
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), 0),
        (hello(LocalNode { cluster_id: 1, ..local }).to_vec(), HANDSHAKE_SIZE),
        (hello(LocalNode { incarnation: 7, ..local }).to_vec(), HANDSHAKE_SIZE),
    ];
    // Node 1 has to be known to be known by another incarnation.
    assert_eq!(cluster.client(1).ask(&["GET", "key"]), "value");
    for (bytes, answer_size) in strangers {
        let mut stranger = Client::connect(cluster.nodes[0].peer);
        stranger.send(&bytes);
        let mut answer = Vec::new();
        // The end may come as a reset, after the answer.
        stranger.stream.read_to_end(&mut answer).ok();
        assert_eq!(answer.len(), answer_size);
        assert_eq!(client.ask(&["GET", "key"]), "value");
    }
    // The real node 1 comes again: its newer connection replaces the older one, which then dials.
    let mut again = Client::connect(cluster.nodes[0].peer);
    again.send(&hello(local));
    let mut welcome = [0; HANDSHAKE_SIZE];
    again.stream.read_exact(&mut welcome).unwrap();
    for round in 0..50 {
        assert_eq!(client.ask(&["SET", "key", &round.to_string()]), "+OK");
    }
    // A frame that is none closes that connection only.
    again.send(&[0xff; 64]);
    assert!(again.is_closed());
    assert_eq!(cluster.client(1).ask(&["GET", "key"]), "49");
}

#[test]
fn a_core_takes_sixteen_followers_and_tells_the_next_one_why_not() {
    let cluster = Cluster::start(&[1, 1, 1], Limits::default());
    let heard = TcpListener::bind("127.0.0.1:0").unwrap();
    let role = Role::Follower { peer_port: heard.local_addr().unwrap().port() };
    let hello = |node_id: u8| {
        let local = LocalNode {
            cluster_id: CLUSTER,
            node_id,
            replicas: 3,
            incarnation: u128::from(node_id),
            boot_epoch: 1,
            core_count: 1,
            core: 0,
            role,
        };
        HandshakeDialler::new(local, Target { node_id: 0, core: 0 }).hello()
    };
    let mut followers = Vec::new();
    let mut answer = [0; HANDSHAKE_SIZE];
    let mut connect = |node_id: u8| {
        let mut follower = Client::connect(cluster.nodes[0].peer);
        follower.send(&hello(node_id));
        follower.stream.read_exact(&mut answer).unwrap();
        followers.push(follower);
        (answer[8], answer[9])
    };
    for node_id in 16..32 {
        assert_eq!(connect(node_id), (2, 0), "node 0 welcomes follower {node_id}");
    }
    assert_eq!(connect(32), (3, 14), "too many");
    assert_eq!(connect(31), (2, 0), "one that is there may come again");
    // It is spoken to where it said that it listens.
    let (mut stream, _) = heard.accept().unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((&answer[..8], answer[14]), (&b"CERTPEER"[..], 0), "node 0 dials back");
    let mut client = cluster.client(0);
    assert_eq!(client.ask(&["SET", "key", "value"]), "+OK", "followers hold nobody up");
}

#[test]
fn a_stranger_that_drips_its_greeting_is_closed_in_time() {
    let limits = Limits { handshake_timeout_ms: 1_000, ..Limits::default() };
    let cluster = Cluster::start(&[1, 1, 1], limits);
    let local = LocalNode {
        cluster_id: CLUSTER,
        node_id: 1,
        replicas: 3,
        incarnation: 0x1001,
        boot_epoch: 1,
        core_count: 1,
        core: 0,
        role: Role::Replica,
    };
    let hello = HandshakeDialler::new(local, Target { node_id: 0, core: 0 }).hello();
    let mut stranger = TcpStream::connect(cluster.nodes[0].peer).unwrap();
    stranger.set_nodelay(true).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // Every byte is good and comes in time, but all of them together take eleven times as long as a
    // handshake may.
    let stayed = hello[..HANDSHAKE_SIZE - 1].iter().all(|byte| {
        let sent = stranger.write_all(&[*byte]);
        let heard = sent.and_then(|()| stranger.read(&mut [0; 1]));
        heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    assert!(!stayed, "the node listened to a greeting that did not come to its end");
    assert_eq!(cluster.client(0).ask(&["SET", "key", "value"]), "+OK");
}
