//! `certus backup` of nodes that serve a load, and `certus restore` into clusters of another shape:
//! what was acknowledged is there, counters are exact, and a repeated request is still known. What
//! is half made, damaged, or of another cluster is refused.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use net::resp::value::Value;

use cluster::resp_client::RespClient;
use cluster::{Cluster, StopOnDrop, certus, refused_start, scratch_directory, text, wait_until};

/// Writers of the load, each with keys of its own.
const WRITERS: usize = 4;

/// How long a mark of what is chosen may take to be on disk, and more.
const MARKED: Duration = Duration::from_secs(2);

/// Runs `certus` and wants this exit status. What it said, on both streams.
fn run(words: &[&str], status: i32) -> String {
    let output = certus(words);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    said
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

fn back_up(data: &Path, to: &Path, status: i32) -> String {
    run(&["backup", "--data-directory", &path_text(data), "--to", &path_text(to)], status)
}

fn verify(backup: &Path, status: i32) -> String {
    run(&["backup", "verify", &path_text(backup)], status)
}

/// The first cluster id that a restore of the backup may have.
fn cluster_id(backup: &Path) -> String {
    let said = verify(backup, 0);
    let words = said.split_once("has a cluster_id from ").unwrap().1;
    words.split_whitespace().next().unwrap().to_owned()
}

/// The configurations of a cluster that is to be made from a backup; it has no data yet.
struct NewCluster {
    directory: PathBuf,
    nodes: usize,
}

impl NewCluster {
    fn new(name: &str, nodes: usize, arguments: &[&str]) -> Self {
        let directory = scratch_directory(name);
        let count = nodes.to_string();
        let words = [arguments, &["--nodes", &count]].concat();
        let cluster = Cluster::start_in(directory.clone(), &words);
        let texts: Vec<String> = cluster
            .nodes
            .iter()
            .map(|node| fs::read_to_string(&node.config_file).unwrap())
            .collect();
        drop(cluster);
        let new = Self { directory, nodes };
        for (node, text) in texts.iter().enumerate() {
            fs::create_dir_all(new.config(node).parent().unwrap()).unwrap();
            fs::write(new.config(node), text).unwrap();
        }
        new
    }

    fn config(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{node}/certusd.toml"))
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node-{node}/data"))
    }

    /// Gives all nodes this cluster id.
    fn name(&self, cluster_id: &str) {
        for node in 0..self.nodes {
            let text = fs::read_to_string(self.config(node)).unwrap();
            let lines = text.lines().map(|line| match line.starts_with("cluster_id") {
                true => format!("cluster_id = \"{cluster_id}\""),
                false => line.to_owned(),
            });
            let text: Vec<String> = lines.collect();
            fs::write(self.config(node), text.join("\n")).unwrap();
        }
    }

    fn restore(&self, node: usize, from: &Path, status: i32) -> String {
        let config = path_text(&self.config(node));
        run(&["restore", "--from", &path_text(from), "--config", &config], status)
    }

    fn start(self, arguments: &[&str]) -> Cluster {
        let count = self.nodes.to_string();
        Cluster::start_in(self.directory, &[arguments, &["--nodes", &count]].concat())
    }
}

/// Counters that all writers share, at all nodes: nodes forward commands to each other.
const SHARED: usize = 8;

/// Increments a counter that others increment, too.
fn share(client: &mut RespClient, key: &str) {
    loop {
        match client.ask(&["INCR", key]).unwrap() {
            Value::Integer(_) => return,
            // It lost too many entries to others; nothing happened.
            reply if text(&reply).contains("TRYAGAIN") => {}
            reply => panic!("{key}: {reply:?}"),
        }
    }
}

fn shared(round: usize) -> String {
    format!("shared:{}", round % SHARED)
}

/// What the shared counters come to.
fn total(cluster: &Cluster) -> u64 {
    let mut client = cluster.client(0);
    let numbers = (0..SHARED).map(|number| get(&mut client, &shared(number)).unwrap());
    numbers.map(|number| number.parse::<u64>().unwrap()).sum()
}

/// Nodes of a new cluster forward to each other, too, and every command counts.
fn share_at_all_nodes(cluster: &Cluster) {
    let before = total(cluster);
    let rounds = 40 * SHARED;
    std::thread::scope(|scope| {
        for node in 0..3 {
            let mut client = cluster.client(node);
            scope.spawn(move || (0..rounds).for_each(|round| share(&mut client, &shared(round))));
        }
    });
    assert_eq!(total(cluster) - before, u64::try_from(3 * rounds).unwrap());
}

/// What one writer was told of its keys.
#[derive(Default)]
struct Told {
    /// Rounds that were acknowledged: a count under ids, a plain count, and a string.
    rounds: AtomicU64,
}

fn keys(writer: usize) -> [String; 4] {
    ["once", "count", "text", "pair"].map(|what| format!("{what}:{writer}"))
}

fn string(round: u64) -> String {
    format!("{round}:{}", "v".repeat(usize::try_from(round % 97).unwrap() * 20))
}

/// Writes to its keys, round after round, until it is told to stop.
fn write(client: &mut RespClient, writer: usize, told: &Told, stop: &AtomicBool) {
    let [once, count, text, pair] = keys(writer);
    while !stop.load(Ordering::Relaxed) {
        let round = told.rounds.load(Ordering::Relaxed) + 1;
        let id = format!("id-{writer}-{round}");
        let expected = Value::Integer(i64::try_from(round).unwrap());
        assert_eq!(client.ask(&["CERTUS", "ONCE", &id, "INCR", &once]).unwrap(), expected);
        assert_eq!(client.ask(&["INCR", &count]).unwrap(), expected);
        let number = round.to_string();
        let (left, right) = (format!("{{{pair}}}:l"), format!("{{{pair}}}:r"));
        for words in [
            &["SET", &text, &string(round)][..],
            &["MSET", &left, &number, &right, &number],
            &["SET", &format!("cold:{writer}:{round}"), &number],
        ] {
            assert_eq!(client.ask(words).unwrap(), Value::Simple("OK".into()), "{words:?}");
        }
        share(client, &shared(usize::try_from(round).unwrap()));
        told.rounds.store(round, Ordering::Relaxed);
    }
}

fn get(client: &mut RespClient, key: &str) -> Option<String> {
    match client.ask(&["GET", key]).unwrap() {
        Value::Null => None,
        value => Some(text(&value)),
    }
}

/// What a cluster says of every key of the load: value and version.
fn all(cluster: &Cluster, rounds: &[u64]) -> BTreeMap<String, (Option<String>, Value)> {
    let mut client = cluster.client(1);
    let mut names = Vec::new();
    for (writer, rounds) in rounds.iter().enumerate() {
        let [once, count, text, pair] = keys(writer);
        names.extend([once, count, text, format!("{{{pair}}}:l"), format!("{{{pair}}}:r")]);
        names.extend((1..=*rounds).map(|round| format!("cold:{writer}:{round}")));
    }
    let ask = |name: String| {
        let version = client.ask(&["CERTUS", "VERSION", &name]).unwrap();
        (name.clone(), (get(&mut client, &name), version))
    };
    names.into_iter().map(ask).collect()
}

/// Compares a cluster restored from a backup that was taken under load: of every key a state that
/// it was in, no older than what was acknowledged `before`, no newer than what was `after`.
fn compare_moving(restored: &Cluster, before: &[u64], after: &[u64]) {
    for (writer, (&before, &after)) in before.iter().zip(after).enumerate() {
        let mut client = restored.client(writer % 3);
        let [once, count, text, pair] = keys(writer);
        let mut number = |key: &str| {
            let number: u64 = get(&mut client, key).unwrap().parse().unwrap();
            assert!((before..=after).contains(&number), "{key}: {before} {number} {after}");
            number
        };
        let (reached, _) = (number(&once), number(&count));
        let (left, right) = (format!("{{{pair}}}:l"), format!("{{{pair}}}:r"));
        assert_eq!(number(&left), number(&right), "keys with one tag are of one moment");
        let said = get(&mut client, &text).unwrap();
        let round: u64 = said.split_once(':').unwrap().0.parse().unwrap();
        assert!((before..=after).contains(&round) && said == string(round), "{text}: {said}");
        // What is in the count is known by its id, and nothing else is.
        for round in [reached, 1 + reached / 2, reached + 1] {
            let id = format!("id-{writer}-{round}");
            let reply = client.ask(&["CERTUS", "ONCE", &id, "INCR", &once]).unwrap();
            assert_eq!(reply, Value::Integer(i64::try_from(round).unwrap()), "{id}");
        }
        assert_eq!(get(&mut client, &once), Some((reached + 1).to_string()));
        let count_before: u64 = get(&mut client, &count).unwrap().parse().unwrap();
        let reply = client.ask(&["INCR", &count]).unwrap();
        assert_eq!(reply, Value::Integer(i64::try_from(count_before + 1).unwrap()));
    }
}

#[test]
fn what_a_node_has_comes_back_in_clusters_of_another_shape() {
    let mut old = Cluster::start_with("backup-old", &["--cores", "2"]);
    let place = scratch_directory("backup-places");
    fs::create_dir_all(&place).unwrap();
    let (moving, still) = (place.join("moving"), place.join("still"));
    let told: Vec<Told> = (0..WRITERS).map(|_| Told::default()).collect();
    let rounds = || told.iter().map(|told| told.rounds.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let stop = AtomicBool::new(false);
    let (before, after) = std::thread::scope(|scope| {
        for (writer, told) in told.iter().enumerate() {
            let (mut client, stop) = (old.client(writer % 3), &stop);
            scope.spawn(move || write(&mut client, writer, told, stop));
        }
        let stop_all = StopOnDrop(&stop);
        let checkpoint = old.nodes[1].data_directory.join("core-0/checkpoint");
        wait_until("a checkpoint, and some rounds", || {
            checkpoint.exists() && rounds().iter().all(|rounds| *rounds > 50)
        });
        let before = rounds();
        std::thread::sleep(MARKED);
        let said = back_up(&old.nodes[1].data_directory, &moving, 0);
        println!("{said}");
        let after = rounds();
        assert!(before.iter().zip(&after).all(|(before, after)| before < after), "a load went on");
        drop(stop_all);
        // A round that was under way may be in the backup, too.
        (before, after.iter().map(|rounds| rounds + 1).collect::<Vec<_>>())
    });
    let rounds = rounds();
    println!("acknowledged {before:?} before, {after:?} after, {rounds:?} at the end");
    old.wait_until_equal(&(0..WRITERS).flat_map(keys).collect::<Vec<_>>());
    let wanted = all(&old, &rounds);
    std::thread::sleep(MARKED);
    old.stop_node(2);
    let said = back_up(&old.nodes[2].data_directory, &still, 0);
    let others = SHARED + usize::try_from(rounds.iter().sum::<u64>()).unwrap();
    let counts = format!("{} entities, {} keys", 4 * WRITERS + others, 5 * WRITERS + others);
    assert!(said.contains(&counts), "each entity once, {counts}: {said}");
    old.restart(2);
    old.wait_until_ready(2);

    // Of the node that stood still: exactly what the cluster said.
    let new = NewCluster::new("backup-new", 3, &["--cores", "3"]);
    new.name(&cluster_id(&still));
    (0..3).for_each(|node| drop(new.restore(node, &still, 0)));
    let said = new.restore(2, &moving, 2);
    assert!(said.contains(&cluster_id(&moving)), "of another backup, another cluster: {said}");
    let directory = new.directory.clone();
    let new = new.start(&["--cores", "3"]);
    assert_eq!(all(&new, &rounds), wanted);
    assert_eq!(total(&new), rounds.iter().sum::<u64>());
    share_at_all_nodes(&new);
    let entries = new.wait_until_equal(&(0..WRITERS).flat_map(keys).collect::<Vec<_>>());
    assert_eq!(entries, old.wait_until_equal(&(0..WRITERS).flat_map(keys).collect::<Vec<_>>()));
    let status = run(&["status", "--dir", &path_text(&directory)], 0);
    assert!(status.contains("healthy"), "{status}");
    compare_moving(&new, &rounds, &rounds);
    // It goes on like any other cluster: nodes are killed, read their files, and agree.
    let mut new = new;
    for node in 0..3 {
        new.kill(node);
        new.restart(node);
        new.wait_until_ready(node);
    }
    let mut client = new.client(0);
    let once = &keys(0)[0];
    let id = format!("id-0-{}", rounds[0]);
    let reply = client.ask(&["CERTUS", "ONCE", &id, "INCR", once]).unwrap();
    assert_eq!(reply, Value::Integer(i64::try_from(rounds[0]).unwrap()), "still known");
    new.wait_until_equal(&(0..WRITERS).flat_map(keys).collect::<Vec<_>>());
    // A backup of what was restored is a backup of its own.
    let again = place.join("again");
    back_up(&new.nodes[0].data_directory, &again, 0);
    assert_ne!(cluster_id(&again), cluster_id(&still));
    drop(new);

    // Of the node under load, into five nodes: of each key something it was by then or later.
    let new = NewCluster::new("backup-moving", 5, &[]);
    new.name(&cluster_id(&moving));
    (0..5).for_each(|node| drop(new.restore(node, &moving, 0)));
    let new = new.start(&[]);
    compare_moving(&new, &before, &after);
    share_at_all_nodes(&new);
    drop(new);
    fs::remove_dir_all(&place).unwrap();
}

/// Like the data directories, backups of old format versions stay as they are, and are read for
/// ever.
#[test]
fn a_backup_of_each_format_version_is_restored() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let fixtures: Vec<PathBuf> =
        fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(fixtures.iter().any(|path| path.ends_with("format-1")), "format 1 is never dropped");
    for fixture in fixtures {
        let backup = fixture.join("backup");
        let new = NewCluster::new("backup-old-format", 3, &[]);
        new.name(&cluster_id(&backup));
        for node in 0..3 {
            new.restore(node, &backup, 0);
            run(&["plog", "verify", &path_text(&new.data(node))], 0);
        }
        let new = new.start(&[]);
        for (node, line) in
            fs::read_to_string(fixture.join("keys.txt")).unwrap().lines().enumerate()
        {
            let (key, value) = line.split_once(' ').unwrap();
            assert_eq!(get(&mut new.client(node % 3), key).as_deref(), Some(value), "{key}");
        }
        let mut client = new.client(2);
        let reply = client.ask(&["CERTUS", "ONCE", "pay-17", "INCRBY", "balance", "5"]).unwrap();
        assert_eq!(reply, Value::Integer(5), "it is the same request");
    }
}

fn change_byte(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn segments(core: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(core).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(".plog") && !name.starts_with("spare-")
    };
    let mut segments: Vec<PathBuf> = names.filter(is_segment).collect();
    segments.sort();
    segments
}

#[test]
fn what_is_half_made_damaged_or_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start("backup-refused");
    let place = scratch_directory("backup-refused-places");
    fs::create_dir_all(&place).unwrap();
    let mut client = cluster.client(0);
    let value = "v".repeat(100_000);
    for number in 0..30 {
        let reply = client.ask(&["SET", &format!("key{number}"), &value]).unwrap();
        assert_eq!(reply, Value::Simple("OK".into()));
    }
    cluster.wait_until_equal(&(0..30).map(|number| format!("key{number}")).collect::<Vec<_>>());
    let data = cluster.nodes[0].data_directory.clone();
    let backup = place.join("backup");
    cluster.stop_node(0);
    back_up(&data, &backup, 0);
    let said = back_up(&data, &backup, 2);
    assert!(said.contains("exists"), "{said}");
    let little = ["--memory", "1", "--to", &path_text(&place.join("little"))].map(str::to_owned);
    let mut words = vec!["backup".to_owned(), "--data-directory".to_owned(), path_text(&data)];
    words.extend(little);
    let said = run(&words.iter().map(String::as_str).collect::<Vec<_>>(), 2);
    assert!(said.contains("--memory") || said.contains("MiB"), "{said}");

    // Interrupted.
    let half = place.join("half.new");
    let mut child = Command::new(env!("CARGO_BIN_EXE_certus"))
        .args(["backup", "--rate", "65536", "--data-directory", &path_text(&data), "--to"])
        .arg(place.join("half"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("a backup under way", || half.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.join("half").exists());
    assert!(verify(&half, 1).contains("interrupted"));
    let said = back_up(&data, &place.join("half"), 2);
    assert!(said.contains("half.new") && said.contains("remove"), "{said}");

    // Restored, and then not once more; nor by an empty node of that cluster.
    let new = NewCluster::new("backup-refused-new", 3, &[]);
    let said = new.restore(0, &half, 1);
    assert!(said.contains("interrupted"), "{said}");
    let id = cluster_id(&backup);
    let said = new.restore(0, &backup, 2);
    assert!(said.contains(&id) && !new.data(0).exists(), "{said}");
    new.name(&id);
    let (status, said) = refused_start(&new.config(1));
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("certus restore"), "{said}");
    new.restore(0, &backup, 0);
    let said = new.restore(0, &backup, 2);
    assert!(said.contains("needs an empty directory"), "{said}");

    // A part of the backup is damaged: nothing is left of the restore.
    let part = backup.join("000000000001-0000.ckpt");
    change_byte(&part, 1_000_000);
    assert!(verify(&backup, 1).contains("000000000001-0000.ckpt"));
    new.restore(1, &backup, 1);
    let left: Vec<_> = fs::read_dir(new.data(1)).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["LOCK"], "the directory is as it was");
    change_byte(&part, 1_000_000);
    new.restore(1, &backup, 0);
    // One that was ended in the middle is neither started nor gone on with.
    let begun = new.data(2).join("restoring");
    let is_interrupted = (0..100).any(|_| {
        fs::remove_dir_all(new.data(2)).ok();
        let mut child = Command::new(env!("CARGO_BIN_EXE_certus"))
            .args(["restore", "--from", &path_text(&backup), "--config"])
            .arg(new.config(2))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !begun.exists() && child.try_wait().unwrap().is_none() {}
        child.kill().unwrap();
        child.wait().unwrap();
        begun.exists()
    });
    assert!(is_interrupted, "it was always faster");
    let (status, said) = refused_start(&new.config(2));
    assert!(status == 4 && said.contains("not finished"), "{status}: {said}");
    let said = new.restore(2, &backup, 2);
    assert!(said.contains("not finished"), "{said}");
    fs::remove_dir_all(&new.directory).unwrap();

    // The node's log is damaged before its end, or its core abstains.
    let core = data.join("core-0");
    let segment = segments(&core).pop().unwrap();
    change_byte(&segment, 4096 + 100);
    let said = back_up(&data, &place.join("damaged"), 1);
    assert!(said.contains("damaged in segment") && said.contains("at byte 4096"), "{said}");
    assert!(!place.join("damaged").exists() && !place.join("damaged.new").exists());
    change_byte(&segment, 4096 + 100);
    fs::write(core.join("abstains"), b"x").unwrap();
    assert!(back_up(&data, &place.join("damaged"), 1).contains("abstains"));
    fs::remove_file(core.join("abstains")).unwrap();
    back_up(&data, &place.join("mended"), 0);
    cluster.restart(0);
    cluster.wait_until_ready(0);
    fs::remove_dir_all(&place).unwrap();
}

