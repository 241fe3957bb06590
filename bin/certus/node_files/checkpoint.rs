//! `certus plog verify` of a core's checkpoint: which one counts, and every byte of it.

use std::fs::File;
use std::io;
use std::path::Path;

use plog::block::{AlignedBuffer, BLOCK_SIZE};
use plog::checkpoint::PartId;
use plog::checkpoint::check::{PartCheck, PartSummary};
use plog::checkpoint::pointer::Pointer;
use plog::checkpoint::seal::Seal;
use plog::identity::LogIdentity;
use plog::vocabulary::EntityId;
use runtime::node::checkpoint_files::{POINTER, read_pointer, read_tables};
use runtime::node::data_directory::Verdict;
use runtime::node::two_copies::Copies;

use crate::node_files::log_files::{Listing, LogFilesError, open};
use crate::node_files::reading::{CHUNK_SIZE, Source as _, chunk_at};
use crate::node_files::verify::Report;

/// How often reading begins anew when another checkpoint is adopted meanwhile.
const ATTEMPTS: usize = 50;

/// What was found of one part, in words.
type Finding = (Verdict, String);

/// Looks at the checkpoint of the core whose directory is `directory`.
///
/// # Errors
///
/// When which checkpoint counts is not known, or files go away all the time.
pub fn verify(
    directory: &Path,
    identity: LogIdentity,
    report: &mut Report<'_>,
) -> Result<(), LogFilesError> {
    for _ in 0..ATTEMPTS {
        let pointer = read_pointer(directory, false)?;
        let findings = pointer.map_or_else(Vec::new, |p| look(directory, identity, p));
        let is_whole = findings.iter().all(|(verdict, _)| *verdict != Verdict::Damaged);
        let now = read_pointer(directory, false)?;
        let is_current = now.map(|now| now.checkpoint) == pointer.map(|p| p.checkpoint);
        if !is_whole && !is_current {
            // What is missing was removed when another one was adopted meanwhile.
            continue;
        }
        let copies = Copies::read(directory, &POINTER, POINTER.name);
        for (name, copy) in [("checkpoint", &copies.first), ("checkpoint.copy", &copies.second)] {
            if pointer.is_some()
                && let Err(error) = copy
            {
                let text = format!("{name}: DAMAGED: {error}; the other copy counts");
                report.line(Verdict::Damaged, text);
            }
        }
        for (verdict, text) in findings {
            report.line(verdict, text);
        }
        let listing = Listing::read(directory)?;
        let counts = |part: &PartId| pointer.is_some_and(|p| p.checkpoint == part.checkpoint);
        for part in listing.parts.keys().filter(|part| !counts(part)) {
            report.line(Verdict::Odd, format!("{part}: note: it does not count"));
        }
        return Ok(());
    }
    Err(LogFilesError::Restless { path: directory.to_owned() })
}

/// What the checkpoint that counts has of an entity, in words; `None` when it has nothing, or
/// cannot be read.
pub fn line_of(
    directory: &Path,
    identity: Option<LogIdentity>,
    entity: EntityId,
) -> Option<String> {
    let identity = identity?;
    (0..ATTEMPTS).find_map(|_| {
        let pointer = read_pointer(directory, false).ok()??;
        let mut line = None;
        read_tables(
            directory,
            &identity,
            pointer,
            |_, _| true,
            |row| {
                if row.entity == entity {
                    let what = match row.image {
                        Some(image) => format!(
                            "its image of entry {}, {} bytes, {} keys",
                            row.applied.0, image.length, row.keys
                        ),
                        None => "that it abstains".to_owned(),
                    };
                    line = Some(format!("checkpoint {} holds {what}", pointer.checkpoint));
                }
            },
        )
        .ok()?;
        Some(line)
    })?
}

fn look(directory: &Path, identity: LogIdentity, pointer: Pointer) -> Vec<Finding> {
    let mut findings = Vec::new();
    for number in 0..pointer.parts {
        let part = pointer.checkpoint.part(number);
        findings.push(match look_at(&directory.join(part.to_string()), identity, part) {
            Ok(PartSummary { images, abstaining: 0 }) => {
                (Verdict::Whole, format!("{part}: {images} entities"))
            }
            Ok(PartSummary { images, abstaining }) => {
                (Verdict::Odd, format!("{part}: {images} entities, {abstaining} that abstain"))
            }
            Err(error) => (Verdict::Damaged, format!("{part}: DAMAGED: {error}")),
        });
    }
    findings
}

fn look_at(path: &Path, identity: LogIdentity, part: PartId) -> Result<PartSummary, String> {
    let words = |error: io::Error| error.to_string();
    let file: File = open(path).map_err(words)?;
    let size = file.metadata().map_err(words)?.len();
    let mut buffer = AlignedBuffer::zeroed(CHUNK_SIZE);
    let seal_at = Seal::offset_in(size).map_err(|error| error.to_string())?;
    file.read_full(&mut buffer, seal_at, BLOCK_SIZE).map_err(words)?;
    let seal = Seal::parse(&buffer[..BLOCK_SIZE], &identity, part, size);
    let mut check = PartCheck::new(seal.map_err(|error| error.to_string())?);
    let mut offset = 0;
    while offset < seal_at {
        let count = chunk_at(offset, seal_at);
        file.read_full(&mut buffer, offset, count).map_err(words)?;
        check.feed(&buffer[..count]);
        offset += count as u64;
    }
    check.finish().map_err(|error| error.to_string())
}
