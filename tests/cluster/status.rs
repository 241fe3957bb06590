//! What nodes say of themselves.

use serde_json::Value as Json;

use super::{Cluster, Node, certus, text, wait_until};

impl Node {
    /// Its status; `None` when it does not answer.
    pub fn status(&self) -> Option<Json> {
        let said = self.connect().ok()?.ask(&["CERTUS", "STATUS"]).ok()?;
        Some(serde_json::from_str(&text(&said)).expect("the status is JSON"))
    }

    /// Whether it takes part in everything, with every entity it holds.
    pub fn is_whole(&self) -> bool {
        let Some(status) = self.status() else { return false };
        let cores = status["cores"].as_array().expect("a list of cores");
        cores.iter().all(|core| {
            let gauges = &core["shard"]["gauges"];
            ["rejoining_cores", "abstaining_cores", "abstaining"].iter().all(|g| gauges[g] == 0)
        })
    }

    /// Has it write a checkpoint, as an operator would.
    pub fn write_checkpoint(&self) {
        let done = certus(&["checkpoint", "--addr", &self.client.to_string()]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Cluster {
    /// Waits until a node takes part in everything, and fails as soon as it ends.
    pub fn wait_until_whole(&self, id: usize) {
        wait_until(&format!("node {id} to take part in everything"), || {
            self.nodes[id].check_running();
            self.nodes[id].is_whole()
        });
    }
}
