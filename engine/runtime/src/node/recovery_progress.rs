//! Lines for whoever waits for a start that takes long.

use std::time::{Duration, Instant};

use crate::node::log_line;

/// Pause between two lines, and before the first.
const EVERY: Duration = Duration::from_secs(1);

/// How far reading some files is.
pub(super) struct Progress {
    what: &'static str,
    files: usize,
    next: Instant,
}

impl Progress {
    /// Reading so many files begins; `what` begins the lines.
    pub(super) fn begin(what: &'static str, files: usize) -> Self {
        Self { what, files, next: Instant::now() + EVERY }
    }

    /// Logs how far it is, if it is time for a line: files and bytes done, and how many `items`
    /// were found in them.
    pub(super) fn tell(&mut self, files_done: usize, bytes: u64, items: (&'static str, u64)) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        log_line::info(
            self.what,
            &[
                ("files_done", &files_done),
                ("files", &self.files),
                ("bytes", &bytes),
                (items.0, &items.1),
            ],
        );
    }
}
