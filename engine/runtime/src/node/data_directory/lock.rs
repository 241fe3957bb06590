//! The lock that lets one process use the directory.
//!
//! The kernel gives it up when the process ends, however it ends. The file stays; while it is
//! locked, its text is the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::node::data_directory::error::{DataDirectoryError, PERMISSIONS, Result, SPACE, failed};

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

/// Locks the directory at `path`, for as long as the file returned is open.
pub(super) fn take_lock(path: &Path) -> Result<File> {
    let lock_path = path.join(LOCK);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(failed(&lock_path, "opening it", PERMISSIONS))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = lock.read_to_string(&mut text);
            let holder = match (read, text.trim().parse::<u32>()) {
                (Ok(_), Ok(process)) => format!("process {process}"),
                _ => "another process".to_owned(),
            };
            return Err(DataDirectoryError::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => {
            let remedy = "use a file system that supports flock";
            return Err(failed(&lock_path, "locking it", remedy)(error));
        }
    }
    let write_pid = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(failed(&lock_path, "writing to it", SPACE))?;
    Ok(lock)
}
