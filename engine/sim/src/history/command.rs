//! A client's words as a command, for the model.
//!
//! Commands that differ in spelling only are one here: `GETSET` is a `SET` that replies with the
//! old value, `DECR` an increment by −1.

/// What is asked of an entity's keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command<'a> {
    /// `GET key`
    Get(&'a [u8]),
    /// `STRLEN key`
    Length(&'a [u8]),
    /// `TYPE key`
    Type(&'a [u8]),
    /// `CERTUS VERSION key`
    Version(&'a [u8]),
    /// `MGET key …`
    GetMany(&'a [Vec<u8>]),
    /// `EXISTS key …`
    Exists(&'a [Vec<u8>]),
    /// `SET`, `SETNX` and `GETSET`.
    Set {
        /// What is set.
        key: &'a [u8],
        /// To what.
        value: &'a [u8],
        /// Whether it is.
        condition: Condition<'a>,
        /// What is replied.
        answer: Answer,
    },
    /// `MSET key value …`: keys and values in turn.
    SetMany(&'a [Vec<u8>]),
    /// `APPEND key tail`
    Append(&'a [u8], &'a [u8]),
    /// `INCR`, `INCRBY`, `DECR` and `DECRBY`.
    Add(&'a [u8], i64),
    /// `DEL key …`, `UNLINK key …`
    Delete(&'a [Vec<u8>]),
    /// `GETDEL key`
    GetDelete(&'a [u8]),
    /// `CERTUS CAS key version value`
    CompareAndSet {
        /// What is set.
        key: &'a [u8],
        /// If this is its version; 0 stands for an absent key.
        version: u64,
        /// To what.
        value: &'a [u8],
    },
    /// A write that is answered with this error whatever the state is.
    Malformed(&'static str),
}

/// When a [`Command::Set`] sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition<'a> {
    /// Whatever is there.
    Always,
    /// When nothing is there.
    Absent,
    /// When something is there.
    Present,
    /// When this is there.
    EqualTo(&'a [u8]),
}

/// What a [`Command::Set`] replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// `OK`, or null if it did not set.
    Status,
    /// 1, or 0 if it did not set.
    Count,
    /// The value before.
    OldValue,
}

pub(super) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX_ERROR: &str = "ERR syntax error";

impl<'a> Command<'a> {
    /// The command that `words` are; `None` for one that the model does not know, which includes
    /// those with expiry and those with too few or too many words.
    #[must_use]
    pub fn parse(words: &'a [Vec<u8>]) -> Option<Self> {
        use Answer::{Count, OldValue};
        use Condition::{Absent, Always};
        let (name, arguments) = words.split_first()?;
        let name = name.to_ascii_uppercase();
        Some(match (name.as_slice(), arguments) {
            (b"GET", [key]) => Self::Get(key),
            (b"STRLEN", [key]) => Self::Length(key),
            (b"TYPE", [key]) => Self::Type(key),
            (b"MGET", [_, ..]) => Self::GetMany(arguments),
            (b"EXISTS", [_, ..]) => Self::Exists(arguments),
            (b"SET", [key, value, options @ ..]) => Self::parse_set(key, value, options)?,
            (b"SETNX", [key, value]) => Self::Set { key, value, condition: Absent, answer: Count },
            (b"GETSET", [key, value]) => {
                Self::Set { key, value, condition: Always, answer: OldValue }
            }
            (b"MSET", [_, _, ..]) if arguments.len() % 2 == 0 => Self::SetMany(arguments),
            (b"APPEND", [key, tail]) => Self::Append(key, tail),
            (b"INCR", [key]) => Self::Add(key, 1),
            (b"DECR", [key]) => Self::Add(key, -1),
            (b"INCRBY", [key, amount]) => match parse_integer(amount) {
                Some(amount) => Self::Add(key, amount),
                None => Self::Malformed(NOT_AN_INTEGER),
            },
            (b"DECRBY", [key, amount]) => match parse_integer(amount).map(i64::checked_neg) {
                Some(Some(amount)) => Self::Add(key, amount),
                Some(None) => Self::Malformed("ERR decrement would overflow"),
                None => Self::Malformed(NOT_AN_INTEGER),
            },
            (b"DEL" | b"UNLINK", [_, ..]) => Self::Delete(arguments),
            (b"GETDEL", [key]) => Self::GetDelete(key),
            (b"CERTUS", [word, key]) if word.eq_ignore_ascii_case(b"version") => Self::Version(key),
            (b"CERTUS", [word, key, version, value]) if word.eq_ignore_ascii_case(b"cas") => {
                match parse_integer(version).map(u64::try_from) {
                    Some(Ok(version)) => Self::CompareAndSet { key, version, value },
                    Some(Err(_)) => {
                        Self::Malformed("ERR version is negative: 0 stands for an absent key")
                    }
                    None => Self::Malformed(NOT_AN_INTEGER),
                }
            }
            _ => return None,
        })
    }

    /// `SET` with whatever stands behind the value.
    fn parse_set(key: &'a [u8], value: &'a [u8], options: &'a [Vec<u8>]) -> Option<Self> {
        let mut condition = Condition::Always;
        let mut answer = Answer::Status;
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            let wanted = match option.to_ascii_uppercase().as_slice() {
                b"GET" => {
                    answer = Answer::OldValue;
                    continue;
                }
                b"NX" => Condition::Absent,
                b"XX" => Condition::Present,
                b"IFEQ" => match rest.next() {
                    Some(old) if condition == Condition::Always => Condition::EqualTo(old),
                    _ => return Some(Self::Malformed(SYNTAX_ERROR)),
                },
                b"EX" | b"PX" | b"EXAT" | b"PXAT" | b"KEEPTTL" => return None,
                _ => return Some(Self::Malformed(SYNTAX_ERROR)),
            };
            if condition != Condition::Always && condition != wanted {
                return Some(Self::Malformed(SYNTAX_ERROR));
            }
            condition = wanted;
        }
        Some(Self::Set { key, value, condition, answer })
    }

    /// Whether it is of a kind that can change something: such a command is noted in the log when
    /// it has a request id, also when it changes nothing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get(_)
            | Self::Length(_)
            | Self::Type(_)
            | Self::Version(_)
            | Self::GetMany(_)
            | Self::Exists(_) => false,
            Self::Set { .. }
            | Self::SetMany(_)
            | Self::Append(..)
            | Self::Add(..)
            | Self::Delete(_)
            | Self::GetDelete(_)
            | Self::CompareAndSet { .. }
            | Self::Malformed(_) => true,
        }
    }

    /// Its keys, in order and with repetitions; none of a malformed command.
    #[must_use]
    pub fn keys(&self) -> Vec<&'a [u8]> {
        match *self {
            Self::Get(key)
            | Self::Length(key)
            | Self::Type(key)
            | Self::Version(key)
            | Self::Set { key, .. }
            | Self::Append(key, _)
            | Self::Add(key, _)
            | Self::GetDelete(key)
            | Self::CompareAndSet { key, .. } => vec![key],
            Self::GetMany(keys) | Self::Exists(keys) | Self::Delete(keys) => {
                keys.iter().map(Vec::as_slice).collect()
            }
            Self::SetMany(pairs) => pairs.iter().step_by(2).map(Vec::as_slice).collect(),
            Self::Malformed(_) => Vec::new(),
        }
    }

    /// Whether, on some state, it can be what leaves `key` with `value`, or deletes it if that is
    /// `None`.
    #[must_use]
    pub fn can_leave(&self, key: &[u8], value: Option<&[u8]>) -> bool {
        match (*self, value) {
            (Self::Set { key: set, value: to, .. }, Some(value))
            | (Self::CompareAndSet { key: set, value: to, .. }, Some(value)) => {
                set == key && to == value
            }
            (Self::SetMany(pairs), Some(value)) => {
                pairs.chunks_exact(2).any(|pair| pair[0] == key && pair[1] == value)
            }
            (Self::Append(to, tail), Some(value)) => to == key && value.ends_with(tail),
            (Self::Add(to, _), Some(value)) => to == key && parse_integer(value).is_some(),
            (Self::Delete(keys), None) => keys.iter().any(|deleted| deleted == key),
            (Self::GetDelete(deleted), None) => deleted == key,
            _ => false,
        }
    }

    /// Whether something of it can be seen when `key` was left with `value` by this command and
    /// others, or was deleted, if that is `None`: it left it so, or others added to what it left.
    #[must_use]
    pub fn can_be_part_of(&self, key: &[u8], value: Option<&[u8]>) -> bool {
        let begins = |to: &[u8], with: &[u8]| {
            to == key && value.is_some_and(|value| value.starts_with(with))
        };
        match *self {
            Self::Set { key: to, value, .. } | Self::CompareAndSet { key: to, value, .. } => {
                begins(to, value)
            }
            Self::SetMany(pairs) => pairs.chunks_exact(2).any(|pair| begins(&pair[0], &pair[1])),
            Self::Append(to, tail) => {
                let is_part = |value: &[u8]| {
                    tail.is_empty() || value.windows(tail.len()).any(|part| part == tail)
                };
                to == key && value.is_some_and(is_part)
            }
            _ => self.can_leave(key, value),
        }
    }
}

/// The integer that `text` is the one spelling of, as Redis has it.
pub(super) fn parse_integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}
