//! One non-blocking connection of a client to a server, and the requests in flight on it.
//!
//! ```text
//!            connect            writable            closed, refused, timed out
//!   Down ─────────────▶ Connecting ─────▶ Ready ─────────────────────▶ Down (waits, doubling)
//! ```

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::operation::Operation;
use crate::topology::NodeIndex;

/// First wait before a connection is tried again, in nanoseconds.
const BACKOFF_NS_MIN: u64 = 100_000_000;
/// Longest wait before a connection is tried again, in nanoseconds.
const BACKOFF_NS_MAX: u64 = 1_000_000_000;
/// Marks a request that was not handed to the socket yet.
const UNSENT_NS: u64 = u64::MAX;

/// What a reply is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Opens the connection for use: `AUTH`, `READONLY`.
    Setup,
    /// Writes a key before the run.
    Preload,
    /// Is measured by itself.
    Measured,
    /// Is measured, and its value decides a compare-and-set.
    CasRead,
}

/// A request whose reply is awaited.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What is measured.
    pub operation: Operation,
    /// What the reply is for.
    pub purpose: Purpose,
    /// Index of its key.
    pub key_index: u64,
    /// When it was to start, in nanoseconds of the run's clock.
    pub intended_ns: u64,
    /// When it was handed to the socket; `u64::MAX` before that.
    sent_ns: u64,
}

impl Request {
    /// Returns a request that was not sent yet.
    pub fn new(operation: Operation, purpose: Purpose, key_index: u64, intended_ns: u64) -> Self {
        Self { operation, purpose, key_index, intended_ns, sent_ns: UNSENT_NS }
    }

    /// Returns when the request was handed to the socket, `now_ns` if it was not.
    pub fn sent_ns(&self, now_ns: u64) -> u64 {
        self.sent_ns.min(now_ns)
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The first attempt runs: requests may queue up behind it.
    Connecting {
        /// When the attempt began.
        since_ns: u64,
    },
    /// A further attempt runs, after a failure: requests go elsewhere.
    Reconnecting {
        /// When the attempt began.
        since_ns: u64,
    },
    /// Requests flow.
    Ready,
    /// Not before the time given is another attempt made.
    Down {
        /// When to try again.
        retry_ns: u64,
    },
}

/// One connection. `in_flight` is in the order of the replies; its last `unsent_count` requests
/// are in `out` only.
#[derive(Debug)]
pub struct Connection {
    /// The client it belongs to, by number within its worker.
    pub client: usize,
    /// The server it leads to.
    pub node: NodeIndex,
    /// Where it is in its life.
    pub state: State,
    /// The socket, unless down.
    pub stream: Option<TcpStream>,
    /// Start of a reply whose end was not received yet.
    pub partial: Vec<u8>,
    /// Requests whose reply is awaited, oldest first.
    pub in_flight: VecDeque<Request>,
    /// Whether it stands in the worker's list of connections to flush.
    pub is_dirty: bool,
    out: Vec<u8>,
    out_begin: usize,
    unsent_count: usize,
    backoff_ns: u64,
}

impl Connection {
    /// Returns a connection that was never tried.
    pub fn new(client: usize, node: NodeIndex) -> Self {
        Self {
            client,
            node,
            state: State::Down { retry_ns: 0 },
            stream: None,
            partial: Vec::new(),
            in_flight: VecDeque::new(),
            is_dirty: false,
            out: Vec::new(),
            out_begin: 0,
            unsent_count: 0,
            backoff_ns: BACKOFF_NS_MIN,
        }
    }

    /// Whether requests may be queued.
    pub fn takes_requests(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Ready)
    }

    /// Whether bytes wait for the socket.
    pub fn has_output(&self) -> bool {
        self.out_begin < self.out.len()
    }

    /// Starts to connect; a failure shows here or with the next event.
    ///
    /// # Errors
    ///
    /// Returns the error of the socket; the caller then calls [`Connection::close`].
    pub fn connect(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Learns whether the attempt succeeded: `Ok(false)` while it still runs.
    ///
    /// # Errors
    ///
    /// Returns why the attempt failed.
    pub fn finish_connect(&mut self) -> io::Result<bool> {
        let Some(stream) = &self.stream else { return Ok(false) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => {
                // A request is one small write: waiting to merge it with another would be measured.
                stream.set_nodelay(true)?;
                self.state = State::Ready;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Queues `request`, whose bytes `encode` appends to the send buffer.
    pub fn queue(&mut self, request: Request, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.out);
        self.in_flight.push_back(request);
        self.unsent_count += 1;
    }

    /// Hands what is queued to the socket in one write.
    ///
    /// # Errors
    ///
    /// Returns why the socket failed; a full send buffer is none, the next writable event goes on.
    pub fn flush(&mut self, now_ns: u64) -> io::Result<()> {
        if self.state != State::Ready || !self.has_output() {
            return Ok(());
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let sent_begin = self.in_flight.len() - self.unsent_count;
        for request in self.in_flight.range_mut(sent_begin..) {
            request.sent_ns = now_ns;
        }
        self.unsent_count = 0;
        while self.out_begin < self.out.len() {
            match stream.write(&self.out[self.out_begin..]) {
                // A short write is followed by another, so that the kernel knows to report when
                // there is room again.
                Ok(size) => self.out_begin += size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out_begin = 0;
        Ok(())
    }

    /// Removes and returns the oldest request in flight, the one the next reply is for.
    pub fn take_answered(&mut self) -> Option<Request> {
        // A reply to a request that was not sent would be the peer's mistake.
        if self.in_flight.len() == self.unsent_count {
            return None;
        }
        self.backoff_ns = BACKOFF_NS_MIN;
        self.in_flight.pop_front()
    }

    /// Closes the socket, returns the requests that get no reply, and waits before the next try.
    pub fn close(&mut self, now_ns: u64) -> VecDeque<Request> {
        self.stream = None;
        self.partial.clear();
        self.out.clear();
        self.out_begin = 0;
        self.unsent_count = 0;
        self.state = State::Down { retry_ns: now_ns + self.backoff_ns };
        self.backoff_ns = (self.backoff_ns * 2).min(BACKOFF_NS_MAX);
        std::mem::take(&mut self.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::{Connection, Purpose, Request, State};
    use crate::operation::Operation;

    fn request(key_index: u64) -> Request {
        Request::new(Operation::Get, Purpose::Measured, key_index, 0)
    }

    #[test]
    fn a_request_that_was_not_sent_cannot_be_answered() {
        let mut connection = Connection::new(0, 0);
        connection.state = State::Ready;
        connection.queue(request(1), |out| out.extend_from_slice(b"x"));
        assert!(connection.has_output());
        assert!(connection.take_answered().is_none());
        assert_eq!(request(1).sent_ns(77), 77);
    }

    #[test]
    fn a_lost_connection_gives_back_its_requests_and_waits_longer_each_time() {
        let mut connection = Connection::new(0, 0);
        connection.state = State::Ready;
        for key_index in 1..=3 {
            connection.queue(request(key_index), |out| out.push(0));
        }
        let lost = connection.close(0);
        assert_eq!(lost.iter().map(|request| request.key_index).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!connection.takes_requests() && !connection.has_output());
        let mut waits = Vec::new();
        for _ in 0..5 {
            let State::Down { retry_ns } = connection.state else { panic!("not down") };
            waits.push(retry_ns / 1_000_000);
            connection.close(0);
        }
        assert_eq!(waits, [100, 200, 400, 800, 1000]);
    }
}
