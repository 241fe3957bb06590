//! What is wrong on the wire costs its sender the connection and nobody else anything; what is
//! wrong in a configuration or on disk is refused with one line that names it, and changes nothing.
//!
//! `BAD_INPUT_SEED` says which random bytes are sent.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use net::resp::value::Value;

use cluster::random::Random;
use cluster::{Cluster, Node, PATIENCE, addresses, refused_start, text, wait_until};

const ATTEMPTS: usize = 300;

fn seed() -> u64 {
    let seed = env::var("BAD_INPUT_SEED").map_or(1, |text| text.parse().expect("a whole number"));
    println!("BAD_INPUT_SEED={seed}");
    seed
}

/// A node that goes on neither reading nor closing for this long never will.
const SENDER_PATIENCE: Duration = Duration::from_secs(20);

/// Sends `bytes`, says no more, and reads whatever comes until the other side closes.
fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the node still takes connections");
    stream.set_read_timeout(Some(SENDER_PATIENCE)).expect("a time-out can be set");
    stream.set_write_timeout(Some(SENDER_PATIENCE)).expect("a time-out can be set");
    let begin = Instant::now();
    // The node may close before it has read everything; then writing and reading fail, rightly.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let ended = sent.and_then(|()| std::io::copy(&mut stream, &mut std::io::sink()));
    let waited = begin.elapsed();
    let shown = bytes[..bytes.len().min(100)].escape_ascii();
    assert!(
        waited < SENDER_PATIENCE,
        "the node neither reads nor closes for {waited:?} ({ended:?}): {} bytes, {shown}",
        bytes.len()
    );
}

/// The nodes that were started still run, serve, and hear each other.
fn check_unharmed(cluster: &Cluster, number: usize) {
    for node in &cluster.nodes {
        node.check_running();
        let mut client = node.connect().expect("a connection");
        let key = format!("still:{number}");
        assert_eq!(client.ask(&["SET", &key, "here"]).unwrap(), Value::OK);
        assert_eq!(text(&client.ask(&["GET", &key]).unwrap()), "here");
    }
    wait_until("every node to hear every other", || {
        cluster.nodes.iter().all(|node| live(node).len() == 3)
    });
}

/// Whom a node hears, itself included.
fn live(node: &Node) -> Vec<u64> {
    let status = node.status().expect("a node that is up answers");
    status["live"].as_array().expect("a list").iter().filter_map(|id| id.as_u64()).collect()
}

#[test]
fn hostile_bytes_on_the_client_port_harm_nobody() {
    let cluster = Cluster::start("bad-clients");
    let address = cluster.nodes[0].client;
    let known: Vec<Vec<u8>> = [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n"[..],
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n",
        b"SET inline 1\r\n",
        b"*1\r\n$7\r\nCOMMAND\r\n*2\r\n$6\r\nCERTUS\r\n$6\r\nSTATUS\r\n",
    ]
    .map(<[u8]>::to_vec)
    .into();
    let hostile: &[&[u8]] = &[
        b"*-1\r\n",
        b"*0\r\n",
        b"*99999999999999999999\r\n",
        b"*1000000000\r\n$1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$99999999999999999999\r\nx",
        b"*1\r\n$3\r\nGETxx*1\r\n",
        b"*1\n$4\nPING\n",
        b"*1\r\n:5\r\n",
        b"$5\r\nhello\r\n",
        b"\r\n\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\"unbalanced\r\n",
        b"*2\r\n$6\r\nCERTUS\r\n$6\r\nENTITY\r\n",
        b"*4\r\n$6\r\nCERTUS\r\n$4\r\nONCE\r\n$0\r\n\r\n$4\r\nINCR\r\n",
    ];
    for bytes in hostile {
        send(address, bytes);
    }
    // Lines and arguments that never end, beyond every limit.
    send(address, &vec![b'x'; 2 << 20]);
    send(address, &[b"*1\r\n$900000\r\n".to_vec(), vec![b'x'; 900_000]].concat());
    send(address, &[b"*1\r\n$9000000\r\n".to_vec(), vec![b'x'; 9_000_000]].concat());
    check_unharmed(&cluster, 0);
    let mut random = Random::new(seed());
    for number in 0..ATTEMPTS {
        let mut bytes = known[random.below(known.len())].clone();
        match number % 4 {
            0 => {
                let count = random.below(3000);
                bytes = random.bytes(count);
            }
            1 => bytes.truncate(random.below(bytes.len())),
            2 => {
                for _ in 0..=random.below(4) {
                    let place = random.below(bytes.len());
                    bytes[place] = random.bytes(1)[0];
                }
            }
            _ => {
                let place = random.below(bytes.len());
                let count = random.below(40);
                bytes.splice(place..place, random.bytes(count));
            }
        }
        send(address, &bytes);
    }
    check_unharmed(&cluster, 1);
    // Slow senders and half requests hold nothing but their own connection.
    let mut slow: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    for stream in &mut slow {
        stream.write_all(b"*2\r\n$3\r\nGET\r\n$100\r\nhalf a ke").expect("some bytes are taken");
    }
    check_unharmed(&cluster, 2);
    drop(slow);
}

