//! Reads of the log under way.

use std::collections::{BTreeMap, VecDeque};

use plog::location::Location;
use plog::segment::SegmentId;
use plog::vocabulary::EntityId;

/// Names a read.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ReadId(pub u64);

/// A read to perform: the bytes of `location.blocks()`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PLogRead {
    /// Its name.
    pub read: ReadId,
    /// Where.
    pub location: Location,
}

/// The device could not read it, twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the log could not be read")]
pub struct ReadFailed;

/// What a read is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// The n-th record of an entity that is being loaded.
    Load(EntityId, usize),
    /// The n-th value of a catch-up answer.
    CatchUp(u64, usize),
    /// Images that go into a checkpoint as they are.
    Copy(u64),
    /// The n-th stretch of images of a page for a peer.
    Transfer(u64, usize),
    /// A stretch of the log for a tail.
    Changes(u64),
    /// The value that an entry of such a stretch names.
    ChangedValue(u64),
}

/// Reads handed to the world at a time.
const IN_FLIGHT_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct LogReads {
    next: u64,
    queued: VecDeque<PLogRead>,
    /// Queued or in flight.
    open: BTreeMap<ReadId, (Purpose, Location)>,
    in_flight: usize,
}

impl LogReads {
    pub(crate) fn start(&mut self, purpose: Purpose, location: Location) {
        self.next += 1;
        let read = ReadId(self.next);
        self.open.insert(read, (purpose, location));
        self.queued.push_back(PLogRead { read, location });
    }

    pub(crate) fn poll(&mut self) -> Option<PLogRead> {
        if self.in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let read = self.queued.pop_front()?;
        self.in_flight += 1;
        Some(read)
    }

    /// Whether a read of the file is queued or in flight.
    pub(crate) fn reads_from(&self, is_file: impl Fn(SegmentId) -> bool) -> bool {
        self.open.values().any(|(_, location)| is_file(location.segment()))
    }

    /// A read that was handed out is done.
    pub(crate) fn finish(&mut self, read: ReadId) -> Option<(Purpose, Location)> {
        let done = self.open.remove(&read)?;
        self.in_flight -= 1;
        Some(done)
    }
}
