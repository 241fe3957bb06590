//! `certus tail` beside real nodes: nothing is left out, whoever dies; it goes on from a file and
//! from a position, at a replica and at a follower; and it says so when it cannot go on exactly.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failing test shows where its cluster is, and what an error was"
)]

mod cluster;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cluster::load::under_load;
use cluster::resp_client::RespClient;
use cluster::{Cluster, certus, wait_until};
use net::resp::value::Value;
use serde_json::Value as Json;

/// A key that one client sets to 1, 2, 3 …, each when the one before is acknowledged.
const STEPS: &str = "{steps}";

/// A running `certus tail`, whose lines go to a file.
struct Tail {
    child: Child,
    output: PathBuf,
}

impl Tail {
    fn start(output: PathBuf, words: &[&str]) -> Self {
        let file = File::create(&output).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_certus"))
            .arg("tail")
            .args(words)
            .stdin(Stdio::null())
            .stdout(file)
            .spawn()
            .expect("certus can be started");
        Self { child, output }
    }

    fn lines(&self) -> usize {
        fs::read(&self.output).unwrap().iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits until it prints more, then kills it.
    fn kill_amid_lines(mut self) -> PathBuf {
        let before = self.lines();
        wait_until("the tail to print", || self.lines() > before + 20);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.output.clone()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The lines of a file, but for one that was cut off.
fn read(path: &Path) -> Vec<Json> {
    let text = fs::read(path).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn parse(output: &[u8]) -> Vec<Json> {
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn field<'a>(line: &'a Json, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// What a program holds that takes in the lines of one tail after the other.
#[derive(Default)]
struct Held {
    keys: BTreeMap<String, (u64, Option<String>)>,
    /// Every value that a key was set to, by version.
    values: BTreeMap<(String, u64), Option<String>>,
    /// Those that were told as states: how they came to be was not.
    states: BTreeSet<(String, u64)>,
    named: BTreeMap<u64, Vec<String>>,
    entities: BTreeMap<String, String>,
    cores: BTreeMap<String, u64>,
    passes: usize,
}

impl Held {
    /// Takes in all lines of a process: within them no key goes back.
    fn take(&mut self, lines: &[Json]) {
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for line in lines {
            let core = line["core"].as_u64().unwrap_or_default();
            match field(line, "op") {
                "pass-begin" => drop(self.named.insert(core, Vec::new())),
                "pass-end" => self.end_pass(core),
                "reset-begin" => drop(self.named.insert(core + 1000, Vec::new())),
                "reset-end" => {
                    let named = self.named.remove(&(core + 1000)).unwrap_or_default();
                    let entity = field(line, "entity");
                    self.forget(&named, |held, key| held.entities[key] == entity);
                }
                op @ ("set" | "delete" | "state") => {
                    let key = field(line, "key").to_owned();
                    let version = line["version"].as_u64().unwrap();
                    let value = line["value"].as_str().map(str::to_owned);
                    assert_eq!(value.is_some(), op != "delete", "{line}");
                    if op == "state" {
                        self.states.insert((key.clone(), version));
                    }
                    let before = versions.insert(key.clone(), version).unwrap_or_default();
                    let goes_on = version > before || op == "state" && version == before;
                    assert!(goes_on, "version {before} comes before {line}");
                    let known = self.values.insert((key.clone(), version), value.clone());
                    assert!(known.is_none_or(|known| known == value), "{line}");
                    for named in self.named.values_mut() {
                        named.push(key.clone());
                    }
                    self.entities.insert(key.clone(), field(line, "entity").to_owned());
                    self.cores.insert(key.clone(), core);
                    self.keys.insert(key, (version, value));
                }
                other => panic!("{other}: {line}"),
            }
        }
    }

    fn end_pass(&mut self, core: u64) {
        self.passes += 1;
        let named = self.named.remove(&core).unwrap_or_default();
        self.forget(&named, |held, key| held.cores[key] == core);
    }

    fn forget(&mut self, named: &[String], is_meant: impl Fn(&Self, &String) -> bool) {
        let keys: Vec<String> = self.keys.keys().cloned().collect();
        for key in keys {
            if is_meant(self, &key) && !named.contains(&key) {
                self.keys.remove(&key);
            }
        }
    }

    /// Compares with what a node answers; how many keys there are, if they are the same.
    fn compare(&self, client: &mut RespClient) -> Option<usize> {
        let mut compared = 0;
        for (key, (version, value)) in &self.keys {
            let now = client.ask(&["GET", key.as_str()]).unwrap();
            let expected = value.as_ref().map_or(Value::Null, |value| Value::bulk(value.clone()));
            let at = client.ask(&["CERTUS", "VERSION", key.as_str()]).unwrap();
            let version = Value::Integer(i64::try_from(*version).unwrap());
            let version = if value.is_some() { version } else { Value::Null };
            if now != expected || at != version {
                return None;
            }
            compared += usize::from(value.is_some());
        }
        Some(compared)
    }
}

/// Sets [`STEPS`] to the next numbers, one after the other.
fn step(client: &mut RespClient, next: &mut u64, count: u64) {
    for _ in 0..count {
        *next += 1;
        let reply = client.ask(&["SET", STEPS, &next.to_string()]).unwrap();
        assert_eq!(reply, Value::OK);
    }
}

fn address(address: SocketAddr) -> String {
    address.to_string()
}

#[test]
fn nothing_is_left_out_when_the_tail_or_its_node_is_killed() {
    let mut cluster = Cluster::start_with("tail", &["--cores", "2"]);
    let directory = cluster.directory.clone();
    let positions = directory.join("position");
    let node = address(cluster.nodes[0].client);
    let words = ["--addr", &node, "--from-start", "--position-file", positions.to_str().unwrap()];
    let mut outputs: Vec<PathBuf> = Vec::new();
    let mut steps = 0;
    under_load(&mut cluster, 0, |cluster, progress| {
        let mut client = cluster.client(1);
        for round in 0..4 {
            let output = directory.join(format!("lines-{round}"));
            let tail = Tail::start(output, &words);
            step(&mut client, &mut steps, 30);
            progress.wait();
            if round % 2 == 0 {
                cluster.kill(0);
                step(&mut client, &mut steps, 30);
                cluster.restart(0);
            }
            step(&mut client, &mut steps, 30);
            outputs.push(tail.kill_amid_lines());
            step(&mut client, &mut steps, 30);
        }
    });
    let mut held = Held::default();
    outputs.iter().for_each(|output| held.take(&read(output)));
    let mut compared = None;
    // What was written last is told when its mark is on the disk.
    wait_until("the rest to be told", || {
        let ended = certus(&[&["tail"], &words[..], &["--until-end"]].concat());
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        held.take(&parse(&ended.stdout));
        compared = held.compare(&mut cluster.client(1));
        compared.is_some()
    });
    assert!(compared.is_some_and(|keys| keys > 10), "{compared:?} keys");
    // Each step is an entry of its own, and all were told, some of them twice; but what the node
    // missed while it was down it took over as a whole, and said so.
    let of_steps = held.values.iter().filter(|((key, _), _)| key == STEPS);
    let mut last = 0;
    let mut left_out = 0;
    for (name, value) in of_steps {
        let step: u64 = value.as_ref().unwrap().parse().unwrap();
        // The first step that was told may have come amid the pass, which tells none before it.
        let follows = step == last + 1 || last == 0;
        assert!(follows || held.states.contains(name), "step {step} comes after {last}");
        left_out += step - last - 1;
        last = step;
    }
    assert_eq!(last, steps);
    assert!(left_out <= 2 * 60 + 30, "{left_out} of {steps} steps are missing");
    assert_eq!(held.passes, 2, "one for each core, in the beginning");

    // The same from a follower with another number of cores, and from a position of the replica's.
    let place = cluster.add_follower(3, "");
    let follower = address(cluster.followers[place].client);
    let wanted = held.keys.values().filter(|(_, value)| value.is_some()).count();
    wait_until("the follower to tell all", || {
        let ended = certus(&["tail", "--addr", &follower, "--from-start", "--until-end"]);
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let mut of_follower = Held::default();
        of_follower.take(&parse(&ended.stdout));
        let told = of_follower.keys.values().filter(|(_, value)| value.is_some()).count();
        told == wanted && of_follower.compare(&mut cluster.client(1)) == Some(wanted)
    });
    let position = fs::read_to_string(&positions).unwrap();
    let exact = ["tail", "--addr", &follower, "--from", position.trim(), "--until-end", "--exact"];
    let refused = certus(&exact);
    assert_eq!(refused.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        reason.contains("the position is of a node with 2 cores, and this one has 3"),
        "{reason}"
    );
    // With both to choose from, the one whose log it is.
    let both = format!("{follower},{node}");
    let ended =
        certus(&["tail", "--addr", &both, "--from", position.trim(), "--until-end", "--exact"]);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_position_that_the_log_no_longer_reaches_back_to_is_told_and_made_up_for() {
    let mut cluster = Cluster::start("tail-cleaned");
    let node = address(cluster.nodes[0].client);
    let mut client = cluster.client(0);
    for key in ["stays", "goes", "other"] {
        assert_eq!(client.ask(&["SET", key, "old"]).unwrap(), Value::OK);
    }
    let tail =
        |words: &[&str]| certus(&[&["tail", "--addr", &node, "--until-end"], words].concat());
    let all = tail(&["--from-start"]);
    let before = parse(&all.stdout);
    let position = field(before.last().unwrap(), "position").to_owned();
    let mut held = Held::default();
    held.take(&before);
    assert_eq!(held.keys.len(), 3);
    // While the log is there, single changes are told, those that match alone.
    assert_eq!(client.ask(&["SET", "stays", "new"]).unwrap(), Value::OK);
    assert_eq!(client.ask(&["DEL", "goes"]).unwrap(), Value::Integer(1));
    assert_eq!(client.ask(&["SET", "\u{0}bin", "x"]).unwrap(), Value::OK);
    let told = |output: &[u8]| {
        let ops = parse(output);
        let ops =
            ops.iter().map(|line| (field(line, "op").to_owned(), field(line, "key").to_owned()));
        ops.collect::<Vec<_>>()
    };
    let line = |op: &str, key: &str| (op.to_owned(), key.to_owned());
    wait_until("the changes to be durable", || {
        let output = tail(&["--from", &position, "--exact"]);
        assert!(output.status.success());
        let told = told(&output.stdout);
        told == [line("set", "stays"), line("delete", "goes"), line("set", "\u{0}bin")]
    });
    let matching = tail(&["--from", &position, "--exact", "--pattern", "[g-s]o*"]);
    assert_eq!(told(&matching.stdout), [line("delete", "goes")]);
    // Now the segments go.
    let value = "v".repeat(200 << 10);
    let mut round = 0;
    wait_until("the log to be freed", || {
        for _ in 0..20 {
            round += 1;
            let reply = client.ask(&["SET", &format!("filler{}", round % 3), &value]).unwrap();
            assert_eq!(reply, Value::OK);
        }
        tail(&["--from", &position, "--exact"]).status.code() == Some(1)
    });
    let refused = tail(&["--from", &position, "--exact"]);
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(reason.contains("the log no longer reaches back to the position"), "{reason}");
    let made_up = tail(&["--from", &position]);
    assert!(made_up.status.success());
    let lines = parse(&made_up.stdout);
    assert_eq!(field(&lines[0], "op"), "pass-begin");
    assert!(field(&lines[0], "reason").contains("no longer reaches back"), "{}", lines[0]);
    held.take(&lines);
    assert!(!held.keys.contains_key("goes") && held.keys.contains_key("other"));
    assert_eq!(held.keys["stays"].1.as_deref(), Some("new"));
    assert_eq!(held.compare(&mut cluster.client(1)), Some(held.keys.len()));
    // A position amid the pass goes on with the rest of it.
    let amid = lines.iter().position(|line| field(line, "op") == "state").unwrap();
    let rest = parse(&tail(&["--from", field(&lines[amid], "position"), "--exact"]).stdout);
    assert!(rest.iter().any(|line| field(line, "op") == "pass-end"));
    cluster.kill(0);
}

#[test]
fn wrong_use_is_refused_and_a_closed_pipe_ends_it() {
    let cluster = Cluster::start("tail-use");
    let node = address(cluster.nodes[0].client);
    let mut client = cluster.client(0);
    for number in 0..200 {
        let reply = client.ask(&["SET", &format!("key{number}"), "value"]).unwrap();
        assert_eq!(reply, Value::OK);
    }
    let status = |words: &[&str]| {
        let output = certus(&[&["tail"], words].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = status(&["--addr", &node, "--from", "here"]);
    assert!(code == Some(2) && said.contains("\"here\" is no position: give"), "{said}");
    let nobody = ["--addr", "127.0.0.1:1", "--give-up-after", "1", "--until-end"];
    let (code, said) = status(&nobody);
    assert!(code == Some(2) && said.contains("no node was reached for 1s"), "{said}");
    let file = cluster.directory.join("no-position");
    fs::write(&file, "42 apples").unwrap();
    let file = file.to_str().unwrap();
    let (code, said) = status(&["--addr", &node, "--position-file", file]);
    assert!(code == Some(2) && said.contains("remove the file to begin anew"), "{said}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_certus"))
        .args(["tail", "--addr", &node, "--from-start"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut first).unwrap();
    assert_eq!(field(&serde_json::from_str(&first).unwrap(), "op"), "pass-begin");
    drop(reader);
    let mut ended = None;
    wait_until("the tail to end", || {
        // Something has to be said for it to notice.
        assert!(!client.ask(&["INCR", "count"]).unwrap().is_error());
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
    let status = client.ask(&["CERTUS", "CHANGES", "7", "NOW"]).unwrap();
    assert!(text_of_error(&status).contains("'7' is no core of this node"), "{status:?}");
}

fn text_of_error(reply: &Value) -> String {
    match reply {
        Value::Error(error) => error.text().to_owned(),
        other => panic!("{other:?} is no error"),
    }
}
