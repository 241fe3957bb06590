//! What is to be done for a client's command.

use net::resp::value::Value;
use plog::configuration::Change;
use plog::vocabulary::EntityId;

use crate::request::EntityRequest;
use crate::session::settings::RateChanges;

/// What [`Session::handle`](super::Session::handle) asks its driver to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the reply.
    Reply(Value),
    /// Send the reply, then close the connection.
    ReplyAndClose(Value),
    /// Hand the request to the shard that owns the entity, and send its reply.
    Entity {
        /// Whom it concerns.
        entity: EntityId,
        /// What is asked.
        request: EntityRequest,
    },
    /// Gather what is asked from all cores, and send it.
    Node(NodeQuery),
}

/// A question that concerns all cores of the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeQuery {
    /// `DBSIZE`: answered by [`render_dbsize`](super::render_dbsize).
    DbSize,
    /// `INFO`: answered by [`render_info`](super::render_info).
    Info {
        /// Names of known sections, `default`, `all` or `everything`, in lower case and each once.
        sections: Vec<String>,
    },
    /// `CERTUS STATUS`: answered with a document in JSON.
    Status,
    /// What an operator wants of every core: answered with a document in JSON.
    Order(Order),
}

/// What an operator wants of every core of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// `CERTUS CHECKPOINT`: begin one, whatever was logged since the last.
    Checkpoint,
    /// `CERTUS CLEANER PAUSE`: free no segment until it is resumed or the node starts again.
    PauseCleaner,
    /// `CERTUS CLEANER RESUME`.
    ResumeCleaner,
    /// `CERTUS CLEANER STATUS`: only say how the cleaner is.
    ShowCleaner,
    /// `CERTUS MEMBER`: one step of a change of the membership, or only how it stands. Core 0 does
    /// it.
    Member(MemberOrder),
    /// `CONFIG SET` of the rates at which the node catches up, until it starts again. Answered with
    /// `OK`.
    SetCatchUpRates(RateChanges),
}

/// What an operator wants of the membership.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemberOrder {
    /// `CERTUS MEMBER LIST`.
    List,
    /// `CERTUS MEMBER ADD|PROMOTE|REMOVE id`: it is begun, not waited for.
    Change(Change),
}
