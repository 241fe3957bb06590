//! The data directory: whose it is, that nobody else uses it, and how often the node started.
//!
//! A node that starts on the wrong directory forgets its promises or speaks with another's voice;
//! both can choose two values for one entry. So the directory says whose it is, and everything
//! that does not fit is refused with nothing changed: another node's or cluster's directory, one
//! of another number of cores or replicas, one from a newer version, one that is something else
//! altogether, one whose identity is gone while its log is not. Only an empty directory becomes a
//! new node.
//!
//! ```text
//! DIR/LOCK              held with flock while a process runs; holds its process id
//! DIR/identity[.copy]   cluster, node, incarnation, cores, replicas; written once
//! DIR/boot[.copy]       boot epoch; made durable at each start before anything speaks
//! DIR/peers/node-N[.copy]   incarnation of peer N, as first met
//! DIR/core-N/           log of core N: segments and spares
//! ```
//!
//! At the first start `boot` is written before `identity`: an identity without a boot epoch is
//! therefore never what a crash leaves, and can be refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use plog::segment::SegmentFileName;

use crate::node::log_line;
use crate::node::two_copies::{
    self, COPY_SUFFIX, Copies, CopyError, FactKind, TEMPORARY_SUFFIX, sync_directory,
};

const IDENTITY: FactKind = FactKind { name: "identity", magic: *b"CertIdnt", version: 1 };
const BOOT: FactKind = FactKind { name: "boot", magic: *b"CertBoot", version: 1 };
const LOCK: &str = "LOCK";
const PEERS: &str = "peers";
const CORE_PREFIX: &str = "core-";

/// Whose directory it is. `incarnation` is made when the directory is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectoryIdentity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u8,
    /// Size of the replica set.
    pub replicas: u8,
    /// Cores whose logs the directory holds.
    pub core_count: u16,
    /// This life of the node: random, never used twice.
    pub incarnation: u128,
}

/// What the configuration says the directory must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExpectedIdentity {
    /// The cluster.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u8,
    /// Size of the replica set.
    pub replicas: u8,
    /// Cores; [`None`] takes over what the directory says, or `default_core_count` for a new one.
    pub core_count: Option<u16>,
    /// Cores of a new directory when `core_count` is `None`.
    pub default_core_count: u16,
}

/// Why a directory is not used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// The operating system refuses.
    #[error("data directory {}: {action}: {error}; {remedy}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its reason.
        error: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// It is a file.
    #[error(
        "data directory {} is not a directory; set data_directory to a directory or to a name \
         that does not exist yet",
        path.display()
    )]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// Another process runs on it.
    #[error(
        "data directory {} is in use by {holder}; stop that process, or set data_directory to \
         another directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// `process 4711`, or what is known.
        holder: String,
    },
    /// It holds something that is not ours.
    #[error(
        "data directory {} holds `{found}` and is no Certus directory; set data_directory to an \
         empty directory or to a name that does not exist yet",
        path.display()
    )]
    NotCertus {
        /// The directory.
        path: PathBuf,
        /// A file in it.
        found: String,
    },
    /// Its identity or boot epoch is gone although its log is not.
    #[error(
        "data directory {} has {present} but no {missing}: starting without it could break \
         promises this node has made; put back both {missing} files if they were moved, never older \
         copies; else leave the node down: the others serve on, and this version cannot rebuild it",
        path.display()
    )]
    FileMissing {
        /// The directory.
        path: PathBuf,
        /// The fact that is gone.
        missing: &'static str,
        /// What shows that it has been there.
        present: String,
    },
    /// Both copies of a fact are unusable.
    #[error(
        "data directory {}: {file} {first} and {file}.copy {second}; put one of them back if it \
         was moved, never an older copy; else leave the node down: the others serve on, and this \
         version cannot rebuild it",
        path.display()
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The fact.
        file: &'static str,
        /// What is wrong with the first copy.
        first: String,
        /// What is wrong with the second.
        second: String,
    },
    /// Written by a later version.
    #[error(
        "data directory {}: {file} {error}; start the version of Certus that wrote it",
        path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The fact.
        file: &'static str,
        /// Which versions.
        error: CopyError,
    },
    /// It is somebody else's, or of another shape.
    #[error(
        "data directory {} belongs to {what} {found}, but the configuration says `{key}` is \
         {expected}; {remedy}",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Which part of the identity.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// The configuration key.
        key: &'static str,
        /// What the configuration says.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
    /// No further start can be counted.
    #[error("data directory {}: boot epoch {epoch} is the last there is", path.display())]
    EpochsRunOut {
        /// The directory.
        path: PathBuf,
        /// The epoch.
        epoch: u32,
    },
}

