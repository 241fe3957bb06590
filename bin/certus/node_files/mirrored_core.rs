//! A mirror of one core, brought in step with its files again and again while a node may be writing
//! them.
//!
//! Nothing keeps the files for it. When those that it needs go, it begins anew from the checkpoint
//! that counts then, and says so.

use std::fs::File;
use std::io;
use std::path::Path;

use engine::replayer::{BeginAnew, ReplayError, Replayer, ReplayerConfig, Wants};
use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::checkpoint::seal::{Seal, TableReader};
use plog::identity::LogIdentity;
use plog::recovery::Scanner;
use plog::segment::SegmentId;
use plog::vocabulary::Lsn;
use runtime::node::checkpoint_files::read_pointer;

use crate::node_files::log_files::{Going, Listing, LogFiles, LogFilesError, Pass, is_whole, open};
use crate::node_files::reading::{CHUNK_SIZE, Source as _, chunk_at};
use crate::node_files::shown_keys::ShownKeys;

/// How often it begins anew in one look.
const ATTEMPTS: usize = 20;

/// Why a core cannot be mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("{0}")]
    Files(#[from] LogFilesError),
    /// The files contradict each other, or memory is too little.
    #[error("{directory}: {error}")]
    Replay { directory: String, error: ReplayError },
    #[error("{directory}: {what}; see certus plog verify")]
    Damaged { directory: String, what: String },
    #[error("{directory}: files went away {ATTEMPTS} times while they were read; try again")]
    Restless { directory: String },
}

/// See the module page.
#[derive(Debug)]
pub struct MirroredCore {
    pub core: u16,
    log: LogFiles,
    identity: LogIdentity,
    pub replayer: Replayer<ShownKeys>,
    /// What the log has to reach, by the checkpoint that was loaded.
    settled: Lsn,
}

impl MirroredCore {
    /// A mirror of the core whose log is `log`; it has nothing yet.
    pub fn new(log: LogFiles, identity: LogIdentity, memory_bytes: usize) -> Self {
        let config = ReplayerConfig { mirror_bytes_max: memory_bytes, ..ReplayerConfig::default() };
        let replayer = Replayer::new(config, ShownKeys::new());
        Self { core: identity.core, log, identity, replayer, settled: Lsn::ZERO }
    }

    fn directory(&self) -> String {
        self.log.directory.display().to_string()
    }

    /// Reads on to the end of the log. Why it had to begin anew, each time that it had to.
    ///
    /// # Errors
    ///
    /// When the files are damaged, cannot be read, or do not fit into memory.
    pub fn look(&mut self) -> Result<Vec<BeginAnew>, MirrorError> {
        let mut begun_anew = Vec::new();
        for _ in 0..ATTEMPTS {
            let ended = match self.replayer.wants() {
                Wants::Checkpoint => self.load(),
                Wants::Log { from, .. } => self.follow(from),
                Wants::Nothing => return Ok(begun_anew),
            };
            match ended {
                Ok(true) => return Ok(begun_anew),
                Ok(false) => {}
                Err(Trouble::Replay(ReplayError::BeginAnew(reason))) => begun_anew.push(reason),
                Err(Trouble::Replay(error)) => {
                    return Err(MirrorError::Replay { directory: self.directory(), error });
                }
                Err(Trouble::Error(error)) => return Err(error),
            }
        }
        match begun_anew.last() {
            // It was read anew, and is damaged still.
            Some(reason @ (BeginAnew::Damage { .. } | BeginAnew::Images { .. })) => {
                Err(self.damaged(&reason.to_string()))
            }
            Some(reason @ BeginAnew::HeldBack { .. }) => {
                Err(MirrorError::Replay { directory: self.directory(), error: (*reason).into() })
            }
            _ => Err(MirrorError::Restless { directory: self.directory() }),
        }
    }

    fn damaged(&self, what: &str) -> MirrorError {
        MirrorError::Damaged { directory: self.directory(), what: what.to_owned() }
    }

