//! The files of one core's log, read while a node may be writing them.
//!
//! The same scanner that recovers a log at start judges it here; this file brings the bytes, past
//! the page cache where the file system allows, and changes nothing. What a running node does
//! meanwhile must not pass for damage:
//!
//! - *Frames are appended while the newest segment is read.* It is read backwards
//!   ([`crate::node_files::reading`]).
//! - *Segments are opened.* One is opened only when all before it is durable; one that came after
//!   the directory was listed is left out.
//! - *Segments are freed and used again under another name.* A file that is gone, or is no longer
//!   the one of its name when it was read, makes the reading begin anew.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::identity::LogIdentity;
use plog::recovery::{Recovered, ScanError, ScannedRecord, Scanner};
use plog::segment::{HeaderError, SegmentFileName, SegmentHeader, SegmentId, SpareId};
use plog::verify::VerifyReport;
use plog::vocabulary::Lsn;

use runtime::node::checkpoint_files::{CheckpointError, read_pointer};

use crate::node_files::reading::{CHUNK_SIZE, Source as _, chunk_at, read_backwards};
use crate::progress::Progress;

/// How often reading begins anew when segments go away meanwhile.
const ATTEMPTS: usize = 50;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogFilesError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{} holds neither core-N directories nor segment files: name the data directory of a node \
         (data_directory in its configuration), or one of its core-N directories",
        path.display()
    )]
    NoLogs { path: PathBuf },
    #[error("{}: {error}", path.display())]
    Header { path: PathBuf, error: HeaderError },
    #[error("{}: {error}", path.display())]
    Scan { path: PathBuf, error: ScanError },
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "{}: the log ends at record {last}, and had reached {reached} when its checkpoint was \
         adopted: acknowledged records are missing",
        path.display()
    )]
    Short { path: PathBuf, last: u64, reached: u64 },
    #[error("{}: segments went away {ATTEMPTS} times while they were read; try again", path.display())]
    Restless { path: PathBuf },
}

pub type Result<T> = std::result::Result<T, LogFilesError>;

/// Whether the visitor of records wants more of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Going {
    On,
    Enough,
}

/// The files of one core's log.
#[derive(Debug)]
pub struct LogFiles {
    pub directory: PathBuf,
    /// Whose log it is, where that is known; else the first readable header says it.
    pub identity: Option<LogIdentity>,
    /// Is told of every byte that is read.
    progress: Rc<Progress>,
}

/// What stands in the directory of a core.
#[derive(Debug, Default)]
pub struct Listing {
    pub segments: BTreeMap<SegmentId, PathBuf>,
    pub spares: BTreeMap<SpareId, PathBuf>,
    pub parts: BTreeMap<PartId, PathBuf>,
    /// Names of none of these.
    pub others: Vec<String>,
}

/// How a pass over the files ended.
#[derive(Debug)]
pub enum Pass {
    /// At the end of the log.
    Done(VerifyReport),
    /// Before it, because the visitor had enough, or there is nothing to read.
    Enough,
    /// Before it: a segment went away meanwhile, and it has to be made again.
    Moved,
}

impl LogFiles {
    /// The files in `directory`, of the log of `identity`, or of whichever they are.
    ///
    /// # Errors
    ///
    /// When the directory, or the header that says whose it is, cannot be read.
    pub fn find(directory: &Path, identity: Option<LogIdentity>) -> Result<Self> {
        let identity = match identity {
            Some(identity) => Some(identity),
            None => find_identity(&Listing::read(directory)?.segments)?,
        };
        let progress = Rc::new(Progress::silent());
        Ok(Self { directory: directory.to_owned(), identity, progress })
    }

    /// Tells `progress` of every byte that is read, and reads no faster than it allows; of the
    /// newest segment all at once.
    pub fn with_progress(self, progress: Rc<Progress>) -> Self {
        Self { progress, ..self }
    }

    pub fn title(&self) -> String {
        let whose = self.identity.map_or_else(
            || "no segment header".to_owned(),
            |LogIdentity { cluster, node, core, core_count, .. }| {
                format!("cluster {cluster:#018x} node {node} core {core} of {core_count}")
            },
        );
        format!("{}: {whose}", self.directory.display())
    }

