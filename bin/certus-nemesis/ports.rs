//! Which ports the nodes and the proxy take.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::port_blocks::PortBlocks;

/// The ports of a cluster and of the links between its nodes.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    nodes: u16,
    cores: u16,
    first: u16,
}

impl Ports {
    /// The first free ones, from a place that depends on `start`; and what keeps them from other
    /// runs for as long as it is there.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn find(nodes: u8, cores: u16, start: u32) -> io::Result<(Self, PortBlocks)> {
        let ports = Self { nodes: nodes.into(), cores, first: 0 };
        let blocks = PortBlocks::hold(ports.count(), start)?;
        Ok((Self { first: blocks.first, ..ports }, blocks))
    }

    /// Where node `id` listens for clients.
    pub fn client(&self, id: u8) -> SocketAddr {
        local(self.first + u16::from(id))
    }

    /// Where node `id` listens for operators.
    pub fn admin(&self, id: u8) -> SocketAddr {
        local(self.first + self.nodes + u16::from(id))
    }

    /// Where the proxy listens for clients of node `id`.
    pub fn client_link(&self, id: u8) -> SocketAddr {
        local(self.first + 2 * self.nodes + u16::from(id))
    }

    /// Where core `core` of node `id` listens for peers.
    pub fn peer(&self, id: u8, core: u16) -> SocketAddr {
        local(self.first + 3 * self.nodes + u16::from(id) * self.cores + core)
    }

    /// Where the proxy listens for node `from` that means core `core` of node `to`.
    pub fn peer_link(&self, from: u8, to: u8, core: u16) -> SocketAddr {
        let pair = self.nodes + u16::from(from) * self.nodes + u16::from(to);
        local(self.first + 3 * self.nodes + pair * self.cores + core)
    }

    /// All of these.
    fn count(&self) -> u16 {
        3 * self.nodes + (self.nodes + self.nodes * self.nodes) * self.cores
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::Ports;

    #[test]
    fn two_runs_at_once_take_other_ports() {
        let (one, _blocks) = Ports::find(3, 2, 7).unwrap();
        let (other, _other_blocks) = Ports::find(3, 2, 7).unwrap();
        assert_ne!(one.first, other.first);
    }

    #[test]
    fn no_port_has_two_uses() {
        let ports = Ports { nodes: 5, cores: 3, first: 12_000 };
        let mut all = Vec::new();
        for id in 0..5 {
            all.extend([ports.client(id), ports.admin(id), ports.client_link(id)]);
            for core in 0..3 {
                all.push(ports.peer(id, core));
                all.extend((0..5).map(|to| ports.peer_link(id, to, core)));
            }
        }
        assert!(all.iter().all(|address| address.port() < 12_000 + ports.count()));
        assert_eq!(all.len(), usize::from(ports.count()));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), usize::from(ports.count()));
    }
}
