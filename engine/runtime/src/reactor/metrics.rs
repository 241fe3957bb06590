//! Where a request's time goes on one core, and how much is done per system call.
//!
//! Histograms cover 1 µs to 60 s with two significant digits, which keeps each small enough to stay
//! in the cache while it is recorded into. Times are taken once per turn, not per request: a turn
//! is shorter than what the histograms are there to show.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// Longest time a histogram tells apart, in microseconds.
const TIME_MAX_US: u64 = 60_000_000;

/// Counters and histograms of one core, since its start.
#[derive(Debug)]
pub struct Metrics {
    /// From parsing a request that may write to its reply standing in the output, in µs.
    pub write_us: Histogram<u64>,
    /// From parsing a read to its reply standing in the output, in µs.
    pub read_us: Histogram<u64>,
    /// From sending a request to another core to that core taking it, in µs.
    pub mesh_us: Histogram<u64>,
    /// From somebody waiting for a write of the log to all of it being durable, in µs: the time in
    /// line and the write itself. Records that nobody waits for begin when they must be written.
    pub commit_us: Histogram<u64>,
    /// From submitting a write to the log to its completion, in µs.
    pub log_write_us: Histogram<u64>,
    /// From submitting a read of the log to its completion, in µs.
    pub log_read_us: Histogram<u64>,
    /// From submitting a write to a checkpoint to its completion, in µs.
    pub checkpoint_write_us: Histogram<u64>,
    /// From a checkpoint's first write to its adoption, in µs.
    pub checkpoint_us: Histogram<u64>,
    /// What freeing a segment's file takes, in µs.
    pub free_us: Histogram<u64>,
    /// From the first read of a cold entity being asked for to its being served, in µs.
    pub load_us: Histogram<u64>,
    /// What a turn takes without waiting, in µs.
    pub turn_us: Histogram<u64>,
    /// Completions that a turn processes.
    pub turn_completions: Histogram<u64>,
    /// Bytes of one write to the log.
    pub log_write_bytes: Histogram<u64>,
    /// Records of one write to the log.
    pub log_write_records: Histogram<u64>,
    /// Plain counters.
    pub counters: Counters,
}

/// Things that happened on one core, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Turns of the loop.
    pub turns: u64,
    /// Client requests parsed.
    pub requests: u64,
    /// Bytes received from clients.
    pub client_bytes_in: u64,
    /// Bytes sent to clients.
    pub client_bytes_out: u64,
    /// Sends to clients.
    pub client_sends: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Client connections refused because there were too many.
    pub refused_connections: u64,
    /// Client connections closed for what they sent.
    pub protocol_errors: u64,
    /// Client connections closed because they left too many replies unread.
    pub output_overflows: u64,
    /// Client connections closed because they were idle.
    pub idle_closed: u64,
    /// Times a client's socket was left unread until its earlier requests were answered.
    pub paused: u64,
    /// Times the pool of receive buffers was empty.
    pub out_of_buffers: u64,
    /// Requests sent to other cores.
    pub mesh_requests: u64,
    /// Frames sent to peers.
    pub peer_frames_out: u64,
    /// Messages sent to peers.
    pub peer_messages_out: u64,
    /// Bytes sent to peers.
    pub peer_bytes_out: u64,
    /// Frames received from peers.
    pub peer_frames_in: u64,
    /// Messages received from peers.
    pub peer_messages_in: u64,
    /// Bytes received from peers.
    pub peer_bytes_in: u64,
    /// Messages to peers dropped: link down, or its buffer full.
    pub peer_dropped: u64,
    /// Messages of peers for entities that another core owns; dropped.
    pub peer_misrouted: u64,
    /// Reads of the log that failed twice.
    pub log_reads_failed: u64,
    /// Spare segments that could not be made for lack of space.
    pub spares_failed: u64,
    /// Commits of the log that took longer than `log.slow_operation_ms`.
    pub slow_commits: u64,
    /// Writes to the log that did.
    pub slow_writes: u64,
    /// Reads of the log that did.
    pub slow_reads: u64,
    /// Loads of entities that did.
    pub slow_loads: u64,
}

