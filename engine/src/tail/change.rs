//! What a node tells a tail, and its form in RESP.
//!
//! ```text
//! CERTUS CHANGES   [position, at end (1) or not (0), [change …]]
//! change           [position after it, entity, entry, what, key or null, value or null]
//! CERTUS ENTITIES  [entity, or null at the end, [entity …]]     the first: where to go on
//! CERTUS STATE     [log, record, [[key, value, version] …]]
//! ```
//! Entities and logs are words of hexadecimal digits, positions as [`LogPosition`] has them. What
//! is read comes from a node that may be of another version, so nothing about it is taken for
//! granted.

use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::tail::position::LogPosition;

/// First word of the error that says that a position cannot be gone on from.
pub const GONE: &str = "GONE";

/// What is said of a key, or of an entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The key was set in this entry.
    Set,
    /// The key was deleted in this entry.
    Delete,
    /// The node took the whole entity over as of this entry: single entries before it are not known
    /// here, or were wrong. All its keys follow as [`What::State`], then [`What::EndReset`]; keys
    /// of the entity that are not named between do not exist.
    BeginReset,
    /// The key has this value since this entry; how it came to it is not told.
    State,
    /// All keys of the entity were named.
    EndReset,
}

impl What {
    const WORDS: [(&str, Self); 5] = [
        ("set", Self::Set),
        ("delete", Self::Delete),
        ("reset-begin", Self::BeginReset),
        ("state", Self::State),
        ("reset-end", Self::EndReset),
    ];

    /// Its word in replies and lines.
    #[must_use]
    pub fn word(self) -> &'static str {
        let (word, _) = Self::WORDS[self as usize];
        word
    }
}

/// One line of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where the stream stands after it.
    pub position: LogPosition,
    /// The entity.
    pub entity: EntityId,
    /// The entry: a key's version.
    pub entry: Entry,
    /// What is said.
    pub what: What,
    /// The key; empty for what is of the whole entity.
    pub key: Vec<u8>,
    /// Its value, with [`What::Set`] and [`What::State`].
    pub value: Option<Vec<u8>>,
}

/// An answer to `CERTUS CHANGES`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// Where to go on.
    pub next: LogPosition,
    /// Whether nothing more is there by now.
    pub is_at_end: bool,
    /// What changed, in order.
    pub changes: Vec<Change>,
}

/// An answer to `CERTUS ENTITIES`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listing {
    /// Where to go on; `None`: these were the last.
    pub next: Option<EntityId>,
    /// Some entities, in the order of the index.
    pub entities: Vec<EntityId>,
}

/// A key, its value, and the entry of its last change.
pub type KeyState = (Vec<u8>, Vec<u8>, Entry);

/// An answer to `CERTUS STATE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// Names the log of the core that answered.
    pub log: u64,
    /// The last record of that log by then: later records tell what came after this state.
    pub record: Lsn,
    /// The keys of the entity that match.
    pub keys: Vec<KeyState>,
}

/// A reply that is none of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the node's reply to {0} is not understood; is it of another version?")]
pub struct NotUnderstood(pub &'static str);

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).expect("entries and LSNs stay far below 2^63"))
}

fn hex(value: u64) -> Value {
    Value::bulk(format!("{value:x}"))
}

fn read_number(value: &Value) -> Option<u64> {
    let Value::Integer(number) = value else { return None };
    u64::try_from(*number).ok()
}

fn read_hex(value: &Value) -> Option<u64> {
    u64::from_str_radix(read_text(value)?, 16).ok()
}

fn read_text(value: &Value) -> Option<&str> {
    std::str::from_utf8(read_bytes(value)?).ok()
}

fn read_bytes(value: &Value) -> Option<&[u8]> {
    let Value::Bulk(bytes) = value else { return None };
    Some(bytes)
}

fn read_array<const N: usize>(value: &Value) -> Option<&[Value; N]> {
    let Value::Array(values) = value else { return None };
    values.as_slice().try_into().ok()
}

fn read_list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let Value::Array(values) = value else { return None };
    values.iter().map(read).collect()
}

impl Change {
    fn into_value(self) -> Value {
        let bulk = |bytes: Option<Vec<u8>>| bytes.map_or(Value::Null, Value::bulk);
        let is_of_key = !matches!(self.what, What::BeginReset | What::EndReset);
        Value::Array(vec![
            Value::bulk(self.position.to_string()),
            hex(self.entity.0),
            number(self.entry.0),
            Value::bulk(self.what.word()),
            bulk(is_of_key.then_some(self.key)),
            bulk(self.value),
        ])
    }

    fn read(value: &Value) -> Option<Self> {
        let [position, entity, entry, word, key, bytes] = read_array(value)?;
        let word = read_text(word)?;
        let (_, what) = What::WORDS.into_iter().find(|(known, _)| *known == word)?;
        let is_of_key = !matches!(what, What::BeginReset | What::EndReset);
        let has_value = matches!(what, What::Set | What::State);
        let key = match key {
            Value::Null if !is_of_key => Vec::new(),
            key if is_of_key => read_bytes(key)?.to_vec(),
            _ => return None,
        };
        let value = match bytes {
            Value::Null if !has_value => None,
            bytes if has_value => Some(read_bytes(bytes)?.to_vec()),
            _ => return None,
        };
        let position = read_text(position)?.parse().ok()?;
        let (entity, entry) = (EntityId(read_hex(entity)?), Entry(read_number(entry)?));
        Some(Self { position, entity, entry, what, key, value })
    }
}

