//! The start of one core, on the thread that will run it: it reads its log, waits until it may
//! speak, and then turns until the node stops.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use engine::abstention::Abstention;
use engine::config::ShardConfig;
use engine::session::NodeInfo;
use engine::shard::StringShard;
use plog::identity::LogIdentity;
use plog::log_config::LogConfig;
use plog::vocabulary::BootEpoch;

use crate::core_setup::{CoreSetup, NodeIdentity, PeerAddress};
use crate::executor::{self, GiveWay};
use crate::mesh::MeshEnd;
use crate::node::admin::{self, Admin, CoreStatus, Readiness};
use crate::node::checkpoint_recovery::RecoveredCheckpoint;
use crate::node::config::Config;
use crate::node::data_directory::{
    DirectoryIdentity, load_abstention, repair_log_identity, repair_reached, write_abstention,
};
use crate::node::fatal::{ExitStatus, Fatal};
use crate::node::file_worker::FileWorkerChannel;
use crate::node::known_incarnations::KnownIncarnations;
use crate::node::known_membership::KnownMembership;
use crate::node::log_files::{FoundFiles, LogFiles};
use crate::node::log_line;
use crate::node::membership_facts::MembershipFacts;
use crate::node::preflight::CorePorts;
use crate::node::recovery::{RecoveredLog, RecoveryError, read_log};
use crate::node::segment_preparer::{SpareChannel, SpareError, make_spare};
use crate::reactor::core::{Core, Turn};
use crate::reactor::disk_reserve::DiskReserve;
use crate::reactor::memory_watch::initial_share;
use crate::reactor::node_shared::NodeShared;

/// Longest sleep of a core without anything to do.
const IDLE_WAIT: Duration = Duration::from_millis(100);

/// A busy core gives way to its background tasks this often.
const GIVE_WAY_EVERY: Duration = Duration::from_millis(20);

/// Longest sleep while somebody is connected to the admin endpoint.
const ADMIN_WAIT: Duration = Duration::from_millis(2);

/// How often a core sends its status to the admin endpoint.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What a core tells the main thread.
#[derive(Debug)]
pub(super) enum Report {
    /// Its log is read; what it lost in this generation, if that is not noted yet.
    Recovered(Option<Abstention>),
    /// It listens.
    Ready,
    /// It has ended.
    Ended(Result<(), Fatal>),
    /// Its thread is gone without having said why.
    Lost,
}

/// Sends a core's reports, and [`Report::Lost`] when dropped before the end was reported.
pub(super) struct Reporter {
    pub(super) core: u16,
    pub(super) sender: Sender<(u16, Report)>,
    pub(super) has_ended: bool,
}

impl Reporter {
    pub(super) fn send(&mut self, report: Report) {
        self.has_ended |= matches!(report, Report::Ended(_));
        // Without a main thread the process is ending anyway.
        self.sender.send((self.core, report)).ok();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.has_ended {
            self.send(Report::Lost);
        }
    }
}

/// What one core's thread starts from: everything that may cross threads.
pub(super) struct CoreParts {
    pub(super) core: u16,
    pub(super) core_count: u16,
    pub(super) config: Config,
    pub(super) identity: DirectoryIdentity,
    /// The epoch that will be durable before the core speaks.
    pub(super) epoch: u32,
    pub(super) directory: PathBuf,
    pub(super) found: FoundFiles,
    pub(super) spares: SpareChannel,
    pub(super) file_worker: FileWorkerChannel,
    pub(super) ports: CorePorts,
    pub(super) mesh: MeshEnd,
    pub(super) known_incarnations: Arc<KnownIncarnations>,
    pub(super) membership: Option<Arc<KnownMembership>>,
    pub(super) shared: Arc<NodeShared>,
    pub(super) node_info: NodeInfo,
    pub(super) peers: Vec<PeerAddress>,
    pub(super) go: Receiver<u32>,
    pub(super) statuses: Option<SyncSender<CoreStatus>>,
    pub(super) admin: Option<AdminParts>,
}

/// What core 0 serves the admin endpoint from.
pub(super) struct AdminParts {
    pub(super) listener: std::net::TcpListener,
    pub(super) started: Instant,
    pub(super) readiness: Arc<Readiness>,
    pub(super) statuses: Receiver<CoreStatus>,
}

