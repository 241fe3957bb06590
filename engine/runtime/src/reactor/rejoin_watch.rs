//! Tells every few seconds how far a core is that rejoins.

use engine::status::ShardStatus;
use engine::time::Time;

use crate::node::log_line;

/// How often, in microseconds.
const EVERY_US: u64 = 5_000_000;

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct RejoinWatch {
    next: Time,
}

impl RejoinWatch {
    /// Says how far it is, if it is time. Whether it did.
    pub(super) fn look(&mut self, now: Time, status: &ShardStatus) -> bool {
        if status.rejoining_cores == 0 || now < self.next {
            return false;
        }
        let is_first = self.next == Time::default();
        self.next = now.after_us(EVERY_US);
        if is_first {
            return false;
        }
        log_line::info(
            "this core is rejoining",
            &[
                ("entities_left", &status.rejoin_left),
                ("entities_done", &status.counters.floors_reached),
                ("finishes_asked", &status.counters.finishes_asked),
            ],
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use engine::status::ShardStatus;
    use engine::time::Time;

    use super::{EVERY_US, RejoinWatch};

    #[test]
    fn only_a_core_that_rejoins_is_told_of_and_not_all_the_time() {
        let mut watch = RejoinWatch::default();
        let whole = ShardStatus::default();
        let rejoins = ShardStatus { rejoining_cores: 1, ..whole };
        assert!(!watch.look(Time(5), &whole));
        assert!(!watch.look(Time(5), &rejoins), "that was said when it began");
        assert!(!watch.look(Time(4 + EVERY_US), &rejoins));
        assert!(watch.look(Time(5 + EVERY_US), &rejoins));
        assert!(!watch.look(Time(6 + EVERY_US), &rejoins));
        assert!(!watch.look(Time(5 + 3 * EVERY_US), &whole));
    }
}
