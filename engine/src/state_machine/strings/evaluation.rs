//! Runs one command on a state as a batch under construction changes it.

use std::rc::Rc;

use net::resp::arguments::Arguments;
use net::resp::value::{BulkBytes, RespError, Value};

use crate::state_machine::StateMachine as _;
use crate::state_machine::strings::operation::Operation;
use crate::state_machine::strings::overlay::{Change, Overlay};
use crate::state_machine::strings::set_options::{Answer, Condition, SetOptions};
use crate::state_machine::strings::{
    ENTITY_SIZE_MAX, KEY_OVERHEAD_BYTES, Strings, VALUE_SIZE_MAX, integer,
};

/// One command under way.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    pub(super) state: &'a Strings,
    pub(super) overlay: &'a mut Overlay,
}

impl Evaluation<'_> {
    /// Runs `arguments` and returns the reply. A command that is unknown or has too few or too many
    /// arguments, as one forwarded by a replica of another version may, is answered with an error.
    pub(super) fn run(&mut self, arguments: &Arguments) -> Value {
        let Some(operation) = Operation::of(arguments) else {
            return Value::error("ERR this replica does not know the command");
        };
        if !operation.takes(arguments.len()) {
            return Value::Error(operation.wrong_arity());
        }
        self.run_operation(operation, arguments).unwrap_or_else(Value::Error)
    }

    fn run_operation(
        &mut self,
        operation: Operation,
        arguments: &Arguments,
    ) -> Result<Value, RespError> {
        let key = &arguments[operation.key_positions().first];
        Ok(match operation {
            Operation::Get => self.reply_value(key),
            Operation::Set => self.set(arguments)?,
            Operation::GetSet => self.get_set(key, &arguments[2])?,
            Operation::GetDel => self.get_delete(key),
            Operation::SetIfAbsent => self.set_if_absent(key, &arguments[2])?,
            Operation::GetMany => {
                Value::Array(operation.keys(arguments).map(|key| self.reply_value(key)).collect())
            }
            Operation::SetMany => self.set_many(arguments)?,
            Operation::Append => self.append(key, &arguments[2])?,
            Operation::Length => reply_count(self.value(key).map_or(0, <[u8]>::len)),
            Operation::Increment => self.increment(key, 1)?,
            Operation::Decrement => self.increment(key, -1)?,
            Operation::IncrementBy => {
                let amount = parse_integer(&arguments[2])?;
                self.increment(key, amount)?
            }
            Operation::DecrementBy => self.decrement_by(key, &arguments[2])?,
            Operation::Delete | Operation::Unlink => {
                reply_count(operation.keys(arguments).filter(|key| self.delete(key)).count())
            }
            Operation::Exists => {
                let present = operation.keys(arguments).filter(|key| self.value(key).is_some());
                reply_count(present.count())
            }
            Operation::Type => {
                Value::simple(if self.value(key).is_some() { "string" } else { "none" })
            }
            Operation::Version => match self.version(key) {
                0 => Value::Null,
                version => Value::Integer(i64::try_from(version).expect("entries never run out")),
            },
            Operation::CompareAndSet => self.compare_and_set(key, arguments)?,
        })
    }

    // ---- the key as the batch leaves it so far

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        match self.overlay.changes.get(key) {
            Some(change) => change.value(),
            None => self.state.value(key).map(|value| value.as_ref()),
        }
    }

    /// The value as a reply, sharing the state's bytes where it can.
    fn reply_value(&self, key: &[u8]) -> Value {
        let shared = match self.overlay.changes.get(key) {
            Some(Change::Put(value)) => Some(value),
            Some(Change::Grown(value)) => return Value::bulk(value.clone()),
            Some(Change::Delete) => None,
            None => self.state.value(key),
        };
        shared.map_or(Value::Null, |value| Value::Bulk(BulkBytes::Shared(Rc::clone(value))))
    }

    /// The entry of the key's last change, or 0 when it is absent. What this batch changed is
    /// changed by the entry after the last applied one: the state is the one before that entry.
    fn version(&self, key: &[u8]) -> u64 {
        match self.overlay.changes.get(key) {
            Some(Change::Put(_) | Change::Grown(_)) => self.state.applied().next().0,
            Some(Change::Delete) => 0,
            None => self.state.version(key).map_or(0, |entry| entry.0),
        }
    }

    // ---- changing it

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), RespError> {
        check_value_size(value.len())?;
        self.check_entity_size(key, value.len())?;
        self.overlay.change(key, Change::Put(value.into()));
        Ok(())
    }

    /// Refuses what would make the entity too large to be sent to a replica in one piece. What
    /// makes it smaller is never refused.
    fn check_entity_size(&mut self, key: &[u8], size: usize) -> Result<(), RespError> {
        let growth = signed(key.len() + KEY_OVERHEAD_BYTES + size) - self.held_bytes(key);
        let grown = self.overlay.growth_bytes + growth;
        if growth > 0 && signed(self.state.memory_bytes()) + grown > signed(ENTITY_SIZE_MAX) {
            return Err(RespError::new(
                "OOM keys that share a {tag} may hold 4 MiB in all; use another tag",
            ));
        }
        self.overlay.growth_bytes = grown;
        Ok(())
    }

    /// What the key and its value take of the entity's size.
    fn held_bytes(&self, key: &[u8]) -> isize {
        signed(self.value(key).map_or(0, |value| key.len() + KEY_OVERHEAD_BYTES + value.len()))
    }

    /// Deletes `key` and says whether it was there.
    fn delete(&mut self, key: &[u8]) -> bool {
        if self.value(key).is_none() {
            return false;
        }
        self.overlay.growth_bytes -= self.held_bytes(key);
        if self.state.value(key).is_some() {
            self.overlay.change(key, Change::Delete);
        } else {
            self.overlay.forget(key);
        }
        true
    }

    // ---- the commands

    fn set(&mut self, arguments: &Arguments) -> Result<Value, RespError> {
        let (key, value) = (&arguments[1], &arguments[2]);
        if arguments.len() == 3 {
            self.put(key, value)?;
            return Ok(Value::OK);
        }
        let SetOptions { condition, answer } = SetOptions::parse(arguments)?;
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => self.value(key).is_none(),
            Condition::Present => self.value(key).is_some(),
            Condition::EqualTo(old) => self.value(key) == Some(old),
        };
        let reply = match answer {
            Answer::OldValue => self.reply_value(key),
            Answer::WhetherSet if holds => Value::OK,
            Answer::WhetherSet => Value::Null,
        };
        if holds {
            self.put(key, value)?;
        }
        Ok(reply)
    }

    fn get_set(&mut self, key: &[u8], value: &[u8]) -> Result<Value, RespError> {
        let old = self.reply_value(key);
        self.put(key, value)?;
        Ok(old)
    }

    fn get_delete(&mut self, key: &[u8]) -> Value {
        let old = self.reply_value(key);
        self.delete(key);
        old
    }

    fn set_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Value, RespError> {
        let absent = self.value(key).is_none();
        if absent {
            self.put(key, value)?;
        }
        Ok(Value::Integer(i64::from(absent)))
    }

    fn set_many(&mut self, arguments: &Arguments) -> Result<Value, RespError> {
        // All or none: nothing is put before all is known to fit. A key that comes twice is counted
        // twice here, at most to its disadvantage.
        let pairs = || arguments.iter_from(1).step_by(2).zip(arguments.iter_from(2).step_by(2));
        let growth_before = self.overlay.growth_bytes;
        let fits = pairs().try_for_each(|(key, value)| {
            check_value_size(value.len())?;
            self.check_entity_size(key, value.len())
        });
        self.overlay.growth_bytes = growth_before;
        fits?;
        for (key, value) in pairs() {
            self.put(key, value)?;
        }
        Ok(Value::OK)
    }

    fn append(&mut self, key: &[u8], tail: &[u8]) -> Result<Value, RespError> {
        let size = self.value(key).map_or(0, <[u8]>::len) + tail.len();
        check_value_size(size)?;
        self.check_entity_size(key, size)?;
        if !self.overlay.grow(key, tail) {
            let mut value = Vec::with_capacity(size);
            value.extend_from_slice(self.value(key).unwrap_or_default());
            value.extend_from_slice(tail);
            self.overlay.change(key, Change::Grown(value));
        }
        Ok(reply_count(size))
    }

    fn increment(&mut self, key: &[u8], amount: i64) -> Result<Value, RespError> {
        let old = match self.value(key) {
            Some(text) => parse_integer(text)?,
            None => 0,
        };
        let new = old
            .checked_add(amount)
            .ok_or_else(|| RespError::new("ERR increment or decrement would overflow"))?;
        self.put(key, integer::format(new, &mut [0; integer::TEXT_SIZE_MAX]))?;
        Ok(Value::Integer(new))
    }

    fn decrement_by(&mut self, key: &[u8], amount: &[u8]) -> Result<Value, RespError> {
        let amount = parse_integer(amount)?
            .checked_neg()
            .ok_or_else(|| RespError::new("ERR decrement would overflow"))?;
        self.increment(key, amount)
    }

    fn compare_and_set(&mut self, key: &[u8], arguments: &Arguments) -> Result<Value, RespError> {
        let expected = u64::try_from(parse_integer(&arguments[3])?)
            .map_err(|_| RespError::new("ERR version is negative: 0 stands for an absent key"))?;
        let equal = self.version(key) == expected;
        if equal {
            self.put(key, &arguments[4])?;
        }
        Ok(Value::Integer(i64::from(equal)))
    }
}

/// A size for sums that may go down.
fn signed(size: usize) -> isize {
    isize::try_from(size).expect("nothing in memory is larger")
}

fn check_value_size(size: usize) -> Result<(), RespError> {
    if size > VALUE_SIZE_MAX {
        return Err(RespError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

fn parse_integer(text: &[u8]) -> Result<i64, RespError> {
    integer::parse(text)
        .ok_or_else(|| RespError::new("ERR value is not an integer or out of range"))
}

fn reply_count(count: usize) -> Value {
    Value::Integer(i64::try_from(count).expect("counts of things in memory fit 63 bits"))
}
