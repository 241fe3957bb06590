//! `DIR/cluster.json`: what runs where, for people and scripts, while the cluster runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the file in the cluster's directory.
const NAME: &str = "cluster.json";

/// The whole file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClusterFile {
    /// Names the cluster, in hexadecimal digits.
    pub cluster_id: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its nodes, by id.
    pub nodes: Vec<NodeRecord>,
}

/// One node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeRecord {
    /// Index in the replica set.
    pub id: u8,
    /// The process that was started; another one when somebody started the node again.
    pub pid: u32,
    /// Where it serves clients, HOST:PORT.
    pub client: String,
    /// Where its core 0 listens for peers.
    pub peer: String,
    /// Where it answers operators.
    pub admin: String,
    /// Its identity and log.
    pub data_directory: PathBuf,
    /// Its configuration.
    pub config_file: PathBuf,
    /// What it says.
    pub log_file: PathBuf,
    /// The command that starts this node alone: program and arguments.
    pub command: Vec<String>,
}

impl ClusterFile {
    /// Where the file stands.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(NAME)
    }

    /// Writes the file; who reads it meanwhile sees the old or the new one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn write(&self) -> io::Result<()> {
        let path = Self::path(&self.directory);
        let temporary = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&temporary, text + "\n")?;
        fs::rename(&temporary, &path)
    }

    /// Reads the file in `directory`.
    ///
    /// # Errors
    ///
    /// When there is none, or it is none.
    pub fn read(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(Self::path(directory))?)?)
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn remove(directory: &Path) -> io::Result<()> {
        match fs::remove_file(Self::path(directory)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
