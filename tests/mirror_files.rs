//! `certus plog mirror` on the files of running nodes: it prints what `GET` says, follows what
//! changes, and says so when the files it needed are gone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use net::resp::value::Value;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;

use cluster::{Cluster, PATIENCE, certus, wait_until};

/// Keys with value and version.
type Keys = BTreeMap<String, (String, u64)>;

fn lines(words: &[&str]) -> Vec<Json> {
    let output = certus(words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {}: {error}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Takes a line into the keys; whether it was of a key.
fn take(keys: &mut Keys, line: &Json) -> bool {
    let Some(key) = line["key"].as_str() else { return false };
    if line["deleted"] == true {
        keys.remove(key);
        return true;
    }
    let version = line["version"].as_u64().unwrap();
    assert!(version > 0 && version <= line["entry"].as_u64().unwrap());
    keys.insert(key.to_owned(), (line["value"].as_str().unwrap().to_owned(), version));
    true
}

/// What a node says of these keys.
fn asked(cluster: &Cluster, node: usize, names: &[String]) -> Keys {
    let mut client = cluster.client(node);
    let mut keys = Keys::new();
    for name in names {
        let Value::Bulk(value) = client.ask(&["GET", name]).unwrap() else { continue };
        let version = client.ask(&["CERTUS", "VERSION", name]).unwrap();
        let Value::Integer(version) = version else { panic!("{version:?}") };
        let value = String::from_utf8(value.to_vec()).unwrap();
        keys.insert(name.clone(), (value, version.unsigned_abs()));
    }
    keys
}

fn set(cluster: &Cluster, words: &[&str]) {
    let reply = cluster.client(0).ask(words).unwrap();
    assert!(!matches!(reply, Value::Error(_)), "{words:?}: {reply:?}");
}

/// Writes until the node freed the segment that was its oldest.
fn write_until_freed(cluster: &Cluster, core: &Path) {
    let begun = Instant::now();
    let oldest = || {
        let names = fs::read_dir(core).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name.ends_with(".plog") && !name.starts_with("spare-")).min()
    };
    let first = oldest();
    let value = "v".repeat(200_000);
    while oldest() == first {
        assert!(begun.elapsed() < PATIENCE, "nothing was freed");
        for number in 0..10 {
            set(cluster, &["SET", &format!("large{number}"), &value]);
        }
    }
}

#[test]
fn the_files_of_every_node_come_to_what_get_says() {
    let cluster = Cluster::start("mirror-files");
    let mut names: Vec<String> = (0..30).map(|number| format!("key{number}")).collect();
    names.extend(["{tom}:in", "{tom}:out", "counter", "Key1", "gone"].map(str::to_owned));
    names.extend((0..10).map(|number| format!("large{number}")));
    for round in 0..4 {
        for number in 0..30 {
            set(&cluster, &["SET", &format!("key{number}"), &format!("value {round} \u{e9}")]);
        }
        set(&cluster, &["MSET", "{tom}:in", "1", "{tom}:out", &round.to_string()]);
        set(&cluster, &["INCR", "counter"]);
        set(&cluster, &["SET", "Key1", "x"]);
        set(&cluster, &["SET", "gone", "x"]);
    }
    set(&cluster, &["DEL", "gone", "gone"]);
    let compare = |what: &str| {
        for node in 0..3 {
            let directory = cluster.nodes[node].data_directory.display().to_string();
            let wanted = asked(&cluster, node, &names);
            assert!(!wanted.contains_key("gone") && wanted.len() > 30);
            let mut last = Keys::new();
            wait_until(what, || {
                last.clear();
                for line in lines(&["plog", "mirror", &directory]) {
                    assert!(take(&mut last, &line) || line["stands_at"].is_object(), "{line}");
                }
                last == wanted
            });
        }
    };
    compare("the mirror of a log alone");
    write_until_freed(&cluster, &cluster.nodes[0].data_directory.join("core-0"));
    set(&cluster, &["SET", "key3", "after the checkpoint"]);
    compare("the mirror of a checkpoint and the log behind it");
    let directory = cluster.nodes[1].data_directory.display().to_string();
    let some = lines(&["plog", "mirror", &directory, "--core", "0", "--pattern", "key1?"]);
    let mut keys = Keys::new();
    for line in &some {
        take(&mut keys, line);
    }
    assert_eq!(keys.len(), 10, "key10 to key19, and not Key1");
    assert_eq!(
        keys,
        asked(&cluster, 1, &names)
            .into_iter()
            .filter(|(key, _)| { key.starts_with("key1") && key.len() == 5 })
            .collect()
    );
    let refused = certus(&["plog", "mirror", &directory, "--core", "7"]);
    assert_eq!(refused.status.code(), Some(2));
    let little = certus(&["plog", "mirror", &directory, "--memory", "1"]);
    assert_eq!(little.status.code(), Some(2));
    let said = String::from_utf8_lossy(&little.stderr).into_owned();
    assert!(said.contains("1048576 are allowed"), "{said}");
}

/// `certus plog mirror --follow`, whose lines come one by one.
struct Follower {
    child: Child,
    lines: Receiver<Json>,
    keys: Keys,
    began_anew: usize,
}

impl Follower {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_certus"))
            .args(["plog", "mirror", "--follow"])
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, keys: Keys::new(), began_anew: 0 }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        wait_until(what, || {
            while let Ok(line) = self.lines.try_recv() {
                take(&mut self.keys, &line);
                self.began_anew += usize::from(line["began_anew"].is_string());
            }
            is_so(self)
        });
    }

    fn has(&self, key: &str, value: &str) -> bool {
        self.keys.get(key).is_some_and(|(held, _)| held == value)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_follower_shows_what_changes_and_begins_anew_when_its_segment_is_gone() {
    let cluster = Cluster::start("mirror-follow");
    set(&cluster, &["SET", "a", "1"]);
    let data = &cluster.nodes[0].data_directory;
    let mut follower = Follower::start(data);
    follower.wait_until("what was there", |follower| follower.has("a", "1"));
    set(&cluster, &["SET", "a", "2"]);
    set(&cluster, &["SET", "b", "1"]);
    follower.wait_until("changes", |follower| follower.has("a", "2") && follower.has("b", "1"));
    set(&cluster, &["DEL", "b"]);
    follower.wait_until("a deletion", |follower| !follower.keys.contains_key("b"));
    assert_eq!(follower.began_anew, 0);
    // While it sleeps, the segment that it reads is freed, and another one.
    follower.signal(Signal::STOP);
    write_until_freed(&cluster, &data.join("core-0"));
    set(&cluster, &["DEL", "a"]);
    write_until_freed(&cluster, &data.join("core-0"));
    set(&cluster, &["SET", "c", "3"]);
    follower.signal(Signal::CONT);
    follower.wait_until("a new beginning", |follower| {
        follower.began_anew > 0 && follower.has("c", "3") && !follower.keys.contains_key("a")
    });
    let names: Vec<String> = (0..10).map(|number| format!("large{number}")).collect();
    let wanted = asked(&cluster, 0, &names);
    follower.wait_until("all of it", |follower| {
        wanted.iter().all(|(key, value)| follower.keys.get(key) == Some(value))
    });
    // It ends with its reader.
    set(&cluster, &["SET", "a", "4"]);
    follower.wait_until("the last change", |follower| follower.has("a", "4"));
}
