//! Logs on disk, whole and harmed, as the commands see them.

use std::fs;
use std::path::{Path, PathBuf};

use plog::checkpoint::CheckpointId;
use plog::checkpoint::pointer::Pointer;
use plog::identity::LogIdentity;
use plog::log::{Log, LogConfig, Urgency};
use plog::log_record::LogRecord;
use plog::segment::{SegmentFileName, SegmentId, SpareId};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Lsn, ValueId};
use runtime::node::checkpoint_files::write_pointer;

use super::entity_history::EntityHistory;
use super::log_files::{Going, LogFiles, find_logs, is_whole};
use super::log_stats::LogStats;
use super::{dump, verify};
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
    let identity = LogIdentity { cluster: 0xC0FFEE, node: 1, incarnation: 7, core, core_count: 2 };
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
fn a_whole_log_is_clean_but_a_directory_without_an_identity_is_not() {
    let place = place("clean");
    let core = write_log(&place.0, 0);
    let other = write_log(&place.0, 1);
    assert_eq!(find_logs(&place.0).unwrap().len(), 2);
    assert_eq!((verified(&core), verified(&other)), (ExitStatus::Ok, ExitStatus::Ok));
    assert_eq!(verified(&place.0), ExitStatus::Degraded);
    let log = LogFiles::find(&core, None).unwrap();
    let mut records = 0;
    let report = log
        .scan(|_| {
            records += 1;
            Going::On
        })
        .unwrap()
        .unwrap();
    assert_eq!((records, report.segments.len()), (FRAMES, 2));
    assert!(is_whole(&report.outcome));
}

#[test]
fn a_cut_off_last_write_is_told_from_damage_and_nothing_is_changed() {
    let place = place("torn");
    let core = write_log(&place.0, 0);
    // The last frame of the second segment, in the middle.
    change(&core, 2, |bytes| bytes[3 * 4096 + 100] ^= 1);
    let newest = core.join(SegmentFileName::Segment(SegmentId(2)).to_string());
    let before = fs::read(&newest).unwrap();
    assert_eq!(verified(&core), ExitStatus::Ok, "nothing that counts is missing");
    assert!(before == fs::read(&newest).unwrap());
    // A frame with others behind it.
    change(&core, 1, |bytes| bytes[4096 + 100] ^= 1);
    assert_eq!(verified(&core), ExitStatus::Degraded);
}

#[test]
fn a_directory_without_logs_cannot_be_used_and_a_file_of_another_log_is_damage() {
    let place = place("none");
    assert_eq!(verified(&place.0), ExitStatus::Failed);
    assert_eq!(verified(&place.0.join("nowhere")), ExitStatus::Failed);
    let core = write_log(&place.0, 0);
    let other = write_log(&place.0, 1);
    let name = SegmentFileName::Segment(SegmentId(2)).to_string();
    fs::copy(other.join(&name), core.join(&name)).unwrap();
    assert_eq!(verified(&core), ExitStatus::Degraded);
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
    assert_eq!(dump(&whole, &mut Console::default()), ExitStatus::Degraded);
}

#[test]
fn a_segment_that_is_freed_while_it_is_read_is_no_damage_and_no_record_comes_twice() {
    let place = place("freed");
    let core = write_log(&place.0, 0);
    let log = LogFiles::find(&core, None).unwrap();
    let oldest = core.join(SegmentFileName::Segment(SegmentId(1)).to_string());
    let mut lsns = Vec::new();
    let report = log
        .scan(|record| {
            if lsns.is_empty() {
                // As a cleaner does: nothing before the floor counts any more, then another name,
                // and in time another content.
                let pointer = Pointer {
                    checkpoint: CheckpointId(1),
                    parts: 1,
                    floor: SegmentId(2),
                    settled: Lsn(FRAMES),
                    bytes: 8192,
                };
                write_pointer(&core, pointer).unwrap();
                fs::rename(&oldest, core.join(SegmentFileName::Spare(SpareId(99)).to_string()))
                    .unwrap();
            }
            lsns.push(record.lsn.0);
            Going::On
        })
        .unwrap()
        .unwrap();
    assert!(is_whole(&report.outcome), "{report}");
    assert_eq!(report.segments.len(), 1, "what was freed is not missed");
    assert_eq!(lsns, (1..=FRAMES).collect::<Vec<_>>());
}

#[test]
fn an_entitys_history_says_what_is_chosen_and_what_is_open() {
    let place = place("history");
    let core = write_log(&place.0, 0);
    let log = LogFiles::find(&core, None).unwrap();
    let mut history = EntityHistory::default();
    log.scan(|record| {
        if record.record.entity() == EntityId(1) {
            history.push(record);
        }
        Going::On
    })
    .unwrap();
    let text = history.to_string();
    for words in ["  entry 1:\n", "  entry 3:\n", "  entry 5:\n", "3 records, last entry 5"] {
        assert!(text.contains(words), "{words:?} is missing: {text}");
    }
    assert!(text.contains("without a hole up to entry 1, open: none"), "{text}");
    let mut stats = LogStats::default();
    let report = log
        .scan(|record| {
            stats.push(record);
            Going::On
        })
        .unwrap()
        .unwrap();
    let lines = stats.lines(&report, 1).join("\n");
    for words in ["segments 2, frames 6, records 6", "chosen records 6", "entities 2"] {
        assert!(lines.contains(words), "{words:?} is missing: {lines}");
    }
    assert_eq!(lines.matches("entity ").count(), 1, "{lines}");
}
