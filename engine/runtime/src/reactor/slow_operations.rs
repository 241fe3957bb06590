//! Which operations of the log took so long that an operator should hear of it.
//!
//! A disk that is slow is slow thousands of times a second, so of each kind one operation a second
//! is told, with the number of those since the last that were left out. All of them count in the
//! core's metrics. Knows no clock: the time is an argument.

use engine::time::Time;
use plog::segment::SegmentId;
use plog::vocabulary::{EntityId, Entry};

use crate::node::log_line::{self, Field};

/// Pause between two operations of one kind that are told, in microseconds.
const PAUSE_US: u64 = 1_000_000;

/// What a write holds, in short.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written {
    /// Entity and entry of its first record.
    pub first: (EntityId, Entry),
    /// How many records it has.
    pub records: u32,
}

/// An operation that was slow, and what it was about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlowOperation {
    /// From the first record of a write being waited for to all of it being durable.
    Commit(Written),
    /// From submitting a write to its completion.
    Write(Written),
    /// A write that has not completed yet.
    Unfinished(Written),
    /// From submitting a read to its completion.
    Read {
        /// Where was read.
        segment: SegmentId,
        /// Byte offset of the record in the segment.
        offset: u32,
        /// Whose record it is, and of which entry; [`None`] if what was read is none.
        record: Option<(EntityId, Entry)>,
    },
    /// From the first read of an entity to its being served.
    Load {
        /// Which entity.
        entity: EntityId,
        /// The last entry of it that is applied.
        applied: Entry,
        /// Records that were read.
        records: usize,
    },
}

impl SlowOperation {
    /// Its place among the rates.
    fn kind(self) -> usize {
        match self {
            Self::Commit(_) => 0,
            Self::Write(_) => 1,
            Self::Unfinished(_) => 2,
            Self::Read { .. } => 3,
            Self::Load { .. } => 4,
        }
    }

    fn write_line(self, took_us: u64, left_out: u64) {
        let ms = took_us / 1000;
        let write = |message, Written { first: (entity, entry), records }: Written| {
            line(message, ms, left_out, Some((entity, entry)), &[("records", &records)]);
        };
        match self {
            Self::Commit(written) => write("a commit of the log was slow", written),
            Self::Write(written) => write("a write to the log was slow", written),
            Self::Unfinished(written) => {
                write("a write to the log is slow and has not ended yet", written);
            }
            Self::Read { segment, offset, record } => line(
                "a read of the log was slow",
                ms,
                left_out,
                record,
                &[("segment", &segment), ("offset", &offset)],
            ),
            Self::Load { entity, applied, records } => line(
                "loading an entity from the log was slow",
                ms,
                left_out,
                Some((entity, applied)),
                &[("records", &records)],
            ),
        }
    }
}

fn line(
    message: &'static str,
    ms: u64,
    left_out: u64,
    whose: Option<(EntityId, Entry)>,
    more: &[Field<'_>],
) {
    let whose = whose.map(|(entity, entry)| (format!("{:016x}", entity.0), entry.0));
    let mut fields: Vec<Field<'_>> = vec![("ms", &ms)];
    if let Some((entity, entry)) = &whose {
        fields.extend::<[Field<'_>; 2]>([("entity", entity), ("entry", entry)]);
    }
    fields.extend_from_slice(more);
    if left_out > 0 {
        fields.push(("slow_left_out", &left_out));
    }
    log_line::warn(message, &fields);
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    next_us: u64,
    left_out: u64,
}

/// The threshold, and what was told of late.
#[derive(Debug)]
pub struct SlowOperations {
    /// Longer than this is slow, in microseconds; 0 = nothing is.
    threshold_us: u64,
    rates: [Rate; 5],
}

impl SlowOperations {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(threshold_us: u64) -> Self {
        Self { threshold_us, rates: [Rate::default(); 5] }
    }

    /// Whether an operation that took this long is slow.
    #[must_use]
    pub fn is_slow(&self, took_us: u64) -> bool {
        self.threshold_us > 0 && took_us > self.threshold_us
    }

    /// Tells of a slow operation that was noticed at `now` and took `took_us` so far, unless one of
    /// its kind was told within the last second.
    pub fn tell(&mut self, now: Time, took_us: u64, operation: SlowOperation) {
        if let Some(left_out) = self.admit(now, operation) {
            operation.write_line(took_us, left_out);
        }
    }

    /// How many of its kind were left out before `operation`; [`None`] to leave it out, too.
    fn admit(&mut self, now: Time, operation: SlowOperation) -> Option<u64> {
        let rate = &mut self.rates[operation.kind()];
        if now.0 < rate.next_us {
            rate.left_out += 1;
            return None;
        }
        rate.next_us = now.0 + PAUSE_US;
        Some(std::mem::take(&mut rate.left_out))
    }
}

#[cfg(test)]
mod tests {
    use engine::time::Time;

    use plog::segment::SegmentId;
    use plog::vocabulary::{EntityId, Entry};

    use super::{SlowOperation, SlowOperations, Written};

    #[test]
    fn what_takes_longer_than_the_threshold_is_slow_and_nothing_is_without_one() {
        let slow = SlowOperations::new(100_000);
        assert!(!slow.is_slow(100_000) && slow.is_slow(100_001));
        assert!(!SlowOperations::new(0).is_slow(u64::MAX));
    }

    #[test]
    fn one_of_a_kind_is_told_a_second_with_the_number_left_out() {
        let written = Written { first: (EntityId(1), Entry(2)), records: 3 };
        let write = SlowOperation::Write(written);
        let mut slow = SlowOperations::new(1);
        assert_eq!(slow.admit(Time(0), write), Some(0));
        for ms in 1..1000 {
            assert_eq!(slow.admit(Time(ms * 1000), write), None);
        }
        let (entity, applied) = written.first;
        let others = [
            SlowOperation::Commit(written),
            SlowOperation::Unfinished(written),
            SlowOperation::Read { segment: SegmentId(1), offset: 4096, record: None },
            SlowOperation::Load { entity, applied, records: 1 },
        ];
        for other in others {
            assert_eq!(slow.admit(Time(5000), other), Some(0), "{other:?} has its own rate");
        }
        assert_eq!(slow.admit(Time(1_000_000), write), Some(999));
        assert_eq!(slow.admit(Time(2_000_000), write), Some(0));
    }
}
