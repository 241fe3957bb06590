//! Linearizability of a register whose written values are all different (Gibbons and Korach, 1997).
//!
//! Every read names its write. A value's *cluster* is its write and its reads. Where some operation
//! of a cluster ends before another begins, the value must have stood from that end to that
//! beginning (a *forward zone*); else there is a span in which all of the cluster can happen at one
//! moment (a *backward zone*). The history is linearizable exactly if each read has a write that
//! did not begin after it, no two forward zones overlap, and no backward zone lies within a forward
//! one.
//!
//! A write that was refused for its condition needs a moment at which that did not hold.
//!
//! An operation that says what it replaced counts as a read of that, too; and since no value comes
//! back, nothing is replaced twice.

use std::collections::BTreeMap;

use crate::check::Violation;
use crate::history::{Deed, NEVER, NOTHING, Operation};

/// A value's write and reads.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// When its write was called.
    written: Option<u64>,
    first_end: u64,
    last_call: u64,
    was_seen: bool,
    replaced: bool,
}

impl Cluster {
    const EMPTY: Self =
        Self { written: None, first_end: NEVER, last_call: 0, was_seen: false, replaced: false };

    fn join(&mut self, called: u64, ended: u64) {
        self.first_end = self.first_end.min(ended);
        self.last_call = self.last_call.max(called);
    }

    fn is_forward(&self) -> bool {
        self.first_end < self.last_call
    }
}

/// Judges the operations of one key.
pub fn check(operations: &[Operation]) -> Option<Violation> {
    let mut clusters: BTreeMap<u64, Cluster> = BTreeMap::new();
    let initial = Cluster { written: Some(0), first_end: 0, was_seen: true, ..Cluster::EMPTY };
    clusters.insert(NOTHING, initial);
    for operation in operations {
        let Operation { called, ended, .. } = *operation;
        let (written, seen) = match operation.deed {
            Deed::Read(value) | Deed::Bound { value, .. } => (None, Some(value)),
            Deed::Wrote { value, replaced, .. } => (Some((value, ended)), replaced),
            Deed::MayHaveWritten(value) => (Some((value, NEVER)), None),
            _ => continue,
        };
        if let Some((value, ended)) = written {
            let cluster = clusters.entry(value).or_insert(Cluster::EMPTY);
            if cluster.written.replace(called).is_some() {
                return Some(violation("unique", operation, "a value was written twice"));
            }
            cluster.was_seen |= ended != NEVER;
            cluster.join(called, ended);
        }
        if let Some(value) = seen {
            let cluster = clusters.entry(value).or_insert(Cluster::EMPTY);
            cluster.was_seen = true;
            cluster.join(called, ended);
            let replaces = matches!(operation.deed, Deed::Wrote { .. });
            if replaces && std::mem::replace(&mut cluster.replaced, true) {
                return Some(violation("linearizable", operation, "replaces what was replaced"));
            }
        }
    }
    check_reads(operations, &clusters)
        .or_else(|| check_conditions(operations, &clusters))
        .or_else(|| check_zones(operations, &clusters))
}

fn violation(rule: &'static str, operation: &Operation, what: &str) -> Violation {
    let what = format!("{what}: {}", operation.describe());
    Violation { key: None, rule, what, at: operation.called }
}

fn check_reads(operations: &[Operation], clusters: &BTreeMap<u64, Cluster>) -> Option<Violation> {
    operations.iter().find_map(|operation| {
        let seen = match operation.deed {
            Deed::Read(value) | Deed::Bound { value, .. } => value,
            Deed::Wrote { replaced: Some(value), .. } => value,
            _ => return None,
        };
        match clusters[&seen].written {
            None => Some(violation("linearizable", operation, "nobody wrote what was seen")),
            Some(written) if written > operation.ended => {
                Some(violation("linearizable", operation, "seen before it was written"))
            }
            Some(_) => None,
        }
    })
}

/// A condition that failed did not hold all the time.
fn check_conditions(
    operations: &[Operation],
    clusters: &BTreeMap<u64, Cluster>,
) -> Option<Violation> {
    operations.iter().find_map(|operation| {
        let Deed::Differed(value) = operation.deed else { return None };
        let zone = clusters.get(&value)?;
        let stood = zone.first_end < operation.called && operation.ended < zone.last_call;
        stood.then(|| violation("linearizable", operation, "the value was there all the time"))
    })
}

