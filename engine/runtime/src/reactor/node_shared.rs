//! What the cores of one node know of each other without asking: atomics, and nothing else.
//!
//! A core writes only its own counters, once per turn and on a cache line of its own; whoever wants
//! the node's sums reads them all. None of it orders anything: all accesses are relaxed, but for
//! the one-way flag that stops the node.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use plog::configuration::{Configuration, Members};

/// Counters and flags of a whole node.
#[derive(Debug)]
pub struct NodeShared {
    /// Set once, to make every core finish what it has and stop.
    pub stopping: AtomicBool,
    /// Cores that have answered all their clients since `stopping` was set. A core goes on serving
    /// the others until it is all of them.
    pub cores_drained: AtomicU16,
    /// Bytes that all shards together may account; 0: nobody looked yet.
    pub memory_budget: AtomicU64,
    /// Memory of the process when it was last looked at, in bytes.
    pub resident_bytes: AtomicU64,
    /// By which configuration the node goes, where members change: see
    /// [`NodeShared::configuration`].
    configuration: AtomicU64,
    /// By core.
    pub cores: Vec<CoreCounters>,
    /// By node id; this node's own place stays empty.
    pub peers: Vec<PeerFlags>,
}

/// Where members never change.
const NO_CONFIGURATION: u64 = u64::MAX;

/// What one core publishes. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CoreCounters {
    /// Keys held.
    pub keys: AtomicU64,
    /// Entities in the log.
    pub entities: AtomicU64,
    /// Entities in memory.
    pub entities_in_memory: AtomicU64,
    /// Bytes of entity state in memory.
    pub state_bytes: AtomicU64,
    /// Bytes of the log's index.
    pub index_bytes: AtomicU64,
    /// Bytes of all that grows with data, as its shard accounts it.
    pub accounted_bytes: AtomicU64,
    /// 1 when this core abstains, for damage in its log.
    pub abstaining: AtomicU64,
    /// 1 while this core rejoins after a loss.
    pub rejoining: AtomicU64,
    /// 1 when an operator paused this core's cleaner.
    pub cleaner_paused: AtomicU64,
    /// 1 when this core refuses writes for want of room.
    pub log_full: AtomicU64,
    /// Bytes of the log's files.
    pub log_bytes: AtomicU64,
    /// Client connections open.
    pub connections: AtomicU64,
    /// Client connections accepted since the start.
    pub accepted: AtomicU64,
    /// Client connections refused since the start because there were too many.
    pub refused: AtomicU64,
    /// Client requests parsed since the start.
    pub commands: AtomicU64,
    /// Client requests parsed in the last second.
    pub commands_per_s: AtomicU64,
    /// Bytes received from clients since the start.
    pub bytes_in: AtomicU64,
    /// Bytes sent to clients since the start.
    pub bytes_out: AtomicU64,
    /// The version of the membership that this core settled last, and one more; 0: none.
    pub settled: AtomicU64,
    /// Cores of followers that this core tells.
    pub followers: AtomicU64,
    /// Of a follower: when this core was last in step with a replica, in microseconds of the
    /// machine's monotonic clock; 0 = never.
    pub in_step_us: AtomicU64,
    /// Last turn, in microseconds of the machine's monotonic clock.
    pub last_turn_us: AtomicU64,
}

/// What this node's cores know of one peer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PeerFlags {
    /// Connections from that peer that are established, over all cores.
    pub inbound_links: AtomicU32,
    /// Connections to that peer that are established, over all cores.
    pub outbound_links: AtomicU32,
    /// Highest boot epoch seen of it.
    pub boot_epoch: AtomicU32,
}

impl NodeShared {
    /// Counters at zero for `core_count` cores in a replica set of `replicas`.
    #[must_use]
    pub fn new(core_count: u16, replicas: u8) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            cores_drained: AtomicU16::new(0),
            memory_budget: AtomicU64::new(0),
            resident_bytes: AtomicU64::new(0),
            configuration: AtomicU64::new(NO_CONFIGURATION),
            cores: (0..core_count).map(|_| CoreCounters::default()).collect(),
            peers: (0..replicas).map(|_| PeerFlags::default()).collect(),
        }
    }

    /// Makes every core finish what it has and stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Publishes by which configuration the node goes.
    pub fn goes_by(&self, configuration: &Configuration) {
        let Configuration { version, voters, learners } = *configuration;
        let packed = u64::from(version) << 16
            | u64::from(voters.to_bits()) << 8
            | u64::from(learners.to_bits());
        self.configuration.store(packed, Ordering::Relaxed);
    }

    /// By which configuration the node goes; `None` where members never change, or before the
    /// first core turned.
    #[must_use]
    pub fn configuration(&self) -> Option<Configuration> {
        let packed = self.configuration.load(Ordering::Relaxed);
        let byte = |shift: u32| Members::from_bits(packed.to_le_bytes()[shift as usize / 8]);
        let version = u32::try_from(packed >> 16).ok()?;
        (packed != NO_CONFIGURATION).then(|| Configuration {
            version,
            voters: byte(8),
            learners: byte(0),
        })
    }

    /// Whether every core settled this version of the membership.
    #[must_use]
    pub fn has_settled(&self, version: u32) -> bool {
        let settled = |core: &CoreCounters| core.settled.load(Ordering::Acquire);
        self.cores.iter().all(|core| settled(core) == u64::from(version) + 1)
    }

    /// Whether the node is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What is known of a replica; of a follower nothing is.
    #[must_use]
    pub fn peer(&self, node_id: u8) -> Option<&PeerFlags> {
        self.peers.get(usize::from(node_id))
    }

    /// Whether this node hears `node_id`.
    #[must_use]
    pub fn is_live(&self, node_id: u8) -> bool {
        self.peers
            .get(usize::from(node_id))
            .is_some_and(|peer| peer.inbound_links.load(Ordering::Relaxed) > 0)
    }

    /// The sum over all cores of the counter that `counter` picks.
    pub fn sum(&self, counter: impl Fn(&CoreCounters) -> &AtomicU64) -> u64 {
        self.cores.iter().map(|core| counter(core).load(Ordering::Relaxed)).sum()
    }
}
