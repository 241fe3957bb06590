//! The nodes, and the links between them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;
use crate::clock::{self, Clocks};
use crate::configuration;
use crate::disk::{Disk, Kind};
use crate::node::{Node, Place};
use crate::port_blocks::PortBlocks;
use crate::ports::Ports;
use crate::proxy::{Proxy, Rule, Way};

/// A cluster on this machine.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes, by id.
    pub nodes: Vec<Node>,
    /// What carries everything between them, and between them and clients.
    pub proxy: Proxy,
    /// Where clients find them, through the proxy.
    pub addresses: Vec<SocketAddr>,
    /// The daemon's program.
    certusd: PathBuf,
    /// The operator's program.
    pub certus: PathBuf,
    cores: usize,
    /// Keeps other runs from these ports.
    _port_blocks: PortBlocks,
}

/// A program that was built beside this one.
fn program(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    let reason =
        format!("{} is not there: build all programs, as scripts/nemesis does", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, reason))
}

impl Cluster {
    /// Lays everything out in `directory`, starts the proxy, and no node yet.
    pub fn prepare(
        arguments: &Arguments,
        directory: &Path,
        may_mount: bool,
        can_shift_clocks: bool,
    ) -> io::Result<Self> {
        let Arguments { nodes: count, cores, .. } = *arguments;
        let (ports, port_blocks) = Ports::find(count, cores, std::process::id())?;
        let library = if can_shift_clocks { Some(clock::make_library(directory)?) } else { None };
        let mut nodes = Vec::new();
        for id in 0..count {
            let own = directory.join(format!("node-{id}"));
            fs::create_dir_all(&own)?;
            let disk = Disk::make(own.join("disk"), may_mount)?;
            let place = Place {
                data_directory: disk.root.join("data"),
                config_file: own.join("certusd.toml"),
                log_file: own.join("certusd.log"),
                client: ports.client(id),
                peer: ports.peer(id, 0),
                admin: ports.admin(id),
            };
            let text = configuration::text(id, count, cores, &ports, &place.data_directory);
            fs::write(&place.config_file, text)?;
            let clocks = match &library {
                Some(library) => Some(Clocks::new(own.join("clock"), library)?),
                None => None,
            };
            nodes.push(Node::new(id, place, disk, clocks));
        }
        let proxy = Proxy::start(&ways(&ports, count, cores))?;
        Ok(Self {
            nodes,
            proxy,
            addresses: (0..count).map(|id| ports.client_link(id)).collect(),
            certusd: program("certusd")?,
            certus: program("certus")?,
            cores: cores.into(),
            _port_blocks: port_blocks,
        })
    }

    /// What the data of the nodes is on.
    pub fn disk_kind(&self) -> Kind {
        self.nodes[0].disk.kind
    }

    /// Starts a node, and does not wait for it.
    pub fn start(&mut self, id: u8) -> io::Result<()> {
        self.nodes[usize::from(id)].start(&self.certusd)
    }

    /// The node with this id.
    pub fn node(&mut self, id: u8) -> &mut Node {
        &mut self.nodes[usize::from(id)]
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> impl Iterator<Item = u8> + use<> {
        0..u8::try_from(self.nodes.len()).expect("five at most")
    }

    /// The link of clients to a node.
    pub fn client_link(&self, id: u8) -> usize {
        usize::from(id)
    }

    /// The links, one per core, on which `from` sends to `to`.
    pub fn peer_links(&self, from: u8, to: u8) -> Vec<usize> {
        let count = self.nodes.len();
        let first = count + (usize::from(from) * count + usize::from(to)) * self.cores;
        (first..first + self.cores).collect()
    }

    /// Ends what is connected through these links now, and lets it come again.
    pub fn reset_links(&self, links: &[usize]) {
        for link in links {
            self.proxy.reset(*link);
        }
    }

    /// These links do this from now on.
    pub fn set_links(&self, links: &[usize], rule: Rule) {
        for link in links {
            self.proxy.set(*link, rule);
        }
    }
}

/// The ways, in the order of [`Cluster::client_link`] and [`Cluster::peer_links`].
fn ways(ports: &Ports, nodes: u8, cores: u16) -> Vec<Way> {
    let clients = (0..nodes).map(|id| Way { from: ports.client_link(id), to: ports.client(id) });
    let mut ways: Vec<Way> = clients.collect();
    for from in 0..nodes {
        for to in 0..nodes {
            let link =
                |core| Way { from: ports.peer_link(from, to, core), to: ports.peer(to, core) };
            ways.extend((0..cores).map(link));
        }
    }
    ways
}
