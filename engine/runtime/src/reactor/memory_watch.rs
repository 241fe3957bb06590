//! Keeps the memory of the process near what is configured.
//!
//! What the shards account is theirs. What the process takes beyond it, buffers of connections,
//! messages under way, what the allocator keeps of freed blocks, nobody counts, but the system
//! knows the sum. So core 0 compares that with the limit, fifty times a second while there is
//! something to do, and moves what all shards together may account: down by as much as the process
//! takes too much, in steps, because memory that was freed goes back to the system a little later;
//! up again slowly. It aims a little below the limit, because buffers come and go faster than it
//! looks.

use std::sync::atomic::Ordering;

use engine::time::Time;

use crate::reactor::node_shared::NodeShared;

/// Pause between two looks, in microseconds. Nobody wakes up for a look.
const LOOK_EVERY_US: u64 = 20_000;

/// Down, when less than this part of the limit is free, …
const TIGHT_PART: u64 = 16;

/// … by at most this part of it at a time, …
const DOWN_PART: u64 = 64;

/// … up by this part, …
const UP_PART: u64 = 4096;

/// … when at least this part of the limit is free, …
const FREE_PART: u64 = 8;

/// … and never below this part of it.
const BUDGET_PART_MIN: u64 = 4;

/// At first, and while a log is read at start, shards may account this part of the limit less: what
/// the process takes beyond it is not known yet.
const RESERVED_PART: u64 = 4;

/// See the module page.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    /// Of the whole node, in bytes.
    limit: u64,
    cores: u64,
    adjusts: bool,
    next: Time,
}

impl MemoryWatch {
    /// Of core `core` out of `cores`, each of which may account `share` bytes at most.
    pub(crate) fn new(share: usize, core: u16, cores: u16) -> Self {
        let cores = u64::from(cores);
        let limit = u64::try_from(share).unwrap_or(u64::MAX).saturating_mul(cores);
        Self { limit, cores, adjusts: core == 0, next: Time(0) }
    }

    /// What this core may account from now on, if it is time to look.
    pub(crate) fn look(
        &mut self,
        now: Time,
        shared: &NodeShared,
        resident_bytes: impl FnOnce() -> u64,
    ) -> Option<usize> {
        if now < self.next {
            return None;
        }
        self.next = now.after_us(LOOK_EVERY_US);
        let mut budget = match shared.memory_budget.load(Ordering::Relaxed) {
            0 => initial_budget(self.limit),
            budget => budget,
        };
        if self.adjusts {
            let resident = resident_bytes();
            shared.resident_bytes.store(resident, Ordering::Relaxed);
            budget = next_budget(self.limit, budget, resident);
            shared.memory_budget.store(budget, Ordering::Relaxed);
        }
        Some(usize::try_from(budget / self.cores).unwrap_or(usize::MAX))
    }
}

/// What shards may account before anybody looked, out of `limit`.
fn initial_budget(limit: u64) -> u64 {
    limit - limit / RESERVED_PART
}

/// What one shard may account before anybody looked, out of its `share` of the limit.
pub(crate) fn initial_share(share: usize) -> usize {
    let share = u64::try_from(share).unwrap_or(u64::MAX);
    usize::try_from(initial_budget(share)).unwrap_or(usize::MAX)
}

/// What all shards may account after `budget`, when the process takes `resident` bytes.
fn next_budget(limit: u64, budget: u64, resident: u64) -> u64 {
    let aim = limit - limit / TIGHT_PART;
    if resident > aim {
        let down = (resident - aim).min(limit / DOWN_PART);
        budget.saturating_sub(down).max(limit / BUDGET_PART_MIN)
    } else if resident < limit - limit / FREE_PART {
        (budget + limit / UP_PART).min(limit)
    } else {
        budget
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use engine::time::Time;

    use super::{LOOK_EVERY_US, MemoryWatch, next_budget};
    use crate::reactor::node_shared::NodeShared;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_budget_goes_down_while_the_process_takes_too_much_and_comes_back() {
        let limit = 256 * MIB;
        let aim = limit - 16 * MIB;
        assert_eq!(next_budget(limit, limit, aim + MIB), limit - MIB, "as much as is too much");
        assert_eq!(next_budget(limit, limit, 2 * limit), limit - 4 * MIB, "in steps");
        assert_eq!(next_budget(limit, limit - MIB, aim - MIB), limit - MIB, "near the limit");
        assert!(next_budget(limit, limit - MIB, limit / 2) > limit - MIB, "much is free");
        assert_eq!(next_budget(limit, limit, 0), limit, "never above the limit");
        let mut budget = limit;
        for _ in 0..1000 {
            budget = next_budget(limit, budget, 2 * limit);
        }
        assert_eq!(budget, limit / 4, "something is left, whatever others take");
    }

    /// Entities come at 100 MiB a second, buffers grow to 90 MiB meanwhile, and what entities leave
    /// is the system's again a tenth of a second later.
    #[test]
    fn a_load_that_fills_memory_quickly_stays_within_a_tenth_of_the_limit() {
        let limit = 256 * MIB;
        let (mut budget, mut accounted, mut leaving) = (super::initial_budget(limit), 0, vec![]);
        let mut greatest = 0;
        for now_ms in 0..4_000 {
            accounted += MIB / 10;
            if accounted > budget {
                leaving.push((now_ms + 100, accounted - budget));
                accounted = budget;
            }
            leaving.retain(|(until_ms, _)| *until_ms > now_ms);
            let left: u64 = leaving.iter().map(|(_, bytes)| bytes).sum();
            let buffers = 27 * MIB + (90 * MIB * now_ms / 200).min(90 * MIB);
            let resident = accounted + left + buffers;
            greatest = greatest.max(resident);
            if (now_ms * 1_000).is_multiple_of(LOOK_EVERY_US) {
                budget = next_budget(limit, budget, resident);
            }
        }
        assert!(greatest > limit, "too easy: {} MiB", greatest / MIB);
        assert!(greatest < limit + limit / 10, "{} MiB", greatest / MIB);
    }

    #[test]
    fn core_0_moves_the_budget_and_the_others_follow() {
        let shared = NodeShared::new(2, 3);
        let share = usize::try_from(128 * MIB).unwrap();
        let [mut first, mut second] = [0, 1].map(|core| MemoryWatch::new(share, core, 2));
        let resident = || 260 * MIB;
        let first_share = share / 4 * 3;
        assert_eq!(second.look(Time(1), &shared, || unreachable!()), Some(first_share));
        let less = first_share - usize::try_from(2 * MIB).unwrap();
        assert_eq!(first.look(Time(1), &shared, resident), Some(less));
        assert_eq!(shared.resident_bytes.load(Ordering::Relaxed), 260 * MIB);
        assert_eq!(second.look(Time(2), &shared, || unreachable!()), None, "not yet");
        assert_eq!(second.look(Time(1 + LOOK_EVERY_US), &shared, || unreachable!()), Some(less));
    }
}
