//! When it is noted which segment the log has reached: once for each that was opened, behind its
//! first frame. On a full disk the note waits; whatever is newest by then is noted.

use engine::time::Time;
use plog::segment::SegmentId;

/// How long to wait before a note is tried again for which there was no room, in microseconds.
const RETRY_US: u64 = 1_000_000;

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct ReachedNote {
    /// The newest that is not noted yet.
    wanted: Option<SegmentId>,
    is_under_way: bool,
    not_before: Time,
}

impl ReachedNote {
    /// A frame in this segment is durable.
    pub(crate) fn note(&mut self, segment: SegmentId) {
        self.wanted = self.wanted.max(Some(segment));
    }

    /// Whether a note waits to be tried again.
    pub(crate) fn is_pending(&self) -> bool {
        self.wanted.is_some()
    }

    /// What to note now.
    pub(crate) fn poll(&mut self, now: Time) -> Option<SegmentId> {
        if self.is_under_way || now < self.not_before {
            return None;
        }
        let segment = self.wanted.take()?;
        self.is_under_way = true;
        Some(segment)
    }

    /// The note polled last is durable, or there was no room for it.
    pub(crate) fn handle_done(&mut self, now: Time, segment: SegmentId, is_durable: bool) {
        self.is_under_way = false;
        if !is_durable {
            self.note(segment);
            self.not_before = now.after_us(RETRY_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::time::Time;
    use plog::segment::SegmentId;

    use super::{RETRY_US, ReachedNote};

    #[test]
    fn one_note_is_under_way_and_the_newest_is_never_lost() {
        let mut note = ReachedNote::default();
        assert_eq!(note.poll(Time(5)), None);
        note.note(SegmentId(3));
        assert_eq!(note.poll(Time(5)), Some(SegmentId(3)));
        note.note(SegmentId(4));
        note.note(SegmentId(5));
        assert_eq!(note.poll(Time(6)), None, "one at a time");
        note.handle_done(Time(7), SegmentId(3), false);
        assert!(note.is_pending());
        assert_eq!(note.poll(Time(8)), None, "there was no room a moment ago");
        assert_eq!(note.poll(Time(7 + RETRY_US)), Some(SegmentId(5)));
        note.handle_done(Time(9), SegmentId(5), true);
        assert!(!note.is_pending());
    }
}
