//! `etcd-load`: the closed loop of certus-bench, for etcd.
//!
//! It speaks gRPC, as etcd's own clients do, from one thread, as certus-bench does by default, and
//! prints and writes the same figures under the same names, so that the two can stand side by side.

mod arguments;
mod connection;
mod load;
mod messages;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::load::Tally;

const EXIT_ERRORS_SEEN: u8 = 1;
const EXIT_NOTHING_MEASURED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(tally) if tally.errors.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_ERRORS_SEEN),
        Err(error) => {
            drop(writeln!(io::stderr().lock(), "etcd-load: {error}"));
            ExitCode::from(EXIT_NOTHING_MEASURED)
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Tally, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(load::run(arguments))?;
    let seconds = arguments.seconds.as_secs_f64();
    let figures = figures(&tally, seconds);
    let operation = arguments.workload.operation();
    writeln!(
        io::stdout().lock(),
        "{operation}  {} requests, {:.0}/s, mean {:.1} µs, p50 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}; \
         errors {:?}, missing {}",
        tally.latency_ns.len(),
        figures["rate_per_s"].as_f64().unwrap_or(0.0),
        figures["mean_us"].as_f64().unwrap_or(0.0),
        figures["p50_us"].as_f64().unwrap_or(0.0),
        figures["p99_us"].as_f64().unwrap_or(0.0),
        figures["p999_us"].as_f64().unwrap_or(0.0),
        figures["max_us"].as_f64().unwrap_or(0.0),
        tally.errors,
        tally.missing,
    )?;
    if let Some(path) = &arguments.json {
        let mut operations = Map::new();
        operations.insert(operation.to_owned(), figures.clone());
        let document = json!({
            "settings": settings(arguments),
            "duration": seconds,
            "unsent": 0,
            "unanswered": 0,
            "operations": operations,
            "totals": figures,
        });
        fs::write(path, format!("{document:#}\n"))?;
    }
    if tally.latency_ns.is_empty() {
        return Err("nothing was measured: let the run last longer, or look at etcd".into());
    }
    Ok(tally)
}

fn settings(arguments: &Arguments) -> Value {
    json!({
        "addr": arguments.addr,
        "route": "spread",
        "workload": arguments.workload.name(),
        "clients": arguments.clients,
        "connections": arguments.connections,
        "depth": 1,
        "threads": 1,
        "seconds": arguments.seconds.as_secs_f64(),
        "warmup": arguments.warmup.as_secs_f64(),
        "keys": arguments.keys,
        "value_size": arguments.value_size,
        "dist": "uniform",
        "key_prefix": "key:",
        "preload": !arguments.no_preload,
        "seed": arguments.seed,
    })
}

fn figures(tally: &Tally, seconds: f64) -> Value {
    let latency = &tally.latency_ns;
    let quantile = |quantile: f64| microseconds(latency.value_at_quantile(quantile));
    json!({
        "count": latency.len(),
        "rate_per_s": to_f64(latency.len()) / seconds,
        "mean_us": latency.mean() / 1000.0,
        "p50_us": quantile(0.5),
        "p90_us": quantile(0.9),
        "p99_us": quantile(0.99),
        "p999_us": quantile(0.999),
        "p9999_us": quantile(0.9999),
        "max_us": microseconds(latency.max()),
        "errors": tally.errors,
        "cas_lost": 0,
        "missing": tally.missing,
    })
}

fn microseconds(nanoseconds: u64) -> f64 {
    to_f64(nanoseconds) / 1000.0
}

/// Exact up to 2^53, far above any count or nanosecond here.
fn to_f64(number: u64) -> f64 {
    number as f64
}
