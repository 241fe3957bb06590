//! The accepting side of a handshake, which receives the connection's frames.

use crate::peer::handshake::{
    ANY_CORE, Collector, HANDSHAKE_SIZE, HandshakeError, Hello, Kind, LocalNode, PeerIdentity,
    Remembered, Role, VERSIONS, Welcome, check_remembered, kind_of,
};
use crate::peer::refusal::Refusal;

/// What became of the bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AcceptorStep {
    /// All bytes were taken; more are needed.
    Incomplete,
    /// Send `answer`, then receive frames.
    Accepted {
        /// Who dialled.
        identity: PeerIdentity,
        /// The bytes to send.
        answer: [u8; HANDSHAKE_SIZE],
        /// How many bytes were taken; what follows them belongs to the first frame.
        consumed: usize,
    },
}

/// Why there will be no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AcceptorFailure {
    /// Send [`AcceptorFailure::answer`], then close.
    #[error("{0}")]
    Refused(Refusal),
    /// Close: there is no use in answering.
    #[error("{0}")]
    Invalid(HandshakeError),
}

impl AcceptorFailure {
    /// The bytes to send before closing, if any.
    #[must_use]
    pub fn answer(&self) -> Option<[u8; HANDSHAKE_SIZE]> {
        match self {
            Self::Refused(refusal) => Some(refusal.encode()),
            Self::Invalid(_) => None,
        }
    }
}

impl From<HandshakeError> for AcceptorFailure {
    fn from(error: HandshakeError) -> Self {
        Self::Invalid(error)
    }
}

impl From<Refusal> for AcceptorFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Waits for a [`Hello`] and answers it; one per connection.
#[derive(Clone, Debug)]
pub struct HandshakeAcceptor {
    local: LocalNode,
    collector: Collector,
}

impl HandshakeAcceptor {
    /// An acceptor for a connection that `local.core` of this node accepted.
    ///
    /// # Panics
    ///
    /// When `local.core` is not below `local.core_count`.
    #[must_use]
    pub fn new(local: LocalNode) -> Self {
        assert!(local.core < local.core_count, "a node accepts with a core it has");
        Self { local, collector: Collector::new() }
    }

    /// Takes bytes that arrived. `remembered` tells what is known about a node id.
    ///
    /// # Errors
    ///
    /// When the dialler is refused, or is no peer at all.
    pub fn handle_bytes(
        &mut self,
        input: &[u8],
        remembered: impl FnOnce(u8) -> Remembered,
    ) -> Result<AcceptorStep, AcceptorFailure> {
        let (consumed, message) = self.collector.take(input)?;
        let Some(bytes) = message else {
            return Ok(AcceptorStep::Incomplete);
        };
        if kind_of(&bytes)? != Kind::Hello {
            return Err(HandshakeError::UnexpectedKind { got: bytes[8] }.into());
        }
        let (identity, welcome) = self.judge(&Hello::decode(&bytes), remembered)?;
        Ok(AcceptorStep::Accepted { identity, answer: welcome.encode(), consumed })
    }

    fn judge(
        &self,
        hello: &Hello,
        remembered: impl FnOnce(u8) -> Remembered,
    ) -> Result<(PeerIdentity, Welcome), Refusal> {
        let local = &self.local;
        let sender = &hello.sender;
        let node_id = sender.node_id;
        let (oldest, newest) = VERSIONS;
        let version = newest.min(hello.version_max);
        if version < oldest.max(hello.version_min) {
            return Err(Refusal::Version {
                dialler_min: hello.version_min,
                dialler_max: hello.version_max,
                acceptor_min: oldest,
                acceptor_max: newest,
            });
        }
        if sender.cluster_id != local.cluster_id {
            let (expected, got) = (local.cluster_id, sender.cluster_id);
            return Err(Refusal::Cluster { expected, got });
        }
        if hello.receiver_node_id != local.node_id {
            let (wanted, actual) = (hello.receiver_node_id, local.node_id);
            return Err(Refusal::WrongReceiver { wanted, actual });
        }
        if node_id == local.node_id {
            return Err(Refusal::OwnId { node_id });
        }
        // A follower promises nothing, so that of its earlier lives nothing need be known.
        let is_follower = sender.role.is_follower();
        if is_follower && node_id < local.replicas {
            return Err(Refusal::FollowerId { node_id, replicas: local.replicas });
        }
        if is_follower && local.role.is_follower() {
            return Err(Refusal::NotAReplica { node_id: local.node_id });
        }
        let remembered = if is_follower { Remembered::NeverMet } else { remembered(node_id) };
        if remembered == Remembered::Unknown {
            return Err(Refusal::UnknownNode { node_id });
        }
        if sender.replicas != local.replicas {
            return Err(Refusal::Replicas { expected: local.replicas, got: sender.replicas });
        }
        let changes = |role| matches!(role, Role::Member { .. });
        if !is_follower && !local.role.is_follower() && changes(sender.role) != changes(local.role)
        {
            return Err(Refusal::Membership { node_id, changes: changes(sender.role) });
        }
        check_remembered(node_id, sender.incarnation, sender.boot_epoch, remembered)?;
        if sender.core >= sender.core_count {
            let (core, core_count) = (sender.core, sender.core_count);
            return Err(Refusal::PeerCore { node_id, core, core_count });
        }
        let local_core =
            if hello.receiver_core == ANY_CORE { local.core } else { hello.receiver_core };
        if local_core >= local.core_count {
            let core_count = local.core_count;
            return Err(Refusal::ReceiverCore { core: local_core, core_count });
        }
        let identity = PeerIdentity {
            version,
            node_id,
            incarnation: sender.incarnation,
            boot_epoch: sender.boot_epoch,
            core_count: sender.core_count,
            core: sender.core,
            local_core,
            role: sender.role,
        };
        let welcome = Welcome {
            version,
            node_id: local.node_id,
            incarnation: local.incarnation,
            boot_epoch: local.boot_epoch,
            core_count: local.core_count,
            core: local_core,
        };
        Ok((identity, welcome))
    }
}
