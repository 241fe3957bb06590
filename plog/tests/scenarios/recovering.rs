use plog::block::BLOCK_SIZE;
use plog::frame::{FrameError, FrameHeader};
use plog::identity::{ForeignField, LogIdentity};
use plog::log::{RECOVERY_LSN_GAP, Urgency};
use plog::recovery::{DamageReason, Recovered, ScanError, Scanner};
use plog::segment::{HeaderError, SegmentHeader, SegmentId};
use plog::vocabulary::Lsn;

use crate::disk::{Disk, config, identity, inline, lsn_of, new_log};

const FIRST: SegmentId = SegmentId::FIRST;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// `count` frames of two blocks, seven to a segment.
fn filled(count: u64) -> Disk {
    let (mut disk, mut log) = new_log();
    for number in 1..=count {
        disk.append_each(&mut log, &[inline(1, number, 8000)]);
    }
    disk
}

fn damage(outcome: &Recovered) -> (SegmentId, u64, DamageReason, Option<(SegmentId, u64)>) {
    match outcome {
        Recovered::Damaged { segment, offset, reason, next_valid, .. } => {
            (*segment, *offset, *reason, *next_valid)
        }
        other => panic!("damage is not seen: {other:?}"),
    }
}

/// A disk of any outcome takes more records, and they are found again.
fn goes_on(mut disk: Disk) {
    let before = disk.scan();
    let mut log = disk.resume();
    let records: Vec<_> = (101..=110).map(|number| inline(2, number, 5000)).collect();
    disk.append_each(&mut log, &records);
    let after = disk.scan();
    let mut expected = before.log_records();
    expected.extend(records);
    assert_eq!(after.log_records(), expected);
    assert_eq!(lsn_of(&after.outcome), log.durable());
    let old_damage = matches!(before.outcome, Recovered::Damaged { .. });
    assert_eq!(matches!(after.outcome, Recovered::Damaged { .. }), old_damage);
    if old_damage {
        let (was, is) = (damage(&before.outcome), damage(&after.outcome));
        assert_eq!((was.0, was.1, was.2), (is.0, is.1, is.2), "it is found again");
    } else {
        assert!(after.records.iter().all(|scanned| !scanned.after_damage));
    }
}

#[test]
fn no_file_is_a_new_log() {
    assert_eq!(Disk::default().scan().outcome, Recovered::Empty);
}

#[test]
fn a_log_is_read_back_whole_whatever_the_chunk_size() {
    let disk = filled(17);
    assert_eq!(disk.files.len(), 3);
    for chunk in [1, 511, 4096, 4097, 10_000, 1 << 20] {
        let scan = disk.try_scan(&identity(), chunk).expect("ours");
        let numbers: Vec<u64> = scan.records.iter().map(|scanned| scanned.lsn.0).collect();
        assert_eq!(numbers, (1..=17).collect::<Vec<_>>());
        let Recovered::Clean(tail) = scan.outcome else { panic!("{:?}", scan.outcome) };
        assert_eq!((tail.segment, tail.offset), (SegmentId(3), 7 * BLOCK));
        assert_eq!((tail.last_lsn, tail.oldest_segment), (Lsn(17), FIRST));
    }
    for scanned in disk.scan().records {
        assert_eq!(disk.read(scanned.location), scanned.record);
    }
    goes_on(disk);
}

#[test]
fn after_a_recovery_lsns_leave_a_gap() {
    let mut disk = filled(3);
    let mut log = disk.resume();
    assert_eq!(log.durable(), log.appended());
    let lsn = log.append(&inline(1, 4, 10), Urgency::Now);
    assert_eq!(lsn, Lsn(3 + RECOVERY_LSN_GAP + 1));
    disk.run(&mut log);
    assert_eq!(lsn_of(&disk.scan().outcome), lsn, "the gap is accepted");
    const { assert!(RECOVERY_LSN_GAP >= 1 << 20) };
}

