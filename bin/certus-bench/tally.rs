//! What was counted: latencies, errors and outcomes per operation.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::operation::Operation;

/// Longest latency told apart, in nanoseconds: one hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of a recorded latency.
const LATENCY_DIGITS: u8 = 3;

/// Errors with one first word.
#[derive(Clone, Debug, Default)]
pub struct ErrorCount {
    /// How many.
    pub count: u64,
    /// Full text of the first one.
    pub example: String,
}

/// What was counted of one operation.
#[derive(Clone, Debug)]
pub struct OperationTally {
    /// From the write of a request to its reply, in nanoseconds; errors are not in it.
    pub service: Histogram<u64>,
    /// From the intended start of a request to its reply; empty in a closed loop, where a request
    /// is intended when it is sent.
    pub response: Histogram<u64>,
    /// Errors by first word.
    pub errors: BTreeMap<String, ErrorCount>,
    /// Compare-and-set requests that found another value than they expected.
    pub cas_lost: u64,
    /// Reads that found no value.
    pub missing: u64,
}

impl OperationTally {
    /// Returns the sum of all errors.
    pub fn error_count(&self) -> u64 {
        self.errors.values().map(|error| error.count).sum()
    }

    /// Whether nothing was counted at all.
    pub fn is_empty(&self) -> bool {
        self.service.is_empty() && self.errors.is_empty()
    }

    /// Counts one error under its first `word`.
    pub fn count_error(&mut self, word: &str, text: &str) {
        if let Some(error) = self.errors.get_mut(word) {
            error.count += 1;
        } else {
            let error = ErrorCount { count: 1, example: text.to_owned() };
            self.errors.insert(word.to_owned(), error);
        }
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in
            [(&mut self.service, &other.service), (&mut self.response, &other.response)]
        {
            sum.add(part).expect("an auto-resizing histogram takes every value of its like");
        }
        for (word, error) in &other.errors {
            let sum = self.errors.entry(word.clone()).or_default();
            sum.count += error.count;
            if sum.example.is_empty() {
                sum.example.clone_from(&error.example);
            }
        }
        self.cas_lost += other.cas_lost;
        self.missing += other.missing;
    }
}

impl Default for OperationTally {
    fn default() -> Self {
        Self {
            service: latency_histogram(),
            response: latency_histogram(),
            errors: BTreeMap::new(),
            cas_lost: 0,
            missing: 0,
        }
    }
}

/// What was counted of all operations.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    operations: [OperationTally; Operation::ALL.len()],
}

impl Tally {
    /// Returns what was counted of `operation`.
    pub fn of(&self, operation: Operation) -> &OperationTally {
        &self.operations[operation.index()]
    }

    /// Returns what was counted of `operation`, to count more.
    pub fn of_mut(&mut self, operation: Operation) -> &mut OperationTally {
        &mut self.operations[operation.index()]
    }

    /// Returns the operations that occurred, in the order of the results.
    pub fn occurred(&self) -> impl Iterator<Item = (Operation, &OperationTally)> {
        Operation::ALL
            .into_iter()
            .map(|operation| (operation, self.of(operation)))
            .filter(|(_, tally)| !tally.is_empty())
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        for operation in Operation::ALL {
            self.of_mut(operation).add(other.of(operation));
        }
    }

    /// Returns all operations in one.
    pub fn total(&self) -> OperationTally {
        let mut total = OperationTally::default();
        for (_, tally) in self.occurred() {
            total.add(tally);
        }
        total
    }
}

/// Records a latency of `latency_ns`.
pub fn record_ns(histogram: &mut Histogram<u64>, latency_ns: u64) {
    histogram
        .record(latency_ns.clamp(1, LATENCY_NS_MAX))
        .expect("an auto-resizing histogram takes values up to an hour");
}

fn latency_histogram() -> Histogram<u64> {
    Histogram::new(LATENCY_DIGITS).expect("three digits are within what a histogram can keep")
}

/// The figures of one histogram, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many latencies.
    pub count: u64,
    /// Latencies per second of the measured time.
    pub rate_per_s: f64,
    /// Their mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// 99.99th percentile.
    pub p9999_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Summary {
    /// Returns the figures of `histogram`, recorded over `seconds`.
    pub fn new(histogram: &Histogram<u64>, seconds: f64) -> Self {
        // An empty histogram answers with zeros.
        let quantile_us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let rate = histogram.len() as f64 / seconds;
        Self {
            count: histogram.len(),
            rate_per_s: if rate.is_finite() { rate } else { 0.0 },
            mean_us: histogram.mean() / 1e3,
            p50_us: quantile_us(0.5),
            p90_us: quantile_us(0.9),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            p9999_us: quantile_us(0.9999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Summary, Tally, record_ns};
    use crate::operation::Operation;

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally::default();
        for thread in 1..=2 {
            let mut part = Tally::default();
            record_ns(&mut part.of_mut(Operation::Get).service, thread * 1000);
            part.of_mut(Operation::Set).count_error("BUSY", "BUSY queue full");
            sum.add(&part);
        }
        assert_eq!(sum.occurred().count(), 2);
        assert_eq!(sum.of(Operation::Set).errors["BUSY"].count, 2);
        let total = sum.total();
        assert_eq!((total.service.len(), total.error_count()), (2, 2));
        let summary = Summary::new(&total.service, 2.0);
        assert!((summary.rate_per_s - 1.0).abs() < 1e-9);
        assert!((summary.mean_us - 1.5).abs() < 0.01);
    }

    #[test]
    fn latencies_out_of_range_are_kept_at_the_edge() {
        let mut tally = Tally::default();
        let histogram = &mut tally.of_mut(Operation::Get).service;
        record_ns(histogram, 0);
        record_ns(histogram, u64::MAX);
        assert_eq!(histogram.len(), 2);
    }

    #[test]
    fn nothing_measured_gives_zeros() {
        let summary = Summary::new(&Tally::default().total().service, 0.0);
        assert_eq!((summary.count, summary.rate_per_s, summary.max_us), (0, 0.0, 0.0));
    }
}
