//! A follower beside three real nodes: it comes to hold what they hold while they are loaded, turns
//! to another when the one that it follows dies, says how stale it is, and has no say.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failing test shows where its cluster is, and what an error was"
)]

mod cluster;

use std::fs;

use cluster::load::under_load;
use cluster::resp_client::RespClient;
use cluster::{Cluster, Node, refused_start, text, wait_until};
use net::resp::value::Value;
use rustix::process::Signal;

/// A follower that was in step this recently keeps up, in microseconds.
const FRESH_US: u64 = 1_000_000;

/// What `INFO replication` says of a follower.
struct Told {
    follows: Option<usize>,
    staleness_us: Option<u64>,
}

fn told(node: &Node) -> Option<Told> {
    let reply = node.connect().ok()?.ask(&["INFO", "replication"]).ok()?;
    let info = text(&reply);
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name} in {info}")).to_owned()
    };
    assert_eq!(field("role"), "slave");
    let follows = field("certus_follows_node").parse().ok();
    Some(Told { follows, staleness_us: field("certus_staleness_us").parse().ok() })
}

/// Waits until a follower keeps up. Whom it follows.
fn wait_until_fresh(node: &Node) -> usize {
    let mut follows = None;
    wait_until("the follower to be in step", || {
        node.check_running();
        let Some(told) = told(node) else { return false };
        follows = told.follows;
        follows.is_some() && told.staleness_us.is_some_and(|staleness| staleness < FRESH_US)
    });
    follows.expect("just seen")
}

fn word(reply: &Value) -> String {
    match reply {
        Value::Error(error) => error.word().to_owned(),
        other => format!("{other:?}"),
    }
}

fn reader(node: &Node) -> RespClient {
    let mut client = node.connect().expect("a follower takes connections");
    assert_eq!(client.ask(&["READONLY"]).unwrap(), Value::simple("OK"));
    client
}

#[test]
fn a_follower_keeps_up_under_load_fails_over_and_comes_back_from_a_crash_and_from_nothing() {
    // With other numbers of cores than the replicas have, each core follows several.
    let mut cluster = Cluster::start_with("followers", &["--cores", "2"]);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        progress.wait();
        let place = cluster.add_follower(3, "");
        let followed = wait_until_fresh(&cluster.followers[place]);
        progress.wait();
        cluster.kill(followed);
        progress.wait();
        wait_until("the follower to follow another", || {
            told(&cluster.followers[place])
                .is_some_and(|told| told.follows.is_some_and(|node| node != followed))
        });
        let next = wait_until_fresh(&cluster.followers[place]);
        assert_ne!(next, followed, "that one is dead");
        cluster.restart(followed);
        cluster.wait_until_ready(followed);
        // One that stands still holds nobody up, and makes up for what it missed.
        cluster.followers[place].signal(Signal::STOP);
        (0..3).for_each(|_| progress.wait());
        cluster.followers[place].signal(Signal::CONT);
        wait_until_fresh(&cluster.followers[place]);
        cluster.followers[place].kill();
        progress.wait();
        cluster.followers[place].start(&[]);
        wait_until_fresh(&cluster.followers[place]);
        progress.wait();
    });
    assert!(acknowledged > 0);

    // What it holds, all nodes hold (`under_load` compared the histories); it serves that, too.
    let mut writer = cluster.client(0);
    let mut follower = reader(&cluster.followers[0]);
    for number in 0..50 {
        let (key, value) = (format!("key-{number}"), format!("value-{number}"));
        assert_eq!(writer.ask(&["SET", &key, &value]).unwrap(), Value::simple("OK"));
        wait_until("the follower to hear of a write", || {
            text(&follower.ask(&["GET", &key]).unwrap()) == value
        });
    }
    for words in [["SET", "key-1", "other"].as_slice(), &["CERTUS", "ONCE", "id", "INCR", "n"]] {
        let reply = follower.ask(words).unwrap();
        assert_eq!(word(&reply), "READONLY", "{reply:?}");
    }
    let mut plain = cluster.followers[0].connect().unwrap();
    let reply = plain.ask(&["GET", "key-1"]).unwrap();
    assert_eq!(word(&reply), "READONLY", "a read that has to be current: {reply:?}");
    assert_eq!(text(&writer.ask(&["GET", "key-1"]).unwrap()), "value-1");

    // A wiped follower simply begins anew, and the replicas take it for nobody else.
    cluster.followers[0].kill();
    fs::remove_dir_all(&cluster.followers[0].data_directory).unwrap();
    cluster.followers[0].start(&[]);
    wait_until_fresh(&cluster.followers[0]);
    let keys: Vec<String> = (0..50).map(|number| format!("key-{number}")).collect();
    cluster.wait_until_equal(&keys);
    let mut follower = reader(&cluster.followers[0]);
    assert_eq!(text(&follower.ask(&["GET", "key-49"]).unwrap()), "value-49");
}

