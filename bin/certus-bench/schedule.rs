//! The phases of a run and the intended start times of an open loop.
//!
//! ```text
//! preload │ warm-up │ measured            │ drain
//!         start     begin                 end     the last reply, or the time-out
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::NANOS_PER_SECOND;

/// A time that was not decided yet.
const UNDECIDED_NS: u64 = u64::MAX;

/// The times all threads agree on, decided by the thread that collects the results.
#[derive(Debug)]
pub struct Schedule {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
    warmup_ns: u64,
    seconds_ns: u64,
}

impl Schedule {
    /// Returns a schedule that was not started.
    pub fn new(warmup_ns: u64, seconds_ns: u64) -> Self {
        let (start_ns, end_ns) = (AtomicU64::new(UNDECIDED_NS), AtomicU64::new(UNDECIDED_NS));
        Self { start_ns, end_ns, warmup_ns, seconds_ns }
    }

    /// Begins the warm-up at `now_ns`.
    pub fn start(&self, now_ns: u64) {
        // A stop that came before the start stays.
        self.end_ns.fetch_min(now_ns + self.warmup_ns + self.seconds_ns, Ordering::Release);
        self.start_ns.store(now_ns, Ordering::Release);
    }

    /// Ends the run at `now_ns` if it would last longer.
    pub fn stop(&self, now_ns: u64) {
        self.end_ns.fetch_min(now_ns, Ordering::Release);
    }

    /// Returns when the warm-up begins, once that is decided.
    pub fn start_ns(&self) -> Option<u64> {
        let start_ns = self.start_ns.load(Ordering::Acquire);
        (start_ns != UNDECIDED_NS).then_some(start_ns)
    }

    /// Returns when measuring begins, once that is decided.
    pub fn begin_ns(&self) -> Option<u64> {
        self.start_ns().map(|start_ns| start_ns + self.warmup_ns)
    }

    /// Returns when measuring ends; `u64::MAX` while that is not decided.
    pub fn end_ns(&self) -> u64 {
        self.end_ns.load(Ordering::Acquire)
    }

    /// Whether [`Schedule::stop`] cut the run short.
    pub fn was_cut_short(&self) -> bool {
        self.begin_ns().is_none_or(|begin_ns| self.end_ns() < begin_ns + self.seconds_ns)
    }

    /// Returns the nanoseconds measured, zero when the run was stopped before that.
    pub fn measured_ns(&self) -> u64 {
        self.begin_ns().map_or(0, |begin_ns| self.end_ns().saturating_sub(begin_ns))
    }
}

/// Intended start times: one request every `period_ns`, each worker shifted by its share.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    first_ns: f64,
    period_ns: f64,
    taken_count: u64,
}

impl Pace {
    /// Returns the start times of worker `worker` of `worker_count` that share `rate_per_s`.
    pub fn new(rate_per_s: f64, worker: u32, worker_count: u32) -> Self {
        let period_ns = NANOS_PER_SECOND as f64 * f64::from(worker_count) / rate_per_s;
        let first_ns = period_ns * f64::from(worker) / f64::from(worker_count);
        Self { first_ns, period_ns, taken_count: 0 }
    }

    /// Returns the intended start of the next request, in nanoseconds since the start of the run.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time since the start is not negative, and saturates after 584 years"
    )]
    pub fn next_ns(&self) -> u64 {
        (self.first_ns + self.period_ns * self.taken_count as f64) as u64
    }

    /// Goes on to the next start time.
    pub fn take(&mut self) {
        self.taken_count += 1;
    }

    /// Returns how many requests were due before `end_ns` and never started.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of requests is not negative, and saturates"
    )]
    pub fn unsent_count(&self, end_ns: u64) -> u64 {
        let due = ((end_ns as f64 - self.first_ns) / self.period_ns).ceil().max(0.0);
        (due as u64).saturating_sub(self.taken_count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, Schedule};

    #[test]
    fn a_stop_shortens_the_run() {
        let schedule = Schedule::new(2, 10);
        assert_eq!((schedule.start_ns(), schedule.measured_ns()), (None, 0));
        schedule.start(100);
        assert_eq!((schedule.begin_ns(), schedule.end_ns()), (Some(102), 112));
        assert!(!schedule.was_cut_short());
        schedule.stop(105);
        schedule.stop(200);
        assert_eq!((schedule.measured_ns(), schedule.was_cut_short()), (3, true));
        schedule.stop(101);
        assert_eq!(schedule.measured_ns(), 0);
    }

    #[test]
    fn workers_take_turns() {
        let mut one = Pace::new(1000.0, 0, 2);
        let two = Pace::new(1000.0, 1, 2);
        assert_eq!((one.next_ns(), two.next_ns()), (0, 1_000_000));
        one.take();
        assert_eq!(one.next_ns(), 2_000_000);
        assert_eq!(one.unsent_count(4_000_001), 2);
        assert_eq!(two.unsent_count(500), 0);
    }
}
