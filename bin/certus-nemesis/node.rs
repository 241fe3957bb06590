//! One node: a `certusd` of its own that is started, ended and asked.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use net::resp::value::Value;
use rustix::process::Signal;

use crate::clock::Clocks;
use crate::disk::Disk;
use crate::process::Process;
use crate::resp_client::RespClient;

/// What a node has to do is done after this long, or never.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a question to a node itself may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Lines of its log that are shown.
const SHOWN_LINES: usize = 12;

/// Where everything of a node is.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its identity and log.
    pub data_directory: PathBuf,
    /// Its configuration.
    pub config_file: PathBuf,
    /// What it says.
    pub log_file: PathBuf,
    /// Where it serves clients, past the proxy.
    pub client: SocketAddr,
    /// Where it listens for peers, past the proxy.
    pub peer: SocketAddr,
    /// Where it answers operators.
    pub admin: SocketAddr,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Index in the replica set.
    pub id: u8,
    /// Where everything of it is.
    pub place: Place,
    /// What its data is on.
    pub disk: Disk,
    /// Its clocks, if they can jump.
    pub clocks: Option<Clocks>,
    running: Option<(Child, Process)>,
}

impl Node {
    /// One that does not run yet.
    pub fn new(id: u8, place: Place, disk: Disk, clocks: Option<Clocks>) -> Self {
        Self { id, place, disk, clocks, running: None }
    }

    /// Starts it, and does not wait for it.
    pub fn start(&mut self, certusd: &Path) -> io::Result<()> {
        assert!(self.running.is_none(), "node {} runs", self.id);
        self.wait_for_ports();
        let log = OpenOptions::new().create(true).append(true).open(&self.place.log_file)?;
        let mut command = Command::new(certusd);
        command.arg("--config").arg(&self.place.config_file);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // It does not hear the terminal's Ctrl-C: who started it ends it.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CERTUS_") {
                command.env_remove(name);
            }
        }
        if let Some(clocks) = &self.clocks {
            command.envs(clocks.environment.iter().map(|(name, value)| (name, value)));
        }
        let end_with_parent = || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(io::Error::from)
        };
        // SAFETY: between fork and exec it makes one system call, and allocates nothing.
        unsafe { command.pre_exec(end_with_parent) };
        let child = command.spawn()?;
        let process = Process::open(child.id())?.expect("a child that was not waited for is there");
        self.running = Some((child, process));
        Ok(())
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.running.as_ref().expect("it was started").1
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some((child, _)) = &mut self.running else { return Ok(None) };
        let ended = child.try_wait()?;
        if ended.is_some() {
            self.running = None;
        }
        Ok(ended)
    }

    /// Ends it as a power failure would end its process; whether SIGKILL is what ended it.
    pub fn kill(&mut self) -> io::Result<bool> {
        let Some((mut child, process)) = self.running.take() else { return Ok(false) };
        process.signal(Signal::KILL)?;
        Ok(child.wait()?.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Stops it in order; how it ended, [`None`] if it does not.
    pub fn stop(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some((mut child, process)) = self.running.take() else { return Ok(None) };
        process.signal(Signal::TERM)?;
        if process.wait_until(Instant::now() + PATIENCE)? {
            return child.wait().map(Some);
        }
        process.signal(Signal::KILL)?;
        child.wait()?;
        Ok(None)
    }

    /// A connection past the proxy; [`None`] when it takes none.
    pub fn connect(&self) -> Option<RespClient> {
        RespClient::connect(self.place.client, ANSWER).ok()
    }

    /// What it answers a question; [`None`] when it does not.
    pub fn ask(&self, words: &[&str]) -> Option<Value> {
        self.connect()?.ask(words).ok()
    }

    /// Whether it serves: it answers, and so does a majority behind it.
    pub fn serves(&self) -> bool {
        matches!(self.ask(&["GET", "nobody-writes-this"]), Some(Value::Null))
    }

    /// What it says of itself.
    pub fn status(&self) -> Option<serde_json::Value> {
        match self.ask(&["CERTUS", "STATUS"])? {
            Value::Bulk(text) => serde_json::from_slice(&text).ok(),
            _ => None,
        }
    }

    /// Why one of its cores abstains, if one does.
    pub fn abstains(&self) -> Option<String> {
        let status = self.status()?;
        let reasons =
            status["cores"].as_array()?.iter().filter_map(|core| core["abstains"].as_str());
        reasons.map(str::to_owned).next()
    }

    /// Of how many entities it abstains, or is not yet to vote again after a loss.
    pub fn abstaining(&self) -> Option<u64> {
        let status = self.status()?;
        let cores = status["cores"].as_array()?.iter();
        cores
            .map(|core| {
                let gauges = &core["shard"]["gauges"];
                Some(gauges["abstaining"].as_u64()? + gauges["rejoin_left"].as_u64()?)
            })
            .sum()
    }

    /// How much it has said so far.
    pub fn log_length(&self) -> u64 {
        fs::metadata(&self.place.log_file).map_or(0, |metadata| metadata.len())
    }

    /// What it said since its log had this length.
    pub fn said_since(&self, length: u64) -> String {
        let bytes = fs::read(&self.place.log_file).unwrap_or_default();
        let begin = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        String::from_utf8_lossy(&bytes[begin..]).into_owned()
    }

    /// The last lines of its log.
    pub fn last_lines(&self) -> String {
        let text = self.said_since(0);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }

    /// The kernel ends the rings of a killed process, and with them its sockets, a little later
    /// than the process itself. What takes longer than that, the node complains of.
    fn wait_for_ports(&self) {
        let deadline = Instant::now() + PATIENCE;
        let all = [self.place.client, self.place.peer, self.place.admin];
        while Instant::now() < deadline && !all.map(TcpListener::bind).iter().all(Result::is_ok) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
