//! Which cores of two nodes share entities, and so need a connection.
//!
//! An entity belongs to core `group % core_count` of each node, where `group` is its slot group.
//! For core counts `a` and `b`, some group is `i` modulo `a` and `j` modulo `b` exactly when `i`
//! and `j` are equal modulo the greatest common divisor of `a` and `b` (the Chinese remainder
//! theorem). With equal counts that pairs each core with its like; with 2 and 3 it pairs all with
//! all.

/// Whether core `core` of `core_count` shares entities with `peer_core` of `peer_core_count`.
#[must_use]
pub fn share_entities(core: u16, core_count: u16, peer_core: u16, peer_core_count: u16) -> bool {
    let divisor = greatest_common_divisor(core_count, peer_core_count);
    core % divisor == peer_core % divisor
}

fn greatest_common_divisor(mut a: u16, mut b: u16) -> u16 {
    assert!(a > 0 && b > 0, "a node has a core");
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use net::resp::slot::shard_of_slot;

    use super::share_entities;

    #[test]
    fn cores_are_paired_exactly_when_a_slot_belongs_to_both() {
        for core_count in 1..=9 {
            for peer_core_count in 1..=9 {
                let shared: BTreeSet<(u16, u16)> = (0..16_384)
                    .map(|slot| {
                        (shard_of_slot(slot, core_count), shard_of_slot(slot, peer_core_count))
                    })
                    .collect();
                for core in 0..core_count {
                    for peer_core in 0..peer_core_count {
                        assert_eq!(
                            share_entities(core, core_count, peer_core, peer_core_count),
                            shared.contains(&(core, peer_core)),
                            "core {core} of {core_count}, core {peer_core} of {peer_core_count}"
                        );
                    }
                }
            }
        }
    }
}
