//! Reads a core's log from its files and says whether the node may go on with it.
//!
//! What the bytes mean is decided by `plog`'s scanner; this file brings them, a megabyte at a time
//! past the page cache, and turns the scanner's verdict into what an operator needs: nothing for a
//! clean end, a line for a torn tail (the last write before a crash, acknowledged to nobody), and
//! a line for each damaged place in the middle, where acknowledged promises may be gone: the core
//! then abstains. Only what is not this log's at all, or a newer version's, refuses the start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::pointer::Pointer;
use plog::identity::LogIdentity;
use plog::recovery::{Damage, Recovered, RecoveredTail, ScanError, ScannedRecord, Scanner};
use plog::segment::SegmentId;

use crate::node::checkpoint_files::CheckpointError;
use crate::node::fatal::{ExitStatus, Fatal};
use crate::node::log_files::{FoundFiles, open_direct};
use crate::node::log_line;
use crate::node::recovery_progress::Progress;

/// Bytes read at a time.
const CHUNK_SIZE: usize = 1 << 20;

/// Records handed out at a time.
const BATCH_RECORDS: usize = 64;

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
    /// The checkpoint that counts cannot be used.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
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
            Self::Checkpoint(CheckpointError::Io { .. }) => ExitStatus::Io,
            Self::Checkpoint(_) => ExitStatus::DataDirectory,
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
    /// What the files hold.
    pub recovered: Recovered,
    /// How many records were handed out.
    pub records: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

/// Reads the segments of `found` in order, from the floor of the checkpoint `pointer` on, and hands
/// every record before the first damage to `visit`, some at a time. Changes nothing on disk. Asks
/// `is_stopping` between reads.
///
/// # Errors
///
/// When a file cannot be read or is not this log's.
pub fn read_log(
    directory: &Path,
    identity: LogIdentity,
    found: &FoundFiles,
    pointer: Option<Pointer>,
    is_stopping: impl Fn() -> bool,
    mut visit: impl FnMut(&[ScannedRecord]),
) -> Result<RecoveredLog, RecoveryError> {
    // Nothing is ever freed without a checkpoint.
    let floor = pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
    let mut scanner = match found.segments.range(floor..).next() {
        None => Scanner::new(identity),
        Some(_) => Scanner::from_floor(identity, floor),
    };
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let mut segments = BTreeMap::new();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let mut batch = Vec::with_capacity(BATCH_RECORDS);
    let mut progress = Progress::begin("reading the log", found.segments.range(floor..).count());
    for (segment, path) in found.segments.range(floor..) {
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
            let mut count = |record: ScannedRecord| {
                records += 1;
                if !record.after_damage {
                    batch.push(record);
                }
                if batch.len() == BATCH_RECORDS {
                    visit(&batch);
                    batch.clear();
                }
            };
            scanner
                .feed(chunk, &mut count)
                .map_err(|error| RecoveryError::NotReadable { file: path.clone(), error })?;
            visit(&batch);
            batch.clear();
            let length = u64::try_from(length).expect("at most a chunk");
            offset += length;
            bytes += length;
            progress.tell(segments.len(), bytes, ("records", records));
        }
        segments.insert(*segment, OwnedFd::from(file));
    }
    let recovered = scanner.finish();
    tell(directory, &recovered);
    Ok(RecoveredLog { segments, tail: recovered.tail(), recovered, records, bytes })
}

