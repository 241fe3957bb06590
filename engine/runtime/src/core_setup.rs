//! What a core needs to start: the contract between the node, which prepares everything that may
//! fail or block, and the reactor, which afterwards only reacts.
//!
//! A `CoreSetup` is made on the thread that will run the core, because the recovered shard and the
//! log files belong to one thread. What several cores share ([`NodeShared`],
//! [`KnownIncarnations`]) is atomics, or is touched once per connection of a peer.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use engine::config::ShardConfig;
use engine::session::NodeInfo;
use engine::shard::StringShard;
use net::peer::handshake::Role;

use crate::mesh::MeshEnd;
use crate::node::file_worker::FileWorkerChannel;
use crate::node::known_incarnations::KnownIncarnations;
use crate::node::known_membership::KnownMembership;
use crate::node::log_files::LogFiles;
use crate::reactor::disk_reserve::DiskReserve;
use crate::reactor::node_shared::NodeShared;

/// Everything one core starts from.
#[derive(Debug)]
pub struct CoreSetup {
    /// This core, below `core_count`.
    pub core: u16,
    /// Cores of this node, at least 1.
    pub core_count: u16,
    /// The shard, recovered from this core's log.
    pub shard: StringShard,
    /// What the shard was made with.
    pub shard_config: ShardConfig,
    /// Operations of the log that take longer are named in the daemon's log, in microseconds; 0 =
    /// none are.
    pub slow_operation_us: u64,
    /// The open segment files, and the way to new ones.
    pub log_files: LogFiles,
    /// The way to the thread that does what blocks with the files of checkpoints.
    pub file_worker: FileWorkerChannel,
    /// What is set aside for a full disk.
    pub disk_reserve: DiskReserve,
    /// Who this node is.
    pub identity: NodeIdentity,
    /// All other members of the replica set.
    pub peers: Vec<PeerAddress>,
    /// Where clients connect: the shared port (`SO_REUSEPORT`), and the core's own port if it has
    /// one. Bound and listening.
    pub client_listeners: Vec<TcpListener>,
    /// Where peers connect: the node's peer port plus `core`. Bound and listening.
    pub peer_listener: TcpListener,
    /// This core's end of the mesh.
    pub mesh: MeshEnd,
    /// What sessions tell clients about the node.
    pub node_info: Rc<NodeInfo>,
    /// Bounds on connections and buffers.
    pub limits: Limits,
    /// Incarnations of peers, as first met.
    pub known_incarnations: Arc<KnownIncarnations>,
    /// Who the members are, where they can change.
    pub membership: Option<Arc<KnownMembership>>,
    /// Counters and flags of the whole node.
    pub shared: Arc<NodeShared>,
}

/// Who a node is, as it tells its peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeIdentity {
    /// The cluster; peers of another one are refused.
    pub cluster_id: u64,
    /// This node's index in the replica set.
    pub node_id: u8,
    /// Made when the data directory was; a node with a new one lost its log.
    pub incarnation: u128,
    /// This start of the node, at least 1.
    pub boot_epoch: u32,
    /// Size of the replica set.
    pub replicas: u8,
    /// What it is to the others.
    pub role: Role,
}

/// Where a peer listens for peers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAddress {
    /// The peer's index in the replica set.
    pub node_id: u8,
    /// Address or host name.
    pub host: String,
    /// Port of the peer's core 0; its core j listens on `port + j`.
    pub port: u16,
}

/// Bounds on what connections may hold and how long they may take. Each is per core, except where
/// it says otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Client connections of one core; a further one is told so and closed.
    pub connections_max: usize,
    /// Unanswered requests of one client connection, above which its socket is not read.
    pub pipeline_max: usize,
    /// Bytes of replies one client connection may leave unread, above which it is closed.
    pub output_buffer_max: usize,
    /// Bytes waiting for one peer core, above which messages to it are dropped.
    pub peer_send_buffer_max: usize,
    /// A client connection without a request for this long is closed, in milliseconds; 0 = never.
    pub idle_timeout_ms: u64,
    /// A peer connection whose handshake takes longer is closed, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Largest argument of a client's command, in bytes.
    pub bulk_size_max: usize,
    /// Most arguments of a client's command.
    pub arguments_max: usize,
    /// Largest client request in total, in bytes.
    pub request_size_max: usize,
    /// Largest frame from or to a peer, in bytes.
    pub frame_size_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            pipeline_max: 1024,
            output_buffer_max: 64 << 20,
            peer_send_buffer_max: 32 << 20,
            idle_timeout_ms: 0,
            handshake_timeout_ms: 2_000,
            bulk_size_max: 1 << 20,
            arguments_max: 65_536,
            request_size_max: 16 << 20,
            frame_size_max: 8 << 20,
        }
    }
}
