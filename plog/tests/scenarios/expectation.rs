//! What recovery has to say about an image, worked out from what was written and not from what a
//! scan finds; and the check that it says so.
//!
//! The check returns the offence instead of failing the test itself, so that it can be shown to see
//! each offence that is planted.

use plog::block::{BLOCK_SIZE, is_zero};
use plog::frame::{FrameError, FrameHeader};
use plog::log::{Log, LogConfig, RECOVERY_LSN_GAP, Urgency};
use plog::log_record::LogRecord;
use plog::recovery::{Recovered, RecoveredTail, ScannedRecord, Scanner};
use plog::segment::SegmentId;
use plog::verify::{RecordCounts, SegmentReport, VerifyReport};
use plog::vocabulary::Lsn;

use crate::disk::identity;
use crate::run::{DurableFrame, Image, Numbered, Step, Write, header_of, later_record};

/// A scanner that was fed the segments before an image's, and what they held.
#[derive(Clone)]
pub struct Base {
    pub scanner: Scanner,
    pub last_lsn: Lsn,
    pub oldest: Option<SegmentId>,
}

impl Base {
    /// Before the first segment.
    pub fn empty() -> Self {
        Self { scanner: Scanner::new(identity()), last_lsn: Lsn::ZERO, oldest: None }
    }

    /// Behind all segments of `image` that come before `segment`, which are whole.
    pub fn before(segment: SegmentId, image: &Image) -> Self {
        let mut base = Self::empty();
        let mut expected = image.records(SegmentId(0));
        for (held, file) in image.disk.files.range(..segment) {
            base.scanner.begin_segment(*held, file.len() as u64);
            base.oldest.get_or_insert(*held);
            let fed = base.scanner.feed(file, &mut |scanned| {
                assert!(!scanned.after_damage);
                let (lsn, record) = expected.next().expect("no more than was written");
                assert_eq!((*lsn, record), (scanned.lsn, &scanned.record));
                base.last_lsn = scanned.lsn;
            });
            assert_eq!(fed, Ok(()));
        }
        base
    }
}

/// What recovery found, and what a verification reports on the side.
#[derive(Clone)]
pub struct Found {
    pub records: Vec<ScannedRecord>,
    pub report: VerifyReport,
}

impl Found {
    /// Recovers what follows `base` from `image`, in pieces of `chunk` bytes, and verifies it in
    /// one piece.
    pub fn scan(base: &Base, image: &Image, chunk: usize) -> Result<Self, String> {
        let mut records = Vec::new();
        let (mut recovery, mut verification) = (base.scanner.clone(), base.scanner.clone());
        for (segment, file) in &image.disk.files {
            recovery.begin_segment(*segment, file.len() as u64);
            for piece in file.chunks(chunk) {
                let fed = recovery.feed(piece, &mut |scanned| records.push(scanned));
                fed.map_err(|error| error.to_string())?;
            }
            verification.begin_segment(*segment, file.len() as u64);
            verification.feed(file, &mut |_| {}).map_err(|error| error.to_string())?;
        }
        let (outcome, report) = (recovery.finish(), verification.into_report());
        if outcome != report.outcome {
            return Err(format!("recovery says {outcome:?}, and verifying {:?}", report.outcome));
        }
        Ok(Self { records, report })
    }

    pub fn outcome(&self) -> &Recovered {
        &self.report.outcome
    }
}

fn ensure(holds: bool, offence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(offence()) }
}

/// Checks that `found` is what an image of a log whose last write may have been torn must give: all
/// that was durable, nothing else, and an honest end.
pub fn judge(base: &Base, image: &Image, found: &Found) -> Result<(), String> {
    judge_records(image, &found.records)?;
    judge_ending(base, image, found.outcome())?;
    let skip = found.report.segments.len() - image.disk.files.len();
    judge_reports(image, &found.report.segments[skip..])
}

