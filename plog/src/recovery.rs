//! Reading a log after a stop, and saying honestly what is left of it.
//!
//! Since one write is in flight at a time, a crash can spoil only the last frame. So the first
//! frame that is not good is the end of the log, unless something later proves that more had been
//! written: a valid frame further on, a later segment that was opened after a frame that is missing
//! here, or a hole in the numbering. Then acknowledged records are gone, and the log is *damaged*,
//! which is never passed over in silence.
//!
//! ```text
//! | good | good | bad  | zeros, or bytes of the file's earlier life      torn tail
//! | good | good | bad  | …  | good |                                     damaged at "bad"
//! | good | good | zero |   next segment: | good, follows on |                  a segment's unused end
//! ```

use crate::block::{BLOCK_SIZE, is_zero};
use crate::frame::{FRAME_HEADER_SIZE, FrameError, FrameHeader};
use crate::identity::{ForeignField, LogIdentity};
use crate::location::Location;
use crate::log_record::{LogRecord, RecordError, record_checksum};
use crate::planted;
use crate::segment::{HeaderError, SegmentHeader, SegmentId};
use crate::summary::RecordSummary;
use crate::verify::{RecordCounts, SegmentReport, VerifyReport};
use crate::vocabulary::Lsn;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// A record found by the scan. They come in LSN order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScannedRecord {
    /// Its number.
    pub lsn: Lsn,
    /// Where it is.
    pub location: Location,
    /// The record.
    pub record: LogRecord,
    /// Whether damage was passed before it: of its entity, earlier records may be missing.
    pub after_damage: bool,
}

impl ScannedRecord {
    /// What the index needs to know of it.
    #[must_use]
    pub fn summary(&self) -> RecordSummary {
        RecordSummary::of(&self.record)
    }
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecoveredTail {
    /// The segment that the next frame goes to.
    pub segment: SegmentId,
    /// Where in it. 0 when the file exists but its header was not written.
    pub offset: u64,
    /// The file's size in bytes.
    pub segment_size: u32,
    /// The last good record; 0 when there is none.
    pub last_lsn: Lsn,
    /// The greatest LSN seen, also in the header of a torn frame.
    pub highest_lsn: Lsn,
    /// The header checksum of the last good frame; 0 when there is none.
    pub last_frame_crc: u32,
    /// The segment of the last good frame.
    pub last_frame_segment: Option<SegmentId>,
    /// The oldest segment there is.
    pub oldest_segment: SegmentId,
}

/// Why a stretch of the log is damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DamageReason {
    /// The frame there is not good.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The frame's checksums are good, but a record in it cannot be parsed.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The frame holds other records than its header says.
    #[error("the frame does not hold the {expected} records that its header names")]
    RecordCount {
        /// By the frame's header.
        expected: u32,
    },
    /// Segments between two others are not there.
    #[error("{count} segment files are missing from here on")]
    MissingSegments {
        /// How many.
        count: u64,
    },
    /// A segment without a frame, though it must have had one.
    #[error("the segment holds no good frame, and it must have had one")]
    NoFrames,
    /// The next segment was opened after a frame that is not here.
    #[error("a later segment was opened after frame {expected:#010x}, which is not here")]
    LastFrameMissing {
        /// The checksum in the later segment's header.
        expected: u32,
    },
    /// The file is shorter than it was made.
    #[error("the segment file has {size} bytes and was made with {expected}")]
    Truncated {
        /// The file's size.
        size: u64,
        /// The size in its header; 0 when the file is too short for one.
        expected: u32,
    },
}

/// A stretch of the log in which acknowledged records may have been lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The segment where it begins.
    pub segment: SegmentId,
    /// Byte offset where it begins.
    pub offset: u64,
    /// What was found there.
    pub reason: DamageReason,
    /// The first good frame after it.
    pub next_valid: Option<(SegmentId, u64)>,
}

