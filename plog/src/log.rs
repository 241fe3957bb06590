//! The head of the log: from records to writes, and from finished writes to durable LSNs.
//!
//! Group commit without a timer: records collect in the pending frame for as long as the disk is
//! busy with the one before it. A record is encoded once, straight into the buffer that will be
//! written.
//!
//! ```text
//! LSN   …  durable        in flight        | pending, sealed | pending, open |
//!          ^durable()     (one frame)                                  appended()^
//! ```

use std::collections::VecDeque;

use crate::block::{AlignedBuffer, BLOCK_SIZE, padded};
use crate::frame::{FRAME_HEADER_SIZE, FrameHeader};
use crate::frame_walk::FramePlace;
use crate::index::Index;
use crate::location::Location;
pub use crate::log_config::LogConfig;
use crate::log_record::{LogRecord, record_checksum};
use crate::planted;
use crate::recovery::RecoveredTail;
use crate::segment::{SegmentHeader, SegmentId, SpareId};
use crate::summary::RecordSummary;
use crate::vocabulary::{EntityId, Entry, Lsn};

/// LSNs left out after a recovery, so that one torn away with the tail is not given to another
/// record. More than any frame can hold.
pub const RECOVERY_LSN_GAP: u64 = 1 << 24;

/// Chosen entries kept in the index at or below an entity's image, unless an index is handed over.
pub const HELD_ENTRIES: usize = 64;

/// Every buffer has room for a segment header in front of the frame.
const FRAME_BEGIN: usize = BLOCK_SIZE;
const BUFFER_SIZE: usize = 64 << 10;

/// Whether somebody waits for a record to become durable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// Write as soon as no write is in flight.
    Now,
    /// Goes out with the next urgent record, when its frame is full, or after [`Log::flush`].
    Lazy,
}

/// A write to perform: the whole buffer at `offset`, durable before it is reported.
#[derive(Debug)]
pub struct SegmentWrite {
    /// The segment file.
    pub segment: SegmentId,
    /// Byte offset in the file, a multiple of [`BLOCK_SIZE`].
    pub offset: u64,
    /// The bytes. Comes back through [`Log::handle_written`].
    pub buffer: AlignedBuffer,
    /// When set, the file does not exist yet: first rename this spare to the segment's name and
    /// sync the directory, then write. The other way round a crash could leave a spare that holds a
    /// good frame for a number which is used again later.
    pub opens: Option<SpareId>,
    /// Records in it, at least 1.
    pub records: u32,
    /// What the first of them is of: names the write where an operator hears of it.
    pub first: (EntityId, Entry),
}

/// An old segment became a spare: rename its file, sync the directory, and report it with
/// [`Log::handle_spare`] (or delete it).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecycledSegment {
    /// The segment's file.
    pub segment: SegmentId,
    /// What it is from now on.
    pub spare: SpareId,
}

/// Why a segment cannot be freed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FreeError {
    /// Segments are freed oldest first, so that the ones left have no hole.
    #[error("segment {segment} is not the oldest; free {oldest} first")]
    NotOldest {
        /// Asked for.
        segment: SegmentId,
        /// The oldest one held.
        oldest: SegmentId,
    },
    /// No later segment has a durable frame yet.
    #[error("segment {segment} holds the newest durable frame")]
    Newest {
        /// Asked for.
        segment: SegmentId,
    },
}

/// What the log did since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogCounters {
    /// Frames made durable: each took one write.
    pub frames: u64,
    /// Records made durable.
    pub records: u64,
    /// Bytes of these records.
    pub payload_bytes: u64,
    /// Bytes written, with frame headers, padding and segment headers.
    pub bytes: u64,
    /// Segments opened.
    pub segments_opened: u64,
    /// Calls of [`Log::flush`] that made a record urgent.
    pub flushes: u64,
}

#[derive(Debug)]
struct NotedRecord {
    summary: RecordSummary,
    /// From the beginning of the frame.
    offset: u32,
    length: u32,
    checksum: u32,
}

/// A frame that is being filled. `end` is the end of its last record in the buffer.
#[derive(Debug)]
struct PendingFrame {
    buffer: AlignedBuffer,
    end: usize,
    first_lsn: Lsn,
    records: Vec<NotedRecord>,
}

