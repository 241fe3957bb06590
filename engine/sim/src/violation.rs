//! A broken rule, as checkers and judges report it.

/// What must not be, and was found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// The invariant's name in the design; `history` when what a judge was handed contradicts
    /// itself: then whoever recorded it is wrong.
    pub invariant: &'static str,
    /// Who broke it, and how.
    pub what: String,
}

impl Violation {
    /// A violation of `invariant`.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}
