//! Limits and identity of one shard.

use plog::vocabulary::{AcceptorId, BootEpoch};

use crate::request_ids;
use crate::shard::CatchUpRates;
use crate::state_machine::strings::ENTITY_SIZE_MAX;

/// The largest entity as one piece, in bytes: its state, the request ids it remembers, and a few
/// headers. It has to fit a log segment and a peer frame.
pub const IMAGE_SIZE_MAX: usize = ENTITY_SIZE_MAX + request_ids::BYTES_MAX + (4 << 10);

/// Who a shard is, and its limits. Times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// This node's index in the replica set; of a follower, a number outside of it.
    pub acceptor: AcceptorId,
    /// Size of the replica set: 3 or 5 (1 is accepted for trials). Where the membership changes:
    /// its slots.
    pub replicas: u8,
    /// Whether who votes may change: then all nodes say with everything by which configuration they
    /// go. Must be equal on all replicas.
    pub changes_membership: bool,
    /// The acceptors below this number vote in version 0; all of them by default.
    pub first_voters: u8,
    /// This core, counted from 0.
    pub core: u16,
    /// Cores of this node; an entity belongs to `net::resp::slot::shard_of(entity, core_count)`.
    pub core_count: u16,
    /// This start of the node, at least 1, durable before the shard is made.
    pub epoch: BootEpoch,
    /// Seeds the random back-off after lost rounds.
    pub seed: u64,
    /// While another replica proposed an entity within this time, commands are forwarded to it.
    pub duel_lease_us: u64,
    /// A command not decided within this time is answered with an error.
    pub request_timeout_us: u64,
    /// An unanswered message of a proposal, read check or catch-up is repeated after this time.
    pub retry_us: u64,
    /// Upper bound of the first randomised back-off after a lost round; doubles up to 64 times it.
    pub back_off_us: u64,
    /// Entries that a command's value may lose to others' values before it is answered with
    /// `TRYAGAIN`.
    pub lost_rounds_max: u32,
    /// Commands in one entry's batch.
    pub batch_commands_max: usize,
    /// Encoded bytes in one entry's batch, above which no further command joins.
    pub batch_bytes_max: usize,
    /// Commands waiting in the shard, above which new ones are answered with `BUSY`.
    pub waiting_commands_max: usize,
    /// Values above this many bytes are stored once, apart from acceptor records.
    pub max_embedded_value: usize,
    /// Entities kept in memory; beyond it, cold ones are evicted.
    pub entities_in_memory_max: usize,
    /// Bytes of memory for all that grows with data; beyond it, cold entities are evicted.
    pub memory_bytes_max: usize,
    /// Entities with more bytes of state than this are *large*: only a cache of them is kept in
    /// memory. 0: none is.
    pub values_on_disk_above: usize,
    /// Bytes of memory for large entities that nothing waits for.
    pub values_cache_bytes: usize,
    /// Entities this shard may ever hold; beyond it, a write that would make one is refused.
    pub entities_max: usize,
    /// Messages parked for entities that are being loaded; beyond it, they are dropped as lost.
    pub parked_messages_max: usize,
    /// Request ids remembered per entity, oldest forgotten first. Part of the replicated state:
    /// must be equal on all replicas.
    pub request_ids_max: usize,
    /// An entity's image is logged after this many entries, if its records outweigh its state. Of
    /// a large one it is logged by a rule of its own.
    pub image_every_entries: u64,
    /// Lazy records (chosen marks, images) reach the disk at the latest after this time.
    pub lazy_flush_us: u64,
    /// Bytes of values in one catch-up answer.
    pub catch_up_bytes_max: usize,
    /// How fast entities that a sweep found behind catch up.
    pub catch_up_rates: CatchUpRates,
    /// A core that lost its log and misses at least so many entities has one peer send all of them,
    /// before it asks for each that is left.
    pub transfer_entities_min: usize,
    /// Bytes of images in a page that is sent so, but for one image that is larger: what is held in
    /// memory for each core that asks.
    pub transfer_page_bytes: u32,
    /// A follower asks the replica that it follows to tell on at such intervals. A replica that is
    /// silent for five of them is left for another, a follower that is for ten is forgotten.
    pub follow_every_us: u64,
    /// A follower that was in step no later than so long ago refuses reads; 0: it never does.
    pub staleness_max_us: u64,
    /// Cores of peers that may lack something are told so after this time, again and again; and a
    /// sweep that came to nothing is tried again. A follower walks all entities of the replica that
    /// it follows after ten times as long.
    pub sweep_every_us: u64,
    /// All that each peer holds is compared with what this shard holds after this time, as the
    /// backstop; 0: never.
    pub digest_every_us: u64,
    /// Of so many entities that advanced lately the shard remembers that they did, to tell peers
    /// that were away; beyond it, all entities are looked through for those. 0: it remembers
    /// nothing, and peers have to compare everything.
    pub lag_entities_max: usize,
    /// A checkpoint begins when so many bytes of log were written since the last one began; 0:
    /// never.
    pub checkpoint_log_bytes: u64,
    /// And when the log written since is at least so many percent of the last checkpoint's size.
    /// With it, checkpoints add at most `100 / checkpoint_log_percent` bytes per byte of log.
    pub checkpoint_log_percent: u64,
    /// Checkpoints are written no faster, in bytes per second, unless the log nears its limit.
    pub checkpoint_bytes_per_second: u64,
    /// A part of a checkpoint is closed at so many bytes.
    pub checkpoint_part_bytes: u32,
    /// So many bytes of log are kept, though no longer needed here, for peers that were away.
    pub log_hold_bytes: u64,
    /// And the index knows so many chosen entries at or below each entity's image, so that a peer
    /// which is no further behind gets them rather than the whole entity. They keep no segment from
    /// being freed: an idle entity would keep its own for ever.
    pub hold_entries: usize,
    /// Segments are freed no faster, in bytes of segments per second, unless the log nears its
    /// limit.
    pub clean_bytes_per_second: u64,
    /// A lock on a checkpoint ends after this time unless it is renewed.
    pub checkpoint_lock_us: u64,
    /// So many bytes of log, at most, are kept for mirrors that are behind.
    pub mirror_log_bytes: u64,
    /// Bytes of log that are read at a time for a tail, but for a longer frame, and for a page, of
    /// what it was not told yet. A page begins so far back, at most, for values whose entries are
    /// chosen later. A multiple of the block size.
    pub tail_read_bytes: u32,
}