/// One core, from its log files to its end.
pub(super) async fn run_core(mut parts: CoreParts, reporter: &mut Reporter) -> Result<(), Fatal> {
    log_line::set_core(parts.core);
    let shared = Arc::clone(&parts.shared);
    let (admin, statuses) = (parts.admin.take(), parts.statuses.take());
    let Some((setup, identity)) = recover_core(parts, reporter)? else {
        return Ok(());
    };
    let number = setup.core;
    let mut core = Core::new(setup)
        .map_err(|error| Fatal::new(ExitStatus::Preflight, format!("core {number}: {error}")))?;
    let admin_open = admin.map(|parts| serve_admin(parts, identity, &shared));
    reporter.send(Report::Ready);
    let give_way = GiveWay::watched().await.map_err(|error| {
        Fatal::new(ExitStatus::Preflight, format!("a core's waker thread cannot be made: {error}"))
    })?;
    let mut gave_way = Instant::now();
    let mut told_status = Instant::now();
    loop {
        let is_watched = admin_open.as_ref().is_some_and(|open| open.get() > 0);
        let turn = core.turn(if is_watched { ADMIN_WAIT } else { IDLE_WAIT });
        let is_idle = match turn {
            Turn::Busy => false,
            Turn::Idle => true,
            Turn::Stopped => return Ok(()),
            Turn::Fatal(reason) => return Err(reason.into()),
        };
        let now = Instant::now();
        if let Some(statuses) = &statuses
            && now.saturating_duration_since(told_status) >= STATUS_EVERY
        {
            told_status = now;
            let status = CoreStatus { core: number, made: now, status: core.status_json() };
            // A full channel holds what is recent enough.
            statuses.try_send(status).ok();
        }
        if is_idle || is_watched || now.saturating_duration_since(gave_way) >= GIVE_WAY_EVERY {
            give_way.now().await;
            gave_way = Instant::now();
        }
    }
}

fn serve_admin(
    parts: AdminParts,
    identity: NodeIdentity,
    shared: &Arc<NodeShared>,
) -> Rc<std::cell::Cell<usize>> {
    let shared = Arc::clone(shared);
    let admin =
        Rc::new(Admin::new(identity, parts.started, shared, parts.readiness, parts.statuses));
    let open = admin.open();
    executor::serve_in_background(
        parts.listener,
        admin,
        admin::CONNECTIONS_MAX,
        admin::REQUEST_SIZE_MAX,
    );
    open
}

/// What a core's files say.
struct ReadCore {
    shard: StringShard,
    shard_config: ShardConfig,
    log: RecoveredLog,
    checkpoint: RecoveredCheckpoint,
    /// What the core lost: it abstains, or rejoins when a generation has begun since.
    abstention: Option<Abstention>,
    /// What an earlier boot made durable of that.
    known: Option<Abstention>,
}

/// Reads the core's checkpoint and log. `None` when the node was told to stop meanwhile.
fn read_core(parts: &mut CoreParts) -> Result<Option<ReadCore>, Fatal> {
    let started = Instant::now();
    let (core, core_count, epoch) = (parts.core, parts.core_count, BootEpoch(parts.epoch));
    let root = parts.directory.parent().expect("a core's directory stands in the node's");
    let log_identity = repair_log_identity(root, &parts.identity, core)?;
    let known = load_abstention(&parts.directory)?;
    let is_lost = known.is_some_and(|known| !known.is_made_up_for(epoch));
    let shard_config = parts.config.shard_config(core, core_count, epoch);
    let log_config = log_config(&parts.config, core_count, log_identity);
    let mut shard = StringShard::new(shard_config, log_config);
    shard.know_generations(parts.known_incarnations.generations());
    if let Some(membership) = &parts.membership {
        let MembershipFacts { configuration, votes } = membership.facts();
        shard.know_membership(configuration, votes);
    }
    shard.set_memory_limit(initial_share(shard_config.memory_bytes_max));
    let checkpoint = RecoveredCheckpoint::read(
        &parts.directory,
        &log_identity,
        &mut parts.found,
        is_lost,
        epoch,
        || parts.shared.is_stopping(),
        &mut shard,
    );
    let checkpoint = match checkpoint {
        Err(RecoveryError::Stopped) => return Ok(None),
        checkpoint => checkpoint?,
    };
    let log = read_log(
        &parts.directory,
        log_identity,
        &parts.found,
        checkpoint.pointer,
        || parts.shared.is_stopping(),
        |records| shard.recover_records(records),
    );
    let log = match log {
        Err(RecoveryError::Stopped) => return Ok(None),
        log => log?,
    };
    // What else shows that something is missing, since what is known was made up for.
    let missing = match checkpoint.judge(&log) {
        Some(missing) => Some(missing),
        None if is_lost => None,
        None => judge_reached(parts, &log)?,
    };
    let abstention = Abstention::judge(&log.recovered, known, epoch)
        .filter(|known| missing.is_none() || !known.is_made_up_for(epoch))
        .or(missing);
    match abstention {
        None => shard.finish_recovery(log.tail, checkpoint.pointer),
        Some(lost) if lost.is_made_up_for(epoch) => {
            shard.finish_recovery_rejoining(log.tail, checkpoint.pointer, lost);
        }
        Some(lost) => shard.finish_recovery_abstaining(log.tail, lost),
    }
    log_line::info(
        "log read",
        &[
            ("segments", &log.segments.len()),
            ("spares", &parts.found.spares.len()),
            ("records", &log.records),
            ("bytes", &log.bytes),
            ("checkpointed_entities", &checkpoint.rows),
            ("keys", &shard.key_count()),
            ("milliseconds", &started.elapsed().as_millis()),
        ],
    );
    Ok(Some(ReadCore { shard, shard_config, log, checkpoint, abstention, known }))
}

