//! Ratios between two results.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::json::{Document, Figures, Latencies, is_timed};

/// Why two results cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file cannot be read.
    #[error("cannot read {path:?} ({error}): give two files written with --json")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{path:?} is no result ({error}): give two files written with --json")]
    NoResult {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
}

/// A column: its heading and the figure in it.
type Column = (&'static str, fn(&Latencies) -> f64);

/// What is compared.
const COLUMNS: [Column; 7] = [
    ("rate/s", |latencies| latencies.rate_per_s),
    ("mean", |latencies| latencies.mean_us),
    ("p50", |latencies| latencies.p50_us),
    ("p90", |latencies| latencies.p90_us),
    ("p99", |latencies| latencies.p99_us),
    ("p99.9", |latencies| latencies.p999_us),
    ("max", |latencies| latencies.max_us),
];

/// Returns a table of both results and of the second divided by the first.
///
/// # Errors
///
/// Returns which file cannot be used.
pub fn compare(first: &Path, second: &Path) -> Result<String, CompareError> {
    let (one, two) = (load(first)?, load(second)?);
    let mut text = format!("A = {}\nB = {}\n{:>14}", first.display(), second.display(), "");
    for (heading, _) in COLUMNS {
        text.push_str(&format!(" {heading:>12}"));
    }
    let shared =
        one.operations.iter().filter(|(name, _)| is_timed(name)).filter_map(|(name, figures)| {
            Some((name.as_str(), figures, two.operations.get(name)?))
        });
    for (name, a, b) in shared.chain([("totals", &one.totals, &two.totals)]) {
        push_row(&mut text, &format!("{name} A"), a, |figure, _| format!("{figure:.1}"), a);
        push_row(&mut text, &format!("{name} B"), b, |figure, _| format!("{figure:.1}"), b);
        push_row(&mut text, &format!("{name} B/A"), b, ratio, a);
    }
    Ok(text)
}

fn load(path: &Path) -> Result<Document, CompareError> {
    let bytes = fs::read(path)
        .map_err(|error| CompareError::Unreadable { path: path.to_owned(), error })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CompareError::NoResult { path: path.to_owned(), error })
}

fn push_row(
    text: &mut String,
    name: &str,
    figures: &Figures,
    cell: fn(f64, f64) -> String,
    base: &Figures,
) {
    text.push_str(&format!("\n{name:<14}"));
    for (_, figure) in COLUMNS {
        text.push_str(&format!(" {:>12}", cell(figure(&figures.service), figure(&base.service))));
    }
}

fn ratio(figure: f64, base: f64) -> String {
    if base > 0.0 { format!("{:.3}", figure / base) } else { "-".to_owned() }
}
