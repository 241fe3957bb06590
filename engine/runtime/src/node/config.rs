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

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use engine::config::{IMAGE_SIZE_MAX, ShardConfig};
use engine::state_machine::strings::VALUE_SIZE_MAX;
use plog::vocabulary::{AcceptorId, BootEpoch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::core_setup::Limits;
use crate::node::config_error::{ConfigError, Suggestion};
use crate::node::log_line::Level;

/// Most cores of a node: 16 slots stand together, and there are 16384 of them.
pub const CORES_MAX: u16 = 256;

/// Room for headers around the largest entry or image, in a log segment and in a peer frame.
const ENTRY_OVERHEAD_BYTES: u64 = 128 << 10;

/// What names an environment variable that overrides a top-level key: `CERTUS_NODE_ID`.
pub const ENVIRONMENT_PREFIX: &str = "CERTUS_";

/// A complete configuration. Keys and fields have the same names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Names the cluster; nodes of different clusters refuse each other. At least 1.
    pub cluster_id: ClusterId,
    /// This node's index in the replica set: 0 to (number of nodes - 1). Never changes.
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
    /// All members of the replica set, this one included: 3 or 5 (1 for trials).
    pub node: Vec<NodeEntry>,
    /// The log on disk.
    pub log: LogTable,
    /// How entries are agreed upon.
    pub consensus: ConsensusTable,
    /// What entities and memory are bounded by.
    pub memory: MemoryTable,
    /// What connections are bounded by.
    pub limits: LimitsTable,
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
    /// Pace at which new segment files are filled with zeros, in bytes per second, of all cores.
    pub prepare_rate_bytes_per_s: u64,
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
    /// Pause between background comparisons with each peer.
    pub sweep_every_ms: u32,
}

/// `[memory]`: of the whole node, shared out evenly among its cores.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryTable {
    /// Entities the node may ever hold.
    pub entities_max: u64,
    /// Entities kept in memory; beyond it, cold ones are evicted.
    pub entities_in_memory_max: u64,
    /// Bytes of entity state kept in memory; beyond it, cold ones are evicted.
    pub state_max_bytes: u64,
    /// Commands waiting, above which new ones are answered with BUSY.
    pub waiting_commands_max: u64,
    /// Messages parked for entities that are being read back.
    pub parked_messages_max: u64,
    /// Request ids of `CERTUS ONCE` remembered per entity. Must be equal on all nodes.
    pub request_ids_max: u32,
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

/// A cluster's number: written as a hexadecimal string or as an integer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterId(pub u64);

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:#018x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(u64),
        }
        let wanted = "cluster_id is an integer of at least 1, or a string of up to 16 hexadecimal \
                      digits such as \"0xc0ffee\"";
        match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(wanted))? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                let digits = text.strip_prefix("0x").unwrap_or(&text).replace('_', "");
                u64::from_str_radix(&digits, 16)
                    .map(Self)
                    .map_err(|_| serde::de::Error::custom(wanted))
            }
        }
    }
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
            node: (0..3).map(member).collect(),
            log: LogTable::default(),
            consensus: ConsensusTable::default(),
            memory: MemoryTable::default(),
            limits: LimitsTable::default(),
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
            prepare_rate_bytes_per_s: 400_000_000,
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

