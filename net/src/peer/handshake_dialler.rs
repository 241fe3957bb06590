//! The dialling side of a handshake, which sends the connection's frames.

use crate::peer::handshake::{
    ANY_CORE, Collector, HANDSHAKE_SIZE, HandshakeError, Hello, Kind, LocalNode, PeerIdentity,
    Remembered, Role, VERSIONS, Welcome, check_remembered, kind_of,
};
use crate::peer::refusal::Refusal;

/// Whom a connection is meant to reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    /// The node.
    pub node_id: u8,
    /// Its core, or [`ANY_CORE`].
    pub core: u16,
}

/// What became of the bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DiallerStep {
    /// All bytes were taken; more are needed.
    Incomplete,
    /// Send frames from here on.
    Accepted {
        /// Who answered.
        identity: PeerIdentity,
        /// How many bytes were taken. Nothing should follow: an acceptor only receives.
        consumed: usize,
    },
}

/// Why there will be no connection. Close it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DiallerFailure {
    /// The other node refused.
    #[error("{0}")]
    RefusedByPeer(Refusal),
    /// This node refuses: the one that answered is not who it should be.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer is none.
    #[error("{0}")]
    Invalid(HandshakeError),
}

impl From<HandshakeError> for DiallerFailure {
    fn from(error: HandshakeError) -> Self {
        Self::Invalid(error)
    }
}

impl From<Refusal> for DiallerFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Sends a [`Hello`] and waits for the answer; one per connection.
#[derive(Clone, Debug)]
pub struct HandshakeDialler {
    local: LocalNode,
    target: Target,
    collector: Collector,
}

impl HandshakeDialler {
    /// A dialler for a connection that `local.core` of this node opened.
    ///
    /// # Panics
    ///
    /// When `local.core` is not below `local.core_count`, or the target is this node.
    #[must_use]
    pub fn new(local: LocalNode, target: Target) -> Self {
        assert!(local.core < local.core_count, "a node dials with a core it has");
        assert!(local.node_id != target.node_id, "a node does not dial itself");
        Self { local, target, collector: Collector::new() }
    }

    /// The bytes to send first.
    #[must_use]
    pub fn hello(&self) -> [u8; HANDSHAKE_SIZE] {
        let (version_min, version_max) = VERSIONS;
        Hello {
            version_min,
            version_max,
            sender: self.local,
            receiver_node_id: self.target.node_id,
            receiver_core: self.target.core,
        }
        .encode()
    }

    /// Takes bytes that arrived. `remembered` tells what is known about a node id.
    ///
    /// # Errors
    ///
    /// When either side refuses, or the other is no peer at all.
    pub fn handle_bytes(
        &mut self,
        input: &[u8],
        remembered: impl FnOnce(u8) -> Remembered,
    ) -> Result<DiallerStep, DiallerFailure> {
        let (consumed, message) = self.collector.take(input)?;
        let Some(bytes) = message else {
            return Ok(DiallerStep::Incomplete);
        };
        match kind_of(&bytes)? {
            Kind::Hello => Err(HandshakeError::UnexpectedKind { got: bytes[8] }.into()),
            Kind::Refusal => Err(DiallerFailure::RefusedByPeer(Refusal::decode(&bytes))),
            Kind::Welcome => {
                let identity = self.judge(&Welcome::decode(&bytes), remembered)?;
                Ok(DiallerStep::Accepted { identity, consumed })
            }
        }
    }

    fn judge(
        &self,
        welcome: &Welcome,
        remembered: impl FnOnce(u8) -> Remembered,
    ) -> Result<PeerIdentity, Refusal> {
        let node_id = welcome.node_id;
        let (oldest, newest) = VERSIONS;
        if !(oldest..=newest).contains(&welcome.version) {
            return Err(Refusal::Version {
                dialler_min: oldest,
                dialler_max: newest,
                acceptor_min: welcome.version,
                acceptor_max: welcome.version,
            });
        }
        if node_id != self.target.node_id {
            let (wanted, actual) = (self.target.node_id, node_id);
            return Err(Refusal::WrongReceiver { wanted, actual });
        }
        check_remembered(node_id, welcome.incarnation, welcome.boot_epoch, remembered(node_id))?;
        if welcome.core >= welcome.core_count {
            let (core, core_count) = (welcome.core, welcome.core_count);
            return Err(Refusal::PeerCore { node_id, core, core_count });
        }
        if self.target.core != ANY_CORE && welcome.core != self.target.core {
            let (wanted, actual) = (self.target.core, welcome.core);
            return Err(Refusal::OtherCore { node_id, wanted, actual });
        }
        Ok(PeerIdentity {
            version: welcome.version,
            node_id,
            incarnation: welcome.incarnation,
            boot_epoch: welcome.boot_epoch,
            core_count: welcome.core_count,
            core: welcome.core,
            local_core: self.local.core,
            role: Role::Replica,
        })
    }
}
