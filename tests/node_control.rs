//! What an operator tells running nodes: `certus checkpoint`, `certus cleaner`, `CONFIG SET`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use net::resp::value::Value;

use cluster::{Cluster, certus, text, wait_until};

/// Ten segments are the least that a log may have; with what is kept in reserve, it takes six.
const ARGUMENTS: &[&str] = &[
    "--cores",
    "2",
    "--set",
    "log.size_max_bytes=167772160",
    "--set",
    "log.checkpoint_log_bytes=16777216",
    "--set",
    "log.hold_bytes=0",
];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn succeeds(words: &[&str]) -> String {
    let output = certus(words);
    assert!(output.status.success(), "certus {words:?}: {}", said(&output));
    said(&output)
}

#[test]
fn an_operator_has_checkpoints_written_and_keeps_the_log_from_being_freed() {
    let mut cluster = Cluster::start_with("node-control", ARGUMENTS);
    let address = cluster.nodes[0].client.to_string();
    let mut client = cluster.client(0);

    let nothing = succeeds(&["checkpoint", "--addr", &address]);
    assert_eq!(nothing.matches("has never written anything").count(), 2, "{nothing}");
    for number in 0..100 {
        assert_eq!(client.ask(&["SET", &format!("key{number}"), "v"]).unwrap(), Value::OK);
    }
    let done = succeeds(&["checkpoint", "--addr", &address]);
    for core in 0..2 {
        assert!(
            done.contains(&format!("{address} core {core}: checkpoint 1 is asked for")),
            "{done}"
        );
        assert!(done.contains(&format!("{address} core {core}: done, ")), "{done}");
        let pointer = cluster.nodes[0].data_directory.join(format!("core-{core}/checkpoint"));
        assert!(pointer.exists(), "it counts when the command ends");
    }
    let asked = succeeds(&["checkpoint", "--no-wait", "--addr", &address]);
    assert!(asked.contains("checkpoint 2 is asked for") && !asked.contains("done"), "{asked}");

    let paused = succeeds(&["cleaner", "pause", "--addr", &address]);
    assert_eq!(paused.matches("paused until it is resumed").count(), 2, "{paused}");
    let status = succeeds(&["status", "--addr", &address]);
    assert!(
        status.contains("note: node 0") && status.contains("its cleaner is paused"),
        "{status}"
    );
    let info = text_of_info(&client.ask(&["INFO", "persistence"]).unwrap());
    let wait = "the cores to publish that their cleaners are paused";
    assert!(info.contains("certus_cleaner_paused_cores:"), "{info}");
    wait_until(wait, || metrics(&cluster).contains("certus_cleaner_paused{core=\"1\"} 1\n"));

    let value = "x".repeat(256 << 10);
    let refusal = (0..2000).find_map(|number| {
        match client.ask(&["SET", &format!("large{}", number % 8), &value]).unwrap() {
            Value::Error(error) => Some(error.to_string()),
            _ => None,
        }
    });
    let refusal = refusal.expect("the log's bound holds while the cleaner is paused");
    assert!(refusal.starts_with("MISCONF "), "{refusal}");
    assert!(refusal.contains("CERTUS CLEANER RESUME"), "{refusal}");
    let degraded = certus(&["status", "--addr", &address]);
    assert_eq!(degraded.status.code(), Some(1), "{}", said(&degraded));
    assert!(said(&degraded).contains("certus cleaner resume"), "{}", said(&degraded));

    let resumed = succeeds(&["cleaner", "resume", "--addr", &address]);
    assert_eq!(resumed.matches(": runs; ").count(), 2, "{resumed}");
    wait_until("writes to be taken again", || {
        client.ask(&["SET", "large0", &value]).is_ok_and(|reply| reply == Value::OK)
    });

    succeeds(&["cleaner", "pause", "--addr", &address]);
    cluster.kill(0);
    cluster.restart(0);
    cluster.wait_until_ready(0);
    let status = succeeds(&["cleaner", "status", "--addr", &address]);
    assert_eq!(status.matches(": runs; ").count(), 2, "a pause ends with the node: {status}");
}

#[test]
fn rates_of_catching_up_change_on_every_core_until_the_node_starts_again() {
    let mut cluster = Cluster::start_with("node-control-rates", ARGUMENTS);
    let shown = |cluster: &Cluster| {
        let mut client = cluster.client(0);
        let reply = client.ask(&["CONFIG", "GET", "catch_up.*rate_bytes_per_s"]).unwrap();
        let Value::Array(pairs) = reply else { panic!("{reply:?}") };
        pairs.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    let before = "catch_up.peer_rate_bytes_per_s 104857600 catch_up.rate_bytes_per_s 104857600";
    let after = "catch_up.peer_rate_bytes_per_s 104857600 catch_up.rate_bytes_per_s 1000000";
    assert_eq!(shown(&cluster), before);
    let mut client = cluster.client(0);
    let set = ["CONFIG", "SET", "catch_up.rate_bytes_per_s", "1000000"];
    assert_eq!(client.ask(&set).unwrap(), Value::OK);
    // So many connections come to both cores.
    for _ in 0..32 {
        assert_eq!(shown(&cluster), after);
    }
    let refused = client.ask(&["CONFIG", "SET", "catch_up.rate_bytes_per_s", "fast"]).unwrap();
    assert!(text(&refused).contains("between 0 (no limit)"), "{refused:?}");
    cluster.kill(0);
    cluster.restart(0);
    cluster.wait_until_ready(0);
    assert_eq!(shown(&cluster), before, "what is configured holds again");
}

#[test]
fn a_node_that_cannot_be_told_is_named() {
    let nobody = certus(&["cleaner", "pause", "--addr", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("127.0.0.1:1 cannot be asked"), "{}", said(&nobody));
    let nobody = certus(&["checkpoint", "--addr", "nowhere"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("give HOST:PORT"), "{}", said(&nobody));
}

fn text_of_info(value: &Value) -> String {
    match value {
        Value::Verbatim { text, .. } => String::from_utf8_lossy(text).into_owned(),
        other => text(other),
    }
}

fn metrics(cluster: &Cluster) -> String {
    let mut stream = TcpStream::connect(cluster.nodes[0].admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
