//! The effects of a batch under construction.

use std::rc::Rc;

use crate::state_machine::strings::key_map::KeyMap;

/// What a batch does to one key, all its commands so far taken together.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// The key gets this value.
    Put(Rc<[u8]>),
    /// The key gets this value, which `APPEND` made and may go on growing in place.
    Grown(Vec<u8>),
    /// The key, which the state has, goes.
    Delete,
}

impl Change {
    /// The key's value after the batch, or `None` when it is gone.
    pub(super) fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(value) => Some(value),
            Self::Grown(value) => Some(value),
            Self::Delete => None,
        }
    }
}

/// The changes of a batch to its keys.
///
/// Each key has at most one change, and a deletion stands only for a key that the state has.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    pub(super) changes: KeyMap<Change>,
    /// Whether any command changed anything. Stays true when a later one undoes it, and nothing is
    /// left to replicate: replies already rest on the change, and a request id that came with it
    /// must be remembered, so the batch has to be decided all the same.
    changed: bool,
    /// Bytes by which the changes make the entity larger, or smaller.
    pub(super) growth_bytes: isize,
    /// Bytes of all changes noted, those that were replaced by later ones included.
    noted_bytes: usize,
}

/// What the encoding of a change needs beside its key and value.
const CHANGE_OVERHEAD_BYTES: usize = 9;

impl Overlay {
    /// Whether any command changed anything; once true, it stays true.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// An upper bound of the encoded changes, in bytes.
    pub(super) fn noted_bytes(&self) -> usize {
        self.noted_bytes
    }

    /// Notes what becomes of `key`, in place of what was noted before.
    pub(super) fn change(&mut self, key: &[u8], change: Change) {
        self.changed = true;
        let value_size = change.value().map_or(0, <[u8]>::len);
        self.noted_bytes += CHANGE_OVERHEAD_BYTES + key.len() + value_size;
        self.changes.insert(key, change);
    }

    /// The value of `key` that an earlier `APPEND` of the batch made; `tail` is added to it. False
    /// when there is none.
    pub(super) fn grow(&mut self, key: &[u8], tail: &[u8]) -> bool {
        let Some(Change::Grown(value)) = self.changes.get_mut(key) else { return false };
        value.extend_from_slice(tail);
        self.noted_bytes += tail.len();
        true
    }

    /// Deletes a key that the batch itself made: nothing of it remains.
    pub(super) fn forget(&mut self, key: &[u8]) {
        let made = self.changes.remove(key);
        assert!(made.is_some() && self.changed, "only what the batch made is forgotten");
    }
}
