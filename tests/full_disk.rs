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

use net::resp::value::Value;

use cluster::{Cluster, refused_start, scratch_directory, text, wait_until};

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
    for word in [&data.display().to_string()[..], "268435456 bytes", "free space"] {
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
        match client.ask(&["SET", &key, &value]).unwrap() {
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

    disk.resize(400);
    for id in 0..3 {
        let mut client = cluster.client(id);
        let key = format!("after{id}");
        wait_until(&format!("node {id} to write again"), || {
            client.ask(&["SET", &key, "1"]).is_ok_and(|reply| reply == Value::OK)
        });
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
