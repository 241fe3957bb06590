//! Which life of each peer this node has met, remembered for ever.
//!
//! A peer whose data directory was lost and made anew has forgotten its promises; counting its
//! votes could choose two values. Its directory then has a new incarnation, so a node remembers,
//! durably and before it answers the handshake, which incarnation it met of each peer, and refuses
//! another one, unless it is of a later generation: then nobody counts votes of the earlier ones
//! any more. Which generations there are is durable before anything leaves the node that rests on
//! it.
//!
//! On disk it is one fact per peer in `peers/` ([`KnownLife`]). All cores share it: of two that
//! meet the same peer at once, one after the other looks and writes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};

use plog::vocabulary::Generation;

use crate::node::known_life::{KIND, KnownLife};
use crate::node::log_line;
use crate::node::two_copies::{self, Copies, CopyError};

/// What all cores share is looked at once per connection of a peer, and changes a few times in a
/// cluster's life; who writes it holds it while the disk does.
#[expect(clippy::disallowed_types, reason = "no request waits for it")]
type Shared<T> = std::sync::Mutex<T>;

/// Largest replica set.
pub(crate) const MEMBERS_MAX: usize = 5;

/// What is remembered.
#[derive(Debug)]
pub struct KnownIncarnations {
    directory: PathBuf,
    known: Shared<[KnownLife; MEMBERS_MAX]>,
    /// Counts the generations learned of.
    changes: AtomicU64,
}

/// What came of meeting a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Meeting {
    /// The peer is known as it came, durably.
    Welcome,
    /// It must not be let in: this is known of it.
    Unwelcome(KnownLife),
}

