//! The second judge: linearizability from replies and times alone.
//!
//! It shares the model with the main judge, and nothing else. An entity's history is cut where
//! nothing was under way into windows. A window begins with the state after the last entry that was
//! seen before it, from the chosen log; from there on no entry is looked at. What is searched is an
//! order of the window's operations in which each takes effect at once, at some moment between its
//! call and its reply, and every reply is what the model gives. Operations of unknown fate take
//! effect at any moment after their call, or never.
//!
//! Versions are entries, which this judge does not know. It learns them: `CERTUS VERSION` says what
//! a key's version is, a write that it is some later one, and a `CERTUS CAS` agrees or not.
//!
//! The search is Wing and Gong's with Lowe's memory of what was tried (G. Lowe, "Testing for
//! linearizability", 2017), as in Porcupine. It is written out because the crate `porcupine-rs`
//! (0.3) can be stopped by the wall clock only, so that the verdict on a seed would depend on the
//! machine, and because it brings a benchmark framework with over sixty crates as ordinary
//! dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use engine::state_machine::strings::VALUE_SIZE_MAX;
use net::resp::value::Value;
use plog::vocabulary::EntityId;

use crate::history::command::Command;
use crate::history::model::{Change, State};
use crate::history::{ChosenBatch, ChosenLog, Operation, Outcome, Violation, describe};

/// Most operations of a window, those of unknown fate included. Windows with more are not judged.
pub const WINDOW_OPERATIONS_MAX: usize = 24;

/// Steps of one search, beyond which its window is not judged.
const STEPS_MAX: usize = 5_000;

/// Judges every window of every entity that is small enough, and returns how many were.
///
/// # Errors
///
/// `linearizable`, with the first window that has no order; `history` when a command is not known
/// to the model or the log cannot be applied.
pub fn check_windows(history: &[Operation], chosen: &ChosenLog) -> Result<usize, Violation> {
    let mut entities: BTreeMap<EntityId, Vec<Event<'_>>> = BTreeMap::new();
    for operation in history {
        if let Some(event) = Event::new(operation)? {
            entities.entry(operation.entity).or_default().push(event);
        }
    }
    let mut judged = 0;
    for (entity, mut events) in entities {
        let log = chosen.get(&entity).map_or(&[][..], Vec::as_slice);
        events.sort_by_key(|event| event.operation.called_at);
        judged += check_entity(&events, log)?;
    }
    Ok(judged)
}

/// An operation that took effect, or may have.
#[derive(Clone, Copy, Debug)]
struct Event<'a> {
    operation: &'a Operation,
    command: Command<'a>,
    /// When it was answered, with what, as of which entry.
    answer: Option<(u64, &'a Value, u64)>,
}

impl<'a> Event<'a> {
    /// `None` for an operation that certainly has no effect.
    fn new(operation: &'a Operation) -> Result<Option<Self>, Violation> {
        let Some(command) = Command::parse(&operation.words) else {
            let what = format!("the model does not know {}", describe(operation));
            return Err(Violation::new("history", what));
        };
        let answer = match &operation.outcome {
            Outcome::Replied { at, reply, entry } => Some((*at, reply, entry.0)),
            Outcome::Unknown if command.is_write() => None,
            Outcome::Unknown | Outcome::Refused { .. } => return Ok(None),
        };
        Ok(Some(Self { operation, command, answer }))
    }
}

