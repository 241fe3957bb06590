use plog::advances::Mark;
use plog::assemble::{Assembler, LoadedEntity, OtherEntity};
use plog::entry_record::EntryRecord;
use plog::index::{EntityIndex, Index, IndexedEntry};
use plog::location::Location;
use plog::log_record::{LogRecord, LoggedValue};
use plog::segment::SegmentId;
use plog::summary::RecordSummary;
use plog::vocabulary::{EntityId, Entry};

use crate::disk::{
    Disk, HELD, Numbers, accepted, ballot, bytes, chosen, entry, image, inline, new_log, value,
    value_id,
};

const ENTITY: EntityId = EntityId(7);

/// Loads through the index, reading only what the plan names.
pub fn load(disk: &Disk, index: &Index, entity: EntityId) -> LoadedEntity {
    let plan = index.load_plan(entity);
    assert!(plan.records.is_sorted_by(|left, right| left < right));
    let mut assembler = plan.assembler();
    for location in plan.image.iter().chain(&plan.records) {
        assembler.push(disk.read(*location)).expect("a record of the entity");
    }
    assembler.finish()
}

/// Replays everything.
pub fn replay(records: &[LogRecord], entity: EntityId) -> LoadedEntity {
    let mut assembler = Assembler::new(entity);
    for record in records.iter().filter(|record| record.entity() == entity) {
        assembler.push(record.clone()).expect("a record of the entity");
    }
    assembler.finish()
}

fn written(records: &[LogRecord]) -> (Disk, LoadedEntity) {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, records);
    let loaded = load(&disk, log.index(), ENTITY);
    assert_eq!(loaded, replay(records, ENTITY), "loading and replaying agree");
    (disk, loaded)
}

#[test]
fn a_promise_after_an_accept_keeps_the_value() {
    let promise = EntryRecord { promised: ballot(9), ..accepted(1, 1) };
    let (_, loaded) = written(&[inline(7, 1, 20), entry(7, 1, promise, LoggedValue::Earlier)]);
    let [one] = &loaded.entries[..] else { panic!("one entry: {loaded:?}") };
    assert_eq!((one.record, one.value.clone()), (promise, Some(bytes(2, 20))));
}

#[test]
fn a_chosen_mark_adds_to_the_record_before_it() {
    let (_, loaded) = written(&[inline(7, 1, 20), chosen(7, 1, 1, 1), inline(7, 2, 5)]);
    let [one, two] = &loaded.entries[..] else { panic!("two entries: {loaded:?}") };
    assert_eq!(one.record, EntryRecord { chosen: true, ..accepted(1, 1) });
    assert_eq!((one.value.clone(), one.chain), (Some(bytes(2, 20)), Some(0xc0de_0001)));
    assert_eq!((two.record.chosen, two.chain), (false, None));
}

#[test]
fn a_chosen_entry_with_an_inline_value_is_loaded_with_one_read() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &[inline(7, 1, 20), chosen(7, 1, 1, 1)]);
    assert_eq!(log.index().load_plan(ENTITY).records.len(), 1);
}

#[test]
fn another_value_than_the_accepted_one_may_be_chosen() {
    let other = value(7, 1, 50, bytes(5, 900));
    let (_, loaded) = written(&[inline(7, 1, 20), other, chosen(7, 1, 6, 50)]);
    let [one] = &loaded.entries[..] else { panic!("one entry: {loaded:?}") };
    assert_eq!(one.record.promised, ballot(1), "the promise is the latest entry record's");
    assert_eq!((one.record.accepted, one.record.value_id), (ballot(6), Some(value_id(50))));
    assert_eq!((one.record.validate(), one.value.clone()), (Ok(()), Some(bytes(5, 900))));
}

#[test]
fn a_value_accepted_first_and_chosen_after_another_was_accepted_is_found() {
    let (_, loaded) = written(&[
        inline(7, 1, 20),
        entry(7, 1, accepted(4, 60), LoggedValue::Inline(bytes(6, 6))),
        chosen(7, 1, 8, 1),
    ]);
    assert_eq!(loaded.entries[0].value, Some(bytes(2, 20)));
    assert_eq!(loaded.entries[0].record.promised, ballot(4));
}

#[test]
fn a_chosen_entry_stays_chosen_when_a_promise_follows() {
    let promise = EntryRecord { promised: ballot(9), ..accepted(4, 60) };
    let (_, loaded) = written(&[
        inline(7, 1, 20),
        chosen(7, 1, 3, 1),
        entry(7, 1, promise, LoggedValue::Inline(bytes(6, 6))),
    ]);
    let one = &loaded.entries[0];
    assert!(one.record.chosen && one.record.promised == ballot(9));
    assert_eq!((one.record.accepted, one.value.clone()), (ballot(3), Some(bytes(2, 20))));
}

