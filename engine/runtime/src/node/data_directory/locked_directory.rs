//! From a path to this node's directory: locked first, then looked at, and only then changed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use plog::vocabulary::BootEpoch;

use crate::node::data_directory::DataDirectory;
use crate::node::data_directory::boot_epoch::{BOOT, decode_boot, encode_boot};
use crate::node::data_directory::contents::{
    PEERS, core_directory, first_segment, make_directory, refuse_foreign_files,
};
use crate::node::data_directory::error::{
    DataDirectoryError, PERMISSIONS, Result, SPACE, failed, no_random_bytes,
};
use crate::node::data_directory::facts::{choose, usable_copies, write_fact};
use crate::node::data_directory::identity::{DirectoryIdentity, ExpectedIdentity, IDENTITY};
use crate::node::data_directory::levels::make_durably;
use crate::node::data_directory::lock::take_lock;
use crate::node::data_directory::registering;
use crate::node::data_directory::restoring::{RestoringDirectory, refuse_unrestored};
use crate::node::log_line;
use crate::node::two_copies::{Copies, sync_directory};

/// A directory that this process alone uses, not yet known to be the right one.
#[derive(Debug)]
pub struct LockedDirectory {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    lock: File,
    replaces: bool,
}

/// What an existing directory says.
struct Found {
    identity: DirectoryIdentity,
    epoch: u32,
    /// Whether one copy of the identity is not usable.
    needs_repair: bool,
}

