//! The last block of a part: it says that the part is whole, and where its table is.

use crate::block::{BLOCK_SIZE, is_zero};
use crate::checkpoint::PartId;
use crate::checkpoint::table::{ROW_SIZE, Row};
use crate::identity::{ForeignField, LogIdentity};
use crate::little_endian::{Reader, Writer};
use crate::planted;
use crate::segment::{FORMAT_VERSION, SegmentId};
use crate::vocabulary::Lsn;

const MAGIC: [u8; 8] = *b"CertSeal";
const CHECKED: usize = 88;

/// See the module page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seal {
    /// Whose part.
    pub identity: LogIdentity,
    /// Which.
    pub part: PartId,
    /// The first segment whose records are needed beside the checkpoint.
    pub floor: SegmentId,
    /// The last record appended before the checkpoint began.
    pub begin: Lsn,
    /// Bytes of the file, this block included.
    pub file_size: u64,
    /// Byte offset of the table; frames end there.
    pub table_offset: u32,
    /// Rows of the table.
    pub rows: u32,
    /// Checksum of the rows.
    pub table_crc: u32,
    /// Header checksum of the last frame, 0 when there is none.
    pub last_frame: u32,
    /// Whether the checkpoint has no further part.
    pub is_last: bool,
}

/// Why a file is not the part of a checkpoint that it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PartError {
    /// The last block is not a seal, or the seal's checksum is wrong.
    #[error("its last block is not the seal of a checkpoint's part")]
    NotSealed,
    /// A good seal of another part or checkpoint.
    #[error("its seal is of {found}")]
    OtherPart {
        /// In the seal.
        found: PartId,
    },
    /// A good seal of another log.
    #[error("it is not this log's: {0}; look for files copied between data directories")]
    Foreign(#[from] ForeignField),
    /// Written by a newer program.
    #[error(
        "it was written by a newer Certus: format version {found}, this one reads up to \
         {supported}; start the newer program again"
    )]
    Newer {
        /// In the seal.
        found: u16,
        /// What this program reads.
        supported: u16,
    },
    /// Lengths that do not fit each other, or the file.
    #[error("its seal says {said} bytes, the file has {size}")]
    Size {
        /// By the seal.
        said: u64,
        /// Of the file.
        size: u64,
    },
    /// The table does not match its checksum.
    #[error("checksum of its table is {found:#010x}, the bytes give {computed:#010x}")]
    TableChecksum {
        /// In the seal.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
}

impl Seal {
    /// Bytes of the table with its padding.
    #[must_use]
    pub fn table_length(&self) -> u64 {
        (u64::from(self.rows) * ROW_SIZE as u64).next_multiple_of(BLOCK_SIZE as u64)
    }

