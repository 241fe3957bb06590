//! Which ports the nodes of a cluster take, and whether they are free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::arguments::DevStart;
use crate::dev::port_blocks::PortBlocks;

/// Distance of the other ports from the client port, if not given.
const PEER_DISTANCE: u16 = 100;
const ADMIN_DISTANCE: u16 = 200;
const CORE_CLIENT_DISTANCE: u16 = 300;

/// Ports from one node to the next where each core has one, if it has no more cores.
const CORE_STEP_MIN: u16 = 10;

/// The ports of a cluster on one machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    nodes: u8,
    cores: u16,
    client: u16,
    peer: u16,
    admin: u16,
    core_client: u16,
}

/// Why ports cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// A port number above the highest.
    #[error("--{option} {port} leaves no room for all nodes below 65536: choose a lower one")]
    TooHigh {
        /// The option that says where they begin.
        option: &'static str,
        /// Its value.
        port: u16,
    },
    /// One port for two things.
    #[error(
        "port {port} is both {first} and {second}: move one of them with --client-port, \
         --peer-port, --admin-port or --core-client-port"
    )]
    Twice {
        /// The port.
        port: u16,
        /// What it is for.
        first: String,
        /// What it is for as well.
        second: String,
    },
    /// Somebody else listens there, or it may not be used.
    #[error(
        "port {port} ({purpose}) cannot be used: {error}; stop what listens there, or choose other \
         ports with --client-port (0 finds free ones)"
    )]
    Taken {
        /// The port.
        port: u16,
        /// What it was to be for.
        purpose: String,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The search found none.
    #[error("{0}: choose some with --client-port")]
    NoneFree(io::Error),
}

impl Ports {
    /// The ports that `arguments` ask for, the client ports beginning at `client`.
    ///
    /// # Errors
    ///
    /// When two of them are the same or one is too high.
    pub fn new(arguments: &DevStart, client: u16) -> Result<Self, PortsError> {
        let (nodes, cores) = (arguments.nodes, arguments.cores);
        let distant = |given: Option<u16>, distance: u16, option| match given {
            Some(port) => Ok(port),
            None => {
                client.checked_add(distance).ok_or(PortsError::TooHigh { option, port: client })
            }
        };
        let ports = Self {
            nodes,
            cores,
            client,
            peer: distant(arguments.peer_port, PEER_DISTANCE, "client-port")?,
            admin: distant(arguments.admin_port, ADMIN_DISTANCE, "client-port")?,
            core_client: distant(arguments.core_client_port, CORE_CLIENT_DISTANCE, "client-port")?,
        };
        ports.check()?;
        Ok(ports)
    }

    /// Ports that are all free now, and what keeps other clusters from choosing them while it is
    /// there. The search begins at a place that depends on `seed`.
    ///
    /// # Errors
    ///
    /// When there are none, or those given do not fit.
    pub fn find(arguments: &DevStart, seed: u32) -> Result<(Self, PortBlocks), PortsError> {
        let nodes = u16::from(arguments.nodes);
        let per_core = nodes * core_step(arguments.cores);
        let blocks = PortBlocks::hold(2 * nodes + 2 * per_core, seed);
        let blocks = blocks.map_err(PortsError::NoneFree)?;
        let client = blocks.first;
        let mut packed = arguments.clone();
        packed.admin_port.get_or_insert(client + nodes);
        packed.peer_port.get_or_insert(client + 2 * nodes);
        packed.core_client_port.get_or_insert(client + 2 * nodes + per_core);
        Ok((Self::new(&packed, client)?, blocks))
    }

    /// The same for ports that were found before, if nobody else has them now.
    pub fn hold(&self) -> Option<PortBlocks> {
        PortBlocks::hold_those_of(self.all().into_iter().map(|(port, _)| port))
    }

    /// Node `id`'s address for clients.
    pub fn client(&self, id: u8) -> SocketAddr {
        local(self.client + u16::from(id))
    }

    /// Node `id`'s address for peers: that of its core 0.
    pub fn peer(&self, id: u8) -> SocketAddr {
        local(self.peer + u16::from(id) * core_step(self.cores))
    }

    /// Node `id`'s address for operators.
    pub fn admin(&self, id: u8) -> SocketAddr {
        local(self.admin + u16::from(id))
    }

    /// Node `id`'s first port for clients of one core; `None` with a single core, whose port would
    /// be a second name for the same.
    pub fn core_client(&self, id: u8) -> Option<u16> {
        (self.cores > 1).then(|| self.core_client + u16::from(id) * core_step(self.cores))
    }

