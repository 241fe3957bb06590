//! What one core gets of what the node is configured with.
//!
//! Bounds of memory and connections are the node's and are shared out evenly among its cores; times
//! and sizes of single things hold for each core as they are.

use engine::config::ShardConfig;
use engine::shard::{CatchUpRates, Rate, share_of_rate};
use net::peer::handshake::Role;
use plog::vocabulary::{AcceptorId, BootEpoch};

use crate::core_setup::Limits;
use crate::node::config::Config;

/// Everything is compared with each peer once in so many sweeps.
const DIGEST_EVERY_SWEEPS: u64 = 10;

/// Entities of each core of which it is remembered that they advanced lately: 1 MiB, at 16 bytes
/// each.
const LAG_ENTITIES_MAX: usize = 1 << 16;

impl Config {
    /// `value` of the node shared out to one of `cores`, at least 1.
    fn share(value: u64, cores: u16) -> usize {
        let share = value.div_ceil(u64::from(cores.max(1)));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// The configuration of one shard out of `cores`.
    #[must_use]
    pub fn shard_config(&self, core: u16, cores: u16, epoch: BootEpoch) -> ShardConfig {
        let consensus = &self.consensus;
        let make = match self.role() {
            Role::Replica | Role::Member { .. } => ShardConfig::new,
            Role::Follower { .. } => ShardConfig::follower,
        };
        let base = make(AcceptorId(self.node_id), self.replicas(), epoch);
        let size = |bytes: u32| usize::try_from(bytes).expect("this machine has 64-bit addresses");
        ShardConfig {
            changes_membership: self.changes_membership(),
            core,
            core_count: cores,
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
            memory_bytes_max: Self::share(self.memory.limit_bytes, cores),
            values_on_disk_above: size(self.memory.values_on_disk_above_bytes),
            values_cache_bytes: usize::try_from(
                self.memory.values_cache_bytes / u64::from(cores.max(1)),
            )
            .expect("this machine has 64-bit addresses"),
            entities_max: Self::share(self.memory.entities_max, cores),
            parked_messages_max: Self::share(self.memory.parked_messages_max, cores),
            request_ids_max: size(self.memory.request_ids_max),
            image_every_entries: u64::from(consensus.image_every_entries),
            lazy_flush_us: u64::from(self.log.lazy_flush_ms) * 1000,
            catch_up_bytes_max: size(consensus.catch_up_max_bytes),
            catch_up_rates: self.catch_up_rates(cores),
            staleness_max_us: u64::from(self.follower.staleness_max_ms) * 1000,
            sweep_every_us: u64::from(consensus.sweep_every_ms) * 1000,
            digest_every_us: DIGEST_EVERY_SWEEPS * u64::from(consensus.sweep_every_ms) * 1000,
            lag_entities_max: LAG_ENTITIES_MAX,
            checkpoint_log_bytes: self.log.checkpoint_log_bytes,
            checkpoint_log_percent: u64::from(self.log.checkpoint_log_percent),
            checkpoint_bytes_per_second: self.log.checkpoint_rate_bytes_per_s,
            log_hold_bytes: self.log.hold_bytes / u64::from(cores.max(1)),
            hold_entries: size(self.log.hold_entries),
            clean_bytes_per_second: self.log.clean_rate_bytes_per_s,
            ..base
        }
    }

    fn catch_up_rates(&self, cores: u16) -> CatchUpRates {
        let share = |rate| share_of_rate(rate, cores);
        let catch_up = &self.catch_up;
        CatchUpRates {
            all: Rate {
                entries: share(catch_up.rate_entries_per_s),
                bytes: share(catch_up.rate_bytes_per_s),
            },
            peer: Rate {
                entries: share(catch_up.peer_rate_entries_per_s),
                bytes: share(catch_up.peer_rate_bytes_per_s),
            },
        }
    }

    /// Segment files that one core out of `cores` may have, spares included.
    #[must_use]
    pub fn segments_max(&self, cores: u16) -> usize {
        let share = self.log.size_max_bytes / u64::from(cores.max(1));
        let segments = share / u64::from(self.log.segment_size_bytes);
        // With as many cores as the machine has, a share may be smaller than was validated.
        usize::try_from(segments.max(self.segments_min())).unwrap_or(usize::MAX)
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
}
