//! Why a shard abstains as a whole: its log was found damaged, so any entity may have lost a
//! promise, also one of which nothing is left.
//!
//! The world keeps an [`Abstention`] durably from the start that found the damage on, and hands it
//! back at every later one: the log may look whole by then (a check of the file system cut it, a
//! file was put away), and what was forgotten stays forgotten.

use std::fmt;

use plog::checkpoint::PartId;
use plog::planted;
use plog::recovery::Recovered;
use plog::segment::{SegmentFileName, SegmentId};
use plog::vocabulary::BootEpoch;

/// Where a log was found damaged, and since when its shard abstains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abstention {
    /// The boot that found the damage first.
    pub since: BootEpoch,
    /// The segment, or the part of a checkpoint, in which the damage begins.
    pub segment: SegmentId,
    /// Byte offset in it.
    pub offset: u64,
}

impl Abstention {
    /// Whether a shard has to abstain whose log was `recovered` by the boot `epoch`; `known` is
    /// what an earlier boot made durable. What comes back must be durable before the node speaks.
    #[must_use]
    pub fn judge(recovered: &Recovered, known: Option<Self>, epoch: BootEpoch) -> Option<Self> {
        if known.is_some() {
            return if planted!("damage-forgotten") { None } else { known };
        }
        match recovered {
            Recovered::Damaged { segment, offset, .. } => {
                Some(Self { since: epoch, segment: *segment, offset: *offset })
            }
            Recovered::Empty | Recovered::Clean(_) | Recovered::TornTail { .. } => None,
        }
    }
}

impl fmt::Display for Abstention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, segment, offset } = self;
        let file = match PartId::of_file(*segment) {
            Some(part) => part.to_string(),
            None => SegmentFileName::Segment(*segment).to_string(),
        };
        write!(
            formatter,
            "the log was found damaged in {file} at byte {offset} by boot {}",
            since.0
        )
    }
}

#[cfg(test)]
mod tests {
    use plog::recovery::{DamageReason, Recovered, RecoveredTail};
    use plog::segment::SegmentId;
    use plog::vocabulary::{BootEpoch, Lsn};

    use super::Abstention;

    #[test]
    fn a_damage_once_found_is_never_forgotten_whatever_the_log_looks_like() {
        let tail = RecoveredTail {
            segment: SegmentId(3),
            offset: 8192,
            segment_size: 65536,
            last_lsn: Lsn(9),
            highest_lsn: Lsn(9),
            last_frame_crc: 1,
            last_frame_segment: Some(SegmentId(3)),
            oldest_segment: SegmentId(1),
        };
        let damaged = Recovered::Damaged {
            segment: SegmentId(2),
            offset: 4096,
            reason: DamageReason::NoFrames,
            next_valid: None,
            further: Vec::new(),
            tail,
        };
        let found = Abstention { since: BootEpoch(4), segment: SegmentId(2), offset: 4096 };
        assert_eq!(Abstention::judge(&damaged, None, BootEpoch(4)), Some(found));
        for later in [&damaged, &Recovered::Clean(tail), &Recovered::Empty] {
            assert_eq!(Abstention::judge(later, Some(found), BootEpoch(5)), Some(found));
        }
        assert_eq!(Abstention::judge(&Recovered::Clean(tail), None, BootEpoch(5)), None);
        let words = found.to_string();
        assert!(words.contains("0000000000000002.plog at byte 4096 by boot 4"), "{words}");
    }
}
