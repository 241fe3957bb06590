//! What a worker tells the thread that collects the results.

use crate::tally::Tally;

/// Part of the run that an interval belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Stage {
    /// Shown, but not counted.
    WarmUp,
    /// Counted.
    Measured,
}

/// What a worker tells the thread that collects the results.
#[derive(Debug)]
pub enum Report {
    /// Its share of the keys is written.
    Preloaded,
    /// A second of the run is over.
    Interval {
        /// Part of the run.
        stage: Stage,
        /// Seconds since the beginning of that part.
        index: u64,
        /// What was counted in it.
        tally: Box<Tally>,
    },
    /// The worker is done; nothing follows.
    Finished {
        /// Requests of an open loop that were due and never started.
        unsent_count: u64,
        /// Requests still unanswered when the user stopped the run.
        unanswered_count: u64,
    },
    /// The worker cannot go on.
    Failed(String),
}
