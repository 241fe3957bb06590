//! `certus plog verify`: every file of a data directory, judged.

use std::io;
use std::path::Path;

use plog::segment::SegmentId;
use runtime::node::data_directory::{Survey, Verdict, is_put_aside, load_log_life, load_reached};
use runtime::node::reserve_file;

use crate::arguments::PlogVerify;
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::node_files::log_files::{
    Going, Listing, LogFiles, LogFilesError, core_number, find_logs, is_whole, read_spare,
};
use crate::node_files::{checkpoint, identity_of};

/// Prints a report on every file.
pub fn verify(arguments: &PlogVerify, console: &mut Console) -> ExitStatus {
    let directory = &arguments.directory;
    let mut report = Report { console, damaged: 0 };
    let name = directory.file_name().and_then(|name| name.to_str());
    let is_core = name.is_some_and(|name| core_number(name).is_some());
    let survey = match Survey::look(directory) {
        Ok(survey) => survey,
        Err(error) => {
            complain(LogFilesError::Io { path: directory.clone(), error });
            return ExitStatus::Failed;
        }
    };
    let logs = find_logs(directory);
    let has_logs_only = is_core || logs.as_ref().is_ok_and(|logs| logs.first() == Some(directory));
    if !has_logs_only {
        if survey.identity.is_none() && logs.is_err() && !directory.join("identity").exists() {
            complain(logs.expect_err("just looked at"));
            return ExitStatus::Failed;
        }
        report.console.line(directory.display());
        for finding in &survey.findings {
            report.line(finding.verdict, finding);
        }
    }
    for path in logs.unwrap_or_default() {
        let identity = identity_of(&survey, &path);
        if let Err(error) = load_log_life(&path) {
            report.line(Verdict::Damaged, format_args!("DAMAGED: {error}"));
        }
        // Before the log is read: a running node may reach further meanwhile.
        let reached = reached_by(&path);
        let log = LogFiles::find(&path, identity);
        if let Err(error) = log.and_then(|log| report.log(&log, reached)) {
            report.line(Verdict::Damaged, format_args!("DAMAGED: {error}"));
        }
        if let Some(identity) = identity
            && let Err(error) = checkpoint::verify(&path, identity, &mut report)
        {
            report.line(Verdict::Damaged, format_args!("DAMAGED: {error}"));
        }
        if let Err(error) = report.other_files(&path) {
            report.line(Verdict::Damaged, format_args!("DAMAGED: {error}"));
        }
    }
    if report.damaged == 0 {
        report.console.line("clean: nothing that counts is missing or damaged");
        return ExitStatus::Ok;
    }
    let damaged = report.damaged;
    report.console.line(format_args!("DAMAGED: {damaged} findings above"));
    ExitStatus::Degraded
}

/// What was noted of how far the log in a core's directory has come. Nothing, if that cannot be
/// told: then the survey has told why.
fn reached_by(core: &Path) -> Option<SegmentId> {
    let number = core_number(core.file_name()?.to_str()?)?;
    load_reached(core.parent()?, number).ok()?
}

/// Facts of a core, in two copies each; they are looked at where they count.
const FACTS: [&str; 3] = ["checkpoint", "abstains", "log"];

/// Prints lines, and counts those that tell of damage.
pub(super) struct Report<'a> {
    console: &'a mut Console,
    damaged: usize,
}

impl Report<'_> {
    pub(super) fn line(&mut self, verdict: Verdict, text: impl std::fmt::Display) {
        self.damaged += usize::from(verdict == Verdict::Damaged);
        self.console.line(format_args!("  {text}"));
    }

    fn log(&mut self, log: &LogFiles, reached: Option<SegmentId>) -> Result<(), LogFilesError> {
        self.console.line(log.title());
        let report = log.scan(|_| Going::On)?.expect("nobody had enough");
        let verdict = if is_whole(&report.outcome) { Verdict::Whole } else { Verdict::Damaged };
        for line in report.to_string().lines() {
            let is_finding = line.starts_with("DAMAGED: ");
            self.line(if is_finding { verdict } else { Verdict::Whole }, line);
        }
        let last = report.outcome.tail().map(|tail| tail.segment);
        if let Some(reached) = reached
            && last < Some(reached)
        {
            let text = "segments are missing at the log's end; a start begins another log";
            self.line(
                Verdict::Damaged,
                format_args!("DAMAGED: the log had reached segment {reached}: {text}"),
            );
        }
        Ok(())
    }

    /// Spares, and what is not of a log. A running node makes spares and uses them up meanwhile.
    fn other_files(&mut self, directory: &Path) -> Result<(), LogFilesError> {
        let listing = Listing::read(directory)?;
        for (spare, path) in listing.spares {
            match read_spare(&path) {
                Ok(None) => {}
                Ok(Some(size)) => {
                    self.line(Verdict::Whole, format_args!("spare {}: {size} bytes", spare.0));
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => self.line(
                    Verdict::Damaged,
                    format_args!(
                        "spare {}: DAMAGED: cannot be read ({error}); it holds no records, but \
                         the disk fails: remove it while the node is stopped",
                        spare.0
                    ),
                ),
            }
        }
        for name in listing.others {
            if FACTS.contains(&name.trim_end_matches(".copy")) {
                continue;
            }
            if name == reserve_file::NAME {
                self.line(Verdict::Whole, "reserve: space for a full disk; it holds nothing");
                continue;
            }
            if is_put_aside(&name) {
                let text = "a log that was found damaged, put aside until this core has rejoined";
                self.line(Verdict::Odd, format_args!("{name}: note: {text}"));
                continue;
            }
            let text = if name.ends_with(".new") {
                "is being made, or was left by a crash; it means nothing"
            } else {
                "is not Certus's; it is not read"
            };
            self.line(Verdict::Odd, format_args!("{name}: note: {text}"));
        }
        Ok(())
    }
}
