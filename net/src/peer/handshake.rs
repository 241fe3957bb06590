//! How two nodes get to know each other before the first frame.
//!
//! A connection carries frames in one direction only: the dialler sends, the acceptor receives.
//! The dialler opens with a [`Hello`]; the acceptor answers with a [`Welcome`] or with a
//! [`Refusal`], after which both close. All three take [`HANDSHAKE_SIZE`] bytes of fixed layout
//! with a checksum, so neither side ever has to guess how much to read; the layout of `Hello` and
//! `Refusal` is the same in every version, which is what lets versions be told apart at all.
//!
//! What is checked, in this order, protects the data: two clusters never mix, a node never takes
//! the place of another, and a node that lost what it promised (another data directory, or an older
//! copy of it) is not heard.

use plog::planted;
use plog::vocabulary::BootEpoch;

use crate::peer::frame::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, u16_at, u32_at, u64_at, u128_at};
pub use crate::peer::handshake_acceptor::{AcceptorFailure, AcceptorStep, HandshakeAcceptor};
pub use crate::peer::handshake_dialler::{DiallerFailure, DiallerStep, HandshakeDialler, Target};
pub use crate::peer::refusal::Refusal;

/// First bytes of every handshake message.
pub const HANDSHAKE_MAGIC: [u8; 8] = *b"CERTPEER";

/// Size of every handshake message, in bytes.
pub const HANDSHAKE_SIZE: usize = 56;

/// In [`Hello::receiver_core`]: any core, only tell how many there are.
pub const ANY_CORE: u16 = u16::MAX;

/// Where the checksum stands.
const CHECKSUM_OFFSET: usize = 52;

/// What a node is to the others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// A member of the replica set: it votes.
    #[default]
    Replica,
    /// The same, of a set whose members change. So that those can speak to it whose configuration
    /// does not name it, or names where it was before, it says where it listens.
    Member {
        /// As for a follower.
        peer_port: u16,
    },
    /// It only learns. Its id is outside of the replica set.
    Follower {
        /// Where its core 0 listens for replicas, at the address that it dials from; not 0. Core j
        /// listens on the port + j.
        peer_port: u16,
    },
}

/// Set in the byte of the replica set's size by members of a set whose members change.
const MEMBERSHIP_CHANGES: u8 = 0x80;

impl Role {
    /// What it adds to the size of the replica set in a [`Hello`], and its two bytes.
    fn to_wire(self) -> (u8, u16) {
        match self {
            Self::Replica => (0, 0),
            Self::Member { peer_port } => (MEMBERSHIP_CHANGES, peer_port),
            Self::Follower { peer_port } => (0, peer_port),
        }
    }

    fn from_wire(replicas: u8, peer_port: u16) -> Self {
        match (replicas & MEMBERSHIP_CHANGES, peer_port) {
            (0, 0) => Self::Replica,
            (0, peer_port) => Self::Follower { peer_port },
            (_, peer_port) => Self::Member { peer_port },
        }
    }

    /// Whether it votes, or may come to.
    #[must_use]
    pub fn is_follower(self) -> bool {
        matches!(self, Self::Follower { .. })
    }
}

/// What a node tells about itself in a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalNode {
    /// The cluster, the same on all its nodes.
    pub cluster_id: u64,
    /// This node.
    pub node_id: u8,
    /// Size of the replica set.
    pub replicas: u8,
    /// Made at random when the data directory was made: names its content.
    pub incarnation: u128,
    /// Counts the node's starts.
    pub boot_epoch: u32,
    /// How many cores own entities, at least 1.
    pub core_count: u16,
    /// The core that dials or accepts.
    pub core: u16,
    /// What it is to the others.
    pub role: Role,
}

/// What a node already knows about another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remembered {
    /// The configuration does not name it.
    Unknown,
    /// The configuration names it, but it was never met.
    NeverMet,
    /// It was met before.
    Met {
        /// Its data directory.
        incarnation: u128,
        /// The latest boot epoch seen.
        boot_epoch: u32,
    },
}

