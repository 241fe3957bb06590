//! Reads a core's log from its files and says whether the node may go on with it.
//!
//! What the bytes mean is decided by `plog`'s scanner; this file brings them, a megabyte at a time
//! past the page cache, and turns the scanner's verdict into what an operator needs: nothing for a
//! clean end, a line for a torn tail (the last write before a crash, acknowledged to nobody), and a
//! refusal for damage in the middle, where acknowledged promises may be gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::identity::LogIdentity;
use plog::recovery::{DamageReason, Recovered, RecoveredTail, ScanError, ScannedRecord, Scanner};
use plog::segment::SegmentId;

use crate::node::fatal::{ExitStatus, Fatal};
use crate::node::log_files::{FoundFiles, open_direct};
use crate::node::log_line;

/// Bytes read at a time.
const CHUNK_SIZE: usize = 1 << 20;

/// Pause between progress lines.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A file cannot be read.
    #[error(
        "reading log file {}: {error}; check the disk (the kernel's log names it), then restart",
        file.display()
    )]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A file is another log's, or a newer version's.
    #[error("log file {}: {error}", file.display())]
    NotReadable {
        /// The file.
        file: PathBuf,
        /// What the scanner says.
        error: ScanError,
    },
    /// Acknowledged records may be missing.
    #[error(
        "log file {} is damaged at byte {offset}: {reason}{next}; promises this node has made may \
         be lost, so it must not vote with this log; check the disk, restore the file from where \
         it may still be whole, or move the data directory away and let the node join anew, which \
         its peers must be told",
        file.display()
    )]
    Damaged {
        /// The file where the damage begins.
        file: PathBuf,
        /// Where it begins.
        offset: u64,
        /// What is wrong there.
        reason: DamageReason,
        /// Where good frames go on, as text; may be empty.
        next: String,
    },
    /// The node was told to stop meanwhile.
    #[error("stopped while reading the log")]
    Stopped,
}

impl RecoveryError {
    /// How the process ends because of it.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::Io { .. } => ExitStatus::Io,
            Self::NotReadable { .. } => ExitStatus::DataDirectory,
            Self::Damaged { .. } => ExitStatus::DamagedLog,
            Self::Stopped => ExitStatus::Ok,
        }
    }
}

impl From<RecoveryError> for Fatal {
    fn from(error: RecoveryError) -> Self {
        Self::new(error.status(), &error)
    }
}

/// A core's log, read.
#[derive(Debug)]
pub struct RecoveredLog {
    /// Every segment, open for reading and writing.
    pub segments: BTreeMap<SegmentId, OwnedFd>,
    /// Where the log goes on; `None` for a new one.
    pub tail: Option<RecoveredTail>,
    /// How many records were handed out.
    pub records: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// Reads the segments of `found` in order and hands every record to `visit`. Changes nothing on
/// disk. Asks `is_stopping` between reads.
///
/// # Errors
///
/// When a file cannot be read, is not this log's, or is damaged before the log's end.
pub fn read_log(
    directory: &Path,
    identity: LogIdentity,
    found: &FoundFiles,
    is_stopping: impl Fn() -> bool,
    mut visit: impl FnMut(ScannedRecord),
) -> Result<RecoveredLog, RecoveryError> {
    let mut scanner = Scanner::new(identity);
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let mut segments = BTreeMap::new();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let mut progress = Progress::begin(found.segments.len());
    for (segment, path) in &found.segments {
        let failed = |error| RecoveryError::Io { file: path.clone(), error };
        let file = File::from(open_direct(path).map_err(failed)?);
        let size = file.metadata().map_err(failed)?.len();
        scanner.begin_segment(*segment, size);
        let whole = size - size % u64::try_from(BLOCK_SIZE).expect("a block is small");
        let mut offset = 0;
        while offset < whole {
            if is_stopping() {
                return Err(RecoveryError::Stopped);
            }
            let rest = usize::try_from(whole - offset).unwrap_or(usize::MAX);
            let length = rest.min(CHUNK_SIZE);
            let chunk = &mut buffer[..length];
            file.read_exact_at(chunk, offset).map_err(failed)?;
            let mut count = |record| {
                records += 1;
                visit(record);
            };
            scanner
                .feed(chunk, &mut count)
                .map_err(|error| RecoveryError::NotReadable { file: path.clone(), error })?;
            let length = u64::try_from(length).expect("at most a chunk");
            offset += length;
            bytes += length;
            progress.tell(bytes, records, segments.len());
        }
        segments.insert(*segment, OwnedFd::from(file));
    }
    let tail = judge(directory, scanner.finish())?;
    Ok(RecoveredLog { segments, tail, records, bytes })
}

/// What the node makes of the scanner's verdict.
fn judge(
    directory: &Path,
    recovered: Recovered,
) -> Result<Option<RecoveredTail>, RecoveryError> {
    let file_of = |segment: SegmentId| {
        directory.join(plog::segment::SegmentFileName::Segment(segment).to_string())
    };
    match recovered {
        Recovered::Empty => Ok(None),
        Recovered::Clean(tail) => Ok(Some(tail)),
        Recovered::TornTail { tail, segment, offset, bytes } => {
            log_line::warn(
                "the last write before the stop was cut off and acknowledged to nobody; the log \
                 goes on before it",
                &[("file", &file_of(segment).display()), ("offset", &offset), ("bytes", &bytes)],
            );
            Ok(Some(tail))
        }
        Recovered::Damaged { segment, offset, reason, next_valid, further, .. } => {
            let mut next = next_valid.map_or_else(String::new, |(segment, offset)| {
                let file = file_of(segment);
                format!("; good frames go on in {} at byte {offset}", file.display())
            });
            if !further.is_empty() {
                next.push_str(&format!("; {} more places are damaged", further.len()));
            }
            Err(RecoveryError::Damaged { file: file_of(segment), offset, reason, next })
        }
    }
}

/// Says how far reading is, when it takes long.
struct Progress {
    next: Instant,
    files: usize,
}

impl Progress {
    fn begin(files: usize) -> Self {
        Self { next: Instant::now() + PROGRESS_EVERY, files }
    }

    fn tell(&mut self, bytes: u64, records: u64, files_done: usize) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + PROGRESS_EVERY;
            log_line::info(
                "reading the log",
                &[
                    ("files_done", &files_done),
                    ("files", &self.files),
                    ("bytes", &bytes),
                    ("records", &records),
                ],
            );
        }
    }
}
