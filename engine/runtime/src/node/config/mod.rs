//! The node's configuration: one TOML file, overridden by the environment and by flags.
//!
//! A configuration fails in two ways: it is refused at once with a sentence that says what to
//! change, or it is accepted and means something else than its author thought. This page makes the
//! second impossible as far as it can: an unknown key is refused (a misspelt key would silently
//! mean its default), every number carries its unit in its name and a range, and addresses that
//! cannot work together are refused here and not at the first connection.
//!
//! [`Config::default`] is the only place where defaults stand; the list of known keys is made from
//! it, and the documented example is tested against it.
//!
//! What is read goes through the files of this folder: `keys` refuses what nobody reads,
//! `overrides` replaces values, and `validation` looks at the whole, `addresses` in it. `shares`
//! then says what each core gets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use net::peer::handshake::Role;
use plog::configuration::{Configuration, Members};
use plog::vocabulary::AcceptorId;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::node::config::keys::refuse_unknown_keys;
use crate::node::config::overrides::replace;
use crate::node::config_error::ConfigError;
use crate::node::log_line::Level;

pub use crate::node::config::addresses::host_and_port;
pub use crate::node::config::cluster_id::ClusterId;
pub use crate::node::config::keys::known_keys;
pub use crate::node::config::overrides::{Override, environment_overrides};

mod addresses;
mod cluster_id;
mod keys;
mod overrides;
mod shares;
#[cfg(test)]
mod tests;
mod validation;

/// Most cores of a node: 16 slots stand together, and there are 16384 of them.
pub const CORES_MAX: u16 = 256;

/// A node with this id or a greater one is a follower: it has no vote, and stands in no [[node]]
/// table. The ids between the replicas' and this one are nobody's.
pub const FOLLOWER_ID_FIRST: u8 = 16;

/// A complete configuration. Keys and fields have the same names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names the cluster; nodes of different clusters refuse each other. At least 1.
    pub cluster_id: ClusterId,
    /// This node's index in the replica set: 0 to (number of nodes - 1); of a follower, a number
    /// from [`FOLLOWER_ID_FIRST`] on that no other has. Never changes.
    pub node_id: u8,
    /// Where identity and log live. One node, one directory.
    pub data_directory: PathBuf,
    /// Cores (threads, shards) of this node; 0 = one per CPU. Never changes for a data directory.
    pub cores: u16,
    /// Whether each core's thread stays on one CPU.
    pub pin_cores: bool,
    /// Position, among the CPUs this process may use, of the one core 0 is pinned to.
    pub first_cpu: u16,
    /// Where clients connect, on whichever core.
    pub client_address: String,
    /// Core j also listens for clients on this port + j; 0 = no such ports.
    pub core_client_port_first: u16,
    /// Where peers connect: this is core 0, core j listens on the port + j.
    pub peer_address: String,
    /// Where `/healthz`, `/readyz`, `/status` and `/metrics` are served; empty = nowhere.
    pub admin_address: String,
    /// Listen on other than loopback addresses, although nobody has to prove who they are.
    pub allow_remote_without_authentication: bool,
    /// Log lines above this level are dropped: error, warn, info or debug.
    pub log_level: Level,
    /// Most nodes that may be members at once, 3 or 5, of a cluster whose members can change; 0 =
    /// the members are those of the [[node]] tables, for ever. Equal on all nodes, and never
    /// changes.
    pub replica_slots: u8,
    /// All members of the replica set, this one included: 3 or 5 (1 for trials). With
    /// `replica_slots`: those that vote at first, or, of a node that is to join, the present ones
    /// without it.
    pub node: Vec<NodeEntry>,
    /// The log on disk.
    pub log: LogTable,
    /// How entries are agreed upon.
    pub consensus: ConsensusTable,
    /// Catching up.
    pub catch_up: CatchUpTable,
    /// What entities and memory are bounded by.
    pub memory: MemoryTable,
    /// What connections are bounded by.
    pub limits: LimitsTable,
    /// Of a follower.
    pub follower: FollowerTable,
}

