//! The process that the user starts. It has another one do the work, in a mount namespace of its
//! own where that is allowed, and removes what that one leaves, however it ended.
//!
//! Nodes end with the process that started them (a parent-death signal), mounts with the namespace,
//! and loop devices with the mounts; so nothing is left even when the worker is killed.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::Arguments;
use crate::console::complain;
use crate::process::Process;

/// How long the worker may take to stop when it is told to.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Set for the worker: whether it may mount.
pub const MAY_MOUNT: &str = "NEMESIS_MAY_MOUNT";

/// Runs the worker for these arguments; its exit status.
pub fn run(arguments: &Arguments, seed: u64) -> io::Result<u8> {
    let name = format!("certus-nemesis-{seed}-{}", std::process::id());
    let directory = fs::canonicalize(&arguments.directory).map_err(|error| {
        let place = arguments.directory.display();
        let reason = format!("--directory {place}: {error}; name one that is there");
        io::Error::new(error.kind(), reason)
    })?;
    let directory = directory.join(name);
    fs::create_dir(&directory)?;
    let status = watch(&directory, seed);
    fs::remove_dir_all(&directory)?;
    status
}

fn watch(directory: &Path, seed: u64) -> io::Result<u8> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let own = std::env::current_exe()?;
    let may_mount = can_mount();
    let mut command = Command::new(if may_mount { Path::new("unshare") } else { &own });
    if may_mount {
        command.arg("--mount").arg(&own);
    }
    command.args(std::env::args_os().skip(1)).arg("--inner").arg(directory);
    command.arg(format!("--seed={seed}")).env(MAY_MOUNT, if may_mount { "1" } else { "0" });
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let process = Process::open(child.id())?.expect("a child that was not waited for is there");
    let mut told: Option<Instant> = None;
    while !process.wait_until(Instant::now() + Duration::from_millis(100))? {
        match told {
            None if interrupted.load(Ordering::Relaxed) => {
                process.signal(Signal::TERM)?;
                told = Some(Instant::now());
            }
            Some(at) if at.elapsed() > STOPPED_WITHIN => process.signal(Signal::KILL)?,
            _ => {}
        }
    }
    let status = child.wait()?;
    if let Some(signal) = status.signal() {
        complain(format!(
            "the nemesis itself was ended by signal {signal}; the run proves nothing"
        ));
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// Whether a mount namespace can be made, and a file system mounted in it.
fn can_mount() -> bool {
    Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "certus-nemesis", "/mnt"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
