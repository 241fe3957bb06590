//! Checkpoints: what is written is what is read, however it is cut, and nothing else passes.

use std::collections::BTreeMap;

use plog::block::BLOCK_SIZE;
use plog::checkpoint::check::{PartCheck, PartDamage, PartSummary};
use plog::checkpoint::seal::{PartError, Seal, TableReader};
use plog::checkpoint::table::Row;
use plog::checkpoint::writer::CheckpointWriter;
use plog::checkpoint::{CheckpointId, PartId};
use plog::identity::LogIdentity;
use plog::index::Index;
use plog::location::read_back;
use plog::log_record::LogRecord;
use plog::recovery::{Recovered, Scanner};
use plog::segment::SegmentId;
use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, Lsn, ValueId};

const IDENTITY: LogIdentity =
    LogIdentity { cluster: 7, node: 1, incarnation: 99, core: 0, core_count: 1 };

type Parts = BTreeMap<PartId, Vec<u8>>;

fn image(entity: u64, size: usize) -> LogRecord {
    let last = ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: entity };
    LogRecord::Image {
        entity: EntityId(entity),
        applied: Entry(entity % 9 + 1),
        chain: 5,
        last_value_id: Some(last),
        state: vec![u8::try_from(entity % 251).expect("below 256"); size].into(),
    }
}

fn sizes(entity: u64) -> usize {
    if entity.is_multiple_of(53) { 300_000 } else { usize::try_from(entity % 700).expect("small") }
}

/// Writes the images of entities 1 to `count`; every tenth abstains, every third is copied as it
/// was encoded.
fn write(count: u64, part_bytes: u32) -> Parts {
    let id = CheckpointId(4);
    let mut writer = CheckpointWriter::new(IDENTITY, id, SegmentId(3), Lsn(77), part_bytes);
    let mut parts = Parts::new();
    let mut step = |writer: &mut CheckpointWriter| {
        let Some(write) = writer.poll_write() else { return false };
        assert!(writer.poll_write().is_none(), "one write at a time");
        let file = parts.entry(write.part).or_default();
        assert_eq!(
            u64::try_from(file.len()).expect("small"),
            write.offset,
            "parts grow at their end"
        );
        file.extend_from_slice(&write.buffer);
        writer.handle_written(write.buffer);
        true
    };
    for entity in 1..=count {
        while writer.is_full() {
            assert!(step(&mut writer), "a full writer has something to write");
        }
        if entity.is_multiple_of(10) {
            writer.push_abstaining(EntityId(entity));
            continue;
        }
        let record = image(entity, sizes(entity));
        if entity.is_multiple_of(3) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            writer.push_encoded(EntityId(entity), record.entry(), &bytes, 2);
        } else {
            writer.push(&record, 1);
        }
    }
    writer.finish();
    while step(&mut writer) {}
    assert!(writer.is_done());
    assert_eq!(usize::from(writer.parts()), parts.len());
    let bytes: usize = parts.values().map(Vec::len).sum();
    assert_eq!(writer.bytes(), u64::try_from(bytes).expect("small"));
    parts
}

fn seal_of(part: PartId, file: &[u8]) -> Result<Seal, PartError> {
    let block = &file[file.len().saturating_sub(BLOCK_SIZE)..];
    Seal::parse(block, &IDENTITY, part, u64::try_from(file.len()).expect("small"))
}

fn rows(part: PartId, file: &[u8], piece: usize) -> Result<Vec<Row>, PartError> {
    let seal = seal_of(part, file)?;
    let begin = usize::try_from(seal.table_offset).expect("small");
    let end = begin + usize::try_from(seal.table_length()).expect("small");
    let mut reader = TableReader::new(seal);
    let mut rows = Vec::new();
    for piece in file[begin..end].chunks(piece) {
        reader.feed(piece, &mut |row| rows.push(row));
    }
    reader.finish()?;
    Ok(rows)
}

#[test]
fn what_is_written_is_what_is_read_in_one_part_or_many() {
    for (count, part_bytes, expected_parts) in
        [(0, 1 << 20, 1), (1, 1 << 20, 1), (9, 1 << 20, 1), (400, 64 << 20, 1), (400, 600_000, 4)]
    {
        let parts = write(count, part_bytes);
        assert_eq!(parts.len(), expected_parts, "{count} entities, parts of {part_bytes}");
        let mut found = Vec::new();
        for (number, (part, file)) in parts.iter().enumerate() {
            let seal = seal_of(*part, file).unwrap();
            assert_eq!((seal.floor, seal.begin), (SegmentId(3), Lsn(77)));
            assert_eq!(seal.is_last, number + 1 == parts.len());
            let whole = rows(*part, file, usize::MAX).unwrap();
            assert_eq!(rows(*part, file, 7).unwrap(), whole, "in pieces of any length");
            for row in whole {
                let entity = row.entity.0;
                let Some(location) = row.image else {
                    assert_eq!(entity % 10, 0, "only those abstain");
                    found.push(entity);
                    continue;
                };
                let (offset, length) = location.blocks();
                let offset = usize::try_from(offset).unwrap();
                let read = read_back(location, &file[offset..offset + length]).unwrap();
                assert_eq!(read, image(entity, sizes(entity)));
                assert_eq!(row.applied, read.entry());
                assert_eq!(row.keys, if entity.is_multiple_of(3) { 2 } else { 1 });
                found.push(entity);
            }
        }
        found.sort_unstable();
        assert_eq!(found, (1..=count).collect::<Vec<_>>());
    }
}

