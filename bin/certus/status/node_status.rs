//! What one node said of itself, or why it said nothing.

use std::net::SocketAddr;

use serde_json::Value;

/// One member of the cluster, asked.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// Where it was asked.
    pub address: SocketAddr,
    /// Which cluster it belongs to, in hexadecimal digits; empty when not known.
    pub cluster: String,
    /// Its index in the replica set, by its own word or another node's.
    pub node_id: Option<u8>,
    /// The document of `CERTUS STATUS`, or why there is none.
    pub answer: Result<Document, String>,
}

/// The document of `CERTUS STATUS`. Whatever a node of another version leaves out reads as zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(pub Value);

/// Who votes, and who learns to.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Membership {
    /// Counts the changes.
    pub version: u64,
    /// Who votes.
    pub voters: Vec<u8>,
    /// Who does not yet.
    pub learners: Vec<u8>,
}

impl NodeStatus {
    /// What the node said.
    pub fn document(&self) -> Option<&Document> {
        self.answer.as_ref().ok()
    }

    /// Whether the node is known to be outside of a replica set of so many: it has no vote.
    pub fn is_follower(&self, replicas: usize) -> bool {
        replicas > 0 && self.node_id.is_some_and(|id| usize::from(id) >= replicas)
    }

    /// The node's name in messages.
    pub fn name(&self) -> String {
        match self.node_id {
            Some(id) => format!("node {id} ({})", self.address),
            None => format!("the node at {}", self.address),
        }
    }
}

impl Document {
    /// The number at `pointer` (as `/cores/0/connections`); 0 if there is none.
    pub fn number(&self, pointer: &str) -> u64 {
        number(&self.0, pointer)
    }

    /// The text at `pointer`; empty if there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or("")
    }

    /// The nodes this one hears, itself included.
    pub fn live(&self) -> Vec<u8> {
        let live = self.0.get("live").and_then(Value::as_array);
        live.into_iter().flatten().filter_map(|id| u8::try_from(id.as_u64()?).ok()).collect()
    }

    /// By which configuration it goes, where members can change.
    pub fn membership(&self) -> Option<Membership> {
        let said = self.0.get("membership").filter(|said| said.is_object())?;
        let list = |name: &str| -> Vec<u8> {
            let list = said.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(|id| u8::try_from(id.as_u64()?).ok()).collect()
        };
        let (voters, learners) = (list("voters"), list("learners"));
        Some(Membership { version: number(said, "/version"), voters, learners })
    }

    /// What each core says.
    pub fn cores(&self) -> &[Value] {
        self.0.get("cores").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The sum over all cores of the number at `pointer` in each.
    pub fn sum(&self, pointer: &str) -> u64 {
        self.cores().iter().map(|core| number(core, pointer)).sum()
    }
}

/// The number at `pointer` in `value`; 0 if there is none.
pub fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}
