//! What crosses from core to core.

use engine::request::{EntityRequest, Ticket};
use engine::session::Order;
use plog::vocabulary::EntityId;

/// A request, or the answer to one. Holds nothing that belongs to one thread: a reply crosses as
/// the bytes its client will read.
#[derive(Debug)]
pub enum MeshMessage {
    /// A client of the sender asks for an entity of the receiver.
    Request {
        /// Where the reply goes.
        ticket: Ticket,
        /// An entity that the receiver owns.
        entity: EntityId,
        /// What is asked.
        request: EntityRequest,
        /// When it was sent, in microseconds of the machine's monotonic clock.
        sent_us: u64,
    },
    /// Answers a `Request`.
    Reply {
        /// The request's ticket.
        ticket: Ticket,
        /// The reply as it goes to the client, in the protocol that the ticket names.
        encoded: Vec<u8>,
    },
    /// Asks for the receiver's status.
    StatusWanted {
        /// Names the question.
        gather: u64,
    },
    /// What an operator wants of the receiver; answered by a `Status`.
    Order {
        /// Names the question.
        gather: u64,
        /// What is wanted.
        order: Order,
    },
    /// Answers a `StatusWanted` or an `Order`.
    Status {
        /// The question's name.
        gather: u64,
        /// What the core says, as JSON.
        json: String,
    },
}

impl MeshMessage {
    /// Whether it answers a request, and frees credit where it arrives.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Reply { .. } | Self::Status { .. } => true,
            Self::Request { .. } | Self::StatusWanted { .. } | Self::Order { .. } => false,
        }
    }
}

const _: () = {
    const fn may_cross<T: Send>() {}
    may_cross::<MeshMessage>();
};
