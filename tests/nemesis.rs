//! The nemesis itself: a short run with real faults proves something and finds nothing, one whose
//! faults do not take effect proves nothing, and one that is told to stop leaves nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A directory for a run, empty.
fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("nemesis-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn start(directory: &Path, words: &[&str]) -> Child {
    // Builds for tests are slow, and other tests run beside this one.
    Command::new(env!("CARGO_BIN_EXE_certus-nemesis"))
        .args(["--rate-min", "10", "--clients", "24", "--directory"])
        .arg(directory)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The exit status, and what was said.
fn run(directory: &Path, words: &[&str]) -> (i32, String) {
    let output = start(directory, words).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    (output.status.code().unwrap(), said)
}

fn number(said: &str, name: &str) -> u64 {
    let line = said.lines().last().unwrap();
    let word = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    word.unwrap_or_else(|| panic!("{name} is missing: {line}")).parse().unwrap()
}

fn assert_nothing_is_left(directory: &Path) {
    let left: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "a run leaves nothing: {left:?}");
    for entry in fs::read_dir("/proc").unwrap() {
        let command = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        let ours = command.contains(directory.to_str().unwrap());
        assert!(!ours, "a process is left: {command}");
    }
    fs::remove_dir(directory).unwrap();
}

#[test]
fn a_cluster_under_kills_pauses_and_partitions_keeps_its_promises() {
    let directory = directory("faults");
    let words = ["--seconds", "20", "--seed", "1", "--faults", "kill,pause,partition"];
    let (status, said) = run(&directory, &words);
    assert_eq!(status, 0, "{said}");
    assert_eq!(number(&said, "violations"), 0);
    assert!(number(&said, "operations") > 500 && number(&said, "faults") >= 3);
    for kind in ["kill", "pause", "partition"] {
        let took = said.lines().any(|line| line.contains(kind) && line.contains("took effect"));
        assert!(took, "{kind}: {said}");
    }
    assert_nothing_is_left(&directory);
}

#[test]
fn a_fault_that_does_not_take_effect_proves_nothing() {
    let directory = directory("pretended");
    let words = ["--seconds", "5", "--seed", "1", "--faults", "pause", "--pretend"];
    let (status, said) = run(&directory, &words);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("did not take effect"), "{said}");
    assert_eq!((number(&said, "faults"), number(&said, "violations")), (0, 0));
    assert_nothing_is_left(&directory);
}

#[test]
fn a_run_that_is_told_to_stop_proves_nothing_and_leaves_nothing() {
    let directory = directory("stopped");
    let mut child = start(&directory, &["--seconds", "600", "--seed", "1", "--faults", "pause"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let nodes = |directory: &Path| {
        let mut runs = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        runs.any(|run| run.join("node-2/certusd.log").exists())
    };
    while !nodes(&directory) {
        assert!(Instant::now() < deadline, "no node was started");
        assert!(child.try_wait().unwrap().is_none(), "it goes on until it is told to stop");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_nothing_is_left(&directory);
}
