//! What a client is told when a command could not be done. The first word is the class a client
//! library looks at.

use net::resp::value::Value;

use crate::context::LogFull;

fn error(text: &'static str) -> Value {
    Value::error(text)
}

/// Whether a reply says that the command was not done, or perhaps not, for a passing reason.
pub(crate) fn is_transient(reply: &Value) -> bool {
    let Value::Error(error) = reply else { return false };
    ["CLUSTERDOWN", "UNKNOWN", "TRYAGAIN", "BUSY", "MISCONF", "REMOVED"].contains(&error.word())
}

/// No majority answered in time, and nothing was proposed.
pub(crate) fn cluster_down() -> Value {
    error("CLUSTERDOWN no majority of replicas answered in time; nothing was changed, retry later")
}

/// The command was proposed and its fate is not known.
pub(crate) fn unknown() -> Value {
    error(
        "UNKNOWN the command was proposed but not confirmed in time; it may or may not take \
         effect, retry it with CERTUS ONCE",
    )
}

/// Lost too many rounds on a hot entity.
pub(crate) fn try_again() -> Value {
    error("TRYAGAIN other replicas kept winning this key's rounds; nothing was changed, retry")
}

/// This replica is no member.
pub(crate) fn removed() -> Value {
    error(
        "REMOVED this node is no member of the cluster (any more); nothing was changed, ask \
         another node",
    )
}

/// A queue or limit is full.
pub(crate) fn busy() -> Value {
    error("BUSY too many commands are waiting on this core; nothing was changed, retry later")
}

/// Entities in use take all memory.
pub(crate) fn memory_in_use() -> Value {
    error(
        "BUSY what is in use takes all of this core's share of memory.limit_bytes; nothing was \
         changed, retry later, or raise memory.limit_bytes",
    )
}

/// No room for the log.
pub(crate) fn log_full(why: LogFull) -> Value {
    error(match why {
        LogFull::Disk => {
            "MISCONF the disk of this replica's log is full; writes are refused until there is room"
        }
        LogFull::CleanerPaused => {
            "MISCONF this replica's log is full and an operator paused its cleaner; writes are \
             refused until CERTUS CLEANER RESUME"
        }
    })
}

/// The shard holds as many entities as it may.
pub(crate) fn too_many_entities() -> Value {
    error(
        "OOM this core holds as many entities as memory.entities_max allows, and a key that is \
         deleted still counts; raise memory.entities_max, or write to keys that exist",
    )
}

/// What is kept in memory of entities that are not takes all it may.
pub(crate) fn index_full() -> Value {
    error(
        "OOM the places of this core's entities take three quarters of its share of \
         memory.limit_bytes; raise memory.limit_bytes, or write to keys that exist",
    )
}

/// A follower has no say in what is chosen.
pub(crate) fn follower_write() -> Value {
    error("READONLY this node is a follower and takes no writes; send them to a replica")
}

/// A follower cannot know whether anything newer is acknowledged.
pub(crate) fn follower_read() -> Value {
    error(
        "READONLY this node is a follower, and what it reads may be stale; send READONLY first on \
         this connection if that will do, or ask a replica",
    )
}

/// How stale a follower's state is is not known.
pub(crate) fn follower_not_in_step() -> Value {
    error(
        "MASTERDOWN this follower was not in step with a replica since it started; retry later, or \
         ask a replica",
    )
}

/// A follower's state is older than its operator allows.
pub(crate) fn follower_stale(staleness_us: u64, most_us: u64) -> Value {
    Value::error(format!(
        "MASTERDOWN this follower was last in step with a replica {} ms ago, and \
         follower.staleness_max_ms is {}; retry later, or ask a replica",
        staleness_us / 1000,
        most_us / 1000
    ))
}

/// A follower cannot read the entity back, or its copy is in doubt.
pub(crate) fn follower_abstains() -> Value {
    error(
        "ERR this follower cannot read the key back from its log, or has another copy of it than \
         the replicas; ask a replica or another follower",
    )
}

/// This replica's history of the entity is not the majority's.
pub(crate) fn diverged() -> Value {
    error(
        "ERR this replica's copy of the key differs from its peers and does not serve; use another",
    )
}

/// A tail asks a core that does not hold all it should.
pub(crate) fn tail_not_whole() -> Value {
    error(
        "TRYAGAIN this core lost records, or has not caught up after a loss, so changes may be \
         missing here; retry when it is whole again, or ask another node",
    )
}

/// A tail asks for a copy that is being compared with the others'.
pub(crate) fn tail_in_doubt() -> Value {
    error("TRYAGAIN this node's copy of an entity is being compared with the others'; retry")
}

/// A follower holds less than its replica still.
pub(crate) fn tail_not_in_step() -> Value {
    error(
        "TRYAGAIN this follower was not in step with a replica since its start, so it may hold \
         less than there is; retry in a moment",
    )
}

/// More tails ask a core than it answers at a time.
pub(crate) fn tail_busy() -> Value {
    error("TRYAGAIN more tails are waiting for this core's log than it serves; retry later")
}

/// What comes after a tail's position cannot be told.
pub(crate) fn tail_gone(reason: &str) -> Value {
    Value::error(format!("{} {reason}", crate::tail::change::GONE))
}
