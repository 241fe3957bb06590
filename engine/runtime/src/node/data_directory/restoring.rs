//! A directory that becomes a node's from a backup, and that no start takes before it is whole.
//!
//! A node made from a backup has its images as a checkpoint and an empty log behind it. It never
//! promised anything, and its incarnation is a new one. What must not happen is that half of it is
//! started. So the file `restoring` is durable before anything else is made, and the last thing to
//! go; a directory that holds it is refused.
//!
//! Nor may an *empty* directory be started where one made from the backup is meant: two empty nodes
//! of three would be a majority without the data. The id of a cluster made from a backup tells
//! itself ([`BackupNumber`]), and no start makes a new node of such a cluster.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use plog::backup_manifest::BackupNumber;
use plog::identity::LogIdentity;

use crate::node::data_directory::boot_epoch::{BOOT, encode_boot};
use crate::node::data_directory::contents::{PEERS, RESTORING, core_directory, make_directory};
use crate::node::data_directory::error::{DataDirectoryError, PERMISSIONS, Result, SPACE, failed};
use crate::node::data_directory::facts::write_fact;
use crate::node::data_directory::identity::{DirectoryIdentity, ExpectedIdentity, IDENTITY};
use crate::node::data_directory::lock::LOCK;
use crate::node::two_copies::{replace_file, sync_directory};

/// Refuses to make a new node of a cluster whose nodes are made from a backup.
pub(super) fn refuse_unrestored(path: &Path, cluster_id: u64) -> Result<()> {
    match BackupNumber::of_cluster(cluster_id) {
        None => Ok(()),
        Some(number) => {
            Err(DataDirectoryError::NotRestored { path: path.to_owned(), cluster_id, number })
        }
    }
}

/// See the module page. Dropped without [`RestoringDirectory::finish`], it stays refused.
#[derive(Debug)]
pub struct RestoringDirectory {
    path: PathBuf,
    identity: DirectoryIdentity,
    _lock: File,
}

impl RestoringDirectory {
    /// Begins in the directory at `path`, which is locked and must be empty.
    pub(super) fn begin(
        path: PathBuf,
        lock: File,
        expected: &ExpectedIdentity,
        incarnation: u128,
    ) -> Result<Self> {
        let entries = std::fs::read_dir(&path).map_err(failed(&path, "listing it", PERMISSIONS))?;
        for entry in entries {
            let entry = entry.map_err(failed(&path, "listing it", PERMISSIONS))?;
            let found = entry.file_name().to_string_lossy().into_owned();
            if found != LOCK && found != "lost+found" {
                return Err(DataDirectoryError::NotEmpty { path, found });
            }
        }
        let identity = DirectoryIdentity::new(expected, incarnation);
        let text = b"A restore into this directory is under way, or was not finished.\n";
        replace_file(&path.join(RESTORING), text).map_err(failed(&path, "writing to it", SPACE))?;
        for core in 0..identity.core_count {
            make_directory(&core_directory(&path, core))?;
        }
        make_directory(&path.join(PEERS))?;
        sync_directory(&path).map_err(failed(&path, "syncing it", SPACE))?;
        Ok(Self { path, identity, _lock: lock })
    }

    /// Where the checkpoint of `core` goes.
    #[must_use]
    pub fn core(&self, core: u16) -> PathBuf {
        core_directory(&self.path, core)
    }

    /// How many cores the node has.
    #[must_use]
    pub fn core_count(&self) -> u16 {
        self.identity.core_count
    }

    /// Whose the log of `core` is.
    #[must_use]
    pub fn log_identity(&self, core: u16) -> LogIdentity {
        self.identity.first_log(core)
    }

    /// The checkpoints of all cores were adopted: from now on it is a node's that never started.
    ///
    /// # Errors
    ///
    /// The operating system's; a start refuses the directory then.
    pub fn finish(self) -> Result<()> {
        let path = &self.path;
        // The boot epoch first: an identity without one is never what a crash leaves.
        write_fact(path, &BOOT, &encode_boot(0, self.identity.incarnation))?;
        write_fact(path, &IDENTITY, &self.identity.encode())?;
        let remove = || -> io::Result<()> {
            std::fs::remove_file(path.join(RESTORING))?;
            sync_directory(path)
        };
        remove().map_err(failed(path, "finishing the restore", SPACE))
    }

    /// Removes what was made, since the restore cannot go on, and leaves the directory as it was.
    ///
    /// # Errors
    ///
    /// The operating system's; a start refuses the directory then.
    pub fn undo(self) -> Result<()> {
        let path = &self.path;
        let remove = || -> io::Result<()> {
            for core in 0..self.identity.core_count {
                std::fs::remove_dir_all(core_directory(path, core))?;
            }
            std::fs::remove_dir(path.join(PEERS))?;
            std::fs::remove_file(path.join(RESTORING))?;
            sync_directory(path)
        };
        remove().map_err(failed(path, "removing what a failed restore made", PERMISSIONS))
    }
}