    /// Feeds every file to a scanner, and each record to `visit` until it has enough; [`None`]
    /// then.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is another log's or a newer version's, or when files go away
    /// all the time.
    pub fn scan(
        &self,
        mut visit: impl FnMut(&ScannedRecord) -> Going,
    ) -> Result<Option<VerifyReport>> {
        let mut visited = Lsn::ZERO;
        for _ in 0..ATTEMPTS {
            let pass = self.pass(&mut |record| {
                // Records are numbered; those of a pass before were visited.
                if record.lsn <= visited {
                    return Going::On;
                }
                visited = record.lsn;
                visit(record)
            })?;
            match pass {
                Pass::Done(report) => return Ok(Some(report)),
                Pass::Enough => return Ok(None),
                Pass::Moved => {}
            }
        }
        Err(LogFilesError::Restless { path: self.directory.clone() })
    }

    fn pass(&self, visit: &mut dyn FnMut(&ScannedRecord) -> Going) -> Result<Pass> {
        // Without a readable header nothing can be another log's.
        let nobody = LogIdentity { cluster: 0, node: 0, incarnation: 0, core: 0, core_count: 1 };
        let identity = self.identity.unwrap_or(nobody);
        // The pointer first: what it needs is there for as long as it stands.
        let pointer = read_pointer(&self.directory, false)?;
        let floor = pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
        let mut segments = Listing::read(&self.directory)?.segments;
        // Before the floor nothing counts, and everything may go at any time.
        segments = segments.split_off(&floor);
        let mut scanner = match segments.is_empty() {
            true => Scanner::new(identity),
            false => Scanner::from_floor(identity, floor),
        };
        let read = self.read(&mut scanner, &segments, &mut |_| Going::On, visit)?;
        if let Some(ended) = read {
            return Ok(ended);
        }
        let report = scanner.into_report();
        let last = report.outcome.tail().map_or(Lsn::ZERO, |tail| tail.last_lsn);
        let is_short = pointer.is_some_and(|pointer| last < pointer.settled);
        if is_short || !is_whole(&report.outcome) {
            // What is missing may have been freed meanwhile.
            let now = read_pointer(&self.directory, false)?;
            if now.map(|now| now.checkpoint) != pointer.map(|pointer| pointer.checkpoint) {
                return Ok(Pass::Moved);
            }
        }
        match pointer {
            Some(pointer) if last < pointer.settled => {
                let (path, reached) = (self.directory.clone(), pointer.settled.0);
                Err(LogFilesError::Short { path, last: last.0, reached })
            }
            Some(_) | None => Ok(Pass::Done(report)),
        }
    }

    /// Feeds the segments from `from` on to a scanner, each announced to `begin`, and each record
    /// to `visit`.
    ///
    /// # Errors
    ///
    /// As of [`LogFiles::scan`].
    pub fn scan_from(
        &self,
        from: SegmentId,
        begin: &mut dyn FnMut(SegmentId) -> Going,
        visit: &mut dyn FnMut(&ScannedRecord) -> Going,
    ) -> Result<Pass> {
        let segments = Listing::read(&self.directory)?.segments.split_off(&from);
        let Some(identity) = self.identity.filter(|_| !segments.is_empty()) else {
            return Ok(Pass::Enough);
        };
        let mut scanner = Scanner::from_floor(identity, from);
        let read = self.read(&mut scanner, &segments, begin, visit)?;
        Ok(read.unwrap_or_else(|| Pass::Done(scanner.into_report())))
    }

    /// Why reading ended before the end of the log, if it did.
    fn read(
        &self,
        scanner: &mut Scanner,
        segments: &BTreeMap<SegmentId, PathBuf>,
        begin: &mut dyn FnMut(SegmentId) -> Going,
        visit: &mut dyn FnMut(&ScannedRecord) -> Going,
    ) -> Result<Option<Pass>> {
        let newest = segments.last_key_value().map(|(segment, _)| *segment);
        let mut going = Going::On;
        for (&segment, path) in segments {
            if begin(segment) == Going::Enough {
                return Ok(Some(Pass::Enough));
            }
            let failed = |error| LogFilesError::Io { path: path.clone(), error };
            let file = match open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Some(Pass::Moved));
                }
                file => file.map_err(failed)?,
            };
            let size = file.metadata().map_err(failed)?.len();
            scanner.begin_segment(segment, size);
            let mut feed = |bytes: &[u8]| {
                let mut hand_on = |record: ScannedRecord| {
                    if going == Going::On {
                        going = visit(&record);
                    }
                };
                let fed = scanner.feed(bytes, &mut hand_on);
                fed.map_err(|error| LogFilesError::Scan { path: path.clone(), error })?;
                Ok::<bool, LogFilesError>(going == Going::On)
            };
            if newest == Some(segment) {
                for chunk in read_backwards(&file, size).map_err(failed)? {
                    self.progress.took(chunk.len());
                    if !feed(&chunk)? {
                        return Ok(Some(Pass::Enough));
                    }
                }
            } else {
                let mut chunk = AlignedBuffer::zeroed(CHUNK_SIZE);
                let mut offset = 0;
                while offset < size {
                    let count = chunk_at(offset, size);
                    file.read_full(&mut chunk, offset, count).map_err(failed)?;
                    self.progress.took(count);
                    if !feed(&chunk[..count])? {
                        return Ok(Some(Pass::Enough));
                    }
                    offset += count as u64;
                }
            }
            if !is_still(path, &file) {
                return Ok(Some(Pass::Moved));
            }
        }
        Ok(None)
    }
}

