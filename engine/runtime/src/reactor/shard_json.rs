//! A shard's counters and gauges as JSON.

use engine::status::ShardStatus;
use serde_json::{Value, json};

use crate::reactor::metrics::named;

/// The status of a shard.
#[must_use]
pub fn shard_json(status: &ShardStatus) -> Value {
    let counters = &status.counters;
    json!({
        "gauges": named(&[
            ("entities_in_memory", status.entities_in_memory),
            ("entities_on_disk", status.entities_on_disk),
            ("keys", status.keys),
            ("state_bytes", status.state_bytes),
            ("index_bytes", status.index_bytes),
            ("commands_held", status.commands_held),
            ("gated", status.gated),
            ("loading", status.loading),
            ("parked", status.parked),
            ("behind", status.behind),
            ("timers", status.timers),
            ("abstaining", status.abstaining),
            ("abstaining_cores", status.abstaining_cores),
            ("segments", status.segments),
            ("log_since_checkpoint", status.log_since_checkpoint),
            ("checkpoint_size", status.checkpoint_size),
            ("checkpointing", status.checkpointing),
            ("checkpoints_locked", status.checkpoints_locked),
            ("mirrors", status.mirrors),
            ("lsn_appended", status.lsn_appended),
            ("lsn_durable", status.lsn_durable),
        ]),
        "counters": named(&[
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
            ("images_installed", counters.images_installed),
            ("images_logged", counters.images_logged),
            ("loads", counters.loads),
            ("evictions", counters.evictions),
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
            ("swept_behind", counters.swept_behind),
        ]),
    })
}
