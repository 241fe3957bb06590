//! Images written to the parts of a checkpoint, one file after the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use plog::backup_manifest::BackedUpPart;
use plog::checkpoint::writer::CheckpointWriter;
use plog::checkpoint::{CheckpointId, PartId};
use plog::identity::LogIdentity;
use plog::log_record::LogRecord;
use plog::segment::SegmentId;
use plog::vocabulary::Lsn;

/// The part being written.
struct OpenPart {
    file: File,
    path: PathBuf,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

/// Writes images to files in one directory. None of them is there before.
pub struct ImageFiles {
    directory: PathBuf,
    /// What a part's file is called.
    name: fn(&Path, PartId) -> PathBuf,
    writer: CheckpointWriter,
    open: Option<OpenPart>,
    parts: Vec<BackedUpPart>,
    images: u64,
}

/// What was written, durable but for the names.
#[derive(Debug)]
pub struct WrittenImages {
    pub parts: Vec<BackedUpPart>,
    pub bytes: u64,
}

impl ImageFiles {
    /// Begins the first checkpoint of `identity`'s core, in files that `name` names, with
    /// `part_bytes` each. It needs nothing of a log.
    pub fn begin(
        directory: PathBuf,
        identity: LogIdentity,
        part_bytes: u32,
        name: fn(&Path, PartId) -> PathBuf,
    ) -> Self {
        let (id, floor) = (CheckpointId::FIRST, SegmentId::FIRST);
        let writer = CheckpointWriter::new(identity, id, floor, Lsn::ZERO, part_bytes);
        Self { directory, name, writer, open: None, parts: Vec::new(), images: 0 }
    }

    /// Adds an image.
    ///
    /// # Errors
    ///
    /// The file and the operating system's reason.
    pub fn push(&mut self, image: &LogRecord, keys: u32) -> io::Result<()> {
        while self.writer.is_full() {
            self.write()?;
        }
        self.writer.push(image, keys);
        self.images += 1;
        Ok(())
    }

    /// How many images were added so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// Writes what is left, and makes all parts durable.
    ///
    /// # Errors
    ///
    /// The file and the operating system's reason.
    pub fn finish(mut self) -> io::Result<WrittenImages> {
        self.writer.finish();
        while !self.writer.is_done() {
            self.write()?;
        }
        self.close()?;
        Ok(WrittenImages { parts: self.parts, bytes: self.writer.bytes() })
    }

    fn write(&mut self) -> io::Result<()> {
        let write = self.writer.poll_write().expect("a writer that is full has a write");
        if write.offset == 0 {
            self.close()?;
            let path = (self.name)(&self.directory, write.part);
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            let file = made.map_err(|error| named(&path, &error))?;
            self.open = Some(OpenPart { file, path, hasher: crc32fast::Hasher::new(), bytes: 0 });
        }
        let open = self.open.as_mut().expect("the first write of a part is at its beginning");
        assert_eq!(open.bytes, write.offset, "a part is written from its beginning to its end");
        let written = open.file.write_all_at(&write.buffer, write.offset);
        written.map_err(|error| named(&open.path, &error))?;
        open.hasher.update(&write.buffer);
        open.bytes += u64::try_from(write.buffer.len()).expect("a length fits 64 bits");
        self.writer.handle_written(write.buffer);
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.sync_all().map_err(|error| named(&open.path, &error))?;
        self.parts.push(BackedUpPart { bytes: open.bytes, checksum: open.hasher.finalize() });
        Ok(())
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