#[test]
fn the_lsn_of_a_torn_frame_is_never_used_again() {
    let mut disk = filled(2);
    let file = disk.files.get_mut(&FIRST).expect("written");
    file[4 * BLOCK_SIZE..].fill(0);
    let tail = disk.scan().outcome.tail().expect("torn");
    assert_eq!((tail.last_lsn, tail.highest_lsn), (Lsn(1), Lsn(2)));
    let lsn = disk.resume().append(&inline(1, 2, 10), Urgency::Now);
    assert!(lsn > Lsn(2 + RECOVERY_LSN_GAP));
    goes_on(disk);
}

#[test]
fn every_block_prefix_of_the_last_frame_is_a_torn_tail() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &[inline(1, 1, 100), inline(1, 2, 100)]);
    let before = disk.clone();
    disk.append_each(&mut log, &[inline(1, 3, 15_000)]);
    let offset = 3 * BLOCK;
    for blocks in 0..4 {
        let mut torn = before.clone();
        let (begin, end) = (3 * BLOCK_SIZE, (3 + blocks) * BLOCK_SIZE);
        let file = torn.files.get_mut(&FIRST).expect("written");
        file[begin..end].copy_from_slice(&disk.files[&FIRST][begin..end]);
        let scan = torn.scan();
        assert_eq!(scan.log_records(), before.scan().log_records());
        match scan.outcome {
            Recovered::Clean(tail) if blocks == 0 => assert_eq!(tail.offset, offset),
            Recovered::TornTail { tail, segment, offset: at, bytes } if blocks > 0 => {
                assert_eq!((segment, at, bytes), (FIRST, offset, 4 * BLOCK));
                assert_eq!((tail.segment, tail.offset, tail.last_lsn), (FIRST, offset, Lsn(2)));
            }
            other => panic!("{blocks} blocks: {other:?}"),
        }
        goes_on(torn);
    }
    assert_eq!(disk.scan().records.len(), 3);
}

