//! Looks at a data directory's small files and names, and changes nothing: not even the lock is
//! touched, so that it can be done while a node runs or starts.
//!
//! What a running node does meanwhile must not look like damage. Each file is replaced in one step,
//! so one file is always whole; but two copies are written one after the other. So what is not
//! whole is looked at again, after a pause in which a node writes both.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use plog::segment::SegmentId;
use plog::vocabulary::Generation;

use crate::node::data_directory::boot_epoch::{BOOT, decode_boot};
use crate::node::data_directory::contents::{
    CORE_PREFIX, PEERS, RESTORING, core_directory, first_segment,
};
use crate::node::data_directory::identity::{DirectoryIdentity, IDENTITY};
use crate::node::data_directory::lock::LOCK;
use crate::node::data_directory::reached::{self, REACHED};
use crate::node::data_directory::registering::{self, REGISTERING};
use crate::node::data_directory::slack::SLACK;
use crate::node::known_incarnations::MEMBERS_MAX;
use crate::node::known_life::{self, KnownLife};
use crate::node::membership_facts::{MEMBERSHIP, MembershipFacts};
use crate::node::two_copies::{COPY_SUFFIX, Copies, CopyError, FactKind, TEMPORARY_SUFFIX};

/// How often something that is not whole is looked at.
const LOOKS: usize = 3;

/// Pause before it is looked at again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be thought of a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// As it should be.
    Whole,
    /// Worth a word, and no harm.
    Odd,
    /// Damaged, missing, or in the way of a start.
    Damaged,
}

/// What was found of one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Its name, from the data directory on.
    pub file: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it says; else what is wrong with it and what that means.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Whole => "",
            Verdict::Odd => "note: ",
            Verdict::Damaged => "DAMAGED: ",
        };
        write!(formatter, "{}: {mark}{}", self.file, self.text)
    }
}

/// What was found in a data directory, but for its logs.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// One for each file, and for each that should be there.
    pub findings: Vec<Finding>,
    /// Whose directory it is, if that can be told.
    pub identity: Option<DirectoryIdentity>,
}

impl Survey {
    /// Looks at the directory at `path`.
    ///
    /// # Errors
    ///
    /// When a directory cannot be listed.
    pub fn look(path: &Path) -> io::Result<Self> {
        let mut looks = 1;
        loop {
            let survey = Self::look_once(path)?;
            let whole = survey.findings.iter().all(|finding| finding.verdict == Verdict::Whole);
            if whole || looks == LOOKS {
                return Ok(survey);
            }
            looks += 1;
            std::thread::sleep(PAUSE);
        }
    }

