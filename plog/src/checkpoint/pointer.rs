//! Which checkpoint counts: a few bytes that everything before its floor hangs on.

use crate::checkpoint::CheckpointId;
use crate::little_endian::{Reader, Writer};
use crate::segment::SegmentId;
use crate::vocabulary::Lsn;

/// Bytes of an encoded pointer.
pub const POINTER_SIZE: usize = 40;

/// The checkpoint that counts. Kept in two copies; replaced as a whole when another one is adopted,
/// before anything of the old one or of the log before its floor goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pointer {
    /// Which.
    pub checkpoint: CheckpointId,
    /// How many parts it has, at least 1.
    pub parts: u16,
    /// The first segment whose records are needed beside it.
    pub floor: SegmentId,
    /// The log was durable up to this record when the checkpoint was adopted: one that ends before
    /// is damaged, however it ends.
    pub settled: Lsn,
    /// Bytes of all its parts.
    pub bytes: u64,
}

impl Pointer {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; POINTER_SIZE] {
        let mut bytes = [0; POINTER_SIZE];
        let mut writer = Writer::new(&mut bytes);
        writer.u64(self.checkpoint.0);
        writer.u16(self.parts);
        writer.bytes(&[0; 6]);
        writer.u64(self.floor.0);
        writer.u64(self.settled.0);
        writer.u64(self.bytes);
        bytes
    }

    /// The pointer of these bytes, whose checksum was found right; `None` when they are not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != POINTER_SIZE {
            return None;
        }
        let mut reader = Reader::new(bytes);
        let checkpoint = CheckpointId(reader.u64());
        let parts = reader.u16();
        reader.zeros::<6>();
        let (floor, settled) = (SegmentId(reader.u64()), Lsn(reader.u64()));
        let bytes = reader.u64();
        let right =
            reader.reserved_clean() && checkpoint.0 > 0 && parts > 0 && floor >= SegmentId::FIRST;
        right.then_some(Self { checkpoint, parts, floor, settled, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::Pointer;
    use crate::checkpoint::CheckpointId;
    use crate::segment::SegmentId;
    use crate::vocabulary::Lsn;

    #[test]
    fn a_pointer_survives_its_bytes_and_nothing_else_is_one() {
        let pointer = Pointer {
            checkpoint: CheckpointId(3),
            parts: 2,
            floor: SegmentId(17),
            settled: Lsn(1 << 40),
            bytes: 12_345_678,
        };
        let bytes = pointer.encode();
        assert_eq!(Pointer::decode(&bytes), Some(pointer));
        assert_eq!(Pointer::decode(&bytes[1..]), None);
        let mut reserved = bytes;
        reserved[12] = 1;
        assert_eq!(Pointer::decode(&reserved), None);
        assert_eq!(Pointer::decode(&Pointer { parts: 0, ..pointer }.encode()), None);
    }
}
