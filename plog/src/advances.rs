//! In which order entities advanced, as far back as there is room for.
//!
//! An entity *advances* when the index learns that a later entry of it is chosen than was known.
//! Time is cut into stretches by *marks*: whoever is told of everything up to a mark needs only
//! what advanced after it. Each stretch names an entity once, however often it advanced, so an
//! entity that is written all the time takes one place for each mark that was handed out.
//!
//! ```text
//!   forgotten │ kept, at most `limit` places                │ open
//!   ──────────┼──────────────┬──────────┬───────────────────┼───────────▶
//!             │ … a c        │ b        │ a d               │ c …
//!             forgotten      mark 7     mark 8              mark 9: the next to be handed out
//! ```
//!
//! Marks are of one boot: a start knows none, and everything it recovers has [`Mark::ZERO`].

use std::collections::VecDeque;

use crate::planted;
use crate::vocabulary::EntityId;

/// The end of a stretch. Entities that advanced in it have this mark.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Mark(pub u32);

impl Mark {
    /// Before everything that happened in this boot.
    pub const ZERO: Self = Self(0);
}

/// See the module page.
///
/// Invariant: the marks in `places` ascend, and every entity whose mark is above `forgotten` has a
/// place with that mark.
#[derive(Clone, Debug)]
pub struct Advances {
    /// The stretch that is open.
    open: Mark,
    /// Whether anything advanced in it.
    has_any: bool,
    places: VecDeque<(Mark, EntityId)>,
    /// The number of the first place that is kept, counted from the beginning of the boot.
    first: u64,
    /// Up to this mark, places were given up for want of room.
    forgotten: Mark,
    limit: usize,
}

impl Default for Advances {
    fn default() -> Self {
        Self {
            open: Mark(1),
            has_any: false,
            places: VecDeque::new(),
            first: 0,
            forgotten: Mark::ZERO,
            limit: 0,
        }
    }
}

impl Advances {
    /// Keeps up to so many places from now on; 0: none.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        while self.places.len() > limit {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let (mark, _) = self.places.pop_front().expect("called for a place that is kept");
        self.forgotten = mark;
        self.first += 1;
    }

    /// An entity whose mark is `before` advanced. Its mark from now on.
    pub(crate) fn note(&mut self, entity: EntityId, before: Mark) -> Mark {
        self.has_any = true;
        if before == self.open {
            return before;
        }
        assert!(before < self.open, "no mark is of a stretch to come");
        if self.places.len() >= self.limit {
            if self.limit == 0 {
                self.first += 1;
                self.forgotten = self.open;
                return self.open;
            }
            self.forget_one();
        }
        self.places.push_back((self.open, entity));
        self.open
    }

    /// Ends the stretch that is open, if anything advanced in it, and hands out the mark of all
    /// that ended: what advances from now on has a greater one. `None` when there are no more
    /// marks, after four billion of them.
    pub(crate) fn close(&mut self) -> Option<Mark> {
        if planted!("since-off-by-one") {
            return Some(self.open);
        }
        if self.has_any {
            self.open = Mark(self.open.0.checked_add(1)?);
            self.has_any = false;
        }
        Some(Mark(self.open.0 - 1))
    }

    /// Whether anything advanced after `mark`.
    #[must_use]
    pub fn any_after(&self, mark: Mark) -> bool {
        self.has_any || Mark(self.open.0 - 1) > mark
    }

    /// Whether `mark` can have been handed out.
    #[must_use]
    pub fn has_ended(&self, mark: Mark) -> bool {
        mark < self.open || planted!("since-off-by-one")
    }

    /// The number of the first place after `mark`, if all places after it are kept.
    #[must_use]
    pub fn first_after(&self, mark: Mark) -> Option<u64> {
        if mark < self.forgotten || self.limit == 0 {
            return None;
        }
        let position = self.places.partition_point(|(of, _)| *of <= mark);
        Some(self.first + u64::try_from(position).expect("a position fits 64 bits"))
    }

    /// Places from number `begin` on, each with the number after it; `None` when some of them were
    /// given up.
    #[must_use]
    pub fn places_from(&self, begin: u64) -> Option<impl Iterator<Item = (u64, Mark, EntityId)>> {
        let skip = usize::try_from(begin.checked_sub(self.first)?).ok()?;
        let places = self.places.range(skip.min(self.places.len())..);
        Some((begin + 1..).zip(places).map(|(next, (mark, entity))| (next, *mark, *entity)))
    }

    /// The number after the last place.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + u64::try_from(self.places.len()).expect("a length fits 64 bits")
    }

    /// Memory it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<(Mark, EntityId)>()
    }
}

