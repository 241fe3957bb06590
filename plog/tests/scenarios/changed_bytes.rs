//! Every byte of a log of more than 1 MiB, changed: damage that is not noticed would be a promise
//! forgotten in silence.
//!
//! A byte belongs to one of three places, and each place has its own verdict:
//!
//! | place | verdict |
//! |---|---|
//! | a frame (header, records, padding) that others follow | damaged, at that frame |
//! | the log's last frame | it is not there: a torn tail, or a clean end in a recycled file |
//! | a segment's first block, or what is behind its last frame | every record is still found |
//!
//! The last line is what the format page calls a lost header and unused space. To look at every
//! byte in seconds, a scan goes on from a scanner that was fed all before the frame at hand, and
//! stops with the segment, or the one after where only that can tell; damage once found stays
//! found, and whole scans of a sample agree.

use plog::block::BLOCK_SIZE;
use plog::recovery::{Recovered, ScannedRecord, Scanner};
use plog::segment::SegmentId;
use plog::verify::VerifyReport;

use crate::expectation::{Base, Found, judge};
use crate::run::{Image, Plan, config_of, header_of, record};

const SEGMENT_BLOCKS: usize = 4;
const SEGMENTS: usize = 68;

/// The log that is harmed: restarts, leftovers of torn writes and recycled segments in it.
fn harmed_log() -> Image {
    let config = config_of(SEGMENT_BLOCKS, 2);
    // Frames are filled well, so that it is mostly records that are changed and not padding.
    let lengths = [0, 60, 60, 60, 3900, 6000, 7900, 7900];
    let run = record(0xbad_b17e, Plan { config, turns: 130, segments: SEGMENTS, lengths });
    let mut image = Image::default();
    for step in &run.steps {
        image.play(step, run.config.segment_size);
    }
    image
}

/// Where a byte is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// In the segment's first block.
    Header,
    /// In a frame, counted in its segment.
    Frame(usize),
    /// Behind the last frame.
    Unused,
}

/// A frame, its records as a scan gives them, and a scanner that stands before it.
struct Frame {
    begin: usize,
    end: usize,
    records: Vec<ScannedRecord>,
    scanner: Scanner,
}

/// A segment, with scanners that stand at its places.
struct Segment {
    id: SegmentId,
    file: Vec<u8>,
    /// Before the segment.
    before: Scanner,
    frames: Vec<Frame>,
    /// Behind the last frame.
    behind: Scanner,
    /// What a scan gives that ends with this segment.
    report: VerifyReport,
    /// Where the segment before ends, if it is not full.
    open_end_before: Option<(SegmentId, u64)>,
}

impl Segment {
    fn place(&self, position: usize) -> Place {
        if position < BLOCK_SIZE {
            return Place::Header;
        }
        let frame = self.frames.iter().position(|frame| position < frame.end);
        frame.map_or(Place::Unused, Place::Frame)
    }

    fn feed_from(&self, scanner: &mut Scanner, begin: usize) -> Vec<ScannedRecord> {
        let mut records = Vec::new();
        let fed = scanner.feed(&self.file[begin..], &mut |scanned| records.push(scanned));
        fed.expect("the log is ours");
        records
    }
}

