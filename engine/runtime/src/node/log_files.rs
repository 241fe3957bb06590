//! One core's segment files: which there are, the open descriptors, and the way to new ones.
//!
//! Every file is opened with `O_DIRECT`, and a write to one counts as durable when it was made with
//! `RWF_DSYNC`. What is durable inside a file is worth nothing if its name is not, so a spare
//! becomes a segment by a rename *and* a sync of the directory, before anything is written to it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::segment::{SegmentFileName, SegmentId, SpareId};

use crate::node::log_line;
use crate::node::reserve_file;
use crate::node::segment_preparer::{SpareChannel, SpareReady};
use crate::node::two_copies::{TEMPORARY_SUFFIX, sync_directory};

/// The segment files of one core.
#[derive(Debug)]
pub struct LogFiles {
    directory: PathBuf,
    segments: BTreeMap<SegmentId, OwnedFd>,
    /// Parts of checkpoints.
    parts: BTreeMap<PartId, OwnedFd>,
    spares: SpareChannel,
}

impl LogFiles {
    /// The files of the core whose directory is `directory`, with these segments and parts of the
    /// checkpoint that counts open.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        segments: BTreeMap<SegmentId, OwnedFd>,
        parts: BTreeMap<PartId, OwnedFd>,
        spares: SpareChannel,
    ) -> Self {
        Self { directory, segments, parts, spares }
    }

    /// The directory of this core's log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The descriptor of `segment`, open for reading and writing with `O_DIRECT`, as long as these
    /// files live; `None` if there is no such segment. A part of a checkpoint has a segment's
    /// number, too.
    #[must_use]
    pub fn segment(&self, segment: SegmentId) -> Option<BorrowedFd<'_>> {
        let file = match PartId::of_file(segment) {
            Some(part) => self.parts.get(&part),
            None => self.segments.get(&segment),
        };
        file.map(|file| file.as_fd())
    }

    /// A part of a checkpoint was made.
    pub fn add_part(&mut self, part: PartId, file: OwnedFd) {
        self.parts.insert(part, file);
    }

    /// A part of a checkpoint is about to be deleted.
    pub fn close_part(&mut self, part: PartId) {
        self.parts.remove(&part);
    }

    /// A segment is about to be renamed or deleted.
    pub fn close_segment(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// The newest segment.
    #[must_use]
    pub fn newest(&self) -> Option<SegmentId> {
        self.segments.last_key_value().map(|(segment, _)| *segment)
    }

    /// How many segments there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.segments.len()
    }

    /// Makes `spare` the file of `segment`, durably, and returns its descriptor. Blocks for one
    /// sync of the directory, once per segment.
    ///
    /// # Errors
    ///
    /// The operating system's; the node cannot go on then.
    ///
    /// # Panics
    ///
    /// When there is such a segment already: a segment number is used once.
    pub fn open_spare(&mut self, spare: SpareId, segment: SegmentId) -> io::Result<BorrowedFd<'_>> {
        assert!(!self.segments.contains_key(&segment), "segment {segment} exists already");
        let from = self.directory.join(SegmentFileName::Spare(spare).to_string());
        let to = self.directory.join(SegmentFileName::Segment(segment).to_string());
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let file = open_direct(&from).map_err(|error| named(&from, error))?;
        std::fs::rename(&from, &to).map_err(|error| named(&to, error))?;
        sync_directory(&self.directory).map_err(|error| named(&self.directory, error))?;
        let file: &OwnedFd = self.segments.entry(segment).or_insert(file);
        Ok(file.as_fd())
    }

    /// Asks for one more spare, under that number; whether the request was taken. Each taken
    /// request is answered once through [`LogFiles::take_spare`].
    #[must_use]
    pub fn request_spare(&self, spare: SpareId) -> bool {
        self.spares.requests.request(spare)
    }

    /// The next spare that became ready or failed, if any. Never blocks.
    #[must_use]
    pub fn take_spare(&self) -> Option<SpareReady> {
        self.spares.ready.try_recv().ok()
    }
}

/// The files found in a core's directory.
#[derive(Debug)]
pub struct FoundFiles {
    /// Segment files by the number in their name.
    pub segments: BTreeMap<SegmentId, PathBuf>,
    /// Parts of checkpoints by their names.
    pub parts: BTreeMap<PartId, PathBuf>,
    /// Spares of full size, ascending.
    pub spares: Vec<SpareId>,
    /// Above the number of every spare that was there, whole or not.
    pub next_spare: SpareId,
    /// Bytes set aside for a full disk, if the file is there.
    pub reserve: Option<u64>,
    /// Files left half-made by a crash or of a wrong size: of no use.
    pub leftovers: Vec<PathBuf>,
}

