//! Which life of each peer this node has met, remembered for ever.
//!
//! A peer whose data directory was lost and made anew has forgotten its promises; counting its
//! votes could choose two values. Its directory then has a new incarnation, so a node remembers,
//! durably and before it answers the handshake, the first incarnation it met of each peer, and
//! refuses another one. Memory is one write-once cell per peer; on disk it is one fact per peer
//! in `peers/`, created so that of two cores meeting the same peer at once exactly one wins and
//! the other learns what was written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::node::log_line;
use crate::node::two_copies::{self, Copies, CopyError, FactKind};

/// Largest replica set.
pub(crate) const MEMBERS_MAX: usize = 5;

/// The files of what is remembered.
pub(crate) const KIND: FactKind = FactKind { name: "node-", magic: *b"CertPeer", version: 1 };

/// The remembered incarnations.
#[derive(Debug)]
pub struct KnownIncarnations {
    directory: PathBuf,
    known: [OnceLock<u128>; MEMBERS_MAX],
}

/// Why a remembered incarnation cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// A file is damaged, so that it is unknown which life of the peer was met.
    #[error(
        "{}: both copies of what is known of node {node_id} are unusable: the first {first}, the \
         second {second}; if that node still has its original data directory, remove both files, \
         and it is remembered anew",
        file.display()
    )]
    Damaged {
        /// The first file.
        file: PathBuf,
        /// The peer.
        node_id: u8,
        /// What is wrong with the first copy.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
    /// A file was written by a later version.
    #[error("{} {error}; start the version of Certus that wrote it", file.display())]
    Newer {
        /// The file, or the one whose copy it is.
        file: PathBuf,
        /// Which versions.
        error: CopyError,
    },
    /// Reading or writing failed.
    #[error("remembering node {node_id} in {}: {error}", directory.display())]
    Io {
        /// Where.
        directory: PathBuf,
        /// The peer.
        node_id: u8,
        /// Why.
        error: io::Error,
    },
    /// There is no such peer.
    #[error("node {node_id} is not in a replica set of at most {MEMBERS_MAX}")]
    NoSuchNode {
        /// The number given.
        node_id: u8,
    },
}

impl KnownIncarnations {
    /// Reads what is remembered in `directory`, which exists.
    ///
    /// # Errors
    ///
    /// When what is remembered of one peer is damaged in both copies, or a damaged copy cannot be
    /// repaired from the other.
    pub fn load(directory: &Path) -> Result<Self, IncarnationError> {
        let known = Self { directory: directory.to_owned(), known: Default::default() };
        for (index, cell) in known.known.iter().enumerate() {
            let node_id = u8::try_from(index).expect("at most five members");
            if let Some(incarnation) = known.read(node_id)? {
                let copies = Copies::read(directory, &KIND, &file_name(node_id));
                if !copies.agree() {
                    log_line::warn(
                        "one copy of a remembered incarnation was repaired from the other",
                        &[("node", &node_id)],
                    );
                    let fact = incarnation.to_le_bytes();
                    two_copies::write(directory, &KIND, &file_name(node_id), &fact).map_err(
                        |error| IncarnationError::Io {
                            directory: directory.to_owned(),
                            node_id,
                            error,
                        },
                    )?;
                }
                cell.set(incarnation).expect("each cell is set once, here");
            }
        }
        Ok(known)
    }

    /// The incarnation remembered of `node_id`, if it was ever met.
    #[must_use]
    pub fn lookup(&self, node_id: u8) -> Option<u128> {
        self.known.get(usize::from(node_id))?.get().copied()
    }