/// Takes the log apart, and checks on the way that a scan finds what was written.
fn segments(image: &Image) -> Vec<Segment> {
    let mut scanner = Base::empty().scanner;
    let (mut segments, mut open_end) = (Vec::new(), None);
    for (id, file) in &image.disk.files {
        let before = scanner.clone();
        scanner.begin_segment(*id, file.len() as u64);
        scanner.feed(&file[..BLOCK_SIZE], &mut |_| {}).expect("the log is ours");
        let mut frames = Vec::new();
        let mut end = BLOCK_SIZE;
        for frame in image.frames.iter().filter(|frame| frame.segment == *id) {
            assert_eq!(frame.begin, end, "frames follow each other without gaps");
            end = frame.end;
            let here = scanner.clone();
            let mut records = Vec::new();
            let fed = scanner.feed(&file[frame.begin..end], &mut |scanned| records.push(scanned));
            assert_eq!(fed, Ok(()));
            let found = records.iter().map(|scanned| (scanned.lsn, scanned.record.clone()));
            assert!(found.eq(frame.records.iter().cloned()));
            frames.push(Frame { begin: frame.begin, end, records, scanner: here });
        }
        let behind = scanner.clone();
        scanner.feed(&file[end..], &mut |_| panic!("no frame is left")).expect("the log is ours");
        let report = scanner.clone().into_report();
        let (id, file, open_end_before) = (*id, file.clone(), open_end);
        open_end = (end < file.len()).then_some((id, end as u64));
        segments.push(Segment { id, file, before, frames, behind, report, open_end_before });
    }
    segments
}

/// What a scan of the changed log gave, from the place of the change on.
#[derive(Clone)]
struct Seen {
    records: Vec<ScannedRecord>,
    report: VerifyReport,
}

/// Scans the log with `file` in place of the segment's own, which differs from it in one byte of
/// `place`.
fn see(segment: &Segment, next: Option<&Segment>, file: &[u8], place: Place) -> Seen {
    let (mut scanner, begin) = match place {
        Place::Header => (segment.before.clone(), 0),
        Place::Frame(number) => {
            let frame = &segment.frames[number];
            (frame.scanner.clone(), frame.begin)
        }
        Place::Unused => {
            let end = segment.frames.last().map_or(BLOCK_SIZE, |frame| frame.end);
            (segment.behind.clone(), end)
        }
    };
    if place == Place::Header {
        scanner.begin_segment(segment.id, file.len() as u64);
    }
    let mut records = Vec::new();
    let fed = scanner.feed(&file[begin..], &mut |scanned| records.push(scanned));
    fed.expect("a changed byte does not make another log's or a newer header");
    // Only the next segment's header tells whether this one ended where it stops.
    if let Some(next) = next.filter(|_| ends_in_next(segment, place)) {
        scanner.begin_segment(next.id, next.file.len() as u64);
        records.extend(next.feed_from(&mut scanner, 0));
    }
    Seen { records, report: scanner.into_report() }
}

fn ends_in_next(segment: &Segment, place: Place) -> bool {
    match place {
        Place::Header => false,
        Place::Frame(number) => number + 1 == segment.frames.len(),
        Place::Unused => true,
    }
}

/// Checks that a change in `place` was seen for what it is.
fn judge_change(
    segment: &Segment,
    next: Option<&Segment>,
    place: Place,
    seen: &Seen,
) -> Result<(), String> {
    let followed = next.filter(|_| ends_in_next(segment, place));
    let from = match place {
        Place::Header => 0,
        Place::Frame(number) => number + 1,
        Place::Unused => segment.frames.len(),
    };
    let frames = segment.frames[from..].iter().chain(followed.iter().flat_map(|next| &next.frames));
    let mut records = frames.clone().flat_map(|frame| &frame.records);
    let is_frame = matches!(place, Place::Frame(_));
    for scanned in &seen.records {
        let Some(expected) = records.next() else {
            return Err(format!("{:?} was not written here", scanned.lsn));
        };
        let same = scanned.lsn == expected.lsn
            && scanned.location == expected.location
            && scanned.record == expected.record;
        if !same {
            return Err(format!("found {:?} instead of {:?}", scanned.lsn, expected.lsn));
        }
        if scanned.after_damage != is_frame {
            return Err(format!("{:?} is wrong about damage before it", scanned.lsn));
        }
    }
    if let Some(missing) = records.next() {
        return Err(format!("{:?} is not found", missing.lsn));
    }
    match place {
        Place::Header => judge_header(segment, &seen.report),
        Place::Unused => judge_unused(segment, followed, &seen.report),
        Place::Frame(number) => {
            judge_reported_frames(segment, number, &seen.report)?;
            judge_frame(segment, next, number, &seen.report.outcome)
        }
    }
}

