//! A simulated node: its disks and clock, and, while it runs, its shards.

use engine::abstention::Abstention;
use engine::config::ShardConfig;
use engine::shard::StringShard;
use net::peer::handshake::{LocalNode, Remembered};
use plog::identity::LogIdentity;
use plog::log::SegmentWrite;
use plog::log_config::LogConfig;
use plog::log_record::LogRecord;
use plog::recovery::{Recovered, Scanner};
use plog::vocabulary::Lsn;

use crate::disk::Disk;
use crate::world::CoreId;
use crate::world::clock::Clock;

/// The cluster that every simulated node belongs to.
const CLUSTER_ID: u64 = 7;

/// One core: a disk, and a shard while the node runs.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) id: CoreId,
    pub(super) disk: Disk,
    /// `None` while the node is down.
    pub(super) shard: Option<StringShard>,
    pub(super) write: Option<SegmentWrite>,
    /// World time of the tick that is scheduled.
    pub(super) tick_at: Option<u64>,
    /// The last record that its disk is known to hold.
    pub(super) durable: Lsn,
    /// That its log was found damaged, durably.
    pub(super) abstention: Option<Abstention>,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    /// Counts its starts, durably.
    pub(super) epoch: u32,
    /// Counts its starts, also across the loss of its disks.
    pub(super) starts: u32,
    /// Names its disks' content: another one after it lost them.
    pub(super) incarnation: u128,
    pub(super) cores: Vec<Core>,
    pub(super) clock: Clock,
    /// It does nothing before that time of the world.
    pub(super) frozen_until: u64,
    /// What it remembers of the others, durably.
    pub(super) remembered: Vec<Remembered>,
    /// It crashes when it has let out so many more messages and replies.
    pub(super) dies_after: Option<u32>,
}

impl Node {
    pub(super) fn new(id: u8, cores: u16, nodes: usize, clock: Clock) -> Self {
        let core = |core| Core {
            id: CoreId { node: id, core },
            disk: Disk::default(),
            shard: None,
            write: None,
            tick_at: None,
            durable: Lsn::ZERO,
            abstention: None,
        };
        Self {
            epoch: 0,
            starts: 0,
            incarnation: 1 + u128::from(id),
            cores: (0..cores).map(core).collect(),
            clock,
            frozen_until: 0,
            remembered: vec![Remembered::NeverMet; nodes],
            dies_after: None,
        }
    }

    pub(super) fn core_count(&self) -> u16 {
        u16::try_from(self.cores.len()).expect("few cores")
    }

    /// Forgets everything that a disk held.
    pub(super) fn wipe(&mut self, fresh: u128) {
        self.epoch = 0;
        self.incarnation = fresh;
        self.remembered.fill(Remembered::NeverMet);
        for core in &mut self.cores {
            core.disk = Disk::default();
            core.durable = Lsn::ZERO;
            core.abstention = None;
        }
    }

    /// How it introduces itself.
    pub(super) fn introduction(&self, core: CoreId, replicas: u8) -> LocalNode {
        LocalNode {
            cluster_id: CLUSTER_ID,
            node_id: core.node,
            replicas,
            incarnation: self.incarnation,
            boot_epoch: self.epoch,
            core_count: self.core_count(),
            core: core.core,
        }
    }

    pub(super) fn log_config(&self, core: CoreId, segment_size: u32) -> LogConfig {
        let identity = LogIdentity {
            cluster: CLUSTER_ID,
            node: core.node,
            incarnation: self.incarnation,
            core: core.core,
            core_count: self.core_count(),
        };
        let mut config = LogConfig::for_identity(identity);
        config.segment_size = segment_size;
        config.frame_size_max = segment_size / 4;
        config
    }
}

/// What a start found on one core's disk, and the shard that goes on.
pub(super) struct RecoveredCore {
    pub(super) shard: StringShard,
    pub(super) outcome: Recovered,
    /// Why the shard abstains; to be made durable before it speaks.
    pub(super) abstention: Option<Abstention>,
    /// Records that the disk turned out to hold although their write was never reported.
    pub(super) unreported: Vec<LogRecord>,
}

/// What the daemon does at start, on a simulated disk.
pub(super) fn recover(config: ShardConfig, log_config: LogConfig, core: &Core) -> RecoveredCore {
    let mut unreported = Vec::new();
    let epoch = config.epoch;
    let mut shard = StringShard::new(config, log_config);
    let mut scanner = Scanner::new(log_config.identity);
    for (segment, bytes) in core.disk.segments() {
        let size = u64::try_from(bytes.len()).expect("a segment is small");
        scanner.begin_segment(segment, size);
        let fed = scanner.feed(bytes, &mut |scanned| {
            if scanned.after_damage {
                return;
            }
            shard.recover_record(scanned.lsn, scanned.location, &scanned.record);
            if scanned.lsn > core.durable {
                unreported.push(scanned.record);
            }
        });
        fed.expect("no other log's files come to these disks");
    }
    let outcome = scanner.finish();
    let abstention = Abstention::judge(&outcome, core.abstention, epoch);
    match abstention {
        Some(abstention) => shard.finish_recovery_abstaining(outcome.tail(), abstention),
        None => shard.finish_recovery(outcome.tail()),
    }
    RecoveredCore { shard, outcome, abstention, unreported }
}
