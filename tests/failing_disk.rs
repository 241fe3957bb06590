//! A disk that fails under a node: after a failed or short write the node ends, with a status of
//! its own and one line, the others go on, and when the fault is gone it comes back with everything
//! that was acknowledged. After a failed read it goes on, and never answers wrongly.
//!
//! The process may not write beyond a size: what is left of a write is short, or nothing. The
//! medium below the file system has no room for blocks that the file system thinks it has, or can
//! neither be written nor read. These need the right to mount; without it they say so and end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use net::resp::value::Value;
use rustix::process::{Pid, Signal, kill_process};

use cluster::{Cluster, certus, scratch_directory, text, wait_until};

/// A cluster of which node 0 is a child of the test, so that its exit status can be had, and what
/// was acknowledged.
struct Trial {
    cluster: Cluster,
    acknowledged: Vec<(String, String)>,
}

impl Trial {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, arguments: &[&str]) -> Self {
        let mut cluster = Cluster::start_with(name, arguments);
        cluster.kill(0);
        cluster.restart(0);
        cluster.wait_until_ready(0);
        Self { cluster, acknowledged: Vec::new() }
    }

    /// Writes through `node`. Whether it was acknowledged.
    fn write(&mut self, node: usize, key: &str, length: usize) -> bool {
        let value = format!("{key}-").repeat(length / (key.len() + 1) + 1);
        let answer = self.cluster.nodes[node]
            .connect()
            .and_then(|mut client| client.ask(&["SET", key, &value]));
        let is_acknowledged = answer.is_ok_and(|reply| reply == Value::OK);
        if is_acknowledged {
            self.acknowledged.push((key.to_owned(), value));
        }
        is_acknowledged
    }

    /// Node 0 has to write what it cannot. The others are a majority without it, and may have
    /// chosen the value before its disk says so: an acknowledged one, which must not be lost.
    fn write_to_failing(&mut self) {
        let is_acknowledged = self.write(0, "long", 100_000);
        println!("acknowledged: {is_acknowledged}");
    }

    fn write_some(&mut self, nodes: &[usize], name: &str) {
        for number in 0..30 {
            for &node in nodes {
                assert!(self.write(node, &format!("{name}:{node}:{number}"), 300), "node {node}");
            }
        }
    }

    /// Where the log of node 0 ends, once nothing is written any more.
    fn log_end(&self) -> u64 {
        let log = self.cluster.nodes[0].data_directory.join("core-0").display().to_string();
        let look = || {
            let output = certus(&["plog", "verify", &log]);
            let said = String::from_utf8(output.stdout).unwrap();
            let line = said.lines().find(|line| line.contains("goes on in segment 0")).unwrap();
            assert!(line.contains("segment 0000000000000001 at"), "still in its first: {line}");
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let mut seen = look();
        wait_until("node 0 to write nothing any more", || {
            std::thread::sleep(Duration::from_millis(500));
            let again = look();
            std::mem::replace(&mut seen, again) == again
        });
        seen
    }

    /// Lets writes of node 0 beyond `size` bytes of a file fail.
    fn limit_file_size(&self, size: u64) {
        let process = self.cluster.nodes[0].process_id();
        let status = Command::new("prlimit")
            .args(["--pid", &process.to_string(), &format!("--fsize={size}:unlimited")])
            .status();
        assert!(status.unwrap().success(), "a limit of our own process can be lowered");
    }

    /// Node 0 has ended, for the disk, in one line that has all of `words`.
    fn expect_end(&mut self, words: &[&str]) {
        let status = self.cluster.wait_until_ended(0);
        let log = fs::read_to_string(&self.cluster.nodes[0].log_file).unwrap();
        assert_eq!(status, Some(6), "{}", self.cluster.nodes[0].log_end());
        let fatal: Vec<&str> =
            log.lines().filter(|line| line.starts_with("certusd: fatal: ")).collect();
        assert_eq!(fatal.len(), 1, "one line says why: {log}");
        for word in words {
            assert!(fatal[0].contains(word), "{word:?} is missing: {}", fatal[0]);
        }
        println!("{}", fatal[0]);
    }

    /// The others serve, node 0 comes back, and nothing is lost.
    fn expect_recovery(&mut self, heal: impl FnOnce()) {
        assert!(!self.write(0, "down", 10), "who is gone acknowledges nothing");
        self.write_some(&[1, 2], "meanwhile");
        self.check_all(&[1, 2]);
        let data = self.cluster.nodes[0].data_directory.display().to_string();
        heal();
        let verified = certus(&["plog", "verify", &data]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert_eq!(verified.status.code(), Some(0), "{said}");
        self.cluster.restart(0);
        self.cluster.wait_until_ready(0);
        self.write_some(&[0, 1, 2], "after");
        self.check_all(&[0, 1, 2]);
        let keys: Vec<String> = self.acknowledged.iter().map(|(key, _)| key.clone()).collect();
        self.cluster.wait_until_equal(&keys);
    }

    fn check_all(&self, nodes: &[usize]) {
        assert!(self.acknowledged.len() > 50);
        for &node in nodes {
            let mut client = self.cluster.client(node);
            for (key, value) in &self.acknowledged {
                let got = text(&client.ask(&["GET", key]).unwrap());
                assert!(got == *value, "node {node} lost {key}: {:.40}", got);
            }
        }
    }
}

#[test]
fn a_short_write_ends_the_node_and_loses_nothing() {
    let mut trial = Trial::start("short-write");
    trial.write_some(&[0, 1, 2], "before");
    let end = trial.log_end();
    // A promise goes first, in a block of its own.
    trial.limit_file_size(end + 3 * 4096);
    trial.write_to_failing();
    trial.expect_end(&["only 8192 of", "bytes at", "log segment 0000000000000001", "check it"]);
    trial.expect_recovery(|| {});
}

#[test]
fn a_refused_write_ends_the_node_and_loses_nothing() {
    let mut trial = Trial::start("refused-write");
    trial.write_some(&[0, 1, 2], "before");
    let end = trial.log_end();
    trial.limit_file_size(end);
    assert!(!trial.write(0, "long", 100_000), "refused before anybody can answer");
    trial.expect_end(&["log segment 0000000000000001 failed", "File too large", "check the disk"]);
    trial.expect_recovery(|| {});
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_node_and_is_never_adopted() {
    let mut trial = Trial::start("failed-checkpoint");
    trial.write_some(&[0, 1, 2], "before");
    // More than a segment holds, so that the limit spares the log and not the checkpoint.
    for number in 0..150 {
        assert!(trial.write(0, &format!("large:{number}"), 64 << 10));
    }
    let address = trial.cluster.nodes[0].client.to_string();
    let done = certus(&["checkpoint", "--addr", &address]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let pointer = trial.cluster.nodes[0].data_directory.join("core-0/checkpoint");
    let before = fs::read(&pointer).unwrap();
    trial.limit_file_size(8 << 20);
    let asked = certus(&["checkpoint", "--no-wait", "--addr", &address]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    trial.expect_end(&["a checkpoint's", "File too large", "check the data directory"]);
    assert_eq!(fs::read(&pointer).unwrap(), before, "the one before counts");
    trial.expect_recovery(|| {});
    let done = certus(&["checkpoint", "--addr", &address]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A file system on a loop device, whose image stands in a memory file system that can be filled.
struct FailingDisk {
    place: PathBuf,
    device: String,
}

fn succeeds(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

impl FailingDisk {
    /// Room for one node, mounted at `directory`. [`None`], with a word why, where that cannot be.
    fn mount(name: &str, directory: &Path) -> Option<Self> {
        let place = scratch_directory(name);
        fs::create_dir_all(&place).unwrap();
        let mut disk = Self { place, device: String::new() };
        match disk.make(directory) {
            Ok(()) => Some(disk),
            Err(reason) => {
                println!("skipped: no disk that fails can be made here: {reason}");
                None
            }
        }
    }

    fn make(&mut self, directory: &Path) -> Result<(), String> {
        let place = self.place.display().to_string();
        succeeds("mount", &["-t", "tmpfs", "-o", "size=130m", "certus-test", &place])?;
        let image = self.image();
        succeeds("truncate", &["--size=60M", &image])?;
        succeeds("mkfs.ext4", &["-q", "-O", "^has_journal", &image])?;
        self.device = succeeds("losetup", &["--find", "--show", &image])?;
        succeeds("mount", &[&self.device, &directory.display().to_string()])?;
        Ok(())
    }

    fn image(&self) -> String {
        self.place.join("image").display().to_string()
    }

    /// From now on no block can be written that holds zeros only. Nobody may write meanwhile.
    fn fill(&self, directory: &Path) {
        succeeds("sync", &["--file-system", &directory.display().to_string()]).unwrap();
        succeeds("fallocate", &["--dig-holes", &self.image()]).unwrap();
        // It ends when there is no room left.
        let filler = format!("of={}", self.place.join("filler").display());
        succeeds("dd", &["if=/dev/zero", &filler, "bs=4096"]).unwrap_err();
    }

    /// Ends what [`FailingDisk::fill`] began.
    fn empty(&self) {
        fs::remove_file(self.place.join("filler")).unwrap();
    }

    /// From now on nothing can be read or written but the first mebibyte. Nobody may write
    /// meanwhile.
    fn cut_off(&self, directory: &Path) {
        succeeds("sync", &["--file-system", &directory.display().to_string()]).unwrap();
        succeeds("cp", &["--sparse=always", &self.image(), &self.kept_image()]).unwrap();
        succeeds("truncate", &["--size=1M", &self.image()]).unwrap();
        succeeds("losetup", &["--set-capacity", &self.device]).unwrap();
    }

    /// Ends what [`FailingDisk::cut_off`] began: the medium is as it was then. Nobody may use it.
    fn put_back(&self, directory: &Path) {
        let directory = directory.display().to_string();
        succeeds("umount", &[&directory]).unwrap();
        // What the kernel still knows of the device is from when it failed.
        succeeds("blockdev", &["--flushbufs", &self.device]).unwrap();
        succeeds("cp", &["--sparse=always", &self.kept_image(), &self.image()]).unwrap();
        succeeds("losetup", &["--set-capacity", &self.device]).unwrap();
        succeeds("mount", &[&self.device, &directory]).unwrap();
    }

    fn kept_image(&self) -> String {
        self.place.join("kept").display().to_string()
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        if !self.device.is_empty() {
            // The file system on it is unmounted by the test, or with the test's directory.
            succeeds("umount", &["--lazy", &self.device]).ok();
            succeeds("losetup", &["--detach", &self.device]).ok();
        }
        succeeds("umount", &["--lazy", &self.place.display().to_string()]).ok();
        fs::remove_dir(&self.place).ok();
    }
}

/// A trial whose node 0 has its data on a disk that can fail.
fn trial_on_failing_disk(name: &str, arguments: &[&str]) -> Option<(Trial, FailingDisk)> {
    let mut trial = Trial::start_with(name, arguments);
    trial.write_some(&[0, 1, 2], "before");
    trial.cluster.kill(0);
    let data = trial.cluster.nodes[0].data_directory.clone();
    let kept = data.with_file_name("kept");
    fs::rename(&data, &kept).unwrap();
    fs::create_dir(&data).unwrap();
    let disk = FailingDisk::mount(&format!("{name}-disk"), &data);
    if disk.is_some() {
        let from = format!("{}/.", kept.display());
        succeeds("cp", &["-r", &from, &data.display().to_string()]).unwrap();
    } else {
        fs::remove_dir(&data).unwrap();
        fs::rename(&kept, &data).unwrap();
    }
    trial.cluster.restart(0);
    trial.cluster.wait_until_ready(0);
    let disk = disk?;
    trial.write_some(&[0, 1, 2], "on-the-medium");
    Some((trial, disk))
}

impl Trial {
    /// Does something while node 0 does nothing.
    fn while_frozen(&self, action: impl FnOnce()) {
        self.log_end();
        let process = i32::try_from(self.cluster.nodes[0].process_id()).unwrap();
        let process = Pid::from_raw(process).unwrap();
        kill_process(process, Signal::STOP).unwrap();
        action();
        kill_process(process, Signal::CONT).unwrap();
    }

    /// Stops what uses the disk, and then the rest.
    fn end(mut self, disk: FailingDisk) {
        self.cluster.stop_node(0);
        succeeds("umount", &[&self.cluster.nodes[0].data_directory.display().to_string()]).unwrap();
        drop(self.cluster);
        drop(disk);
    }
}

#[test]
fn a_medium_without_room_below_the_file_system_ends_the_node_and_loses_nothing() {
    let Some((mut trial, disk)) = trial_on_failing_disk("full-medium", &[]) else { return };
    let data = trial.cluster.nodes[0].data_directory.clone();
    trial.while_frozen(|| disk.fill(&data));
    trial.write_to_failing();
    trial.expect_end(&["log segment", "No space left", "the node stops", "restart"]);
    trial.expect_recovery(|| disk.empty());
    trial.end(disk);
}

#[test]
fn a_medium_that_fails_below_the_file_system_ends_the_node_and_loses_nothing() {
    let Some((mut trial, disk)) = trial_on_failing_disk("failing-medium", &[]) else { return };
    let data = trial.cluster.nodes[0].data_directory.clone();
    trial.while_frozen(|| disk.cut_off(&data));
    trial.write_to_failing();
    trial.expect_end(&["log segment", "Input/output error", "the node stops", "restart"]);
    trial.expect_recovery(|| disk.put_back(&data));
    trial.end(disk);
}

#[test]
fn a_medium_that_cannot_be_read_makes_no_wrong_answers() {
    let arguments = ["--set", "memory.entities_in_memory_max=64"];
    let Some((mut trial, disk)) = trial_on_failing_disk("unread-medium", &arguments) else {
        return;
    };
    let data = trial.cluster.nodes[0].data_directory.clone();
    trial.while_frozen(|| disk.cut_off(&data));
    let mut client = trial.cluster.client(0);
    let (mut right, mut refused) = (0, 0);
    for (key, value) in &trial.acknowledged {
        match client.ask(&["GET", key]) {
            Ok(Value::Bulk(got)) => {
                assert!(got.as_ref() == value.as_bytes(), "a wrong answer for {key}");
                right += 1;
            }
            Ok(Value::Error(_)) => refused += 1,
            Ok(other) => panic!("{key} is there, and the answer is {other:?}"),
            Err(_) => break,
        }
    }
    println!("{right} right answers, {refused} refused");
    assert!(right > 0, "what is in memory is served");
    // What is taken from the others in the place of an image that was lost has to be written.
    trial.expect_end(&["log segment", "Input/output error", "the node stops", "restart"]);
    let log = fs::read_to_string(&trial.cluster.nodes[0].log_file).unwrap();
    assert!(log.contains("reading the log failed; trying once more"), "no read failed: {log}");
    assert!(log.contains("an entity's image cannot be read back"), "none was lost: {log}");
    trial.expect_recovery(|| disk.put_back(&data));
    trial.end(disk);
}
