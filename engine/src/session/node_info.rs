//! What a session knows of its node and of the cluster: fixed while the node runs, but for settings
//! that an operator changes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use net::resp::slot;

/// The version of Redis whose commands and wordings a client may expect.
pub const REDIS_VERSION: &str = "7.2.0";

/// Facts of this node, shared by all sessions of a core.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// This node's index in the replica set.
    pub node_id: u8,
    /// Size of the replica set.
    pub acceptor_count: u8,
    /// The cluster's id in hexadecimal digits, at most 32 of which are used.
    pub cluster_id: String,
    /// Version of the program.
    pub certus_version: String,
    /// Which start of this node this is, from 1.
    pub boot_epoch: u32,
    /// Cores of this node.
    pub core_count: u16,
    /// The core that serves the session.
    pub core: u16,
    /// The process.
    pub process_id: u32,
    /// What `CONFIG GET` shows, as it is by now. Some clients ask for `save` and `appendonly`, so
    /// these belong in it.
    pub config: RefCell<BTreeMap<String, String>>,
    /// Every node of the cluster, this one included, in any order.
    pub nodes: Vec<NodeAddress>,
}

/// Where clients find a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeAddress {
    /// The node's index in the replica set.
    pub node_id: u8,
    /// Name or address as clients reach it.
    pub host: String,
    /// The port that all its cores share.
    pub client_port: u16,
    /// One port for each core, or none.
    pub core_ports: Vec<u16>,
    /// The port for the other replicas.
    pub peer_port: u16,
    /// Its cores, at least 1.
    pub core_count: u16,
}

/// A port of a node as cluster clients see it: to them, each is a node of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Endpoint<'a> {
    /// Where it is.
    pub(super) address: &'a NodeAddress,
    /// The core behind it, or `None` for the port that all cores share.
    pub(super) core: Option<u16>,
}

impl NodeInfo {
    /// The address of a node.
    #[must_use]
    pub fn address(&self, node_id: u8) -> Option<&NodeAddress> {
        self.nodes.iter().find(|address| address.node_id == node_id)
    }

    /// Forty hexadecimal digits, as Redis's names of nodes have.
    pub(super) fn endpoint_id(&self, node_id: u8, core: Option<u16>) -> String {
        let cluster = self.cluster_id.get(..32).unwrap_or(&self.cluster_id);
        let core = core.map_or(0, |core| u32::from(core) + 1);
        format!("{cluster:0>32}{node_id:02x}{core:06x}")
    }

    /// Whether the node has no vote: its id is outside of the replica set.
    #[must_use]
    pub fn is_follower(&self) -> bool {
        self.node_id >= self.acceptor_count
    }

    /// The endpoint that this session's core answers for.
    pub(super) fn own_endpoint_id(&self) -> String {
        let core = self.address(self.node_id).filter(|own| own.has_core_ports()).map(|_| self.core);
        self.endpoint_id(self.node_id, core)
    }
}

impl NodeAddress {
    /// Whether each core has a port of its own.
    pub(super) fn has_core_ports(&self) -> bool {
        self.core_count > 0 && self.core_ports.len() == usize::from(self.core_count)
    }

    /// Where a slot is best asked for on this node.
    pub(super) fn endpoint_of(&self, slot: u16) -> Endpoint<'_> {
        let core = self.has_core_ports().then(|| slot::shard_of_slot(slot, self.core_count));
        Endpoint { address: self, core }
    }

    /// All endpoints of the node that slots lead to.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = Endpoint<'_>> {
        let count = if self.has_core_ports() { self.core_count } else { 1 };
        (0..count)
            .map(|core| Endpoint { address: self, core: self.has_core_ports().then_some(core) })
    }
}

impl Endpoint<'_> {
    /// Its port.
    pub(super) fn port(self) -> u16 {
        match self.core {
            Some(core) => self.address.core_ports[usize::from(core)],
            None => self.address.client_port,
        }
    }
}