/// One member of the replica set, as others reach it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// The member's index: each of 0 to n - 1 stands once.
    pub id: u8,
    /// Host and port where clients reach it; told to cluster-aware clients.
    pub client: String,
    /// Host and port where core 0 listens for peers.
    pub peer: String,
    /// Its cores, if it has client ports per core; 0 = not told to clients.
    #[serde(default)]
    pub cores: u16,
    /// Its `core_client_port_first`; 0 = it has none.
    #[serde(default)]
    pub core_client_port_first: u16,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogTable {
    /// Size of one segment file, in bytes; a multiple of 4096.
    pub segment_size_bytes: u32,
    /// Segment files kept ready per core.
    pub spare_segments: u16,
    /// Bytes of records waiting for the disk on one core, above which commands wait.
    pub pending_max_bytes: u32,
    /// Bytes written in one go at most.
    pub frame_size_max_bytes: u32,
    /// Chosen marks and images reach the disk at the latest after this time.
    pub lazy_flush_ms: u32,
    /// An operation of the log that takes longer is named in the daemon's log; 0 = none is.
    pub slow_operation_ms: u32,
    /// Pace at which new segment files are filled with zeros, in bytes per second, of all cores.
    pub prepare_rate_bytes_per_s: u64,
    /// Bytes of log that the node keeps at most, spares included; when they are used up, writes are
    /// refused until a checkpoint lets old segments go. Shared out evenly among the cores.
    pub size_max_bytes: u64,
    /// Bytes of log that are kept, though no longer needed here, for peers that were away. Shared
    /// out evenly among the cores.
    pub hold_bytes: u64,
    /// Chosen entries at or below an entity's last image that are found in the log at once, for
    /// peers that are a little behind.
    pub hold_entries: u32,
    /// A core frees segments no faster, unless the log nears its limit.
    pub clean_rate_bytes_per_s: u64,
    /// Bytes that each core keeps aside for the day when the disk is full; 0 = none.
    pub disk_reserve_bytes: u64,
    /// A core's checkpoint begins when it wrote so many bytes of log since its last one began.
    pub checkpoint_log_bytes: u64,
    /// And when the log written since is at least so many percent of its last checkpoint's size.
    pub checkpoint_log_percent: u32,
    /// A core writes its checkpoint no faster, unless the log nears its limit.
    pub checkpoint_rate_bytes_per_s: u64,
}

/// `[consensus]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsensusTable {
    /// A command not decided within this time is answered with an error.
    pub request_timeout_ms: u32,
    /// While another replica proposed an entity within this time, commands are sent to it.
    pub duel_lease_ms: u32,
    /// An unanswered message is repeated after this time.
    pub retry_ms: u32,
    /// Upper bound of the first pause after a lost round.
    pub back_off_us: u32,
    /// Entries a command's value may lose to others' values before it is answered with TRYAGAIN.
    pub lost_rounds_max: u32,
    /// Commands in one entry at most.
    pub batch_commands_max: u32,
    /// Bytes in one entry, above which no further command joins.
    pub batch_max_bytes: u32,
    /// Values above this size are stored once, apart from the records that name them.
    pub max_embedded_value_bytes: u32,
    /// An entity's image is logged after this many entries.
    pub image_every_entries: u32,
    /// Bytes of values in one catch-up answer.
    pub catch_up_max_bytes: u32,
    /// Peers that may lack something are told so after this time; ten times as long after the last
    /// time, everything is compared with each peer, or looked through by a follower.
    pub sweep_every_ms: u32,
}

/// `[catch_up]`: how fast the node takes over what it missed, once a comparison with a peer found
/// it; 0 = no limit. Shared out evenly among its cores. Can be changed while it runs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatchUpTable {
    /// Entries from all peers; an entity taken over as a whole counts as eight, or as one on a page
    /// with many others.
    pub rate_entries_per_s: u64,
    /// Bytes of values from all peers.
    pub rate_bytes_per_s: u64,
    /// Entries from each peer.
    pub peer_rate_entries_per_s: u64,
    /// Bytes of values from each peer.
    pub peer_rate_bytes_per_s: u64,
}

