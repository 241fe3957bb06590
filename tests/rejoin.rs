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

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use net::peer::frame::FrameEncoder;
use net::peer::handshake::{
    DiallerStep, HANDSHAKE_SIZE, HandshakeDialler, LocalNode, Remembered, Role, Target,
};
use net::peer::message::{GenerationsNotice, PeerMessage};
use net::resp::value::Value;
use plog::vocabulary::Generation;
use serde_json::Value as Json;

use cluster::load::under_load;
use cluster::random::Random;
use cluster::{Cluster, certus, number, refused_start_with, text, wait_until};

const CORES: &[&str] = &["--cores", "2"];

/// Clusters of this file take turns: ports of a node that is down for a while are free for all.
fn alone() -> File {
    let lock = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rejoin.lock");
    let lock = File::create(lock).unwrap();
    lock.lock().unwrap();
    lock
}

fn core(cluster: &Cluster, id: usize, core: u16) -> PathBuf {
    cluster.nodes[id].data_directory.join(format!("core-{core}"))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Ends a node when the log of its first core holds more than one write of this boot, and the node
/// has noted that: damage to the only one could not be told from a write that was cut off, nor the
/// loss of a file from one that never was.
fn kill_with_a_log(cluster: &mut Cluster, id: usize) {
    wait_until("the first core to have written a few times", || {
        let frames = |status: Json| status["cores"][0]["log"]["frames"].as_u64();
        cluster.nodes[id].status().and_then(frames).is_some_and(|frames| frames >= 4)
    });
    wait_until("that to be noted", || cluster.nodes[id].data_directory.join("reached-0").exists());
    cluster.kill(id);
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
    let status = cluster.nodes[id].status().unwrap();
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
    let _alone = alone();
    let rounds = number("REJOIN_ROUNDS", 3);
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-damage", CORES);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        for round in 1..=rounds {
            progress.wait();
            kill_with_a_log(cluster, 2);
            damage(cluster, 2, 0, &mut random);
            cluster.restart(2);
            // It serves its clients meanwhile, through the others.
            cluster.wait_until_ready(2);
            cluster.wait_until_whole(2);
            check_rejoined(cluster, 2, round);
            check_votes(cluster, 2, &progress);
        }
        for id in 0..2 {
            let known = cluster.nodes[id].status().unwrap()["cores"][0]["generations"][2].clone();
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
    let _alone = alone();
    let rounds = number("REJOIN_ROUNDS", 3);
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-kills", CORES);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        for _ in 0..rounds {
            progress.wait();
            kill_with_a_log(cluster, 2);
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
            cluster.wait_until_whole(2);
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
    cluster.wait_until_whole(id);
}

#[test]
fn an_older_copy_of_a_node_whose_log_was_damaged_is_refused() {
    let _alone = alone();
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-old-copy", CORES);
    let old = cluster.directory.join("old");
    under_load(&mut cluster, 0, |cluster, progress| {
        progress.wait();
        kill_with_a_log(cluster, 2);
        copy(&cluster.nodes[2].data_directory, &old);
        damage(cluster, 2, 0, &mut random);
        cluster.restart(2);
        cluster.wait_until_whole(2);
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

fn said_since(cluster: &Cluster, id: usize, begin: usize) -> String {
    let all = fs::read(&cluster.nodes[id].log_file).unwrap();
    String::from_utf8_lossy(&all[begin..]).into_owned()
}

fn said_so_far(cluster: &Cluster, id: usize) -> usize {
    fs::read(&cluster.nodes[id].log_file).unwrap().len()
}

#[test]
fn a_node_whose_data_is_lost_is_replaced_under_load() {
    let _alone = alone();
    let rounds = number("REJOIN_ROUNDS", 3);
    let mut random = Random::new(number("REJOIN_SEED", 1));
    let mut cluster = Cluster::start_with("rejoin-replace", CORES);
    let old = cluster.directory.join("old");
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        for round in 1..=rounds {
            progress.wait();
            cluster.kill(2);
            let data = cluster.nodes[2].data_directory.clone();
            if round == 1 {
                copy(&data, &old);
            }
            fs::remove_dir_all(&data).unwrap();
            // With another one gone at the same time there is nobody to vote with: the new one must
            // not, whatever it is asked.
            let other = random.below(2);
            cluster.kill(other);
            let begin = said_so_far(cluster, 2);
            cluster.restart_with(2, &["--replace"]);
            wait_until("the new node to be known by one", || {
                said_since(cluster, 2, begin).contains("a node knows this one as a new one")
            });
            // Killed, it goes on by itself.
            cluster.kill(2);
            assert!(data.join("registering").exists() && !data.join("core-0/abstains").exists());
            let begin = said_so_far(cluster, 2);
            cluster.restart(2);
            wait_until("the new node to be known by one again", || {
                said_since(cluster, 2, begin).contains("a node knows this one as a new one")
            });
            assert!(cluster.nodes[2].connect().is_err(), "it listens to nobody");
            let mut survivor = cluster.client(1 - other);
            let answer = survivor.ask(&["SET", "with-a-majority-only", "1"]).unwrap();
            assert!(answer.is_error(), "{answer:?}");
            cluster.restart(other);
            cluster.wait_until_ready(2);
            cluster.wait_until_whole(2);
            assert_eq!(cluster.nodes[2].status().unwrap()["generation"], round);
            assert!(!data.join("registering").exists());
            wait_until("the notes of the loss to go", || {
                (0..2).all(|number| !core(cluster, 2, number).join("abstains").exists())
            });
            cluster.wait_until_ready(other);
            check_votes(cluster, 2, &progress);
        }
        check_old_copy_is_refused(cluster, 2, &old);
    });
    println!("{rounds} replaced nodes: {acknowledged} acknowledged words are all there");
}

#[test]
fn a_new_node_in_the_place_of_another_is_refused_until_the_data_is_said_to_be_lost() {
    let _alone = alone();
    let mut cluster = Cluster::start_with("rejoin-empty", CORES);
    let data = cluster.nodes[2].data_directory.clone();
    assert!(!cluster.client(2).ask(&["SET", "key", "value"]).unwrap().is_error());
    cluster.kill(2);
    fs::remove_dir_all(&data).unwrap();
    let begin = said_so_far(&cluster, 2);
    cluster.restart(2);
    wait_until("both others to refuse it", || {
        let said = said_since(&cluster, 2, begin);
        let refused = |other: &str| {
            said.lines().any(|line| {
                line.contains(other)
                    && line.contains("data directory was replaced")
                    && line.contains("certusd --replace")
            })
        };
        refused("node=0 ") && refused("node=1 ")
    });
    let answer = cluster.client(2).ask(&["GET", "key"]).unwrap();
    assert!(answer.is_error(), "{answer:?}");
    cluster.kill(2);
    // It is a node by now, and not an empty directory.
    let config = cluster.nodes[2].config_file.clone();
    let (status, said) = refused_start_with(&config, &["--replace"]);
    assert!(status == 4 && said.contains("start it without --replace"), "{status}: {said}");
    fs::remove_dir_all(&data).unwrap();
    cluster.restart_with(2, &["--replace"]);
    cluster.wait_until_ready(2);
    cluster.wait_until_whole(2);
    assert_eq!(text(&cluster.client(2).ask(&["GET", "key"]).unwrap()), "value");
    // Of a node that goes on, its own directory is what counts.
    cluster.kill(2);
    let (status, said) = refused_start_with(&config, &["--replace"]);
    assert!(status == 4 && said.contains("holds a node already"), "{status}: {said}");
    cluster.restart(2);
    cluster.wait_until_ready(2);
}

/// Says to node 0, in the name of node 1, that node 0 is of this generation.
fn tell_of_generation(cluster: &Cluster, generation: u32) {
    let identity = fs::read(cluster.nodes[1].data_directory.join("identity")).unwrap();
    let local = LocalNode {
        cluster_id: u64::from_le_bytes(identity[16..24].try_into().unwrap()),
        node_id: 1,
        replicas: cluster.replicas,
        incarnation: u128::from_le_bytes(identity[28..44].try_into().unwrap()),
        boot_epoch: 1,
        core_count: 2,
        core: 0,
        role: Role::Replica,
    };
    let mut stream = TcpStream::connect(cluster.nodes[0].peer).unwrap();
    let mut dialler = HandshakeDialler::new(local, Target { node_id: 0, core: 0 });
    stream.write_all(&dialler.hello()).unwrap();
    let mut answer = [0; HANDSHAKE_SIZE];
    stream.read_exact(&mut answer).unwrap();
    let step = dialler.handle_bytes(&answer, |_| Remembered::NeverMet).unwrap();
    assert!(matches!(step, DiallerStep::Accepted { .. }), "{step:?}");
    let known = [generation, 0, 0, 0, 0].map(Generation);
    let message = PeerMessage::Generations(GenerationsNotice { known });
    let mut frame = Vec::new();
    FrameEncoder::new(7 << 20).encode(&[message], &mut frame).unwrap();
    stream.write_all(&frame).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    // Closed with the node, if it ends.
    stream.read_to_end(&mut Vec::new()).ok();
}

#[test]
fn a_node_that_hears_of_its_own_later_generation_ends_with_a_status_of_its_own() {
    let _alone = alone();
    let mut cluster = Cluster::start_with("rejoin-superseded", CORES);
    cluster.stop_node(0);
    cluster.restart(0);
    cluster.wait_until_ready(0);
    tell_of_generation(&cluster, 0);
    cluster.nodes[0].check_running();
    tell_of_generation(&cluster, 4);
    assert_eq!(cluster.wait_until_ended(0), Some(9));
    let said = said_since(&cluster, 0, 0);
    assert!(said.contains("certusd: fatal: this node goes on as generation 4"), "{said}");
    // There is none in truth, and nobody else believes it.
    cluster.restart(0);
    cluster.wait_until_ready(0);
    cluster.wait_until_whole(0);
}
