//! The write batch: what an entry's value says.
//!
//! ```text
//! format u8 = 1
//! count  u16         request ids in this batch
//! count times:
//!   id length u8, id bytes
//!   reply length u32, reply bytes (RESP3)
//! effects            the rest, in the state machine's own encoding
//! ```
//! Integers are little-endian. A no-op is the empty byte string.

use net::resp::value::{Protocol, Value};

const FORMAT: u8 = 1;

/// Longest request id, in bytes.
pub const REQUEST_ID_SIZE_MAX: usize = 64;

/// First byte of the request ids that replicas give to commands they forward. Clients' ids never
/// begin with it: no text encoding uses it, and the session refuses it.
pub const OWN_REQUEST_ID: u8 = 0xFF;

/// Builds a batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    count: u16,
    requests: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// Notes that the request `id`, answered with `reply`, is applied by this batch.
    pub fn add_request(&mut self, id: &[u8], reply: &Value) {
        assert!(!id.is_empty() && id.len() <= REQUEST_ID_SIZE_MAX, "request ids are 1 to 64 bytes");
        self.count = self.count.checked_add(1).expect("a batch is bounded far below 65,536");
        self.scratch.clear();
        reply.encode(Protocol::Resp3, &mut self.scratch);
        self.requests.push(u8::try_from(id.len()).expect("at most 64"));
        self.requests.extend_from_slice(id);
        let length = u32::try_from(self.scratch.len()).expect("replies are bounded by values");
        self.requests.extend_from_slice(&length.to_le_bytes());
        self.requests.extend_from_slice(&self.scratch);
    }

    /// Whether a request id was added.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.count > 0
    }

    /// Whether `id` was added before; its reply if so.
    #[must_use]
    pub fn reply_to(&self, id: &[u8]) -> Option<Value> {
        let mut rest = &self.requests[..];
        while !rest.is_empty() {
            let (found, reply, after) = split_request(rest)?;
            if found == id {
                return decode_reply(reply);
            }
            rest = after;
        }
        None
    }

    /// Encoded size so far, without the effects.
    #[must_use]
    pub fn size(&self) -> usize {
        self.requests.len()
    }

    /// The whole value; `effects` writes the state machine's part.
    #[must_use]
    pub fn finish(self, effects: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut value = Vec::with_capacity(3 + self.requests.len() + 192);
        value.push(FORMAT);
        value.extend_from_slice(&self.count.to_le_bytes());
        value.extend_from_slice(&self.requests);
        effects(&mut value);
        value
    }
}

fn split_request(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&id_length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(id_length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (reply, rest) = rest.split_at_checked(length)?;
    Some((id, reply, rest))
}

/// A stored reply; `None` when the bytes are not one.
#[must_use]
pub fn decode_reply(bytes: &[u8]) -> Option<Value> {
    match Value::decode(bytes) {
        Ok(Some((value, used))) if used == bytes.len() => Some(value),
        Ok(_) | Err(_) => None,
    }
}

/// A batch that is being read.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    count: u16,
    requests: &'a [u8],
    effects: &'a [u8],
}

/// Bytes that are not a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidBatch {
    /// Written by a version that knows more.
    #[error("batch format {0} is unknown; this version reads format 1")]
    UnknownFormat(u8),
    /// Cut short, or a length in it is wrong.
    #[error("a batch of {0} bytes is cut short")]
    CutShort(usize),
}

impl<'a> Batch<'a> {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When the bytes are not a batch of a known format.
    pub fn parse(value: &'a [u8]) -> Result<Self, InvalidBatch> {
        let Some((&format, rest)) = value.split_first() else {
            return Ok(Self { count: 0, requests: &[], effects: &[] });
        };
        if format != FORMAT {
            return Err(InvalidBatch::UnknownFormat(format));
        }
        let cut_short = InvalidBatch::CutShort(value.len());
        let (count, body) = rest.split_first_chunk::<2>().ok_or(cut_short)?;
        let count = u16::from_le_bytes(*count);
        let mut rest = body;
        for _ in 0..count {
            let (id, _, after) = split_request(rest).ok_or(cut_short)?;
            if id.is_empty() || id.len() > REQUEST_ID_SIZE_MAX {
                return Err(cut_short);
            }
            rest = after;
        }
        let (requests, effects) = body.split_at(body.len() - rest.len());
        Ok(Self { count, requests, effects })
    }

    /// The request ids applied by this batch, each with its encoded reply.
    pub fn requests(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.requests;
        (0..self.count).map_while(move |_| {
            let (id, reply, after) = split_request(rest)?;
            rest = after;
            Some((id, reply))
        })
    }

    /// The state machine's part.
    #[must_use]
    pub fn effects(&self) -> &'a [u8] {
        self.effects
    }
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;

    use super::{Batch, BatchBuilder, InvalidBatch};

    fn example() -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        builder.add_request(b"first", &Value::Integer(7));
        builder.add_request(b"second", &Value::Null);
        assert_eq!(builder.reply_to(b"first"), Some(Value::Integer(7)));
        assert_eq!(builder.reply_to(b"third"), None);
        builder.finish(|out| out.extend_from_slice(b"effects"))
    }

    #[test]
    fn a_batch_reads_back_as_built() {
        let value = example();
        let batch = Batch::parse(&value).unwrap();
        let ids: Vec<&[u8]> = batch.requests().map(|(id, _)| id).collect();
        assert_eq!(ids, [&b"first"[..], &b"second"[..]]);
        assert_eq!(batch.effects(), b"effects");
    }

    #[test]
    fn a_no_op_has_neither_requests_nor_effects() {
        let batch = Batch::parse(b"").unwrap();
        assert_eq!(batch.requests().count(), 0);
        assert!(batch.effects().is_empty());
    }

    #[test]
    fn a_batch_cut_in_its_requests_is_refused() {
        let value = example();
        for end in 1..value.len() - b"effects".len() {
            assert_eq!(Batch::parse(&value[..end]).unwrap_err(), InvalidBatch::CutShort(end));
        }
        assert_eq!(Batch::parse(&[9]).unwrap_err(), InvalidBatch::UnknownFormat(9));
    }
}