#[test]
fn every_flipped_bit_of_the_last_frame_is_seen() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &[inline(1, 1, 100), inline(1, 2, 100)]);
    let file = disk.files.get_mut(&FIRST).expect("written");
    file.truncate(4 * BLOCK_SIZE);
    // As if the segment had been made that small.
    let mut header = SegmentHeader::parse(file).expect("good");
    header.segment_size = 4 * 4096;
    header.encode_into(file);
    for bit in 2 * BLOCK_SIZE * 8..3 * BLOCK_SIZE * 8 {
        disk.files.get_mut(&FIRST).expect("written")[bit / 8] ^= 1 << (bit % 8);
        let scan = disk.scan();
        assert!(
            matches!(scan.outcome, Recovered::TornTail { .. }),
            "bit {bit}: {:?}",
            scan.outcome
        );
        assert_eq!(scan.records.len(), 1, "bit {bit}");
        disk.files.get_mut(&FIRST).expect("written")[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(disk.scan().records.len(), 2);
}

#[test]
fn a_frame_checks_its_records_without_parsing_them() {
    let disk = filled(1);
    let mut frame = disk.files[&FIRST][BLOCK_SIZE..3 * BLOCK_SIZE].to_vec();
    let header = FrameHeader::parse(&frame, &identity(), FIRST).expect("good");
    assert!(header.payload(&frame).is_ok());
    for position in (64..64 + 8088).step_by(7) {
        frame[position] ^= 0x10;
        let refused = header.payload(&frame);
        assert!(matches!(refused, Err(FrameError::PayloadChecksum { .. })), "byte {position}");
        frame[position] ^= 0x10;
    }
}

#[test]
fn damage_before_a_good_frame_is_never_passed_over() {
    let whole = filled(17);
    for number in 0..16_u64 {
        let (segment, offset) = (SegmentId(1 + number / 7), BLOCK + number % 7 * 2 * BLOCK);
        for (at, flip) in [(20, 1), (70, 1), (BLOCK_SIZE + 9, 0x80)] {
            let mut disk = whole.clone();
            let position = usize::try_from(offset).expect("fits") + at;
            disk.files.get_mut(&segment).expect("written")[position] ^= flip;
            let scan = disk.scan();
            let next = number + 1;
            let next = (SegmentId(1 + next / 7), BLOCK + next % 7 * 2 * BLOCK);
            let found = damage(&scan.outcome);
            assert_eq!(
                (found.0, found.1, found.3),
                (segment, offset, Some(next)),
                "frame {number}"
            );
            assert_eq!(scan.records.len(), 16, "all others are read");
            for scanned in &scan.records {
                assert_eq!(scanned.after_damage, scanned.lsn.0 > number + 1);
            }
        }
        let mut disk = whole.clone();
        let begin = usize::try_from(offset).expect("fits");
        disk.files.get_mut(&segment).expect("written")[begin..begin + 2 * BLOCK_SIZE].fill(0);
        let found = damage(&disk.scan().outcome);
        assert_eq!((found.0, found.1), (segment, offset), "frame {number} overwritten with zeros");
        if number % 5 == 0 {
            goes_on(disk);
        }
    }
}

#[test]
fn two_damaged_places_are_both_named() {
    let mut disk = filled(17);
    disk.files.get_mut(&FIRST).expect("written")[3 * BLOCK_SIZE + 100] ^= 1;
    disk.files.get_mut(&SegmentId(2)).expect("written")[3 * BLOCK_SIZE + 100] ^= 1;
    let scan = disk.scan();
    let Recovered::Damaged { segment, further, tail, .. } = &scan.outcome else { panic!() };
    assert_eq!((*segment, further.len(), further[0].segment), (FIRST, 1, SegmentId(2)));
    assert_eq!((scan.records.len(), tail.last_lsn), (15, Lsn(17)));
    goes_on(disk);
}

#[test]
fn a_missing_segment_is_damage_and_named() {
    let mut disk = filled(17);
    disk.files.remove(&SegmentId(2));
    let found = damage(&disk.scan().outcome);
    let reason = DamageReason::MissingSegments { count: 1 };
    assert_eq!(found, (SegmentId(2), 0, reason, Some((SegmentId(3), BLOCK))));
    goes_on(disk);
}

#[test]
fn a_segment_emptied_before_a_later_one_is_damage() {
    let mut disk = filled(17);
    disk.files.get_mut(&SegmentId(2)).expect("written").fill(0);
    let found = damage(&disk.scan().outcome);
    // Nothing tells whether the first segment ended there or lost a frame, so it counts from there.
    assert_eq!((found.0, found.1, found.3), (FIRST, 15 * BLOCK, Some((SegmentId(3), BLOCK))));
    let mut disk = filled(17);
    disk.files.get_mut(&SegmentId(2)).expect("written")[BLOCK_SIZE..].fill(0);
    let found = damage(&disk.scan().outcome);
    let next = Some((SegmentId(3), BLOCK));
    assert_eq!(found, (SegmentId(2), BLOCK, DamageReason::NoFrames, next));
    goes_on(disk);
    let mut alone = filled(17);
    alone.files.retain(|segment, _| *segment == SegmentId(3));
    assert!(matches!(alone.scan().outcome, Recovered::Clean(_)), "older ones were freed");
    alone.files.get_mut(&SegmentId(3)).expect("kept").fill(0);
    assert_eq!(damage(&alone.scan().outcome).2, DamageReason::NoFrames);
}

#[test]
fn a_file_cut_short_is_damage() {
    let mut disk = filled(5);
    disk.files.get_mut(&FIRST).expect("written").truncate(6 * BLOCK_SIZE + 100);
    let found = damage(&disk.scan().outcome);
    let reason = DamageReason::Truncated { size: 6 * BLOCK, expected: config().segment_size };
    assert_eq!((found.0, found.1, found.2), (FIRST, 5 * BLOCK, reason));
    goes_on(disk.clone());
    disk.files.get_mut(&FIRST).expect("written").truncate(100);
    let found = damage(&disk.scan().outcome);
    assert_eq!(found.2, DamageReason::Truncated { size: 100, expected: 0 });
}

#[test]
fn a_lost_frame_before_a_segment_that_was_just_opened_is_damage() {
    let mut disk = filled(8);
    // Of the second segment only the header reached the disk; the frame before it is bad.
    disk.files.get_mut(&SegmentId(2)).expect("written")[BLOCK_SIZE..].fill(0);
    let torn = disk.scan();
    assert!(matches!(torn.outcome, Recovered::TornTail { segment: SegmentId(2), .. }));
    goes_on(disk.clone());
    disk.files.get_mut(&FIRST).expect("written")[13 * BLOCK_SIZE + 100] ^= 1;
    let found = damage(&disk.scan().outcome);
    assert_eq!((found.0, found.1, found.3), (FIRST, 13 * BLOCK, None));
    assert!(matches!(found.2, DamageReason::LastFrameMissing { .. }));
    goes_on(disk);
}

#[test]
fn a_recycled_segment_never_gives_its_stale_frames() {
    for frames in 1..=7 {
        let (mut disk, mut log) = new_log();
        for number in 1..=20 {
            disk.append_each(&mut log, &[inline(1, number, 8000)]);
        }
        let freed = log.free(FIRST).expect("later ones have frames");
        let file = disk.files.remove(&freed.segment).expect("written");
        // Only the recycled file is left as a spare, so it is the next to be opened.
        disk.spares.clear();
        disk.spares.insert(freed.spare, file);
        let mut log = disk.resume();
        let fresh: Vec<_> = (30..30 + frames).map(|number| inline(2, number, 3000)).collect();
        let count = log.index().len();
        assert_eq!(count, 1);
        while log.current_segment() < Some(SegmentId(4)) {
            let number = 20 + log.counters().frames;
            log.append(&inline(1, number, 8000), Urgency::Now);
            let Some(write) = log.poll_write() else { panic!("a spare is there") };
            disk.write(&write);
            log.handle_written(write.buffer);
        }
        disk.append_each(&mut log, &fresh);
        let scan = disk.scan();
        assert!(matches!(scan.outcome, Recovered::Clean(_)), "{:?}", scan.outcome);
        assert!(scan.log_records().ends_with(&fresh));
        assert_eq!(lsn_of(&scan.outcome), log.durable());
        goes_on(disk);
    }
}

#[test]
fn the_header_of_a_segment_may_be_lost_and_its_frames_kept() {
    let mut disk = filled(10);
    disk.files.get_mut(&SegmentId(2)).expect("written")[..BLOCK_SIZE].fill(0);
    let scan = disk.scan();
    assert!(matches!(scan.outcome, Recovered::Clean(_)), "{:?}", scan.outcome);
    assert_eq!(scan.records.len(), 10);
    goes_on(disk);
}

#[test]
fn a_segment_renamed_and_not_written_is_opened_again_in_place() {
    let (mut disk, mut log) = new_log();
    disk.prepare(&mut log);
    log.append(&inline(1, 1, 10), Urgency::Now);
    let write = log.poll_write().expect("urgent");
    disk.open(&write);
    let scan = disk.scan();
    let Recovered::Clean(tail) = scan.outcome else { panic!("{:?}", scan.outcome) };
    assert_eq!((tail.segment, tail.offset), (FIRST, 0));
    let mut log = disk.resume();
    log.append(&inline(1, 1, 10), Urgency::Now);
    let write = log.poll_write().expect("no spare is needed");
    assert_eq!((write.opens, write.offset, write.buffer.len()), (None, 0, 2 * BLOCK_SIZE));
    disk.write(&write);
    log.handle_written(write.buffer);
    goes_on(disk);
}

#[test]
fn a_segment_of_another_log_is_refused_with_the_field_that_differs() {
    let disk = filled(3);
    let mine = identity();
    let others = [
        LogIdentity { cluster: 1, ..mine },
        LogIdentity { node: 9, ..mine },
        LogIdentity { incarnation: 1, ..mine },
        LogIdentity { core: 9, ..mine },
        LogIdentity { core_count: 9, ..mine },
    ];
    let mut fields = Vec::new();
    for other in others {
        match disk.try_scan(&other, 4096) {
            Err(ScanError::Foreign { segment: FIRST, field }) => fields.push(field),
            Err(error) => panic!("{error}"),
            Ok(scan) => panic!("{:?}", scan.outcome),
        }
    }
    assert!(matches!(fields[0], ForeignField::Cluster { expected: 1, .. }));
    assert!(matches!(fields[1], ForeignField::Node { found: 2, expected: 9 }));
    assert!(matches!(fields[2], ForeignField::Incarnation { expected: 1, .. }));
    assert!(matches!(fields[3], ForeignField::Core { found: 1, expected: 9 }));
    assert!(matches!(fields[4], ForeignField::CoreCount { found: 4, expected: 9 }));
}

/// Writes version 2 into a header and makes its checksum, at `crc`, right again.
fn make_newer(header: &mut [u8], crc: usize) {
    header[8] = 2;
    let right = crc32fast::hash(&header[..crc]);
    header[crc..crc + 4].copy_from_slice(&right.to_le_bytes());
}

#[test]
fn what_a_newer_program_wrote_is_refused_as_such() {
    let mut disk = filled(3);
    let file = disk.files.get_mut(&FIRST).expect("written");
    make_newer(&mut file[BLOCK_SIZE * 3..], 60);
    let refused = disk.try_scan(&identity(), 4096).err().expect("newer");
    let newer = |offset| ScanError::Newer { segment: FIRST, offset, found: 2, supported: 1 };
    assert_eq!(refused, newer(3 * BLOCK));
    assert!(refused.to_string().contains("written by a newer Certus"));
    let file = disk.files.get_mut(&FIRST).expect("written");
    make_newer(file, 64);
    assert_eq!(disk.try_scan(&identity(), 4096).err(), Some(newer(0)));
}

#[test]
fn a_segment_header_says_what_is_wrong_with_it() {
    let disk = filled(1);
    let mut block = disk.files[&FIRST][..BLOCK_SIZE].to_vec();
    assert!(SegmentHeader::parse_for(&block, &identity()).is_ok());
    assert_eq!(SegmentHeader::parse(&[0; BLOCK_SIZE]), Err(HeaderError::Empty));
    assert_eq!(SegmentHeader::parse(&block[..100]), Err(HeaderError::Damaged));
    for bit in 0..BLOCK_SIZE * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHeader::parse(&block), Err(HeaderError::Damaged), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn frames_of_another_node_or_out_of_order_are_damage() {
    let mut disk = filled(6);
    let file = disk.files.get_mut(&FIRST).expect("written");
    // A frame of the log again in the place of a later one.
    let earlier = file[3 * BLOCK_SIZE..5 * BLOCK_SIZE].to_vec();
    file[7 * BLOCK_SIZE..9 * BLOCK_SIZE].copy_from_slice(&earlier);
    let found = damage(&disk.scan().outcome);
    let reason = DamageReason::Frame(FrameError::LsnNotAbove { found: Lsn(2), seen: Lsn(3) });
    assert_eq!((found.1, found.2), (7 * BLOCK, reason));
    let mut disk = filled(6);
    let file = disk.files.get_mut(&FIRST).expect("written");
    // A later frame in the place of an earlier one: what was between them is missing.
    let later = file[9 * BLOCK_SIZE..11 * BLOCK_SIZE].to_vec();
    file[7 * BLOCK_SIZE..9 * BLOCK_SIZE].copy_from_slice(&later);
    let found = damage(&disk.scan().outcome);
    assert!(matches!(found.2, DamageReason::Frame(FrameError::Chain { .. })), "{:?}", found.2);
    assert_eq!((found.1, found.3), (7 * BLOCK, Some((FIRST, 7 * BLOCK))));
}

#[test]
fn a_report_tells_what_each_segment_holds() {
    let disk = filled(9);
    let mut scanner = Scanner::new(identity());
    for (segment, file) in &disk.files {
        scanner.begin_segment(*segment, file.len() as u64);
        scanner.feed(file, &mut |_| {}).expect("ours");
    }
    let report = scanner.into_report();
    let [first, second] = report.segments[..] else { panic!("two segments") };
    assert_eq!((first.frames, first.records.entries, first.bytes), (7, 7, 14 * BLOCK));
    assert_eq!((first.first_lsn, first.last_lsn), (Some(Lsn(1)), Some(Lsn(7))));
    assert_eq!((second.frames, second.end), (2, 5 * BLOCK));
    let text = report.to_string();
    assert!(text.contains("segment 0000000000000002: 2 frames, 16384 bytes"), "{text}");
    assert!(text.contains("clean: last LSN 9"), "{text}");
}
