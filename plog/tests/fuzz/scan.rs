//! The scan of a whole log: whatever the files hold, what it finds is there, in order, and it says
//! honestly how the log ended.

use std::collections::BTreeMap;
use std::rc::Rc;

use plog::block::BLOCK_SIZE;
use plog::location::read_back;
use plog::log::{Log, Urgency};
use plog::recovery::{DamageReason, Recovered, ScannedRecord, Scanner};
use plog::segment::SegmentId;
use plog::verify::VerifyReport;
use plog::vocabulary::Lsn;

use crate::disk::{Disk, identity};
use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};
use crate::records::Frames;
use crate::run::{self, Image, config_of, later_record, record};

thread_local! {
    static LOGS: Rc<[Disk]> = sample_logs().into();
}

/// What a scan of a disk gives, piece by piece.
#[derive(Clone, Debug, PartialEq)]
struct Scanned {
    records: Vec<ScannedRecord>,
    report: VerifyReport,
}

type Scan = fn(&BTreeMap<SegmentId, Vec<u8>>, Option<&Plan>) -> Option<Scanned>;

/// Scans in pieces as the plan cuts them, or at once; `None` for a log that is refused.
fn scan(files: &BTreeMap<SegmentId, Vec<u8>>, cut: Option<&Plan>) -> Option<Scanned> {
    let mut scanner = Scanner::new(identity());
    let mut records = Vec::new();
    for (segment, file) in files {
        scanner.begin_segment(*segment, file.len() as u64);
        for piece in cut.map_or_else(|| vec![&file[..]], |plan| plan.pieces(file)) {
            scanner.feed(piece, &mut |scanned| records.push(scanned)).ok()?;
        }
    }
    Some(Scanned { records, report: scanner.into_report() })
}

const SCAN_BLOCKS: usize = 6;

/// Small logs, with restarts, torn writes and recycled segments in them.
fn sample_logs() -> Vec<Disk> {
    let config = config_of(SCAN_BLOCKS, 2);
    let lengths = [0, 60, 60, 60, 1500, 1500, 3000, 6000];
    let sample = |seed| {
        let plan = run::Plan { config, turns: 12, segments: 3, lengths };
        let mut image = Image::default();
        for step in &record(seed, plan).steps {
            image.play(step, config.segment_size);
        }
        image.disk
    };
    (1..=6).map(sample).collect()
}

/// A log in which one segment was changed as the plan says, and some blocks went elsewhere.
fn hostile_log(plan: &Plan, samples: &[Disk]) -> BTreeMap<SegmentId, Vec<u8>> {
    let mut random = Random(plan.seed);
    let mut files = samples[random.below(samples.len())].files.clone();
    let ids: Vec<SegmentId> = files.keys().copied().collect();
    let any = |random: &mut Random| ids[random.below(ids.len())];
    let changed = any(&mut random);
    let mut file = vec![files[&changed].clone()];
    file.extend(files.values().cloned());
    let input = plan.input(&Frames, &file, |_| file[0].clone());
    if !input.is_empty() {
        files.insert(changed, input);
    }
    for _ in 0..random.below(3) {
        let (from, to) = (any(&mut random), any(&mut random));
        let block = |random: &mut Random| random.below(SCAN_BLOCKS) * BLOCK_SIZE;
        let (begin, at) = (block(&mut random), block(&mut random));
        let length = BLOCK_SIZE * (1 + random.below(2));
        let moved = match (random.below(4), files[&from].get(begin..begin + length)) {
            (0, _) => vec![0; length],
            (_, Some(blocks)) => blocks.to_vec(),
            (_, None) => continue,
        };
        let file = files.get_mut(&to).expect("it is there");
        if let Some(room) = file.get_mut(at..at + length) {
            room.copy_from_slice(&moved);
        }
    }
    match random.below(12) {
        0 => drop(files.remove(&any(&mut random))),
        1 => {
            let file = files.remove(&any(&mut random)).expect("it is there");
            files.insert(SegmentId(1 + random.next() % 9), file);
        }
        _ => {}
    }
    if plan.repaired {
        files.values_mut().for_each(|file| Frames.repair(file));
    }
    files
}

