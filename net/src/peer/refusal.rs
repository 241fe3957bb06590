//! Why a node does not talk to another, in words and with the remedy.
//!
//! The side that refuses says so over the wire in numbers; both sides then print the same sentence.

use crate::peer::frame::{u32_at, u128_at};
use crate::peer::handshake::{HANDSHAKE_SIZE, Kind, blank, seal};

/// Why a peer is refused. "It" is always the node that is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No version that both speak.
    #[error(
        "No common protocol version: the dialler speaks {dialler_min} to {dialler_max}, the \
         acceptor {acceptor_min} to {acceptor_max}. Upgrade the older node, one version at a time."
    )]
    Version {
        /// Oldest version of the dialler.
        dialler_min: u16,
        /// Newest version of the dialler.
        dialler_max: u16,
        /// Oldest version of the acceptor.
        acceptor_min: u16,
        /// Newest version of the acceptor.
        acceptor_max: u16,
    },
    /// Another cluster.
    #[error(
        "Wrong cluster: the acceptor belongs to cluster {expected:#018x}, the dialler to \
         {got:#018x}. Correct the cluster id or the peer addresses in the configuration of the node \
         that is wrong."
    )]
    Cluster {
        /// The acceptor's cluster.
        expected: u64,
        /// The dialler's cluster.
        got: u64,
    },
    /// The address belongs to another node.
    #[error(
        "Wrong node: the dialler means node {wanted}, but this address belongs to node {actual}. \
         Correct the peer addresses in the dialler's configuration."
    )]
    WrongReceiver {
        /// The node the dialler means.
        wanted: u8,
        /// The node that answers.
        actual: u8,
    },
    /// A node with the acceptor's own id.
    #[error(
        "Duplicate node id: the dialler calls itself node {node_id}, which is the acceptor's own \
         id. Give every node its own id and data directory."
    )]
    OwnId {
        /// The id of both.
        node_id: u8,
    },
    /// Not in the configuration.
    #[error(
        "Unknown node: node {node_id} is not in the configuration. Use the same list of nodes on \
         every node."
    )]
    UnknownNode {
        /// The node.
        node_id: u8,
    },
    /// Another number of replicas.
    #[error(
        "Other replica set: the acceptor counts {expected} replicas, the dialler {got}. Majorities \
         would differ: use the same list of nodes on every node."
    )]
    Replicas {
        /// The acceptor's count.
        expected: u8,
        /// The dialler's count.
        got: u8,
    },
    /// The data directory is another one.
    #[error(
        "Node {node_id}'s data directory was replaced: it was known as incarnation \
         {remembered:032x} and now says {got:032x}. What it promised before is lost, so its votes \
         cannot be counted. Give the node its own data directory back. Only if that is lost for \
         good, start the node with an empty data directory and certusd --replace: as a generation \
         beyond {generation} it is rebuilt from the others."
    )]
    Incarnation {
        /// The node.
        node_id: u8,
        /// The incarnation known.
        remembered: u128,
        /// The incarnation it says.
        got: u128,
        /// The generation known: a node that replaces this one has to be of a later one.
        generation: u32,
    },
    /// An earlier start than one already seen.
    #[error(
        "Node {node_id} says boot epoch {got}, but its boot epoch {seen} was already seen. Either \
         two processes run as node {node_id}, or an older copy of its data directory was restored. \
         Stop the duplicate; a node with an older copy must stay down, it could break promises it made."
    )]
    BootEpoch {
        /// The node.
        node_id: u8,
        /// The latest boot epoch seen.
        seen: u32,
        /// The boot epoch it says.
        got: u32,
    },
    /// The dialler wants a core that the acceptor does not have.
    #[error(
        "Core out of range: the dialler wants core {core} of a node with {core_count}. It may have \
         dialled before the node was restarted with fewer cores; it will ask for the count and dial \
         again."
    )]
    ReceiverCore {
        /// The core wanted.
        core: u16,
        /// How many there are.
        core_count: u16,
    },
    /// A core that the peer itself does not have.
    #[error(
        "Core out of range: node {node_id} speaks of its core {core} and says that it has \
         {core_count}. The node is faulty: upgrade it, and report this."
    )]
    PeerCore {
        /// The node.
        node_id: u8,
        /// The core it names.
        core: u16,
        /// How many it says it has.
        core_count: u16,
    },
    /// Not the core that was asked for.
    #[error(
        "Wrong core: core {wanted} of node {node_id} was asked for and core {actual} answers. The \
         node is faulty: upgrade it, and report this."
    )]
    OtherCore {
        /// The node.
        node_id: u8,
        /// The core asked for.
        wanted: u16,
        /// The core that answers.
        actual: u16,
    },
    /// A follower with a replica's id.
    #[error(
        "Wrong role: node {node_id} says that it is a follower, and its id is that of one of the \
         {replicas} replicas. Give every follower an id of its own, from 16 on."
    )]
    FollowerId {
        /// The id.
        node_id: u8,
        /// The acceptor's count of replicas.
        replicas: u8,
    },
    /// A follower that dials a follower.
    #[error(
        "Wrong role: node {node_id} is a follower itself, and only replicas can be followed. List \
         the replicas in the [[node]] tables, and no follower."
    )]
    NotAReplica {
        /// The node that was dialled.
        node_id: u8,
    },
    /// No room for another follower.
    #[error(
        "Too many followers: node {node_id} is not taken, since {max} others follow this core \
         already. Stop one, or follow another replica."
    )]
    TooManyFollowers {
        /// The follower.
        node_id: u8,
        /// How many may follow.
        max: u8,
    },
    /// Its members change and the acceptor's do not, or the other way round.
    #[error(
        "Other membership: node {node_id} says that the members of its cluster {}, and here they \
         {}. Set replica_slots to the same number on every node, or on none.",
        can(*changes), can(!changes)
    )]
    Membership {
        /// The node.
        node_id: u8,
        /// Whether its members change.
        changes: bool,
    },
    /// A reason that a newer version gave.
    #[error(
        "Refused for reason {code}, which this version does not know. See the log of the other \
         node, or upgrade this one."
    )]
    Unnamed {
        /// The reason's code.
        code: u8,
    },
}

