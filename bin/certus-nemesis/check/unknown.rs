//! A request stays without an answer only while there is a fault, or just after.

use crate::check::Violation;
use crate::history::Unknown;

/// When something was wrong with the cluster, in microseconds of the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Window {
    /// When the fault began.
    pub begin: u64,
    /// When the cluster had its time to recover from it, too.
    pub end: u64,
}

/// The first of `unknowns` that no window explains, and how many there are.
pub fn check(unknowns: &[Unknown], windows: &[Window]) -> Option<Violation> {
    let is_explained = |unknown: &Unknown| {
        windows.iter().any(|window| window.begin <= unknown.ended && unknown.called <= window.end)
    };
    let unexplained: Vec<&Unknown> =
        unknowns.iter().filter(|unknown| !is_explained(unknown)).collect();
    let first = unexplained.iter().min_by_key(|unknown| unknown.called)?;
    let Unknown { node, called, ended, what } = first;
    let what = format!(
        "{} without an answer although there was no fault, first {called}..{ended} us at node \
         {node}: {what}",
        unexplained.len()
    );
    Some(Violation { key: None, rule: "unknown", what, at: *called })
}

#[cfg(test)]
mod tests {
    use super::{Window, check};
    use crate::history::Unknown;

    #[test]
    fn only_what_a_fault_explains_may_be_unknown() {
        let unknown = |called, ended| Unknown { node: 0, called, ended, what: String::new() };
        let windows = [Window { begin: 10, end: 20 }, Window { begin: 40, end: 50 }];
        let explained = [unknown(5, 10), unknown(12, 14), unknown(20, 30), unknown(1, 90)];
        assert_eq!(check(&explained, &windows), None);
        let found =
            check(&[unknown(12, 14), unknown(21, 39)], &windows).expect("it is not explained");
        assert!(found.what.starts_with("1 without an answer") && found.at == 21, "{found:?}");
    }
}
