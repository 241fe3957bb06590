//! *abstain*: what may have lost promises says nothing of what it holds, asks for nothing, and
//! writes nothing.
//!
//! The observer saw the damage itself, and so also sees a start that forgets it.

use std::collections::BTreeSet;

use net::peer::message::{LagAnswer, LagFound, PeerMessage};
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::{Boot, Violation};

/// See the module page.
#[derive(Clone, Debug, Default)]
pub(super) struct Abstention {
    /// Cores whose log was found damaged, until they begin another.
    cores: BTreeSet<(u8, u16)>,
    /// Entities that could not be read back, in this boot of their core.
    entities: BTreeSet<(Boot, EntityId)>,
}

impl Abstention {
    pub(super) fn found_damaged(&mut self, boot: Boot) {
        self.cores.insert((boot.node, boot.core));
    }

    pub(super) fn unreadable(&mut self, boot: Boot, entity: EntityId) {
        self.entities.insert((boot, entity));
    }

    pub(super) fn forget(&mut self, node: u8, core: u16) {
        self.cores.remove(&(node, core));
        self.entities.retain(|(boot, _)| (boot.node, boot.core) != (node, core));
    }

    fn is_whole_core(&self, boot: Boot) -> bool {
        self.cores.contains(&(boot.node, boot.core))
    }

    /// Whether the core may have lost what it would have to tell one that rejoins.
    fn says_too_little(&self, boot: Boot) -> bool {
        self.is_whole_core(boot) || self.entities.iter().any(|(of, _)| *of == boot)
    }

    fn covers(&self, boot: Boot, entity: EntityId) -> bool {
        self.is_whole_core(boot) || self.entities.contains(&(boot, entity))
    }

    /// A core's log gets a record.
    pub(super) fn written(&self, boot: Boot, entity: EntityId) -> Result<(), Violation> {
        if self.covers(boot, entity) {
            let what = format!("{boot:?} writes a record of {entity:?}, of which it abstains");
            return Err(Violation::new("abstain", what));
        }
        Ok(())
    }

