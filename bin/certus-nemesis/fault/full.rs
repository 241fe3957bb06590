//! A node's file system is full for a while.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use net::resp::value::Value;

use crate::failure::Failure;
use crate::fault::Fault;
use crate::scene::Scene;

/// How soon writes must go on once there is room.
const RESUMED_WITHIN: Duration = Duration::from_secs(10);

/// Large values that use up what the node has made ready, written again and again.
const BALLAST_BYTES: usize = 256 << 10;
const BALLAST_KEYS: u64 = 8;

/// What a node ends with when a write itself finds the disk full.
const STATUS_OF_A_FAILED_WRITE: i32 = 6;

/// All room on a node's file system is taken, until it refuses writes for want of it.
#[derive(Debug)]
pub struct Full {
    victim: u8,
    written: u64,
    has_ended: bool,
}

impl Full {
    /// Of node `victim`.
    pub fn new(victim: u8) -> Self {
        Self { victim, written: 0, has_ended: false }
    }

    fn write(&mut self, scene: &mut Scene, bytes: usize) -> Option<Value> {
        let key = format!("ballast-{}", self.written % BALLAST_KEYS);
        self.written += 1;
        scene.cluster.node(self.victim).ask(&["SET", &key, &"b".repeat(bytes)])
    }
}

impl Fault for Full {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let bytes = scene.cluster.node(self.victim).disk.fill()?;
        Ok(format!("{bytes} bytes taken"))
    }

    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        // Segments that are let go are room, too.
        scene.cluster.node(self.victim).disk.fill()?;
        if let Some(status) = scene.cluster.node(self.victim).ended()? {
            if status.code() != Some(STATUS_OF_A_FAILED_WRITE) {
                let lines = scene.cluster.node(self.victim).last_lines();
                let what = format!(
                    "node {} ended on a full disk, with {:?} and signal {:?}:\n{lines}",
                    self.victim,
                    status.code(),
                    status.signal()
                );
                return Err(Failure::violation("full disk", what, scene.now()));
            }
            self.has_ended = true;
            return Ok(Some("it ended with status 6: a write found no room".to_owned()));
        }
        let answer = self.write(scene, BALLAST_BYTES);
        let is_refused = matches!(&answer, Some(Value::Error(error)) if error.word() == "MISCONF");
        Ok(is_refused.then(|| format!("MISCONF after {} large writes", self.written)))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        scene.cluster.node(self.victim).disk.free()?;
        if self.has_ended || scene.cluster.node(self.victim).ended()?.is_some() {
            scene.cluster.start(self.victim)?;
            scene.wait_until_ready(self.victim)?;
        }
        let begin = Instant::now();
        loop {
            let answer = self.write(scene, 16);
            if answer.as_ref() == Some(&Value::OK) {
                let took = begin.elapsed().as_millis();
                return Ok(format!("freed; it wrote {took} ms later"));
            }
            if begin.elapsed() > RESUMED_WITHIN {
                let lines = scene.cluster.node(self.victim).last_lines();
                let what = format!(
                    "node {} does not write {RESUMED_WITHIN:?} after there is room: {answer:?}\n{lines}",
                    self.victim
                );
                return Err(Failure::violation("full disk", what, scene.now()));
            }
            scene.sleep(Duration::from_millis(50))?;
        }
    }
}
