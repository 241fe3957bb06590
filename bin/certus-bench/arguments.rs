//! The command line, and the checks that need more than one argument.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use crate::distribution::Distribution;
use crate::operation::Workload;
use crate::value::ValueKind;

/// Measures a RESP server: rate and latency percentiles per operation.
///
/// Closed loop by default: each of CLIENTS keeps DEPTH requests in flight. With --rate the loop is
/// open: requests have intended start times, and the response time counts from those. A request is
/// measured when it is due after the warm-up and before the end, whenever it is answered.
///
/// Exit status: 0 when no unexpected error was seen, 1 when one was, 2 when the arguments are wrong
/// or no server can be reached.
#[derive(Clone, Debug, Parser)]
#[command(name = "certus-bench", version)]
pub struct Arguments {
    /// Addresses of the servers, HOST:PORT, separated by commas.
    #[arg(long, value_delimiter = ',', required_unless_present = "compare", value_name = "LIST")]
    pub addr: Vec<String>,
    /// What the clients do: write, read, read-local, mixed:R (R percent reads), incr, or cas.
    ///
    /// incr needs keys that hold numbers or nothing: give it a --key-prefix of its own.
    #[arg(long, default_value = "write")]
    pub workload: Workload,
    /// How many clients, each with its own connections.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// How many requests each client keeps in flight.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub depth: u32,
    /// How many sets of connections the clients share, as those of a pooling client library do;
    /// each set has a connection to every server it needs. 0 = each client has its own.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub connections: u32,
    /// How long to measure, in seconds.
    #[arg(long, default_value = "10", value_parser = positive_seconds)]
    pub seconds: Duration,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub warmup: Duration,
    /// How many keys.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// Size of a value, in bytes.
    #[arg(long, default_value_t = 128, value_parser = value_size)]
    pub value_size: usize,
    /// How requests spread over the keys: uniform, or zipf:SKEW.
    #[arg(long, default_value = "uniform")]
    pub dist: Distribution,
    /// How many threads drive the clients.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Which server a request goes to.
    ///
    /// Default: preferred when several addresses are given and CLUSTER SLOTS works, else spread.
    #[arg(long, value_enum)]
    pub route: Option<Route>,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What key names begin with; a {tag} in it puts all keys into one slot.
    #[arg(long, default_value = "key:", value_name = "TEXT")]
    pub key_prefix: String,
    /// Write every key once before the warm-up (default for read, read-local and mixed).
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "no_preload")]
    pub preload: bool,
    /// Do not write the keys first.
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "preload")]
    pub no_preload: bool,
    /// Write values with the key and a checksum inside, and check every value read.
    #[arg(long)]
    pub verify: bool,
    /// Open loop: start this many requests per second over all clients, whatever the answers do.
    #[arg(long, value_name = "OPS", value_parser = rate)]
    pub rate: Option<f64>,
    /// Send INCR as CERTUS ONCE ID INCR KEY.
    #[arg(long)]
    pub once: bool,
    /// Password for AUTH.
    #[arg(long)]
    pub password: Option<String>,
    /// Error words that do not make the run a failure, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "WORDS")]
    pub expect_errors: Vec<String>,
    /// Exit with status 0 whatever errors are seen.
    #[arg(long)]
    pub ignore_errors: bool,
    /// A request without an answer for this many seconds is an error TIMEOUT.
    #[arg(long, default_value = "10", value_parser = positive_seconds)]
    pub timeout: Duration,
    /// Seconds between two progress lines; 0 for none.
    #[arg(long, default_value_t = 1, value_name = "SECONDS")]
    pub interval: u64,
    /// Print no header and no progress, only the results.
    #[arg(long)]
    pub quiet: bool,
    /// Write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an HdrHistogram interval log, one tagged interval per operation per second.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write a percentile distribution; with several operations one file each: F.OP.hgrm.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write the results as CSV, one row per operation.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Draw latency over percentile.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Measure nothing: print the ratios between two JSON results.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], exclusive = true)]
    pub compare: Vec<PathBuf>,
}

/// Which server a request goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Route {
    /// To the node that CLUSTER SLOTS names first for the key's slot.
    Preferred,
    /// Client i to address i, modulo their number.
    Spread,
    /// To the first address.
    First,
}

impl Route {
    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Spread => "spread",
            Self::First => "first",
        }
    }
}

/// Arguments that contradict each other.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArgumentsError {
    /// A thread would have no client.
    #[error("--threads {threads} is more than {clients} clients or sets of connections: use fewer")]
    IdleThreads {
        /// Threads asked for.
        threads: u32,
        /// Clients asked for.
        clients: u32,
    },
    /// Clients that cannot be spread evenly.
    #[error(
        "--clients {clients} cannot be spread evenly over --connections {connections}: use a divisor"
    )]
    UnevenConnections {
        /// Clients asked for.
        clients: u32,
        /// Sets of connections asked for.
        connections: u32,
    },
    /// `--once` without INCR.
    #[error("--once needs --workload incr: no other workload sends INCR")]
    OnceWithoutIncr,
    /// The value has no room for what it must hold.
    #[error(
        "--value-size {size} has no room for what {reason} puts into a value: use {min} or more"
    )]
    ValueTooSmall {
        /// Size asked for.
        size: usize,
        /// The argument that needs more.
        reason: &'static str,
        /// Smallest size that does.
        min: usize,
    },
}

