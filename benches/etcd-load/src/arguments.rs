//! The command line: the arguments of `certus-bench` that both understand, under the same names.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures etcd with the closed loop of certus-bench: each client sends its next request when the
/// one before is answered.
///
/// Exit status: 0 when no error was seen, 1 when one was, 2 when nothing could be measured.
#[derive(Clone, Debug, Parser)]
#[command(name = "etcd-load", version)]
pub struct Arguments {
    /// Addresses of the members, HOST:PORT, separated by commas. Client i goes to address i modulo
    /// their number.
    #[arg(long, value_delimiter = ',', required = true, value_name = "LIST")]
    pub addr: Vec<String>,
    /// What the clients do.
    #[arg(long, value_enum, default_value = "write")]
    pub workload: Workload,
    /// How many clients, one request each in flight.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// Over how many connections; 0 = one for each client.
    #[arg(long, default_value_t = 0)]
    pub connections: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub warmup: Duration,
    /// How many keys, drawn uniformly.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Size of a value, in bytes.
    #[arg(long, default_value_t = 128)]
    pub value_size: usize,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not write every key before a read workload.
    #[arg(long)]
    pub no_preload: bool,
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Workload {
    /// Put.
    Write,
    /// Get, linearizable.
    Read,
}

impl Workload {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }

    /// The name that certus-bench gives the operation.
    pub fn operation(self) -> &'static str {
        match self {
            Self::Write => "SET",
            Self::Read => "GET",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