/// Opens a file for reading, past the page cache if it can be.
pub fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => File::open(path),
        opened => opened,
    }
}

/// Whether `file` is still the one that has the name `path`.
fn is_still(path: &Path, file: &File) -> bool {
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// Reads a spare to its end, for nothing but to see that it can be read. Its size; [`None`] when it
/// became a segment meanwhile.
///
/// # Errors
///
/// The operating system's.
pub fn read_spare(path: &Path) -> io::Result<Option<u64>> {
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let size = file.metadata()?.len();
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let mut offset = 0;
    while offset < size {
        let count = chunk_at(offset, size);
        file.read_full(&mut buffer, offset, count)?;
        offset += count as u64;
    }
    Ok(Some(size))
}

impl Listing {
    /// What stands in `directory` now.
    ///
    /// # Errors
    ///
    /// When it cannot be listed.
    pub fn read(directory: &Path) -> Result<Self> {
        let failed = |error| LogFilesError::Io { path: directory.to_owned(), error };
        let mut listing = Self::default();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match SegmentFileName::parse(&name) {
                Some(SegmentFileName::Segment(segment)) => {
                    listing.segments.insert(segment, entry.path());
                }
                Some(SegmentFileName::Spare(spare)) => {
                    listing.spares.insert(spare, entry.path());
                }
                None => match PartId::parse(&name) {
                    Some(part) => {
                        listing.parts.insert(part, entry.path());
                    }
                    None => listing.others.push(name),
                },
            }
        }
        listing.others.sort();
        Ok(listing)
    }
}

/// The directories of logs under `directory`, with the core each is of: those of all cores, in
/// order, or the one that was named.
///
/// # Errors
///
/// When there is none, or the directory cannot be listed.
pub fn find_logs(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = Listing::read(directory)?;
    if !listing.segments.is_empty() {
        return Ok(vec![directory.to_owned()]);
    }
    let cores: BTreeMap<u16, PathBuf> = listing
        .others
        .iter()
        .filter_map(|name| Some((core_number(name)?, directory.join(name))))
        .collect();
    // A core that never came to write has an empty directory.
    let is_core = directory.file_name().and_then(|name| core_number(name.to_str()?)).is_some();
    match (cores.is_empty(), is_core) {
        (true, true) => Ok(vec![directory.to_owned()]),
        (true, false) => Err(LogFilesError::NoLogs { path: directory.to_owned() }),
        (false, _) => Ok(cores.into_values().collect()),
    }
}

/// The core whose directory has this name.
pub fn core_number(name: &str) -> Option<u16> {
    name.strip_prefix("core-")?.parse().ok()
}

/// Whose log the first segment with a readable header is.
fn find_identity(segments: &BTreeMap<SegmentId, PathBuf>) -> Result<Option<LogIdentity>> {
    for path in segments.values() {
        let failed = |error| LogFilesError::Io { path: path.clone(), error };
        let mut block = AlignedBuffer::zeroed(BLOCK_SIZE);
        let file = match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(failed)?,
        };
        let count = file.read_at(&mut block, 0).map_err(failed)?;
        match SegmentHeader::parse(&block[..count]) {
            Ok(header) => return Ok(Some(header.identity)),
            Err(error @ HeaderError::Newer { .. }) => {
                return Err(LogFilesError::Header { path: path.clone(), error });
            }
            Err(HeaderError::Empty | HeaderError::Damaged | HeaderError::Foreign(_)) => {}
        }
    }
    Ok(None)
}

/// Whether nothing that counted is missing.
pub fn is_whole(outcome: &Recovered) -> bool {
    match outcome {
        Recovered::Empty | Recovered::Clean(_) | Recovered::TornTail { .. } => true,
        Recovered::Damaged { .. } => false,
    }
}
