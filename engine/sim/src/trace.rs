//! What happened, for whoever reads a failure: the last events in words, and a hash of all of them,
//! by which two runs of one seed are compared.

use std::collections::VecDeque;
use std::fmt;

use net::peer::message::{LagFound, LagQuestion, MembershipMessage, PeerMessage};
use plog::vocabulary::{EntityId, Entry};

/// Events kept.
const KEPT: usize = 400;

/// An event, as far as a reader needs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names say it; they are read in traces only")]
pub enum What {
    Start { node: u8, epoch: u32 },
    Crash { node: u8 },
    Freeze { node: u8, duration_us: u64 },
    Wipe { node: u8 },
    Registered { node: u8, generation: u32 },
    Damage { node: u8 },
    Adopted { node: u8, version: u32 },
    LinkUp { from: u8, to: u8 },
    LinkDown { from: u8, to: u8 },
    Asked { node: u8, entity: EntityId, ticket: u64 },
    Replied { node: u8, entity: EntityId, ticket: u64, entry: Entry },
    Written { node: u8, bytes: usize },
    Sent { from: u8, to: u8, kind: &'static str, entity: EntityId, entry: Entry, detail: u64 },
}

/// See the module page.
#[derive(Clone, Debug)]
pub struct Trace {
    kept: VecDeque<(u64, What)>,
    hash: u64,
    count: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { kept: VecDeque::with_capacity(KEPT), hash: 0xCBF2_9CE4_8422_2325, count: 0 }
    }
}

