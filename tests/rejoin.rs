//! A node that lost what it may have promised is rebuilt from the others under load, and votes
//! again: nothing acknowledged is lost, also if it is killed in the middle of it, and no older copy
//! of it is let in.
//!
//! `REJOIN_ROUNDS` says how often, `REJOIN_SEED` at which moments.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use net::resp::value::Value;
use serde_json::Value as Json;

use cluster::load::under_load;
use cluster::random::Random;
use cluster::{Cluster, certus, text, wait_until};

const CORES: &[&str] = &["--cores", "2"];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// What a node says of itself; `None` when it does not answer.
fn status(cluster: &Cluster, id: usize) -> Option<Json> {
    let said = cluster.nodes[id].connect().ok()?.ask(&["CERTUS", "STATUS"]).ok()?;
    serde_json::from_str(&text(&said)).ok()
}

/// Whether a node takes part in everything.
fn is_whole(cluster: &Cluster, id: usize) -> bool {
    let Some(status) = status(cluster, id) else { return false };
    status["cores"].as_array().unwrap().iter().all(|core| {
        let gauges = &core["shard"]["gauges"];
        gauges["rejoining_cores"] == 0 && gauges["abstaining_cores"] == 0
    })
}

fn wait_until_whole(cluster: &Cluster, id: usize) {
    wait_until(&format!("node {id} to take part in everything"), || {
        cluster.nodes[id].check_running();
        is_whole(cluster, id)
    });
}

fn core(cluster: &Cluster, id: usize, core: u16) -> PathBuf {
    cluster.nodes[id].data_directory.join(format!("core-{core}"))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Spoils the log of a core of a node that is down, so that more than the last write is missing.
fn damage(cluster: &Cluster, id: usize, number: u16, random: &mut Random) {
    let directory = core(cluster, id, number);
    let is_segment = |name: &String| name.ends_with(".plog") && !name.starts_with("spare-");
    let segments: Vec<String> = names(&directory).into_iter().filter(is_segment).collect();
    for name in &segments {
        let path = directory.join(name);
        if random.below(4) == 0 {
            fs::remove_file(path).unwrap();
        } else {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0x5a; 4096], 4096).unwrap();
        }
    }
    let data = cluster.nodes[id].data_directory.display().to_string();
    let verified = certus(&["plog", "verify", &data]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "it is damaged: {said}");
}

/// What has to be so once a node has rejoined.
fn check_rejoined(cluster: &Cluster, id: usize, generation: u64) {
    let status = status(cluster, id).unwrap();
    assert_eq!(status["generation"], generation, "{status}");
    let lost = core(cluster, id, 0);
    wait_until("the note of the loss to go", || !lost.join("abstains").exists());
    let left = names(&lost);
    assert!(!left.iter().any(|name| name.starts_with("damaged-")), "{left:?}");
    assert!(lost.join("log").exists() && lost.join("log.copy").exists());
    // The other core lost nothing: its log is the one that it began with.
    let other = names(&core(cluster, id, 1));
    assert!(!other.iter().any(|name| name.starts_with("log")), "{other:?}");
    let data = cluster.nodes[id].data_directory.display().to_string();
    let verified = certus(&["plog", "verify", &data]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// Writes go on with the node and one other: so it votes.
fn check_votes(cluster: &mut Cluster, id: usize, progress: &cluster::load::Progress<'_>) {
    let other = (id + 1) % 3;
    cluster.kill(other);
    progress.wait();
    cluster.restart(other);
    cluster.wait_until_ready(other);
}

#[test]
fn a_core_with_a_damaged_log_is_rebuilt_under_load_and_votes_again() {
    let rounds = number("REJOIN_ROUNDS", 3);
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-damage", CORES);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        for round in 1..=rounds {
            progress.wait();
            cluster.kill(2);
            damage(cluster, 2, 0, &mut random);
            cluster.restart(2);
            // It serves its clients meanwhile, through the others.
            cluster.wait_until_ready(2);
            wait_until_whole(cluster, 2);
            check_rejoined(cluster, 2, round);
            check_votes(cluster, 2, &progress);
        }
        for id in 0..2 {
            let known = status(cluster, id).unwrap()["cores"][0]["generations"][2].clone();
            assert_eq!(known, rounds, "the others know which generation counts");
        }
    });
    println!("{rounds} damaged logs: {acknowledged} acknowledged words are all there");
    let said = fs::read_to_string(&cluster.nodes[2].log_file).unwrap();
    for line in
        ["what is left of its log was put aside", "this core rejoins", "this core has rejoined"]
    {
        let count = said.matches(line).count() as u64;
        assert!(count >= rounds, "{count} times: {line}");
    }
}