/// Where the log is damaged when frame `number` is. A segment that lost its header has nothing that
/// says how the one before it ended: then whatever is missing may be missing from there on.
fn damage_place(segment: &Segment, number: usize) -> (SegmentId, u64) {
    let here = (segment.id, segment.frames[number].begin as u64);
    let here_only = number > 0 || header_of(segment.id, &segment.file).is_some();
    segment.open_end_before.filter(|_| !here_only).unwrap_or(here)
}

/// Where the first frame from `number` on begins, in this segment or the next.
fn place_of(segment: &Segment, next: Option<&Segment>, number: usize) -> Option<(SegmentId, u64)> {
    let here = segment.frames.get(number).map(|frame| (segment.id, frame.begin as u64));
    let there = || next.map(|next| (next.id, next.frames[0].begin as u64));
    here.or_else(there)
}

fn judge_frame(
    segment: &Segment,
    next: Option<&Segment>,
    number: usize,
    outcome: &Recovered,
) -> Result<(), String> {
    let place = damage_place(segment, number);
    let following = place_of(segment, next, number + 1);
    match outcome {
        Recovered::Damaged { segment: at, offset, next_valid, further, .. } => {
            let right = following.is_some()
                && (*at, *offset) == place
                && *next_valid == following
                && further.is_empty();
            if right { Ok(()) } else { Err(format!("damage is misplaced: {outcome:?}")) }
        }
        // What looks like a write that did not finish.
        Recovered::Clean(tail) | Recovered::TornTail { tail, .. } => {
            let begin = segment.frames[number].begin as u64;
            let right = following.is_none() && (tail.segment, tail.offset) == (segment.id, begin);
            if right { Ok(()) } else { Err(format!("damage is passed over: {outcome:?}")) }
        }
        Recovered::Empty => Err("the log is called empty".to_owned()),
    }
}

/// The changed frame, and no other, is missing in the report of its segment.
fn judge_reported_frames(
    segment: &Segment,
    number: usize,
    report: &VerifyReport,
) -> Result<(), String> {
    let here = report.segments.iter().find(|report| report.segment == segment.id);
    let frames = here.ok_or("the segment is not reported")?.frames;
    let expected = segment.frames.len() as u64 - 1;
    if frames == expected {
        Ok(())
    } else {
        Err(format!("{frames} frames are reported good, without frame {number} it is {expected}"))
    }
}

/// All but the header is as it was.
fn judge_header(segment: &Segment, report: &VerifyReport) -> Result<(), String> {
    let mut expected = segment.report.clone();
    let here = expected.segments.last_mut().expect("at least this one");
    here.header = None;
    if *report == expected { Ok(()) } else { Err(format!("a lost header changes {report}")) }
}

/// Nothing is changed; only in the log's last segment do the bytes look like a torn write's.
fn judge_unused(
    segment: &Segment,
    next: Option<&Segment>,
    report: &VerifyReport,
) -> Result<(), String> {
    let expected = &next.unwrap_or(segment).report;
    let last = next.is_none();
    let same = match &report.outcome {
        Recovered::TornTail { tail, segment: at, offset, .. } if last => {
            Some(*tail) == expected.outcome.tail() && (*at, *offset) == (tail.segment, tail.offset)
        }
        outcome => *outcome == expected.outcome,
    };
    if same && report.segments == expected.segments {
        Ok(())
    } else {
        Err(format!("a byte in unused space changes {report}"))
    }
}

/// How many bytes of each place were changed.
#[derive(Debug, Default)]
struct Tally {
    header: usize,
    frame: usize,
    last_frame: usize,
    unused: usize,
}

