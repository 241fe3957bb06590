//! `certus plog`: what the log files of a node say, read while the node does not run.
//!
//! The same scanner that recovers a log at start judges it here; this file only brings the bytes,
//! with plain reads, and changes nothing. A running node may be looked at as well: what it is
//! writing at that moment then looks like a cut-off last write.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use plog::block::BLOCK_SIZE;
use plog::dump::record_line;
use plog::identity::LogIdentity;
use plog::recovery::{Recovered, ScanError, ScannedRecord, Scanner};
use plog::segment::{HeaderError, SegmentFileName, SegmentHeader, SegmentId};
use plog::verify::VerifyReport;

use crate::arguments::{PlogDump, PlogVerify};
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;

/// Bytes read at a time.
const CHUNK_SIZE: usize = 1 << 20;

/// Begins the name of a core's directory in a data directory.
const CORE_PREFIX: &str = "core-";

/// Why a directory has no logs to read.
#[derive(Debug, thiserror::Error)]
enum LogFilesError {
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
}

type Result<T> = std::result::Result<T, LogFilesError>;

/// Prints a report on every segment.
pub fn verify(arguments: &PlogVerify, console: &mut Console) -> ExitStatus {
    each_log(&arguments.directory, console, |log, console| {
        let report = log.scan(|_| Going::On)?;
        for line in report.to_string().lines() {
            console.line(format_args!("  {line}"));
        }
        if log.spares > 0 {
            console.line(format_args!("  and {} spare files, not looked into", log.spares));
        }
        Ok(status_of(&report.outcome))
    })
}

/// Prints one line for each record.
pub fn dump(arguments: &PlogDump, console: &mut Console) -> ExitStatus {
    each_log(&arguments.directory, console, |log, console| {
        let mut left = arguments.limit.unwrap_or(u64::MAX);
        let mut is_cut = left == 0;
        let report = log.scan(|record| {
            if arguments.entity.is_some_and(|entity| record.record.entity() != entity) {
                return Going::On;
            }
            if left == 0 || console.is_closed() {
                is_cut = true;
                return Going::Enough;
            }
            left -= 1;
            console.line(record_line(record));
            Going::On
        })?;
        if is_cut {
            console.line("  (more records follow)");
            return Ok(ExitStatus::Ok);
        }
        if let Some(outcome) = report.to_string().lines().last() {
            console.line(format_args!("  {outcome}"));
        }
        Ok(status_of(&report.outcome))
    })
}

/// Whether the visitor of records wants more of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Going {
    On,
    Enough,
}

/// Looks at every log under `directory`; the worst of what `look` says.
fn each_log(
    directory: &Path,
    console: &mut Console,
    mut look: impl FnMut(&LogFiles, &mut Console) -> Result<ExitStatus>,
) -> ExitStatus {
    let logs = match find_logs(directory) {
        Ok(logs) => logs,
        Err(error) => {
            complain(error);
            return ExitStatus::Failed;
        }
    };
    let mut worst = ExitStatus::Ok;
    for path in logs {
        let looked = LogFiles::find(&path).and_then(|log| {
            console.line(log.title());
            look(&log, console)
        });
        worst = worst.max(looked.unwrap_or_else(|error| {
            complain(error);
            ExitStatus::Failed
        }));
    }
    worst
}

fn status_of(outcome: &Recovered) -> ExitStatus {
    match outcome {
        Recovered::Empty | Recovered::Clean(_) => ExitStatus::Ok,
        Recovered::TornTail { .. } => ExitStatus::Degraded,
        Recovered::Damaged { .. } => ExitStatus::Failed,
    }
}

/// The directories of logs: those of all cores, in order, or the one that was named.
fn find_logs(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut cores = BTreeMap::new();
    let mut has_segments = false;
    for (name, path) in entries(directory)? {
        if let Some(core) = name.strip_prefix(CORE_PREFIX).and_then(|core| core.parse::<u16>().ok())
        {
            cores.insert(core, path);
        }
        has_segments |= SegmentFileName::parse(&name).is_some();
    }
    if has_segments {
        return Ok(vec![directory.to_owned()]);
    }
    // A core that never came to write has an empty directory.
    let is_core = directory.file_name().is_some_and(|name| {
        name.to_str().and_then(|name| name.strip_prefix(CORE_PREFIX)?.parse::<u16>().ok()).is_some()
    });
    match (cores.is_empty(), is_core) {
        (true, true) => Ok(vec![directory.to_owned()]),
        (true, false) => Err(LogFilesError::NoLogs { path: directory.to_owned() }),
        (false, _) => Ok(cores.into_values().collect()),
    }
}

fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |error| LogFilesError::Io { path: directory.to_owned(), error };
    fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        })
        .collect()
}

/// The files of one core's log.
#[derive(Debug)]
struct LogFiles {
    directory: PathBuf,
    segments: BTreeMap<SegmentId, PathBuf>,
    spares: usize,
    /// Whose log the first readable header says it is; [`None`] if there is none.
    identity: Option<LogIdentity>,
}

impl LogFiles {
    fn find(directory: &Path) -> Result<Self> {
        let mut segments = BTreeMap::new();
        let mut spares = 0;
        for (name, path) in entries(directory)? {
            match SegmentFileName::parse(&name) {
                Some(SegmentFileName::Segment(segment)) => {
                    segments.insert(segment, path);
                }
                Some(SegmentFileName::Spare(_)) => spares += 1,
                None => {}
            }
        }
        let identity = find_identity(&segments)?;
        Ok(Self { directory: directory.to_owned(), segments, spares, identity })
    }

    fn title(&self) -> String {
        let whose = self.identity.map_or_else(
            || "no segment header".to_owned(),
            |LogIdentity { cluster, node, core, core_count, .. }| {
                format!("cluster {cluster:#018x} node {node} core {core} of {core_count}")
            },
        );
        format!("{}: {whose}", self.directory.display())
    }

    /// Feeds every file to a scanner, and each record to `visit` until it has enough.
    fn scan(&self, mut visit: impl FnMut(&ScannedRecord) -> Going) -> Result<VerifyReport> {
        // Without a readable header nothing can be another log's.
        let nobody = LogIdentity { cluster: 0, node: 0, incarnation: 0, core: 0, core_count: 1 };
        let mut scanner = Scanner::new(self.identity.unwrap_or(nobody));
        let mut chunk = vec![0; CHUNK_SIZE];
        let mut going = Going::On;
        'files: for (&segment, path) in &self.segments {
            let failed = |error| LogFilesError::Io { path: path.clone(), error };
            let file = File::open(path).map_err(failed)?;
            // Bytes that are appended meanwhile do not belong to what was begun.
            let size = file.metadata().map_err(failed)?.len();
            let mut file = file.take(size);
            scanner.begin_segment(segment, size);
            loop {
                let count = file.read(&mut chunk).map_err(failed)?;
                if count == 0 {
                    break;
                }
                let mut hand_on = |record: ScannedRecord| {
                    if going == Going::On {
                        going = visit(&record);
                    }
                };
                scanner
                    .feed(&chunk[..count], &mut hand_on)
                    .map_err(|error| LogFilesError::Scan { path: path.clone(), error })?;
                if going == Going::Enough {
                    break 'files;
                }
            }
        }
        if going == Going::Enough {
            let segments = scanner.reports().to_vec();
            return Ok(VerifyReport { segments, outcome: Recovered::Empty });
        }
        Ok(scanner.into_report())
    }
}

