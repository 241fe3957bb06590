//! Versions of a key: they never go back, each names one value, and of the conditional writes on
//! one at most one takes effect.

use std::collections::BTreeMap;

use crate::check::Violation;
use crate::check::floor::Floor;
use crate::history::{Deed, Operation};

/// Judges the operations of one key.
pub fn check(operations: &[Operation]) -> Option<Violation> {
    // A write that went through on version v leaves a greater one.
    let told = operations.iter().filter_map(|operation| match operation.deed {
        Deed::Version(version) | Deed::Bound { version, .. } => Some((operation.ended, version)),
        Deed::Wrote { on_version: Some(version), .. } => Some((operation.ended, version + 1)),
        _ => None,
    });
    let floor = Floor::new(told.collect());
    let mut written_on = BTreeMap::new();
    let (mut value_of, mut version_of) = (BTreeMap::new(), BTreeMap::new());
    for operation in operations {
        let version = match operation.deed {
            Deed::Version(version) | Deed::Bound { version, .. } => version,
            Deed::Wrote { on_version: Some(version), .. } => version,
            _ => continue,
        };
        let seen = floor.before(operation.called);
        let wrong = |what: String| {
            let what = format!("{what}: {}", operation.describe());
            Some(Violation { key: None, rule: "versions", what, at: operation.called })
        };
        if version < seen {
            return wrong(format!("version {version} after {seen} had been told"));
        }
        match operation.deed {
            Deed::Wrote { .. } => {
                if let Some(other) = written_on.insert(version, operation) {
                    return wrong(format!(
                        "version {version} let {} through, too",
                        other.describe()
                    ));
                }
            }
            Deed::Bound { value, .. } => {
                let other_value = *value_of.entry(version).or_insert(value);
                let other_version = *version_of.entry(value).or_insert(version);
                if other_value != value {
                    return wrong(format!("version {version} was value {other_value}, too"));
                }
                if other_version != version {
                    return wrong(format!("value {value} was version {other_version}, too"));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::history::{Deed, Operation};

    fn operation(called: u64, ended: u64, deed: Deed) -> Operation {
        Operation { client: 0, node: 0, key: 0, called, ended, deed }
    }

    fn cas(called: u64, ended: u64, value: u64, version: u64) -> Operation {
        let on_version = Some(version);
        operation(called, ended, Deed::Wrote { value, replaced: None, on_version })
    }

    fn version(called: u64, ended: u64, version: u64) -> Operation {
        operation(called, ended, Deed::Version(version))
    }

    fn bound(called: u64, ended: u64, version: u64, value: u64) -> Operation {
        operation(called, ended, Deed::Bound { version, value })
    }

    #[test]
    fn versions_that_go_on_are_accepted() {
        let history = [
            version(1, 2, 0),
            cas(3, 6, 7, 0),
            version(4, 5, 0),
            bound(7, 8, 3, 7),
            cas(9, 10, 8, 3),
        ];
        assert_eq!(check(&history), None);
    }

    #[test]
    fn a_version_that_goes_back_is_found() {
        assert!(check(&[version(1, 2, 5), version(3, 4, 4)]).is_some());
        assert!(check(&[cas(1, 2, 7, 5), version(3, 4, 5)]).is_some());
        assert!(check(&[version(1, 2, 5), cas(3, 4, 7, 4)]).is_some());
    }

    #[test]
    fn two_writes_on_one_version_are_found() {
        assert!(check(&[cas(1, 9, 7, 5), cas(2, 9, 8, 5)]).is_some());
    }

    #[test]
    fn a_version_of_two_values_is_found() {
        assert!(check(&[bound(1, 9, 5, 7), bound(2, 9, 5, 8)]).is_some());
        assert!(check(&[bound(1, 9, 5, 7), bound(2, 9, 6, 7)]).is_some());
    }
}
