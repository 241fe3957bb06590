//! Tests of [`crate::dev::process`], apart from it because the process tests use that file too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::dev::process::{Process, stop_all};

#[test]
fn a_process_is_stopped_and_its_end_is_seen() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = Process::open(child.id()).unwrap().unwrap();
    assert!(process.is_running().unwrap());
    let killed = stop_all(&[process], Duration::from_secs(60)).unwrap();
    assert_eq!(killed, Vec::<u32>::new(), "cat ends when it is asked to");
    child.wait().unwrap();
}

#[test]
fn one_that_does_not_listen_is_killed() {
    let script = "trap '' TERM; echo deaf; read line";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    let process = Process::open(child.id()).unwrap().unwrap();
    let id = process.id();
    assert_eq!(stop_all(&[process], Duration::from_millis(50)).unwrap(), [id]);
    child.wait().unwrap();
}

#[test]
fn a_lock_file_that_names_somebody_else_names_no_node() {
    let directory = std::env::temp_dir().join(format!("certus-lock-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let config = Path::new("/nowhere/certusd.toml");
    assert!(Process::of_node(&directory, config).unwrap().is_none(), "no lock file");
    for text in ["", "x", "0", "4294967295", &std::process::id().to_string()] {
        std::fs::write(directory.join("LOCK"), text).unwrap();
        assert!(Process::of_node(&directory, config).unwrap().is_none(), "{text}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_process_that_ended_takes_no_signal_and_no_time() {
    let mut child = Command::new("true").spawn().unwrap();
    let process = Process::open(child.id()).unwrap().unwrap();
    child.wait().unwrap();
    process.signal(Signal::TERM).unwrap();
    assert!(process.wait_until(Instant::now()).unwrap());
    assert!(Process::open(child.id()).unwrap().is_none());
}
