//! SIGSTOP and SIGCONT: a node that hangs, and does not know it.

use std::fs;

use rustix::process::Signal;

use crate::failure::Failure;
use crate::fault::Fault;
use crate::scene::Scene;

/// A node is stopped for a while.
#[derive(Debug)]
pub struct Pause {
    victim: u8,
}

impl Pause {
    /// Of node `victim`.
    pub fn new(victim: u8) -> Self {
        Self { victim }
    }
}

impl Fault for Pause {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        scene.cluster.node(self.victim).process().signal(Signal::STOP)?;
        Ok("SIGSTOP".to_owned())
    }

    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        let id = scene.cluster.node(self.victim).process().id();
        let mut states = Vec::new();
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let text = fs::read_to_string(thread?.path().join("stat"))?;
            // Behind the name, which stands in brackets and may hold anything.
            let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            states.push(state.unwrap_or('?'));
        }
        let all = !states.is_empty() && states.iter().all(|state| *state == 'T');
        Ok(all.then(|| format!("all {} threads are stopped", states.len())))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        scene.cluster.node(self.victim).process().signal(Signal::CONT)?;
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("SIGCONT; serves {} ms later", took.as_millis()))
    }
}
