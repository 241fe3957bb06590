//! Values from the environment and from flags, which replace those of the file.
//!
//! Only top-level keys that hold one value can be replaced; a variable that looks like an override
//! and is none is told apart, so that it is not silently without effect.

use toml::{Table, Value};

use crate::node::config::Config;
use crate::node::config::cluster_id::value_of_override;
use crate::node::config::keys::scalar_keys;
use crate::node::config_error::ConfigError;

/// What names an environment variable that overrides a top-level key: `CERTUS_NODE_ID`.
const ENVIRONMENT_PREFIX: &str = "CERTUS_";

/// Where a value comes from if not from the file: a variable or flag, its key, its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// `CERTUS_NODE_ID` or `--node-id`.
    pub source_name: String,
    /// The top-level key it replaces.
    pub key: String,
    /// Its value as text.
    pub value: String,
}

/// The overrides that `environment` holds, and the names of variables that look like overrides but
/// name no top-level key.
pub fn environment_overrides(
    environment: impl Iterator<Item = (String, String)>,
) -> (Vec<Override>, Vec<String>) {
    let scalars = scalar_keys();
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let key = rest.to_ascii_lowercase();
        if scalars.contains_key(&key) {
            found.push(Override { source_name: name, key, value });
        } else {
            unknown.push(name);
        }
    }
    // The environment has no order of its own worth keeping; errors should not depend on it.
    found.sort_by(|left, right| left.source_name.cmp(&right.source_name));
    unknown.sort();
    (found, unknown)
}

/// Puts the value of `replacement` into `table`, if it is of the type that its key takes.
pub(super) fn replace(table: &mut Table, replacement: &Override) -> Result<(), ConfigError> {
    let Override { source_name, key, value } = replacement;
    let bad = |error: &str| ConfigError::BadOverride {
        source_name: source_name.clone(),
        key: key.clone(),
        value: value.clone(),
        error: error.to_owned(),
    };
    let scalars = scalar_keys();
    let typed = match scalars.get(key) {
        Some(_) if key == "cluster_id" => value_of_override(value).map_err(bad)?,
        Some(Value::Integer(_)) => {
            let number = value.trim().parse().map_err(|_| bad("it must be a whole number"))?;
            Value::Integer(number)
        }
        Some(Value::Boolean(_)) => {
            Value::Boolean(value.trim().parse().map_err(|_| bad("it must be true or false"))?)
        }
        Some(
            Value::String(_)
            | Value::Float(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_),
        ) => Value::String(value.clone()),
        None => return Err(bad("no such key can be replaced")),
    };
    let mut alone = Table::new();
    alone.insert(key.clone(), typed.clone());
    let _: Config = alone.try_into().map_err(|error: toml::de::Error| bad(error.message()))?;
    table.insert(key.clone(), typed);
    Ok(())
}
