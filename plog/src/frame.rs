//! The frame: the unit of writing, of durability and of atomicity.
//!
//! Everything appended while the previous write was in flight goes out as one frame. A frame is
//! whole or it is not there: its header carries the checksum of its records, its own checksum, and
//! the checksum of the frame before it. That *chain* shows a frame that went missing, not only one
//! that went bad.
//!
//! ```text
//! | header 64 bytes | record | record | … | zeros to the block boundary |
//! ```

use crate::block::{BLOCK_SIZE, is_zero, padded};
use crate::identity::LogIdentity;
use crate::little_endian::{Reader, Writer};
use crate::planted;
use crate::segment::{FORMAT_VERSION, SegmentId};
use crate::vocabulary::Lsn;

/// Bytes of a frame before its first record.
pub const FRAME_HEADER_SIZE: usize = 64;

const MAGIC: [u8; 8] = *b"CertFram";
const CHECKED: usize = 60;

/// The header of a frame, once its checksum was found good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// The node that wrote it.
    pub node: u8,
    /// The core that wrote it.
    pub core: u16,
    /// The segment it was written to.
    pub segment: SegmentId,
    /// The LSN of its first record; the others follow one by one.
    pub first_lsn: Lsn,
    /// The lower half of the writer's incarnation.
    pub incarnation_low: u64,
    /// Bytes of the frame with header and padding, a multiple of [`BLOCK_SIZE`].
    pub frame_length: u32,
    /// Bytes of the records.
    pub payload_length: u32,
    /// How many records, at least 1.
    pub record_count: u32,
    /// Header checksum of the frame before this one, in this segment or an earlier one; 0 for the
    /// first.
    pub previous_frame: u32,
    /// Checksum of the records.
    pub payload_crc: u32,
    /// Checksum of the header: the frame's link in the chain.
    pub header_crc: u32,
}

/// Why bytes are not the frame that was looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Nothing was written here.
    #[error("the block is empty")]
    Zero,
    /// No frame begins here.
    #[error("no frame begins here")]
    NotAFrame,
    /// It looks like a frame header, but its checksum does not match.
    #[error("frame header checksum is {found:#010x}, its bytes give {computed:#010x}")]
    HeaderChecksum {
        /// In the header.
        found: u32,
        /// Of its bytes.
        computed: u32,
    },
    /// A frame of the file's earlier life, under another number.
    #[error("the frame was written to segment {found}")]
    OtherSegment {
        /// In the header.
        found: SegmentId,
    },
    /// A frame in this segment by a newer program.
    #[error(
        "the frame was written by a newer Certus: format version {found}, this one reads up \
         to {supported}"
    )]
    Newer {
        /// In the header.
        found: u16,
        /// What this program reads.
        supported: u16,
    },
    /// A frame of another node, core or incarnation.
    #[error("the frame was written by node {node}, core {core}, or by another incarnation of it")]
    Foreign {
        /// In the header.
        node: u8,
        /// In the header.
        core: u16,
    },
    /// Lengths or counts that cannot be.
    #[error("frame of {frame_length} bytes with {payload_length} of records cannot be")]
    Lengths {
        /// In the header.
        frame_length: u32,
        /// In the header.
        payload_length: u32,
    },
    /// A reserved byte or the padding is not zero.
    #[error("a reserved or padding byte of the frame is not zero")]
    Reserved,
    /// The LSN should be above what came before.
    #[error("the frame begins at LSN {}, and {} was seen before", found.0, seen.0)]
    LsnNotAbove {
        /// In the header.
        found: Lsn,
        /// The last good one.
        seen: Lsn,
    },
    /// The frame does not follow the frame before it: one or more between them are gone.
    #[error(
        "the frame follows one with checksum {found:#010x}, the frame before is {expected:#010x}"
    )]
    Chain {
        /// In the header.
        found: u32,
        /// Of the last good frame.
        expected: u32,
    },
    /// The records do not match their checksum.
    #[error("checksum of the records is {found:#010x}, their bytes give {computed:#010x}")]
    PayloadChecksum {
        /// In the header.
        found: u32,
        /// Of the records.
        computed: u32,
    },
}

