//! From a key to its slot, entity, shard and preferred replica.
//!
//! Cluster clients compute a key's slot themselves and send the command to the core that
//! `CLUSTER SLOTS` names for it, so the slot has to be Redis's own. Everything else follows from
//! it: 16 neighbouring slots go to one core, and each replica is preferred for one stretch of
//! slots. Keys with the same tag (what stands in `{}`, or the whole key) share an entity.

use plog::vocabulary::{AcceptorId, EntityId};

use crate::resp::stable_hash::stable_hash;

/// How many slots there are.
pub const SLOT_COUNT: u16 = 16_384;

/// Neighbouring slots that always belong to one core, so that `CLUSTER SLOTS` lists 1024 ranges
/// instead of 16384.
pub const SLOTS_PER_STRETCH: u16 = 16;

/// Bits of the tag's hash in an [`EntityId`].
const HASH_BITS: u32 = 48;

const CRC16_TABLE: [u16; 256] = crc16_table();

const fn crc16_table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut index = 0;
    let mut byte = 0u16;
    while index < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        byte += 1;
    }
    table
}

/// CRC-16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let [low, high] = crc.to_le_bytes();
        (u16::from(low) << 8) ^ CRC16_TABLE[usize::from(high ^ byte)]
    })
}

/// The part of a key that decides its slot and entity: what stands between the first `{` and the
/// next `}`, unless that is nothing; else the whole key.
#[must_use]
pub fn tag_of(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let after = &key[open + 1..];
    match after.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &after[..close],
    }
}

/// The slot of a key, below [`SLOT_COUNT`].
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    crc16(tag_of(key)) % SLOT_COUNT
}

/// The entity of a key: its slot in the upper 16 bits, and the lower 48 bits of its tag's
/// [`stable_hash`].
#[must_use]
pub fn entity_of(key: &[u8]) -> EntityId {
    let tag = tag_of(key);
    let slot = u64::from(crc16(tag) % SLOT_COUNT);
    EntityId(slot << HASH_BITS | stable_hash(tag) & ((1 << HASH_BITS) - 1))
}

/// The core that owns an entity on a node of `core_count` cores, at least 1.
#[must_use]
pub fn shard_of(entity: EntityId, core_count: u16) -> u16 {
    shard_of_slot(entity.slot(), core_count)
}

/// The core that owns a slot's entities on a node of `core_count` cores, at least 1.
#[must_use]
pub fn shard_of_slot(slot: u16, core_count: u16) -> u16 {
    assert!(core_count > 0, "a node has at least one core");
    slot / SLOTS_PER_STRETCH % core_count
}

/// The replica that clients are sent to first for a slot, of `replicas`, at least 1. Replica r is
/// preferred for one stretch of about `SLOT_COUNT / replicas` slots. A slot that no key has (an
/// entity made by hand) counts modulo [`SLOT_COUNT`].
#[must_use]
pub fn preferred_acceptor(slot: u16, replicas: u8) -> AcceptorId {
    assert!(replicas > 0, "a replica set has at least one replica");
    let preferred = u32::from(slot % SLOT_COUNT) * u32::from(replicas) / u32::from(SLOT_COUNT);
    AcceptorId(u8::try_from(preferred).expect("below the replica count"))
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::{AcceptorId, EntityId};

    use super::{SLOT_COUNT, crc16, entity_of, preferred_acceptor, shard_of, slot, tag_of};

    #[test]
    fn the_checksum_and_the_slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"bar"), 5061);
        assert_eq!(slot(b"hello"), 866);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_tag_is_what_stands_in_the_first_braces_unless_that_is_nothing() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"{user1000}.following", b"user1000"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"foo{bar", b"foo{bar"),
            (b"foo}bar{", b"foo}bar{"),
            (b"{}", b"{}"),
            (b"plain", b"plain"),
        ];
        for (key, tag) in cases {
            assert_eq!(tag_of(key), tag, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn keys_with_one_tag_share_slot_and_entity_and_others_do_not() {
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(entity_of(b"{user1000}.following"), entity_of(b"{user1000}.followers"));
        assert_eq!(entity_of(b"{user1000}.following"), entity_of(b"user1000"));
        assert_ne!(entity_of(b"user1000"), entity_of(b"user1001"));
    }

    #[test]
    fn the_entity_of_a_known_key_never_changes() {
        // Slot 12182 is 0x2f96; XXH64 of "foo" is 0x33bf_00a8_59c4_ba3f.
        assert_eq!(entity_of(b"foo"), EntityId(0x2f96_00a8_59c4_ba3f));
        assert_eq!(entity_of(b"foo").slot(), 12_182);
        // CRC-16 and XXH64 of nothing: 0 and 0xef46_db37_51d8_e999.
        assert_eq!(entity_of(b""), EntityId(0xdb37_51d8_e999));
    }

    #[test]
    fn every_core_and_every_replica_gets_its_share_of_the_slots() {
        for core_count in [1u16, 2, 3, 7, 64] {
            let mut owned = vec![0u32; usize::from(core_count)];
            for slot in 0..SLOT_COUNT {
                owned[usize::from(shard_of(EntityId(u64::from(slot) << 48), core_count))] += 1;
            }
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most - least <= 16, "{owned:?}");
        }
        for replicas in [1u8, 3, 5] {
            let mut preferred = vec![0u32; usize::from(replicas)];
            let mut last = AcceptorId(0);
            for slot in 0..SLOT_COUNT {
                let acceptor = preferred_acceptor(slot, replicas);
                assert!(acceptor >= last, "one stretch for each replica");
                last = acceptor;
                preferred[acceptor.index()] += 1;
            }
            let (least, most) = (preferred.iter().min().unwrap(), preferred.iter().max().unwrap());
            assert!(most - least <= 1, "{preferred:?}");
        }
        assert_eq!(preferred_acceptor(u16::MAX, 3), AcceptorId(2));
    }
}
