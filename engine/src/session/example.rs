//! A cluster for the tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::session::node_info::{NodeAddress, NodeInfo};

/// Node 1 of a cluster in which node i has `cores[i]` cores with a port each, from 7000 + 100 i;
/// with 0 cores it has one, and only the shared port.
pub(super) fn node_info(acceptor_count: u8, cores: &[u16]) -> NodeInfo {
    let nodes: Vec<NodeAddress> = (0..acceptor_count)
        .map(|node_id| {
            let core_count = cores[usize::from(node_id)];
            let base = 7000 + 100 * u16::from(node_id);
            NodeAddress {
                node_id,
                host: format!("10.0.0.{node_id}"),
                client_port: 6379 + u16::from(node_id),
                core_ports: (0..core_count).map(|core| base + core).collect(),
                peer_port: 9000 + u16::from(node_id),
                core_count: core_count.max(1),
            }
        })
        .collect();
    NodeInfo {
        node_id: 1,
        acceptor_count,
        cluster_id: "c0ffee00c0ffee00".to_owned(),
        certus_version: "0.1.0".to_owned(),
        boot_epoch: 9,
        core_count: nodes[1].core_count,
        core: 0,
        process_id: 4242,
        config: RefCell::new(BTreeMap::from(
            [
                ("appendonly", "yes"),
                ("maxmemory", "0"),
                ("maxmemory-policy", "noeviction"),
                ("save", ""),
                ("catch_up.rate_entries_per_s", "1"),
                ("catch_up.rate_bytes_per_s", "2"),
                ("catch_up.peer_rate_entries_per_s", "3"),
                ("catch_up.peer_rate_bytes_per_s", "4"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        )),
        nodes,
    }
}
