//! The facts of a data directory, as the format page shows them, are what the code writes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};

use engine::abstention::Abstention;
use engine::membership::MembershipVotes;
use plog::checkpoint::CheckpointId;
use plog::checkpoint::pointer::Pointer;
use plog::configuration::{Configuration, Members};
use plog::segment::SegmentId;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, Generation, Lsn};
use runtime::node::checkpoint_files::write_pointer;
use runtime::node::data_directory::{
    ExpectedIdentity, LockedDirectory, LogLife, write_abstention, write_log_life,
};
use runtime::node::known_incarnations::{KnownIncarnations, Meeting};
use runtime::node::known_membership::KnownMembership;
use runtime::node::membership_facts::MembershipFacts;

const PAGE: &str = include_str!("../../../docs/FORMAT.md");

/// A node's directory that goes with its owner.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("```text\n");
    for (number, line) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("{:04x}  {}\n", number * 16, digits.join(" ")));
    }
    text.push_str("```\n");
    text
}

/// Another node's directory of this test, with nothing in it.
fn empty(name: &str) -> Directory {
    let name = format!("certus-format-{name}-{}", std::process::id());
    let directory = Directory(std::env::temp_dir().join(name));
    // One left by an earlier process with this number means nothing.
    std::fs::remove_dir_all(&directory.0).ok();
    directory
}

/// The node of the page's example: started for the third time, acquainted with node 1, and with
/// damage in one log.
fn example() -> Directory {
    let directory = empty("node");
    let expected = ExpectedIdentity {
        cluster_id: 0xc1,
        node_id: 2,
        replicas: 3,
        core_count: Some(4),
        default_core_count: 1,
    };
    let incarnation = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;
    let locked = LockedDirectory::take(&directory.0).unwrap();
    let mut data = locked.open(&expected, || Ok(incarnation)).unwrap();
    for epoch in 1..=3 {
        assert_eq!(data.begin_boot().unwrap(), epoch);
    }
    let known = KnownIncarnations::load(&data.peers()).unwrap();
    let of_the_peer = 0xffee_ddcc_bbaa_9988_7766_5544_3322_1100;
    assert_eq!(known.meet(1, of_the_peer, Generation(1)).unwrap(), Meeting::Welcome);
    let since = BootEpoch(3);
    let found = Abstention { since, segment: SegmentId(7), offset: 0x2000 };
    write_abstention(&data.core(1), &found).unwrap();
    let incarnation = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
    let life = LogLife { incarnation, generation: Generation(1) };
    write_log_life(&data.core(1), &life).unwrap();
    let pointer = Pointer {
        checkpoint: CheckpointId(2),
        parts: 1,
        floor: SegmentId(7),
        settled: Lsn(1234),
        bytes: 16384,
    };
    write_pointer(&data.core(1), pointer).unwrap();
    directory
}

/// Every file under `directory`, by its path in it.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(inner) = open.pop() {
        for entry in std::fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_facts_on_the_format_page_are_what_is_written() {
    let directory = example();
    for (name, length) in [
        ("identity", 48),
        ("boot", 40),
        ("peers/node-1", 44),
        ("core-1/abstains", 40),
        ("core-1/checkpoint", 60),
        ("core-1/log", 40),
    ] {
        let bytes = std::fs::read(directory.0.join(name)).unwrap();
        assert_eq!(bytes.len(), length, "{name}");
        let shown = format!("`{name}`:\n\n{}", hex(&bytes));
        assert!(PAGE.contains(&shown), "docs/FORMAT.md should show as\n{shown}");
        assert_eq!(std::fs::read(directory.0.join(format!("{name}.copy"))).unwrap(), bytes);
    }
    let lock = std::fs::read_to_string(directory.0.join("LOCK")).unwrap();
    assert_eq!(lock, format!("{}\n", std::process::id()));
    // Nothing else is there, so that nothing is left out of the page.
    let wanted = [
        "LOCK",
        "boot",
        "boot.copy",
        "core-1/abstains",
        "core-1/abstains.copy",
        "core-1/checkpoint",
        "core-1/checkpoint.copy",
        "core-1/log",
        "core-1/log.copy",
        "identity",
        "identity.copy",
        "peers/node-1",
        "peers/node-1.copy",
        "slack",
    ];
    assert_eq!(files(&directory.0), wanted);
}

#[test]
fn what_says_that_a_node_registers_is_on_the_format_page() {
    let directory = empty("registering");
    LockedDirectory::take(&directory.0).unwrap().begin_replacement().unwrap();
    let bytes = std::fs::read(directory.0.join("registering")).unwrap();
    let shown = format!("`registering`:\n\n{}", hex(&bytes));
    assert!(PAGE.contains(&shown), "docs/FORMAT.md should show as\n{shown}");
    assert_eq!(files(&directory.0), ["LOCK", "registering", "registering.copy"]);
}

#[test]
fn who_the_members_are_is_on_the_format_page() {
    let directory = empty("membership");
    std::fs::create_dir_all(&directory.0).unwrap();
    let configuration = |version: u32, learners: u8| Configuration {
        version,
        voters: Members::from_bits(0b1011),
        learners: Members::from_bits(learners),
    };
    let ballot = Ballot { round: 2, epoch: BootEpoch(3), acceptor: AcceptorId(1) };
    let accepted = Some((ballot, configuration(3, 0b1_0000)));
    let votes = MembershipVotes { instance: 3, promised: ballot, accepted, floor: Some(0) };
    let facts = MembershipFacts { configuration: configuration(2, 0), votes };
    KnownMembership::load(&directory.0, Some(facts)).unwrap();
    let bytes = std::fs::read(directory.0.join("membership")).unwrap();
    let shown = format!("`membership`:\n\n{}", hex(&bytes));
    assert!(PAGE.contains(&shown), "docs/FORMAT.md should show as\n{shown}");
    assert_eq!(files(&directory.0), ["membership", "membership.copy"]);
}
