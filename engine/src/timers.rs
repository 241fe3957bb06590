//! When an entity wants to be woken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use plog::vocabulary::EntityId;

use crate::time::Time;

/// Wake-ups in order of time. An entity has at most a few in here: it remembers its earliest one
/// and adds another only when that must come sooner.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, EntityId)>>,
}

impl Timers {
    pub(crate) fn arm(&mut self, at: Time, entity: EntityId) {
        self.heap.push(Reverse((at, entity)));
    }

    /// The earliest wake-up.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entity whose time has come.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Time, EntityId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
