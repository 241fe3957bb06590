//! Values are left out of messages to replicas believed to hold them. The belief can be wrong.

use engine::config::ShardConfig;
use net::peer::message::PeerMessage;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::{CoreId, World};

fn patient(config: &mut ShardConfig) {
    config.retry_us = 1_000_000;
    config.request_timeout_us = 600_000_000;
    config.sweep_every_us = 600_000_000;
    config.duel_lease_us = 0;
    config.back_off_us = 1;
    config.entities_in_memory_max = 2;
}

fn is_accept_request(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::Entry(entry)
        if entry.request.is_some_and(|request| request.value_id.is_some()))
}

/// Node 4 accepted node 0's value, then node 1's, and has only the latter after a reload. Node 0
/// still believes that it holds the former, and needs node 4 for a majority.
#[test]
fn a_replica_that_is_believed_to_hold_a_value_shows_that_it_does_not() {
    let mut world = World::new(21, &[1, 1, 1, 1, 1], Faults::NONE, patient);
    world.run_for(50_000);
    world.hold(|from, to, message| from.node == 0 && to.node != 4 && is_accept_request(message));
    let first = world.submit(0, &["APPEND", "k", "a"]);
    world.run_for(100_000);
    assert_eq!(world.held_count(), 3);
    // Node 1 hears promises of 2 and 3 alone, and its request reaches node 4 alone.
    for other in [0, 4] {
        world.cut(other, 1);
    }
    world.cut(1, 0);
    world.hold(|from, to, message| from.node == 1 && to.node != 4 && is_accept_request(message));
    let second = world.submit(1, &["APPEND", "k", "b"]);
    world.run_for(100_000);
    assert!(world.reply(first).is_none() && world.reply(second).is_none());
    // Node 4 forgets the entity, and with it the value that it accepted first.
    let node_4 = CoreId { node: 4, core: 0 };
    let key = entity_of(b"k");
    for number in 0..50 {
        let other = world.submit(4, &["GET", &format!("other{number}")]);
        world.answer(other, 1_000_000);
        world.run_for(10_000);
        if world.shard(node_4).applied(key).is_none() {
            break;
        }
    }
    assert!(world.shard(node_4).applied(key).is_none(), "it is still in memory");
    world.crash(1);
    world.crash(3);
    world.heal();
    world.hold(|_, _, _| false);
    assert_eq!(world.answer(first, 60_000_000), Value::Integer(2), "after the other's");
    assert!(world.shard(node_4).status().counters.values_unresolved > 0, "it was not put to it");
    let get = world.submit(2, &["GET", "k"]);
    assert_eq!(world.answer(get, 60_000_000), Value::bulk(b"ba".to_vec()));
}
