//! A shard's counters and gauges as JSON.

use engine::status::{Counters, ShardStatus};
use serde_json::{Value, json};

use crate::reactor::metrics::named;

/// The status of a shard.
#[must_use]
pub fn shard_json(status: &ShardStatus) -> Value {
    json!({
        "gauges": gauges(status),
        "unconfirmed_by_node": by_node(&status.unconfirmed),
        "counters": counters(&status.counters),
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
        ("timers", status.timers),
        ("abstaining", status.abstaining),
        ("abstaining_cores", status.abstaining_cores),
        ("rejoining_cores", status.rejoining_cores),
        ("rejoin_left", status.rejoin_left),
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

fn counters(counters: &Counters) -> Value {
    named(&[
        ("commands", counters.commands),
        ("writes", counters.writes),
        ("reads", counters.reads),
        ("local_reads", counters.local_reads),
        ("read_checks", counters.read_checks),
        ("read_checks_failed", counters.read_checks_failed),
        ("pre_authorised", counters.pre_authorised),
        ("prepares", counters.prepares),
        ("rescues", counters.rescues),
        ("no_ops", counters.no_ops),
        ("lost_rounds", counters.lost_rounds),
        ("lost_values", counters.lost_values),
        ("chosen", counters.chosen),
        ("forwarded", counters.forwarded),
        ("relayed", counters.relayed),
        ("abstained", counters.abstained),
        ("retries", counters.retries),
        ("values_unresolved", counters.values_unresolved),
        ("messages_refused", counters.messages_refused),
        ("messages_ahead", counters.messages_ahead),
        ("catch_ups", counters.catch_ups),
        ("catch_up_entries", counters.catch_up_entries),
        ("catch_up_bytes", counters.catch_up_bytes),
        ("catch_up_waits", counters.catch_up_waits),
        ("images_installed", counters.images_installed),
        ("images_logged", counters.images_logged),
        ("loads", counters.loads),
        ("evictions", counters.evictions),
        ("load_reads", counters.load_reads),
        ("load_bytes", counters.load_bytes),
        ("large_loads", counters.large_loads),
        ("large_hits", counters.large_hits),
        ("large_evictions", counters.large_evictions),
        ("unknown", counters.unknown),
        ("cluster_down", counters.cluster_down),
        ("try_again", counters.try_again),
        ("busy", counters.busy),
        ("duplicates", counters.duplicates),
        ("diverged", counters.diverged),
        ("checkpoints", counters.checkpoints),
        ("checkpoint_bytes", counters.checkpoint_bytes),
        ("checkpoint_images", counters.checkpoint_images),
        ("checkpoint_copies", counters.checkpoint_copies),
        ("relocated", counters.relocated),
        ("segments_freed", counters.segments_freed),
        ("checkpoint_locks", counters.checkpoint_locks),
        ("checkpoint_locks_refused", counters.checkpoint_locks_refused),
        ("checkpoint_locks_expired", counters.checkpoint_locks_expired),
        ("checkpoint_locks_broken", counters.checkpoint_locks_broken),
        ("mirrors_overrun", counters.mirrors_overrun),
        ("sweeps", counters.sweeps),
        ("sweeps_whole", counters.sweeps_whole),
        ("swept_behind", counters.swept_behind),
        ("sweep_messages", counters.sweep_messages),
        ("lag_hints", counters.lag_hints),
        ("lag_recent", counters.lag_recent),
        ("lag_walks", counters.lag_walks),
        ("lag_pages", counters.lag_pages),
        ("lag_entities", counters.lag_entities),
        ("lag_confirmed", counters.lag_confirmed),
        ("digests_equal", counters.digests_equal),
        ("digests_without_chains", counters.digests_without_chains),
        ("digests_unequal", counters.digests_unequal),
        ("chains_unlike", counters.chains_unlike),
        ("generations_learned", counters.generations_learned),
        ("messages_outdated", counters.messages_outdated),
        ("finishes_asked", counters.finishes_asked),
        ("finishes", counters.finishes),
        ("floors_reached", counters.floors_reached),
        ("rejoins", counters.rejoins),
    ])
}