impl LockedDirectory {
    /// Makes the directory if there is none, and its name durable, and takes its lock.
    ///
    /// # Errors
    ///
    /// When it is no directory, unreadable, in use, or holds something that is not ours; in the
    /// last case not even the lock file is made.
    pub fn take(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(DataDirectoryError::NotADirectory { path: path.to_owned() });
            }
            Ok(_) => refuse_foreign_files(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path, "looking at it", PERMISSIONS)(error)),
        }
        make_durably(path, sync_directory)?;
        let lock = take_lock(path)?;
        Ok(Self { path: path.to_owned(), lock, replaces: false })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory holds no node yet.
    ///
    /// # Errors
    ///
    /// When it is unreadable, or when log files are there but the identity is not.
    pub fn is_new(&self) -> Result<bool> {
        if !Copies::read(&self.path, &IDENTITY, IDENTITY.name).are_missing() {
            return Ok(false);
        }
        match first_segment(&self.path)? {
            Some(segment) => Err(DataDirectoryError::FileMissing {
                path: self.path.clone(),
                missing: IDENTITY.name,
                present: segment.display().to_string(),
            }),
            None => Ok(true),
        }
    }

    /// Whose directory it is, if it is the one expected; `None` for a new one. Changes nothing.
    ///
    /// # Errors
    ///
    /// When anything does not fit.
    pub fn inspect(&self, expected: &ExpectedIdentity) -> Result<Option<DirectoryIdentity>> {
        if self.is_new()? {
            self.refuse_unrestored(expected)?;
            Ok(None)
        } else {
            self.check(expected).map(|found| Some(found.identity))
        }
    }

    /// A node in the place of a lost one has the others to be made from, and needs no backup.
    fn refuse_unrestored(&self, expected: &ExpectedIdentity) -> Result<()> {
        if self.replaces || registering::is_noted(&self.path)? {
            return Ok(());
        }
        refuse_unrestored(&self.path, expected.cluster_id)
    }

    /// Whether the directory is to become that of a node in the place of a lost one.
    #[must_use]
    pub fn replacing(self, replaces: bool) -> Self {
        Self { replaces, ..self }
    }

    /// The empty directory will be that of a node which takes the place of a lost one: durable
    /// before anything else is in it.
    ///
    /// # Errors
    ///
    /// When there is a node in it already that has begun.
    pub fn begin_replacement(&self) -> Result<()> {
        if registering::is_noted(&self.path)? {
            return Ok(());
        }
        if !self.is_new()? {
            return Err(DataDirectoryError::HoldsNode { path: self.path.clone() });
        }
        registering::note(&self.path)
    }

    /// Checks that the directory is the one expected, or makes a new node in an empty one, whose
    /// incarnation `new_incarnation` supplies.
    ///
    /// # Errors
    ///
    /// When anything does not fit; an existing directory is then as it was.
    pub fn open(
        self,
        expected: &ExpectedIdentity,
        new_incarnation: impl FnOnce() -> io::Result<u128>,
    ) -> Result<DataDirectory> {
        let is_new = self.is_new()?;
        if is_new {
            self.refuse_unrestored(expected)?;
        }
        let (identity, last_epoch) = if is_new {
            (self.create(expected, new_incarnation)?, 0)
        } else {
            let found = self.check(expected)?;
            if found.needs_repair {
                log_line::warn(
                    "one copy of the identity was repaired from the other",
                    &[("directory", &self.path.display())],
                );
                write_fact(&self.path, &IDENTITY, &found.identity.encode())?;
            }
            (found.identity, found.epoch)
        };
        for core in 0..identity.core_count {
            make_directory(&core_directory(&self.path, core))?;
        }
        make_directory(&self.path.join(PEERS))?;
        sync_directory(&self.path).map_err(failed(&self.path, "syncing it", SPACE))?;
        let mut is_registering = registering::is_noted(&self.path)?;
        if is_registering && last_epoch > 0 {
            // A crash came between the first boot and this.
            registering::remove(&self.path).map_err(failed(&self.path, "writing to it", SPACE))?;
            is_registering = false;
        }
        Ok(DataDirectory {
            path: self.path,
            identity,
            last_epoch,
            generation: BootEpoch(last_epoch).generation(),
            is_new,
            is_registering,
            _lock: self.lock,
        })
    }

    /// Begins to make the directory, which must be empty, a node's from a backup. Its incarnation
    /// `new_incarnation` supplies.
    ///
    /// # Errors
    ///
    /// When it is not empty; it is then as it was.
    pub fn begin_restore(
        self,
        expected: &ExpectedIdentity,
        new_incarnation: impl FnOnce() -> io::Result<u128>,
    ) -> Result<RestoringDirectory> {
        let incarnation = new_incarnation().map_err(no_random_bytes())?;
        RestoringDirectory::begin(self.path, self.lock, expected, incarnation)
    }

    fn create(
        &self,
        expected: &ExpectedIdentity,
        new_incarnation: impl FnOnce() -> io::Result<u128>,
    ) -> Result<DirectoryIdentity> {
        let path = &self.path;
        let incarnation = new_incarnation().map_err(no_random_bytes())?;
        let identity = DirectoryIdentity::new(expected, incarnation);
        write_fact(path, &BOOT, &encode_boot(0, incarnation))?;
        write_fact(path, &IDENTITY, &identity.encode())?;
        Ok(identity)
    }

    /// Looks at an existing directory.
    fn check(&self, expected: &ExpectedIdentity) -> Result<Found> {
        let path = &self.path;
        let copies = usable_copies(path, &IDENTITY, IDENTITY.name)?;
        let identity = choose(path, &IDENTITY, &copies, DirectoryIdentity::decode, |both| {
            (both[0] == both[1]).then(|| both[0])
        })?;
        identity.check(path, expected)?;
        let boots = usable_copies(path, &BOOT, BOOT.name)?;
        if boots.are_missing() {
            return Err(DataDirectoryError::FileMissing {
                path: path.clone(),
                missing: BOOT.name,
                present: "an identity".to_owned(),
            });
        }
        // A crash between the two files leaves two epochs: the one of the start that then never
        // spoke, and the one before. The higher one is right either way.
        let (epoch, incarnation) =
            choose(path, &BOOT, &boots, decode_boot, |both| Some(both[0].max(both[1])))?;
        if incarnation != identity.incarnation {
            return Err(DataDirectoryError::Damaged {
                path: path.clone(),
                file: BOOT.name,
                first: "is of another incarnation than identity".to_owned(),
                second: "likewise; they were copied from another directory".to_owned(),
            });
        }
        if epoch > 0 {
            self.refuse_missing_directories(&identity, epoch)?;
        }
        Ok(Found { identity, epoch, needs_repair: !copies.agree() })
    }

    /// Before the first start is counted, all directories are there and durable. One that is gone
    /// took promises, or the incarnations of peers, with it: an empty one in its place would pass
    /// for a core that never wrote, or a node that never met a peer.
    fn refuse_missing_directories(&self, identity: &DirectoryIdentity, epoch: u32) -> Result<()> {
        let cores = (0..identity.core_count).map(|core| core_directory(&self.path, core));
        let mut all = cores.chain([self.path.join(PEERS)]);
        match all.find(|directory| !directory.is_dir()) {
            Some(missing) => Err(DataDirectoryError::DirectoryMissing {
                path: self.path.clone(),
                missing: missing.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                epoch,
            }),
            None => Ok(()),
        }
    }
}
