//! The judge of counters: for histories of `INCR` and `GET` alone, from the replies alone.
//!
//! A counter's value is its version: the order of all operations is known from what they returned,
//! and only has to agree with real time.

use net::resp::value::Value;

/// One command of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The key, for grouping.
    pub key: String,
    /// Whether it is an `INCR`; else a `GET`.
    pub is_increment: bool,
    /// Virtual time of the call, in microseconds.
    pub called_at: u64,
    /// Virtual time of the reply, and the reply. `None` while it is out, or when its node crashed.
    pub replied: Option<(u64, Value)>,
}

/// Why a history is not linearizable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// In words.
    pub what: String,
}

fn count_in(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(count) => Some(*count),
        Value::Null => Some(0),
        Value::Bulk(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// Checks a history of `INCR` and `GET` on counters for linearizability, in O(n log n): a counter's
/// value is its version, so the order of operations is known and only needs to agree with real
/// time.
///
/// Returns how many replies were checked.
///
/// # Errors
///
/// The first violation found.
pub fn check_counters(history: &[Operation]) -> Result<usize, Violation> {
    let mut keys: Vec<&str> = history.iter().map(|operation| operation.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut checked = 0;
    for key in keys {
        let of_key = history.iter().filter(|operation| operation.key == key);
        checked += check_counter(key, &of_key.collect::<Vec<_>>())?;
    }
    Ok(checked)
}

fn check_counter(key: &str, history: &[&Operation]) -> Result<usize, Violation> {
    let violation = |what: String| Violation { key: key.to_owned(), what };
    // (called, replied, is increment, count after it)
    let mut known: Vec<(u64, u64, bool, i64)> = Vec::new();
    for operation in history {
        if let Some((at, value)) = &operation.replied
            && let Some(count) = count_in(value)
        {
            known.push((operation.called_at, *at, operation.is_increment, count));
        }
    }
    let mut increments: Vec<i64> = known.iter().filter(|op| op.2).map(|op| op.3).collect();
    increments.sort_unstable();
    if let Some(twice) = increments.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(violation(format!("two increments both returned {}", twice[0])));
    }
    // Walk calls in time order, carrying the highest count among operations that ended before.
    let mut by_call = known.clone();
    by_call.sort_unstable_by_key(|op| op.0);
    let mut by_reply = known.clone();
    by_reply.sort_unstable_by_key(|op| op.1);
    let mut ended = by_reply.iter().peekable();
    let mut highest = 0;
    for (called, _, is_increment, count) in &by_call {
        while let Some(op) = ended.next_if(|op| op.1 < *called) {
            highest = highest.max(op.3);
        }
        let floor = highest + i64::from(*is_increment);
        if *count < floor {
            return Err(violation(format!(
                "an operation called at {called} saw {count}, after {highest} had been seen"
            )));
        }
    }
    // Nothing is seen that was not yet called.
    for (_, replied, _, count) in &known {
        let called = history.iter().filter(|op| op.is_increment && op.called_at <= *replied);
        let called = i64::try_from(called.count()).unwrap_or(i64::MAX);
        if *count > called {
            return Err(violation(format!("saw {count} when {called} increments had been called")));
        }
    }
    Ok(known.len())
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;

    use super::{Operation, check_counters};

    fn operation(is_increment: bool, called_at: u64, at: u64, count: i64) -> Operation {
        let replied = Some((at, Value::Integer(count)));
        Operation { key: "k".to_owned(), is_increment, called_at, replied }
    }

    #[test]
    fn a_stale_read_is_seen() {
        let history = [operation(true, 0, 1, 1), operation(false, 2, 3, 0)];
        assert!(check_counters(&history).is_err());
        let overlapping = [operation(true, 0, 3, 1), operation(false, 2, 4, 0)];
        assert_eq!(check_counters(&overlapping), Ok(2));
    }

    #[test]
    fn an_increment_applied_twice_or_lost_is_seen() {
        let twice = [operation(true, 0, 1, 2)];
        assert!(check_counters(&twice).is_err());
        let lost = [operation(true, 0, 1, 1), operation(true, 2, 3, 1)];
        assert!(check_counters(&lost).is_err());
    }
}
