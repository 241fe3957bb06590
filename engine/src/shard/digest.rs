//! What this core holds of a range of entities, summed up in one number.
//!
//! Two cores walk their entities in the same order and leave out those that the other one does not
//! own, so equal holdings give equal digests. What it costs is a look into the index for each
//! entity; nothing is read from disk.

use net::peer::message::{LagCursor, LagFound, LagPage, LagRange, LagRequest, LaggingEntity};
use net::resp::slot::shard_of;
use net::resp::stable_hash::stable_hash;
use plog::index::{EntityIndex, Index};
use plog::planted;
use plog::vocabulary::{EntityId, Entry};

use crate::shard::lag::PAGE;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;

/// Entities in the first range of a walk, and after one that differs: its page shows all of them.
pub(super) const RANGE_LEAST: usize = PAGE;

/// A range grows up to this while ranges are equal: clients wait for its walk, on each side.
pub(super) const RANGE_MOST: usize = 1024;

/// What a replica holds of an entity, as far as that is known without reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) chosen: Entry,
    /// The checksum chain there.
    pub(super) chain: Option<u32>,
}

/// The digest of a range. Entities of which nothing is chosen are no part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest {
    /// Of (entity, chosen).
    pub(super) digest: u64,
    /// Of (entity, chosen, chain); `None` once a chain is not known.
    pub(super) chains: Option<u64>,
}

impl Default for Digest {
    fn default() -> Self {
        Self { digest: 0, chains: Some(0) }
    }
}

impl Digest {
    pub(super) fn add(&mut self, entity: EntityId, held: Held) {
        if held.chosen == Entry::ZERO {
            return;
        }
        let mut bytes = [0; 28];
        bytes[8..16].copy_from_slice(&entity.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&held.chosen.0.to_le_bytes());
        bytes[..8].copy_from_slice(&self.digest.to_le_bytes());
        self.digest = stable_hash(&bytes[..24]);
        self.chains = self.chains.zip(held.chain).map(|(chains, chain)| {
            bytes[..8].copy_from_slice(&chains.to_le_bytes());
            bytes[24..].copy_from_slice(&chain.to_le_bytes());
            stable_hash(&bytes)
        });
    }

    /// In how far an asker's range holds the same, if it does.
    fn compare(&self, asked: &LagRange) -> Option<LagFound> {
        if self.digest != asked.digest {
            return None;
        }
        let (Some(chains), Some(of_asker)) = (self.chains, asked.chains) else {
            return Some(LagFound::EqualWithoutChains);
        };
        let is_equal = chains == of_asker || planted!("digest-without-chain");
        is_equal.then_some(LagFound::Equal)
    }
}

impl<M: StateMachine> Shard<M> {
    /// Up to where this replica has all values of an entity: as [`Shard::known_chosen`], with the
    /// chain.
    pub(super) fn has(&self, id: EntityId, known: Option<&EntityIndex>) -> Held {
        match self.entities.get(id) {
            Some(entity) => {
                let chain = (!entity.has_diverged()).then(|| entity.chain());
                Held { chosen: entity.applied(), chain }
            }
            None => {
                let chosen = known.map_or(Entry::ZERO, EntityIndex::contiguous_chosen);
                let chain = known.and_then(|known| known.chain_at(chosen));
                Held { chosen, chain }
            }
        }
    }

    /// What this replica tells others that it holds of an entity.
    pub(super) fn tells(&self, id: EntityId, known: &EntityIndex) -> Held {
        if self.abstaining.covers(id) {
            return Held { chosen: Entry::ZERO, chain: None };
        }
        let logged = known.chosen();
        match self.entities.get(id) {
            // Memory may be ahead of what is durable, or behind what came out of order.
            Some(entity) if entity.applied() >= logged => self.has(id, Some(known)),
            Some(_) | None => Held { chosen: logged, chain: known.chain_at(logged) },
        }
    }

    /// What this core holds of the next entities after `after` that `peer`, one of `peer_cores`,
    /// owns, too; up to `limit` are looked at.
    pub(super) fn range_after(
        &self,
        peer: PeerCore,
        peer_cores: u16,
        after: Option<EntityId>,
        limit: usize,
    ) -> LagRange {
        let (mut looked_at, mut last) = (0, None);
        let mut digest = Digest::default();
        self.context.log.index().walk_after(after, |id, known| {
            if shard_of(id, peer_cores) == peer.core {
                digest.add(id, self.has(id, Some(known)));
            }
            (looked_at, last) = (looked_at + 1, Some(id));
            looked_at < limit
        });
        LagRange {
            after,
            last: last.filter(|_| looked_at == limit),
            entities: u32::try_from(looked_at).expect("a range is small"),
            core_count: peer_cores,
            digest: digest.digest,
            chains: digest.chains,
        }
    }