    /// Remembers `incarnation` durably unless one is remembered already, and returns the one that
    /// is: the caller must refuse the peer when it differs. Blocks on the disk at the first
    /// contact with a peer, and never again.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; the peer must then not be answered.
    pub fn remember(&self, node_id: u8, incarnation: u128) -> Result<u128, IncarnationError> {
        let cell =
            self.known.get(usize::from(node_id)).ok_or(IncarnationError::NoSuchNode { node_id })?;
        if let Some(known) = cell.get() {
            return Ok(*known);
        }
        let failed =
            |error| IncarnationError::Io { directory: self.directory.clone(), node_id, error };
        let name = file_name(node_id);
        // The first to create the file decides, also among cores that meet the peer at once; the
        // cell is set when that is durable, so whoever finds it set may answer.
        two_copies::write_once(&self.directory, &KIND, &name, &incarnation.to_le_bytes())
            .map_err(failed)?;
        let winner = self.read(node_id)?.ok_or_else(|| {
            failed(io::Error::new(io::ErrorKind::NotFound, "the file just written is gone"))
        })?;
        let winner = *cell.get_or_init(|| winner);
        Ok(winner)
    }

    fn read(&self, node_id: u8) -> Result<Option<u128>, IncarnationError> {
        let name = file_name(node_id);
        let copies = Copies::read(&self.directory, &KIND, &name);
        if copies.are_missing() {
            return Ok(None);
        }
        if let Some(error) = copies.newer() {
            let (file, error) = (self.directory.join(name), error.clone());
            return Err(IncarnationError::Newer { file, error });
        }
        let usable = |copy: &Result<Vec<u8>, CopyError>| {
            copy.as_ref().ok().and_then(|fact| decode_incarnation(fact))
        };
        match (usable(&copies.first), usable(&copies.second)) {
            // The first file is written first: where both are whole they say the same, unless
            // somebody edited them.
            (Some(first), Some(second)) if first != second => {
                Err(self.damaged(node_id, format!("says {first:#x}"), format!("says {second:#x}")))
            }
            (Some(known), _) | (None, Some(known)) => Ok(Some(known)),
            (None, None) => {
                let word = |copy: &Result<Vec<u8>, CopyError>| {
                    copy.as_ref()
                        .map_or_else(ToString::to_string, |_| "has a wrong size".to_owned())
                };
                Err(self.damaged(node_id, word(&copies.first), word(&copies.second)))
            }
        }
    }

    fn damaged(&self, node_id: u8, first: String, second: String) -> IncarnationError {
        let file = self.directory.join(file_name(node_id));
        IncarnationError::Damaged { file, node_id, first, second }
    }
}

/// The incarnation that `fact` holds; `None` when its length is wrong.
pub(crate) fn decode_incarnation(fact: &[u8]) -> Option<u128> {
    fact.try_into().ok().map(u128::from_le_bytes)
}

fn file_name(node_id: u8) -> String {
    format!("{}{node_id}", KIND.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::{IncarnationError, KnownIncarnations};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn the_first_incarnation_met_is_remembered_over_a_restart() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(known.lookup(2), None);
        assert_eq!(known.remember(2, 77).unwrap(), 77);
        assert_eq!(known.remember(2, 78).unwrap(), 77, "a second life is not remembered");
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!((again.lookup(2), again.lookup(1)), (Some(77), None));
        assert!(matches!(again.remember(5, 1), Err(IncarnationError::NoSuchNode { node_id: 5 })));
    }

    #[test]
    fn cores_that_meet_a_peer_at_once_agree_on_its_incarnation() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        let barrier = Barrier::new(4);
        let winners: Vec<u128> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4)
                .map(|incarnation| {
                    let (known, barrier) = (&known, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        known.remember(0, incarnation).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(winners.iter().all(|winner| *winner == winners[0]));
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(again.lookup(0), Some(winners[0]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_damaged_copy_is_repaired_and_two_damaged_copies_are_refused() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        known.remember(1, 9).unwrap();
        let [first, second] = ["node-1", "node-1.copy"].map(|name| directory.path().join(name));
        std::fs::write(&first, b"noise").unwrap();
        assert_eq!(KnownIncarnations::load(directory.path()).unwrap().lookup(1), Some(9));
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        std::fs::write(&first, b"noise").unwrap();
        std::fs::write(&second, b"noise").unwrap();
        let error = KnownIncarnations::load(directory.path()).unwrap_err();
        assert!(matches!(error, IncarnationError::Damaged { node_id: 1, .. }));
        assert!(error.to_string().contains("remove both files"));
    }
}
