//! Data directories of every format version there was: this version reads them, finds exactly what
//! is listed beside them, and starts on a copy; and it refuses files of a newer version by name.
//!
//! `tests/fixtures/format-N/` is kept as it is from the first release with format version N on.
//! `scripts/make-fixture` makes the one of the next.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use net::resp::value::Value;
use plog::log_record::{LogRecord, record_checksum};
use plog::recovery::{Recovered, Scanner};
use plog::segment::{SegmentFileName, SegmentHeader};
use toml::Table;

use cluster::port_blocks::PortBlocks;
use cluster::resp_client::RespClient;
use cluster::{
    ANSWER_TIMEOUT, addresses, certus, refused_start, scratch_directory, text, wait_until,
};

/// The directories of all format versions, oldest first.
fn fixtures() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut fixtures: Vec<PathBuf> =
        fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    fixtures.sort();
    assert!(fixtures.iter().any(|path| path.ends_with("format-1")), "format 1 is never dropped");
    fixtures
}

/// A copy of an old data directory, made whole, with a configuration for it.
struct OldNode {
    place: PathBuf,
    data: PathBuf,
    config: PathBuf,
    client: SocketAddr,
    _port_blocks: PortBlocks,
}

impl OldNode {
    fn unpack(fixture: &Path, name: &str) -> Self {
        let version = fixture.file_name().unwrap().to_str().unwrap();
        let place = scratch_directory(&format!("{name}-{version}"));
        let data = place.join("data");
        copy(&fixture.join("data"), &data);
        for line in fs::read_to_string(fixture.join("sizes.txt")).unwrap().lines() {
            let (file, size) = line.split_once(' ').unwrap();
            let file = fs::OpenOptions::new().write(true).open(data.join(file)).unwrap();
            file.set_len(size.parse().unwrap()).unwrap();
        }
        let text = fs::read_to_string(fixture.join("certusd.toml")).unwrap();
        let mut table: Table = toml::from_str(&text).unwrap();
        table.insert("data_directory".to_owned(), data.display().to_string().into());
        // Its peers are not there, and nobody else may listen where they would.
        let (addresses, port_blocks) = addresses(9);
        let mut addresses = addresses.map(|address| address.to_string());
        for key in ["client_address", "peer_address", "admin_address"] {
            table.insert(key.to_owned(), addresses.next().unwrap().into());
        }
        for member in table["node"].as_array_mut().unwrap() {
            for key in ["client", "peer"] {
                let member = member.as_table_mut().unwrap();
                member.insert(key.to_owned(), addresses.next().unwrap().into());
            }
        }
        let client = table["client_address"].as_str().unwrap().parse().unwrap();
        let config = place.join("certusd.toml");
        fs::write(&config, toml::to_string(&table).unwrap()).unwrap();
        Self { place, data, config, client, _port_blocks: port_blocks }
    }

    fn start(&self) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_certusd"))
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.place.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut running = Running(child);
        wait_until("the node to answer", || {
            assert!(running.0.try_wait().unwrap().is_none(), "{}", self.said());
            self.client().is_ok_and(|mut client| client.ask(&["PING"]).is_ok())
        });
        running
    }

    fn client(&self) -> Result<RespClient, cluster::resp_client::ClientError> {
        RespClient::connect(self.client, ANSWER_TIMEOUT)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.join("log")).unwrap()
    }

    fn remove(self) {
        fs::remove_dir_all(self.place).unwrap();
    }
}

/// A node that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Every record of core 0's log in a line, and how the log ends.
fn listing(data: &Path) -> String {
    let mut segments = Vec::new();
    for entry in fs::read_dir(data.join("core-0")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(SegmentFileName::Segment(segment)) = SegmentFileName::parse(name) {
            segments.push((segment, fs::read(&path).unwrap()));
        }
    }
    segments.sort();
    let identity = SegmentHeader::parse(&segments[0].1).unwrap().identity;
    let mut scanner = Scanner::new(identity);
    let mut listing = String::new();
    for (segment, bytes) in segments {
        scanner.begin_segment(segment, bytes.len() as u64);
        let fed = scanner.feed(&bytes, &mut |scanned| {
            let record = &scanned.record;
            let mut encoded = vec![0; record.encoded_length()];
            record.encode_into(&mut encoded);
            assert_eq!(record_checksum(&encoded), scanned.location.checksum, "{record:?}");
            let (kind, bytes) = match record {
                LogRecord::Entry { record, .. } if record.chosen => ("entry-chosen", 0),
                LogRecord::Entry { record, .. } if record.value_id.is_some() => ("accepted", 0),
                LogRecord::Entry { .. } => ("promised", 0),
                LogRecord::Value { bytes, .. } => ("value", bytes.len()),
                LogRecord::Chosen { .. } => ("chosen", 0),
                LogRecord::Image { state, .. } => ("image", state.len()),
            };
            let summary = scanned.summary();
            let (entity, entry) = (summary.entity().0, summary.entry().0);
            let checksum = scanned.location.checksum;
            let lsn = scanned.lsn.0;
            let line = format!("{lsn} {kind} {entity:016x} {entry} {bytes} {checksum:08x}");
            writeln!(listing, "{line}").unwrap();
        });
        fed.unwrap();
    }
    let Recovered::TornTail { tail, segment, offset, .. } = scanner.finish() else {
        panic!("an old log ends in a torn write")
    };
    assert_eq!((tail.segment, tail.offset), (segment, offset));
    writeln!(listing, "torn tail in {segment} at {offset}").unwrap();
    listing
}

