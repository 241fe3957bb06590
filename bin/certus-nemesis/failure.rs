//! Why a run ends early.

use std::io;

use crate::check::Violation;

/// Why a run ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The cluster did what it must not do.
    #[error("{}: {}", .0.rule, .0.what)]
    Violation(Violation),
    /// The run proves nothing.
    #[error("{0}")]
    ProvedNothing(String),
    /// Somebody wants it to stop.
    #[error("interrupted")]
    Interrupted,
    /// The harness cannot go on.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Failure {
    /// The cluster broke `rule` just now.
    pub fn violation(rule: &'static str, what: impl Into<String>, at: u64) -> Self {
        Self::Violation(Violation { key: None, rule, what: what.into(), at })
    }
}
