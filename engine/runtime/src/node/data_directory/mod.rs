//! The data directory: whose it is, that nobody else uses it, and how often the node started.
//!
//! A node that starts on the wrong directory forgets its promises or speaks with another's voice;
//! both can choose two values for one entry. So the directory says whose it is, and everything
//! that does not fit is refused with nothing changed: another node's or cluster's directory, one
//! of another number of cores or replicas, one from a newer version, one that is something else
//! altogether, one whose identity is gone while its log is not, or a core's log while the
//! identity is not. Only an empty directory becomes a
//! new node, and never one of a cluster whose nodes are made from a backup.
//!
//! ```text
//! DIR/LOCK              held with flock while a process runs; holds its process id
//! DIR/identity[.copy]   cluster, node, incarnation, cores, replicas; written once
//! DIR/boot[.copy]       boot epoch; made durable at each start before anything speaks
//! DIR/peers/node-N[.copy]   incarnation of peer N, as met last, and its generations
//! DIR/membership[.copy]   who the members are, where they can change, and what this node promised
//! DIR/registering[.copy]   that this node takes the place of a lost one, until its first boot
//! DIR/reached-N[.copy]  newest segment that core N's log is known to have reached
//! DIR/slack             space for a start on a full disk
//! DIR/restoring         a restore into it is under way, or was not finished
//! DIR/core-N/           log of core N: segments and spares
//! DIR/core-N/abstains[.copy]   that this core lost promises, where, and when
//! DIR/core-N/log[.copy]   whose log this is, if it began after the node did
//! DIR/core-N/damaged-G/   the log that was put aside in generation G, until the core has rejoined
//! ```
//!
//! At the first start `boot` is written before `identity`: an identity without a boot epoch is
//! therefore never what a crash leaves, and can be refused.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use engine::abstention::Abstention;
use plog::vocabulary::{BootEpoch, Generation};

use crate::node::data_directory::boot_epoch::{BOOT, encode_boot};
use crate::node::data_directory::contents::{PEERS, core_directory};
use crate::node::data_directory::error::{Result, SPACE, failed, no_random_bytes};
use crate::node::data_directory::facts::write_fact;

pub use crate::node::data_directory::abstains::{is_loss_noted, load_abstention, write_abstention};
pub use crate::node::data_directory::another_log::{is_put_aside, note_rejoined};
pub use crate::node::data_directory::error::DataDirectoryError;
pub use crate::node::data_directory::identity::{
    DirectoryIdentity, ExpectedIdentity, random_incarnation,
};
pub use crate::node::data_directory::locked_directory::LockedDirectory;
pub use crate::node::data_directory::log_life::{
    LogLife, load_log_life, log_identity, repair_log_identity, write_log_life,
};
pub use crate::node::data_directory::reached::{load_reached, repair_reached, write_reached};
pub use crate::node::data_directory::restoring::RestoringDirectory;
pub use crate::node::data_directory::survey::{Finding, Survey, Verdict};

mod abstains;
mod another_log;
mod boot_epoch;
#[cfg(test)]
mod changed_bytes_test;
mod contents;
mod error;
mod facts;
mod identity;
mod levels;
mod lock;
mod locked_directory;
mod log_life;
mod reached;
mod registering;
mod restoring;
mod slack;
mod survey;
#[cfg(test)]
mod tests;

/// This node's directory, locked and checked.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: DirectoryIdentity,
    last_epoch: u32,
    /// Of the next boot.
    generation: Generation,
    is_new: bool,
    /// It takes the place of a lost node, and no boot was counted yet.
    is_registering: bool,
    _lock: File,
}

impl DataDirectory {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &DirectoryIdentity {
        &self.identity
    }