type Result<T> = std::result::Result<T, DataDirectoryError>;

/// A directory that this process alone uses, not yet known to be the right one.
#[derive(Debug)]
pub struct LockedDirectory {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    lock: File,
}

/// This node's directory, locked and checked.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: DirectoryIdentity,
    last_epoch: u32,
    is_new: bool,
    _lock: File,
}

/// What an existing directory says.
struct Found {
    identity: DirectoryIdentity,
    epoch: u32,
    /// Whether one copy of the identity is not usable.
    needs_repair: bool,
}

impl LockedDirectory {
    /// Makes the directory if there is none, and takes its lock.
    ///
    /// # Errors
    ///
    /// When it is no directory, unreadable, in use, or holds something that is not ours; in the
    /// last case not even the lock file is made.
    pub fn take(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(DataDirectoryError::NotADirectory { path: path.to_owned() });
            }
            Ok(_) => refuse_foreign_files(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(path).map_err(failed(
                    path,
                    "making it",
                    "make it yourself, writable for the user that runs certusd",
                ))?;
            }
            Err(error) => return Err(failed(path, "looking at it", PERMISSIONS)(error)),
        }
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed(&lock_path, "opening it", PERMISSIONS))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = lock.read_to_string(&mut text);
                let holder = match (read, text.trim().parse::<u32>()) {
                    (Ok(_), Ok(process)) => format!("process {process}"),
                    _ => "another process".to_owned(),
                };
                return Err(DataDirectoryError::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => {
                let remedy = "use a file system that supports flock";
                return Err(failed(&lock_path, "locking it", remedy)(error));
            }
        }
        let write_pid = |lock: &mut File| {
            lock.set_len(0)?;
            lock.rewind()?;
            writeln!(lock, "{}", std::process::id())
        };
        write_pid(&mut lock).map_err(failed(&lock_path, "writing to it", SPACE))?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory holds no node yet.
    ///
    /// # Errors
    ///
    /// When it is unreadable, or when log files are there but the identity is not.
    pub fn is_new(&self) -> Result<bool> {
        if !Copies::read(&self.path, &IDENTITY, IDENTITY.name).are_missing() {
            return Ok(false);
        }
        match first_segment(&self.path)? {
            Some(segment) => Err(DataDirectoryError::FileMissing {
                path: self.path.clone(),
                missing: IDENTITY.name,
                present: segment.display().to_string(),
            }),
            None => Ok(true),
        }
    }

    /// Whose directory it is, if it is the one expected; `None` for a new one. Changes nothing.
    ///
    /// # Errors
    ///
    /// When anything does not fit.
    pub fn inspect(&self, expected: &ExpectedIdentity) -> Result<Option<DirectoryIdentity>> {
        if self.is_new()? {
            Ok(None)
        } else {
            self.check(expected).map(|found| Some(found.identity))
        }
    }

    /// Checks that the directory is the one expected, or makes a new node in an empty one, whose
    /// incarnation `new_incarnation` supplies.
    ///
    /// # Errors
    ///
    /// When anything does not fit; an existing directory is then as it was.
    pub fn open(
        self,
        expected: &ExpectedIdentity,
        new_incarnation: impl FnOnce() -> io::Result<u128>,
    ) -> Result<DataDirectory> {
        let is_new = self.is_new()?;
        let (identity, last_epoch) = if is_new {
            (self.create(expected, new_incarnation)?, 0)
        } else {
            let found = self.check(expected)?;
            if found.needs_repair {
                log_line::warn(
                    "one copy of the identity was repaired from the other",
                    &[("directory", &self.path.display())],
                );
                write_fact(&self.path, &IDENTITY, &found.identity.encode())?;
            }
            (found.identity, found.epoch)
        };
        for core in 0..identity.core_count {
            make_directory(&core_directory(&self.path, core))?;
        }
        make_directory(&self.path.join(PEERS))?;
        sync_directory(&self.path).map_err(failed(&self.path, "syncing it", SPACE))?;
        Ok(DataDirectory { path: self.path, identity, last_epoch, is_new, _lock: self.lock })
    }

    fn create(
        &self,
        expected: &ExpectedIdentity,
        new_incarnation: impl FnOnce() -> io::Result<u128>,
    ) -> Result<DirectoryIdentity> {
        let path = &self.path;
        let incarnation = new_incarnation().map_err(failed(
            Path::new("/dev/urandom"),
            "reading random bytes",
            "make /dev/urandom readable",
        ))?;
        let identity = DirectoryIdentity {
            cluster_id: expected.cluster_id,
            node_id: expected.node_id,
            replicas: expected.replicas,
            core_count: expected.core_count.unwrap_or(expected.default_core_count),
            incarnation,
        };
        write_fact(path, &BOOT, &encode_boot(0, incarnation))?;
        write_fact(path, &IDENTITY, &identity.encode())?;
        Ok(identity)
    }

    /// Looks at an existing directory.
    fn check(&self, expected: &ExpectedIdentity) -> Result<Found> {
        let path = &self.path;
        let copies = usable_copies(path, &IDENTITY)?;
        let identity = choose(path, &IDENTITY, &copies, DirectoryIdentity::decode, |both| {
            (both[0] == both[1]).then(|| both[0])
        })?;
        identity.check(path, expected)?;
        let boots = usable_copies(path, &BOOT)?;
        if boots.are_missing() {
            return Err(DataDirectoryError::FileMissing {
                path: path.clone(),
                missing: BOOT.name,
                present: "an identity".to_owned(),
            });
        }
        // A crash between the two files leaves two epochs: the one of the start that then never
        // spoke, and the one before. The higher one is right either way.
        let (epoch, incarnation) =
            choose(path, &BOOT, &boots, decode_boot, |both| Some(both[0].max(both[1])))?;
        if incarnation != identity.incarnation {
            return Err(DataDirectoryError::Damaged {
                path: path.clone(),
                file: BOOT.name,
                first: "is of another incarnation than identity".to_owned(),
                second: "likewise; they were copied from another directory".to_owned(),
            });
        }
        Ok(Found { identity, epoch, needs_repair: !copies.agree() })
    }
}

