//! Whether a node serves: it answers, and so does a majority behind it.

use std::net::SocketAddr;
use std::time::Duration;

use net::resp::value::Value;

use crate::resp_client::RespClient;

/// How long a node may take to answer before it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1000);

/// A key that nobody writes. Reading it needs a majority, and writes nothing.
const PROBE_KEY: &str = "certus:dev:probe";

/// Asks the node at `address`.
///
/// # Errors
///
/// Why it does not serve yet, in words.
pub fn probe(address: SocketAddr) -> Result<(), String> {
    let mut client = RespClient::connect(address, ANSWER_TIMEOUT)
        .map_err(|error| format!("no connection to {address}: {error}"))?;
    for command in [&["PING"][..], &["GET", PROBE_KEY]] {
        match client.ask(command) {
            Ok(Value::Error(error)) => return Err(error.to_string()),
            Ok(_) => {}
            Err(error) => return Err(format!("no answer from {address}: {error}")),
        }
    }
    Ok(())
}
