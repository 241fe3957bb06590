//! One core's simulated disk.
//!
//! Fault model: a write that was reported survives a crash whole. Of a write under way at a crash,
//! any subset of its blocks may have reached the disk. Files are made and renamed atomically. At
//! rest, a bit may rot, and a block may have been written over by another ("misdirected").

use std::collections::{BTreeMap, VecDeque};
use std::iter;
use std::ops::Range;

use plog::block::BLOCK_SIZE;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::{CheckpointId, PartId};
use plog::location::Location;
use plog::segment::SegmentId;

/// Segment files by sequence number.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    segments: BTreeMap<SegmentId, DiskFile>,
    /// How far each segment was written, in bytes, but for the last write: damage there cannot be
    /// told from a write that a crash tore, and no log could.
    settled: BTreeMap<SegmentId, usize>,
    /// What freed segments held, for those that are made of them.
    freed: VecDeque<DiskFile>,
    /// Which checkpoint counts.
    pub pointer: Option<Pointer>,
    /// Where the last write that was reported ended.
    last: Option<(SegmentId, usize)>,
    /// Writes made durable.
    pub writes: u64,
}

/// A file. Most segments of a run are hardly written, and zeros that nobody looks at are not kept.
#[derive(Clone, Debug, Default)]
pub struct DiskFile {
    size: usize,
    /// The file as far as it was ever written; zeros from there on.
    written: Vec<u8>,
}

impl DiskFile {
    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes in `range`, to be changed.
    ///
    /// # Panics
    ///
    /// When it is not inside the file.
    fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.end <= self.size, "a write stays inside its file");
        if self.written.len() < range.end {
            self.written.resize(range.end, 0);
        }
        &mut self.written[range]
    }

    /// A copy of the bytes in `range`.
    ///
    /// # Panics
    ///
    /// When it is not inside the file.
    fn read(&self, range: Range<usize>) -> Vec<u8> {
        assert!(range.end <= self.size, "a read stays inside its file");
        let end = range.end.min(self.written.len());
        let mut bytes = Vec::with_capacity(range.len());
        bytes.extend_from_slice(&self.written[range.start.min(end)..end]);
        bytes.resize(range.len(), 0);
        bytes
    }

    /// The whole file: what was written, then zeros.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let mut zeros = self.size - self.written.len();
        let rest = iter::from_fn(move || {
            let length = zeros.min(ZEROS.len());
            zeros -= length;
            (length > 0).then(|| &ZEROS[..length])
        });
        iter::once(&self.written[..]).filter(|bytes| !bytes.is_empty()).chain(rest)
    }
}

static ZEROS: [u8; 16 * BLOCK_SIZE] = [0; 16 * BLOCK_SIZE];

impl Disk {
    /// Makes room for a segment: a pre-written spare takes its name.
    ///
    /// # Panics
    ///
    /// When the segment is there already.
    pub fn create(&mut self, segment: SegmentId, size: usize) {
        let file = DiskFile { size, written: Vec::with_capacity(size) };
        let before = self.segments.insert(segment, file);
        assert!(before.is_none(), "a segment is opened once");
    }