impl DataDirectory {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &DirectoryIdentity {
        &self.identity
    }

    /// Whether this start made it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where what is remembered of peers stands.
    #[must_use]
    pub fn peers(&self) -> PathBuf {
        self.path.join(PEERS)
    }

    /// Where the log of `core` stands.
    #[must_use]
    pub fn core(&self, core: u16) -> PathBuf {
        core_directory(&self.path, core)
    }

    /// The epoch that [`DataDirectory::begin_boot`] will make durable.
    ///
    /// # Errors
    ///
    /// When there is none left.
    pub fn next_epoch(&self) -> Result<u32> {
        self.last_epoch.checked_add(1).ok_or_else(|| DataDirectoryError::EpochsRunOut {
            path: self.path.clone(),
            epoch: self.last_epoch,
        })
    }

    /// Counts this start: the epoch it returns is durable, above all earlier ones, and at least 1.
    /// Nothing may speak in the node's name before.
    ///
    /// # Errors
    ///
    /// When it cannot be made durable.
    pub fn begin_boot(&mut self) -> Result<u32> {
        let epoch = self.next_epoch()?;
        write_fact(&self.path, &BOOT, &encode_boot(epoch, self.identity.incarnation))?;
        self.last_epoch = epoch;
        Ok(epoch)
    }
}

impl DirectoryIdentity {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&self.cluster_id.to_le_bytes());
        bytes.extend_from_slice(&[self.node_id, self.replicas]);
        bytes.extend_from_slice(&self.core_count.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 28] = bytes.try_into().ok()?;
        Some(Self {
            cluster_id: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            node_id: bytes[8],
            replicas: bytes[9],
            core_count: u16::from_le_bytes(bytes[10..12].try_into().ok()?),
            incarnation: u128::from_le_bytes(bytes[12..].try_into().ok()?),
        })
    }

    fn check(&self, path: &Path, expected: &ExpectedIdentity) -> Result<()> {
        let foreign = |what, found: String, key, expected: String, remedy| {
            Err(DataDirectoryError::Foreign {
                path: path.to_owned(),
                what,
                found,
                key,
                expected,
                remedy,
            })
        };
        if self.cluster_id != expected.cluster_id {
            let (found, wanted) =
                (format!("{:#x}", self.cluster_id), format!("{:#x}", expected.cluster_id));
            let remedy = "correct cluster_id or data_directory";
            return foreign("cluster", found, "cluster_id", wanted, remedy);
        }
        if self.node_id != expected.node_id {
            let (found, wanted) = (self.node_id.to_string(), expected.node_id.to_string());
            let remedy = "correct node_id or data_directory";
            return foreign("node", found, "node_id", wanted, remedy);
        }
        if self.replicas != expected.replicas {
            let found = format!("of {} nodes", self.replicas);
            let remedy = "the size of a replica set cannot be changed; list as many [[node]] \
                          tables as before";
            return foreign("a replica set", found, "node", expected.replicas.to_string(), remedy);
        }
        match expected.core_count {
            Some(wanted) if wanted != self.core_count => {
                let remedy = "entities are spread over cores, so the number cannot be changed; \
                              set it to what it was";
                let found = format!("with {} cores", self.core_count);
                foreign("a node", found, "cores", wanted.to_string(), remedy)
            }
            Some(_) | None => Ok(()),
        }
    }
}

