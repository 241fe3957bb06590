//! The results as CSV.

use crate::json::{Latencies, figures};
use crate::results::Results;

/// Returns the results as CSV: a header, one row per operation, and the totals.
///
/// Errors stand in one field as `WORD=COUNT`, separated by spaces.
pub fn render(results: &Results) -> String {
    let mut text = "operation,latency,count,rate_per_s,mean_us,p50_us,p90_us,p99_us,p999_us,\
                    p9999_us,max_us,errors,cas_lost,missing\n"
        .to_owned();
    let total = results.tally.total();
    let operations = results.tally.occurred().map(|(operation, tally)| (operation.name(), tally));
    for (name, tally) in operations.chain([("total", &total)]) {
        let figures = figures(tally, results.seconds);
        let errors: Vec<String> =
            figures.errors.iter().map(|(word, count)| format!("{word}={count}")).collect();
        // An error word is what a server sent; a quote or a comma in it must not break the row.
        let errors = errors.join(" ").replace('"', "\"\"");
        let mut push = |kind: &str, latencies: Latencies| {
            let Latencies { count, rate_per_s, mean_us, p50_us, p90_us, .. } = latencies;
            let Latencies { p99_us, p999_us, p9999_us, max_us, .. } = latencies;
            let (cas_lost, missing) = (figures.cas_lost, figures.missing);
            text.push_str(&format!(
                "{name},{kind},{count},{rate_per_s:.3},{mean_us:.3},{p50_us:.3},{p90_us:.3},\
                 {p99_us:.3},{p999_us:.3},{p9999_us:.3},{max_us:.3},\"{errors}\",{cas_lost},\
                 {missing}\n"
            ));
        };
        push("service", figures.service);
        if let Some(response) = figures.response {
            push("response", response);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::operation::Operation;
    use crate::results::Results;
    use crate::tally::record_ns;

    #[test]
    fn csv_has_a_row_per_operation() {
        let mut results = Results { seconds: 1.0, ..Results::default() };
        let tally = results.tally.of_mut(Operation::Set);
        record_ns(&mut tally.service, 5000);
        tally.count_error("CLUSTERDOWN", "CLUSTERDOWN no majority");
        let text = render(&results);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[1].starts_with("SET,service,1,1.000,"), "{text}");
        assert!(rows[1].contains("\"CLUSTERDOWN=1\""), "{text}");
        assert!(rows.iter().all(|row| row.split(',').count() == 14), "{text}");
    }
}