#[test]
fn a_follower_that_hears_of_nobody_refuses_reads_beyond_its_bound_and_votes_for_nobody() {
    let mut cluster = Cluster::start("staleness");
    let mut writer = cluster.client(0);
    assert_eq!(writer.ask(&["SET", "key", "value"]).unwrap(), Value::simple("OK"));
    cluster.add_follower(1, "staleness_max_ms = 2000");
    wait_until_fresh(&cluster.followers[0]);
    let mut follower = reader(&cluster.followers[0]);
    wait_until("the write to arrive", || text(&follower.ask(&["GET", "key"]).unwrap()) == "value");
    // With two of three gone a vote of the follower's would make a majority; there is none.
    cluster.kill(1);
    cluster.kill(2);
    let reply = writer.ask(&["SET", "key", "other"]).unwrap();
    assert!(["UNKNOWN", "CLUSTERDOWN"].contains(&word(&reply).as_str()), "{reply:?}");
    assert_eq!(wait_until_fresh(&cluster.followers[0]), 0, "who is left is followed");
    assert_eq!(text(&follower.ask(&["GET", "key"]).unwrap()), "value");
    cluster.kill(0);
    wait_until("reads to be refused", || {
        let reply = follower.ask(&["GET", "key"]).unwrap();
        let is_refused = word(&reply) == "MASTERDOWN";
        if let (Value::Error(error), true) = (&reply, is_refused) {
            let said = format!("{error:?}");
            assert!(said.contains("follower.staleness_max_ms is 2000"), "{said}");
        }
        is_refused
    });
    for node in 0..3 {
        cluster.restart(node);
    }
    (0..3).for_each(|node| cluster.wait_until_ready(node));
    wait_until_fresh(&cluster.followers[0]);
    assert_ne!(word(&follower.ask(&["GET", "key"]).unwrap()), "MASTERDOWN");
}

#[test]
fn a_directory_keeps_its_role() {
    let mut cluster = Cluster::start("roles");
    cluster.add_follower(1, "");
    wait_until_fresh(&cluster.followers[0]);
    cluster.followers[0].kill();
    cluster.stop_node(2);
    let (replica, follower) = (&cluster.nodes[2], &cluster.followers[0]);
    for (config, directory, words) in [
        (&replica.config_file, &follower.data_directory, "it is a follower's"),
        (&follower.config_file, &replica.data_directory, "it is a replica's"),
    ] {
        let mut table: toml::Table = toml::from_str(&fs::read_to_string(config).unwrap()).unwrap();
        let directory = toml::Value::String(directory.display().to_string());
        table.insert("data_directory".to_owned(), directory);
        let file = cluster.directory.join("other-role.toml");
        fs::write(&file, toml::to_string(&table).unwrap()).unwrap();
        let (status, said) = refused_start(&file);
        assert!(status == 4 && said.contains(words), "{status}: {said}");
    }
    let replaced = cluster::refused_start_with(&follower.config_file, &["--replace"]);
    assert!(replaced.1.contains("is a follower"), "{replaced:?}");
    cluster.restart(2);
    cluster.wait_until_ready(2);
}
