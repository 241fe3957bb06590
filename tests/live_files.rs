//! `certus plog` on the directory of a node under load: what the node does meanwhile is never taken
//! for damage; and what is damaged in a stopped one is found in every kind of file.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use net::resp::value::Value;

use cluster::{Cluster, StopOnDrop, certus, wait_until};

/// Looks at the directory while it is written to.
const LOOKS_MIN: u64 = 12;

/// Segments that the node opens meanwhile.
const SEGMENTS: usize = 4;

fn run(words: &[&str]) -> (i32, String) {
    let output = certus(words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

fn segments(data: &Path) -> usize {
    let names = fs::read_dir(data.join("core-0")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".plog") && !name.starts_with("spare-")).count()
}

#[test]
fn a_running_node_under_load_is_never_called_damaged() {
    let cluster =
        Cluster::start_with("live-files", &["--set", "log.checkpoint_log_bytes=536870912"]);
    let data = &cluster.nodes[0].data_directory;
    let path = data.display().to_string();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let value = "x".repeat(20_000);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for writer in 0..4 {
            let mut client = cluster.client(writer % 3);
            let (stop, written, value) = (&stop, &written, &value);
            scope.spawn(move || {
                for number in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("key:{writer}:{}", number % 50);
                    if client.ask(&["SET", &key, value]).is_ok_and(|reply| reply == Value::OK) {
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_until("the first writes", || written.load(Ordering::Relaxed) > 0);
        let (mut looks, mut busy_looks) = (0, 0);
        while looks < LOOKS_MIN || segments(data) < SEGMENTS {
            let before = written.load(Ordering::Relaxed);
            let commands: [&[&str]; 4] = [
                &["plog", "verify", &path],
                &["plog", "dump", &path],
                &["plog", "history", &path, "--key", "key:0:0"],
                &["plog", "stats", &path],
            ];
            // Mostly the one that says the most.
            let which = if looks % 4 == 3 { 1 + looks / 4 % 3 } else { 0 };
            let words = commands[usize::try_from(which).unwrap()];
            let (status, said) = run(words);
            let end = said.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            assert_eq!(status, 0, "{words:?} of a running node: {end}");
            assert!(!said.contains("DAMAGED") && !said.contains("after damage"), "{end}");
            looks += 1;
            busy_looks += u64::from(written.load(Ordering::Relaxed) > before + 5);
            cluster.nodes[0].check_running();
        }
        assert!(busy_looks > LOOKS_MIN / 2, "{busy_looks} of {looks} while something was written");
        println!(
            "{looks} looks, {busy_looks} with writes meanwhile; {} writes, {} segments",
            written.load(Ordering::Relaxed),
            segments(data)
        );
    });
}

#[test]
fn what_is_damaged_is_found_in_every_kind_of_file() {
    let mut cluster = Cluster::start("damaged-files");
    for number in 0..20 {
        let key = format!("key:{number}");
        assert_eq!(cluster.client(0).ask(&["SET", &key, "value"]).unwrap(), Value::OK);
    }
    let core = cluster.directory.join("node-0/data/core-0");
    wait_until("a spare", || {
        let mut names = fs::read_dir(&core).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| {
            let name = name.to_string_lossy().into_owned();
            name.starts_with("spare-") && name.ends_with(".plog")
        })
    });
    cluster.kill(0);
    let data = cluster.nodes[0].data_directory.clone();
    let path = data.display().to_string();
    let (status, said) = run(&["plog", "verify", &path]);
    assert_eq!(status, 0, "{said}");
    for file in ["identity", "boot.copy", "peers/node-1", "core-0", "spare ", "clean: "] {
        assert!(said.contains(file), "{file} is missing: {said}");
    }
    let segment = "core-0/0000000000000001.plog";
    let harmed: [(&str, usize, &str); 8] = [
        ("identity", 20, "identity: DAMAGED: is damaged (its checksum"),
        ("identity.copy", 3, "identity.copy: DAMAGED: is damaged (it does not begin"),
        ("boot", 17, "boot: DAMAGED: is damaged"),
        ("boot.copy", 39, "boot.copy: DAMAGED: is damaged"),
        ("peers/node-1", 16, "peers/node-1: DAMAGED: is damaged"),
        ("peers/node-2.copy", 35, "peers/node-2.copy: DAMAGED: is damaged"),
        // The first frame of the log.
        (segment, 4096 + 100, "DAMAGED: segment 0000000000000001 at 4096"),
        (segment, 4096, "DAMAGED: segment 0000000000000001 at 4096"),
    ];
    for (file, position, finding) in harmed {
        let whole = fs::read(data.join(file)).unwrap();
        let mut bytes = whole.clone();
        bytes[position] ^= 0x10;
        fs::write(data.join(file), &bytes).unwrap();
        let (status, said) = run(&["plog", "verify", &path]);
        assert_eq!(status, 1, "byte {position} of {file}: {said}");
        assert!(said.contains(finding), "{finding} is missing: {said}");
        assert!(fs::read(data.join(file)).unwrap() == bytes, "nothing is repaired");
        fs::write(data.join(file), &whole).unwrap();
    }
    fs::write(data.join("letters.txt"), b"dear").unwrap();
    let (status, said) = run(&["plog", "verify", &path]);
    assert_eq!(status, 1);
    assert!(said.contains("letters.txt: DAMAGED: is not Certus's"), "{said}");
    fs::remove_file(data.join("letters.txt")).unwrap();
    assert_eq!(run(&["plog", "verify", &path]).0, 0);
    let (status, said) = run(&["plog", "history", &path, "--key", "key:7"]);
    assert!(status == 0 && said.contains("open: none"), "{said}");
    assert_eq!(run(&["plog", "history", &path, "--key", "nobody"]).0, 2);
    cluster.restart(0);
    cluster.wait_until_ready(0);
}
