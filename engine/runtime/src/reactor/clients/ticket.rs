//! How a reply finds its place: connection, position, and the protocol to write it in.
//!
//! The engine hands a ticket back as it was given. So everything the reply needs rides in it, the
//! protocol included: another core writes the reply's bytes without knowing the connection, and a
//! `HELLO` that changes the protocol later in the pipeline does not change earlier replies.

use engine::request::Ticket;
use net::resp::value::Protocol;

use crate::reactor::slab::Key;

/// Set in a ticket's sequence when the reply is to be RESP3.
const RESP3: u64 = 1 << 63;

/// A ticket for the reply at `sequence` of the connection `key`.
#[must_use]
pub fn make(core: u16, key: Key, sequence: u64, protocol: Protocol) -> Ticket {
    assert!(sequence < RESP3, "a connection has fewer requests than 2^63");
    let mark = match protocol {
        Protocol::Resp2 => 0,
        Protocol::Resp3 => RESP3,
    };
    let connection = u64::from(key.generation) << 32 | u64::from(key.index);
    Ticket { core, connection, sequence: sequence | mark }
}

/// The connection of a ticket.
#[must_use]
pub fn connection(ticket: Ticket) -> Key {
    Key {
        index: u32::try_from(ticket.connection & 0xffff_ffff).expect("32 bits fit a u32"),
        generation: u32::try_from(ticket.connection >> 32).expect("32 bits fit a u32"),
    }
}

/// The position in the connection's replies.
#[must_use]
pub fn sequence(ticket: Ticket) -> u64 {
    ticket.sequence & !RESP3
}

/// The protocol to write the reply in.
#[must_use]
pub fn protocol(ticket: Ticket) -> Protocol {
    if ticket.sequence & RESP3 == 0 { Protocol::Resp2 } else { Protocol::Resp3 }
}

#[cfg(test)]
mod tests {
    use net::resp::value::Protocol;

    use super::{connection, make, protocol, sequence};
    use crate::reactor::slab::Key;

    #[test]
    fn everything_put_into_a_ticket_comes_out() {
        for protocol_in in [Protocol::Resp2, Protocol::Resp3] {
            for (index, generation, position) in
                [(0, 0, 0), (Key::INDEX_END - 1, u32::MAX, (1 << 63) - 1), (5, 6, 7)]
            {
                let key = Key { index, generation };
                let ticket = make(3, key, position, protocol_in);
                assert_eq!(ticket.core, 3);
                assert_eq!(connection(ticket), key);
                assert_eq!(sequence(ticket), position);
                assert_eq!(protocol(ticket), protocol_in);
            }
        }
    }
}
