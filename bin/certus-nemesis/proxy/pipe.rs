//! One connection through the proxy: two sockets, and the bytes on their way between them.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::proxy::{Effects, Rule};

/// Bytes on their way in one direction at most; more wait in the sender's sockets.
const BUFFER: usize = 64 << 10;

/// How much of a slowed link's rate may be used at once.
const BURST: Duration = Duration::from_millis(100);

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It does.
    Lives,
    /// One side ended it, in order: so does the other.
    Ends,
    /// It is reset.
    Breaks,
}

/// A connection.
#[derive(Debug)]
pub struct Pipe {
    /// Its link.
    pub link: usize,
    near: TcpStream,
    far: TcpStream,
    requests: Flow,
    answers: Flow,
    /// Bytes carried since the link began to break or garble connections.
    carried: u64,
    /// It has done so to this one.
    is_garbled: bool,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    bytes: Vec<u8>,
    /// How many of them were noted as withheld.
    noted: usize,
    is_at_end: bool,
    /// Bytes that may go now, on a slowed link.
    allowance: usize,
}

impl Flow {
    fn new() -> Self {
        Self { bytes: Vec::new(), noted: 0, is_at_end: false, allowance: 0 }
    }

    fn fill(&mut self, from: &mut TcpStream) -> io::Result<()> {
        let mut chunk = [0; 16 << 10];
        while !self.is_at_end && self.bytes.len() < BUFFER {
            match from.read(&mut chunk) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Not connected yet.
                Err(error) if error.kind() == ErrorKind::NotConnected => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends up to `limit` bytes; how many went.
    fn drain(&mut self, to: &mut TcpStream, limit: usize) -> io::Result<usize> {
        let mut sent = 0;
        let wanted = self.bytes.len().min(limit);
        while sent < wanted {
            match to.write(&self.bytes[sent..wanted]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::NotConnected => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.drain(..sent);
        self.noted = self.noted.saturating_sub(sent);
        Ok(sent)
    }

    fn note_withheld(&mut self, effects: &Effects) {
        let new = self.bytes.len() - self.noted;
        self.noted = self.bytes.len();
        effects.withheld.fetch_add(count(new), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_at_end && self.bytes.is_empty()
    }
}

impl Pipe {
    /// Of a socket that was let in, and one on its way to whom it means.
    pub fn new(link: usize, near: TcpStream, far: TcpStream) -> Self {
        let (requests, answers) = (Flow::new(), Flow::new());
        Self { link, near, far, requests, answers, carried: 0, is_garbled: false }
    }

    /// Its sockets, to be told of events on them.
    pub fn sockets(&mut self) -> [&mut TcpStream; 2] {
        [&mut self.near, &mut self.far]
    }

    /// Carries what there is to carry. `passed` is the time since the last call for a slowed link.
    pub fn carry(&mut self, rule: Rule, passed: Duration, effects: &Arc<Effects>) -> Fate {
        match self.try_carry(rule, passed, effects) {
            Ok(fate) => fate,
            Err(_) => Fate::Breaks,
        }
    }

    fn try_carry(&mut self, rule: Rule, passed: Duration, effects: &Effects) -> io::Result<Fate> {
        if let Some(error) = self.far.take_error()? {
            return Err(error);
        }
        if !matches!(rule, Rule::Break(_) | Rule::Garble(_)) {
            (self.carried, self.is_garbled) = (0, false);
        }
        for is_request in [true, false] {
            let (flow, from, to) = if is_request {
                (&mut self.requests, &mut self.near, &mut self.far)
            } else {
                (&mut self.answers, &mut self.far, &mut self.near)
            };
            // Again and again: the system tells once only that there is more.
            loop {
                flow.fill(from)?;
                let limit = match rule {
                    Rule::Open => usize::MAX,
                    Rule::Cut => return Ok(Fate::Breaks),
                    Rule::Stall => 0,
                    Rule::StallAnswers if is_request => usize::MAX,
                    Rule::StallAnswers => 0,
                    Rule::Slow(rate) => {
                        let gained = |time: Duration| {
                            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                            let bytes = micros.saturating_mul(rate.into()) / 1_000_000;
                            usize::try_from(bytes).expect("64 bits")
                        };
                        flow.allowance =
                            (flow.allowance + gained(passed)).min(gained(BURST).max(1));
                        flow.allowance
                    }
                    Rule::Break(after) if self.carried >= after.into() && flow.bytes.len() > 1 => {
                        let half = flow.bytes.len() / 2;
                        if flow.drain(to, half)? == half {
                            effects.broken.fetch_add(1, Ordering::Relaxed);
                            return Ok(Fate::Breaks);
                        }
                        0
                    }
                    Rule::Break(_) => usize::MAX,
                    Rule::Garble(after) => {
                        let middle = flow.bytes.len() / 2;
                        let has_come = self.carried >= after.into() && !self.is_garbled;
                        if let Some(byte) = flow.bytes.get_mut(middle).filter(|_| has_come) {
                            *byte ^= 1 << (middle % 8);
                            self.is_garbled = true;
                            effects.garbled.fetch_add(1, Ordering::Relaxed);
                        }
                        usize::MAX
                    }
                };
                let sent = flow.drain(to, limit)?;
                self.carried += count(sent);
                effects.carried.fetch_add(count(sent), Ordering::Relaxed);
                flow.allowance = flow.allowance.saturating_sub(sent);
                if limit != usize::MAX {
                    flow.note_withheld(effects);
                }
                if sent == 0 || limit != usize::MAX {
                    break;
                }
            }
            if flow.is_over() {
                return Ok(Fate::Ends);
            }
        }
        Ok(Fate::Lives)
    }

    /// Has both sides see a reset rather than an end.
    pub fn reset(self) {
        for socket in [&self.near, &self.far] {
            // A socket that cannot be told so is closed in order, which is as good.
            drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        }
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a count in memory")
}
