//! The connections of a worker: which one a request takes, how they are made, written to and lost.
//!
//! A connection is made when the first request needs it. One that is lost or that does not answer
//! in time is closed, each request in flight on it becomes an error, and a tick tries it again.

use std::mem;

use mio::Token;
use mio::event::Event;

use crate::clock::{NANOS_PER_SECOND, duration_ns};
use crate::command::push_command;
use crate::connection::{Connection, Purpose, Request, State};
use crate::operation::{Operation, Workload};
use crate::worker::{NO_CONNECTION, TICK_NS, TIMER_TOKEN, Worker, small};

/// How long the first attempt to connect may take: a server whose queue of new connections
/// overflows when all clients come at once gets the second and third packet a second apart.
const CONNECT_TIMEOUT_NS: u64 = 3 * NANOS_PER_SECOND + NANOS_PER_SECOND / 2;
/// How long a further attempt may take; no request waits for it.
const RECONNECT_TIMEOUT_NS: u64 = NANOS_PER_SECOND;

impl Worker<'_> {
    /// Returns the first connection for the current key that takes requests.
    pub(super) fn choose_connection(&mut self, client: usize) -> Option<usize> {
        let topology = self.shared.topology;
        let node_count = topology.nodes.len();
        for &node in topology.order(self.first_client + client, self.requests.key()) {
            let entry = client * node_count + usize::from(node);
            if self.connection_of[entry] == NO_CONNECTION {
                self.connection_of[entry] = small(self.connections.len() as u64);
                self.connections.push(Connection::new(client, node));
                let since_ns = self.now_ns;
                self.connect(self.connections.len() - 1, State::Connecting { since_ns });
            }
            let index = self.connection_of[entry] as usize;
            if self.connections[index].takes_requests() {
                return Some(index);
            }
        }
        None
    }

    fn connect(&mut self, index: usize, state: State) {
        let connection = &mut self.connections[index];
        connection.state = state;
        let address = self.shared.topology.nodes[usize::from(connection.node)].address;
        match connection.connect(address, self.poll.registry(), Token(index)) {
            Ok(()) => self.queue_setup(index),
            Err(error) => self.close(index, "CONNECTION", &error.to_string()),
        }
    }

    /// Queues what a connection must say before anything else.
    fn queue_setup(&mut self, index: usize) {
        let arguments = self.shared.arguments;
        let setup = Request::new(Operation::Setup, Purpose::Setup, 0, self.now_ns);
        let connection = &mut self.connections[index];
        if let Some(password) = &arguments.password {
            connection.queue(setup, |out| push_command(out, &[b"AUTH", password.as_bytes()]));
        }
        if arguments.workload == Workload::ReadLocal {
            connection.queue(setup, |out| push_command(out, &[b"READONLY"]));
        }
    }

    /// Marks a connection to be flushed before the next wait.
    pub(super) fn mark_dirty(&mut self, index: usize) {
        if !self.connections[index].is_dirty {
            self.connections[index].is_dirty = true;
            self.dirty.push(small(index as u64));
        }
    }

    /// Writes what is queued: once per socket.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.connections[index as usize].is_dirty = false;
            self.flush(index as usize);
        }
        self.dirty = dirty;
    }

    fn flush(&mut self, index: usize) {
        let now_ns = self.shared.clock.now_ns();
        if let Err(error) = self.connections[index].flush(now_ns) {
            self.close(index, "CONNECTION", &error.to_string());
        }
    }

    /// Goes on with a connection on which something happened.
    pub(super) fn handle_event(&mut self, event: &Event) {
        if event.token() == TIMER_TOKEN {
            return;
        }
        let index = event.token().0;
        if event.is_writable() || event.is_error() || event.is_read_closed() {
            match self.connections[index].state {
                State::Connecting { .. } | State::Reconnecting { .. } => {
                    match self.connections[index].finish_connect() {
                        Ok(true) => {
                            self.flush(index);
                            self.release_stalled();
                        }
                        Ok(false) => {}
                        Err(error) => self.close(index, "CONNECTION", &error.to_string()),
                    }
                }
                State::Ready if self.connections[index].has_output() => self.mark_dirty(index),
                State::Ready => {}
                State::Down { .. } => {}
            }
        }
        let has_news = event.is_readable() || event.is_read_closed() || event.is_error();
        if has_news && self.connections[index].state == State::Ready {
            self.handle_readable(index, event.is_read_closed());
        }
    }

    /// Closes a connection; each request in flight becomes an error `word`.
    pub(super) fn close(&mut self, index: usize, word: &str, reason: &str) {
        let connection = &mut self.connections[index];
        let (client, node) = (connection.client, connection.node);
        let lost = connection.close(self.now_ns);
        if lost.is_empty() {
            return;
        }
        let name = &self.shared.topology.nodes[usize::from(node)].name;
        let text = format!("{word} {name}: {reason}");
        for request in lost {
            match request.purpose {
                // Its loss is told by the requests behind it.
                Purpose::Setup => {}
                Purpose::Preload => self.retry_preload(client, &request, text.clone()),
                Purpose::Measured | Purpose::CasRead => {
                    self.counts.count_error(&request, word, &text);
                    self.free_slot(client);
                }
            }
        }
    }

    /// Finds requests and attempts that ran out of time, and tries lost connections again.
    pub(super) fn handle_tick(&mut self) {
        self.next_tick_ns = self.now_ns + TICK_NS;
        let timeout_ns = duration_ns(self.shared.arguments.timeout);
        for index in 0..self.connections.len() {
            match self.connections[index].state {
                State::Connecting { since_ns } => {
                    if self.now_ns.saturating_sub(since_ns) > CONNECT_TIMEOUT_NS {
                        self.close(index, "CONNECTION", "no answer to the attempt to connect");
                    }
                }
                State::Reconnecting { since_ns } => {
                    if self.now_ns.saturating_sub(since_ns) > RECONNECT_TIMEOUT_NS {
                        self.close(index, "CONNECTION", "no answer to the attempt to connect");
                    }
                }
                State::Ready => {
                    let oldest = self.connections[index].in_flight.front();
                    let sent_ns = oldest.map_or(self.now_ns, |oldest| oldest.sent_ns(self.now_ns));
                    if self.now_ns - sent_ns > timeout_ns {
                        self.close(index, "TIMEOUT", "no reply in time");
                    }
                }
                State::Down { retry_ns } => {
                    if self.now_ns >= retry_ns {
                        let since_ns = self.now_ns;
                        self.connect(index, State::Reconnecting { since_ns });
                    }
                }
            }
        }
        self.release_stalled();
    }
}
