//! Counters and gauges of a shard.

use crate::context::REPLICAS_MAX;

/// Declares the counters with their sum and names, so that none is left out of either.
macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Things that happened, since the shard was made.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Counters {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl Counters {
            /// The sum of two shards' counters, or of two boots'.
            #[must_use]
            pub fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            /// Every count with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Commands taken on.
    commands,
    /// Commands that were applied through an entry.
    writes,
    /// Commands answered by a read check.
    reads,
    /// Commands answered from local state without a check.
    local_reads,
    /// Read checks started; one may serve many reads.
    read_checks,
    /// Read checks that found the entry started, or the peer ahead.
    read_checks_failed,
    /// Entries proposed without a prepare.
    pre_authorised,
    /// Prepares started.
    prepares,
    /// Proposals that took over a value found at a peer or in the own record.
    rescues,
    /// Proposals of nothing, to finish an entry.
    no_ops,
    /// Rounds lost to a higher ballot.
    lost_rounds,
    /// Values that lost their entry to another.
    lost_values,
    /// Entries learned to be chosen.
    chosen,
    /// Later configurations adopted.
    configurations_adopted,
    /// Messages that were said in another configuration, or to or by who is no member, and dropped.
    messages_unheard,
    /// Times that a peer named another configuration of the same version: other founders.
    configurations_unlike,
    /// Messages about membership sent.
    membership_messages,
    /// Ballots proposed for the next configuration.
    membership_rounds,
    /// Configurations settled: all that was chosen before them is held.
    configurations_settled,
    /// Commands refused because this replica is no member.
    commands_removed,
    /// Commands handed to the replica that proposes.
    forwarded,
    /// Commands for entities that abstain here, handed to other replicas.
    relayed,
    /// Messages left unanswered because their entity abstains here.
    abstained,
    /// Messages repeated after silence.
    retries,
    /// Messages dropped because a value in them could not be found here.
    values_unresolved,
    /// Messages dropped because a queue or the log was full.
    messages_refused,
    /// Messages for entries too far ahead of this replica.
    messages_ahead,
    /// Catch-up requests sent.
    catch_ups,
    /// Entries learned by catch-up.
    catch_up_entries,
    /// Bytes of values and whole entities that peers sent for catching up.
    catch_up_bytes,
    /// Times that entities which a sweep found had to wait for the rate of catching up.
    catch_up_waits,
    /// Images installed from a peer.
    images_installed,
    /// Marks of applied entries written by a start, in place of those that a crash took.
    marks_made_up_for,
    /// Pages of changes told to tails, empty ones not counted.
    tail_pages,
    /// Lines on them.
    tail_lines,
    /// Bytes of log read for them.
    tail_bytes,
    /// Questions of tails that had to wait for another one's page.
    tail_waits,
    /// Positions from which a tail could not go on.
    tail_gone,
    /// Questions of tails that were refused.
    tail_refused,
    /// Images written to the log.
    images_logged,
    /// Entities loaded from the log.
    loads,
    /// Entities evicted from memory.
    evictions,
    /// Of these, with an entry that was open: it comes back from the log when a message asks.
    open_evictions,
    /// Records read for these loads.
    load_reads,
    /// Bytes of these records.
    load_bytes,
    /// Loads of large entities.
    large_loads,
    /// Times a large entity was in memory when it was needed.
    large_hits,
    /// Large entities evicted because they passed their cache.
    large_evictions,
    /// Commands answered `UNKNOWN`.
    unknown,
    /// Commands answered `CLUSTERDOWN`.
    cluster_down,
    /// Commands answered `TRYAGAIN`.
    try_again,
    /// Commands answered `BUSY`.
    busy,
    /// Requests recognised as applied before.
    duplicates,
    /// Entities that stopped because their history differs from a peer's.
    diverged,
    /// Entities whose image could not be read back.
    images_lost,
    /// Of both kinds, entities that serve again: a majority has the same history.
    healed,
    /// Checkpoints adopted.
    checkpoints,
    /// Bytes written to checkpoints.
    checkpoint_bytes,
    /// Entities whose image went into a checkpoint from memory.
    checkpoint_images,
    /// Entities whose image was copied from disk to a checkpoint.
    checkpoint_copies,
    /// Records of open entries appended anew, so that their segment can go.
    relocated,
    /// Segments freed.
    segments_freed,
    /// Locks taken on checkpoints.
    checkpoint_locks,
    /// Locks refused because there were too many.
    checkpoint_locks_refused,
    /// Locks that ended because they were not renewed in time.
    checkpoint_locks_expired,
    /// Locks that gave way when the log neared its limit.
    checkpoint_locks_broken,
    /// Mirrors that kept more log than they may, and have to begin anew.
    mirrors_overrun,
    /// Sweeps of a peer finished.
    sweeps,
    /// Of these, sweeps that compared everything because nobody knew what this replica holds.
    sweeps_whole,
    /// Entities a sweep found behind.
    swept_behind,
    /// Messages sent for sweeps: questions, answers, confirmations and hints.
    sweep_messages,
    /// Times a peer's core was told that it may lack something.
    lag_hints,
    /// Times that what a peer lacks was told from the entities that advanced lately.
    lag_recent,
    /// Times that all entities were looked through for what a peer lacks.
    lag_walks,
    /// Pages told to peers: of what advanced, and of ranges that differ.
    lag_pages,
    /// Entities on them.
    lag_entities,
    /// Times this core confirmed to a peer's that it lacks nothing.
    lag_confirmed,
    /// Ranges of entities in which a peer holds the same.
    digests_equal,
    /// Of these, ranges whose chains were not compared, because some of them were not known.
    digests_without_chains,
    /// Ranges in which a peer holds something else.
    digests_unequal,
    /// Times a sweep showed another chain than this replica has at the same entry.
    chains_unlike,
    /// Notices sent to followers.
    told,
    /// Times that a follower was not taken: this core is not whole, or has too many.
    follows_refused,
    /// Messages of followers that only a replica may send.
    followers_unheard,
    /// Notices that came to this follower.
    told_received,
    /// Times that notices to this follower were missing, and a sweep had to make up for them.
    told_lost,
    /// Streams of notices that this follower began to follow.
    streams_followed,
    /// Times that this follower turned from one replica to another.
    failovers,
    /// Messages to this follower that only a replica heeds.
    follower_unheard,
    /// Commands that this follower refused.
    follower_refusals,
    /// Later generations of other replicas learned of.
    generations_learned,
    /// Messages dropped because their sender is of another generation by now.
    messages_outdated,
    /// Entries that another replica had to be asked to finish, after a loss.
    finishes_asked,
    /// Entries finished because another replica asked for it.
    finishes,
    /// Entities that take part again after a loss.
    floors_reached,
    /// Losses that were made up for.
    rejoins,
    /// Times a peer was asked for all entities, after a loss.
    transfers,
    /// Pages of images that came so.
    transfer_pages,
    /// Entities taken over from them.
    transfer_images,
    /// Entities sent to others so.
    transfer_images_sent,
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
    /// Bytes of all that grows with data: entities in memory and their tables, the index, what is
    /// being loaded and what is parked for it.
    pub accounted_bytes: u64,
    /// What `accounted_bytes` may come to.
    pub memory_limit: u64,
    /// Entities in memory that are large.
    pub large_entities: u64,
    /// Their bytes.
    pub large_bytes: u64,
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
    /// Entities that peers have to tell yet in sweeps under way, as far as they said.
    pub sweep_left: u64,
    /// Entities that advanced here since each replica confirmed to hold everything, by acceptor, at
    /// most; all entities where that is not known. Those of live traffic count, too.
    pub unconfirmed: [u64; REPLICAS_MAX],
    /// Cores of followers that are told what this one learns.
    pub followers: u64,
    /// Timers armed.
    pub timers: u64,
    /// Entities this replica cannot serve itself, for damage or divergence. Of a damaged log: those
    /// that it names before the damage, and at least 1.
    pub abstaining: u64,
    /// 1 when the whole shard abstains because its log was found damaged, else 0.
    pub abstaining_cores: u64,
    /// 1 while the shard rejoins after a loss, else 0.
    pub rejoining_cores: u64,
    /// Entities that have to catch up before they take part again; at least 1 while it is not known
    /// which.
    pub rejoin_left: u64,
    /// Version of the configuration by which the shard goes.
    pub configuration: u64,
    /// Entities to be learned before that is settled; at least 1 while it is not.
    pub settling_left: u64,
    /// Segments of the log held.
    pub segments: u64,
    /// Of these, those that the cleaner may free: superseded by the checkpoint that counts, and not
    /// held for peers.
    pub segments_freeable: u64,
    /// Bytes of log written since the last checkpoint began.
    pub log_since_checkpoint: u64,
    /// Segments that the log may hold, spares included.
    pub segments_max: u64,
    /// Whether an operator paused the cleaner.
    pub cleaner_paused: u64,
    /// Whether the log holds most of the segments that it may: checkpoints hurry, and nothing is
    /// held for peers.
    pub log_near_limit: u64,
    /// Whether writes are refused for want of room, on the disk or in a log whose cleaner is
    /// paused.
    pub log_full: u64,
    /// Number of the checkpoint that counts, 0 for none.
    pub checkpoint: u64,
    /// Bytes of the checkpoint that counts.
    pub checkpoint_size: u64,
    /// Whether a checkpoint is being written.
    pub checkpointing: u64,
    /// Locks held on checkpoints.
    pub checkpoints_locked: u64,
    /// Mirrors registered.
    pub mirrors: u64,
    /// Log records appended.
    pub lsn_appended: u64,
    /// Log records durable.
    pub lsn_durable: u64,
}

/// A shard at a glance: of its [`ShardStatus`], what a checker looks at after every event, and
/// nothing that takes a walk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    /// As [`ShardStatus::entities_in_memory`].
    pub entities_in_memory: u64,
    /// As [`ShardStatus::commands_held`].
    pub commands_held: u64,
    /// As [`ShardStatus::gated`].
    pub gated: u64,
    /// As [`ShardStatus::loading`].
    pub loading: u64,
    /// As [`ShardStatus::parked`].
    pub parked: u64,
    /// As [`ShardStatus::timers`].
    pub timers: u64,
    /// As [`ShardStatus::abstaining`].
    pub abstaining: u64,
    /// Of these, entities whose copy here may be wrong.
    pub in_doubt: u64,
    /// As [`ShardStatus::lsn_appended`].
    pub lsn_appended: u64,
    /// As [`ShardStatus::lsn_durable`].
    pub lsn_durable: u64,
}

/// A count in the width of this page's figures.
pub(crate) fn as_u64(count: usize) -> u64 {
    u64::try_from(count).expect("a count fits 64 bits")
}
