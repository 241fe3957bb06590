//! Ports of this machine, in blocks that no two clusters take at once.
//!
//! A port is free until somebody listens, and a cluster listens only some time after its ports
//! were chosen, and not while its nodes are down. Therefore whoever chooses ports of a block
//! listens on one more, which stands for the block, for as long as the block shall be its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports of a block: those of five nodes of two cores, which have ports of their own for clients.
pub const BLOCK: u16 = 120;

/// Where the blocks begin, and how many there are: below the ports that systems hand out to
/// clients.
pub const FIRST: u16 = 12_200;
pub const BLOCKS: u16 = 155;

/// The port that stands for the first block; those of the others follow.
pub const STANDS_FOR_FIRST: u16 = FIRST - 200;

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
