//! Checkpoints: every entity's image in files of their own, so that the log before can go.
//!
//! A checkpoint is *fuzzy* (PhxPaxos's checkpoint, without its pause): entities are independent, so
//! each image is of the moment at which the writer came past its entity. What it needs of the log
//! are the records from its *floor* on, the segment that was being written when it began; records
//! of open entries before that are appended anew while the writer comes past.
//!
//! A checkpoint has *parts*, files of bounded size. A part looks like a segment: a header block,
//! then frames of image records; so one image is read back with one read, and the tools for
//! segments read it. Behind the frames stands its [`table`]: what an index needs to know of each
//! entity, so that a start reads a few dozen bytes per entity and parses no value. The last block,
//! the *seal*, says that the part is whole.
//!
//! ```text
//! | header | frame | frame | … | table, zeros to a block | seal |
//! ```
//!
//! A checkpoint counts once all parts are on disk under their names and its [`pointer`] says so.

use std::fmt;

use crate::segment::SegmentId;

pub mod check;
pub mod pointer;
pub mod seal;
pub mod table;
pub mod writer;

/// The part ids' highest bit tells a part from a segment; see [`PartId::file`].
const PART_BIT: u64 = 1 << 63;

/// Checkpoints that can ever be made by one core.
const CHECKPOINTS_MAX: u64 = 1 << 47;

/// The number of a checkpoint, from 1; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// A core's first checkpoint.
    pub const FIRST: Self = Self(1);

    /// The checkpoint after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its part `number`, from 0.
    #[must_use]
    pub fn part(self, number: u16) -> PartId {
        PartId { checkpoint: self, number }
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:012x}", self.0)
    }
}

/// One file of a checkpoint.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartId {
    /// Whose part.
    pub checkpoint: CheckpointId,
    /// Which, from 0.
    pub number: u16,
}

impl PartId {
    /// The number under which the part's header, frames and locations stand, in the place of a
    /// segment's; above every segment's.
    ///
    /// # Panics
    ///
    /// When there are 2^47 checkpoints.
    #[must_use]
    pub fn file(self) -> SegmentId {
        assert!(self.checkpoint.0 < CHECKPOINTS_MAX, "checkpoints never run out");
        SegmentId(PART_BIT | self.checkpoint.0 << 16 | u64::from(self.number))
    }

    /// The part that stands under this number; `None` for a segment's.
    #[must_use]
    pub fn of_file(file: SegmentId) -> Option<Self> {
        if file.0 & PART_BIT == 0 {
            return None;
        }
        let number = u16::try_from(file.0 & 0xffff).expect("16 bits");
        Some(Self { checkpoint: CheckpointId((file.0 & !PART_BIT) >> 16), number })
    }

    /// The part of the file of that name; `None` for anything that [`fmt::Display`] would not
    /// write.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (checkpoint, number) = name.strip_suffix(".ckpt")?.split_once('-')?;
        let checkpoint = CheckpointId(u64::from_str_radix(checkpoint, 16).ok()?);
        let number = u16::from_str_radix(number, 16).ok()?;
        let part = Self { checkpoint, number };
        (checkpoint.0 < CHECKPOINTS_MAX && part.to_string() == name).then_some(part)
    }
}

impl fmt::Display for PartId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:04x}.ckpt", self.checkpoint, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckpointId, PartId};
    use crate::segment::SegmentId;

    #[test]
    fn a_part_has_a_number_of_its_own_among_files_and_a_name() {
        let part = CheckpointId(0x2a).part(3);
        assert_eq!(part.to_string(), "00000000002a-0003.ckpt");
        assert_eq!(PartId::parse("00000000002a-0003.ckpt"), Some(part));
        assert_eq!(PartId::of_file(part.file()), Some(part));
        assert_eq!(PartId::of_file(SegmentId(7)), None);
        assert!(part.file() > SegmentId(u64::MAX >> 1));
        for name in
            ["2a-3.ckpt", "00000000002a-0003.ckpt.new", "00000000002A-0003.ckpt", "x-0.ckpt"]
        {
            assert_eq!(PartId::parse(name), None, "{name}");
        }
    }
}
