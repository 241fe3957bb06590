//! What a client asks of one entity, and how its answer finds the way back.

use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::tail::LogPosition;

/// Names a request to the world that asked: opaque to the engine, handed back with the reply.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// The core whose client asks.
    pub core: u16,
    /// The client's connection on that core.
    pub connection: u64,
    /// Position of the request in that connection's stream.
    pub sequence: u64,
}

/// One request for one entity.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityRequest {
    /// A command of the state machine, read or write.
    Command(Command),
    /// `CERTUS ENTITY`: this replica's cursors and records of the entity.
    Inspect,
    /// `CERTUS STATE`: the keys of the entity as this replica has them.
    State {
        /// Which keys: a pattern, as of `KEYS` of Redis.
        pattern: Option<Box<[u8]>>,
    },
    /// A question about the core, not the entity: any of the core's own may be named.
    Core(CoreQuestion),
}

/// What a tail asks a core.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreQuestion {
    /// `CERTUS CHANGES`: what changed after a place in the core's log.
    Changes(Box<ChangesQuestion>),
    /// `CERTUS ENTITIES`: which entities there are.
    Entities {
        /// Those after this one, in the order of the index; `None`: from the first on.
        after: Option<EntityId>,
        /// At most so many.
        count: usize,
    },
}

/// What changed after a place in a core's log.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangesQuestion {
    /// The place; `None`: only where the log ends now is asked.
    pub after: Option<LogPosition>,
    /// Which keys: a pattern, as of `KEYS` of Redis.
    pub pattern: Option<Box<[u8]>>,
    /// At most so many lines, at least 1.
    pub count: usize,
}

/// A command of the state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Name and arguments, as the client sent them; already checked for arity by the session.
    pub arguments: Arguments,
    /// Apply at most once under this id (`CERTUS ONCE`), 1 to 64 bytes.
    pub request_id: Option<Box<[u8]>>,
    /// How current the state must be if the command turns out to change nothing.
    pub freshness: Freshness,
}

/// How current a read must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Sees everything acknowledged before the read began, on any replica.
    Linearizable,
    /// This replica's state as it is (`READONLY`); possibly stale.
    Local,
}

/// A reply on its way to the client that holds `ticket`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Whose reply.
    pub ticket: Ticket,
    /// What to say.
    pub value: Value,
    /// Where in the entity's history the reply stands. Of a write that took effect: the entry in
    /// which it was chosen. Of what was answered from the state: the last entry applied by then,
    /// or, if it was answered together with writes that came before it, their entry. Zero when
    /// nothing was evaluated.
    pub entry: Entry,
}
