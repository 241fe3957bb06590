//! `certus backup` and `certus restore`: all that a node has applied, in a directory of files, and
//! back into a new cluster of any shape.
//!
//! A backup is taken from a node's files ([`core_reader`]), whether it runs or not. It is a
//! checkpoint of all cores in one ([`image_files`]) with a manifest beside it
//! ([`whole_backup`]), written under a temporary name and renamed when all of it is durable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use plog::backup_manifest::{BackupNumber, Manifest};
use plog::checkpoint::PartId;
use plog::checkpoint::writer::PART_BYTES;
use runtime::node::data_directory::{
    DirectoryIdentity, Survey, is_loss_noted, load_reached, log_identity, random_incarnation,
};
use runtime::node::two_copies::{replace_file, sync_directory};

use crate::arguments::{BackupTake, BackupVerify};
use crate::backup::core_reader::CoreReader;
use crate::backup::error::BackupError;
use crate::backup::image_files::ImageFiles;
use crate::backup::whole_backup::{MANIFEST, WholeBackup};
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::progress::Progress;

pub use crate::backup::restore::restore;

mod core_reader;
mod error;
mod image_files;
mod portable_image;
mod restore;
#[cfg(test)]
mod tests;
mod whole_backup;

/// Ends the name of the directory in which a backup is being made.
const TEMPORARY_SUFFIX: &str = ".new";

/// Takes a backup.
pub fn take(arguments: &BackupTake, console: &mut Console) -> ExitStatus {
    match try_take(arguments) {
        Ok(backup) => {
            console.line(arguments.to.display());
            backup.lines().iter().for_each(|line| console.line(line));
            ExitStatus::Ok
        }
        Err(error) => {
            complain(&error);
            error.status()
        }
    }
}

/// Reads every byte of a backup and says what it holds.
pub fn verify(arguments: &BackupVerify, console: &mut Console) -> ExitStatus {
    let verified = WholeBackup::open(&arguments.directory).and_then(|backup| {
        console.line(arguments.directory.display());
        backup.lines().iter().for_each(|line| console.line(line));
        let progress = Progress::begin(None);
        backup.read(&progress, &mut |_, _| Ok(()), &mut |number, whole| {
            let part = Manifest::part(number);
            console.line(format_args!("  {part}: {} entities", whole.summary.images));
        })
    });
    match verified {
        Ok(()) => {
            console.line("clean: every byte is as it was written");
            ExitStatus::Ok
        }
        Err(error) => {
            complain(&error);
            error.status()
        }
    }
}

fn try_take(arguments: &BackupTake) -> Result<WholeBackup, BackupError> {
    let data = &arguments.data_directory;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::Io { path, error }
    };
    let identity = Survey::look(data).map_err(failed(data))?.identity;
    let identity = identity.ok_or_else(|| BackupError::NoNode { path: data.clone() })?;
    let (to, temporary) = places(&arguments.to, data)?;
    match fs::create_dir(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::HalfMade { path: temporary });
        }
        made => made.map_err(failed(&temporary))?,
    }
    let taken = fill(arguments, &identity, &temporary).and_then(|(manifest, number)| {
        fs::rename(&temporary, &to).map_err(failed(&to))?;
        let parent = to.parent().expect("it was made of a parent and a name");
        sync_directory(parent).map_err(failed(parent))?;
        Ok(WholeBackup { directory: to.clone(), manifest, number })
    });
    if taken.is_err() {
        // What is left of it, if this fails, has no manifest, or is whole.
        fs::remove_dir_all(&temporary).ok();
    }
    taken
}

/// Where the backup goes, and where it is made.
fn places(to: &Path, data: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let no_name = || BackupError::NoName { path: to.to_owned() };
    let name = to.file_name().ok_or_else(no_name)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let whole = |path: &Path| {
        path.canonicalize().map_err(|error| BackupError::Io { path: path.to_owned(), error })
    };
    let parent = whole(parent)?;
    if parent.starts_with(whole(data)?) {
        return Err(BackupError::Inside { path: to.to_owned() });
    }
    let to = parent.join(name);
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { path: to });
    }
    let mut temporary = name.to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    Ok((to, parent.join(temporary)))
}

/// Writes all of a backup into `directory`. When it returns, all of it is durable.
fn fill(
    arguments: &BackupTake,
    node: &DirectoryIdentity,
    directory: &Path,
) -> Result<(Manifest, BackupNumber), BackupError> {
    let random = |error| BackupError::Io { path: "/dev/urandom".into(), error };
    let mut manifest = Manifest {
        cluster: node.cluster_id,
        node: node.node_id,
        replicas: node.replicas,
        incarnation: node.incarnation,
        backup: random_incarnation().map_err(random)?,
        began_us: now_us(),
        ended_us: 0,
        cores: Vec::new(),
        parts: Vec::new(),
    };
    let progress = Rc::new(Progress::begin(arguments.rate));
    let name = |directory: &Path, part: PartId| directory.join(part.to_string());
    let identity = manifest.identity();
    let mut images = ImageFiles::begin(directory.to_owned(), identity, PART_BYTES, name);
    for core in 0..node.core_count {
        let data = &arguments.data_directory;
        let path = data.join(format!("core-{core}"));
        if is_loss_noted(&path) {
            return Err(BackupError::Abstains { directory: path });
        }
        let reader = CoreReader {
            directory: path,
            identity: log_identity(data, node, core)?,
            reached: load_reached(data, core)?,
            mebibytes: arguments.memory,
            progress: Rc::clone(&progress),
        };
        manifest.cores.push(reader.read(&mut images)?);
    }
    manifest.parts = images.finish().map_err(BackupError::Write)?.parts;
    manifest.ended_us = now_us();
    let failed = |error| BackupError::Io { path: directory.to_owned(), error };
    // The names of the parts, before anything says that they are there.
    sync_directory(directory).map_err(failed)?;
    let (bytes, number) = manifest.encode();
    replace_file(&directory.join(MANIFEST), &bytes).map_err(failed)?;
    Ok((manifest, number))
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