fn check_zones(operations: &[Operation], clusters: &BTreeMap<u64, Cluster>) -> Option<Violation> {
    // A write that perhaps never happened, and that nobody saw, is taken not to have happened.
    let seen = || clusters.iter().filter(|(_, cluster)| cluster.was_seen);
    let mut forward: Vec<(u64, &Cluster)> = seen()
        .filter(|(_, cluster)| cluster.is_forward())
        .map(|(value, zone)| (*value, zone))
        .collect();
    forward.sort_by_key(|(_, zone)| zone.first_end);
    let conflict = |value: u64, other: u64, at: u64, what: &str| {
        let told = |value: u64| {
            let found = operations.iter().find(|operation| match operation.deed {
                Deed::Wrote { value: written, .. } | Deed::MayHaveWritten(written) => {
                    written == value
                }
                _ => false,
            });
            found.map_or_else(|| "nothing was written yet".to_owned(), Operation::describe)
        };
        let what = format!(
            "values {value} and {other} {what} (around {at} us); {}; {}",
            told(value),
            told(other)
        );
        Some(Violation { key: None, rule: "linearizable", what, at })
    };
    for pair in forward.windows(2) {
        let ((value, zone), (next, next_zone)) = (pair[0], pair[1]);
        if next_zone.first_end < zone.last_call {
            return conflict(value, next, next_zone.first_end, "were both there, by turns");
        }
    }
    for (value, zone) in seen().filter(|(_, cluster)| !cluster.is_forward()) {
        // The forward zones are apart, so that only the last one that began before can hold it.
        let before = forward.partition_point(|(_, other)| other.first_end < zone.last_call);
        let Some((other, around)) = before.checked_sub(1).map(|last| forward[last]) else {
            continue;
        };
        if zone.first_end < around.last_call {
            return conflict(*value, other, zone.last_call, "were there at the same time");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::history::{Deed, NEVER, Operation};

    fn operation(called: u64, ended: u64, deed: Deed) -> Operation {
        Operation { client: 0, node: 0, key: 0, called, ended, deed }
    }

    fn wrote(called: u64, ended: u64, value: u64) -> Operation {
        operation(called, ended, Deed::Wrote { value, replaced: None, on_version: None })
    }

    fn read(called: u64, ended: u64, value: u64) -> Operation {
        operation(called, ended, Deed::Read(value))
    }

    fn swapped(called: u64, ended: u64, value: u64, replaced: u64) -> Operation {
        let replaced = Some(replaced);
        operation(called, ended, Deed::Wrote { value, replaced, on_version: None })
    }

    fn rule(history: &[Operation]) -> Option<&'static str> {
        check(history).map(|violation| violation.rule)
    }

    #[test]
    fn what_can_be_put_in_order_is_accepted() {
        assert_eq!(rule(&[read(1, 2, 0), wrote(3, 6, 7), read(4, 5, 0), read(5, 8, 7)]), None);
        // Two writes at once, seen by two readers in the same order.
        let both =
            [wrote(1, 10, 1), wrote(1, 10, 2), read(2, 3, 1), read(4, 5, 2), read(11, 12, 2)];
        assert_eq!(rule(&both), None);
        // What may have been written was, late; another was not.
        let late = operation(1, NEVER, Deed::MayHaveWritten(5));
        let lost = operation(1, NEVER, Deed::MayHaveWritten(6));
        assert_eq!(rule(&[late, lost, wrote(2, 3, 1), read(4, 5, 1), read(6, 7, 5)]), None);
        assert_eq!(rule(&[swapped(1, 2, 1, 0), swapped(1, 3, 2, 1), read(4, 5, 2)]), None);
    }

    #[test]
    fn a_stale_read_is_found() {
        assert_eq!(rule(&[wrote(1, 2, 1), read(3, 4, 0)]), Some("linearizable"));
        let stale = [wrote(1, 2, 1), wrote(3, 4, 2), read(5, 6, 1)];
        assert_eq!(rule(&stale), Some("linearizable"));
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        let lost = [wrote(1, 2, 1), wrote(3, 4, 2), read(5, 6, 2), read(7, 8, 1)];
        assert_eq!(rule(&lost), Some("linearizable"));
    }

    #[test]
    fn readers_that_disagree_on_the_order_are_found() {
        let by_turns =
            [wrote(1, 20, 1), wrote(1, 20, 2), read(2, 3, 1), read(4, 5, 2), read(6, 7, 1)];
        assert_eq!(rule(&by_turns), Some("linearizable"));
    }

    #[test]
    fn a_write_within_the_life_of_another_value_is_found() {
        let within = [wrote(1, 2, 1), wrote(3, 4, 2), read(3, 9, 2), read(8, 9, 1)];
        assert_eq!(rule(&within), Some("linearizable"));
    }

    #[test]
    fn values_out_of_nowhere_or_from_the_future_are_found() {
        assert_eq!(rule(&[read(1, 2, 9)]), Some("linearizable"));
        assert_eq!(rule(&[read(1, 2, 9), wrote(3, 4, 9)]), Some("linearizable"));
    }

    #[test]
    fn a_condition_that_held_all_the_time_and_failed_is_found() {
        let differed = |called, ended| operation(called, ended, Deed::Differed(1));
        assert_eq!(rule(&[wrote(1, 2, 1), differed(3, 5), read(4, 6, 1)]), None);
        let stood = [wrote(1, 2, 1), differed(3, 5), read(6, 7, 1)];
        assert_eq!(rule(&stood), Some("linearizable"));
    }

    #[test]
    fn what_is_replaced_twice_is_found() {
        let twice = [wrote(1, 2, 1), swapped(3, 9, 2, 1), swapped(3, 9, 3, 1)];
        assert_eq!(rule(&twice), Some("linearizable"));
    }

    #[test]
    fn one_value_written_by_two_is_a_mistake_of_the_workload() {
        assert_eq!(rule(&[wrote(1, 2, 1), wrote(3, 4, 1)]), Some("unique"));
    }
}
