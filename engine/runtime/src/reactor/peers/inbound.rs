//! A connection that a peer opened: it speaks, this node listens.

use std::net::TcpStream;

use net::peer::frame::FrameDecoder;
use net::peer::handshake::{HandshakeAcceptor, PeerIdentity};

/// Bytes received at once.
pub const RECEIVE_SIZE: usize = 256 << 10;

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
    /// When something last arrived, in microseconds of the core's clock.
    pub heard_us: u64,
}
