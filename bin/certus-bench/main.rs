//! `certus-bench`: measures any server that speaks RESP, Certus or a peer.
//!
//! A run asks the servers for their slots ([`topology`]), starts a few threads that drive the
//! clients ([`worker`]), gathers what they count once a second ([`collector`]) and writes it out
//! ([`table`], [`json`], [`csv`], [`hlog`], [`hgrm`], [`plot`]). It never retries a request: what a
//! client would see is what is counted.

mod arguments;
mod clock;
mod collector;
mod command;
mod compare;
mod connection;
mod console;
mod csv;
mod distribution;
mod hgrm;
mod hlog;
mod json;
mod operation;
mod plot;
mod random;
mod reply;
mod results;
mod schedule;
mod slot;
mod table;
mod tally;
mod timer;
mod topology;
mod value;
mod worker;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::{Arguments, ArgumentsError};
use crate::clock::{Clock, duration_ns};
use crate::collector::Collector;
use crate::compare::CompareError;
use crate::console::{Console, complain};
use crate::hlog::IntervalLog;
use crate::results::Results;
use crate::schedule::Schedule;
use crate::topology::{Topology, TopologyError};
use crate::worker::{Shared, Worker};

/// Exit status of a run that saw an unexpected error.
const EXIT_ERRORS_SEEN: u8 = 1;
/// Exit status when nothing could be measured.
const EXIT_BAD_USAGE: u8 = 2;

/// Why the program ends without a complete run.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("{0}")]
    Arguments(#[from] ArgumentsError),
    #[error("{0}")]
    Compare(#[from] CompareError),
    #[error("{0}")]
    Topology(#[from] TopologyError),
    #[error("cannot write {path:?} ({error}): give a path that can be written")]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("cannot start a worker: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Run(String),
}

impl BenchError {
    fn exit_status(&self) -> u8 {
        match self {
            Self::Run(_) => EXIT_ERRORS_SEEN,
            Self::Arguments(_)
            | Self::Compare(_)
            | Self::Topology(_)
            | Self::Unwritable { .. }
            | Self::Start(_) => EXIT_BAD_USAGE,
        }
    }
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(exit_code) => exit_code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit_status())
        }
    }
}

fn bench(arguments: &Arguments) -> Result<ExitCode, BenchError> {
    let mut console = Console::default();
    if let [first, second] = &arguments.compare[..] {
        console.line(&compare::compare(first, second)?);
        return Ok(ExitCode::SUCCESS);
    }
    arguments.check()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(BenchError::Start)?;
    }
    raise_file_limit().map_err(BenchError::Start)?;
    let topology = Topology::discover(arguments)?;
    if !arguments.quiet {
        print_header(&mut console, arguments, &topology);
    }
    let results = run(arguments, &topology, &stop, &mut console)?;
    if results.seconds == 0.0 {
        console.line("stopped before anything was measured");
    } else {
        console.line(&table::render(&results));
    }
    write_files(arguments, &topology, &results)?;
    // A run that did nothing proves nothing.
    if results.tally.occurred().next().is_none() {
        complain("nothing was measured: let the run last longer, or look at the server");
        return Ok(ExitCode::from(EXIT_ERRORS_SEEN));
    }
    let failed = results.error_words().any(|word| arguments.is_unexpected(word));
    Ok(if failed { ExitCode::from(EXIT_ERRORS_SEEN) } else { ExitCode::SUCCESS })
}

/// Runs the workers to the end.
fn run(
    arguments: &Arguments,
    topology: &Topology,
    stop: &AtomicBool,
    console: &mut Console,
) -> Result<Results, BenchError> {
    // Created before the run: a path that cannot be written must not cost a measurement.
    let log = match &arguments.hlog {
        Some(path) => {
            let file = File::create(path)
                .map_err(|error| BenchError::Unwritable { path: path.clone(), error })?;
            Some(IntervalLog::new(BufWriter::new(file)))
        }
        None => None,
    };
    let schedule = Schedule::new(duration_ns(arguments.warmup), duration_ns(arguments.seconds));
    let shared = Shared { arguments, topology, schedule: &schedule, clock: Clock::start() };
    let (sender, receiver) = mpsc::channel();
    let workers = (0..arguments.threads)
        .map(|number| Worker::new(shared, number, sender.clone()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(BenchError::Start)?;
    drop(sender);
    thread::scope(|scope| {
        for worker in workers {
            scope.spawn(|| worker.run());
        }
        let collected = Collector::new(shared, stop, log, console).collect(&receiver);
        // Also after a failure the threads must come to an end.
        schedule.stop(shared.clock.now_ns());
        collected
    })
    .map_err(BenchError::Run)
}

fn print_header(console: &mut Console, arguments: &Arguments, topology: &Topology) {
    let settings = json::settings(arguments, topology);
    let loop_kind = match settings.rate {
        Some(rate) => format!("open loop at {rate}/s"),
        None => "closed loop".to_owned(),
    };
    let json::Settings { workload, clients, depth, connections, .. } = &settings;
    let json::Settings { threads, keys, value_size, dist, route, .. } = &settings;
    console.line(&format!(
        "certus-bench: {workload}, {loop_kind}, {clients} clients × depth {depth} on \
         {connections} set(s) of connections and {threads} thread(s)\n  \
         {keys} keys {:?}…, {value_size} byte values, {dist}, seed {}, warm-up {} s, measure {} s\n  \
         servers {}, route {route}{}",
        settings.key_prefix,
        settings.seed,
        settings.warmup,
        settings.seconds,
        topology.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" "),
        if settings.verify { ", values are verified" } else { "" },
    ));
    for unreachable in &topology.unreachable {
        console.line(&format!("  not reachable now: {unreachable}"));
    }
}

fn write_files(
    arguments: &Arguments,
    topology: &Topology,
    results: &Results,
) -> Result<(), BenchError> {
    if let Some(path) = &arguments.json {
        let document = json::document(arguments, topology, results);
        let mut text = serde_json::to_string_pretty(&document)
            .map_err(|error| BenchError::Run(format!("cannot make JSON: {error}")))?;
        text.push('\n');
        write_file(path, &text)?;
    }
    if let Some(path) = &arguments.csv {
        write_file(path, &csv::render(results))?;
    }
    let histograms = results.histograms();
    if let Some(path) = &arguments.hgrm {
        for (name, histogram) in &histograms {
            let path = hgrm::path_of(path, name, histograms.len());
            write_file(&path, &hgrm::render(histogram))?;
        }
    }
    if let Some(path) = &arguments.svg {
        write_file(path, &plot::render(&histograms))?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), BenchError> {
    fs::write(path, text).map_err(|error| BenchError::Unwritable { path: path.to_owned(), error })
}

/// Allows as many open files as the system grants: clients × servers can be more than the default.
fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