/// What a log's files hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recovered {
    /// No segment file: a new log.
    Empty,
    /// Every frame is good up to the end.
    Clean(RecoveredTail),
    /// The last write did not finish; nothing that was acknowledged is missing.
    TornTail {
        /// Where the log goes on: over the torn bytes.
        tail: RecoveredTail,
        /// Where the torn frame begins.
        segment: SegmentId,
        /// Byte offset of the torn frame.
        offset: u64,
        /// How many bytes look like the torn frame's.
        bytes: u64,
    },
    /// Acknowledged records may be missing. The entities they can have been of must not vote before
    /// they are repaired.
    Damaged {
        /// The segment where the first damage begins.
        segment: SegmentId,
        /// Byte offset where it begins.
        offset: u64,
        /// What was found there.
        reason: DamageReason,
        /// The first good frame after it.
        next_valid: Option<(SegmentId, u64)>,
        /// Damage after the first.
        further: Vec<Damage>,
        /// Where the log goes on, after everything good.
        tail: RecoveredTail,
    },
}

impl Recovered {
    /// Where the log goes on; `None` for a new one.
    #[must_use]
    pub fn tail(&self) -> Option<RecoveredTail> {
        match self {
            Self::Empty => None,
            Self::Clean(tail) | Self::TornTail { tail, .. } | Self::Damaged { tail, .. } => {
                Some(*tail)
            }
        }
    }
}

/// Why the log must not be read at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScanError {
    /// A segment of another log.
    #[error(
        "segment {segment} is not this log's: {field}; look for files copied between data \
         directories"
    )]
    Foreign {
        /// The file.
        segment: SegmentId,
        /// In what it differs.
        field: ForeignField,
    },
    /// A segment or frame of a version this program does not know.
    #[error(
        "segment {segment} offset {offset} was written by a newer Certus: format version {found}, \
         this one reads up to {supported}; start the newer program again"
    )]
    Newer {
        /// The file.
        segment: SegmentId,
        /// Byte offset of the segment header or frame.
        offset: u64,
        /// In the header.
        found: u16,
        /// What this program reads.
        supported: u16,
    },
}

/// Where good frames stopped; whether that is an end or damage shows later.
#[derive(Clone, Copy, Debug)]
struct Stop {
    segment: SegmentId,
    offset: u64,
    reason: DamageReason,
    /// Of a frame that begins there with a good header: its length.
    torn_frame: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// At the segment's header.
    Header,
    /// At a frame boundary, after good frames only.
    Frames,
    /// Looking on, block by block, for a good frame.
    Search,
    /// What follows cannot be placed (file too short).
    Skip,
}

/// The segment being fed.
#[derive(Clone, Debug)]
struct Current {
    segment: SegmentId,
    /// Whole blocks of the file.
    size: u64,
    fed: u64,
    /// Bytes fed and not yet done with; the first is at `position`.
    pending: Vec<u8>,
    position: u64,
    mode: Mode,
    header: Option<SegmentHeader>,
    /// End of the last good frame here.
    end: u64,
    /// End of the last block, from the stop on, that is not zero.
    written_end: u64,
    /// Whether the file shows an earlier life: then unknown bytes after the end say nothing.
    recycled: bool,
}

enum Step {
    /// More bytes are needed.
    Wait,
    /// Go on after this many bytes.
    Advance(usize),
    /// Look again at the same place.
    Again,
}

/// Reads a log's segments in ascending order and says what they hold.
///
/// A clone goes on from the same place: several ways in which a log may end are judged without
/// reading what they have in common again.
#[derive(Clone, Debug)]
pub struct Scanner {
    identity: LogIdentity,
    current: Option<Current>,
    reports: Vec<SegmentReport>,
    /// Header checksum of the last good frame; `None` when it is not known.
    chain: Option<u32>,
    /// The same, also after damage.
    last_frame_crc: u32,
    last_lsn: Lsn,
    highest_lsn: Lsn,
    last_frame_segment: Option<SegmentId>,
    stop: Option<Stop>,
    damages: Vec<Damage>,
    decoded: Vec<ScannedRecord>,
    /// The oldest segment that must be there.
    floor: Option<SegmentId>,
}

impl Scanner {
    /// A scanner for the log of `identity`.
    #[must_use]
    pub fn new(identity: LogIdentity) -> Self {
        Self {
            identity,
            current: None,
            reports: Vec::new(),
            chain: None,
            last_frame_crc: 0,
            last_lsn: Lsn::ZERO,
            highest_lsn: Lsn::ZERO,
            last_frame_segment: None,
            stop: None,
            damages: Vec::new(),
            decoded: Vec::new(),
            floor: None,
        }
    }

