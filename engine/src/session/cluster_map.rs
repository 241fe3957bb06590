//! Which endpoints serve which slots: what cluster clients route by.

use net::resp::slot::{SLOT_COUNT, SLOTS_PER_STRETCH, preferred_acceptor};

use crate::session::node_info::{Endpoint, NodeInfo};

/// Neighbouring slots with the same endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SlotRange<'a> {
    /// First slot.
    pub(super) first: u16,
    /// Last slot, inclusive.
    pub(super) last: u16,
    /// One of each node: the preferred one's first, then the others'.
    pub(super) endpoints: Vec<Endpoint<'a>>,
}

/// All slots in ascending ranges, each as long as it can be. Where nodes have a port for each core,
/// a range is one stretch of slots that a core owns.
pub(super) fn slot_ranges(info: &NodeInfo) -> Vec<SlotRange<'_>> {
    let mut ranges: Vec<SlotRange<'_>> = Vec::new();
    if info.acceptor_count == 0 {
        return ranges;
    }
    let mut before = None;
    for slot in 0..SLOT_COUNT {
        let preferred = preferred_acceptor(slot, info.acceptor_count).0;
        // Within a stretch only the preferred node can change.
        if !slot.is_multiple_of(SLOTS_PER_STRETCH) && before == Some(preferred) {
            let range = ranges.last_mut().expect("slot 0 begins a stretch");
            range.last = slot;
            continue;
        }
        before = Some(preferred);
        let order = (preferred..info.acceptor_count).chain(0..preferred);
        let nodes = order.filter_map(|node_id| info.address(node_id));
        let endpoints: Vec<Endpoint<'_>> = nodes.map(|node| node.endpoint_of(slot)).collect();
        match ranges.last_mut() {
            Some(range) if range.endpoints == endpoints => range.last = slot,
            _ => ranges.push(SlotRange { first: slot, last: slot, endpoints }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use net::resp::slot::{SLOT_COUNT, preferred_acceptor, shard_of_slot};

    use super::slot_ranges;
    use crate::session::example::node_info;

    #[test]
    fn one_core_each_makes_one_range_for_each_node() {
        let info = node_info(3, &[1, 1, 1]);
        let ranges = slot_ranges(&info);
        let bounds: Vec<(u16, u16, Vec<u16>)> = ranges
            .iter()
            .map(|range| {
                (range.first, range.last, range.endpoints.iter().map(|e| e.port()).collect())
            })
            .collect();
        assert_eq!(
            bounds,
            [
                (0, 5461, vec![7000, 7100, 7200]),
                (5462, 10_922, vec![7100, 7200, 7000]),
                (10_923, 16_383, vec![7200, 7000, 7100]),
            ]
        );
    }

    #[test]
    fn every_slot_leads_to_the_core_that_owns_it_on_every_node() {
        for cores in [[1, 1, 1], [2, 2, 2], [1, 3, 4], [0, 0, 0]] {
            let info = node_info(3, &cores);
            let mut next = 0;
            for range in slot_ranges(&info) {
                assert_eq!(range.first, next);
                for slot in range.first..=range.last {
                    let preferred = preferred_acceptor(slot, 3).0;
                    assert_eq!(range.endpoints[0].address.node_id, preferred);
                    for endpoint in &range.endpoints {
                        let address = endpoint.address;
                        let core = address
                            .has_core_ports()
                            .then(|| shard_of_slot(slot, address.core_count));
                        assert_eq!(endpoint.core, core);
                    }
                    let mut nodes: Vec<u8> =
                        range.endpoints.iter().map(|e| e.address.node_id).collect();
                    nodes.sort_unstable();
                    assert_eq!(nodes, [0, 1, 2]);
                }
                next = range.last + 1;
            }
            assert_eq!(next, SLOT_COUNT);
        }
    }
}
