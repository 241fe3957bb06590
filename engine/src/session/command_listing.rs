//! What `COMMAND` says, and the help of the commands that have subcommands.

use net::resp::arguments::Arguments;
use net::resp::value::Value;

use crate::session::command_table::{COMMANDS, CommandSpecification, KeyRange, find, find_full};
use crate::session::{glob, wording};

/// `COMMAND`, and `COMMAND INFO` without names.
pub(super) fn everything() -> Value {
    Value::Array(COMMANDS.iter().map(describe).collect())
}

/// `COMMAND COUNT`
pub(super) fn count() -> Value {
    Value::Integer(i64::try_from(COMMANDS.len()).expect("a short table"))
}

/// `COMMAND INFO name …`
pub(super) fn info(arguments: &Arguments) -> Value {
    if arguments.len() == 2 {
        return everything();
    }
    let describe_named = |name| find_full(name).map_or(Value::NullArray, describe);
    Value::Array(arguments.iter_from(2).map(describe_named).collect())
}

/// `COMMAND DOCS name …`
pub(super) fn docs(arguments: &Arguments) -> Value {
    if arguments.len() == 2 {
        return Value::Map(COMMANDS.iter().map(document).collect());
    }
    Value::Map(arguments.iter_from(2).filter_map(find_full).map(document).collect())
}

/// `COMMAND LIST [FILTERBY (MODULE name | ACLCAT category | PATTERN pattern)]`
pub(super) fn list(arguments: &Arguments) -> Value {
    let words: Vec<&[u8]> = arguments.iter_from(2).take(4).collect();
    let chosen: Vec<Value> = match words.as_slice() {
        [] => COMMANDS.iter().map(name).collect(),
        [filter, kind, word] if filter.eq_ignore_ascii_case(b"filterby") => {
            let all = COMMANDS
                .iter()
                .flat_map(|command| [command].into_iter().chain(command.subcommands));
            if kind.eq_ignore_ascii_case(b"module") {
                Vec::new()
            } else if kind.eq_ignore_ascii_case(b"aclcat") {
                let has = |category: &&str| category.as_bytes()[1..].eq_ignore_ascii_case(word);
                all.filter(|command| command.categories.iter().any(has)).map(name).collect()
            } else if kind.eq_ignore_ascii_case(b"pattern") {
                all.filter(|command| glob::matches(word, command.name.as_bytes()))
                    .map(name)
                    .collect()
            } else {
                return wording::syntax_error();
            }
        }
        _ => return wording::syntax_error(),
    };
    Value::Array(chosen)
}

/// `HELP` of the command that `command` names.
pub(super) fn help(command: &[u8]) -> Value {
    let subcommands = find(command).map_or(&[][..], |command| command.subcommands);
    let command = wording::quoted(command, 16).to_uppercase();
    let mut lines =
        vec![format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for subcommand in subcommands {
        let line = format!("{} {}", subcommand.last_name().to_uppercase(), subcommand.usage);
        lines.push(line.trim_end().to_owned());
        lines.push(format!("    {}", subcommand.summary));
    }
    Value::Array(lines.into_iter().map(Value::simple).collect())
}

/// A command in the ten parts that Redis lists of it.
fn describe(command: &CommandSpecification) -> Value {
    let simple = |words: &'static [&'static str]| words.iter().map(|word| Value::simple(*word));
    let (first, last, step) =
        command.keys.map_or((0, 0, 0), |keys| (keys.first, keys.last, keys.step));
    Value::Array(vec![
        name(command),
        Value::Integer(i64::from(command.arity)),
        Value::Set(simple(command.flags).collect()),
        Value::Integer(first),
        Value::Integer(last),
        Value::Integer(step),
        Value::Set(simple(command.categories).collect()),
        Value::Array(Vec::new()),
        Value::Array(command.keys.iter().map(key_range).collect()),
        Value::Array(command.subcommands.iter().map(describe).collect()),
    ])
}

fn key_range(keys: &KeyRange) -> Value {
    let flags = keys.flags.iter().map(|flag| Value::simple(*flag)).collect();
    // Here the last key is counted from the first one, or from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let begin = vec![(text("index"), Value::Integer(keys.first))];
    let find = vec![
        (text("lastkey"), Value::Integer(last)),
        (text("keystep"), Value::Integer(keys.step)),
        (text("limit"), Value::Integer(0)),
    ];
    let search = |kind, specification| {
        Value::Map(vec![(text("type"), text(kind)), (text("spec"), Value::Map(specification))])
    };
    Value::Map(vec![
        (text("flags"), Value::Set(flags)),
        (text("begin_search"), search("index", begin)),
        (text("find_keys"), search("range", find)),
    ])
}

fn document(command: &CommandSpecification) -> (Value, Value) {
    let mut fields = vec![
        (text("summary"), text(command.summary)),
        (text("since"), text(command.since)),
        (text("group"), text(command.group)),
    ];
    if !command.subcommands.is_empty() {
        let documents = command.subcommands.iter().map(document).collect();
        fields.push((text("subcommands"), Value::Map(documents)));
    }
    (name(command), Value::Map(fields))
}

fn name(command: &CommandSpecification) -> Value {
    text(command.name)
}

fn text(text: &'static str) -> Value {
    Value::bulk(text)
}
