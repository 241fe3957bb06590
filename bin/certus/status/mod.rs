//! `certus status`: how a cluster is, as each of its nodes says.
//!
//! No node knows how the cluster is: one that lost its peers cannot tell whether they died or the
//! network did. So every node is asked for itself ([`members`]), and the verdict is formed here,
//! over all answers ([`health`]).

mod health;
mod members;
mod node_status;
mod report;

use std::net::SocketAddr;
use std::path::Path;

use crate::arguments::Status;
use crate::console::{Console, complain};
use crate::dev::ClusterFile;
use crate::exit_status::ExitStatus;
use crate::resp_client::{ClientError, resolve};
use crate::status::health::Health;
use crate::status::members::ask_members;

/// Why nothing can be said of a cluster.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("{0}")]
    Address(#[from] ClientError),
    #[error(
        "{}: {error}; is the cluster running? Name its nodes with --addr",
        ClusterFile::path(directory).display()
    )]
    NoClusterFile { directory: std::path::PathBuf, error: std::io::Error },
}

/// Asks and prints.
pub fn run(arguments: &Status, console: &mut Console) -> ExitStatus {
    let addresses = match addresses(arguments) {
        Ok(addresses) => addresses,
        Err(error) => {
            complain(error);
            return ExitStatus::Failed;
        }
    };
    let nodes = ask_members(&addresses, arguments.timeout);
    let health = Health::of(&nodes);
    if arguments.json {
        let document = report::document(&health, &nodes);
        console.line(format_args!("{document:#}"));
    } else {
        console.line(report::text(&health, &nodes).trim_end());
    }
    match (nodes.iter().any(|node| node.document().is_some()), health.is_healthy()) {
        (false, _) => ExitStatus::Failed,
        (true, true) => ExitStatus::Ok,
        (true, false) => ExitStatus::Degraded,
    }
}

fn addresses(arguments: &Status) -> Result<Vec<SocketAddr>, StatusError> {
    match &arguments.dir {
        Some(directory) => of_directory(directory),
        None => arguments.addr.iter().map(|address| Ok(resolve(address)?)).collect(),
    }
}

fn of_directory(directory: &Path) -> Result<Vec<SocketAddr>, StatusError> {
    let file = ClusterFile::read(directory)
        .map_err(|error| StatusError::NoClusterFile { directory: directory.to_owned(), error })?;
    file.nodes.iter().map(|node| Ok(resolve(&node.client)?)).collect()
}
