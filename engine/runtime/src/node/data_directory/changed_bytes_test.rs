//! Every byte of every small file, changed in three ways: seen by a survey, and at a start either
//! made up for by the other copy or refused, and never taken for another value.

use std::path::Path;

use plog::vocabulary::Generation;

use crate::node::data_directory::boot_epoch::BOOT;
use crate::node::data_directory::survey::{Survey, Verdict};
use crate::node::data_directory::{
    DataDirectory, DataDirectoryError, ExpectedIdentity, LockedDirectory,
};
use crate::node::known_incarnations::{IncarnationError, KnownIncarnations, Meeting};
use crate::node::known_life;
use crate::node::test_directory::TestDirectory;
use crate::node::two_copies::{self, FactKind};

const EXPECTED: ExpectedIdentity = ExpectedIdentity {
    cluster_id: 0xC0FFEE,
    node_id: 1,
    replicas: 3,
    core_count: Some(2),
    default_core_count: 2,
};
const INCARNATION: u128 = 0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF;
const PEER: u128 = INCARNATION >> 3;
const EPOCH: u32 = 2;

/// One bit at either end of a byte, and all of them.
const MASKS: [u8; 3] = [0x01, 0x80, 0xff];

const FACTS: [&str; 3] = ["identity", "boot", "peers/node-0"];

fn open(path: &Path) -> Result<DataDirectory, DataDirectoryError> {
    LockedDirectory::take(path)?.open(&EXPECTED, || Ok(INCARNATION))
}

/// A directory that was started twice and met a peer.
fn started() -> TestDirectory {
    let directory = TestDirectory::in_memory();
    for epoch in 1..=EPOCH {
        assert_eq!(open(directory.path()).unwrap().begin_boot().unwrap(), epoch);
    }
    let known = KnownIncarnations::load(&directory.path().join("peers")).unwrap();
    assert_eq!(known.meet(0, PEER, Generation::FIRST).unwrap(), Meeting::Welcome);
    directory
}

/// What is wrong, by file.
fn damaged(path: &Path) -> Vec<String> {
    let findings = Survey::look_once(path).unwrap().findings.into_iter();
    let damaged = findings.filter(|finding| finding.verdict == Verdict::Damaged);
    damaged.map(|finding| finding.file).collect()
}

/// Every byte of the file at `path` by every mask, one after the other; it is put back each time.
fn each_change(path: &Path, mut look: impl FnMut(&[u8], &str)) -> usize {
    let whole = std::fs::read(path).unwrap();
    for position in 0..whole.len() {
        for mask in MASKS {
            let mut changed = whole.clone();
            changed[position] ^= mask;
            look(&changed, &format!("byte {position} of {}, {mask:#x}", path.display()));
        }
    }
    std::fs::write(path, &whole).unwrap();
    whole.len()
}

#[test]
fn a_changed_byte_in_one_copy_is_seen_and_made_up_for_by_the_other() {
    let directory = started();
    let path = directory.path();
    assert_eq!(damaged(path), [""; 0]);
    let mut bytes = 0;
    for fact in FACTS {
        let files = [fact.to_owned(), format!("{fact}.copy")];
        let whole = std::fs::read(path.join(fact)).unwrap();
        for file in &files {
            bytes += each_change(&path.join(file), |changed, what| {
                std::fs::write(path.join(file), changed).unwrap();
                assert_eq!(damaged(path), [file.as_str()], "{what}");
                let mut data = open(path).unwrap();
                let identity = *data.identity();
                assert_eq!((identity.cluster_id, identity.node_id), (0xC0FFEE, 1), "{what}");
                assert_eq!((identity.replicas, identity.core_count), (3, 2), "{what}");
                assert_eq!(identity.incarnation, INCARNATION, "{what}");
                assert_eq!(data.next_epoch().unwrap(), EPOCH + 1, "{what}");
                let known = KnownIncarnations::load(&data.peers()).unwrap();
                assert_eq!(known.lookup(0).unwrap().incarnation, Some(PEER), "{what}");
                if fact == BOOT.name {
                    assert_eq!(data.begin_boot().unwrap(), EPOCH + 1, "{what}");
                    assert_eq!(damaged(path), [""; 0], "{what}");
                    for file in &files {
                        std::fs::write(path.join(file), &whole).unwrap();
                    }
                } else {
                    assert_eq!(damaged(path), [""; 0], "{what}");
                }
                for file in &files {
                    assert_eq!(std::fs::read(path.join(file)).unwrap(), whole, "{what}");
                }
            });
        }
    }
    assert_eq!(bytes, 2 * (48 + 40 + 44), "every file was looked at in full");
}