#[test]
fn hostile_bytes_on_the_peer_port_harm_nobody() {
    let cluster = Cluster::start("bad-peers");
    let address = cluster.nodes[1].peer;
    let mut random = Random::new(seed());
    let hello = first_bytes_of_a_peer(&cluster);
    println!("a peer begins with {} bytes: {}", hello.len(), hello.escape_ascii());
    for number in 0..ATTEMPTS {
        let mut bytes = hello.clone();
        match number % 5 {
            0 => {
                let count = random.below(3000);
                bytes = random.bytes(count);
            }
            1 => bytes.truncate(random.below(bytes.len())),
            2 => {
                for _ in 0..=random.below(3) {
                    let place = random.below(bytes.len());
                    bytes[place] ^= 1 << random.below(8);
                }
            }
            3 => {
                // Lengths beyond every limit.
                let place = random.below(bytes.len());
                let end = (place + 4).min(bytes.len());
                bytes[place..end].fill(0xff);
            }
            // A greeting that may be good, and then no frame.
            _ => {
                let count = random.below(2000);
                bytes.extend(random.bytes(count));
            }
        }
        send(address, &bytes);
    }
    check_unharmed(&cluster, 0);
}

/// What a node of this cluster sends first to one that it takes for a peer.
fn first_bytes_of_a_peer(cluster: &Cluster) -> Vec<u8> {
    // A node of the same cluster whose peer 1 is this listener.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hello-{}", std::process::id()));
    let (mut ports, _port_blocks) = addresses(3);
    let [client, peer, admin] = [(); 3].map(|()| ports.next().expect("three").to_string());
    let original = fs::read_to_string(&cluster.nodes[0].config_file).expect("a configuration");
    let own = &cluster.nodes[0];
    let config = original
        .replace(
            &own.data_directory.display().to_string(),
            &place.join("data").display().to_string(),
        )
        .replace(&own.client.to_string(), &client)
        .replace(&own.peer.to_string(), &peer)
        .replace(&own.admin.to_string(), &admin)
        .replace(
            &cluster.nodes[1].peer.to_string(),
            &listener.local_addr().expect("it is bound").to_string(),
        );
    fs::create_dir_all(&place).expect("a directory for it");
    let file = place.join("certusd.toml");
    fs::write(&file, config).expect("its configuration");
    let mut child = Command::new(env!("CARGO_BIN_EXE_certusd"))
        .args(["--config".as_ref(), file.as_os_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("certusd can be started");
    let (mut stream, _) = listener.accept().expect("it dials its peer");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).expect("it greets first");
    bytes.truncate(count);
    child.kill().expect("a child can be killed");
    child.wait().expect("a child can be waited for");
    fs::remove_dir_all(&place).expect("its directory can be removed");
    assert!(!bytes.is_empty(), "a peer says who it is");
    bytes
}

/// Every file under `directory` with its bytes. The lock file names who tried last, so it may
/// change.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                let bytes = fs::read(&path).expect("a file can be read");
                found.insert(path.display().to_string(), bytes);
            }
        }
    }
    found
}

