//! Reading a file to which frames are appended meanwhile.
//!
//! A good frame behind a place where a moment ago there was none would look like damage in between.
//! So such a file is read from its end to its beginning: where a frame is found, all before it was
//! written earlier, and is read later. A frame that is being written is the last one then, and
//! looks like a write that was cut off.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use plog::block::{AlignedBuffer, BLOCK_SIZE};

/// Bytes handed on at a time.
pub const CHUNK_SIZE: usize = 1 << 20;

/// Bytes of which two reads are compared.
const PIECE_SIZE: usize = 64 << 10;

/// Where bytes come from. One block is read as it was before a write or as it is after it; several
/// blocks of one read may be read in any order.
pub trait Source {
    /// Reads `length` bytes at `offset`, which are there, to the beginning of `buffer`, which has
    /// room for whole blocks.
    ///
    /// # Errors
    ///
    /// The operating system's; `UnexpectedEof` when the file became shorter.
    fn read_full(&self, buffer: &mut AlignedBuffer, offset: u64, length: usize) -> io::Result<()>;
}

impl Source for File {
    fn read_full(&self, buffer: &mut AlignedBuffer, offset: u64, length: usize) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            // Direct IO asks for whole blocks, also where the file ends.
            let asked = length.next_multiple_of(BLOCK_SIZE);
            let count = self.read_at(&mut buffer[done..asked], offset + done as u64)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter"));
            }
            done += count;
        }
        Ok(())
    }
}

/// How many bytes the chunk at `offset` of a file of `size` bytes has.
pub fn chunk_at(offset: u64, size: u64) -> usize {
    usize::try_from(size - offset).unwrap_or(usize::MAX).min(CHUNK_SIZE)
}

/// All of a file of `size` bytes, first chunk first, but read from its end. See the module page.
///
/// # Errors
///
/// The operating system's.
pub fn read_backwards(source: &dyn Source, size: u64) -> io::Result<Vec<Vec<u8>>> {
    let mut chunks = Vec::new();
    for number in (0..size.div_ceil(CHUNK_SIZE as u64)).rev() {
        let offset = number * CHUNK_SIZE as u64;
        let mut chunk = vec![0; chunk_at(offset, size)];
        for begin in (0..chunk.len()).step_by(PIECE_SIZE).rev() {
            let end = chunk.len().min(begin + PIECE_SIZE);
            read_piece(source, offset + begin as u64, &mut chunk[begin..end])?;
        }
        chunks.push(chunk);
    }
    chunks.reverse();
    Ok(chunks)
}

