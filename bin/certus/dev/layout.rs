//! Where everything of a development cluster is, and the configuration files that say so to the
//! nodes.
//!
//! ```text
//! DIR/cluster.json           only while the cluster runs
//! DIR/node-0/certusd.toml    configuration, kept once written
//! DIR/node-0/certusd.log     what the node said, appended
//! DIR/node-0/data            the node's data directory
//! ```
//!
//! A directory that holds a cluster is started as that cluster or not at all: with other ports or
//! another number of nodes its members would look for each other in vain. What a user added to a
//! configuration file stays as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use plog::backup_manifest::BackupNumber;
use toml::{Table, Value};

use crate::arguments::DevStart;
use crate::dev::port_blocks::PortBlocks;
use crate::dev::ports::{Ports, PortsError};

const CONFIG_FILE: &str = "certusd.toml";
const LOG_FILE: &str = "certusd.log";
const DATA_DIRECTORY: &str = "data";
const NODE_PREFIX: &str = "node-";

/// A cluster on this machine.
#[derive(Debug)]
pub struct Layout {
    /// Its directory, absolute.
    pub directory: PathBuf,
    /// Its members, by id.
    pub nodes: Vec<NodePlace>,
    /// The ports of all of them.
    pub ports: Ports,
    /// What keeps other clusters from them, if they were found and not given.
    pub port_blocks: Option<PortBlocks>,
    cluster_id: u64,
}

/// Where a node is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePlace {
    /// Its index in the replica set.
    pub id: u8,
    /// Where it serves clients.
    pub client: SocketAddr,
    /// Where its core 0 listens for peers.
    pub peer: SocketAddr,
    /// Where it answers operators.
    pub admin: SocketAddr,
    /// Its identity and log.
    pub data_directory: PathBuf,
    /// Its configuration.
    pub config_file: PathBuf,
    /// What it says.
    pub log_file: PathBuf,
}

/// Why there is no cluster to start.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The operating system refuses.
    #[error("{}: {error}; choose a directory that can be written with --dir", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Its reason.
        error: io::Error,
    },
    /// A configuration file that is none.
    #[error("{}: {error}; correct it, or choose another --dir", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The directory holds a cluster of another shape.
    #[error(
        "{} says {key} = {found}, but these arguments make it {wanted}: start this cluster with \
         the arguments it was made with, or choose another --dir",
        path.display()
    )]
    Different {
        /// The file.
        path: PathBuf,
        /// In which key.
        key: String,
        /// What the file says.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The directory holds more nodes.
    #[error(
        "{} holds a node {id}, but these arguments make {nodes} nodes: start this cluster with the \
         --nodes it was made with, or choose another --dir",
        directory.display()
    )]
    MoreNodes {
        /// The directory.
        directory: PathBuf,
        /// The node that is too many.
        id: u8,
        /// How many were asked for.
        nodes: u8,
    },
    /// The ports do not fit.
    #[error("{0}")]
    Ports(#[from] PortsError),
    /// Nothing there.
    #[error("{} holds no cluster: name the --dir that `certus dev` printed", directory.display())]
    NoCluster {
        /// The directory.
        directory: PathBuf,
    },
}

type Result<T> = std::result::Result<T, LayoutError>;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |error| LayoutError::Io { path, error }
}

