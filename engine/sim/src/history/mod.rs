//! What clients did and were told, what was chosen, and the judges that compare the two.
//!
//! A history is a list of [`Operation`]s; a [`ChosenLog`] is what an observer who sees every
//! replica saw being chosen. Every reply names the entry that it stands at, so most of the order in
//! which operations took effect is known and need not be searched for:
//!
//! - [`versions`], the main judge, believes the entries and the chosen log, and finds everything
//!   that contradicts them, in O(n log n) where every write has a request id;
//! - [`wgl`], the second, looks at replies and times alone, in windows of a few operations;
//! - [`counters`] does so for histories of any length, if they are of counters.
//!
//! All are pure: they look at a history that is over, and need no world. [`model`] says what the
//! commands mean; it shares no code with the engine.

use std::collections::BTreeMap;

use engine::batch::{Batch, InvalidBatch};
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

pub use crate::violation::Violation;

pub mod command;
pub mod counters;
pub mod model;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod sample;
pub mod versions;
pub mod wgl;
#[cfg(test)]
mod wgl_test;

/// One command of one client, over all its attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// The entity of the command's keys.
    pub entity: EntityId,
    /// The command as sent: `["SET", "k", "v"]`. Reads are linearizable ones: a read of one
    /// replica's word alone has no place in a history.
    pub words: Vec<Vec<u8>>,
    /// The id of `CERTUS ONCE`, if it carried one; then every attempt carried the same, and no
    /// other operation did.
    pub request_id: Option<Vec<u8>>,
    /// Virtual time of the first attempt, in microseconds.
    pub called_at: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an operation ended, as far as its client knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Replied {
        /// Virtual time of the reply, in microseconds.
        at: u64,
        /// What the client was told.
        reply: Value,
        /// Where the reply stands. Of a write: the entry it was chosen in, or, for a copy answered
        /// from the table of request ids, the last entry applied by then, which is that entry or a
        /// later one. Of what changed nothing: the entry whose state it saw, or, if it was
        /// evaluated in a batch together with writes, that batch's entry; then it may have seen
        /// the batch's earlier commands only. [`Entry::ZERO`]: there was no entry yet.
        entry: Entry,
    },
    /// It may take effect, once, at any time after the call, or never: `UNKNOWN`, its node died, or
    /// there was no answer.
    Unknown,
    /// Every attempt was refused, with the promise that nothing happened and nothing will (`BUSY`,
    /// `CLUSTERDOWN`, `TRYAGAIN`, `MISCONF`).
    Refused {
        /// Virtual time of the refusal, in microseconds.
        at: u64,
    },
}

/// What was chosen in one entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChosenBatch {
    /// Request ids with their encoded RESP3 replies, in the order in which they were evaluated.
    pub requests: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys, ascending, with their new values; `None` means deleted.
    pub effects: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// All chosen entries: of each entity without a hole, from entry 1.
pub type ChosenLog = BTreeMap<EntityId, Vec<ChosenBatch>>;

/// Bytes that are not what an entry's value is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidValue {
    /// Not a batch.
    #[error(transparent)]
    Batch(#[from] InvalidBatch),
    /// The effects make no sense.
    #[error("effects of {size} bytes are malformed at byte {offset}")]
    Effects {
        /// Where, in bytes from the beginning of the effects.
        offset: usize,
        /// Bytes of the effects.
        size: usize,
    },
}

impl ChosenBatch {
    /// Reads an entry's value, in the formats of `engine::batch` and of the strings' effects.
    ///
    /// # Errors
    ///
    /// When the bytes are not a batch of a known format, or its effects are not exactly what the
    /// format says: keys ascending, nothing missing and nothing left over.
    pub fn parse(value: &[u8]) -> Result<Self, InvalidValue> {
        let batch = Batch::parse(value)?;
        let requests = batch.requests().map(|(id, reply)| (id.to_vec(), reply.to_vec()));
        Ok(Self { requests: requests.collect(), effects: parse_effects(batch.effects())? })
    }
}

type Effects = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn parse_effects(bytes: &[u8]) -> Result<Effects, InvalidValue> {
    let mut effects = Effects::new();
    let mut rest = bytes;
    if rest.is_empty() {
        return Ok(effects);
    }
    let invalid =
        |rest: &[u8]| InvalidValue::Effects { offset: bytes.len() - rest.len(), size: bytes.len() };
    let count = take_size(&mut rest).filter(|count| *count > 0).ok_or_else(|| invalid(bytes))?;
    for _ in 0..count {
        let begin = rest;
        let (key, value) = take_effect(&mut rest).ok_or_else(|| invalid(begin))?;
        if effects.last().is_some_and(|(previous, _)| previous.as_slice() >= key) {
            return Err(invalid(begin));
        }
        effects.push((key.to_vec(), value.map(<[u8]>::to_vec)));
    }
    if rest.is_empty() { Ok(effects) } else { Err(invalid(rest)) }
}

fn take_size(rest: &mut &[u8]) -> Option<usize> {
    let (size, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*size)).ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (bytes, after) = rest.split_at_checked(size)?;
    *rest = after;
    Some(bytes)
}

fn take_effect<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    match take_bytes(rest, 1)? {
        [1] => {
            let key_size = take_size(rest)?;
            let value_size = take_size(rest)?;
            let key = take_bytes(rest, key_size)?;
            Some((key, Some(take_bytes(rest, value_size)?)))
        }
        [2] => {
            let key_size = take_size(rest)?;
            Some((take_bytes(rest, key_size)?, None))
        }
        _ => None,
    }
}

/// An operation for a reader of a violation.
fn describe(operation: &Operation) -> String {
    let Operation { client, words, request_id, called_at, outcome, .. } = operation;
    let mut text = format!("client {client}'s ");
    for word in words {
        let shown = &word[..word.len().min(40)];
        text.push_str(&format!(
            "{}{} ",
            shown.escape_ascii(),
            if shown == word { "" } else { "…" }
        ));
    }
    if let Some(id) = request_id {
        text.push_str(&format!("[{}] ", id.escape_ascii()));
    }
    text.push_str(&format!("(called at {called_at}, "));
    text.push_str(&match outcome {
        Outcome::Replied { at, reply, entry } => {
            let mut reply = format!("{reply:?}");
            if reply.chars().count() > 80 {
                reply = reply.chars().take(80).chain("…".chars()).collect();
            }
            format!("at {at} told {reply} as of entry {})", entry.0)
        }
        Outcome::Unknown => "fate unknown)".to_owned(),
        Outcome::Refused { at } => format!("refused at {at})"),
    });
    text
}
