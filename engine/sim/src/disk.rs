//! One core's simulated disk.
//!
//! Fault model: a write that was reported survives a crash whole. Of a write under way at a crash,
//! any subset of its blocks may have reached the disk. Files are made and renamed atomically.

use std::collections::BTreeMap;

use plog::block::BLOCK_SIZE;
use plog::location::Location;
use plog::segment::SegmentId;

/// Segment files by sequence number.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    /// Writes made durable.
    pub writes: u64,
}

impl Disk {
    /// Makes room for a segment: a pre-written spare takes its name.
    pub fn create(&mut self, segment: SegmentId, size: usize) {
        let before = self.segments.insert(segment, vec![0; size]);
        assert!(before.is_none(), "a segment is opened once");
    }

    /// A write in full.
    pub fn write(&mut self, segment: SegmentId, offset: u64, bytes: &[u8]) {
        self.writes += 1;
        self.write_some(segment, offset, bytes, |_| true);
    }

    /// A write of those blocks that `survives` names.
    pub fn write_some(
        &mut self,
        segment: SegmentId,
        offset: u64,
        bytes: &[u8],
        mut survives: impl FnMut(usize) -> bool,
    ) {
        let file = self.segments.get_mut(&segment).expect("written after it was opened");
        let offset = usize::try_from(offset).expect("inside a segment");
        assert!(offset.is_multiple_of(BLOCK_SIZE) && bytes.len().is_multiple_of(BLOCK_SIZE));
        assert!(offset + bytes.len() <= file.len(), "a write stays inside its segment");
        for (number, block) in bytes.chunks(BLOCK_SIZE).enumerate() {
            if survives(number) {
                let begin = offset + number * BLOCK_SIZE;
                file[begin..begin + BLOCK_SIZE].copy_from_slice(block);
            }
        }
    }

    /// The aligned bytes around a record.
    #[must_use]
    pub fn read(&self, location: Location) -> Vec<u8> {
        let (offset, length) = location.blocks();
        let offset = usize::try_from(offset).expect("inside a segment");
        self.segments[&location.segment][offset..offset + length].to_vec()
    }

    /// All segments, ascending.
    pub fn segments(&self) -> impl Iterator<Item = (SegmentId, &[u8])> {
        self.segments.iter().map(|(segment, bytes)| (*segment, &bytes[..]))
    }
}
