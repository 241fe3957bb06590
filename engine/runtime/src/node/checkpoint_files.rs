//! The checkpoints of a core: which one counts, reading its tables at a start, and what is done to
//! its files afterwards.
//!
//! Which checkpoint counts says the fact `checkpoint`, kept in two copies. A part is written under
//! a temporary name. To adopt a checkpoint all parts are synced, get their names, the directory is
//! synced, and then the fact is written; only then may what is older go.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::seal::{PartError, Seal, TableReader};
use plog::checkpoint::table::Row;
use plog::identity::LogIdentity;
use plog::segment::{SegmentFileName, SegmentId, SpareId};

use crate::node::log_files::open_direct;
use crate::node::two_copies::{self, Copies, FactKind, TEMPORARY_SUFFIX, sync_directory};

/// Which checkpoint of a core counts.
pub const POINTER: FactKind = FactKind { name: "checkpoint", magic: *b"CertCkpt", version: 1 };

/// Bytes of a table read at a time.
const CHUNK_SIZE: usize = 1 << 20;

/// Why the checkpoint that counts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Neither copy of the fact can be used.
    #[error(
        "{}: which checkpoint counts is not known: the file {first}, its copy {second}; put one of \
         the two back",
        file.display()
    )]
    Pointer {
        /// The first copy's path.
        file: PathBuf,
        /// What is wrong with it.
        first: String,
        /// What is wrong with the other.
        second: String,
    },
    /// A part is missing or cannot be read.
    #[error("checkpoint file {}: {error}", file.display())]
    Io {
        /// The part.
        file: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// A part is not what it should be.
    #[error("checkpoint file {}: {error}", file.display())]
    Part {
        /// The part.
        file: PathBuf,
        /// What is wrong.
        error: PartError,
    },
    /// Whoever watched the reading had enough.
    #[error("stopped while reading the checkpoint")]
    Stopped,
}

impl CheckpointError {
    /// Whether promises may be lost by it: a foreign or newer file loses none.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Pointer { first, second, .. } => {
                ![first, second].iter().any(|word| word.contains("newer Certus"))
            }
            Self::Io { error, .. } => {
                matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
            }
            Self::Part { error, .. } => {
                !matches!(error, PartError::Foreign(_) | PartError::Newer { .. })
            }
            Self::Stopped => false,
        }
    }
}

/// The checkpoint that counts, if there is one. A copy of the fact that is damaged or older is
/// repaired when `repairs`.
///
/// # Errors
///
/// When neither copy can be used, or one is of a newer version.
pub fn read_pointer(directory: &Path, repairs: bool) -> Result<Option<Pointer>, CheckpointError> {
    let copies = Copies::read(directory, &POINTER, POINTER.name);
    if copies.are_missing() {
        return Ok(None);
    }
    let usable = |copy: &Result<Vec<u8>, two_copies::CopyError>| {
        copy.as_ref().ok().and_then(|fact| Pointer::decode(fact))
    };
    let both = [usable(&copies.first), usable(&copies.second)];
    // A crash can leave the older one in one copy. The newer one counts: it is written when all it
    // speaks of is durable.
    let newest = both.into_iter().flatten().max_by_key(|pointer| pointer.checkpoint);
    let newest = newest.filter(|_| copies.newer().is_none());
    let word = |copy: &Result<Vec<u8>, two_copies::CopyError>| match copy {
        Ok(_) => "is damaged (it is not a checkpoint's)".to_owned(),
        Err(error) => error.to_string(),
    };
    let pointer = newest.ok_or_else(|| CheckpointError::Pointer {
        file: directory.join(POINTER.name),
        first: word(&copies.first),
        second: word(&copies.second),
    })?;
    if repairs && both != [Some(pointer); 2] {
        write_pointer(directory, pointer)
            .map_err(|error| CheckpointError::Io { file: directory.join(POINTER.name), error })?;
    }
    Ok(Some(pointer))
}

