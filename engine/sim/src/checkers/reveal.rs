//! *persist-before-reveal*: nothing that a message says of its sender's votes is more than its
//! disk holds, and nothing is called empty that the disk knows to be started.

use std::collections::BTreeSet;

use net::peer::message::{EntryMessage, LagAnswer, LagFound, PeerMessage, ReadOutcome};
use plog::entry_record::EntryRecord;
use plog::vocabulary::{Ballot, EntityId, Entry};

use crate::checkers::agreement::Agreement;
use crate::checkers::{Table, Violation};

/// What each node's disk was ever made to hold of an entry.
#[derive(Clone, Debug, Default)]
struct Held {
    promised: Ballot,
    accepted: BTreeSet<Ballot>,
}

/// See the module page.
#[derive(Clone, Debug, Default)]
pub(super) struct Reveal {
    held: Table<(u8, EntityId, Entry), Held>,
}

impl Reveal {
    pub(super) fn durable(
        &mut self,
        node: u8,
        entity: EntityId,
        entry: Entry,
        record: &EntryRecord,
    ) {
        let held = self.held.entry((node, entity, entry)).or_default();
        held.promised = held.promised.max(record.promised);
        if record.value_id.is_some() {
            held.accepted.insert(record.accepted);
        }
    }

    pub(super) fn message(
        &self,
        from: u8,
        message: &PeerMessage,
        agreement: &Agreement,
    ) -> Result<(), Violation> {
        let (entity, chosen) = match message {
            PeerMessage::Entry(message) => {
                self.votes(from, message)?;
                (message.entity, message.max_chosen)
            }
            PeerMessage::ReadAnswer(answer) => {
                if answer.outcome == ReadOutcome::Empty {
                    self.empty(from, answer.entity, answer.entry)?;
                }
                (answer.entity, answer.max_chosen.max(answer.applied))
            }
            PeerMessage::Newer(notice) => (notice.entity, notice.max_chosen),
            PeerMessage::Compared(answer) => (answer.entity, answer.applied),
            PeerMessage::CatchUpAnswer(answer) => (answer.entity, answer.max_chosen),
            PeerMessage::Image(image) => (image.entity, image.max_chosen),
            PeerMessage::ForwardAnswer(answer) => (answer.entity, answer.entry),
            PeerMessage::SweepAnswer(answer) => {
                for swept in &answer.entities {
                    known(from, swept.entity, swept.chosen, agreement)?;
                }
                return Ok(());
            }
            PeerMessage::LagAnswer(LagAnswer { found: LagFound::Page(page), .. }) => {
                for lagging in &page.entities {
                    known(from, lagging.entity, lagging.chosen, agreement)?;
                }
                return Ok(());
            }
            PeerMessage::Chosen(_)
            | PeerMessage::Lag(_)
            | PeerMessage::LagAnswer(_)
            | PeerMessage::Told(_)
            | PeerMessage::Follow(_)
            | PeerMessage::FollowAnswer(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Forward(_)
            | PeerMessage::Sweep(_)
            | PeerMessage::SweepHint
            | PeerMessage::Heartbeat
            | PeerMessage::Generations(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_)
            | PeerMessage::Transfer(_)
            | PeerMessage::TransferPage(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_) => return Ok(()),
        };
        known(from, entity, chosen, agreement)
    }

    fn votes(&self, from: u8, message: &EntryMessage) -> Result<(), Violation> {
        let mine = &message.mine;
        let nothing = Held::default();
        let key = (from, message.entity, message.entry);
        let held = self.held.get(&key).unwrap_or(&nothing);
        let shown = mine.promised <= held.promised
            && (mine.value_id.is_none() || mine.chosen || held.accepted.contains(&mine.accepted));
        if shown || mine.chosen {
            return Ok(());
        }
        let what = format!(
            "node {from} shows {mine:?} of {:?} {:?}; its disk holds {held:?}",
            message.entity, message.entry
        );
        Err(Violation::new("persist-before-reveal", what))
    }

    fn empty(&self, from: u8, entity: EntityId, entry: Entry) -> Result<(), Violation> {
        match self.held.get(&(from, entity, entry)) {
            Some(held) if !held.accepted.is_empty() => {
                let what =
                    format!("node {from} calls {entity:?} {entry:?} empty; it accepted there");
                Err(Violation::new("linearizable", what))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn forget(&mut self, node: u8, owns: impl Fn(EntityId) -> bool) {
        self.held.retain(|(of, entity, _), _| *of != node || !owns(*entity));
    }
}

/// Whoever says how far an entity is chosen must be right.
fn known(
    from: u8,
    entity: EntityId,
    chosen: Entry,
    agreement: &Agreement,
) -> Result<(), Violation> {
    if chosen == Entry::ZERO || agreement.chosen_at(entity, chosen).is_some() {
        return Ok(());
    }
    let what = format!("node {from} says that {entity:?} {chosen:?} is chosen; it is not");
    Err(Violation::new("agreement", what))
}

#[cfg(test)]
mod tests {
    use net::peer::message::{EntryMessage, PeerMessage, ReadAnswer, ReadOutcome};
    use plog::entry_record::EntryRecord;
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

    use super::Reveal;
    use crate::checkers::agreement::Agreement;

    fn record(round: u32) -> EntryRecord {
        let ballot = Ballot { round, epoch: BootEpoch(1), acceptor: AcceptorId(0) };
        let id = ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: 1 };
        let value_id = Some(id);
        EntryRecord { promised: ballot, accepted: ballot, value_id, ..EntryRecord::default() }
    }

    fn shows(mine: EntryRecord) -> PeerMessage {
        PeerMessage::Entry(EntryMessage {
            entity: EntityId(1),
            entry: Entry(1),
            mine,
            yours: EntryRecord::default(),
            request: None,
            values: Vec::new(),
            max_chosen: Entry::ZERO,
        })
    }

    #[test]
    fn a_vote_must_be_on_disk_before_it_is_shown() {
        let mut reveal = Reveal::default();
        let agreement = Agreement::new(plog::configuration::Configuration::initial(3), &[1; 5]);
        let early = reveal.message(1, &shows(record(1)), &agreement).unwrap_err();
        assert_eq!(early.invariant, "persist-before-reveal");
        reveal.durable(1, EntityId(1), Entry(1), &record(1));
        reveal.message(1, &shows(record(1)), &agreement).unwrap();
        assert!(reveal.message(1, &shows(record(2)), &agreement).is_err());
        assert!(reveal.message(2, &shows(record(1)), &agreement).is_err(), "another's disk");
    }

    #[test]
    fn a_started_entry_must_not_be_called_empty() {
        let mut reveal = Reveal::default();
        let answer = PeerMessage::ReadAnswer(ReadAnswer {
            entity: EntityId(1),
            entry: Entry(1),
            check: 1,
            outcome: ReadOutcome::Empty,
            max_chosen: Entry::ZERO,
            applied: Entry::ZERO,
            chain: 0,
        });
        let agreement = Agreement::new(plog::configuration::Configuration::initial(3), &[1; 5]);
        reveal.message(1, &answer, &agreement).unwrap();
        reveal.durable(1, EntityId(1), Entry(1), &record(1));
        assert!(reveal.message(1, &answer, &agreement).is_err());
    }
}
