//! The clocks of one node, which can jump while it runs: a library between it and the system
//! (`clock_shim.c`) shifts what it reads by what stands in a file.
//!
//! `certusd` reads the wall clock for the times of its log lines and a check at its start, and the
//! monotonic clock for everything else: time-outs, leases, retries. The wall clock jumps both ways;
//! the monotonic clock only forward, because no system turns it back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SOURCE: &str = include_str!("clock_shim.c");

/// Bytes of the file: two shifts, two counts of readings.
const SIZE: u64 = 32;

/// Clocks that can jump.
#[derive(Debug)]
pub struct Clocks {
    file: File,
    /// What the node must be started with.
    pub environment: [(&'static str, PathBuf); 2],
}

/// How far the clocks are off, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shift {
    /// The wall clock.
    pub wall: i64,
    /// The monotonic clock; it never becomes less.
    pub monotonic: i64,
}

/// Makes the library in `directory`; its path.
pub fn make_library(directory: &Path) -> io::Result<PathBuf> {
    if cfg!(target_endian = "big") {
        return Err(io::Error::other("the clock faults know little-endian machines only"));
    }
    let [source, library] = ["clock_shim.c", "clock_shim.so"].map(|name| directory.join(name));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(library);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("cc cannot make the library of the clock faults: {said}")))
}

impl Clocks {
    /// Right ones, with the file at `path`.
    pub fn new(path: PathBuf, library: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.set_len(SIZE)?;
        let environment = [("LD_PRELOAD", library.to_owned()), ("NEMESIS_CLOCK", path)];
        Ok(Self { file, environment })
    }

    /// Has them jump.
    pub fn set(&self, shift: Shift) -> io::Result<()> {
        self.file.write_all_at(&shift.wall.to_le_bytes(), 0)?;
        self.file.write_all_at(&shift.monotonic.to_le_bytes(), 8)
    }

    /// How often the node was told a shifted time: by the wall clock, by the monotonic clock.
    pub fn readings(&self) -> io::Result<[u64; 2]> {
        let mut bytes = [0; 8];
        let mut readings = [0; 2];
        for (reading, offset) in readings.iter_mut().zip([16, 24]) {
            self.file.read_exact_at(&mut bytes, offset)?;
            *reading = u64::from_le_bytes(bytes);
        }
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::{Clocks, Shift, make_library};

    #[test]
    fn a_process_reads_shifted_clocks_and_is_counted() {
        let directory = std::env::temp_dir().join(format!("certus-clocks-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let library = make_library(&directory).unwrap();
        let clocks = Clocks::new(directory.join("clock"), &library).unwrap();
        let hours = 3;
        let ahead = || {
            let output = Command::new("date")
                .arg("+%s")
                .envs(clocks.environment.iter().map(|(name, value)| (name, value)))
                .output()
                .unwrap();
            let told: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
            told.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
        };
        assert!(ahead() < 3600, "not shifted yet");
        assert_eq!(clocks.readings().unwrap(), [0, 0]);
        clocks.set(Shift { wall: hours * 3_600_000_000_000, monotonic: 0 }).unwrap();
        assert!((hours * 3600 - 5..hours * 3600 + 3600).contains(&(ahead() as i64)));
        assert!(clocks.readings().unwrap()[0] > 0);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
