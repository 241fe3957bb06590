//! Records and frames: what is parsed has one encoding only.

use std::ops::Range;
use std::rc::Rc;

use plog::block::{BLOCK_SIZE, padded};
use plog::frame::{FRAME_HEADER_SIZE, FrameError, FrameHeader};
use plog::log_record::{LogRecord, RecordError};
use plog::segment::{HeaderError, SegmentHeader, SegmentId};
use plog::vocabulary::Lsn;

use crate::disk::{Numbers, identity};
use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};
use crate::run::any_record;

const LENGTHS: [usize; 8] = [0, 1, 8, 60, 60, 200, 1000, 5000];

fn made_record(random: &mut Random) -> LogRecord {
    any_record(&mut Numbers(random.next() | 1), LENGTHS)
}

fn encoded(record: &LogRecord) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn put_crc(bytes: &mut [u8], checked: Range<usize>, at: usize) {
    let crc = crc32fast::hash(&bytes[checked]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let field = bytes[at..].first_chunk().expect("the caller checked the length");
    usize::try_from(u32::from_le_bytes(*field)).expect("fits")
}

/// Those of `fields` that are there.
fn within(fields: &[Range<usize>], begin: usize, length: usize) -> Vec<Range<usize>> {
    let moved = fields.iter().map(|field| field.start + begin..field.end + begin);
    moved.filter(|field| field.end <= length).collect()
}

struct Records;

/// Length, kind, flags, reserved, byte count, entity, entry, and the first numbers of the kind.
const RECORD_FIELDS: [Range<usize>; 11] =
    [0..4, 8..9, 9..10, 10..12, 12..16, 16..24, 24..32, 32..36, 36..40, 40..44, 44..48];

impl Format for Records {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        within(&RECORD_FIELDS, 0, bytes.len())
    }

    fn repair(&self, bytes: &mut [u8]) {
        if bytes.len() >= 8 {
            let length = u32_at(bytes, 0);
            if (8..=bytes.len()).contains(&length) {
                put_crc(bytes, 8..length, 4);
            }
        }
    }
}

thread_local! {
    static RECORDS: Rc<[Vec<u8>]> =
        (0..24).map(|seed| encoded(&made_record(&mut Random(seed)))).collect();
    static FRAMES: Rc<[Vec<u8>]> = (0..6).map(|seed| made_frame(&mut Random(seed))).collect();
}

type DecodeRecord = fn(&[u8]) -> Result<(LogRecord, usize), RecordError>;

/// A record that is parsed encodes to the same bytes; what follows it does not matter, and nothing
/// shorter is a record.
fn check_record(decode: DecodeRecord, plan: &Plan, tally: &mut Tally) {
    let samples: Vec<Vec<u8>> =
        (0..24).map(|seed| encoded(&made_record(&mut Random(seed)))).collect();
    let bytes = plan.input(&Records, &samples, |random| encoded(&made_record(random)));
    let (decoded, held) = peak(|| decode(&bytes));
    assert!(held <= bytes.len() + 64, "{held} bytes were held for {} bytes", bytes.len());
    match decoded {
        Ok((record, length)) => {
            assert_eq!(encoded(&record), bytes[..length], "{record:?}");
            let mut longer = bytes[..length].to_vec();
            longer.extend(Random(plan.seed).bytes(40));
            assert_eq!(decode(&longer), Ok((record.clone(), length)), "what follows matters");
            assert_eq!(decode(&bytes[..length]), Ok((record, length)));
            for cut in &plan.cuts {
                let cut = decode(&bytes[..usize::from(*cut) % length]);
                assert!(matches!(cut, Err(RecordError::Short { .. })), "{cut:?}");
            }
            tally.count(&"Good");
        }
        Err(RecordError::Short { got, needed }) => {
            assert!(got == bytes.len() && needed > got, "{needed} bytes needed, {got} there");
            tally.count(&"Short");
        }
        Err(error) => tally.count(&error),
    }
}

#[test]
fn fuzz_log_record() {
    fuzz!(60_000, |plan, tally| check_record(LogRecord::decode, plan, tally), |tally| {
        tally.expect(2000, &["Good", "Short", "Checksum", "Length"]);
        tally.expect(100, &["ByteCount", "Reserved", "Flags", "Kind", "Invalid"]);
    });
}