/// Who is at the other end, after a handshake that succeeded. Remember `incarnation` and
/// `boot_epoch` durably for the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerIdentity {
    /// The version both speak on this connection.
    pub version: u16,
    /// The node.
    pub node_id: u8,
    /// Its data directory.
    pub incarnation: u128,
    /// Its start.
    pub boot_epoch: u32,
    /// How many of its cores own entities.
    pub core_count: u16,
    /// Its core at the other end of this connection.
    pub core: u16,
    /// This node's core that the connection is for: on the acceptor's side the core the dialler
    /// wants, which is not always the one that accepted.
    pub local_core: u16,
    /// What it is, if it dialled; whoever was dialled is what it was dialled as.
    pub role: Role,
}

/// What the dialler opens with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Oldest version the dialler speaks.
    pub version_min: u16,
    /// Newest version the dialler speaks.
    pub version_max: u16,
    /// Who the dialler is, and which of its cores dials.
    pub sender: LocalNode,
    /// The node the dialler means to reach.
    pub receiver_node_id: u8,
    /// The core it means to reach, or [`ANY_CORE`].
    pub receiver_core: u16,
}

/// The acceptor's consent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The version for this connection.
    pub version: u16,
    /// The acceptor.
    pub node_id: u8,
    /// Its data directory.
    pub incarnation: u128,
    /// Its start.
    pub boot_epoch: u32,
    /// How many of its cores own entities.
    pub core_count: u16,
    /// The core that the connection is for.
    pub core: u16,
}

/// The kinds of handshake messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Hello,
    Welcome,
    Refusal,
}

/// Why bytes are no handshake message. There is nobody to explain it to: close the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// The other side is something else.
    #[error(
        "the other side is not a Certus peer: its first bytes are \"{}\"; \
         check that the address and port belong to a peer port, not a client or admin port",
        got[..*received].escape_ascii()
    )]
    NotAPeer {
        /// The first bytes; those not received are 0.
        got: [u8; 8],
        /// How many were received.
        received: usize,
    },
    /// Damaged on the way.
    #[error(
        "the handshake was damaged on the way: its checksum is {got:#010x}, its bytes give \
         {computed:#010x}; the connection is closed and will be tried again"
    )]
    Checksum {
        /// The checksum received.
        got: u32,
        /// The checksum of the bytes received.
        computed: u32,
    },
    /// Not what is expected at this point.
    #[error(
        "a handshake message of kind {got} came where it makes no sense; check that no proxy joins \
         two peers' outgoing connections"
    )]
    UnexpectedKind {
        /// The kind's byte.
        got: u8,
    },
}

/// The versions that this code speaks, oldest and newest.
pub(crate) const VERSIONS: (u16, u16) = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION);

/// Collects one handshake message from bytes that arrive cut anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    bytes: [u8; HANDSHAKE_SIZE],
    received: usize,
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; HANDSHAKE_SIZE], received: 0 }
    }

    /// Takes what it needs of `input` and says how much; the message once it is whole. Bytes that
    /// cannot become a message are refused at the first one.
    pub(crate) fn take(
        &mut self,
        input: &[u8],
    ) -> Result<(usize, Option<[u8; HANDSHAKE_SIZE]>), HandshakeError> {
        let count = input.len().min(HANDSHAKE_SIZE - self.received);
        self.bytes[self.received..self.received + count].copy_from_slice(&input[..count]);
        self.received += count;
        let received = self.received.min(HANDSHAKE_MAGIC.len());
        if self.bytes[..received] != HANDSHAKE_MAGIC[..received] {
            let mut got = [0; 8];
            got[..received].copy_from_slice(&self.bytes[..received]);
            return Err(HandshakeError::NotAPeer { got, received });
        }
        if self.received < HANDSHAKE_SIZE {
            return Ok((count, None));
        }
        let got = u32_at(&self.bytes, CHECKSUM_OFFSET);
        let computed = crc32fast::hash(&self.bytes[..CHECKSUM_OFFSET]);
        if got != computed {
            return Err(HandshakeError::Checksum { got, computed });
        }
        Ok((count, Some(self.bytes)))
    }
}

/// An empty message of a kind.
pub(crate) fn blank(kind: Kind) -> [u8; HANDSHAKE_SIZE] {
    let mut bytes = [0; HANDSHAKE_SIZE];
    bytes[..8].copy_from_slice(&HANDSHAKE_MAGIC);
    bytes[8] = match kind {
        Kind::Hello => 1,
        Kind::Welcome => 2,
        Kind::Refusal => 3,
    };
    bytes
}

