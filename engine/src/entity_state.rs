//! What an image says of an entity, beside its entry and chain: the bytes that are logged, put into
//! checkpoints, and sent to replicas that are far behind.
//!
//! ```text
//! format u8 = 1
//! request ids    see request_ids
//! state          the state machine's own encoding, to the end
//! ```

use crate::request_ids::RequestIds;
use crate::state_machine::{InvalidState, StateMachine};

const FORMAT: u8 = 1;

/// The bytes of a state and the request ids beside it.
#[must_use]
pub fn encode<M: StateMachine>(request_ids: &RequestIds, state: &M) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    request_ids.encode(&mut bytes);
    state.encode(&mut bytes);
    bytes
}

/// The request ids, and the bytes of the state.
///
/// # Errors
///
/// When the bytes are not what [`encode`] writes. The state's are not looked at.
pub fn split(bytes: &[u8]) -> Result<(RequestIds, &[u8]), InvalidState> {
    let invalid = InvalidState { what: "entity image", offset: 0, length: bytes.len() };
    let (&format, rest) = bytes.split_first().ok_or(invalid)?;
    if format != FORMAT {
        return Err(invalid);
    }
    let (request_ids, used) = RequestIds::decode(rest)?;
    Ok((request_ids, &rest[used..]))
}