#[test]
fn a_record_decoder_that_is_wrong_is_found() {
    let fails = |decode: DecodeRecord| fails(2000, |plan, tally| check_record(decode, plan, tally));
    // Believes a record whose padding is not zero, by the checksum it should have had.
    assert!(fails(|bytes| {
        let mut cleaned = bytes.to_vec();
        if bytes.len() >= 40 {
            let length = u32_at(bytes, 0).min(bytes.len());
            cleaned[length.saturating_sub(3)..length].fill(0);
            Records.repair(&mut cleaned);
        }
        LogRecord::decode(&cleaned)
    }));
    // Makes room for what a length announces.
    assert!(fails(|bytes| {
        let announced = if bytes.len() < 16 { 0 } else { u32_at(bytes, 12) };
        drop(std::hint::black_box(Vec::<u8>::with_capacity(announced.min(1 << 30))));
        LogRecord::decode(bytes)
    }));
    // Looks at what follows.
    assert!(fails(|bytes| match LogRecord::decode(bytes) {
        Ok((_, length)) if length < bytes.len() => Err(RecordError::Length { length: 0 }),
        decoded => decoded,
    }));
    // Takes what is cut short for damaged.
    assert!(fails(|bytes| match LogRecord::decode(bytes) {
        Err(RecordError::Short { .. }) => Err(RecordError::Reserved),
        decoded => decoded,
    }));
}

pub struct Frames;

/// Version, flags, node, core, segment, LSN, incarnation, lengths, count, the frame before.
const FRAME_FIELDS: [Range<usize>; 11] =
    [8..10, 10..12, 12..13, 14..16, 16..24, 24..32, 32..40, 40..44, 44..48, 48..52, 52..56];

impl Format for Frames {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut fields = Vec::new();
        for begin in (0..bytes.len()).step_by(BLOCK_SIZE) {
            if bytes[begin..].starts_with(b"CertFram") {
                fields.extend(within(&FRAME_FIELDS, begin, bytes.len()));
            } else if bytes[begin..].starts_with(b"CertSegm") {
                let header =
                    [8..10, 10..11, 12..14, 14..16, 16..24, 24..32, 48..56, 56..60, 60..64];
                fields.extend(within(&header, begin, bytes.len()));
            }
        }
        fields
    }

    /// Checksums of headers; of records as far as their lengths allow.
    fn repair(&self, bytes: &mut [u8]) {
        for begin in (0..bytes.len()).step_by(BLOCK_SIZE) {
            let rest = &mut bytes[begin..];
            if rest.starts_with(b"CertFram") && rest.len() >= FRAME_HEADER_SIZE {
                let end = FRAME_HEADER_SIZE + u32_at(rest, 44);
                if end <= rest.len() {
                    let mut at = FRAME_HEADER_SIZE;
                    while at + 8 <= end && u32_at(rest, at) >= 8 && u32_at(rest, at) <= end - at {
                        let next = at + u32_at(rest, at);
                        put_crc(rest, at + 8..next, at + 4);
                        at = next;
                    }
                    put_crc(rest, FRAME_HEADER_SIZE..end, 56);
                }
                put_crc(rest, 0..60, 60);
            } else if rest.starts_with(b"CertSegm") && rest.len() >= BLOCK_SIZE {
                put_crc(rest, 0..64, 64);
            }
        }
    }
}

const SEGMENT: SegmentId = SegmentId(3);

