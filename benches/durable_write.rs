//! What one durable write costs here, one in flight: the base of every write's latency.
//!
//! ```text
//! cargo bench --bench durable_write [-- DIRECTORY [WRITES]]     (., 2000)
//! ```
//!
//! Compares, interleaved round by round on one pre-written file opened with `O_DIRECT`, the three
//! ways to make a write durable through a ring of one's own, and the two system calls of a thread:
//!
//! - `dsync`: one write with `RWF_DSYNC`, which is what the log does;
//! - `linked`: a write with an fdatasync linked to it;
//! - `syscalls`: pwrite, then fdatasync.
//!
//! Prints medians and the 99th percentile in microseconds for several sizes.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};
use plog::block::AlignedBuffer;

const FILE_SIZE: usize = 64 << 20;
const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
const ROUNDS: usize = 10;

type Failure = Box<dyn std::error::Error>;

#[derive(Clone, Copy, Debug)]
enum Way {
    Dsync,
    Linked,
    Syscalls,
}

const WAYS: [(Way, &str); 3] =
    [(Way::Dsync, "dsync"), (Way::Linked, "linked"), (Way::Syscalls, "syscalls")];

struct Target {
    file: File,
    ring: IoUring,
    buffer: AlignedBuffer,
}

impl Target {
    fn write(&mut self, way: Way, offset: u64, size: usize) -> Result<(), Failure> {
        let fd = types::Fd(self.file.as_raw_fd());
        let length = u32::try_from(size)?;
        let write = opcode::Write::new(fd, self.buffer.as_ptr(), length).offset(offset);
        let count = match way {
            Way::Dsync => {
                self.push(write.rw_flags(libc::RWF_DSYNC).build())?;
                1
            }
            Way::Linked => {
                let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC);
                self.push(write.build().flags(squeue::Flags::IO_LINK))?;
                self.push(sync.build())?;
                2
            }
            Way::Syscalls => {
                self.file.write_all_at(&self.buffer[..size], offset)?;
                self.file.sync_data()?;
                return Ok(());
            }
        };
        self.ring.submit_and_wait(count)?;
        for completion in self.ring.completion() {
            if completion.result() < 0 {
                return Err(std::io::Error::from_raw_os_error(-completion.result()).into());
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry) -> Result<(), Failure> {
        // SAFETY: the buffer and the file outlive the entry: the call that pushes it waits for its
        // completion before it returns.
        unsafe { self.ring.submission().push(&entry) }?;
        Ok(())
    }
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let directory = PathBuf::from(arguments.first().map_or(".", String::as_str));
    let writes: usize = arguments.get(1).map_or(Ok(2000), |count| count.parse())?;
    let path = directory.join(format!("durable-write-{}", std::process::id()));
    let outcome = measure(&path, writes);
    std::fs::remove_file(&path)?;
    outcome
}

fn measure(path: &std::path::Path, writes: usize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let zeros = vec![0_u8; 1 << 20];
    let mut plain = File::create_new(path)?;
    for _ in 0..FILE_SIZE / zeros.len() {
        plain.write_all(&zeros)?;
    }
    plain.sync_all()?;
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    let buffer = AlignedBuffer::zeroed(SIZES[SIZES.len() - 1]);
    let mut target = Target { file, ring: IoUring::new(8)?, buffer };
    writeln!(out, "{:>8}  {:>10}  {:>9}  {:>9}", "bytes", "way", "p50 us", "p99 us")?;
    for size in SIZES {
        let mut times: [Vec<u128>; 3] = [const { Vec::new() }; 3];
        let mut offset = 0;
        for _ in 0..ROUNDS {
            for (number, (way, _)) in WAYS.iter().enumerate() {
                for _ in 0..writes / ROUNDS {
                    let begin = Instant::now();
                    target.write(*way, u64::try_from(offset)?, size)?;
                    times[number].push(begin.elapsed().as_micros());
                    offset = (offset + size) % (FILE_SIZE - size + 1) / 4096 * 4096;
                }
            }
        }
        for (number, (_, name)) in WAYS.iter().enumerate() {
            let sorted = &mut times[number];
            sorted.sort_unstable();
            let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
            writeln!(out, "{size:>8}  {name:>10}  {:>9}  {:>9}", at(50), at(99))?;
        }
    }
    Ok(())
}
