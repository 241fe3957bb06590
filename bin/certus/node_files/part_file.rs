//! One file of a checkpoint, or of a backup, read to its last byte.

use std::fs::File;
use std::io;
use std::path::Path;

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::checkpoint::check::{PartCheck, PartDamage, PartSummary};
use plog::checkpoint::seal::{PartError, Seal};
use plog::identity::LogIdentity;
use plog::log_record::LogRecord;

use crate::node_files::log_files::open;
use crate::node_files::reading::{CHUNK_SIZE, Source as _, chunk_at};
use crate::progress::Progress;

/// Why a part is not whole, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PartFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Part(#[from] PartError),
    #[error("{0}")]
    Damage(#[from] PartDamage),
}

/// A part that is whole.
#[derive(Clone, Copy, Debug)]
pub struct WholePart {
    pub summary: PartSummary,
    /// Checksum of the whole file.
    pub checksum: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether no further part follows.
    pub is_last: bool,
}

/// Looks at every byte of the part in the file at `path`, and hands its images to `visit`; they
/// count only if no fault is found.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_part_at(
    path: &Path,
    identity: &LogIdentity,
    part: PartId,
    progress: &Progress,
    visit: &mut dyn FnMut(LogRecord),
) -> Result<WholePart, PartFileError> {
    read_part(&open(path)?, identity, part, progress, visit)
}

/// The same of an open file.
///
/// # Errors
///
/// What is wrong with it.
pub fn read_part(
    file: &File,
    identity: &LogIdentity,
    part: PartId,
    progress: &Progress,
    visit: &mut dyn FnMut(LogRecord),
) -> Result<WholePart, PartFileError> {
    let bytes = file.metadata()?.len();
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let seal_at = Seal::offset_in(bytes)?;
    file.read_full(&mut buffer, seal_at, BLOCK_SIZE)?;
    let seal = Seal::parse(&buffer[..BLOCK_SIZE], identity, part, bytes)?;
    let last_block = buffer[..BLOCK_SIZE].to_vec();
    let mut hasher = crc32fast::Hasher::new();
    let mut check = PartCheck::new(seal);
    let mut offset = 0;
    while offset < seal_at {
        let count = chunk_at(offset, seal_at);
        file.read_full(&mut buffer, offset, count)?;
        progress.took(count);
        hasher.update(&buffer[..count]);
        check.feed(&buffer[..count], visit);
        offset += count as u64;
    }
    hasher.update(&last_block);
    let summary = check.finish()?;
    Ok(WholePart { summary, checksum: hasher.finalize(), bytes, is_last: seal.is_last })
}
