//! The table of a part: for each entity, what an index needs to know of it.

use crate::checkpoint::PartId;
use crate::little_endian::{Reader, Writer};
use crate::location::Location;
use crate::vocabulary::{EntityId, Entry};

/// Bytes of one row.
pub const ROW_SIZE: usize = 32;

/// One entity of a checkpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Which.
    pub entity: EntityId,
    /// The entry applied in its image.
    pub applied: Entry,
    /// Where the image is. `None` for an entity that abstains: its image or records could not be
    /// read, and a replica that forgot them must not vote.
    pub image: Option<Location>,
    /// The owner's count of it.
    pub keys: u32,
}

impl Row {
    /// Appends the row's bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.resize(begin + ROW_SIZE, 0);
        let mut writer = Writer::new(&mut out[begin..]);
        writer.u64(self.entity.0);
        writer.u64(self.applied.0);
        let (offset, length, checksum) =
            self.image.map_or((0, 0, 0), |image| (image.offset, image.length, image.checksum));
        writer.u32(offset);
        writer.u32(length);
        writer.u32(checksum);
        writer.u32(self.keys);
    }

    /// The row of these bytes in the table of `part`.
    ///
    /// # Panics
    ///
    /// When there are not [`ROW_SIZE`] bytes.
    #[must_use]
    pub fn decode(part: PartId, bytes: &[u8]) -> Self {
        assert!(bytes.len() == ROW_SIZE, "the caller cut the table into rows");
        let mut reader = Reader::new(bytes);
        let (entity, applied) = (EntityId(reader.u64()), Entry(reader.u64()));
        let (offset, length, checksum) = (reader.u32(), reader.u32(), reader.u32());
        let keys = reader.u32();
        let image = (length > 0).then(|| Location::new(part.file(), offset, length, checksum));
        Self { entity, applied, image, keys }
    }
}
