//! What a shard tells of its loads is true: none took longer than the node has been up.

use engine::shard::FinishedLoad;

use crate::checkers::{Boot, Violation};

pub(super) fn loaded(boot: Boot, up_us: u64, load: FinishedLoad) -> Result<(), Violation> {
    let FinishedLoad { entity, took_us, .. } = load;
    if took_us <= up_us {
        return Ok(());
    }
    let what = format!("{boot:?}, up for {up_us} µs, says {entity:?} took {took_us} µs to load");
    Err(Violation::new("figures", what))
}

#[cfg(test)]
mod tests {
    use engine::shard::FinishedLoad;
    use plog::vocabulary::{EntityId, Entry};

    use crate::checkers::Boot;

    #[test]
    fn a_load_that_began_before_its_node_is_seen() {
        let boot = Boot { node: 0, core: 0, start: 1 };
        let load =
            |took_us| FinishedLoad { entity: EntityId(1), applied: Entry(3), records: 1, took_us };
        super::loaded(boot, 7, load(7)).unwrap();
        assert!(super::loaded(boot, 7, load(8)).is_err());
    }
}
