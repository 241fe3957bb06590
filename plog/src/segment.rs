//! Segment files: their names and their first block.
//!
//! A log is a sequence of files of one fixed size. A file's first block says whose it is and which
//! of the sequence; frames follow. Old files are recycled under new numbers, so nothing in a file
//! is believed unless it carries the number the file has now.

use std::fmt;

use crate::block::{BLOCK_SIZE, is_zero};
use crate::identity::{ForeignField, LogIdentity};
use crate::little_endian::{Reader, Writer};
use crate::vocabulary::Lsn;

/// The version written into segment headers and frames, and the newest that is read.
pub const FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"CertSegm";
const CHECKED: usize = 64;

/// The sequence number of a segment, from 1; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// A new log's first segment.
    pub const FIRST: Self = Self(1);

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("segments never run out"))
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Names a pre-written file that can become a segment.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpareId(pub u64);

/// The name of a file of the log.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SegmentFileName {
    /// `{sequence:016x}.plog`
    Segment(SegmentId),
    /// `spare-{n}.plog`
    Spare(SpareId),
}

impl SegmentFileName {
    /// Parses a file name; `None` for anything that [`fmt::Display`] would not write.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".plog")?;
        let parsed = match stem.strip_prefix("spare-") {
            Some(number) => Self::Spare(SpareId(number.parse().ok()?)),
            None => Self::Segment(SegmentId(u64::from_str_radix(stem, 16).ok()?)),
        };
        // One name for one file: `+1`, upper case or leading zeros are somebody else's.
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentFileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(formatter, "{segment}.plog"),
            Self::Spare(spare) => write!(formatter, "spare-{}.plog", spare.0),
        }
    }
}

/// The first block of a segment file. Written in one write with the segment's first frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    /// Whose log.
    pub identity: LogIdentity,
    /// Which of the sequence.
    pub segment: SegmentId,
    /// The LSN of the first record that was to be written; no frame here has a smaller one.
    pub first_lsn: Lsn,
    /// The header checksum of the last frame before this segment, 0 when there is none.
    pub previous_frame: u32,
    /// The file's size in bytes.
    pub segment_size: u32,
}

/// Why a block is not the header of this log's segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeaderError {
    /// Never written.
    #[error("the segment header is empty")]
    Empty,
    /// A good header of something else.
    #[error(
        "the segment file is not this log's: {0}; look for files copied between data directories"
    )]
    Foreign(#[from] ForeignField),
    /// A good header of a version this program does not know.
    #[error(
        "the segment was written by a newer Certus: format version {found}, this one reads \
         up to {supported}"
    )]
    Newer {
        /// In the header.
        found: u16,
        /// What this program reads.
        supported: u16,
    },
    /// Anything else.
    #[error("the segment header is damaged")]
    Damaged,
}

impl SegmentHeader {
    /// Writes the header over the first block of `out`.
    ///
    /// # Panics
    ///
    /// When `out` is shorter than a block.
    pub fn encode_into(&self, out: &mut [u8]) {
        let block = &mut out[..BLOCK_SIZE];
        let mut writer = Writer::new(block);
        writer.bytes(&MAGIC);
        writer.u16(FORMAT_VERSION);
        writer.bytes(&[self.identity.node, 0]);
        writer.u16(self.identity.core);
        writer.u16(self.identity.core_count);
        writer.u64(self.segment.0);
        writer.u64(self.identity.cluster);
        writer.u64(self.identity.incarnation_low());
        writer.u64(self.identity.incarnation_high());
        writer.u64(self.first_lsn.0);
        writer.u32(self.previous_frame);
        writer.u32(self.segment_size);
        writer.zeros_to_end();
        let crc = crc32fast::hash(&block[..CHECKED]);
        block[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Parses a segment's first block, whoever wrote it.
    ///
    /// # Errors
    ///
    /// [`HeaderError::Empty`], [`HeaderError::Newer`] or [`HeaderError::Damaged`].
    pub fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let block = block.get(..BLOCK_SIZE).ok_or(HeaderError::Damaged)?;
        if is_zero(block) {
            return Err(HeaderError::Empty);
        }
        let mut reader = Reader::new(block);
        let magic = reader.take();
        let version = reader.u16();
        let node = reader.u8();
        reader.zeros::<1>();
        let (core, core_count) = (reader.u16(), reader.u16());
        let segment = SegmentId(reader.u64());
        let cluster = reader.u64();
        let (low, high) = (reader.u64(), reader.u64());
        let first_lsn = Lsn(reader.u64());
        let (previous_frame, segment_size) = (reader.u32(), reader.u32());
        let crc = reader.u32();
        if magic != MAGIC || crc != crc32fast::hash(&block[..CHECKED]) {
            return Err(HeaderError::Damaged);
        }
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer { found: version, supported: FORMAT_VERSION });
        }
        if version == 0 || !reader.reserved_clean() || !is_zero(reader.rest()) {
            return Err(HeaderError::Damaged);
        }
        let incarnation = u128::from(high) << 64 | u128::from(low);
        let identity = LogIdentity { cluster, node, incarnation, core, core_count };
        Ok(Self { identity, segment, first_lsn, previous_frame, segment_size })
    }

    /// Parses a segment's first block and checks that it is of the log `identity`.
    ///
    /// # Errors
    ///
    /// As [`SegmentHeader::parse`], and [`HeaderError::Foreign`].
    pub fn parse_for(block: &[u8], identity: &LogIdentity) -> Result<Self, HeaderError> {
        let header = Self::parse(block)?;
        header.identity.check(identity)?;
        Ok(header)
    }
}
