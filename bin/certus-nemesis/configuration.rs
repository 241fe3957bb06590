//! The configuration file of a node whose way to each peer leads through the proxy.

use std::fmt::Write as _;
use std::path::Path;

use crate::ports::Ports;

/// Small segments, checkpoints and caches, so that a short run comes to new segments, recycled
/// ones, checkpoints, and entities read back; a quick look for what was missed; and enough request
/// ids that none is forgotten while it may still be repeated.
const SETTINGS: &str = "\
[log]
segment_size_bytes = 8388608
spare_segments = 1
checkpoint_log_bytes = 4194304
checkpoint_log_percent = 100
hold_bytes = 8388608

[consensus]
sweep_every_ms = 500

[memory]
entities_in_memory_max = 512
request_ids_max = 65536

[limits]
peer_frame_size_max_bytes = 7340032
";

/// What `certusd.toml` of node `id` says.
pub fn text(id: u8, nodes: u8, cores: u16, ports: &Ports, data_directory: &Path) -> String {
    let data_directory = data_directory.display();
    let mut text = format!(
        "cluster_id = \"0x6e656d65736973\"\nnode_id = {id}\ncores = {cores}\npin_cores = false\n\
         data_directory = \"{data_directory}\"\nclient_address = \"{}\"\npeer_address = \"{}\"\n\
         admin_address = \"{}\"\n\n",
        ports.client(id),
        ports.peer(id, 0),
        ports.admin(id)
    );
    for member in 0..nodes {
        let peer = if member == id { ports.peer(id, 0) } else { ports.peer_link(id, member, 0) };
        let client = ports.client_link(member);
        write!(text, "[[node]]\nid = {member}\nclient = \"{client}\"\npeer = \"{peer}\"\n\n")
            .expect("a string takes all");
    }
    text + SETTINGS
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::Table;

    use super::text;
    use crate::ports::Ports;

    #[test]
    fn a_node_reaches_its_peers_through_the_proxy_alone() {
        let (ports, _blocks) = Ports::find(3, 2, std::process::id()).unwrap();
        let table: Table = text(1, 3, 2, &ports, Path::new("data")).parse().unwrap();
        let peers = table["node"].as_array().unwrap().iter().map(|node| node["peer"].as_str());
        let own = ports.peer(1, 0);
        let [first, last] = [0, 2].map(|to| ports.peer_link(1, to, 0).to_string());
        let expected = [first, own.to_string(), last];
        assert_eq!(peers.map(|peer| peer.unwrap().to_owned()).collect::<Vec<_>>(), expected);
    }
}
