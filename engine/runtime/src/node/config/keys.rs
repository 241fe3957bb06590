//! Keys by their names: which there are, and which one a misspelt one was probably meant to be.
//!
//! The list is made from the default configuration, so that it cannot fall behind the fields.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::node::config::Config;
use crate::node::config_error::{ConfigError, Suggestion};

/// The default configuration as a table: every key that exists.
fn default_table() -> Table {
    Table::try_from(Config::default()).expect("a configuration is a plain table")
}

/// Every top-level key that holds one value, with its default.
pub(super) fn scalar_keys() -> BTreeMap<String, Value> {
    default_table()
        .into_iter()
        .filter(|(_, value)| !matches!(value, Value::Table(_) | Value::Array(_)))
        .collect()
}

/// Refuses the first key of `table`, or of a table in it, that is not known.
pub(super) fn refuse_unknown_keys(table: &Table) -> Result<(), ConfigError> {
    let known = default_table();
    let every_key: Vec<String> = known_keys();
    let unknown = |key: &str, value: &Value| ConfigError::UnknownKey {
        key: key.to_owned(),
        value: value.to_string(),
        nearest: Suggestion(nearest(key, &every_key)),
    };
    let check = |prefix: &str, inner: &Table, known: &Table| {
        inner
            .iter()
            .find(|(key, _)| !known.contains_key(*key))
            .map_or(Ok(()), |(key, value)| Err(unknown(&format!("{prefix}.{key}"), value)))
    };
    for (key, value) in table {
        match (known.get(key), value) {
            (None, _) => return Err(unknown(key, value)),
            (Some(Value::Table(known)), Value::Table(inner)) => check(key, inner, known)?,
            (Some(Value::Array(known)), Value::Array(members)) => {
                let known = known.first().and_then(Value::as_table);
                for member in members {
                    if let (Some(known), Some(member)) = (known, member.as_table()) {
                        check(key, member, known)?;
                    }
                }
            }
            // A wrong type is reported by the reading of the value.
            (Some(_), _) => {}
        }
    }
    Ok(())
}

/// Every key that exists, those of tables with their table's name before a dot.
#[must_use]
pub fn known_keys() -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in default_table() {
        let inner = match &value {
            Value::Table(inner) => Some(inner),
            Value::Array(members) => members.first().and_then(Value::as_table),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => None,
        };
        match inner {
            Some(inner) => keys.extend(inner.keys().map(|inner_key| format!("{key}.{inner_key}"))),
            None => keys.push(key),
        }
    }
    keys
}

/// The known key that takes the fewest changes to reach; `None` when none is close.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let distance = |candidate: &String| {
        let whole = changes_between(key, candidate);
        // A right key in the wrong table, or without its unit, is near as well.
        let (given, wanted) = (name(key), name(candidate));
        let bare = changes_between(&given, &wanted).saturating_add(1);
        let without_unit = if given.len() >= 5 && wanted.starts_with(&given) { 2 } else { whole };
        whole.min(bare).min(without_unit)
    };
    let best = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= key.len().div_ceil(3)).then(|| best.clone())
}

/// Insertions, deletions and replacements of characters that turn `from` into `to`.
fn changes_between(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, given) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(given != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

impl Config {
    /// Every key with its value as text, for `CONFIG GET`.
    #[must_use]
    pub fn flattened(&self) -> BTreeMap<String, String> {
        let table = Table::try_from(self).expect("a configuration is a plain table");
        let mut flat = BTreeMap::new();
        for (key, value) in &table {
            match value {
                Value::Table(inner) => {
                    for (inner_key, inner_value) in inner {
                        flat.insert(format!("{key}.{inner_key}"), plain_text(inner_value));
                    }
                }
                Value::Array(_) => {}
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_) => {
                    flat.insert(key.clone(), plain_text(value));
                }
            }
        }
        flat
    }
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
