//! Effects as bytes: what a batch does to each key, in ascending order of the keys.
//!
//! ```text
//! effects   nothing at all                                              nothing changes
//!         | count u32 ≥ 1, change × count
//! change    kind u8 = 1, key_size u32, value_size u32, key, value       put
//!         | kind u8 = 2, key_size u32, key                              delete
//! ```
//!
//! Integers are little-endian. Reading is strict: each key is above the one before it, nothing is
//! missing or left over, so that a batch has one encoding only.

use crate::state_machine::InvalidState;
use crate::state_machine::strings::overlay::{Change, Overlay};
use crate::state_machine::strings::reader::{Reader, put_count, put_size};

const KIND_PUT: u8 = 1;
const KIND_DELETE: u8 = 2;

/// What is done to one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Effect<'a> {
    /// The key.
    pub(super) key: &'a [u8],
    /// Its new value, or `None` for a deletion.
    pub(super) value: Option<&'a [u8]>,
    /// Where the effect begins in the encoding, in bytes.
    pub(super) offset: usize,
}

/// Appends the encoding of `overlay`.
pub(super) fn encode(overlay: &Overlay, out: &mut Vec<u8>) {
    if overlay.changes.is_empty() {
        return;
    }
    put_count(overlay.changes.len(), out);
    for (key, change) in overlay.changes.iter() {
        match change.value() {
            Some(value) => {
                out.reserve(9 + key.len() + value.len());
                out.push(KIND_PUT);
                put_size(key, out);
                put_size(value, out);
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
            None => {
                assert!(matches!(change, Change::Delete));
                out.push(KIND_DELETE);
                put_size(key, out);
                out.extend_from_slice(key);
            }
        }
    }
}

/// Reads effects one after the other; ends after the first error.
#[derive(Debug)]
pub(super) struct Effects<'a> {
    reader: Reader<'a>,
    previous: Option<&'a [u8]>,
    next: Next,
}

/// What [`Effects`] reads next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The count, or the end of nothing at all.
    Count,
    /// So many changes, then the end.
    Changes(usize),
    /// Nothing, after an error.
    Failed,
}

impl<'a> Effects<'a> {
    /// The effects that `bytes` encode.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new("effects", bytes), previous: None, next: Next::Count }
    }

    fn read(&mut self) -> Result<Option<Effect<'a>>, InvalidState> {
        let left = match self.next {
            Next::Failed => return Ok(None),
            Next::Count if self.reader.is_at_end() => return Ok(None),
            Next::Count => match self.reader.size()? {
                0 => return Err(self.reader.invalid_at(0)),
                count => count,
            },
            Next::Changes(left) => left,
        };
        if left == 0 {
            self.reader.end()?;
            return Ok(None);
        }
        self.next = Next::Changes(left - 1);
        self.read_change().map(Some)
    }

    fn read_change(&mut self) -> Result<Effect<'a>, InvalidState> {
        let offset = self.reader.offset();
        let kind = self.reader.u8()?;
        if !matches!(kind, KIND_PUT | KIND_DELETE) {
            return Err(self.reader.invalid_at(offset));
        }
        let key_size = self.reader.size()?;
        let value_size = if kind == KIND_PUT { Some(self.reader.size()?) } else { None };
        let key = self.reader.bytes(key_size)?;
        if self.previous.is_some_and(|previous| previous >= key) {
            return Err(self.reader.invalid_at(offset));
        }
        self.previous = Some(key);
        let value = match value_size {
            Some(size) => Some(self.reader.bytes(size)?),
            None => None,
        };
        Ok(Effect { key, value, offset })
    }
}

impl<'a> Iterator for Effects<'a> {
    type Item = Result<Effect<'a>, InvalidState>;

    fn next(&mut self) -> Option<Self::Item> {
        let effect = self.read();
        if effect.is_err() {
            self.next = Next::Failed;
        }
        effect.transpose()
    }
}
