//! Judges one entity, batch by batch.

use std::collections::BTreeMap;

use engine::batch::decode_reply;
use net::resp::value::Value;

use crate::history::model::State;
use crate::history::versions::pieces::{Allowance, Class, Loose, needs};
use crate::history::versions::tokens::check_tokens;
use crate::history::versions::{Checked, Subject, is_own};
use crate::history::{ChosenBatch, Violation, describe};

/// What is known of one entity.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) log: &'a [ChosenBatch],
    pub(super) subjects: Vec<Subject<'a>>,
    /// The state after each entry; the first is the one before entry 1.
    pub(super) states: Vec<State>,
    /// By entry: when it was known to be chosen, at the latest. `u64::MAX` if nobody ever saw it.
    known_by: Vec<u64>,
    /// By entry: who was answered as of it and left no id. Subjects by number.
    pub(super) members: Vec<Vec<usize>>,
    /// The request ids that replicas made up: entry and reply.
    pub(super) own_requests: Vec<(u64, &'a [u8])>,
    /// Writes without id and of unknown fate, those alike together.
    pub(super) classes: Vec<Class<'a>>,
    /// What each batch was found to need of what might be in several.
    pub(super) allotted: BTreeMap<u64, Vec<(Loose, usize)>>,
    /// By id: the subject.
    pub(super) by_id: BTreeMap<&'a [u8], usize>,
}

impl<'a> Judge<'a> {
    /// Gathers what is known, and judges what needs no states: times and ids.
    pub(super) fn new(
        log: &'a [ChosenBatch],
        subjects: Vec<Subject<'a>>,
        checked: &mut Checked,
    ) -> Result<Self, Violation> {
        let mut states = vec![State::default()];
        for (batch, entry) in log.iter().zip(1..) {
            let mut state = states[states.len() - 1].clone();
            if let Err(key) = state.apply_effects(&batch.effects, entry) {
                let key = key.escape_ascii();
                let what = format!("entry {entry} deletes {key}, which is not there");
                return Err(Violation::new("order", what));
            }
            states.push(state);
        }
        let mut judge = Self {
            log,
            states,
            known_by: vec![u64::MAX; log.len() + 1],
            members: vec![Vec::new(); log.len() + 1],
            own_requests: Vec::new(),
            classes: Vec::new(),
            allotted: BTreeMap::new(),
            by_id: BTreeMap::new(),
            subjects,
        };
        for (batch, entry) in log.iter().zip(1..) {
            let own = batch.requests.iter().filter(|(id, _)| is_own(id));
            judge.own_requests.extend(own.map(|(_, reply)| (entry, reply.as_slice())));
        }
        judge.gather_members(checked)?;
        judge.gather_classes();
        judge.check_floors(checked)?;
        judge.check_places(checked)?;
        Ok(judge)
    }

    /// The state after the last entry.
    pub(super) fn into_state(mut self) -> State {
        self.states.pop().expect("there is at least the state before entry 1")
    }

    fn gather_members(&mut self, checked: &mut Checked) -> Result<(), Violation> {
        for (number, subject) in self.subjects.iter().enumerate() {
            if let Some(id) = &subject.operation.request_id {
                self.by_id.insert(id, number);
            }
            let Some((at, _, entry)) = subject.reply() else { continue };
            let index = usize::try_from(entry).unwrap_or(usize::MAX);
            let Some(known_by) = self.known_by.get_mut(index) else {
                let last = self.log.len();
                let what = format!(
                    "only entries up to {last} were chosen: {}",
                    describe(subject.operation)
                );
                return Err(Violation::new("linearizable", what));
            };
            *known_by = at.min(*known_by);
            let is_write = subject.command.is_write();
            *(if is_write { &mut checked.writes } else { &mut checked.reads }) += 1;
            if !subject.is_noted() {
                self.members[index].push(number);
            }
        }
        for index in (1..self.known_by.len()).rev() {
            self.known_by[index - 1] = self.known_by[index - 1].min(self.known_by[index]);
        }
        Ok(())
    }

