//! Brings a client's request to the shard that owns its entity, on this core or another.

use engine::request::{EntityRequest, Ticket};
use engine::shard::StringShard;
use engine::time::Time;
use net::resp::slot::shard_of;
use plog::vocabulary::EntityId;

use crate::mesh::MeshEnd;
use crate::mesh::message::MeshMessage;
use crate::reactor::metrics::Metrics;

/// Borrowed for one step of a turn: where requests may go.
#[derive(Debug)]
pub struct Router<'a> {
    /// When the turn began.
    pub now: Time,
    /// This core's shard.
    pub shard: &'a mut StringShard,
    /// The way to the others.
    pub mesh: &'a mut MeshEnd,
    /// This core's statistics.
    pub metrics: &'a mut Metrics,
    /// Whether a write to the log is in flight, so that a full log is about to drain.
    pub log_is_writing: bool,
}

/// A request that found no room. Its client is not read until it did.
#[derive(Debug)]
pub struct Stalled {
    /// Whose reply.
    pub ticket: Ticket,
    /// The entity.
    pub entity: EntityId,
    /// What is asked.
    pub request: EntityRequest,
}

impl Router<'_> {
    /// A full log that is being written has room as soon as the write is done. If nothing is being
    /// written, waiting would not help: then the shard refuses in its own words.
    fn shard_has_room(&self) -> bool {
        !(self.log_is_writing && self.shard.log().is_full())
    }

    /// Hands the request to its owner.
    ///
    /// # Errors
    ///
    /// Gives it back when the owner, or the way there, is full.
    pub fn offer(
        &mut self,
        ticket: Ticket,
        entity: EntityId,
        request: EntityRequest,
    ) -> Result<(), Stalled> {
        let owner = shard_of(entity, self.mesh.core_count());
        if owner == self.mesh.core() {
            if !self.shard_has_room() {
                return Err(Stalled { ticket, entity, request });
            }
            self.shard.handle_request(self.now, ticket, entity, request);
            return Ok(());
        }
        if !self.mesh.has_credit(owner) {
            return Err(Stalled { ticket, entity, request });
        }
        let sent_us = self.now.0;
        self.mesh.send_request(owner, MeshMessage::Request { ticket, entity, request, sent_us });
        self.metrics.counters.mesh_requests += 1;
        Ok(())
    }
}