/// Flips the bits of `mask` in every byte of the log, one byte after the other.
fn change_everything(mask: u8) {
    let image = harmed_log();
    let segments = segments(&image);
    let mut tally = Tally::default();
    for (number, segment) in segments.iter().enumerate() {
        let next = segments.get(number + 1);
        let mut file = segment.file.clone();
        for position in 0..file.len() {
            let place = segment.place(position);
            file[position] ^= mask;
            let seen = see(segment, next, &file, place);
            judge_change(segment, next, place, &seen).unwrap_or_else(|offence| {
                let id = segment.id;
                panic!("{offence}; byte {position} of segment {id}, {place:?}, {mask:#x}")
            });
            if position % 9973 == 17 {
                agree_with_a_whole_scan(&image, segment.id, &file, &seen);
            }
            file[position] ^= mask;
            match place {
                Place::Header => tally.header += 1,
                Place::Frame(number) if place_of(segment, next, number + 1).is_none() => {
                    tally.last_frame += 1;
                }
                Place::Frame(_) => tally.frame += 1,
                Place::Unused => tally.unused += 1,
            }
        }
    }
    let all = tally.header + tally.frame + tally.last_frame + tally.unused;
    let held: usize = image.disk.files.values().map(Vec::len).sum();
    assert!(all == held && held >= 1 << 20, "{tally:?} of {held} bytes");
    assert_eq!(tally.header, segments.len() * BLOCK_SIZE);
    assert!(tally.frame > held / 2 && tally.last_frame > 0 && tally.unused > 0, "{tally:?}");
}

/// A scan of all segments, with `file` in place of one, says the same of the change.
fn agree_with_a_whole_scan(image: &Image, changed: SegmentId, file: &[u8], seen: &Seen) {
    let mut image = image.clone();
    *image.disk.files.get_mut(&changed).expect("held") = file.to_vec();
    let whole = Found::scan(&Base::empty(), &image, 7 * BLOCK_SIZE + 1).expect("the log is ours");
    let damage = |outcome: &Recovered| match outcome {
        Recovered::Damaged { segment, offset, reason, next_valid, further, .. } => {
            Some((*segment, *offset, *reason, *next_valid, further.clone()))
        }
        Recovered::Empty | Recovered::Clean(_) | Recovered::TornTail { .. } => None,
    };
    assert_eq!(damage(whole.outcome()), damage(&seen.report.outcome), "changed in {changed}");
    let after = whole.records.iter().filter(|scanned| scanned.after_damage).count();
    assert_eq!(after > 0, damage(whole.outcome()).is_some());
    let text = whole.report.to_string();
    assert_eq!(text.contains("DAMAGED: segment"), after > 0, "{text}");
}

#[test]
fn a_flipped_lowest_bit_is_noticed_in_every_byte_of_a_mebibyte() {
    change_everything(0x01);
}

#[test]
fn a_flipped_highest_bit_is_noticed_in_every_byte_of_a_mebibyte() {
    change_everything(0x80);
}

#[test]
fn a_byte_of_which_all_bits_are_flipped_is_noticed_everywhere_in_a_mebibyte() {
    change_everything(0xff);
}

#[test]
fn the_log_that_is_harmed_has_leftovers_in_it() {
    let image = harmed_log();
    let found = Found::scan(&Base::empty(), &image, 4096).expect("ours");
    assert_eq!(judge(&Base::empty(), &image, &found), Ok(()));
    assert_eq!(image.disk.files.len(), SEGMENTS);
    assert!(image.recycled.len() > 5, "{} segments lived before", image.recycled.len());
    let leftover = image.disk.files.iter().filter(|(segment, file)| {
        let end = image.frames.iter().rfind(|frame| frame.segment == **segment);
        let rest = &file[end.map_or(BLOCK_SIZE, |frame| frame.end)..];
        !plog::block::is_zero(rest)
    });
    let leftover = leftover.count();
    assert!(leftover > 5, "{leftover} segments");
}

