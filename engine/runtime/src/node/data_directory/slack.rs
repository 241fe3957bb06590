//! The file `slack`: a little space of the data directory's own, so that a node can be started on a
//! disk that others have filled to the last byte. Counting the start takes a new file for a moment,
//! in the place of an old one.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::node::reserve_file;
use crate::node::two_copies::sync_directory;

/// Its name.
pub(super) const SLACK: &str = "slack";

/// Its size: more than any fact takes, with what a file system adds.
const SLACK_BYTES: u64 = 64 << 10;

/// Lets go of the space. Whether there was any.
pub(super) fn give_back(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path.join(SLACK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        removed => removed?,
    }
    // A journal lets go of the blocks when it has the removal on disk.
    sync_directory(path)?;
    Ok(true)
}

/// Sets the space aside, unless it is. Without room nothing is: the next start tries again.
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
    // A copy may have a hole in the place of the space.
    if std::fs::metadata(path.join(SLACK)).is_ok_and(|found| found.blocks() * 512 >= SLACK_BYTES) {
        return Ok(());
    }
    reserve_file::set_aside(path, SLACK, SLACK_BYTES)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::{SLACK, SLACK_BYTES, give_back, set_aside};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn a_copy_with_a_hole_is_made_anew() {
        let directory = TestDirectory::new();
        let path = directory.path().join(SLACK);
        std::fs::File::create(&path).unwrap().set_len(SLACK_BYTES).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().blocks(), 0);
        set_aside(directory.path()).unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= SLACK_BYTES);
    }

    #[test]
    fn it_is_given_back_once_and_set_aside_again() {
        let directory = TestDirectory::new();
        assert!(!give_back(directory.path()).unwrap());
        for _ in 0..2 {
            set_aside(directory.path()).unwrap();
            set_aside(directory.path()).unwrap();
            let size = std::fs::metadata(directory.path().join(SLACK)).unwrap().len();
            assert_eq!(size, SLACK_BYTES);
            assert!(give_back(directory.path()).unwrap());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