#[derive(Debug)]
struct InFlight {
    segment: SegmentId,
    /// Of the frame, in the segment.
    frame_offset: u32,
    /// Where the frame after it will begin, if it fits the segment.
    end: FramePlace,
    last_lsn: Lsn,
    payload: usize,
    /// To know the buffer again.
    address: usize,
    written: usize,
    records: Vec<NotedRecord>,
}

/// Where the next frame goes. `offset` 0 means that the segment's header is not written yet.
#[derive(Clone, Copy, Debug)]
struct Head {
    segment: SegmentId,
    offset: u32,
    segment_size: u32,
    /// Header checksum of the last frame handed out.
    chain: u32,
}

/// The log of one core.
///
/// Invariant: `durable ≤ in flight ≤ appended`, and the index knows exactly the durable records.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    index: Index,
    /// `None` until the first segment of a new log is opened.
    head: Option<Head>,
    /// Segments held, from this one to the head's.
    oldest: SegmentId,
    /// The segment of the newest durable frame.
    newest_durable: Option<SegmentId>,
    pending: VecDeque<PendingFrame>,
    pending_bytes: usize,
    in_flight: Option<InFlight>,
    appended: Lsn,
    urgent: Lsn,
    durable: Lsn,
    /// The newest durable record; below `durable` when nothing was written since a recovery.
    last_record: Lsn,
    /// Behind the newest durable frame; `None` before the first segment is opened.
    end: Option<FramePlace>,
    spares: VecDeque<SpareId>,
    next_spare: SpareId,
    /// Freed segments on their way to become spares.
    recycling: usize,
    is_reserve_open: bool,
    pool: Vec<(AlignedBuffer, Vec<NotedRecord>)>,
    counters: LogCounters,
}

impl Log {
    /// A new log, or one that goes on where recovery found its end. The index is empty, see
    /// [`Log::with_index`]; spares found on disk are still to be reported.
    ///
    /// # Panics
    ///
    /// When the configuration's sizes do not fit each other.
    #[must_use]
    pub fn new(config: LogConfig, recovered: Option<RecoveredTail>) -> Self {
        config.check();
        let last = recovered.map_or(Lsn::ZERO, |tail| {
            Lsn(tail.highest_lsn.0.checked_add(RECOVERY_LSN_GAP).expect("LSNs never run out"))
        });
        let head = recovered.map(|tail| Head {
            segment: tail.segment,
            offset: u32::try_from(tail.offset).expect("an offset in a segment fits 32 bits"),
            segment_size: tail.segment_size,
            chain: tail.last_frame_crc,
        });
        Self {
            config,
            index: Index::new(HELD_ENTRIES),
            head,
            oldest: recovered.map_or(SegmentId::FIRST, |tail| tail.oldest_segment),
            newest_durable: recovered.and_then(|tail| tail.last_frame_segment),
            pending: VecDeque::new(),
            pending_bytes: 0,
            in_flight: None,
            appended: last,
            urgent: last,
            durable: last,
            last_record: recovered.map_or(Lsn::ZERO, |tail| tail.last_lsn),
            end: head.map(|head| FramePlace {
                segment: head.segment,
                offset: head.offset,
                chain: head.chain,
            }),
            spares: VecDeque::new(),
            next_spare: SpareId(0),
            recycling: 0,
            is_reserve_open: false,
            pool: Vec::new(),
            counters: LogCounters::default(),
        }
    }

    /// Takes over the index that was filled during recovery.
    ///
    /// # Panics
    ///
    /// When records were appended already: the order of notice would be wrong.
    #[must_use]
    pub fn with_index(mut self, mut index: Index) -> Self {
        assert!(self.durable == self.appended && self.index.is_empty());
        index.put_in_order();
        self.index = index;
        self
    }

