//! The values that are written, and the check of the values that are read.
//!
//! ```text
//! plain      filler…
//! unique     sequence (16 hex) filler…
//! verified   checksum (8 hex) sequence (16 hex) ':' key ':' filler…
//! ```
//! The checksum is the CRC32 of everything behind it. The key inside the value shows a value that
//! is intact but belongs to another key.

use crate::command::write_hex;
use crate::random::Random;

/// Size of the random bytes that fillers are cut from, beyond the size of one value.
const POOL_SIZE: usize = 4096;
/// Size of the checksum, in hexadecimal digits.
const CHECKSUM_SIZE: usize = 8;
/// Size of the sequence number, in hexadecimal digits.
pub const SEQUENCE_SIZE: usize = 16;

/// What a value holds besides filler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueKind {
    /// Nothing: the cheapest to make.
    Plain,
    /// A number no other value of the run has, so that compare-and-set sees every change.
    Unique,
    /// The key, a unique number and a checksum.
    Verified,
}

impl ValueKind {
    /// Returns the smallest size that holds what must be in a value, for a key of `key_size`.
    pub fn size_min(self, key_size: usize) -> usize {
        match self {
            Self::Plain => 0,
            Self::Unique => SEQUENCE_SIZE,
            Self::Verified => CHECKSUM_SIZE + SEQUENCE_SIZE + key_size + 2,
        }
    }
}

/// Makes the values of one worker.
#[derive(Debug)]
pub struct ValueMaker {
    kind: ValueKind,
    size: usize,
    pool: Vec<u8>,
    value: Vec<u8>,
    sequence: u64,
}

impl ValueMaker {
    /// Returns a maker of values of `size` bytes; `first_sequence` keeps workers and runs apart.
    pub fn new(kind: ValueKind, size: usize, first_sequence: u64, random: &mut Random) -> Self {
        let pool = (0..size + POOL_SIZE)
            .map(|_| b'a' + u8::try_from(random.below(26)).expect("a letter fits a byte"))
            .collect();
        Self { kind, size, pool, value: Vec::with_capacity(size), sequence: first_sequence }
    }

    /// Returns the next value for `key`; it lives until the next call.
    pub fn make(&mut self, key: &[u8]) -> &[u8] {
        self.sequence = self.sequence.wrapping_add(1);
        let offset = usize::from(self.sequence.to_le_bytes()[0]) * 16;
        if self.kind == ValueKind::Plain {
            return &self.pool[offset..offset + self.size];
        }
        self.value.clear();
        if self.kind == ValueKind::Verified {
            self.value.extend_from_slice(&[b'0'; CHECKSUM_SIZE]);
        }
        let mut digits = [0; SEQUENCE_SIZE];
        write_hex(&mut digits, self.sequence);
        self.value.extend_from_slice(&digits);
        if self.kind == ValueKind::Verified {
            self.value.push(b':');
            self.value.extend_from_slice(key);
            self.value.push(b':');
        }
        let filler_size = self.size.saturating_sub(self.value.len());
        self.value.extend_from_slice(&self.pool[offset..offset + filler_size]);
        if self.kind == ValueKind::Verified {
            let (checksum, checked) = self.value.split_at_mut(CHECKSUM_SIZE);
            write_hex(checksum, u64::from(crc32fast::hash(checked)));
        }
        &self.value
    }
}

/// Whether `value` was made for `key` by a verifying [`ValueMaker`] and arrived unharmed.
pub fn is_intact(key: &[u8], value: &[u8]) -> bool {
    let Some((checksum, checked)) = value.split_at_checked(CHECKSUM_SIZE) else { return false };
    let mut want = [0; CHECKSUM_SIZE];
    write_hex(&mut want, u64::from(crc32fast::hash(checked)));
    let named = checked.get(SEQUENCE_SIZE..).and_then(|rest| rest.strip_prefix(b":"));
    let named = named.and_then(|rest| rest.strip_prefix(key));
    checksum == want && named.is_some_and(|rest| rest.starts_with(b":"))
}

#[cfg(test)]
mod tests {
    use super::{ValueKind, ValueMaker, is_intact};
    use crate::random::Random;

    fn maker(kind: ValueKind, size: usize) -> ValueMaker {
        ValueMaker::new(kind, size, 5, &mut Random::new(1))
    }

    #[test]
    fn values_have_the_size_asked_for() {
        for kind in [ValueKind::Plain, ValueKind::Unique, ValueKind::Verified] {
            for size in [kind.size_min(5), 100, 10_000] {
                let mut maker = maker(kind, size);
                assert!((0..300).all(|_| maker.make(b"key:1").len() == size), "{kind:?} {size}");
            }
        }
    }

    #[test]
    fn a_changed_byte_or_another_key_is_seen() {
        let value = maker(ValueKind::Verified, 64).make(b"key:1").to_vec();
        assert!(is_intact(b"key:1", &value));
        assert!(!is_intact(b"key:2", &value));
        assert!(!is_intact(b"key:", &value));
        for position in 0..value.len() {
            let mut changed = value.clone();
            changed[position] ^= 1;
            assert!(!is_intact(b"key:1", &changed), "byte {position}");
            assert!(!is_intact(b"key:1", &value[..position]), "cut at {position}");
        }
    }

    #[test]
    fn no_two_unique_values_are_alike() {
        let mut maker = maker(ValueKind::Unique, 16);
        let first = maker.make(b"k").to_vec();
        assert_ne!(first, maker.make(b"k"));
    }
}
