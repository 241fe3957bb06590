//! One thread of the bench: its clients, their connections and the event loop.
//!
//! Every request occupies a *slot* of its client, depth slots each. A free slot is given the next
//! request by [`Worker::pump`], which runs once per wake-up, after all replies of that wake-up
//! were read and before all that is queued is written: one write per socket and wake-up.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::mem;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::arguments::Arguments;
use crate::clock::{Clock, NANOS_PER_SECOND, duration_ns, run_number};
use crate::command::{push_command, push_decimal, write_hex};
use crate::connection::{Connection, Purpose, Request, State};
use crate::distribution::KeySampler;
use crate::operation::{Operation, Workload};
use crate::random::{Random, mix};
use crate::reply::{Reply, error_word, read_reply};
use crate::schedule::{Pace, Schedule};
use crate::tally::{Tally, record_ns};
use crate::timer::Timer;
use crate::topology::Topology;
use crate::value::{SEQUENCE_SIZE, ValueMaker, is_intact};

/// Time between two looks at time-outs and lost connections.
const TICK_NS: u64 = 50_000_000;
/// How long the first attempt to connect may take: a server whose queue of new connections
/// overflows when all clients come at once gets the second and third packet a second apart.
const CONNECT_TIMEOUT_NS: u64 = 3 * NANOS_PER_SECOND + NANOS_PER_SECOND / 2;
/// How long a further attempt may take; no request waits for it.
const RECONNECT_TIMEOUT_NS: u64 = NANOS_PER_SECOND;
/// How long a preload may go without a single key written.
const PRELOAD_PATIENCE_NS: u64 = 30 * NANOS_PER_SECOND;
/// How long replies are awaited after the user stopped the run.
const STOP_PATIENCE_NS: u64 = NANOS_PER_SECOND;
/// Size of the receive buffer that all connections of a worker share.
const READ_BUFFER_SIZE: usize = 128 * 1024;
/// Most events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Token of the timer; connections count from zero.
const TIMER_TOKEN: Token = Token(usize::MAX);
/// No connection yet.
const NO_CONNECTION: u32 = u32::MAX;

/// Part of the run that an interval belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Shown, but not counted.
    WarmUp,
    /// Counted.
    Measured,
}

/// What a worker tells the thread that collects the results.
#[derive(Debug)]
pub enum Report {
    /// Its share of the keys is written.
    Preloaded,
    /// A second of the run is over.
    Interval {
        /// Part of the run.
        stage: Stage,
        /// Seconds since the beginning of that part.
        index: u64,
        /// What was counted in it.
        tally: Box<Tally>,
    },
    /// The worker is done; nothing follows.
    Finished {
        /// Requests of an open loop that were due and never started.
        unsent_count: u64,
        /// Requests still unanswered when the user stopped the run.
        unanswered_count: u64,
    },
    /// The worker cannot go on.
    Failed(String),
}

/// What all workers share.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// The command line.
    pub arguments: &'a Arguments,
    /// The servers.
    pub topology: &'a Topology,
    /// The times of the run.
    pub schedule: &'a Schedule,
    /// The clock of the run.
    pub clock: Clock,
}

/// Where the worker is in the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Preloading,
    Waiting,
    Running(Stage),
    Draining,
}

/// What became of a free slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Issue {
    /// A request was queued.
    Issued,
    /// No request is due.
    NothingDue,
    /// No server of this client can be reached now.
    NoServer,
}

/// Keys that this worker still has to write before the run.
#[derive(Debug)]
struct Preload {
    next: u64,
    end: u64,
    retry: Vec<u64>,
    in_flight_count: u64,
    progress_ns: u64,
    last_error: String,
}

