//! Latency over percentile as an SVG picture: logarithmic upwards, and to the right one more nine
//! per step, so that the tail is not squeezed into the edge.

use hdrhistogram::Histogram;

/// Size of the picture.
const WIDTH: f64 = 760.0;
/// Size of the picture.
const HEIGHT: f64 = 420.0;
/// Room for the labels.
const MARGIN: f64 = 56.0;
/// Steps to the right: 0 %, 90 %, 99 %, 99.9 %, 99.99 %, 99.999 %.
const NINES: u32 = 5;
/// Line colours, told apart with any colour vision.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Returns the picture of `histograms`, one line each.
pub fn render(histograms: &[(String, &Histogram<u64>)]) -> String {
    let min_ns = histograms.iter().map(|(_, histogram)| histogram.min()).min().unwrap_or(1);
    let max_ns = histograms.iter().map(|(_, histogram)| histogram.max()).max().unwrap_or(1);
    let low = (min_ns.max(1) as f64).log10().floor();
    let high = (max_ns.max(1) as f64).log10().ceil().max(low + 1.0);
    let x = |nines: f64| MARGIN + nines / f64::from(NINES) * (WIDTH - 2.0 * MARGIN);
    let y = |ns: f64| {
        HEIGHT - MARGIN - (ns.max(1.0).log10() - low) / (high - low) * (HEIGHT - 2.0 * MARGIN)
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (left, right) = (x(0.0), x(f64::from(NINES)));
    let mut power = low;
    while power <= high {
        let height = y(10_f64.powf(power));
        let label = latency_label(10_f64.powf(power));
        text.push_str(&format!(
            "<path d=\"M{left} {height:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n",
            left - 6.0,
            height + 4.0,
        ));
        power += 1.0;
    }
    for nines in 0..=NINES {
        let across = x(f64::from(nines));
        let percentile = 100.0 * (1.0 - 0.1_f64.powi(i32::try_from(nines).unwrap_or(0)));
        let digits = usize::try_from(nines.saturating_sub(2)).unwrap_or(0);
        text.push_str(&format!(
            "<path d=\"M{across:.1} {MARGIN}V{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{percentile:.digits$}%\
             </text>\n",
            HEIGHT - MARGIN,
            HEIGHT - MARGIN + 18.0,
        ));
    }
    for (index, (name, histogram)) in histograms.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<String> = (0..=NINES * 40)
            .map(|step| f64::from(step) / 40.0)
            .map(|nines| {
                let ns = histogram.value_at_quantile(1.0 - 0.1_f64.powf(nines)) as f64;
                format!("{:.1},{:.1}", x(nines), y(ns))
            })
            .collect();
        text.push_str(&format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>\n",
            points.join(" "),
            left + 12.0 + 130.0 * index as f64,
            MARGIN - 16.0,
        ));
    }
    text.push_str("</svg>\n");
    text
}

fn latency_label(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.0} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.0} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.0} µs", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::render;

    #[test]
    fn each_histogram_is_a_line() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record(50_000).unwrap();
        let text = render(&[("GET".to_owned(), &histogram), ("SET".to_owned(), &histogram)]);
        assert_eq!(text.matches("<polyline").count(), 2);
        assert!(text.contains("99.999%") && text.contains("100 µs") && !text.contains("NaN"));
        assert!(render(&[]).ends_with("</svg>\n"));
    }
}