    /// Whether this start made it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether an earlier start may have spoken.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.last_epoch > 0
    }

    /// Where what is remembered of peers stands.
    #[must_use]
    pub fn peers(&self) -> PathBuf {
        self.path.join(PEERS)
    }

    /// Where the log of `core` stands.
    #[must_use]
    pub fn core(&self, core: u16) -> PathBuf {
        core_directory(&self.path, core)
    }

    /// The epoch that [`DataDirectory::begin_boot`] will make durable.
    ///
    /// # Errors
    ///
    /// When there is none left.
    pub fn next_epoch(&self) -> Result<u32> {
        let (path, epoch) = (self.path.clone(), self.last_epoch);
        // Those beyond are the next generation's: a ballot made twice could carry two values.
        let is_begun = BootEpoch(epoch).generation() == self.generation;
        let before = if is_begun { epoch } else { self.generation.epoch_before().0 };
        (before.checked_add(1))
            .filter(|next| BootEpoch(*next).generation() == self.generation)
            .ok_or(DataDirectoryError::EpochsRunOut { path, epoch })
    }

    /// The generation of the next boot.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the others have to know this node as a new one before it begins.
    #[must_use]
    pub fn is_registering(&self) -> bool {
        self.is_registering
    }

    /// Enough others know this node as one of `generation`, durably: all its cores rejoin, and the
    /// next boot is the first of that generation.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable; the node has to register again.
    ///
    /// # Panics
    ///
    /// When the node does not register.
    pub fn begin_registered(&mut self, generation: Generation) -> Result<()> {
        assert!(self.is_registering && generation > Generation::FIRST);
        let lost = Abstention::of_new_directory(generation.epoch_before());
        for core in 0..self.identity.core_count {
            write_abstention(&self.core(core), &lost)?;
        }
        self.generation = generation;
        Ok(())
    }

    /// Cores that lost what they may have promised, and what of it was noted, unless a generation
    /// that began since makes up for it.
    ///
    /// # Errors
    ///
    /// When a note cannot be read.
    pub fn lost_cores(&self) -> Result<Vec<(u16, Abstention)>> {
        let mut lost_cores = Vec::new();
        for core in 0..self.identity.core_count {
            if let Some(loss) = another_log::lost(&self.core(core), self.generation)? {
                lost_cores.push((core, loss));
            }
        }
        Ok(lost_cores)
    }

    /// Puts the logs of these cores aside, and begins others in the node's next generation, which
    /// the next boot ends: see [`another_log`]. Where the old ones stand.
    ///
    /// # Errors
    ///
    /// When there is no generation left, or something cannot be made durable: the next start does
    /// it again.
    pub fn begin_other_logs(
        &mut self,
        cores: &[u16],
        mut new_incarnation: impl FnMut() -> io::Result<u128>,
    ) -> Result<Vec<PathBuf>> {
        let (path, epoch) = (self.path.clone(), self.last_epoch);
        let next = self.generation.next();
        let generation = next.ok_or(DataDirectoryError::EpochsRunOut { path, epoch })?;
        let mut aside = Vec::new();
        for core in cores {
            let incarnation = new_incarnation().map_err(no_random_bytes())?;
            let life = LogLife { incarnation, generation };
            aside.push(another_log::begin(&self.path, *core, &life, || Ok(()))?);
        }
        self.generation = generation;
        Ok(aside)
    }

    /// Counts this start: the epoch it returns is durable, above all earlier ones, and at least 1.
    /// Nothing may speak in the node's name before.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable.
    pub fn begin_boot(&mut self) -> Result<u32> {
        let epoch = self.next_epoch()?;
        let fact = encode_boot(epoch, self.identity.incarnation);
        let gives_back =
            || slack::give_back(&self.path).map_err(failed(&self.path, "deleting a file", SPACE));
        match write_fact(&self.path, &BOOT, &fact) {
            Err(error) if error.is_for_want_of_room() && gives_back()? => {
                write_fact(&self.path, &BOOT, &fact)?;
            }
            written => written?,
        }
        // Without room the next start tries again.
        slack::set_aside(&self.path).ok();
        self.last_epoch = epoch;
        if std::mem::take(&mut self.is_registering) {
            registering::remove(&self.path).map_err(failed(&self.path, "writing to it", SPACE))?;
        }
        Ok(epoch)
    }
}
