//! A backup that is there: its manifest, and every byte of its parts.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use plog::backup_manifest::{BackupNumber, MANIFEST_BYTES_MAX, Manifest};
use plog::checkpoint::check::PartSummary;
use plog::log_record::LogRecord;
use runtime::node::log_line;

use crate::backup::error::BackupError;
use crate::backup::portable_image::portable_image;
use crate::node_files::part_file::{WholePart, read_part_at};
use crate::progress::Progress;

/// The file of the manifest.
pub const MANIFEST: &str = "manifest";

/// A backup whose manifest is whole.
#[derive(Debug)]
pub struct WholeBackup {
    pub directory: PathBuf,
    pub manifest: Manifest,
    pub number: BackupNumber,
}

impl WholeBackup {
    /// Reads the manifest in `directory`.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be used.
    pub fn open(directory: &Path) -> Result<Self, BackupError> {
        let path = directory.join(MANIFEST);
        let failed = |error| BackupError::Io { path: path.clone(), error };
        if !directory.is_dir() {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(BackupError::Io { path: directory.to_owned(), error });
        }
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::NoManifest { path: directory.to_owned() });
            }
            file => file.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(MANIFEST_BYTES_MAX + 1).expect("a few megabytes");
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        match Manifest::decode(&bytes) {
            Ok((manifest, number)) => {
                Ok(Self { directory: directory.to_owned(), manifest, number })
            }
            Err(error) => Err(BackupError::Manifest { path, error }),
        }
    }

    /// Reads every byte, and hands each image to `visit` with its number of keys, and after each
    /// part its number and what it holds to `told`. What was handed out counts only if no fault is
    /// found.
    ///
    /// # Errors
    ///
    /// What is not whole, and the error of `visit`.
    pub fn read(
        &self,
        progress: &Progress,
        visit: &mut dyn FnMut(&LogRecord, u32) -> io::Result<()>,
        told: &mut dyn FnMut(u16, &WholePart),
    ) -> Result<(), BackupError> {
        let identity = self.manifest.identity();
        let (mut entities, mut keys) = (0, 0);
        for (number, said) in (0..=u16::MAX).zip(&self.manifest.parts) {
            let part = Manifest::part(number);
            let path = self.directory.join(part.to_string());
            let not_whole = |what: String| BackupError::NotWhole { path: path.clone(), what };
            progress.come_to(part.to_string());
            let mut failed = None;
            let read = read_part_at(&path, &identity, part, progress, &mut |record| {
                if failed.is_some() {
                    return;
                }
                match portable_image(&record) {
                    Ok((image, count)) => {
                        keys += u64::from(count);
                        failed = visit(&image, count).map_err(BackupError::Write).err();
                    }
                    Err(what) => failed = Some(not_whole(what)),
                }
            });
            let whole = match read {
                Ok(whole) => whole,
                Err(error) => return Err(BackupError::Part { path, error }),
            };
            if let Some(error) = failed {
                return Err(error);
            }
            let PartSummary { images, abstaining } = whole.summary;
            let is_last = usize::from(number) + 1 == self.manifest.parts.len();
            let differs = (whole.bytes, whole.checksum) != (said.bytes, said.checksum);
            if differs || abstaining > 0 || whole.is_last != is_last {
                return Err(not_whole("it is not the file that the manifest names".to_owned()));
            }
            entities += images;
            told(number, &whole);
        }
        let said = (self.manifest.entities(), self.manifest.keys());
        if said != (entities, keys) {
            let what = format!(
                "it names {} entities and {} keys, the parts hold {entities} and {keys}",
                said.0, said.1
            );
            return Err(BackupError::NotWhole { path: self.directory.join(MANIFEST), what });
        }
        Ok(())
    }

    /// What it is, in lines.
    pub fn lines(&self) -> Vec<String> {
        let manifest = &self.manifest;
        let ids = self.number.cluster_ids();
        let mut lines = vec![
            format!(
                "backup {} of cluster {:#018x} node {} (one of {}), by its clock from {} to {}",
                self.number,
                manifest.cluster,
                manifest.node,
                manifest.replicas,
                moment(manifest.began_us),
                moment(manifest.ended_us)
            ),
            format!(
                "  {} entities, {} keys, {} bytes in {} parts",
                manifest.entities(),
                manifest.keys(),
                manifest.bytes(),
                manifest.parts.len()
            ),
        ];
        for (number, core) in manifest.cores.iter().enumerate() {
            lines.push(format!(
                "  core {number}: {} entities, {} keys, of checkpoint {} and the log up to record \
                 {}; {} entries left out that nothing there says are chosen",
                core.entities, core.keys, core.checkpoint, core.last.0, core.held_back
            ));
        }
        lines.push(format!(
            "  a cluster restored from it has a cluster_id from {:#018x} to {:#018x}",
            ids.start(),
            ids.end()
        ));
        lines
    }
}

fn moment(us: u64) -> String {
    let mut text = String::new();
    log_line::push_time(&mut text, UNIX_EPOCH + Duration::from_micros(us));
    text
}
