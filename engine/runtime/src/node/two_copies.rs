//! A small fact kept in two files, so that one flipped byte or one half-written file loses nothing.
//!
//! What a node is, and how often it started, is written rarely and must never be lost or guessed:
//! a node that starts with a wrong epoch or as somebody else breaks promises it has made. Each
//! fact is a few bytes with a checksum, written to `name` and then to `name.copy`, each time as a
//! new file that is synced, renamed over the old one, and whose directory is synced. At every
//! moment at least one of the two is whole.
//!
//! ```text
//! offset  bytes  meaning
//!      0      8  magic of the kind of fact
//!      8      4  format version, little-endian
//!     12      4  length of the fact, little-endian
//!     16      n  the fact
//!   16+n      4  CRC-32 of everything before, little-endian
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Largest fact that is read: far above every kind there is.
const FACT_SIZE_MAX: usize = 4096;
const HEADER_SIZE: usize = 16;

/// What distinguishes one kind of fact from another.
#[derive(Clone, Copy, Debug)]
pub struct FactKind {
    /// The file's name; its copy's is this plus `.copy`.
    pub name: &'static str,
    /// First bytes of the file.
    pub magic: [u8; 8],
    /// The version written, and the newest that is read.
    pub version: u32,
}

/// Why a copy is not usable.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CopyError {
    /// There is no such file.
    #[error("is missing")]
    Missing,
    /// The operating system refuses to read it.
    #[error("cannot be read ({error})")]
    Unreadable {
        /// Its reason.
        error: String,
    },
    /// Written by a later version.
    #[error(
        "was written by a newer Certus (format version {found}, this one reads up to {supported})"
    )]
    Newer {
        /// In the file.
        found: u32,
        /// What this program reads.
        supported: u32,
    },
    /// Anything else.
    #[error("is damaged ({reason})")]
    Damaged {
        /// What is wrong with it.
        reason: String,
    },
}

/// Both copies of a fact, as found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copies {
    /// `name`.
    pub first: Result<Vec<u8>, CopyError>,
    /// `name.copy`.
    pub second: Result<Vec<u8>, CopyError>,
}

impl Copies {
    /// Reads both copies of `kind` under `directory`.
    #[must_use]
    pub fn read(directory: &Path, kind: &FactKind, name: &str) -> Self {
        let [first, second] = paths(directory, name);
        Self { first: read_copy(&first, kind), second: read_copy(&second, kind) }
    }

    /// Whether neither file exists.
    #[must_use]
    pub fn are_missing(&self) -> bool {
        matches!((&self.first, &self.second), (Err(CopyError::Missing), Err(CopyError::Missing)))
    }

    /// Whether both copies are whole and say the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        matches!((&self.first, &self.second), (Ok(first), Ok(second)) if first == second)
    }

    /// The error of a newer version, if one of the copies is of one: then the other must not be
    /// used either, since it may be older.
    #[must_use]
    pub fn newer(&self) -> Option<&CopyError> {
        [&self.first, &self.second]
            .into_iter()
            .filter_map(|copy| copy.as_ref().err())
            .find(|error| matches!(error, CopyError::Newer { .. }))
    }
}

/// Makes `fact` durable in both files. When it returns, a crash cannot undo it.
///
/// # Errors
///
/// The file and the operating system's reason; the fact may then be in neither, one or both.
pub fn write(directory: &Path, kind: &FactKind, name: &str, fact: &[u8]) -> io::Result<()> {
    let bytes = encode(kind, fact);
    for path in paths(directory, name) {
        replace_file(&path, &bytes).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    Ok(())
}

/// Removes both files, as far as they are there, durably.
///
/// # Errors
///
/// The file and the operating system's reason; one may be left then.
pub fn remove(directory: &Path, name: &str) -> io::Result<()> {
    for path in paths(directory, name) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let text = format!("{}: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
            _ => {}
        }
    }
    sync_directory(directory)
}

/// Replaces the file at `path` by one that holds `bytes`: whoever looks finds the old or the new
/// one whole, also after a crash.
///
/// # Errors
///
/// The operating system's.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_directory(path.parent().expect("a file of the data directory has a parent"))
}

/// Ends the name of a file that is being written; one left by a crash means nothing.
pub const TEMPORARY_SUFFIX: &str = ".new";

/// Ends the name of the second file.
pub const COPY_SUFFIX: &str = ".copy";

/// Makes the names in `directory` durable.
///
/// # Errors
///
/// The operating system's.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The two files of a fact.
#[must_use]
pub fn paths(directory: &Path, name: &str) -> [PathBuf; 2] {
    [directory.join(name), directory.join(format!("{name}{COPY_SUFFIX}"))]
}

fn encode(kind: &FactKind, fact: &[u8]) -> Vec<u8> {
    assert!(fact.len() <= FACT_SIZE_MAX, "a fact is a few bytes");
    let length = u32::try_from(fact.len()).expect("checked against FACT_SIZE_MAX");
    let mut bytes = Vec::with_capacity(HEADER_SIZE + fact.len() + 4);
    bytes.extend_from_slice(&kind.magic);
    bytes.extend_from_slice(&kind.version.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(fact);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn read_copy(path: &Path, kind: &FactKind) -> Result<Vec<u8>, CopyError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CopyError::Missing),
        Err(error) => return Err(CopyError::Unreadable { error: error.to_string() }),
    };
    decode(&bytes, kind)
}

fn decode(bytes: &[u8], kind: &FactKind) -> Result<Vec<u8>, CopyError> {
    let damaged = |reason: String| CopyError::Damaged { reason };
    if bytes.len() < HEADER_SIZE + 4 || bytes.len() > HEADER_SIZE + FACT_SIZE_MAX + 4 {
        return Err(damaged(format!("it has {} bytes", bytes.len())));
    }
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    let word = |at: usize| {
        u32::from_le_bytes(content[at..at + 4].try_into().expect("four bytes of the header"))
    };
    let crc = u32::from_le_bytes(crc.try_into().expect("split four bytes from the end"));
    if content[..8] != kind.magic {
        return Err(damaged("it does not begin with its magic bytes".to_owned()));
    }
    if crc != crc32fast::hash(content) {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    if word(8) > kind.version {
        return Err(CopyError::Newer { found: word(8), supported: kind.version });
    }
    let fact = &content[HEADER_SIZE..];
    if usize::try_from(word(12)).ok() != Some(fact.len()) || word(8) == 0 {
        return Err(damaged("its header does not fit its size".to_owned()));
    }
    Ok(fact.to_vec())
}

#[cfg(test)]
mod tests {
    use super::{CopyError, FactKind, decode, encode};

    const KIND: FactKind = FactKind { name: "fact", magic: *b"CertFact", version: 3 };

    #[test]
    fn a_fact_survives_and_each_flipped_bit_or_lost_byte_is_noticed() {
        let bytes = encode(&KIND, b"hello");
        assert_eq!(decode(&bytes, &KIND), Ok(b"hello".to_vec()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped, &KIND), Err(CopyError::Damaged { .. })), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..length], &KIND), Err(CopyError::Damaged { .. })));
        }
    }

    #[test]
    fn a_newer_version_is_not_mistaken_for_damage() {
        let bytes = encode(&FactKind { version: 4, ..KIND }, b"hello");
        assert_eq!(decode(&bytes, &KIND), Err(CopyError::Newer { found: 4, supported: 3 }));
        let older = encode(&FactKind { version: 2, ..KIND }, b"hello");
        assert_eq!(decode(&older, &KIND), Ok(b"hello".to_vec()));
    }
}
