//! Starts a node, waits for its end, and stops it in order.
//!
//! The main thread prepares everything that may be refused, starts one thread per core, and then
//! only listens to what the cores report. Each core reads its log on its own thread, at the same
//! time as the others. When all have read theirs, and not before, the boot epoch is made durable
//! and the cores may speak: a node that is refused because one log is foreign has changed nothing.
//! A core whose log is damaged begins another one in the node's next generation: that is noted, and
//! the start begins anew. Without room for it the core abstains, and notes that before it speaks.
//!
//! ```text
//! main    prepare ─┬─ wait: all recovered ─ boot epoch durable ─ go ─ wait: all ready ─ "ready" ─ wait: ends
//! core j           └─ read log ──▶ recovered ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄▶ Core::new ──▶ ready, turn, turn, …
//! ```

use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use engine::membership::MembershipVotes;
use engine::session::{NodeAddress, NodeInfo};
use plog::configuration::Configuration;
use plog::vocabulary::AcceptorId;
use signal_hook::consts::signal::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::core_setup::PeerAddress;
use crate::executor::{self, CoreThread};
use crate::mesh::mesh;
use crate::node::admin::Readiness;
use crate::node::another_generation::{begin_other_logs, has_room, look, note_losses};
use crate::node::config::{Config, host_and_port};
use crate::node::core_start::{AdminParts, CoreParts, Report, Reporter, run_core};
use crate::node::data_directory::{
    DataDirectory, DataDirectoryError, DirectoryIdentity, ExpectedIdentity, LockedDirectory,
    random_incarnation,
};
use crate::node::fatal::{ExitStatus, Fatal, exit_on_panic};
use crate::node::file_worker::FileWorker;
use crate::node::known_incarnations::{IncarnationError, KnownIncarnations};
use crate::node::known_membership::{KnownMembership, MembershipFileError};
use crate::node::log_files::FoundFiles;
use crate::node::log_line;
use crate::node::membership_facts::MembershipFacts;
use crate::node::preflight::{self, Check, PortPlan, Ports};
use crate::node::registration::register;
use crate::node::segment_preparer::SegmentPreparer;
use crate::node::two_copies::replace_file;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::acquaintances::Acquaintances;

/// How long ports in use are waited for at start.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// A file to write when the node is ready, and to remove when it stops.
    pub ready_file: Option<PathBuf>,
    /// The data directory is empty because the node's data is lost: the node is rebuilt from the
    /// others.
    pub replace: bool,
}

impl From<DataDirectoryError> for Fatal {
    fn from(error: DataDirectoryError) -> Self {
        Self::new(ExitStatus::DataDirectory, error)
    }
}

impl From<&Check> for Fatal {
    fn from(check: &Check) -> Self {
        Self::new(ExitStatus::Preflight, check)
    }
}

impl From<FatalReason> for Fatal {
    fn from(reason: FatalReason) -> Self {
        let status = match reason {
            FatalReason::LogWrite { .. }
            | FatalReason::ShortLogWrite { .. }
            | FatalReason::OpenSegment { .. }
            | FatalReason::CheckpointFiles { .. }
            | FatalReason::Remember { .. }
            | FatalReason::Membership { .. }
            | FatalReason::Ring { .. } => ExitStatus::Io,
            FatalReason::MissingSegment { .. } => ExitStatus::Bug,
            FatalReason::Superseded { .. } => ExitStatus::Superseded,
        };
        Self::new(status, reason)
    }
}

