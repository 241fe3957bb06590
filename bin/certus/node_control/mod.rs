//! `certus checkpoint`, `certus cleaner` and `certus member`: what an operator wants of running
//! nodes, over RESP as everything else that a node is told.

mod checkpoint;
mod cleaner;
mod member;

use std::net::SocketAddr;
use std::time::Duration;

use net::resp::value::Value;
use serde_json::Value as Json;

use crate::resp_client::{ClientError, RespClient};

pub use crate::node_control::checkpoint::checkpoint;
pub use crate::node_control::cleaner::cleaner;
pub use crate::node_control::member::member;

/// Why a node was not told, or what it answered was of no use.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("{0}")]
    Address(ClientError),
    #[error("{address} cannot be asked: {error}")]
    Silent { address: SocketAddr, error: ClientError },
    #[error("{address} answers {command}: {answer}")]
    Refused { address: SocketAddr, command: String, answer: String },
    #[error("{address} was started again while its checkpoint was waited for; ask for another one")]
    StartedAgain { address: SocketAddr },
}

/// One node that is told something.
struct Node {
    address: SocketAddr,
    client: RespClient,
}

impl Node {
    fn connect(address: SocketAddr, timeout: Duration) -> Result<Self, OrderError> {
        let client = RespClient::connect(address, timeout);
        let client = client.map_err(|error| OrderError::Silent { address, error })?;
        Ok(Self { address, client })
    }

    /// The document that it answers with.
    fn ask(&mut self, words: &[&str]) -> Result<Json, OrderError> {
        let address = self.address;
        let answer =
            self.client.ask(words).map_err(|error| OrderError::Silent { address, error })?;
        let refused = |answer: String| {
            let command = words.join(" ");
            OrderError::Refused { address, command, answer }
        };
        match answer {
            Value::Bulk(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| refused(format!("something that is no JSON: {error}"))),
            Value::Error(error) => Err(refused(error.to_string())),
            other => Err(refused(format!("{other:?}"))),
        }
    }
}

/// What each core says in a document.
fn cores(document: &Json) -> &[Json] {
    document.get("cores").and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The number called `name` in what a core says, 0 if there is none.
fn number(core: &Json, name: &str) -> u64 {
    core.pointer(name).and_then(Json::as_u64).unwrap_or(0)
}