const PERMISSIONS: &str = "make it readable and writable for the user that runs certusd";
const SPACE: &str = "free space, or check that the disk is writable and healthy";

fn failed(
    path: &Path,
    action: &'static str,
    remedy: &'static str,
) -> impl FnOnce(io::Error) -> DataDirectoryError {
    let path = path.to_owned();
    move |error| DataDirectoryError::Io { path, action, error, remedy }
}

fn core_directory(path: &Path, core: u16) -> PathBuf {
    path.join(format!("{CORE_PREFIX}{core}"))
}

fn make_directory(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, "making it", SPACE)(error)),
    }
}

fn write_fact(path: &Path, kind: &FactKind, fact: &[u8]) -> Result<()> {
    two_copies::write(path, kind, kind.name, fact).map_err(failed(path, "writing to it", SPACE))
}

fn encode_boot(epoch: u32, incarnation: u128) -> Vec<u8> {
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    bytes
}

fn decode_boot(bytes: &[u8]) -> Option<(u32, u128)> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    let epoch = u32::from_le_bytes(bytes[..4].try_into().ok()?);
    Some((epoch, u128::from_le_bytes(bytes[4..].try_into().ok()?)))
}

fn usable_copies(path: &Path, kind: &FactKind) -> Result<Copies> {
    let copies = Copies::read(path, kind, kind.name);
    match copies.newer() {
        Some(error) => {
            let (path, error) = (path.to_owned(), error.clone());
            Err(DataDirectoryError::Newer { path, file: kind.name, error })
        }
        None => Ok(copies),
    }
}

/// The fact that the copies tell: the only usable one's, or what `both` makes of two.
fn choose<T: Copy>(
    path: &Path,
    kind: &FactKind,
    copies: &Copies,
    decode: impl Fn(&[u8]) -> Option<T>,
    both: impl FnOnce([T; 2]) -> Option<T>,
) -> Result<T> {
    let usable = |copy: &std::result::Result<Vec<u8>, CopyError>| {
        copy.as_ref().ok().and_then(|fact| decode(fact))
    };
    let chosen = match (usable(&copies.first), usable(&copies.second)) {
        (Some(first), Some(second)) => both([first, second]),
        (first, second) => first.or(second),
    };
    let word = |copy: &std::result::Result<Vec<u8>, CopyError>| match copy {
        Ok(fact) if decode(fact).is_some() => "says otherwise than the other copy".to_owned(),
        Ok(_) => "is damaged (it has a wrong size)".to_owned(),
        Err(error) => error.to_string(),
    };
    chosen.ok_or_else(|| DataDirectoryError::Damaged {
        path: path.to_owned(),
        file: kind.name,
        first: word(&copies.first),
        second: word(&copies.second),
    })
}

