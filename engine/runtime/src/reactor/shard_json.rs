//! A shard's counters and gauges as JSON.

use engine::status::ShardStatus;
use serde_json::{Value, json};

use crate::reactor::metrics::named;

/// The status of a shard.
#[must_use]
pub fn shard_json(status: &ShardStatus) -> Value {
    json!({
        "gauges": gauges(status),
        "unconfirmed_by_node": by_node(&status.unconfirmed),
        "counters": named(&status.counters.named()),
    })
}

/// By acceptor; 0 for this node and for those beyond the replica set.
fn by_node(numbers: &[u64]) -> Value {
    let names = (0..numbers.len()).map(|node| format!("node_{node}"));
    names.zip(numbers.iter().map(|number| Value::from(*number))).collect()
}

fn gauges(status: &ShardStatus) -> Value {
    named(&[
        ("entities_in_memory", status.entities_in_memory),
        ("entities_on_disk", status.entities_on_disk),
        ("keys", status.keys),
        ("state_bytes", status.state_bytes),
        ("index_bytes", status.index_bytes),
        ("accounted_bytes", status.accounted_bytes),
        ("memory_limit", status.memory_limit),
        ("large_entities", status.large_entities),
        ("large_bytes", status.large_bytes),
        ("commands_held", status.commands_held),
        ("gated", status.gated),
        ("loading", status.loading),
        ("parked", status.parked),
        ("behind", status.behind),
        ("sweep_left", status.sweep_left),
        ("unconfirmed", status.unconfirmed.into_iter().max().unwrap_or_default()),
        ("followers", status.followers),
        ("timers", status.timers),
        ("abstaining", status.abstaining),
        ("abstaining_cores", status.abstaining_cores),
        ("rejoining_cores", status.rejoining_cores),
        ("rejoin_left", status.rejoin_left),
        ("configuration", status.configuration),
        ("settling_left", status.settling_left),
        ("segments", status.segments),
        ("segments_freeable", status.segments_freeable),
        ("log_since_checkpoint", status.log_since_checkpoint),
        ("segments_max", status.segments_max),
        ("cleaner_paused", status.cleaner_paused),
        ("log_near_limit", status.log_near_limit),
        ("log_full", status.log_full),
        ("checkpoint", status.checkpoint),
        ("checkpoint_size", status.checkpoint_size),
        ("checkpointing", status.checkpointing),
        ("checkpoints_locked", status.checkpoints_locked),
        ("mirrors", status.mirrors),
        ("lsn_appended", status.lsn_appended),
        ("lsn_durable", status.lsn_durable),
    ])
}
