//! One client's connection: bytes in, requests, and replies out in order.

use std::net::TcpStream;

use engine::session::Session;
use net::resp::request_parser::RequestParser;

use crate::reactor::clients::reply_queue::ReplyQueue;
use crate::reactor::ring::OperationKey;
use crate::reactor::router::Stalled;

/// An output buffer up to this size is kept for the next replies; a larger one is freed.
const OUTPUT_KEPT: usize = 64 << 10;

/// How far a connection's life is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Requests are taken.
    Open,
    /// No more requests: what was asked is answered and sent, then the connection closes.
    Finishing,
    /// Shut down; waits for the kernel to end what it does with its buffers.
    Closing,
}

/// What the kernel does on the receiving side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Receiving {
    /// Nothing: data waits in the socket.
    No,
    /// Receives until told otherwise.
    Yes(OperationKey),
    /// Was told to end, and may still deliver what it had.
    Ending,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: TcpStream,
    /// The client's commands and settings.
    pub session: Session,
    /// How far parsing is.
    pub parser: RequestParser,
    /// Received and not consumed, from `input_begin` on.
    pub input: Vec<u8>,
    /// Where unconsumed input begins.
    pub input_begin: usize,
    /// Whether the client sends no more.
    pub input_ended: bool,
    /// The receiving side in the kernel.
    pub receiving: Receiving,
    /// Whether the socket is left unread until earlier requests are answered.
    pub paused: bool,
    /// A request that found no room; nothing behind it is parsed.
    pub stalled: Option<Stalled>,
    /// Whether it stands in the line of those that wait for room.
    pub queued_for_room: bool,
    /// Requests and replies in order.
    pub replies: ReplyQueue,
    /// Replies to be sent next.
    pub output: Vec<u8>,
    /// Bytes of the send in flight; 0 when there is none.
    pub sending: usize,
    /// Of the send in flight, where it began.
    pub sending_begin: usize,
    /// An empty buffer kept for reuse.
    pub spare: Vec<u8>,
    /// Whether this connection is in the list of those to be looked at, at the end of the turn.
    pub listed: bool,
    /// Whether it was told all, and is only read until its client stops sending.
    pub lingers: bool,
    /// See [`Phase`].
    pub phase: Phase,
    /// When it last sent a request, in microseconds of the core's clock.
    pub active_us: u64,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(socket: TcpStream, session: Session, parser: RequestParser, now_us: u64) -> Self {
        Self {
            socket,
            session,
            parser,
            input: Vec::new(),
            input_begin: 0,
            input_ended: false,
            receiving: Receiving::No,
            paused: false,
            stalled: None,
            queued_for_room: false,
            replies: ReplyQueue::default(),
            output: Vec::new(),
            sending: 0,
            sending_begin: 0,
            spare: Vec::new(),
            listed: false,
            lingers: false,
            phase: Phase::Open,
            active_us: now_us,
        }
    }

    /// Received bytes that wait here.
    #[must_use]
    pub fn waiting_input(&self) -> &[u8] {
        &self.input[self.input_begin..]
    }

    /// Bytes of replies that the client has not taken.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.output.len() + self.sending + self.replies.kept_bytes()
    }

    /// Whether the kernel uses one of its buffers, or may still deliver to it.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        self.sending > 0 || self.receiving != Receiving::No
    }

    /// Whether everything that was asked is answered and sent.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.replies.is_empty() && self.output.is_empty() && self.sending == 0
    }

    /// Takes the output to send it, and leaves an empty one.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.output, std::mem::take(&mut self.spare))
    }

    /// Keeps a sent buffer for later, unless it is large.
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= OUTPUT_KEPT && self.spare.capacity() == 0 {
            buffer.clear();
            self.spare = buffer;
        }
    }
}
