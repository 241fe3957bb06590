//! What the program's exit status says.

use std::process::ExitCode;

/// How a command ended. The numbers are an interface: scripts test them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done; the cluster is healthy; the log is clean.
    Ok = 0,
    /// Not as it should be: a node did not start or stop, the cluster is degraded, the log's last
    /// write was cut off.
    Degraded = 1,
    /// Nothing could be done or learned: wrong usage, nobody reached, a damaged log.
    Failed = 2,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
