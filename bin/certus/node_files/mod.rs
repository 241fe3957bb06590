//! `certus plog`: what the files of a node say, read while the node runs or does not, and without
//! changing anything.

use std::path::Path;

use plog::dump::record_line;
use plog::identity::LogIdentity;
use runtime::node::data_directory::{Survey, log_identity};

use crate::arguments::{PlogDump, PlogHistory, PlogStats};
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::node_files::entity_history::EntityHistory;
use crate::node_files::log_files::{
    Going, LogFiles, LogFilesError, core_number, find_logs, is_whole,
};
use crate::node_files::log_stats::LogStats;

pub use crate::node_files::mirror::mirror;
pub use crate::node_files::verify::verify;

mod checkpoint;
mod entity_history;
pub mod log_files;
mod log_stats;
mod mirror;
mod mirrored_core;
pub mod part_file;
pub mod reading;
mod shown_keys;
#[cfg(test)]
mod tests;
mod verify;

/// Prints one line for each record.
pub fn dump(arguments: &PlogDump, console: &mut Console) -> ExitStatus {
    each_log(&arguments.directory, console, |log, console| {
        let mut left = arguments.limit.unwrap_or(u64::MAX);
        let report = log.scan(|record| {
            if arguments.entity.is_some_and(|entity| record.record.entity() != entity) {
                return Going::On;
            }
            if left == 0 || console.is_closed() {
                return Going::Enough;
            }
            left -= 1;
            console.line(record_line(record));
            Going::On
        })?;
        let Some(report) = report else {
            console.line("  (more records follow)");
            return Ok(ExitStatus::Ok);
        };
        if let Some(outcome) = report.to_string().lines().last() {
            console.line(format_args!("  {outcome}"));
        }
        Ok(damaged_unless(is_whole(&report.outcome)))
    })
}

/// Prints all that the logs say of one entity, entry by entry.
pub fn history(arguments: &PlogHistory, console: &mut Console) -> ExitStatus {
    let entity = arguments.entity();
    let mut found = false;
    let status = each_log(&arguments.directory, console, |log, console| {
        let mut history = EntityHistory::default();
        let report = log.scan(|record| {
            if record.record.entity() == entity {
                history.push(record);
            }
            Going::On
        })?;
        found |= !history.is_empty();
        console.line(format_args!("entity {:016x}", entity.0));
        if let Some(line) = checkpoint::line_of(&log.directory, log.identity, entity) {
            found = true;
            console.line(format_args!("  {line}"));
        }
        console.line(&history);
        let report = report.expect("nobody had enough");
        if !is_whole(&report.outcome) {
            console.line("  the log is damaged: records may be missing here");
        }
        Ok(damaged_unless(is_whole(&report.outcome)))
    });
    if !found && status == ExitStatus::Ok {
        complain(format_args!(
            "no log under {} has a record of entity {:016x}",
            arguments.directory.display(),
            entity.0
        ));
        return ExitStatus::Failed;
    }
    status
}

/// Prints what the logs are made of.
pub fn stats(arguments: &PlogStats, console: &mut Console) -> ExitStatus {
    each_log(&arguments.directory, console, |log, console| {
        let mut stats = LogStats::default();
        let report = log.scan(|record| {
            stats.push(record);
            Going::On
        })?;
        let report = report.expect("nobody had enough");
        for line in stats.lines(&report, arguments.top) {
            console.line(format_args!("  {line}"));
        }
        Ok(damaged_unless(is_whole(&report.outcome)))
    })
}

fn damaged_unless(is_whole: bool) -> ExitStatus {
    if is_whole { ExitStatus::Ok } else { ExitStatus::Degraded }
}

/// Looks at every log under `directory`; the worst of what `look` says.
fn each_log(
    directory: &Path,
    console: &mut Console,
    mut look: impl FnMut(&LogFiles, &mut Console) -> Result<ExitStatus, LogFilesError>,
) -> ExitStatus {
    let logs = match find_logs(directory) {
        Ok(logs) => logs,
        Err(error) => {
            complain(error);
            return ExitStatus::Failed;
        }
    };
    let survey = Survey::look(directory).ok();
    let mut worst = ExitStatus::Ok;
    for path in logs {
        let identity = survey.as_ref().and_then(|survey| identity_of(survey, &path));
        let looked = LogFiles::find(&path, identity).and_then(|log| {
            console.line(log.title());
            look(&log, console)
        });
        worst = worst.max(looked.unwrap_or_else(|error| {
            complain(error);
            ExitStatus::Failed
        }));
    }
    worst
}

/// Whose log the one at `path` has to be.
fn identity_of(survey: &Survey, path: &Path) -> Option<LogIdentity> {
    let identity = survey.identity?;
    let core = core_number(path.file_name()?.to_str()?)?;
    // What cannot be read of it is told where all facts are looked at.
    let of_the_log = log_identity(path.parent()?, &identity, core).ok()?;
    (core < identity.core_count).then_some(of_the_log)
}