/// `[memory]`: of the whole node, shared out evenly among its cores.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryTable {
    /// Bytes of memory for all that grows with data; beyond it, cold entities are evicted.
    pub limit_bytes: u64,
    /// Of entities with more bytes of state than this only a cache is kept in memory; 0 = off.
    pub values_on_disk_above_bytes: u32,
    /// Bytes of memory for that cache, out of `limit_bytes`.
    pub values_cache_bytes: u64,
    /// Entities the node may ever hold.
    pub entities_max: u64,
    /// Entities kept in memory; beyond it, cold ones are evicted.
    pub entities_in_memory_max: u64,
    /// Commands waiting, above which new ones are answered with BUSY.
    pub waiting_commands_max: u64,
    /// Messages parked for entities that are being read back.
    pub parked_messages_max: u64,
    /// Request ids of `CERTUS ONCE` remembered per entity. Must be equal on all nodes.
    pub request_ids_max: u32,
}

/// `[follower]`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowerTable {
    /// A follower that was in step with a replica no later than so long ago refuses reads; 0 = it
    /// does not, once it was in step.
    pub staleness_max_ms: u32,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsTable {
    /// Client connections of the node.
    pub connections_max: u32,
    /// Unanswered requests of one connection, above which its socket is not read.
    pub pipeline_max: u32,
    /// Bytes of replies a connection may leave unread, above which it is closed.
    pub output_buffer_max_bytes: u32,
    /// Bytes waiting for one peer core, above which messages to it are dropped.
    pub peer_send_buffer_max_bytes: u32,
    /// A connection without a request for this long is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// A peer's handshake takes no longer than this.
    pub handshake_timeout_ms: u32,
    /// Largest key or value a client may send.
    pub value_size_max_bytes: u32,
    /// Most arguments of one command.
    pub arguments_max: u32,
    /// Largest command in total.
    pub request_size_max_bytes: u32,
    /// Largest frame between peers.
    pub peer_frame_size_max_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        let member = |id: u8| NodeEntry {
            id,
            client: format!("127.0.0.1:{}", 7000 + u16::from(id) * 1000),
            peer: format!("127.0.0.1:{}", 7400 + u16::from(id) * 1000),
            cores: 0,
            core_client_port_first: 0,
        };
        Self {
            cluster_id: ClusterId(1),
            node_id: 0,
            data_directory: PathBuf::from("certus-data"),
            cores: 0,
            pin_cores: true,
            first_cpu: 0,
            client_address: "127.0.0.1:7000".to_owned(),
            core_client_port_first: 0,
            peer_address: "127.0.0.1:7400".to_owned(),
            admin_address: "127.0.0.1:7800".to_owned(),
            allow_remote_without_authentication: false,
            log_level: Level::Info,
            replica_slots: 0,
            node: (0..3).map(member).collect(),
            log: LogTable::default(),
            consensus: ConsensusTable::default(),
            catch_up: CatchUpTable::default(),
            memory: MemoryTable::default(),
            limits: LimitsTable::default(),
            follower: FollowerTable::default(),
        }
    }
}

impl Default for LogTable {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            spare_segments: 2,
            pending_max_bytes: 16 << 20,
            frame_size_max_bytes: 1 << 20,
            lazy_flush_ms: 200,
            slow_operation_ms: 100,
            prepare_rate_bytes_per_s: 400_000_000,
            size_max_bytes: 16 << 30,
            hold_bytes: 1 << 30,
            hold_entries: 16,
            clean_rate_bytes_per_s: 1 << 30,
            disk_reserve_bytes: 320 << 20,
            checkpoint_log_bytes: 512 << 20,
            checkpoint_log_percent: 200,
            checkpoint_rate_bytes_per_s: 200_000_000,
        }
    }
}

impl Default for ConsensusTable {
    fn default() -> Self {
        Self {
            request_timeout_ms: 5_000,
            duel_lease_ms: 20,
            retry_ms: 100,
            back_off_us: 1_000,
            lost_rounds_max: 64,
            batch_commands_max: 1024,
            batch_max_bytes: 256 << 10,
            max_embedded_value_bytes: 512,
            image_every_entries: 32,
            catch_up_max_bytes: 256 << 10,
            sweep_every_ms: 30_000,
        }
    }
}

