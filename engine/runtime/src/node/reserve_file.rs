//! The file `reserve` of a core: space set aside for a full disk. Nothing is ever written to it.
//!
//! `posix_fallocate` makes it: of ext4 and tmpfs it was seen that what it took is kept from
//! everybody else, and there to be written once the file is gone. Unlike the spares nobody syncs
//! writes to it, so that its blocks need not have been written.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::node::segment_preparer::reserve_blocks;
use crate::node::two_copies::{TEMPORARY_SUFFIX, sync_directory};

/// Its name.
pub const NAME: &str = "reserve";

/// What is to be done with the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReserveJob {
    /// Make it, of so many bytes, in the place of one of another size. 0: there is to be none.
    Make(u64),
    /// Delete it.
    GiveBack,
}

/// Does it.
///
/// # Errors
///
/// The operating system's.
pub fn perform(directory: &Path, job: ReserveJob) -> io::Result<()> {
    match job {
        ReserveJob::Make(size) => make(directory, size),
        ReserveJob::GiveBack => give_back(directory),
    }
}

/// Sets `size` bytes aside, in the place of what is there; 0: nothing.
///
/// # Errors
///
/// The operating system's, above all that there is no room; the file is then as it was.
fn make(directory: &Path, size: u64) -> io::Result<()> {
    let path = directory.join(NAME);
    if size == 0 {
        return give_back(directory);
    }
    // One of another size would take the room of this one.
    remove(&path)?;
    set_aside(directory, NAME, size)
}

/// Makes the file `name` of `size` bytes whose blocks are its own, durably.
///
/// # Errors
///
/// The operating system's; nothing is left of it then.
pub(super) fn set_aside(directory: &Path, name: &str, size: u64) -> io::Result<()> {
    let temporary = directory.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let made = allocate(&temporary, size)
        .and_then(|()| std::fs::rename(&temporary, directory.join(name)))
        .and_then(|()| sync_directory(directory));
    if made.is_err() {
        // The next attempt, or the next start, removes what cannot be removed now.
        std::fs::remove_file(&temporary).ok();
    }
    made
}

/// Lets go of the space.
///
/// # Errors
///
/// The operating system's.
fn give_back(directory: &Path) -> io::Result<()> {
    remove(&directory.join(NAME))?;
    // A journal lets go of the blocks when it has the removal on disk.
    sync_directory(directory)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn allocate(path: &Path, size: u64) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    reserve_blocks(&file, size)?;
    // Where blocks cannot be reserved, the file is empty, and promises nothing.
    file.set_len(size)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::{NAME, give_back, make};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn its_blocks_are_taken_and_let_go_again() {
        let directory = TestDirectory::new();
        let path = directory.path().join(NAME);
        for size in [1 << 20, 1 << 20, 3 << 20] {
            make(directory.path(), size).unwrap();
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!(found.len(), size);
            assert!(found.blocks() * 512 >= size, "{} blocks", found.blocks());
        }
        make(directory.path(), 0).unwrap();
        assert!(!path.exists());
        give_back(directory.path()).expect("nothing to give back is fine");
        make(&directory.path().join("missing"), 1 << 20).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
