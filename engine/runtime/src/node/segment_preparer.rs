//! Makes spare segment files, so that opening a segment never waits for the disk.
//!
//! A synced write into blocks that were never written also syncs the file system's metadata, at
//! half the speed; and `fallocate` does not help, since the first write converts the blocks. So a
//! spare is a file filled with zeros beforehand. Filling 64 MiB at full speed would cut commits to
//! a few per second, so it happens here: one plain thread for all cores, one chunk of
//! [`CHUNK_SIZE`] at a time, at a bounded pace.
//!
//! A spare is filled under a temporary name, synced, renamed and its directory synced: a file with
//! a spare's name is always whole, and one with a temporary name is left from a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plog::block::AlignedBuffer;
use plog::segment::{SegmentFileName, SpareId};

use crate::node::log_line;
use crate::node::two_copies::{TEMPORARY_SUFFIX, sync_directory};

/// Bytes written at a time: larger background writes stall the commits beside them.
pub const CHUNK_SIZE: usize = 256 << 10;

/// Requests and answers that may wait, per core.
const QUEUE_PER_CORE: usize = 256;

/// A spare that was asked for, or why there is none.
#[derive(Debug)]
pub struct SpareReady {
    /// Its number, unique on its core.
    pub spare: SpareId,
    /// Whether the file is there, whole and durable.
    pub result: Result<(), SpareError>,
}

/// Why a spare could not be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpareError {
    /// The disk is full, or the quota is used up. Worth trying again once there is room.
    #[error("no space for {}: {error}", file.display())]
    NoSpace {
        /// The file.
        file: PathBuf,
        /// The operating system's words.
        error: String,
    },
    /// Anything else: the disk or file system is in trouble.
    #[error("making {}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's words.
        error: String,
    },
}

impl SpareError {
    fn new(file: &Path, error: &io::Error) -> Self {
        let (file, text) = (file.to_owned(), error.to_string());
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace { file, error: text },
            _ => Self::Io { file, error: text },
        }
    }
}

/// What the thread knows of one core.
#[derive(Debug)]
struct Core {
    directory: PathBuf,
    ready: SyncSender<SpareReady>,
}

/// One core's way to ask for spares.
#[derive(Clone, Debug)]
pub struct SpareRequests {
    core: u16,
    sender: SyncSender<(u16, SpareId)>,
}