    /// Writes the seal over the last block of a part.
    ///
    /// # Panics
    ///
    /// When `block` is not a block.
    pub fn encode_into(&self, block: &mut [u8]) {
        assert!(block.len() == BLOCK_SIZE, "a seal is a block");
        let mut writer = Writer::new(block);
        writer.bytes(&MAGIC);
        writer.u16(FORMAT_VERSION);
        writer.bytes(&[self.identity.node, u8::from(self.is_last)]);
        writer.u16(self.identity.core);
        writer.u16(self.identity.core_count);
        writer.u64(self.part.file().0);
        writer.u64(self.identity.cluster);
        writer.u64(self.identity.incarnation_low());
        writer.u64(self.identity.incarnation_high());
        writer.u64(self.floor.0);
        writer.u64(self.begin.0);
        writer.u64(self.file_size);
        writer.u32(self.table_offset);
        writer.u32(self.rows);
        writer.u32(self.table_crc);
        writer.u32(self.last_frame);
        writer.zeros_to_end();
        let crc = crc32fast::hash(&block[..CHECKED]);
        block[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Where the seal begins in a file of `size` bytes.
    ///
    /// # Errors
    ///
    /// When that is not the size of a part.
    pub fn offset_in(size: u64) -> Result<u64, PartError> {
        let block = BLOCK_SIZE as u64;
        size.checked_sub(block).filter(|at| at.is_multiple_of(block)).ok_or(PartError::NotSealed)
    }

    /// Parses the last block of a file of `size` bytes that should be `part` of `identity`'s log.
    ///
    /// # Errors
    ///
    /// Says what is there instead.
    pub fn parse(
        block: &[u8],
        identity: &LogIdentity,
        part: PartId,
        size: u64,
    ) -> Result<Self, PartError> {
        let block = block.get(..BLOCK_SIZE).ok_or(PartError::NotSealed)?;
        let mut reader = Reader::new(block);
        let magic = reader.take();
        let version = reader.u16();
        let node = reader.u8();
        let is_last = reader.u8();
        let (core, core_count) = (reader.u16(), reader.u16());
        let file = SegmentId(reader.u64());
        let cluster = reader.u64();
        let (low, high) = (reader.u64(), reader.u64());
        let (floor, begin) = (SegmentId(reader.u64()), Lsn(reader.u64()));
        let file_size = reader.u64();
        let (table_offset, rows) = (reader.u32(), reader.u32());
        let (table_crc, last_frame) = (reader.u32(), reader.u32());
        let crc = reader.u32();
        if magic != MAGIC || crc != crc32fast::hash(&block[..CHECKED]) {
            return Err(PartError::NotSealed);
        }
        if version > FORMAT_VERSION {
            return Err(PartError::Newer { found: version, supported: FORMAT_VERSION });
        }
        if version == 0 || is_last > 1 || !is_zero(reader.rest()) {
            return Err(PartError::NotSealed);
        }
        let incarnation = u128::from(high) << 64 | u128::from(low);
        let found = LogIdentity { cluster, node, incarnation, core, core_count };
        found.check(identity)?;
        let found = PartId::of_file(file).ok_or(PartError::NotSealed)?;
        if found != part {
            return Err(PartError::OtherPart { found });
        }
        let seal = Self {
            identity: *identity,
            part,
            floor,
            begin,
            file_size,
            table_offset,
            rows,
            table_crc,
            last_frame,
            is_last: is_last == 1,
        };
        let said = u64::from(table_offset) + seal.table_length() + BLOCK_SIZE as u64;
        if said != size || file_size != size {
            return Err(PartError::Size { said: file_size, size });
        }
        Ok(seal)
    }
}

/// Reads a part's table, whose bytes come in pieces.
#[derive(Debug)]
pub struct TableReader {
    seal: Seal,
    hasher: crc32fast::Hasher,
    /// Bytes of a row that is not whole yet.
    pending: Vec<u8>,
    left: u64,
}

impl TableReader {
    /// For the table that `seal` names: the bytes from [`Seal::table_offset`] on.
    #[must_use]
    pub fn new(seal: Seal) -> Self {
        let left = u64::from(seal.rows) * ROW_SIZE as u64;
        Self { seal, hasher: crc32fast::Hasher::new(), pending: Vec::new(), left }
    }

    /// Takes the next bytes, any number of them; padding behind the rows is ignored. The rows
    /// handed to `visit` count only if [`TableReader::finish`] finds no fault.
    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(Row)) {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= length as u64;
        self.hasher.update(&bytes[..length]);
        let mut bytes = &bytes[..length];
        if !self.pending.is_empty() {
            let missing = (ROW_SIZE - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.pending.len() < ROW_SIZE {
                return;
            }
            visit(Row::decode(self.seal.part, &self.pending));
            self.pending.clear();
        }
        let rows = bytes.chunks_exact(ROW_SIZE);
        self.pending.extend_from_slice(rows.remainder());
        rows.for_each(|row| visit(Row::decode(self.seal.part, row)));
    }

    /// All bytes were fed.
    ///
    /// # Errors
    ///
    /// When they do not match their checksum.
    pub fn finish(self) -> Result<(), PartError> {
        let computed = self.hasher.finalize();
        let found = self.seal.table_crc;
        let whole = self.left == 0 && self.pending.is_empty();
        if whole && (computed == found || planted!("table-checksum-unchecked")) {
            Ok(())
        } else {
            Err(PartError::TableChecksum { found, computed })
        }
    }
}
