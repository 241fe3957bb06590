//! Backups, whole and harmed.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use engine::entity_state;
use engine::request_ids::RequestIds;
use engine::state_machine::StateMachine as _;
use engine::state_machine::strings::Strings;
use plog::backup_manifest::{BackedUpCore, Manifest};
use plog::log_record::LogRecord;
use plog::vocabulary::{EntityId, Entry, Lsn};
use runtime::node::two_copies::replace_file;

use super::image_files::ImageFiles;
use super::whole_backup::{MANIFEST, WholeBackup};
use super::{places, verify};
use crate::arguments::BackupVerify;
use crate::backup::error::BackupError;
use crate::console::Console;
use crate::exit_status::ExitStatus;
use crate::progress::Progress;

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn place(name: &str) -> Place {
    let path = std::env::temp_dir().join(format!("certus-backup-{name}-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    Place(path)
}

/// An entity without keys after `applied` entries that changed nothing.
fn image(entity: u64, applied: u64) -> LogRecord {
    let mut state = Strings::default();
    for entry in 1..=applied {
        state.apply(Entry(entry), &[]).unwrap();
    }
    let mut ids = RequestIds::default();
    assert!(ids.remember(format!("id-{entity}").as_bytes(), b"+OK\r\n", 9));
    let state = entity_state::encode(&ids, &state).into();
    let (entity, applied) = (EntityId(entity), Entry(applied));
    LogRecord::Image { entity, applied, chain: 7, last_value_id: None, state }
}

/// A backup of so many entities in parts of 16 KiB.
fn write(directory: &Path, entities: u64) -> Manifest {
    let mut manifest = Manifest {
        cluster: 0xC1,
        node: 2,
        replicas: 3,
        incarnation: 5,
        backup: 99,
        began_us: 1,
        ended_us: 2,
        cores: vec![BackedUpCore { entities, last: Lsn(9), ..BackedUpCore::default() }],
        parts: Vec::new(),
    };
    let name = |directory: &Path, part: plog::checkpoint::PartId| directory.join(part.to_string());
    let mut images = ImageFiles::begin(directory.to_owned(), manifest.identity(), 16 << 10, name);
    for entity in 1..=entities {
        images.push(&image(entity, entity % 5 + 1), 0).unwrap();
    }
    assert_eq!(images.images(), entities);
    manifest.parts = images.finish().unwrap().parts;
    replace_file(&directory.join(MANIFEST), &manifest.encode().0).unwrap();
    manifest
}

fn verified(directory: &Path) -> ExitStatus {
    verify(&BackupVerify { directory: directory.to_owned() }, &mut Console::default())
}

/// Whether the backup is whole, and the images in it.
fn read(directory: &Path) -> Result<Vec<LogRecord>, BackupError> {
    let mut images = Vec::new();
    let mut visit = |image: &LogRecord, _| {
        images.push(image.clone());
        Ok(())
    };
    WholeBackup::open(directory)?.read(&Progress::silent(), &mut visit, &mut |_, _| ())?;
    Ok(images)
}

#[test]
fn what_is_written_is_read_again_whole_and_in_order() {
    for entities in [0, 1, 500] {
        let place = place(&format!("whole-{entities}"));
        let manifest = write(&place.0, entities);
        assert_eq!(manifest.parts.len() > 1, entities == 500);
        let images = read(&place.0).unwrap();
        assert_eq!(images.len(), usize::try_from(entities).unwrap());
        for (entity, found) in (1..).zip(&images) {
            assert_eq!(*found, image(entity, entity % 5 + 1));
        }
        assert_eq!(verified(&place.0), ExitStatus::Ok);
    }
}

/// Every byte of the manifest; of the parts some, since `plog` tries each byte of such files.
#[test]
fn a_changed_byte_and_a_cut_make_it_no_backup() {
    let place = place("bytes");
    let manifest = write(&place.0, 150);
    assert_eq!(manifest.parts.len(), 2);
    let parts = (0..2).map(|number| Manifest::part(number).to_string());
    for name in parts.chain([MANIFEST.to_owned()]) {
        let path = place.0.join(&name);
        let bytes = fs::read(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let (step, cut) = if name == MANIFEST { (1, 1) } else { (61, 1021) };
        for at in (0..bytes.len()).step_by(step) {
            let offset = u64::try_from(at).unwrap();
            file.write_all_at(&[bytes[at] ^ 0x20], offset).unwrap();
            assert!(read(&place.0).is_err(), "{name}: byte {at}");
            file.write_all_at(&bytes[at..=at], offset).unwrap();
        }
        for length in (0..bytes.len()).step_by(cut) {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = read(&place.0).unwrap_err();
            assert_eq!(error.status(), ExitStatus::Degraded, "{name}: cut at {length}");
        }
        fs::remove_file(&path).unwrap();
        let error = read(&place.0).unwrap_err();
        assert_eq!(error.status(), ExitStatus::Degraded, "{name} is gone");
        fs::write(&path, bytes).unwrap();
        assert!(read(&place.0).is_ok());
    }
}

#[test]
fn a_part_of_another_backup_and_counts_that_differ_are_noticed() {
    let (one, two) = (place("one"), place("two"));
    let manifest = write(&one.0, 10);
    write(&two.0, 11);
    let part = Manifest::part(0).to_string();
    fs::copy(two.0.join(&part), one.0.join(&part)).unwrap();
    let error = read(&one.0).unwrap_err();
    assert!(matches!(error, BackupError::NotWhole { .. }), "{error}");
    fs::remove_file(one.0.join(&part)).unwrap();
    let mut manifest = Manifest { parts: Vec::new(), ..manifest };
    manifest = Manifest { parts: write(&one.0, 10).parts, ..manifest };
    manifest.cores[0].entities = 9;
    replace_file(&one.0.join(MANIFEST), &manifest.encode().0).unwrap();
    let error = read(&one.0).unwrap_err().to_string();
    assert!(error.contains("9 entities") && error.contains("hold 10"), "{error}");
}

#[test]
fn what_has_no_manifest_is_no_backup_and_what_is_not_there_cannot_be_read() {
    let place = place("none");
    assert_eq!(verified(&place.0), ExitStatus::Degraded);
    assert_eq!(verified(&place.0.join("nowhere")), ExitStatus::Failed);
}

#[test]
fn a_backup_goes_where_nothing_is_and_never_into_the_data_directory() {
    let place = place("places");
    let data = place.0.join("data");
    fs::create_dir_all(data.join("core-0")).unwrap();
    let (to, temporary) = places(&place.0.join("b"), &data).unwrap();
    assert!(to.ends_with("b") && temporary.ends_with("b.new"));
    for inside in [data.join("b"), data.join("core-0/b"), place.0.join("data/../data/b")] {
        assert!(matches!(places(&inside, &data), Err(BackupError::Inside { .. })));
    }
    assert!(matches!(places(&data, &data), Err(BackupError::Exists { .. })));
    assert!(matches!(places(Path::new("/"), &data), Err(BackupError::NoName { .. })));
    assert!(matches!(places(&place.0.join("x/b"), &data), Err(BackupError::Io { .. })));
}
