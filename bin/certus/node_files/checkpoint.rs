//! `certus plog verify` of a core's checkpoint: which one counts, and every byte of it.

use std::path::Path;

use plog::checkpoint::PartId;
use plog::checkpoint::check::PartSummary;
use plog::checkpoint::pointer::Pointer;
use plog::identity::LogIdentity;
use plog::vocabulary::EntityId;
use runtime::node::checkpoint_files::{POINTER, read_pointer, read_tables};
use runtime::node::data_directory::Verdict;
use runtime::node::two_copies::Copies;

use crate::node_files::log_files::{Listing, LogFilesError};
use crate::node_files::part_file::read_part_at;
use crate::node_files::verify::Report;
use crate::progress::Progress;

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
        let path = directory.join(part.to_string());
        let read = read_part_at(&path, &identity, part, &Progress::silent(), &mut |_| ());
        findings.push(match read.map(|whole| whole.summary) {
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