/// Refuses a directory that holds something this program did not make.
fn refuse_foreign_files(path: &Path) -> Result<()> {
    let entries = std::fs::read_dir(path).map_err(failed(path, "listing it", PERMISSIONS))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(path, "listing it", PERMISSIONS))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let is_ours = |name: &str| {
        let name = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(name);
        let name = name.strip_suffix(COPY_SUFFIX).unwrap_or(name);
        [LOCK, PEERS, IDENTITY.name, BOOT.name].contains(&name)
            || name.strip_prefix(CORE_PREFIX).is_some_and(|core| core.parse::<u16>().is_ok())
            // A file system's own directory, where a whole disk is mounted.
            || name == "lost+found"
    };
    match names.into_iter().find(|name| !is_ours(name)) {
        Some(found) => Err(DataDirectoryError::NotCertus { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// Some segment file of some core, if there is one.
fn first_segment(path: &Path) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(path).map_err(failed(path, "listing it", PERMISSIONS))? {
        let entry = entry.map_err(failed(path, "listing it", PERMISSIONS))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(CORE_PREFIX) {
            continue;
        }
        let core = entry.path();
        for file in std::fs::read_dir(&core).map_err(failed(&core, "listing it", PERMISSIONS))? {
            let file = file.map_err(failed(&core, "listing it", PERMISSIONS))?;
            let name = file.file_name().to_string_lossy().into_owned();
            if let Some(SegmentFileName::Segment(_)) = SegmentFileName::parse(&name) {
                return Ok(Some(file.path()));
            }
        }
    }
    Ok(None)
}

/// 128 bits from the operating system's random source.
///
/// # Errors
///
/// When it cannot be read.
pub fn random_incarnation() -> io::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use super::{
        BOOT, DataDirectory, DataDirectoryError, ExpectedIdentity, IDENTITY, LockedDirectory,
        Result,
    };
    use crate::node::test_directory::TestDirectory;
    use crate::node::two_copies::{self, FactKind};

    const EXPECTED: ExpectedIdentity = ExpectedIdentity {
        cluster_id: 7,
        node_id: 1,
        replicas: 3,
        core_count: Some(2),
        default_core_count: 8,
    };

    fn open(path: &Path, expected: &ExpectedIdentity) -> Result<DataDirectory> {
        LockedDirectory::take(path)?.open(expected, || Ok(0xABCD))
    }

    /// A directory that was started twice.
    fn started() -> (TestDirectory, PathBuf) {
        let directory = TestDirectory::new();
        let path = directory.path().join("data");
        for epoch in 1..=2 {
            assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), epoch);
        }
        (directory, path)
    }

    /// Everything in the directory but the lock file, which holds a process id.
    fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(content(&path));
                files.insert(path, Vec::new());
            } else if !path.ends_with("LOCK") {
                files.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
        files
    }

    /// Opens a directory that must be refused and left as it is.
    fn refused(path: &Path, expected: &ExpectedIdentity) -> DataDirectoryError {
        let before = content(path);
        let error = open(path, expected).unwrap_err();
        assert_eq!(content(path), before, "a refused directory is left as it was");
        assert!(!error.to_string().contains('\n'));
        error
    }

    fn flip(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[17] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn an_empty_directory_becomes_a_node_and_each_start_is_counted() {
        let (_directory, path) = started();
        let mut data = open(&path, &EXPECTED).unwrap();
        assert!(!data.is_new());
        assert_eq!(data.identity().incarnation, 0xABCD, "made once, then read");
        assert_eq!(data.begin_boot().unwrap(), 3);
        assert_eq!(data.begin_boot().unwrap(), 4);
        assert!(data.core(1).is_dir() && data.peers().is_dir());
    }

    #[test]
    fn without_a_number_of_cores_the_directorys_is_taken() {
        let (_directory, path) = started();
        let any = ExpectedIdentity { core_count: None, ..EXPECTED };
        assert_eq!(open(&path, &any).unwrap().identity().core_count, 2);
        let new = TestDirectory::new();
        assert_eq!(open(new.path(), &any).unwrap().identity().core_count, 8);
    }

    #[test]
    fn a_directory_of_another_shape_is_refused_with_what_differs() {
        let (_directory, path) = started();
        let cases = [
            (ExpectedIdentity { cluster_id: 8, ..EXPECTED }, "cluster 0x7", "`cluster_id` is 0x8"),
            (ExpectedIdentity { node_id: 2, ..EXPECTED }, "node 1", "`node_id` is 2"),
            (ExpectedIdentity { replicas: 5, ..EXPECTED }, "of 3 nodes", "`node` is 5"),
            (ExpectedIdentity { core_count: Some(4), ..EXPECTED }, "2 cores", "`cores` is 4"),
        ];
        for (expected, found, wanted) in cases {
            let message = refused(&path, &expected).to_string();
            assert!(message.contains(found) && message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let (_directory, path) = started();
        let _held = open(&path, &EXPECTED).unwrap();
        let error = LockedDirectory::take(&path).unwrap_err();
        assert!(matches!(error, DataDirectoryError::Locked { .. }));
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn what_is_no_certus_directory_is_not_touched() {
        let directory = TestDirectory::new();
        std::fs::write(directory.path().join("letters.txt"), b"dear").unwrap();
        let error = refused(directory.path(), &EXPECTED);
        assert!(error.to_string().contains("`letters.txt`"), "{error}");
        assert!(!directory.path().join("LOCK").exists());
        let file = directory.path().join("letters.txt");
        let error = LockedDirectory::take(&file).unwrap_err();
        assert!(matches!(error, DataDirectoryError::NotADirectory { .. }));
    }

    #[test]
    fn one_flipped_byte_is_repaired_from_the_other_copy() {
        for name in ["identity", "identity.copy", "boot", "boot.copy"] {
            let (_directory, path) = started();
            let before = std::fs::read(path.join(name)).unwrap();
            flip(&path.join(name));
            let mut data = open(&path, &EXPECTED).unwrap();
            assert_eq!(data.begin_boot().unwrap(), 3, "{name}");
            drop(data);
            let after = std::fs::read(path.join(name)).unwrap();
            if name.starts_with("identity") {
                assert_eq!(after, before, "{name}");
            }
            assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 4, "{name}");
        }
    }

    #[test]
    fn two_damaged_copies_are_refused() {
        for name in ["identity", "boot"] {
            let (_directory, path) = started();
            flip(&path.join(name));
            flip(&path.join(format!("{name}.copy")));
            let error = refused(&path, &EXPECTED);
            assert!(matches!(error, DataDirectoryError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn a_boot_epoch_that_is_gone_is_never_guessed() {
        let (_directory, path) = started();
        std::fs::remove_file(path.join("boot")).unwrap();
        assert!(open(&path, &EXPECTED).is_ok(), "one copy is enough");
        std::fs::remove_file(path.join("boot.copy")).unwrap();
        let error = refused(&path, &EXPECTED);
        assert!(
            matches!(error, DataDirectoryError::FileMissing { missing: "boot", .. }),
            "{error}"
        );
    }

    #[test]
    fn a_log_without_an_identity_does_not_start_as_a_new_node() {
        let (_directory, path) = started();
        std::fs::write(path.join("core-1").join("0000000000000001.plog"), b"x").unwrap();
        std::fs::remove_file(path.join("identity")).unwrap();
        std::fs::remove_file(path.join("identity.copy")).unwrap();
        let error = refused(&path, &EXPECTED);
        assert!(error.to_string().contains("0000000000000001.plog"), "{error}");
    }

    #[test]
    fn a_crash_while_a_directory_is_made_leaves_one_that_is_made_anew() {
        let (_directory, path) = started();
        // What is written before the identity, and nothing after it.
        std::fs::remove_file(path.join("identity")).unwrap();
        std::fs::remove_file(path.join("identity.copy")).unwrap();
        std::fs::write(path.join("identity.new"), b"half").unwrap();
        let mut data = open(&path, &EXPECTED).unwrap();
        assert!(data.is_new());
        assert_eq!(data.begin_boot().unwrap(), 1);
    }

    #[test]
    fn a_crash_between_the_two_boot_files_never_takes_an_epoch_back() {
        let (_directory, path) = started();
        let older = std::fs::read(path.join("boot.copy")).unwrap();
        assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 3);
        std::fs::write(path.join("boot.copy"), &older).unwrap();
        assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 4);
    }

    #[test]
    fn files_from_a_newer_version_are_refused_as_such() {
        for kind in [IDENTITY, BOOT] {
            let (_directory, path) = started();
            let newer = FactKind { version: kind.version + 1, ..kind };
            two_copies::write(&path, &newer, kind.name, b"who knows").unwrap();
            let error = refused(&path, &EXPECTED);
            assert!(matches!(error, DataDirectoryError::Newer { .. }), "{error}");
            assert!(error.to_string().contains("newer Certus"), "{error}");
        }
    }

    #[test]
    fn boot_files_of_another_directory_are_noticed() {
        let (_directory, path) = started();
        for name in ["boot", "boot.copy"] {
            let mut fact = 9_u32.to_le_bytes().to_vec();
            fact.extend_from_slice(&1_u128.to_le_bytes());
            two_copies::write(&path, &BOOT, "boot", &fact).unwrap();
            assert!(path.join(name).exists());
        }
        let error = refused(&path, &EXPECTED);
        assert!(error.to_string().contains("another incarnation"), "{error}");
    }
}
