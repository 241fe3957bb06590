//! The checkpoint of a stopped node is damaged: its table, its seal, which one counts, or an image.
//! The node starts, takes no part with what it may have forgotten, and answers right all the same.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cluster::{Cluster, PATIENCE, certus, text, wait_until};

/// The node whose files are damaged.
const VICTIM: usize = 2;
const KEYS: usize = 40;
const BLOCK: u64 = 4096;

fn key(number: usize) -> String {
    format!("key{number}")
}

fn value(number: usize, round: usize) -> String {
    format!("{round}-{}", "v".repeat(16_000 + number))
}

/// Sets all keys until the victim has a checkpoint that counts and freed the log before it, and
/// counts the rounds.
fn write_until_checkpointed(cluster: &Cluster, directory: &Path) -> usize {
    let begun = Instant::now();
    let mut client = cluster.client(0);
    let mut round = 0;
    let first = directory.join("0000000000000001.plog");
    while !directory.join("checkpoint").exists() || first.exists() {
        assert!(begun.elapsed() < PATIENCE, "no checkpoint came");
        round += 1;
        for number in 0..KEYS {
            client.ask(&["SET", &key(number), &value(number, round)]).unwrap();
        }
    }
    round
}

/// The part of the checkpoint that counts: the highest one that has its name.
fn part(directory: &Path) -> PathBuf {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let parts = names.filter(|path| path.extension().is_some_and(|kind| kind == "ckpt"));
    parts.max().expect("there is a checkpoint")
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Harm {
    Table,
    Seal,
    Missing,
    PointerGone,
    OneCopy,
    Images,
}

fn harm(directory: &Path, harm: Harm) {
    let part = part(directory);
    let size = fs::metadata(&part).unwrap().len();
    let (pointer, copy) = (directory.join("checkpoint"), directory.join("checkpoint.copy"));
    match harm {
        // The table is the block before the seal: there are few entities.
        Harm::Table => flip(&part, size - 2 * BLOCK + 9),
        Harm::Seal => flip(&part, size - BLOCK + 50),
        Harm::Missing => fs::remove_file(&part).unwrap(),
        Harm::PointerGone => [pointer, copy].iter().for_each(|path| fs::remove_file(path).unwrap()),
        Harm::OneCopy => flip(&pointer, 20),
        Harm::Images => (1..size / BLOCK - 2).for_each(|block| flip(&part, block * BLOCK + 1000)),
    }
}

fn verified(directory: &Path) -> (i32, String) {
    let output = certus(&["plog", "verify", &directory.display().to_string()]);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a harm comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It is made up for.
    Whole,
    /// The core begins another log at once.
    AnotherLog,
    /// Entities are taken from the others, one by one, and stay.
    Healed,
}

/// One harm, and what has to come of it.
fn case(harmed: Harm, outcome: Outcome) {
    let mut cluster = Cluster::start(&format!("damaged-checkpoint-{harmed:?}"));
    let data = cluster.directory.join(format!("node-{VICTIM}/data"));
    let directory = data.join("core-0");
    let round = write_until_checkpointed(&cluster, &directory);
    cluster.kill(VICTIM);
    let (status, said) = verified(&data);
    assert_eq!(status, 0, "{harmed:?}: whole before: {said}");
    assert!(said.contains(".ckpt: "), "{said}");
    harm(&directory, harmed);
    let (status, said) = verified(&data);
    assert_eq!(status, 1, "{harmed:?} is seen: {said}");
    for _ in 0..2 {
        cluster.restart(VICTIM);
        cluster.wait_until_ready(VICTIM);
        let mut client = cluster.client(VICTIM);
        for number in 0..KEYS {
            let read = client.ask(&["GET", &key(number)]).unwrap();
            assert_eq!(text(&read), value(number, round), "{harmed:?}: {}", key(number));
        }
        let has_another = match outcome {
            Outcome::Whole | Outcome::Healed => false,
            Outcome::AnotherLog => true,
        };
        let status = cluster.nodes[VICTIM].status().unwrap();
        assert_eq!(status["generation"], u64::from(has_another), "{harmed:?}: {status}");
        assert_eq!(directory.join("log").exists(), has_another, "{harmed:?}");
        let noted = directory.join("abstains");
        wait_until("no loss to be noted", || !noted.exists());
        wait_until_serving(&cluster, VICTIM);
        cluster.kill(VICTIM);
    }
    cluster.restart(VICTIM);
    cluster.wait_until_ready(VICTIM);
    if outcome == Outcome::Healed {
        cluster.nodes[VICTIM].write_checkpoint();
        // The one before goes when nobody reads from it any more.
        wait_until("the damaged checkpoint to go", || verified(&data).0 == 0);
    }
    let (status, said) = verified(&data);
    assert_eq!(status, 0, "{harmed:?}: whole again: {said}");
}

/// Waits until a node serves every entity itself.
fn wait_until_serving(cluster: &Cluster, node: usize) {
    wait_until(&format!("node {node} to serve all of its entities"), || {
        let status = cluster.nodes[node].status().unwrap();
        status["cores"][0]["shard"]["gauges"]["abstaining"] == 0
    });
}

#[test]
fn a_core_without_a_whole_table_begins_another_log_and_rejoins() {
    for harmed in [Harm::Table, Harm::Seal, Harm::Missing, Harm::PointerGone] {
        case(harmed, Outcome::AnotherLog);
    }
}

#[test]
fn one_copy_of_the_pointer_is_enough() {
    case(Harm::OneCopy, Outcome::Whole);
}

#[test]
fn the_entities_of_damaged_images_are_taken_from_the_others() {
    case(Harm::Images, Outcome::Healed);
}

/// Entities of the helical case, and the bytes of each.
const MANY: usize = 2_500;
const SIZE: usize = 4_000;
const MIB: u64 = 1 << 20;

#[test]
fn a_mebibyte_damaged_on_each_node_and_another_on_each_is_made_up_for() {
    let name = "damaged-checkpoint-helical";
    let mut cluster = Cluster::start_with(name, &["--set", "log.checkpoint_log_bytes=536870912"]);
    let value = |number: usize| format!("{number:08}").repeat(SIZE / 8);
    let mut client = cluster.client(0);
    for number in 0..MANY {
        client.ask(&["SET", &key(number), &value(number)]).unwrap();
    }
    let keys: Vec<String> = (0..MANY).map(key).collect();
    cluster.wait_until_equal(&keys);
    for node in 0..3 {
        cluster.nodes[node].write_checkpoint();
    }
    for node in 0..3 {
        cluster.kill(node);
        let directory = cluster.nodes[node].data_directory.join("core-0");
        let part = part(&directory);
        let size = fs::metadata(&part).unwrap().len();
        let begin = u64::try_from(1 + 3 * node).unwrap() * MIB;
        assert!(size > begin + 2 * MIB, "there is so much: {size}");
        // All checkpoints have the same entities in the same order: no two of these ranges meet.
        let file = OpenOptions::new().write(true).open(&part).unwrap();
        file.write_all_at(&vec![0x5a; usize::try_from(MIB).unwrap()], begin).unwrap();
    }
    for node in 0..3 {
        cluster.restart(node);
    }
    for node in 0..3 {
        cluster.wait_until_ready(node);
    }
    let read = |cluster: &Cluster, way: &str, step: usize| {
        for node in 0..3 {
            let mut client = cluster.client(node);
            client.ask(&[way]).unwrap();
            for number in (0..MANY).step_by(step) {
                let read = client.ask(&["GET", &key(number)]).unwrap();
                assert!(
                    text(&read) == value(number),
                    "{} at node {node}: {read:.60?}",
                    key(number)
                );
            }
        }
    };
    read(&cluster, "READWRITE", 10);
    let mut healed = 0;
    for node in 0..3 {
        // It comes past every image, and makes up for those that nobody asked for.
        cluster.nodes[node].write_checkpoint();
        wait_until_serving(&cluster, node);
        let status = cluster.nodes[node].status().unwrap();
        assert_eq!(status["generation"], 0, "no log was given up: {status}");
        let counters = &status["cores"][0]["shard"]["counters"];
        let of_node = counters["healed"].as_u64().unwrap();
        assert!(of_node > 200, "node {node} took {of_node} entities from the others");
        assert_eq!(counters["images_lost"], of_node, "node {node} took what it lost, no more");
        healed += of_node;
        let data = cluster.nodes[node].data_directory.clone();
        wait_until("the damaged checkpoint to go", || verified(&data).0 == 0);
    }
    println!("{healed} entities were taken from the others");
    for node in 0..3 {
        cluster.kill(node);
        cluster.restart(node);
        cluster.wait_until_ready(node);
    }
    read(&cluster, "READONLY", 1);
    cluster.wait_until_equal(&keys);
}
