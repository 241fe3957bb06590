//! The 64 bits that travel through the kernel with an operation.
//!
//! ```text
//!  63      56 55                    32 31                               0
//! ┌──────────┬────────────────────────┬──────────────────────────────────┐
//! │   kind   │         index          │            generation            │
//! └──────────┴────────────────────────┴──────────────────────────────────┘
//! ```
//!
//! The key names the operation's place in the ring's table of operations in flight, where its
//! buffer is kept; the kind is a second check that a completion belongs to what is kept there.

use crate::reactor::slab::Key;

/// What an operation does, and for whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// Accepts client connections.
    ClientAccept = 1,
    /// Receives from a client.
    ClientReceive = 2,
    /// Sends to a client.
    ClientSend = 3,
    /// Accepts connections of peers.
    PeerAccept = 4,
    /// Receives on a connection that a peer opened.
    InboundReceive = 5,
    /// Sends the handshake's answer on a connection that a peer opened.
    InboundSend = 6,
    /// Opens a connection to a peer.
    OutboundConnect = 7,
    /// Receives on a connection to a peer: the handshake's answer, later only its end.
    OutboundReceive = 8,
    /// Sends to a peer.
    OutboundSend = 9,
    /// Writes to the log.
    LogWrite = 10,
    /// Reads from the log.
    LogRead = 11,
    /// Waits for another core's wake-up.
    Doorbell = 12,
    /// Ends an operation in flight.
    Cancel = 13,
    /// Writes to a checkpoint.
    CheckpointWrite = 14,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::ClientAccept,
        Self::ClientReceive,
        Self::ClientSend,
        Self::PeerAccept,
        Self::InboundReceive,
        Self::InboundSend,
        Self::OutboundConnect,
        Self::OutboundReceive,
        Self::OutboundSend,
        Self::LogWrite,
        Self::LogRead,
        Self::Doorbell,
        Self::Cancel,
        Self::CheckpointWrite,
    ];

    fn from_number(number: u64) -> Option<Self> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(index).copied()
    }
}

/// `kind` and `key` in 64 bits.
///
/// # Panics
///
/// When the key's index needs more than 24 bits.
#[must_use]
pub fn encode(kind: Kind, key: Key) -> u64 {
    assert!(key.index < Key::INDEX_END, "an index has 24 bits");
    u64::from(kind as u8) << 56 | u64::from(key.index) << 32 | u64::from(key.generation)
}

/// What [`encode`] was given; `None` for bits it never makes.
#[must_use]
pub fn decode(user_data: u64) -> Option<(Kind, Key)> {
    let kind = Kind::from_number(user_data >> 56)?;
    let index = u32::try_from(user_data >> 32 & 0xff_ffff).expect("24 bits fit a u32");
    let generation = u32::try_from(user_data & 0xffff_ffff).expect("32 bits fit a u32");
    Some((kind, Key { index, generation }))
}

#[cfg(test)]
mod tests {
    use super::{Kind, decode, encode};
    use crate::reactor::slab::Key;

    #[test]
    fn every_kind_and_the_extreme_keys_come_back() {
        for (position, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind as u8), position + 1, "the table is in order");
            for index in [0, 1, Key::INDEX_END - 1] {
                for generation in [0, 1, u32::MAX] {
                    let key = Key { index, generation };
                    assert_eq!(decode(encode(kind, key)), Some((kind, key)));
                }
            }
        }
    }

    #[test]
    fn bits_that_were_never_made_are_refused() {
        assert_eq!(decode(0), None);
        assert_eq!(decode(15 << 56), None);
        assert_eq!(decode(u64::MAX), None);
    }

    #[test]
    #[should_panic(expected = "an index has 24 bits")]
    fn an_index_beyond_24_bits_is_not_cut() {
        let cut = encode(Kind::LogRead, Key { index: Key::INDEX_END, generation: 0 });
        assert_eq!(cut, 0, "never reached");
    }
}
