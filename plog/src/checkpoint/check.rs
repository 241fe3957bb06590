//! Looks at every byte of a part, as no start does: a start reads the tables, and an image when its
//! entity is touched.

use std::collections::BTreeMap;

use crate::block::{BLOCK_SIZE, is_zero};
use crate::checkpoint::seal::{PartError, Seal, TableReader};
use crate::checkpoint::table::{ROW_SIZE, Row};
use crate::location::Location;
use crate::log_record::LogRecord;
use crate::recovery::{DamageReason, Recovered, ScanError, Scanner};
use crate::segment::{HeaderError, SegmentHeader};
use crate::vocabulary::{EntityId, Entry};

/// What is wrong with a part whose seal is right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PartDamage {
    /// The first block.
    #[error("its header: {0}")]
    Header(#[from] HeaderError),
    /// A frame.
    #[error("the frame at byte {offset}: {reason}")]
    Frame {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        reason: DamageReason,
    },
    /// A frame of another log or version.
    #[error("{0}")]
    Scan(#[from] ScanError),
    /// Frames end elsewhere than the seal says.
    #[error("its frames do not end where its seal says")]
    FramesEnd,
    /// The table.
    #[error("{0}")]
    Table(#[from] PartError),
    /// A byte behind the table.
    #[error("a padding byte behind its table is not zero")]
    Padding,
    /// The table speaks of other images than there are.
    #[error("its table and its frames differ at entity {:016x}", entity.0)]
    Differ {
        /// Of which entity.
        entity: EntityId,
    },
}

/// What a part that is whole holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PartSummary {
    /// Entities with an image.
    pub images: u64,
    /// Entities that abstain.
    pub abstaining: u64,
}

/// See the module page.
#[derive(Debug)]
pub struct PartCheck {
    seal: Seal,
    scanner: Option<Scanner>,
    table: TableReader,
    position: u64,
    header: Vec<u8>,
    images: BTreeMap<Location, (EntityId, Entry)>,
    rows: Vec<Row>,
    damage: Option<PartDamage>,
}

impl PartCheck {
    /// For the part with this seal.
    #[must_use]
    pub fn new(seal: Seal) -> Self {
        let block = u64::try_from(BLOCK_SIZE).expect("a block is small");
        let frames = u64::from(seal.table_offset);
        let scanner = (frames > block).then(|| {
            let mut scanner = Scanner::new(seal.identity);
            scanner.begin_segment(seal.part.file(), frames);
            scanner
        });
        Self {
            seal,
            scanner,
            table: TableReader::new(seal),
            position: 0,
            header: Vec::new(),
            images: BTreeMap::new(),
            rows: Vec::new(),
            damage: None,
        }
    }

    /// Takes the next bytes of the file, from its first to the last before the seal, and hands on
    /// the images in them. They count only if [`PartCheck::finish`] finds no fault.
    pub fn feed(&mut self, bytes: &[u8], visit: &mut dyn FnMut(LogRecord)) {
        let frames_end = u64::from(self.seal.table_offset);
        let left = usize::try_from(frames_end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let (frames, table) = bytes.split_at(left.min(bytes.len()));
        if self.header.len() < BLOCK_SIZE {
            let missing = (BLOCK_SIZE - self.header.len()).min(frames.len());
            self.header.extend_from_slice(&frames[..missing]);
        }
        if let Some(scanner) = &mut self.scanner
            && self.damage.is_none()
        {
            let images = &mut self.images;
            let fed = scanner.feed(frames, &mut |scanned| {
                let (entity, applied) = (scanned.record.entity(), scanned.record.entry());
                images.insert(scanned.location, (entity, applied));
                visit(scanned.record);
            });
            self.damage = fed.err().map(PartDamage::Scan);
        }
        let begin = self.position.max(frames_end) - frames_end;
        let rows_end = u64::from(self.seal.rows) * ROW_SIZE as u64;
        let rows = usize::try_from(rows_end.saturating_sub(begin)).unwrap_or(usize::MAX);
        if !is_zero(&table[rows.min(table.len())..]) {
            self.damage.get_or_insert(PartDamage::Padding);
        }
        let all = &mut self.rows;
        self.table.feed(table, &mut |row| all.push(row));
        self.position += u64::try_from(bytes.len()).expect("a length fits 64 bits");
    }

    /// All bytes were fed.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn finish(mut self) -> Result<PartSummary, PartDamage> {
        let header = SegmentHeader::parse_for(&self.header, &self.seal.identity)?;
        if header.segment != self.seal.part.file() {
            return Err(HeaderError::Damaged.into());
        }
        if let Some(damage) = self.damage.take() {
            return Err(damage);
        }
        let (end, last) = match self.scanner.map(Scanner::finish) {
            None => (u64::from(self.seal.table_offset), 0),
            Some(Recovered::Clean(tail)) => (tail.offset, tail.last_frame_crc),
            Some(Recovered::Damaged { offset, reason, .. }) => {
                return Err(PartDamage::Frame { offset, reason });
            }
            Some(Recovered::TornTail { .. } | Recovered::Empty) => {
                return Err(PartDamage::FramesEnd);
            }
        };
        if end != u64::from(self.seal.table_offset) || last != self.seal.last_frame {
            return Err(PartDamage::FramesEnd);
        }
        self.table.finish()?;
        let mut summary = PartSummary::default();
        for row in &self.rows {
            let Some(image) = row.image else {
                summary.abstaining += 1;
                continue;
            };
            summary.images += 1;
            if self.images.remove(&image) != Some((row.entity, row.applied)) {
                return Err(PartDamage::Differ { entity: row.entity });
            }
        }
        match self.images.first_key_value() {
            Some((_, (entity, _))) => Err(PartDamage::Differ { entity: *entity }),
            None => Ok(summary),
        }
    }
}
