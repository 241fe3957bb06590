//! What a handshake has to know of the other side: whether, and in which life, it was met.
//!
//! Who dials asks it, and who is dialled: a peer that comes back with another incarnation has
//! forgotten what it promised, whoever called whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use net::peer::handshake::{PeerIdentity, Remembered};
use net::peer::refusal::Refusal;
use plog::vocabulary::{BootEpoch, Generation};

use crate::node::known_incarnations::KnownIncarnations;
use crate::reactor::node_shared::NodeShared;

/// What this node knows of its peers, over all its cores.
#[derive(Clone, Debug)]
pub(super) struct Acquaintances {
    known_incarnations: Arc<KnownIncarnations>,
    shared: Arc<NodeShared>,
}

impl Acquaintances {
    pub(super) fn new(known_incarnations: Arc<KnownIncarnations>, shared: Arc<NodeShared>) -> Self {
        Self { known_incarnations, shared }
    }

    /// The incarnation of `node_id` that was met first, if one was.
    pub(super) fn incarnation(&self, node_id: u8) -> Option<u128> {
        self.known_incarnations.lookup(node_id)
    }

    /// What this node knows of a peer that says who it is.
    pub(super) fn remembered(&self, node_id: u8) -> Remembered {
        let Some(peer) = self.shared.peers.get(usize::from(node_id)) else {
            return Remembered::Unknown;
        };
        self.known_incarnations.lookup(node_id).map_or(Remembered::NeverMet, |incarnation| {
            Remembered::Met { incarnation, boot_epoch: peer.boot_epoch.load(Ordering::Relaxed) }
        })
    }

    /// Remembers a peer's incarnation for ever, and its boot epoch while this node runs.
    pub(super) fn remember(&self, identity: &PeerIdentity) -> Result<(), String> {
        let PeerIdentity { node_id, incarnation, boot_epoch, .. } = *identity;
        let generation = BootEpoch(boot_epoch).generation();
        if generation > Generation::FIRST {
            return Err(format!(
                "node {node_id} was replaced: it is of generation {}, which this version cannot \
                 remember; upgrade this node",
                generation.0
            ));
        }
        let known = self
            .known_incarnations
            .remember(node_id, incarnation)
            .map_err(|error| error.to_string())?;
        if known != incarnation {
            let (remembered, got, generation) = (known, incarnation, Generation::FIRST.0);
            let refusal = Refusal::Incarnation { node_id, remembered, got, generation };
            return Err(refusal.to_string());
        }
        self.shared.peers[usize::from(node_id)].boot_epoch.fetch_max(boot_epoch, Ordering::Relaxed);
        Ok(())
    }
}
