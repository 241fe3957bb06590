//! The main judge: what was answered against what was chosen.
//!
//! The chosen log says in which order everything took effect, up to the order inside one batch, and
//! every reply says where it stands in it. So an entity is judged batch by batch:
//!
//! 1. *Times.* `known_by(e)` is the earliest reply that stands at e or later: by then e was chosen.
//!    What is in e was called by then; and a reply stands at least where every earlier reply did.
//! 2. *Ids.* Each is in one batch at most, with the reply that every copy of the request was given.
//! 3. *Batches.* With a request id at every write, a batch is replayed as it stands on the state
//!    before it, and must give its replies and its effects. Otherwise an order is searched in which
//!    the operations known to be in it, and as few of unknown fate as possible, give them
//!    (`puzzle.rs`); no operation may be needed in two places (`allotment.rs`).
//! 4. *Reads* see the state after their entry, or, when called before it was known, one inside it.
//!
//! If all this holds, the order by entry, and inside each batch as found, is a linearization.
//!
//! What is found, by the name of the invariant that it breaks:
//!
//! - `linearizable`: stale reads, reads from the future, lost and torn writes, wrong replies,
//!   swapped real-time order;
//! - `exactly-once`: an id in two entries, a copy that was told something else than the first,
//!   effects that need a command twice;
//! - `validity`: an id or an effect that nobody asked for in time, or that was refused;
//! - `order`: effects that cannot be applied to the state before them;
//! - `history`: a history that contradicts itself, or a command that the model does not know.
//!
//! Where several names fit, as they may where little is known, it is the first that explains all.

use std::collections::BTreeMap;

use engine::batch::OWN_REQUEST_ID;
use net::resp::value::Value;
use plog::vocabulary::EntityId;

use crate::history::command::Command;
use crate::history::model::State;
use crate::history::versions::judge::Judge;
use crate::history::{ChosenLog, Operation, Outcome, Violation, describe};

mod allotment;
mod blame;
mod judge;
mod pieces;
#[cfg(test)]
mod planted_test;
mod puzzle;
#[cfg(test)]
mod random_test;
mod tokens;

/// What was compared. Counts that stay at zero over many runs mean that nothing was tested.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// Answered commands that cannot change anything.
    pub reads: usize,
    /// Answered commands that can.
    pub writes: usize,
    /// Operations that were called after another of their entity was answered, and had to stand
    /// behind it.
    pub real_time_pairs: usize,
    /// Request ids found in the log, the replicas' own included.
    pub ids: usize,
    /// Replies that stand at a later entry than their write: copies, answered from memory.
    pub duplicates: usize,
    /// Operations that were refused, and so must have left nothing.
    pub refused: usize,
    /// Operations of unknown fate that turned out to have taken effect.
    pub unknown_applied: usize,
    /// Batches replayed exactly.
    pub replayed: usize,
    /// Batches for which an order was searched.
    pub searched: usize,
    /// Searches that were given up: their batches were judged by their ids and keys alone.
    pub given_up: usize,
    /// Times that commands of unknown fate had to be allotted anew, because two batches wanted one.
    pub reallotted: usize,
    /// Appended tokens counted in final values.
    pub tokens: usize,
    /// The state of every entity after its last entry, to be compared with what the replicas hold.
    pub states: BTreeMap<EntityId, State>,
}

/// Judges a history. Operations need not be in any order.
///
/// # Errors
///
/// The first violation found.
pub fn check(history: &[Operation], chosen: &ChosenLog) -> Result<Checked, Violation> {
    let mut checked = Checked::default();
    let places = check_ids(history, chosen)?;
    checked.ids = places.len();
    let mut entities: BTreeMap<EntityId, Vec<&Operation>> =
        chosen.keys().map(|entity| (*entity, Vec::new())).collect();
    for operation in history {
        entities.entry(operation.entity).or_default().push(operation);
        if let Outcome::Refused { .. } = operation.outcome {
            checked.refused += 1;
        }
    }
    for (entity, operations) in entities {
        let log = chosen.get(&entity).map_or(&[][..], Vec::as_slice);
        let subjects = operations
            .into_iter()
            .map(|operation| Subject::new(operation, &places))
            .collect::<Result<Vec<_>, _>>()?;
        let mut judge = Judge::new(log, subjects, &mut checked)?;
        judge.judge_batches(&mut checked)?;
        let state = judge.into_state();
        checked.states.insert(entity, state);
    }
    Ok(checked)
}