/// A segment with two frames or more, the one after it, and what is seen when a byte of `place` is
/// changed.
fn example(segments: &[Segment], place: Place) -> (&Segment, &Segment, Seen) {
    let pair = segments.windows(2).skip(9).find(|pair| {
        let end = pair[0].frames.last().map_or(0, |frame| frame.end);
        pair[0].frames.len() >= 2
            && end < pair[0].file.len()
            && header_of(pair[0].id, &pair[0].file).is_some()
    });
    let [segment, next] = pair.expect("there is one") else { unreachable!("pairs") };
    let position = match place {
        Place::Header => 20,
        Place::Frame(number) => segment.frames[number].begin + 70,
        Place::Unused => segment.file.len() - 7,
    };
    assert_eq!(segment.place(position), place);
    let mut file = segment.file.clone();
    file[position] ^= 4;
    let seen = see(segment, Some(next), &file, place);
    assert_eq!(judge_change(segment, Some(next), place, &seen), Ok(()));
    (segment, next, seen)
}

type Plant<'a> = &'a dyn Fn(&Segment, &mut Seen);

/// Plants an offence in what was seen of a change, and gives what the check says.
fn planted(segments: &[Segment], place: Place, plant: Plant<'_>) -> String {
    let (segment, next, mut seen) = example(segments, place);
    plant(segment, &mut seen);
    let said = judge_change(segment, Some(next), place, &seen);
    said.expect_err("a planted offence is seen")
}

#[test]
fn the_checks_of_a_change_see_everything_that_is_planted() {
    let segments = segments(&harmed_log());
    let in_frame: [(&str, Plant<'_>); 8] = [
        ("passed over", &|_, seen| {
            let tail = seen.report.outcome.tail().expect("not empty");
            seen.report.outcome = Recovered::Clean(tail);
        }),
        ("called empty", &|_, seen| seen.report.outcome = Recovered::Empty),
        ("misplaced", &|_, seen| {
            let Recovered::Damaged { offset, .. } = &mut seen.report.outcome else { panic!() };
            *offset += 4096;
        }),
        ("misplaced", &|_, seen| {
            let Recovered::Damaged { next_valid, .. } = &mut seen.report.outcome else { panic!() };
            *next_valid = None;
        }),
        ("wrong about damage", &|_, seen| seen.records[0].after_damage = false),
        ("instead of", &|segment, seen| {
            seen.records.insert(0, segment.frames[0].records[0].clone());
        }),
        ("is not found", &|_, seen| drop(seen.records.pop())),
        ("reported good", &|segment, seen| {
            let reports = &mut seen.report.segments;
            let here = reports.iter_mut().find(|report| report.segment == segment.id);
            here.expect("reported").frames += 1;
        }),
    ];
    for (offence, plant) in in_frame {
        let said = planted(&segments, Place::Frame(0), plant);
        assert!(said.contains(offence), "planted {offence:?}, seen {said:?}");
    }
    let said = planted(&segments, Place::Header, &|segment, seen| {
        seen.report.clone_from(&segment.report);
    });
    assert!(said.contains("a lost header changes"), "{said}");
    let said = planted(&segments, Place::Unused, &|_, seen| {
        let reports = &mut seen.report.segments;
        reports.last_mut().expect("reported").end += 4096;
    });
    assert!(said.contains("a byte in unused space changes"), "{said}");
    let said = planted(&segments, Place::Unused, &|segment, seen| {
        seen.records.push(segment.frames[0].records[0].clone());
    });
    assert!(said.contains("was not written here"), "{said}");
}

#[test]
fn a_change_that_nobody_notices_is_an_offence_in_every_frame() {
    let segments = segments(&harmed_log());
    for (number, segment) in segments.iter().enumerate() {
        let next = segments.get(number + 1);
        for frame in 0..segment.frames.len() {
            // As if the checksums had let the change pass.
            let place = Place::Frame(frame);
            let seen = see(segment, next, &segment.file, place);
            judge_change(segment, next, place, &seen).expect_err("the frame was read as good");
        }
    }
}
