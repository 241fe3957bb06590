//! What speaks to Redis speaks to Certus: Debian's own tools and the Python client, at every node.
//!
//! A tool that cannot be had is said and skipped; scripts/test installs them where it may.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cluster::Cluster;

/// Runs a program to its end; [`None`], and why, when there is no such program.
fn run(program: &str, words: &[&str], input: &str) -> Option<Output> {
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            skipped(&format!("{program} cannot be run ({error}); Debian has it in redis-tools"));
            return None;
        }
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads its input");
    Some(child.wait_with_output().expect("a child can be waited for"))
}

/// Says so to whoever runs the tests; what `println` prints is not shown for a test that passes.
fn skipped(reason: &str) {
    writeln!(io::stderr(), "SKIPPED: {reason}").expect("standard error takes a line");
}

fn said(output: &Output) -> String {
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{error}", output.status)
}

#[test]
fn redis_cli_reads_at_every_node_what_it_wrote_at_another() {
    let cluster = Cluster::start("redis-cli");
    for node in &cluster.nodes {
        let port = node.client.port().to_string();
        let key = format!("greeting:{port}");
        let script = format!(
            "SET {key} \"hello, world\"\nGET {key}\nINCR counter\nSTRLEN {key}\nGET nothing\n\
             NOSUCHCOMMAND\nMSET {{t}}a 1 {{t}}b 2\nMGET {{t}}a {{t}}b\n\
             DEL {key} \nEXISTS {key}\nPING\n"
        );
        let Some(output) = run("redis-cli", &["-p", &port], &script) else { return };
        let text = said(&output);
        let out = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(&lines[..2], ["OK", "hello, world"], "{text}");
        assert_eq!(lines[2], (u64::from(node.id) + 1).to_string(), "{text}");
        assert_eq!(lines[3], "12", "{text}");
        assert!(lines[4].starts_with("ERR unknown command"), "{text}");
        assert_eq!(&lines[5..8], ["OK", "1", "2"], "{text}");
        assert_eq!(&lines[8..], ["1", "0", "PONG"], "{text}");
        // RESP3, and a cluster client.
        for words in
            [&["-3", "-p", &port, "GET", "counter"][..], &["-c", "-p", &port, "GET", "counter"]]
        {
            let output = run("redis-cli", words, "").expect("it ran before");
            let expected = (node.id + 1).to_string();
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                expected,
                "{}",
                said(&output)
            );
        }
    }
}

#[test]
fn redis_benchmark_runs_through_at_every_node_with_and_without_pipelining() {
    let cluster = Cluster::start("redis-benchmark");
    for (node, pipeline) in cluster.nodes.iter().zip(["1", "16", "16"]) {
        let port = node.client.port().to_string();
        let words = [
            "-p",
            &port,
            "-t",
            "set,get,incr",
            "-c",
            "64",
            "-n",
            "6000",
            "-P",
            pipeline,
            "-r",
            "1000",
            "-q",
        ];
        let Some(output) = run("redis-benchmark", &words, "") else { return };
        let text = said(&output);
        assert!(output.status.success(), "{text}");
        for test in ["SET:", "GET:", "INCR:"] {
            let line = text.split(['\r', '\n']).rfind(|line| line.contains(test));
            assert!(line.is_some_and(|line| line.contains("requests per second")), "{text}");
        }
        assert!(!text.contains("Error") && !text.contains("ERR"), "{text}");
    }
}

const PYTHON: &str = r#"
import sys, redis

ports = [int(port) for port in sys.argv[1:]]
for protocol in (2, 3):
    for port in ports:
        client = redis.Redis(port=port, protocol=protocol, decode_responses=True, socket_timeout=20)
        key = f"python:{protocol}:{port}"
        assert client.ping()
        assert client.set(key, "value")
        for other in ports:
            reader = redis.Redis(port=other, protocol=protocol, decode_responses=True, socket_timeout=20)
            assert reader.get(key) == "value", other
        assert client.set(key, "other", nx=True) is None
        assert client.set(key, "other", xx=True, get=True) == "value"
        assert client.getdel(key) == "other"
        assert client.get(key) is None
        binary = redis.Redis(port=port, protocol=protocol, socket_timeout=20)
        every_byte = bytes(range(256)) * 8
        assert binary.set(key, every_byte) and binary.get(key) == every_byte
        with client.pipeline(transaction=False) as pipeline:
            for number in range(300):
                pipeline.set(f"pipe:{number}", number)
            for number in range(300):
                pipeline.get(f"pipe:{number}")
            answers = pipeline.execute()
        assert answers[:300] == [True] * 300
        assert answers[300:] == [str(number) for number in range(300)]
        before = client.incrby(f"sum:{protocol}:{port}", 5)
        assert client.decr(f"sum:{protocol}:{port}") == before - 1
        assert client.mset({"{tag}a": "1", "{tag}b": "2"})
        assert client.mget("{tag}a", "{tag}b", "{tag}c") == ["1", "2", None]
        assert client.exists(key) == 1 and client.delete(key) == 1
        assert "redis_version" in client.info()
        try:
            client.execute_command("NOSUCHCOMMAND")
            raise SystemExit("an unknown command was taken")
        except redis.ResponseError as error:
            assert "unknown command" in str(error), error
    cluster = redis.RedisCluster(host="127.0.0.1", port=ports[0], protocol=protocol,
                                 decode_responses=True, socket_timeout=20)
    for number in range(100):
        assert cluster.set(f"cluster:{number}", number)
        assert cluster.get(f"cluster:{number}") == str(number)
print("python ok", redis.__version__)
"#;

#[test]
fn the_python_client_works_in_both_protocols_and_as_a_cluster_client() {
    let python = match python_with_redis() {
        Ok(python) => python,
        Err(reason) => {
            skipped(&format!("no Python with redis: {reason}"));
            return;
        }
    };
    let cluster = Cluster::start("redis-python");
    let ports: Vec<String> =
        cluster.nodes.iter().map(|node| node.client.port().to_string()).collect();
    let mut words = vec!["-c", PYTHON];
    words.extend(ports.iter().map(String::as_str));
    let output = run(&python.display().to_string(), &words, "").expect("the interpreter is there");
    let text = said(&output);
    assert!(output.status.success() && text.contains("python ok"), "{text}");
}

/// An interpreter in an environment of our own that has the client.
fn python_with_redis() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = directory.join("bin/python3");
    let has_client = || {
        let tried = Command::new(&python).args(["-c", "import redis"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    if has_client() {
        return Ok(python);
    }
    let attempt = |program: &Path, words: &[&str]| {
        let output =
            Command::new(program).args(words).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(said(&output)) }
    };
    attempt(Path::new("python3"), &["-m", "venv", &directory.display().to_string()])?;
    attempt(&python, &["-m", "pip", "install", "--quiet", "redis"])?;
    if has_client() { Ok(python) } else { Err("pip installed something else".to_owned()) }
}