impl Default for CatchUpTable {
    fn default() -> Self {
        Self {
            rate_entries_per_s: 80_000,
            rate_bytes_per_s: 100 << 20,
            peer_rate_entries_per_s: 80_000,
            peer_rate_bytes_per_s: 100 << 20,
        }
    }
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self {
            limit_bytes: 4 << 30,
            values_on_disk_above_bytes: 0,
            values_cache_bytes: 256 << 20,
            entities_max: 1 << 32,
            entities_in_memory_max: 1 << 32,
            waiting_commands_max: 65_536,
            parked_messages_max: 16_384,
            request_ids_max: 4096,
        }
    }
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            pipeline_max: 1024,
            output_buffer_max_bytes: 64 << 20,
            peer_send_buffer_max_bytes: 32 << 20,
            idle_timeout_s: 0,
            handshake_timeout_ms: 2_000,
            value_size_max_bytes: 1 << 20,
            arguments_max: 65_536,
            request_size_max_bytes: 4 << 20,
            peer_frame_size_max_bytes: 8 << 20,
        }
    }
}

impl Config {
    /// Reads `file`, applies `overrides` in order (the last one wins), and validates.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with key, value and remedy.
    pub fn load(file: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
            file: file.to_owned(),
            error: error.to_string(),
        })?;
        Self::parse(&text, file, overrides)
    }

    /// [`Config::load`] of a text; `file` is only named in messages.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with key, value and remedy.
    pub fn parse(text: &str, file: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let syntax = |error: &toml::de::Error| {
            let begin = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..begin].iter().filter(|byte| **byte == b'\n').count();
            ConfigError::Syntax {
                file: file.to_owned(),
                line: line + 1,
                text: text.lines().nth(line).unwrap_or("").trim().to_owned(),
                error: error.message().to_owned(),
            }
        };
        let mut table: Table = toml::from_str(text).map_err(|error| syntax(&error))?;
        refuse_unknown_keys(&table)?;
        // Read as it stands in the file first, so that a wrong type is shown with its line.
        let _: Self = toml::from_str(text).map_err(|error| syntax(&error))?;
        for replacement in overrides {
            replace(&mut table, replacement)?;
        }
        if !table.contains_key("node") {
            return Err(ConfigError::Missing {
                key: "node".to_owned(),
                rule: "list all members of the replica set, one [[node]] table each with id, \
                       client and peer"
                    .to_owned(),
            });
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| syntax(&error))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as TOML: what [`Config::parse`] reads back as the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration is plain tables, strings and numbers")
    }

    /// What this node is to the others.
    #[must_use]
    pub fn role(&self) -> Role {
        let address: SocketAddr = self.peer_address.parse().expect("validated when it was read");
        let peer_port = address.port();
        match (self.node_id < FOLLOWER_ID_FIRST, self.changes_membership()) {
            (true, false) => Role::Replica,
            (true, true) => Role::Member { peer_port },
            (false, _) => Role::Follower { peer_port },
        }
    }

    /// Size of the replica set: how many nodes replicate each entity, or may come to.
    #[must_use]
    pub fn replicas(&self) -> u8 {
        if self.changes_membership() {
            return self.replica_slots;
        }
        u8::try_from(self.node.len()).expect("validated: at most 5 nodes")
    }

    /// Whether the members of the cluster can change.
    #[must_use]
    pub fn changes_membership(&self) -> bool {
        self.replica_slots > 0
    }

    /// Whether this node joins others when its data directory is empty.
    #[must_use]
    pub fn joins(&self) -> bool {
        let is_follower = self.role().is_follower();
        self.changes_membership() && !is_follower && self.founding() == Configuration::UNKNOWN
    }

    /// By which configuration this node goes at its first start: that of its [[node]] tables if it
    /// stands there; else it joins, and waits until it is told.
    #[must_use]
    pub fn founding(&self) -> Configuration {
        let listed =
            self.node.iter().fold(Members::NONE, |all, node| all.with(AcceptorId(node.id)));
        if listed.contains(AcceptorId(self.node_id)) {
            Configuration::founded_by(listed)
        } else {
            Configuration::UNKNOWN
        }
    }
}