/// Whose log the first segment with a readable header is.
fn find_identity(segments: &BTreeMap<SegmentId, PathBuf>) -> Result<Option<LogIdentity>> {
    for path in segments.values() {
        let failed = |error| LogFilesError::Io { path: path.clone(), error };
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        let limit = u64::try_from(BLOCK_SIZE).expect("a block is small");
        File::open(path).map_err(failed)?.take(limit).read_to_end(&mut block).map_err(failed)?;
        match SegmentHeader::parse(&block) {
            Ok(header) => return Ok(Some(header.identity)),
            Err(error @ HeaderError::Newer { .. }) => {
                return Err(LogFilesError::Header { path: path.clone(), error });
            }
            Err(HeaderError::Empty | HeaderError::Damaged | HeaderError::Foreign(_)) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use plog::identity::LogIdentity;
    use plog::log::{Log, LogConfig, Urgency};
    use plog::log_record::LogRecord;
    use plog::segment::{SegmentFileName, SegmentId, SpareId};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

    use super::{LogFiles, dump, find_logs, status_of, verify};
    use crate::arguments::{PlogDump, PlogVerify};
    use crate::console::Console;
    use crate::exit_status::ExitStatus;

    const FRAMES: u64 = 6;

    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn place(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("certus-plog-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    /// Writes the log of one core, one frame a record, over two segments of four blocks each.
    fn write_log(data_directory: &Path, core: u16) -> PathBuf {
        let directory = data_directory.join(format!("core-{core}"));
        fs::create_dir_all(&directory).unwrap();
        let identity =
            LogIdentity { cluster: 0xC0FFEE, node: 1, incarnation: 7, core, core_count: 2 };
        let mut config = LogConfig::for_identity(identity);
        (config.segment_size, config.frame_size_max) = (16 << 10, 8 << 10);
        let mut log = Log::new(config, None);
        let file = |segment| directory.join(SegmentFileName::Segment(segment).to_string());
        for number in 1..=FRAMES {
            log.handle_spare(SpareId(number));
            let (entity, entry) = (EntityId(number % 2), Entry(number));
            let epoch = BootEpoch(1);
            let value_id = ValueId { originator: AcceptorId(1), epoch, counter: number };
            let ballot = Ballot { round: 1, epoch, acceptor: AcceptorId(1) };
            let record = LogRecord::Chosen { entity, entry, ballot, value_id, chain: 5 };
            log.append(&record, Urgency::Now);
            let write = log.poll_write().unwrap();
            let path = file(write.segment);
            if write.opens.is_some() {
                fs::write(&path, vec![0; 16 << 10]).unwrap();
            }
            let mut bytes = fs::read(&path).unwrap();
            let begin = usize::try_from(write.offset).unwrap();
            bytes[begin..begin + write.buffer.len()].copy_from_slice(&write.buffer);
            fs::write(&path, bytes).unwrap();
            log.handle_written(write.buffer);
        }
        directory
    }

    fn verified(directory: &Path) -> ExitStatus {
        let arguments = PlogVerify { directory: directory.to_owned() };
        verify(&arguments, &mut Console::default())
    }

    fn change(directory: &Path, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let path = directory.join(SegmentFileName::Segment(SegmentId(segment)).to_string());
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    #[test]
    fn a_whole_log_is_clean_from_the_data_directory_and_from_a_core() {
        let place = place("clean");
        let core = write_log(&place.0, 0);
        write_log(&place.0, 1);
        assert_eq!(find_logs(&place.0).unwrap().len(), 2);
        assert_eq!(verified(&place.0), ExitStatus::Ok);
        assert_eq!(verified(&core), ExitStatus::Ok);
        let log = LogFiles::find(&core).unwrap();
        let mut records = 0;
        let report = log
            .scan(|_| {
                records += 1;
                super::Going::On
            })
            .unwrap();
        assert_eq!((records, report.segments.len()), (FRAMES, 2));
        assert_eq!(status_of(&report.outcome), ExitStatus::Ok);
    }

    #[test]
    fn a_cut_off_last_write_is_told_from_damage_and_nothing_is_changed() {
        let place = place("torn");
        let core = write_log(&place.0, 0);
        // The last frame of the second segment, in the middle.
        change(&core, 2, |bytes| bytes[3 * 4096 + 100] ^= 1);
        let before =
            fs::read(core.join(SegmentFileName::Segment(SegmentId(2)).to_string())).unwrap();
        assert_eq!(verified(&place.0), ExitStatus::Degraded);
        let after =
            fs::read(core.join(SegmentFileName::Segment(SegmentId(2)).to_string())).unwrap();
        assert!(before == after);
        // A frame with others behind it.
        change(&core, 1, |bytes| bytes[4096 + 100] ^= 1);
        assert_eq!(verified(&place.0), ExitStatus::Failed);
    }

    #[test]
    fn a_directory_without_logs_and_a_file_of_another_log_cannot_be_used() {
        let place = place("none");
        assert_eq!(verified(&place.0), ExitStatus::Failed);
        assert_eq!(verified(&place.0.join("nowhere")), ExitStatus::Failed);
        let core = write_log(&place.0, 0);
        let other = write_log(&place.0, 1);
        let name = SegmentFileName::Segment(SegmentId(2)).to_string();
        fs::copy(other.join(&name), core.join(&name)).unwrap();
        assert_eq!(verified(&core), ExitStatus::Failed);
    }

    #[test]
    fn a_dump_ends_at_its_limit() {
        let place = place("dump");
        let directory = write_log(&place.0, 0);
        let arguments = PlogDump { directory, entity: Some(EntityId(1)), limit: Some(2) };
        assert_eq!(dump(&arguments, &mut Console::default()), ExitStatus::Ok);
        // Without a limit the outcome counts.
        change(&arguments.directory, 1, |bytes| bytes[4096 + 100] ^= 1);
        let whole = PlogDump { limit: None, ..arguments };
        assert_eq!(dump(&whole, &mut Console::default()), ExitStatus::Failed);
    }
}
