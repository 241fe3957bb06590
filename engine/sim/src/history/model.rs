//! A naive model of one entity's strings.
//!
//! Written from what the commands are meant to do, not from how the engine does it: a map of keys,
//! and for each command what it replies and which keys it changes. A key's version is the entry of
//! its last change.

use std::collections::BTreeMap;
use std::rc::Rc;

use engine::state_machine::strings::{ENTITY_SIZE_MAX, VALUE_SIZE_MAX};
use net::resp::value::{BulkBytes, Value};

use crate::history::command::{Answer, Command, Condition, NOT_AN_INTEGER, parse_integer};

/// The keys of one entity. Cheap to copy: bytes are shared.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct State {
    /// Every key with what it holds.
    pub keys: BTreeMap<Rc<[u8]>, Record>,
}

/// What a key holds.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Record {
    /// The value.
    pub value: Rc<[u8]>,
    /// The entry of the last change, from 1.
    pub version: u64,
}

/// What a command does to one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its new value, or `None` when it is deleted.
    pub value: Option<Rc<[u8]>>,
}

/// What a command comes to on a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated<'a> {
    /// What the client is told.
    pub reply: Value,
    /// What changes, in order; a key may come up twice. Empty when nothing changes: setting a key
    /// to the value it has is a change.
    pub changes: Vec<Change<'a>>,
}

impl<'a> Evaluated<'a> {
    fn unchanged(reply: Value) -> Self {
        Self { reply, changes: Vec::new() }
    }

    fn put(reply: Value, key: &'a [u8], value: impl Into<Rc<[u8]>>) -> Self {
        let value: Rc<[u8]> = value.into();
        if value.len() > VALUE_SIZE_MAX {
            return Self::too_large();
        }
        Self { reply, changes: vec![Change { key, value: Some(value) }] }
    }

    fn too_large() -> Self {
        let text = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        Self::unchanged(Value::error(text))
    }
}

/// More than the engine counts for a key beside its bytes: what makes an entity look nearly full
/// must not look less so here.
const KEY_OVERHEAD_BYTES: usize = 256;