impl ShardConfig {
    /// The defaults for one shard of a replica.
    #[must_use]
    pub fn new(acceptor: AcceptorId, replicas: u8, epoch: BootEpoch) -> Self {
        assert!(matches!(replicas, 1 | 3 | 5), "a replica set has 3 or 5 members");
        assert!(acceptor.0 < replicas);
        Self::of_node(acceptor, replicas, epoch)
    }

    /// The defaults for one shard of a follower, whose `acceptor` is outside of the replica set.
    #[must_use]
    pub fn follower(acceptor: AcceptorId, replicas: u8, epoch: BootEpoch) -> Self {
        assert!(acceptor.0 >= replicas, "a follower is no member of the replica set");
        Self::of_node(acceptor, replicas, epoch)
    }

    fn of_node(acceptor: AcceptorId, replicas: u8, epoch: BootEpoch) -> Self {
        assert!(epoch.0 > 0);
        Self {
            acceptor,
            replicas,
            changes_membership: false,
            first_voters: replicas,
            core: 0,
            core_count: 1,
            epoch,
            seed: u64::from(acceptor.0) << 32 | u64::from(epoch.0),
            duel_lease_us: 20_000,
            request_timeout_us: 5_000_000,
            retry_us: 100_000,
            back_off_us: 1_000,
            lost_rounds_max: 64,
            batch_commands_max: 1024,
            batch_bytes_max: 256 << 10,
            waiting_commands_max: 65_536,
            max_embedded_value: 512,
            entities_in_memory_max: 1 << 32,
            memory_bytes_max: 4 << 30,
            values_on_disk_above: 0,
            values_cache_bytes: 0,
            entities_max: 1 << 32,
            parked_messages_max: 16_384,
            request_ids_max: 4096,
            image_every_entries: 32,
            lazy_flush_us: 200_000,
            catch_up_bytes_max: 256 << 10,
            catch_up_rates: CatchUpRates::default(),
            transfer_entities_min: 1024,
            transfer_page_bytes: 1 << 20,
            follow_every_us: 200_000,
            staleness_max_us: 0,
            sweep_every_us: 30_000_000,
            digest_every_us: 300_000_000,
            lag_entities_max: 1 << 16,
            checkpoint_log_bytes: 256 << 20,
            checkpoint_log_percent: 200,
            checkpoint_bytes_per_second: 200 << 20,
            checkpoint_part_bytes: plog::checkpoint::writer::PART_BYTES,
            log_hold_bytes: 256 << 20,
            hold_entries: 16,
            clean_bytes_per_second: 1 << 30,
            checkpoint_lock_us: 60_000_000,
            mirror_log_bytes: 1 << 30,
            tail_read_bytes: 256 << 10,
        }
    }

    /// Whether the node has no vote. It follows from its id alone: there is nothing beside it that
    /// could say otherwise.
    #[must_use]
    pub fn is_follower(&self) -> bool {
        self.acceptor.0 >= self.replicas
    }
}