    /// Whether this core holds the same of a range as the asker; if not, what it holds of the
    /// range's beginning.
    pub(super) fn compare_range(
        &self,
        from: PeerCore,
        request: &LagRequest,
        range: &LagRange,
    ) -> LagFound {
        let is_shared = |id| shard_of(id, request.core_count) == from.core;
        let is_beyond = |id| range.last.is_some_and(|last| Index::comes_after(id, last));
        let asked = usize::try_from(range.entities).expect("32 bits fit a usize");
        let limit = 2 * asked.min(RANGE_MOST) + PAGE;
        let (mut looked_at, mut fits) = (0, range.core_count == self.context.config.core_count);
        let mut digest = Digest::default();
        let index = self.context.log.index();
        index.walk_after(range.after, |id, known| {
            if is_beyond(id) {
                return false;
            }
            if is_shared(id) {
                digest.add(id, self.tells(id, known));
            }
            looked_at += 1;
            fits &= looked_at <= limit;
            fits
        });
        if fits && let Some(equal) = digest.compare(range) {
            return equal;
        }
        // The walk ends with the range, with the page, or with this core's entities.
        let (mut looked_at, mut entities) = (0, Vec::new());
        let mut next = range.last.map(|last| LagCursor::After(Some(last)));
        index.walk_after(range.after, |id, known| {
            if is_beyond(id) {
                return false;
            }
            let held = self.tells(id, known);
            if is_shared(id) && held.chosen > Entry::ZERO {
                let Held { chosen, chain } = held;
                entities.push(LaggingEntity { entity: id, chosen, chain });
            }
            looked_at += 1;
            let goes_on = entities.len() < PAGE && looked_at < limit;
            if !goes_on {
                next = Some(LagCursor::After(Some(id)));
            }
            goes_on
        });
        LagFound::Page(LagPage { entities, from: 0, next, left: None })
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::{EntityId, Entry};

    use super::{Digest, Held};

    fn digest(held: &[(u64, u64, Option<u32>)]) -> Digest {
        let mut digest = Digest::default();
        for (entity, chosen, chain) in held {
            digest.add(EntityId(*entity), Held { chosen: Entry(*chosen), chain: *chain });
        }
        digest
    }

    #[test]
    fn whatever_differs_makes_another_digest() {
        let one = digest(&[(1, 5, Some(7)), (2, 6, Some(8))]);
        assert_eq!(one, digest(&[(1, 5, Some(7)), (9, 0, None), (2, 6, Some(8))]), "9 is empty");
        for other in [
            digest(&[(1, 5, Some(7))]),
            digest(&[(1, 5, Some(7)), (2, 7, Some(8))]),
            digest(&[(1, 5, Some(7)), (3, 6, Some(8))]),
            digest(&[(2, 6, Some(8)), (1, 5, Some(7))]),
            digest(&[(1, 6, Some(7)), (2, 5, Some(8))]),
        ] {
            assert!(one.digest != other.digest && one.chains != other.chains);
        }
        let other_chain = digest(&[(1, 5, Some(7)), (2, 6, Some(9))]);
        assert_eq!(one.digest, other_chain.digest);
        assert_ne!(one.chains, other_chain.chains);
        let unknown = digest(&[(1, 5, None), (2, 6, Some(8))]);
        assert_eq!((unknown.digest, unknown.chains), (one.digest, None));
    }

    #[test]
    fn a_digest_is_the_same_on_every_machine_and_in_every_version() {
        let digest = digest(&[(0x2f96_00a8_59c4_ba3f, 3, Some(0xc0de))]);
        let mut bytes = [0; 28];
        bytes[8..16].copy_from_slice(&0x2f96_00a8_59c4_ba3f_u64.to_le_bytes());
        bytes[16] = 3;
        bytes[24..26].copy_from_slice(&0xc0de_u16.to_le_bytes());
        assert_eq!(digest.digest, net::resp::stable_hash::stable_hash(&bytes[..24]));
        assert_eq!(digest.chains, Some(net::resp::stable_hash::stable_hash(&bytes)));
    }
}
