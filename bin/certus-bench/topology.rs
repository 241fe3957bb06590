//! Which servers there are, and which of them answers for a key.
//!
//! Asked once at the start, with blocking calls: whatever fails here is told to the user before
//! anything is measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::arguments::{Arguments, Route};
use crate::command::push_command;
use crate::reply::{ProtocolError, Reply, read_reply};
use crate::slot::{SLOT_COUNT, slot_of};

/// How long a server may take to accept a connection at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server may take to answer at the start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Position of a server in [`Topology::nodes`].
pub type NodeIndex = u16;

/// A server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// As the user or CLUSTER SLOTS names it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The servers, and in which order a client tries them for a key.
#[derive(Debug)]
pub struct Topology {
    /// Every server: first those of the command line, then those CLUSTER SLOTS names.
    pub nodes: Vec<Node>,
    /// The route in use.
    pub route: Route,
    /// Servers that could not be reached at the start, with the reason.
    pub unreachable: Vec<String>,
    /// Lists of servers, most wanted first.
    orders: Vec<Vec<NodeIndex>>,
    /// Position in `orders` per slot; used by [`Route::Preferred`] only.
    order_of_slot: Vec<u16>,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// An address is none.
    #[error(
        "address {name:?} cannot be used ({reason}): give HOST:PORT, for example 127.0.0.1:7000"
    )]
    BadAddress {
        /// As given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No server can be connected.
    #[error("cannot connect to any server: {0}: start the server, or correct --addr")]
    NoServer(String),
    /// `AUTH` failed.
    #[error("{name} refused AUTH ({reason}): correct --password")]
    WrongPassword {
        /// The server.
        name: String,
        /// Its words.
        reason: String,
    },
    /// `--route preferred` was asked for and cannot be had.
    #[error("{name} does not answer CLUSTER SLOTS ({reason}): use --route spread or first")]
    NoSlots {
        /// The server.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// Why one server did not answer one command.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

impl Topology {
    /// Connects to the servers once and decides the routes.
    ///
    /// # Errors
    ///
    /// Returns a [`TopologyError`] when no server answers or `--route preferred` cannot be had.
    pub fn discover(arguments: &Arguments) -> Result<Self, TopologyError> {
        let nodes =
            arguments.addr.iter().map(|name| resolve(name)).collect::<Result<Vec<_>, _>>()?;
        let mut unreachable = Vec::new();
        let mut reached = None;
        for node in &nodes {
            match TcpStream::connect_timeout(&node.address, CONNECT_TIMEOUT) {
                Ok(stream) if reached.is_none() => reached = Some((node, stream)),
                Ok(_) => {}
                Err(error) => unreachable.push(format!("{} ({error})", node.name)),
            }
        }
        let Some((node, mut stream)) = reached else {
            return Err(TopologyError::NoServer(unreachable.join(", ")));
        };
        if let Some(password) = &arguments.password {
            authenticate(node, &mut stream, password)?;
        }
        let wants_slots = match arguments.route {
            Some(route) => route == Route::Preferred,
            None => nodes.len() > 1,
        };
        let ranges =
            if wants_slots { cluster_slots(node, &mut stream).map(Some) } else { Ok(None) };
        let ranges = match ranges {
            Ok(ranges) => ranges,
            Err(reason) if arguments.route == Some(Route::Preferred) => {
                return Err(TopologyError::NoSlots { name: node.name.clone(), reason });
            }
            Err(_) => None,
        };
        let mut topology = match ranges {
            Some(ranges) => Self::preferred(nodes, ranges),
            None => Self::rotating(nodes, arguments.route.unwrap_or(Route::Spread)),
        };
        topology.unreachable = unreachable;
        Ok(topology)
    }

    /// Routes by client: client i begins at address i ([`Route::Spread`]) or 0.
    fn rotating(nodes: Vec<Node>, route: Route) -> Self {
        let orders = (0..nodes.len())
            .map(|first| {
                let mut order: Vec<NodeIndex> = (0..nodes.len()).map(node_index).collect();
                order.rotate_left(first);
                order
            })
            .collect();
        Self { nodes, route, unreachable: Vec::new(), orders, order_of_slot: Vec::new() }
    }

    /// Routes by slot, to the replicas in the order named, then to any address given.
    fn preferred(given: Vec<Node>, ranges: Vec<SlotRange>) -> Self {
        let given_count = given.len();
        let mut nodes = given;
        // Order 0 serves slots that no range covers.
        let mut orders = vec![(0..given_count).map(node_index).collect::<Vec<_>>()];
        let mut order_of_slot = vec![0; SLOT_COUNT];
        for range in ranges {
            let mut order = Vec::new();
            for node in range.replicas {
                let known = nodes.iter().position(|known| known.address == node.address);
                let index = known.unwrap_or_else(|| {
                    nodes.push(node);
                    nodes.len() - 1
                });
                order.push(node_index(index));
            }
            let rest = (0..given_count).map(node_index).filter(|index| !order.contains(index));
            order.extend(rest.collect::<Vec<_>>());
            let position = orders.iter().position(|known| *known == order).unwrap_or_else(|| {
                orders.push(order);
                orders.len() - 1
            });
            order_of_slot[range.first..=range.last].fill(node_index(position));
        }
        Self { nodes, route: Route::Preferred, unreachable: Vec::new(), orders, order_of_slot }
    }

    /// Returns the servers for `key` in the order in which `client` tries them.
    pub fn order(&self, client: usize, key: &[u8]) -> &[NodeIndex] {
        let position = match self.route {
            Route::Preferred => usize::from(self.order_of_slot[slot_of(key)]),
            Route::Spread => client % self.orders.len(),
            Route::First => 0,
        };
        &self.orders[position]
    }
}

/// The replicas of the slots `first..=last`, preferred one first.
#[derive(Clone, Debug, Eq, PartialEq)]
struct SlotRange {
    first: usize,
    last: usize,
    replicas: Vec<Node>,
}

fn node_index(index: usize) -> NodeIndex {
    NodeIndex::try_from(index).expect("a cluster has fewer than 65536 servers and slot ranges")
}

fn resolve(name: &str) -> Result<Node, TopologyError> {
    let bad = |reason: String| TopologyError::BadAddress { name: name.to_owned(), reason };
    let address = name
        .to_socket_addrs()
        .map_err(|error| bad(error.to_string()))?
        .next()
        .ok_or_else(|| bad("the name has no address".to_owned()))?;
    Ok(Node { name: name.to_owned(), address })
}

fn authenticate(node: &Node, stream: &mut TcpStream, password: &str) -> Result<(), TopologyError> {
    let refused = |reason: String| TopologyError::WrongPassword { name: node.name.clone(), reason };
    ask(stream, &[b"AUTH", password.as_bytes()], |reply| match reply {
        Reply::Error(text) => Err(refused(String::from_utf8_lossy(text).into_owned())),
        _ => Ok(()),
    })
    .map_err(|error| refused(error.to_string()))?
}

fn cluster_slots(node: &Node, stream: &mut TcpStream) -> Result<Vec<SlotRange>, String> {
    ask(stream, &[b"CLUSTER", b"SLOTS"], |reply| match reply {
        Reply::Error(text) => Err(String::from_utf8_lossy(text).into_owned()),
        reply => slot_ranges(node, reply)
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| "its reply names no slot ranges".to_owned()),
    })
    .map_err(|error| error.to_string())?
}

/// Reads `[[first, last, [host, port, …]…]…]`; `None` when the reply is something else.
fn slot_ranges(asked: &Node, reply: &Reply<'_>) -> Option<Vec<SlotRange>> {
    let Reply::Array(items) = reply else { return None };
    items
        .iter()
        .map(|item| {
            let Reply::Array(fields) = item else { return None };
            let [Reply::Integer(first), Reply::Integer(last), replicas @ ..] = &fields[..] else {
                return None;
            };
            let first = usize::try_from(*first).ok()?;
            let last = usize::try_from(*last).ok().filter(|&last| last < SLOT_COUNT)?;
            let replicas =
                replicas.iter().map(|replica| slot_node(asked, replica)).collect::<Option<_>>()?;
            (first <= last).then_some(SlotRange { first, last, replicas })
        })
        .collect()
}

/// Reads `[host, port, …]`; a host that is nil, empty or `?` is the one that was asked.
fn slot_node(asked: &Node, reply: &Reply<'_>) -> Option<Node> {
    let Reply::Array(fields) = reply else { return None };
    let [host, Reply::Integer(port), ..] = &fields[..] else { return None };
    let port = u16::try_from(*port).ok()?;
    match host {
        Reply::Nil | Reply::Bulk(b"" | b"?") => {
            let address = SocketAddr::new(asked.address.ip(), port);
            Some(Node { name: address.to_string(), address })
        }
        Reply::Bulk(host) | Reply::Simple(host) => {
            let host = std::str::from_utf8(host).ok()?;
            let address = (host, port).to_socket_addrs().ok()?.next()?;
            Some(Node { name: address.to_string(), address })
        }
        Reply::Error(_) | Reply::Integer(_) | Reply::Array(_) => None,
    }
}

/// Sends one command and hands its reply to `read`.
fn ask<T>(
    stream: &mut TcpStream,
    command: &[&[u8]],
    read: impl Fn(&Reply<'_>) -> T,
) -> Result<T, AskError> {
    let mut bytes = Vec::new();
    push_command(&mut bytes, command);
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&bytes)?;
    bytes.clear();
    let mut chunk = [0; 16 * 1024];
    loop {
        let size = stream.read(&mut chunk)?;
        if size == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend_from_slice(&chunk[..size]);
        if let Some((reply, _)) = read_reply(&bytes)? {
            return Ok(read(&reply));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Topology, slot_ranges};
    use crate::arguments::Route;
    use crate::reply::read_reply;

    fn node(port: u16) -> Node {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        Node { name: address.to_string(), address }
    }

    const SLOTS: &[u8] = b"*2\r\n\
        *4\r\n:0\r\n:8191\r\n*2\r\n$0\r\n\r\n:7000\r\n*2\r\n$9\r\n127.0.0.1\r\n:7101\r\n\
        *3\r\n:8192\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:7101\r\n$2\r\nid\r\n";

    #[test]
    fn the_preferred_node_of_a_slot_comes_first_and_every_address_is_a_way_out() {
        let (reply, _) = read_reply(SLOTS).unwrap().unwrap();
        let ranges = slot_ranges(&node(7000), &reply).unwrap();
        let topology = Topology::preferred(vec![node(7000), node(7001)], ranges);
        assert_eq!(topology.nodes, [node(7000), node(7001), node(7101)]);
        // "bar" is in slot 5061, "foo" in 12182.
        assert_eq!(topology.order(9, b"bar"), [0, 2, 1]);
        assert_eq!(topology.order(9, b"foo"), [2, 0, 1]);
    }

    #[test]
    fn a_reply_that_is_no_slot_list_is_refused() {
        for bytes in [&b"+OK\r\n"[..], b"*1\r\n:1\r\n", b"*1\r\n*2\r\n:9\r\n:16384\r\n"] {
            let (reply, _) = read_reply(bytes).unwrap().unwrap();
            assert_eq!(slot_ranges(&node(1), &reply), None);
        }
    }

    #[test]
    fn spread_clients_begin_at_different_addresses() {
        let topology = Topology::rotating(vec![node(1), node(2), node(3)], Route::Spread);
        assert_eq!(topology.order(4, b"k"), [1, 2, 0]);
        let topology = Topology::rotating(vec![node(1), node(2), node(3)], Route::First);
        assert_eq!(topology.order(4, b"k"), [0, 1, 2]);
    }
}