impl SpareRequests {
    /// Asks for a spare under that number; whether the request was taken. If not, so many are
    /// waiting that asking again later is right, or the thread has ended.
    #[must_use]
    pub fn request(&self, spare: SpareId) -> bool {
        match self.sender.try_send((self.core, spare)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Where one core's spares come from and go to.
#[derive(Debug)]
pub struct SpareChannel {
    /// To ask with.
    pub requests: SpareRequests,
    /// Where answers arrive, one per request.
    pub ready: Receiver<SpareReady>,
}

/// The thread. It ends when every [`SpareRequests`] is gone.
#[derive(Debug)]
pub struct SegmentPreparer {
    thread: JoinHandle<()>,
}

impl SegmentPreparer {
    /// Starts the thread for the cores with these directories, in order of their numbers.
    ///
    /// # Errors
    ///
    /// When the operating system grants no thread.
    pub fn start(
        directories: Vec<PathBuf>,
        segment_size: u32,
        rate_bytes_per_s: u64,
    ) -> io::Result<(Self, Vec<SpareChannel>)> {
        let (sender, receiver) = sync_channel(QUEUE_PER_CORE * directories.len().max(1));
        let mut channels = Vec::with_capacity(directories.len());
        let mut states = Vec::with_capacity(directories.len());
        for (core, directory) in (0..).zip(directories) {
            let (ready_sender, ready) = sync_channel(QUEUE_PER_CORE);
            states.push(Core { directory, ready: ready_sender });
            let requests = SpareRequests { core, sender: sender.clone() };
            channels.push(SpareChannel { requests, ready });
        }
        let thread = std::thread::Builder::new()
            .name("certus-segments".to_owned())
            .spawn(move || serve(&receiver, &states, segment_size, rate_bytes_per_s))?;
        Ok((Self { thread }, channels))
    }

    /// Waits for the thread; call when all cores have ended.
    pub fn join(self) {
        // A panic of the thread has ended the process already.
        self.thread.join().ok();
    }
}

fn serve(requests: &Receiver<(u16, SpareId)>, cores: &[Core], segment_size: u32, rate: u64) {
    while let Ok((core, spare)) = requests.recv() {
        let core = &cores[usize::from(core)];
        let result = make_spare(&core.directory, spare, segment_size, Some(rate));
        if let Err(error) = &result {
            log_line::error("a spare segment could not be made", &[("reason", error)]);
        }
        // A core that ended wants no answer; the others may still.
        core.ready.send(SpareReady { spare, result }).ok();
    }
}

/// Makes the file of `spare`: `segment_size` bytes of zeros, written, synced, and durable under
/// its name. Without `rate_bytes_per_s` at full speed.
///
/// # Errors
///
/// When there is no room or the disk fails; nothing is left behind.
pub fn make_spare(
    directory: &Path,
    spare: SpareId,
    segment_size: u32,
    rate_bytes_per_s: Option<u64>,
) -> Result<(), SpareError> {
    let path = directory.join(SegmentFileName::Spare(spare).to_string());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(temporary);
    let made = fill(&temporary, segment_size, rate_bytes_per_s)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .and_then(|()| sync_directory(directory));
    made.map_err(|error| {
        // The next start removes what cannot be removed now.
        std::fs::remove_file(&temporary).ok();
        SpareError::new(&path, &error)
    })
}

fn fill(path: &Path, segment_size: u32, rate_bytes_per_s: Option<u64>) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let size = u64::from(segment_size);
    reserve_blocks(&file, size)?;
    let zeros = AlignedBuffer::zeroed(CHUNK_SIZE);
    let chunk = u64::try_from(CHUNK_SIZE).expect("a chunk is small");
    let start = Instant::now();
    let mut written = 0;
    while written < size {
        let length = chunk.min(size - written);
        let length = usize::try_from(length).expect("at most a chunk");
        file.write_all_at(&zeros[..length], written)?;
        written += u64::try_from(length).expect("at most a chunk");
        if let Some(rate) = rate_bytes_per_s {
            let due = Duration::from_nanos(
                u64::try_from(u128::from(written) * 1_000_000_000 / u128::from(rate.max(1)))
                    .unwrap_or(u64::MAX),
            );
            if let Some(early) = due.checked_sub(start.elapsed()) {
                std::thread::sleep(early);
            }
        }
    }
    file.sync_all()
}

/// Reserves the whole file at once: it then lies together on the disk, and a full disk is noticed
/// before anything is written.
///
/// # Errors
///
/// The operating system's, above all that there is no room.
pub fn reserve_blocks(file: &File, size: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let length = libc::off_t::try_from(size)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "segment size out of range"))?;
    // SAFETY: the descriptor is open for the whole call, and the call touches no memory of ours.
    let failed = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    match failed {
        0 => Ok(()),
        // Only an optimisation: the writes that follow do the same, more slowly.
        libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use plog::segment::{SegmentFileName, SpareId};

    use super::{SegmentPreparer, SpareError, make_spare};
    use crate::node::test_directory::TestDirectory;

    const SIZE: u32 = 1 << 20;

    #[test]
    fn a_spare_is_a_whole_file_of_zeros_and_nothing_else_is_left() {
        let directory = TestDirectory::new();
        make_spare(directory.path(), SpareId(7), SIZE, None).unwrap();
        let names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, ["spare-7.plog"]);
        let bytes = std::fs::read(directory.path().join("spare-7.plog")).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        assert!(plog::block::is_zero(&bytes));
    }

    #[test]
    fn a_spare_that_cannot_be_made_is_an_error_and_leaves_nothing() {
        let directory = TestDirectory::new();
        let missing = directory.path().join("missing");
        let error = make_spare(&missing, SpareId(1), SIZE, None).unwrap_err();
        assert!(matches!(error, SpareError::Io { .. }));
        let full = SpareError::new(&missing, &std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, SpareError::NoSpace { .. }));
    }

    #[test]
    fn the_thread_serves_each_core_in_its_own_directory_and_ends_with_the_last_requester() {
        let directory = TestDirectory::new();
        let cores = (0..2)
            .map(|core| {
                let path = directory.path().join(format!("core-{core}"));
                std::fs::create_dir(&path).unwrap();
                path
            })
            .collect();
        let (preparer, channels) = SegmentPreparer::start(cores, SIZE, u64::MAX).unwrap();
        for (core, channel) in (0..).zip(&channels) {
            assert!(channel.requests.request(SpareId(5 + core)));
        }
        for (core, channel) in (0..).zip(&channels) {
            let ready = channel.ready.recv().unwrap();
            assert_eq!((ready.spare, ready.result), (SpareId(5 + core), Ok(())));
            let name = SegmentFileName::Spare(ready.spare).to_string();
            assert!(directory.path().join(format!("core-{core}")).join(name).exists());
        }
        drop(channels);
        preparer.join();
    }
}
