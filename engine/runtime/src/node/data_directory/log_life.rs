//! Whose log a core's is: the bytes of `core-N/log`. A core that put a damaged log aside begins
//! another one under an incarnation of its own, so that no frame of the old log is ever taken for
//! one of the new. Without the fact, the log began with the data directory and has its incarnation.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0     16  incarnation of the log
//!     16      4  generation of the node in which it began
//! ```

use std::path::Path;

use plog::identity::LogIdentity;
use plog::vocabulary::Generation;

use crate::node::data_directory::contents::core_directory;
use crate::node::data_directory::error::Result;
use crate::node::data_directory::facts::{Noted, find_fact, write_fact};
use crate::node::data_directory::identity::DirectoryIdentity;
use crate::node::two_copies::FactKind;

pub(super) const LOG: FactKind = FactKind { name: "log", magic: *b"CertLogI", version: 1 };

/// A log that began after its node did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLife {
    /// Stands in its files in the place of the node's.
    pub incarnation: u128,
    /// The node's, when it began.
    pub generation: Generation,
}

impl LogLife {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.incarnation.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.generation.0.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 20] = bytes.try_into().ok()?;
        Some(Self {
            incarnation: u128::from_le_bytes(bytes[..16].try_into().ok()?),
            generation: Generation(u32::from_le_bytes(bytes[16..].try_into().ok()?)),
        })
    }
}

/// What is noted of the log in a core's `directory`. Changes nothing.
///
/// # Errors
///
/// When neither copy that is there is usable, or one is of a newer version.
pub fn load_log_life(directory: &Path) -> Result<Option<LogLife>> {
    Ok(find(directory)?.map(|noted| noted.fact))
}

fn find(directory: &Path) -> Result<Option<Noted<LogLife>>> {
    // A crash between the two leaves the first ahead, and neither log with anything in it.
    find_fact(directory, &LOG, LOG.name, LogLife::decode, |[first, _]| Some(first))
}

/// Makes durable whose log the one in a core's `directory` is, in both copies.
///
/// # Errors
///
/// When it cannot be made durable.
pub fn write_log_life(directory: &Path, life: &LogLife) -> Result<()> {
    write_fact(directory, &LOG, &life.encode())
}

/// Whose log the one of `core` is, under the data directory `path` of `identity`. Changes nothing.
///
/// # Errors
///
/// As [`load_log_life`].
pub fn log_identity(path: &Path, identity: &DirectoryIdentity, core: u16) -> Result<LogIdentity> {
    Ok(of_life(identity, core, load_log_life(&core_directory(path, core))?))
}

/// Like [`log_identity`], and makes both copies of the fact whole again and equal, if one is not.
///
/// # Errors
///
/// As [`load_log_life`], and when a copy cannot be made durable.
pub fn repair_log_identity(
    path: &Path,
    identity: &DirectoryIdentity,
    core: u16,
) -> Result<LogIdentity> {
    let directory = core_directory(path, core);
    let noted = find(&directory)?;
    if let Some(Noted { fact, copies_agree: false }) = &noted {
        write_log_life(&directory, fact)?;
    }
    Ok(of_life(identity, core, noted.map(|noted| noted.fact)))
}

fn of_life(identity: &DirectoryIdentity, core: u16, life: Option<LogLife>) -> LogIdentity {
    let first = identity.first_log(core);
    LogIdentity { incarnation: life.map_or(first.incarnation, |life| life.incarnation), ..first }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::Generation;

    use super::{DirectoryIdentity, LogLife, load_log_life, log_identity};
    use super::{repair_log_identity, write_log_life};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn a_log_has_the_nodes_incarnation_until_it_has_its_own() {
        let directory = TestDirectory::new();
        let core = directory.path().join("core-1");
        std::fs::create_dir(&core).unwrap();
        let node = DirectoryIdentity {
            cluster_id: 7,
            node_id: 1,
            replicas: 3,
            core_count: 2,
            incarnation: 99,
        };
        let of_the_log = || log_identity(directory.path(), &node, 1).unwrap().incarnation;
        assert_eq!(of_the_log(), 99);
        let life = LogLife { incarnation: 5, generation: Generation(2) };
        write_log_life(&core, &life).unwrap();
        assert_eq!(of_the_log(), 5);
        for lost in ["log", "log.copy"] {
            std::fs::write(core.join(lost), b"noise").unwrap();
            assert_eq!(load_log_life(&core).unwrap(), Some(life));
            let repaired = repair_log_identity(directory.path(), &node, 1).unwrap();
            assert_eq!(repaired.incarnation, 5);
            let [first, second] = ["log", "log.copy"].map(|name| std::fs::read(core.join(name)));
            assert_eq!(first.unwrap(), second.unwrap());
        }
        for lost in ["log", "log.copy"] {
            std::fs::write(core.join(lost), b"noise").unwrap();
        }
        // What is damaged everywhere is not taken for what was never there.
        assert!(log_identity(directory.path(), &node, 1).is_err());
    }
}