    /// Loads the checkpoint that counts. Whether nothing is left to do: never.
    fn load(&mut self) -> Result<bool, Trouble> {
        let directory = &self.log.directory;
        let pointer = read_pointer(directory, false).map_err(LogFilesError::from)?;
        self.replayer.begin(pointer.as_ref());
        self.settled = pointer.map_or(Lsn::ZERO, |pointer| pointer.settled);
        for part in pointer
            .iter()
            .flat_map(|pointer| (0..pointer.parts).map(|number| pointer.checkpoint.part(number)))
        {
            let path = self.log.directory.join(part.to_string());
            let read = read_part(&path, &self.identity, part, &mut self.replayer);
            let Err(error) = read else { continue };
            if let PartTrouble::Replay(error) = error {
                return Err(Trouble::Replay(error));
            }
            let now = read_pointer(&self.log.directory, false).map_err(LogFilesError::from)?;
            if now.map(|now| now.checkpoint) != pointer.map(|pointer| pointer.checkpoint) {
                // It was superseded while it was read.
                return Ok(false);
            }
            return Err(Trouble::Error(self.damaged(&format!("{part}: {error}"))));
        }
        self.replayer.finish_loading()?;
        Ok(false)
    }

    /// Reads the log from where it is wanted on. Whether its end was reached.
    fn follow(&mut self, from: SegmentId) -> Result<bool, Trouble> {
        let listing = Listing::read(&self.log.directory)?;
        let oldest = listing.segments.range(from..).next().map(|(segment, _)| *segment);
        match oldest {
            // A new log, or one whose segment is being opened.
            None if listing.segments.is_empty() => return Ok(true),
            Some(oldest) if oldest == from => {}
            _ => {
                return Err(self
                    .replayer
                    .lost_segment(oldest.unwrap_or_else(|| from.next()))
                    .into());
            }
        }
        let replayer = std::cell::RefCell::new(&mut self.replayer);
        let failed = std::cell::Cell::new(None);
        let going = |result: Result<(), ReplayError>| match result {
            Ok(()) => Going::On,
            Err(error) => {
                failed.set(Some(error));
                Going::Enough
            }
        };
        let pass = self.log.scan_from(
            from,
            &mut |segment| going(replayer.borrow_mut().begin_segment(segment)),
            &mut |record| going(replayer.borrow_mut().handle_record(record)),
        )?;
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        let Pass::Done(report) = pass else { return Ok(false) };
        if !is_whole(&report.outcome) {
            return Err(Trouble::Error(self.damaged("the log is damaged")));
        }
        let last = self.replayer.stands_at().map_or(Lsn::ZERO, |at| at.last);
        if last < self.settled {
            let what = format!("the log ends at record {}, before its checkpoint's end", last.0);
            return Err(Trouble::Error(self.damaged(&what)));
        }
        Ok(true)
    }
}

/// Why a step was not made.
enum Trouble {
    Replay(ReplayError),
    Error(MirrorError),
}

impl From<ReplayError> for Trouble {
    fn from(error: ReplayError) -> Self {
        Self::Replay(error)
    }
}

impl From<LogFilesError> for Trouble {
    fn from(error: LogFilesError) -> Self {
        Self::Error(error.into())
    }
}

/// Why a part was not read.
#[derive(Debug, thiserror::Error)]
enum PartTrouble {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Part(#[from] plog::checkpoint::seal::PartError),
    #[error("{0}")]
    Scan(#[from] plog::recovery::ScanError),
    #[error("{0}")]
    Replay(#[from] ReplayError),
}

/// Feeds the rows of a part, then its images.
fn read_part(
    path: &Path,
    identity: &LogIdentity,
    part: PartId,
    replayer: &mut Replayer<ShownKeys>,
) -> Result<(), PartTrouble> {
    let file: File = open(path)?;
    let size = file.metadata()?.len();
    let seal_at = Seal::offset_in(size)?;
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    file.read_full(&mut buffer, seal_at, BLOCK_SIZE)?;
    let seal = Seal::parse(&buffer[..BLOCK_SIZE], identity, part, size)?;
    let frames_end = u64::from(seal.table_offset);
    let mut table = TableReader::new(seal);
    let mut rows = Vec::new();
    let mut offset = frames_end;
    while offset < seal_at {
        let count = chunk_at(offset, seal_at);
        file.read_full(&mut buffer, offset, count)?;
        table.feed(&buffer[..count], &mut |row| rows.push(row));
        offset += count as u64;
    }
    table.finish()?;
    rows.iter().for_each(|row| replayer.load_row(row));
    if frames_end <= BLOCK_SIZE as u64 {
        return Ok(());
    }
    let mut scanner = Scanner::new(*identity);
    scanner.begin_segment(part.file(), frames_end);
    let (mut result, mut offset) = (Ok(()), 0);
    while offset < frames_end {
        let count = chunk_at(offset, frames_end);
        file.read_full(&mut buffer, offset, count)?;
        scanner.feed(&buffer[..count], &mut |scanned| {
            if result.is_ok() {
                result = replayer.load_image(&scanned.record);
            }
        })?;
        offset += count as u64;
    }
    Ok(result?)
}
