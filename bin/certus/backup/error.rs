//! Why a backup is not made, not whole, or not restored.

use std::io;
use std::path::PathBuf;

use engine::replayer::ReplayError;
use plog::backup_manifest::{BackupNumber, ManifestError};
use plog::vocabulary::EntityId;
use runtime::node::config_error::ConfigError;
use runtime::node::data_directory::DataDirectoryError;

use crate::exit_status::ExitStatus;
use crate::node_files::log_files::LogFilesError;
use crate::node_files::part_file::PartFileError;

/// See the module page.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Write(io::Error),
    #[error("{0}")]
    Files(LogFilesError),
    #[error("{0}")]
    DataDirectory(#[from] DataDirectoryError),
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    #[error(
        "{} is no data directory of a node: its identity cannot be read; name what \
         data_directory is in the node's configuration",
        path.display()
    )]
    NoNode { path: PathBuf },
    #[error("{}: {what}; see certus plog verify, and back up another node", directory.display())]
    Damaged { directory: PathBuf, what: String },
    #[error("{0}; see certus plog verify, and back up another node")]
    DamagedFiles(LogFilesError),
    #[error(
        "{}: this core abstains or rejoins, because its log was found damaged: what it lacks is not \
         known; back up another node",
        directory.display()
    )]
    Abstains { directory: PathBuf },
    #[error(
        "{}: entity {:016x} abstains, because its records could not be read; back up another node",
        directory.display(), entity.0
    )]
    EntityAbstains { directory: PathBuf, entity: EntityId },
    #[error(
        "{}: what changed since the checkpoint needs more than {mebibytes} MiB of memory; have the \
         node write a new one (certus checkpoint --addr HOST:PORT) and try again, or give --memory",
        directory.display()
    )]
    Memory { directory: PathBuf, mebibytes: u32 },
    #[error("{}: {error}", directory.display())]
    Replay { directory: PathBuf, error: ReplayError },
    #[error(
        "{}: files went away {attempts} times while they were read; have the node write a \
         checkpoint (certus checkpoint --addr HOST:PORT), then try again at once",
        directory.display()
    )]
    Restless { directory: PathBuf, attempts: usize },
    #[error("{} exists: name a place where nothing is yet", path.display())]
    Exists { path: PathBuf },
    #[error(
        "{} is there: another backup to the same place is under way, or one was interrupted; in \
         that case remove it",
        path.display()
    )]
    HalfMade { path: PathBuf },
    #[error(
        "{} is inside of the data directory, where nothing but the node's own may stand",
        path.display()
    )]
    Inside { path: PathBuf },
    #[error("{} is no name for a directory", path.display())]
    NoName { path: PathBuf },
    #[error(
        "{} has no manifest: it is no backup, or one that was interrupted, of which nothing is \
         known to be whole",
        path.display()
    )]
    NoManifest { path: PathBuf },
    #[error("{}: {error}", path.display())]
    Manifest { path: PathBuf, error: ManifestError },
    #[error("{}: {error}", path.display())]
    Part { path: PathBuf, error: PartFileError },
    #[error("{}: {what}", path.display())]
    NotWhole { path: PathBuf, what: String },
    #[error(
        "cluster_id is {found:#018x} in the configuration; a cluster restored from this backup has \
         one from {:#018x} to {:#018x}: write one of these for every node, and another one for \
         each cluster made from it",
        number.cluster_ids().start(), number.cluster_ids().end()
    )]
    ClusterId { found: u64, number: BackupNumber },
}

impl BackupError {
    /// How the command ends because of it.
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::Damaged { .. }
            | Self::DamagedFiles(_)
            | Self::Abstains { .. }
            | Self::EntityAbstains { .. }
            | Self::NoManifest { .. }
            | Self::Manifest { error: ManifestError::Damaged { .. }, .. }
            | Self::NotWhole { .. } => ExitStatus::Degraded,
            Self::Part { error, .. } => match error {
                PartFileError::Io(error) if !is_missing(error) => ExitStatus::Failed,
                _ => ExitStatus::Degraded,
            },
            Self::Replay { error: ReplayError::Diverged { .. }, .. } => ExitStatus::Degraded,
            _ => ExitStatus::Failed,
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

impl From<LogFilesError> for BackupError {
    fn from(error: LogFilesError) -> Self {
        match &error {
            LogFilesError::Short { .. } => Self::DamagedFiles(error),
            LogFilesError::Checkpoint(found) if found.is_damage() => Self::DamagedFiles(error),
            _ => Self::Files(error),
        }
    }
}