fn judge_records(image: &Image, found: &[ScannedRecord]) -> Result<(), String> {
    ensure(found.is_sorted_by(|left, right| left.lsn < right.lsn), || {
        "the numbers do not ascend".to_owned()
    })?;
    let mut expected = image.records(SegmentId(0));
    for scanned in found {
        ensure(!scanned.after_damage, || format!("{:?} stands after damage", scanned.lsn))?;
        let Some((lsn, record)) = expected.next() else {
            return Err(format!("{:?} is more than was durable", scanned.lsn));
        };
        ensure(*lsn == scanned.lsn, || format!("{lsn:?} is durable, found {:?}", scanned.lsn))?;
        ensure(*record == scanned.record, || format!("{lsn:?} is another record"))?;
        let file = &image.disk.files[&scanned.location.segment()];
        let (begin, length) = scanned.location.blocks();
        let begin = usize::try_from(begin).expect("fits");
        let back = plog::location::read_back(scanned.location, &file[begin..begin + length]);
        ensure(back.as_ref() == Ok(record), || format!("{lsn:?} is not where it is said to be"))?;
    }
    ensure(expected.next().is_none(), || {
        format!("durable records are missing; {} were found", found.len())
    })
}

/// The end that an image must show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ending {
    segment: SegmentId,
    offset: usize,
    torn: bool,
    /// The first frame of a recycled file was begun, and the header that goes with it was lost.
    /// Whether that is called torn depends today on whether the segment before was full to its end.
    either: bool,
}

/// By the words of the format page: the log ends behind its last good frame. "A frame header of
/// this segment or, in a file that shows no earlier life, bytes other than zero mean a torn tail";
/// and so does a segment's header without its first frame.
fn ending(base: &Base, image: &Image) -> Option<Ending> {
    let (segment, file) = image.disk.files.last_key_value()?;
    let last_lsn = image.records(SegmentId(0)).last().map_or(base.last_lsn, |(lsn, _)| *lsn);
    let last = image.frames.last().filter(|frame| frame.segment == *segment);
    let header = header_of(*segment, file);
    let end = last.map_or(BLOCK_SIZE, |frame| frame.end);
    let offset = if last.is_none() && header.is_none() { 0 } else { end };
    let begun = FrameHeader::parse(&file[end..], &identity(), *segment).is_ok_and(|frame| {
        frame.first_lsn > last_lsn
            && header.is_none_or(|header| frame.first_lsn >= header.first_lsn)
    });
    let blocks = || file[end..].chunks(BLOCK_SIZE);
    let is_stale = |block: &[u8]| {
        let parsed = FrameHeader::parse(block, &identity(), *segment);
        matches!(parsed, Err(FrameError::OtherSegment { .. }))
    };
    let old_header = plog::segment::SegmentHeader::parse(&file[..BLOCK_SIZE]);
    let lived_before =
        old_header.is_ok_and(|header| header.segment != *segment) || blocks().any(is_stale);
    let written = !lived_before && !blocks().all(is_zero);
    let opened = last.is_none() && header.is_some();
    let torn = opened || begun || written;
    let either = last.is_none() && header.is_none() && begun && lived_before;
    Some(Ending { segment: *segment, offset, torn, either })
}

fn judge_ending(base: &Base, image: &Image, outcome: &Recovered) -> Result<(), String> {
    let Some(expected) = ending(base, image) else {
        let nothing = base.oldest.is_some() || *outcome == Recovered::Empty;
        return ensure(nothing, || format!("there is no file, found {outcome:?}"));
    };
    let tail = match outcome {
        Recovered::Clean(tail) => {
            ensure(!expected.torn || expected.either, || "a torn tail is called clean".to_owned())?;
            tail
        }
        Recovered::TornTail { tail, segment, offset, bytes } => {
            ensure(expected.torn, || "a clean end is called torn".to_owned())?;
            let place = (*segment, usize::try_from(*offset).expect("fits"));
            ensure(place == (expected.segment, expected.offset), || {
                format!("torn at {place:?}, the last good frame ends at {expected:?}")
            })?;
            let room = u64::from(tail.segment_size) - offset;
            ensure(*bytes <= room, || format!("{bytes} bytes are torn where {room} are"))?;
            tail
        }
        Recovered::Empty | Recovered::Damaged { .. } => {
            return Err(format!("nothing durable was harmed, found {outcome:?}"));
        }
    };
    judge_tail(base, image, expected, tail)
}

