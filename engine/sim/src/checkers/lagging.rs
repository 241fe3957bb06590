//! *confirmed*: whoever confirms a position of a peer's core holds durably what that core held as
//! chosen when it gave the position away; and a position means the same whenever it is told.
//!
//! The observer looks into both logs' indexes, which know what is durable and nothing else.

use std::collections::{BTreeMap, VecDeque};

use net::peer::message::Position;
use plog::index::{EntityIndex, Index};
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::{Boot, Violation};

/// Positions of a core that are kept in mind.
const KEPT: usize = 64;

/// What a core held as chosen at a position of it.
#[derive(Clone, Debug)]
struct Told {
    position: Position,
    chosen: BTreeMap<EntityId, Entry>,
}

/// See the module page.
#[derive(Clone, Debug, Default)]
pub(super) struct Lagging {
    told: BTreeMap<(u8, u16), VecDeque<Told>>,
}

impl Lagging {
    /// A core gives away a position. Of what it abstains it tells nothing.
    pub(super) fn told(
        &mut self,
        by: Boot,
        position: Position,
        index: &Index,
        abstains: impl Fn(EntityId) -> bool,
    ) -> Result<(), Violation> {
        let mut chosen = BTreeMap::new();
        index.walk_after(None, |entity, known| {
            if known.chosen() > Entry::ZERO && !abstains(entity) {
                chosen.insert(entity, known.chosen());
            }
            true
        });
        let told = self.told.entry((by.node, by.core)).or_default();
        if let Some(before) = told.iter_mut().find(|told| told.position == position) {
            let is_more =
                |(entity, now): (&EntityId, &Entry)| before.chosen.get(entity) < Some(now);
            if chosen.iter().any(is_more) {
                let what = format!("{by:?} tells {position:?} once more, and holds more by now");
                return Err(Violation::new("confirmed", what));
            }
            // What could not be read back since is told to nobody any more.
            before.chosen = chosen;
            return Ok(());
        }
        told.push_back(Told { position, chosen });
        if told.len() > KEPT {
            told.pop_front();
        }
        Ok(())
    }

    /// A core confirms a position of another one; `holds` says of which entities it has to hold
    /// all. How many were compared.
    pub(super) fn confirmed(
        &self,
        by: Boot,
        of: (u8, u16),
        position: Position,
        index: &Index,
        holds: impl Fn(EntityId) -> bool,
    ) -> Result<u64, Violation> {
        let told = self.told.get(&of).into_iter().flatten();
        let Some(told) = told.into_iter().find(|told| told.position == position) else {
            return Ok(0);
        };
        let mut compared = 0;
        for (entity, chosen) in told.chosen.iter().filter(|(entity, _)| holds(**entity)) {
            compared += 1;
            let held = index.get(*entity).map_or(Entry::ZERO, EntityIndex::contiguous_chosen);
            if held < *chosen {
                let what = format!(
                    "{by:?} confirms {position:?} of {of:?}, and holds {entity:?} durably up to \
                     {held:?} of {chosen:?}"
                );
                return Err(Violation::new("confirmed", what));
            }
        }
        Ok(compared)
    }
}

#[cfg(test)]
mod tests {
    use net::peer::message::Position;
    use plog::index::Index;
    use plog::location::Location;
    use plog::segment::SegmentId;
    use plog::summary::RecordSummary;
    use plog::vocabulary::{BootEpoch, EntityId, Entry};

    use super::Lagging;
    use crate::checkers::Boot;

    const TELLER: Boot = Boot { node: 1, core: 0, start: 3 };
    const OTHER: Boot = Boot { node: 2, core: 0, start: 1 };

    fn index(held: &[(u64, u64)]) -> Index {
        let mut index = Index::new(4);
        for (entity, applied) in held {
            let (entity, applied) = (EntityId(*entity), Entry(*applied));
            let summary = RecordSummary::Image { entity, applied, chain: None };
            index.note(&summary, Location::new(SegmentId(1), 4096, 64, 0));
        }
        index
    }

    #[test]
    fn less_than_was_told_must_not_be_confirmed() {
        let mut lagging = Lagging::default();
        let position = Position { boot: BootEpoch(3), mark: 5 };
        lagging
            .told(TELLER, position, &index(&[(1, 4), (2, 9), (3, 1)]), |id| id == EntityId(3))
            .unwrap();
        let confirmed = |held: &[(u64, u64)], but: u64| {
            lagging.confirmed(OTHER, (1, 0), position, &index(held), |id| id != EntityId(but))
        };
        assert_eq!(confirmed(&[(1, 4), (2, 10)], 0).unwrap(), 2);
        assert!(confirmed(&[(1, 3), (2, 10)], 0).is_err());
        assert!(confirmed(&[(2, 10)], 0).is_err());
        assert_eq!(confirmed(&[(2, 10)], 1).unwrap(), 1, "of 1 it holds nothing by right");
        let later = Position { boot: BootEpoch(4), ..position };
        let nothing = index(&[]);
        assert_eq!(lagging.confirmed(OTHER, (1, 0), later, &nothing, |_| true).unwrap(), 0);
    }

    #[test]
    fn a_position_must_not_come_to_mean_more() {
        let mut lagging = Lagging::default();
        let position = Position { boot: BootEpoch(3), mark: 5 };
        let mut told =
            |held: &[(u64, u64)]| lagging.told(TELLER, position, &index(held), |_| false);
        told(&[(1, 4), (2, 3)]).unwrap();
        told(&[(1, 4), (2, 3)]).unwrap();
        assert!(told(&[(1, 5), (2, 3)]).is_err());
        assert!(told(&[(1, 4), (2, 3), (3, 1)]).is_err());
        told(&[(1, 4)]).unwrap();
        let nothing_of_2 = index(&[(1, 4)]);
        let confirmed = lagging.confirmed(OTHER, (1, 0), position, &nothing_of_2, |_| true);
        assert_eq!(confirmed.unwrap(), 1, "2 was not told any more");
    }
}