/// Runs a node until it is told to stop by SIGTERM or SIGINT, or cannot go on.
///
/// # Errors
///
/// Why it could not start or go on, with the exit status. When a core failed, others may still be
/// running: the caller must end the process.
pub fn run_node(config: &Config, options: &RunOptions) -> Result<(), Fatal> {
    exit_on_panic();
    log_line::set_level(config.log_level);
    let started = Instant::now();
    if options.replace && config.role().is_follower() {
        return Err(Fatal::new(
            ExitStatus::Configuration,
            format!(
                "--replace is for a replica whose data is lost, and node {} is a follower: start \
                 it with an empty data directory and without --replace",
                config.node_id
            ),
        ));
    }
    let mut prepared = Prepared::new(config, options.replace)?;
    let shared = Arc::new(NodeShared::new(prepared.core_count, config.replicas()));
    stop_on_signals(&shared)?;
    if prepared.data.is_registering() && !prepared.register(config, &shared)? {
        log_line::info("told to stop before it was ready", &[("while", &"registering")]);
        return Ok(());
    }
    let readiness = Arc::new(Readiness::default());
    let (workers, mut cores, has_read) = loop {
        let (workers, mut cores) =
            start_cores(&mut prepared, config, started, &shared, &readiness)?;
        let mut losses = Vec::new();
        let has_read = cores.wait_for("reading the log", |core, report| match report {
            Report::Recovered(loss) => {
                losses.extend(loss.map(|loss| (core, loss)));
                true
            }
            _ => false,
        })?;
        let lost: Vec<u16> = losses.iter().map(|(core, _)| *core).collect();
        let may_go_on = has_read && !lost.is_empty() && has_room(&prepared.data, &lost, config)?;
        if !may_go_on {
            break (workers, cores, has_read);
        }
        // What was read is of no use in another generation: all begins anew. With the loss noted,
        // it is not found a second time.
        note_losses(&prepared.data, &losses)?;
        cores.go.clear();
        cores.wait_for_ends()?;
        workers.join();
        drop(prepared);
        prepared = Prepared::new(config, false)?;
    };
    if has_read {
        let epoch = prepared.data.begin_boot()?;
        for core in &cores.go {
            // A core that is gone reports so itself.
            core.send(epoch).ok();
        }
        if cores.wait_for("starting", |_, report| matches!(report, Report::Ready))? {
            readiness.set();
            announce_ready(config, options, prepared.data.identity(), epoch, started)?;
        }
    } else {
        cores.go.clear();
    }
    cores.wait_for_ends()?;
    workers.join();
    if let Some(file) = &options.ready_file {
        // Who looks at it also looks at the process.
        std::fs::remove_file(file).ok();
    }
    log_line::info("stopped", &[("uptime_s", &started.elapsed().as_secs())]);
    Ok(())
}

/// What was found fit to start on.
struct Prepared {
    core_count: u16,
    cpus: Vec<usize>,
    data: DataDirectory,
    known_incarnations: Arc<KnownIncarnations>,
    /// Of a cluster whose members change.
    membership: Option<Arc<KnownMembership>>,
    found: Vec<FoundFiles>,
    ports: Ports,
}

