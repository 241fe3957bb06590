//! Which ports the nodes and the proxy take.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Where the search begins and ends: below those that `certus dev` and the system hand out.
const FIRST: u16 = 12_000;
const LAST: u16 = 19_900;

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
    pub fn find(nodes: u8, cores: u16, start: u32) -> io::Result<(Self, TcpListener)> {
        let nodes = u16::from(nodes);
        let count = Self { nodes, cores, first: 0 }.count();
        let places = (LAST - FIRST) / count;
        for attempt in 0..places {
            let place = (start.wrapping_add(u32::from(attempt))) % u32::from(places);
            let place = u16::try_from(place).expect("fewer places than ports");
            let ports = Self { nodes, cores, first: FIRST + place * count };
            let last = ports.first + count - 1;
            let Ok(reservation) = TcpListener::bind(local(last)) else { continue };
            if (ports.first..last).all(|port| TcpListener::bind(local(port)).is_ok()) {
                return Ok((ports, reservation));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("no free ports from {FIRST} to {LAST}"),
        ))
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

    /// All of these, and one that says that they are taken.
    fn count(&self) -> u16 {
        1 + 3 * self.nodes + (self.nodes + self.nodes * self.nodes) * self.cores
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
        let (one, _reservation) = Ports::find(3, 2, 7).unwrap();
        let (other, _reservation) = Ports::find(3, 2, 7).unwrap();
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
        assert!(all.iter().all(|address| address.port() < 12_000 + ports.count() - 1));
        assert_eq!(all.len(), usize::from(ports.count()) - 1);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), usize::from(ports.count()) - 1);
    }
}
