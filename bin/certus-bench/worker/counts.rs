//! What a worker counts: which requests belong to the part of the run that is counted now, how many
//! of them have no reply yet, and what became of the others.

use std::mem;

use crate::arguments::Arguments;
use crate::connection::{Purpose, Request};
use crate::reply::error_word;
use crate::tally::{Tally, record_ns};

/// What one worker has counted since its last report.
#[derive(Debug)]
pub(super) struct Counts {
    /// Whether requests are intended at times of their own, whatever the replies do.
    is_open_loop: bool,
    tally: Tally,
    /// Requests intended before this are not counted.
    counted_from_ns: u64,
    measured_in_flight: u64,
}

/// What a reply that is no error may say besides the latency.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// What was asked was done.
    Done,
    /// The key has no value.
    Missing,
    /// A compare-and-set found another value than it expected.
    Lost,
}

impl Counts {
    /// Returns counts of nothing; everything is counted until the measured part begins.
    pub(super) fn new(arguments: &Arguments) -> Self {
        Self {
            is_open_loop: arguments.rate.is_some(),
            tally: Tally::default(),
            counted_from_ns: 0,
            measured_in_flight: 0,
        }
    }

    /// Counts only what is intended from now on, `begin_ns`.
    pub(super) fn begin_measured(&mut self, begin_ns: u64) {
        self.counted_from_ns = begin_ns;
        // What is in flight now was intended before, and leaves no trace.
        self.measured_in_flight = 0;
    }

    /// Returns how many counted requests have no reply yet.
    pub(super) fn in_flight_count(&self) -> u64 {
        self.measured_in_flight
    }

    /// Returns what was counted, and begins anew.
    pub(super) fn take_tally(&mut self) -> Tally {
        mem::take(&mut self.tally)
    }

    /// Whether `request` belongs to the part of the run that is counted now.
    fn is_counted(&self, request: &Request) -> bool {
        request.intended_ns >= self.counted_from_ns
    }

    /// Counts that `request` was issued.
    pub(super) fn count_issued(&mut self, request: &Request) {
        if !matches!(request.purpose, Purpose::Preload) && self.is_counted(request) {
            self.measured_in_flight += 1;
        }
    }

    /// Counts a reply to `request` that is no error and came at `now_ns`.
    pub(super) fn count_reply(&mut self, request: &Request, outcome: Outcome, now_ns: u64) {
        if !self.is_counted(request) {
            return;
        }
        self.measured_in_flight -= 1;
        let tally = self.tally.of_mut(request.operation);
        record_ns(&mut tally.service, now_ns - request.sent_ns(now_ns));
        if self.is_open_loop {
            let latency_ns = now_ns.saturating_sub(request.intended_ns);
            record_ns(&mut tally.response, latency_ns);
        }
        tally.missing += u64::from(outcome == Outcome::Missing);
        tally.cas_lost += u64::from(outcome == Outcome::Lost);
    }

    /// Counts the error reply `text` to `request`.
    pub(super) fn count_reply_error(&mut self, request: &Request, text: &[u8]) {
        let word = String::from_utf8_lossy(error_word(text)).into_owned();
        self.count_error(request, &word, &String::from_utf8_lossy(text));
    }

    /// Counts an error of `request`: its first `word` and its full `text`.
    pub(super) fn count_error(&mut self, request: &Request, word: &str, text: &str) {
        let is_setup = request.purpose == Purpose::Setup;
        if !is_setup && !self.is_counted(request) {
            return;
        }
        if !is_setup {
            self.measured_in_flight -= 1;
        }
        self.tally.of_mut(request.operation).count_error(word, text);
    }
}
