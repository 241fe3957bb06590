//! A disk without room: a start is refused in one line, a running cluster refuses writes by name
//! and goes on answering reads, and all is well again when there is room.
//!
//! The disks are memory file systems of the test's own, so these tests need the right to mount one;
//! without it they say so and end.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use net::resp::value::Value;

use cluster::{Cluster, certus, refused_start, scratch_directory, text, wait_until};

/// So soon after there is room again writes are taken.
const RESUMES_WITHIN: Duration = Duration::from_secs(10);

/// A checkpoint and the cleaner make what room they can in this time.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);

/// A file system of a bounded size, which goes when this is dropped.
#[derive(Debug)]
struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// `None`, with a word why, where mounting is not allowed.
    fn mount(name: &str, mebibytes: u32) -> Option<Self> {
        let directory = scratch_directory(name);
        fs::create_dir_all(&directory).unwrap();
        Self::mount_at(directory, mebibytes)
    }

    /// The same in the place of an empty directory.
    fn mount_at(directory: PathBuf, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "certus-test"])
            .arg(&directory)
            .output()
            .unwrap();
        if output.status.success() {
            return Some(Self { directory });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        println!("skipped: no file system can be mounted here: {}", said.trim());
        fs::remove_dir(&directory).unwrap();
        None
    }

    /// Lets somebody else take all the room that is left, until the file is removed. It stands
    /// where a node that has the whole disk does not mind.
    fn fill(&self) -> PathBuf {
        let place = self.directory.join("lost+found");
        fs::create_dir_all(&place).unwrap();
        let filler = place.join(fs::read_dir(&place).unwrap().count().to_string());
        let to = format!("of={}", filler.display());
        let output = Command::new("dd").args(["if=/dev/zero", &to, "bs=4096"]).output().unwrap();
        assert!(!output.status.success(), "it ends when there is no room left");
        filler
    }

    fn resize(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.directory).status();
        assert!(status.unwrap().success(), "what was mounted can be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.directory).status();
        if status.is_ok_and(|status| status.success()) {
            fs::remove_dir(&self.directory).ok();
        }
    }
}