#[cfg(test)]
mod tests {
    use super::{Advances, Mark};
    use crate::vocabulary::EntityId;

    const A: EntityId = EntityId(1);
    const B: EntityId = EntityId(2);
    const C: EntityId = EntityId(3);

    fn with_limit(limit: usize) -> Advances {
        let mut advances = Advances::default();
        advances.set_limit(limit);
        advances
    }

    fn entities_after(advances: &Advances, mark: Mark) -> Option<Vec<EntityId>> {
        let places = advances.places_from(advances.first_after(mark)?)?;
        Some(places.map(|(_, _, entity)| entity).collect())
    }

    #[test]
    fn what_advances_after_a_mark_was_handed_out_has_a_greater_one() {
        let mut advances = with_limit(8);
        assert_eq!(advances.close(), Some(Mark::ZERO));
        let of_a = advances.note(A, Mark::ZERO);
        assert_eq!(advances.note(A, of_a), of_a);
        let first = advances.close().unwrap();
        assert_eq!((first, advances.close()), (of_a, Some(of_a)), "nothing happened between them");
        assert!(!advances.any_after(first) && advances.any_after(Mark::ZERO));
        let of_a = advances.note(A, of_a);
        assert!(of_a > first && advances.any_after(first));
        advances.note(B, Mark::ZERO);
        assert_eq!(entities_after(&advances, first), Some(vec![A, B]));
        assert_eq!(entities_after(&advances, Mark::ZERO), Some(vec![A, A, B]));
        assert!(advances.has_ended(first) && !advances.has_ended(of_a));
    }

    #[test]
    fn what_there_is_no_room_for_is_never_passed_over_in_silence() {
        let mut advances = with_limit(2);
        let mut marks = Vec::new();
        for entity in [A, B, C] {
            advances.note(entity, Mark::ZERO);
            marks.push(advances.close().unwrap());
        }
        assert_eq!(entities_after(&advances, Mark::ZERO), None, "A is forgotten");
        assert_eq!(entities_after(&advances, marks[0]), Some(vec![B, C]));
        assert_eq!(entities_after(&advances, marks[2]), Some(Vec::new()));
        assert!(advances.places_from(0).is_none() && advances.places_from(1).is_some());
        assert_eq!(advances.end(), 3);
        // Of a stretch that is kept in part nothing is told.
        let mut advances = with_limit(1);
        advances.note(A, Mark::ZERO);
        advances.note(B, Mark::ZERO);
        assert_eq!(entities_after(&advances, Mark::ZERO), None);
        let mut none = with_limit(0);
        let before = none.close().unwrap();
        none.note(A, Mark::ZERO);
        assert_eq!(entities_after(&none, before), None);
        assert!(none.any_after(before) && none.places_from(0).is_none());
    }

    #[test]
    fn marks_come_to_an_end_without_being_used_twice() {
        let mut advances = with_limit(2);
        advances.open = Mark(u32::MAX);
        assert_eq!(advances.close(), Some(Mark(u32::MAX - 1)));
        advances.note(A, Mark::ZERO);
        assert_eq!((advances.close(), advances.close()), (None, None));
    }
}