#[test]
fn a_stored_value_that_nothing_names_makes_no_entry() {
    let (_, loaded) = written(&[value(7, 1, 1, bytes(1, 10))]);
    assert_eq!(loaded.entries, vec![]);
    let (_, loaded) = written(&[chosen(7, 1, 1, 1)]);
    assert_eq!(loaded.entries[0].value, None, "chosen, and the bytes are nowhere");
}

#[test]
fn an_image_replaces_what_came_before_it() {
    let (_, loaded) = written(&[
        inline(7, 1, 20),
        inline(7, 2, 20),
        inline(7, 3, 20),
        image(7, 2, 100),
        image(7, 1, 50),
        chosen(7, 2, 1, 2),
        inline(7, 4, 20),
    ]);
    let kept = loaded.image.as_ref().expect("an image was written");
    assert_eq!((kept.applied, kept.chain, kept.state.len()), (Entry(2), 77, 100));
    assert_eq!(kept.last_value_id, Some(value_id(2)));
    let entries: Vec<Entry> = loaded.entries.iter().map(|held| held.entry).collect();
    assert_eq!(entries, [Entry(3), Entry(4)]);
}

#[test]
fn a_record_of_another_entity_is_refused() {
    let mut assembler = Assembler::new(ENTITY);
    let refused = OtherEntity { found: EntityId(8), expected: ENTITY };
    assert_eq!(assembler.push(inline(8, 1, 1)), Err(refused));
    assert_eq!(assembler.finish().entries, vec![]);
}

fn random_record(numbers: &mut Numbers) -> LogRecord {
    let entity = numbers.below(3);
    let number = 1 + numbers.below(6);
    let id = 1 + numbers.below(3);
    let round = 1 + u32::try_from(numbers.below(9)).expect("fits");
    let length = usize::try_from(numbers.below(50)).expect("fits");
    let fill = u8::try_from(numbers.below(256)).expect("fits");
    let bytes = bytes(fill, length);
    let is_chosen = numbers.below(8) == 0;
    let record = EntryRecord { chosen: is_chosen, ..accepted(round, id) };
    match numbers.below(16) {
        0..=4 => entry(entity, number, record, LoggedValue::Inline(bytes)),
        5..=7 => entry(entity, number, record, LoggedValue::Earlier),
        8 => {
            let promised = ballot(round);
            let record = EntryRecord { promised, ..EntryRecord::default() };
            entry(entity, number, record, LoggedValue::None)
        }
        9..=11 => value(entity, number, id, bytes),
        12..=14 => chosen(entity, number, round, id),
        _ => image(entity, numbers.below(4), length),
    }
}

#[test]
fn loading_through_the_index_equals_replaying_everything_for_any_records() {
    let mut chosen_seen = 0;
    for seed in 1..=200 {
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let records: Vec<LogRecord> = (0..60).map(|_| random_record(&mut numbers)).collect();
        let (mut disk, mut log) = new_log();
        disk.append_each(&mut log, &records);
        let scan = disk.scan();
        assert_eq!(scan.log_records(), records);
        for entity in (0..3).map(EntityId) {
            let loaded = load(&disk, log.index(), entity);
            assert_eq!(loaded, replay(&records, entity), "seed {seed}");
            assert_eq!(scan.index.get(entity), log.index().get(entity), "seed {seed}");
            for held in &loaded.entries {
                assert_eq!(held.record.validate(), Ok(()), "seed {seed}");
                chosen_seen += usize::from(held.record.chosen && held.value.is_some());
            }
        }
    }
    assert!(chosen_seen > 200, "the records were worth combining: {chosen_seen}");
}

/// Entries 1..=count, all chosen.
fn chosen_entries(count: u64) -> Vec<LogRecord> {
    (1..=count).flat_map(|number| [inline(7, number, 10), chosen(7, number, 1, number)]).collect()
}

