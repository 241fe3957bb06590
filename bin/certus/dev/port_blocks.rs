//! Ports of this machine, in blocks that no two clusters take at once.
//!
//! A port is free until somebody listens, and a cluster listens only some time after its ports
//! were chosen, and not while its nodes are down. Therefore whoever chooses ports of a block
//! listens on one more, which stands for the block, for as long as the block shall be its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports of a block: those of five nodes of two cores, which have ports of their own for clients.
const BLOCK: u16 = 120;

/// Where the blocks begin, and how many there are: below the ports that systems hand out to
/// clients.
const FIRST: u16 = 12_200;
const BLOCKS: u16 = 155;

/// The port that stands for the first block; those of the others follow.
const STANDS_FOR_FIRST: u16 = FIRST - 200;

/// Neighbouring blocks that are nobody else's while this is there.
#[derive(Debug)]
pub struct PortBlocks {
    /// Their first port.
    pub first: u16,
    _held: Vec<TcpListener>,
}

impl PortBlocks {
    /// The first blocks, from a place that depends on `start`, with at least `count` ports that
    /// are all free.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn hold(count: u16, start: u32) -> io::Result<Self> {
        let blocks = count.div_ceil(BLOCK).max(1);
        let places = (BLOCKS + 1).saturating_sub(blocks);
        for attempt in 0..places {
            let place = start.wrapping_add(attempt.into()) % u32::from(places);
            let place = u16::try_from(place).expect("fewer places than ports");
            let Some(held) = hold_all(place, place + blocks) else { continue };
            let first = FIRST + place * BLOCK;
            if (first..first + count).all(|port| TcpListener::bind(local(port)).is_ok()) {
                return Ok(Self { first, _held: held });
            }
        }
        let reason = format!(
            "no {count} free ports side by side from {FIRST} to {}",
            FIRST + BLOCKS * BLOCK - 1
        );
        Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
    }

    /// The blocks of `ports` that are in use already; `None` if others hold one of them, or one
    /// of the ports is in no block.
    pub fn hold_those_of(ports: impl IntoIterator<Item = u16>) -> Option<Self> {
        let places: Option<Vec<u16>> = ports
            .into_iter()
            .map(|port| Some(port.checked_sub(FIRST)? / BLOCK).filter(|place| *place < BLOCKS))
            .collect();
        let places = places?;
        let (first, last) = (*places.iter().min()?, *places.iter().max()?);
        hold_all(first, last + 1).map(|held| Self { first: FIRST + first * BLOCK, _held: held })
    }
}

fn hold_all(first: u16, end: u16) -> Option<Vec<TcpListener>> {
    (first..end).map(|place| TcpListener::bind(local(STANDS_FOR_FIRST + place)).ok()).collect()
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, BLOCKS, FIRST, PortBlocks, STANDS_FOR_FIRST};

    #[test]
    fn blocks_are_clear_of_what_stands_for_them() {
        const { assert!(STANDS_FOR_FIRST + BLOCKS <= FIRST) };
        const { assert!(FIRST + BLOCKS * BLOCK < 32_768) };
    }

    #[test]
    fn who_asks_at_once_from_neighbouring_places_shares_no_port() {
        // Of these the second begins where the first's second block is.
        let one = PortBlocks::hold(BLOCK + 1, 70).unwrap();
        let other = PortBlocks::hold(1, 71).unwrap();
        let third = PortBlocks::hold(BLOCK, 70).unwrap();
        assert!(other.first >= one.first + 2 * BLOCK || other.first + BLOCK <= one.first);
        assert!(third.first >= one.first + 2 * BLOCK || third.first + BLOCK <= one.first);
        assert_ne!(other.first, third.first);
    }

    #[test]
    fn blocks_are_held_by_their_ports_and_free_again_without_a_holder() {
        let one = PortBlocks::hold(2 * BLOCK, 30).unwrap();
        let ports = [one.first + 3, one.first + BLOCK];
        assert!(PortBlocks::hold_those_of(ports).is_none());
        let first = one.first;
        drop(one);
        let again = PortBlocks::hold_those_of(ports).unwrap();
        assert_eq!(again.first, first);
        assert!(PortBlocks::hold_those_of([first, 7000]).is_none());
    }
}