/// One thread of the bench.
#[derive(Debug)]
pub struct Worker<'a> {
    shared: Shared<'a>,
    reports: Sender<Report>,
    /// Number of this worker's first client among all clients.
    first_client: usize,
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    /// Connection per client and node, `client * node_count + node`.
    connection_of: Vec<u32>,
    dirty: Vec<u32>,
    free_slots: VecDeque<u32>,
    /// Slots whose client finds no server; tried again when a connection is there, and each tick.
    stalled_slots: Vec<u32>,
    phase: Phase,
    preload: Preload,
    pace: Option<Pace>,
    random: Random,
    sampler: KeySampler,
    values: ValueMaker,
    once_run: [u8; 16],
    once_count: u64,
    key: Vec<u8>,
    read_buffer: Vec<u8>,
    tally: Tally,
    /// Requests intended before this are not counted.
    counted_from_ns: u64,
    interval_index: u64,
    interval_end_ns: u64,
    measured_in_flight: u64,
    next_tick_ns: u64,
    now_ns: u64,
}

impl<'a> Worker<'a> {
    /// Returns worker number `number`, not yet connected.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel when there can be no event loop.
    pub fn new(shared: Shared<'a>, number: u32, reports: Sender<Report>) -> io::Result<Self> {
        let arguments = shared.arguments;
        let share =
            |total: u64, worker: u32| total * u64::from(worker) / u64::from(arguments.threads);
        // Clients that share connections are one client here, with the requests of all.
        let clients = u64::from(arguments.connection_sets());
        let (first_client, end_client) = (share(clients, number), share(clients, number + 1));
        let client_count = end_client - first_client;
        let mut random = Random::new(mix(arguments.seed) ^ mix(u64::from(number) + 1));
        // Values and ONCE identifiers must not repeat those of an earlier run with the same seed.
        let run = Random::new(run_number()).next_u64();
        let mut once_run = [0; 16];
        write_hex(&mut once_run, run ^ mix(u64::from(number)));
        let first_sequence = run.wrapping_add(u64::from(number) << 48);
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER_TOKEN)?;
        let slots = (0..arguments.depth_of_set()).flat_map(|_| 0..client_count);
        let node_count = shared.topology.nodes.len();
        let (next, end) = if arguments.preloads() {
            (share(arguments.keys, number), share(arguments.keys, number + 1))
        } else {
            (0, 0)
        };
        Ok(Self {
            shared,
            reports,
            first_client: small(first_client) as usize,
            poll,
            timer,
            connections: Vec::new(),
            connection_of: vec![NO_CONNECTION; small(client_count) as usize * node_count],
            dirty: Vec::new(),
            free_slots: slots.map(small).collect(),
            stalled_slots: Vec::new(),
            phase: Phase::Preloading,
            preload: Preload {
                next,
                end,
                retry: Vec::new(),
                in_flight_count: 0,
                progress_ns: shared.clock.now_ns(),
                last_error: String::new(),
            },
            pace: arguments.rate.map(|rate| Pace::new(rate, number, arguments.threads)),
            sampler: KeySampler::new(arguments.dist, arguments.keys),
            values: ValueMaker::new(
                arguments.value_kind(),
                arguments.value_size,
                first_sequence,
                &mut random,
            ),
            random,
            once_run,
            once_count: 0,
            key: Vec::new(),
            read_buffer: vec![0; READ_BUFFER_SIZE],
            tally: Tally::default(),
            counted_from_ns: 0,
            interval_index: 0,
            interval_end_ns: 0,
            measured_in_flight: 0,
            next_tick_ns: 0,
            now_ns: shared.clock.now_ns(),
        })
    }

    /// Runs to the end and reports on the way.
    pub fn run(mut self) {
        let result = self.run_loop();
        if let Err(reason) = result {
            self.report(Report::Failed(reason));
        }
    }

    fn run_loop(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            if self.advance_phase()? {
                return Ok(());
            }
            self.pump();
            self.flush_dirty();
            let timeout = self.arm_timer().map_err(|error| format!("timer: {error}"))?;
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("event loop: {error}")),
            }
            self.now_ns = self.shared.clock.now_ns();
            for event in &events {
                self.handle_event(event);
            }
            if self.now_ns >= self.next_tick_ns {
                self.handle_tick();
            }
        }
    }

    /// Sets the timer for the next intended start; returns how long to wait at most.
    fn arm_timer(&self) -> io::Result<Duration> {
        let mut wait_until_ns = self.next_tick_ns;
        if let Phase::Running(_) = self.phase {
            wait_until_ns =
                wait_until_ns.min(self.interval_end_ns).min(self.shared.schedule.end_ns());
            if !self.free_slots.is_empty()
                && let Some(due_ns) = self.due_ns()
                && due_ns < wait_until_ns
            {
                self.timer.arm(due_ns.saturating_sub(self.shared.clock.now_ns()))?;
            }
        }
        let wait_ns = wait_until_ns.saturating_sub(self.now_ns);
        // Rounded up by the kernel's milliseconds: a boundary is noticed late, never in a spin.
        Ok(Duration::from_nanos(wait_ns))
    }

    /// Returns when the next request of an open loop is intended to start.
    fn due_ns(&self) -> Option<u64> {
        let start_ns = self.shared.schedule.start_ns()?;
        self.pace.map(|pace| start_ns + pace.next_ns())
    }

    /// Moves to the phase that the time asks for; `true` when the worker is done.
    fn advance_phase(&mut self) -> Result<bool, String> {
        self.now_ns = self.shared.clock.now_ns();
        let schedule = self.shared.schedule;
        if self.phase == Phase::Preloading {
            let preload = &self.preload;
            if preload.next == preload.end
                && preload.retry.is_empty()
                && preload.in_flight_count == 0
            {
                self.report(Report::Preloaded);
                self.phase = Phase::Waiting;
            } else if self.now_ns - preload.progress_ns > PRELOAD_PATIENCE_NS {
                return Err(format!(
                    "no key could be written for {} s before the run (last error: {}): make the \
                     server writable, or use --no-preload",
                    PRELOAD_PATIENCE_NS / NANOS_PER_SECOND,
                    if preload.last_error.is_empty() { "none" } else { &preload.last_error },
                ));
            }
        }
        if self.phase == Phase::Waiting
            && let Some(start_ns) = schedule.start_ns()
        {
            self.phase = Phase::Running(Stage::WarmUp);
            self.interval_end_ns = start_ns + NANOS_PER_SECOND;
        }
        if let (Phase::Running(Stage::WarmUp), Some(begin_ns)) = (self.phase, schedule.begin_ns())
            && self.now_ns >= begin_ns
            && schedule.end_ns() > begin_ns
        {
            self.report_interval(Stage::WarmUp);
            self.phase = Phase::Running(Stage::Measured);
            self.counted_from_ns = begin_ns;
            // What is in flight now was intended before, and leaves no trace.
            self.measured_in_flight = 0;
            self.interval_index = 0;
            self.interval_end_ns = begin_ns + NANOS_PER_SECOND;
        }
        let end_ns = schedule.end_ns();
        if self.now_ns >= end_ns && self.phase != Phase::Draining {
            if self.phase != Phase::Running(Stage::Measured) {
                self.finish(end_ns);
                return Ok(true);
            }
            // What was due before the end and found no wake-up in time is still sent.
            self.pump();
            self.phase = Phase::Draining;
        }
        if let Phase::Running(stage) = self.phase {
            while self.now_ns >= self.interval_end_ns && self.interval_end_ns < end_ns {
                self.report_interval(stage);
            }
        }
        if self.phase == Phase::Draining {
            let patience_ns = if schedule.was_cut_short() {
                STOP_PATIENCE_NS
            } else {
                // Ticks find the requests that ran out of time; this is beyond the last of them.
                duration_ns(self.shared.arguments.timeout) + 4 * TICK_NS
            };
            if self.measured_in_flight == 0 || self.now_ns >= end_ns + patience_ns {
                self.report_interval(Stage::Measured);
                self.finish(end_ns);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn report(&self, report: Report) {
        // The collector only goes away when another worker failed, and then nobody listens.
        drop(self.reports.send(report));
    }

    fn report_interval(&mut self, stage: Stage) {
        let tally = Box::new(mem::take(&mut self.tally));
        self.report(Report::Interval { stage, index: self.interval_index, tally });
        self.interval_index += 1;
        self.interval_end_ns += NANOS_PER_SECOND;
    }

    fn finish(&mut self, end_ns: u64) {
        let unsent_count = match (&self.pace, self.shared.schedule.start_ns()) {
            (Some(pace), Some(start_ns)) => pace.unsent_count(end_ns.saturating_sub(start_ns)),
            (Some(_) | None, _) => 0,
        };
        let unanswered_count = self.measured_in_flight;
        self.report(Report::Finished { unsent_count, unanswered_count });
    }

    /// Gives every free slot the next request, as far as requests are due.
    fn pump(&mut self) {
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
                let (operation, purpose) = self.draw_operation();
                let key_index = self.sampler.sample(&mut self.random);
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

    fn draw_operation(&mut self) -> (Operation, Purpose) {
        match self.shared.arguments.workload {
            Workload::Write => (Operation::Set, Purpose::Measured),
            Workload::Read | Workload::ReadLocal => (Operation::Get, Purpose::Measured),
            Workload::Mixed { read_percent } => {
                if self.random.below(100) < u64::from(read_percent) {
                    (Operation::Get, Purpose::Measured)
                } else {
                    (Operation::Set, Purpose::Measured)
                }
            }
            Workload::Incr => (Operation::Incr, Purpose::Measured),
            Workload::Cas => (Operation::Get, Purpose::CasRead),
        }
    }

    /// Queues `request` on a connection of `client`; `old` is what a compare-and-set expects.
    fn issue(&mut self, client: usize, request: Request, old: Option<&[u8]>) -> Issue {
        self.write_key(request.key_index);
        let Some(index) = self.choose_connection(client) else { return Issue::NoServer };
        let connection = &mut self.connections[index];
        let (key, values) = (&self.key[..], &mut self.values);
        match (request.operation, old) {
            (Operation::Get, _) => {
                connection.queue(request, |out| push_command(out, &[b"GET", key]));
            }
            (Operation::Incr, _) if self.shared.arguments.once => {
                self.once_count += 1;
                let mut id = [b'-'; 2 * SEQUENCE_SIZE + 1];
                id[..SEQUENCE_SIZE].copy_from_slice(&self.once_run);
                write_hex(&mut id[SEQUENCE_SIZE + 1..], self.once_count);
                connection.queue(request, |out| {
                    push_command(out, &[b"CERTUS", b"ONCE", &id, b"INCR", key]);
                });
            }
            (Operation::Incr, _) => {
                connection.queue(request, |out| push_command(out, &[b"INCR", key]));
            }
            (Operation::Cas, Some(old)) => connection.queue(request, |out| {
                push_command(out, &[b"SET", key, values.make(key), b"IFEQ", old]);
            }),
            // There was no value to compare with.
            (Operation::Cas, None) => connection.queue(request, |out| {
                push_command(out, &[b"SET", key, values.make(key), b"NX"]);
            }),
            (Operation::Set | Operation::Setup, _) => {
                connection.queue(request, |out| {
                    push_command(out, &[b"SET", key, values.make(key)]);
                });
            }
        }
        if !matches!(request.purpose, Purpose::Preload) && self.is_counted(&request) {
            self.measured_in_flight += 1;
        }
        self.mark_dirty(index);
        Issue::Issued
    }

    fn write_key(&mut self, key_index: u64) {
        self.key.clear();
        self.key.extend_from_slice(self.shared.arguments.key_prefix.as_bytes());
        push_decimal(&mut self.key, key_index);
    }

    /// Returns the first connection for the current key that takes requests.
    fn choose_connection(&mut self, client: usize) -> Option<usize> {
        let topology = self.shared.topology;
        let node_count = topology.nodes.len();
        for &node in topology.order(self.first_client + client, &self.key) {
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

    fn mark_dirty(&mut self, index: usize) {
        if !self.connections[index].is_dirty {
            self.connections[index].is_dirty = true;
            self.dirty.push(small(index as u64));
        }
    }

    fn flush_dirty(&mut self) {
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

    fn handle_event(&mut self, event: &Event) {
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

    fn handle_readable(&mut self, index: usize, is_read_closed: bool) {
        let mut buffer = mem::take(&mut self.read_buffer);
        while let Some(stream) = &mut self.connections[index].stream {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.close(index, "CONNECTION", "the server closed the connection");
                    break;
                }
                Ok(size) => {
                    self.now_ns = self.shared.clock.now_ns();
                    self.handle_bytes(index, &buffer[..size]);
                    // A buffer that was not filled emptied the socket; asking again would only be
                    // told so. Only the end of the stream brings no event of its own.
                    if size < buffer.len() && !is_read_closed {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(index, "CONNECTION", &error.to_string());
                    break;
                }
            }
        }
        self.read_buffer = buffer;
    }

    fn handle_bytes(&mut self, index: usize, bytes: &[u8]) {
        if self.connections[index].partial.is_empty() {
            if let Some(used) = self.handle_replies(index, bytes) {
                self.connections[index].partial.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        let mut partial = mem::take(&mut self.connections[index].partial);
        partial.extend_from_slice(bytes);
        if let Some(used) = self.handle_replies(index, &partial) {
            partial.drain(..used);
            self.connections[index].partial = partial;
        }
    }

    /// Handles all complete replies; returns how many bytes they take, `None` when the connection
    /// had to be closed.
    fn handle_replies(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let mut used = 0;
        loop {
            match read_reply(&bytes[used..]) {
                Ok(None) => return Some(used),
                Ok(Some((reply, size))) => {
                    used += size;
                    if let Some(request) = self.connections[index].take_answered() {
                        self.handle_reply(self.connections[index].client, &request, &reply);
                    } else {
                        self.handle_unsolicited(index, &reply);
                        return None;
                    }
                }
                Err(error) => {
                    self.close(index, "PROTOCOL", &error.to_string());
                    return None;
                }
            }
        }
    }

    /// A reply to nothing: a refusal that names its reason, or a peer that lost count.
    fn handle_unsolicited(&mut self, index: usize, reply: &Reply<'_>) {
        let setup = Request::new(Operation::Setup, Purpose::Setup, 0, self.now_ns);
        if let Reply::Error(text) = reply {
            self.count_reply_error(&setup, text);
        } else {
            self.count_error(&setup, "PROTOCOL", "a reply came without a request");
        }
        self.close(index, "CONNECTION", "closed after a reply without a request");
    }

    fn handle_reply(&mut self, client: usize, request: &Request, reply: &Reply<'_>) {
        match (request.purpose, reply) {
            (Purpose::Setup, Reply::Error(text)) => self.count_reply_error(request, text),
            (Purpose::Setup, _) => {}
            (Purpose::Preload, Reply::Simple(_)) => {
                self.preload.in_flight_count -= 1;
                self.preload.progress_ns = self.now_ns;
                self.free_slot(client);
            }
            (Purpose::Preload, reply) => {
                let text = match reply {
                    Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => "SET was not answered with OK".to_owned(),
                };
                self.retry_preload(client, request, text);
            }
            (Purpose::Measured | Purpose::CasRead, Reply::Error(text)) => {
                self.count_reply_error(request, text);
                self.free_slot(client);
            }
            (Purpose::Measured, reply) => {
                self.handle_outcome(request, reply);
                self.free_slot(client);
            }
            (Purpose::CasRead, reply) => {
                let old = match reply {
                    Reply::Bulk(old) => Some(*old),
                    _ => None,
                };
                let is_value = self.handle_outcome(request, reply);
                let cas =
                    Request::new(Operation::Cas, Purpose::Measured, request.key_index, self.now_ns);
                let goes_on = is_value && matches!(self.phase, Phase::Running(_));
                if !goes_on || self.issue(client, cas, old) != Issue::Issued {
                    self.free_slot(client);
                }
            }
        }
    }

    /// Records the reply of a measured request; `false` when it is an error after all.
    fn handle_outcome(&mut self, request: &Request, reply: &Reply<'_>) -> bool {
        let arguments = self.shared.arguments;
        let is_counted = self.is_counted(request);
        let (mut is_missing, mut is_lost) = (false, false);
        match (request.operation, reply) {
            (Operation::Get, Reply::Bulk(value)) => {
                if arguments.verify {
                    self.write_key(request.key_index);
                    if !is_intact(&self.key, value) {
                        let start = &value[..value.len().min(64)];
                        let text = format!(
                            "MISMATCH {} holds {:?}",
                            String::from_utf8_lossy(&self.key),
                            String::from_utf8_lossy(start)
                        );
                        self.count_error(request, "MISMATCH", &text);
                        return false;
                    }
                }
            }
            (Operation::Get, Reply::Nil) => {
                // A local read may be behind; any other has no excuse to miss a key written before.
                let must_exist = arguments.verify
                    && arguments.preloads()
                    && arguments.workload != Workload::ReadLocal;
                if must_exist {
                    self.write_key(request.key_index);
                    let key = String::from_utf8_lossy(&self.key);
                    let text = format!("MISMATCH {key} has no value, though it was written");
                    self.count_error(request, "MISMATCH", &text);
                    return false;
                }
                is_missing = true;
            }
            (Operation::Cas, Reply::Nil) => is_lost = true,
            (Operation::Set | Operation::Cas, Reply::Simple(b"OK"))
            | (Operation::Incr, Reply::Integer(_)) => {}
            (operation, _) => {
                let text = format!("UNEXPECTED type of reply to {}", operation.name());
                self.count_error(request, "UNEXPECTED", &text);
                return false;
            }
        }
        if is_counted {
            self.measured_in_flight -= 1;
            let now_ns = self.now_ns;
            let tally = self.tally.of_mut(request.operation);
            record_ns(&mut tally.service, now_ns - request.sent_ns(now_ns));
            if self.pace.is_some() {
                let latency_ns = now_ns.saturating_sub(request.intended_ns);
                record_ns(&mut tally.response, latency_ns);
            }
            tally.missing += u64::from(is_missing);
            tally.cas_lost += u64::from(is_lost);
        }
        true
    }

    /// Whether `request` belongs to the part of the run that is counted now.
    fn is_counted(&self, request: &Request) -> bool {
        request.intended_ns >= self.counted_from_ns
    }

    fn count_reply_error(&mut self, request: &Request, text: &[u8]) {
        let word = String::from_utf8_lossy(error_word(text)).into_owned();
        self.count_error(request, &word, &String::from_utf8_lossy(text));
    }

    fn count_error(&mut self, request: &Request, word: &str, text: &str) {
        let is_setup = request.purpose == Purpose::Setup;
        if !is_setup && !self.is_counted(request) {
            return;
        }
        if !is_setup {
            self.measured_in_flight -= 1;
        }
        self.tally.of_mut(request.operation).count_error(word, text);
    }

    fn free_slot(&mut self, client: usize) {
        self.free_slots.push_back(small(client as u64));
    }

    fn retry_preload(&mut self, client: usize, request: &Request, error: String) {
        self.preload.in_flight_count -= 1;
        self.preload.retry.push(request.key_index);
        self.preload.last_error = error;
        // Until the next tick: whoever refuses a write now will refuse it a microsecond later.
        self.stalled_slots.push(small(client as u64));
    }

    /// Closes a connection; each request in flight becomes an error `word`.
    fn close(&mut self, index: usize, word: &str, reason: &str) {
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
                    self.count_error(&request, word, &text);
                    self.free_slot(client);
                }
            }
        }
    }

    fn release_stalled(&mut self) {
        self.free_slots.extend(self.stalled_slots.drain(..));
    }

    /// Finds requests and attempts that ran out of time, and tries lost connections again.
    fn handle_tick(&mut self) {
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

/// Narrows a number that counts clients or connections.
fn small(number: u64) -> u32 {
    u32::try_from(number).expect("there are fewer than 4 billion clients and connections")
}
