//! How the daemon ends: one line that says why, and an exit status that a supervisor can act on.
//!
//! A supervisor that restarts blindly turns a clear refusal into a loop, and hides a damaged disk.
//! So every class of end has a number of its own, stable across versions.

use std::fmt;
use std::process::ExitCode;

use crate::node::log_line;

/// Exit statuses of `certusd`. The numbers are an interface: supervisors and scripts test them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum ExitStatus {
    /// Stopped on request, with everything answered and durable.
    Ok = 0,
    /// The command line, the environment or the configuration file is wrong. Restarting is
    /// pointless until it is edited.
    Configuration = 2,
    /// The machine lacks something: io_uring, a limit, space, a free port. Nothing was changed.
    Preflight = 3,
    /// The data directory is locked, foreign, of another shape or unreadable. Nothing was changed.
    DataDirectory = 4,
    // 5 was a damaged log, which no longer keeps a node from starting.
    /// A read, write or sync failed while running. The disk needs a look before a restart.
    Io = 6,
    /// A bug: an assertion failed or a thread panicked.
    Bug = 7,
    /// A second signal came while the node was still stopping.
    Interrupted = 8,
    /// The node goes on as a later generation elsewhere. This process and its data directory must
    /// not be started again.
    Superseded = 9,
}

impl ExitStatus {
    /// The number handed to the parent process.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Why the node cannot start or go on: what is printed after `certusd: fatal: `, and the status.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// What the process exits with.
    pub status: ExitStatus,
    /// One line: what happened, to what, and the remedy.
    pub message: String,
}

impl Fatal {
    /// Ends with `status`, saying `message`.
    pub fn new(status: ExitStatus, message: impl fmt::Display) -> Self {
        Self { status, message: message.to_string() }
    }

    /// Prints the one line every end leaves behind.
    pub fn report(&self) {
        log_line::raw(&format!("certusd: fatal: {}", one_line(&self.message)));
    }
}

/// From now on a panic of any thread ends the process with [`ExitStatus::Bug`], after one line.
///
/// An executor survives the panic of one of its tasks, and a process survives the panic of one of
/// its threads; a node that lost a core but goes on answering from the others is neither up nor
/// down, so none of that is let happen.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let place = panic.location().map_or_else(
            || "an unknown place".to_owned(),
            |place| format!("{}:{}", place.file(), place.line()),
        );
        let what = panic.payload_as_str().unwrap_or("a panic without a message");
        log_line::raw(&format!(
            "certusd: fatal: bug: thread {name} panicked at {place}: {}; please report this line \
             with the log before it",
            one_line(what)
        ));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            log_line::raw(&trace.to_string());
        }
        std::process::exit(i32::from(ExitStatus::Bug.code()));
    }));
}

/// `text` without line ends, so that one event stays one line.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::{ExitStatus, Fatal, one_line};

    #[test]
    fn exit_statuses_are_distinct_and_never_the_shells_own() {
        let all = [
            ExitStatus::Ok,
            ExitStatus::Configuration,
            ExitStatus::Preflight,
            ExitStatus::DataDirectory,
            ExitStatus::Io,
            ExitStatus::Bug,
            ExitStatus::Interrupted,
        ];
        for pair in all.windows(2) {
            assert!(pair[0].code() < pair[1].code());
        }
        assert!(all.iter().all(|status| status.code() != 1 && status.code() < 126));
    }

    #[test]
    fn a_fatal_message_stays_on_one_line() {
        assert_eq!(one_line("first\n  second\r\n"), "first; second");
        assert_eq!(Fatal::new(ExitStatus::Io, "disk").to_string(), "disk");
    }
}
