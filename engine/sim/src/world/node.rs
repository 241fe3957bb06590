//! A simulated node: its disks and clock, and, while it runs, its shards.

use engine::abstention::Abstention;
use engine::config::ShardConfig;
use engine::membership::MembershipVotes;
use engine::shard::StringShard;
use engine::time::Time;
use net::peer::handshake::{LocalNode, PeerIdentity, Remembered, Role};
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::table::Row;
use plog::checkpoint::writer::CheckpointWrite;
use plog::configuration::Configuration;
use plog::identity::LogIdentity;
use plog::log::SegmentWrite;
use plog::log_config::LogConfig;
use plog::log_record::LogRecord;
use plog::recovery::{Recovered, ScannedRecord, Scanner};
use plog::segment::SegmentId;
use plog::vocabulary::{BootEpoch, Generation, Lsn};

use crate::disk::Disk;
use crate::part::read_part;
use crate::world::CoreId;
use crate::world::clock::Clock;
use crate::world::membership::MembershipFacts;
use crate::world::mirrors::LiveMirror;

/// The cluster that every simulated node belongs to.
const CLUSTER_ID: u64 = 7;

/// Records handed over together at a start, as the daemon does with more.
const RECORDS_AT_A_TIME: usize = 8;

/// One core: a disk, and a shard while the node runs.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) id: CoreId,
    pub(super) disk: Disk,
    /// `None` while the node is down.
    pub(super) shard: Option<StringShard>,
    pub(super) write: Option<SegmentWrite>,
    /// The write to a checkpoint's part under way.
    pub(super) part_write: Option<CheckpointWrite>,
    /// World time of the tick that is scheduled.
    pub(super) tick_at: Option<u64>,
    /// The last record that its disk is known to hold.
    pub(super) durable: Lsn,
    /// That it lost what it held, durably, until it has rejoined.
    pub(super) abstention: Option<Abstention>,
    /// What its clock showed when it was started.
    pub(super) started: Time,
    /// What follows its log, if anything does.
    pub(super) mirror: Option<LiveMirror>,
    /// The generation in which its log began.
    pub(super) log_generation: Generation,
    /// In which start it settled which version of the membership last.
    pub(super) settled: Option<(u32, u32)>,
}

/// How far a node with new disks is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registering {
    /// The generation it asks for: beyond all it has heard of.
    pub(super) generation: Generation,
    /// Who made that durable, one bit each.
    pub(super) acknowledged: u8,
    /// Its process runs.
    pub(super) is_up: bool,
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
    /// The generations of all that it knows, durably.
    pub(super) generations: [Generation; 5],
    /// Who votes, and how it voted on that, durably.
    pub(super) membership: MembershipFacts,
    /// While its disks are new: who registered it, and in which generation.
    pub(super) registering: Option<Registering>,
    /// It crashes when it has let out so many more messages and replies.
    pub(super) dies_after: Option<u32>,
}

impl Node {
    pub(super) fn new(
        id: u8,
        cores: u16,
        nodes: usize,
        clock: Clock,
        configuration: Configuration,
    ) -> Self {
        let core = |core| Core {
            id: CoreId { node: id, core },
            disk: Disk::default(),
            shard: None,
            write: None,
            part_write: None,
            tick_at: None,
            durable: Lsn::ZERO,
            abstention: None,
            log_generation: Generation::FIRST,
            started: Time::default(),
            mirror: None,
            settled: None,
        };
        let membership = MembershipFacts { configuration, votes: MembershipVotes::NONE };
        Self {
            epoch: 0,
            starts: 0,
            incarnation: 1 + u128::from(id),
            cores: (0..cores).map(core).collect(),
            clock,
            frozen_until: 0,
            remembered: vec![Remembered::NeverMet; nodes],
            generations: [Generation::FIRST; 5],
            membership,
            registering: None,
            dies_after: None,
        }
    }

    pub(super) fn core_count(&self) -> u16 {
        u16::try_from(self.cores.len()).expect("few cores")
    }

    /// Forgets everything that a disk held.
    pub(super) fn wipe(&mut self, fresh: u128) {
        let configuration = Configuration::UNKNOWN;
        self.membership = MembershipFacts { configuration, votes: MembershipVotes::LOST };
        self.epoch = 0;
        self.incarnation = fresh;
        self.remembered.fill(Remembered::NeverMet);
        self.generations = [Generation::FIRST; 5];
        let generation = Generation(1);
        self.registering = Some(Registering { generation, acknowledged: 0, is_up: false });
        for core in &mut self.cores {
            core.disk = Disk::default();
            core.durable = Lsn::ZERO;
            core.abstention = None;
            // What it followed is gone.
            core.mirror = None;
        }
    }

    /// Its present boot, or the one that it would begin when it is registered.
    pub(super) fn boot(&self) -> BootEpoch {
        match self.registering {
            Some(registering) => BootEpoch(registering.generation.epoch_before().0 + 1),
            None => BootEpoch(self.epoch),
        }
    }

