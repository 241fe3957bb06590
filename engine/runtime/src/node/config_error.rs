//! What can be wrong with a configuration, in sentences that name key, value and remedy.

use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {file}: {error}; name an existing, readable file with --config")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        error: String,
    },
    /// The file is not TOML.
    #[error("configuration file {file}, line {line} (`{text}`): {error}; see certusd.example.toml")]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line number, from 1; 0 when unknown.
        line: usize,
        /// The line itself.
        text: String,
        /// What the parser says.
        error: String,
    },
    /// A key nobody reads, probably misspelt: its default would silently be used instead.
    #[error("configuration key `{key}` (= {value}) is not known{nearest}; correct or remove it")]
    UnknownKey {
        /// The key, with its table.
        key: String,
        /// What it was set to.
        value: String,
        /// Empty, or `; did you mean …?`.
        nearest: Suggestion,
    },
    /// A value outside its range.
    #[error("configuration key `{key}` is {value}: {rule}")]
    OutOfRange {
        /// The key, with its table.
        key: String,
        /// What it was set to.
        value: String,
        /// What it must be, as an instruction.
        rule: String,
    },
    /// A key without a default is missing.
    #[error("configuration key `{key}` is missing: {rule}")]
    Missing {
        /// The key, with its table.
        key: String,
        /// What it must be, as an instruction.
        rule: String,
    },
    /// An environment variable or flag does not hold what its key takes.
    #[error("{source_name} is `{value}`: {error}; it replaces the configuration key `{key}`")]
    BadOverride {
        /// The variable or flag.
        source_name: String,
        /// The key it replaces.
        key: String,
        /// What it holds.
        value: String,
        /// Why it does not fit.
        error: String,
    },
    /// Two keys contradict each other.
    #[error("configuration key `{key}` is {value}, but `{other_key}` is {other_value}: {rule}")]
    Contradiction {
        /// One key.
        key: String,
        /// Its value.
        value: String,
        /// The other key.
        other_key: String,
        /// The other value.
        other_value: String,
        /// How they must fit together, as an instruction.
        rule: String,
    },
    /// The node would be reachable from other machines although nobody has to prove who they are.
    #[error(
        "configuration key `{key}` is {value}, which other machines can reach, and this version \
         has no authentication: anyone who reaches it can read and write everything; listen on a \
         loopback address such as 127.0.0.1, or set `allow_remote_without_authentication = true` \
         if the network itself keeps strangers out"
    )]
    RemoteWithoutAuthentication {
        /// The key.
        key: String,
        /// The address.
        value: String,
    },
}

/// The nearest known key, for the message of [`ConfigError::UnknownKey`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Suggestion(pub Option<String>);

impl std::fmt::Display for Suggestion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(key) => write!(formatter, "; did you mean `{key}`?"),
            None => Ok(()),
        }
    }
}