/// Reads a piece as if its last block was read first. Two reads that give the same are as good:
/// what the second one saw of a block was there when the first one had seen all. Where they differ
/// somebody is writing, and the piece is read block by block.
fn read_piece(source: &dyn Source, offset: u64, piece: &mut [u8]) -> io::Result<()> {
    let length = piece.len();
    let mut again = AlignedBuffer::zeroed(PIECE_SIZE);
    source.read_full(&mut again, offset, length)?;
    piece.copy_from_slice(&again[..length]);
    source.read_full(&mut again, offset, length)?;
    if *piece == again[..length] {
        return Ok(());
    }
    for begin in (0..length).step_by(BLOCK_SIZE).rev() {
        let end = length.min(begin + BLOCK_SIZE);
        source.read_full(&mut again, offset + begin as u64, end - begin)?;
        piece[begin..end].copy_from_slice(&again[..end - begin]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io;

    use plog::block::{AlignedBuffer, BLOCK_SIZE};
    use plog::identity::LogIdentity;
    use plog::log::{Log, LogConfig, Urgency};
    use plog::log_record::LogRecord;
    use plog::recovery::{Recovered, Scanner};
    use plog::segment::{SegmentId, SpareId};
    use plog::vocabulary::{AcceptorId, BootEpoch, EntityId, Entry, ValueId};

    use super::{CHUNK_SIZE, PIECE_SIZE, Source, read_backwards};

    const SIZE: u32 = 3 << 20;
    const IDENTITY: LogIdentity =
        LogIdentity { cluster: 1, node: 0, incarnation: 7, core: 0, core_count: 1 };

    /// The bytes of all writes to one segment, in order: block and content.
    fn writes() -> Vec<Vec<(usize, Vec<u8>)>> {
        let config = LogConfig {
            segment_size: SIZE,
            frame_size_max: 64 << 10,
            ..LogConfig::for_identity(IDENTITY)
        };
        let mut log = Log::new(config, None);
        log.handle_spare(SpareId(1));
        let mut writes = Vec::new();
        for number in 1.. {
            let value_id =
                ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter: number };
            let bytes = vec![1; usize::try_from(number % 5).unwrap() * 3000].into();
            let (entity, entry) = (EntityId(1), Entry(number));
            log.append(&LogRecord::Value { entity, entry, value_id, bytes }, Urgency::Now);
            let Some(write) = log.poll_write() else { return writes };
            let first = usize::try_from(write.offset).unwrap() / BLOCK_SIZE;
            let blocks = write.buffer.chunks(BLOCK_SIZE).map(<[u8]>::to_vec);
            writes.push((first..).zip(blocks).collect());
            log.handle_written(write.buffer);
        }
        writes
    }

    /// A file to which blocks are written, a `burst` of them before every `pause`th block that is
    /// read, in a write's order or against it. The blocks of one read are read in ascending order.
    struct Growing {
        state: RefCell<State>,
        pause: usize,
        burst: usize,
    }

    struct State {
        bytes: Vec<u8>,
        coming: Vec<(usize, Vec<u8>)>,
        read: usize,
    }

    impl Growing {
        fn new(written: usize, [pause, burst]: [usize; 2], reversed: bool) -> Self {
            let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
            let mut coming = Vec::new();
            for (number, mut blocks) in writes().into_iter().enumerate() {
                if number < written {
                    for (block, content) in blocks {
                        bytes[block * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(&content);
                    }
                } else {
                    if reversed {
                        blocks.reverse();
                    }
                    coming.extend(blocks);
                }
            }
            coming.reverse();
            Self { state: RefCell::new(State { bytes, coming, read: 0 }), pause, burst }
        }
    }

    impl Source for Growing {
        fn read_full(&self, buffer: &mut AlignedBuffer, at: u64, length: usize) -> io::Result<()> {
            let mut state = self.state.borrow_mut();
            let at = usize::try_from(at).unwrap();
            for begin in (0..length).step_by(BLOCK_SIZE) {
                state.read += 1;
                let written = if state.read.is_multiple_of(self.pause) { self.burst } else { 0 };
                for _ in 0..written {
                    let Some((block, content)) = state.coming.pop() else { break };
                    state.bytes[block * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(&content);
                }
                let end = length.min(begin + BLOCK_SIZE);
                buffer[begin..end].copy_from_slice(&state.bytes[at + begin..at + end]);
            }
            Ok(())
        }
    }

    fn is_damaged(chunks: &[Vec<u8>]) -> bool {
        let mut scanner = Scanner::new(IDENTITY);
        scanner.begin_segment(SegmentId(1), SIZE.into());
        for chunk in chunks {
            scanner.feed(chunk, &mut |_| {}).unwrap();
        }
        matches!(scanner.finish(), Recovered::Damaged { .. })
    }

    /// What is read in the plain order.
    fn read_forwards(source: &dyn Source) -> Vec<Vec<u8>> {
        let mut piece = AlignedBuffer::zeroed(PIECE_SIZE);
        let pieces = (0..u64::from(SIZE)).step_by(PIECE_SIZE).map(|offset| {
            source.read_full(&mut piece, offset, PIECE_SIZE).unwrap();
            piece[..PIECE_SIZE].to_vec()
        });
        pieces.collect()
    }

    #[test]
    fn frames_that_are_appended_meanwhile_are_never_damage() {
        assert!(usize::try_from(SIZE).unwrap() > 2 * CHUNK_SIZE);
        let count = writes().len();
        let mut forwards = 0;
        for written in [1, 2, count / 3, count / 2, count - 20] {
            for pace in [[1, 1], [1, 3], [2, 1], [3, 10], [7, 1], [16, 40], [50, 200]] {
                for reversed in [false, true] {
                    let source = Growing::new(written, pace, reversed);
                    let chunks = read_backwards(&source, SIZE.into()).unwrap();
                    assert!(!is_damaged(&chunks), "{written} written, {pace:?}, {reversed}");
                    let source = Growing::new(written, pace, reversed);
                    forwards += usize::from(is_damaged(&read_forwards(&source)));
                }
            }
        }
        assert!(forwards > 5, "in the plain order it often looks like damage: {forwards}");
    }
}
