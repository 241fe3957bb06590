//! What stands after the value in `SET key value …`.

use net::resp::arguments::Arguments;
use net::resp::value::RespError;

use crate::state_machine::strings::command_word::CommandWord;

/// When `SET` sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Condition<'a> {
    /// Whatever is there.
    Always,
    /// `NX`: if there is no such key.
    Absent,
    /// `XX`: if there is one.
    Present,
    /// `IFEQ`: if there is one with this value.
    EqualTo(&'a [u8]),
}

/// What `SET` replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// `OK` if it did, null if it did not.
    WhetherSet,
    /// `GET`: the value before, null if there was none.
    OldValue,
}

/// The options of one `SET`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SetOptions<'a> {
    pub(super) condition: Condition<'a>,
    pub(super) answer: Answer,
}

/// Where the options begin: after name, key and value.
const FIRST: usize = 3;

impl<'a> SetOptions<'a> {
    /// Reads the options of a `SET`.
    ///
    /// # Errors
    ///
    /// A syntax error where Redis has one; else, that expiry is not supported, when it is asked
    /// for.
    pub(super) fn parse(arguments: &'a Arguments) -> Result<Self, RespError> {
        const NX: CommandWord = CommandWord::of(b"nx");
        const XX: CommandWord = CommandWord::of(b"xx");
        const IFEQ: CommandWord = CommandWord::of(b"ifeq");
        const GET: CommandWord = CommandWord::of(b"get");
        const EX: CommandWord = CommandWord::of(b"ex");
        const PX: CommandWord = CommandWord::of(b"px");
        const EXAT: CommandWord = CommandWord::of(b"exat");
        const PXAT: CommandWord = CommandWord::of(b"pxat");
        const KEEPTTL: CommandWord = CommandWord::of(b"keepttl");

        let mut options = Self { condition: Condition::Always, answer: Answer::WhetherSet };
        let mut expiry = None;
        let mut rest = arguments.iter_from(FIRST);
        while let Some(option) = rest.next() {
            let word = CommandWord::of(option);
            match (word, options.condition) {
                (GET, _) => options.answer = Answer::OldValue,
                // Saying the same twice is allowed, except for the one that names a value.
                (NX, Condition::Always | Condition::Absent) => {
                    options.condition = Condition::Absent;
                }
                (XX, Condition::Always | Condition::Present) => {
                    options.condition = Condition::Present;
                }
                (IFEQ, Condition::Always) => {
                    let old = rest.next().ok_or_else(syntax_error)?;
                    options.condition = Condition::EqualTo(old);
                }
                (KEEPTTL | EX | PX | EXAT | PXAT, _)
                    if expiry.is_none_or(|other| other == word) =>
                {
                    expiry = Some(word);
                    if word != KEEPTTL && rest.next().is_none() {
                        return Err(syntax_error());
                    }
                }
                _ => return Err(syntax_error()),
            }
        }
        if expiry.is_some() {
            return Err(RespError::new(
                "ERR expiry is not supported by this version: \
                 send SET without EX, PX, EXAT, PXAT and KEEPTTL",
            ));
        }
        Ok(options)
    }
}

fn syntax_error() -> RespError {
    RespError::new("ERR syntax error")
}

#[cfg(test)]
mod tests {
    use net::resp::arguments::Arguments;

    use super::{Answer, Condition, SetOptions};

    fn words(options: &str) -> Arguments {
        Arguments::from_slices(&["set", "key", "value"])
            .iter()
            .chain(options.split_whitespace().map(str::as_bytes))
            .collect()
    }

    #[test]
    fn options_combine_as_in_redis() {
        use Answer::{OldValue, WhetherSet};
        use Condition::{Absent, Always, EqualTo, Present};
        let accepted = [
            ("", Always, WhetherSet),
            ("nx", Absent, WhetherSet),
            ("NX NX", Absent, WhetherSet),
            ("Xx", Present, WhetherSet),
            ("get GET", Always, OldValue),
            ("XX GET", Present, OldValue),
            ("GET NX", Absent, OldValue),
            ("IFEQ nx", EqualTo(b"nx"), WhetherSet),
            ("GET ifeq old", EqualTo(b"old"), OldValue),
        ];
        for (options, condition, answer) in accepted {
            let words = words(options);
            let parsed = SetOptions::parse(&words).map_err(|error| error.to_string());
            assert_eq!(parsed, Ok(SetOptions { condition, answer }), "{options}");
        }
    }

    #[test]
    fn contradictions_are_syntax_errors_and_expiry_is_refused_by_name() {
        let refused = [
            "NX XX",
            "XX NX",
            "NX IFEQ a",
            "IFEQ a XX",
            "IFEQ a IFEQ a",
            "IFEQ",
            "FOO",
            "EX",
            "GET PXAT",
            "EX 1 KEEPTTL",
            "KEEPTTL PX 1",
            "EX 1 PX 1",
            "EX 1 FOO",
        ];
        for options in refused {
            let error = SetOptions::parse(&words(options)).expect_err(options);
            assert_eq!(error.text(), "ERR syntax error", "{options}");
        }
        for options in ["EX 1", "px 1", "NX EXAT 1", "PXAT 1 GET", "KEEPTTL", "KEEPTTL KEEPTTL"] {
            let error = SetOptions::parse(&words(options)).expect_err(options);
            assert!(error.text().starts_with("ERR expiry is not supported"), "{options}");
        }
    }
}
