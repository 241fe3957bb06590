//! A counter to which ones are added: its count is its version, and says how much happened.

use std::collections::BTreeMap;

use crate::check::Violation;
use crate::check::floor::Floor;
use crate::history::{Deed, Operation};

/// Judges the operations of one key.
pub fn check(operations: &[Operation]) -> Option<Violation> {
    let told = operations.iter().filter_map(|operation| match operation.deed {
        Deed::Added(count) | Deed::Count(count) => Some((operation.ended, count)),
        _ => None,
    });
    let floor = Floor::new(told.collect());
    let times = |is_wanted: fn(&Deed) -> bool, time: fn(&Operation) -> u64| {
        let wanted = operations.iter().filter(|operation| is_wanted(&operation.deed));
        let mut times: Vec<u64> = wanted.map(time).collect();
        times.sort_unstable();
        times
    };
    let acknowledged = times(|deed| matches!(deed, Deed::Added(_)), |operation| operation.ended);
    let begun = times(
        |deed| matches!(deed, Deed::Added(_) | Deed::MayHaveAdded),
        |operation| operation.called,
    );
    let mut added = BTreeMap::new();
    for operation in operations {
        let wrong = |what: String| {
            let what = format!("{what}: {}", operation.describe());
            Some(Violation { key: None, rule: "counts", what, at: operation.called })
        };
        let (count, own) = match operation.deed {
            Deed::Added(count) => (count, 1),
            Deed::Count(count) => (count, 0),
            _ => continue,
        };
        if own == 1
            && let Some(other) = added.insert(count, operation)
        {
            return wrong(format!("the same count as {}", other.describe()));
        }
        let seen = floor.before(operation.called);
        if count < seen + own {
            return wrong(format!("after {seen} had been told"));
        }
        let least = length(acknowledged.partition_point(|ended| *ended < operation.called)) + own;
        if count < least {
            return wrong(format!("{least} had been added: acknowledged ones are lost"));
        }
        let most = length(begun.partition_point(|called| *called <= operation.ended));
        if count > most {
            return wrong(format!("only {most} had been asked for: one was added twice"));
        }
    }
    None
}

fn length(count: usize) -> u64 {
    u64::try_from(count).expect("a count in memory")
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::history::{Deed, NEVER, Operation};

    fn operation(called: u64, ended: u64, deed: Deed) -> Operation {
        Operation { client: 0, node: 0, key: 0, called, ended, deed }
    }

    fn added(called: u64, ended: u64, count: u64) -> Operation {
        operation(called, ended, Deed::Added(count))
    }

    fn count(called: u64, ended: u64, count: u64) -> Operation {
        operation(called, ended, Deed::Count(count))
    }

    #[test]
    fn counts_within_what_is_unknown_are_accepted() {
        let unknown = operation(1, NEVER, Deed::MayHaveAdded);
        let history = [count(1, 2, 0), added(1, 4, 1), unknown.clone(), count(5, 6, 2)];
        assert_eq!(check(&history), None);
        assert_eq!(check(&[added(1, 4, 1), unknown, count(5, 6, 1)]), None);
    }

    #[test]
    fn what_is_added_twice_is_found() {
        assert!(check(&[added(1, 2, 1), count(3, 4, 2)]).is_some());
        assert!(check(&[added(1, 9, 1), added(2, 9, 1)]).is_some());
    }

    #[test]
    fn what_is_lost_is_found() {
        // Two were acknowledged at once, and the greater count was never told again.
        let history = [added(1, 2, 1), added(3, 4, 2), added(3, 4, 3), count(5, 6, 2)];
        assert!(check(&history).is_some());
        assert!(check(&[added(1, 2, 1), count(3, 4, 0)]).is_some());
    }
}