#[test]
fn a_part_reads_like_a_segment() {
    let parts = write(400, 600_000);
    for (part, file) in &parts {
        let seal = seal_of(*part, file).unwrap();
        let frames = &file[..usize::try_from(seal.table_offset).unwrap()];
        let mut scanner = Scanner::new(IDENTITY);
        scanner.begin_segment(part.file(), u64::try_from(frames.len()).unwrap());
        let mut images = 0;
        scanner.feed(frames, &mut |_| images += 1).unwrap();
        let Recovered::Clean(tail) = scanner.finish() else { panic!("{part} is not clean") };
        assert_eq!(tail.last_frame_crc, seal.last_frame);
        let with_image =
            rows(*part, file, 4096).unwrap().iter().filter(|row| row.image.is_some()).count();
        assert_eq!(images, with_image);
    }
}

#[test]
fn every_changed_byte_of_table_and_seal_is_noticed() {
    let parts = write(9, 1 << 20);
    let (part, file) = parts.first_key_value().unwrap();
    let seal = seal_of(*part, file).unwrap();
    let table = usize::try_from(seal.table_offset).unwrap();
    let rows_end = table + 9 * 32;
    for mask in [0x01, 0x80, 0xff] {
        // Padding between the rows and the seal means nothing.
        for offset in (table..rows_end).chain(file.len() - BLOCK_SIZE..file.len()) {
            let mut changed = file.clone();
            changed[offset] ^= mask;
            assert!(rows(*part, &changed, 4096).is_err(), "byte {offset} with mask {mask:#x}");
        }
    }
    for cut in [1, BLOCK_SIZE, 2 * BLOCK_SIZE] {
        assert!(rows(*part, &file[..file.len() - cut], 4096).is_err(), "cut by {cut}");
    }
    let other = CheckpointId(5).part(0);
    assert_eq!(seal_of(other, file), Err(PartError::OtherPart { found: *part }));
    let foreign = LogIdentity { node: 2, ..IDENTITY };
    let block = &file[file.len() - BLOCK_SIZE..];
    let size = u64::try_from(file.len()).unwrap();
    assert!(matches!(Seal::parse(block, &foreign, *part, size), Err(PartError::Foreign(_))));
}

fn check(part: PartId, file: &[u8], piece: usize) -> Result<PartSummary, PartDamage> {
    let seal = seal_of(part, file)?;
    let mut check = PartCheck::new(seal);
    let mut images = 0;
    for piece in file[..file.len() - BLOCK_SIZE].chunks(piece) {
        check.feed(piece, &mut |_| images += 1);
    }
    let summary = check.finish()?;
    assert_eq!(summary.images, images, "every image is handed on once");
    Ok(summary)
}

#[test]
fn every_changed_byte_of_a_part_is_noticed_by_a_check() {
    for count in [0, 1, 40] {
        let parts = write(count, 1 << 20);
        let (part, file) = parts.first_key_value().unwrap();
        let summary = check(*part, file, usize::MAX).unwrap();
        assert_eq!(summary.images + summary.abstaining, count);
        assert_eq!(check(*part, file, 1000).unwrap(), summary, "in pieces of any length");
        for mask in [0x01, 0x80, 0xff] {
            for offset in 0..file.len() {
                let mut changed = file.clone();
                changed[offset] ^= mask;
                assert!(check(*part, &changed, usize::MAX).is_err(), "byte {offset}, {mask:#x}");
            }
        }
    }
}

#[test]
fn an_index_from_a_checkpoint_loads_its_images() {
    let parts = write(30, 1 << 20);
    let mut index = Index::new(8);
    for (part, file) in &parts {
        rows(*part, file, 4096).unwrap().iter().for_each(|row| index.note_checkpointed(row));
    }
    assert_eq!(index.len(), 27, "those that abstain are not in it");
    let plan = index.load_plan(EntityId(7));
    assert_eq!(PartId::of_file(plan.image.unwrap().segment()).unwrap().checkpoint, CheckpointId(4));
    assert!(plan.records.is_empty());
    assert_eq!(index.get(EntityId(7)).unwrap().applied(), Entry(8));
    assert_eq!(index.get(EntityId(7)).unwrap().keys(), 1);
}
