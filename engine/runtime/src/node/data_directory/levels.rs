//! The directory itself, made so that a crash cannot take it away.
//!
//! A new directory is a name in the one above it, and lasts once that one is synced. If a node's
//! directory were lost after it had met its peers, it would come back as a new one, without its
//! promises, and they would refuse it for ever. So each missing level of the path is made, and
//! synced into the one above it, before the next level is made in it.
//!
//! ```text
//! /srv                 is there          sync /
//! /srv/certus          made              sync /srv
//! /srv/certus/node-1   made              sync /srv/certus
//! ```
//!
//! The last level that is there is synced as well: a start may have been stopped between making it
//! and syncing it.

use std::io;
use std::path::Path;

use crate::node::data_directory::error::{Result, failed};

const SYNCING: &str = "syncing its name into the directory above it";
const MAKING: &str = "make it yourself, writable for the user that runs certusd";
const READABLE: &str = "make the directory above it readable for the user that runs certusd, and \
                        check that the disk is healthy";

/// One level of a path, and the directory that holds its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Level<'a> {
    directory: &'a Path,
    parent: &'a Path,
    is_there: bool,
}

/// The levels of `path` whose names may not be durable yet, from the top down: the last one that is
/// there, and all below it.
fn levels_to_sync(path: &Path, is_there: impl Fn(&Path) -> bool) -> Vec<Level<'_>> {
    let mut levels = Vec::new();
    for directory in path.ancestors() {
        // A root has no name, and neither has the place that a relative path begins at.
        let Some(parent) = directory.parent() else { break };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let is_there = is_there(directory);
        levels.push(Level { directory, parent, is_there });
        if is_there {
            break;
        }
    }
    levels.reverse();
    levels
}

/// Makes what is missing of the directory `path`, and its name durable with `sync`, which syncs one
/// directory.
///
/// # Errors
///
/// The operating system's. A level that could not be made durable is removed again: the next start
/// must not find it and take it for one that is.
pub(super) fn make_durably(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    for Level { directory, parent, is_there } in levels_to_sync(path, Path::exists) {
        if !is_there {
            match std::fs::create_dir(directory) {
                Ok(()) => {}
                // Another node that starts now may have made a level that both stand in.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(path, "making it", MAKING)(error)),
            }
        }
        let Err(error) = sync(parent) else { continue };
        if is_there && is_foreign(&error) {
            continue;
        }
        if !is_there {
            // Fails only when such another node has made something in it.
            std::fs::remove_dir(directory).ok();
        }
        return Err(failed(directory, SYNCING, READABLE)(error));
    }
    Ok(())
}

/// Whether a directory that cannot be synced for this reason is one in which no start of this node
/// has made anything: of another user, of a file system without such a sync, or one that is only
/// read. A disk may be mounted there for the node.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;
    use std::path::{Path, PathBuf};

    use super::{Level, levels_to_sync, make_durably};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn every_missing_level_and_the_last_one_that_is_there_are_synced_from_the_top_down() {
        // The path; which of it is there; each level to sync with its parent.
        type Case =
            (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);
        let cases: &[Case] = &[
            ("/a/b/c", &["/", "/a"], &[("/a", "/"), ("/a/b", "/a"), ("/a/b/c", "/a/b")]),
            ("/a/b/c", &["/", "/a", "/a/b", "/a/b/c"], &[("/a/b/c", "/a/b")]),
            ("/a/b", &["/"], &[("/a", "/"), ("/a/b", "/a")]),
            ("/", &["/"], &[]),
            ("a/b", &["a"], &[("a", "."), ("a/b", "a")]),
            ("a/b/", &[], &[("a", "."), ("a/b", "a")]),
            ("data", &[], &[("data", ".")]),
            ("../data", &[".."], &[("..", "."), ("../data", "..")]),
        ];
        for (path, there, wanted) in cases {
            let is_there = |level: &Path| there.iter().any(|known| Path::new(known) == level);
            let wanted: Vec<Level<'_>> = wanted
                .iter()
                .map(|(directory, parent)| Level {
                    directory: Path::new(directory),
                    parent: Path::new(parent),
                    is_there: is_there(Path::new(directory)),
                })
                .collect();
            assert_eq!(levels_to_sync(Path::new(path), is_there), wanted, "{path}");
        }
    }

    #[test]
    fn a_level_is_synced_into_its_parent_before_anything_is_made_in_it() {
        let directory = TestDirectory::new();
        let top = directory.path();
        let levels = [top.join("a"), top.join("a/b"), top.join("a/b/c")];
        let synced: RefCell<Vec<PathBuf>> = RefCell::default();
        let there = |level: &PathBuf| level.is_dir();
        make_durably(&levels[2], |parent| {
            synced.borrow_mut().push(parent.to_owned());
            // The first sync is of the level that was there before any was made.
            let made = synced.borrow().len() - 1;
            assert!(levels[..made].iter().all(there) && !levels[made..].iter().any(there));
            Ok(())
        })
        .unwrap();
        let parents = [top.parent().unwrap(), top, &levels[0], &levels[1]];
        assert_eq!(*synced.borrow(), parents);
        assert!(levels.iter().all(there));
        synced.borrow_mut().clear();
        let again = |parent: &Path| {
            synced.borrow_mut().push(parent.to_owned());
            Ok(())
        };
        make_durably(&levels[2], again).unwrap();
        assert_eq!(
            *synced.borrow(),
            [levels[1].clone()],
            "a start that was stopped is made up for"
        );
    }

    #[test]
    fn a_level_that_cannot_be_made_durable_is_not_left_for_the_next_start() {
        let directory = TestDirectory::new();
        let new = directory.path().join("a");
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Other] {
            let refuses = |parent: &Path| {
                if parent == directory.path() { Err(kind.into()) } else { Ok(()) }
            };
            let error = make_durably(&new.join("b"), refuses).unwrap_err().to_string();
            assert!(error.contains(&format!("{}: syncing its name", new.display())), "{error}");
            assert!(!new.exists());
        }
    }

    #[test]
    fn a_directory_mounted_where_nothing_can_be_synced_is_used() {
        let directory = TestDirectory::new();
        make_durably(directory.path(), |_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        make_durably(directory.path(), |_| Err(io::ErrorKind::InvalidInput.into())).unwrap();
        let error = make_durably(directory.path(), |_| Err(io::Error::from_raw_os_error(5)));
        assert!(error.is_err(), "a disk that fails is one on which nothing may be promised");
    }
}