impl Layout {
    /// The cluster that `arguments` ask for, with its files in place.
    ///
    /// # Errors
    ///
    /// When the directory holds another one, or cannot be used. Nothing is written then.
    pub fn prepare(arguments: &DevStart) -> Result<Self> {
        let directory = match &arguments.dir {
            Some(directory) => {
                fs::create_dir_all(directory).map_err(failed(directory))?;
                directory.clone()
            }
            None => fresh_directory()?,
        };
        let directory = fs::canonicalize(&directory).map_err(failed(&directory))?;
        let existing = existing_configs(&directory)?;
        let nodes = arguments.nodes;
        if let Some(&id) = existing.keys().next_back().filter(|&&id| id >= nodes) {
            return Err(LayoutError::MoreNodes { directory, id, nodes });
        }
        let (ports, port_blocks) = match (arguments.client_port, existing.get(&0)) {
            (0, Some(config)) => {
                let ports = kept_ports(arguments, config, &directory)?;
                (ports, ports.hold())
            }
            (0, None) => {
                let (ports, blocks) = Ports::find(arguments, std::process::id())?;
                (ports, Some(blocks))
            }
            (client_port, _) => (Ports::new(arguments, client_port)?, None),
        };
        let cluster_id = match existing.first_key_value() {
            Some((&id, config)) => cluster_id_of(config, &config_file(&directory, id))?,
            None => random_cluster_id()?,
        };
        let nodes = (0..nodes).map(|id| NodePlace::new(&directory, id, &ports)).collect();
        let layout = Self { directory, nodes, ports, port_blocks, cluster_id };
        for place in &layout.nodes {
            let wanted = layout.config(arguments, place.id);
            if let Some(config) = existing.get(&place.id) {
                compare(&place.config_file, config, &wanted)?;
            }
        }
        for place in &layout.nodes {
            if !existing.contains_key(&place.id) {
                let wanted = layout.config(arguments, place.id);
                write_config(place, wanted)?;
            }
        }
        Ok(layout)
    }

    /// The cluster's id, as it is written everywhere.
    pub fn cluster_id(&self) -> String {
        format!("{:#018x}", self.cluster_id)
    }

    /// The configuration of a node, as far as the layout and the user's settings determine it.
    fn config(&self, arguments: &DevStart, id: u8) -> Table {
        let ports = &self.ports;
        let place = &self.nodes[usize::from(id)];
        let mut table = Table::new();
        let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
        put("cluster_id", self.cluster_id().into());
        put("node_id", i64::from(id).into());
        put("data_directory", place.data_directory.display().to_string().into());
        put("cores", i64::from(arguments.cores).into());
        put("client_address", place.client.to_string().into());
        put("peer_address", place.peer.to_string().into());
        put("admin_address", place.admin.to_string().into());
        put("core_client_port_first", i64::from(ports.core_client(id).unwrap_or(0)).into());
        let members = self.nodes.iter().map(|member| {
            let mut table = Table::new();
            table.insert("id".to_owned(), i64::from(member.id).into());
            table.insert("client".to_owned(), member.client.to_string().into());
            table.insert("peer".to_owned(), member.peer.to_string().into());
            if let Some(first) = ports.core_client(member.id) {
                table.insert("cores".to_owned(), i64::from(arguments.cores).into());
                table.insert("core_client_port_first".to_owned(), i64::from(first).into());
            }
            Value::Table(table)
        });
        put("node", Value::Array(members.collect()));
        for setting in &arguments.set {
            setting.put_into(&mut table);
        }
        table
    }
}

impl NodePlace {
    fn new(directory: &Path, id: u8, ports: &Ports) -> Self {
        let node = node_directory(directory, id);
        Self {
            id,
            client: ports.client(id),
            peer: ports.peer(id),
            admin: ports.admin(id),
            data_directory: node.join(DATA_DIRECTORY),
            config_file: node.join(CONFIG_FILE),
            log_file: node.join(LOG_FILE),
        }
    }
}

/// The nodes whose configurations stand in `directory`: configuration file and data directory.
///
/// # Errors
///
/// When there are none, or the directory cannot be read.
pub fn nodes_in(directory: &Path) -> Result<Vec<(u8, PathBuf, PathBuf)>> {
    let directory = fs::canonicalize(directory).map_err(failed(directory))?;
    let existing = existing_configs(&directory)?;
    if existing.is_empty() {
        return Err(LayoutError::NoCluster { directory });
    }
    let node = |id: &u8| {
        let data_directory = node_directory(&directory, *id).join(DATA_DIRECTORY);
        (*id, config_file(&directory, *id), data_directory)
    };
    Ok(existing.keys().map(node).collect())
}