/// Sets the checksum of a message that is otherwise complete.
pub(crate) fn seal(mut bytes: [u8; HANDSHAKE_SIZE]) -> [u8; HANDSHAKE_SIZE] {
    let checksum = crc32fast::hash(&bytes[..CHECKSUM_OFFSET]);
    bytes[CHECKSUM_OFFSET..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The kind of a whole message.
pub(crate) fn kind_of(bytes: &[u8; HANDSHAKE_SIZE]) -> Result<Kind, HandshakeError> {
    match bytes[8] {
        1 => Ok(Kind::Hello),
        2 => Ok(Kind::Welcome),
        3 => Ok(Kind::Refusal),
        got => Err(HandshakeError::UnexpectedKind { got }),
    }
}

impl Hello {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_SIZE] {
        let mut bytes = blank(Kind::Hello);
        let (changes, peer_port) = self.sender.role.to_wire();
        bytes[9] = self.sender.replicas | changes;
        bytes[10..12].copy_from_slice(&self.version_min.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.version_max.to_le_bytes());
        bytes[14] = self.sender.node_id;
        bytes[15] = self.receiver_node_id;
        bytes[16..24].copy_from_slice(&self.sender.cluster_id.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.sender.incarnation.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.sender.boot_epoch.to_le_bytes());
        bytes[44..46].copy_from_slice(&self.sender.core_count.to_le_bytes());
        bytes[46..48].copy_from_slice(&self.sender.core.to_le_bytes());
        bytes[48..50].copy_from_slice(&self.receiver_core.to_le_bytes());
        bytes[50..52].copy_from_slice(&peer_port.to_le_bytes());
        seal(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; HANDSHAKE_SIZE]) -> Self {
        Self {
            version_min: u16_at(bytes, 10),
            version_max: u16_at(bytes, 12),
            sender: LocalNode {
                cluster_id: u64_at(bytes, 16),
                node_id: bytes[14],
                replicas: bytes[9] & !MEMBERSHIP_CHANGES,
                incarnation: u128_at(bytes, 24),
                boot_epoch: u32_at(bytes, 40),
                core_count: u16_at(bytes, 44),
                core: u16_at(bytes, 46),
                role: Role::from_wire(bytes[9], u16_at(bytes, 50)),
            },
            receiver_node_id: bytes[15],
            receiver_core: u16_at(bytes, 48),
        }
    }
}

impl Welcome {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_SIZE] {
        let mut bytes = blank(Kind::Welcome);
        bytes[9] = self.node_id;
        bytes[10..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.core_count.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.core.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.boot_epoch.to_le_bytes());
        // 20..24 are reserved.
        bytes[24..40].copy_from_slice(&self.incarnation.to_le_bytes());
        // 40..52 are reserved.
        seal(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; HANDSHAKE_SIZE]) -> Self {
        Self {
            version: u16_at(bytes, 10),
            node_id: bytes[9],
            incarnation: u128_at(bytes, 24),
            boot_epoch: u32_at(bytes, 16),
            core_count: u16_at(bytes, 12),
            core: u16_at(bytes, 14),
        }
    }
}

/// Checks what both sides check of each other: that the peer is one the configuration names, still
/// has the data it had or is of a later generation, and is not an older copy of itself. Whoever
/// goes on remembers the peer's incarnation and generation durably *first*.
pub(crate) fn check_remembered(
    node_id: u8,
    incarnation: u128,
    boot_epoch: u32,
    remembered: Remembered,
) -> Result<(), Refusal> {
    match remembered {
        Remembered::Unknown => Err(Refusal::UnknownNode { node_id }),
        Remembered::NeverMet => Ok(()),
        Remembered::Met { incarnation: known, boot_epoch: seen }
            if known != incarnation && !planted!("wiped-node-votes") =>
        {
            // What a new data directory says counts only after the node said that the old one's
            // votes no longer do: by a later generation.
            let generation = BootEpoch(seen).generation();
            if BootEpoch(boot_epoch).generation() > generation {
                return Ok(());
            }
            let (remembered, generation) = (known, generation.0);
            Err(Refusal::Incarnation { node_id, remembered, got: incarnation, generation })
        }
        Remembered::Met { boot_epoch: seen, .. } if boot_epoch < seen => {
            Err(Refusal::BootEpoch { node_id, seen, got: boot_epoch })
        }
        Remembered::Met { .. } => Ok(()),
    }
}
