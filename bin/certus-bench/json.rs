//! The results as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::arguments::Arguments;
use crate::distribution::Distribution;
use crate::operation::{Operation, Workload};
use crate::results::Results;
use crate::tally::{OperationTally, Summary};
use crate::topology::Topology;

/// The whole document.
#[derive(Debug, Deserialize, Serialize)]
pub struct Document {
    /// What the run was asked to do.
    pub settings: Settings,
    /// Seconds measured.
    pub duration: f64,
    /// Requests of an open loop that were due and never started.
    pub unsent: u64,
    /// Requests still unanswered when the user stopped the run.
    pub unanswered: u64,
    /// Figures per operation.
    pub operations: BTreeMap<String, Figures>,
    /// Figures over all operations.
    pub totals: Figures,
}

/// What the run was asked to do: each field is the argument of the same name.
#[derive(Debug, Deserialize, Serialize)]
pub struct Settings {
    pub addr: Vec<String>,
    pub route: String,
    pub workload: String,
    pub clients: u32,
    pub depth: u32,
    pub connections: u32,
    pub threads: u32,
    pub seconds: f64,
    pub warmup: f64,
    pub keys: u64,
    pub value_size: usize,
    pub dist: String,
    pub key_prefix: String,
    pub preload: bool,
    pub verify: bool,
    pub once: bool,
    pub rate: Option<f64>,
    pub timeout: f64,
    pub seed: u64,
}

/// The figures of one operation: those of its [`Summary`], and its outcomes.
#[derive(Debug, Deserialize, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub service: Latencies,
    /// From the intended start; in an open loop only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Latencies>,
    pub errors: BTreeMap<String, u64>,
    pub cas_lost: u64,
    pub missing: u64,
}

/// A [`Summary`] as it is written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Latencies {
    pub count: u64,
    pub rate_per_s: f64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub p9999_us: f64,
    pub max_us: f64,
}

impl From<Summary> for Latencies {
    fn from(summary: Summary) -> Self {
        let Summary {
            count,
            rate_per_s,
            mean_us,
            p50_us,
            p90_us,
            p99_us,
            p999_us,
            p9999_us,
            max_us,
        } = summary;
        Self { count, rate_per_s, mean_us, p50_us, p90_us, p99_us, p999_us, p9999_us, max_us }
    }
}

/// Returns the document of one run.
pub fn document(arguments: &Arguments, topology: &Topology, results: &Results) -> Document {
    let operations = results
        .tally
        .occurred()
        .map(|(operation, tally)| (operation.name().to_owned(), figures(tally, results.seconds)))
        .collect();
    Document {
        settings: settings(arguments, topology),
        duration: results.seconds,
        unsent: results.unsent_count,
        unanswered: results.unanswered_count,
        operations,
        totals: figures(&results.tally.total(), results.seconds),
    }
}

/// Returns the settings in effect.
pub fn settings(arguments: &Arguments, topology: &Topology) -> Settings {
    Settings {
        addr: arguments.addr.clone(),
        route: topology.route.name().to_owned(),
        workload: workload_name(arguments.workload),
        clients: arguments.clients,
        depth: arguments.depth,
        connections: arguments.connection_sets(),
        threads: arguments.threads,
        seconds: arguments.seconds.as_secs_f64(),
        warmup: arguments.warmup.as_secs_f64(),
        keys: arguments.keys,
        value_size: arguments.value_size,
        dist: match arguments.dist {
            Distribution::Uniform => "uniform".to_owned(),
            Distribution::Zipf { skew } => format!("zipf:{skew}"),
        },
        key_prefix: arguments.key_prefix.clone(),
        preload: arguments.preloads(),
        verify: arguments.verify,
        once: arguments.once,
        rate: arguments.rate,
        timeout: arguments.timeout.as_secs_f64(),
        seed: arguments.seed,
    }
}

fn workload_name(workload: Workload) -> String {
    match workload {
        Workload::Write => "write".to_owned(),
        Workload::Read => "read".to_owned(),
        Workload::ReadLocal => "read-local".to_owned(),
        Workload::Mixed { read_percent } => format!("mixed:{read_percent}"),
        Workload::Incr => "incr".to_owned(),
        Workload::Cas => "cas".to_owned(),
    }
}

/// Returns the figures of one tally, counted over `seconds`.
pub fn figures(tally: &OperationTally, seconds: f64) -> Figures {
    let has_response = !tally.response.is_empty();
    Figures {
        service: Summary::new(&tally.service, seconds).into(),
        response: has_response.then(|| Summary::new(&tally.response, seconds).into()),
        errors: tally.errors.iter().map(|(word, error)| (word.clone(), error.count)).collect(),
        cas_lost: tally.cas_lost,
        missing: tally.missing,
    }
}

/// Whether an operation of a document is one that is timed.
pub fn is_timed(name: &str) -> bool {
    name != Operation::Setup.name()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Document, document};
    use crate::arguments::Arguments;
    use crate::operation::Operation;
    use crate::results::Results;
    use crate::tally::record_ns;
    use crate::topology::Topology;

    fn results() -> Results {
        let mut results = Results { seconds: 1.0, ..Results::default() };
        let tally = results.tally.of_mut(Operation::Set);
        record_ns(&mut tally.service, 5000);
        tally.count_error("CLUSTERDOWN", "CLUSTERDOWN no majority");
        results
    }

    #[test]
    fn the_document_has_the_promised_fields_and_is_read_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let arguments = Arguments::parse_from(["certus-bench", "--addr", &addr]);
        let topology = Topology::discover(&arguments).unwrap();
        let document = document(&arguments, &topology, &results());
        let value = serde_json::to_value(&document).unwrap();
        assert_eq!(value["settings"]["workload"], "write");
        assert_eq!(value["operations"]["SET"]["count"], 1);
        assert_eq!(value["totals"]["errors"]["CLUSTERDOWN"], 1);
        for field in ["rate_per_s", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "p9999_us"]
        {
            assert!(value["operations"]["SET"][field].is_f64(), "{field}");
        }
        let back: Document = serde_json::from_value(value).unwrap();
        assert_eq!(back.operations["SET"].service.count, 1);
    }
}