#[test]
fn a_range_of_chosen_entries_is_found_while_all_are_held() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &chosen_entries(20));
    disk.append_each(&mut log, &[inline(7, 21, 10), inline(7, 23, 10), chosen(7, 23, 1, 23)]);
    let range = |log: &plog::log::Log, first, last| {
        log.index().chosen_range(ENTITY, Entry(first), Entry(last))
    };
    let found = range(&log, 3, 5).expect("held and chosen");
    let entries: Vec<u64> = found.iter().map(|(entry, ..)| entry.0).collect();
    assert_eq!(entries, [3, 4, 5]);
    for (entry, at, id, location) in found {
        assert_eq!((at, id), (ballot(1), value_id(entry.0)));
        assert_eq!(disk.read(location), inline(7, entry.0, 10));
    }
    assert_eq!(range(&log, 20, 21), None, "21 is not chosen");
    assert_eq!(range(&log, 22, 23), None, "22 is a hole");
    assert_eq!((range(&log, 5, 3), range(&log, 0, 3), range(&log, 3, 99)), (None, None, None));
    disk.append_each(&mut log, &[image(7, 20, 10)]);
    let kept = 20 - HELD as u64 + 1;
    assert_eq!(range(&log, kept - 1, 20), None, "held up to a count below the image");
    assert_eq!(range(&log, kept, 20).map(|found| found.len()), Some(HELD));
}

#[test]
fn what_an_entity_costs_to_load_starts_again_with_its_image() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &chosen_entries(3));
    let known = |log: &plog::log::Log| log.index().get(ENTITY).cloned().expect("written");
    let each = inline(7, 1, 10).encoded_length() + chosen(7, 1, 1, 1).encoded_length();
    assert_eq!(known(&log).bytes_since_image(), 3 * each as u64);
    assert_eq!((known(&log).chosen(), known(&log).last()), (Entry(3), Entry(3)));
    disk.append_each(&mut log, &[inline(7, 4, 10), image(7, 3, 10)]);
    assert_eq!(known(&log).bytes_since_image(), 0);
    assert_eq!((known(&log).chosen(), known(&log).last()), (Entry(3), Entry(4)));
    assert_eq!(known(&log).applied(), Entry(3));
    log.index_mut().set_keys(ENTITY, 12);
    assert_eq!(known(&log).keys(), 12);
}

#[test]
fn a_walk_over_the_entities_meets_each_once() {
    let (mut disk, mut log) = new_log();
    let mut numbers = Numbers(99);
    let mut written = Vec::new();
    for _ in 0..300 {
        let entity = numbers.below(u64::MAX);
        written.push(EntityId(entity));
        log.append(&inline(entity, 1, 0), plog::log::Urgency::Now);
    }
    disk.run(&mut log);
    assert_eq!(log.index().len(), 300);
    let mut met = Vec::new();
    loop {
        let next = log.index().entities_after(met.last().copied(), 7);
        met.extend(next.iter().map(|overview| overview.entity));
        if next.len() < 7 {
            break;
        }
    }
    met.sort_unstable();
    written.sort_unstable();
    assert_eq!(met, written);
}

#[test]
fn an_entity_advances_when_it_is_chosen_further_and_not_when_its_records_move() {
    let (mut disk, mut log) = new_log();
    log.index_mut().keep_advances(100);
    let before = log.index_mut().mark_advances().expect("marks are left");
    disk.append_each(&mut log, &[inline(7, 1, 10)]);
    assert!(!log.index().advances().any_after(before), "an acceptance chooses nothing");
    disk.append_each(&mut log, &[chosen(7, 1, 1, 1)]);
    let first = log.index_mut().mark_advances().expect("marks are left");
    let known = |log: &plog::log::Log| log.index().get(ENTITY).cloned().expect("written");
    assert!(first > before && known(&log).advanced() == first);
    // A copy of the record, the mark and an image of the same entry say nothing new.
    disk.append_each(&mut log, &[inline(7, 1, 10), chosen(7, 1, 1, 1), image(7, 1, 10)]);
    let location = Location::new(SegmentId(1), 8192, 64, 5);
    let moved = RecordSummary::Image { entity: ENTITY, applied: Entry(1), chain: None };
    log.index_mut().note(&moved, location);
    assert!(!log.index().advances().any_after(first));
    disk.append_each(&mut log, &[image(7, 9, 10)]);
    let second = log.index_mut().mark_advances().expect("marks are left");
    assert!(second > first && known(&log).advanced() == second);
    let places = log.index().advances().first_after(first);
    let places = log.index().advances().places_from(places.expect("kept")).expect("kept");
    let advanced: Vec<_> = places.map(|(_, mark, entity)| (mark, entity)).collect();
    assert_eq!(advanced, [(second, ENTITY)]);
    // What a start recovers is before all marks.
    let mut recovered = Index::for_recovery(HELD);
    recovered.note(&RecordSummary::of(&image(7, 9, 10)), location);
    assert_eq!(recovered.get(ENTITY).map(|known| known.advanced()), Some(Mark::ZERO));
    assert_eq!(recovered.advances().end(), 0);
}

