//! What a run measured, with the settings it ran under.

use crate::operation::Operation;
use crate::tally::{OperationTally, Tally};

/// Which of its two latencies a histogram holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LatencyKind {
    /// From the write of a request to its reply.
    Service,
    /// From the intended start of a request to its reply.
    Response,
}

impl LatencyKind {
    /// Returns the name that a dump gives the latency of `operation`.
    pub fn tag(self, operation: Operation) -> String {
        match self {
            Self::Service => operation.name().to_owned(),
            Self::Response => format!("{}-response", operation.name()),
        }
    }
}

/// What a run measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Seconds measured.
    pub seconds: f64,
    /// What was counted in them.
    pub tally: Tally,
    /// Requests of an open loop that were due and never started.
    pub unsent_count: u64,
    /// Requests still unanswered when the user stopped the run.
    pub unanswered_count: u64,
}

impl Results {
    /// Returns all histograms that are not empty, with the name each goes by.
    pub fn histograms(&self) -> Vec<(String, &hdrhistogram::Histogram<u64>)> {
        histograms(&self.tally)
    }

    /// Returns the words of all errors, without repetition per operation.
    pub fn error_words(&self) -> impl Iterator<Item = &str> {
        self.tally.occurred().flat_map(|(_, tally)| tally.errors.keys().map(String::as_str))
    }
}

/// Returns all histograms of `tally` that are not empty, with the name each goes by.
pub fn histograms(tally: &Tally) -> Vec<(String, &hdrhistogram::Histogram<u64>)> {
    let kinds = [LatencyKind::Service, LatencyKind::Response];
    tally
        .occurred()
        .flat_map(|(operation, tally)| {
            kinds.map(|kind| (kind.tag(operation), histogram_of(tally, kind)))
        })
        .filter(|(_, histogram)| !histogram.is_empty())
        .collect()
}

/// Returns the histogram of one latency.
pub fn histogram_of(tally: &OperationTally, kind: LatencyKind) -> &hdrhistogram::Histogram<u64> {
    match kind {
        LatencyKind::Service => &tally.service,
        LatencyKind::Response => &tally.response,
    }
}
