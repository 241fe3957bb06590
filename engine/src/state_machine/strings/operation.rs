//! The commands on strings: their names, how many arguments they take, and where their keys are.

use net::resp::arguments::Arguments;
use net::resp::value::RespError;

use crate::state_machine::strings::command_word::CommandWord;

/// A command on the keys of one entity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// `GET key`
    Get,
    /// `SET key value [NX | XX | IFEQ old] [GET]`
    Set,
    /// `GETSET key value`
    GetSet,
    /// `GETDEL key`
    GetDel,
    /// `SETNX key value`
    SetIfAbsent,
    /// `MGET key …`
    GetMany,
    /// `MSET key value …`
    SetMany,
    /// `APPEND key value`
    Append,
    /// `STRLEN key`
    Length,
    /// `INCR key`
    Increment,
    /// `INCRBY key amount`
    IncrementBy,
    /// `DECR key`
    Decrement,
    /// `DECRBY key amount`
    DecrementBy,
    /// `DEL key …`
    Delete,
    /// `UNLINK key …`
    Unlink,
    /// `EXISTS key …`
    Exists,
    /// `TYPE key`
    Type,
    /// `CERTUS VERSION key`
    Version,
    /// `CERTUS CAS key version value`
    CompareAndSet,
}

/// Where a command's keys stand among its arguments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyPositions {
    /// Position of the first key; the command's name is at 0.
    pub first: usize,
    /// How many arguments further the next key is, or `None` when there is only one.
    pub step: Option<usize>,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 19] = [
        Self::Get,
        Self::Set,
        Self::GetSet,
        Self::GetDel,
        Self::SetIfAbsent,
        Self::GetMany,
        Self::SetMany,
        Self::Append,
        Self::Length,
        Self::Increment,
        Self::IncrementBy,
        Self::Decrement,
        Self::DecrementBy,
        Self::Delete,
        Self::Unlink,
        Self::Exists,
        Self::Type,
        Self::Version,
        Self::CompareAndSet,
    ];

    /// The operation that `arguments` begin with, whatever their number; `None` for another
    /// command.
    #[must_use]
    pub fn of(arguments: &Arguments) -> Option<Self> {
        const CERTUS: CommandWord = CommandWord::of(b"certus");
        const VERSION: CommandWord = CommandWord::of(b"version");
        const CAS: CommandWord = CommandWord::of(b"cas");
        let word = CommandWord::of(arguments.get(0)?);
        if word != CERTUS {
            return Self::of_word(word);
        }
        match CommandWord::of(arguments.get(1)?) {
            VERSION => Some(Self::Version),
            CAS => Some(Self::CompareAndSet),
            _ => None,
        }
    }

    /// The operation that is named by the single word `word`.
    #[must_use]
    pub fn of_word(word: CommandWord) -> Option<Self> {
        const GET: CommandWord = CommandWord::of(b"get");
        const SET: CommandWord = CommandWord::of(b"set");
        const GETSET: CommandWord = CommandWord::of(b"getset");
        const GETDEL: CommandWord = CommandWord::of(b"getdel");
        const SETNX: CommandWord = CommandWord::of(b"setnx");
        const MGET: CommandWord = CommandWord::of(b"mget");
        const MSET: CommandWord = CommandWord::of(b"mset");
        const APPEND: CommandWord = CommandWord::of(b"append");
        const STRLEN: CommandWord = CommandWord::of(b"strlen");
        const INCR: CommandWord = CommandWord::of(b"incr");
        const INCRBY: CommandWord = CommandWord::of(b"incrby");
        const DECR: CommandWord = CommandWord::of(b"decr");
        const DECRBY: CommandWord = CommandWord::of(b"decrby");
        const DEL: CommandWord = CommandWord::of(b"del");
        const UNLINK: CommandWord = CommandWord::of(b"unlink");
        const EXISTS: CommandWord = CommandWord::of(b"exists");
        const TYPE: CommandWord = CommandWord::of(b"type");
        Some(match word {
            GET => Self::Get,
            SET => Self::Set,
            INCR => Self::Increment,
            INCRBY => Self::IncrementBy,
            DEL => Self::Delete,
            EXISTS => Self::Exists,
            MGET => Self::GetMany,
            MSET => Self::SetMany,
            GETSET => Self::GetSet,
            GETDEL => Self::GetDel,
            SETNX => Self::SetIfAbsent,
            APPEND => Self::Append,
            STRLEN => Self::Length,
            DECR => Self::Decrement,
            DECRBY => Self::DecrementBy,
            UNLINK => Self::Unlink,
            TYPE => Self::Type,
            _ => return None,
        })
    }

    /// The name in errors and listings; a subcommand's is `command|subcommand`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::GetSet => "getset",
            Self::GetDel => "getdel",
            Self::SetIfAbsent => "setnx",
            Self::GetMany => "mget",
            Self::SetMany => "mset",
            Self::Append => "append",
            Self::Length => "strlen",
            Self::Increment => "incr",
            Self::IncrementBy => "incrby",
            Self::Decrement => "decr",
            Self::DecrementBy => "decrby",
            Self::Delete => "del",
            Self::Unlink => "unlink",
            Self::Exists => "exists",
            Self::Type => "type",
            Self::Version => "certus|version",
            Self::CompareAndSet => "certus|cas",
        }
    }

    /// How many arguments it takes, as Redis counts: its name included; a negative number is "at
    /// least so many".
    #[must_use]
    pub fn arity(self) -> i32 {
        match self {
            Self::Get
            | Self::GetDel
            | Self::Length
            | Self::Increment
            | Self::Decrement
            | Self::Type => 2,
            Self::GetSet
            | Self::SetIfAbsent
            | Self::Append
            | Self::IncrementBy
            | Self::DecrementBy
            | Self::Version => 3,
            Self::CompareAndSet => 5,
            Self::GetMany | Self::Delete | Self::Unlink | Self::Exists => -2,
            Self::Set | Self::SetMany => -3,
        }
    }

    /// Whether it takes `count` arguments, its name included.
    #[must_use]
    pub fn takes(self, count: usize) -> bool {
        match self {
            // Pairs after the name.
            Self::SetMany => count >= 3 && count % 2 == 1,
            _ => arity_allows(self.arity(), count),
        }
    }

    /// What is answered when it does not take as many arguments as it was given.
    #[must_use]
    pub fn wrong_arity(self) -> RespError {
        RespError::new(format!("ERR wrong number of arguments for '{}' command", self.name()))
    }

    /// Whether it can change anything.
    #[must_use]
    pub fn is_write(self) -> bool {
        match self {
            Self::Get
            | Self::GetMany
            | Self::Length
            | Self::Exists
            | Self::Type
            | Self::Version => false,
            Self::Set
            | Self::GetSet
            | Self::GetDel
            | Self::SetIfAbsent
            | Self::SetMany
            | Self::Append
            | Self::Increment
            | Self::IncrementBy
            | Self::Decrement
            | Self::DecrementBy
            | Self::Delete
            | Self::Unlink
            | Self::CompareAndSet => true,
        }
    }

    /// Where its keys are.
    #[must_use]
    pub fn key_positions(self) -> KeyPositions {
        match self {
            Self::GetMany | Self::Delete | Self::Unlink | Self::Exists => {
                KeyPositions { first: 1, step: Some(1) }
            }
            Self::SetMany => KeyPositions { first: 1, step: Some(2) },
            Self::Version | Self::CompareAndSet => KeyPositions { first: 2, step: None },
            Self::Get
            | Self::Set
            | Self::GetSet
            | Self::GetDel
            | Self::SetIfAbsent
            | Self::Append
            | Self::Length
            | Self::Increment
            | Self::IncrementBy
            | Self::Decrement
            | Self::DecrementBy
            | Self::Type => KeyPositions { first: 1, step: None },
        }
    }

    /// Its keys among `arguments`, in order and with repetitions.
    pub fn keys(self, arguments: &Arguments) -> impl Iterator<Item = &[u8]> {
        let KeyPositions { first, step } = self.key_positions();
        let count = if step.is_some() { usize::MAX } else { 1 };
        arguments.iter_from(first).step_by(step.unwrap_or(1)).take(count)
    }
}

