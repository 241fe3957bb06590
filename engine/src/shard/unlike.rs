//! Entities whose checksum chain differs from what peers named in sweeps.
//!
//! Two chains that differ do not say which one is wrong, and every sweep compares every pair of
//! replicas: if the first word were believed, one replica with a wrong copy would make all others
//! stop serving. So a replica stops serving an entity when so many of the others named another
//! chain at one entry that they make a majority without it: of these at least one has the right
//! copy, and with it all of them.

use std::collections::BTreeMap;

use net::peer::message::LaggingEntity;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

use crate::context::Event;
use crate::shard::loading::Parked;
use crate::shard::{Reach, Shard};
use crate::state_machine::StateMachine;

/// Entities kept in mind; those found beyond it are looked at again with a later sweep.
const UNLIKE_MAX: usize = 1024;

/// Who named another chain, of which entry: one bit for each acceptor.
#[derive(Debug, Default)]
pub(crate) struct Unlike {
    named: BTreeMap<EntityId, (Entry, u8)>,
}

impl Unlike {
    /// A peer named another chain. How many did of that entry, and whether this peer is new among
    /// them; `None` when there is no room for it.
    fn note(&mut self, id: EntityId, entry: Entry, peer: AcceptorId) -> Option<(usize, bool)> {
        let is_full = self.named.len() >= UNLIKE_MAX;
        if is_full && !self.named.contains_key(&id) {
            return None;
        }
        let (of, peers) = self.named.entry(id).or_default();
        if *of != entry {
            (*of, *peers) = (entry, 0);
        }
        let bit = 1 << peer.0;
        let is_new = *peers & bit == 0;
        *peers |= bit;
        Some((usize::try_from(peers.count_ones()).expect("few"), is_new))
    }

    /// In another configuration others count.
    pub(crate) fn clear(&mut self) {
        self.named.clear();
    }

    /// A peer showed the same chain: what it said before is over.
    fn agree(&mut self, id: EntityId, peer: AcceptorId) {
        if let Some((_, peers)) = self.named.get_mut(&id) {
            *peers &= !(1 << peer.0);
            if *peers == 0 {
                self.named.remove(&id);
            }
        }
    }

    /// What an earlier generation of a replica said, nobody says any more.
    pub(crate) fn forget(&mut self, member: AcceptorId) {
        for (_, peers) in self.named.values_mut() {
            *peers &= !(1 << member.0);
        }
        self.named.retain(|_, (_, peers)| *peers != 0);
    }
}

impl<M: StateMachine> Shard<M> {
    /// Compares the chain that a sweep showed with the own one of the same entry, if both know it.
    pub(super) fn compare_chain(&mut self, from: AcceptorId, lagging: &LaggingEntity) {
        let LaggingEntity { entity: id, chosen, chain } = *lagging;
        let Some(chain) = chain else { return };
        let known = self.context.log.index().get(id);
        let held = self.has(id, known);
        let own = if held.chosen == chosen {
            held.chain
        } else {
            known.and_then(|known| known.chain_at(chosen))
        };
        if own == Some(chain) {
            self.unlike.agree(id, from);
        }
        if own.is_none_or(|own| own == chain) {
            return;
        }
        self.context.counters.chains_unlike += 1;
        if !self.context.is_voter(from) {
            return;
        }
        let Some((peers, is_new)) = self.unlike.note(id, chosen, from) else { return };
        if is_new {
            let (entity, entry, member) = (id, chosen, from);
            self.context.events.push_back(Event::ChainDiffers { entity, entry, member });
        }
        if peers >= self.context.majority() {
            self.hear_of_another_history(id, chosen, chain);
        }
    }

    /// Makes an entity in memory pretend another history than it has, as a wrong copy would; for
    /// checkers of those who are to notice. Whether it is in memory.
    pub fn pretend_another_history(&mut self, id: EntityId) -> bool {
        self.entities.get_mut(id).map(crate::entity::Entity::pretend_another_history).is_some()
    }

    /// A majority without this replica has another chain at an entry.
    pub(super) fn hear_of_another_history(&mut self, id: EntityId, entry: Entry, chain: u32) {
        match self.reach(id) {
            Reach::Ready => self.with_entity(id, |entity, context| {
                entity.check_chain(context, entry, chain);
            }),
            Reach::Loading => self.park(id, Parked::OtherChain(entry, chain)),
            Reach::Absent | Reach::Abstaining => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::{AcceptorId, EntityId, Entry};

    use super::{UNLIKE_MAX, Unlike};

    const ONE: EntityId = EntityId(1);

    #[test]
    fn peers_count_once_each_and_for_one_entry_only() {
        let mut unlike = Unlike::default();
        assert_eq!(unlike.note(ONE, Entry(5), AcceptorId(1)), Some((1, true)));
        assert_eq!(unlike.note(ONE, Entry(5), AcceptorId(1)), Some((1, false)));
        assert_eq!(unlike.note(ONE, Entry(5), AcceptorId(2)), Some((2, true)));
        assert_eq!(unlike.note(ONE, Entry(6), AcceptorId(2)), Some((1, true)));
        unlike.forget(AcceptorId(2));
        assert_eq!(unlike.note(ONE, Entry(6), AcceptorId(1)), Some((1, true)));
        assert_eq!(unlike.note(ONE, Entry(6), AcceptorId(0)), Some((2, true)));
        unlike.agree(ONE, AcceptorId(1));
        assert_eq!(unlike.note(ONE, Entry(6), AcceptorId(2)), Some((2, true)));
        unlike.agree(ONE, AcceptorId(0));
        unlike.agree(ONE, AcceptorId(2));
        assert!(unlike.named.is_empty());
    }

    #[test]
    fn no_more_entities_are_kept_than_there_is_room_for() {
        let mut unlike = Unlike::default();
        for id in 0..UNLIKE_MAX {
            let id = EntityId(u64::try_from(id).unwrap());
            assert!(unlike.note(id, Entry(1), AcceptorId(1)).is_some());
        }
        assert_eq!(unlike.note(EntityId(u64::MAX), Entry(1), AcceptorId(1)), None);
        assert_eq!(unlike.note(ONE, Entry(1), AcceptorId(2)), Some((2, true)));
        unlike.forget(AcceptorId(1));
        assert_eq!(unlike.note(EntityId(u64::MAX), Entry(1), AcceptorId(1)), Some((1, true)));
    }
}