#[test]
fn the_records_are_those_that_are_listed() {
    for fixture in fixtures() {
        let node = OldNode::unpack(&fixture, "old-records");
        let found = listing(&node.data);
        if std::env::var_os("CERTUS_WRITE_LISTING").is_some() {
            let file = fixture.join("records.txt");
            assert!(!file.exists() || fs::read_to_string(&file).unwrap() == found);
            fs::write(&file, &found).unwrap();
        }
        let listed = fs::read_to_string(fixture.join("records.txt")).unwrap();
        assert_eq!(found, listed, "{}", fixture.display());
        for kind in ["promised", "accepted", "chosen", "value", "image", "torn tail"] {
            assert!(listed.contains(kind), "the old log has no {kind}");
        }
        node.remove();
    }
}

#[test]
fn a_node_starts_on_old_files_and_gives_back_what_it_acknowledged() {
    for fixture in fixtures() {
        let node = OldNode::unpack(&fixture, "old-start");
        for start in 1..=2 {
            let running = node.start();
            let mut client = node.client().unwrap();
            // Its peers are away, so this is its own state.
            assert_eq!(client.ask(&["READONLY"]).unwrap(), Value::OK);
            let keys = fs::read_to_string(fixture.join("keys.txt")).unwrap();
            assert!(keys.lines().count() > 10);
            for line in keys.lines() {
                let (key, value) = line.split_once(' ').unwrap();
                assert_eq!(text(&client.ask(&["GET", key]).unwrap()), value, "{key}");
            }
            let entity = client.ask(&["CERTUS", "ENTITY", "open"]).unwrap();
            let Value::Array(fields) = &entity else { panic!("{entity:?}") };
            let Some(Value::Array(open)) = fields.last() else { panic!("{fields:?}") };
            assert_eq!(open.len(), 1, "the write that nobody chose: {open:?}");
            let said = node.said();
            let torn = said.contains("the last write before the stop was cut off");
            // It wrote nothing over it, so it may be told again.
            assert!(torn || start == 2, "{said}");
            drop(running);
        }
        node.remove();
    }
}

/// What version a kind of file has, and where the checksum over it stands.
struct Versioned {
    file: &'static str,
    /// The block that the version and checksum are in.
    begin: usize,
    /// Bytes before the checksum; 0 = all but the last four of the file.
    checked: usize,
    /// The newest version that is read; the fixture's may be older.
    newest: u16,
}

#[test]
fn each_kind_of_file_of_a_newer_version_is_refused_by_name() {
    let kinds = [
        Versioned { file: "identity", begin: 0, checked: 0, newest: 1 },
        Versioned { file: "boot.copy", begin: 0, checked: 0, newest: 1 },
        Versioned { file: "peers/node-1", begin: 0, checked: 0, newest: 2 },
        Versioned { file: "core-0/0000000000000001.plog", begin: 0, checked: 64, newest: 1 },
        Versioned { file: "core-0/0000000000000001.plog", begin: 4096, checked: 60, newest: 1 },
    ];
    let newest = fixtures().pop().unwrap();
    for Versioned { file, begin, checked, newest: version } in kinds {
        let node = OldNode::unpack(&newest, "newer");
        let path = node.data.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let end = if checked == 0 { bytes.len() - 4 } else { begin + checked };
        let found = u16::from_le_bytes(bytes[begin + 8..begin + 10].try_into().unwrap());
        assert!(found <= version, "{file}: nothing of a fixture is of a newer version");
        bytes[begin + 8..begin + 10].copy_from_slice(&(version + 1).to_le_bytes());
        let checksum = crc32fast::hash(&bytes[begin..end]);
        bytes[end..end + 4].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let (status, said) = refused_start(&node.config);
        assert_eq!(status, 4, "{file}: {said}");
        let line = said.lines().find(|line| line.starts_with("certusd: fatal: ")).unwrap();
        let name = file.strip_suffix(".copy").unwrap_or(file);
        let (found, supported) =
            (format!("format version {}", version + 1), format!("up to {version}"));
        let place = node.data.display().to_string();
        for word in [place.as_str(), name, "newer Certus", &found, &supported, "start the "] {
            assert!(line.contains(word), "{word:?} is missing for {file}: {line}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{file} is left as it is");
        let verified = certus(&["plog", "verify", &node.data.display().to_string()]);
        let report = String::from_utf8_lossy(&verified.stdout).into_owned()
            + &String::from_utf8_lossy(&verified.stderr);
        assert_eq!(verified.status.code(), Some(1), "{file}: {report}");
        assert!(report.contains("newer Certus") && report.contains(&found), "{report}");
        node.remove();
    }
}