    pub(super) fn message(&self, from: Boot, message: &PeerMessage) -> Result<(), Violation> {
        let reveals = match message {
            PeerMessage::Heartbeat
            | PeerMessage::Forward(_)
            | PeerMessage::Generations(_)
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_) => false,
            PeerMessage::ForwardAnswer(answer) => {
                answer.reply.is_some() && self.covers(from, answer.entity)
            }
            PeerMessage::CatchUpAnswer(answer) => {
                let is_empty = answer.entries.is_empty() && answer.max_chosen == Entry::ZERO;
                !is_empty && self.covers(from, answer.entity)
            }
            PeerMessage::SweepAnswer(answer) => {
                answer
                    .entities
                    .iter()
                    .any(|swept| swept.chosen > Entry::ZERO && self.covers(from, swept.entity))
                    || answer.counts_for.is_some() && self.says_too_little(from)
            }
            PeerMessage::LagAnswer(LagAnswer { found: LagFound::Page(page), .. }) => {
                page.entities.iter().any(|lagging| self.covers(from, lagging.entity))
            }
            // That it abstains it may say, and of the others what it holds.
            PeerMessage::LagAnswer(answer) => {
                answer.found != LagFound::Abstains && self.is_whole_core(from)
            }
            PeerMessage::Sweep(_)
            | PeerMessage::SweepHint
            | PeerMessage::Lag(_)
            | PeerMessage::Transfer(_)
            | PeerMessage::Follow(_) => self.is_whole_core(from),
            PeerMessage::TransferPage(page) => page.next.is_some() && self.is_whole_core(from),
            // Of what it cannot read it tells nothing, and so a follower would miss it.
            PeerMessage::FollowAnswer(answer) => {
                answer.stream.is_some() && self.says_too_little(from)
            }
            PeerMessage::Entry(_)
            | PeerMessage::Chosen(_)
            | PeerMessage::Newer(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::ReadAnswer(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Compared(_)
            | PeerMessage::Copy(_)
            | PeerMessage::Told(_)
            | PeerMessage::Image(_) => {
                message.entity().is_some_and(|entity| self.covers(from, entity))
            }
        };
        if reveals {
            let what = format!("{from:?} abstains, and says {message:?}");
            return Err(Violation::new("abstain", what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use net::peer::message::{
        CatchUpAnswer, ForwardAnswer, LagAnswer, LagFound, LagPage, LaggingEntity, NewerNotice,
        PeerMessage, SweepAnswer, SweptEntity,
    };
    use plog::vocabulary::{EntityId, Entry};

    use super::Abstention;
    use crate::checkers::Boot;

    const BOOT: Boot = Boot { node: 1, core: 0, start: 3 };
    const ENTITY: EntityId = EntityId(7);

    fn newer(entity: EntityId) -> PeerMessage {
        PeerMessage::Newer(NewerNotice { entity, max_chosen: Entry(1) })
    }

    fn swept(chosen: Entry) -> PeerMessage {
        let entities = vec![SweptEntity { entity: ENTITY, chosen, last: chosen }];
        let counts_for = None;
        PeerMessage::SweepAnswer(SweepAnswer { after: None, entities, done: true, counts_for })
    }

    #[test]
    fn a_damaged_core_may_say_only_that_it_has_nothing_in_every_later_boot_too() {
        let mut abstention = Abstention::default();
        abstention.message(BOOT, &newer(ENTITY)).unwrap();
        abstention.found_damaged(BOOT);
        let later = Boot { start: 9, ..BOOT };
        for boot in [BOOT, later] {
            assert!(abstention.message(boot, &newer(ENTITY)).is_err());
            assert!(abstention.message(boot, &swept(Entry(1))).is_err());
            assert!(abstention.message(boot, &PeerMessage::SweepHint).is_err());
            assert!(abstention.written(boot, ENTITY).is_err());
            let (entity, max_chosen) = (ENTITY, Entry::ZERO);
            let nothing = CatchUpAnswer { entity, entries: Vec::new(), max_chosen };
            abstention.message(boot, &PeerMessage::CatchUpAnswer(nothing)).unwrap();
            for (reply, is_fine) in [(None, true), (Some(vec![1]), false)] {
                let answer = ForwardAnswer { forward: 1, entity, reply, entry: Entry::ZERO };
                let said = abstention.message(boot, &PeerMessage::ForwardAnswer(answer));
                assert_eq!(said.is_ok(), is_fine);
            }
        }
        abstention.message(Boot { core: 1, ..BOOT }, &newer(ENTITY)).unwrap();
        abstention.forget(1, 0);
        abstention.message(later, &newer(ENTITY)).unwrap();
    }

    #[test]
    fn of_who_lags_a_damaged_core_says_only_that_it_abstains() {
        let lagging = LaggingEntity { entity: ENTITY, chosen: Entry(1), chain: None };
        let page = LagPage { entities: vec![lagging], from: 0, next: None, left: None };
        let said = |found| PeerMessage::LagAnswer(LagAnswer { question: 1, to: None, found });
        let mut abstention = Abstention::default();
        abstention.message(BOOT, &said(LagFound::Page(page.clone()))).unwrap();
        abstention.unreadable(BOOT, ENTITY);
        assert!(abstention.message(BOOT, &said(LagFound::Page(page))).is_err());
        abstention.message(BOOT, &said(LagFound::Unknown)).unwrap();
        abstention.found_damaged(BOOT);
        assert!(abstention.message(BOOT, &said(LagFound::Unknown)).is_err());
        abstention.message(BOOT, &said(LagFound::Abstains)).unwrap();
    }

    #[test]
    fn an_unreadable_entity_abstains_alone_and_in_that_boot() {
        let mut abstention = Abstention::default();
        let (after, entities) = (None, Vec::new());
        let counts_for = Some(plog::vocabulary::Generation(1));
        let counted =
            PeerMessage::SweepAnswer(SweepAnswer { after, entities, done: true, counts_for });
        abstention.message(BOOT, &counted).unwrap();
        abstention.unreadable(BOOT, ENTITY);
        assert!(abstention.message(BOOT, &counted).is_err(), "it cannot tell all");
        assert!(abstention.message(BOOT, &newer(ENTITY)).is_err());
        assert!(abstention.message(BOOT, &swept(Entry(1))).is_err());
        abstention.message(BOOT, &swept(Entry::ZERO)).unwrap();
        abstention.message(BOOT, &newer(EntityId(8))).unwrap();
        abstention.message(BOOT, &PeerMessage::SweepHint).unwrap();
        abstention.written(BOOT, EntityId(8)).unwrap();
        abstention.message(Boot { start: 4, ..BOOT }, &newer(ENTITY)).unwrap();
    }
}