#[test]
fn a_changed_byte_in_both_copies_is_seen_and_refused() {
    let directory = started();
    let path = directory.path();
    for fact in FACTS {
        let files = [fact.to_owned(), format!("{fact}.copy")];
        let [first, second] = files.each_ref().map(|file| path.join(file));
        let whole = std::fs::read(&second).unwrap();
        each_change(&first, |changed, what| {
            std::fs::write(&first, changed).unwrap();
            std::fs::write(&second, changed).unwrap();
            let seen: Vec<String> =
                damaged(path).into_iter().filter(|file| files.contains(file)).collect();
            assert_eq!(seen, files, "{what}");
            if fact.starts_with("peers/") {
                let error = KnownIncarnations::load(&path.join("peers")).unwrap_err();
                assert!(matches!(error, IncarnationError::Damaged { node_id: 0, .. }), "{what}");
            } else {
                let error = open(path).unwrap_err();
                assert!(
                    matches!(&error, DataDirectoryError::Damaged { file, .. } if *file == fact),
                    "{what}: {error}"
                );
            }
            for file in [&first, &second] {
                assert_eq!(std::fs::read(file).unwrap(), changed, "{what}: nothing is changed");
            }
        });
        std::fs::write(&second, &whole).unwrap();
    }
    assert_eq!(damaged(path), [""; 0]);
    assert_eq!(open(path).unwrap().next_epoch().unwrap(), EPOCH + 1);
}

#[test]
fn a_directory_of_a_started_node_that_is_gone_is_seen_and_refused() {
    for missing in ["core-0", "core-1", "peers"] {
        let directory = started();
        let path = directory.path();
        std::fs::rename(path.join(missing), path.join("core-9")).unwrap();
        assert_eq!(damaged(path), [missing]);
        let error = open(path).unwrap_err();
        assert!(matches!(&error, DataDirectoryError::DirectoryMissing { .. }), "{error}");
        assert!(error.to_string().contains(&format!("has no {missing}")), "{error}");
        assert!(!path.join(missing).exists(), "nothing is made in its place");
    }
}

#[test]
fn a_crash_before_the_first_start_leaves_directories_to_be_made() {
    let directory = TestDirectory::in_memory();
    drop(open(directory.path()).unwrap());
    for made in ["core-0", "core-1", "peers"] {
        std::fs::remove_dir(directory.path().join(made)).unwrap();
    }
    assert_eq!(damaged(directory.path()), [""; 0]);
    assert_eq!(open(directory.path()).unwrap().begin_boot().unwrap(), 1);
}

#[test]
fn a_newer_copy_of_what_is_known_of_a_peer_is_refused_as_such() {
    let kind = known_life::KIND;
    let newer = FactKind { version: kind.version + 1, ..kind };
    for both in [true, false] {
        let directory = started();
        let peers = directory.path().join("peers");
        let whole = std::fs::read(peers.join("node-0")).unwrap();
        two_copies::write(&peers, &newer, "node-0", b"who knows").unwrap();
        if !both {
            std::fs::write(peers.join("node-0"), &whole).unwrap();
        }
        let error = KnownIncarnations::load(&peers).unwrap_err().to_string();
        for word in ["node-0", "format version 3", "up to 2", "start the version"] {
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(damaged(directory.path()), ["peers/node-0", "peers/node-0.copy"]);
    }
}

#[test]
fn files_of_others_and_half_made_ones_are_told_apart() {
    let directory = started();
    let path = directory.path();
    for name in ["identity.new", "peers/node-2.4.new", "peers/letters.txt"] {
        std::fs::write(path.join(name), b"half").unwrap();
    }
    std::fs::create_dir(path.join("core-7")).unwrap();
    let survey = Survey::look_once(path).unwrap();
    assert_eq!(survey.verdict(), Verdict::Odd);
    let odd = survey.findings.iter().filter(|finding| finding.verdict == Verdict::Odd);
    let odd: Vec<&str> = odd.map(|finding| finding.file.as_str()).collect();
    assert_eq!(odd, ["core-7", "identity.new", "peers/letters.txt", "peers/node-2.4.new"]);
    std::fs::write(path.join("letters.txt"), b"dear").unwrap();
    assert_eq!(damaged(path), ["letters.txt"]);
    std::fs::write(path.join("boot.copy"), std::fs::read(path.join("identity")).unwrap()).unwrap();
    assert_eq!(damaged(path), ["boot.copy", "letters.txt"]);
}

#[test]
fn an_older_epoch_in_one_copy_is_what_a_crash_leaves() {
    let directory = started();
    let path = directory.path();
    let older = std::fs::read(path.join("boot.copy")).unwrap();
    assert_eq!(open(path).unwrap().begin_boot().unwrap(), EPOCH + 1);
    std::fs::write(path.join("boot.copy"), older).unwrap();
    let survey = Survey::look_once(path).unwrap();
    let boots = survey.findings.iter().filter(|finding| finding.file.starts_with("boot"));
    let boots: Vec<String> = boots.map(ToString::to_string).collect();
    assert_eq!(boots[0], "boot: boot epoch 3");
    assert!(
        boots[1].starts_with("boot.copy: note: boot epoch 2: a start, or a crash"),
        "{boots:?}"
    );
}
