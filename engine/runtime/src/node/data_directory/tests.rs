//! Directories at starts and after crashes: what is refused is left as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::abstention::Abstention;
use plog::vocabulary::{BootEpoch, Generation};

use crate::node::data_directory::boot_epoch::{BOOT, encode_boot};
use crate::node::data_directory::error::Result;
use crate::node::data_directory::identity::IDENTITY;
use crate::node::data_directory::{
    DataDirectory, DataDirectoryError, ExpectedIdentity, LockedDirectory, load_abstention,
};
use crate::node::test_directory::TestDirectory;
use crate::node::two_copies::{self, FactKind};

const EXPECTED: ExpectedIdentity = ExpectedIdentity {
    cluster_id: 7,
    node_id: 1,
    replicas: 3,
    core_count: Some(2),
    default_core_count: 8,
};

fn open(path: &Path, expected: &ExpectedIdentity) -> Result<DataDirectory> {
    LockedDirectory::take(path)?.open(expected, || Ok(0xABCD))
}

/// A directory that was started twice.
fn started() -> (TestDirectory, PathBuf) {
    let directory = TestDirectory::new();
    let path = directory.path().join("data");
    for epoch in 1..=2 {
        assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), epoch);
    }
    (directory, path)
}

/// Everything in the directory but the lock file, which holds a process id.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
            files.insert(path, Vec::new());
        } else if !path.ends_with("LOCK") {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// Opens a directory that must be refused and left as it is.
fn refused(path: &Path, expected: &ExpectedIdentity) -> DataDirectoryError {
    let before = content(path);
    let error = open(path, expected).unwrap_err();
    assert_eq!(content(path), before, "a refused directory is left as it was");
    assert!(!error.to_string().contains('\n'));
    error
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[17] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn no_boot_is_counted_beyond_its_generation() {
    let (_directory, path) = started();
    for (epoch, is_last) in [((1 << 20) - 1, false), (1 << 20, true), (u32::MAX, true)] {
        two_copies::write(&path, &BOOT, BOOT.name, &encode_boot(epoch, 0xABCD)).unwrap();
        let mut data = open(&path, &EXPECTED).unwrap();
        match data.begin_boot() {
            Ok(next) => assert!(!is_last && next == epoch + 1),
            Err(error) => {
                assert!(is_last && error.to_string().contains("last of its generation"), "{error}");
            }
        }
    }
}

#[test]
fn an_empty_directory_becomes_a_node_and_each_start_is_counted() {
    let (_directory, path) = started();
    let mut data = open(&path, &EXPECTED).unwrap();
    assert!(!data.is_new());
    assert_eq!(data.identity().incarnation, 0xABCD, "made once, then read");
    assert_eq!(data.begin_boot().unwrap(), 3);
    assert_eq!(data.begin_boot().unwrap(), 4);
    assert!(data.core(1).is_dir() && data.peers().is_dir());
}

#[test]
fn a_path_of_several_new_levels_becomes_a_node_and_stays_the_same_one() {
    let directory = TestDirectory::new();
    let path = directory.path().join("several/new/levels");
    for epoch in 1..=2 {
        let mut data = open(&path, &EXPECTED).unwrap();
        assert_eq!(data.is_new(), epoch == 1);
        assert_eq!(data.begin_boot().unwrap(), epoch);
    }
    let below_a_file = directory.path().join("file/data");
    std::fs::write(directory.path().join("file"), b"x").unwrap();
    assert!(LockedDirectory::take(&below_a_file).is_err());
}

#[test]
fn without_a_number_of_cores_the_directorys_is_taken() {
    let (_directory, path) = started();
    let any = ExpectedIdentity { core_count: None, ..EXPECTED };
    assert_eq!(open(&path, &any).unwrap().identity().core_count, 2);
    let new = TestDirectory::new();
    assert_eq!(open(new.path(), &any).unwrap().identity().core_count, 8);
}

#[test]
fn a_directory_of_another_shape_is_refused_with_what_differs() {
    let (_directory, path) = started();
    let cases = [
        (ExpectedIdentity { cluster_id: 8, ..EXPECTED }, "cluster 0x7", "`cluster_id` is 0x8"),
        (ExpectedIdentity { node_id: 2, ..EXPECTED }, "node 1", "`node_id` is 2"),
        (ExpectedIdentity { node_id: 16, ..EXPECTED }, "a replica's", "`node_id` is 16"),
        (ExpectedIdentity { replicas: 5, ..EXPECTED }, "of 3 nodes", "`node` is 5"),
        (ExpectedIdentity { core_count: Some(4), ..EXPECTED }, "2 cores", "`cores` is 4"),
    ];
    for (expected, found, wanted) in cases {
        let message = refused(&path, &expected).to_string();
        assert!(message.contains(found) && message.contains(wanted), "{message}");
    }
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let (_directory, path) = started();
    let _held = open(&path, &EXPECTED).unwrap();
    let error = LockedDirectory::take(&path).unwrap_err();
    assert!(matches!(error, DataDirectoryError::Locked { .. }));
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn what_is_no_certus_directory_is_not_touched() {
    let directory = TestDirectory::new();
    std::fs::write(directory.path().join("letters.txt"), b"dear").unwrap();
    let error = refused(directory.path(), &EXPECTED);
    assert!(error.to_string().contains("`letters.txt`"), "{error}");
    assert!(!directory.path().join("LOCK").exists());
    let file = directory.path().join("letters.txt");
    let error = LockedDirectory::take(&file).unwrap_err();
    assert!(matches!(error, DataDirectoryError::NotADirectory { .. }));
}

#[test]
fn one_flipped_byte_is_repaired_from_the_other_copy() {
    for name in ["identity", "identity.copy", "boot", "boot.copy"] {
        let (_directory, path) = started();
        let before = std::fs::read(path.join(name)).unwrap();
        flip(&path.join(name));
        let mut data = open(&path, &EXPECTED).unwrap();
        assert_eq!(data.begin_boot().unwrap(), 3, "{name}");
        drop(data);
        let after = std::fs::read(path.join(name)).unwrap();
        if name.starts_with("identity") {
            assert_eq!(after, before, "{name}");
        }
        assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 4, "{name}");
    }
}

#[test]
fn two_damaged_copies_are_refused() {
    for name in ["identity", "boot"] {
        let (_directory, path) = started();
        flip(&path.join(name));
        flip(&path.join(format!("{name}.copy")));
        let error = refused(&path, &EXPECTED);
        assert!(matches!(error, DataDirectoryError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn a_boot_epoch_that_is_gone_is_never_guessed() {
    let (_directory, path) = started();
    std::fs::remove_file(path.join("boot")).unwrap();
    assert!(open(&path, &EXPECTED).is_ok(), "one copy is enough");
    std::fs::remove_file(path.join("boot.copy")).unwrap();
    let error = refused(&path, &EXPECTED);
    assert!(matches!(error, DataDirectoryError::FileMissing { missing: "boot", .. }), "{error}");
}

#[test]
fn a_log_without_an_identity_does_not_start_as_a_new_node() {
    let (_directory, path) = started();
    std::fs::write(path.join("core-1").join("0000000000000001.plog"), b"x").unwrap();
    std::fs::remove_file(path.join("identity")).unwrap();
    std::fs::remove_file(path.join("identity.copy")).unwrap();
    let error = refused(&path, &EXPECTED);
    assert!(error.to_string().contains("0000000000000001.plog"), "{error}");
}

#[test]
fn a_crash_while_a_directory_is_made_leaves_one_that_is_made_anew() {
    let (_directory, path) = started();
    // What is written before the identity, and nothing after it.
    std::fs::remove_file(path.join("identity")).unwrap();
    std::fs::remove_file(path.join("identity.copy")).unwrap();
    std::fs::write(path.join("identity.new"), b"half").unwrap();
    let mut data = open(&path, &EXPECTED).unwrap();
    assert!(data.is_new());
    assert_eq!(data.begin_boot().unwrap(), 1);
}

#[test]
fn a_crash_between_the_two_boot_files_never_takes_an_epoch_back() {
    let (_directory, path) = started();
    let older = std::fs::read(path.join("boot.copy")).unwrap();
    assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 3);
    std::fs::write(path.join("boot.copy"), &older).unwrap();
    assert_eq!(open(&path, &EXPECTED).unwrap().begin_boot().unwrap(), 4);
}

#[test]
fn files_from_a_newer_version_are_refused_as_such() {
    for kind in [IDENTITY, BOOT] {
        let (_directory, path) = started();
        let newer = FactKind { version: kind.version + 1, ..kind };
        two_copies::write(&path, &newer, kind.name, b"who knows").unwrap();
        let error = refused(&path, &EXPECTED);
        assert!(matches!(error, DataDirectoryError::Newer { .. }), "{error}");
        assert!(error.to_string().contains("newer Certus"), "{error}");
    }
}

#[test]
fn boot_files_of_another_directory_are_noticed() {
    let (_directory, path) = started();
    for name in ["boot", "boot.copy"] {
        let mut fact = 9_u32.to_le_bytes().to_vec();
        fact.extend_from_slice(&1_u128.to_le_bytes());
        two_copies::write(&path, &BOOT, "boot", &fact).unwrap();
        assert!(path.join(name).exists());
    }
    let error = refused(&path, &EXPECTED);
    assert!(error.to_string().contains("another incarnation"), "{error}");
}

/// A directory that was begun as that of a node in the place of a lost one.
fn replacing() -> (TestDirectory, PathBuf) {
    let directory = TestDirectory::new();
    let path = directory.path().join("data");
    LockedDirectory::take(&path).unwrap().begin_replacement().unwrap();
    (directory, path)
}

#[test]
fn a_node_in_the_place_of_a_lost_one_registers_until_its_first_boot_whatever_crash_comes() {
    let (_directory, path) = replacing();
    let incarnation = |number: u128| move || Ok(number);
    // Nothing but the note was made before a crash.
    let take = || LockedDirectory::take(&path).unwrap();
    take().begin_replacement().unwrap();
    let data = take().open(&EXPECTED, incarnation(1)).unwrap();
    assert!(data.is_new() && data.is_registering());
    drop(data);
    // The identity was made, and nobody knows it yet.
    take().begin_replacement().unwrap();
    let mut data = take().open(&EXPECTED, incarnation(2)).unwrap();
    assert!(data.is_registering() && data.identity().incarnation == 1);
    data.begin_registered(Generation(2)).unwrap();
    assert_eq!(data.next_epoch().unwrap(), (2 << 20) + 1);
    drop(data);
    // Enough knew it, and no boot was counted: it registers again, perhaps as a later one.
    let mut data = open(&path, &EXPECTED).unwrap();
    assert!(data.is_registering() && data.next_epoch().unwrap() == 1);
    data.begin_registered(Generation(3)).unwrap();
    let note = path.join("registering");
    let bytes = std::fs::read(&note).unwrap();
    assert_eq!(data.begin_boot().unwrap(), (3 << 20) + 1);
    assert!(!data.is_registering() && !note.exists());
    for core in 0..2 {
        let lost = load_abstention(&data.core(core)).unwrap().unwrap();
        assert_eq!(lost, Abstention::of_new_directory(Generation(3).epoch_before()));
        assert!(lost.is_made_up_for(BootEpoch((3 << 20) + 1)));
    }
    assert_eq!(data.lost_cores().unwrap(), [], "the generation that began makes up for it");
    drop(data);
    // The boot was counted, and the note is still there.
    std::fs::write(&note, bytes).unwrap();
    let mut data = open(&path, &EXPECTED).unwrap();
    assert!(!data.is_registering() && !note.exists());
    assert_eq!(data.begin_boot().unwrap(), (3 << 20) + 2);
}

#[test]
fn only_an_empty_directory_is_a_lost_nodes() {
    let (_directory, path) = started();
    let before = content(&path);
    let error = LockedDirectory::take(&path).unwrap().begin_replacement().unwrap_err();
    assert!(matches!(error, DataDirectoryError::HoldsNode { .. }), "{error}");
    assert_eq!(content(&path), before);
    std::fs::remove_file(path.join("identity")).unwrap();
    std::fs::remove_file(path.join("identity.copy")).unwrap();
    std::fs::write(path.join("core-1").join("0000000000000001.plog"), b"x").unwrap();
    assert!(LockedDirectory::take(&path).unwrap().begin_replacement().is_err(), "there is a log");
    assert!(!path.join("registering").exists());
}

#[test]
fn what_says_that_a_node_registers_is_not_guessed() {
    let (_directory, path) = replacing();
    open(&path, &EXPECTED).unwrap();
    let [first, second] = ["registering", "registering.copy"].map(|name| path.join(name));
    std::fs::remove_file(&first).unwrap();
    assert!(open(&path, &EXPECTED).unwrap().is_registering(), "one copy is enough");
    std::fs::write(&second, b"noise").unwrap();
    let error = refused(&path, &EXPECTED);
    assert!(error.to_string().contains("registering"), "{error}");
}

/// The expected identity of a node of a cluster that was made from a backup.
const OF_A_BACKUP: ExpectedIdentity =
    ExpectedIdentity { cluster_id: 0x5265_1234_5678_0001, ..EXPECTED };

#[test]
fn a_node_of_a_restored_cluster_begins_in_no_empty_directory() {
    let directory = TestDirectory::new();
    let error = refused(directory.path(), &OF_A_BACKUP);
    assert!(matches!(error, DataDirectoryError::NotRestored { .. }), "{error}");
    assert!(error.to_string().contains("backup 12345678"), "{error}");
    let locked = LockedDirectory::take(directory.path()).unwrap();
    assert!(locked.inspect(&OF_A_BACKUP).is_err(), "it is refused before anything is made");
    // One in the place of a lost node is made from the others, and goes on by itself.
    let locked = locked.replacing(true);
    assert_eq!(locked.inspect(&OF_A_BACKUP).unwrap(), None);
    locked.begin_replacement().unwrap();
    drop(locked);
    assert!(open(directory.path(), &OF_A_BACKUP).unwrap().is_registering());
}

#[test]
fn a_restored_directory_starts_when_it_is_finished_and_not_before() {
    let directory = TestDirectory::new();
    let path = directory.path().join("data");
    let begin =
        || LockedDirectory::take(&path)?.begin_restore(&OF_A_BACKUP, || Ok(0xABCD)).map(Some);
    let begun = begin().unwrap().unwrap();
    assert_eq!(begun.core_count(), 2);
    assert_eq!(begun.log_identity(1).cluster, OF_A_BACKUP.cluster_id);
    drop(begun);
    for expected in [OF_A_BACKUP, EXPECTED] {
        let error = refused(&path, &expected);
        assert!(matches!(error, DataDirectoryError::HalfRestored { .. }), "{error}");
    }
    let survey = crate::node::data_directory::Survey::look(&path).unwrap();
    assert_eq!(survey.verdict(), crate::node::data_directory::Verdict::Damaged);
    assert!(begin().is_err(), "nor does a second restore go on with it");
    std::fs::remove_dir_all(&path).unwrap();
    begin().unwrap().unwrap().undo().unwrap();
    assert!(content(&path).is_empty(), "it is as it was");
    let begun = begin().unwrap().unwrap();
    std::fs::write(begun.core(1).join("x"), b"x").unwrap();
    begun.finish().unwrap();
    assert!(path.join("core-1/x").exists());
    let mut data = open(&path, &OF_A_BACKUP).unwrap();
    assert!(!data.is_new());
    assert_eq!(data.begin_boot().unwrap(), 1);
    drop(data);
    let error = begin().unwrap_err();
    assert!(matches!(error, DataDirectoryError::NotEmpty { .. }), "{error}");
    assert_eq!(open(&path, &OF_A_BACKUP).unwrap().identity().incarnation, 0xABCD);
}