    /// Checks that nobody listens on any of the ports.
    ///
    /// # Errors
    ///
    /// Names the first that cannot be bound.
    pub fn check_free(&self) -> Result<(), PortsError> {
        for (port, purpose) in self.all() {
            // The standard library sets SO_REUSEADDR, so remains of closed connections do not
            // count.
            if let Err(error) = TcpListener::bind(local(port)) {
                return Err(PortsError::Taken { port, purpose, error });
            }
        }
        Ok(())
    }

    fn all(&self) -> Vec<(u16, String)> {
        let mut all = Vec::new();
        for id in 0..self.nodes {
            all.push((self.client(id).port(), format!("clients of node {id}")));
            all.push((self.admin(id).port(), format!("admin endpoint of node {id}")));
            for core in 0..self.cores {
                all.push((self.peer(id).port() + core, format!("peers of node {id} core {core}")));
                if let Some(first) = self.core_client(id) {
                    all.push((first + core, format!("clients of node {id} core {core}")));
                }
            }
        }
        all
    }

    fn check(&self) -> Result<(), PortsError> {
        let step = core_step(self.cores);
        for (option, first, step) in [
            ("client-port", self.client, 1),
            ("peer-port", self.peer, step),
            ("admin-port", self.admin, 1),
            ("core-client-port", self.core_client, step),
        ] {
            let last = u32::from(first) + u32::from(self.nodes) * u32::from(step);
            if last > u32::from(u16::MAX) || first == 0 {
                return Err(PortsError::TooHigh { option, port: first });
            }
        }
        let mut all = self.all();
        all.sort();
        match all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(PortsError::Twice {
                port: pair[0].0,
                first: pair[0].1.clone(),
                second: pair[1].1.clone(),
            }),
            None => Ok(()),
        }
    }
}

fn core_step(cores: u16) -> u16 {
    cores.max(CORE_STEP_MIN)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser;

    use super::{Ports, PortsError};
    use crate::arguments::{Arguments, Command, DevStart};

    fn arguments(words: &[&str]) -> DevStart {
        let all = ["certus", "dev"].iter().chain(words);
        let Command::Dev(dev) = Arguments::parse_from(all).command else { panic!("not dev") };
        dev.start
    }

    #[test]
    fn ports_follow_from_the_client_port() {
        let ports = Ports::new(&arguments(&["--cores", "2"]), 7000).unwrap();
        assert_eq!(ports.client(2).port(), 7002);
        assert_eq!(ports.peer(2).port(), 7120);
        assert_eq!(ports.admin(2).port(), 7202);
        assert_eq!(ports.core_client(2), Some(7320));
        let single = Ports::new(&arguments(&["--peer-port", "9000"]), 7000).unwrap();
        assert_eq!((single.peer(1).port(), single.core_client(1)), (9010, None));
        let wide = Ports::new(&arguments(&["--cores", "16"]), 7000).unwrap();
        assert_eq!(wide.peer(1).port(), 7116);
    }

    #[test]
    fn ports_that_meet_or_do_not_exist_are_refused() {
        let error = Ports::new(&arguments(&["--admin-port", "7002"]), 7000).unwrap_err();
        assert!(matches!(error, PortsError::Twice { port: 7002, .. }), "{error}");
        for client in [65_500, 65_534] {
            let error = Ports::new(&arguments(&[]), client).unwrap_err();
            assert!(matches!(error, PortsError::TooHigh { .. }), "{error}");
        }
    }

    #[test]
    fn a_port_somebody_listens_on_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        let words = ["--admin-port", &taken.to_string(), "--nodes", "1"].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (ports, _blocks) = Ports::find(&arguments(&["--nodes", "1"]), 0).unwrap();
        let error = Ports::new(&arguments(&words), ports.client(0).port())
            .unwrap()
            .check_free()
            .unwrap_err();
        assert!(matches!(error, PortsError::Taken { port, .. } if port == taken), "{error}");
    }

    #[test]
    fn found_ports_are_free_and_distinct() {
        let (ports, _) = Ports::find(&arguments(&["--nodes", "5", "--cores", "3"]), 7).unwrap();
        ports.check_free().unwrap();
    }

    #[test]
    fn clusters_that_look_for_ports_at_once_find_different_ones() {
        let arguments = arguments(&["--cores", "2"]);
        let found: Vec<_> =
            (60..64).map(|process| Ports::find(&arguments, process).unwrap()).collect();
        let mut all: Vec<u16> =
            found.iter().flat_map(|(ports, _)| ports.all()).map(|(port, _)| port).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
