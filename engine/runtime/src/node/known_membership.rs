//! By which configuration this node goes, remembered for ever and shared by its cores.
//!
//! Of a cluster whose members change (`replica_slots`) each node knows durably which configuration
//! it goes by and what it promised of the next ([`MembershipFacts`]), before anything leaves that
//! rests on it. At a node's first start the configuration is that of its file's `[[node]]` tables,
//! if it stands there itself; else it joins, and goes by none until it is told. Afterwards the file
//! only says where nodes are.
//!
//! All cores share it: what one adopts the others hear of at their next turn.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};

use engine::membership::MembershipVotes;
use plog::configuration::Configuration;

use crate::node::log_line;
use crate::node::membership_facts::{MEMBERSHIP, MembershipFacts};
use crate::node::two_copies::{self, Copies, CopyError};

/// It changes a few times in a cluster's life; who writes it holds it while the disk does.
#[expect(clippy::disallowed_types, reason = "no request waits for it")]
type Shared<T> = std::sync::Mutex<T>;

/// What is remembered.
#[derive(Debug)]
pub struct KnownMembership {
    directory: PathBuf,
    facts: Shared<MembershipFacts>,
    /// Counts the configurations adopted.
    changes: AtomicU64,
}

/// Why what is remembered cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum MembershipFileError {
    /// It is damaged, so that it is unknown what the node promised.
    #[error(
        "{}: both copies of who the members are, and of what this node promised of the next ones, \
         are unusable: the first {first}, the second {second}; put one of them back, never an older \
         one; if there is none, start the node with an empty data directory and --replace",
        file.display()
    )]
    Damaged {
        /// The first file.
        file: PathBuf,
        /// What is wrong with the first copy.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
    /// It was written by a later version.
    #[error("{} {error}; start the version of Certus that wrote it", file.display())]
    Newer {
        /// The file, or the one whose copy it is.
        file: PathBuf,
        /// Which versions.
        error: CopyError,
    },
    /// A node that started before has none.
    #[error(
        "{} is missing, and so is its copy, although this node started before: either they were \
         moved away, then put them back; or the node began without replica_slots in its \
         configuration, then remove that: the members of such a cluster never change",
        file.display()
    )]
    Missing {
        /// The first file.
        file: PathBuf,
    },
    /// The configuration says that the members never change.
    #[error(
        "{} says who the members are, and the configuration has no replica_slots: set it to what \
         it was when this node began, {slots}",
        file.display()
    )]
    NotWanted {
        /// The first file.
        file: PathBuf,
        /// What it was.
        slots: u8,
    },
    /// Reading or writing failed.
    #[error("{}: {error}", file.display())]
    Io {
        /// The first file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl KnownMembership {
    /// Reads what is remembered in `directory`; at a node's first start, which `first` is of, makes
    /// that durable.
    ///
    /// # Errors
    ///
    /// When it is damaged in both copies, missing, or cannot be written.
    pub fn load(
        directory: &Path,
        first: Option<MembershipFacts>,
    ) -> Result<Self, MembershipFileError> {
        let file = directory.join(MEMBERSHIP.name);
        let facts = match (read(directory)?, first) {
            (Some((facts, true)), _) => facts,
            (Some((facts, false)), _) => {
                log_line::warn("one copy of who the members are was repaired from the other", &[]);
                write(directory, &facts)?;
                facts
            }
            (None, Some(first)) => {
                write(directory, &first)?;
                first
            }
            (None, None) => return Err(MembershipFileError::Missing { file }),
        };
        let (directory, facts) = (directory.to_owned(), Shared::new(facts));
        Ok(Self { directory, facts, changes: AtomicU64::new(0) })
    }

    /// Refuses a directory that remembers members, for a node whose configuration says that these
    /// never change; the directory's replica set has so many slots.
    ///
    /// # Errors
    ///
    /// When there is such a file, whatever is in it.
    pub fn refuse(directory: &Path, slots: u8) -> Result<(), MembershipFileError> {
        if Copies::read(directory, &MEMBERSHIP, MEMBERSHIP.name).are_missing() {
            return Ok(());
        }
        Err(MembershipFileError::NotWanted { file: directory.join(MEMBERSHIP.name), slots })
    }

    /// What is known.
    #[must_use]
    pub fn facts(&self) -> MembershipFacts {
        *self.held()
    }

    /// Another number than before when a later configuration is known. It is durable then.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The node goes by this configuration, unless by a later one already. Blocks on the disk when
    /// that is new. Whether it is.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; nothing may leave the node then.
    pub fn adopt(&self, configuration: Configuration) -> Result<bool, MembershipFileError> {
        let mut facts = self.held();
        if !configuration.is_news_to(&facts.configuration) {
            return Ok(false);
        }
        let now = MembershipFacts { configuration, ..*facts };
        write(&self.directory, &now)?;
        *facts = now;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// The node promised or accepted something of the next configuration. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; nothing may leave the node then.
    pub fn vote(&self, votes: MembershipVotes) -> Result<(), MembershipFileError> {
        let mut facts = self.held();
        let now = MembershipFacts { votes, ..*facts };
        write(&self.directory, &now)?;
        *facts = now;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, MembershipFacts> {
        // A panic has ended the process already; what is held is whole at every moment.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(directory: &Path, facts: &MembershipFacts) -> Result<(), MembershipFileError> {
    two_copies::write(directory, &MEMBERSHIP, MEMBERSHIP.name, &facts.encode())
        .map_err(|error| MembershipFileError::Io { file: directory.join(MEMBERSHIP.name), error })
}

/// What is remembered, and whether both copies are whole and say the same.
fn read(directory: &Path) -> Result<Option<(MembershipFacts, bool)>, MembershipFileError> {
    let copies = Copies::read(directory, &MEMBERSHIP, MEMBERSHIP.name);
    if copies.are_missing() {
        return Ok(None);
    }
    let file = directory.join(MEMBERSHIP.name);
    if let Some(error) = copies.newer() {
        return Err(MembershipFileError::Newer { file, error: error.clone() });
    }
    let usable = |copy: &Result<Vec<u8>, CopyError>| {
        copy.as_ref().ok().and_then(|fact| MembershipFacts::decode(fact))
    };
    let known = match (usable(&copies.first), usable(&copies.second)) {
        (Some(first), Some(second)) => first.later(second),
        (first, second) => first.or(second),
    };
    let word = |copy: &Result<Vec<u8>, CopyError>| match copy {
        Ok(fact) if MembershipFacts::decode(fact).is_some() => "contradicts the other".to_owned(),
        Ok(_) => "makes no sense".to_owned(),
        Err(error) => error.to_string(),
    };
    match known {
        Some(known) => Ok(Some((known, copies.agree()))),
        None => {
            let (first, second) = (word(&copies.first), word(&copies.second));
            Err(MembershipFileError::Damaged { file, first, second })
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::membership::MembershipVotes;
    use plog::configuration::{Change, Configuration};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch};

    use super::{KnownMembership, MembershipFileError};
    use crate::node::membership_facts::MembershipFacts;
    use crate::node::test_directory::TestDirectory;

    fn first() -> MembershipFacts {
        let configuration = Configuration::initial(3);
        MembershipFacts { configuration, votes: MembershipVotes::NONE }
    }

    fn next() -> Configuration {
        Configuration::initial(3).after(Change::AddLearner(AcceptorId(3)), 5).unwrap()
    }

    #[test]
    fn what_was_adopted_and_promised_survives_a_restart_and_the_file_s_word_counts_once() {
        let directory = TestDirectory::new();
        let missing = KnownMembership::load(directory.path(), None).unwrap_err();
        assert!(matches!(missing, MembershipFileError::Missing { .. }));
        KnownMembership::refuse(directory.path(), 5).unwrap();
        let known = KnownMembership::load(directory.path(), Some(first())).unwrap();
        assert_eq!(known.facts(), first());
        let ballot = Ballot { round: 2, epoch: BootEpoch(1), acceptor: AcceptorId(1) };
        let promised = MembershipVotes { instance: 1, promised: ballot, ..MembershipVotes::NONE };
        known.vote(promised).unwrap();
        assert_eq!(known.changes(), 0);
        assert!(known.adopt(next()).unwrap());
        assert!(!known.adopt(next()).unwrap() && !known.adopt(first().configuration).unwrap());
        assert_eq!(known.changes(), 1);
        // Its file names others by now, or it is not a first start: what it knows wins.
        let other = Some(MembershipFacts { configuration: Configuration::initial(5), ..first() });
        for file in [None, other] {
            let again = KnownMembership::load(directory.path(), file).unwrap();
            assert_eq!(again.facts(), MembershipFacts { configuration: next(), votes: promised });
        }
        let refused = KnownMembership::refuse(directory.path(), 5).unwrap_err();
        assert!(refused.to_string().contains("when this node began, 5"), "{refused}");
    }

    #[test]
    fn one_damaged_copy_is_repaired_and_two_are_refused() {
        let directory = TestDirectory::new();
        let known = KnownMembership::load(directory.path(), Some(first())).unwrap();
        known.adopt(next()).unwrap();
        let [file, copy] =
            ["membership", "membership.copy"].map(|name| directory.path().join(name));
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&copy, b"noise").unwrap();
        let again = KnownMembership::load(directory.path(), None).unwrap();
        assert_eq!(again.facts().configuration, next());
        assert_eq!(std::fs::read(&copy).unwrap(), good);
        std::fs::write(&file, b"noise").unwrap();
        std::fs::write(&copy, b"noise").unwrap();
        let error = KnownMembership::load(directory.path(), Some(first())).unwrap_err();
        assert!(
            matches!(error, MembershipFileError::Damaged { .. }),
            "never taken for a first start"
        );
    }
}
