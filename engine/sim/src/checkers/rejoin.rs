//! *rejoin*: who lost its votes does not vote before enough others told it what it must not vote
//! on, and never on what was chosen before the loss; and what is known of a later generation is
//! never forgotten.
//!
//! The observer saw what was chosen when the loss happened, which nobody else can know.

use std::collections::{BTreeMap, BTreeSet};

use net::peer::message::{PeerMessage, ReadOutcome};
use plog::log_record::LogRecord;
use plog::vocabulary::{EntityId, Entry, Generation};

use crate::checkers::agreement::Agreement;
use crate::checkers::votes::Known;
use crate::checkers::{Boot, Violation};

/// A core that lost its log and did not hear of it from enough others.
#[derive(Clone, Debug)]
struct Asking {
    generation: Generation,
    /// Whose last page it was sent, one bit each.
    answered: u8,
}

/// See the module page.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejoin {
    needed: u32,
    asking: BTreeMap<(u8, u16), Asking>,
    /// The last entry that was chosen when the node lost what it held of the entity.
    chosen: BTreeMap<(u8, EntityId), Entry>,
    said: BTreeMap<(u8, u16), Known>,
    /// Cores that lost something in whatever boot, for counting.
    pub(super) lost: BTreeSet<(u8, u16)>,
}

impl Rejoin {
    pub(super) fn new(replicas: usize) -> Self {
        let needed = u32::try_from(replicas / 2 + 1).expect("few replicas");
        Self { needed, ..Self::default() }
    }

    /// A core begins anew, in this generation, without what it held of the entities it owns.
    pub(super) fn lost(
        &mut self,
        (node, core): (u8, u16),
        generation: Generation,
        owns: impl Fn(EntityId) -> bool,
        agreement: &Agreement,
    ) {
        self.asking.insert((node, core), Asking { generation, answered: 0 });
        self.lost.insert((node, core));
        for (entity, last) in agreement.last_entries().filter(|(entity, _)| owns(*entity)) {
            self.chosen.insert((node, entity), last);
        }
    }

    /// A node lost its disks.
    pub(super) fn wiped(&mut self, node: u8) {
        self.said.retain(|(of, _), _| *of != node);
    }

    pub(super) fn written(&self, by: Boot, record: &LogRecord) -> Result<(), Violation> {
        let LogRecord::Entry { entity, entry, record, .. } = record else { return Ok(()) };
        if record.chosen {
            return Ok(());
        }
        self.votes(by, *entity, *entry)
    }

    fn votes(&self, by: Boot, entity: EntityId, entry: Entry) -> Result<(), Violation> {
        if let Some(asking) = self.asking.get(&(by.node, by.core))
            && asking.answered.count_ones() < self.needed
        {
            let what =
                format!("{by:?} votes on {entity:?} {entry:?}, and asked too few: {asking:?}");
            return Err(Violation::new("rejoin", what));
        }
        let chosen = self.chosen.get(&(by.node, entity)).copied().unwrap_or_default();
        if entry <= chosen {
            let what = format!(
                "{by:?} votes on {entity:?} {entry:?}, which was chosen before it lost its log"
            );
            return Err(Violation::new("rejoin", what));
        }
        Ok(())
    }

    /// A message leaves a core for a core of another node.
    pub(super) fn message(
        &mut self,
        from: Boot,
        to: (u8, u16),
        message: &PeerMessage,
    ) -> Result<(), Violation> {
        match message {
            PeerMessage::SweepAnswer(answer) => {
                // Another core's loss meanwhile makes the node's generation a later one.
                if let Some(asking) = self.asking.get_mut(&to)
                    && answer.done
                    && answer.counts_for >= Some(asking.generation)
                {
                    asking.answered |= 1 << from.node;
                }
                Ok(())
            }
            PeerMessage::Entry(message) if !message.mine.chosen => {
                self.votes(from, message.entity, message.entry)
            }
            PeerMessage::ReadAnswer(answer) if answer.outcome == ReadOutcome::Empty => {
                self.votes(from, answer.entity, answer.entry)
            }
            _ => Ok(()),
        }
    }

    /// What goes before a core's messages.
    pub(super) fn generations(&mut self, from: Boot, known: &Known) -> Result<(), Violation> {
        let said = self.said.entry((from.node, from.core)).or_default();
        if known.iter().zip(said.iter()).any(|(now, before)| now < before) {
            let what = format!("{from:?} knows generations {known:?}, and said {said:?} before");
            return Err(Violation::new("rejoin", what));
        }
        *said = *known;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use net::peer::message::{PeerMessage, SweepAnswer};
    use plog::entry_record::EntryRecord;
    use plog::log_record::{LogRecord, LoggedValue};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Generation};

    use super::Rejoin;
    use crate::checkers::Boot;
    use crate::checkers::agreement::Agreement;

    const BOOT: Boot = Boot { node: 0, core: 0, start: 4 };

    fn promise() -> LogRecord {
        let promised = Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(1) };
        let record = EntryRecord { promised, ..EntryRecord::default() };
        let (entity, entry) = (EntityId(1), Entry(1));
        LogRecord::Entry { entity, entry, record, value: LoggedValue::None }
    }

    #[test]
    fn a_vote_before_enough_answers_is_seen() {
        let mut rejoin = Rejoin::new(3);
        rejoin.written(BOOT, &promise()).unwrap();
        rejoin.lost((0, 0), Generation(1), |_| true, &Agreement::new(3));
        for (node, generation, is_fine) in
            [(1, 1, false), (1, 2, false), (2, 0, false), (2, 2, true)]
        {
            let counts_for = Some(Generation(generation));
            let (after, entities) = (None, Vec::new());
            let answer = SweepAnswer { after, entities, done: true, counts_for };
            let from = Boot { node, core: 0, start: 1 };
            rejoin.message(from, (0, 0), &PeerMessage::SweepAnswer(answer)).unwrap();
            assert_eq!(rejoin.written(BOOT, &promise()).is_ok(), is_fine);
        }
    }

    #[test]
    fn a_generation_that_is_forgotten_is_seen() {
        let mut rejoin = Rejoin::new(3);
        let known = [0, 1, 0, 0, 0].map(Generation);
        rejoin.generations(BOOT, &known).unwrap();
        rejoin.generations(Boot { start: 9, ..BOOT }, &known).unwrap();
        assert!(rejoin.generations(BOOT, &[Generation::FIRST; 5]).is_err());
        rejoin.wiped(0);
        rejoin.generations(BOOT, &[Generation::FIRST; 5]).unwrap();
    }
}
