//! `certus restore`: a data directory made from a backup.

use std::io;
use std::path::Path;

use net::resp::slot::shard_of;
use plog::backup_manifest::BackupNumber;
use plog::checkpoint::CheckpointId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::writer::PART_BYTES;
use plog::segment::SegmentId;
use plog::vocabulary::Lsn;
use runtime::node::checkpoint_files::{adopt, temporary};
use runtime::node::config::{Config, environment_overrides};
use runtime::node::data_directory::{
    ExpectedIdentity, LockedDirectory, RestoringDirectory, random_incarnation,
};
use runtime::node::preflight::usable_cpus;

use crate::arguments::Restore;
use crate::backup::error::BackupError;
use crate::backup::image_files::ImageFiles;
use crate::backup::whole_backup::WholeBackup;
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::progress::Progress;

/// Makes the data directory of one node.
pub fn restore(arguments: &Restore, console: &mut Console) -> ExitStatus {
    match try_restore(arguments, console) {
        Ok(()) => ExitStatus::Ok,
        Err(error) => {
            complain(&error);
            error.status()
        }
    }
}

fn try_restore(arguments: &Restore, console: &mut Console) -> Result<(), BackupError> {
    let backup = WholeBackup::open(&arguments.from)?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (overrides, _) = environment_overrides(environment);
    let config = Config::load(&arguments.config, &overrides)?;
    let cluster_id = config.cluster_id.0;
    if BackupNumber::of_cluster(cluster_id) != Some(backup.number) {
        return Err(BackupError::ClusterId { found: cluster_id, number: backup.number });
    }
    let expected = ExpectedIdentity::of(&config, &usable_cpus());
    let directory = LockedDirectory::take(&config.data_directory)?;
    let directory = directory.begin_restore(&expected, random_incarnation)?;
    if let Err(error) = fill(&directory, &backup) {
        if let Err(error) = directory.undo() {
            complain(error);
        }
        return Err(error);
    }
    let cores = directory.core_count();
    directory.finish()?;
    console.line(format_args!(
        "{}: node {} of cluster {cluster_id:#018x}, {cores} cores, {} entities, {} keys from \
         backup {}; restore every other node from the same backup before any of them starts",
        config.data_directory.display(),
        config.node_id,
        backup.manifest.entities(),
        backup.manifest.keys(),
        backup.number
    ));
    Ok(())
}

/// Writes the checkpoints of all cores, and lets them count.
fn fill(directory: &RestoringDirectory, backup: &WholeBackup) -> Result<(), BackupError> {
    let cores = directory.core_count();
    let begin = |core| {
        let identity = directory.log_identity(core);
        ImageFiles::begin(directory.core(core), identity, PART_BYTES, temporary)
    };
    let mut files: Vec<ImageFiles> = (0..cores).map(begin).collect();
    let progress = Progress::begin(None);
    let mut put = |image: &plog::log_record::LogRecord, keys| {
        files[usize::from(shard_of(image.entity(), cores))].push(image, keys)
    };
    backup.read(&progress, &mut put, &mut |_, _| ())?;
    for (core, files) in (0..cores).zip(files) {
        finish(&directory.core(core), files).map_err(BackupError::Write)?;
    }
    Ok(())
}

fn finish(directory: &Path, files: ImageFiles) -> io::Result<()> {
    let written = files.finish()?;
    let parts = u16::try_from(written.parts.len()).expect("parts are numbered by 16 bits");
    // Nothing of a log is needed beside it, and none was there when it was adopted.
    let pointer = Pointer {
        checkpoint: CheckpointId::FIRST,
        parts,
        floor: SegmentId::FIRST,
        settled: Lsn::ZERO,
        bytes: written.bytes,
    };
    adopt(directory, pointer)
}
