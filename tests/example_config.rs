//! The documented example configuration is complete, valid, and shows the defaults.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use runtime::node::config::{Config, known_keys};
use toml::{Table, Value};

fn example() -> (PathBuf, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/certusd.example.toml");
    let text = std::fs::read_to_string(&file).expect("the example stands in scripts/");
    (file, text)
}

#[test]
fn the_example_shows_the_defaults() {
    let (file, _) = example();
    let config = Config::load(&file, &[]).expect("the example is valid");
    assert_eq!(config, Config::default());
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let (_, text) = example();
    let table: Table = toml::from_str(&text).expect("the example is TOML");
    let mut shown = BTreeSet::new();
    for (key, value) in &table {
        let inner: Vec<&Table> = match value {
            Value::Table(inner) => vec![inner],
            Value::Array(members) => members.iter().filter_map(Value::as_table).collect(),
            _ => Vec::new(),
        };
        if inner.is_empty() {
            shown.insert(key.clone());
        }
        shown.extend(
            inner.iter().flat_map(|table| table.keys()).map(|name| format!("{key}.{name}")),
        );
    }
    assert_eq!(shown, known_keys().into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn every_key_of_the_example_is_explained_by_a_comment_above_it() {
    let (_, text) = example();
    let mut explained = false;
    for line in text.lines() {
        if line.starts_with('#') {
            explained = true;
        } else if line.is_empty() {
            explained = false;
        } else if line.starts_with('[') {
            // The comment of a table of nodes stands above the first of them.
            explained = line == "[[node]]";
        } else {
            let key = line.split(" = ").next().expect("split yields at least one part");
            let shared = key == "allow_remote_without_authentication";
            assert!(explained || shared, "`{key}` has no comment");
        }
    }
}
