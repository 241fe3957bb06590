use plog::dump::record_line;
use plog::entry_record::{EntryRecord, InvalidRecord};
use plog::location::{Location, ReadBackError, read_back};
use plog::log_record::{LogRecord, LoggedValue, RecordError, record_checksum};
use plog::recovery::ScannedRecord;
use plog::segment::{SegmentFileName, SegmentId, SpareId};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Lsn};

use crate::disk::{accepted, ballot, bytes, chosen, entry, image, inline, value};

fn every_kind() -> Vec<LogRecord> {
    let promised = EntryRecord { promised: ballot(9), ..EntryRecord::default() };
    let learned = EntryRecord { chosen: true, promised: Ballot::NONE, ..accepted(4, 8) };
    let learned = EntryRecord { prepared: Ballot::NONE, ..learned };
    vec![
        entry(u64::MAX, 1, promised, LoggedValue::None),
        inline(7, 2, 0),
        inline(7, 3, 13),
        entry(7, 4, accepted(5, 6), LoggedValue::Earlier),
        entry(7, 5, learned, LoggedValue::Inline(bytes(1, 8))),
        entry(7, 6, accepted(5, 6), LoggedValue::None),
        value(7, 4, 6, bytes(0xff, 1001)),
        chosen(7, u32::MAX.into(), 5, 6),
        image(7, 0, 0),
        image(7, 9, 333),
    ]
}

fn encoded(record: &LogRecord) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    assert_eq!(out.len(), record.encoded_length());
    out
}

#[test]
fn every_record_kind_round_trips() {
    for record in every_kind() {
        let mut bytes = encoded(&record);
        let length = bytes.len();
        bytes.extend([0xee; 40]);
        assert_eq!(LogRecord::decode(&bytes), Ok((record, length)), "what follows does not matter");
    }
}

#[test]
fn a_record_cut_short_at_any_byte_is_refused() {
    for record in every_kind() {
        let bytes = encoded(&record);
        for length in 0..bytes.len() {
            let cut = LogRecord::decode(&bytes[..length]);
            assert!(matches!(cut, Err(RecordError::Short { .. })), "{length}: {cut:?}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_record_is_refused() {
    for record in every_kind() {
        let mut bytes = encoded(&record);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(LogRecord::decode(&bytes).is_err(), "bit {bit} of {record:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Changes a byte and makes the checksum right again.
fn forged(
    record: &LogRecord,
    position: usize,
    byte: u8,
) -> Result<(LogRecord, usize), RecordError> {
    let mut bytes = encoded(record);
    bytes[position] = byte;
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    LogRecord::decode(&bytes)
}

#[test]
fn a_record_with_a_good_checksum_must_still_make_sense() {
    let with_value = inline(7, 3, 13);
    assert_eq!(forged(&with_value, 8, 9), Err(RecordError::Kind { kind: 9 }));
    assert_eq!(forged(&with_value, 9, 0x40), Err(RecordError::Flags { kind: 1, flags: 0x40 }));
    assert_eq!(forged(&with_value, 9, 4), Err(RecordError::Flags { kind: 1, flags: 4 }));
    assert_eq!(forged(&with_value, 10, 1), Err(RecordError::Reserved));
    assert!(matches!(forged(&with_value, 12, 90), Err(RecordError::ByteCount { .. })));
    assert_eq!(forged(&with_value, 88 + 13, 1), Err(RecordError::Reserved), "padding");
    let rule = RecordError::Invalid(InvalidRecord::AcceptedAbovePromised);
    assert_eq!(forged(&entry(7, 4, accepted(5, 6), LoggedValue::Earlier), 56, 9), Err(rule));
    let mark = LogRecord::Chosen {
        entity: EntityId(1),
        entry: Entry(1),
        ballot: Ballot { round: 1, epoch: BootEpoch(0), acceptor: AcceptorId(0) },
        value_id: crate::disk::value_id(1),
        chain: 0,
    };
    assert_eq!(forged(&mark, 32, 0), Err(RecordError::ChosenWithoutBallot));
    let long = u32::MAX.to_le_bytes();
    let mut bytes = encoded(&mark);
    bytes[..4].copy_from_slice(&long);
    assert_eq!(LogRecord::decode(&bytes), Err(RecordError::Length { length: u32::MAX }));
}

#[test]
fn a_record_is_read_back_from_the_blocks_around_it() {
    let record = inline(7, 3, 4096);
    let mut file = vec![0; 4000];
    record.encode(&mut file);
    let length = u32::try_from(record.encoded_length()).expect("fits");
    file.resize(4 * 4096, 0);
    let checksum = record_checksum(&file[4000..]);
    let location = Location::new(SegmentId(1), 4000, length, checksum);
    assert_eq!(location.blocks(), (0, 2 * 4096));
    assert_eq!(read_back(location, &file[..8192]), Ok(record));
    let short = Err(ReadBackError::Short { got: 4096, needed: 4000 + location.length as usize });
    assert_eq!(read_back(location, &file[..4096]), short);
    let other = Location::new(SegmentId(1), 4000, length + 8, checksum);
    assert!(matches!(read_back(other, &file[..12288]), Err(ReadBackError::OtherLength { .. })));
    // A block that went astray: the same entry's record of another time, just as long.
    let stale = Location::new(SegmentId(1), 4000, length, checksum ^ 1);
    let refused = read_back(stale, &file[..8192]);
    assert!(matches!(refused, Err(ReadBackError::OtherRecord { .. })), "{refused:?}");
    file[5000] ^= 1;
    assert!(matches!(read_back(location, &file[..8192]), Err(ReadBackError::Record { .. })));
    let later = Location::new(SegmentId(1), 9000, 64, 0);
    assert_eq!(later.blocks(), (8192, 4096));
}

#[test]
fn file_names_are_parsed_only_as_they_are_written() {
    let segment = SegmentFileName::Segment(SegmentId(0xab));
    assert_eq!(segment.to_string(), "00000000000000ab.plog");
    assert_eq!(SegmentFileName::parse("00000000000000ab.plog"), Some(segment));
    let spare = SegmentFileName::Spare(SpareId(12));
    assert_eq!(SegmentFileName::parse(&spare.to_string()), Some(spare));
    for name in [
        "00000000000000AB.plog",
        "ab.plog",
        "spare-012.plog",
        "spare-+1.plog",
        "lock",
        "spare-.plog",
    ] {
        assert_eq!(SegmentFileName::parse(name), None, "{name}");
    }
}

#[test]
fn each_record_has_one_line_in_a_dump() {
    let location = Location::new(SegmentId(1), 4160, 64, 0);
    for record in every_kind() {
        let scanned = ScannedRecord { lsn: Lsn(5), location, record, after_damage: true };
        let line = record_line(&scanned);
        assert!(line.starts_with("           5 0000000000000001+4160     64 entity "), "{line}");
        assert!(!line.contains('\n') && line.ends_with("(after damage)"), "{line}");
    }
    let scanned =
        ScannedRecord { lsn: Lsn(5), location, record: chosen(7, 2, 5, 6), after_damage: false };
    let says = "entity 0000000000000007 entry 2 chosen 6.3@1 at 5.3@1, chain c0de0002";
    assert!(record_line(&scanned).ends_with(says), "{}", record_line(&scanned));
}
