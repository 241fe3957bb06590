//! Why a shard abstains as a whole: its log was found damaged, so any entity may have lost a
//! promise, also one of which nothing is left.
//!
//! The world keeps an [`Abstention`] durably from the start that found the damage on, and hands it
//! back at every later one: the log may look whole by then (a check of the file system cut it, a
//! file was put away), and what was forgotten stays forgotten.

use std::fmt;

use plog::checkpoint::PartId;
use plog::location::Location;
use plog::planted;
use plog::recovery::Recovered;
use plog::segment::{SegmentFileName, SegmentId};
use plog::vocabulary::BootEpoch;

/// Where a log was found damaged, and since when its shard abstains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abstention {
    /// The boot that found the damage first.
    pub since: BootEpoch,
    /// The segment, or the part of a checkpoint, in which the damage begins; 0: the whole data
    /// directory is a new one.
    pub segment: SegmentId,
    /// Byte offset in it.
    pub offset: u64,
}

impl Abstention {
    /// That a node's data directory is another than the one it had before `since`'s generation came
    /// to an end.
    #[must_use]
    pub fn of_new_directory(since: BootEpoch) -> Self {
        Self { since, segment: SegmentId(0), offset: 0 }
    }

    /// That the boot `since` could not read a record back.
    #[must_use]
    pub fn of_unreadable(since: BootEpoch, at: Location) -> Self {
        Self { since, segment: at.segment(), offset: u64::from(at.offset) }
    }

    /// Whether a shard has to abstain whose log was `recovered` by the boot `epoch`; `known` is
    /// what an earlier boot made durable. What comes back must be durable before the node speaks.
    #[must_use]
    pub fn judge(recovered: &Recovered, known: Option<Self>, epoch: BootEpoch) -> Option<Self> {
        let known = known.filter(|_| !planted!("damage-forgotten"));
        match recovered {
            // What an earlier generation lost is made up for; what this one loses is not.
            Recovered::Damaged { segment, offset, .. }
                if known.is_none_or(|known| known.is_made_up_for(epoch)) =>
            {
                Some(Self { since: epoch, segment: *segment, offset: *offset })
            }
            Recovered::Damaged { .. }
            | Recovered::Empty
            | Recovered::Clean(_)
            | Recovered::TornTail { .. } => known,
        }
    }

    /// Whether the boot `epoch` is of a later generation than the loss: its log begins after it,
    /// and the core rejoins. Else the core abstains until a later generation begins.
    #[must_use]
    pub fn is_made_up_for(&self, epoch: BootEpoch) -> bool {
        self.since.generation() < epoch.generation()
    }
}

impl fmt::Display for Abstention {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, segment, offset } = self;
        if *segment == SegmentId(0) {
            return write!(formatter, "the data directory was replaced");
        }
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
        let later = BootEpoch((1 << 20) + 3);
        assert!(!found.is_made_up_for(BootEpoch(5)) && found.is_made_up_for(later));
        assert_eq!(Abstention::judge(&Recovered::Clean(tail), Some(found), later), Some(found));
        let again = Abstention { since: later, ..found };
        let damaged_again = Abstention::judge(&damaged, Some(found), later);
        assert_eq!(damaged_again.map(|again| again.since), Some(again.since), "a loss of its own");
        let words = found.to_string();
        assert!(words.contains("0000000000000002.plog at byte 4096 by boot 4"), "{words}");
    }
}
