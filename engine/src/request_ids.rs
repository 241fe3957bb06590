//! The request ids an entity has applied, so that a retried command takes effect once
//! ("uuids" in Certain).
//!
//! Part of the replicated state: filled in the order of application and forgetting the oldest
//! beyond a limit, so that every replica knows the same ids at the same entry.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::batch::OWN_REQUEST_ID;
use crate::state_machine::InvalidState;

/// Ids with the replies they were given, oldest first. Of most entities there are none, and these
/// need no room.
#[derive(Clone, Debug, Default)]
pub struct RequestIds {
    known: Option<Box<Known>>,
}

/// Invariant: `order` and `replies` hold the same ids.
#[derive(Clone, Debug, Default)]
struct Known {
    order: VecDeque<Rc<[u8]>>,
    replies: BTreeMap<Rc<[u8]>, Box<[u8]>>,
    bytes: usize,
}

/// Ids and replies beyond this many bytes are forgotten, oldest first. Part of the replicated
/// behaviour: changing it needs a new format.
pub const BYTES_MAX: usize = 1 << 20;

/// What the two tables need for one id, beside its own bytes.
const OVERHEAD_BYTES: usize = 96;

impl RequestIds {
    /// The encoded reply given to `id`, if it was applied.
    #[must_use]
    pub fn reply_to(&self, id: &[u8]) -> Option<&[u8]> {
        self.known.as_ref()?.replies.get(id).map(|reply| &**reply)
    }

    /// Remembers `id`; forgets the oldest beyond `limit`. Returns false, and changes nothing, when
    /// the id was known.
    #[must_use]
    pub fn remember(&mut self, id: &[u8], reply: &[u8], limit: usize) -> bool {
        let known = self.known.get_or_insert_default();
        if known.replies.contains_key(id) {
            return false;
        }
        let id: Rc<[u8]> = Rc::from(id);
        known.bytes += 2 * id.len() + reply.len() + OVERHEAD_BYTES;
        known.order.push_back(Rc::clone(&id));
        known.replies.insert(id, reply.into());
        // The newest stays, even if its reply alone is larger by a header.
        while known.order.len() > limit || known.bytes > BYTES_MAX && known.order.len() > 1 {
            let oldest = known.order.pop_front().expect("longer than the limit");
            let reply = known.replies.remove(&oldest).expect("both tables hold the same ids");
            known.bytes -= 2 * oldest.len() + reply.len() + OVERHEAD_BYTES;
        }
        assert_eq!(known.order.len(), known.replies.len());
        true
    }

    /// Forgets `id`. Nothing happens when it is not known.
    pub fn forget(&mut self, id: &[u8]) {
        let Some(known) = &mut self.known else { return };
        if let Some(reply) = known.replies.remove(id) {
            known.bytes -= 2 * id.len() + reply.len() + OVERHEAD_BYTES;
            known.order.retain(|held| **held != *id);
        }
    }

    /// Forgets the ids that replicas gave to commands they forwarded: a replica numbers them from
    /// its boot epoch on, so in another cluster, with epochs of its own, the same one would be
    /// given to another command, which would then be taken for applied.
    pub fn forget_replicas_own(&mut self) {
        let Some(known) = &mut self.known else { return };
        let is_own = |id: &[u8]| id.first() == Some(&OWN_REQUEST_ID);
        known.order.retain(|id| !is_own(id));
        known.replies.retain(|id, _| !is_own(id));
        let each = known.replies.iter();
        known.bytes = each.map(|(id, reply)| 2 * id.len() + reply.len() + OVERHEAD_BYTES).sum();
        if known.order.is_empty() {
            self.known = None;
        }
    }

    /// Whether the newest ids, with their replies, are those of `newest`.
    #[must_use]
    pub fn ends_with(&self, newest: &Self) -> bool {
        let Some(newest) = &newest.known else { return true };
        let Some(known) = &self.known else { return newest.order.is_empty() };
        known.order.len() >= newest.order.len()
            && known.order.iter().rev().zip(newest.order.iter().rev()).all(|(id, other)| {
                id == other && known.replies.get(id) == newest.replies.get(other)
            })
    }