    fn gather_classes(&mut self) {
        let mut classes: BTreeMap<&[Vec<u8>], Class<'a>> = BTreeMap::new();
        for subject in &self.subjects {
            let is_unknown = subject.reply().is_none() && !subject.is_refused();
            if is_unknown && subject.command.is_write() && !subject.is_noted() {
                let class = classes.entry(&subject.operation.words);
                let class = class
                    .or_insert_with(|| Class { command: subject.command, called_at: Vec::new() });
                class.called_at.push(subject.operation.called_at);
            }
        }
        self.classes = classes.into_values().collect();
        for class in &mut self.classes {
            class.called_at.sort_unstable();
        }
    }

    /// A reply stands at least where every reply did that came before the call.
    fn check_floors(&self, checked: &mut Checked) -> Result<(), Violation> {
        let mut replies: Vec<(u64, u64, usize)> = Vec::with_capacity(self.subjects.len());
        for (number, subject) in self.subjects.iter().enumerate() {
            if let Some((at, _, entry)) = subject.reply() {
                replies.push((at, entry, number));
            }
        }
        replies.sort_unstable();
        // From "answered at" to "the highest that was answered until then".
        for index in 1..replies.len() {
            if replies[index].1 < replies[index - 1].1 {
                (replies[index].1, replies[index].2) = (replies[index - 1].1, replies[index - 1].2);
            }
        }
        for subject in &self.subjects {
            let Some((_, _, entry)) = subject.reply() else { continue };
            let called_at = subject.operation.called_at;
            let before = replies.partition_point(|(at, _, _)| *at < called_at);
            let Some((_, floor, earlier)) = before.checked_sub(1).map(|last| replies[last]) else {
                continue;
            };
            checked.real_time_pairs += 1;
            if entry < floor {
                let what = format!(
                    "{} comes after {}",
                    describe(subject.operation),
                    describe(self.subjects[earlier].operation)
                );
                return Err(Violation::new("linearizable", what));
            }
        }
        Ok(())
    }

    /// A write with an id is where its id is, with the reply that is there.
    fn check_places(&self, checked: &mut Checked) -> Result<(), Violation> {
        for subject in self.subjects.iter().filter(|subject| subject.is_noted()) {
            let operation = || describe(subject.operation);
            let Some((place, recorded)) = subject.place else {
                if subject.reply().is_some() {
                    let what = format!("no entry carries the id of {}", operation());
                    return Err(Violation::new("linearizable", what));
                }
                continue;
            };
            if subject.operation.called_at > self.known_by(place) {
                let what = format!(
                    "entry {place} was known at {}, and carries the later {}",
                    self.known_by(place),
                    operation()
                );
                return Err(Violation::new("linearizable", what));
            }
            let Some((_, reply, entry)) = subject.reply() else {
                checked.unknown_applied += 1;
                continue;
            };
            if place > entry {
                let what = format!("entry {place} carries the id of {}", operation());
                return Err(Violation::new("linearizable", what));
            }
            checked.duplicates += usize::from(place < entry);
            if reply.to_resp3() != recorded {
                let recorded = recorded.escape_ascii();
                let what = format!("entry {place} says {recorded} was replied to {}", operation());
                return Err(Violation::new("exactly-once", what));
            }
        }
        Ok(())
    }

    /// When `entry` was known to be chosen, at the latest.
    pub(super) fn known_by(&self, entry: u64) -> u64 {
        self.known_by[index_of(entry)]
    }