/// Says what is not as it should be.
fn tell(directory: &Path, recovered: &Recovered) {
    let file_of = |segment: SegmentId| {
        directory.join(plog::segment::SegmentFileName::Segment(segment).to_string())
    };
    match recovered {
        Recovered::Empty | Recovered::Clean(_) => {}
        Recovered::TornTail { segment, offset, bytes, .. } => log_line::warn(
            "the last write before the stop was cut off and acknowledged to nobody; the log goes \
             on before it",
            &[("file", &file_of(*segment).display()), ("offset", offset), ("bytes", bytes)],
        ),
        Recovered::Damaged { segment, offset, reason, next_valid, further, .. } => {
            let (segment, offset, reason, next_valid) = (*segment, *offset, *reason, *next_valid);
            let first = Damage { segment, offset, reason, next_valid };
            for damage in std::iter::once(&first).chain(further) {
                let next = damage.next_valid.map_or_else(
                    || "nowhere".to_owned(),
                    |(segment, offset)| format!("{} byte {offset}", file_of(segment).display()),
                );
                log_line::error(
                    "the log is damaged: promises made here may be lost, so this core abstains",
                    &[
                        ("file", &file_of(damage.segment).display()),
                        ("offset", &damage.offset),
                        ("reason", &damage.reason),
                        ("good_frames_go_on_in", &next),
                    ],
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::io;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use plog::identity::LogIdentity;
    use plog::log::{Log, Urgency};
    use plog::log_config::LogConfig;
    use plog::log_record::LogRecord;
    use plog::recovery::{Recovered, ScannedRecord};
    use plog::segment::{SegmentFileName, SegmentId, SpareId};
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, ValueId};

    use super::{RecoveredLog, RecoveryError, read_log};
    use crate::node::fatal::ExitStatus;
    use crate::node::log_files::{FoundFiles, LogFiles};
    use crate::node::segment_preparer::{SegmentPreparer, SpareChannel, make_spare};
    use crate::node::test_directory::TestDirectory;

    const SIZE: u32 = 64 << 10;
    const IDENTITY: LogIdentity =
        LogIdentity { cluster: 7, node: 1, incarnation: 99, core: 0, core_count: 1 };

    fn config() -> LogConfig {
        LogConfig {
            segment_size: SIZE,
            frame_size_max: 16 << 10,
            ..LogConfig::for_identity(IDENTITY)
        }
    }

    fn record(number: u64) -> LogRecord {
        let value_id = ValueId { originator: AcceptorId(1), epoch: BootEpoch(1), counter: number };
        LogRecord::Value {
            entity: EntityId(number % 5),
            entry: Entry(number),
            value_id,
            bytes: vec![u8::try_from(number % 251).unwrap(); 5000].into(),
        }
    }

    fn channel(directory: &Path) -> SpareChannel {
        let (_thread, mut channels) =
            SegmentPreparer::start(vec![directory.to_owned()], SIZE, 1 << 40).unwrap();
        channels.remove(0)
    }

    /// Appends one frame for each of `numbers`, as a running core does, from where the directory's
    /// log ends.
    fn append(directory: &Path, numbers: std::ops::Range<u64>) {
        let (found, recovered, _) = read(directory).unwrap();
        let mut log = Log::new(config(), recovered.tail);
        let mut files = LogFiles::new(
            directory.to_owned(),
            recovered.segments,
            BTreeMap::new(),
            channel(directory),
        );
        let mut next_spare = found.next_spare;
        for spare in found.spares {
            log.handle_spare(spare);
        }
        for number in numbers {
            log.append(&record(number), Urgency::Now);
            if log.spares_wanted() > 0 {
                make_spare(directory, next_spare, SIZE, None).unwrap();
                log.handle_spare(next_spare);
                next_spare = SpareId(next_spare.0 + 1);
            }
            let write = log.poll_write().unwrap();
            if let Some(spare) = write.opens {
                files.open_spare(spare, write.segment).unwrap();
            }
            let file = files.segment(write.segment).unwrap().try_clone_to_owned().unwrap();
            std::fs::File::from(file).write_all_at(&write.buffer, write.offset).unwrap();
            log.handle_written(write.buffer);
        }
    }

    type Read = (FoundFiles, RecoveredLog, Vec<ScannedRecord>);

    fn read(directory: &Path) -> Result<Read, RecoveryError> {
        let found = FoundFiles::look(directory, SIZE).unwrap();
        let mut records = Vec::new();
        let log = read_log(
            directory,
            IDENTITY,
            &found,
            None,
            || false,
            |some| records.extend_from_slice(some),
        )?;
        Ok((found, log, records))
    }

    fn change(
        directory: &Path,
        segment: u64,
        change: impl FnOnce(&std::fs::File) -> io::Result<()>,
    ) {
        let name = SegmentFileName::Segment(SegmentId(segment)).to_string();
        let file = OpenOptions::new().read(true).write(true).open(directory.join(name)).unwrap();
        change(&file).unwrap();
    }

    #[test]
    fn a_log_written_over_several_starts_is_read_back_whole_and_in_order() {
        let directory = TestDirectory::new();
        assert!(
            read(directory.path()).unwrap().1.tail.is_none(),
            "an empty directory is a new log"
        );
        append(directory.path(), 1..10);
        append(directory.path(), 10..30);
        let (found, log, records) = read(directory.path()).unwrap();
        assert!(found.segments.len() > 2, "several segments were opened");
        assert_eq!(log.segments.len(), found.segments.len());
        assert_eq!(log.records, 29);
        assert_eq!(log.bytes, u64::from(SIZE) * u64::try_from(found.segments.len()).unwrap());
        let numbers: Vec<_> = records.iter().map(|scanned| scanned.record.clone()).collect();
        assert_eq!(numbers, (1..30).map(record).collect::<Vec<_>>());
    }

    #[test]
    fn a_torn_last_frame_is_left_out_and_the_log_goes_on_over_it() {
        let directory = TestDirectory::new();
        append(directory.path(), 1..4);
        let (_, log, records) = read(directory.path()).unwrap();
        let (tail, last) = (log.tail.unwrap(), records[2].location);
        // The frame's last block never reached the disk.
        let torn = tail.offset - 4096;
        assert!(u64::from(last.offset) < torn);
        change(directory.path(), tail.segment.0, |file| file.write_all_at(&[0; 4096], torn));
        assert_eq!(read(directory.path()).unwrap().2.len(), 2);
        append(directory.path(), 50..52);
        let numbers: Vec<_> =
            read(directory.path()).unwrap().2.into_iter().map(|scanned| scanned.record).collect();
        assert_eq!(numbers, [1, 2, 50, 51].map(record));
    }

    #[test]
    fn damage_in_the_middle_is_found_and_nothing_after_it_is_handed_out() {
        let directory = TestDirectory::new();
        append(directory.path(), 1..4);
        let (_, _, records) = read(directory.path()).unwrap();
        let offset = u64::from(records[1].location.offset) + 100;
        change(directory.path(), 1, |file| file.write_all_at(b"noise", offset));
        let (_, log, records) = read(directory.path()).unwrap();
        let Recovered::Damaged { segment, offset: found, next_valid, .. } = log.recovered else {
            panic!("{:?}", log.recovered);
        };
        assert!(segment == SegmentId(1) && found < offset && next_valid.is_some());
        let before: Vec<_> = records.into_iter().map(|scanned| scanned.record).collect();
        assert_eq!(before, [record(1)]);
    }

    #[test]
    fn a_missing_segment_is_damage() {
        let directory = TestDirectory::new();
        append(directory.path(), 1..30);
        let name = SegmentFileName::Segment(SegmentId(2)).to_string();
        std::fs::remove_file(directory.path().join(name)).unwrap();
        let (_, log, _) = read(directory.path()).unwrap();
        let is_there =
            matches!(log.recovered, Recovered::Damaged { segment: SegmentId(2), offset: 0, .. });
        assert!(is_there, "{:?}", log.recovered);
    }

    #[test]
    fn another_nodes_segment_is_refused_as_such() {
        let directory = TestDirectory::new();
        append(directory.path(), 1..3);
        let found = FoundFiles::look(directory.path(), SIZE).unwrap();
        let other = LogIdentity { node: 2, ..IDENTITY };
        let error = read_log(directory.path(), other, &found, None, || false, |_| {}).unwrap_err();
        assert_eq!(error.status(), ExitStatus::DataDirectory);
        assert!(error.to_string().contains("node 1"), "{error}");
    }

    #[test]
    fn reading_stops_when_the_node_does() {
        let directory = TestDirectory::new();
        append(directory.path(), 1..3);
        let found = FoundFiles::look(directory.path(), SIZE).unwrap();
        let error =
            read_log(directory.path(), IDENTITY, &found, None, || true, |_| {}).unwrap_err();
        assert_eq!(error.status(), ExitStatus::Ok);
    }
}
