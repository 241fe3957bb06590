//! A process that can be signalled and waited for without mistaking another for it.
//!
//! A process id may be given to a new process as soon as the old one is gone. A descriptor of the
//! process cannot: what it was opened on is checked after opening it, and everything later goes
//! through it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A running process, or one that has ended since.
#[derive(Debug)]
pub struct Process {
    id: u32,
    descriptor: OwnedFd,
}

impl Process {
    /// The process with this id; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn open(id: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Some(Self { id, descriptor })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The node that runs on `data_directory` with `config_file`, whoever started it; `None` when
    /// none does. The directory's lock file names a process, perhaps one long gone.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn of_node(data_directory: &Path, config_file: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(data_directory.join("LOCK")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(id) = text.trim().parse() else { return Ok(None) };
        let Some(process) = Self::open(id)? else { return Ok(None) };
        Ok((process.is_node(config_file) && process.is_running()?).then_some(process))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Sends a signal; nothing happens when the process has ended.
    ///
    /// # Errors
    ///
    /// When this user may not.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended, at most until `deadline`; whether it has.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn wait_until(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut waited = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match poll(&mut waited, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the process has not ended.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn is_running(&self) -> io::Result<bool> {
        self.wait_until(Instant::now()).map(|ended| !ended)
    }

    /// Whether this is certusd with that configuration file. A process that ended meanwhile is not.
    fn is_node(&self, config_file: &Path) -> bool {
        let about = PathBuf::from(format!("/proc/{}", self.id));
        let Ok(command) = fs::read(about.join("cmdline")) else { return false };
        let mut words = command.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        let program = words.next().unwrap_or_default();
        let is_certusd = Path::new(&*program)
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("certusd"));
        // A relative path is meant from where the process runs.
        let here = fs::read_link(about.join("cwd")).unwrap_or_default();
        let is_config = |path: &str| {
            let whole = here.join(path);
            whole == config_file || fs::canonicalize(whole).is_ok_and(|path| path == config_file)
        };
        let words: Vec<_> = words.collect();
        let follows = words.windows(2).any(|pair| pair[0] == "--config" && is_config(&pair[1]));
        let joined =
            || words.iter().filter_map(|word| word.strip_prefix("--config=")).any(is_config);
        is_certusd && (follows || joined())
    }
}

/// Asks every process to stop, waits, and ends those that do not; which of them had to be ended.
///
/// # Errors
///
/// When a process cannot be signalled, or does not even end then.
pub fn stop_all(processes: &[Process], grace: Duration) -> io::Result<Vec<u32>> {
    for process in processes {
        process.signal(Signal::TERM)?;
    }
    let deadline = Instant::now() + grace;
    let mut ended = Vec::new();
    for process in processes {
        if !process.wait_until(deadline)? {
            process.signal(Signal::KILL)?;
            ended.push(process.id);
        }
    }
    for process in processes {
        if !process.wait_until(Instant::now() + grace)? {
            let message = format!("process {} does not end, even when killed", process.id);
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
    }
    Ok(ended)
}
