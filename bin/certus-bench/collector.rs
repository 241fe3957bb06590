//! The thread that gathers what the workers count: progress while it runs, results at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::clock::NANOS_PER_SECOND;
use crate::console::Console;
use crate::hlog::IntervalLog;
use crate::operation::Operation;
use crate::results::Results;
use crate::tally::{Summary, Tally};
use crate::worker::{Report, Shared, Stage};

/// How long the collector waits before it looks whether the user wants to stop.
const STOP_CHECK_PERIOD: Duration = Duration::from_millis(50);

/// One second of the run while not all workers have reported it.
#[derive(Debug, Default)]
struct Gathering {
    worker_count: u32,
    tally: Tally,
}

/// Gathers the reports of all workers.
#[derive(Debug)]
pub struct Collector<'a> {
    shared: Shared<'a>,
    stop: &'a AtomicBool,
    log: Option<IntervalLog<BufWriter<File>>>,
    console: &'a mut Console,
    gathering: BTreeMap<(Stage, u64), Gathering>,
    /// What was counted since the last progress line.
    progress: Tally,
    progress_seconds: u64,
    preloading_count: u32,
    running_count: u32,
    results: Results,
}

impl<'a> Collector<'a> {
    /// Returns a collector for all workers of the run.
    pub fn new(
        shared: Shared<'a>,
        stop: &'a AtomicBool,
        log: Option<IntervalLog<BufWriter<File>>>,
        console: &'a mut Console,
    ) -> Self {
        let threads = shared.arguments.threads;
        Self {
            shared,
            stop,
            log,
            console,
            gathering: BTreeMap::new(),
            progress: Tally::default(),
            progress_seconds: 0,
            preloading_count: threads,
            running_count: threads,
            results: Results::default(),
        }
    }

    /// Gathers until all workers are done.
    ///
    /// # Errors
    ///
    /// Returns why a worker could not go on, or why the interval log could not be written.
    pub fn collect(mut self, reports: &Receiver<Report>) -> Result<Results, String> {
        while self.running_count > 0 {
            if self.stop.load(Ordering::Relaxed) {
                self.shared.schedule.stop(self.shared.clock.now_ns());
            }
            match reports.recv_timeout(STOP_CHECK_PERIOD) {
                Ok(report) => self.handle_report(report)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a worker ended without a report: this is a bug".to_owned());
                }
            }
        }
        self.results.seconds = seconds(self.shared.schedule.measured_ns());
        if let Some(log) = &mut self.log {
            log.finish().map_err(|error| format!("cannot write the interval log: {error}"))?;
        }
        Ok(self.results)
    }

    fn handle_report(&mut self, report: Report) -> Result<(), String> {
        match report {
            Report::Preloaded => {
                self.preloading_count -= 1;
                if self.preloading_count == 0 {
                    let now_ns = self.shared.clock.now_ns();
                    self.shared.schedule.start(now_ns);
                    let arguments = self.shared.arguments;
                    if arguments.preloads() && !arguments.quiet {
                        let keys = arguments.keys;
                        let line = format!("preloaded {keys} keys in {:.1} s", seconds(now_ns));
                        self.console.line(&line);
                    }
                }
            }
            Report::Interval { stage, index, tally } => {
                let gathering = self.gathering.entry((stage, index)).or_default();
                gathering.worker_count += 1;
                gathering.tally.add(&tally);
                if gathering.worker_count == self.shared.arguments.threads {
                    let complete = self.gathering.remove(&(stage, index)).unwrap_or_default();
                    self.handle_interval(stage, index, &complete.tally)?;
                }
            }
            Report::Finished { unsent_count, unanswered_count } => {
                self.running_count -= 1;
                self.results.unsent_count += unsent_count;
                self.results.unanswered_count += unanswered_count;
            }
            Report::Failed(reason) => {
                // The other workers are told to end, so that the program can.
                self.shared.schedule.stop(0);
                return Err(reason);
            }
        }
        Ok(())
    }

    fn handle_interval(&mut self, stage: Stage, index: u64, tally: &Tally) -> Result<(), String> {
        let schedule = self.shared.schedule;
        let begin_ns = index * NANOS_PER_SECOND;
        let stage_ns = match stage {
            Stage::WarmUp => {
                schedule.begin_ns().unwrap_or(0).saturating_sub(schedule.start_ns().unwrap_or(0))
            }
            Stage::Measured => schedule.measured_ns(),
        };
        let end_ns = stage_ns.min(begin_ns + NANOS_PER_SECOND);
        if stage == Stage::Measured {
            self.results.tally.add(tally);
            if let Some(log) = &mut self.log {
                let begin = Duration::from_nanos(begin_ns);
                let length = Duration::from_nanos(end_ns.saturating_sub(begin_ns));
                log.append(begin, length, tally)
                    .map_err(|error| format!("cannot write the interval log: {error}"))?;
            }
        } else {
            // A server that refuses to talk says so at once, and must not be forgotten.
            self.keep_setup_errors(tally);
        }
        self.progress.add(tally);
        self.progress_seconds += 1;
        let is_last = end_ns == stage_ns;
        let interval = self.shared.arguments.interval;
        if interval > 0 && (self.progress_seconds >= interval || is_last) {
            let first_index = (index + 1).saturating_sub(self.progress_seconds);
            let covered_ns = end_ns.saturating_sub(first_index * NANOS_PER_SECOND);
            self.print_progress(stage, end_ns, covered_ns);
        }
        Ok(())
    }

    fn keep_setup_errors(&mut self, tally: &Tally) {
        self.results.tally.of_mut(Operation::Setup).add(tally.of(Operation::Setup));
    }

    fn print_progress(&mut self, stage: Stage, end_ns: u64, covered_ns: u64) {
        let total = std::mem::take(&mut self.progress).total();
        self.progress_seconds = 0;
        if self.shared.arguments.quiet {
            return;
        }
        let summary = Summary::new(&total.service, seconds(covered_ns));
        let name = match stage {
            Stage::WarmUp => "warm-up",
            Stage::Measured => "measure",
        };
        self.console.line(&format!(
            "{name} {:>6.1} s  {:>9.0} ops/s  p50 {:>9.1} µs  p99 {:>9.1} µs  errors {}",
            seconds(end_ns),
            summary.rate_per_s,
            summary.p50_us,
            summary.p99_us,
            total.error_count(),
        ));
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / NANOS_PER_SECOND as f64
}