fn node_directory(directory: &Path, id: u8) -> PathBuf {
    directory.join(format!("{NODE_PREFIX}{id}"))
}

fn config_file(directory: &Path, id: u8) -> PathBuf {
    node_directory(directory, id).join(CONFIG_FILE)
}

fn existing_configs(directory: &Path) -> Result<BTreeMap<u8, Table>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let name = entry.map_err(failed(directory))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(NODE_PREFIX)?.parse().ok());
        let Some(id) = id else { continue };
        let path = config_file(directory, id);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path)(error)),
        };
        let table = toml::from_str(&text).map_err(|error: toml::de::Error| {
            LayoutError::Unreadable { path, error: error.message().to_owned() }
        })?;
        found.insert(id, table);
    }
    Ok(found)
}

/// The ports that the configuration of node 0 says, so that a cluster on found ports starts again
/// on them.
fn kept_ports(arguments: &DevStart, config: &Table, directory: &Path) -> Result<Ports> {
    let port = |key: &str| {
        let address = config.get(key).and_then(Value::as_str).unwrap_or("");
        address.parse().map(|address: SocketAddr| address.port()).map_err(|_| {
            LayoutError::Unreadable {
                path: config_file(directory, 0),
                error: format!("{key} is `{address}`, no address"),
            }
        })
    };
    let mut kept = arguments.clone();
    kept.peer_port.get_or_insert(port("peer_address")?);
    kept.admin_port.get_or_insert(port("admin_address")?);
    let first = config.get("core_client_port_first").and_then(Value::as_integer);
    if let Some(first) = first.and_then(|first| u16::try_from(first).ok()).filter(|&port| port > 0)
    {
        kept.core_client_port.get_or_insert(first);
    }
    Ok(Ports::new(&kept, port("client_address")?)?)
}

fn cluster_id_of(config: &Table, path: &Path) -> Result<u64> {
    let text = config.get("cluster_id").and_then(Value::as_str).unwrap_or("");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(|_| LayoutError::Unreadable {
        path: path.to_owned(),
        error: format!("cluster_id is `{text}`, no hexadecimal number"),
    })
}

/// Checks that `found` says what `wanted` says; it may say more.
fn compare(path: &Path, found: &Table, wanted: &Table) -> Result<()> {
    for (key, wanted) in wanted {
        let different = |key: &str, found: Option<&Value>, wanted: &Value| {
            let word = |value: &Value| value.to_string();
            Err(LayoutError::Different {
                path: path.to_owned(),
                key: key.to_owned(),
                found: found.map_or_else(|| "nothing".to_owned(), word),
                wanted: word(wanted),
            })
        };
        match (found.get(key), wanted) {
            (Some(Value::Table(found)), Value::Table(wanted)) => {
                for (inner, wanted) in wanted {
                    if found.get(inner) != Some(wanted) {
                        return different(&format!("{key}.{inner}"), found.get(inner), wanted);
                    }
                }
            }
            (Some(found), wanted) if found == wanted => {}
            (found, wanted) => return different(key, found, wanted),
        }
    }
    Ok(())
}

fn write_config(place: &NodePlace, mut config: Table) -> Result<()> {
    // Three nodes pinned to the same two CPUs would wait for each other; the system spreads them.
    config.entry("pin_cores").or_insert(Value::Boolean(false));
    let text = format!(
        "# Written by `certus dev`. Further keys may be added; certusd.example.toml explains \
         them.\n\n{}",
        toml::to_string(&config).expect("a table of plain values")
    );
    let node = place.config_file.parent().expect("the file stands in the node's directory");
    fs::create_dir_all(node).map_err(failed(node))?;
    fs::write(&place.config_file, text).map_err(failed(&place.config_file))
}

