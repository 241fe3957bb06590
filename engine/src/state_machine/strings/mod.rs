//! The strings: Redis's plain keys and values, with a version each.
//!
//! An entity holds the keys that share a tag, nearly always one. A command is evaluated by the
//! proposer, against the state before the entry and the [`Overlay`] of the batch's commands before
//! it; what is replicated are the *effects*, the keys that change and their new values, so that
//! replicas agree without running commands.
//!
//! ```text
//!   state as of entry k ──┐
//!   overlay of the batch ─┴─ evaluate ──▶ reply, overlay ── encode_effects ──▶ value of entry k + 1
//!                                                                                     │ chosen
//!   state as of entry k + 1 ◀── apply(k + 1, effects) ────────────────────────────────┘
//! ```
//!
//! A key's version is the entry of its last change. A command may ask for the version of a key that
//! its own batch changed, so the state has to know which entry that batch will be: it counts the
//! entries applied, and **every** chosen entry is applied, one that changes nothing with empty
//! effects.
//!
//! Bytes: effects are described in `effects.rs`, the whole state in `image.rs`.

use std::rc::Rc;

use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::memory;
use plog::vocabulary::Entry;

use crate::state_machine::strings::effects::Effects;
use crate::state_machine::strings::evaluation::Evaluation;
use crate::state_machine::strings::key_map::KeyMap;
use crate::state_machine::{InvalidState, StateMachine};

pub use crate::state_machine::strings::overlay::Overlay;

pub mod command_word;
mod effects;
mod evaluation;
mod image;
pub mod integer;
mod key_map;
#[cfg(test)]
mod model_test;
pub mod operation;
mod overlay;
mod reader;
mod set_options;

/// The largest value, in bytes.
pub const VALUE_SIZE_MAX: usize = 1 << 20;

/// The largest entity, all keys of one tag together, in bytes of memory. An entity travels to a
/// replica that is far behind, and into the log, in one piece.
pub const ENTITY_SIZE_MAX: usize = 4 << 20;

/// What a key costs beside its own bytes and its value's, in bytes: its place in the map, its
/// version, the count of the value's holders and the allocator's headers, rounded up.
const KEY_OVERHEAD_BYTES: usize = 96;

/// One entity's keys.
///
/// Invariant: 1 ≤ version ≤ `applied` for every key; `content_bytes` is the size of all keys and
/// values.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    keys: KeyMap<Record>,
    applied: Entry,
    content_bytes: usize,
}

/// A key's value.
#[derive(Clone, Debug)]
struct Record {
    /// Shared with replies that are on their way.
    value: Rc<[u8]>,
    /// Entry of the last change.
    version: Entry,
}

impl Strings {
    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&Rc<[u8]>> {
        self.keys.get(key).map(|record| &record.value)
    }

    /// The entry of the last change of `key`; `None` when it is absent.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> Option<Entry> {
        self.keys.get(key).map(|record| record.version)
    }

    /// Every key with its value and version, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8], Entry)> {
        self.keys.iter().map(|(key, record)| (key, &*record.value, record.version))
    }

    fn put(&mut self, key: &[u8], value: &[u8], version: Entry) {
        self.content_bytes += value.len();
        match self.keys.insert(key, Record { value: value.into(), version }) {
            Some(old) => self.content_bytes -= old.value.len(),
            None => self.content_bytes += key.len(),
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let old = self.keys.remove(key).expect("the effects were checked against the state");
        self.content_bytes -= key.len() + old.value.len();
    }
}

impl StateMachine for Strings {
    type Overlay = Overlay;

    fn evaluate(&self, overlay: &mut Overlay, command: &Arguments) -> Value {
        Evaluation { state: self, overlay }.run(command)
    }

    /// Once true for a batch, it stays true, even if its effects come to nothing in the end: then
    /// they are encoded as no bytes, and the batch still is an entry of its own.
    fn is_write(command: &Arguments) -> bool {
        operation::Operation::of(command).is_some_and(operation::Operation::is_write)
    }

    fn has_effects(overlay: &Overlay) -> bool {
        overlay.is_changed()
    }

    fn effect_bytes(overlay: &Overlay) -> usize {
        overlay.noted_bytes()
    }

    fn encode_effects(overlay: &Overlay, out: &mut Vec<u8>) {
        effects::encode(overlay, out);
    }

    /// Besides malformed bytes, a deletion of a key that is not there is refused: such effects were
    /// computed against another state.
    ///
    /// # Panics
    ///
    /// When `entry` is not the one after the last applied: an entry was lost or applied twice.
    fn apply(&mut self, entry: Entry, effects: &[u8]) -> Result<(), InvalidState> {
        assert!(
            entry == self.applied.next(),
            "entry {} was to be applied after entry {}: \
             each chosen entry is applied once, in order, also when it changes nothing",
            entry.0,
            self.applied.0
        );
        for effect in Effects::new(effects) {
            let effect = effect?;
            if effect.value.is_none() && self.keys.get(effect.key).is_none() {
                let (offset, length) = (effect.offset, effects.len());
                return Err(InvalidState { what: "effects", offset, length });
            }
        }
        for effect in Effects::new(effects) {
            let effect = effect.expect("the effects were read once already");
            match effect.value {
                Some(value) => self.put(effect.key, value, entry),
                None => self.delete(effect.key),
            }
        }
        self.applied = entry;
        Ok(())
    }

    fn applied(&self) -> Entry {
        self.applied
    }

    fn encode(&self, out: &mut Vec<u8>) {
        image::encode(self, out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidState> {
        image::decode(bytes)
    }

    fn each_change(
        effects: &[u8],
        mut show: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), InvalidState> {
        Effects::new(effects).try_for_each(|effect| {
            let effect = effect?;
            show(effect.key, effect.value);
            Ok(())
        })
    }

    fn each_key(&self, mut show: impl FnMut(&[u8], &[u8], Entry)) {
        self.iter().for_each(|(key, value, version)| show(key, value, version));
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.content_bytes + self.keys.len() * KEY_OVERHEAD_BYTES
    }

    fn block_bytes(&self) -> usize {
        let of_value = |(_, record): (_, &Record)| memory::shared_bytes(record.value.len());
        self.keys.block_bytes().map_or_else(
            // A block is an eighth larger than what it holds, in the mean.
            || self.content_bytes / 8 * 9 + self.keys.len() * (KEY_OVERHEAD_BYTES + 16),
            |keys| keys + self.keys.iter().map(of_value).sum::<usize>(),
        )
    }

    fn key_count(&self) -> u32 {
        u32::try_from(self.keys.len()).expect("an entity's keys are counted by 32 bits")
    }
}
