//! What an image says of an entity, beside its entry and chain: the bytes that are logged, put into
//! checkpoints, and sent to replicas that are far behind.
//!
//! ```text
//! format u8 = 1
//! request ids    see request_ids
//! state          the state machine's own encoding, to the end
//! ```

use plog::vocabulary::Entry;

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

/// The request ids, and the state, which must stand at `applied`.
///
/// # Errors
///
/// When the bytes are not what [`encode`] writes, or the state stands elsewhere: both are bytes
/// from outside, and the next entry has to follow the state's.
pub fn decode<M: StateMachine>(
    bytes: &[u8],
    applied: Entry,
) -> Result<(RequestIds, M), InvalidState> {
    let (request_ids, state) = split(bytes)?;
    let state = M::decode(state)?;
    if state.applied() != applied {
        let (offset, length) = (bytes.len(), bytes.len());
        return Err(InvalidState { what: "entity image", offset, length });
    }
    Ok((request_ids, state))
}

/// What [`encode`] wrote in one cluster, for another one that begins with it; and the number of
/// keys. Everything that clients see stays, the ids of their requests, too. The ids that replicas
/// gave mean something else there, and are left out: see [`RequestIds::forget_replicas_own`].
///
/// # Errors
///
/// As of [`decode`].
pub fn for_another_cluster<M: StateMachine>(
    bytes: &[u8],
    applied: Entry,
) -> Result<(Vec<u8>, u32), InvalidState> {
    let (mut request_ids, state) = decode::<M>(bytes, applied)?;
    request_ids.forget_replicas_own();
    Ok((encode(&request_ids, &state), state.key_count()))
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
