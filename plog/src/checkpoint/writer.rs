//! Writes a checkpoint, one write at a time, from the images it is given.

use crate::block::{AlignedBuffer, BLOCK_SIZE, padded};
use crate::checkpoint::seal::Seal;
use crate::checkpoint::table::{ROW_SIZE, Row};
use crate::checkpoint::{CheckpointId, PartId};
use crate::frame::{FRAME_HEADER_SIZE, FrameHeader};
use crate::identity::LogIdentity;
use crate::location::Location;
use crate::log_record::{LogRecord, image_chain, record_checksum};
use crate::segment::{SegmentHeader, SegmentId};
use crate::vocabulary::{EntityId, Entry, Lsn};

/// A frame is closed when its images reach this many bytes: large enough to be cheap, small enough
/// not to hold up the log's writes on the same device.
pub const FRAME_BYTES: usize = 128 << 10;

/// A part is closed when it has this many bytes, or rows.
pub const PART_BYTES: u32 = 256 << 20;
const PART_ROWS: usize = 1 << 20;

const FRAME_BEGIN: usize = BLOCK_SIZE;

/// What a buffer begins with; it grows to what it has to hold.
const BUFFER_BYTES: usize = 16 << 10;

/// A write to perform. It need not be durable before it is reported; adopting the checkpoint makes
/// all of them so.
#[derive(Debug)]
pub struct CheckpointWrite {
    /// Which file.
    pub part: PartId,
    /// Byte offset in the file, a multiple of [`BLOCK_SIZE`]; 0 for the first write of a part,
    /// whose file does not exist yet.
    pub offset: u64,
    /// The bytes. Comes back through [`CheckpointWriter::handle_written`].
    pub buffer: AlignedBuffer,
}

/// An image that can be read where it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WrittenImage {
    /// Whose.
    pub entity: EntityId,
    /// The last entry that is part of it.
    pub applied: Entry,
    /// The entity's checksum chain there.
    pub chain: u32,
    /// Where it is.
    pub location: Location,
}

#[derive(Clone, Copy, Debug)]
struct Pushed {
    entity: EntityId,
    applied: Entry,
    chain: u32,
    /// From the beginning of the frame.
    offset: usize,
    length: usize,
    checksum: u32,
    keys: u32,
}

/// What the part being written needs next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Frames.
    Images,
    /// The rest of the table from this byte on, then the seal.
    Table(usize),
    /// Nothing: all parts are written.
    Done,
}

/// See the module page.
#[derive(Debug)]
pub struct CheckpointWriter {
    identity: LogIdentity,
    floor: SegmentId,
    begin: Lsn,
    part: PartId,
    part_bytes: u32,
    frame_bytes: usize,
    /// Where the next write of the part goes.
    offset: u64,
    chain: u32,
    /// Numbers the images over all parts.
    images: u64,
    frame: AlignedBuffer,
    end: usize,
    pushed: Vec<Pushed>,
    table: Vec<u8>,
    table_offset: u32,
    stage: Stage,
    is_finishing: bool,
    /// Images of the write under way; `None` when there is none.
    in_flight: Option<Vec<WrittenImage>>,
    spare_buffer: Option<AlignedBuffer>,
    bytes: u64,
}

impl CheckpointWriter {
    /// Begins checkpoint `id` of `identity`'s core, which needs the log from `floor` on; `begin` is
    /// the last record appended so far. Parts are closed at `part_bytes`, [`PART_BYTES`] but for
    /// tests.
    #[must_use]
    pub fn new(
        identity: LogIdentity,
        id: CheckpointId,
        floor: SegmentId,
        begin: Lsn,
        part_bytes: u32,
    ) -> Self {
        Self {
            identity,
            floor,
            begin,
            part: id.part(0),
            part_bytes,
            frame_bytes: FRAME_BYTES.min(usize::try_from(part_bytes / 4).unwrap_or(FRAME_BYTES)),
            offset: 0,
            chain: 0,
            images: 0,
            frame: AlignedBuffer::zeroed(BUFFER_BYTES),
            end: FRAME_BEGIN + FRAME_HEADER_SIZE,
            pushed: Vec::new(),
            table: Vec::new(),
            table_offset: 0,
            stage: Stage::Images,
            is_finishing: false,
            in_flight: None,
            spare_buffer: None,
            bytes: 0,
        }
    }

