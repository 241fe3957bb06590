//! Tests of [`port_blocks`](crate::dev::port_blocks), which the tests of the cluster share.

use std::time::Duration;

use crate::dev::port_blocks::{BLOCK, BLOCKS, FIRST, PortBlocks, STANDS_FOR_FIRST};

#[test]
fn blocks_are_clear_of_what_stands_for_them() {
    const { assert!(STANDS_FOR_FIRST + BLOCKS <= FIRST) };
    const { assert!(FIRST + BLOCKS * BLOCK < 32_768) };
}

#[test]
fn who_asks_at_once_from_neighbouring_places_shares_no_port() {
    // Of these the second begins where the first's second block is.
    let one = PortBlocks::hold(BLOCK + 1, 70).unwrap();
    let other = PortBlocks::hold(1, 71).unwrap();
    let third = PortBlocks::hold(BLOCK, 70).unwrap();
    assert!(other.first >= one.first + 2 * BLOCK || other.first + BLOCK <= one.first);
    assert!(third.first >= one.first + 2 * BLOCK || third.first + BLOCK <= one.first);
    assert_ne!(other.first, third.first);
}

#[test]
fn blocks_are_held_by_their_ports_and_free_again_without_a_holder() {
    let one = PortBlocks::hold(2 * BLOCK, 30).unwrap();
    let ports = [one.first + 3, one.first + BLOCK];
    assert!(PortBlocks::hold_those_of(ports).is_none());
    let first = one.first;
    drop(one);
    // Others look for blocks as well, and may have these for a moment.
    let again = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        PortBlocks::hold_those_of(ports)
    });
    assert_eq!(again.map(|again| again.first), Some(first));
    assert!(PortBlocks::hold_those_of([first, 7000]).is_none());
}