    /// Approximate memory used, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.bytes)
    }

    /// Number of ids held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.order.len())
    }

    /// Whether no id is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends count u32, then per id oldest first: id length u8, id, reply length u32, reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.len()).expect("bounded by configuration");
        out.extend_from_slice(&count.to_le_bytes());
        let known = self.known.iter();
        for (id, reply) in
            known.flat_map(|known| known.order.iter().map(|id| (id, &known.replies[id])))
        {
            out.push(u8::try_from(id.len()).expect("request ids are at most 64 bytes"));
            out.extend_from_slice(id);
            let length = u32::try_from(reply.len()).expect("replies are bounded by values");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(reply);
        }
    }

    /// Reads what [`RequestIds::encode`] wrote, and returns how many bytes it used.
    ///
    /// # Errors
    ///
    /// When the bytes are cut short or name an id twice.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), InvalidState> {
        let mut ids = Self::default();
        let mut rest = bytes;
        let at = |rest: &[u8]| InvalidState {
            what: "request ids",
            offset: bytes.len() - rest.len(),
            length: bytes.len(),
        };
        let (count, after) = rest.split_first_chunk::<4>().ok_or_else(|| at(rest))?;
        rest = after;
        for _ in 0..u32::from_le_bytes(*count) {
            let (&length, after) = rest.split_first().ok_or_else(|| at(rest))?;
            let (id, after) =
                after.split_at_checked(usize::from(length)).ok_or_else(|| at(rest))?;
            let (length, after) = after.split_first_chunk::<4>().ok_or_else(|| at(rest))?;
            let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| at(rest))?;
            let (reply, after) = after.split_at_checked(length).ok_or_else(|| at(rest))?;
            if !ids.remember(id, reply, usize::MAX) {
                return Err(at(rest));
            }
            rest = after;
        }
        Ok((ids, bytes.len() - rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::RequestIds;

    #[test]
    fn the_oldest_is_forgotten_first_and_a_known_id_changes_nothing() {
        let mut ids = RequestIds::default();
        assert!(ids.remember(b"a", b":1", 2));
        assert!(ids.remember(b"b", b":2", 2));
        assert!(!ids.remember(b"a", b":9", 2));
        assert_eq!(ids.reply_to(b"a"), Some(&b":1"[..]));
        assert!(ids.remember(b"c", b":3", 2));
        assert_eq!(ids.reply_to(b"a"), None);
        assert_eq!(ids.reply_to(b"b"), Some(&b":2"[..]));
    }

    #[test]
    fn what_was_remembered_under_a_limit_ends_what_was_remembered_without() {
        let (mut few, mut all) = (RequestIds::default(), RequestIds::default());
        assert!(all.ends_with(&few));
        // The fourth came again after it was forgotten.
        for id in [&b"a"[..], b"b", b"c", b"a", b"d"] {
            assert!(few.remember(id, b":1", 2));
            all.forget(id);
            assert!(all.remember(id, b":1", usize::MAX));
            assert!(all.ends_with(&few));
        }
        assert_eq!((few.len(), all.len()), (2, 4));
        assert!(!few.ends_with(&all));
        let before = all.memory_bytes();
        all.forget(b"nobody");
        assert_eq!(all.memory_bytes(), before);
        all.forget(b"d");
        assert!(!all.ends_with(&few), "the newest is missing");
        assert!(all.remember(b"d", b":2", usize::MAX));
        assert!(!all.ends_with(&few), "its reply was another");
        for id in [&b"a"[..], b"b", b"c", b"d"] {
            all.forget(id);
        }
        assert_eq!(all.memory_bytes(), 0);
    }

    #[test]
    fn what_replicas_named_is_forgotten_and_what_clients_named_is_kept() {
        let mut ids = RequestIds::default();
        for id in [&b"a"[..], b"\xff\x01", b"b", b"\xff\x02"] {
            assert!(ids.remember(id, b":1", 9));
        }
        ids.forget_replicas_own();
        let mut kept = RequestIds::default();
        assert!(kept.remember(b"a", b":1", 9) && kept.remember(b"b", b":1", 9));
        assert!(kept.ends_with(&ids) && ids.ends_with(&kept));
        assert_eq!(ids.memory_bytes(), kept.memory_bytes());
        assert_eq!(ids.reply_to(b"\xff\x01"), None);
        let mut own = RequestIds::default();
        assert!(own.remember(b"\xff", b":1", 9));
        own.forget_replicas_own();
        assert!(own.is_empty() && own.memory_bytes() == 0);
    }

    #[test]
    fn an_encoding_reads_back_and_a_cut_one_is_refused() {
        let mut ids = RequestIds::default();
        for id in [&b"x"[..], b"yy", b"zzz"] {
            assert!(ids.remember(id, b"+OK\r\n", 10));
        }
        let mut bytes = Vec::new();
        ids.encode(&mut bytes);
        let (back, used) = RequestIds::decode(&bytes).unwrap();
        assert_eq!(used, bytes.len());
        let mut again = Vec::new();
        back.encode(&mut again);
        assert_eq!(bytes, again);
        assert_eq!(back.memory_bytes(), ids.memory_bytes());
        for end in 0..bytes.len() {
            assert!(RequestIds::decode(&bytes[..end]).is_err());
        }
    }
}
