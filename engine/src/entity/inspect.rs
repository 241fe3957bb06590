//! What this replica knows of an entity, for the operator (`CERTUS ENTITY`).

use net::resp::value::Value;
use plog::vocabulary::{Ballot, Entry};

use crate::context::Context;
use crate::entity::Entity;
use crate::state_machine::StateMachine;

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn text(text: String) -> Value {
    Value::bulk(text.into_bytes())
}

fn ballot(ballot: Ballot) -> Value {
    if ballot.is_none() {
        return Value::Null;
    }
    text(format!("{}.{}.{}", ballot.round, ballot.epoch.0, ballot.acceptor.0))
}

fn field(name: &'static str, value: Value) -> (Value, Value) {
    (Value::bulk(name.as_bytes()), value)
}

impl<M: StateMachine> Entity<M> {
    /// Cursors and open records as a map. Ballots read `round.epoch.acceptor`.
    pub(crate) fn inspect(&self, context: &Context) -> Value {
        let last = self.last.as_ref().map(|last| last.value_id);
        let originator = last.map_or(Value::Null, |id| number(u64::from(id.originator.0)));
        let open = self.slots.iter().map(|(Entry(entry), slot)| {
            let record = slot.local();
            Value::Map(vec![
                field("entry", number(entry)),
                field("prepared", ballot(record.prepared)),
                field("promised", ballot(record.promised)),
                field("accepted", ballot(record.accepted)),
                field("chosen", Value::Integer(i64::from(record.chosen))),
                field("durable", Value::Integer(i64::from(slot.lsn() <= context.log.durable()))),
            ])
        });
        Value::Map(vec![
            field("entity", text(format!("{:016x}", self.id.0))),
            field("max_chosen", number(self.max_chosen.0)),
            field("contiguous_chosen", number(self.applied.0)),
            field("applied", number(self.applied.0)),
            field("chain", text(format!("{:08x}", self.chain))),
            field("last_originator", originator),
            field("keys", number(u64::from(self.state.key_count()))),
            field("state_bytes", number(self.accounted_bytes as u64)),
            field("request_ids", number(self.request_ids.len() as u64)),
            field("image_at", number(self.image_at.0)),
            field("waiting", number(self.waiting.len() as u64)),
            field("abstains", Value::Integer(0)),
            field("diverged", Value::Integer(i64::from(self.has_diverged()))),
            field("open", Value::Array(open.collect())),
        ])
    }
}
