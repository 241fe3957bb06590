//! A link: what one core sends to one core of another node.
//!
//! As in the daemon, it is a connection of its own that begins with a handshake. What travels on
//! it is either a *stream*, in which frames keep their order and a lost one ends the connection;
//! or, rougher than any TCP connection, *datagrams*, each of which may be lost, repeated or late.

use std::collections::VecDeque;

use net::peer::frame_decoder::FrameDecoder;
use net::peer::frame_encoder::FrameEncoder;

/// Largest frame, in bytes.
pub(super) const FRAME_SIZE_MAX: usize = 1 << 20;

/// Bytes that may be under way on a stream; beyond it the sender drops messages.
pub(super) const UNDER_WAY_MAX: usize = 8 << 10;

/// How frames travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Lost, repeated, late, each by itself.
    Datagrams,
    /// In order on a connection that may break.
    Streams,
}

/// One direction between two cores.
#[derive(Debug)]
pub(super) struct Link {
    /// Counts connections: what belongs to an earlier one is void.
    pub(super) generation: u32,
    pub(super) is_up: bool,
    pub(super) encoder: FrameEncoder,
    pub(super) decoder: FrameDecoder,
    /// A stream's next bytes arrive no earlier.
    pub(super) clear_at: u64,
    /// Bytes sent and not arrived.
    pub(super) under_way: usize,
    /// Messages were dropped for want of room.
    pub(super) is_behind: bool,
    /// Bytes of a stream that is cut, in order.
    pub(super) stalled: VecDeque<Vec<u8>>,
}

impl Link {
    pub(super) fn new(replicas: u8) -> Self {
        Self {
            generation: 0,
            is_up: false,
            encoder: FrameEncoder::new(FRAME_SIZE_MAX),
            decoder: FrameDecoder::new(FRAME_SIZE_MAX, replicas),
            clear_at: 0,
            under_way: 0,
            is_behind: false,
            stalled: VecDeque::new(),
        }
    }

    /// Ends the connection. Whether it was up.
    pub(super) fn end(&mut self) -> bool {
        self.generation += 1;
        self.stalled.clear();
        (self.under_way, self.is_behind) = (0, false);
        std::mem::take(&mut self.is_up)
    }

    /// Begins a new connection.
    pub(super) fn begin(&mut self, replicas: u8) {
        self.is_up = true;
        self.encoder = FrameEncoder::new(FRAME_SIZE_MAX);
        self.decoder = FrameDecoder::new(FRAME_SIZE_MAX, replicas);
        self.clear_at = 0;
    }
}