    /// A scanner for a log whose records before segment `floor` are in a checkpoint: the segments
    /// fed begin with it, and when it is missing, so may be acknowledged records.
    #[must_use]
    pub fn from_floor(identity: LogIdentity, floor: SegmentId) -> Self {
        Self { floor: Some(floor), ..Self::new(identity) }
    }

    /// Begins the segment that its file name calls `segment`, a file of `size` bytes.
    ///
    /// # Panics
    ///
    /// When segments do not come in ascending order, or the one before was not fed to its end.
    pub fn begin_segment(&mut self, segment: SegmentId, size: u64) {
        self.end_segment();
        if let Some(floor) = self.floor.take() {
            assert!(segment >= floor, "what is before the floor is not fed");
            if segment > floor {
                let count = segment.0 - floor.0;
                self.lose(floor, 0, DamageReason::MissingSegments { count });
            }
        }
        let previous = self.reports.last().map(|report| (report.segment, report.frames));
        if let Some((previous, frames)) = previous {
            assert!(segment > previous, "segments are fed in ascending order");
            let count = segment.0 - previous.0 - 1;
            let known = self.damages.last().is_some_and(|damage| damage.segment == previous);
            if frames == 0 && !known {
                // The next one was opened after a frame here had become durable.
                let nothing = (previous, BLOCK, DamageReason::NoFrames);
                let (segment, offset, reason) = match self.stop.take() {
                    Some(stop) if stop.segment != previous => {
                        (stop.segment, stop.offset, stop.reason)
                    }
                    _ => nothing,
                };
                self.lose(segment, offset, reason);
            }
            if count > 0 {
                // What stopped the scan before the hole cannot be judged; the hole is the finding.
                self.stop = None;
                self.lose(previous.next(), 0, DamageReason::MissingSegments { count });
            }
        }
        self.reports.push(SegmentReport::new(segment));
        let whole = size - size % BLOCK;
        let mut mode = Mode::Header;
        if whole < 2 * BLOCK {
            mode = Mode::Skip;
            self.lose(segment, 0, DamageReason::Truncated { size, expected: 0 });
        }
        self.current = Some(Current {
            segment,
            size: whole,
            fed: 0,
            pending: Vec::new(),
            position: 0,
            mode,
            header: None,
            end: BLOCK,
            written_end: 0,
            recycled: false,
        });
    }

