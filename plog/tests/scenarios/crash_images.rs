//! Every crash image: any subset of the blocks of the last unsynced write may have reached the
//! disk.

use plog::block::BLOCK_SIZE;
use plog::log::{Log, Urgency};
use plog::log_record::LogRecord;
use plog::recovery::Recovered;

use crate::disk::{BLOCKS, Disk, Numbers, inline, new_log};

/// Crashes with `records` in flight, at every subset of lost blocks, and checks that recovery finds
/// the state before them or with them, and that the log goes on.
fn crash_everywhere(disk: &Disk, log: &mut Log, records: &[LogRecord]) {
    let before = disk.scan().log_records();
    for record in records {
        log.append(record, Urgency::Now);
    }
    let write = log.poll_write().expect("urgent, and a spare is there");
    let blocks = write.buffer.len() / BLOCK_SIZE;
    let mut with = before.clone();
    with.extend_from_slice(records);
    let mut whole_seen = 0;
    for subset in 0..1_u32 << blocks {
        let mut crashed = disk.clone();
        crashed.open(&write);
        let file = crashed.files.get_mut(&write.segment).expect("opened");
        for block in (0..blocks).filter(|block| subset & 1 << block != 0) {
            let from = block * BLOCK_SIZE;
            let to = usize::try_from(write.offset).expect("fits") + from;
            file[to..to + BLOCK_SIZE].copy_from_slice(&write.buffer[from..from + BLOCK_SIZE]);
        }
        let scan = crashed.scan();
        assert!(
            !matches!(scan.outcome, Recovered::Damaged { .. }),
            "{subset:b}: {:?}",
            scan.outcome
        );
        let found = scan.log_records();
        assert!(found == before || found == with, "subset {subset:b}");
        let all = (1 << blocks) - 1;
        assert!(subset != all || found == with, "what was written whole is found");
        whole_seen += usize::from(found == with);

        let mut log = crashed.resume();
        let more: Vec<_> = (201..=203).map(|number| inline(3, number, 2000)).collect();
        crashed.append_each(&mut log, &more);
        let again = crashed.scan();
        let expected: Vec<_> = found.into_iter().chain(more).collect();
        assert_eq!(again.log_records(), expected, "subset {subset:b}");
        assert!(!matches!(again.outcome, Recovered::Damaged { .. }), "{:?}", again.outcome);
    }
    assert!((1..=2).contains(&whole_seen), "only a segment header may be missing of a whole frame");
}

#[test]
fn a_crash_in_the_middle_of_a_segment_leaves_the_state_before_or_with_the_frame() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &[inline(1, 1, 100), inline(1, 2, 5000)]);
    crash_everywhere(&disk, &mut log, &[inline(1, 3, 6000), inline(2, 1, 6000)]);
}

#[test]
fn a_crash_while_the_first_segment_is_opened_leaves_nothing_or_the_frame() {
    let (mut disk, mut log) = new_log();
    disk.prepare(&mut log);
    crash_everywhere(&disk, &mut log, &[inline(1, 1, 10_000)]);
}

#[test]
fn a_crash_while_a_segment_is_opened_leaves_the_state_before_or_with_the_frame() {
    let (mut disk, mut log) = new_log();
    for number in 1..=7 {
        disk.append_each(&mut log, &[inline(1, number, 8000)]);
    }
    disk.prepare(&mut log);
    crash_everywhere(&disk, &mut log, &[inline(1, 8, 10_000)]);
}

/// A log whose next segment is a file of an earlier life, full of stale frames.
fn recycled(stale_frames: u64) -> (Disk, Log) {
    let (mut disk, mut log) = new_log();
    for number in 1..=14 + stale_frames {
        disk.append_each(&mut log, &[inline(1, number, 8000)]);
    }
    let freed = log.free(log.oldest_segment()).expect("two later ones have frames");
    let stale = disk.files.remove(&freed.segment).expect("written");
    for spare in disk.spares.values_mut() {
        spare.copy_from_slice(&stale);
    }
    (disk, log)
}

#[test]
fn a_crash_in_a_recycled_segment_leaves_the_state_before_or_with_the_frame() {
    for used in 0..4 {
        let (mut disk, mut log) = recycled(7);
        // Fills the new segment with frames of three blocks, which end inside stale frames of two.
        let fresh: Vec<_> = (1..=used).map(|number| inline(5, number, 9000)).collect();
        disk.append_each(&mut log, &fresh);
        crash_everywhere(&disk, &mut log, &[inline(5, 90, 13_000)]);
    }
}

#[test]
fn repeated_crashes_lose_nothing_that_was_durable() {
    let mut numbers = Numbers(0x5eed);
    let (mut disk, mut log) = new_log();
    let mut durable: Vec<LogRecord> = Vec::new();
    let (mut kept, mut torn) = (0, 0);
    for round in 1..=400 {
        for _ in 0..numbers.below(6) {
            let length = usize::try_from(numbers.below(9000)).expect("fits");
            let record = inline(numbers.below(5), round, length);
            disk.append_each(&mut log, std::slice::from_ref(&record));
            durable.push(record);
        }
        disk.prepare(&mut log);
        let length = usize::try_from(numbers.below(9000)).expect("fits");
        let last = inline(numbers.below(5), round, length);
        log.append(&last, Urgency::Now);
        let write = log.poll_write().expect("urgent");
        disk.open(&write);
        let file = disk.files.get_mut(&write.segment).expect("opened");
        for (number, block) in write.buffer.chunks(BLOCK_SIZE).enumerate() {
            if numbers.below(3) > 0 {
                let to = usize::try_from(write.offset).expect("fits") + number * BLOCK_SIZE;
                file[to..to + BLOCK_SIZE].copy_from_slice(block);
            }
        }
        let scan = disk.scan();
        assert!(!matches!(scan.outcome, Recovered::Damaged { .. }), "{round}: {:?}", scan.outcome);
        torn += usize::from(matches!(scan.outcome, Recovered::TornTail { .. }));
        let found = scan.log_records();
        if found.len() > durable.len() {
            durable.push(last);
            kept += 1;
        }
        assert!(found == durable, "round {round}");
        log = disk.resume();
        // Now and then the oldest files are recycled.
        while disk.files.len() > 6 {
            let freed = log.free(log.oldest_segment()).expect("later ones have frames");
            let file = disk.files.remove(&freed.segment).expect("held");
            assert_eq!(file.len(), BLOCKS * BLOCK_SIZE);
            disk.spares.insert(freed.spare, file);
            log.handle_spare(freed.spare);
            durable = disk.scan().log_records();
        }
    }
    assert!(kept > 50 && torn > 50, "both kinds of crash were met: {kept} and {torn}");
}