/// Makes it durable which checkpoint counts.
///
/// # Errors
///
/// The operating system's.
pub fn write_pointer(directory: &Path, pointer: Pointer) -> io::Result<()> {
    two_copies::write(directory, &POINTER, POINTER.name, &pointer.encode())
}

/// Reads the tables of all parts and hands every row to `visit`. Returns the open parts. Between
/// reads it asks `goes_on`, which is told how many parts are done and how many bytes were read.
///
/// # Errors
///
/// When a part is missing, damaged, foreign or newer, or it does not go on; what was handed out
/// means nothing then.
pub fn read_tables(
    directory: &Path,
    identity: &LogIdentity,
    pointer: Pointer,
    mut goes_on: impl FnMut(usize, u64) -> bool,
    mut visit: impl FnMut(Row),
) -> Result<BTreeMap<PartId, OwnedFd>, CheckpointError> {
    let mut parts = BTreeMap::new();
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let mut bytes = 0;
    for number in 0..pointer.parts {
        let part = pointer.checkpoint.part(number);
        let path = directory.join(part.to_string());
        let io = |error| CheckpointError::Io { file: path.clone(), error };
        let wrong = |error| CheckpointError::Part { file: path.clone(), error };
        let file = File::from(open_direct(&path).map_err(io)?);
        let size = file.metadata().map_err(io)?.len();
        let seal_at = Seal::offset_in(size).map_err(wrong)?;
        file.read_exact_at(&mut buffer[..BLOCK_SIZE], seal_at).map_err(io)?;
        let seal = Seal::parse(&buffer[..BLOCK_SIZE], identity, part, size).map_err(wrong)?;
        let mut table = TableReader::new(seal);
        let mut at = u64::from(seal.table_offset);
        while at < seal_at {
            if !goes_on(parts.len(), bytes) {
                return Err(CheckpointError::Stopped);
            }
            let length = usize::try_from(seal_at - at).unwrap_or(usize::MAX).min(CHUNK_SIZE);
            file.read_exact_at(&mut buffer[..length], at).map_err(io)?;
            table.feed(&buffer[..length], &mut visit);
            let length = u64::try_from(length).expect("at most a chunk");
            at += length;
            bytes += length;
        }
        table.finish().map_err(wrong)?;
        parts.insert(part, OwnedFd::from(file));
    }
    Ok(parts)
}

/// The name under which a part is written.
#[must_use]
pub fn temporary(directory: &Path, part: PartId) -> PathBuf {
    directory.join(format!("{part}{TEMPORARY_SUFFIX}"))
}

/// Lets a checkpoint count: when it returns, a crash cannot undo it.
///
/// # Errors
///
/// The file and the operating system's reason; the old checkpoint counts then, or the new one.
pub fn adopt(directory: &Path, pointer: Pointer) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    for number in 0..pointer.parts {
        let part = pointer.checkpoint.part(number);
        let (from, to) = (temporary(directory, part), directory.join(part.to_string()));
        let file = match File::open(&from) {
            // An attempt before this one came so far.
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => continue,
            file => file.map_err(|error| named(&from, error))?,
        };
        file.sync_all().map_err(|error| unsynced(&from, &error))?;
        std::fs::rename(&from, &to).map_err(|error| named(&to, error))?;
    }
    sync_directory(directory).map_err(|error| unsynced(directory, &error))?;
    write_pointer(directory, pointer)
}

/// A sync failed, whatever for: what was to be synced may be lost, and a second sync would not say
/// so. Of no kind that is tried again.
fn unsynced(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: syncing it failed: {error}", path.display()))
}

