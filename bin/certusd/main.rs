//! `certusd`: one node of a Certus cluster.
//!
//! ```text
//! certusd --config certusd.toml            start the node; SIGTERM or SIGINT stops it
//! certusd --config certusd.toml --check    check the file and print what it means
//! certusd --config certusd.toml --replace  make a new node in the place of a lost one
//! ```
//!
//! Exit statuses: 0 stopped on request, 2 wrong command line or configuration, 3 the machine lacks
//! something, 4 wrong or unusable data directory, 6 a disk operation failed, 7 a bug, 8 ended
//! by a second signal, 9 the node goes on elsewhere. See `runtime::node::fatal::ExitStatus`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use runtime::node::config::{Config, Override, environment_overrides};
use runtime::node::fatal::{ExitStatus, Fatal};
use runtime::node::log_line;
use runtime::node::start::{RunOptions, run_node};

/// A core makes and drops several small blocks for every message; this allocator does so in fewer
/// instructions than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One node of a Certus cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file (TOML); see certusd.example.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration, print it with all defaults as TOML, and exit.
    #[arg(long)]
    check: bool,
    /// Replaces the configuration key `data_directory`.
    #[arg(long, value_name = "DIRECTORY")]
    data_directory: Option<String>,
    /// Replaces the configuration key `node_id`.
    #[arg(long, value_name = "NUMBER")]
    node_id: Option<String>,
    /// The node's data is lost for good: make a new node in the empty data directory, which is
    /// rebuilt from the others. It waits until a majority of all nodes, itself not counted, knows
    /// it as a new one; what is left of the old one must not be used again. Once started so, it
    /// goes on without this option.
    #[arg(long)]
    replace: bool,
    /// Written, with the process id in it, when the node is ready; removed when it stops.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitStatus::Ok.into(),
        Err(fatal) => {
            if fatal.status != ExitStatus::Ok {
                fatal.report();
            }
            fatal.status.into()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fatal> {
    // A variable that is not Unicode cannot hold a value of ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let (mut overrides, unknown) = environment_overrides(environment);
    for name in unknown {
        log_line::warn("no configuration key has the name of this variable", &[("name", &name)]);
    }
    let flags = [("data_directory", &arguments.data_directory), ("node_id", &arguments.node_id)];
    for (key, value) in flags {
        if let Some(value) = value {
            overrides.push(Override {
                source_name: format!("--{}", key.replace('_', "-")),
                key: key.to_owned(),
                value: value.clone(),
            });
        }
    }
    let config = Config::load(&arguments.config, &overrides)
        .map_err(|error| Fatal::new(ExitStatus::Configuration, error))?;
    if arguments.check {
        return std::io::stdout().write_all(config.to_toml().as_bytes()).map_err(|error| {
            Fatal::new(ExitStatus::Io, format!("writing to standard output: {error}"))
        });
    }
    let options =
        RunOptions { ready_file: arguments.ready_file.clone(), replace: arguments.replace };
    run_node(&config, &options)
}
