//! What may stand in a data directory, by its name, and what does.

use std::io;
use std::path::{Path, PathBuf};

use plog::segment::SegmentFileName;

use crate::node::data_directory::boot_epoch::BOOT;
use crate::node::data_directory::error::{DataDirectoryError, PERMISSIONS, Result, SPACE, failed};
use crate::node::data_directory::identity::IDENTITY;
use crate::node::data_directory::lock::LOCK;
use crate::node::data_directory::reached;
use crate::node::data_directory::registering::REGISTERING;
use crate::node::data_directory::slack::SLACK;
use crate::node::membership_facts::MEMBERSHIP;
use crate::node::two_copies::{COPY_SUFFIX, TEMPORARY_SUFFIX};

/// Where what is remembered of peers stands.
pub(super) const PEERS: &str = "peers";
/// Stands in a directory into which a restore is under way, or was not finished.
pub(super) const RESTORING: &str = "restoring";
/// Begins the name of a core's directory.
pub(super) const CORE_PREFIX: &str = "core-";

/// Where the log of `core` stands.
pub(super) fn core_directory(path: &Path, core: u16) -> PathBuf {
    path.join(format!("{CORE_PREFIX}{core}"))
}

/// Makes a directory, unless it is there.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, "making it", SPACE)(error)),
    }
}

/// Refuses a directory that holds something this program did not make, or made half.
pub(super) fn refuse_foreign_files(path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path).map_err(failed(path, "listing it", PERMISSIONS))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(path, "listing it", PERMISSIONS))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if names.iter().any(|name| name == RESTORING) {
        return Err(DataDirectoryError::HalfRestored { path: path.to_owned() });
    }
    let is_ours = |name: &str| {
        let name = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(name);
        let name = name.strip_suffix(COPY_SUFFIX).unwrap_or(name);
        reached::is_name(name)
            || [LOCK, PEERS, RESTORING, SLACK].contains(&name)
            || [IDENTITY.name, BOOT.name, REGISTERING.name, MEMBERSHIP.name].contains(&name)
            || name.strip_prefix(CORE_PREFIX).is_some_and(|core| core.parse::<u16>().is_ok())
            // A file system's own directory, where a whole disk is mounted.
            || name == "lost+found"
    };
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(found) => Err(DataDirectoryError::NotCertus { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// Some segment file of some core, if there is one.
pub(super) fn first_segment(path: &Path) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(path).map_err(failed(path, "listing it", PERMISSIONS))? {
        let entry = entry.map_err(failed(path, "listing it", PERMISSIONS))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(CORE_PREFIX) {
            continue;
        }
        let core = entry.path();
        for file in std::fs::read_dir(&core).map_err(failed(&core, "listing it", PERMISSIONS))? {
            let file = file.map_err(failed(&core, "listing it", PERMISSIONS))?;
            let name = file.file_name().to_string_lossy().into_owned();
            if let Some(SegmentFileName::Segment(_)) = SegmentFileName::parse(&name) {
                return Ok(Some(file.path()));
            }
        }
    }
    Ok(None)
}