/// An operation, and what is known of it beside its outcome.
#[derive(Clone, Debug)]
struct Subject<'a> {
    operation: &'a Operation,
    command: Command<'a>,
    /// The entry that carries its id, and the reply there.
    place: Option<(u64, &'a [u8])>,
}

impl<'a> Subject<'a> {
    fn new(operation: &'a Operation, places: &Places<'a>) -> Result<Self, Violation> {
        let unknown = || {
            Violation::new("history", format!("the model does not know {}", describe(operation)))
        };
        let command = Command::parse(&operation.words).ok_or_else(unknown)?;
        let place = operation.request_id.as_deref().and_then(|id| places.get(id));
        if let Outcome::Replied { at, .. } | Outcome::Refused { at } = operation.outcome
            && at < operation.called_at
        {
            let what = format!("answered before it was called: {}", describe(operation));
            return Err(Violation::new("history", what));
        }
        Ok(Self { operation, command, place: place.map(|place| (place.entry, place.reply)) })
    }

    /// Whether its id must be in the log if it took effect, or was answered at all.
    fn is_noted(&self) -> bool {
        self.operation.request_id.is_some() && self.command.is_write()
    }

    /// When it was answered, with what, and as of which entry.
    fn reply(&self) -> Option<(u64, &'a Value, u64)> {
        match &self.operation.outcome {
            Outcome::Replied { at, reply, entry } => Some((*at, reply, entry.0)),
            Outcome::Unknown | Outcome::Refused { .. } => None,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self.operation.outcome, Outcome::Refused { .. })
    }
}

/// Where a request id is in the log.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    entity: EntityId,
    entry: u64,
    reply: &'a [u8],
}

type Places<'a> = BTreeMap<&'a [u8], Place<'a>>;

/// Whether a replica made up this id, for a command that it forwarded.
fn is_own(id: &[u8]) -> bool {
    id.first() == Some(&OWN_REQUEST_ID)
}

/// Finds every id in the log: once, and asked for by somebody who was not refused.
fn check_ids<'a>(history: &'a [Operation], chosen: &'a ChosenLog) -> Result<Places<'a>, Violation> {
    let mut asked: BTreeMap<&[u8], &Operation> = BTreeMap::new();
    for operation in history {
        if let Some(id) = &operation.request_id
            && let Some(other) = asked.insert(id, operation)
        {
            let (one, other) = (describe(operation), describe(other));
            let what = format!("two operations have one id: {other} and {one}");
            return Err(Violation::new("history", what));
        }
    }
    let mut places = Places::new();
    for (entity, log) in chosen {
        for (batch, entry) in log.iter().zip(1..) {
            for (id, reply) in &batch.requests {
                let name = id.escape_ascii();
                let place = Place { entity: *entity, entry, reply };
                if let Some(first) = places.insert(id, place) {
                    let what = format!(
                        "request id {name} was applied at entry {} of entity {:x}, and at entry \
                         {entry} of entity {:x} again",
                        first.entry, first.entity.0, entity.0
                    );
                    return Err(Violation::new("exactly-once", what));
                }
                let refusal = match asked.get(id.as_slice()) {
                    _ if is_own(id) => None,
                    None => Some("nobody's".to_owned()),
                    Some(operation) => match operation.outcome {
                        Outcome::Refused { .. } => Some(describe(operation)),
                        _ if operation.entity != *entity => Some(describe(operation)),
                        _ => None,
                    },
                };
                if let Some(asked) = refusal {
                    let what = format!(
                        "entry {entry} of entity {:x} carries request id {name}, which is {asked}",
                        entity.0
                    );
                    return Err(Violation::new("validity", what));
                }
            }
        }
    }
    Ok(places)
}
