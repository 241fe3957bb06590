//! The only place that writes to the terminal.

use std::io::{self, Write};

/// Prints lines; a reader that went away (`| head`) silences it, and does not end the run.
#[derive(Debug, Default)]
pub struct Console {
    is_closed: bool,
}

impl Console {
    /// Prints one line, or several in one string, to standard output.
    pub fn line(&mut self, line: &str) {
        if !self.is_closed && writeln!(io::stdout().lock(), "{line}").is_err() {
            self.is_closed = true;
        }
    }
}

/// Prints why the program ends, as one line on standard error.
pub fn complain(reason: &str) {
    // With standard error gone too there is nobody left to tell; the exit status still speaks.
    drop(writeln!(io::stderr().lock(), "certus-bench: {reason}"));
}