/// Judges the windows of one entity; `events` are in the order of their calls.
fn check_entity(events: &[Event<'_>], log: &[ChosenBatch]) -> Result<usize, Violation> {
    let mut start = Start::new(log);
    let mut judged = 0;
    let answered: Vec<&Event<'_>> = events.iter().filter(|event| event.answer.is_some()).collect();
    let mut rest = &answered[..];
    while !rest.is_empty() {
        let mut size = quiet_after(rest);
        // Several stretches make one window: the more of them, the less it owes to the log.
        while size < rest.len() {
            let larger = size + quiet_after(&rest[size..]);
            if larger + start.open_until(events, last_reply(&rest[..larger])).len()
                > WINDOW_OPERATIONS_MAX
            {
                break;
            }
            size = larger;
        }
        let (window, after) = rest.split_at(size);
        let mut window: Vec<&Event<'_>> = window.to_vec();
        window.extend(start.open_until(events, last_reply(&window)));
        if window.len() <= WINDOW_OPERATIONS_MAX {
            match Search::new(&window, &start).run() {
                Some(true) => judged += 1,
                Some(false) => return Err(not_linearizable(&window, &start)),
                None => {}
            }
        }
        rest = after;
        let seen = window.iter().filter_map(|event| event.answer).map(|answer| answer.2).max();
        start.advance(seen.unwrap_or(0))?;
    }
    Ok(judged)
}

/// How many of the first operations end before any other begins.
fn quiet_after(events: &[&Event<'_>]) -> usize {
    let mut ended = 0;
    for (index, event) in events.iter().enumerate() {
        if index > 0 && ended < event.operation.called_at {
            return index;
        }
        ended = ended.max(event.answer.map_or(0, |answer| answer.0));
    }
    events.len()
}

fn last_reply(events: &[&Event<'_>]) -> u64 {
    let replies = events.iter().filter_map(|event| event.answer);
    replies.map(|(at, _, _)| at).max().unwrap_or(0)
}

fn not_linearizable(window: &[&Event<'_>], start: &Start<'_>) -> Violation {
    let operations: Vec<String> = window.iter().map(|event| describe(event.operation)).collect();
    let what = format!(
        "no order of these, from the state after entry {}: {}",
        start.entry,
        operations.join("; ")
    );
    Violation::new("linearizable", what)
}

/// Where a window begins.
#[derive(Debug)]
struct Start<'a> {
    log: &'a [ChosenBatch],
    /// The last entry that was seen before.
    entry: u64,
    /// The state after it.
    state: State,
    /// The request ids up to it.
    applied: BTreeSet<&'a [u8]>,
}

impl<'a> Start<'a> {
    fn new(log: &'a [ChosenBatch]) -> Self {
        Self { log, entry: 0, state: State::default(), applied: BTreeSet::new() }
    }

    /// Goes on to the state after `entry`, unless it is there already.
    fn advance(&mut self, entry: u64) -> Result<(), Violation> {
        while self.entry < entry {
            let index = usize::try_from(self.entry).expect("entries of a log in memory");
            let batch = self.log.get(index).ok_or_else(|| {
                let what = format!("entry {entry} was seen, {} were chosen", self.log.len());
                Violation::new("linearizable", what)
            })?;
            self.entry += 1;
            if self.state.apply_effects(&batch.effects, self.entry).is_err() {
                let what = format!("the effects of entry {} cannot be applied", self.entry);
                return Err(Violation::new("order", what));
            }
            self.applied.extend(batch.requests.iter().map(|(id, _)| id.as_slice()));
        }
        Ok(())
    }

    /// Operations of unknown fate, called until `last`, that are not known to be over.
    fn open_until<'e, 'b>(&self, events: &'e [Event<'b>], last: u64) -> Vec<&'e Event<'b>> {
        let called = events.iter().take_while(|event| event.operation.called_at <= last);
        called
            .filter(|event| {
                let id = event.operation.request_id.as_deref();
                event.answer.is_none() && id.is_none_or(|id| !self.applied.contains(id))
            })
            .collect()
    }
}

/// What is known of a key's version.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Version {
    Is(u64),
    AtLeast(u64),
}

impl Version {
    fn can_be(self, version: u64) -> bool {
        match self {
            Self::Is(known) => known == version,
            Self::AtLeast(least) => least <= version,
        }
    }

    fn least(self) -> u64 {
        match self {
            Self::Is(version) | Self::AtLeast(version) => version,
        }
    }
}

/// A state of a window: the model's, with all versions at 0, and what is known of them.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Guess {
    state: State,
    versions: BTreeMap<Rc<[u8]>, Version>,
}

impl Guess {
    fn new(state: &State) -> Self {
        let mut guess = Self { state: state.clone(), versions: BTreeMap::new() };
        for (key, record) in &mut guess.state.keys {
            guess.versions.insert(Rc::clone(key), Version::Is(record.version));
            record.version = 0;
        }
        guess
    }

    fn put(&mut self, key: &[u8], value: Rc<[u8]>, least: u64) {
        let least = self.versions.get(key).map_or(least, |version| version.least().max(least));
        self.versions.insert(key.into(), Version::AtLeast(least));
        let change = Change { key, value: Some(value) };
        self.state.apply(&[change], 0);
    }

    /// The state after `command`, if `reply` is what it may be answered here; an operation without
    /// a reply may be answered anything. `first` is the first entry that a change can be in.
    fn after(&self, command: &Command<'_>, reply: Option<&Value>, first: u64) -> Option<Self> {
        match *command {
            Command::Version(key) => self.after_version(key, reply?),
            Command::CompareAndSet { key, version, value } => {
                self.after_compare(key, version, value, reply, first)
            }
            _ => {
                let changes = match reply {
                    Some(reply) => self.state.changes_if_replied(command, reply)?,
                    None => self.state.evaluate(command).changes,
                };
                let mut after = self.clone();
                for change in changes {
                    match change.value {
                        Some(value) => after.put(change.key, value, first),
                        None => {
                            after.versions.remove(change.key);
                            after.state.apply(&[change], 0);
                        }
                    }
                }
                Some(after)
            }
        }
    }

