//! A connection that a peer opened: it speaks, this node listens.

use std::net::TcpStream;

use engine::time::Time;
use net::peer::frame::FrameDecoder;
use net::peer::handshake::{HandshakeAcceptor, PeerIdentity};

/// Bytes received at once.
pub const RECEIVE_SIZE: usize = 256 << 10;

/// A peer that was silent for this long is taken for gone, in microseconds.
const SILENCE_US: u64 = 2_000_000;

/// How far a connection's life is.
#[derive(Debug)]
pub enum InboundPhase {
    /// The peer has not said yet who it is.
    Greeting(HandshakeAcceptor),
    /// Welcomed, but this core shares no entities with the peer's: it only asked for the number of
    /// cores, and will close.
    Asking,
    /// Established: frames come.
    Up(PeerIdentity),
    /// The last words are being sent; then it closes.
    Refused,
    /// Shut down; waits for the kernel to end what it does with its buffers.
    Closing,
}

/// A connection that a peer opened.
#[derive(Debug)]
pub struct Inbound {
    /// The socket.
    pub socket: TcpStream,
    /// See [`InboundPhase`].
    pub phase: InboundPhase,
    /// What arrived of the next frame.
    pub decoder: FrameDecoder,
    /// Operations that the kernel has not ended yet.
    pub in_kernel: u32,
    /// When it was accepted, in microseconds of the core's clock.
    pub accepted_us: u64,
    /// When something last arrived, in microseconds of the core's clock.
    pub heard_us: u64,
}

impl Inbound {
    /// Why the connection has to end at `now`, if it has to: an established peer may not be silent
    /// for long, and everybody else has `patience_us` in all, however often bytes arrive.
    #[must_use]
    pub fn overdue(&self, now: Time, patience_us: u64) -> Option<&'static str> {
        match self.phase {
            InboundPhase::Up(_) => {
                (now.since_us(Time(self.heard_us)) > SILENCE_US).then_some("silent for 2 s")
            }
            InboundPhase::Greeting(_) | InboundPhase::Asking | InboundPhase::Refused => {
                let is_late = now.since_us(Time(self.accepted_us)) > patience_us;
                is_late.then_some("no handshake in time")
            }
            InboundPhase::Closing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use engine::time::Time;
    use net::peer::frame::FrameDecoder;
    use net::peer::handshake::{HandshakeAcceptor, LocalNode, PeerIdentity, Role};

    use super::{Inbound, InboundPhase, SILENCE_US};

    const PATIENCE_US: u64 = 300_000;

    fn stranger() -> Inbound {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = LocalNode {
            cluster_id: 1,
            node_id: 0,
            replicas: 3,
            incarnation: 5,
            boot_epoch: 1,
            core_count: 1,
            core: 0,
            role: Role::Replica,
        };
        Inbound {
            socket: TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
            phase: InboundPhase::Greeting(HandshakeAcceptor::new(local)),
            decoder: FrameDecoder::new(1 << 20, 3),
            in_kernel: 1,
            accepted_us: 1_000_000,
            heard_us: 1_000_000,
        }
    }

    #[test]
    fn bytes_of_a_stranger_buy_it_no_time() {
        let mut stranger = stranger();
        let greeting = std::mem::replace(&mut stranger.phase, InboundPhase::Closing);
        for phase in [greeting, InboundPhase::Asking, InboundPhase::Refused] {
            stranger.phase = phase;
            for heard_us in [1_000_000, 1_250_000] {
                stranger.heard_us = heard_us;
                assert_eq!(stranger.overdue(Time(1_300_000), PATIENCE_US), None);
                let late = stranger.overdue(Time(1_300_001), PATIENCE_US);
                assert_eq!(late, Some("no handshake in time"));
            }
        }
    }

    #[test]
    fn only_silence_ends_an_established_peer() {
        let mut peer = stranger();
        peer.phase = InboundPhase::Up(PeerIdentity {
            version: 1,
            node_id: 1,
            incarnation: 6,
            boot_epoch: 1,
            core_count: 1,
            core: 0,
            local_core: 0,
            role: Role::Replica,
        });
        peer.heard_us = 60_000_000;
        assert_eq!(peer.overdue(Time(60_000_000 + SILENCE_US), PATIENCE_US), None);
        let late = peer.overdue(Time(60_000_001 + SILENCE_US), PATIENCE_US);
        assert_eq!(late, Some("silent for 2 s"));
        peer.phase = InboundPhase::Closing;
        assert_eq!(peer.overdue(Time(90_000_000), PATIENCE_US), None, "it is ending already");
    }
}
