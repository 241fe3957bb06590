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
    /// Entities abstain, and the next start begins another log.
    AnotherLogNext,
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
    for start in 0..2 {
        cluster.restart(VICTIM);
        cluster.wait_until_ready(VICTIM);
        let mut client = cluster.client(VICTIM);
        for number in 0..KEYS {
            let read = client.ask(&["GET", &key(number)]).unwrap();
            assert_eq!(text(&read), value(number, round), "{harmed:?}: {}", key(number));
        }
        let has_another = match outcome {
            Outcome::Whole => false,
            Outcome::AnotherLog => true,
            Outcome::AnotherLogNext => start == 1,
        };
        let status = status_of(&cluster);
        assert_eq!(status["generation"], u64::from(has_another), "{harmed:?}: {status}");
        assert_eq!(directory.join("log").exists(), has_another, "{harmed:?}");
        let notes_loss = outcome == Outcome::AnotherLogNext && start == 0;
        let noted = directory.join("abstains");
        if notes_loss {
            let abstaining = status["cores"][0]["shard"]["gauges"]["abstaining"].as_u64();
            assert!(abstaining > Some(0), "{harmed:?}: {status}");
        }
        wait_until(&format!("the note of a loss: {notes_loss}"), || noted.exists() == notes_loss);
        cluster.kill(VICTIM);
    }
    cluster.restart(VICTIM);
    cluster.wait_until_ready(VICTIM);
    let (status, said) = verified(&data);
    assert_eq!(status, 0, "{harmed:?}: whole again: {said}");
}

fn status_of(cluster: &Cluster) -> serde_json::Value {
    let said = cluster.client(VICTIM).ask(&["CERTUS", "STATUS"]).unwrap();
    serde_json::from_str(&text(&said)).unwrap()
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
fn only_the_entities_of_damaged_images_abstain_until_the_next_start() {
    case(Harm::Images, Outcome::AnotherLogNext);
}
