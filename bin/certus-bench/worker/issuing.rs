//! How free slots are given requests: the keys before the run, then what is drawn, as it is due.

use crate::connection::{Purpose, Request};
use crate::operation::Operation;
use crate::worker::{Phase, Worker, small};

/// What became of a free slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Issue {
    /// A request was queued.
    Issued,
    /// No request is due.
    NothingDue,
    /// No server of this client can be reached now.
    NoServer,
}

impl Worker<'_> {
    /// Gives every free slot the next request, as far as requests are due.
    pub(super) fn pump(&mut self) {
        while let Some(client) = self.free_slots.pop_front() {
            match self.issue_next(client as usize) {
                Issue::Issued => {}
                Issue::NothingDue => {
                    self.free_slots.push_front(client);
                    break;
                }
                Issue::NoServer => self.stalled_slots.push(client),
            }
        }
    }

    fn issue_next(&mut self, client: usize) -> Issue {
        match self.phase {
            Phase::Preloading => {
                let retried = self.preload.retry.pop();
                let key_index = match retried {
                    Some(key_index) => key_index,
                    None if self.preload.next < self.preload.end => self.preload.next,
                    None => return Issue::NothingDue,
                };
                let request =
                    Request::new(Operation::Set, Purpose::Preload, key_index, self.now_ns);
                let issue = self.issue(client, request, None);
                match (issue, retried) {
                    (Issue::Issued, None) => self.preload.next += 1,
                    (Issue::NoServer | Issue::NothingDue, Some(key_index)) => {
                        self.preload.retry.push(key_index);
                    }
                    (Issue::Issued, Some(_)) | (Issue::NoServer | Issue::NothingDue, None) => {}
                }
                self.preload.in_flight_count += u64::from(issue == Issue::Issued);
                issue
            }
            Phase::Running(_) => {
                let intended_ns = self.due_ns().unwrap_or(self.now_ns);
                if intended_ns > self.now_ns || intended_ns >= self.shared.schedule.end_ns() {
                    return Issue::NothingDue;
                }
                let (operation, purpose) = self.requests.draw_operation();
                let key_index = self.requests.draw_key();
                let request = Request::new(operation, purpose, key_index, intended_ns);
                let issue = self.issue(client, request, None);
                if issue == Issue::Issued
                    && let Some(pace) = &mut self.pace
                {
                    pace.take();
                }
                issue
            }
            Phase::Waiting | Phase::Draining => Issue::NothingDue,
        }
    }

    /// Queues `request` on a connection of `client`; `old` is what a compare-and-set expects.
    pub(super) fn issue(&mut self, client: usize, request: Request, old: Option<&[u8]>) -> Issue {
        self.requests.write_key(request.key_index);
        let Some(index) = self.choose_connection(client) else { return Issue::NoServer };
        let (connection, requests) = (&mut self.connections[index], &mut self.requests);
        connection.queue(request, |out| requests.encode(&request, old, out));
        self.counts.count_issued(&request);
        self.mark_dirty(index);
        Issue::Issued
    }

    /// Gives a slot of `client` back.
    pub(super) fn free_slot(&mut self, client: usize) {
        self.free_slots.push_back(small(client as u64));
    }

    /// Writes a key again that was not written, but not at once.
    pub(super) fn retry_preload(&mut self, client: usize, request: &Request, error: String) {
        self.preload.note_failed(request.key_index, error);
        // Until the next tick: whoever refuses a write now will refuse it a microsecond later.
        self.stalled_slots.push(small(client as u64));
    }

    /// Gives the slots back that found no server.
    pub(super) fn release_stalled(&mut self) {
        self.free_slots.extend(self.stalled_slots.drain(..));
    }
}