/// Deletes the parts of a checkpoint that no longer counts. Those that are gone already are fine.
///
/// # Errors
///
/// The operating system's.
pub fn remove(directory: &Path, parts: impl Iterator<Item = PartId>) -> io::Result<()> {
    for part in parts {
        match std::fs::remove_file(directory.join(part.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes a segment a spare, durably, or deletes it.
///
/// # Errors
///
/// The operating system's.
pub fn free(directory: &Path, segment: SegmentId, becomes: Option<SpareId>) -> io::Result<()> {
    let from = directory.join(SegmentFileName::Segment(segment).to_string());
    match becomes {
        None => std::fs::remove_file(&from),
        Some(spare) => {
            let to = directory.join(SegmentFileName::Spare(spare).to_string());
            std::fs::rename(&from, &to)?;
            sync_directory(directory)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use plog::checkpoint::CheckpointId;
    use plog::checkpoint::pointer::Pointer;
    use plog::checkpoint::table::Row;
    use plog::checkpoint::writer::CheckpointWriter;
    use plog::identity::LogIdentity;
    use plog::log_record::LogRecord;
    use plog::segment::{SegmentId, SpareId};
    use plog::vocabulary::{EntityId, Entry, Lsn};

    use super::{CheckpointError, adopt, free, read_pointer, read_tables, remove, temporary};
    use crate::node::test_directory::TestDirectory;

    const IDENTITY: LogIdentity =
        LogIdentity { cluster: 7, node: 1, incarnation: 99, core: 0, core_count: 1 };

    fn write(directory: &Path, id: CheckpointId, entities: u64) -> Pointer {
        let mut writer = CheckpointWriter::new(IDENTITY, id, SegmentId(2), Lsn(9), 64 << 10);
        let mut files = BTreeMap::new();
        for entity in 1..=entities {
            while writer.is_full() {
                step(directory, &mut writer, &mut files);
            }
            let state = vec![7; 400].into();
            let (entity, applied) = (EntityId(entity), Entry(entity));
            let image = LogRecord::Image { entity, applied, chain: 1, last_value_id: None, state };
            writer.push(&image, 1);
        }
        writer.finish();
        while !writer.is_done() {
            step(directory, &mut writer, &mut files);
        }
        Pointer {
            checkpoint: id,
            parts: writer.parts(),
            floor: writer.floor(),
            settled: Lsn(20),
            bytes: writer.bytes(),
        }
    }

    fn step(
        directory: &Path,
        writer: &mut CheckpointWriter,
        files: &mut BTreeMap<plog::checkpoint::PartId, std::fs::File>,
    ) {
        let write = writer.poll_write().expect("a full writer has something to write");
        let file = files.entry(write.part).or_insert_with(|| {
            let path = temporary(directory, write.part);
            OpenOptions::new().create(true).truncate(true).write(true).open(path).expect("made")
        });
        file.write_all_at(&write.buffer, write.offset).expect("there is room");
        writer.handle_written(write.buffer);
    }

    fn rows(directory: &Path, pointer: Pointer) -> Result<Vec<Row>, CheckpointError> {
        let mut rows = Vec::new();
        let parts = read_tables(directory, &IDENTITY, pointer, |_, _| true, |row| rows.push(row))?;
        assert_eq!(parts.len(), usize::from(pointer.parts));
        Ok(rows)
    }

    #[test]
    fn the_checkpoint_adopted_last_counts_and_the_one_before_can_go() {
        let directory = TestDirectory::new();
        let path = directory.path();
        assert!(read_pointer(path, true).unwrap().is_none());
        let first = write(path, CheckpointId(1), 500);
        assert!(first.parts > 1);
        assert!(rows(path, first).is_err(), "it has no names yet");
        adopt(path, first).unwrap();
        assert_eq!(read_pointer(path, true).unwrap(), Some(first));
        assert_eq!(rows(path, first).unwrap().len(), 500);
        let second = write(path, CheckpointId(2), 700);
        adopt(path, second).unwrap();
        adopt(path, second).expect("once more does no harm");
        assert_eq!(read_pointer(path, true).unwrap(), Some(second));
        remove(path, (0..first.parts).map(|number| first.checkpoint.part(number))).unwrap();
        remove(path, (0..first.parts).map(|number| first.checkpoint.part(number))).unwrap();
        assert!(rows(path, first).is_err());
        assert_eq!(rows(path, second).unwrap().len(), 700);
    }

    #[test]
    fn a_part_whose_sync_fails_is_not_adopted_and_not_tried_again_for_want_of_room() {
        let directory = TestDirectory::new();
        let path = directory.path();
        let first = write(path, CheckpointId(1), 3);
        adopt(path, first).unwrap();
        let second = write(path, CheckpointId(2), 3);
        // What stands there opens like a file, and cannot be synced.
        let part = temporary(path, second.checkpoint.part(0));
        std::fs::remove_file(&part).unwrap();
        std::os::unix::fs::symlink("/dev/null", &part).unwrap();
        let error = adopt(path, second).unwrap_err();
        assert!(error.to_string().contains("syncing it failed"), "{error}");
        assert_eq!(error.kind(), std::io::ErrorKind::Other);
        assert_eq!(read_pointer(path, true).unwrap(), Some(first), "the one before counts");
        assert!(!path.join(second.checkpoint.part(0).to_string()).exists());
    }

    #[test]
    fn one_copy_of_the_pointer_is_enough_and_is_made_two_again() {
        let directory = TestDirectory::new();
        let path = directory.path();
        let pointer = write(path, CheckpointId(1), 3);
        adopt(path, pointer).unwrap();
        for file in ["checkpoint", "checkpoint.copy"] {
            let bytes = std::fs::read(path.join(file)).unwrap();
            for offset in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[offset] ^= 0x10;
                std::fs::write(path.join(file), &changed).unwrap();
                assert_eq!(read_pointer(path, true).unwrap(), Some(pointer), "byte {offset}");
                assert_eq!(std::fs::read(path.join(file)).unwrap(), bytes, "repaired");
            }
        }
        for file in ["checkpoint", "checkpoint.copy"] {
            std::fs::write(path.join(file), b"nothing").unwrap();
        }
        let error = read_pointer(path, true).unwrap_err();
        assert!(error.is_damage());
        assert!(error.to_string().contains("put one of the two back"), "{error}");
    }

    #[test]
    fn a_part_that_is_damaged_missing_or_foreign_is_named() {
        let directory = TestDirectory::new();
        let path = directory.path();
        let pointer = write(path, CheckpointId(1), 3);
        adopt(path, pointer).unwrap();
        let part = path.join(pointer.checkpoint.part(0).to_string());
        let bytes = std::fs::read(&part).unwrap();
        let mut changed = bytes.clone();
        let seal = bytes.len() - 4096;
        changed[seal + 20] ^= 1;
        std::fs::write(&part, &changed).unwrap();
        let error = rows(path, pointer).unwrap_err();
        assert!(
            error.is_damage() && error.to_string().contains("000000000001-0000.ckpt"),
            "{error}"
        );
        std::fs::write(&part, &bytes[..4096]).unwrap();
        assert!(rows(path, pointer).unwrap_err().is_damage());
        std::fs::remove_file(&part).unwrap();
        assert!(rows(path, pointer).unwrap_err().is_damage());
        std::fs::write(&part, &bytes).unwrap();
        let stopped = read_tables(path, &IDENTITY, pointer, |_, _| false, |_| {}).unwrap_err();
        assert!(matches!(stopped, CheckpointError::Stopped) && !stopped.is_damage(), "{stopped}");
        let other = LogIdentity { node: 2, ..IDENTITY };
        let error = read_tables(path, &other, pointer, |_, _| true, |_| {}).unwrap_err();
        assert!(!error.is_damage() && error.to_string().contains("node 1"), "{error}");
    }

    #[test]
    fn a_freed_segment_becomes_a_spare_or_goes() {
        let directory = TestDirectory::new();
        let path = directory.path();
        for name in ["0000000000000001.plog", "0000000000000002.plog"] {
            std::fs::write(path.join(name), name).unwrap();
        }
        free(path, SegmentId(1), Some(SpareId(7))).unwrap();
        free(path, SegmentId(2), None).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["spare-7.plog"]);
    }
}