fn can(changes: bool) -> &'static str {
    if changes { "can change" } else { "never change" }
}

/// The numbers of a refusal as they stand on the wire.
#[derive(Clone, Copy, Default)]
struct Numbers {
    code: u8,
    node_id: u8,
    /// What was expected.
    expected: u128,
    /// What came.
    got: u128,
}

impl Refusal {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HANDSHAKE_SIZE] {
        let numbers = self.numbers();
        let mut bytes = blank(Kind::Refusal);
        bytes[9] = numbers.code;
        bytes[10] = numbers.node_id;
        // 11..16 are reserved.
        bytes[16..32].copy_from_slice(&numbers.expected.to_le_bytes());
        bytes[32..48].copy_from_slice(&numbers.got.to_le_bytes());
        if let Self::Incarnation { generation, .. } = self {
            bytes[48..52].copy_from_slice(&generation.to_le_bytes());
        }
        seal(bytes)
    }

    fn numbers(&self) -> Numbers {
        match *self {
            Self::Version { dialler_min, dialler_max, acceptor_min, acceptor_max } => Numbers {
                code: 1,
                node_id: 0,
                expected: pair(acceptor_min, acceptor_max),
                got: pair(dialler_min, dialler_max),
            },
            Self::Cluster { expected, got } => {
                Numbers { code: 2, node_id: 0, expected: expected.into(), got: got.into() }
            }
            Self::WrongReceiver { wanted, actual } => {
                Numbers { code: 3, node_id: 0, expected: actual.into(), got: wanted.into() }
            }
            Self::OwnId { node_id } => Numbers { code: 4, node_id, ..Numbers::default() },
            Self::UnknownNode { node_id } => Numbers { code: 5, node_id, ..Numbers::default() },
            Self::Replicas { expected, got } => {
                Numbers { code: 6, node_id: 0, expected: expected.into(), got: got.into() }
            }
            Self::Incarnation { node_id, remembered, got, .. } => {
                Numbers { code: 7, node_id, expected: remembered, got }
            }
            Self::BootEpoch { node_id, seen, got } => {
                Numbers { code: 8, node_id, expected: seen.into(), got: got.into() }
            }
            Self::ReceiverCore { core, core_count } => {
                Numbers { code: 9, node_id: 0, expected: core_count.into(), got: core.into() }
            }
            Self::PeerCore { node_id, core, core_count } => {
                Numbers { code: 10, node_id, expected: core_count.into(), got: core.into() }
            }
            Self::OtherCore { node_id, wanted, actual } => {
                Numbers { code: 11, node_id, expected: wanted.into(), got: actual.into() }
            }
            Self::FollowerId { node_id, replicas } => {
                Numbers { code: 12, node_id, expected: replicas.into(), got: 0 }
            }
            Self::NotAReplica { node_id } => Numbers { code: 13, node_id, ..Numbers::default() },
            Self::TooManyFollowers { node_id, max } => {
                Numbers { code: 14, node_id, expected: max.into(), got: 0 }
            }
            Self::Membership { node_id, changes } => {
                Numbers { code: 15, node_id, expected: 0, got: changes.into() }
            }
            Self::Unnamed { code } => Numbers { code, ..Numbers::default() },
        }
    }

    /// Reads a refusal. Numbers too large for their reason are cut: they are only printed.
    pub(crate) fn decode(bytes: &[u8; HANDSHAKE_SIZE]) -> Self {
        let (code, node_id) = (bytes[9], bytes[10]);
        let (expected, got) = (u128_at(bytes, 16), u128_at(bytes, 32));
        let (expected_low, got_low) = (u32_at(bytes, 16), u32_at(bytes, 32));
        let ((expected_first, expected_second), (got_first, got_second)) =
            (halves(expected_low), halves(got_low));
        match code {
            1 => Self::Version {
                dialler_min: got_first,
                dialler_max: got_second,
                acceptor_min: expected_first,
                acceptor_max: expected_second,
            },
            2 => Self::Cluster { expected: low_u64(expected), got: low_u64(got) },
            3 => Self::WrongReceiver { wanted: bytes[32], actual: bytes[16] },
            4 => Self::OwnId { node_id },
            5 => Self::UnknownNode { node_id },
            6 => Self::Replicas { expected: bytes[16], got: bytes[32] },
            7 => {
                let generation = u32_at(bytes, 48);
                Self::Incarnation { node_id, remembered: expected, got, generation }
            }
            8 => Self::BootEpoch { node_id, seen: expected_low, got: got_low },
            9 => Self::ReceiverCore { core: got_first, core_count: expected_first },
            10 => Self::PeerCore { node_id, core: got_first, core_count: expected_first },
            11 => Self::OtherCore { node_id, wanted: expected_first, actual: got_first },
            12 => Self::FollowerId { node_id, replicas: bytes[16] },
            13 => Self::NotAReplica { node_id },
            14 => Self::TooManyFollowers { node_id, max: bytes[16] },
            15 => Self::Membership { node_id, changes: bytes[32] != 0 },
            code => Self::Unnamed { code },
        }
    }
}

/// Two numbers in one, the first in the lower half.
fn pair(first: u16, second: u16) -> u128 {
    u128::from(first) | u128::from(second) << 16
}

/// The lower and the upper half.
fn halves(number: u32) -> (u16, u16) {
    let [a, b, c, d] = number.to_le_bytes();
    (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))
}

fn low_u64(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).expect("64 bits fit 64 bits")
}