/// A rate holds back what it should, and files that go meanwhile are no trouble.
#[test]
fn a_slow_backup_of_a_busy_node_comes_to_an_end_while_its_files_go() {
    let cluster = Cluster::start("backup-slow");
    let place = scratch_directory("backup-slow-places");
    fs::create_dir_all(&place).unwrap();
    let stop = AtomicBool::new(false);
    let data = path_text(&cluster.nodes[0].data_directory);
    std::thread::scope(|scope| {
        let (mut client, stop) = (cluster.client(0), &stop);
        scope.spawn(move || {
            let value = "v".repeat(50_000);
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let key = format!("key{}", number * 7 % 400);
                assert!(!client.ask(&["SET", &key, &value]).unwrap().is_error());
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop_all = StopOnDrop(stop);
        let parts = || {
            let names = fs::read_dir(cluster.nodes[0].data_directory.join("core-0")).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".ckpt")).max()
        };
        wait_until("a few checkpoints", || parts() > Some("000000000004".to_owned()));
        let (before, begun) = (parts(), Instant::now());
        let to = path_text(&place.join("slow"));
        // Less than the node writes.
        let rate = (4 << 20).to_string();
        run(&["backup", "--data-directory", &data, "--to", &to, "--rate", &rate], 0);
        println!("took {:?}, from checkpoint {before:?} to {:?}", begun.elapsed(), parts());
        assert!(parts() > before, "what was read is gone by now");
    });
    verify(&place.join("slow"), 0);
    fs::remove_dir_all(&place).unwrap();
}