impl Default for MemoryTable {
    fn default() -> Self {
        Self {
            entities_max: 1 << 24,
            entities_in_memory_max: 1 << 20,
            state_max_bytes: 4 << 30,
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

/// Where a value comes from if not from the file: a variable or flag, its key, its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// `CERTUS_NODE_ID` or `--node-id`.
    pub source_name: String,
    /// The top-level key it replaces.
    pub key: String,
    /// Its value as text.
    pub value: String,
}

/// The overrides that `environment` holds, and the names of variables that look like overrides but
/// name no top-level key.
pub fn environment_overrides(
    environment: impl Iterator<Item = (String, String)>,
) -> (Vec<Override>, Vec<String>) {
    let scalars = scalar_keys();
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let key = rest.to_ascii_lowercase();
        if scalars.contains_key(&key) {
            found.push(Override { source_name: name, key, value });
        } else {
            unknown.push(name);
        }
    }
    // The environment has no order of its own worth keeping; errors should not depend on it.
    found.sort_by(|left, right| left.source_name.cmp(&right.source_name));
    unknown.sort();
    (found, unknown)
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

    /// How many nodes replicate each entity.
    #[must_use]
    pub fn replicas(&self) -> u8 {
        u8::try_from(self.node.len()).expect("validated: at most 5 nodes")
    }

    /// `value` of the node shared out to one of `cores`, at least 1.
    fn share(value: u64, cores: u16) -> usize {
        let share = value.div_ceil(u64::from(cores.max(1)));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// The configuration of one shard out of `cores`.
    #[must_use]
    pub fn shard_config(&self, core: u16, cores: u16, epoch: BootEpoch) -> ShardConfig {
        let consensus = &self.consensus;
        let base = ShardConfig::new(AcceptorId(self.node_id), self.replicas(), epoch);
        let size = |bytes: u32| usize::try_from(bytes).expect("this machine has 64-bit addresses");
        ShardConfig {
            seed: base.seed ^ u64::from(core) << 48,
            duel_lease_us: u64::from(consensus.duel_lease_ms) * 1000,
            request_timeout_us: u64::from(consensus.request_timeout_ms) * 1000,
            retry_us: u64::from(consensus.retry_ms) * 1000,
            back_off_us: u64::from(consensus.back_off_us),
            lost_rounds_max: consensus.lost_rounds_max,
            batch_commands_max: size(consensus.batch_commands_max),
            batch_bytes_max: size(consensus.batch_max_bytes),
            waiting_commands_max: Self::share(self.memory.waiting_commands_max, cores),
            max_embedded_value: size(consensus.max_embedded_value_bytes),
            entities_in_memory_max: Self::share(self.memory.entities_in_memory_max, cores),
            state_bytes_max: Self::share(self.memory.state_max_bytes, cores),
            entities_max: Self::share(self.memory.entities_max, cores),
            parked_messages_max: Self::share(self.memory.parked_messages_max, cores),
            request_ids_max: size(self.memory.request_ids_max),
            image_every_entries: u64::from(consensus.image_every_entries),
            lazy_flush_us: u64::from(self.log.lazy_flush_ms) * 1000,
            catch_up_bytes_max: size(consensus.catch_up_max_bytes),
            sweep_every_us: u64::from(consensus.sweep_every_ms) * 1000,
            ..base
        }
    }

    /// The limits of one core out of `cores`.
    #[must_use]
    pub fn core_limits(&self, cores: u16) -> Limits {
        let limits = &self.limits;
        let size = |bytes: u32| usize::try_from(bytes).expect("this machine has 64-bit addresses");
        Limits {
            connections_max: Self::share(u64::from(limits.connections_max), cores),
            pipeline_max: size(limits.pipeline_max),
            output_buffer_max: size(limits.output_buffer_max_bytes),
            peer_send_buffer_max: size(limits.peer_send_buffer_max_bytes),
            idle_timeout_ms: u64::from(limits.idle_timeout_s) * 1000,
            handshake_timeout_ms: u64::from(limits.handshake_timeout_ms),
            bulk_size_max: size(limits.value_size_max_bytes),
            arguments_max: size(limits.arguments_max),
            request_size_max: size(limits.request_size_max_bytes),
            frame_size_max: size(limits.peer_frame_size_max_bytes),
        }
    }

    /// Every key with its value as text, for `CONFIG GET`.
    #[must_use]
    pub fn flattened(&self) -> BTreeMap<String, String> {
        let table = Table::try_from(self).expect("a configuration is a plain table");
        let mut flat = BTreeMap::new();
        for (key, value) in &table {
            match value {
                Value::Table(inner) => {
                    for (inner_key, inner_value) in inner {
                        flat.insert(format!("{key}.{inner_key}"), plain_text(inner_value));
                    }
                }
                Value::Array(_) => {}
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_) => {
                    flat.insert(key.clone(), plain_text(value));
                }
            }
        }
        flat
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate_ranges()?;
        self.validate_members()?;
        self.validate_relations()?;
        self.validate_addresses()
    }

    fn validate_ranges(&self) -> Result<(), ConfigError> {
        let (log, consensus) = (&self.log, &self.consensus);
        let (memory, limits) = (&self.memory, &self.limits);
        let mib = 1 << 20;
        let ranges: &[(&str, u64, u64, u64)] = &[
            ("cluster_id", self.cluster_id.0, 1, u64::MAX),
            ("cores", self.cores.into(), 0, CORES_MAX.into()),
            ("log.segment_size_bytes", log.segment_size_bytes.into(), 4 * mib, 1024 * mib),
            ("log.spare_segments", log.spare_segments.into(), 1, 64),
            ("log.pending_max_bytes", log.pending_max_bytes.into(), mib, 1024 * mib),
            ("log.frame_size_max_bytes", log.frame_size_max_bytes.into(), 65_536, 16 * mib),
            ("log.lazy_flush_ms", log.lazy_flush_ms.into(), 1, 10_000),
            ("log.prepare_rate_bytes_per_s", log.prepare_rate_bytes_per_s, mib, 1 << 40),
            ("consensus.request_timeout_ms", consensus.request_timeout_ms.into(), 10, 600_000),
            ("consensus.duel_lease_ms", consensus.duel_lease_ms.into(), 0, 10_000),
            ("consensus.retry_ms", consensus.retry_ms.into(), 5, 60_000),
            ("consensus.back_off_us", consensus.back_off_us.into(), 10, 1_000_000),
            ("consensus.lost_rounds_max", consensus.lost_rounds_max.into(), 1, 1_000_000),
            ("consensus.batch_commands_max", consensus.batch_commands_max.into(), 1, 65_536),
            ("consensus.batch_max_bytes", consensus.batch_max_bytes.into(), 1024, 4 * mib),
            (
                "consensus.max_embedded_value_bytes",
                consensus.max_embedded_value_bytes.into(),
                0,
                65_536,
            ),
            ("consensus.image_every_entries", consensus.image_every_entries.into(), 1, 1_000_000),
            ("consensus.catch_up_max_bytes", consensus.catch_up_max_bytes.into(), 4096, 4 * mib),
            ("consensus.sweep_every_ms", consensus.sweep_every_ms.into(), 100, 86_400_000),
            ("memory.entities_max", memory.entities_max, 1, 1 << 32),
            ("memory.entities_in_memory_max", memory.entities_in_memory_max, 64, 1 << 32),
            ("memory.state_max_bytes", memory.state_max_bytes, mib, 1 << 44),
            ("memory.waiting_commands_max", memory.waiting_commands_max, 16, 1 << 24),
            ("memory.parked_messages_max", memory.parked_messages_max, 16, 1 << 24),
            ("memory.request_ids_max", memory.request_ids_max.into(), 1, 1 << 20),
            ("limits.connections_max", limits.connections_max.into(), 1, 1 << 20),
            ("limits.pipeline_max", limits.pipeline_max.into(), 1, 1 << 20),
            (
                "limits.output_buffer_max_bytes",
                limits.output_buffer_max_bytes.into(),
                65_536,
                2048 * mib,
            ),
            (
                "limits.peer_send_buffer_max_bytes",
                limits.peer_send_buffer_max_bytes.into(),
                mib,
                2048 * mib,
            ),
            ("limits.idle_timeout_s", limits.idle_timeout_s.into(), 0, 31_536_000),
            ("limits.handshake_timeout_ms", limits.handshake_timeout_ms.into(), 10, 600_000),
            ("limits.value_size_max_bytes", limits.value_size_max_bytes.into(), 1024, mib),
            ("limits.arguments_max", limits.arguments_max.into(), 16, 1 << 20),
            (
                "limits.request_size_max_bytes",
                limits.request_size_max_bytes.into(),
                65_536,
                128 * mib,
            ),
            (
                "limits.peer_frame_size_max_bytes",
                limits.peer_frame_size_max_bytes.into(),
                4 * mib,
                256 * mib,
            ),
        ];
        for &(key, value, first, last) in ranges {
            if !(first..=last).contains(&value) {
                return Err(ConfigError::OutOfRange {
                    key: key.to_owned(),
                    value: value.to_string(),
                    rule: format!("choose a value from {first} to {last}"),
                });
            }
        }
        if self.data_directory.as_os_str().is_empty() {
            return Err(ConfigError::OutOfRange {
                key: "data_directory".to_owned(),
                value: "empty".to_owned(),
                rule: "name the directory that holds, or is to hold, this node's data".to_owned(),
            });
        }
        for (key, bytes) in [
            ("log.segment_size_bytes", log.segment_size_bytes),
            ("log.frame_size_max_bytes", log.frame_size_max_bytes),
        ] {
            if !bytes.is_multiple_of(4096) {
                return Err(ConfigError::OutOfRange {
                    key: key.to_owned(),
                    value: bytes.to_string(),
                    rule: "choose a multiple of 4096, the size of a disk block".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn validate_members(&self) -> Result<(), ConfigError> {
        let count = self.node.len();
        if !matches!(count, 1 | 3 | 5) {
            return Err(ConfigError::OutOfRange {
                key: "node".to_owned(),
                value: format!("{count} nodes"),
                rule: "a replica set has 3 or 5 members (1 for trials); list each in a [[node]] \
                       table of its own"
                    .to_owned(),
            });
        }
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (index, member) in self.node.iter().enumerate() {
            let id_key = format!("node[{index}].id");
            if usize::from(member.id) >= count {
                return Err(ConfigError::OutOfRange {
                    key: id_key,
                    value: member.id.to_string(),
                    rule: format!("number the {count} nodes from 0 to {}", count - 1),
                });
            }
            let client_key = format!("node[{index}].client");
            let peer_key = format!("node[{index}].peer");
            for (key, address) in [(&client_key, &member.client), (&peer_key, &member.peer)] {
                host_and_port(key, address)?;
            }
            if member.cores > CORES_MAX {
                return Err(ConfigError::OutOfRange {
                    key: format!("node[{index}].cores"),
                    value: member.cores.to_string(),
                    rule: format!("choose a value from 0 to {CORES_MAX}"),
                });
            }
            if member.core_client_port_first != 0 && member.cores == 0 {
                return Err(contradiction(
                    (
                        &format!("node[{index}].core_client_port_first"),
                        member.core_client_port_first,
                    ),
                    (&format!("node[{index}].cores"), 0),
                    "say how many cores that node has, so that clients know its ports",
                ));
            }
            for (key, value) in [
                (id_key, format!("id {}", member.id)),
                (client_key, member.client.clone()),
                (peer_key, member.peer.clone()),
            ] {
                if let Some(other) = seen.insert(value.clone(), key.clone()) {
                    return Err(contradiction(
                        (&key, &value),
                        (&other, &value),
                        "each id and address stands once; correct one of them",
                    ));
                }
            }
        }
        if usize::from(self.node_id) >= count {
            return Err(ConfigError::OutOfRange {
                key: "node_id".to_owned(),
                value: self.node_id.to_string(),
                rule: format!(
                    "choose the id of one of the {count} [[node]] tables, 0 to {}",
                    count - 1
                ),
            });
        }
        Ok(())
    }

    fn validate_relations(&self) -> Result<(), ConfigError> {
        let (log, limits, consensus) = (&self.log, &self.limits, &self.consensus);
        if log.frame_size_max_bytes > log.segment_size_bytes / 2 {
            return Err(contradiction(
                ("log.frame_size_max_bytes", log.frame_size_max_bytes),
                ("log.segment_size_bytes", log.segment_size_bytes),
                "a frame takes at most half a segment; raise the segment size or lower the other",
            ));
        }
        if log.pending_max_bytes < log.frame_size_max_bytes {
            return Err(contradiction(
                ("log.pending_max_bytes", log.pending_max_bytes),
                ("log.frame_size_max_bytes", log.frame_size_max_bytes),
                "at least one whole frame must be able to wait; raise the first or lower the other",
            ));
        }
        if limits.request_size_max_bytes < limits.value_size_max_bytes {
            return Err(contradiction(
                ("limits.request_size_max_bytes", limits.request_size_max_bytes),
                ("limits.value_size_max_bytes", limits.value_size_max_bytes),
                "a command must be able to hold one value; raise the first or lower the other",
            ));
        }
        // One entry holds a batch, the command that filled it, and what that command may make of
        // stored values: a longer one by APPEND, an old one as a noted reply. It goes into one peer
        // frame. Headers take the rest.
        let to_u64 = |bytes: usize| u64::try_from(bytes).expect("sizes fit 64 bits");
        let stored = 2 * to_u64(VALUE_SIZE_MAX);
        let entry_max = u64::from(consensus.batch_max_bytes)
            + u64::from(limits.request_size_max_bytes)
            + stored
            + ENTRY_OVERHEAD_BYTES;
        if u64::from(limits.peer_frame_size_max_bytes) < entry_max {
            return Err(contradiction(
                ("limits.peer_frame_size_max_bytes", limits.peer_frame_size_max_bytes),
                ("limits.request_size_max_bytes", limits.request_size_max_bytes),
                &format!(
                    "a frame must hold one entry of the largest command and batch, {entry_max} \
                     bytes; raise the first or lower the other"
                ),
            ));
        }
        let image_max = to_u64(IMAGE_SIZE_MAX) + ENTRY_OVERHEAD_BYTES;
        if u64::from(limits.peer_frame_size_max_bytes) < image_max {
            return Err(ConfigError::OutOfRange {
                key: "limits.peer_frame_size_max_bytes".to_owned(),
                value: limits.peer_frame_size_max_bytes.to_string(),
                rule: format!("a frame must hold the largest entity: choose {image_max} or more"),
            });
        }
        // Whatever a peer can send fits the log.
        let segment_min = u64::from(limits.peer_frame_size_max_bytes) + ENTRY_OVERHEAD_BYTES;
        if u64::from(log.segment_size_bytes) < segment_min {
            return Err(contradiction(
                ("log.segment_size_bytes", log.segment_size_bytes),
                ("limits.peer_frame_size_max_bytes", limits.peer_frame_size_max_bytes),
                &format!(
                    "a segment must hold whatever fits a frame, {segment_min} bytes; raise the \
                     first or lower the other"
                ),
            ));
        }
        if consensus.catch_up_max_bytes > limits.peer_frame_size_max_bytes / 2 {
            return Err(contradiction(
                ("consensus.catch_up_max_bytes", consensus.catch_up_max_bytes),
                ("limits.peer_frame_size_max_bytes", limits.peer_frame_size_max_bytes),
                "an answer takes at most half a frame; lower the first or raise the other",
            ));
        }
        if consensus.retry_ms > consensus.request_timeout_ms {
            return Err(contradiction(
                ("consensus.retry_ms", consensus.retry_ms),
                ("consensus.request_timeout_ms", consensus.request_timeout_ms),
                "a command must live long enough for one repeated message; lower the first",
            ));
        }
        let own = self.node.iter().find(|member| member.id == self.node_id);
        if let Some(own) = own {
            if own.cores != 0 && self.cores != 0 && own.cores != self.cores {
                return Err(contradiction(
                    ("cores", self.cores),
                    (&format!("cores of [[node]] {}", own.id), own.cores),
                    "both describe this node; make them equal",
                ));
            }
            if own.core_client_port_first != 0 && self.core_client_port_first == 0 {
                return Err(contradiction(
                    ("core_client_port_first", 0),
                    (
                        &format!("core_client_port_first of [[node]] {}", own.id),
                        own.core_client_port_first,
                    ),
                    "clients would be sent to ports nobody listens on; set the first, or remove \
                     the other",
                ));
            }
        }
        Ok(())
    }

    fn validate_addresses(&self) -> Result<(), ConfigError> {
        let client = listen_address("client_address", &self.client_address)?;
        let peer = listen_address("peer_address", &self.peer_address)?;
        // With `cores = 0` the number is not known here; the ports are then checked at the bind.
        let cores = self.cores.max(1);
        let mut ranges = vec![
            PortRange::new("client_address", client, 1)?,
            PortRange::new("peer_address", peer, cores)?,
        ];
        if self.core_client_port_first != 0 {
            let address = SocketAddr::new(client.ip(), self.core_client_port_first);
            ranges.push(PortRange::new("core_client_port_first", address, cores)?);
        }
        if !self.admin_address.is_empty() {
            let address = listen_address("admin_address", &self.admin_address)?;
            ranges.push(PortRange::new("admin_address", address, 1)?);
        }
        for (index, range) in ranges.iter().enumerate() {
            if !self.allow_remote_without_authentication && !range.ip.is_loopback() {
                return Err(ConfigError::RemoteWithoutAuthentication {
                    key: range.key.to_owned(),
                    value: SocketAddr::new(range.ip, range.first).to_string(),
                });
            }
            for other in &ranges[..index] {
                if range.overlaps(other) {
                    return Err(contradiction(
                        (range.key, range),
                        (other.key, other),
                        "the ports overlap; move one of them",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Ports `first..=last` that one key takes on one address.
struct PortRange {
    key: &'static str,
    ip: IpAddr,
    first: u16,
    last: u16,
}

impl PortRange {
    fn new(key: &'static str, address: SocketAddr, count: u16) -> Result<Self, ConfigError> {
        let first = address.port();
        let last =
            first.checked_add(count.saturating_sub(1)).ok_or_else(|| ConfigError::OutOfRange {
                key: key.to_owned(),
                value: address.to_string(),
                rule: format!("the ports of {count} cores must end at 65535; choose a lower one"),
            })?;
        Ok(Self { key, ip: address.ip(), first, last })
    }

    fn overlaps(&self, other: &Self) -> bool {
        let same = self.ip == other.ip || self.ip.is_unspecified() || other.ip.is_unspecified();
        same && self.first <= other.last && other.first <= self.last
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", SocketAddr::new(self.ip, self.first))?;
        if self.last > self.first { write!(formatter, " to {}", self.last) } else { Ok(()) }
    }
}

fn contradiction(
    (key, value): (&str, impl ToString),
    (other_key, other_value): (&str, impl ToString),
    rule: &str,
) -> ConfigError {
    ConfigError::Contradiction {
        key: key.to_owned(),
        value: value.to_string(),
        other_key: other_key.to_owned(),
        other_value: other_value.to_string(),
        rule: rule.to_owned(),
    }
}

fn listen_address(key: &str, address: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |rule: &str| ConfigError::OutOfRange {
        key: key.to_owned(),
        value: format!("`{address}`"),
        rule: rule.to_owned(),
    };
    let parsed: SocketAddr = address.parse().map_err(|_| {
        wrong("write an IP address and a port, such as \"127.0.0.1:7000\" or \"[::1]:7000\"")
    })?;
    if parsed.port() == 0 {
        return Err(wrong("choose a port from 1 to 65535, since others must find this node"));
    }
    Ok(parsed)
}

/// Splits `address`, the value of `key`, into host and port. Host names are allowed.
///
/// # Errors
///
/// Says that the value is not of the form host:port.
pub fn host_and_port(key: &str, address: &str) -> Result<(String, u16), ConfigError> {
    let wrong = || ConfigError::OutOfRange {
        key: key.to_owned(),
        value: format!("`{address}`"),
        rule: "write host and port, such as \"10.0.0.2:7000\", \"db2.example:7000\" or \
               \"[fd00::2]:7000\""
            .to_owned(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if host.is_empty() || host.contains(char::is_whitespace) || port == 0 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// The default configuration as a table: every key that exists.
fn default_table() -> Table {
    Table::try_from(Config::default()).expect("a configuration is a plain table")
}

/// Every top-level key that holds one value, with its default.
fn scalar_keys() -> BTreeMap<String, Value> {
    default_table()
        .into_iter()
        .filter(|(_, value)| !matches!(value, Value::Table(_) | Value::Array(_)))
        .collect()
}

fn refuse_unknown_keys(table: &Table) -> Result<(), ConfigError> {
    let known = default_table();
    let every_key: Vec<String> = known_keys();
    let unknown = |key: &str, value: &Value| ConfigError::UnknownKey {
        key: key.to_owned(),
        value: value.to_string(),
        nearest: Suggestion(nearest(key, &every_key)),
    };
    let check = |prefix: &str, inner: &Table, known: &Table| {
        inner
            .iter()
            .find(|(key, _)| !known.contains_key(*key))
            .map_or(Ok(()), |(key, value)| Err(unknown(&format!("{prefix}.{key}"), value)))
    };
    for (key, value) in table {
        match (known.get(key), value) {
            (None, _) => return Err(unknown(key, value)),
            (Some(Value::Table(known)), Value::Table(inner)) => check(key, inner, known)?,
            (Some(Value::Array(known)), Value::Array(members)) => {
                let known = known.first().and_then(Value::as_table);
                for member in members {
                    if let (Some(known), Some(member)) = (known, member.as_table()) {
                        check(key, member, known)?;
                    }
                }
            }
            // A wrong type is reported by the reading of the value.
            (Some(_), _) => {}
        }
    }
    Ok(())
}

/// Every key that exists, those of tables with their table's name before a dot.
#[must_use]
pub fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in default_table() {
        let inner = match &value {
            Value::Table(inner) => Some(inner),
            Value::Array(members) => members.first().and_then(Value::as_table),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => None,
        };
        match inner {
            Some(inner) => keys.extend(inner.keys().map(|inner_key| format!("{key}.{inner_key}"))),
            None => keys.push(key),
        }
    }
    keys
}

/// The known key that takes the fewest changes to reach; `None` when none is close.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let distance = |candidate: &String| {
        let whole = changes_between(key, candidate);
        // A right key in the wrong table, or without its unit, is near as well.
        let (given, wanted) = (name(key), name(candidate));
        let bare = changes_between(&given, &wanted).saturating_add(1);
        let without_unit = if given.len() >= 5 && wanted.starts_with(&given) { 2 } else { whole };
        whole.min(bare).min(without_unit)
    };
    let best = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= key.len().div_ceil(3)).then(|| best.clone())
}

/// Insertions, deletions and replacements of characters that turn `from` into `to`.
fn changes_between(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, given) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(given != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

fn replace(table: &mut Table, replacement: &Override) -> Result<(), ConfigError> {
    let Override { source_name, key, value } = replacement;
    let bad = |error: &str| ConfigError::BadOverride {
        source_name: source_name.clone(),
        key: key.clone(),
        value: value.clone(),
        error: error.to_owned(),
    };
    let scalars = scalar_keys();
    let typed = match scalars.get(key) {
        Some(Value::Integer(_)) => {
            let number = value.trim().parse().map_err(|_| bad("it must be a whole number"))?;
            Value::Integer(number)
        }
        Some(Value::Boolean(_)) => {
            Value::Boolean(value.trim().parse().map_err(|_| bad("it must be true or false"))?)
        }
        Some(
            Value::String(_)
            | Value::Float(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_),
        ) => Value::String(value.clone()),
        None => return Err(bad("no such key can be replaced")),
    };
    let mut alone = Table::new();
    alone.insert(key.clone(), typed.clone());
    let _: Config = alone.try_into().map_err(|error: toml::de::Error| bad(error.message()))?;
    table.insert(key.clone(), typed);
    Ok(())
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use plog::vocabulary::BootEpoch;

    use super::{Config, ConfigError, Override, environment_overrides, known_keys};

    const NODES: &str = "
        [[node]]
        id = 0
        client = \"127.0.0.1:7000\"
        peer = \"127.0.0.1:7400\"
        [[node]]
        id = 1
        client = \"127.0.0.1:8000\"
        peer = \"127.0.0.1:8400\"
        [[node]]
        id = 2
        client = \"127.0.0.1:9000\"
        peer = \"127.0.0.1:9400\"
    ";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("certusd.toml"), &[])
    }

    fn parse_with_nodes(top: &str) -> Result<Config, ConfigError> {
        parse(&format!("{top}\n{NODES}"))
    }

    #[test]
    fn a_list_of_nodes_is_all_a_configuration_needs() {
        assert_eq!(parse_with_nodes("").unwrap(), Config::default());
        let error = parse("node_id = 1").unwrap_err();
        assert!(error.to_string().contains("`node` is missing"), "{error}");
    }

    #[test]
    fn the_effective_configuration_reads_back_as_the_same() {
        let config = parse_with_nodes("cluster_id = \"0xc0ffee\"\nnode_id = 2\ncores = 2").unwrap();
        assert_eq!(config.cluster_id.0, 0xC0_FFEE);
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
        let number = parse_with_nodes("cluster_id = 12648430").unwrap();
        assert_eq!(number.cluster_id, config.cluster_id);
    }

    #[test]
    fn each_mistake_has_one_message_that_names_key_value_and_remedy() {
        let cases: &[(&str, &[&str])] = &[
            ("node_idd = 1", &["`node_idd` (= 1)", "did you mean `node_id`?"]),
            ("segment_size_bytes = 1", &["did you mean `log.segment_size_bytes`?"]),
            ("[log]\nsegment_size = 1", &["`log.segment_size`", "`log.segment_size_bytes`"]),
            ("[limits]\nqqqqqqqq = 1", &["`limits.qqqqqqqq` (= 1) is not known; correct"]),
            ("[quux]\na = 1", &["`quux`", "not known"]),
            ("node_id = 3", &["`node_id` is 3", "0 to 2"]),
            ("node_id = \"a\"", &["line 1", "`node_id = \"a\"`", "expected u8"]),
            ("\nnode_id = 300", &["line 2", "`node_id = 300`"]),
            ("cores = -1", &["`cores = -1`", "line 1"]),
            ("cores = 257", &["`cores` is 257", "0 to 256"]),
            ("cluster_id = 0", &["`cluster_id` is 0", "from 1"]),
            ("cluster_id = \"xyz\"", &["`cluster_id = \"xyz\"`", "hexadecimal"]),
            ("data_directory = \"\"", &["`data_directory` is empty", "name the directory"]),
            ("client_address = \"7000\"", &["`client_address` is `7000`", "127.0.0.1:7000"]),
            ("client_address = \"127.0.0.1:0\"", &["`client_address`", "1 to 65535"]),
            (
                "client_address = \"0.0.0.0:7000\"",
                &["`client_address` is 0.0.0.0:7000", "no authentication", "loopback"],
            ),
            ("peer_address = \"10.0.0.1:7400\"", &["`peer_address`", "no authentication"]),
            ("admin_address = \"[::]:7800\"", &["`admin_address`", "no authentication"]),
            (
                "peer_address = \"127.0.0.1:7000\"",
                &["`peer_address`", "`client_address`", "overlap"],
            ),
            (
                "cores = 4\ncore_client_port_first = 7398",
                &["`core_client_port_first` is 127.0.0.1:7398 to 7401", "`peer_address`"],
            ),
            ("cores = 8\npeer_address = \"127.0.0.1:65530\"", &["`peer_address`", "65535"]),
            ("[log]\nsegment_size_bytes = 4096", &["`log.segment_size_bytes` is 4096", "4194304"]),
            ("[log]\nsegment_size_bytes = 67108865", &["67108865", "multiple of 4096"]),
            ("[log]\nspare_segments = 0", &["`log.spare_segments` is 0", "from 1 to 64"]),
            (
                "[log]\nsegment_size_bytes = 8388608",
                &["`log.segment_size_bytes` is 8388608", "whatever fits a frame, 8519680 bytes"],
            ),
            (
                "[limits]\npeer_frame_size_max_bytes = 6291456",
                &["`limits.peer_frame_size_max_bytes` is 6291456", "a frame must hold one entry"],
            ),
            (
                "[limits]\npeer_frame_size_max_bytes = 5242880\nrequest_size_max_bytes = 1048576",
                &["`limits.peer_frame_size_max_bytes` is 5242880", "hold the largest entity"],
            ),
            (
                "[log]\npending_max_bytes = 1048576\nframe_size_max_bytes = 2097152",
                &["`log.pending_max_bytes`", "`log.frame_size_max_bytes` is 2097152"],
            ),
            (
                "[consensus]\nretry_ms = 1000\nrequest_timeout_ms = 500",
                &["`consensus.retry_ms` is 1000", "`consensus.request_timeout_ms` is 500"],
            ),
            ("[limits]\nvalue_size_max_bytes = 2097152", &["`limits.value_size_max_bytes`"]),
            (
                "[limits]\nrequest_size_max_bytes = 16777216",
                &["`limits.request_size_max_bytes`", "`limits.peer_frame_size_max_bytes`"],
            ),
            ("log_level = \"loud\"", &["`log_level = \"loud\"`", "`info`"]),
            ("this is not toml", &["line 1 (`this is not toml`)"]),
        ];
        for (text, words) in cases {
            let message = parse_with_nodes(text).expect_err(text).to_string();
            for word in *words {
                assert!(message.contains(word), "{text:?} says {message:?}, without {word:?}");
            }
            assert!(!message.contains('\n'), "{message:?} is one line");
        }
    }

    #[test]
    fn each_mistake_in_the_list_of_nodes_is_named() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("id = 2", "id = 1", &["`node[2].id`", "`node[1].id`"]),
            ("id = 2", "id = 3", &["`node[2].id` is 3", "0 to 2"]),
            ("127.0.0.1:9400", "127.0.0.1:8400", &["`node[2].peer`", "`node[1].peer`"]),
            ("127.0.0.1:9400", "127.0.0.1", &["`node[2].peer` is `127.0.0.1`", "host and port"]),
            ("127.0.0.1:9000", "::1:9000", &["`node[2].client` is `::1:9000`", "[fd00::2]"]),
            ("id = 2", "id = 2\nlcient = \"x:1\"", &["`node.lcient`", "`node.client`"]),
            (
                "id = 2",
                "id = 2\ncore_client_port_first = 9100",
                &["`node[2].core_client_port_first` is 9100", "how many cores"],
            ),
            ("id = 0", "id = 0\ncores = 3", &["`cores` is 2", "cores of [[node]] 0"]),
        ];
        for (from, to, words) in cases {
            let text = format!("cores = 2\n{}", NODES.replacen(from, to, 1));
            let message = parse(&text).expect_err(to).to_string();
            for word in *words {
                assert!(message.contains(word), "{to:?} says {message:?}, without {word:?}");
            }
        }
        let two = NODES.rsplit_once("[[node]]").unwrap().0;
        assert!(parse(two).unwrap_err().to_string().contains("2 nodes"));
        let named = NODES.replacen("127.0.0.1:9400", "db3.example:9400", 1);
        assert!(parse(&named).is_ok(), "host names are allowed for others");
    }

    #[test]
    fn a_remote_address_is_allowed_when_said_so() {
        let text = "allow_remote_without_authentication = true\nclient_address = \"0.0.0.0:7000\"";
        assert!(parse_with_nodes(text).is_ok());
    }

    #[test]
    fn the_environment_and_flags_replace_top_level_keys() {
        let environment = [
            ("CERTUS_NODE_ID", "2"),
            ("CERTUS_LOG_LEVEL", "debug"),
            ("CERTUS_PIN_CORES", "false"),
            ("CERTUS_NODE", "x"),
            ("CERTUS_NODE_IDD", "x"),
            ("HOME", "/root"),
        ];
        let (mut overrides, unknown) = environment_overrides(
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        assert_eq!(unknown, ["CERTUS_NODE", "CERTUS_NODE_IDD"]);
        overrides.push(Override {
            source_name: "--node-id".to_owned(),
            key: "node_id".to_owned(),
            value: "1".to_owned(),
        });
        let config = Config::parse(NODES, Path::new("x"), &overrides).unwrap();
        assert_eq!(config.node_id, 1, "the flag comes after the environment");
        assert!(!config.pin_cores);
        assert_eq!(config.log_level, crate::node::log_line::Level::Debug);
    }

    #[test]
    fn a_bad_override_names_the_variable_and_the_key() {
        for (key, value) in
            [("node_id", "two"), ("node_id", "-1"), ("pin_cores", "yes"), ("log_level", "loud")]
        {
            let name = format!("CERTUS_{}", key.to_uppercase());
            let replacement = Override {
                source_name: name.clone(),
                key: key.to_owned(),
                value: value.to_owned(),
            };
            let message =
                Config::parse(NODES, Path::new("x"), &[replacement]).unwrap_err().to_string();
            for word in [&name, &format!("`{value}`"), &format!("`{key}`")] {
                assert!(message.contains(word.as_str()), "{message}");
            }
        }
    }

    #[test]
    fn known_keys_are_complete_and_each_stands_once() {
        let mut keys = known_keys();
        for key in ["cluster_id", "node.id", "node.cores", "log.segment_size_bytes"] {
            assert!(keys.iter().any(|known| known == key), "{key}");
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn what_a_node_may_hold_is_shared_out_among_its_cores() {
        let config = Config::default();
        let one = config.shard_config(0, 1, BootEpoch(1));
        let third = config.shard_config(2, 3, BootEpoch(1));
        assert_eq!(one.entities_max, 1 << 24);
        assert!(third.entities_max * 3 >= one.entities_max);
        assert!(third.entities_max * 3 < one.entities_max + 3);
        assert_eq!(
            third.request_ids_max, one.request_ids_max,
            "replicated state is not shared out"
        );
        assert_ne!(third.seed, one.seed);
        assert_eq!(config.core_limits(1).connections_max, 10_000);
        assert_eq!(config.core_limits(4).connections_max, 2_500);
        assert_eq!(config.flattened()["log.spare_segments"], "2");
        assert_eq!(config.flattened()["client_address"], "127.0.0.1:7000");
    }
}