    /// Remembers a node that it shook hands with; `None` when it knew all that, else what is new.
    pub(super) fn remember(&mut self, identity: &PeerIdentity) -> Option<Generation> {
        let PeerIdentity { node_id, incarnation, boot_epoch, .. } = *identity;
        let place = usize::from(node_id);
        self.remembered[place] = Remembered::Met { incarnation, boot_epoch };
        self.learn(node_id, BootEpoch(boot_epoch).generation())
    }

    /// Makes a node's generation durable. It, if it is a later one than was known.
    pub(super) fn learn(&mut self, node: u8, generation: Generation) -> Option<Generation> {
        let known = &mut self.generations[usize::from(node)];
        if generation <= *known {
            return None;
        }
        *known = generation;
        Some(generation)
    }

    /// How it introduces itself.
    pub(super) fn introduction(&self, core: CoreId, replicas: u8) -> LocalNode {
        LocalNode {
            cluster_id: CLUSTER_ID,
            node_id: core.node,
            replicas,
            incarnation: self.incarnation,
            boot_epoch: self.boot().0,
            core_count: self.core_count(),
            core: core.core,
            role: if core.node < replicas {
                Role::Replica
            } else {
                Role::Follower { peer_port: 1 }
            },
        }
    }

    pub(super) fn log_identity(&self, core: CoreId) -> LogIdentity {
        // Each log of a core has an identity of its own: frames of an earlier one never pass.
        let began = self.cores[usize::from(core.core)].log_generation;
        LogIdentity {
            cluster: CLUSTER_ID,
            node: core.node,
            incarnation: self.incarnation.wrapping_add(u128::from(began.0) << 32),
            core: core.core,
            core_count: self.core_count(),
        }
    }

    pub(super) fn log_config(
        &self,
        core: CoreId,
        segment_size: u32,
        frame_size_max: u32,
        segments_max: usize,
    ) -> LogConfig {
        let identity = self.log_identity(core);
        let mut config = LogConfig::for_identity(identity);
        config.segment_size = segment_size;
        config.frame_size_max = frame_size_max;
        if segments_max < usize::MAX {
            config.segments_max = segments_max;
            config.pending_bytes_max = 2 * usize::try_from(segment_size).expect("32 bits fit");
        }
        config
    }
}

/// What a start found on one core's disk, and the shard that goes on: recovery is to be finished.
pub(super) struct RecoveredCore {
    pub(super) shard: StringShard,
    pub(super) outcome: Recovered,
    /// What was lost, now or before; to be made durable before it speaks.
    pub(super) abstention: Option<Abstention>,
    /// Records that the disk turned out to hold although their write was never reported.
    pub(super) unreported: Vec<LogRecord>,
}

/// What the daemon does at start, on a simulated disk.
pub(super) fn recover(config: ShardConfig, log_config: LogConfig, core: &Core) -> RecoveredCore {
    let mut unreported = Vec::new();
    let epoch = config.epoch;
    let mut shard = StringShard::new(config, log_config);
    let disk = &core.disk;
    let identity = log_config.identity;
    let mut damage = None;
    if let Some(pointer) = disk.pointer {
        match read_tables(disk, &identity, pointer) {
            Some(rows) => rows.iter().for_each(|row| shard.recover_checkpointed(row)),
            None => damage = Some(pointer.checkpoint.part(0).file()),
        }
    }
    let floor = disk.pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
    let mut scanner = match disk.pointer {
        Some(pointer) if disk.segments(floor).next().is_some() => {
            Scanner::from_floor(identity, pointer.floor)
        }
        Some(_) | None => Scanner::new(identity),
    };
    for (segment, file) in disk.segments(floor) {
        let size = u64::try_from(file.size()).expect("a segment is small");
        scanner.begin_segment(segment, size);
        let mut records = Vec::new();
        for bytes in file.chunks() {
            let fed = scanner.feed(bytes, &mut |scanned| records.push(scanned));
            fed.expect("no other log's files come to these disks");
        }
        records.retain(|scanned| !scanned.after_damage);
        records.chunks(RECORDS_AT_A_TIME).for_each(|some| shard.recover_records(some));
        let is_news = |scanned: &ScannedRecord| scanned.lsn > core.durable;
        unreported.extend(records.into_iter().filter(is_news).map(|scanned| scanned.record));
    }
    let outcome = scanner.finish();
    let last = outcome.tail().map_or(Lsn::ZERO, |tail| tail.last_lsn);
    if disk.pointer.is_some_and(|pointer| last < pointer.settled) {
        damage = damage.or(Some(floor));
    }
    let found = damage.map(|segment| Abstention { since: epoch, segment, offset: 0 });
    let abstention = Abstention::judge(&outcome, core.abstention, epoch)
        .filter(|known| found.is_none() || !known.is_made_up_for(epoch))
        .or(found);
    RecoveredCore { shard, outcome, abstention, unreported }
}

/// The rows of all parts of the checkpoint that counts; `None` when one of them is damaged.
fn read_tables(disk: &Disk, identity: &LogIdentity, pointer: Pointer) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let mut parts = disk.parts(pointer.checkpoint);
    for number in 0..pointer.parts {
        let (part, bytes) = parts.next()?;
        let expected = pointer.checkpoint.part(number);
        let content = read_part(bytes, identity, expected).ok().filter(|_| part == expected)?;
        rows.extend(content.rows);
    }
    Some(rows)
}
