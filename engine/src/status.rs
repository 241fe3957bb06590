//! Counters and gauges of a shard.

/// Things that happened, since the shard was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Commands taken on.
    pub commands: u64,
    /// Commands that were applied through an entry.
    pub writes: u64,
    /// Commands answered by a read check.
    pub reads: u64,
    /// Commands answered from local state without a check.
    pub local_reads: u64,
    /// Read checks started; one may serve many reads.
    pub read_checks: u64,
    /// Read checks that found the entry started, or the peer ahead.
    pub read_checks_failed: u64,
    /// Entries proposed without a prepare.
    pub pre_authorised: u64,
    /// Prepares started.
    pub prepares: u64,
    /// Proposals that took over a value found at a peer or in the own record.
    pub rescues: u64,
    /// Proposals of nothing, to finish an entry.
    pub no_ops: u64,
    /// Rounds lost to a higher ballot.
    pub lost_rounds: u64,
    /// Values that lost their entry to another.
    pub lost_values: u64,
    /// Entries learned to be chosen.
    pub chosen: u64,
    /// Commands handed to the replica that proposes.
    pub forwarded: u64,
    /// Messages repeated after silence.
    pub retries: u64,
    /// Messages dropped because a value in them could not be found here.
    pub values_unresolved: u64,
    /// Messages dropped because a queue or the log was full.
    pub messages_refused: u64,
    /// Messages for entries too far ahead of this replica.
    pub messages_ahead: u64,
    /// Catch-up requests sent.
    pub catch_ups: u64,
    /// Entries learned by catch-up.
    pub catch_up_entries: u64,
    /// Images installed from a peer.
    pub images_installed: u64,
    /// Images written to the log.
    pub images_logged: u64,
    /// Entities loaded from the log.
    pub loads: u64,
    /// Entities evicted from memory.
    pub evictions: u64,
    /// Commands answered `UNKNOWN`.
    pub unknown: u64,
    /// Commands answered `CLUSTERDOWN`.
    pub cluster_down: u64,
    /// Commands answered `TRYAGAIN`.
    pub try_again: u64,
    /// Commands answered `BUSY`.
    pub busy: u64,
    /// Requests recognised as applied before.
    pub duplicates: u64,
    /// Entities that stopped because their history differs from a peer's.
    pub diverged: u64,
    /// Sweeps of a peer finished.
    pub sweeps: u64,
    /// Entities a sweep found behind.
    pub swept_behind: u64,
}

/// A shard's state at a glance.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardStatus {
    /// See [`Counters`].
    pub counters: Counters,
    /// Entities in memory.
    pub entities_in_memory: u64,
    /// Entities with a record in the log.
    pub entities_on_disk: u64,
    /// Keys held, as far as their entities are or were in memory.
    pub keys: u64,
    /// Approximate bytes of entity state in memory.
    pub state_bytes: u64,
    /// Approximate bytes of the log's index.
    pub index_bytes: u64,
    /// Commands taken on and not yet answered.
    pub commands_held: u64,
    /// Messages waiting for the log.
    pub gated: u64,
    /// Entities being loaded.
    pub loading: u64,
    /// Messages and commands parked for entities being loaded.
    pub parked: u64,
    /// Entities known to be behind a peer and not yet caught up.
    pub behind: u64,
    /// Timers armed.
    pub timers: u64,
    /// Entities this replica cannot serve, for damage or divergence.
    pub abstaining: u64,
    /// Log records appended.
    pub lsn_appended: u64,
    /// Log records durable.
    pub lsn_durable: u64,
}