    /// Adds a record to the pending frame and returns its LSN. It counts once [`Log::durable`]
    /// reaches it.
    ///
    /// # Panics
    ///
    /// When the record is longer than [`LogConfig::record_size_max`], or breaks its own rules.
    pub fn append(&mut self, record: &LogRecord, urgency: Urgency) -> Lsn {
        let length = record.encoded_length();
        assert!(
            length <= self.config.record_size_max(),
            "a record of {length} bytes fits no segment"
        );
        let lsn = self.appended.next();
        let frame_end_max =
            FRAME_BEGIN + usize::try_from(self.config.frame_size_max).expect("32 bits fit a usize");
        let fits = self.pending.back().is_some_and(|frame| frame.end + length <= frame_end_max);
        if !fits {
            let frame = self.new_frame(lsn);
            self.pending.push_back(frame);
        }
        let frame = self.pending.back_mut().expect("one was there or was pushed");
        let end = frame.end + length;
        frame.buffer.reserve(end);
        let encoded = &mut frame.buffer.whole_mut()[frame.end..end];
        record.encode_into(encoded);
        frame.records.push(NotedRecord {
            checksum: record_checksum(encoded),
            summary: RecordSummary::of(record),
            offset: u32::try_from(frame.end - FRAME_BEGIN).expect("a frame fits a segment"),
            length: u32::try_from(length).expect("a record fits a segment"),
        });
        frame.end = end;
        self.pending_bytes += length;
        self.appended = lsn;
        if urgency == Urgency::Now {
            self.urgent = lsn;
        }
        lsn
    }

    fn new_frame(&mut self, first_lsn: Lsn) -> PendingFrame {
        let (buffer, records) =
            self.pool.pop().unwrap_or_else(|| (AlignedBuffer::zeroed(BUFFER_SIZE), Vec::new()));
        assert!(records.is_empty(), "a pooled frame was emptied");
        PendingFrame { buffer, end: FRAME_BEGIN + FRAME_HEADER_SIZE, first_lsn, records }
    }

    /// Bytes of records appended and not yet handed out for writing.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Pending frames that go out as soon as the disk is free: those that are full or hold an
    /// urgent record. They are the first ones; at most one more follows, which can wait.
    #[must_use]
    pub fn frames_waiting(&self) -> usize {
        let last_can_wait = self.pending.back().is_some_and(|frame| frame.first_lsn > self.urgent);
        self.pending.len() - usize::from(last_can_wait)
    }

