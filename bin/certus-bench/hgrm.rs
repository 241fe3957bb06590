//! The percentile distribution in the layout of HdrHistogram's `outputPercentileDistribution`,
//! which its plotters read.

use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

/// Steps per halving of the distance to 100 %, as the standard tools use.
const TICKS_PER_HALF_DISTANCE: u32 = 5;
/// Nanoseconds in the unit of the values, a millisecond.
const UNIT_NS: f64 = 1_000_000.0;

/// Returns the distribution of `histogram`, values in milliseconds.
pub fn render(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut total_count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total_count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / UNIT_NS;
        let quantile = step.quantile_iterated_to();
        text.push_str(&format!("{value:12.6} {quantile:2.12} {total_count:10}"));
        if quantile < 1.0 {
            text.push_str(&format!(" {:14.2}", 1.0 / (1.0 - quantile)));
        }
        text.push('\n');
    }
    let (mean, deviation) = (histogram.mean() / UNIT_NS, histogram.stdev() / UNIT_NS);
    let max = histogram.max() as f64 / UNIT_NS;
    let count = histogram.len();
    let buckets = histogram.buckets();
    let sub_buckets = 2 * 10_u32.pow(u32::from(histogram.sigfig())).next_power_of_two();
    text.push_str(&format!(
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {count:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n"
    ));
    text
}

/// Returns the file for the distribution `name` out of `count`: with more than one, the name goes
/// in front of the extension.
pub fn path_of(path: &Path, name: &str, count: usize) -> PathBuf {
    if count <= 1 {
        return path.to_owned();
    }
    match path.extension() {
        Some(extension) => path.with_extension(format!("{name}.{}", extension.to_string_lossy())),
        None => path.with_extension(name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hdrhistogram::Histogram;

    use super::{path_of, render};

    #[test]
    fn the_layout_is_the_standard_one() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in 1..=1000_u64 {
            histogram.record(value * 1_000_000).unwrap();
        }
        let text = render(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "    1.000447 0.000000000000          1           1.00");
        let last = lines[lines.len() - 4];
        assert!(last.ends_with("1.000000000000       1000"), "{last}");
        assert!(lines[lines.len() - 3].starts_with("#[Mean    =      500."), "{text}");
        assert!(lines[lines.len() - 2].contains("Total count    =         1000]"), "{text}");
        assert!(lines[lines.len() - 1].contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn several_operations_get_a_file_each() {
        let path = Path::new("/tmp/a.hgrm");
        assert_eq!(path_of(path, "GET", 1), path);
        assert_eq!(path_of(path, "GET", 2), Path::new("/tmp/a.GET.hgrm"));
        assert_eq!(path_of(Path::new("a"), "GET", 2), Path::new("a.GET"));
    }
}