    /// The chosen batch of `entry`, from 1.
    pub(super) fn batch(&self, entry: u64) -> &'a ChosenBatch {
        &self.log[index_of(entry) - 1]
    }

    /// Whether the batch has requests whose ids replicas made up.
    pub(super) fn has_own(&self, entry: u64) -> bool {
        self.batch(entry).requests.iter().any(|(id, _)| is_own(id))
    }

    /// The state after `entry`.
    pub(super) fn state(&self, entry: u64) -> &State {
        &self.states[index_of(entry)]
    }

    /// Judges every batch, and what was answered as of it.
    pub(super) fn judge_batches(&mut self, checked: &mut Checked) -> Result<(), Violation> {
        let entries = u64::try_from(self.log.len()).expect("as many as are in memory");
        for entry in 0..=entries {
            self.check_late(entry)?;
            if entry > 0 {
                self.judge_batch(entry, checked)?;
            }
        }
        let used = self.allotted.values().flatten();
        let unknown = used.filter(|(loose, _)| matches!(loose, Loose::Class(_)));
        checked.unknown_applied += unknown.map(|(_, count)| count).sum::<usize>();
        checked.tokens += check_tokens(&self.subjects, self.state(entries))?;
        Ok(())
    }

    /// What was called after an entry was known, and stands at it, saw the state after it.
    fn check_late(&self, entry: u64) -> Result<(), Violation> {
        for number in &self.members[index_of(entry)] {
            let subject = &self.subjects[*number];
            if self.is_late(subject, entry) && !self.is_observer(subject, entry) {
                let state = self.state(entry);
                let expected = state.evaluate(&subject.command);
                let what = if expected.changes.is_empty() {
                    format!("after entry {entry} it is {:?}", expected.reply)
                } else {
                    format!("entry {entry} was known before the call")
                };
                let what = format!("{what}: {}", describe(subject.operation));
                return Err(Violation::new("linearizable", what));
            }
        }
        Ok(())
    }

    fn is_late(&self, subject: &Subject<'_>, entry: u64) -> bool {
        entry == 0 || subject.operation.called_at > self.known_by(entry)
    }

    /// Whether the reply tells of the state after `entry`, and of no change.
    fn is_observer(&self, subject: &Subject<'_>, entry: u64) -> bool {
        let Some((_, reply, _)) = subject.reply() else { return false };
        self.state(entry).is_observed(&subject.command, reply)
    }

    /// Those answered as of `entry` whose place in its batch must be found.
    pub(super) fn due(&self, entry: u64) -> Vec<usize> {
        let has_own = self.has_own(entry);
        let members = self.members[index_of(entry)].iter().copied();
        members
            .filter(|number| {
                let subject = &self.subjects[*number];
                // A write may be what a replica noted under an id of its own.
                let may_be_request = has_own && subject.command.is_write();
                !self.is_late(subject, entry)
                    && (may_be_request || !self.is_observer(subject, entry))
            })
            .collect()
    }

    fn judge_batch(&mut self, entry: u64, checked: &mut Checked) -> Result<(), Violation> {
        let due = self.due(entry);
        if due.is_empty() && self.replay(entry).is_ok() {
            checked.replayed += 1;
            return Ok(());
        }
        checked.searched += 1;
        for allowance in Allowance::STEPS {
            let (puzzle, origins) = self.puzzle(entry, &due, allowance);
            if let Some(explanation) = puzzle.solve().explanations.first() {
                let needs = needs(explanation, &origins);
                if !needs.is_empty() {
                    self.allotted.insert(entry, needs);
                }
                return Ok(());
            }
        }
        self.allot(entry, checked)
    }

    /// Runs the batch's requests in order, as if nothing else were in it.
    ///
    /// # Errors
    ///
    /// What does not agree, in words.
    pub(super) fn replay(&self, entry: u64) -> Result<(), String> {
        let mut state = self.state(entry - 1).clone();
        for (id, reply) in &self.batch(entry).requests {
            let Some(number) = self.by_id.get(id.as_slice()) else {
                return Err("it carries ids that replicas made up".to_owned());
            };
            let subject = &self.subjects[*number];
            let reply = recorded(reply)?;
            let Some(changes) = state.changes_if_replied(&subject.command, &reply) else {
                let expected = state.evaluate(&subject.command).reply;
                let operation = describe(subject.operation);
                return Err(format!("it answers {reply:?}, not {expected:?}, to {operation}"));
            };
            state.apply(&changes, entry);
        }
        if state == *self.state(entry) {
            return Ok(());
        }
        Err("its requests alone do not give its effects".to_owned())
    }
}

/// The position of an entry in tables that begin with entry 0.
pub(super) fn index_of(entry: u64) -> usize {
    usize::try_from(entry).expect("entries of a log in memory")
}

/// A reply as it is in the log.
pub(super) fn recorded(reply: &[u8]) -> Result<Value, String> {
    decode_reply(reply).ok_or_else(|| format!("it holds {}, no reply", reply.escape_ascii()))
}