impl Prepared {
    fn new(config: &Config, replaces: bool) -> Result<Self, Fatal> {
        let cpus = preflight::usable_cpus();
        let expected = ExpectedIdentity::of(config, &cpus);
        // Either has others from whom it takes everything, and needs no backup.
        let from_others = replaces || config.joins();
        let directory = LockedDirectory::take(&config.data_directory)?.replacing(from_others);
        let existing = directory.inspect(&expected)?;
        let core_count = existing
            .map(|identity| identity.core_count)
            .or(expected.core_count)
            .unwrap_or(expected.default_core_count);
        look_at(&preflight::check_machine(core_count, &cpus, config.limits.connections_max))?;
        let missing = missing_bytes(directory.path(), existing.is_some(), core_count, config)?;
        let checks = preflight::check_disk(directory.path(), missing, existing.is_none());
        look_at(&checks)?;
        let ports =
            Ports::bind(&port_plan(config, core_count)).map_err(|check| Fatal::from(&check))?;
        if replaces {
            directory.begin_replacement()?;
        }
        let mut data = directory.open(&expected, random_incarnation)?;
        if !data.is_registering() {
            begin_other_logs(&mut data, config)?;
        }
        let known_incarnations =
            KnownIncarnations::load(&data.peers()).map_err(|error| match error {
                IncarnationError::Io { .. } => Fatal::new(ExitStatus::Io, error),
                IncarnationError::Damaged { .. }
                | IncarnationError::Newer { .. }
                | IncarnationError::NoSuchNode { .. } => {
                    Fatal::new(ExitStatus::DataDirectory, error)
                }
            })?;
        let found = (0..core_count)
            .map(|core| look(&data.core(core), config.log.segment_size_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let known_incarnations = Arc::new(known_incarnations);
        let membership = known_membership(&data, config)?;
        Ok(Self { core_count, cpus, data, known_incarnations, membership, found, ports })
    }
}

impl Prepared {
    /// Makes the node known to the others as a new one. Nobody can connect to it meanwhile. False
    /// when it was told to stop.
    fn register(&mut self, config: &Config, shared: &Arc<NodeShared>) -> Result<bool, Fatal> {
        (self.ports.cores, self.ports.admin) = (Vec::new(), None);
        let known = Arc::clone(&self.known_incarnations);
        let acquaintances = Acquaintances::new(known, Arc::clone(shared));
        let patience = Duration::from_millis(config.limits.handshake_timeout_ms.into());
        let peers = peer_addresses(config)?;
        let identity = self.data.identity();
        let registered =
            register(identity, config.role(), &peers, &acquaintances, shared, patience)?;
        let Some(generation) = registered else { return Ok(false) };
        self.data.begin_registered(generation)?;
        self.ports = Ports::bind(&port_plan(config, self.core_count))
            .map_err(|check| Fatal::from(&check))?;
        Ok(true)
    }
}

/// Who the members are, as the data directory knows; at the first start, as the configuration says.
fn known_membership(
    data: &DataDirectory,
    config: &Config,
) -> Result<Option<Arc<KnownMembership>>, Fatal> {
    let fatal = |error: MembershipFileError| match error {
        MembershipFileError::Io { .. } => Fatal::new(ExitStatus::Io, error),
        _ => Fatal::new(ExitStatus::DataDirectory, error),
    };
    if !config.changes_membership() {
        let slots = data.identity().replicas;
        return KnownMembership::refuse(data.path(), slots).map(|()| None).map_err(fatal);
    }
    let first = (!data.has_begun()).then(|| {
        if data.is_registering() {
            // What it promised of the next configuration is lost with the rest.
            let configuration = Configuration::UNKNOWN;
            MembershipFacts { configuration, votes: MembershipVotes::LOST }
        } else {
            MembershipFacts { configuration: config.founding(), votes: MembershipVotes::NONE }
        }
    });
    let known = KnownMembership::load(data.path(), first).map_err(fatal)?;
    let configuration = known.facts().configuration;
    let own = AcceptorId(config.node_id);
    let listed = config.node.iter().map(|node| AcceptorId(node.id));
    let strangers: Vec<u8> =
        listed.filter(|node| !configuration.members().contains(*node)).map(|node| node.0).collect();
    let is_follower = config.role().is_follower();
    match configuration {
        Configuration::UNKNOWN if is_follower => {}
        Configuration::UNKNOWN => log_line::info(
            "this node is no member yet: it waits until an operator adds it (certus member add)",
            &[("node", &config.node_id)],
        ),
        _ if !is_follower && !configuration.members().contains(own) => log_line::warn(
            "this node is no member of the cluster any more: it refuses its clients; stop it, or \
             add it again (certus member add)",
            &[("configuration", &configuration)],
        ),
        _ => log_line::info("who the members are", &[("configuration", &configuration)]),
    }
    if configuration != Configuration::UNKNOWN && !strangers.is_empty() {
        log_line::warn(
            "the configuration file lists nodes that are no members: what the data directory knows \
             counts, and the file only says where nodes are; correct the [[node]] tables",
            &[("nodes", &format_args!("{strangers:?}")), ("configuration", &configuration)],
        );
    }
    Ok(Some(Arc::new(known)))
}

fn look_at(checks: &[Check]) -> Result<(), Fatal> {
    let fatal = preflight::first_fatal(checks);
    // The fatal one is the line the process ends with.
    for check in checks.iter().filter(|check| Some(*check) != fatal) {
        check.log();
    }
    fatal.map_or(Ok(()), |check| Err(Fatal::from(check)))
}

/// Bytes of the segment files that will have to be made soon after the start, and of what is still
/// to be set aside for a full disk.
fn missing_bytes(
    directory: &Path,
    exists: bool,
    core_count: u16,
    config: &Config,
) -> Result<u64, Fatal> {
    let spares = u64::from(config.log.spare_segments);
    let (segment_size, reserve) = (config.log.segment_size_bytes, config.log.disk_reserve_bytes);
    if !exists {
        let of_core = (spares + 2).saturating_mul(segment_size.into()).saturating_add(reserve);
        return Ok(of_core.saturating_mul(core_count.into()));
    }
    let mut missing: u64 = 0;
    for core in 0..core_count {
        let path = directory.join(format!("core-{core}"));
        let (mut present, mut set_aside) = (0, 0);
        if path.is_dir() {
            let found = look(&path, segment_size)?;
            present = u64::try_from(found.spares.len()).unwrap_or(u64::MAX);
            set_aside = found.reserve.unwrap_or(0);
        }
        let files = (spares + 1).saturating_sub(present);
        missing = missing
            .saturating_add(files.saturating_mul(segment_size.into()))
            .saturating_add(reserve.saturating_sub(set_aside));
    }
    Ok(missing)
}

fn port_plan(config: &Config, cores: u16) -> PortPlan {
    let address = |text: &str| -> SocketAddr {
        text.parse().expect("the configuration was validated when it was read")
    };
    PortPlan {
        client: address(&config.client_address),
        core_client_first: (config.core_client_port_first != 0)
            .then_some(config.core_client_port_first),
        peer: address(&config.peer_address),
        admin: (!config.admin_address.is_empty()).then(|| address(&config.admin_address)),
        cores,
        patience: PORT_PATIENCE,
    }
}

/// The running cores, as the main thread sees them.
struct StartedCores {
    threads: Vec<Option<CoreThread>>,
    reports: Receiver<(u16, Report)>,
    /// To let each core speak, with the boot epoch.
    go: Vec<SyncSender<u32>>,
}

impl StartedCores {
    /// Waits until `is_done` is reported by every core. `false` when cores end instead because the
    /// node was told to stop.
    fn wait_for(
        &mut self,
        doing: &str,
        mut is_done: impl FnMut(u16, &Report) -> bool,
    ) -> Result<bool, Fatal> {
        let (mut done, count) = (0, self.threads.len());
        while done < count {
            let (core, report) = self.next()?;
            if is_done(core, &report) {
                done += 1;
                continue;
            }
            match report {
                Report::Ended(Ok(())) => {
                    self.join(core)?;
                    log_line::info("told to stop before it was ready", &[("while", &doing)]);
                    return Ok(false);
                }
                Report::Ended(Err(fatal)) => return Err(fatal),
                Report::Lost => return Err(self.lost(core)),
                Report::Recovered(_) | Report::Ready => {}
            }
        }
        Ok(true)
    }

    /// Waits until every core has ended.
    fn wait_for_ends(&mut self) -> Result<(), Fatal> {
        while self.threads.iter().any(Option::is_some) {
            match self.next()? {
                (core, Report::Ended(Ok(()))) => self.join(core)?,
                (_, Report::Ended(Err(fatal))) => return Err(fatal),
                (core, Report::Lost) => return Err(self.lost(core)),
                (_, Report::Recovered(_) | Report::Ready) => {}
            }
        }
        Ok(())
    }

    fn next(&self) -> Result<(u16, Report), Fatal> {
        self.reports
            .recv()
            .map_err(|_| Fatal::new(ExitStatus::Bug, "all cores are gone without having said why"))
    }

    fn join(&mut self, core: u16) -> Result<(), Fatal> {
        match self.threads[usize::from(core)].take().map(CoreThread::join) {
            Some(Err(error)) => Err(executor_failed(core, &error)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn lost(&mut self, core: u16) -> Fatal {
        let silent =
            || Fatal::new(ExitStatus::Bug, format!("core {core} is gone without having said why"));
        self.join(core).err().unwrap_or_else(silent)
    }
}

fn executor_failed(core: u16, error: &std::io::Error) -> Fatal {
    Fatal::new(
        ExitStatus::Preflight,
        format!(
            "the executor of core {core} cannot be made: {error}; it needs io_uring and {} bytes \
             of lockable memory per core (RLIMIT_MEMLOCK), and its CPU (`first_cpu`, `pin_cores`)",
            preflight::LOCKED_MEMORY_PER_CORE
        ),
    )
}

/// The threads that do for all cores what blocks.
struct Workers {
    preparer: SegmentPreparer,
    file_worker: FileWorker,
}

impl Workers {
    /// Waits for them; call when all cores have ended.
    fn join(self) {
        self.preparer.join();
        self.file_worker.join();
    }
}

fn start_cores(
    prepared: &mut Prepared,
    config: &Config,
    started: Instant,
    shared: &Arc<NodeShared>,
    readiness: &Arc<Readiness>,
) -> Result<(Workers, StartedCores), Fatal> {
    let core_count = prepared.core_count;
    let io = |what: &'static str| {
        move |error: std::io::Error| Fatal::new(ExitStatus::Preflight, format!("{what}: {error}"))
    };
    let identity = *prepared.data.identity();
    let epoch = prepared.data.next_epoch()?;
    for found in &mut prepared.found {
        found.remove_leftovers().map_err(|error| Fatal::new(ExitStatus::Io, error))?;
    }
    let directories: Vec<_> = (0..core_count).map(|core| prepared.data.core(core)).collect();
    let (preparer, channels) = SegmentPreparer::start(
        directories.clone(),
        config.log.segment_size_bytes,
        config.log.prepare_rate_bytes_per_s,
    )
    .map_err(io("the thread that prepares segments cannot be made"))?;
    let (file_worker, file_channels) =
        FileWorker::start(directories).map_err(io("the thread for checkpoints cannot be made"))?;
    let ends = mesh(core_count).map_err(io("the mesh between cores cannot be made"))?;
    let (reporter, reports) = channel();
    let (statuses, statuses_received) = sync_channel(4 * usize::from(core_count));
    let mut admin = prepared.ports.admin.take().map(|listener| AdminParts {
        listener,
        started,
        readiness: Arc::clone(readiness),
        statuses: statuses_received,
    });
    let statuses = admin.is_some().then_some(statuses);
    let mut cores = StartedCores { threads: Vec::new(), reports, go: Vec::new() };
    let parts = std::mem::take(&mut prepared.found)
        .into_iter()
        .zip(channels)
        .zip(file_channels)
        .zip(std::mem::take(&mut prepared.ports.cores))
        .zip(ends);
    for (core, ((((found, spares), file_worker), ports), mesh)) in (0..core_count).zip(parts) {
        let (go_sender, go) = sync_channel(1);
        let parts = CoreParts {
            core,
            core_count,
            config: config.clone(),
            identity,
            epoch,
            directory: prepared.data.core(core),
            found,
            spares,
            file_worker,
            ports,
            mesh,
            known_incarnations: Arc::clone(&prepared.known_incarnations),
            membership: prepared.membership.clone(),
            shared: Arc::clone(shared),
            node_info: node_info(config, core, core_count, epoch)?,
            peers: peer_addresses(config)?,
            go,
            statuses: statuses.clone(),
            admin: admin.take(),
        };
        let mut reporter = Reporter { core, sender: reporter.clone(), has_ended: false };
        let position = usize::from(config.first_cpu) + usize::from(core);
        let cpu = config.pin_cores.then(|| prepared.cpus[position % prepared.cpus.len()]);
        let thread = executor::spawn_core(core, cpu, move || async move {
            let result = run_core(parts, &mut reporter).await;
            reporter.send(Report::Ended(result));
        })
        .map_err(|error| executor_failed(core, &error))?;
        cores.threads.push(Some(thread));
        cores.go.push(go_sender);
    }
    Ok((Workers { preparer, file_worker }, cores))
}

/// The other members of the replica set.
fn peer_addresses(config: &Config) -> Result<Vec<PeerAddress>, Fatal> {
    let others = config.node.iter().filter(|member| member.id != config.node_id);
    others
        .map(|member| {
            let (host, port) = member_address("peer", &member.peer)?;
            Ok(PeerAddress { node_id: member.id, host, port })
        })
        .collect()
}

fn member_address(key: &str, address: &str) -> Result<(String, u16), Fatal> {
    host_and_port(key, address).map_err(|error| Fatal::new(ExitStatus::Configuration, error))
}

/// What sessions of `core` tell clients.
fn node_info(config: &Config, core: u16, core_count: u16, epoch: u32) -> Result<NodeInfo, Fatal> {
    let mut nodes = Vec::with_capacity(config.node.len());
    for member in &config.node {
        let (host, client_port) = member_address("client", &member.client)?;
        let (_, peer_port) = member_address("peer", &member.peer)?;
        let cores = match (member.id == config.node_id, member.cores) {
            (true, _) => core_count,
            (false, 0) => 1,
            (false, cores) => cores,
        };
        let first = match member.core_client_port_first {
            0 if member.id == config.node_id => config.core_client_port_first,
            first => first,
        };
        let core_ports = if first == 0 {
            Vec::new()
        } else {
            (0..cores).filter_map(|core| first.checked_add(core)).collect()
        };
        nodes.push(NodeAddress {
            node_id: member.id,
            host,
            client_port,
            core_ports,
            peer_port,
            core_count: cores,
        });
    }
    let is_listed = nodes.iter().any(|node| node.node_id == config.node_id);
    if !is_listed && !config.role().is_follower() {
        // It joins others, who are listed.
        let (host, client_port) = member_address("client", &config.client_address)?;
        let (_, peer_port) = member_address("peer", &config.peer_address)?;
        let first = config.core_client_port_first;
        let ports = (0..core_count).filter_map(|core| first.checked_add(core));
        let core_ports = if first == 0 { Vec::new() } else { ports.collect() };
        let node_id = config.node_id;
        nodes.push(NodeAddress { node_id, host, client_port, core_ports, peer_port, core_count });
    }
    let mut shown = config.flattened();
    // Clients ask for these and expect Redis's words: nothing is saved apart, everything is logged.
    shown.insert("save".to_owned(), String::new());
    shown.insert("appendonly".to_owned(), "yes".to_owned());
    Ok(NodeInfo {
        node_id: config.node_id,
        acceptor_count: config.replicas(),
        cluster_id: format!("{:016x}", config.cluster_id.0),
        certus_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_epoch: epoch,
        core_count,
        core,
        process_id: std::process::id(),
        config: shown.into(),
        nodes,
    })
}

/// From now on the first SIGTERM or SIGINT stops the node in order, and the second ends the
/// process at once. A write beyond the largest size a file may have fails like any other, and does
/// not end the process without a word, which is what its signal is for.
fn stop_on_signals(shared: &Arc<NodeShared>) -> Result<(), Fatal> {
    let shared = Arc::clone(shared);
    let failed = |error: std::io::Error| {
        Fatal::new(ExitStatus::Preflight, format!("signals cannot be received: {error}"))
    };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGXFSZ]).map_err(failed)?;
    std::thread::Builder::new()
        .name("certus-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever().filter(|signal| *signal != SIGXFSZ) {
                if shared.is_stopping() {
                    log_line::warn("a second signal: ending at once", &[("signal", &signal)]);
                    std::process::exit(i32::from(ExitStatus::Interrupted.code()));
                }
                log_line::info("stopping", &[("signal", &signal)]);
                notify_supervisor("STOPPING=1\n");
                shared.stop();
            }
        })
        .map_err(failed)?;
    Ok(())
}

