//! Why a directory is not used, in sentences that name the directory and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use plog::backup_manifest::BackupNumber;

use crate::node::two_copies::CopyError;

/// Why a directory is not used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// The operating system refuses.
    #[error("data directory {}: {action}: {error}; {remedy}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its reason.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// It is a file.
    #[error(
        "data directory {} is not a directory; set data_directory to a directory or to a name \
         that does not exist yet",
        path.display()
    )]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// Another process runs on it.
    #[error(
        "data directory {} is in use by {holder}; stop that process, or set data_directory to \
         another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// `process 4711`, or what is known.
        holder: String,
    },
    /// It holds something that is not ours.
    #[error(
        "data directory {} holds `{found}` and is no Certus directory; set data_directory to an \
         empty directory or to a name that does not exist yet",
        path.display()
    )]
    NotCertus {
        /// The directory.
        path: PathBuf,
        /// A file in it.
        found: String,
    },
    /// A lost node was to be replaced, and there is one.
    #[error(
        "data directory {}: --replace makes a new node in the place of one whose data is lost, and \
         this directory holds a node already; start it without --replace, or, if it must not be \
         used any more, put it away and start with an empty one",
        path.display()
    )]
    HoldsNode {
        /// The directory.
        path: PathBuf,
    },
    /// Its identity or boot epoch is gone although its log is not.
    #[error(
        "data directory {} has {present} but no {missing}: starting without it could break \
         promises this node has made; put back both {missing} files if they were moved, never older \
         copies; else its data is lost: put the directory away and start the node with an \
         empty one and --replace",
        path.display()
    )]
    FileMissing {
        /// The directory.
        path: PathBuf,
        /// The fact that is gone.
        missing: &'static str,
        /// What shows that it has been there.
        present: String,
    },
    /// A directory that every start leaves behind is gone.
    #[error(
        "data directory {} was started {epoch} times but has no {missing}: starting without it \
         could break promises this node has made; put it back if it was moved, never an older \
         copy; else its data is lost: put the directory away and start the node with an empty one and --replace",
        path.display()
    )]
    DirectoryMissing {
        /// The directory.
        path: PathBuf,
        /// What is gone.
        missing: String,
        /// The boot epoch.
        epoch: u32,
    },
    /// Both copies of a fact are unusable.
    #[error(
        "data directory {}: {file} {first} and {file}.copy {second}; put one of them back if it \
         was moved, never an older copy; else its data is lost: put the directory away and start \
         the node with an empty one and --replace",
        path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The fact.
        file: &'static str,
        /// What is wrong with the first copy.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
    /// Written by a later version.
    #[error(
        "data directory {}: {file} {error}; start the version of Certus that wrote it",
        path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The fact.
        file: &'static str,
        /// Which versions.
        error: CopyError,
    },
    /// It is somebody else's, or of another shape.
    #[error(
        "data directory {} belongs to {what} {found}, but the configuration says `{key}` is \
         {expected}; {remedy}",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Which part of the identity.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// The configuration key.
        key: &'static str,
        /// What the configuration says.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A restore was begun in it and not finished.
    #[error(
        "data directory {}: a restore into it is under way, or was not finished; if no `certus \
         restore` is at work on it, empty the directory and restore again",
        path.display()
    )]
    HalfRestored {
        /// The directory.
        path: PathBuf,
    },
    /// It is to become a node's from a backup, and holds something.
    #[error(
        "data directory {} holds `{found}`: a restore needs an empty directory, or a name that \
         does not exist yet; set data_directory to one",
        path.display()
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// A file in it.
        found: String,
    },
    /// It is empty, and the cluster is one whose nodes are made from a backup.
    #[error(
        "data directory {} is empty, but cluster {cluster_id:#x} is one restored from backup \
         {number}: an empty node would be one without its data; run `certus restore` first, or \
         give a new cluster another cluster_id, one that does not begin with 0x5265",
        path.display()
    )]
    NotRestored {
        /// The directory.
        path: PathBuf,
        /// The cluster, by the configuration.
        cluster_id: u64,
        /// The backup that its id names.
        number: BackupNumber,
    },
    /// No further start can be counted.
    #[error(
        "data directory {}: boot epoch {epoch} is the last of its generation; a ballot beyond it \
         could be another's, so the node must not start from this directory any more: put it away \
         and start the node with an empty one and --replace",
        path.display()
    )]
    EpochsRunOut {
        /// The directory.
        path: PathBuf,
        /// The epoch.
        epoch: u32,
    },
}

pub(super) type Result<T> = std::result::Result<T, DataDirectoryError>;

/// What to do when it is refused.
pub(super) const PERMISSIONS: &str = "make it readable and writable for the user that runs certusd";
/// What to do when writing fails.
pub(super) const SPACE: &str = "free space, or check that the disk is writable and healthy";

/// Makes an error of the operating system one of this directory.
pub(super) fn failed(
    path: &Path,
    action: &'static str,
    remedy: &'static str,
) -> impl FnOnce(io::Error) -> DataDirectoryError {
    let path = path.to_owned();
    move |error| DataDirectoryError::Io { path, action, error, remedy }
}

impl DataDirectoryError {
    /// Whether there would be no error on a disk with room.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        let Self::Io { error, .. } = self else { return false };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// No incarnation can be made.
pub(super) fn no_random_bytes() -> impl FnOnce(io::Error) -> DataDirectoryError {
    failed(Path::new("/dev/urandom"), "reading random bytes", "make /dev/urandom readable")
}
