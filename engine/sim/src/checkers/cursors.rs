//! *monotonic*: a shard's log cursors never go back within a boot, and nothing is durable before it
//! was appended.

use engine::status::Glance;

use crate::checkers::{Boot, Table, Violation};

/// (appended, durable) of each shard, by boot.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursors {
    seen: Table<Boot, (u64, u64)>,
}

impl Cursors {
    pub(super) fn shard(&mut self, boot: Boot, glance: &Glance) -> Result<(), Violation> {
        let (appended, durable) = (glance.lsn_appended, glance.lsn_durable);
        let before = self.seen.entry(boot).or_default();
        if durable > appended || appended < before.0 || durable < before.1 {
            let what =
                format!("{boot:?}: (appended, durable) {before:?} → ({appended}, {durable})");
            return Err(Violation::new("monotonic", what));
        }
        *before = (appended, durable);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine::status::Glance;

    use super::Cursors;
    use crate::checkers::Boot;

    #[test]
    fn a_cursor_that_goes_back_is_seen() {
        let mut cursors = Cursors::default();
        let boot = Boot { node: 0, core: 0, start: 1 };
        let mut at = |lsn_appended, lsn_durable| {
            cursors.shard(boot, &Glance { lsn_appended, lsn_durable, ..Glance::default() })
        };
        at(5, 3).unwrap();
        at(6, 6).unwrap();
        assert!(at(6, 5).is_err());
        assert!(at(5, 5).is_err());
        assert!(at(6, 7).is_err());
    }
}