    /// Which checkpoint this is.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.part.checkpoint
    }

    /// The first segment it needs.
    #[must_use]
    pub fn floor(&self) -> SegmentId {
        self.floor
    }

    /// The last record appended before it began.
    #[must_use]
    pub fn begin(&self) -> Lsn {
        self.begin
    }

    /// Bytes of all parts so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many parts there are so far.
    #[must_use]
    pub fn parts(&self) -> u16 {
        self.part.number + 1
    }

    /// Whether a further image should wait until a write was polled.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let images = self.end - FRAME_BEGIN - FRAME_HEADER_SIZE;
        images >= self.frame_bytes || self.stage != Stage::Images || self.part_is_full()
    }

    fn part_is_full(&self) -> bool {
        self.offset >= u64::from(self.part_bytes) || self.table.len() >= PART_ROWS * ROW_SIZE
    }

    /// Adds an entity's image; `keys` is the owner's count.
    ///
    /// # Panics
    ///
    /// When the record is no image, or [`CheckpointWriter::finish`] was called.
    pub fn push(&mut self, image: &LogRecord, keys: u32) {
        let LogRecord::Image { entity, applied, chain, .. } = image else {
            panic!("a checkpoint holds images")
        };
        let (entity, applied, chain) = (*entity, *applied, *chain);
        let length = image.encoded_length();
        let place = self.reserve(length);
        image.encode_into(place);
        let checksum = record_checksum(place);
        self.note(Pushed { entity, applied, chain, offset: 0, length, checksum, keys });
    }

    /// Adds an image that was read from disk, as it is.
    ///
    /// # Panics
    ///
    /// When [`CheckpointWriter::finish`] was called.
    pub fn push_encoded(&mut self, entity: EntityId, applied: Entry, image: &[u8], keys: u32) {
        self.reserve(image.len()).copy_from_slice(image);
        let (length, checksum, chain) = (image.len(), record_checksum(image), image_chain(image));
        self.note(Pushed { entity, applied, chain, offset: 0, length, checksum, keys });
    }

    /// Adds an entity that abstains.
    pub fn push_abstaining(&mut self, entity: EntityId) {
        assert!(!self.is_finishing, "nothing comes after the end");
        Row { entity, applied: Entry::ZERO, image: None, keys: 0 }.encode(&mut self.table);
    }

    fn reserve(&mut self, length: usize) -> &mut [u8] {
        assert!(!self.is_finishing, "nothing comes after the end");
        self.frame.reserve(self.end + length);
        &mut self.frame.whole_mut()[self.end..self.end + length]
    }

    fn note(&mut self, pushed: Pushed) {
        let offset = self.end - FRAME_BEGIN;
        self.end += pushed.length;
        self.pushed.push(Pushed { offset, ..pushed });
    }

    /// No further entity will come.
    pub fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Whether everything is written, but perhaps not durable.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done && self.in_flight.is_none()
    }

    /// What to write next; `None` while a write is under way, and when nothing is due.
    pub fn poll_write(&mut self) -> Option<CheckpointWrite> {
        if self.in_flight.is_some() {
            return None;
        }
        loop {
            match self.stage {
                Stage::Images
                    if !self.pushed.is_empty() && (self.is_full() || self.is_finishing) =>
                {
                    return Some(self.write_frame());
                }
                Stage::Images if self.part_is_full() || self.is_finishing => {
                    // A part without a frame has its header all the same.
                    if self.offset == 0 {
                        return Some(self.write_header());
                    }
                    self.table_offset =
                        u32::try_from(self.offset).expect("a part is far below 4 GiB");
                    self.stage = Stage::Table(0);
                }
                Stage::Images | Stage::Done => return None,
                Stage::Table(from) => return Some(self.write_table(from)),
            }
        }
    }

    fn header(&self) -> SegmentHeader {
        SegmentHeader {
            identity: self.identity,
            segment: self.part.file(),
            first_lsn: Lsn(self.images + 1),
            previous_frame: 0,
            segment_size: 0,
        }
    }

    fn write_header(&mut self) -> CheckpointWrite {
        let mut buffer = self.buffer(BLOCK_SIZE);
        self.header().encode_into(&mut buffer);
        self.write(buffer, Vec::new())
    }

    fn write_frame(&mut self) -> CheckpointWrite {
        let mut frame = self.buffer(BUFFER_BYTES);
        std::mem::swap(&mut frame, &mut self.frame);
        let payload = self.end - FRAME_BEGIN - FRAME_HEADER_SIZE;
        let whole = FRAME_BEGIN + padded(FRAME_HEADER_SIZE + payload);
        frame.reserve(whole);
        let is_first = self.offset == 0;
        if is_first {
            self.header().encode_into(frame.whole_mut());
            self.chain = 0;
        }
        let header = FrameHeader {
            node: self.identity.node,
            core: self.identity.core,
            segment: self.part.file(),
            first_lsn: Lsn(self.images + 1),
            incarnation_low: self.identity.incarnation_low(),
            frame_length: 0,
            payload_length: 0,
            record_count: u32::try_from(self.pushed.len()).expect("a frame is small"),
            previous_frame: self.chain,
            payload_crc: 0,
            header_crc: 0,
        }
        .seal(&mut frame.whole_mut()[FRAME_BEGIN..whole], payload);
        self.chain = header.header_crc;
        self.images += u64::from(header.record_count);
        let frame_offset = self.offset.max(BLOCK_SIZE as u64);
        let mut images = Vec::with_capacity(self.pushed.len());
        for pushed in self.pushed.drain(..) {
            let as_u32 = |value: u64| u32::try_from(value).expect("a part is far below 4 GiB");
            let location = Location::new(
                self.part.file(),
                as_u32(frame_offset + pushed.offset as u64),
                as_u32(pushed.length as u64),
                pushed.checksum,
            );
            let Pushed { entity, applied, chain, keys, .. } = pushed;
            Row { entity, applied, image: Some(location), keys }.encode(&mut self.table);
            images.push(WrittenImage { entity, applied, chain, location });
        }
        self.end = FRAME_BEGIN + FRAME_HEADER_SIZE;
        frame.set_window(if is_first { 0 } else { FRAME_BEGIN }..whole);
        self.write(frame, images)
    }

    /// The next piece of the table; with the last one comes the seal.
    fn write_table(&mut self, from: usize) -> CheckpointWrite {
        let to = self.table.len().min(from + FRAME_BYTES);
        let is_last_piece = to == self.table.len();
        let rows = padded(to - from);
        let mut buffer = self.buffer(rows + BLOCK_SIZE);
        buffer.set_window(0..if is_last_piece { rows + BLOCK_SIZE } else { rows });
        buffer[..to - from].copy_from_slice(&self.table[from..to]);
        buffer[to - from..].fill(0);
        if is_last_piece {
            let seal = Seal {
                identity: self.identity,
                part: self.part,
                floor: self.floor,
                begin: self.begin,
                file_size: self.offset + buffer.len() as u64,
                table_offset: self.table_offset,
                rows: u32::try_from(self.table.len() / ROW_SIZE).expect("bounded by a part"),
                table_crc: crc32fast::hash(&self.table),
                last_frame: self.chain,
                is_last: self.is_finishing && self.pushed.is_empty(),
            };
            seal.encode_into(&mut buffer[rows..]);
        }
        let write = self.write(buffer, Vec::new());
        self.stage = Stage::Table(to);
        if is_last_piece {
            self.table.clear();
            if self.is_finishing && self.pushed.is_empty() {
                self.stage = Stage::Done;
            } else {
                let number = self.part.number.checked_add(1).expect("a checkpoint has few parts");
                self.part = self.part.checkpoint.part(number);
                (self.offset, self.chain, self.stage) = (0, 0, Stage::Images);
            }
        }
        write
    }

    fn buffer(&mut self, length: usize) -> AlignedBuffer {
        let mut buffer = self.spare_buffer.take().unwrap_or_else(|| AlignedBuffer::zeroed(length));
        buffer.reserve(length);
        buffer.set_window(0..padded(length));
        buffer
    }

    fn write(&mut self, buffer: AlignedBuffer, images: Vec<WrittenImage>) -> CheckpointWrite {
        let (part, offset) = (self.part, self.offset);
        self.offset += buffer.len() as u64;
        self.bytes += buffer.len() as u64;
        self.in_flight = Some(images);
        CheckpointWrite { part, offset, buffer }
    }

    /// The write polled last reached the file. Returns the images that can be read there from now
    /// on.
    ///
    /// # Panics
    ///
    /// When no write is under way.
    pub fn handle_written(&mut self, buffer: AlignedBuffer) -> Vec<WrittenImage> {
        // A buffer that held an outsized image is let go.
        if buffer.capacity() <= 8 * FRAME_BYTES {
            self.spare_buffer = Some(buffer);
        }
        self.in_flight.take().expect("a finished write was handed out before")
    }
}
