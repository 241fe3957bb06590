//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Runs a cluster of real nodes on this machine under random faults and load, and judges every
/// reply.
///
/// Exit status: 0 when nothing was wrong, 1 after a violation, 2 when the run proved nothing: a
/// fault that did not take effect, too few operations, or an environment in which it cannot run.
/// The last line is `operations=… unknown=… faults=… violations=…`.
#[derive(Clone, Debug, Parser)]
#[command(name = "certus-nemesis", version, args_override_self = true)]
pub struct Arguments {
    /// How long faults go on, in seconds; every kind asked for comes at least once, however long
    /// that takes.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=86_400))]
    pub seconds: u32,
    /// Decides which faults there are, in which order, and what clients ask. The time if not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many nodes: 3 survive the loss of one, 5 of two.
    #[arg(long, default_value_t = 3, value_parser = nodes)]
    pub nodes: u8,
    /// Which faults, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = FaultKind::value_variants().to_vec())]
    pub faults: Vec<FaultKind>,
    /// How many clients, each with one request out.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub clients: u16,
    /// Cores of each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub cores: u16,
    /// Fewer answers a second than this, over the whole run, prove nothing.
    #[arg(long, default_value_t = 100)]
    pub rate_min: u64,
    /// Where the files are meanwhile; a new directory in there is made, and removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub directory: PathBuf,
    /// Set for the process that does the work: the directory that is its own.
    #[arg(long, hide = true)]
    pub inner: Option<PathBuf>,
    /// For its own test: faults are announced and not done, so that the run must prove nothing.
    #[arg(long, hide = true)]
    pub pretend: bool,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum FaultKind {
    /// A node is ended with SIGKILL and started again.
    Kill,
    /// A node is stopped with SIGSTOP, and goes on.
    Pause,
    /// Links of a node are cut, stalled, slowed, or break in mid-frame.
    Partition,
    /// A node's clocks jump.
    Clock,
    /// A file of a node is damaged.
    Damage,
    /// A node's file system is full for a while.
    Full,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value().expect("no kind is skipped");
        formatter.write_str(value.get_name())
    }
}

fn nodes(text: &str) -> Result<u8, String> {
    match text {
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("choose 3 or 5".to_owned()),
    }
}
