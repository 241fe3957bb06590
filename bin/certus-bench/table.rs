//! The results as an aligned table.

use std::fmt::Write;

use crate::operation::Operation;
use crate::results::{LatencyKind, Results, histogram_of};
use crate::tally::{OperationTally, Summary};

/// Columns of the table.
const HEADER: [&str; 10] =
    ["", "count", "rate/s", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// Returns the table of `results`, then the errors, one per line.
pub fn render(results: &Results) -> String {
    let total = results.tally.total();
    let mut text = String::new();
    let is_open_loop = !total.response.is_empty();
    let service_title =
        if is_open_loop { "service time (from sending), µs" } else { "latency, µs" };
    render_latencies(&mut text, results, &total, LatencyKind::Service, service_title);
    if is_open_loop {
        let title = "response time (from the intended start), µs";
        render_latencies(&mut text, results, &total, LatencyKind::Response, title);
    }
    if results.unsent_count > 0 {
        push_line(
            &mut text,
            &format!(
                "{} requests were due and never started: the server cannot hold this rate",
                results.unsent_count
            ),
        );
    }
    if results.unanswered_count > 0 {
        let count = results.unanswered_count;
        push_line(&mut text, &format!("{count} requests were unanswered when the run was stopped"));
    }
    render_outcomes(&mut text, results, &total);
    text.truncate(text.trim_end().len());
    text
}

fn render_latencies(
    text: &mut String,
    results: &Results,
    total: &OperationTally,
    kind: LatencyKind,
    title: &str,
) {
    let mut rows = vec![HEADER.map(str::to_owned)];
    let operations: Vec<_> =
        results.tally.occurred().filter(|(operation, _)| *operation != Operation::Setup).collect();
    for (operation, tally) in &operations {
        rows.push(row(operation.name(), tally, kind, results.seconds));
    }
    if operations.len() != 1 {
        rows.push(row("total", total, kind, results.seconds));
    }
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    push_line(text, title);
    for row in rows {
        let mut line = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            push(&mut line, format_args!("  {cell:>width$}"));
        }
        push_line(text, &line);
    }
}

fn row(name: &str, tally: &OperationTally, kind: LatencyKind, seconds: f64) -> [String; 10] {
    let summary = Summary::new(histogram_of(tally, kind), seconds);
    let us = |value: f64| format!("{value:.1}");
    [
        name.to_owned(),
        summary.count.to_string(),
        format!("{:.0}", summary.rate_per_s),
        us(summary.mean_us),
        us(summary.p50_us),
        us(summary.p90_us),
        us(summary.p99_us),
        us(summary.p999_us),
        us(summary.p9999_us),
        us(summary.max_us),
    ]
}

fn render_outcomes(text: &mut String, results: &Results, total: &OperationTally) {
    if total.missing > 0 {
        push_line(text, &format!("{} reads found no value", total.missing));
    }
    if total.cas_lost > 0 {
        push_line(text, &format!("{} compare-and-sets lost their race", total.cas_lost));
    }
    if total.error_count() == 0 {
        push_line(text, "no errors");
        return;
    }
    push_line(text, "errors");
    for (operation, tally) in results.tally.occurred() {
        for (word, error) in &tally.errors {
            let name = operation.name();
            push_line(
                text,
                &format!("  {name:<5}  {word:<12}  {:>10}  first: {}", error.count, error.example),
            );
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    push(text, format_args!("{line}\n"));
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::operation::Operation;
    use crate::results::Results;
    use crate::tally::record_ns;

    #[test]
    fn columns_line_up_and_errors_are_named() {
        let mut results = Results { seconds: 2.0, ..Results::default() };
        for operation in [Operation::Get, Operation::Set] {
            let tally = results.tally.of_mut(operation);
            record_ns(&mut tally.service, 1_000_000);
            tally.count_error("BUSY", "BUSY queue full");
        }
        let text = render(&results);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "latency, µs");
        assert!(lines[2].starts_with("  GET "), "{text}");
        assert!(lines[4].starts_with("  total"), "{text}");
        assert!((1..5).all(|line| lines[line].len() == lines[1].len()), "{text}");
        assert!(lines[6].contains("GET") && lines[6].contains("first: BUSY queue full"), "{text}");
    }
}
