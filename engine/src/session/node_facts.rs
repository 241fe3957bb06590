//! What changes while a node runs, gathered from all its cores.

/// Counters and gauges of a node at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFacts {
    /// Seconds since the node started.
    pub uptime_s: u64,
    /// Clients connected now.
    pub connected_clients: u64,
    /// Clients that ever connected.
    pub connections_received: u64,
    /// Connections that were refused for a limit.
    pub connections_rejected: u64,
    /// Commands answered since the start.
    pub commands_processed: u64,
    /// Commands answered in the last second.
    pub commands_per_s: u64,
    /// Bytes received from clients.
    pub input_bytes: u64,
    /// Bytes sent to clients.
    pub output_bytes: u64,
    /// Keys held.
    pub keys: u64,
    /// Entities that have an entry.
    pub entities: u64,
    /// Entities in memory.
    pub entities_in_memory: u64,
    /// Memory for entity state, in bytes.
    pub state_bytes: u64,
    /// Memory for the log's index, in bytes.
    pub index_bytes: u64,
    /// Memory of all that grows with data, as it is accounted, in bytes.
    pub accounted_bytes: u64,
    /// What that may come to at this moment, in bytes.
    pub memory_limit: u64,
    /// Memory of the process as the system counts it, in bytes; 0 when unknown.
    pub resident_bytes: u64,
    /// Size of the log on disk, in bytes.
    pub log_bytes: u64,
    /// Cores that abstain, because their log was found damaged.
    pub abstaining_cores: u64,
    /// Cores that rejoin after a loss.
    pub rejoining_cores: u64,
    /// How often this node lost what it may have promised.
    pub generation: u32,
    /// Cores whose cleaner an operator paused.
    pub cleaner_paused_cores: u64,
    /// Cores that refuse writes for want of room for their log.
    pub log_full_cores: u64,
    /// Whether the node is still replaying its log.
    pub loading: bool,
    /// Cores of followers that are told what this node learns.
    pub follower_cores: u64,
    /// Of a follower: whom it follows, if anybody.
    pub follows: Option<u8>,
    /// Of a follower: how long ago it was last known to hold all that its replica held, in
    /// microseconds; `None` while that is not known.
    pub staleness_us: Option<u64>,
    /// For each node of the cluster its index and whether it answers, this node included.
    pub live: Vec<(u8, bool)>,
}