impl Arguments {
    /// How many sets of connections there are.
    pub fn connection_sets(&self) -> u32 {
        if self.connections == 0 { self.clients } else { self.connections }
    }

    /// How many requests are in flight over each set: those of all clients that share it.
    pub fn depth_of_set(&self) -> u32 {
        (self.clients / self.connection_sets()).saturating_mul(self.depth)
    }

    /// Checks what one argument cannot know alone.
    ///
    /// # Errors
    ///
    /// Returns the first contradiction found.
    pub fn check(&self) -> Result<(), ArgumentsError> {
        if !self.clients.is_multiple_of(self.connection_sets()) {
            return Err(ArgumentsError::UnevenConnections {
                clients: self.clients,
                connections: self.connections,
            });
        }
        if self.threads > self.connection_sets() {
            return Err(ArgumentsError::IdleThreads {
                threads: self.threads,
                clients: self.connection_sets(),
            });
        }
        if self.once && self.workload != Workload::Incr {
            return Err(ArgumentsError::OnceWithoutIncr);
        }
        let longest_key = format!("{}{}", self.key_prefix, self.keys - 1);
        let min = self.value_kind().size_min(longest_key.len());
        if self.value_size < min {
            let reason = if self.verify { "--verify" } else { "--workload cas" };
            return Err(ArgumentsError::ValueTooSmall { size: self.value_size, reason, min });
        }
        Ok(())
    }

    /// Returns what the values of this run hold.
    pub fn value_kind(&self) -> ValueKind {
        if self.verify {
            ValueKind::Verified
        } else if self.workload == Workload::Cas {
            ValueKind::Unique
        } else {
            ValueKind::Plain
        }
    }

    /// Whether every key is written before the warm-up.
    pub fn preloads(&self) -> bool {
        self.preload || (!self.no_preload && self.workload.preloads_by_default())
    }

    /// Whether an error with this first word makes the run a failure.
    pub fn is_unexpected(&self, word: &str) -> bool {
        !self.ignore_errors && !self.expect_errors.iter().any(|expected| expected == word)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| seconds <= 1e6)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("{text:?} is not a number of seconds: use 0 to 1000000"))
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|duration| {
        if duration >= Duration::from_millis(1) {
            Ok(duration)
        } else {
            Err(format!("{text:?} seconds is too short: use 0.001 or more"))
        }
    })
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.001..=1e9).contains(rate))
        .ok_or_else(|| format!("{text:?} is not a rate: use 0.001 to 1e9 requests per second"))
}

fn value_size(text: &str) -> Result<usize, String> {
    const VALUE_SIZE_MAX: usize = 512 * 1024 * 1024;
    text.parse()
        .ok()
        .filter(|&size| size <= VALUE_SIZE_MAX)
        .ok_or_else(|| format!("{text:?} is not a value size: use 0 to {VALUE_SIZE_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Arguments, ArgumentsError, Route};

    fn parse(line: &str) -> Result<Arguments, String> {
        let words = format!("certus-bench {line}");
        Arguments::try_parse_from(words.split_whitespace()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_documented_flag_is_taken() {
        let arguments = parse(
            "--addr 127.0.0.1:7000,127.0.0.1:7001 --workload mixed:90 --clients 256 --depth 1 \
             --seconds 10 --warmup 2 --keys 100000 --value-size 128 --dist zipf:0.99 --json F \
             --hlog F --hgrm F --csv F --threads 2 --route spread --seed 3 --key-prefix k \
             --no-preload --verify --rate 1e4 --password p --quiet --interval 1",
        )
        .unwrap();
        assert_eq!(arguments.addr.len(), 2);
        assert_eq!(arguments.route, Some(Route::Spread));
        assert!(!arguments.preloads());
        assert_eq!(arguments.check(), Ok(()));
    }

    #[test]
    fn reads_preload_unless_told_otherwise() {
        assert!(parse("--addr a:1 --workload read").unwrap().preloads());
        assert!(!parse("--addr a:1 --workload write").unwrap().preloads());
        assert!(parse("--addr a:1 --workload cas --preload").unwrap().preloads());
    }

    #[test]
    fn wrong_values_are_named_with_a_remedy() {
        for (line, remedy) in [
            ("--addr a:1 --workload delete", "use write"),
            ("--addr a:1 --dist normal", "use uniform"),
            ("--addr a:1 --seconds 0", "use 0.001 or more"),
            ("--addr a:1 --seconds NaN", "use 0 to"),
            ("--addr a:1 --rate 0", "use 0.001 to"),
            ("--addr a:1 --keys 0", "0 is not in"),
            ("--addr a:1 --clients 0", "0 is not in"),
            ("--workload read", "--addr"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(remedy), "{line}: {error}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |line| parse(line).unwrap().check().unwrap_err();
        assert_eq!(
            check("--addr a:1 --threads 3 --clients 2"),
            ArgumentsError::IdleThreads { threads: 3, clients: 2 }
        );
        assert_eq!(
            check("--addr a:1 --clients 256 --connections 24"),
            ArgumentsError::UnevenConnections { clients: 256, connections: 24 }
        );
        assert_eq!(check("--addr a:1 --once"), ArgumentsError::OnceWithoutIncr);
        let error = check("--addr a:1 --verify --keys 11 --key-prefix k --value-size 8");
        assert_eq!(error, ArgumentsError::ValueTooSmall { size: 8, reason: "--verify", min: 29 });
        assert!(error.to_string().contains("use 29 or more"));
    }
}