    /// Whether so much is pending that the owner should wait. Appending still works.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending_bytes >= self.config.pending_bytes_max
    }

    /// Makes all lazy records urgent.
    pub fn flush(&mut self) {
        if self.urgent < self.appended && !self.pending.is_empty() {
            self.counters.flushes += 1;
            self.urgent = self.appended;
        }
    }

    /// Bytes of log space left: the rest of the current segment and the spares. What is pending
    /// will take some of it.
    #[must_use]
    pub fn room(&self) -> u64 {
        let rest = self.head.map_or(0, |head| u64::from(head.segment_size - head.offset));
        let spare = u64::from(self.config.segment_size) - BLOCK_SIZE as u64;
        rest + spare * u64::try_from(self.spares.len()).expect("a count fits 64 bits")
    }

    /// What to write next; `None` while a write is in flight, while nothing urgent is pending, or
    /// while a new segment is needed and no spare is ready.
    pub fn poll_write(&mut self) -> Option<SegmentWrite> {
        if self.in_flight.is_some() {
            return None;
        }
        let frame = self.pending.front()?;
        // A frame with another behind it is full; nothing is gained by waiting.
        if frame.first_lsn > self.urgent && self.pending.len() == 1 {
            return None;
        }
        let frame_length = padded(frame.end - FRAME_BEGIN);
        let (head, opens) = self.place(frame_length)?;
        let mut frame = self.pending.pop_front().expect("looked at above");
        let first = frame.records.first().expect("a frame is made for its first record").summary;
        let first = (first.entity(), first.entry());
        let payload = frame.end - FRAME_BEGIN - FRAME_HEADER_SIZE;
        let whole = FRAME_BEGIN + frame_length;
        frame.buffer.reserve(whole);
        let header_new = head.offset == 0;
        if header_new {
            SegmentHeader {
                identity: self.config.identity,
                segment: head.segment,
                first_lsn: frame.first_lsn,
                previous_frame: head.chain,
                segment_size: head.segment_size,
            }
            .encode_into(frame.buffer.whole_mut());
        }
        let header = FrameHeader {
            node: self.config.identity.node,
            core: self.config.identity.core,
            segment: head.segment,
            first_lsn: frame.first_lsn,
            incarnation_low: self.config.identity.incarnation_low(),
            frame_length: 0,
            payload_length: 0,
            record_count: u32::try_from(frame.records.len()).expect("a frame fits a segment"),
            previous_frame: head.chain,
            payload_crc: 0,
            header_crc: 0,
        }
        .seal(&mut frame.buffer.whole_mut()[FRAME_BEGIN..whole], payload);
        let begin = if header_new { 0 } else { FRAME_BEGIN };
        frame.buffer.set_window(begin..whole);
        let block = u32::try_from(BLOCK_SIZE).expect("a block is small");
        let frame_offset = head.offset.max(block);
        let (next, chain) = (frame_offset + header.frame_length, header.header_crc);
        self.head = Some(Head { offset: next, chain, ..head });
        self.pending_bytes -= payload;
        self.in_flight = Some(InFlight {
            segment: head.segment,
            frame_offset,
            end: FramePlace { segment: head.segment, offset: next, chain },
            last_lsn: header.last_lsn(),
            payload,
            address: frame.buffer.as_ptr().addr(),
            written: frame.buffer.len(),
            records: frame.records,
        });
        let offset = u64::from(head.offset);
        Some(SegmentWrite {
            segment: head.segment,
            offset,
            buffer: frame.buffer,
            opens,
            records: header.record_count,
            first,
        })
    }

    /// Where a frame of `length` bytes goes, taking a spare if it needs a new segment.
    fn place(&mut self, length: usize) -> Option<(Head, Option<SpareId>)> {
        let length = u64::try_from(length).expect("a length fits 64 bits");
        if let Some(head) = self.head {
            let begin = u64::from(head.offset).max(BLOCK_SIZE as u64);
            if begin + length <= u64::from(head.segment_size) {
                return Some((head, None));
            }
        }
        let spare = self.spares.pop_front()?;
        self.counters.segments_opened += 1;
        let segment = self.head.map_or(SegmentId::FIRST, |head| head.segment.next());
        let chain = self.head.map_or(0, |head| head.chain);
        let segment_size = self.config.segment_size;
        Some((Head { segment, offset: 0, segment_size, chain }, Some(spare)))
    }

    /// The write returned last is durable. Takes its buffer back, and lets its records into the
    /// index. Returns [`Log::durable`].
    ///
    /// # Panics
    ///
    /// When no write is in flight, or the buffer is not that write's.
    pub fn handle_written(&mut self, buffer: AlignedBuffer) -> Lsn {
        let mut written = self.in_flight.take().expect("a finished write was handed out before");
        assert!(buffer.as_ptr().addr() == written.address && buffer.len() == written.written);
        assert!(written.last_lsn > self.durable && written.last_lsn <= self.appended);
        self.index.touch(written.records.iter().map(|record| record.summary.entity()));
        for record in &written.records {
            let offset = written.frame_offset + record.offset;
            let location = Location::new(written.segment, offset, record.length, record.checksum);
            self.index.note(&record.summary, location);
        }
        self.durable = written.last_lsn;
        self.last_record = written.last_lsn;
        self.end = Some(written.end);
        if planted!("appended-called-durable") {
            self.durable = self.appended;
        }
        self.newest_durable = Some(written.segment);
        let count = |value: usize| u64::try_from(value).expect("a count fits 64 bits");
        self.counters.frames += 1;
        self.counters.records += count(written.records.len());
        self.counters.payload_bytes += count(written.payload);
        self.counters.bytes += count(written.written);
        written.records.clear();
        let largest = usize::try_from(self.config.frame_size_max).expect("32 bits fit a usize");
        // A buffer doubles as it grows; one that held an outsized record is let go.
        if self.pool.len() < self.config.pooled_buffers
            && buffer.capacity() <= 2 * (largest + BUFFER_SIZE)
        {
            self.pool.push((buffer, written.records));
        }
        self.durable
    }

    /// Every record up to this one is on disk.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The newest record on disk: the log will be found to reach it, at least.
    #[must_use]
    pub fn last_record(&self) -> Lsn {
        self.last_record
    }

    /// Where the frame after the newest durable one begins, if it fits its segment; `None` while
    /// the log has no segment.
    #[must_use]
    pub fn end(&self) -> Option<FramePlace> {
        self.end
    }

    /// The record appended last; that of an earlier boot if there was none in this one.
    #[must_use]
    pub fn last_appended(&self) -> Lsn {
        if self.appended == self.durable { self.last_record } else { self.appended }
    }

    /// The record appended last.
    #[must_use]
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// The segment that the next frame goes to, if it fits; `None` before the first write of a new
    /// log.
    #[must_use]
    pub fn current_segment(&self) -> Option<SegmentId> {
        self.head.map(|head| head.segment)
    }

    /// The oldest segment held.
    #[must_use]
    pub fn oldest_segment(&self) -> SegmentId {
        self.oldest
    }

    /// A spare segment is ready: a file of [`LogConfig::segment_size`] bytes whose every block was
    /// written.
    ///
    /// # Panics
    ///
    /// When that spare is there already.
    pub fn handle_spare(&mut self, spare: SpareId) {
        self.recycling = self.recycling.saturating_sub(1);
        assert!(!self.spares.contains(&spare), "spare {} was reported twice", spare.0);
        self.next_spare = self.next_spare.max(SpareId(spare.0 + 1));
        self.spares.push_back(spare);
    }

    /// How many spares are ready.
    #[must_use]
    pub fn spares_ready(&self) -> usize {
        self.spares.len()
    }

    /// How many more spares to prepare.
    #[must_use]
    pub fn spares_wanted(&self) -> usize {
        let wanted = self.config.spare_segments.saturating_sub(self.spares.len() + self.recycling);
        if wanted == 0 {
            return 0; // nearly always
        }
        let held = self.segments_held() + self.spares.len() + self.recycling;
        let reserve = if self.is_reserve_open { 0 } else { self.config.reserve_segments() };
        wanted.min(self.config.segments_max.saturating_sub(held + reserve))
    }

    /// Whether the next segment has to wait until an old one is freed.
    #[must_use]
    pub fn is_at_its_limit(&self) -> bool {
        if !self.spares.is_empty() {
            return false;
        }
        let limit = self.config.segments_max.saturating_sub(self.config.reserve_segments());
        self.segments_held() + self.recycling >= limit
    }

    /// Lets the log use its last segments, or no longer: what is pending must become durable for a
    /// checkpoint to count, and only that frees others.
    pub fn open_reserve(&mut self, is_open: bool) {
        self.is_reserve_open = is_open;
    }

    /// Whether what a checkpoint waits for waits for a segment: the reserve is open, and the next
    /// frame fits nowhere.
    #[must_use]
    pub fn settles_for_want_of_a_segment(&self) -> bool {
        self.is_reserve_open && self.spares.is_empty() && self.frames_waiting() > 0
    }

    /// Whether a freed segment should become a spare; if so, it counts as one from now on.
    pub fn take_recycled(&mut self) -> bool {
        let wanted = self.spares_wanted() > 0;
        self.recycling += usize::from(wanted);
        wanted
    }

    /// Segments from the oldest to the one being written.
    #[must_use]
    pub fn segments_held(&self) -> usize {
        let held = self.head.map_or(0, |head| head.segment.0 + 1 - self.oldest.0);
        usize::try_from(held).unwrap_or(usize::MAX)
    }

    /// Bytes of log from its very beginning to where the next frame goes, freed segments included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.head.map_or(0, |head| {
            let size = u64::from(self.config.segment_size);
            (head.segment.0 - 1) * size + u64::from(head.offset)
        })
    }

    /// The sizes and limits.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The segment from which on the log holds everything that is appended from now on; `None`
    /// while it has no frame yet. A checkpoint that begins now has it for its floor.
    #[must_use]
    pub fn floor_now(&self) -> Option<SegmentId> {
        self.head.filter(|head| head.offset > 0).map(|head| head.segment)
    }

    /// A name for a spare that is about to be prepared. Report the spares on disk first.
    pub fn name_spare(&mut self) -> SpareId {
        let spare = self.next_spare;
        self.next_spare = SpareId(spare.0 + 1);
        spare
    }

    /// Lets go of the oldest segment. The caller has made sure that no entity needs it, see
    /// [`Index::oldest_needed`].
    ///
    /// # Errors
    ///
    /// When it is not the oldest, or no later segment has a durable frame; nothing changes then.
    pub fn free(&mut self, segment: SegmentId) -> Result<RecycledSegment, FreeError> {
        if segment != self.oldest {
            return Err(FreeError::NotOldest { segment, oldest: self.oldest });
        }
        if self.newest_durable.is_none_or(|newest| segment >= newest) {
            return Err(FreeError::Newest { segment });
        }
        self.oldest = segment.next();
        self.index.set_oldest(self.oldest);
        Ok(RecycledSegment { segment, spare: self.name_spare() })
    }

    /// Where the durable records are.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// To set counts, or to forget.
    pub fn index_mut(&mut self) -> &mut Index {
        &mut self.index
    }

    /// What the log did since it was made.
    #[must_use]
    pub fn counters(&self) -> LogCounters {
        self.counters
    }
}
