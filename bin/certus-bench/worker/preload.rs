//! The keys that a worker writes before the run, so that reads find something.
//!
//! A key that could not be written is tried again until it is: a run whose keys are not all there
//! would measure something else. The run ends when no key at all was written for long.

use std::ops::Range;

use crate::clock::NANOS_PER_SECOND;

/// How long a preload may go without a single key written.
const PRELOAD_PATIENCE_NS: u64 = 30 * NANOS_PER_SECOND;

/// Keys that this worker still has to write before the run.
#[derive(Debug)]
pub(super) struct Preload {
    pub(super) next: u64,
    pub(super) end: u64,
    pub(super) retry: Vec<u64>,
    pub(super) in_flight_count: u64,
    pub(super) progress_ns: u64,
    last_error: String,
}

impl Preload {
    /// Returns the preload of `keys`, none of which is written.
    pub(super) fn new(keys: Range<u64>, now_ns: u64) -> Self {
        Self {
            next: keys.start,
            end: keys.end,
            retry: Vec::new(),
            in_flight_count: 0,
            progress_ns: now_ns,
            last_error: String::new(),
        }
    }

    /// Whether all keys are written.
    pub(super) fn is_complete(&self) -> bool {
        self.next == self.end && self.retry.is_empty() && self.in_flight_count == 0
    }

    /// Checks that keys are still being written.
    ///
    /// # Errors
    ///
    /// Says for how long none was, and the last reason.
    pub(super) fn check_progress(&self, now_ns: u64) -> Result<(), String> {
        if now_ns - self.progress_ns > PRELOAD_PATIENCE_NS {
            return Err(format!(
                "no key could be written for {} s before the run (last error: {}): make the \
                 server writable, or use --no-preload",
                PRELOAD_PATIENCE_NS / NANOS_PER_SECOND,
                if self.last_error.is_empty() { "none" } else { &self.last_error },
            ));
        }
        Ok(())
    }

    /// Takes note that a key was written.
    pub(super) fn note_written(&mut self, now_ns: u64) {
        self.in_flight_count -= 1;
        self.progress_ns = now_ns;
    }

    /// Takes note that a key was not written.
    pub(super) fn note_failed(&mut self, key_index: u64, error: String) {
        self.in_flight_count -= 1;
        self.retry.push(key_index);
        self.last_error = error;
    }
}
