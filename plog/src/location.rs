//! Where a record is on disk, and reading it back.

use crate::block::{BLOCK_SIZE, padded};
use crate::log_record::{LogRecord, RecordError, record_checksum, verify_record};
use crate::planted;
use crate::segment::SegmentId;

/// Where one record is, `length` bytes at `offset` of a segment file, and which one it is: a disk
/// that wrote a block to the wrong place may hold another record of the same entity there, just as
/// long and whole in itself.
///
/// Ordered like the log: a record appended later has a greater location.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location {
    /// The segment's number, upper half first: in halves, an index of millions stays smaller.
    segment: [u32; 2],
    /// Byte offset of the record's first byte in the file.
    pub offset: u32,
    /// The record's whole length in bytes, a multiple of 8, never 0.
    pub length: u32,
    /// The record's checksum, which tells it from every other one.
    pub checksum: u32,
}

const _: () = assert!(size_of::<Location>() == 20);

impl Location {
    /// A record of `length` bytes, which end up with `checksum`, at `offset` of `segment`.
    #[must_use]
    pub const fn new(segment: SegmentId, offset: u32, length: u32, checksum: u32) -> Self {
        let [a, b, c, d, e, f, g, h] = segment.0.to_le_bytes();
        let segment = [u32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d])];
        Self { segment, offset, length, checksum }
    }

    /// The segment file.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        SegmentId(u64::from(self.segment[0]) << 32 | u64::from(self.segment[1]))
    }

    /// The aligned byte offset and length to read from the segment file to get the record.
    #[must_use]
    pub fn blocks(&self) -> (u64, usize) {
        let skip = self.skip();
        let length = usize::try_from(self.length).expect("32 bits fit a usize");
        let begin = u64::from(self.offset) - u64::try_from(skip).expect("below a block");
        (begin, padded(skip + length))
    }

    /// Bytes between the aligned offset and the record.
    fn skip(&self) -> usize {
        usize::try_from(self.offset).expect("32 bits fit a usize") % BLOCK_SIZE
    }
}

/// Why a record could not be read back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadBackError {
    /// Fewer bytes were read than [`Location::blocks`] asked for.
    #[error("read {got} bytes for a record that needs {needed}; the segment file is too short")]
    Short {
        /// Bytes handed over.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// The bytes are not a record.
    #[error("record at segment {} offset {}: {error}", location.segment(), location.offset)]
    Record {
        /// Where it was read.
        location: Location,
        /// What is wrong with it.
        error: RecordError,
    },
    /// There is a record of that length, but another one.
    #[error(
        "record at segment {} offset {} is another one: its checksum is {found:#010x} instead of \
         {:#010x}",
        location.segment(), location.offset, location.checksum
    )]
    OtherRecord {
        /// Where it was read.
        location: Location,
        /// The checksum of the record found.
        found: u32,
    },
    /// There is a record, but not the one the location is of.
    #[error(
        "record at segment {} offset {} has {found} bytes instead of {}",
        location.segment(), location.offset, location.length
    )]
    OtherLength {
        /// Where it was read.
        location: Location,
        /// The length of the record found.
        found: usize,
    },
}

/// The bytes of the record at `location` out of the aligned bytes read for `run`, a stretch of the
/// same file that holds it. The record is whole and the one the location is of; it is not parsed.
///
/// # Errors
///
/// When the bytes are too few, fail their checksum, or are another record: the disk is damaged.
pub fn copy_back(location: Location, run: Location, blocks: &[u8]) -> Result<&[u8], ReadBackError> {
    let (begin, _) = run.blocks();
    let length = usize::try_from(location.length).expect("32 bits fit a usize");
    let got = blocks.len();
    let skip = u64::from(location.offset).checked_sub(begin);
    let skip = skip.and_then(|skip| usize::try_from(skip).ok());
    let skip = skip.ok_or(ReadBackError::Short { got, needed: length })?;
    let needed = skip + length;
    let bytes = blocks.get(skip..needed).ok_or(ReadBackError::Short { got, needed })?;
    let found = verify_record(bytes).map_err(|error| ReadBackError::Record { location, error })?;
    if found != location.checksum && !planted!("record-checksum-unchecked") {
        return Err(ReadBackError::OtherRecord { location, found });
    }
    Ok(bytes)
}

/// Parses the record at `location` out of the aligned bytes read for it.
///
/// # Errors
///
/// When the bytes are too few, fail their checksum, or are another record: the disk is damaged.
pub fn read_back(location: Location, blocks: &[u8]) -> Result<LogRecord, ReadBackError> {
    let length = usize::try_from(location.length).expect("32 bits fit a usize");
    let needed = location.skip() + length;
    let got = blocks.len();
    let bytes = blocks.get(location.skip()..needed).ok_or(ReadBackError::Short { got, needed })?;
    let (record, found) =
        LogRecord::decode(bytes).map_err(|error| ReadBackError::Record { location, error })?;
    if found != length {
        return Err(ReadBackError::OtherLength { location, found });
    }
    let found = record_checksum(bytes);
    if found != location.checksum && !planted!("record-checksum-unchecked") {
        return Err(ReadBackError::OtherRecord { location, found });
    }
    Ok(record)
}
