//! The report of a whole log, for an operator.
//!
//! Verifying is scanning with nobody listening to the records: the same code that recovers the log
//! at start judges it offline. Feed the files to a [`crate::recovery::Scanner`] and end with
//! [`crate::recovery::Scanner::into_report`].

use std::fmt;

use crate::recovery::{Recovered, RecoveredTail};
use crate::segment::{SegmentHeader, SegmentId};
use crate::vocabulary::Lsn;

/// How many records of each kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecordCounts {
    /// Entry records.
    pub entries: u64,
    /// Values stored on their own.
    pub values: u64,
    /// Chosen marks.
    pub chosen: u64,
    /// Images.
    pub images: u64,
}

/// What one segment holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentReport {
    /// The segment, by its file's name.
    pub segment: SegmentId,
    /// Its header; absent when lost with a crash, stale, or damaged.
    pub header: Option<SegmentHeader>,
    /// Good frames.
    pub frames: u64,
    /// Records in them.
    pub records: RecordCounts,
    /// Bytes of these frames, headers and padding included.
    pub bytes: u64,
    /// Bytes of the records.
    pub payload_bytes: u64,
    /// The first record.
    pub first_lsn: Option<Lsn>,
    /// The last record.
    pub last_lsn: Option<Lsn>,
    /// Byte offset where the last good frame ends; 0 without one.
    pub end: u64,
}

impl SegmentReport {
    pub(crate) fn new(segment: SegmentId) -> Self {
        Self {
            segment,
            header: None,
            frames: 0,
            records: RecordCounts::default(),
            bytes: 0,
            payload_bytes: 0,
            first_lsn: None,
            last_lsn: None,
            end: 0,
        }
    }
}

impl fmt::Display for SegmentReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordCounts { entries, values, chosen, images } = self.records;
        write!(
            formatter,
            "segment {}: {} frames, {} bytes ({} of records), {entries} entry, {values} value, \
             {chosen} chosen, {images} image, ",
            self.segment, self.frames, self.bytes, self.payload_bytes
        )?;
        match (self.first_lsn, self.last_lsn) {
            (Some(first), Some(last)) => write!(formatter, "LSN {}..={}", first.0, last.0)?,
            _ => write!(formatter, "no LSN")?,
        }
        write!(formatter, ", ends at {}", self.end)?;
        if self.header.is_none() {
            write!(formatter, ", header lost")?;
        }
        Ok(())
    }
}

/// What a whole log holds, and how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifyReport {
    /// In ascending order.
    pub segments: Vec<SegmentReport>,
    /// How it ended.
    pub outcome: Recovered,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            writeln!(formatter, "{segment}")?;
        }
        let goes_on = |tail: &RecoveredTail| {
            format!(
                "last LSN {}, goes on in segment {} at {}",
                tail.last_lsn.0, tail.segment, tail.offset
            )
        };
        match &self.outcome {
            Recovered::Empty => writeln!(formatter, "empty: no segment"),
            Recovered::Clean(tail) => writeln!(formatter, "clean: {}", goes_on(tail)),
            Recovered::TornTail { tail, segment, offset, bytes } => writeln!(
                formatter,
                "torn tail: {bytes} bytes of an unfinished write in segment {segment} at {offset}, \
                 nothing acknowledged is missing; {}",
                goes_on(tail)
            ),
            Recovered::Damaged { segment, offset, reason, next_valid, further, tail } => {
                let damaged =
                    |formatter: &mut fmt::Formatter<'_>, segment, offset, reason, next| {
                        write!(formatter, "DAMAGED: segment {segment} at {offset}: {reason}; ")?;
                        match next {
                            Some((next, at)) => {
                                writeln!(formatter, "next good frame in segment {next} at {at}")
                            }
                            None => writeln!(formatter, "no good frame after it"),
                        }
                    };
                damaged(formatter, *segment, *offset, *reason, *next_valid)?;
                for more in further {
                    damaged(formatter, more.segment, more.offset, more.reason, more.next_valid)?;
                }
                writeln!(formatter, "damaged: {}", goes_on(tail))
            }
        }
    }
}
