//! When an entity wants to be woken.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use plog::vocabulary::EntityId;

use crate::time::Time;

/// Wake-ups in order of time. An entity has at most a few in here: it remembers its earliest one
/// and adds another only when that must come sooner.
///
/// Nearly all are "so long from now", with one of two durations, and so come in order: they go into
/// queues. The heap has the rest.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    // Invariant: each ascends.
    queues: [VecDeque<(Time, EntityId)>; 2],
    heap: BinaryHeap<Reverse<(Time, EntityId)>>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Time, entity: EntityId) {
        // The queue whose last wake-up is the closest before this one.
        let fits = |queue: &&mut VecDeque<(Time, EntityId)>| {
            queue.back().is_none_or(|(last, _)| *last <= at)
        };
        let latest = |queue: &&mut VecDeque<(Time, EntityId)>| queue.back().map(|(last, _)| *last);
        match self.queues.iter_mut().filter(fits).max_by_key(latest) {
            Some(queue) => queue.push_back((at, entity)),
            None => self.heap.push(Reverse((at, entity))),
        }
    }

    fn next_in_queues(&self) -> Option<(Time, usize)> {
        let fronts = self.queues.iter().zip(0..);
        fronts.filter_map(|(queue, number)| Some((queue.front()?.0, number))).min()
    }

    /// The earliest wake-up.
    pub(crate) fn next(&self) -> Option<Time> {
        let queued = self.next_in_queues().map(|(at, _)| at);
        let heaped = self.heap.peek().map(|Reverse((at, _))| *at);
        queued.into_iter().chain(heaped).min()
    }

    /// The next entity whose time has come.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Time, EntityId)> {
        let next = self.next()?;
        if next > now {
            return None;
        }
        match self.next_in_queues() {
            Some((at, number)) if at == next => self.queues[number].pop_front(),
            _ => self.heap.pop().map(|Reverse(due)| due),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.queues.iter().map(VecDeque::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::EntityId;

    use super::Timers;
    use crate::time::Time;

    #[test]
    fn wake_ups_come_in_order_of_time_whatever_the_order_of_arming() {
        let mut timers = Timers::default();
        let times = [100, 5000, 110, 7, 5010, 3, 120, 4000, 1];
        for at in times {
            timers.arm(Time(at), EntityId(at));
        }
        assert_eq!(timers.len(), times.len());
        let mut popped = Vec::new();
        while let Some((at, entity)) = timers.pop_due(Time(5000)) {
            assert_eq!(at.0, entity.0);
            popped.push(at.0);
        }
        assert_eq!(popped, [1, 3, 7, 100, 110, 120, 4000, 5000]);
        assert_eq!(timers.next(), Some(Time(5010)));
    }
}
