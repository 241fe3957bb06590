//! The checksum chain of an entity: one number that sums up everything it ever decided.

use crc32fast::Hasher;

/// `chain_k` from `chain_{k-1}` and the value chosen at entry k. Equal chains at equal entries mean
/// equal histories, up to CRC collisions; unequal ones mean divergence for certain.
#[must_use]
pub fn extend(chain: u32, value: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&chain.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::extend;

    #[test]
    fn order_and_content_both_matter() {
        let ab = extend(extend(0, b"a"), b"b");
        let ba = extend(extend(0, b"b"), b"a");
        assert_ne!(ab, ba);
        assert_ne!(extend(0, b""), extend(extend(0, b""), b""));
    }
}