impl State {
    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.keys.get(key).map(|record| record.value.as_ref())
    }

    fn reply_value(&self, key: &[u8]) -> Value {
        self.keys
            .get(key)
            .map_or(Value::Null, |record| Value::Bulk(BulkBytes::Shared(Rc::clone(&record.value))))
    }

    fn is_present(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// What `command` comes to on this state.
    #[must_use]
    pub fn evaluate<'a>(&self, command: &Command<'a>) -> Evaluated<'a> {
        match *command {
            Command::Get(key) => Evaluated::unchanged(self.reply_value(key)),
            Command::Length(key) => {
                Evaluated::unchanged(count(self.value(key).map_or(0, <[u8]>::len)))
            }
            Command::Type(key) => {
                let name = if self.is_present(key) { "string" } else { "none" };
                Evaluated::unchanged(Value::simple(name))
            }
            Command::Version(key) => {
                let version = self.keys.get(key).map(|record| record.version);
                Evaluated::unchanged(version.map_or(Value::Null, |version| {
                    Value::Integer(i64::try_from(version).expect("entries never run out"))
                }))
            }
            Command::GetMany(keys) => {
                let values = keys.iter().map(|key| self.reply_value(key));
                Evaluated::unchanged(Value::Array(values.collect()))
            }
            Command::Exists(keys) => {
                let present = keys.iter().filter(|key| self.is_present(key));
                Evaluated::unchanged(count(present.count()))
            }
            Command::Set { key, value, condition, answer } => {
                self.set(key, value, condition, answer)
            }
            Command::SetMany(pairs) => set_many(pairs),
            Command::Append(key, tail) => {
                let value = [self.value(key).unwrap_or_default(), tail].concat();
                Evaluated::put(count(value.len()), key, value)
            }
            Command::Add(key, amount) => self.add(key, amount),
            Command::Delete(keys) => self.delete(keys),
            Command::GetDelete(key) => {
                let changes = if self.is_present(key) {
                    vec![Change { key, value: None }]
                } else {
                    Vec::new()
                };
                Evaluated { reply: self.reply_value(key), changes }
            }
            Command::CompareAndSet { key, version, value } => {
                let current = self.keys.get(key).map_or(0, |record| record.version);
                if current == version {
                    Evaluated::put(Value::Integer(1), key, value)
                } else {
                    Evaluated::unchanged(Value::Integer(0))
                }
            }
            Command::Malformed(error) => Evaluated::unchanged(Value::error(error)),
        }
    }

    fn set<'a>(
        &self,
        key: &'a [u8],
        value: &'a [u8],
        condition: Condition<'a>,
        answer: Answer,
    ) -> Evaluated<'a> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => !self.is_present(key),
            Condition::Present => self.is_present(key),
            Condition::EqualTo(old) => self.value(key) == Some(old),
        };
        let reply = match answer {
            Answer::OldValue => self.reply_value(key),
            Answer::Count => count(usize::from(holds)),
            Answer::Status if holds => Value::OK,
            Answer::Status => Value::Null,
        };
        if holds { Evaluated::put(reply, key, value) } else { Evaluated::unchanged(reply) }
    }

    fn add<'a>(&self, key: &'a [u8], amount: i64) -> Evaluated<'a> {
        let old = match self.value(key).map(parse_integer) {
            None => 0,
            Some(Some(old)) => old,
            Some(None) => return Evaluated::unchanged(Value::error(NOT_AN_INTEGER)),
        };
        match old.checked_add(amount) {
            Some(new) => Evaluated::put(Value::Integer(new), key, new.to_string().into_bytes()),
            None => {
                let text = "ERR increment or decrement would overflow";
                Evaluated::unchanged(Value::error(text))
            }
        }
    }

    fn delete<'a>(&self, keys: &'a [Vec<u8>]) -> Evaluated<'a> {
        let mut changes: Vec<Change<'a>> = Vec::new();
        for key in keys {
            if self.is_present(key) && !changes.iter().any(|change| change.key == key) {
                changes.push(Change { key, value: None });
            }
        }
        Evaluated { reply: count(changes.len()), changes }
    }

    /// What `command` changes, if `reply` is what it is answered on this state; `None` if it is
    /// not.
    ///
    /// There is one reply that the model cannot foretell: that keys which share a tag hold as much
    /// as they may. It is believed when the entity is at least half full, and then nothing changed.
    #[must_use]
    pub fn changes_if_replied<'a>(
        &self,
        command: &Command<'a>,
        reply: &Value,
    ) -> Option<Vec<Change<'a>>> {
        let evaluated = self.evaluate(command);
        if evaluated.reply == *reply {
            return Some(evaluated.changes);
        }
        let is_refusal = matches!(reply, Value::Error(error) if error.word() == "OOM");
        let half_full = || self.size_with(&evaluated.changes) > ENTITY_SIZE_MAX / 2;
        (is_refusal && !evaluated.changes.is_empty() && half_full()).then(Vec::new)
    }

    /// Whether `reply` is what `command` is answered on this state, without a change.
    #[must_use]
    pub fn is_observed(&self, command: &Command<'_>, reply: &Value) -> bool {
        self.changes_if_replied(command, reply).is_some_and(|changes| changes.is_empty())
    }

    /// Bytes of the entity, at least as the engine counts them, with all of `changes`.
    fn size_with(&self, changes: &[Change<'_>]) -> usize {
        let held = self.keys.iter().map(|(key, record)| key.len() + record.value.len());
        let added = changes
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, |value| value.len()));
        let keys = self.keys.len() + changes.len();
        held.chain(added).sum::<usize>() + keys * KEY_OVERHEAD_BYTES
    }

    /// Makes `changes`, at `entry`.
    pub fn apply(&mut self, changes: &[Change<'_>], entry: u64) {
        for change in changes {
            match &change.value {
                Some(value) => self.put(change.key, value, entry),
                None => drop(self.keys.remove(change.key)),
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &Rc<[u8]>, version: u64) {
        let record = Record { value: Rc::clone(value), version };
        match self.keys.get_mut(key) {
            Some(present) => *present = record,
            None => drop(self.keys.insert(key.into(), record)),
        }
    }

    /// Applies the effects that were chosen at `entry`.
    ///
    /// # Errors
    ///
    /// The key that was to be deleted and is not there.
    pub fn apply_effects<'a>(
        &mut self,
        effects: &'a [(Vec<u8>, Option<Vec<u8>>)],
        entry: u64,
    ) -> Result<(), &'a [u8]> {
        for (key, value) in effects {
            match value {
                Some(value) => self.put(key, &Rc::from(value.as_slice()), entry),
                None => {
                    self.keys.remove(key.as_slice()).ok_or(key.as_slice())?;
                }
            }
        }
        Ok(())
    }
}

/// All or none: every value is looked at before the first is set.
fn set_many(pairs: &[Vec<u8>]) -> Evaluated<'_> {
    if pairs.iter().skip(1).step_by(2).any(|value| value.len() > VALUE_SIZE_MAX) {
        return Evaluated::too_large();
    }
    let changes = pairs
        .chunks_exact(2)
        .map(|pair| Change { key: &pair[0], value: Some(Rc::from(pair[1].as_slice())) });
    Evaluated { reply: Value::OK, changes: changes.collect() }
}

fn count(things: usize) -> Value {
    Value::Integer(i64::try_from(things).expect("counts of things in memory fit 63 bits"))
}