fn times() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1, TIME_MAX_US, 2).expect("the bounds are in order");
    histogram.auto(false);
    histogram
}

fn sizes() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 32, 2).expect("the bounds are in order")
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            write_us: times(),
            read_us: times(),
            mesh_us: times(),
            commit_us: times(),
            log_write_us: times(),
            log_read_us: times(),
            checkpoint_write_us: times(),
            checkpoint_us: times(),
            free_us: times(),
            load_us: times(),
            turn_us: times(),
            turn_completions: sizes(),
            log_write_bytes: sizes(),
            log_write_records: sizes(),
            counters: Counters::default(),
        }
    }
}

impl Metrics {
    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let counters = &self.counters;
        let stages = [
            ("write_us", &self.write_us),
            ("read_us", &self.read_us),
            ("mesh_us", &self.mesh_us),
            ("commit_us", &self.commit_us),
            ("log_write_us", &self.log_write_us),
            ("log_read_us", &self.log_read_us),
            ("checkpoint_write_us", &self.checkpoint_write_us),
            ("checkpoint_us", &self.checkpoint_us),
            ("free_us", &self.free_us),
            ("load_us", &self.load_us),
            ("turn_us", &self.turn_us),
            ("turn_completions", &self.turn_completions),
            ("log_write_bytes", &self.log_write_bytes),
            ("log_write_records", &self.log_write_records),
        ];
        let stages: Map<String, Value> = stages
            .into_iter()
            .map(|(name, histogram)| (name.to_owned(), summary(histogram)))
            .collect();
        let counters = named(&[
            ("turns", counters.turns),
            ("requests", counters.requests),
            ("client_bytes_in", counters.client_bytes_in),
            ("client_bytes_out", counters.client_bytes_out),
            ("client_sends", counters.client_sends),
            ("accepted", counters.accepted),
            ("refused_connections", counters.refused_connections),
            ("protocol_errors", counters.protocol_errors),
            ("output_overflows", counters.output_overflows),
            ("idle_closed", counters.idle_closed),
            ("paused", counters.paused),
            ("out_of_buffers", counters.out_of_buffers),
            ("mesh_requests", counters.mesh_requests),
            ("peer_frames_out", counters.peer_frames_out),
            ("peer_messages_out", counters.peer_messages_out),
            ("peer_bytes_out", counters.peer_bytes_out),
            ("peer_frames_in", counters.peer_frames_in),
            ("peer_messages_in", counters.peer_messages_in),
            ("peer_bytes_in", counters.peer_bytes_in),
            ("peer_dropped", counters.peer_dropped),
            ("peer_misrouted", counters.peer_misrouted),
            ("log_reads_failed", counters.log_reads_failed),
            ("spares_failed", counters.spares_failed),
            ("slow_commits", counters.slow_commits),
            ("slow_writes", counters.slow_writes),
            ("slow_reads", counters.slow_reads),
            ("slow_loads", counters.slow_loads),
        ]);
        json!({ "stages": stages, "counters": counters })
    }
}

/// Numbers by name, as JSON.
#[must_use]
pub fn named(numbers: &[(&str, u64)]) -> Value {
    numbers.iter().map(|(name, number)| ((*name).to_owned(), Value::from(*number))).collect()
}

/// Records `value`; one beyond the histogram's range counts as its end.
pub fn record(histogram: &mut Histogram<u64>, value: u64) {
    histogram.saturating_record(value);
}

fn summary(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(),
        "mean": histogram.mean(),
        "p50": histogram.value_at_quantile(0.5),
        "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Metrics, TIME_MAX_US, record};

    #[test]
    fn times_beyond_the_range_count_as_its_end() {
        let mut metrics = Metrics::default();
        record(&mut metrics.write_us, 0);
        record(&mut metrics.write_us, 100);
        record(&mut metrics.write_us, TIME_MAX_US * 1000);
        let json = metrics.json();
        let summary = &json["stages"]["write_us"];
        assert_eq!(summary["count"], 3);
        assert!(summary["max"].as_u64().unwrap() >= TIME_MAX_US);
        assert_eq!(summary["p50"], 100);
    }
}
