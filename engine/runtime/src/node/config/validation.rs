//! What a configuration must hold beyond the types of its values.
//!
//! In four steps, each of which may rest on the ones before: every number is in its range, the list
//! of members makes a replica set, values that limit each other fit together, and addresses neither
//! overlap nor reach strangers by mistake. The first thing that is wrong is told, with a remedy.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use engine::config::IMAGE_SIZE_MAX;
use engine::session::RATE_MAX;
use engine::state_machine::strings::VALUE_SIZE_MAX;

use crate::node::config::addresses::{PortRange, host_and_port, listen_address};
use crate::node::config::{CORES_MAX, Config, FOLLOWER_ID_FIRST, FollowerTable};
use crate::node::config_error::ConfigError;

/// Room for headers around the largest entry or image, in a log segment and in a peer frame.
const ENTRY_OVERHEAD_BYTES: u64 = 128 << 10;

/// Segments that a core needs beside its spares: the one being written, the one before, one that
/// a checkpoint needs, and one for what is appended anew.
const SEGMENTS_MIN: u64 = 4;

/// A key, its value, and the first and last it may have.
type Range = (&'static str, u64, u64, u64);

impl Config {
    /// Refuses the first thing that is wrong.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.validate_ranges()?;
        self.validate_members()?;
        self.validate_relations()?;
        self.validate_log_size()?;
        self.validate_memory()?;
        self.validate_addresses()
    }

    fn log_ranges(&self) -> Vec<Range> {
        let log = &self.log;
        let mib = 1 << 20;
        vec![
            ("log.segment_size_bytes", log.segment_size_bytes.into(), 4 * mib, 1024 * mib),
            ("log.spare_segments", log.spare_segments.into(), 1, 64),
            ("log.pending_max_bytes", log.pending_max_bytes.into(), mib, 1024 * mib),
            ("log.frame_size_max_bytes", log.frame_size_max_bytes.into(), 65_536, 16 * mib),
            ("log.lazy_flush_ms", log.lazy_flush_ms.into(), 1, 10_000),
            ("log.slow_operation_ms", log.slow_operation_ms.into(), 0, 60_000),
            ("log.prepare_rate_bytes_per_s", log.prepare_rate_bytes_per_s, mib, 1 << 40),
            ("log.size_max_bytes", log.size_max_bytes, 32 * mib, 1 << 50),
            ("log.hold_bytes", log.hold_bytes, 0, 1 << 50),
            ("log.hold_entries", log.hold_entries.into(), 0, 65_536),
            ("log.disk_reserve_bytes", log.disk_reserve_bytes, 0, 1 << 40),
            ("log.clean_rate_bytes_per_s", log.clean_rate_bytes_per_s, mib, 1 << 40),
            ("log.checkpoint_log_bytes", log.checkpoint_log_bytes, mib, 1 << 50),
            ("log.checkpoint_log_percent", log.checkpoint_log_percent.into(), 10, 10_000),
            ("log.checkpoint_rate_bytes_per_s", log.checkpoint_rate_bytes_per_s, mib, 1 << 40),
        ]
    }

    fn validate_ranges(&self) -> Result<(), ConfigError> {
        let (consensus, limits) = (&self.consensus, &self.limits);
        let mib = 1 << 20;
        let ranges: &[Range] = &[
            ("cluster_id", self.cluster_id.0, 1, u64::MAX),
            ("cores", self.cores.into(), 0, CORES_MAX.into()),
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
            ("follower.staleness_max_ms", self.follower.staleness_max_ms.into(), 0, 86_400_000),
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
        let (log_ranges, memory_ranges) = (self.log_ranges(), self.memory_ranges());
        let catch_up_ranges = self.catch_up_ranges();
        let all = log_ranges.iter().chain(ranges).chain(&memory_ranges).chain(&catch_up_ranges);
        for &(key, value, first, last) in all {
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
            ("log.segment_size_bytes", self.log.segment_size_bytes),
            ("log.frame_size_max_bytes", self.log.frame_size_max_bytes),
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

    /// Keys of `[catch_up]` with their values and ranges.
    fn catch_up_ranges(&self) -> [Range; 4] {
        let catch_up = &self.catch_up;
        [
            ("catch_up.rate_entries_per_s", catch_up.rate_entries_per_s, 0, RATE_MAX),
            ("catch_up.rate_bytes_per_s", catch_up.rate_bytes_per_s, 0, RATE_MAX),
            ("catch_up.peer_rate_entries_per_s", catch_up.peer_rate_entries_per_s, 0, RATE_MAX),
            ("catch_up.peer_rate_bytes_per_s", catch_up.peer_rate_bytes_per_s, 0, RATE_MAX),
        ]
    }

    /// Keys of `[memory]` with their values and ranges.
    fn memory_ranges(&self) -> [Range; 8] {
        let memory = &self.memory;
        let mib = 1 << 20;
        [
            ("memory.limit_bytes", memory.limit_bytes, 64 * mib, 1 << 44),
            (
                "memory.values_on_disk_above_bytes",
                memory.values_on_disk_above_bytes.into(),
                0,
                4 * mib,
            ),
            ("memory.values_cache_bytes", memory.values_cache_bytes, 0, 1 << 44),
            ("memory.entities_max", memory.entities_max, 1, 1 << 32),
            ("memory.entities_in_memory_max", memory.entities_in_memory_max, 64, 1 << 32),
            ("memory.waiting_commands_max", memory.waiting_commands_max, 16, 1 << 24),
            ("memory.parked_messages_max", memory.parked_messages_max, 16, 1 << 24),
            ("memory.request_ids_max", memory.request_ids_max.into(), 1, 1 << 20),
        ]
    }

    /// How many nodes there are, and may be.
    fn validate_slots(&self, count: usize) -> Result<(), ConfigError> {
        if !matches!(self.replica_slots, 0 | 3 | 5) {
            return Err(ConfigError::OutOfRange {
                key: "replica_slots".to_owned(),
                value: self.replica_slots.to_string(),
                rule: "choose 3 or 5, or 0 for members that never change".to_owned(),
            });
        }
        if !self.changes_membership() {
            return if matches!(count, 1 | 3 | 5) {
                Ok(())
            } else {
                Err(ConfigError::OutOfRange {
                    key: "node".to_owned(),
                    value: format!("{count} nodes"),
                    rule:
                        "a replica set has 3 or 5 members (1 for trials); list each in a [[node]] \
                           table of its own"
                            .to_owned(),
                })
            };
        }
        if count == 0 || count > usize::from(self.replica_slots) {
            return Err(contradiction(
                ("replica_slots", self.replica_slots),
                ("node", format!("{count} nodes")),
                "list those that vote at first, or that are members when this node joins: at least \
                 one, and no more than there are slots",
            ));
        }
        Ok(())
    }

    fn validate_members(&self) -> Result<(), ConfigError> {
        let count = self.node.len();
        self.validate_slots(count)?;
        let last = if self.changes_membership() { self.replica_slots.into() } else { count } - 1;
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (index, member) in self.node.iter().enumerate() {
            let id_key = format!("node[{index}].id");
            if usize::from(member.id) > last {
                return Err(ConfigError::OutOfRange {
                    key: id_key,
                    value: member.id.to_string(),
                    rule: format!("number the {count} nodes from 0 to {last}"),
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
        if usize::from(self.node_id) > last && self.node_id < FOLLOWER_ID_FIRST {
            return Err(ConfigError::OutOfRange {
                key: "node_id".to_owned(),
                value: self.node_id.to_string(),
                rule: format!(
                    "choose the id of one of the {count} [[node]] tables, 0 to {last}, or, for a \
                     follower, one from {FOLLOWER_ID_FIRST} to 255 that no other has"
                ),
            });
        }
        if self.follower != FollowerTable::default() && self.node_id < FOLLOWER_ID_FIRST {
            return Err(contradiction(
                ("follower.staleness_max_ms", self.follower.staleness_max_ms),
                ("node_id", self.node_id),
                "a replica follows nobody; remove the first, or give a follower an id from 16 on",
            ));
        }
        Ok(())
    }

    /// Segment files that a core needs at least, spares and the log's reserve included.
    pub(super) fn segments_min(&self) -> u64 {
        let log = &self.log;
        let reserve = u64::from(log.pending_max_bytes / log.segment_size_bytes) + 3;
        SEGMENTS_MIN + u64::from(log.spare_segments) + reserve
    }

    fn validate_log_size(&self) -> Result<(), ConfigError> {
        let log = &self.log;
        let cores = u64::from(self.cores.max(1));
        let segments_min = self.segments_min();
        let size_min = segments_min * u64::from(log.segment_size_bytes) * cores;
        if log.size_max_bytes < size_min {
            return Err(ConfigError::OutOfRange {
                key: "log.size_max_bytes".to_owned(),
                value: log.size_max_bytes.to_string(),
                rule: format!(
                    "{segments_min} segments of log.segment_size_bytes must fit for each core, \
                     spares included: choose {size_min} or more, or smaller segments"
                ),
            });
        }
        // Two checkpoints' worth of log, so that one is done before the other is due.
        let used = log.hold_bytes.max(2 * cores * log.checkpoint_log_bytes);
        if log.size_max_bytes / 4 * 3 < used {
            return Err(ConfigError::OutOfRange {
                key: "log.size_max_bytes".to_owned(),
                value: log.size_max_bytes.to_string(),
                rule: format!(
                    "three quarters of it must hold log.hold_bytes, and twice \
                     log.checkpoint_log_bytes for each core: choose {} or more, or lower those",
                    used.div_ceil(3) * 4
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

    fn validate_memory(&self) -> Result<(), ConfigError> {
        let memory = &self.memory;
        if memory.values_on_disk_above_bytes > 0 && memory.values_cache_bytes > memory.limit_bytes {
            return Err(contradiction(
                ("memory.values_cache_bytes", memory.values_cache_bytes),
                ("memory.limit_bytes", memory.limit_bytes),
                "the cache is a part of the limit; lower the first or raise the other",
            ));
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
