//! Whose directory it is: what its `identity` says, in which bytes, and whether that is expected.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0      8  cluster
//!      8      1  node
//!      9      1  size of the replica set
//!     10      2  cores
//!     12     16  incarnation
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use plog::identity::LogIdentity;

use crate::node::config::{CORES_MAX, Config, FOLLOWER_ID_FIRST};
use crate::node::data_directory::error::{DataDirectoryError, Result};
use crate::node::two_copies::FactKind;

/// The file of the identity.
pub(super) const IDENTITY: FactKind =
    FactKind { name: "identity", magic: *b"CertIdnt", version: 1 };

/// Whose directory it is. `incarnation` is made when the directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryIdentity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u8,
    /// Size of the replica set.
    pub replicas: u8,
    /// Cores whose logs the directory holds.
    pub core_count: u16,
    /// This life of the node: random, never used twice.
    pub incarnation: u128,
}

/// What the configuration says the directory must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpectedIdentity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u8,
    /// Size of the replica set.
    pub replicas: u8,
    /// Cores; [`None`] takes over what the directory says, or `default_core_count` for a new one.
    pub core_count: Option<u16>,
    /// Cores of a new directory when `core_count` is `None`.
    pub default_core_count: u16,
}

impl ExpectedIdentity {
    /// By the configuration; `cpus` are those that the process may run on.
    #[must_use]
    pub fn of(config: &Config, cpus: &[usize]) -> Self {
        Self {
            cluster_id: config.cluster_id.0,
            node_id: config.node_id,
            replicas: config.replicas(),
            core_count: (config.cores != 0).then_some(config.cores),
            default_core_count: u16::try_from(cpus.len()).unwrap_or(CORES_MAX).clamp(1, CORES_MAX),
        }
    }
}

impl DirectoryIdentity {
    /// That of a directory which becomes a node's now.
    pub(super) fn new(expected: &ExpectedIdentity, incarnation: u128) -> Self {
        Self {
            cluster_id: expected.cluster_id,
            node_id: expected.node_id,
            replicas: expected.replicas,
            core_count: expected.core_count.unwrap_or(expected.default_core_count),
            incarnation,
        }
    }

    /// Whose the log is with which `core` began.
    pub(super) fn first_log(&self, core: u16) -> LogIdentity {
        let Self { cluster_id, node_id, incarnation, core_count, .. } = *self;
        LogIdentity { cluster: cluster_id, node: node_id, incarnation, core, core_count }
    }

    /// Its bytes in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&self.cluster_id.to_le_bytes());
        bytes.extend_from_slice(&[self.node_id, self.replicas]);
        bytes.extend_from_slice(&self.core_count.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes
    }

    /// The identity that `bytes` hold; `None` when their number is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 28] = bytes.try_into().ok()?;
        Some(Self {
            cluster_id: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            node_id: bytes[8],
            replicas: bytes[9],
            core_count: u16::from_le_bytes(bytes[10..12].try_into().ok()?),
            incarnation: u128::from_le_bytes(bytes[12..].try_into().ok()?),
        })
    }

    /// Refuses an identity that is not the one expected of the directory at `path`.
    pub(super) fn check(&self, path: &Path, expected: &ExpectedIdentity) -> Result<()> {
        let foreign = |what, found: String, key, expected: String, remedy| {
            Err(DataDirectoryError::Foreign {
                path: path.to_owned(),
                what,
                found,
                key,
                expected,
                remedy,
            })
        };
        if self.cluster_id != expected.cluster_id {
            let (found, wanted) =
                (format!("{:#x}", self.cluster_id), format!("{:#x}", expected.cluster_id));
            let remedy = "correct cluster_id or data_directory";
            return foreign("cluster", found, "cluster_id", wanted, remedy);
        }
        if self.node_id != expected.node_id {
            let (found, wanted) = (self.node_id.to_string(), expected.node_id.to_string());
            let is_follower = |node_id: u8| node_id >= FOLLOWER_ID_FIRST;
            let remedy = match (is_follower(self.node_id), is_follower(expected.node_id)) {
                (true, false) => {
                    "it is a follower's, who never voted, and can never become a replica's; \
                     correct node_id or data_directory"
                }
                (false, true) => {
                    "it is a replica's, who may have promised something, and can never become a \
                     follower's; correct node_id or data_directory"
                }
                _ => "correct node_id or data_directory",
            };
            return foreign("node", found, "node_id", wanted, remedy);
        }
        if self.replicas != expected.replicas {
            let found = format!("of {} nodes", self.replicas);
            let remedy = "the size of a replica set cannot be changed; list as many [[node]] \
                          tables as before";
            return foreign("a replica set", found, "node", expected.replicas.to_string(), remedy);
        }
        match expected.core_count {
            Some(wanted) if wanted != self.core_count => {
                let remedy = "entities are spread over cores, so the number cannot be changed; \
                              set it to what it was";
                let found = format!("with {} cores", self.core_count);
                foreign("a node", found, "cores", wanted.to_string(), remedy)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// 128 bits from the operating system's random source.
///
/// # Errors
///
/// When it cannot be read.
pub fn random_incarnation() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