#[test]
fn the_index_knows_the_chain_where_a_record_names_it() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &[inline(7, 1, 10), chosen(7, 1, 1, 1), inline(7, 2, 10)]);
    let chain = |log: &plog::log::Log, entry| {
        log.index().get(ENTITY).and_then(|known| known.chain_at(Entry(entry)))
    };
    assert_eq!(
        [0, 1, 2, 3].map(|entry| chain(&log, entry)),
        [Some(0), Some(0xc0de_0001), None, None]
    );
    disk.append_each(&mut log, &[image(7, 5, 10)]);
    let LogRecord::Image { chain: of_image, .. } = image(7, 5, 10) else { panic!("an image") };
    assert_eq!((chain(&log, 5), chain(&log, 4)), (Some(of_image), None));
    // Of an image in a checkpoint it is known once that was read.
    let location = Location::new(SegmentId(1), 8192, 64, 5);
    let row = RecordSummary::Image { entity: ENTITY, applied: Entry(6), chain: None };
    log.index_mut().note(&row, location);
    assert_eq!(chain(&log, 6), None);
    log.index_mut().set_image_chain(ENTITY, Entry(5), 77);
    assert_eq!(chain(&log, 6), None, "another image's");
    log.index_mut().set_image_chain(ENTITY, Entry(6), 78);
    assert_eq!(chain(&log, 6), Some(78));
}

#[test]
fn the_oldest_segment_an_entity_needs_moves_with_its_image() {
    let (mut disk, mut log) = new_log();
    disk.append_each(&mut log, &chosen_entries(12));
    let last = log.current_segment().expect("written");
    assert!(last > SegmentId(1));
    assert_eq!(log.index().oldest_needed(ENTITY), Some(SegmentId(1)));
    disk.append_each(&mut log, &[image(7, 12, 10)]);
    let image = log.index().oldest_needed(ENTITY).expect("the image");
    assert!(image >= last);
    assert!(log.index().chosen_range(ENTITY, Entry(5), Entry(12)).is_some());
    log.index_mut().forget_before(ENTITY, image);
    assert_eq!(log.index().chosen_range(ENTITY, Entry(5), Entry(12)), None);
    let loaded = load(&disk, log.index(), ENTITY);
    assert_eq!(loaded.image.map(|image| image.applied), Some(Entry(12)));
}

#[test]
fn the_memory_of_the_index_is_stated() {
    assert_eq!(size_of::<IndexedEntry>(), 96);
    assert_eq!(size_of::<EntityIndex>(), 72);
    let mut index = Index::new(HELD);
    let empty = index.memory_bytes();
    let location = Location::new(SegmentId(1), 4160, 64, 0);
    for entity in 0..100_000 {
        let summary = RecordSummary::of(&image(entity, 5, 10));
        index.note(&summary, location);
    }
    let idle = index.memory_bytes() - empty;
    // A place takes 81 bytes, and the tables are between 7/16 and 7/8 full.
    assert!((108..=202).contains(&(idle / 100_000)), "{idle} bytes for idle entities");
    let summary = RecordSummary::of(&inline(3, 6, 10));
    index.note(&summary, location);
    assert_eq!(index.memory_bytes() - empty, idle + 96);
    assert!(index.get(EntityId(3)).is_some_and(|known| known.entries().len() == 1));
    assert_eq!(index.get(EntityId(3)).map(|known| known.applied()), Some(Entry(5)));
}

#[test]
fn an_index_put_in_order_once_is_walked_as_one_kept_in_order() {
    let mut kept = Index::new(HELD);
    let mut deferred = Index::for_recovery(HELD);
    for number in 0..3_000_u64 {
        // Every entity twice, in an order of no use.
        let entity = EntityId((number % 1_500).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let summary = RecordSummary::Image { entity, applied: Entry(number + 1), chain: None };
        let location = Location::new(SegmentId(1), 4096, 64, 0);
        kept.note(&summary, location);
        deferred.note(&summary, location);
    }
    let (_, log) = new_log();
    let log = log.with_index(deferred);
    let mut cursor = None;
    let mut met = 0;
    loop {
        let page = kept.entities_after(cursor, 100);
        assert_eq!(log.index().entities_after(cursor, 100), page);
        met += page.len();
        let Some(last) = page.last() else { break };
        cursor = Some(last.entity);
    }
    assert_eq!(met, 1_500);
}
