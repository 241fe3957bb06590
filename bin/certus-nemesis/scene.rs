//! What faults act on, and what is noted of them.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::check::unknown::Window;
use crate::cluster::Cluster;
use crate::console::Console;
use crate::failure::Failure;
use crate::node::PATIENCE;
use crate::workload::Workload;

/// How soon a wish to stop is heard.
const SLICE: Duration = Duration::from_millis(50);

/// A running cluster under load.
#[derive(Debug)]
pub struct Scene {
    /// The nodes and links.
    pub cluster: Cluster,
    /// The clients.
    pub workload: Workload,
    /// The node whose files were damaged.
    pub damaged: Option<u8>,
    /// When faults were there.
    pub windows: Vec<Window>,
    console: Console,
    interrupted: Arc<AtomicBool>,
    /// How far the monotonic clock of each node is ahead, in nanoseconds.
    monotonic_shifts: Vec<i64>,
}

impl Scene {
    /// Of a cluster with its load. `interrupted` becomes true when somebody wants it to stop.
    pub fn new(cluster: Cluster, workload: Workload, interrupted: Arc<AtomicBool>) -> Self {
        let monotonic_shifts = vec![0; cluster.nodes.len()];
        let console = Console::default();
        let (damaged, windows) = (None, Vec::new());
        Self { cluster, workload, damaged, windows, console, interrupted, monotonic_shifts }
    }

    /// Microseconds of the run.
    pub fn now(&self) -> u64 {
        self.workload.now()
    }

    /// Prints a line with the time of the run.
    pub fn say(&mut self, line: &str) {
        let (seconds, rest) = (self.now() / 1_000_000, self.now() % 1_000_000);
        self.console.line(format!("{seconds:5}.{:03} s  {line}", rest / 1000));
    }

    /// How far a node's monotonic clock is ahead, in nanoseconds.
    pub fn monotonic_shift(&self, id: u8) -> i64 {
        self.monotonic_shifts[usize::from(id)]
    }

    /// Notes how far it is ahead now.
    pub fn set_monotonic_shift(&mut self, id: u8, shift: i64) {
        self.monotonic_shifts[usize::from(id)] = shift;
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// When somebody wants it to stop.
    pub fn sleep(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// Waits until a node serves; how long that took.
    ///
    /// # Errors
    ///
    /// When it ends by itself, or does not serve within [`PATIENCE`]: violations.
    pub fn wait_until_ready(&mut self, id: u8) -> Result<Duration, Failure> {
        let begin = Instant::now();
        while !self.cluster.node(id).serves() {
            self.check_running(id)?;
            if begin.elapsed() > PATIENCE {
                let lines = self.cluster.node(id).last_lines();
                let what = format!("node {id} does not serve after {PATIENCE:?}:\n{lines}");
                return Err(Failure::violation("availability", what, self.now()));
            }
            self.sleep(Duration::from_millis(10))?;
        }
        Ok(begin.elapsed())
    }

    /// Fails if a node has ended by itself.
    ///
    /// # Errors
    ///
    /// That is a violation.
    pub fn check_running(&mut self, id: u8) -> Result<(), Failure> {
        let Some(status) = self.cluster.node(id).ended()? else { return Ok(()) };
        let lines = self.cluster.node(id).last_lines();
        let (code, signal) = (status.code(), status.signal());
        let what =
            format!("node {id} ended by itself, status {code:?}, signal {signal:?}:\n{lines}");
        Err(Failure::violation("nodes run", what, self.now()))
    }
}
