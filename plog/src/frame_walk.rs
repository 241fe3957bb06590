//! Reading a log forward, from a place in its middle, frame by frame.
//!
//! A start reads a whole log with a [`Scanner`](crate::recovery::Scanner), which has to find out
//! where it ends. Here the end is known, and what is read is durable: each frame must be good, and
//! follow the one before it. So whatever is missing, was freed, or belongs to another log is seen
//! and never passed over.
//!
//! ```text
//! segment 7   │ … │ frame │ frame │ unused │
//!                 ^place: the next frame's offset, and the header checksum of the frame before it
//! segment 8   │ header │ frame │ …         it names the last frame of segment 7
//! ```

use crate::block::BLOCK_SIZE;
use crate::frame::{FrameError, FrameHeader};
use crate::identity::LogIdentity;
use crate::log_record::{LogRecord, RecordError};
use crate::segment::SegmentId;
use crate::vocabulary::Lsn;

/// Where a frame begins.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FramePlace {
    /// The segment.
    pub segment: SegmentId,
    /// Byte offset in it, a multiple of [`BLOCK_SIZE`]; below that only in a segment that has no
    /// frame yet.
    pub offset: u32,
    /// Header checksum of the frame before; 0 for the first one of a log.
    pub chain: u32,
}

impl FramePlace {
    /// Where the next segment's first frame begins, which follows the same frame.
    #[must_use]
    pub fn in_next_segment(self) -> Self {
        Self { segment: self.segment.next(), offset: first_offset(), chain: self.chain }
    }

    /// The same place, behind the segment's header.
    #[must_use]
    pub fn behind_header(self) -> Self {
        Self { offset: self.offset.max(first_offset()), ..self }
    }
}

fn first_offset() -> u32 {
    u32::try_from(BLOCK_SIZE).expect("a block is small")
}

/// A good frame.
#[derive(Clone, Copy, Debug)]
pub struct WalkedFrame<'bytes> {
    /// Its header.
    pub header: FrameHeader,
    /// Where the frame after it begins, if that is in the same segment.
    pub next: FramePlace,
    payload: &'bytes [u8],
}

/// Why there is no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoFrame {
    /// The bytes end before it does.
    #[error("the frame needs {0} bytes")]
    Needs(usize),
    /// No frame that follows the one before begins here: the segment ends here, or is damaged, or
    /// the place is of another log.
    #[error("{0}")]
    NotHere(FrameError),
}

impl<'bytes> WalkedFrame<'bytes> {
    /// The frame at `place`, at which `bytes` begin.
    ///
    /// # Errors
    ///
    /// When it is not there, or not all of it.
    pub fn read(
        bytes: &'bytes [u8],
        place: FramePlace,
        identity: &LogIdentity,
    ) -> Result<Self, NoFrame> {
        let block = bytes.get(..BLOCK_SIZE).ok_or(NoFrame::Needs(BLOCK_SIZE))?;
        let header =
            FrameHeader::parse(block, identity, place.segment).map_err(NoFrame::NotHere)?;
        if header.previous_frame != place.chain {
            let (found, expected) = (header.previous_frame, place.chain);
            return Err(NoFrame::NotHere(FrameError::Chain { found, expected }));
        }
        let length = usize::try_from(header.frame_length).expect("32 bits fit a usize");
        let frame = bytes.get(..length).ok_or(NoFrame::Needs(length))?;
        let payload = header.payload(frame).map_err(NoFrame::NotHere)?;
        let next = FramePlace {
            offset: place.offset.saturating_add(header.frame_length),
            chain: header.header_crc,
            ..place
        };
        Ok(Self { header, next, payload })
    }

    /// Hands each record to `take`, with its LSN.
    ///
    /// # Errors
    ///
    /// When the bytes are not the records that the header names.
    pub fn records(&self, mut take: impl FnMut(Lsn, LogRecord)) -> Result<(), RecordError> {
        let mut rest = self.payload;
        for number in 0..u64::from(self.header.record_count) {
            let (record, length) = LogRecord::decode(rest)?;
            rest = &rest[length..];
            take(Lsn(self.header.first_lsn.0 + number), record);
        }
        if rest.is_empty() { Ok(()) } else { Err(RecordError::Reserved) }
    }
}

