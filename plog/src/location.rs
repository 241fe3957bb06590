//! Where a record is on disk, and reading it back.

use crate::block::{BLOCK_SIZE, padded};
use crate::log_record::{LogRecord, RecordError};
use crate::segment::SegmentId;

/// Where one record is: `length` bytes at `offset` of a segment file.
///
/// Ordered like the log: a record appended later has a greater location.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location {
    /// The segment file.
    pub segment: SegmentId,
    /// Byte offset of the record's first byte in the file.
    pub offset: u32,
    /// The record's whole length in bytes, a multiple of 8, never 0.
    pub length: u32,
}

const _: () = assert!(size_of::<Location>() == 16);

impl Location {
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
    #[error("record at segment {} offset {}: {error}", location.segment, location.offset)]
    Record {
        /// Where it was read.
        location: Location,
        /// What is wrong with it.
        error: RecordError,
    },
    /// There is a record, but not the one the location is of.
    #[error(
        "record at segment {} offset {} has {found} bytes instead of {}",
        location.segment, location.offset, location.length
    )]
    OtherLength {
        /// Where it was read.
        location: Location,
        /// The length of the record found.
        found: usize,
    },
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
    Ok(record)
}
