//! What a handshake has to know of the other side: whether, and in which life, it was met.
//!
//! Who dials asks it, and who is dialled: a peer that comes back with another incarnation has
//! forgotten what it promised, whoever called whom. It is welcome only as a later generation, which
//! is durable here before it is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use net::peer::handshake::{PeerIdentity, Remembered};
use net::peer::refusal::Refusal;
use plog::vocabulary::{BootEpoch, Generation};

use crate::node::known_incarnations::{IncarnationError, KnownIncarnations, Meeting};
use crate::node::known_life::KnownLife;
use crate::reactor::node_shared::NodeShared;

/// What this node knows of its peers, over all its cores.
#[derive(Clone, Debug)]
pub(crate) struct Acquaintances {
    known_incarnations: Arc<KnownIncarnations>,
    shared: Arc<NodeShared>,
}

/// Why a peer that said who it is is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLetIn {
    /// It is told so.
    #[error("{0}")]
    Refused(Refusal),
    /// Who it is cannot be kept.
    #[error("{0}")]
    Failed(#[from] IncarnationError),
}

impl Acquaintances {
    pub(crate) fn new(known_incarnations: Arc<KnownIncarnations>, shared: Arc<NodeShared>) -> Self {
        Self { known_incarnations, shared }
    }

    /// The latest generation heard of each peer.
    pub(crate) fn generations(&self) -> [Generation; 5] {
        self.known_incarnations.generations()
    }

    /// What this node knows of a peer that says who it is.
    pub(crate) fn remembered(&self, node_id: u8) -> Remembered {
        let Some(peer) = self.shared.peers.get(usize::from(node_id)) else {
            return Remembered::Unknown;
        };
        let known = self.known_incarnations.lookup(node_id);
        let Some(KnownLife { incarnation: Some(incarnation), generation, .. }) = known else {
            return Remembered::NeverMet;
        };
        let seen = peer.boot_epoch.load(Ordering::Relaxed);
        Remembered::Met { incarnation, boot_epoch: seen.max(first_epoch(generation)) }
    }

    /// Remembers a peer's incarnation and generation for ever, and its boot epoch while this node
    /// runs.
    pub(crate) fn remember(&self, identity: &PeerIdentity) -> Result<(), NotLetIn> {
        let PeerIdentity { node_id, incarnation, boot_epoch, .. } = *identity;
        let Some(peer) = self.shared.peer(node_id) else {
            return Ok(()); // a follower promises nothing that a later life could break
        };
        let generation = BootEpoch(boot_epoch).generation();
        match self.known_incarnations.meet(node_id, incarnation, generation)? {
            Meeting::Welcome => {}
            Meeting::Unwelcome(life) => {
                return Err(NotLetIn::Refused(refusal(node_id, (incarnation, boot_epoch), life)));
            }
        }
        peer.boot_epoch.fetch_max(boot_epoch, Ordering::Relaxed);
        Ok(())
    }
}

fn first_epoch(generation: Generation) -> u32 {
    generation.epoch_before().0 + 1
}

/// Why a node that says so of itself is not let in by who knows `life` of it.
fn refusal(node_id: u8, (got, got_epoch): (u128, u32), life: KnownLife) -> Refusal {
    match life.incarnation.filter(|known| *known != got) {
        Some(remembered) => {
            Refusal::Incarnation { node_id, remembered, got, generation: life.heard.0 }
        }
        None => Refusal::BootEpoch { node_id, seen: first_epoch(life.heard), got: got_epoch },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use net::peer::handshake::{PeerIdentity, Remembered, Role};
    use net::peer::refusal::Refusal;
    use plog::vocabulary::Generation;

    use super::{Acquaintances, KnownIncarnations, NodeShared, NotLetIn};
    use crate::node::test_directory::TestDirectory;

    fn came(incarnation: u128, boot_epoch: u32) -> PeerIdentity {
        PeerIdentity {
            version: 1,
            node_id: 2,
            incarnation,
            boot_epoch,
            core_count: 1,
            core: 0,
            local_core: 0,
            role: Role::Replica,
        }
    }

    #[test]
    fn a_later_generation_is_let_in_and_who_comes_after_it_of_an_earlier_one_is_told_why_not() {
        let directory = TestDirectory::new();
        let known = Arc::new(KnownIncarnations::load(directory.path()).unwrap());
        let shared = Arc::new(NodeShared::new(1, 3));
        let peers = Acquaintances::new(Arc::clone(&known), shared);
        let epoch = |generation: u32, boot: u32| (generation << 20) + boot;
        assert_eq!(peers.remembered(2), Remembered::NeverMet);
        peers.remember(&came(7, 5)).unwrap();
        peers.remember(&came(8, epoch(1, 1))).unwrap();
        let met = Remembered::Met { incarnation: 8, boot_epoch: epoch(1, 1) };
        assert_eq!(peers.remembered(2), met);
        let refused = |identity| match peers.remember(&identity) {
            Err(NotLetIn::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        let told = Refusal::Incarnation { node_id: 2, remembered: 8, got: 7, generation: 1 };
        assert_eq!(refused(came(7, 6)), told);
        // What others said counts as much, over a restart, too.
        known.hear(2, Generation(3)).unwrap();
        let again = Arc::new(KnownIncarnations::load(directory.path()).unwrap());
        let peers = Acquaintances::new(again, Arc::new(NodeShared::new(1, 3)));
        assert_eq!(peers.remembered(2), met, "it was met as that");
        let Err(NotLetIn::Refused(refusal)) = peers.remember(&came(8, epoch(1, 9))) else {
            panic!("an older copy of itself");
        };
        let (seen, got) = (epoch(3, 1), epoch(1, 9));
        assert_eq!(refusal, Refusal::BootEpoch { node_id: 2, seen, got });
        peers.remember(&came(9, epoch(3, 1))).unwrap();
    }
}