    /// The worst of all findings.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Whole)
    }

    pub(super) fn look_once(path: &Path) -> io::Result<Self> {
        let mut survey = Self::default();
        survey.identity = survey.fact(path, &IDENTITY, IDENTITY.name, DirectoryIdentity::decode);
        let boot = survey.fact(path, &BOOT, BOOT.name, decode_boot);
        survey.fact(path, &REGISTERING, REGISTERING.name, |fact| {
            registering::decode(fact).map(|()| Registers)
        });
        survey.fact(path, &MEMBERSHIP, MEMBERSHIP.name, MembershipFacts::decode);
        survey.judge_together(path, boot);
        for core in 0..survey.identity.map_or(0, |identity| identity.core_count) {
            let name = reached::name_of(core);
            survey.fact(path, &REACHED, &name, |fact| reached::decode(fact).map(Reached));
        }
        survey.judge_directories(path, boot.map_or(0, |(epoch, _)| epoch));
        survey.judge_names(path)?;
        survey.judge_peers(&path.join(PEERS))?;
        Ok(survey)
    }

    fn note(&mut self, file: impl Into<String>, verdict: Verdict, text: impl Into<String>) {
        self.findings.push(Finding { file: file.into(), verdict, text: text.into() });
    }

    /// Judges both copies of a fact that is there. What it says, if that can be told.
    fn fact<T: Fact>(
        &mut self,
        path: &Path,
        kind: &FactKind,
        name: &str,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let directory = if T::OF_A_PEER { format!("{PEERS}/") } else { String::new() };
        let copies = Copies::read(path, kind, name);
        if copies.are_missing() {
            return None;
        }
        let files = [format!("{directory}{name}"), format!("{directory}{name}{COPY_SUFFIX}")];
        let read = |copy: &Result<Vec<u8>, CopyError>| match copy {
            Ok(fact) => decode(fact).ok_or_else(|| "is damaged (it has a wrong size)".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let facts = [read(&copies.first), read(&copies.second)];
        let newer = copies.newer().is_some();
        let said = match &facts {
            [Ok(first), Ok(second)] => T::merge(*first, *second),
            [Ok(fact), Err(_)] | [Err(_), Ok(fact)] if !newer => Some(*fact),
            _ => None,
        };
        for (file, fact) in files.into_iter().zip(&facts) {
            match (fact, said) {
                (Ok(fact), Some(said)) if *fact == said => {
                    self.note(file, Verdict::Whole, fact.describe());
                }
                (Ok(fact), Some(_)) => {
                    let text = "a start, or a crash in one, came between the two files; the \
                                later one counts";
                    self.note(file, Verdict::Odd, format!("{}: {text}", fact.describe()));
                }
                (Ok(fact), None) if newer => {
                    let text = "the other copy is a newer version's, so this one does not count";
                    self.note(file, Verdict::Damaged, format!("{}; {text}", fact.describe()));
                }
                (Ok(fact), None) => {
                    let text = "the other copy says otherwise; the node does not start";
                    self.note(file, Verdict::Damaged, format!("{}; {text}", fact.describe()));
                }
                (Err(error), Some(_)) => {
                    let text = "the other copy is whole, and the next start repairs this one";
                    self.note(file, Verdict::Damaged, format!("{error}; {text}"));
                }
                (Err(error), None) if newer => {
                    let text = "start the version of Certus that wrote it";
                    self.note(file, Verdict::Damaged, format!("{error}; {text}"));
                }
                (Err(error), None) => {
                    self.note(
                        file,
                        Verdict::Damaged,
                        format!(
                            "{error}; no copy counts, so the node does not start: put one of them \
                             back if it was moved, never an older one"
                        ),
                    );
                }
            }
        }
        said
    }

    /// What identity, boot epoch and logs say of each other.
    fn judge_together(&mut self, path: &Path, boot: Option<(u32, u128)>) {
        let seen =
            |survey: &Self, name: &str| survey.findings.iter().any(|finding| finding.file == name);
        if !seen(self, IDENTITY.name) {
            let (verdict, text) = match first_segment(path) {
                Ok(Some(_)) => (
                    Verdict::Damaged,
                    "is missing, and so is its copy, although there is a log; the node does not \
                     start: put one of them back, never of another directory",
                ),
                Ok(None) | Err(_) => {
                    (Verdict::Odd, "is not there, nor is a log: a start makes a new node here")
                }
            };
            self.note(IDENTITY.name, verdict, text);
        } else if !seen(self, BOOT.name) {
            let text = "is missing, and so is its copy: the node does not start, since a boot \
                        epoch must not be used twice; put one of them back, never an older one";
            self.note(BOOT.name, Verdict::Damaged, text);
        }
        if let (Some(identity), Some((_, incarnation))) = (self.identity, boot)
            && identity.incarnation != incarnation
        {
            let text = "is of another incarnation than identity: it was copied from another \
                        directory, and the node does not start";
            self.note(BOOT.name, Verdict::Damaged, text);
        }
    }

    /// The directories that a node which ever started has.
    fn judge_directories(&mut self, path: &Path, epoch: u32) {
        let Some(identity) = self.identity.filter(|_| epoch > 0) else { return };
        for core in 0..identity.core_count {
            if !core_directory(path, core).is_dir() {
                let text = "is missing: the log of that core is gone, and the node does not start";
                self.note(format!("{CORE_PREFIX}{core}"), Verdict::Damaged, text);
            }
        }
        if !path.join(PEERS).is_dir() {
            let text = "is missing: which life of each peer was met is forgotten, and the node \
                        does not start";
            self.note(PEERS, Verdict::Damaged, text);
        }
    }

    /// Every name in the data directory.
    fn judge_names(&mut self, path: &Path) -> io::Result<()> {
        for name in names(path)? {
            let stem = name.strip_suffix(COPY_SUFFIX).unwrap_or(&name);
            let facts = [IDENTITY.name, BOOT.name, REGISTERING.name, MEMBERSHIP.name];
            if facts.contains(&stem) || [PEERS, SLACK, "lost+found"].contains(&&*name) {
                continue;
            }
            if reached::is_name(&name) {
                continue;
            }
            if name == LOCK {
                let process = std::fs::read_to_string(path.join(LOCK)).unwrap_or_default();
                let text = match process.trim().parse::<u32>() {
                    Ok(process) => format!("process {process} was the last to use it"),
                    Err(_) => "names no process".to_owned(),
                };
                self.note(name, Verdict::Whole, text);
            } else if name == RESTORING {
                let text = "a restore into this directory is under way, or was not finished; a \
                            start is refused until it is emptied and restored again";
                self.note(name, Verdict::Damaged, text);
            } else if name.ends_with(TEMPORARY_SUFFIX) {
                self.note(name, Verdict::Odd, HALF_MADE);
            } else if let Some(core) = core_of(&name) {
                if self.identity.is_some_and(|identity| core >= identity.core_count) {
                    self.note(name, Verdict::Odd, "belongs to no core of this node; not read");
                }
            } else {
                let text = "is not Certus's; a start is refused until it is moved away";
                self.note(name, Verdict::Damaged, text);
            }
        }
        Ok(())
    }

    /// What is remembered of peers.
    fn judge_peers(&mut self, directory: &Path) -> io::Result<()> {
        let kind = &known_life::KIND;
        let known: Vec<String> = (0..MEMBERS_MAX).map(|id| format!("{}{id}", kind.name)).collect();
        for name in &known {
            let _ = self.fact(directory, kind, name, KnownLife::decode);
        }
        let found = match names(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        for name in found {
            let stem = name.strip_suffix(COPY_SUFFIX).unwrap_or(&name);
            if known.iter().any(|known| known == stem) {
                continue;
            }
            let text = if name.ends_with(TEMPORARY_SUFFIX) { HALF_MADE } else { "is not Certus's" };
            self.note(format!("{PEERS}/{name}"), Verdict::Odd, text);
        }
        Ok(())
    }
}

const HALF_MADE: &str = "is being made, or was left by a crash; it means nothing";

/// The core whose log stands under this name.
fn core_of(name: &str) -> Option<u16> {
    name.strip_prefix(CORE_PREFIX)?.parse().ok()
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// What two copies hold.
trait Fact: Copy + PartialEq {
    /// Whether it stands among what is remembered of peers.
    const OF_A_PEER: bool = false;

    /// What it says, for an operator.
    fn describe(&self) -> String;

    /// What counts when the copies hold these two.
    fn merge(first: Self, second: Self) -> Option<Self> {
        (first == second).then_some(first)
    }
}

impl Fact for MembershipFacts {
    fn describe(&self) -> String {
        let Self { configuration, votes } = self;
        let instance = votes.instance;
        format!("goes by {configuration}; promised something of version {instance} at the latest")
    }

    fn merge(first: Self, second: Self) -> Option<Self> {
        first.later(second)
    }
}

impl Fact for DirectoryIdentity {
    fn describe(&self) -> String {
        format!(
            "cluster {:#x}, node {} of {}, {} cores, incarnation {:032x}",
            self.cluster_id, self.node_id, self.replicas, self.core_count, self.incarnation
        )
    }
}

impl Fact for (u32, u128) {
    fn describe(&self) -> String {
        format!("boot epoch {}", self.0)
    }

    fn merge(first: Self, second: Self) -> Option<Self> {
        (first.1 == second.1).then(|| first.max(second))
    }
}

/// That the node takes the place of a lost one.
#[derive(Clone, Copy, PartialEq)]
struct Registers;

impl Fact for Registers {
    fn describe(&self) -> String {
        "this node takes the place of a lost one, and registers with the others first".to_owned()
    }
}

/// The newest segment that a log is known to have reached.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Reached(SegmentId);

impl Fact for Reached {
    fn describe(&self) -> String {
        format!("the log has reached segment {}", self.0)
    }

    fn merge(first: Self, second: Self) -> Option<Self> {
        Some(first.max(second))
    }
}

impl Fact for KnownLife {
    const OF_A_PEER: bool = true;

    fn describe(&self) -> String {
        let met = match (self.incarnation, self.generation) {
            (None, _) => "never met".to_owned(),
            (Some(incarnation), Generation::FIRST) => format!("incarnation {incarnation:032x}"),
            (Some(incarnation), Generation(generation)) => {
                format!("incarnation {incarnation:032x} of generation {generation}")
            }
        };
        if self.heard > self.generation {
            return format!("{met}; generation {} was heard of", self.heard.0);
        }
        met
    }

    fn merge(first: Self, second: Self) -> Option<Self> {
        first.later(second)
    }
}