impl FrameHeader {
    /// Fills in the header, the padding and both checksums of `frame`, whose records are already in
    /// place after [`FRAME_HEADER_SIZE`]; the lengths and checksums in `self` are computed here.
    /// Returns the header as written.
    ///
    /// # Panics
    ///
    /// When `frame` is not `payload` bytes of records padded to whole blocks.
    pub fn seal(mut self, frame: &mut [u8], payload: usize) -> Self {
        let used = FRAME_HEADER_SIZE + payload;
        assert!(
            frame.len() == padded(used),
            "a frame is its records and less than a block of padding"
        );
        assert!(self.record_count > 0 && payload > 0, "an empty frame is never written");
        frame[used..].fill(0);
        self.frame_length = u32::try_from(frame.len()).expect("a frame fits a segment");
        self.payload_length = u32::try_from(payload).expect("a frame fits a segment");
        self.payload_crc = crc32fast::hash(&frame[FRAME_HEADER_SIZE..used]);
        let mut writer = Writer::new(&mut frame[..CHECKED]);
        writer.bytes(&MAGIC);
        writer.u16(FORMAT_VERSION);
        writer.u16(0);
        writer.u8(self.node);
        writer.u8(0);
        writer.u16(self.core);
        writer.u64(self.segment.0);
        writer.u64(self.first_lsn.0);
        writer.u64(self.incarnation_low);
        writer.u32(self.frame_length);
        writer.u32(self.payload_length);
        writer.u32(self.record_count);
        writer.u32(self.previous_frame);
        writer.u32(self.payload_crc);
        self.header_crc = crc32fast::hash(&frame[..CHECKED]);
        frame[CHECKED..FRAME_HEADER_SIZE].copy_from_slice(&self.header_crc.to_le_bytes());
        self
    }

    /// Parses the frame header at the beginning of `block` as one of `identity`'s log in `segment`.
    /// Where the frame stands among others is not looked at.
    ///
    /// # Errors
    ///
    /// Says what the block is instead.
    pub fn parse(
        block: &[u8],
        identity: &LogIdentity,
        segment: SegmentId,
    ) -> Result<Self, FrameError> {
        let bytes = block.get(..FRAME_HEADER_SIZE).ok_or(FrameError::NotAFrame)?;
        let mut reader = Reader::new(bytes);
        if reader.take() != MAGIC {
            let zero = is_zero(&block[..block.len().min(BLOCK_SIZE)]);
            return Err(if zero { FrameError::Zero } else { FrameError::NotAFrame });
        }
        let version = reader.u16();
        reader.zeros::<2>();
        let node = reader.u8();
        reader.zeros::<1>();
        let core = reader.u16();
        let header = Self {
            node,
            core,
            segment: SegmentId(reader.u64()),
            first_lsn: Lsn(reader.u64()),
            incarnation_low: reader.u64(),
            frame_length: reader.u32(),
            payload_length: reader.u32(),
            record_count: reader.u32(),
            previous_frame: reader.u32(),
            payload_crc: reader.u32(),
            header_crc: reader.u32(),
        };
        let computed = crc32fast::hash(&bytes[..CHECKED]);
        if computed != header.header_crc && !planted!("frame-checksum-unchecked") {
            return Err(FrameError::HeaderChecksum { found: header.header_crc, computed });
        }
        if header.segment != segment && !planted!("stale-frame-taken") {
            return Err(FrameError::OtherSegment { found: header.segment });
        }
        if version > FORMAT_VERSION {
            return Err(FrameError::Newer { found: version, supported: FORMAT_VERSION });
        }
        if version == 0 || !reader.reserved_clean() {
            return Err(FrameError::Reserved);
        }
        let mine = node == identity.node
            && core == identity.core
            && header.incarnation_low == identity.incarnation_low();
        if !mine {
            return Err(FrameError::Foreign { node, core });
        }
        let Self { frame_length, payload_length, record_count, first_lsn, .. } = header;
        let used = u64::from(payload_length) + FRAME_HEADER_SIZE as u64;
        let consistent = used.next_multiple_of(BLOCK_SIZE as u64) == u64::from(frame_length)
            && record_count > 0
            && first_lsn > Lsn::ZERO
            && first_lsn.0.checked_add(u64::from(record_count)).is_some();
        if !consistent {
            return Err(FrameError::Lengths { frame_length, payload_length });
        }
        Ok(header)
    }

    /// The LSN of the frame's last record.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.record_count) - 1)
    }

    /// The bytes of the records in `frame`, which is the whole frame, once they match their
    /// checksum.
    ///
    /// # Errors
    ///
    /// [`FrameError::PayloadChecksum`], or [`FrameError::Reserved`] when the padding is not zero.
    pub fn payload<'frame>(&self, frame: &'frame [u8]) -> Result<&'frame [u8], FrameError> {
        let (frame_length, payload_length) = (self.frame_length, self.payload_length);
        let used = FRAME_HEADER_SIZE + usize::try_from(payload_length).expect("32 bits fit");
        let whole = usize::try_from(frame_length).expect("32 bits fit a usize");
        if frame.len() != whole || used > whole {
            return Err(FrameError::Lengths { frame_length, payload_length });
        }
        let payload = &frame[FRAME_HEADER_SIZE..used];
        let computed = crc32fast::hash(payload);
        if computed != self.payload_crc && !planted!("frame-checksum-unchecked") {
            return Err(FrameError::PayloadChecksum { found: self.payload_crc, computed });
        }
        if !is_zero(&frame[used..]) {
            return Err(FrameError::Reserved);
        }
        Ok(payload)
    }
}