impl Trace {
    /// Notes an event.
    pub fn note(&mut self, at: u64, what: What) {
        self.count += 1;
        let (kind, numbers) = what.numbers();
        for number in [at, kind].into_iter().chain(numbers) {
            // FNV-1a, by 64-bit words.
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((at, what));
    }

    /// Notes a message.
    pub fn note_message(&mut self, at: u64, from: u8, to: u8, message: &PeerMessage) {
        let entity = message.entity().unwrap_or(EntityId(0));
        let (kind, entry, detail) = describe(message);
        self.note(at, What::Sent { from, to, kind, entity, entry, detail });
    }

    /// Takes out the events that are kept.
    pub fn take(&mut self) -> Vec<(u64, What)> {
        self.kept.drain(..).collect()
    }

    /// A number that differs, most likely, between runs that differ anywhere.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// What kind of message it is, in words, the entry it is about, and a number that tells it from
/// others of its kind.
#[must_use]
pub fn describe(message: &PeerMessage) -> (&'static str, Entry, u64) {
    match message {
        PeerMessage::Entry(message) => {
            let request = message.request.map_or(0, |request| u64::from(request.ballot.round) + 1);
            let value = message.request.and_then(|request| request.value_id);
            let kind = match (message.request.is_some(), value.is_some()) {
                (true, true) => "accept request",
                (true, false) => "prepare",
                (false, _) => "record",
            };
            (kind, message.entry, request << 32 | u64::from(message.mine.promised.round))
        }
        PeerMessage::Chosen(notice) => ("chosen", notice.entry, notice.value_id.counter),
        PeerMessage::Newer(notice) => ("newer", notice.max_chosen, 0),
        PeerMessage::ReadCheck(check) => ("read check", check.entry, check.check),
        PeerMessage::ReadAnswer(answer) => ("read answer", answer.entry, answer.check),
        PeerMessage::CatchUp(request) => ("catch-up", request.first, request.last.0),
        PeerMessage::CatchUpAnswer(answer) => {
            ("catch-up answer", answer.max_chosen, answer.entries.len() as u64)
        }
        PeerMessage::Image(image) => ("image", image.applied, image.state.len() as u64),
        PeerMessage::Forward(forward) => ("forward", Entry::ZERO, forward.forward),
        PeerMessage::ForwardAnswer(answer) => ("forward answer", answer.entry, answer.forward),
        PeerMessage::Sweep(_) => ("sweep", Entry::ZERO, 0),
        PeerMessage::SweepAnswer(answer) => {
            ("sweep answer", Entry::ZERO, answer.entities.len() as u64)
        }
        PeerMessage::SweepHint => ("sweep hint", Entry::ZERO, 0),
        PeerMessage::Lag(request) => {
            let mark = request.confirmed.map_or(0, |confirmed| u64::from(confirmed.mark) + 1);
            let kind = match request.asks {
                LagQuestion::Nothing => "lag confirmed",
                LagQuestion::Since | LagQuestion::More(_) => "lag question",
                LagQuestion::Range(_) => "digest",
            };
            (kind, Entry::ZERO, mark)
        }
        PeerMessage::LagAnswer(answer) => match &answer.found {
            LagFound::Abstains => ("lag answer: abstains", Entry::ZERO, 0),
            LagFound::Unknown => ("lag answer: unknown", Entry::ZERO, 0),
            LagFound::Equal => ("lag answer: equal", Entry::ZERO, 1),
            LagFound::EqualWithoutChains => ("lag answer: equal", Entry::ZERO, 0),
            LagFound::Page(page) => ("lag answer", Entry::ZERO, page.entities.len() as u64),
        },
        PeerMessage::Heartbeat => ("heartbeat", Entry::ZERO, 0),
        PeerMessage::Generations(_) => ("generations", Entry::ZERO, 0),
        PeerMessage::Finish(request) => ("finish", request.entry, 0),
        PeerMessage::Configuration(_) => ("configuration", Entry::ZERO, 0),
        PeerMessage::Membership(message) => {
            let kind = match message {
                MembershipMessage::Ask => "membership: ask",
                MembershipMessage::State(_) => "membership: state",
                MembershipMessage::Prepare { .. } => "membership: prepare",
                MembershipMessage::Promise { .. } => "membership: promise",
                MembershipMessage::Accept { .. } => "membership: accept",
                MembershipMessage::Accepted { .. } => "membership: accepted",
                MembershipMessage::Refused { .. } => "membership: refused",
            };
            (kind, Entry::ZERO, 0)
        }
        PeerMessage::Transfer(_) => ("transfer", Entry::ZERO, 0),
        PeerMessage::TransferPage(_) => ("transfer page", Entry::ZERO, 0),
        PeerMessage::Compare(request) => ("compare", Entry::ZERO, request.check),
        PeerMessage::Compared(answer) => ("compared", answer.applied, answer.check),
        PeerMessage::Copy(request) => ("copy", request.entry, 0),
        PeerMessage::Follow(request) => ("follow", Entry::ZERO, request.number),
        PeerMessage::FollowAnswer(answer) => ("follow answer", Entry::ZERO, answer.told),
        PeerMessage::Told(notice) => ("told", notice.entry, notice.number),
    }
}

impl What {
    fn numbers(&self) -> (u64, [u64; 5]) {
        match *self {
            Self::Start { node, epoch } => (1, [node.into(), epoch.into(), 0, 0, 0]),
            Self::Crash { node } => (2, [node.into(), 0, 0, 0, 0]),
            Self::Freeze { node, duration_us } => (3, [node.into(), duration_us, 0, 0, 0]),
            Self::Wipe { node } => (4, [node.into(), 0, 0, 0, 0]),
            Self::Damage { node } => (5, [node.into(), 0, 0, 0, 0]),
            Self::LinkUp { from, to } => (6, [from.into(), to.into(), 0, 0, 0]),
            Self::LinkDown { from, to } => (7, [from.into(), to.into(), 0, 0, 0]),
            Self::Asked { node, entity, ticket } => (8, [node.into(), entity.0, ticket, 0, 0]),
            Self::Replied { node, entity, ticket, entry } => {
                (9, [node.into(), entity.0, ticket, entry.0, 0])
            }
            Self::Written { node, bytes } => (10, [node.into(), bytes as u64, 0, 0, 0]),
            Self::Registered { node, generation } => {
                (12, [node.into(), generation.into(), 0, 0, 0])
            }
            Self::Adopted { node, version } => (13, [node.into(), version.into(), 0, 0, 0]),
            Self::Sent { from, to, kind, entity, entry, detail } => {
                let ends = u64::from(from) << 8 | u64::from(to);
                (11, [ends, kind.len() as u64, entity.0, entry.0, detail])
            }
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "the last {} of {} events:", self.kept.len(), self.count)?;
        for (at, what) in &self.kept {
            writeln!(formatter, "{at:>10} {what:?}")?;
        }
        Ok(())
    }
}
