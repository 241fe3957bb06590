//! The whole state as bytes.
//!
//! ```text
//! state     format u8 = 1, applied u64, count u32, record × count      keys ascending
//! record    key_size u32, value_size u32, version u64, key, value
//! ```
//!
//! Integers are little-endian. Reading is strict: each key is above the one before it, each version
//! is between 1 and `applied`, nothing is missing or left over, so that a state has one encoding
//! only.

use plog::vocabulary::Entry;

use crate::state_machine::InvalidState;
use crate::state_machine::strings::Strings;
use crate::state_machine::strings::reader::{Reader, put_count, put_size};

const FORMAT: u8 = 1;

/// Appends the encoding of `state`.
pub(super) fn encode(state: &Strings, out: &mut Vec<u8>) {
    out.reserve(13 + state.content_bytes + state.keys.len() * 16);
    out.push(FORMAT);
    out.extend_from_slice(&state.applied.0.to_le_bytes());
    put_count(state.keys.len(), out);
    for (key, record) in state.keys.iter() {
        assert!(record.version > Entry::ZERO && record.version <= state.applied);
        put_size(key, out);
        put_size(&record.value, out);
        out.extend_from_slice(&record.version.0.to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&record.value);
    }
}

/// The state that `bytes` encode.
pub(super) fn decode(bytes: &[u8]) -> Result<Strings, InvalidState> {
    let mut reader = Reader::new("state", bytes);
    let format = reader.u8()?;
    if format != FORMAT {
        return Err(reader.invalid_at(0));
    }
    let mut state = Strings { applied: Entry(reader.u64()?), ..Strings::default() };
    let mut previous: Option<&[u8]> = None;
    for _ in 0..reader.size()? {
        let offset = reader.offset();
        let key_size = reader.size()?;
        let value_size = reader.size()?;
        let version = Entry(reader.u64()?);
        let key = reader.bytes(key_size)?;
        let value = reader.bytes(value_size)?;
        let ascending = previous.is_none_or(|previous| previous < key);
        if !ascending || version == Entry::ZERO || version > state.applied {
            return Err(reader.invalid_at(offset));
        }
        previous = Some(key);
        state.put(key, value, version);
    }
    reader.end()?;
    Ok(state)
}
