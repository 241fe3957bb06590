//! What happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::world::Event;

/// Events by their time, and those of one time in the order in which they were scheduled.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    /// (when, which in order of scheduling, where it stands in `events`): what the heap moves about
    /// is small, and events are not.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    vacant: Vec<usize>,
    scheduled: u64,
}

/// An event whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: u64,
    number: u64,
    pub(super) event: Event,
}

impl EventQueue {
    /// Lets `event` happen at `at`, in microseconds.
    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.insert(at, self.scheduled, event);
    }

    /// Lets an event that was taken out happen later, before what was scheduled after it.
    pub(super) fn put_off(&mut self, due: Due, at: u64) {
        self.insert(at, due.number, due.event);
    }

    fn insert(&mut self, at: u64, number: u64, event: Event) {
        let place = match self.vacant.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.order.push(Reverse((at, number, place)));
    }

    /// When the next one happens.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next one out.
    pub(super) fn pop(&mut self) -> Option<Due> {
        let Reverse((at, number, place)) = self.order.pop()?;
        let event = self.events[place].take().expect("in the order, so there");
        self.vacant.push(place);
        Some(Due { at, number, event })
    }
}

#[cfg(test)]
mod tests {
    use super::EventQueue;
    use crate::world::{CoreId, Event};

    fn tell(node: u8) -> Event {
        Event::Mirror { to: CoreId { node, core: 0 } }
    }

    fn next(queue: &mut EventQueue) -> Option<(u64, u8)> {
        let due = queue.pop()?;
        let Event::Mirror { to } = due.event else { return None };
        Some((due.at, to.node))
    }

    #[test]
    fn events_of_one_time_happen_in_the_order_of_their_scheduling() {
        let mut queue = EventQueue::default();
        for (at, node) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.schedule(at, tell(node));
        }
        assert_eq!(queue.next_at(), Some(3));
        let first = queue.pop().unwrap();
        queue.schedule(5, tell(4));
        queue.put_off(first, 5);
        let mut order = Vec::new();
        while let Some(next) = next(&mut queue) {
            order.push(next);
        }
        assert_eq!(order, [(3, 3), (5, 0), (5, 1), (5, 2), (5, 4)]);
        assert_eq!(queue.next_at(), None);
        assert_eq!(queue.events.len(), 5, "places are taken again");
    }
}
