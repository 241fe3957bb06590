//! The thread that carries all bytes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::proxy::pipe::{Fate, Pipe};
use crate::proxy::{Change, Effects, Rule, Way};

/// The token of what wakes the thread when a rule changes.
pub const WAKE: Token = Token(usize::MAX);

/// Pace of the slowed links.
const TICK: Duration = Duration::from_millis(10);

/// A beginning of connections.
#[derive(Debug)]
struct Link {
    listener: TcpListener,
    to: SocketAddr,
    rule: Rule,
    effects: Arc<Effects>,
}

/// All links and connections.
#[derive(Debug)]
pub struct Carrier {
    poll: Poll,
    events: Events,
    links: Vec<Link>,
    /// Their tokens are behind those of the links, two for each.
    pipes: Vec<Option<Pipe>>,
    changes: Receiver<(usize, Change)>,
    ticked: Instant,
}

impl Carrier {
    /// Listens everywhere.
    pub fn new(
        poll: Poll,
        ways: &[Way],
        effects: &[Arc<Effects>],
        changes: Receiver<(usize, Change)>,
    ) -> io::Result<Self> {
        let mut links = Vec::new();
        for (number, (way, effects)) in ways.iter().zip(effects).enumerate() {
            let mut listener = TcpListener::bind(way.from)?;
            poll.registry().register(&mut listener, Token(number), Interest::READABLE)?;
            let effects = Arc::clone(effects);
            links.push(Link { listener, to: way.to, rule: Rule::Open, effects });
        }
        let events = Events::with_capacity(1024);
        Ok(Self { poll, events, links, pipes: Vec::new(), changes, ticked: Instant::now() })
    }

    /// Waits for something to do, and does it.
    pub fn turn(&mut self) -> io::Result<()> {
        let is_slow = self.links.iter().any(|link| matches!(link.rule, Rule::Slow(_)));
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, is_slow.then_some(TICK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.take_changes();
        for event in &events {
            let Token(token) = event.token();
            if event.token() == WAKE {
            } else if token < self.links.len() {
                self.accept(token)?;
            } else {
                self.carry((token - self.links.len()) / 2, Duration::ZERO);
            }
        }
        self.events = events;
        let passed = self.ticked.elapsed();
        if passed >= TICK {
            self.ticked = Instant::now();
            self.carry_where(passed, |rule| matches!(rule, Rule::Slow(_)));
        }
        Ok(())
    }

    fn take_changes(&mut self) {
        while let Ok((link, change)) = self.changes.try_recv() {
            if let Change::Rule(rule) = change {
                self.links[link].rule = rule;
            }
            for number in 0..self.pipes.len() {
                if self.pipes[number].as_ref().is_none_or(|pipe| pipe.link != link) {
                    continue;
                }
                match change {
                    Change::Rule(_) => self.carry(number, Duration::ZERO),
                    Change::Reset => self.pipes[number].take().into_iter().for_each(Pipe::reset),
                }
            }
        }
    }

    fn accept(&mut self, number: usize) -> io::Result<()> {
        loop {
            let link = &self.links[number];
            let near = match link.listener.accept() {
                Ok((near, _)) => near,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // One that ended before it was taken.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // Nobody listens there now: whoever came is closed at once.
            let Ok(far) = TcpStream::connect(link.to) else { continue };
            let mut pipe = Pipe::new(number, near, far);
            if link.rule == Rule::Cut {
                link.effects.cut.fetch_add(1, Ordering::Relaxed);
                pipe.reset();
                continue;
            }
            let slot = self.pipes.iter().position(Option::is_none).unwrap_or(self.pipes.len());
            for (socket, side) in pipe.sockets().into_iter().zip(0..) {
                socket.set_nodelay(true).ok();
                let token = Token(self.links.len() + 2 * slot + side);
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(socket, token, both)?;
            }
            if slot == self.pipes.len() {
                self.pipes.push(None);
            }
            self.pipes[slot] = Some(pipe);
            self.carry(slot, Duration::ZERO);
        }
    }

    fn carry_where(&mut self, passed: Duration, is_wanted: fn(&Rule) -> bool) {
        for number in 0..self.pipes.len() {
            let link = self.pipes[number].as_ref().map(|pipe| pipe.link);
            if link.is_some_and(|link| is_wanted(&self.links[link].rule)) {
                self.carry(number, passed);
            }
        }
    }

    fn carry(&mut self, number: usize, passed: Duration) {
        // An event of a connection that is gone.
        let Some(pipe) = self.pipes[number].as_mut() else { return };
        let link = &self.links[pipe.link];
        let fate = pipe.carry(link.rule, passed, &link.effects);
        if fate == Fate::Lives {
            return;
        }
        let pipe = self.pipes[number].take().expect("it was there just now");
        if fate == Fate::Breaks {
            if link.rule == Rule::Cut {
                link.effects.cut.fetch_add(1, Ordering::Relaxed);
            }
            pipe.reset();
        }
    }
}
