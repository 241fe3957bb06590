//! What the program's exit status says.

use std::process::ExitCode;

/// How a command ended. The numbers are an interface: scripts test them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done; the cluster is healthy; the files are clean.
    Ok = 0,
    /// Not as it should be: a node did not start or stop, the cluster is degraded, a file is
    /// damaged.
    Degraded = 1,
    /// Nothing could be done or learned: wrong usage, nobody reached, no directory of a node.
    Failed = 2,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
