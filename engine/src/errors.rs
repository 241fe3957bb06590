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
    ["CLUSTERDOWN", "UNKNOWN", "TRYAGAIN", "BUSY", "MISCONF"].contains(&error.word())
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

/// A queue or limit is full.
pub(crate) fn busy() -> Value {
    error("BUSY too many commands are waiting on this core; nothing was changed, retry later")
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
    error("OOM this core holds as many entities as entities_max allows; delete or raise the limit")
}

/// This replica's history of the entity is not the majority's.
pub(crate) fn diverged() -> Value {
    error(
        "ERR this replica's copy of the key differs from its peers and does not serve; use another",
    )
}
