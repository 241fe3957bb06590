//! *promise* and *monotonic*: what an acceptor's disk says of an entry never goes back, not across
//! restarts either.

use plog::entry_record::EntryRecord;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::{Table, Violation};

/// The newest record of each entry on each node's disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    records: Table<(u8, EntityId, Entry), EntryRecord>,
}

impl Promises {
    pub(super) fn durable(
        &mut self,
        node: u8,
        entity: EntityId,
        entry: Entry,
        record: &EntryRecord,
    ) -> Result<(), Violation> {
        let before = self.records.entry((node, entity, entry)).or_default();
        let broken = |name, what: &str| {
            let what = format!("node {node} {entity:?} {entry:?}: {what}: {before:?}, {record:?}");
            Err(Violation::new(name, what))
        };
        if before.chosen && (!record.chosen || record.value_id != before.value_id) {
            return broken("agreement", "a chosen value is forgotten");
        }
        if record.chosen {
            *before = *record;
            return Ok(());
        }
        if record.promised < before.promised {
            return broken("monotonic", "a promise goes back");
        }
        if record.accepted < before.accepted {
            return broken("monotonic", "an acceptance goes back");
        }
        let is_new = record.accepted > before.accepted;
        if is_new && record.accepted < before.promised {
            return broken("promise", "accepted below a promise");
        }
        *before = *record;
        Ok(())
    }

    pub(super) fn forget(&mut self, node: u8, owns: impl Fn(EntityId) -> bool) {
        self.records.retain(|(of, entity, _), _| *of != node || !owns(*entity));
    }
}

#[cfg(test)]
mod tests {
    use plog::entry_record::EntryRecord;
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

    use super::Promises;

    fn ballot(round: u32) -> Ballot {
        Ballot { round, epoch: BootEpoch(1), acceptor: AcceptorId(0) }
    }

    fn record(promised: u32, accepted: Option<u32>) -> EntryRecord {
        let id = ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: 1 };
        EntryRecord {
            promised: ballot(promised),
            accepted: accepted.map_or(Ballot::NONE, ballot),
            value_id: accepted.map(|_| id),
            ..EntryRecord::default()
        }
    }

    fn name(records: &[EntryRecord]) -> Option<&'static str> {
        let mut promises = Promises::default();
        let mut said = None;
        for record in records {
            said = promises.durable(0, EntityId(1), Entry(1), record).err();
        }
        said.map(|violation| violation.invariant)
    }

    #[test]
    fn what_the_disk_says_only_grows() {
        assert_eq!(name(&[record(1, None), record(2, Some(2)), record(3, Some(2))]), None);
        assert_eq!(name(&[record(2, None), record(1, None)]), Some("monotonic"));
        assert_eq!(name(&[record(2, Some(2)), record(3, None)]), Some("monotonic"));
        let mut below = record(5, Some(3));
        assert_eq!(name(&[record(5, None), below]), Some("promise"));
        below.chosen = true;
        assert_eq!(name(&[record(5, None), below]), None, "chosen is chosen, at any ballot");
        assert_eq!(name(&[below, record(6, None)]), Some("agreement"));
    }
}