    /// Takes the next bytes of the segment, any number of them, from its header on. Hands every
    /// record of a good frame to `visit`. Bytes beyond the last whole block of the file are
    /// ignored.
    ///
    /// # Errors
    ///
    /// When the segment belongs to another log or a newer program. Nothing more may be concluded
    /// then.
    ///
    /// # Panics
    ///
    /// When no segment was begun.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        visit: &mut impl FnMut(ScannedRecord),
    ) -> Result<(), ScanError> {
        let mut current = self.current.take().expect("a segment is begun before it is fed");
        let room = usize::try_from(current.size - current.fed).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        current.fed += bytes.len() as u64;
        let mut used = 0;
        if current.mode != Mode::Skip {
            // Mostly nothing is left of what was fed before, and the bytes are looked at in place.
            let mut pending = std::mem::take(&mut current.pending);
            let is_joined = !pending.is_empty();
            if is_joined {
                pending.extend_from_slice(bytes);
            }
            let joined = if is_joined { &pending[..] } else { bytes };
            loop {
                match self.step(&mut current, &joined[used..], visit)? {
                    Step::Wait => break,
                    Step::Again => {}
                    Step::Advance(length) => {
                        used += length;
                        current.position += length as u64;
                    }
                }
            }
            if is_joined {
                pending.drain(..used);
            } else {
                pending.extend_from_slice(&bytes[used..]);
            }
            current.pending = pending;
        }
        self.current = Some(current);
        Ok(())
    }

    fn step(
        &mut self,
        current: &mut Current,
        bytes: &[u8],
        visit: &mut impl FnMut(ScannedRecord),
    ) -> Result<Step, ScanError> {
        if bytes.len() < BLOCK_SIZE {
            return Ok(Step::Wait);
        }
        let block = &bytes[..BLOCK_SIZE];
        if current.mode == Mode::Header {
            self.read_header(current, block)?;
            current.mode = Mode::Frames;
            return Ok(Step::Advance(BLOCK_SIZE));
        }
        let searching = current.mode == Mode::Search;
        match self.read_frame(current, bytes)? {
            FrameFound::Incomplete => Ok(Step::Wait),
            FrameFound::Good(header) => {
                self.accept(current, &header, searching);
                current.mode = Mode::Frames;
                for record in self.decoded.drain(..) {
                    visit(record);
                }
                let length = usize::try_from(header.frame_length).expect("32 bits fit a usize");
                Ok(Step::Advance(length))
            }
            FrameFound::Bad { reason, header } if searching => {
                self.look_past(current, block, reason, header);
                Ok(Step::Advance(BLOCK_SIZE))
            }
            FrameFound::Bad { reason, header } => {
                if let Some(header) = header {
                    self.highest_lsn = self.highest_lsn.max(header.last_lsn());
                }
                let (segment, offset) = (current.segment, current.position);
                let torn_frame = header.map(|header| header.frame_length);
                let here = Stop { segment, offset, reason, torn_frame };
                // An earlier stop is kept: if anything is missing, it is missing from there on.
                self.stop.get_or_insert(here);
                current.end = offset;
                current.written_end = offset;
                if let Some(length) = torn_frame {
                    current.written_end = offset + u64::from(length);
                }
                current.mode = Mode::Search;
                Ok(Step::Again)
            }
        }
    }

    fn read_header(&mut self, current: &mut Current, block: &[u8]) -> Result<(), ScanError> {
        let segment = current.segment;
        let report = self.reports.last_mut().expect("pushed when the segment began");
        let header = match SegmentHeader::parse_for(block, &self.identity) {
            Ok(header) if header.segment == segment => header,
            Ok(_) => {
                // The file was recycled and the write of its new header was lost.
                current.recycled = true;
                return Ok(());
            }
            Err(HeaderError::Foreign(field)) => return Err(ScanError::Foreign { segment, field }),
            Err(HeaderError::Newer { found, supported }) => {
                return Err(ScanError::Newer { segment, offset: 0, found, supported });
            }
            // Header and first frame are one write, and a crash may lose either. The frames tell.
            Err(HeaderError::Empty | HeaderError::Damaged) => return Ok(()),
        };
        report.header = Some(header);
        current.header = Some(header);
        self.highest_lsn = self.highest_lsn.max(header.first_lsn);
        let expected = header.previous_frame;
        let stop = self.stop.take();
        if self.chain.is_some_and(|chain| chain != expected) {
            let end = self.reports.iter().rev().nth(1).map(|before| (before.segment, before.end));
            let stopped = stop.map(|stop| (stop.segment, stop.offset)).or(end);
            let (before, offset) = stopped.expect("a good frame was in an earlier segment");
            self.lose(before, offset, DamageReason::LastFrameMissing { expected });
        } else if self.chain.is_none() {
            self.stop = stop;
        }
        // Otherwise the stop was the end of the segment before, not a loss.
        Ok(())
    }

    /// Reads the frame at the beginning of `bytes` and decodes its records.
    fn read_frame(&mut self, current: &Current, bytes: &[u8]) -> Result<FrameFound, ScanError> {
        let (segment, offset) = (current.segment, current.position);
        let header = match FrameHeader::parse(bytes, &self.identity, segment) {
            Ok(header) => header,
            Err(FrameError::Newer { found, supported }) => {
                return Err(ScanError::Newer { segment, offset, found, supported });
            }
            Err(error) => return Ok(FrameFound::bad(error)),
        };
        let FrameHeader { frame_length, payload_length, first_lsn, .. } = header;
        let floor = current.header.map_or(Lsn::ZERO, |header| header.first_lsn);
        let is_stale = first_lsn <= self.last_lsn || first_lsn < floor;
        if is_stale && !planted!("stale-frame-taken") {
            let seen = self.last_lsn.max(floor);
            return Ok(FrameFound::bad(FrameError::LsnNotAbove { found: first_lsn, seen }));
        }
        let torn = |reason: DamageReason| FrameFound::Bad { reason, header: Some(header) };
        if u64::from(frame_length) > current.size - offset {
            return Ok(torn(FrameError::Lengths { frame_length, payload_length }.into()));
        }
        let length = usize::try_from(frame_length).expect("32 bits fit a usize");
        let Some(frame) = bytes.get(..length) else { return Ok(FrameFound::Incomplete) };
        if current.mode == Mode::Frames
            && let Some(expected) = self.chain
            && expected != header.previous_frame
            && !planted!("stale-frame-taken")
        {
            let found = header.previous_frame;
            return Ok(torn(FrameError::Chain { found, expected }.into()));
        }
        let payload = match header.payload(frame) {
            Ok(payload) => payload,
            Err(error) => return Ok(torn(error.into())),
        };
        match self.decode(current, &header, payload) {
            Ok(()) => Ok(FrameFound::Good(header)),
            Err(reason) => Ok(torn(reason)),
        }
    }

    fn decode(
        &mut self,
        current: &Current,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<(), DamageReason> {
        self.decoded.clear();
        // What is found in a search lies behind something lost.
        let after_damage = !self.damages.is_empty() || current.mode == Mode::Search;
        let mut position = 0;
        for number in 0..u64::from(header.record_count) {
            let (record, length) = LogRecord::decode(&payload[position..])?;
            let offset = current.position + (FRAME_HEADER_SIZE + position) as u64;
            let location = Location::new(
                current.segment,
                u32::try_from(offset).expect("a segment is below 4 GiB"),
                u32::try_from(length).expect("a record is below 4 GiB"),
                record_checksum(&payload[position..]),
            );
            let lsn = Lsn(header.first_lsn.0 + number);
            self.decoded.push(ScannedRecord { lsn, location, record, after_damage });
            position += length;
        }
        if position != payload.len() {
            return Err(DamageReason::RecordCount { expected: header.record_count });
        }
        Ok(())
    }

    fn accept(&mut self, current: &mut Current, header: &FrameHeader, searching: bool) {
        assert!(header.first_lsn > self.last_lsn, "the scan only goes up");
        let stop = self.stop.take();
        if searching {
            let stop = stop.expect("a search begins with a stop");
            self.lose(stop.segment, stop.offset, stop.reason);
        }
        // A stop in an earlier segment is explained by this frame, which follows the last good one.
        let here = (current.segment, current.position);
        for damage in self.damages.iter_mut().filter(|damage| damage.next_valid.is_none()) {
            damage.next_valid = Some(here);
        }
        self.chain = Some(header.header_crc);
        self.last_frame_crc = header.header_crc;
        self.last_lsn = header.last_lsn();
        self.highest_lsn = self.highest_lsn.max(self.last_lsn);
        self.last_frame_segment = Some(current.segment);
        current.end = current.position + u64::from(header.frame_length);
        let report = self.reports.last_mut().expect("pushed when the segment began");
        report.frames += 1;
        report.bytes += u64::from(header.frame_length);
        report.payload_bytes += u64::from(header.payload_length);
        report.first_lsn.get_or_insert(header.first_lsn);
        report.last_lsn = Some(self.last_lsn);
        report.end = current.end;
        for record in &self.decoded {
            report.records.count(&record.record);
        }
    }

    /// Notes what a block that begins no good frame says about how the log ended.
    fn look_past(
        &mut self,
        current: &mut Current,
        block: &[u8],
        reason: DamageReason,
        header: Option<FrameHeader>,
    ) {
        if let Some(header) = header {
            self.highest_lsn = self.highest_lsn.max(header.last_lsn());
        }
        let stale = FrameError::OtherSegment { found: SegmentId(0) };
        if let DamageReason::Frame(error) = reason
            && std::mem::discriminant(&error) == std::mem::discriminant(&stale)
        {
            current.recycled = true;
        }
        if !is_zero(block) {
            current.written_end = current.written_end.max(current.position + BLOCK);
        }
    }

    /// Notes damage. What comes next is accepted without knowing what it follows.
    fn lose(&mut self, segment: SegmentId, offset: u64, reason: DamageReason) {
        self.damages.push(Damage { segment, offset, reason, next_valid: None });
        self.chain = None;
    }

    /// Ends the current segment and gives it back.
    fn end_segment(&mut self) -> Option<Current> {
        let current = self.current.take()?;
        assert!(current.fed == current.size, "a segment is fed to its end");
        let made = current.header.map_or(0, |header| header.segment_size);
        if u64::from(made) > current.size {
            let here = self.stop.take_if(|stop| stop.segment == current.segment);
            let offset = here.map_or(current.size, |stop| stop.offset);
            let reason = DamageReason::Truncated { size: current.size, expected: made };
            self.lose(current.segment, offset, reason);
        }
        Some(current)
    }

    /// What the segments seen so far hold, one report for each.
    #[must_use]
    pub fn reports(&self) -> &[SegmentReport] {
        &self.reports
    }

    /// Ends the scan.
    ///
    /// # Panics
    ///
    /// When the last segment was not fed to its end, or feeding it failed.
    #[must_use]
    pub fn finish(self) -> Recovered {
        self.into_report().outcome
    }

    /// Ends the scan, with a report for each segment.
    ///
    /// # Panics
    ///
    /// When the last segment was not fed to its end, or feeding it failed.
    #[must_use]
    pub fn into_report(mut self) -> VerifyReport {
        let Some(current) = self.end_segment() else {
            assert!(self.reports.is_empty(), "a scan that was refused has no outcome");
            assert!(self.floor.is_none(), "the caller has looked for the floor's file");
            return VerifyReport { segments: self.reports, outcome: Recovered::Empty };
        };
        let outcome = self.judge(&current);
        VerifyReport { segments: self.reports, outcome }
    }

    fn judge(&mut self, current: &Current) -> Recovered {
        let report = self.reports.last().expect("one for each segment");
        let oldest_segment = self.reports.first().map_or(current.segment, |first| first.segment);
        let only = self.reports.len() == 1;
        let frames = report.frames;
        let offset = match (current.mode, frames, current.header) {
            (Mode::Skip, _, _) => current.size,
            // Opened, perhaps only renamed, when the crash came.
            (_, 0, None) => 0,
            (_, 0, Some(_)) => BLOCK,
            _ => current.end,
        };
        if only && frames == 0 && current.segment > SegmentId::FIRST && self.damages.is_empty() {
            // It would have been freed after a later one only.
            self.lose(current.segment, BLOCK, DamageReason::NoFrames);
        }
        let tail = RecoveredTail {
            segment: current.segment,
            offset,
            segment_size: u32::try_from(current.size).expect("a segment is below 4 GiB"),
            last_lsn: self.last_lsn,
            highest_lsn: self.highest_lsn,
            last_frame_crc: self.last_frame_crc,
            last_frame_segment: self.last_frame_segment,
            oldest_segment,
        };
        if !self.damages.is_empty() && !planted!("damage-taken-for-torn-tail") {
            let first = self.damages.remove(0);
            return Recovered::Damaged {
                segment: first.segment,
                offset: first.offset,
                reason: first.reason,
                next_valid: first.next_valid,
                further: std::mem::take(&mut self.damages),
                tail,
            };
        }
        // The header, once written, says that the first frame was on its way with it.
        let opening_torn = frames == 0 && current.header.is_some();
        let frame_torn = self
            .stop
            .is_some_and(|stop| stop.segment == current.segment && stop.torn_frame.is_some());
        let written = current.written_end > current.end && !current.recycled;
        if current.mode == Mode::Search && (opening_torn || frame_torn || written) {
            let bytes = current.written_end.saturating_sub(offset);
            return Recovered::TornTail { tail, segment: current.segment, offset, bytes };
        }
        Recovered::Clean(tail)
    }
}

enum FrameFound {
    /// The frame is longer than what was fed so far.
    Incomplete,
    /// Its records are in [`Scanner::decoded`].
    Good(FrameHeader),
    /// No good frame; `header` when it is one of this segment that was to come next.
    Bad { reason: DamageReason, header: Option<FrameHeader> },
}

impl FrameFound {
    fn bad(error: FrameError) -> Self {
        Self::Bad { reason: error.into(), header: None }
    }
}

impl RecordCounts {
    fn count(&mut self, record: &LogRecord) {
        match record {
            LogRecord::Entry { .. } => self.entries += 1,
            LogRecord::Value { .. } => self.values += 1,
            LogRecord::Chosen { .. } => self.chosen += 1,
            LogRecord::Image { .. } => self.images += 1,
        }
    }
}
