//! How a node is told to stop, and what it tells whoever supervises it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use net::resp::value::Value;
use rustix::process::{Pid, Signal, kill_process};

use cluster::{Cluster, PATIENCE, text, wait_until};

/// Starts a stopped node again as a child of the test, with `NOTIFY_SOCKET` set.
fn start_supervised(cluster: &Cluster, id: usize, socket: &str) -> Child {
    let log = fs::OpenOptions::new().append(true).open(&cluster.nodes[id].log_file).unwrap();
    Command::new(env!("CARGO_BIN_EXE_certusd"))
        .arg("--config")
        .arg(&cluster.nodes[id].config_file)
        .env("NOTIFY_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

fn status_of(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
}

fn next_word(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let size = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..size]).into_owned()
}

#[test]
fn a_supervisor_hears_of_ready_and_stopping_and_one_signal_stops_in_order() {
    let mut cluster = Cluster::start("supervised");
    assert_eq!(cluster.client(2).ask(&["SET", "key", "value"]).unwrap(), Value::OK);
    let path = cluster.directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    cluster.stop_node(2);
    let mut child = start_supervised(&cluster, 2, &path.display().to_string());
    assert_eq!(next_word(&socket), "READY=1\n");
    wait_until("node 2 to serve", || cluster.nodes[2].serves());
    assert_eq!(text(&cluster.client(2).ask(&["GET", "key"]).unwrap()), "value");
    signal(&child, Signal::TERM);
    assert_eq!(next_word(&socket), "STOPPING=1\n");
    assert_eq!(status_of(&mut child), Some(0));
    cluster.restart(2);
    cluster.wait_until_ready(2);
}

#[test]
fn a_second_signal_ends_a_node_that_still_waits_for_a_command() {
    let mut cluster =
        Cluster::start_with("second-signal", &["--set", "consensus.request_timeout_ms=60000"]);
    cluster.stop_node(2);
    let path = cluster.directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = start_supervised(&cluster, 2, &path.display().to_string());
    assert_eq!(next_word(&socket), "READY=1\n");
    wait_until("node 2 to serve", || cluster.nodes[2].serves());
    cluster.kill(0);
    cluster.kill(1);
    // Without a majority this command waits for its whole patience.
    let mut stream = TcpStream::connect(cluster.nodes[2].client).unwrap();
    stream.write_all(b"SET key value\r\n").unwrap();
    let mut other = cluster.nodes[2].connect().unwrap();
    wait_until("the command to be held", || {
        let status = other.ask(&["CERTUS", "STATUS"]).unwrap();
        let status: serde_json::Value = serde_json::from_str(&text(&status)).unwrap();
        status["shard"]["gauges"]["commands_held"] != 0
    });
    signal(&child, Signal::TERM);
    assert_eq!(next_word(&socket), "STOPPING=1\n");
    assert_eq!(child.try_wait().unwrap(), None, "it waits for the command");
    signal(&child, Signal::INT);
    assert_eq!(status_of(&mut child), Some(8));
    for id in [0, 1, 2] {
        cluster.restart(id);
    }
    for id in [0, 1, 2] {
        cluster.wait_until_ready(id);
    }
}
