//! The durability gate: things that may leave only when the log is durable up to an LSN.
//!
//! etcd-raft calls its equivalent `msgsAfterAppend`. It stands inside the core, so that a driver
//! cannot send too early: there is no way to take an item out but [`AfterSync::release`].

use std::collections::VecDeque;

use plog::planted;
use plog::vocabulary::Lsn;

/// Items waiting for the log, ordered by the LSN they need and, for equal LSNs, by arrival.
#[derive(Debug)]
pub struct AfterSync<T> {
    // Invariant: ascending by LSN.
    waiting: VecDeque<(Lsn, T)>,
}

impl<T> Default for AfterSync<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> AfterSync<T> {
    /// Holds `item` until the log is durable up to `needs`.
    pub fn hold(&mut self, needs: Lsn, item: T) {
        // Nearly always the newest: look from the back.
        let mut position = self.waiting.len();
        while position > 0 && self.waiting[position - 1].0 > needs {
            position -= 1;
        }
        if position == self.waiting.len() {
            self.waiting.push_back((needs, item));
        } else {
            self.waiting.insert(position, (needs, item));
        }
    }

    /// The next item whose records are durable.
    #[must_use]
    pub fn release(&mut self, durable: Lsn) -> Option<T> {
        let reached = Lsn(durable.0 + u64::from(planted!("gate-off-by-one")));
        if self.waiting.front()?.0 > reached {
            return None;
        }
        self.waiting.pop_front().map(|(_, item)| item)
    }

    /// Drops what is not to leave any more.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|(_, item)| keep(item));
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::Lsn;

    use super::AfterSync;

    #[test]
    fn nothing_leaves_before_its_records_are_durable() {
        let mut gate = AfterSync::default();
        gate.hold(Lsn(5), "five");
        gate.hold(Lsn(3), "three");
        gate.hold(Lsn(5), "five again");
        gate.hold(Lsn(4), "four");
        assert_eq!(gate.release(Lsn(2)), None);
        assert_eq!(gate.release(Lsn(4)), Some("three"));
        assert_eq!(gate.release(Lsn(4)), Some("four"));
        assert_eq!(gate.release(Lsn(4)), None);
        assert_eq!(gate.release(Lsn(9)), Some("five"));
        assert_eq!(gate.release(Lsn(9)), Some("five again"));
        assert!(gate.is_empty());
    }
}