/// Whether a command of `arity`, as Redis counts, takes `count` arguments, its name included.
#[must_use]
pub fn arity_allows(arity: i32, count: usize) -> bool {
    let named = usize::try_from(arity.unsigned_abs()).expect("an arity is small");
    if arity < 0 { count >= named } else { count == named }
}

#[cfg(test)]
mod tests {
    use net::resp::arguments::Arguments;

    use super::Operation;

    #[test]
    fn every_operation_is_found_by_its_name_in_any_case() {
        for operation in Operation::ALL {
            let name = operation.name();
            for name in [name.to_owned(), name.to_uppercase()] {
                let words: Vec<&str> = name.split('|').collect();
                assert_eq!(Operation::of(&Arguments::from_slices(&words)), Some(operation));
            }
            let longer = format!("{}x", name.replace('|', ""));
            assert_eq!(Operation::of(&Arguments::from_slices(&[longer])), None);
        }
        assert_eq!(Operation::of(&Arguments::new()), None);
        assert_eq!(Operation::of(&Arguments::from_slices(&["certus"])), None);
    }

    #[test]
    fn keys_are_found_where_each_command_has_them() {
        let keys = |words: &[&str]| -> Vec<Vec<u8>> {
            let arguments = Arguments::from_slices(words);
            let operation = Operation::of(&arguments).expect("a command on strings");
            assert!(operation.takes(arguments.len()));
            operation.keys(&arguments).map(<[u8]>::to_vec).collect()
        };
        assert_eq!(keys(&["get", "a"]), [b"a"]);
        assert_eq!(keys(&["set", "a", "b", "NX"]), [b"a"]);
        assert_eq!(keys(&["mget", "a", "b", "a"]), [b"a", b"b", b"a"]);
        assert_eq!(keys(&["mset", "a", "1", "b", "2"]), [b"a", b"b"]);
        assert_eq!(keys(&["certus", "cas", "a", "0", "b"]), [b"a"]);
        assert!(!Operation::SetMany.takes(4));
    }
}
