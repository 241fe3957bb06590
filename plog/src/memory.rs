//! What things take in memory, as it is accounted.
//!
//! An allocator hands out blocks of certain sizes only. What is accounted are its blocks and not
//! the bytes in them, so that the sum comes close to what the process really takes.

/// What a block for `size` bytes takes: there are four sizes of blocks between one power of two and
/// the next, as the daemon's allocator has them, and multiples of 16 up to 64 bytes.
#[must_use]
pub const fn block_bytes(size: usize) -> usize {
    let words = size.div_ceil(WORD);
    if words <= 8 {
        return words.next_multiple_of(2) * WORD;
    }
    // As a mask, since the step is a power of two: this is counted after everything that happens to
    // an entity, and a division takes longer than all the rest of it.
    let step = 1 << ((words - 1).ilog2() - 2);
    ((words + (step - 1)) & !(step - 1)) * WORD
}

/// What the block of an `Rc<[u8]>` takes: two counts stand before its bytes.
#[must_use]
pub const fn shared_bytes(length: usize) -> usize {
    block_bytes(2 * WORD + length)
}

/// What a hash table with room for `capacity` pairs of `pair` bytes takes: an eighth of its places
/// stays empty, and each has a byte beside it.
#[must_use]
pub const fn hash_table_bytes(capacity: usize, pair: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let places = if capacity < 8 { capacity + 1 } else { capacity / 7 * 8 };
    block_bytes(places * (pair + 1) + 16)
}

const WORD: usize = size_of::<usize>();

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ahash::RandomState;

    use super::{block_bytes, hash_table_bytes, shared_bytes};

    #[test]
    fn blocks_come_in_four_sizes_between_powers_of_two() {
        assert_eq!([0, 1, 16, 17, 64].map(block_bytes), [0, 16, 16, 32, 64]);
        assert_eq!([65, 81, 97, 113, 129].map(block_bytes), [80, 96, 112, 128, 160]);
        assert_eq!([1025, 1281, 65_537].map(block_bytes), [1280, 1536, 81_920]);
        for size in 1..100_000 {
            let block = block_bytes(size);
            assert!(block >= size && block < size + size / 4 + 16, "{size}: {block}");
        }
        assert_eq!(shared_bytes(0), 16);
    }

    #[test]
    fn a_hash_table_is_taken_for_what_its_places_come_to() {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let mut table: HashMap<u64, u64, RandomState> = HashMap::with_hasher(hasher);
        assert_eq!(hash_table_bytes(table.capacity(), 16), 0);
        for number in 0..100 {
            table.insert(number, number);
        }
        assert_eq!(table.capacity(), 112);
        assert_eq!(hash_table_bytes(table.capacity(), 16), block_bytes(128 * 17 + 16));
    }
}
