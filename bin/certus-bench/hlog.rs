//! The interval log: what HdrHistogram's own tools read, one tagged line per operation and second.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::results::histograms;
use crate::tally::Tally;

/// Divides the nanoseconds of the histograms for the column that people read: milliseconds.
const MAX_VALUE_DIVISOR: f64 = 1_000_000.0;

/// An interval log that grows while the run lasts.
#[derive(Debug)]
pub struct IntervalLog<W: Write> {
    writer: W,
    has_header: bool,
}

impl<W: Write> IntervalLog<W> {
    /// Returns a log without any line.
    pub fn new(writer: W) -> Self {
        Self { writer, has_header: false }
    }

    /// Appends one interval that began `begin` after the start of measuring.
    ///
    /// # Errors
    ///
    /// Returns why the lines could not be written.
    pub fn append(&mut self, begin: Duration, length: Duration, tally: &Tally) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(MAX_VALUE_DIVISOR);
        if !self.has_header {
            let start = SystemTime::now() - (begin + length);
            builder.add_comment("certus-bench: latencies in nanoseconds, maxima in milliseconds");
            builder.with_start_time(start).with_base_time(start);
        }
        let mut log = builder.begin_log_with(&mut lines, &mut serializer)?;
        for (name, histogram) in histograms(tally) {
            log.write_histogram(histogram, begin, length, Tag::new(&name))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
        drop(log);
        self.writer.write_all(if self.has_header { without_header(&lines) } else { &lines })?;
        self.has_header = true;
        Ok(())
    }

    /// Makes sure that everything has left the buffers.
    ///
    /// # Errors
    ///
    /// Returns why it could not be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The library begins every log with comments; those in the middle of one are cut off.
fn without_header(lines: &[u8]) -> &[u8] {
    let mut rest = lines;
    while matches!(rest.first(), Some(b'#' | b'"')) {
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::IntervalLog;
    use crate::operation::Operation;
    use crate::tally::{Tally, record_ns};

    #[test]
    fn the_log_is_read_back_with_its_tags() {
        let mut tally = Tally::default();
        record_ns(&mut tally.of_mut(Operation::Get).service, 1_000_000);
        record_ns(&mut tally.of_mut(Operation::Set).service, 2_000_000);
        let mut log = IntervalLog::new(Vec::new());
        for second in 0..2 {
            log.append(Duration::from_secs(second), Duration::from_secs(1), &tally).unwrap();
        }
        log.finish().unwrap();
        let entries: Vec<_> =
            IntervalLogIterator::new(&log.writer).collect::<Result<_, _>>().unwrap();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some((
                    interval.tag().unwrap().as_str(),
                    interval.start_timestamp().as_secs(),
                    interval.max(),
                )),
                _ => None,
            })
            .collect();
        let tags: Vec<_> = intervals.iter().map(|interval| (interval.0, interval.1)).collect();
        assert_eq!(tags, [("GET", 0), ("SET", 0), ("GET", 1), ("SET", 1)]);
        assert!((intervals[0].2 - 1.0).abs() < 0.01, "{intervals:?}");
        let text = String::from_utf8_lossy(&log.writer);
        assert_eq!(text.matches("StartTime").count(), 1 + text.matches("StartTimestamp").count());
    }
}
