//! The keys of an entity for a tail (`CERTUS STATE`).

use net::resp::value::Value;

use crate::context::Context;
use crate::entity::Entity;
use crate::errors;
use crate::session::glob;
use crate::state_machine::StateMachine;
use crate::tail::change::State;

impl<M: StateMachine> Entity<M> {
    /// The keys that match, as applied here, and the last record of the log by now: all that is
    /// part of this state is told by records up to there.
    pub(crate) fn tell_state(&self, context: &Context, pattern: Option<&[u8]>) -> Value {
        if self.has_diverged() {
            return errors::tail_in_doubt();
        }
        let mut keys = Vec::new();
        self.state.each_key(|key, value, version| {
            if pattern.is_none_or(|pattern| glob::matches_exactly(pattern, key)) {
                keys.push((key.to_vec(), value.to_vec(), version));
            }
        });
        let log = context.log.config().identity.incarnation_low();
        State { log, record: context.log.last_appended(), keys }.into_value()
    }
}
