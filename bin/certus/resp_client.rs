//! A client of one node: one command, one reply, with a time-out on everything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use net::resp::value::{DecodeError, Value, put_array_header, put_bulk};

/// Most bytes of one reply that are read.
const REPLY_SIZE_MAX: usize = 64 << 20;

/// A connection to a node. After an error it is of no use: a late reply would be taken for the
/// next one.
#[derive(Debug)]
pub struct RespClient {
    stream: TcpStream,
    received: Vec<u8>,
    timeout: Duration,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{address} is no address ({reason}): give HOST:PORT, for example 127.0.0.1:7000")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is not RESP.
    #[error("no RESP server: {0}")]
    Protocol(#[from] DecodeError),
    /// The reply has no end.
    #[error("the reply is longer than {REPLY_SIZE_MAX} bytes")]
    ReplyTooLong,
}

/// Looks up `address`, HOST:PORT.
///
/// # Errors
///
/// [`ClientError::Address`] when it is none.
pub fn resolve(address: &str) -> Result<SocketAddr, ClientError> {
    let wrong = |reason: String| ClientError::Address { address: address.to_owned(), reason };
    address
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?
        .next()
        .ok_or_else(|| wrong("the name has no address".to_owned()))
}

impl RespClient {
    /// Connects; `timeout` bounds this and each later command.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Self, ClientError> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new(), timeout })
    }

    /// Sends one command and waits for its reply; an error of the server is a reply.
    ///
    /// # Errors
    ///
    /// When the connection breaks, no reply comes in time, or it is none.
    pub fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Value, ClientError> {
        self.send(words)?;
        self.receive()
    }

    /// Sends one command.
    ///
    /// # Errors
    ///
    /// When the connection breaks or takes no bytes in time.
    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        put_array_header(words.len(), &mut bytes);
        for word in words {
            put_bulk(word.as_ref(), &mut bytes);
        }
        self.stream.set_write_timeout(Some(self.timeout))?;
        self.stream.write_all(&bytes)?;
        Ok(())
    }

    /// Waits for the reply of the oldest command that has none.
    ///
    /// # Errors
    ///
    /// When the connection breaks, no reply comes in time, or it is none.
    pub fn receive(&mut self) -> Result<Value, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some((value, length)) = Value::decode(&self.received)? {
                self.received.drain(..length);
                return Ok(value);
            }
            if self.received.len() > REPLY_SIZE_MAX {
                return Err(ClientError::ReplyTooLong);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let count = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}