fn announce_ready(
    config: &Config,
    options: &RunOptions,
    identity: &DirectoryIdentity,
    epoch: u32,
    started: Instant,
) -> Result<(), Fatal> {
    log_line::info(
        "ready",
        &[
            ("node", &identity.node_id),
            ("cluster", &format_args!("{:#018x}", identity.cluster_id)),
            ("boot_epoch", &epoch),
            ("cores", &identity.core_count),
            ("clients", &config.client_address),
            ("peers", &config.peer_address),
            ("admin", &config.admin_address),
            ("milliseconds", &started.elapsed().as_millis()),
        ],
    );
    if let Some(file) = &options.ready_file {
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let text = format!("{}\n", std::process::id());
        replace_file(&absolute, text.as_bytes()).map_err(|error| {
            Fatal::new(
                ExitStatus::Configuration,
                format!("--ready-file {}: {error}; name a writable place", file.display()),
            )
        })?;
    }
    notify_supervisor("READY=1\n");
    Ok(())
}

/// Tells a supervisor that asked for it by `NOTIFY_SOCKET` (systemd's protocol) what is going on.
fn notify_supervisor(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    use std::os::unix::ffi::OsStrExt as _;
    let sent = UnixDatagram::unbound().and_then(|socket| match name.as_bytes().split_first() {
        Some((b'@', abstract_name)) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(abstract_name)?;
            socket.send_to_addr(state.as_bytes(), &address)
        }
        Some(_) | None => socket.send_to(state.as_bytes(), Path::new(&name)),
    });
    if let Err(error) = sent {
        log_line::warn("the supervisor cannot be notified", &[("reason", &error)]);
    }
}
