//! Nodes are added, replaced and removed while clients ask: nothing that was acknowledged is lost,
//! kills in the middle of a change are made up for, and who was removed serves nothing.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failing test shows where its cluster is, and what an error was"
)]

mod cluster;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use cluster::load::under_load;
use cluster::{Cluster, Node, PATIENCE, certus, text, wait_until};
use net::resp::value::Value;

/// What `certus member` says, to these addresses.
fn member(nodes: &[&Node], words: &[&str]) -> Output {
    let addresses: Vec<String> = nodes.iter().map(|node| node.client.to_string()).collect();
    let addresses = addresses.join(",");
    let mut all = vec!["member"];
    all.extend(words);
    all.extend(["--addr", &addresses]);
    if words[0] != "list" {
        all.extend(["--wait", "20"]);
    }
    certus(&all)
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Tells these nodes until it is done, as an operator whose nodes die meanwhile would.
fn member_done(nodes: &[&Node], words: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = member(nodes, words);
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < deadline, "{words:?}: {}", said(&output));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The same, which has to be refused.
fn member_refused(node: &Node, words: &[&str], reason: &str) {
    let output = member(&[node], words);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains(reason), "{}", said(&output));
}

fn is_removed(node: &Node) -> bool {
    let answer = node.connect().and_then(|mut client| client.ask(&["GET", "key"]));
    matches!(answer, Ok(Value::Error(error)) if error.word() == "REMOVED")
}

/// The voters, by the word of each of these nodes.
fn wait_for_voters(nodes: &[&Node], voters: &str) {
    wait_until(&format!("voters {voters}"), || {
        nodes.iter().all(|node| {
            let listed = said(&member(&[node], &["list"]));
            listed.contains(&format!("voters {voters}, learners nobody"))
        })
    });
}

#[test]
fn nodes_are_added_replaced_and_removed_under_load() {
    let mut cluster =
        Cluster::start_with("membership", &["--nodes", "3", "--set", "replica_slots=5"]);
    let acknowledged = under_load(&mut cluster, 0, |cluster, progress| {
        progress.wait();
        // Whom it follows may change, too.
        cluster.add_follower(1, "");
        member_refused(&cluster.nodes[0], &["add", "3"], "does not hear node 3");
        member_refused(&cluster.nodes[0], &["add", "5"], "numbered from 0 to 4");
        let three = cluster.add_node(3);
        wait_until("a node that joins to listen", || is_removed(&cluster.followers[three]));
        member_done(&[&cluster.nodes[0]], &["add", "3"]);
        wait_for_voters(&[&cluster.nodes[1], &cluster.followers[three]], "0, 1, 2, 3");
        progress.wait();

        // Node 1 is lost for good; another one takes its place, elsewhere and with nothing.
        cluster.kill(1);
        cluster.gone.insert(1);
        let four = cluster.add_node(4);
        wait_until("the other node to listen", || is_removed(&cluster.followers[four]));
        let (nodes, beside) = (&mut cluster.nodes, &mut cluster.followers);
        let (first, rest) = nodes.split_at_mut(1);
        let told = [&rest[1]];
        std::thread::scope(|scope| {
            let replacing = scope.spawn(|| member_done(&told, &["replace", "1", "4"]));
            // Kills in the middle of it, of who decides and of who joins.
            for round in 0..3_u64 {
                std::thread::sleep(Duration::from_millis(100 + 150 * round));
                let victim = if round == 1 { &mut beside[four] } else { &mut first[0] };
                victim.kill();
                victim.start(&[]);
            }
            replacing.join().unwrap();
        });
        cluster.wait_until_ready(0);
        wait_for_voters(&[&cluster.nodes[0], &cluster.followers[four]], "0, 2, 3, 4");
        progress.wait();

        // One that is up is removed, and refuses from then on, over a restart, too.
        member_done(&[&cluster.nodes[0]], &["remove", "2"]);
        wait_until("the removed node to refuse", || is_removed(&cluster.nodes[2]));
        cluster.gone.insert(2);
        progress.wait();
        cluster.kill(2);
        cluster.restart(2);
        wait_until("it to refuse again", || is_removed(&cluster.nodes[2]));

        // What was done is done, and repeating it changes nothing.
        let told = [&cluster.nodes[0]];
        for words in [["add", "3"].as_slice(), &["remove", "2"], &["replace", "1", "4"]] {
            let output = member(&told, words);
            assert!(output.status.success(), "{words:?}: {}", said(&output));
        }
        member_refused(&cluster.nodes[0], &["add", "1"], "does not hear node 1");
        // Of three any two go on.
        cluster.followers[three].kill();
        progress.wait();
        member_refused(&cluster.nodes[0], &["remove", "4"], "no majority would be left");
        cluster.followers[three].start(&[]);
        wait_until("node 3 to serve", || cluster.followers[three].serves());
    });
    assert!(acknowledged > 0);

    let all: Vec<&Node> = cluster.standing().filter(|node| node.id < 16).collect();
    let ids: BTreeSet<u8> = all.iter().map(|node| node.id).collect();
    assert_eq!(ids, BTreeSet::from([0, 3, 4]));
    wait_for_voters(&all, "0, 3, 4");
    let mut client = all[1].connect().unwrap();
    assert_eq!(client.ask(&["SET", "after", "all"]).unwrap(), Value::simple("OK"));
    let mut other = all[2].connect().unwrap();
    assert_eq!(text(&other.ask(&["GET", "after"]).unwrap()), "all");
    let status = certus(&["status", "--addr", &all[0].client.to_string(), "--json"]);
    assert!(said(&status).contains("\"voters\""), "{}", said(&status));
}
