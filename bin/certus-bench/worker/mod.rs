//! One thread of the bench: its clients, their connections and the event loop.
//!
//! Every request occupies a *slot* of its client, depth slots each. A free slot is given the next
//! request by [`Worker::pump`], which runs once per wake-up, after all replies of that wake-up
//! were read and before all that is queued is written: one write per socket and wake-up.
//!
//! ```text
//!   issuing ──request──▶ connecting ──bytes──▶ server ──bytes──▶ replies ──slot──▶ issuing
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::arguments::Arguments;
use crate::clock::{Clock, NANOS_PER_SECOND, duration_ns};
use crate::connection::Connection;
use crate::schedule::{Pace, Schedule};
use crate::timer::Timer;
use crate::topology::Topology;
use crate::worker::counts::Counts;
use crate::worker::preload::Preload;
use crate::worker::request_maker::RequestMaker;

pub use crate::worker::report::{Report, Stage};

mod connecting;
mod counts;
mod issuing;
mod preload;
mod replies;
mod report;
mod request_maker;

/// Time between two looks at time-outs and lost connections.
const TICK_NS: u64 = 50_000_000;
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
    requests: RequestMaker<'a>,
    read_buffer: Vec<u8>,
    counts: Counts,
    interval_index: u64,
    interval_end_ns: u64,
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
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER_TOKEN)?;
        let slots = (0..arguments.depth_of_set()).flat_map(|_| 0..client_count);
        let node_count = shared.topology.nodes.len();
        let keys = if arguments.preloads() {
            share(arguments.keys, number)..share(arguments.keys, number + 1)
        } else {
            0..0
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
            preload: Preload::new(keys, shared.clock.now_ns()),
            pace: arguments.rate.map(|rate| Pace::new(rate, number, arguments.threads)),
            requests: RequestMaker::new(arguments, number),
            read_buffer: vec![0; READ_BUFFER_SIZE],
            counts: Counts::new(arguments),
            interval_index: 0,
            interval_end_ns: 0,
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
            if self.preload.is_complete() {
                self.report(Report::Preloaded);
                self.phase = Phase::Waiting;
            } else {
                self.preload.check_progress(self.now_ns)?;
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
            self.counts.begin_measured(begin_ns);
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
            if self.counts.in_flight_count() == 0 || self.now_ns >= end_ns + patience_ns {
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
        let tally = Box::new(self.counts.take_tally());
        self.report(Report::Interval { stage, index: self.interval_index, tally });
        self.interval_index += 1;
        self.interval_end_ns += NANOS_PER_SECOND;
    }

    fn finish(&mut self, end_ns: u64) {
        let unsent_count = match (&self.pace, self.shared.schedule.start_ns()) {
            (Some(pace), Some(start_ns)) => pace.unsent_count(end_ns.saturating_sub(start_ns)),
            (Some(_) | None, _) => 0,
        };
        let unanswered_count = self.counts.in_flight_count();
        self.report(Report::Finished { unsent_count, unanswered_count });
    }
}

/// Narrows a number that counts clients or connections.
fn small(number: u64) -> u32 {
    u32::try_from(number).expect("there are fewer than 4 billion clients and connections")
}