#[test]
fn a_start_that_cannot_be_right_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::start("bad-starts");
    assert_eq!(cluster.client(1).ask(&["SET", "key", "value"]).unwrap(), Value::OK);
    let config = cluster.nodes[1].config_file.clone();
    let good = fs::read_to_string(&config).unwrap();
    let other_data = cluster.nodes[0].data_directory.display().to_string();
    let own_data = cluster.nodes[1].data_directory.display().to_string();
    let own_client = cluster.nodes[1].client.to_string();

    // While it runs: its directory is in use.
    let (status, said) = refused_start(&config);
    assert!([3, 4].contains(&status) && said.contains("in use"), "{status}: {said}");
    cluster.nodes[1].check_running();

    cluster.stop_node(1);
    let before = content(&cluster.nodes[1].data_directory);
    assert!(!before.is_empty());
    let cluster_id = good.lines().find(|line| line.starts_with("cluster_id")).unwrap().to_owned();
    let taken = TcpListener::bind(&own_client).unwrap();
    for (name, config_text, expected, words) in [
        ("port in use", good.clone(), 3, &[&own_client[..], "client_address"][..]),
        (
            "unknown key",
            format!("log_levle = \"info\"\n{good}"),
            2,
            &["log_levle", "did you mean `log_level`"],
        ),
        ("no TOML", format!("= 3\n{good}"), 2, &["line 1"]),
        ("impossible value", good.replace("cores = 1", "cores = 100000"), 2, &["cores"]),
        ("unknown member", good.replace("node_id = 1", "node_id = 7"), 2, &["node_id", "7"]),
    ] {
        fs::write(&config, config_text).unwrap();
        let (status, said) = refused_start(&config);
        assert_eq!(status, expected, "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    drop(taken);
    // Node 0 runs, so its directory is only of use when it is not locked.
    cluster.stop_node(0);
    let other_before = content(&cluster.nodes[0].data_directory);
    for (name, config_text, words) in [
        (
            "another cluster's directory",
            good.replace(&cluster_id, "cluster_id = \"0xbad\""),
            &["0xbad", "cluster_id"][..],
        ),
        ("another node's directory", good.replace(&own_data, &other_data), &["node_id"]),
        ("another number of cores", good.replace("cores = 1", "cores = 2"), &["cores"]),
    ] {
        assert_ne!(config_text, good, "{name}");
        fs::write(&config, config_text).unwrap();
        let (status, said) = refused_start(&config);
        assert_eq!(status, 4, "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
    }
    assert!(content(&cluster.nodes[1].data_directory) == before, "its own directory is as it was");
    assert!(content(&cluster.nodes[0].data_directory) == other_before, "so is the other's");

    // And with everything right again it is the same node.
    fs::write(&config, &good).unwrap();
    for id in [0, 1] {
        cluster.restart(id);
    }
    for id in [0, 1] {
        cluster.wait_until_ready(id);
    }
    assert_eq!(text(&cluster.client(1).ask(&["GET", "key"]).unwrap()), "value");
    check_unharmed(&cluster, 0);
}

#[test]
fn a_stranger_under_the_name_of_a_member_is_not_let_in() {
    let mut cluster = Cluster::start("strangers");
    assert_eq!(cluster.client(0).ask(&["SET", "key", "value"]).unwrap(), Value::OK);
    let config = cluster.nodes[2].config_file.clone();
    let good = fs::read_to_string(&config).unwrap();
    let cluster_id = good.lines().find(|line| line.starts_with("cluster_id")).unwrap().to_owned();
    let own_data = cluster.nodes[2].data_directory.display().to_string();
    let other_data = format!("{own_data}-of-a-stranger");
    cluster.stop_node(2);
    for (name, config_text) in [
        // It lost its log, and with it what it had promised.
        ("a node with an empty directory", good.replace(&own_data, &other_data)),
        (
            "a node of another cluster",
            good.replace(&own_data, &other_data).replace(&cluster_id, "cluster_id = \"0xbad\""),
        ),
    ] {
        fs::write(&config, config_text).unwrap();
        cluster.restart(2);
        wait_until(&format!("{name} to listen"), || cluster.nodes[2].connect().is_ok());
        // It reaches nobody who would hear it, so it serves nothing; the others go on.
        let mut stranger = cluster.client(2);
        match stranger.ask(&["GET", "key"]) {
            Ok(Value::Error(error)) => {
                assert!(["CLUSTERDOWN", "LOADING"].contains(&error.word()), "{name}: {error}");
            }
            Ok(other) => panic!("{name} answers {other:?}"),
            Err(error) => {
                // Refusing to run at all is as good; then its end says why.
                println!("{name}: {error}");
            }
        }
        for id in [0, 1] {
            let mut client = cluster.client(id);
            let hears = live(&cluster.nodes[id]);
            assert!(!hears.contains(&2), "node {id} hears {name}: {hears:?}");
            assert_eq!(text(&client.ask(&["GET", "key"]).unwrap()), "value");
        }
        cluster.end_whatever_runs(2);
        fs::remove_dir_all(&other_data).unwrap();
    }
    fs::write(&config, &good).unwrap();
    cluster.restart(2);
    cluster.wait_until_ready(2);
    assert_eq!(text(&cluster.client(2).ask(&["GET", "key"]).unwrap()), "value");
    check_unharmed(&cluster, 0);
}
