//! `certus dev`: a cluster on one machine, from start to stop.
//!
//! Every node is a process of its own, as it would be on a machine of its own, so that killing one
//! shows what killing a node does. Whoever started the nodes here only watches: a node that dies
//! is reported and stays dead until somebody starts it again with the command in `cluster.json`.
//! Stopping finds such a node too, by the lock file of its data directory.

mod cluster_file;
mod layout;
mod node_process;
mod port_blocks;
#[cfg(test)]
mod port_blocks_test;
mod ports;
mod process;
#[cfg(test)]
mod process_test;
mod readiness;
pub mod setting;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::{DevStart, DevStop};
use crate::console::{Console, complain};
pub use crate::dev::cluster_file::ClusterFile;
use crate::dev::cluster_file::NodeRecord;
use crate::dev::layout::{Layout, LayoutError, nodes_in};
use crate::dev::node_process::{NodeProcess, command, end_in_words};
use crate::dev::port_blocks::PortBlocks;
use crate::dev::ports::PortsError;
use crate::dev::process::{Process, stop_all};
use crate::exit_status::ExitStatus;

/// How long a node may take to stop before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long a port may be taken before it is taken for somebody else's.
const PORTS_GRACE: Duration = Duration::from_secs(1);

/// Pause between two looks at nodes that are starting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why a cluster does not run.
#[derive(Debug, thiserror::Error)]
enum DevError {
    #[error("{0}")]
    Layout(#[from] LayoutError),
    #[error("{0}")]
    Ports(#[from] PortsError),
    #[error(
        "there is no {}: build it with `cargo build --release`, or name it with --certusd",
        path.display()
    )]
    NoProgram { path: PathBuf },
    #[error(
        "node {id} runs already (process {process}): stop it with `certus dev stop --dir {}`",
        directory.display()
    )]
    AlreadyRuns { id: u8, process: u32, directory: PathBuf },
    #[error("cannot start node {id} with {}: {error}", program.display())]
    Start { id: u8, program: PathBuf, error: io::Error },
    #[error(
        "node {id} ended before it was ready, with {end}; the last lines of {}:\n{lines}",
        log_file.display()
    )]
    EndedEarly { id: u8, end: String, log_file: PathBuf, lines: String },
    #[error(
        "node {id} is not ready after {seconds} s ({reason}): look into {}, or allow more time \
         with --ready-timeout",
        log_file.display()
    )]
    NotReady { id: u8, seconds: f64, reason: String, log_file: PathBuf },
    #[error("stopped before the nodes were ready")]
    Interrupted,
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl DevError {
    fn status(&self) -> ExitStatus {
        match self {
            Self::Layout(_)
            | Self::Ports(_)
            | Self::NoProgram { .. }
            | Self::AlreadyRuns { .. } => ExitStatus::Failed,
            Self::Start { .. }
            | Self::EndedEarly { .. }
            | Self::NotReady { .. }
            | Self::Interrupted
            | Self::Io(_) => ExitStatus::Degraded,
        }
    }
}

/// Starts a cluster, and stays with it unless it is to be left alone.
pub fn run(arguments: &DevStart, console: &mut Console) -> ExitStatus {
    let mut cluster = Cluster { nodes: Vec::new(), directory: PathBuf::new(), port_blocks: None };
    match cluster.start(arguments, console) {
        Ok(None) => ExitStatus::Ok,
        Ok(Some(signals)) => cluster.watch(signals, console),
        Err(error) => {
            complain(&error);
            if !cluster.nodes.is_empty() {
                cluster.stop(console);
            }
            error.status()
        }
    }
}

/// Stops the cluster of a directory, whoever started its nodes.
pub fn stop(arguments: &DevStop, console: &mut Console) -> ExitStatus {
    let found = nodes_in(&arguments.dir).map_err(DevError::from).and_then(|nodes| {
        // Gone first, so that who watches the nodes knows that they are meant to end.
        ClusterFile::remove(&arguments.dir)?;
        let mut found = Vec::new();
        for (id, config_file, data_directory) in nodes {
            if let Some(process) = Process::of_node(&data_directory, &config_file)? {
                found.push((id, process));
            }
        }
        Ok(found)
    });
    match found {
        Ok(found) => stop_found(found, console),
        Err(error) => {
            complain(&error);
            error.status()
        }
    }
}