impl FoundFiles {
    /// Looks through `directory`, changing nothing. Files with other names are left alone.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn look(directory: &Path, segment_size: u32) -> io::Result<Self> {
        let mut found = Self {
            segments: BTreeMap::new(),
            parts: BTreeMap::new(),
            spares: Vec::new(),
            next_spare: SpareId(1),
            reserve: None,
            leftovers: Vec::new(),
        };
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix(TEMPORARY_SUFFIX) {
                let is_made_here = SegmentFileName::parse(stem).is_some()
                    || PartId::parse(stem).is_some()
                    || stem == reserve_file::NAME;
                if is_made_here {
                    found.leftovers.push(path);
                }
                continue;
            }
            if name == reserve_file::NAME {
                found.reserve = Some(entry.metadata()?.len());
                continue;
            }
            if let Some(part) = PartId::parse(&name) {
                found.parts.insert(part, path);
                continue;
            }
            match SegmentFileName::parse(&name) {
                Some(SegmentFileName::Segment(segment)) => {
                    found.segments.insert(segment, path);
                }
                Some(SegmentFileName::Spare(spare)) => {
                    found.next_spare = found.next_spare.max(SpareId(spare.0.saturating_add(1)));
                    if entry.metadata()?.len() == u64::from(segment_size) {
                        found.spares.push(spare);
                    } else {
                        found.leftovers.push(path);
                    }
                }
                None => {}
            }
        }
        found.spares.sort_unstable();
        found.leftovers.sort();
        Ok(found)
    }

    /// Removes what the checkpoint that counts has made useless: segments before its floor, and
    /// other checkpoints, which a crash kept from being removed or adopted.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn remove_superseded(&mut self, pointer: Option<Pointer>) -> io::Result<()> {
        let floor = pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
        let kept = self.segments.split_off(&floor);
        let old = std::mem::replace(&mut self.segments, kept);
        let counts = |part: &PartId| pointer.is_some_and(|p| p.checkpoint == part.checkpoint);
        let useless = self.parts.iter().filter(|(part, _)| !counts(part));
        for path in old.values().chain(useless.map(|(_, path)| path)) {
            log_line::info("removed a file that no longer counts", &[("file", &path.display())]);
            std::fs::remove_file(path)?;
        }
        self.parts.retain(|part, _| counts(part));
        Ok(())
    }

    /// Removes what a crash left half-made, and says so.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn remove_leftovers(&mut self) -> io::Result<()> {
        for path in self.leftovers.drain(..) {
            log_line::info("removed a file left half-made", &[("file", &path.display())]);
            std::fs::remove_file(&path)?;
        }
        Ok(())
    }
}

/// Opens a segment file for aligned reading and writing past the page cache.
///
/// # Errors
///
/// The operating system's.
pub fn open_direct(path: &Path) -> io::Result<OwnedFd> {
    let file: File =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use plog::segment::{SegmentId, SpareId};

    use super::{FoundFiles, LogFiles};
    use crate::node::segment_preparer::{SegmentPreparer, make_spare};
    use crate::node::test_directory::TestDirectory;

    const SIZE: u32 = 64 << 10;

    #[test]
    fn whole_spares_are_used_again_and_half_made_ones_removed() {
        let directory = TestDirectory::new();
        for spare in [2, 11] {
            make_spare(directory.path(), SpareId(spare), SIZE, None).unwrap();
        }
        for name in [
            "spare-12.plog",
            "spare-13.plog.new",
            "reserve.new",
            "letters.txt",
            "0000000000000003.plog",
            "reserve",
        ] {
            std::fs::write(directory.path().join(name), b"short").unwrap();
        }
        let mut found = FoundFiles::look(directory.path(), SIZE).unwrap();
        assert_eq!(found.spares, [SpareId(2), SpareId(11)]);
        assert_eq!(found.reserve, Some(5));
        assert_eq!(found.next_spare, SpareId(13), "a number in use is not given out");
        assert_eq!(found.segments.keys().collect::<Vec<_>>(), [&SegmentId(3)]);
        found.remove_leftovers().unwrap();
        for (name, is_left) in [
            ("spare-12.plog", false),
            ("spare-13.plog.new", false),
            ("reserve.new", false),
            ("reserve", true),
            ("letters.txt", true),
            ("0000000000000003.plog", true),
        ] {
            assert_eq!(directory.path().join(name).exists(), is_left, "{name}");
        }
    }

    #[test]
    fn a_spare_becomes_a_segment_under_its_new_name_only() {
        let directory = TestDirectory::new();
        let cores = vec![directory.path().to_owned()];
        let (preparer, mut channels) = SegmentPreparer::start(cores, SIZE, 1 << 40).unwrap();
        let mut files = LogFiles::new(
            directory.path().to_owned(),
            BTreeMap::new(),
            BTreeMap::new(),
            channels.remove(0),
        );
        assert!(files.take_spare().is_none());
        assert!(files.request_spare(SpareId(1)));
        let ready = loop {
            match files.take_spare() {
                Some(ready) => break ready,
                None => std::thread::yield_now(),
            }
        };
        ready.result.unwrap();
        files.open_spare(ready.spare, SegmentId(1)).unwrap();
        assert!(files.segment(SegmentId(1)).is_some() && files.segment(SegmentId(2)).is_none());
        assert_eq!((files.newest(), files.count()), (Some(SegmentId(1)), 1));
        let found = FoundFiles::look(directory.path(), SIZE).unwrap();
        assert!(found.spares.is_empty() && found.segments.contains_key(&SegmentId(1)));
        let error = files.open_spare(SpareId(99), SegmentId(2)).unwrap_err();
        assert!(error.to_string().contains("spare-99.plog"), "{error}");
        drop(files);
        preparer.join();
    }
}
