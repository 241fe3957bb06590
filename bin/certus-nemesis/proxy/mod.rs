//! The network between nodes, and between clients and nodes: every connection goes through a link
//! of this proxy, which can be cut, stalled, slowed, broken in the middle of a frame, or garbled.
//!
//! One thread carries all bytes. What is done to a link is told to it through a channel; what came
//! of it stands in the link's [`Effects`], so that whoever asked can see that it took effect.

mod carrier;
mod pipe;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use mio::{Poll, Waker};

use crate::proxy::carrier::Carrier;

/// What a link does with what it is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Carries it.
    Open,
    /// Resets every connection, and each new one at once.
    Cut,
    /// Carries nothing, and ends nothing either: bytes wait.
    Stall,
    /// Carries requests, and no answers.
    StallAnswers,
    /// Carries so many bytes a second in each direction of a connection.
    Slow(u32),
    /// Carries so many bytes on a connection, then half of what comes next, and resets it.
    Break(u32),
    /// Carries so many bytes on a connection, then flips a bit of what comes next, once.
    Garble(u32),
}

/// What is told to the thread about a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    /// It has this rule from now on.
    Rule(Rule),
    /// Its connections end now.
    Reset,
}

/// What came of the rules of a link so far.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes carried.
    pub carried: AtomicU64,
    /// Connections reset or not let in.
    pub cut: AtomicU64,
    /// Connections reset between two halves of what came in one piece.
    pub broken: AtomicU64,
    /// Bytes that had to wait.
    pub withheld: AtomicU64,
    /// Bits flipped.
    pub garbled: AtomicU64,
}

/// One way through the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Where the proxy listens.
    pub from: SocketAddr,
    /// Whom it connects to.
    pub to: SocketAddr,
}

/// The running proxy. It ends with the process.
#[derive(Debug)]
pub struct Proxy {
    changes: Sender<(usize, Change)>,
    waker: Waker,
    effects: Vec<Arc<Effects>>,
}

impl Proxy {
    /// Listens at the beginnings of all ways, which are numbered as they come here.
    ///
    /// # Errors
    ///
    /// The operating system's; a port that somebody else took.
    pub fn start(ways: &[Way]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), carrier::WAKE)?;
        let effects: Vec<Arc<Effects>> = ways.iter().map(|_| Arc::default()).collect();
        let (changes, received) = channel();
        let mut carrier = Carrier::new(poll, ways, &effects, received)?;
        std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            loop {
                carrier.turn().expect("the operating system tells of events");
            }
        })?;
        Ok(Self { changes, waker, effects })
    }

    /// From now on, link `link` does this.
    pub fn set(&self, link: usize, rule: Rule) {
        self.tell(link, Change::Rule(rule));
    }

    /// Ends the connections of link `link`; its rule stays.
    pub fn reset(&self, link: usize) {
        self.tell(link, Change::Reset);
    }

    fn tell(&self, link: usize, change: Change) {
        self.changes.send((link, change)).expect("the proxy runs as long as the process");
        self.waker.wake().expect("the proxy runs as long as the process");
    }

    /// What came of the rules of these links together: cut, broken, withheld, garbled.
    pub fn effects(&self, links: &[usize]) -> [u64; 4] {
        links.iter().fold([0; 4], |[cut, broken, withheld, garbled], link| {
            let effects = &self.effects[*link];
            [
                cut + effects.cut.load(Ordering::Relaxed),
                broken + effects.broken.load(Ordering::Relaxed),
                withheld + effects.withheld.load(Ordering::Relaxed),
                garbled + effects.garbled.load(Ordering::Relaxed),
            ]
        })
    }
}