impl Page {
    /// As a reply.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Array(vec![
            Value::bulk(self.next.to_string()),
            Value::Integer(i64::from(self.is_at_end)),
            Value::Array(self.changes.into_iter().map(Change::into_value).collect()),
        ])
    }

    /// From a reply.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(value: &Value) -> Result<Self, NotUnderstood> {
        let read = || {
            let [next, is_at_end, changes] = read_array(value)?;
            let next = read_text(next)?.parse().ok()?;
            let is_at_end = match read_number(is_at_end)? {
                0 => false,
                1 => true,
                _ => return None,
            };
            Some(Self { next, is_at_end, changes: read_list(changes, Change::read)? })
        };
        read().ok_or(NotUnderstood("CERTUS CHANGES"))
    }
}

impl Listing {
    /// As a reply.
    #[must_use]
    pub fn into_value(self) -> Value {
        let entities = self.entities.into_iter().map(|entity| hex(entity.0)).collect();
        let next = self.next.map_or(Value::Null, |next| hex(next.0));
        Value::Array(vec![next, Value::Array(entities)])
    }

    /// From a reply.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(value: &Value) -> Result<Self, NotUnderstood> {
        let read = || {
            let [next, entities] = read_array(value)?;
            let next = match next {
                Value::Null => None,
                next => Some(EntityId(read_hex(next)?)),
            };
            let entities = read_list(entities, |entity| read_hex(entity).map(EntityId))?;
            Some(Self { next, entities })
        };
        read().ok_or(NotUnderstood("CERTUS ENTITIES"))
    }
}

impl State {
    /// As a reply.
    #[must_use]
    pub fn into_value(self) -> Value {
        let key = |(key, value, version): KeyState| {
            Value::Array(vec![Value::bulk(key), Value::bulk(value), number(version.0)])
        };
        let keys = Value::Array(self.keys.into_iter().map(key).collect());
        Value::Array(vec![hex(self.log), number(self.record.0), keys])
    }

    /// From a reply.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(value: &Value) -> Result<Self, NotUnderstood> {
        let key = |value: &Value| {
            let [key, value, version] = read_array(value)?;
            let version = Entry(read_number(version)?);
            Some((read_bytes(key)?.to_vec(), read_bytes(value)?.to_vec(), version))
        };
        let read = || {
            let [log, record, keys] = read_array(value)?;
            let (log, record) = (read_hex(log)?, Lsn(read_number(record)?));
            Some(Self { log, record, keys: read_list(keys, key)? })
        };
        read().ok_or(NotUnderstood("CERTUS STATE"))
    }
}

#[cfg(test)]
mod tests {
    use net::resp::value::{Protocol, Value};
    use plog::frame_walk::FramePlace;
    use plog::segment::SegmentId;
    use plog::vocabulary::{EntityId, Entry, Lsn};

    use super::{Change, Listing, NotUnderstood, Page, State, What};
    use crate::tail::position::LogPosition;

    fn change(what: What) -> Change {
        let scan = FramePlace { segment: SegmentId(1), offset: 4096, chain: 9 };
        let is_of_key = !matches!(what, What::BeginReset | What::EndReset);
        Change {
            position: LogPosition { log: 5, scan, told: Lsn(7), lines: 1 },
            entity: EntityId(u64::MAX),
            entry: Entry(3),
            what,
            key: if is_of_key { vec![0, 255, b'k'] } else { Vec::new() },
            value: matches!(what, What::Set | What::State).then(|| vec![0xff, 0]),
        }
    }

    fn through_resp(value: &Value) -> Value {
        let mut bytes = Vec::new();
        value.encode(Protocol::Resp3, &mut bytes);
        let (read, length) = Value::decode(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        read
    }

    #[test]
    fn replies_read_back_as_they_were_made() {
        let changes: Vec<Change> = What::WORDS.iter().map(|(_, what)| change(*what)).collect();
        let page = Page { next: changes[0].position, is_at_end: true, changes };
        assert_eq!(Page::read(&through_resp(&page.clone().into_value())), Ok(page));
        for next in [None, Some(EntityId(1 << 63))] {
            let listing = Listing { next, entities: vec![EntityId(0), EntityId(u64::MAX)] };
            assert_eq!(Listing::read(&through_resp(&listing.clone().into_value())), Ok(listing));
        }
        let keys = vec![(b"k".to_vec(), vec![0xff], Entry(2))];
        let state = State { log: u64::MAX, record: Lsn(1 << 40), keys };
        assert_eq!(State::read(&through_resp(&state.clone().into_value())), Ok(state));
    }

    #[test]
    fn what_is_no_such_reply_is_refused() {
        assert_eq!(Page::read(&Value::Null), Err(NotUnderstood("CERTUS CHANGES")));
        assert_eq!(Listing::read(&Value::Array(Vec::new())), Err(NotUnderstood("CERTUS ENTITIES")));
        assert_eq!(State::read(&Value::OK), Err(NotUnderstood("CERTUS STATE")));
        // A deletion with a value, and a set without one.
        for (what, value) in [(What::Delete, Some(Vec::new())), (What::Set, None)] {
            let odd = Change { value, ..change(what) };
            let page = Page { next: odd.position, is_at_end: false, changes: vec![odd] };
            assert_eq!(Page::read(&page.into_value()), Err(NotUnderstood("CERTUS CHANGES")));
        }
    }
}