/// A frame of up to a few records, or the header of a segment.
fn made_frame(random: &mut Random) -> Vec<u8> {
    if random.below(4) == 0 {
        let mut block = vec![0; BLOCK_SIZE];
        let header = SegmentHeader {
            identity: identity(),
            segment: SEGMENT,
            first_lsn: Lsn(random.next() >> 20),
            previous_frame: 7,
            segment_size: 1 << 16,
        };
        header.encode_into(&mut block);
        return block;
    }
    let count = 1 + random.below(4);
    let mut bytes = vec![0; FRAME_HEADER_SIZE];
    for _ in 0..count {
        made_record(random).encode(&mut bytes);
    }
    let payload = bytes.len() - FRAME_HEADER_SIZE;
    bytes.resize(padded(bytes.len()), 0);
    let header = FrameHeader {
        node: identity().node,
        core: identity().core,
        segment: SEGMENT,
        first_lsn: Lsn(1 + (random.next() >> 20)),
        incarnation_low: identity().incarnation_low(),
        frame_length: 0,
        payload_length: 0,
        record_count: u32::try_from(count).expect("few"),
        previous_frame: 9,
        payload_crc: 0,
        header_crc: 0,
    };
    header.seal(&mut bytes, payload);
    bytes
}

type ParseFrame = fn(&[u8]) -> Result<FrameHeader, FrameError>;

fn parse_frame(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
    FrameHeader::parse(bytes, &identity(), SEGMENT)
}

/// A frame that is parsed seals to the same bytes; its header alone says what it is.
fn check_frame(parse: ParseFrame, plan: &Plan, tally: &mut Tally) {
    let samples = FRAMES.with(Rc::clone);
    let bytes = plan.input(&Frames, &samples, made_frame);
    let (parsed, held) = peak(|| parse(&bytes));
    assert_eq!(held, 0, "a header is parsed in place");
    match parsed {
        Ok(header) => {
            assert_eq!(parse(&bytes[..FRAME_HEADER_SIZE]), Ok(header));
            let other = FrameHeader::parse(&bytes, &identity(), SEGMENT.next());
            assert_eq!(other, Err(FrameError::OtherSegment { found: SEGMENT }));
            assert!(header.last_lsn() >= header.first_lsn);
            let length = usize::try_from(header.frame_length).expect("fits");
            let Some(frame) = bytes.get(..length) else { return tally.count(&"Cut") };
            match header.payload(frame) {
                // Such a header is refused only where its records are missing.
                Ok([]) => tally.count(&"NoRecords"),
                Ok(payload) => {
                    let mut again = frame.to_vec();
                    assert_eq!(header.seal(&mut again, payload.len()), header);
                    assert_eq!(again, frame);
                    tally.count(&"Whole");
                }
                Err(error) => tally.count(&error),
            }
        }
        Err(error) => {
            let short = bytes.len() < FRAME_HEADER_SIZE;
            assert!(!short || error == FrameError::NotAFrame, "{error}");
            tally.count(&error);
        }
    }
    match SegmentHeader::parse(&bytes) {
        Ok(header) => {
            let mut again = vec![1; BLOCK_SIZE];
            header.encode_into(&mut again);
            assert_eq!(again, bytes[..BLOCK_SIZE]);
            tally.count(&"Header");
        }
        Err(HeaderError::Empty) => assert!(bytes[..BLOCK_SIZE].iter().all(|byte| *byte == 0)),
        Err(error) => tally.count(&error),
    }
}

#[test]
fn fuzz_log_frame() {
    fuzz!(100_000, |plan, tally| check_frame(parse_frame, plan, tally), |tally| {
        tally.expect(300, &["Whole", "Header", "NotAFrame", "HeaderChecksum", "Cut"]);
        tally.expect(50, &["PayloadChecksum", "Lengths", "OtherSegment", "Foreign", "Reserved"]);
        tally.expect(10, &["Newer"]);
    });
}

#[test]
fn a_frame_parser_that_is_wrong_is_found() {
    let fails = |parse: ParseFrame| fails(2000, |plan, tally| check_frame(parse, plan, tally));
    // Believes a header whatever its checksum says.
    assert!(fails(|bytes| {
        let mut repaired = [0; FRAME_HEADER_SIZE];
        let header = bytes.get(..FRAME_HEADER_SIZE).ok_or(FrameError::NotAFrame)?;
        repaired.copy_from_slice(header);
        put_crc(&mut repaired, 0..60, 60);
        parse_frame(&repaired)
    }));
    // Believes a frame of any segment.
    assert!(fails(|bytes| {
        match parse_frame(bytes) {
            Err(FrameError::OtherSegment { found }) => {
                FrameHeader::parse(bytes, &identity(), found)
            }
            parsed => parsed,
        }
    }));
}
