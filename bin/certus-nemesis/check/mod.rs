//! Judges of a history that is over. They are pure: operations in, violations out.
//!
//! All operations are on single keys (or on two under one tag that always change together), so each
//! key is judged alone, in O(n log n):
//!
//! - [`register`]: unique values, so that a read names its write;
//! - [`version`]: versions never go back, name one value each, and let one write through;
//! - [`counter`]: a count is a version; nothing is added twice or lost;
//! - [`unknown`]: a request stays without an answer only while there is a fault.

pub mod counter;
mod floor;
pub mod register;
pub mod unknown;
pub mod version;

use crate::history::Operation;
use crate::workload::keys::{Kind, name_of};

/// Operations of the same key that are shown with a violation.
const EXCERPT: usize = 24;

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Where in the key space, if it is about a key.
    pub key: Option<u32>,
    /// What was promised.
    pub rule: &'static str,
    /// Who broke it, and how.
    pub what: String,
    /// When, in microseconds of the run, for choosing what of the history to show.
    pub at: u64,
}

/// Judges all keys. `history` comes back sorted by key and time.
pub fn check(history: &mut [Operation]) -> Vec<Violation> {
    history.sort_by_key(|operation| (operation.key, operation.called, operation.ended));
    let mut violations = Vec::new();
    for of_key in history.chunk_by(|one, other| one.key == other.key) {
        let key = of_key[0].key;
        let found = match Kind::of(key) {
            Kind::Counter => counter::check(of_key),
            Kind::Register | Kind::Pair => register::check(of_key),
            Kind::Versioned => version::check(of_key).or_else(|| register::check(of_key)),
        };
        violations.extend(found.map(|found| Violation { key: Some(key), ..found }));
    }
    violations
}

/// What happened around a violation: the operations of its key that were answered nearest to it.
pub fn excerpt(history: &[Operation], violation: &Violation) -> Vec<String> {
    let Some(key) = violation.key else { return Vec::new() };
    let mut nearest: Vec<&Operation> =
        history.iter().filter(|operation| operation.key == key).collect();
    nearest.sort_by_key(|operation| {
        operation.called.abs_diff(violation.at).min(operation.ended.abs_diff(violation.at))
    });
    nearest.truncate(EXCERPT);
    nearest.sort_by_key(|operation| operation.called);
    let lines = nearest.iter().map(|operation| format!("  {}", operation.describe()));
    std::iter::once(format!("key {}:", name_of(key))).chain(lines).collect()
}