fn fresh_directory() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    for number in 0..1000_u32 {
        let path = base.join(format!("certus-dev-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path)(error)),
        }
    }
    Err(failed(&base)(io::Error::from(io::ErrorKind::AlreadyExists)))
}

fn random_cluster_id() -> Result<u64> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    let mut file = File::open(source).map_err(failed(source))?;
    loop {
        file.read_exact(&mut bytes).map_err(failed(source))?;
        let id = u64::from_le_bytes(bytes);
        // Zero is no cluster's id, and those that name a backup are of clusters made from it.
        if id != 0 && BackupNumber::of_cluster(id).is_none() {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use clap::Parser;

    use super::{Layout, LayoutError, fresh_directory, nodes_in};
    use crate::arguments::{Arguments, Command, DevStart};

    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn arguments(place: &Place, words: &[&str]) -> DevStart {
        let directory = place.0.display().to_string();
        let all = ["certus", "dev", "--dir", &directory];
        let all = all.iter().chain(words);
        let Command::Dev(dev) = Arguments::parse_from(all).command else { panic!("not dev") };
        dev.start
    }

    fn place() -> Place {
        Place(fresh_directory().unwrap())
    }

    #[test]
    fn a_directory_is_started_again_as_the_same_cluster() {
        let place = place();
        let words = ["--client-port", "0", "--set", "log.spare_segments=1"];
        let first = Layout::prepare(&arguments(&place, &words)).unwrap();
        // What a user adds stays, and does not make it another cluster.
        let config = &first.nodes[1].config_file;
        let text = fs::read_to_string(config).unwrap();
        let text = text.replace("[log]\n", "[log]\nlazy_flush_ms = 100\n");
        assert!(text.contains("lazy_flush_ms"));
        fs::write(config, &text).unwrap();
        let second = Layout::prepare(&arguments(&place, &words)).unwrap();
        assert_eq!((first.cluster_id, &first.nodes), (second.cluster_id, &second.nodes));
        assert_eq!(fs::read_to_string(config).unwrap(), text);
        let nodes = nodes_in(&place.0).unwrap();
        let expected =
            first.nodes.iter().map(|n| (n.id, n.config_file.clone(), n.data_directory.clone()));
        assert_eq!(nodes, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_directory_of_another_shape_is_refused_with_the_difference() {
        let place = place();
        let prepare = |words: &[&str]| Layout::prepare(&arguments(&place, words));
        prepare(&[]).unwrap();
        for (words, key) in [
            (&["--client-port", "7010"][..], "admin_address"),
            (&["--peer-port", "7300"], "node"),
            (&["--cores", "2"], "core_client_port_first"),
            (&["--nodes", "5"], "node"),
            (&["--set", "log.spare_segments=5"], "log"),
        ] {
            let error = prepare(words).unwrap_err();
            let LayoutError::Different { key: found, .. } = &error else { panic!("{error}") };
            assert_eq!(found, key, "{error}");
        }
        let error = prepare(&["--nodes", "1"]).unwrap_err();
        assert!(matches!(error, LayoutError::MoreNodes { id: 2, nodes: 1, .. }), "{error}");
        assert!(!place.0.join("node-3").exists(), "nothing was written for five nodes");
    }

    #[test]
    fn a_directory_without_a_cluster_has_nothing_to_stop() {
        let place = place();
        assert!(matches!(nodes_in(&place.0), Err(LayoutError::NoCluster { .. })));
    }

    #[test]
    fn a_configuration_that_is_no_toml_is_named() {
        let place = place();
        let layout = Layout::prepare(&arguments(&place, &[])).unwrap();
        fs::write(&layout.nodes[2].config_file, "node_id 1").unwrap();
        let error = Layout::prepare(&arguments(&place, &[])).unwrap_err().to_string();
        assert!(error.contains("node-2/certusd.toml"), "{error}");
    }
}
