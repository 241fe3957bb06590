use plog::block::BLOCK_SIZE;
use plog::log::{FreeError, Log, Urgency};
use plog::log_record::LoggedValue;
use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::disk::{BLOCKS, Disk, accepted, bytes, chosen, config, entry, inline, new_log, value};

fn one_spare() -> (Disk, Log) {
    let (mut disk, mut log) = new_log();
    disk.prepare(&mut log);
    (disk, log)
}

#[test]
fn everything_appended_while_a_write_is_in_flight_goes_out_as_one_frame() {
    let (mut disk, mut log) = one_spare();
    log.append(&inline(1, 1, 100), Urgency::Now);
    let first = log.poll_write().expect("urgent, and nothing in flight");
    for number in 2..=9 {
        log.append(&inline(1, number, 100), Urgency::Now);
        assert!(log.poll_write().is_none(), "one write is in flight at a time");
    }
    disk.write(&first);
    assert_eq!(log.handle_written(first.buffer), Lsn(1));
    let second = log.poll_write().expect("eight records wait");
    disk.write(&second);
    assert_eq!(log.handle_written(second.buffer), Lsn(9));
    assert!(log.poll_write().is_none());
    let counters = log.counters();
    assert_eq!((counters.frames, counters.records), (2, 9));
    assert_eq!(counters.payload_bytes, 9 * 192);
    assert_eq!(counters.bytes, 3 * BLOCK_SIZE as u64, "segment header and two frames of a block");
    assert_eq!(disk.scan().records.len(), 9);
}

#[test]
fn lazy_records_do_not_cause_a_write_alone() {
    let (mut disk, mut log) = one_spare();
    let lazy = log.append(&chosen(1, 1, 1, 1), Urgency::Lazy);
    assert!(log.poll_write().is_none());
    let urgent = log.append(&inline(1, 2, 10), Urgency::Now);
    disk.run(&mut log);
    assert_eq!(log.durable(), urgent);
    assert!(lazy < urgent && log.counters().frames == 1, "the lazy one went along");
    let lazy = log.append(&chosen(1, 2, 1, 2), Urgency::Lazy);
    assert!(log.poll_write().is_none());
    log.flush();
    disk.run(&mut log);
    assert_eq!(log.durable(), lazy);
    log.flush();
    assert_eq!(log.counters().flushes, 1, "a flush with nothing pending is none");
}

#[test]
fn a_full_frame_goes_out_even_when_lazy() {
    let (mut disk, mut log) = one_spare();
    let length = BLOCK_SIZE;
    for number in 1..=3 {
        log.append(&inline(1, number, length), Urgency::Lazy);
    }
    assert!(log.poll_write().is_none());
    log.append(&inline(1, 4, length), Urgency::Lazy);
    disk.run(&mut log);
    assert_eq!(log.durable(), Lsn(3), "the frame with room left still waits");
    assert_eq!(log.appended(), Lsn(4));
}

#[test]
fn frames_wait_for_the_disk_when_they_are_full_or_hold_something_urgent() {
    let (mut disk, mut log) = one_spare();
    assert_eq!(log.frames_waiting(), 0);
    log.append(&chosen(1, 1, 1, 1), Urgency::Lazy);
    assert_eq!(log.frames_waiting(), 0, "nobody waits for it");
    log.append(&inline(1, 2, 10), Urgency::Now);
    assert_eq!(log.frames_waiting(), 1);
    let write = log.poll_write().expect("urgent");
    assert_eq!((write.records, write.first), (2, (EntityId(1), Entry(1))));
    assert_eq!(log.frames_waiting(), 0, "what is in flight does not wait any more");
    for number in 3..=6 {
        log.append(&inline(1, number, BLOCK_SIZE), Urgency::Lazy);
    }
    assert_eq!(log.frames_waiting(), 1, "a full frame, and one with room left");
    log.flush();
    assert_eq!(log.frames_waiting(), 2);
    disk.write(&write);
    log.handle_written(write.buffer);
    let write = log.poll_write().expect("full");
    assert_eq!((write.records, write.first), (3, (EntityId(1), Entry(3))));
    assert_eq!(log.frames_waiting(), 1);
    disk.write(&write);
    log.handle_written(write.buffer);
    disk.run(&mut log);
    assert_eq!((log.frames_waiting(), log.durable()), (0, Lsn(6)));
}

#[test]
fn the_index_knows_a_record_only_once_it_is_durable() {
    let (mut disk, mut log) = one_spare();
    log.append(&inline(5, 1, 10), Urgency::Now);
    assert!(log.index().get(EntityId(5)).is_none());
    let write = log.poll_write().expect("urgent");
    disk.write(&write);
    assert!(log.index().get(EntityId(5)).is_none());
    assert_eq!(log.durable(), Lsn::ZERO);
    log.handle_written(write.buffer);
    let known = log.index().get(EntityId(5)).expect("durable");
    assert_eq!(known.last(), Entry(1));
    let location = known.entries().next().and_then(|held| held.record()).expect("noted");
    assert_eq!(disk.read(location), inline(5, 1, 10));
}