/// Whether the core has to abstain because its log ends before a segment that it had reached.
fn judge_reached(parts: &CoreParts, log: &RecoveredLog) -> Result<Option<Abstention>, Fatal> {
    let root = parts.directory.parent().expect("a core's directory stands in the node's");
    let Some(reached) = repair_reached(root, parts.core)? else { return Ok(None) };
    if log.tail.is_some_and(|tail| tail.segment >= reached) {
        return Ok(None);
    }
    log_line::error(
        "the log ends before a segment that it had reached: segments are missing, and promises \
         made here may be lost, so this core abstains",
        &[("reached", &reached), ("segments", &log.segments.len())],
    );
    Ok(Some(Abstention { since: BootEpoch(parts.epoch), segment: reached, offset: 0 }))
}

/// Reads the core's files, waits until it may speak, and puts together what it starts from. `None`
/// when the node was told to stop meanwhile.
fn recover_core(
    mut parts: CoreParts,
    reporter: &mut Reporter,
) -> Result<Option<(CoreSetup, NodeIdentity)>, Fatal> {
    let Some(read) = read_core(&mut parts)? else { return Ok(None) };
    let ReadCore { mut shard, shard_config, log, checkpoint, abstention, known } = read;
    let epoch = BootEpoch(parts.epoch);
    let lost = abstention.filter(|lost| !lost.is_made_up_for(epoch));
    for spare in &parts.found.spares {
        shard.handle_spare(*spare);
    }
    let needs_first = log.tail.is_none() && parts.found.spares.is_empty();
    if needs_first && lost.is_none() {
        make_first_spare(&parts.directory, &mut shard, &parts.config)?;
    }
    reporter.send(Report::Recovered(lost.filter(|lost| known != Some(*lost))));
    // Without an answer the node stops before it ever spoke.
    let Ok(durable_epoch) = parts.go.recv() else { return Ok(None) };
    assert_eq!(durable_epoch, parts.epoch, "the shard was made for the epoch that is durable now");
    if let Some(abstention) = abstention
        && known != Some(abstention)
    {
        write_abstention(&parts.directory, &abstention)?;
    }
    let node_role = parts.config.role();
    match (lost, abstention) {
        (Some(lost), _) => log_line::error(
            "this core abstains: it votes for nothing and hands its clients' commands to the other \
             nodes; keep these alive, and start this node again once there is room for another log",
            &[("reason", &lost)],
        ),
        (None, Some(cause)) if node_role.is_follower() => log_line::warn(
            "this core lost its log and begins another: it takes over from the replicas what they \
             hold",
            &[("reason", &cause)],
        ),
        (None, Some(cause)) => log_line::warn(
            "this core rejoins: until the others told it what it must not vote on, and it has \
             caught up, they answer its clients",
            &[("reason", &cause), ("generation", &epoch.generation().0)],
        ),
        (None, None) => {}
    }
    let node = NodeIdentity {
        cluster_id: parts.identity.cluster_id,
        node_id: parts.identity.node_id,
        incarnation: parts.identity.incarnation,
        boot_epoch: parts.epoch,
        replicas: parts.identity.replicas,
        role: parts.config.role(),
    };
    let log_settings = &parts.config.log;
    let setup = CoreSetup {
        core: parts.core,
        core_count: parts.core_count,
        shard,
        shard_config,
        slow_operation_us: u64::from(log_settings.slow_operation_ms) * 1000,
        disk_reserve: DiskReserve::new(log_settings.disk_reserve_bytes, parts.found.reserve),
        limits: parts.config.core_limits(parts.core_count),
        log_files: LogFiles::new(parts.directory, log.segments, checkpoint.parts, parts.spares),
        file_worker: parts.file_worker,
        identity: node,
        peers: parts.peers,
        client_listeners: parts.ports.clients,
        peer_listener: parts.ports.peers,
        mesh: parts.mesh,
        node_info: Rc::new(parts.node_info),
        known_incarnations: parts.known_incarnations,
        membership: parts.membership,
        shared: parts.shared,
    };
    Ok(Some((setup, node)))
}

/// A new log's first segment; without it a core could not log anything.
fn make_first_spare(
    directory: &Path,
    shard: &mut StringShard,
    config: &Config,
) -> Result<(), Fatal> {
    let spare = shard.name_spare();
    make_spare(directory, spare, config.log.segment_size_bytes, None).map_err(|error| {
        let status = match error {
            SpareError::NoSpace { .. } => ExitStatus::Preflight,
            SpareError::Io { .. } => ExitStatus::Io,
        };
        Fatal::new(status, format!("the first log segment cannot be made: {error}"))
    })?;
    shard.handle_spare(spare);
    Ok(())
}

fn log_config(config: &Config, core_count: u16, identity: LogIdentity) -> LogConfig {
    let size = |bytes: u32| usize::try_from(bytes).expect("this machine has 64-bit addresses");
    LogConfig {
        segment_size: config.log.segment_size_bytes,
        frame_size_max: config.log.frame_size_max_bytes,
        pending_bytes_max: size(config.log.pending_max_bytes),
        spare_segments: usize::from(config.log.spare_segments),
        segments_max: config.segments_max(core_count),
        ..LogConfig::for_identity(identity)
    }
}