fn judge_tail(
    base: &Base,
    image: &Image,
    expected: Ending,
    tail: &RecoveredTail,
) -> Result<(), String> {
    let place = (tail.segment, usize::try_from(tail.offset).expect("fits"));
    ensure(place == (expected.segment, expected.offset), || {
        format!("the log goes on at {place:?}, its last good frame ends at {expected:?}")
    })?;
    let last_lsn = image.records(SegmentId(0)).last().map_or(base.last_lsn, |(lsn, _)| *lsn);
    ensure(tail.last_lsn == last_lsn, || {
        format!("the last number is {:?}, not {last_lsn:?}", tail.last_lsn)
    })?;
    ensure((last_lsn..=image.appended).contains(&tail.highest_lsn), || {
        format!("{:?} was never given to a record", tail.highest_lsn)
    })?;
    let oldest = base.oldest.or_else(|| image.disk.files.keys().next().copied());
    ensure(Some(tail.oldest_segment) == oldest, || {
        format!("the oldest segment is {oldest:?}, not {}", tail.oldest_segment)
    })?;
    let size = image.disk.files[&expected.segment].len();
    ensure(usize::try_from(tail.segment_size) == Ok(size), || {
        format!("the file has {size} bytes, not {}", tail.segment_size)
    })
}

fn judge_reports(image: &Image, reports: &[SegmentReport]) -> Result<(), String> {
    for (report, (segment, file)) in reports.iter().zip(&image.disk.files) {
        let frames: Vec<&DurableFrame> =
            image.frames.iter().filter(|frame| frame.segment == *segment).collect();
        let expected = expected_report(*segment, file, &frames);
        ensure(*report == expected, || format!("reported {report:?}, it is {expected:?}"))?;
    }
    Ok(())
}

/// What a verification must say of a segment that holds these frames.
pub fn expected_report(segment: SegmentId, file: &[u8], frames: &[&DurableFrame]) -> SegmentReport {
    let records = || frames.iter().flat_map(|frame| frame.records.iter());
    let mut counts = RecordCounts::default();
    for (_, record) in records() {
        match record {
            LogRecord::Entry { .. } => counts.entries += 1,
            LogRecord::Value { .. } => counts.values += 1,
            LogRecord::Chosen { .. } => counts.chosen += 1,
            LogRecord::Image { .. } => counts.images += 1,
        }
    }
    SegmentReport {
        segment,
        header: header_of(segment, file),
        frames: frames.len() as u64,
        records: counts,
        bytes: frames.iter().map(|frame| (frame.end - frame.begin) as u64).sum(),
        payload_bytes: records().map(|(_, record)| record.encoded_length() as u64).sum(),
        first_lsn: records().next().map(|(lsn, _)| *lsn),
        last_lsn: records().last().map(|(lsn, _)| *lsn),
        end: frames.last().map_or(0, |frame| frame.end as u64),
    }
}

/// The greatest number that stands anywhere on the disk: in a durable frame, or in the header of a
/// torn one.
fn greatest_on_disk(base: &Base, image: &Image) -> Lsn {
    let durable = image.records(SegmentId(0)).last().map_or(base.last_lsn, |(lsn, _)| *lsn);
    let files = image.disk.files.iter();
    let torn = files.flat_map(|(segment, file)| {
        let headers =
            file.chunks(BLOCK_SIZE).map(|block| FrameHeader::parse(block, &identity(), *segment));
        headers.flatten().map(|header| header.last_lsn())
    });
    torn.fold(durable, Lsn::max)
}

/// Checks that the log goes on where recovery says: what is appended and written then is found
/// again behind what was there, under numbers that nothing on the disk has.
pub fn goes_on(
    config: LogConfig,
    base: &Base,
    image: &Image,
    outcome: &Recovered,
) -> Result<(), String> {
    let mut log = Log::new(config, outcome.tail());
    let mut image = image.clone();
    let fresh = outcome
        .tail()
        .map_or(Lsn::ZERO, |_| Lsn(greatest_on_disk(base, &image).0 + RECOVERY_LSN_GAP));
    for spare in image.disk.spares.keys() {
        log.handle_spare(*spare);
    }
    for (number, length) in (1..).zip([10, 2 * BLOCK_SIZE, 300]) {
        while log.spares_wanted() > 0 {
            let spare = log.name_spare();
            image.play(&Step::Spare(spare), config.segment_size);
            log.handle_spare(spare);
        }
        let record = later_record(number, length);
        let lsn = log.append(&record, Urgency::Now);
        ensure(lsn > fresh, || format!("{lsn:?} is not above {fresh:?}"))?;
        let write = log.poll_write().expect("urgent, and a spare is there");
        let mut appended = [Numbered::from((lsn, record))].into();
        let recorded = Write::new(&write, &mut appended);
        image.play(&Step::Write(recorded), config.segment_size);
        log.handle_written(write.buffer);
    }
    let found = Found::scan(base, &image, 5 * BLOCK_SIZE - 3)?;
    judge(base, &image, &found).map_err(|offence| format!("after going on: {offence}"))
}