/// Why a remembered incarnation cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// A file is damaged, so that it is unknown which life of the peer was met.
    #[error(
        "{}: both copies of what is known of node {node_id} are unusable: the first {first}, the \
         second {second}; if that node still has its original data directory and never was of \
         another generation than 0, remove both files, and it is remembered anew",
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
        let mut lives = [KnownLife::default(); MEMBERS_MAX];
        for (node_id, life) in (0..).zip(&mut lives) {
            let Some((found, copies_agree)) = read(directory, node_id)? else { continue };
            *life = found;
            if !copies_agree {
                log_line::warn(
                    "one copy of a remembered incarnation was repaired from the other",
                    &[("node", &node_id)],
                );
                write(directory, node_id, found)?;
            }
        }
        let (directory, known) = (directory.to_owned(), Shared::new(lives));
        Ok(Self { directory, known, changes: AtomicU64::new(0) })
    }

    /// What is known of `node_id`.
    #[must_use]
    pub fn lookup(&self, node_id: u8) -> Option<KnownLife> {
        self.lives().get(usize::from(node_id)).copied()
    }

    /// The latest generation heard of each peer, by its node id.
    #[must_use]
    pub fn generations(&self) -> [Generation; MEMBERS_MAX] {
        self.lives().map(|life| life.heard)
    }

    /// Another number than before when a later generation of any peer is known. It is durable then.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Remembers durably that `node_id` was met as `incarnation` of `generation`, unless another
    /// life is known that rules it out. Blocks on the disk when that is new.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; the peer must then not be answered.
    pub fn meet(
        &self,
        node_id: u8,
        incarnation: u128,
        generation: Generation,
    ) -> Result<Meeting, IncarnationError> {
        let mut lives = self.lives();
        let life = place(&mut lives, node_id)?;
        match life.met(incarnation, generation) {
            None => Ok(Meeting::Unwelcome(*life)),
            Some(met) => {
                self.learn(node_id, life, met)?;
                Ok(Meeting::Welcome)
            }
        }
    }

    /// Remembers durably that `node_id` is of this generation by now, or a later one. Blocks on the
    /// disk when that is new.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; nothing may leave the node then.
    pub fn hear(&self, node_id: u8, generation: Generation) -> Result<(), IncarnationError> {
        let mut lives = self.lives();
        let life = place(&mut lives, node_id)?;
        let heard = KnownLife { heard: generation.max(life.heard), ..*life };
        self.learn(node_id, life, heard)
    }

    fn learn(
        &self,
        node_id: u8,
        life: &mut KnownLife,
        now: KnownLife,
    ) -> Result<(), IncarnationError> {
        if *life == now {
            return Ok(());
        }
        write(&self.directory, node_id, now)?;
        let is_later = life.heard < now.heard;
        *life = now;
        if is_later {
            self.changes.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn lives(&self) -> MutexGuard<'_, [KnownLife; MEMBERS_MAX]> {
        // A panic has ended the process already; what is held is whole at every moment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(
    lives: &mut [KnownLife; MEMBERS_MAX],
    node_id: u8,
) -> Result<&mut KnownLife, IncarnationError> {
    lives.get_mut(usize::from(node_id)).ok_or(IncarnationError::NoSuchNode { node_id })
}

fn write(directory: &Path, node_id: u8, life: KnownLife) -> Result<(), IncarnationError> {
    two_copies::write(directory, &KIND, &file_name(node_id), &life.encode())
        .map_err(|error| IncarnationError::Io { directory: directory.to_owned(), node_id, error })
}

/// What is known of a peer, and whether both copies are whole and say the same.
fn read(directory: &Path, node_id: u8) -> Result<Option<(KnownLife, bool)>, IncarnationError> {
    let name = file_name(node_id);
    let copies = Copies::read(directory, &KIND, &name);
    if copies.are_missing() {
        return Ok(None);
    }
    let file = directory.join(name);
    if let Some(error) = copies.newer() {
        return Err(IncarnationError::Newer { file, error: error.clone() });
    }
    let usable = |copy: &Result<Vec<u8>, CopyError>| {
        copy.as_ref().ok().and_then(|fact| KnownLife::decode(fact))
    };
    let damaged = |first, second| Err(IncarnationError::Damaged { file, node_id, first, second });
    match (usable(&copies.first), usable(&copies.second)) {
        // The first file is written first: it is ahead after a crash between the two. What
        // contradicts each other was edited by somebody.
        (Some(first), Some(second)) => match first.later(second) {
            Some(known) => Ok(Some((known, copies.agree()))),
            None => {
                let word = |life: KnownLife| {
                    let incarnation = life.incarnation.unwrap_or(0);
                    format!("says {incarnation:#x} of generation {}", life.generation.0)
                };
                damaged(word(first), word(second))
            }
        },
        (Some(known), None) | (None, Some(known)) => Ok(Some((known, false))),
        (None, None) => {
            let word = |copy: &Result<Vec<u8>, CopyError>| {
                copy.as_ref().map_or_else(ToString::to_string, |_| "makes no sense".to_owned())
            };
            damaged(word(&copies.first), word(&copies.second))
        }
    }
}

fn file_name(node_id: u8) -> String {
    format!("{}{node_id}", KIND.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use plog::vocabulary::Generation;

    use super::{IncarnationError, KnownIncarnations, Meeting};
    use crate::node::known_life::{KIND, KnownLife};
    use crate::node::test_directory::TestDirectory;
    use crate::node::two_copies::{self, FactKind};

    const FIRST: Generation = Generation::FIRST;

    fn incarnation(known: &KnownIncarnations, node_id: u8) -> Option<u128> {
        known.lookup(node_id).unwrap().incarnation
    }

    #[test]
    fn the_first_incarnation_met_is_remembered_over_a_restart() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(incarnation(&known, 2), None);
        assert_eq!(known.meet(2, 77, FIRST).unwrap(), Meeting::Welcome);
        let second = known.meet(2, 78, FIRST).unwrap();
        assert!(matches!(second, Meeting::Unwelcome(_)), "a second life is not remembered");
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!((incarnation(&again, 2), incarnation(&again, 1)), (Some(77), None));
        assert!(matches!(
            again.meet(5, 1, FIRST),
            Err(IncarnationError::NoSuchNode { node_id: 5 })
        ));
    }

    #[test]
    fn a_later_generation_is_durable_before_anybody_is_told_of_it() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        known.meet(2, 77, FIRST).unwrap();
        assert_eq!(known.changes(), 0);
        known.hear(2, Generation(1)).unwrap();
        known.hear(2, FIRST).unwrap();
        assert_eq!(known.changes(), 1);
        assert_eq!(known.meet(2, 78, Generation(2)).unwrap(), Meeting::Welcome);
        assert_eq!(known.changes(), 2);
        known.hear(0, Generation(4)).unwrap();
        let again = KnownIncarnations::load(directory.path()).unwrap();
        let wanted = [4, 0, 2, 0, 0].map(Generation);
        assert_eq!((known.generations(), again.generations()), (wanted, wanted));
        let met =
            KnownLife { incarnation: Some(78), generation: Generation(2), heard: Generation(2) };
        assert_eq!(again.lookup(2), Some(met));
        assert_eq!(again.meet(2, 77, Generation(1)).unwrap(), Meeting::Unwelcome(met));
        assert_eq!(incarnation(&again, 0), None, "it was only heard of");
    }

    #[test]
    fn what_version_1_wrote_is_of_generation_0_and_written_anew_with_the_next_change() {
        let directory = TestDirectory::new();
        let old = FactKind { version: 1, ..KIND };
        two_copies::write(directory.path(), &old, "node-1", &9_u128.to_le_bytes()).unwrap();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(incarnation(&known, 1), Some(9));
        let before = std::fs::read(directory.path().join("node-1")).unwrap();
        assert_eq!(known.meet(1, 9, FIRST).unwrap(), Meeting::Welcome);
        assert_eq!(std::fs::read(directory.path().join("node-1")).unwrap(), before);
        assert_eq!(known.meet(1, 9, Generation(1)).unwrap(), Meeting::Welcome);
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(again.generations()[1], Generation(1));
    }

    #[test]
    fn cores_that_meet_a_peer_at_once_agree_on_its_incarnation() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        let barrier = Barrier::new(4);
        let welcome: Vec<u128> = std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=4)
                .map(|incarnation| {
                    let (known, barrier) = (&known, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        (incarnation, known.meet(0, incarnation, FIRST).unwrap())
                    })
                })
                .collect();
            let met = threads.into_iter().map(|thread| thread.join().unwrap());
            met.filter(|(_, met)| *met == Meeting::Welcome).map(|(one, _)| one).collect()
        });
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(welcome, [incarnation(&again, 0).unwrap()]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_damaged_copy_is_repaired_and_two_damaged_copies_are_refused() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        known.meet(1, 9, FIRST).unwrap();
        let [first, second] = ["node-1", "node-1.copy"].map(|name| directory.path().join(name));
        std::fs::write(&first, b"noise").unwrap();
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!(incarnation(&again, 1), Some(9));
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        std::fs::write(&first, b"noise").unwrap();
        std::fs::write(&second, b"noise").unwrap();
        let error = KnownIncarnations::load(directory.path()).unwrap_err();
        assert!(matches!(error, IncarnationError::Damaged { node_id: 1, .. }));
        assert!(error.to_string().contains("remove both files"));
    }

    #[test]
    fn a_crash_between_the_copies_leaves_the_later_generation_true() {
        let directory = TestDirectory::new();
        let known = KnownIncarnations::load(directory.path()).unwrap();
        known.meet(1, 9, FIRST).unwrap();
        let older = std::fs::read(directory.path().join("node-1.copy")).unwrap();
        known.meet(1, 10, Generation(1)).unwrap();
        std::fs::write(directory.path().join("node-1.copy"), older).unwrap();
        let again = KnownIncarnations::load(directory.path()).unwrap();
        assert_eq!((incarnation(&again, 1), again.generations()[1]), (Some(10), Generation(1)));
    }
}