#[test]
fn opening_a_segment_takes_a_spare_and_no_write_of_its_own() {
    let (mut disk, mut log) = new_log();
    log.append(&inline(1, 1, 10), Urgency::Now);
    assert!(log.poll_write().is_none(), "no spare is ready");
    assert_eq!((log.room(), log.spares_wanted()), (0, 2));
    disk.spares.insert(SpareId(40), vec![0; BLOCKS * BLOCK_SIZE]);
    log.handle_spare(SpareId(40));
    assert_eq!(log.room(), 15 * BLOCK_SIZE as u64);
    let write = log.poll_write().expect("a spare is ready");
    assert_eq!((write.segment, write.offset), (SegmentId::FIRST, 0));
    assert_eq!((write.opens, write.buffer.len()), (Some(SpareId(40)), 2 * BLOCK_SIZE));
    assert_eq!(write.buffer.as_ptr().addr() % BLOCK_SIZE, 0);
    disk.write(&write);
    log.handle_written(write.buffer);
    assert_eq!(log.room(), 14 * BLOCK_SIZE as u64);
    log.append(&inline(1, 2, 10), Urgency::Now);
    let next = log.poll_write().expect("room is left");
    assert_eq!((next.offset, next.opens, next.buffer.len()), (8192, None, BLOCK_SIZE));
    log.handle_written(next.buffer);
    assert_eq!(log.name_spare(), SpareId(41), "above every spare known");
}

#[test]
fn a_frame_that_does_not_fit_the_rest_opens_the_next_segment() {
    let (mut disk, mut log) = new_log();
    for number in 1..=20 {
        disk.append_each(&mut log, &[inline(1, number, 8000)]);
    }
    assert_eq!(disk.files.len(), 3, "fifteen blocks hold seven frames of two");
    assert_eq!(log.current_segment(), Some(SegmentId(3)));
    assert_eq!(log.counters().segments_opened, 3);
}

#[test]
fn a_large_value_has_a_record_and_a_frame_of_its_own() {
    let (mut disk, mut log) = new_log();
    let large = bytes(9, 10 * BLOCK_SIZE);
    log.append(&inline(1, 1, 10), Urgency::Now);
    log.append(&value(1, 2, 2, large.clone()), Urgency::Lazy);
    let reference = entry(1, 2, accepted(1, 2), LoggedValue::Earlier);
    log.append(&reference, Urgency::Now);
    disk.run(&mut log);
    assert_eq!(log.counters().frames, 3);
    let promise =
        plog::entry_record::EntryRecord { promised: crate::disk::ballot(8), ..accepted(1, 2) };
    disk.append_each(&mut log, &[entry(1, 2, promise, LoggedValue::Earlier)]);
    assert!(log.counters().payload_bytes < 11 * BLOCK_SIZE as u64, "the value was written once");
    let range = log.index().get(EntityId(1)).expect("durable");
    let held = range.entries().last().expect("two entries");
    assert_eq!(disk.read(held.value().expect("held")), value(1, 2, 2, large));
    let whole = value(1, 3, 3, bytes(1, config().record_size_max() - 48));
    disk.append_each(&mut log, std::slice::from_ref(&whole));
    assert_eq!(disk.scan().log_records().last(), Some(&whole), "it fills a segment alone");
}

#[test]
fn pending_bytes_are_counted_until_they_are_handed_out() {
    let (mut disk, mut log) = new_log();
    let record = inline(1, 1, BLOCK_SIZE);
    let mut appended = 0;
    while !log.is_full() {
        log.append(&record, Urgency::Now);
        appended += record.encoded_length();
        assert_eq!(log.pending_bytes(), appended);
    }
    assert!(appended >= 8 * BLOCK_SIZE);
    disk.prepare(&mut log);
    let write = log.poll_write().expect("urgent");
    assert!(!log.is_full() && log.pending_bytes() < appended);
    disk.write(&write);
    log.handle_written(write.buffer);
    disk.run(&mut log);
    assert_eq!(log.pending_bytes(), 0);
}

#[test]
fn buffers_are_used_again() {
    let (mut disk, mut log) = new_log();
    let mut addresses = Vec::new();
    for number in 1..=6 {
        disk.prepare(&mut log);
        log.append(&inline(1, number, 10), Urgency::Now);
        let write = log.poll_write().expect("urgent");
        disk.write(&write);
        addresses.push(write.buffer.whole().as_ptr().addr());
        log.handle_written(write.buffer);
    }
    assert!(addresses.windows(2).all(|pair| pair[0] == pair[1]), "{addresses:?}");
    assert_eq!(disk.scan().records.len(), 6, "no old bytes are left in a reused buffer's padding");
}

#[test]
fn only_the_oldest_segment_can_be_freed_and_never_the_newest() {
    let (mut disk, mut log) = new_log();
    let first = SegmentId::FIRST;
    assert_eq!(log.free(first), Err(FreeError::Newest { segment: first }));
    for number in 1..=20 {
        disk.append_each(&mut log, &[inline(1, number, 8000)]);
    }
    let refused = FreeError::NotOldest { segment: first.next(), oldest: first };
    assert_eq!(log.free(first.next()), Err(refused));
    for number in 1..=2 {
        let freed = log.free(SegmentId(number)).expect("a later segment has frames");
        assert_eq!(freed.segment, SegmentId(number));
        assert!(!disk.spares.contains_key(&freed.spare), "a new name");
    }
    assert_eq!(log.free(SegmentId(3)), Err(FreeError::Newest { segment: SegmentId(3) }));
    assert_eq!(log.oldest_segment(), SegmentId(3));
}