/// Whatever the files are: records ascend and are where they are said to be, pieces do not matter,
/// only a damaged log has records after damage, and the log can go on.
fn check_scan(scan: Scan, plan: &Plan, tally: &mut Tally) {
    let files = LOGS.with(|samples| hostile_log(plan, samples));
    let size: usize = files.values().map(Vec::len).sum();
    let (scanned, held) = peak(|| scan(&files, None));
    assert!(held <= 4 * size + (64 << 10), "{held} bytes were held for a log of {size}");
    assert!(scan(&files, Some(plan)) == scanned, "in pieces it is another log");
    let Some(Scanned { records, report }) = scanned else { return tally.count(&"Refused") };
    assert!(records.is_sorted_by(|left, right| left.lsn < right.lsn), "numbers ascend");
    for scanned in &records {
        let (begin, length) = scanned.location.blocks();
        let begin = usize::try_from(begin).expect("fits");
        let blocks = &files[&scanned.location.segment()][begin..begin + length];
        assert_eq!(read_back(scanned.location, blocks).as_ref(), Ok(&scanned.record));
    }
    let reported: u64 = report.segments.iter().map(|segment| segment.payload_bytes).sum();
    let found: usize = records.iter().map(|scanned| scanned.record.encoded_length()).sum();
    assert_eq!(usize::try_from(reported), Ok(found), "verifying counts what recovery finds");
    let damaged_from = match report.outcome {
        Recovered::Damaged { segment, offset, .. } => Some((segment, offset)),
        Recovered::Empty | Recovered::Clean(_) | Recovered::TornTail { .. } => None,
    };
    for ScannedRecord { lsn, location, after_damage, .. } in &records {
        let place = (location.segment(), u64::from(location.offset));
        let behind = damaged_from.is_some_and(|damaged| place >= damaged);
        assert_eq!(*after_damage, behind, "{lsn:?} at {place:?} in {:?}", report.outcome);
    }
    let is_damaged = damaged_from.is_some();
    assert_eq!(report.outcome == Recovered::Empty, files.is_empty());
    assert_eq!(report.to_string().contains("DAMAGED"), is_damaged);
    tally.count(&report.outcome);
    if let Some(tail) = report.outcome.tail()
        && tail.highest_lsn < Lsn(1 << 60)
    {
        let last = records.last().map_or(Lsn::ZERO, |scanned| scanned.lsn);
        assert!(tail.last_lsn == last && tail.highest_lsn >= last);
        check_going_on(scan, files, &records, &report.outcome);
    }
}

/// What is appended after the recovery is found again behind what was found, and damage stays.
fn check_going_on(
    scan: Scan,
    mut files: BTreeMap<SegmentId, Vec<u8>>,
    before: &[ScannedRecord],
    outcome: &Recovered,
) {
    let config = config_of(SCAN_BLOCKS, 2);
    let mut log = Log::new(config, outcome.tail());
    let mut appended = Vec::new();
    for number in 1..=3 {
        while log.spares_wanted() > 0 {
            let spare = log.name_spare();
            log.handle_spare(spare);
        }
        appended.push(later_record(number, 2500));
        log.append(&appended[appended.len() - 1], Urgency::Now);
        let write = log.poll_write().expect("urgent, and a spare is there");
        let file = files.entry(write.segment).or_insert_with(|| vec![0; SCAN_BLOCKS * BLOCK_SIZE]);
        let begin = usize::try_from(write.offset).expect("fits");
        file[begin..begin + write.buffer.len()].copy_from_slice(&write.buffer);
        log.handle_written(write.buffer);
    }
    let after = scan(&files, None).expect("what was ours is ours");
    let found = after.records.iter().map(|scanned| &scanned.record);
    assert!(found.eq(before.iter().map(|scanned| &scanned.record).chain(&appended)), "{after:?}");
    let place = |outcome: &Recovered| match outcome {
        // A file cut short is named by its end, or where its good frames end.
        Recovered::Damaged { segment, reason: DamageReason::Truncated { .. }, .. } => {
            Some((*segment, None))
        }
        Recovered::Damaged { segment, offset, reason, .. } => {
            Some((*segment, Some((*offset, *reason))))
        }
        Recovered::Empty | Recovered::Clean(_) | Recovered::TornTail { .. } => None,
    };
    assert_eq!(place(&after.report.outcome), place(outcome), "damage stays where it was");
}

#[test]
fn fuzz_recovery_scan() {
    fuzz!(12_000, |plan, tally| check_scan(scan, plan, tally), |tally| {
        tally.expect(200, &["Damaged", "TornTail", "Clean"]);
        tally.expect(50, &["Refused"]);
    });
}

#[test]
fn a_scan_that_is_wrong_is_found() {
    let fails = |scan: Scan| fails(1000, |plan, tally| check_scan(scan, plan, tally));
    // Calls damage an end.
    assert!(fails(|files, cut| {
        let mut scanned = scan(files, cut)?;
        if let Recovered::Damaged { tail, .. } = scanned.report.outcome {
            scanned.report.outcome = Recovered::Clean(tail);
        }
        Some(scanned)
    }));
    // Loses a record where a piece ends.
    assert!(fails(|files, cut| {
        let mut scanned = scan(files, cut)?;
        if cut.is_some_and(|plan| plan.cuts.len() > 3) {
            scanned.records.pop();
        }
        Some(scanned)
    }));
    // Finds the end a block too early.
    assert!(fails(|files, cut| {
        let mut scanned = scan(files, cut)?;
        if let Recovered::Clean(tail) = &mut scanned.report.outcome {
            tail.offset = tail.offset.saturating_sub(4096);
        }
        Some(scanned)
    }));
}
