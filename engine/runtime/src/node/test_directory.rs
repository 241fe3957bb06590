//! A directory of its own for a test, removed when the test ends.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty directory that lives as long as this value.
#[derive(Debug)]
pub(crate) struct TestDirectory {
    path: PathBuf,
}

impl TestDirectory {
    /// Makes one under the directory for temporary files.
    pub(crate) fn new() -> Self {
        Self::under(std::env::temp_dir())
    }

    /// Makes one where syncing costs nothing, if there is such a place: for tests that sync often
    /// and in which nothing crashes.
    pub(crate) fn in_memory() -> Self {
        let memory = PathBuf::from("/dev/shm");
        Self::under(if memory.is_dir() { memory } else { std::env::temp_dir() })
    }

    fn under(parent: PathBuf) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("certus-test-{}-{number}", std::process::id());
        let path = parent.join(name);
        // One left by an earlier process with this number means nothing.
        std::fs::remove_dir_all(&path).ok();
        std::fs::create_dir_all(&path).expect("the directory for temporary files is writable");
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok();
    }
}
