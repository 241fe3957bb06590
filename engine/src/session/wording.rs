//! Errors in Redis's own words, by which clients tell them apart.

use net::resp::arguments::Arguments;
use net::resp::value::Value;

/// So much of a client's words is repeated in an error, in bytes.
const QUOTED_MAX: usize = 128;

/// There is no such command.
pub(super) fn unknown_command(arguments: &Arguments) -> Value {
    let name = quoted(arguments.get(0).unwrap_or_default(), QUOTED_MAX);
    let mut beginning = Vec::new();
    for argument in arguments.iter_from(1) {
        if beginning.len() >= QUOTED_MAX {
            break;
        }
        let end = argument.len().min(QUOTED_MAX - beginning.len());
        beginning.push(b'\'');
        beginning.extend_from_slice(&argument[..end]);
        beginning.extend_from_slice(b"' ");
    }
    let beginning = String::from_utf8_lossy(&beginning);
    Value::error(format!("ERR unknown command '{name}', with args beginning with: {beginning}"))
}

/// There is no such subcommand of `command`.
pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Value {
    let subcommand = quoted(subcommand, QUOTED_MAX);
    let command = command.to_uppercase();
    Value::error(format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP."))
}

/// `CERTUS CLEANER` with another word than it knows.
pub(super) fn unknown_cleaner_order(word: &[u8]) -> Value {
    let word = quoted(word, QUOTED_MAX);
    Value::error(format!("ERR unknown word '{word}': CERTUS CLEANER takes PAUSE, RESUME or STATUS"))
}

/// `CERTUS MEMBER` with other words than it knows.
pub(super) fn unknown_member_order(arguments: &Arguments) -> Value {
    let words: Vec<String> =
        arguments.iter_from(2).take(3).map(|word| quoted(word, QUOTED_MAX)).collect();
    Value::error(format!(
        "ERR unknown words '{}': CERTUS MEMBER takes LIST, or ADD, PROMOTE or REMOVE and a node id",
        words.join(" ")
    ))
}

/// The command takes more or fewer arguments. A subcommand's name is `command|subcommand`.
pub(super) fn wrong_arity(name: &str) -> Value {
    Value::error(format!("ERR wrong number of arguments for '{name}' command"))
}

/// The arguments make no sense together.
pub(super) fn syntax_error() -> Value {
    Value::error("ERR syntax error")
}

/// An argument should have been an integer.
pub(super) fn not_an_integer() -> Value {
    Value::error("ERR value is not an integer or out of range")
}

/// The keys of one command are in different entities.
pub(super) fn cross_slot() -> Value {
    Value::error("CROSSSLOT Keys in request don't hash to the same slot")
}

/// The client authenticates where nothing asks for it: it may be talking to another server than it
/// means to.
pub(super) fn no_password() -> Value {
    Value::error(
        "ERR AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?",
    )
}

/// The beginning of a client's word as text.
pub(super) fn quoted(word: &[u8], size_max: usize) -> String {
    String::from_utf8_lossy(&word[..word.len().min(size_max)]).into_owned()
}