    /// The same with a file that was the oldest segment before, and holds its frames still. False,
    /// and a file of zeros, when there is none that is full.
    ///
    /// # Panics
    ///
    /// When the segment is there already.
    pub fn create_recycled(&mut self, segment: SegmentId, size: usize) -> bool {
        let oldest = || self.segments.values().next().cloned();
        let old = self.freed.pop_front().or_else(oldest);
        self.create(segment, size);
        match old {
            Some(old) if old.size == size => {
                self.segments.insert(segment, old);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A write in full.
    pub fn write(&mut self, segment: SegmentId, offset: u64, bytes: &[u8]) {
        self.writes += 1;
        self.write_some(segment, offset, bytes, |_| true);
        // Only a whole write after it tells damage from a torn write.
        let begin = usize::try_from(offset).expect("inside a segment");
        if let Some((before, end)) = self.last.replace((segment, begin + bytes.len())) {
            self.settled.insert(before, end);
        }
    }

    /// A write of those blocks that `survives` names.
    ///
    /// # Panics
    ///
    /// When the write is not of whole blocks inside the segment.
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
        assert!(offset + bytes.len() <= file.size, "a write stays inside its segment");
        for (number, block) in bytes.chunks(BLOCK_SIZE).enumerate() {
            if survives(number) {
                let begin = offset + number * BLOCK_SIZE;
                if begin == file.written.len() {
                    file.written.extend_from_slice(block); // without zeros first
                } else {
                    file.bytes_mut(begin..begin + BLOCK_SIZE).copy_from_slice(block);
                }
            }
        }
    }

    /// Takes away everything from a place on.
    ///
    /// # Panics
    ///
    /// When the place is not at the beginning of a block.
    pub fn cut(&mut self, segment: SegmentId, offset: u64) {
        let begin = usize::try_from(offset).expect("inside a segment");
        assert!(begin.is_multiple_of(BLOCK_SIZE), "what is damaged is a frame or a file");
        self.segments.retain(|held, _| *held <= segment);
        self.settled.retain(|held, _| *held <= segment);
        if let Some(file) = self.segments.get_mut(&segment) {
            file.written.truncate(begin);
        }
        if let Some(settled) = self.settled.get_mut(&segment) {
            *settled = begin.min(*settled);
        }
        self.last = None;
    }

    /// The aligned bytes around a record.
    #[must_use]
    pub fn read(&self, location: Location) -> Vec<u8> {
        let (offset, length) = location.blocks();
        let offset = usize::try_from(offset).expect("inside a segment");
        self.segments[&location.segment()].read(offset..offset + length)
    }

    /// All segments from `floor` on, ascending.
    pub fn segments(&self, floor: SegmentId) -> impl Iterator<Item = (SegmentId, &DiskFile)> {
        let segments = self.segments.range(floor..CheckpointId(0).part(0).file());
        segments.map(|(segment, file)| (*segment, file))
    }

    /// Writes to a checkpoint's part, at its end. The bytes are not safe before the checkpoint is
    /// adopted, and one that is not has no name.
    ///
    /// # Panics
    ///
    /// When it is not at the end.
    pub fn write_part(&mut self, part: PartId, offset: u64, bytes: &[u8]) {
        if offset == 0 {
            self.segments.insert(part.file(), DiskFile::default());
        }
        let file = self.segments.get_mut(&part.file()).expect("made by its first write");
        assert!(u64::try_from(file.size).is_ok_and(|end| end == offset), "parts grow at their end");
        file.written.extend_from_slice(bytes);
        file.size = file.written.len();
    }

    /// The parts of a checkpoint, ascending.
    pub fn parts(&self, checkpoint: CheckpointId) -> impl Iterator<Item = (PartId, &[u8])> {
        let files = checkpoint.part(0).file()..=checkpoint.part(u16::MAX).file();
        let parts = self.segments.range(files);
        parts.filter_map(|(file, bytes)| Some((PartId::of_file(*file)?, &bytes.written[..])))
    }

    /// A checkpoint counts from now on; its bytes may rot like others.
    pub fn adopt(&mut self, pointer: Pointer) {
        self.pointer = Some(pointer);
        let parts = self.parts(pointer.checkpoint);
        let settled: Vec<_> = parts.map(|(part, bytes)| (part.file(), bytes.len())).collect();
        self.settled.extend(settled);
    }

    /// Deletes a checkpoint's parts.
    pub fn remove_checkpoint(&mut self, checkpoint: CheckpointId) {
        let parts: Vec<_> = self.parts(checkpoint).map(|(part, _)| part.file()).collect();
        for part in parts {
            self.segments.remove(&part);
            self.settled.remove(&part);
        }
    }

    /// A segment is no longer needed. Its bytes may come back in a file that is made of it.
    pub fn free(&mut self, segment: SegmentId, is_recycled: bool) {
        let bytes = self.segments.remove(&segment);
        self.settled.remove(&segment);
        self.freed.extend(bytes.filter(|_| is_recycled));
    }

    /// What a start does before it reads: files that do not count go.
    pub fn tidy(&mut self) {
        let adopted = self.pointer.map(|pointer| pointer.checkpoint);
        let floor = self.pointer.map_or(SegmentId::FIRST, |pointer| pointer.floor);
        let counts = |file: SegmentId| match PartId::of_file(file) {
            Some(part) => Some(part.checkpoint) == adopted,
            None => file >= floor,
        };
        self.segments.retain(|file, _| counts(*file));
        self.settled.retain(|file, _| counts(*file));
    }

    /// Bytes that were written so far, of all segments, before the last write.
    #[must_use]
    pub fn settled_bytes(&self) -> usize {
        self.settled.values().sum()
    }

    /// Flips a bit of the `position`-th settled byte. Where it was.
    pub fn rot(&mut self, position: usize, bit: u32) -> Option<(SegmentId, usize)> {
        let (segment, offset) = self.place(position)?;
        let file = self.segments.get_mut(&segment).expect("written, so there");
        file.bytes_mut(offset..offset + 1)[0] ^= 1 << (bit % 8);
        Some((segment, offset))
    }

    /// Writes the block around one settled byte over the block around another, as a disk that took
    /// a write to the wrong place would. Where that was; `None` when nothing changed.
    pub fn misdirect(&mut self, from: usize, to: usize) -> Option<(SegmentId, usize)> {
        let (source, source_offset) = self.place(from)?;
        let (target, target_offset) = self.place(to)?;
        let begin = source_offset / BLOCK_SIZE * BLOCK_SIZE;
        let block = self.segments[&source].read(begin..begin + BLOCK_SIZE);
        let begin = target_offset / BLOCK_SIZE * BLOCK_SIZE;
        let target_file = self.segments.get_mut(&target).expect("there");
        let place = target_file.bytes_mut(begin..begin + BLOCK_SIZE);
        if *place == block[..] {
            return None;
        }
        place.copy_from_slice(&block);
        Some((target, begin))
    }

    fn place(&self, mut position: usize) -> Option<(SegmentId, usize)> {
        for (segment, settled) in &self.settled {
            if position < *settled {
                return Some((*segment, position));
            }
            position -= settled;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use plog::block::BLOCK_SIZE;
    use plog::segment::SegmentId;

    use super::{Disk, DiskFile};

    fn bytes_of(disk: &Disk, nth: usize) -> Vec<u8> {
        let (_, file) = disk.segments(SegmentId(1)).nth(nth).unwrap();
        file.chunks().collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_file_is_zeros_where_it_was_never_written() {
        let mut file = DiskFile { size: 20 * BLOCK_SIZE, written: Vec::new() };
        file.bytes_mut(BLOCK_SIZE..2 * BLOCK_SIZE).fill(7);
        let whole = file.chunks().collect::<Vec<_>>().concat();
        assert_eq!(whole.len(), 20 * BLOCK_SIZE);
        assert_eq!(whole, file.read(0..20 * BLOCK_SIZE));
        assert_eq!(whole.iter().filter(|byte| **byte == 7).count(), BLOCK_SIZE);
        assert_eq!(whole[BLOCK_SIZE..2 * BLOCK_SIZE], [7; BLOCK_SIZE]);
    }

    #[test]
    fn damage_hits_what_was_written_before_the_last_write_only() {
        let mut disk = Disk::default();
        disk.create(SegmentId(1), 4 * BLOCK_SIZE);
        disk.create(SegmentId(2), 4 * BLOCK_SIZE);
        disk.write(SegmentId(1), 0, &[7; BLOCK_SIZE]);
        assert_eq!(disk.rot(0, 0), None, "the last write is spared");
        disk.write(SegmentId(2), 0, &[9; BLOCK_SIZE]);
        disk.write(SegmentId(2), BLOCK_SIZE as u64, &[1; BLOCK_SIZE]);
        assert_eq!(disk.settled_bytes(), 2 * BLOCK_SIZE);
        assert_eq!(disk.rot(BLOCK_SIZE + 3, 0), Some((SegmentId(2), 3)));
        assert_eq!(disk.rot(2 * BLOCK_SIZE, 0), None);
        let second: Vec<u8> = bytes_of(&disk, 1);
        assert_eq!((second[2], second[3]), (9, 8));
        assert_eq!(disk.misdirect(0, BLOCK_SIZE), Some((SegmentId(2), 0)));
        assert_eq!(disk.misdirect(0, BLOCK_SIZE), None, "the same bytes are there by now");
    }

    #[test]
    fn a_recycled_segment_holds_the_oldest_ones_bytes() {
        let mut disk = Disk::default();
        assert!(!disk.create_recycled(SegmentId(1), BLOCK_SIZE), "nothing to recycle yet");
        disk.write(SegmentId(1), 0, &[7; BLOCK_SIZE]);
        assert!(disk.create_recycled(SegmentId(2), BLOCK_SIZE));
        assert_eq!(bytes_of(&disk, 1), [7; BLOCK_SIZE]);
        assert_eq!(disk.settled_bytes(), 0, "the stale bytes do not count as written");
    }
}