    /// Whether an answered operation sees this state, and can change nothing of it. (To set what is
    /// there already is a change: it may have to come later, when something else is there.)
    fn is_seen_by(&self, event: &Event<'_>, first: u64) -> bool {
        let Some((_, reply, _)) = event.answer else { return false };
        let after = || self.after(&event.command, Some(reply), first);
        match event.command {
            // One that teaches something narrows what the others may be told.
            Command::Version(_) => after().as_ref() == Some(self),
            Command::CompareAndSet { .. } => *reply != Value::Integer(1) && after().is_some(),
            _ => self.state.is_observed(&event.command, reply),
        }
    }

    fn after_version(&self, key: &[u8], reply: &Value) -> Option<Self> {
        let mut after = self.clone();
        match (reply, after.versions.get_mut(key)) {
            (Value::Null, None) => Some(after),
            (Value::Integer(version), Some(known)) => {
                let version = u64::try_from(*version).ok()?;
                let fits = known.can_be(version);
                *known = Version::Is(version);
                fits.then_some(after)
            }
            _ => None,
        }
    }

    fn after_compare(
        &self,
        key: &[u8],
        version: u64,
        value: &[u8],
        reply: Option<&Value>,
        first: u64,
    ) -> Option<Self> {
        let known = self.versions.get(key).copied();
        let can_be_equal = match known {
            Some(known) => known.can_be(version),
            None => version == 0,
        };
        let must_be_equal = match known {
            Some(known) => known == Version::Is(version),
            None => version == 0,
        };
        let is_too_large = value.len() > VALUE_SIZE_MAX;
        let mut after = self.clone();
        match reply {
            Some(Value::Integer(1)) | None if can_be_equal && !is_too_large => {
                let least = first.max(version);
                after.put(key, value.into(), least);
                Some(after)
            }
            Some(Value::Integer(0)) if !must_be_equal => Some(after),
            // Too large a value, or too much in the entity.
            Some(Value::Error(error)) => {
                let fits = error.word() == "OOM" || is_too_large;
                (fits && can_be_equal).then_some(after)
            }
            _ => None,
        }
    }
}

/// The search of one window.
struct Search<'w, 'a> {
    window: &'w [&'w Event<'a>],
    root: Guess,
    /// The first entry that is not part of the state at the start.
    first: u64,
    /// Bits of the operations that were answered.
    answered: u32,
    visited: BTreeSet<(u32, Guess)>,
    steps: usize,
}

impl<'w, 'a> Search<'w, 'a> {
    fn new(window: &'w [&'w Event<'a>], start: &Start<'_>) -> Self {
        let answered = (0..window.len()).filter(|index| window[*index].answer.is_some());
        Self {
            window,
            root: Guess::new(&start.state),
            first: start.entry + 1,
            answered: answered.map(|index| 1 << index).sum(),
            visited: BTreeSet::new(),
            steps: 0,
        }
    }

    /// Whether there is an order; `None` when the search was given up.
    fn run(mut self) -> Option<bool> {
        let is_found = self.visit(0, self.root.clone());
        (is_found || self.steps <= STEPS_MAX).then_some(is_found)
    }

    /// Whether the operations that are not in `done` can follow on `guess`.
    fn visit(&mut self, mut done: u32, guess: Guess) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return false;
        }
        // What sees this state, and leaves it as it is, may as well come now.
        while let Some(index) =
            self.possible(done).find(|index| guess.is_seen_by(self.window[*index], self.first))
        {
            done |= 1 << index;
        }
        if done & self.answered == self.answered {
            return true;
        }
        if !self.visited.insert((done, guess.clone())) {
            return false;
        }
        let possible: Vec<usize> = self.possible(done).collect();
        possible.into_iter().any(|index| {
            let event = self.window[index];
            let reply = event.answer.map(|(_, reply, _)| reply);
            let after = guess.after(&event.command, reply, self.first);
            // One of unknown fate that changes nothing may as well never come.
            let after = after.filter(|after| reply.is_some() || *after != guess);
            after.is_some_and(|after| self.visit(done | 1 << index, after))
        })
    }

    /// Operations that may be next: not done, and called before any that is not done was answered.
    fn possible(&self, done: u32) -> impl Iterator<Item = usize> + use<'w, 'a> {
        let window = self.window;
        let open = move |index: &usize| done & 1 << *index == 0;
        let replies = (0..window.len()).filter(open).filter_map(|index| window[index].answer);
        let first = replies.map(|(at, _, _)| at).min().unwrap_or(u64::MAX);
        (0..window.len())
            .filter(open)
            .filter(move |index| window[*index].operation.called_at <= first)
    }
}