fn stop_found(found: Vec<(u8, Process)>, console: &mut Console) -> ExitStatus {
    let names: Vec<(u8, u32)> = found.iter().map(|(id, process)| (*id, process.id())).collect();
    let processes: Vec<Process> = found.into_iter().map(|(_, process)| process).collect();
    match stop_all(&processes, STOP_GRACE) {
        Ok(killed) => {
            for (id, process) in &names {
                let how = if killed.contains(process) {
                    format!("killed: it did not stop within {} s", STOP_GRACE.as_secs())
                } else {
                    "stopped".to_owned()
                };
                console.line(format_args!("node {id} (process {process}) {how}"));
            }
            if names.is_empty() {
                console.line("no node was running");
            }
            if killed.is_empty() { ExitStatus::Ok } else { ExitStatus::Degraded }
        }
        Err(error) => {
            complain(format_args!("cannot stop every node: {error}"));
            ExitStatus::Degraded
        }
    }
}

/// The nodes that were started here.
#[derive(Debug)]
struct Cluster {
    directory: PathBuf,
    nodes: Vec<NodeProcess>,
    /// What keeps other clusters from its ports while this program watches it.
    port_blocks: Option<PortBlocks>,
}

impl Cluster {
    /// Starts every node and waits until all are ready. With something to watch, the signals that
    /// end the watching.
    fn start(
        &mut self,
        arguments: &DevStart,
        console: &mut Console,
    ) -> Result<Option<Signals>, DevError> {
        let certusd = find_certusd(arguments)?;
        let mut layout = Layout::prepare(arguments)?;
        self.port_blocks = layout.port_blocks.take();
        self.directory.clone_from(&layout.directory);
        if arguments.dir.is_none() {
            console.line(format_args!("directory {}", layout.directory.display()));
        }
        for place in &layout.nodes {
            let running = Process::of_node(&place.data_directory, &place.config_file)?;
            if let Some(process) = running {
                let (process, directory) = (process.id(), layout.directory.clone());
                return Err(DevError::AlreadyRuns { id: place.id, process, directory });
            }
        }
        wait_for_ports(&layout)?;
        // From here on a signal must not leave nodes behind.
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD])?;
        for place in &layout.nodes {
            let node = NodeProcess::start(&certusd, place).map_err(|error| DevError::Start {
                id: place.id,
                program: certusd.clone(),
                error,
            })?;
            self.nodes.push(node);
        }
        self.wait_until_ready(arguments.ready_timeout, &mut signals)?;
        let file = self.file(&layout, &certusd);
        file.write()?;
        print_cluster(&file, arguments.detach, console);
        Ok((!arguments.detach).then_some(signals))
    }

    fn wait_until_ready(
        &mut self,
        timeout: Duration,
        signals: &mut Signals,
    ) -> Result<(), DevError> {
        let deadline = Instant::now() + timeout;
        let mut not_ready: Vec<usize> = (0..self.nodes.len()).collect();
        loop {
            for node in &mut self.nodes {
                if let Some(status) = node.ended()? {
                    return Err(DevError::EndedEarly {
                        id: node.place.id,
                        end: end_in_words(status),
                        log_file: node.place.log_file.clone(),
                        lines: node.last_lines().join("\n"),
                    });
                }
            }
            let mut waits_for = None;
            not_ready.retain(|&index| match readiness::probe(self.nodes[index].place.client) {
                Ok(()) => false,
                Err(reason) => {
                    waits_for = Some((index, reason));
                    true
                }
            });
            let Some((index, reason)) = waits_for else { return Ok(()) };
            if signals.pending().any(|signal| signal != SIGCHLD) {
                return Err(DevError::Interrupted);
            }
            if Instant::now() > deadline {
                let place = &self.nodes[index].place;
                return Err(DevError::NotReady {
                    id: place.id,
                    seconds: timeout.as_secs_f64(),
                    reason,
                    log_file: place.log_file.clone(),
                });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Reports nodes that end, until a signal or `certus dev stop` ends it all.
    fn watch(&mut self, mut signals: Signals, console: &mut Console) -> ExitStatus {
        for signal in signals.forever() {
            if signal != SIGCHLD {
                console.line("");
                break;
            }
            if let Err(error) = self.report_ended(console) {
                complain(format_args!("cannot look at the nodes: {error}"));
            }
            let none_left = self.nodes.iter().all(NodeProcess::is_known_to_have_ended);
            if none_left && !ClusterFile::path(&self.directory).exists() {
                break;
            }
        }
        self.stop(console)
    }

    fn report_ended(&mut self, console: &mut Console) -> io::Result<()> {
        let is_meant = !ClusterFile::path(&self.directory).exists();
        for node in &mut self.nodes {
            if node.is_known_to_have_ended() {
                continue;
            }
            if let Some(status) = node.ended()? {
                let (id, process, end) = (node.place.id, node.id(), end_in_words(status));
                let how_again =
                    if is_meant { "" } else { "; its command in cluster.json starts it again" };
                console.line(format_args!("node {id} (process {process}) ended: {end}{how_again}"));
            }
        }
        Ok(())
    }

    /// Stops every node of the directory, those started again by others included.
    fn stop(&mut self, console: &mut Console) -> ExitStatus {
        if let Err(error) = ClusterFile::remove(&self.directory) {
            complain(format_args!("cannot remove cluster.json: {error}"));
        }
        let mut found = Vec::new();
        let mut status = ExitStatus::Ok;
        for node in &mut self.nodes {
            let place = &node.place;
            let restarted = Process::of_node(&place.data_directory, &place.config_file);
            let (id, own) = (place.id, node.id());
            match (node.process(), restarted) {
                (Ok(started), Ok(restarted)) => {
                    let other = restarted.filter(|process| process.id() != own);
                    found.extend(started.into_iter().chain(other).map(|process| (id, process)));
                }
                (Err(error), _) | (_, Err(error)) => {
                    complain(format_args!("cannot look at node {id}: {error}"));
                    status = ExitStatus::Degraded;
                }
            }
        }
        status.max(stop_found(found, console))
    }

    fn file(&self, layout: &Layout, certusd: &Path) -> ClusterFile {
        let node = |node: &NodeProcess| NodeRecord {
            id: node.place.id,
            pid: node.id(),
            client: node.place.client.to_string(),
            peer: node.place.peer.to_string(),
            admin: node.place.admin.to_string(),
            data_directory: node.place.data_directory.clone(),
            config_file: node.place.config_file.clone(),
            log_file: node.place.log_file.clone(),
            command: command(certusd, &node.place),
        };
        ClusterFile {
            cluster_id: layout.cluster_id(),
            directory: layout.directory.clone(),
            nodes: self.nodes.iter().map(node).collect(),
        }
    }
}

/// Waits a moment for ports that are taken: the sockets of a killed node outlive it by a little.
fn wait_for_ports(layout: &Layout) -> Result<(), PortsError> {
    let deadline = Instant::now() + PORTS_GRACE;
    loop {
        match layout.ports.check_free() {
            Err(PortsError::Taken { .. }) if Instant::now() < deadline => {
                std::thread::sleep(LOOK_EVERY);
            }
            result => return result,
        }
    }
}

/// The nodes' program: the one named, or the one beside this program.
fn find_certusd(arguments: &DevStart) -> Result<PathBuf, DevError> {
    let path = match &arguments.certusd {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("certusd"),
    };
    // Not resolved further: a link keeps the name by which its processes are recognised.
    let path = std::path::absolute(&path)?;
    if path.is_file() { Ok(path) } else { Err(DevError::NoProgram { path }) }
}

fn print_cluster(file: &ClusterFile, detached: bool, console: &mut Console) {
    let directory = file.directory.display();
    let count = file.nodes.len();
    console
        .line(format_args!("cluster {} is ready: {count} nodes in {directory}", file.cluster_id));
    console.line(format_args!(
        "  {:<5} {:<21} {:<21} {:<21} process",
        "node", "clients", "peers", "admin"
    ));
    for NodeRecord { id, pid, client, peer, admin, .. } in &file.nodes {
        console.line(format_args!("  {id:<5} {client:<21} {peer:<21} {admin:<21} {pid}"));
    }
    let ports: Vec<&str> =
        file.nodes.iter().filter_map(|node| node.client.rsplit(':').next()).collect();
    let (first, last) = (ports.first().unwrap_or(&""), ports.last().unwrap_or(&""));
    console.line(format_args!("talk to it:  redis-cli -p {first} set greeting hello"));
    console.line(format_args!("             redis-cli -p {last} get greeting"));
    console.line(format_args!("look at it:  certus status --dir {directory}"));
    console.line(format_args!(
        "try it:      kill -9 one process; its command in {directory}/cluster.json starts it again"
    ));
    if detached {
        console.line(format_args!("stop it:     certus dev stop --dir {directory}"));
    } else {
        console.line("Ctrl-C stops all");
    }
}