fn configuration(place: &Path, data: &Path, ports: &[u16]) -> PathBuf {
    let mut text = format!(
        "cluster_id = 7\nnode_id = 0\ncores = 1\ndata_directory = {data:?}\n\
         client_address = \"127.0.0.1:{}\"\npeer_address = \"127.0.0.1:{}\"\nadmin_address = \"\"\n",
        ports[0], ports[1]
    );
    for (id, pair) in ports.chunks(2).enumerate() {
        text += &format!(
            "[[node]]\nid = {id}\nclient = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n",
            pair[0], pair[1]
        );
    }
    let file = place.join("certusd.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_new_node_is_not_started_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("full-at-start", 16) else { return };
    let data = disk.directory.join("data");
    let place = scratch_directory("full-at-start-config");
    fs::create_dir_all(&place).unwrap();
    // No port is taken: the disk is looked at first.
    let config = configuration(&place, &data, &[20_001, 20_002, 20_003, 20_004, 20_005, 20_006]);
    let (status, said) = refused_start(&config);
    assert_eq!(status, 3, "{said}");
    let line = said.lines().find(|line| line.starts_with("certusd: fatal: ")).unwrap();
    for word in [&data.display().to_string()[..], "603979776 bytes", "free space"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    let left: Vec<_> = match fs::read_dir(&data) {
        Ok(entries) => entries.map(|entry| entry.unwrap().file_name()).collect(),
        Err(_) => Vec::new(),
    };
    assert!(left.iter().all(|name| name == "LOCK"), "a refused start leaves nothing: {left:?}");
    fs::remove_dir_all(&place).unwrap();
}

#[test]
fn a_cluster_on_a_full_disk_refuses_writes_and_answers_reads_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("full-while-running", 110) else { return };
    let mut cluster = Cluster::start_in(disk.directory.join("cluster"), &[]);
    let value = "x".repeat(64 << 10);
    let mut client = cluster.client(0);
    let mut acknowledged = Vec::new();
    let mut refused = false;
    for number in 0..2000 {
        let key = format!("key{number}");
        let begun = Instant::now();
        let mut reply = client.ask(&["SET", &key, &value]).unwrap();
        while begun.elapsed() < SETTLES_WITHIN && is_refused(&reply) {
            std::thread::sleep(Duration::from_millis(50));
            reply = client.ask(&["SET", &key, &value]).unwrap();
        }
        match reply {
            reply if reply == Value::OK => acknowledged.push(key),
            Value::Error(error) if error.word() == "MISCONF" => {
                refused = true;
                break;
            }
            // Under way when the disk filled up: it may or may not be there.
            Value::Error(error) => println!("{key}: {error}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(refused, "the disk filled up and nothing said so");
    assert!(acknowledged.len() > 50, "{} writes before it was full", acknowledged.len());
    println!("{} values before the disk was full", acknowledged.len());
    for id in 0..3 {
        cluster.nodes[id].check_running();
        let mut client = cluster.client(id);
        for key in &acknowledged {
            let got = client.ask(&["GET", key]).unwrap();
            assert_eq!(text(&got).len(), value.len(), "{key} of node {id}");
        }
        assert!(matches!(client.ask(&["PING"]), Ok(Value::Simple(_))));
    }
    let again = client.ask(&["SET", "other", "1"]).unwrap();
    assert!(matches!(&again, Value::Error(error) if error.word() == "MISCONF"), "{again:?}");
    // A node that is started while there is no room answers reads, too.
    cluster.kill(2);
    cluster.restart(2);
    wait_until("node 2 to answer a read", || {
        cluster.nodes[2].check_running();
        cluster.nodes[2].connect().is_ok_and(|mut client| {
            client.ask(&["GET", &acknowledged[0]]).is_ok_and(|got| text(&got) == value)
        })
    });

    disk.resize(600);
    let begun = Instant::now();
    for id in 0..3 {
        expect_writes_again(&cluster, id, begun);
    }
    for id in 0..3 {
        cluster.kill(id);
        cluster.restart(id);
        cluster.wait_until_ready(id);
    }
    let mut client = cluster.client(1);
    for key in &acknowledged {
        assert_eq!(text(&client.ask(&["GET", key]).unwrap()).len(), value.len(), "{key}");
    }
    acknowledged.push("after0".to_owned());
    cluster.wait_until_equal(&acknowledged);
}

fn is_refused(reply: &Value) -> bool {
    matches!(reply, Value::Error(error) if error.word() == "MISCONF")
}

/// Node `id` takes writes soon after `begun`.
fn expect_writes_again(cluster: &Cluster, id: usize, begun: Instant) {
    let mut client = cluster.client(id);
    let key = format!("after{id}");
    wait_until(&format!("node {id} to write again"), || {
        client.ask(&["SET", &key, "1"]).is_ok_and(|reply| reply == Value::OK)
    });
    let took = begun.elapsed();
    println!("node {id} writes again after {took:?}");
    assert!(took < RESUMES_WITHIN, "node {id} takes writes again after {took:?} only");
}

/// What a node says of the space it keeps for a full disk.
fn disk_reserve(cluster: &Cluster, id: usize, field: &str) -> u64 {
    let status = cluster.nodes[id].status().unwrap();
    let value = &status["cores"][0]["disk_reserve"][field];
    value.as_u64().unwrap_or_else(|| panic!("{field} is a number: {status}"))
}

/// Puts the data of node 0 on a file system of its own, which has to go before the cluster does.
fn move_to_a_disk_of_its_own(cluster: &mut Cluster, mebibytes: u32) -> Option<SmallDisk> {
    cluster.kill(0);
    let data = cluster.nodes[0].data_directory.clone();
    let kept = data.with_file_name("kept");
    fs::rename(&data, &kept).unwrap();
    fs::create_dir(&data).unwrap();
    let disk = SmallDisk::mount_at(data.clone(), mebibytes);
    if disk.is_some() {
        let from = format!("{}/.", kept.display());
        let copied = Command::new("cp").arg("-r").arg(from).arg(&data).status();
        assert!(copied.unwrap().success());
    } else {
        fs::rename(&kept, &data).unwrap();
    }
    cluster.restart(0);
    cluster.wait_until_ready(0);
    disk
}

/// No checkpoint is due for a long time, unless a full disk makes one necessary.
const NO_CHECKPOINTS: &[&str] = &["--set", "log.checkpoint_log_bytes=1073741824"];
const RESERVE: u64 = 12 << 20;

#[test]
fn on_a_disk_that_stays_full_a_checkpoint_and_the_cleaner_make_room() {
    let reserve = format!("log.disk_reserve_bytes={RESERVE}");
    let arguments = [NO_CHECKPOINTS, &["--set", &reserve]].concat();
    let mut cluster = Cluster::start_with("stays-full", &arguments);
    let Some(disk) = move_to_a_disk_of_its_own(&mut cluster, 80) else { return };
    let mut client = cluster.client(0);
    // A checkpoint of all that there will be takes its room before the rest is taken.
    let value = "x".repeat(64 << 10);
    for number in 0..40 {
        assert_eq!(client.ask(&["SET", &format!("key{number}"), &value]).unwrap(), Value::OK);
    }
    let address = cluster.nodes[0].client.to_string();
    let done = certus(&["checkpoint", "--addr", &address]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    wait_until("node 0 to have its reserve and a spare", || {
        let files = fs::read_dir(cluster.nodes[0].data_directory.join("core-0")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut spares = names.filter(|name| name.starts_with("spare-") && name.ends_with("plog"));
        spares.next().is_some() && disk_reserve(&cluster, 0, "bytes") == RESERVE
    });
    let filler = disk.fill();
    // What is left holds small files, and no checkpoint.
    let taken = fs::metadata(&filler).unwrap().len();
    fs::OpenOptions::new().write(true).open(&filler).unwrap().set_len(taken - (3 << 19)).unwrap();
    // Much more than each log can still take.
    let (mut refused, mut longest) = (0, Duration::ZERO);
    for number in 0..500 {
        let key = format!("key{}", number % 40);
        let begun = Instant::now();
        wait_until("a write to be taken", || match client.ask(&["SET", &key, &value]).unwrap() {
            reply if reply == Value::OK => true,
            _ => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(20));
                false
            }
        });
        longest = longest.max(begun.elapsed());
    }
    println!("{refused} writes were refused, for {longest:?} at most");
    assert!(filler.exists(), "nobody gave anything back");
    let times = disk_reserve(&cluster, 0, "times_given_back");
    println!("node 0 gave its reserve back {times} times");
    assert!(times > 0, "it had no room for a checkpoint");
    assert!(longest < RESUMES_WITHIN, "writes were refused for {longest:?}");
    cluster.kill(0);
    fs::remove_file(filler).unwrap();
    let data = cluster.nodes[0].data_directory.display().to_string();
    let verified = certus(&["plog", "verify", &data]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    cluster.restart(0);
    cluster.wait_until_ready(0);
    let keys: Vec<String> = (0..40).map(|number| format!("key{number}")).collect();
    cluster.wait_until_equal(&keys);
    let mut client = cluster.client(0);
    for key in &keys {
        assert_eq!(text(&client.ask(&["GET", key]).unwrap()), value, "{key}");
    }
    cluster.stop_node(0);
}

#[test]
fn one_node_without_room_refuses_writes_until_it_has_some_and_the_others_serve() {
    let mut cluster = Cluster::start_with("one-full", NO_CHECKPOINTS);
    let Some(disk) = move_to_a_disk_of_its_own(&mut cluster, 60) else { return };
    let filler = disk.fill();
    let value = "x".repeat(64 << 10);
    let mut client = cluster.client(0);
    let mut number = 0;
    // Each key is new, so that no checkpoint has room.
    wait_until("node 0 to have no room for long", || {
        let begun = Instant::now();
        number += 1;
        let key = format!("key{number}");
        while begun.elapsed() < Duration::from_secs(3) {
            if !is_refused(&client.ask(&["SET", &key, &value]).unwrap()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    });
    println!("{number} values before the disk was full for long");
    let mut others = cluster.client(1);
    for number in 0..20 {
        let key = format!("other{number}");
        assert_eq!(others.ask(&["SET", &key, "1"]).unwrap(), Value::OK);
        assert_eq!(text(&client.ask(&["GET", &key]).unwrap()), "1", "reads go on");
    }
    // Started while there is not a block left, it answers reads, too.
    cluster.kill(0);
    let second = disk.fill();
    cluster.restart(0);
    wait_until("node 0 to answer a read", || {
        cluster.nodes[0].check_running();
        cluster.nodes[0].connect().is_ok_and(|mut client| {
            client.ask(&["GET", "other0"]).is_ok_and(|got| text(&got) == "1")
        })
    });
    for filler in [filler, second] {
        fs::remove_file(filler).unwrap();
    }
    disk.resize(400);
    expect_writes_again(&cluster, 0, Instant::now());
    cluster.stop_node(0);
}
