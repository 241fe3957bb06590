//! The only place that writes to the terminal.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints lines; a reader that went away (`| head`) silences it, and does not end the command.
#[derive(Debug, Default)]
pub struct Console {
    is_closed: bool,
}

impl Console {
    /// Prints one line, or several in one text, to standard output.
    pub fn line(&mut self, line: impl Display) {
        if !self.is_closed && writeln!(io::stdout().lock(), "{line}").is_err() {
            self.is_closed = true;
        }
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// Prints what went wrong on standard error.
pub fn complain(reason: impl Display) {
    // With standard error gone too there is nobody left to tell; the exit status still speaks.
    drop(writeln!(io::stderr().lock(), "certus: {reason}"));
}