#[cfg(test)]
mod tests {
    use super::{FramePlace, NoFrame, WalkedFrame};
    use crate::block::BLOCK_SIZE;
    use crate::frame::FrameError;
    use crate::identity::LogIdentity;
    use crate::log::{Log, Urgency};
    use crate::log_config::LogConfig;
    use crate::log_record::LogRecord;
    use crate::segment::{SegmentId, SpareId};
    use crate::vocabulary::{EntityId, Entry, Lsn};

    const IDENTITY: LogIdentity =
        LogIdentity { cluster: 1, node: 0, incarnation: 7, core: 0, core_count: 1 };

    /// Two segments as they are on disk, and the places at which the log stood after each frame.
    fn written(frames: u8) -> (Vec<Vec<u8>>, Vec<FramePlace>) {
        let mut config = LogConfig::for_identity(IDENTITY);
        (config.segment_size, config.frame_size_max) = (4 * 4096, 4096);
        let mut log = Log::new(config, None);
        (0..2).for_each(|spare| log.handle_spare(SpareId(spare)));
        let mut files = vec![vec![0; 4 * BLOCK_SIZE]; 2];
        let mut places = Vec::new();
        for frame in 0..frames {
            for number in 0..3 {
                let image = LogRecord::Image {
                    entity: EntityId(number),
                    applied: Entry(u64::from(frame)),
                    chain: 0,
                    last_value_id: None,
                    state: vec![frame; 100].into(),
                };
                log.append(&image, Urgency::Now);
            }
            let write = log.poll_write().unwrap();
            let file = &mut files[usize::try_from(write.segment.0).unwrap() - 1];
            let begin = usize::try_from(write.offset).unwrap();
            file[begin..begin + write.buffer.len()].copy_from_slice(&write.buffer);
            log.handle_written(write.buffer);
            places.push(log.end().unwrap());
            assert_eq!(log.last_appended(), log.last_record());
        }
        (files, places)
    }

    #[test]
    fn a_walk_from_any_place_finds_every_frame_behind_it_and_the_next_segment() {
        let (files, places) = written(5);
        let first = FramePlace { segment: SegmentId(1), offset: 0, chain: 0 }.behind_header();
        let mut starts = vec![first];
        starts.extend(&places);
        for (skip, start) in starts.into_iter().enumerate() {
            let (mut place, mut lsns) = (start, Vec::new());
            while let Some(file) = files.get(usize::try_from(place.segment.0).unwrap() - 1) {
                let begin = usize::try_from(place.offset).unwrap();
                match WalkedFrame::read(&file[begin..], place, &IDENTITY) {
                    Ok(frame) => {
                        frame.records(|lsn, _| lsns.push(lsn)).unwrap();
                        assert_eq!(frame.header.last_lsn(), *lsns.last().unwrap());
                        place = frame.next;
                    }
                    Err(_) => place = place.in_next_segment(),
                }
            }
            let expected: Vec<Lsn> = (1 + 3 * skip as u64..=15).map(Lsn).collect();
            assert_eq!(lsns, expected, "from {start:?}");
        }
    }

    #[test]
    fn a_frame_that_does_not_follow_is_cut_or_is_of_another_log_is_not_taken() {
        let (files, places) = written(2);
        let bytes = &files[0][usize::try_from(places[0].offset).unwrap()..];
        assert!(WalkedFrame::read(bytes, places[0], &IDENTITY).is_ok());
        let cut = WalkedFrame::read(&bytes[..BLOCK_SIZE - 1], places[0], &IDENTITY);
        assert_eq!(cut.unwrap_err(), NoFrame::Needs(BLOCK_SIZE));
        let other = FramePlace { chain: places[0].chain ^ 1, ..places[0] };
        let refused = WalkedFrame::read(bytes, other, &IDENTITY).unwrap_err();
        assert!(matches!(refused, NoFrame::NotHere(FrameError::Chain { .. })), "{refused}");
        let stranger = LogIdentity { incarnation: 8, ..IDENTITY };
        let refused = WalkedFrame::read(bytes, places[0], &stranger).unwrap_err();
        assert!(matches!(refused, NoFrame::NotHere(FrameError::Foreign { .. })), "{refused}");
        let mut changed = bytes.to_vec();
        changed[100] ^= 1;
        let refused = WalkedFrame::read(&changed, places[0], &IDENTITY).unwrap_err();
        assert!(matches!(refused, NoFrame::NotHere(FrameError::PayloadChecksum { .. })));
    }
}