#[test]
fn a_rejoin_that_is_killed_and_damaged_again_goes_on() {
    let rounds = number("REJOIN_ROUNDS", 3);
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-kills", CORES);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        for _ in 0..rounds {
            progress.wait();
            cluster.kill(2);
            damage(cluster, 2, 0, &mut random);
            for _ in 0..6 {
                cluster.restart(2);
                // Somewhere between its first instruction and its rejoining.
                thread::sleep(Duration::from_millis(random.next() % 250));
                cluster.kill(2);
                if random.below(3) == 0 {
                    // Others restart meanwhile: what they know of it is durable.
                    let other = random.below(2);
                    cluster.kill(other);
                    cluster.restart(other);
                    cluster.wait_until_ready(other);
                }
            }
            cluster.restart(2);
            wait_until_whole(cluster, 2);
            check_votes(cluster, 2, &progress);
        }
    });
    println!("{rounds} times: {acknowledged} acknowledged words are all there");
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// The copy of a node's data directory in `old` is started in its place: the others refuse it, and
/// go on without it. Then the node gets its own back.
fn check_old_copy_is_refused(cluster: &mut Cluster, id: usize, old: &Path) {
    let data = cluster.nodes[id].data_directory.clone();
    let own = old.with_extension("own");
    cluster.stop_node(id);
    fs::rename(&data, &own).unwrap();
    copy(old, &data);
    let heard = fs::read(&cluster.nodes[id].log_file).unwrap().len();
    cluster.restart(id);
    let mut said = String::new();
    wait_until("the older copy to be refused", || {
        cluster.nodes[id].check_running();
        let all = fs::read(&cluster.nodes[id].log_file).unwrap();
        said = String::from_utf8_lossy(&all[heard..]).into_owned();
        let is_refused = |other: usize| {
            said.lines().any(|line| {
                let is_about = line.contains(&format!("node={other} "));
                is_about && (line.contains("was already seen") || line.contains("was replaced"))
            })
        };
        (0..3).filter(|other| *other != id).all(is_refused)
    });
    assert!(!said.contains("message=\"connected to a peer\""), "nobody listens to it: {said}");
    let mut client = cluster.client(id);
    let answer = client.ask(&["SET", "from-an-old-copy", "1"]).unwrap();
    assert!(matches!(answer, Value::Error(_)), "{answer:?}");
    let other = cluster.client((id + 1) % 3).ask(&["SET", "without-it", "1"]).unwrap();
    assert!(!other.is_error(), "{other:?}");
    cluster.end_whatever_runs(id);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&own, &data).unwrap();
    cluster.restart(id);
    cluster.wait_until_ready(id);
    wait_until_whole(cluster, id);
}

#[test]
fn an_older_copy_of_a_node_whose_log_was_damaged_is_refused() {
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-old-copy", CORES);
    let old = cluster.directory.join("old");
    under_load(&mut cluster, 0, |cluster, progress| {
        progress.wait();
        cluster.kill(2);
        copy(&cluster.nodes[2].data_directory, &old);
        damage(cluster, 2, 0, &mut random);
        cluster.restart(2);
        wait_until_whole(cluster, 2);
        progress.wait();
        // The others forget which boots they saw, but not which generation.
        for id in 0..2 {
            cluster.kill(id);
            cluster.restart(id);
            cluster.wait_until_ready(id);
        }
        check_old_copy_is_refused(cluster, 2, &old);
    });
}
