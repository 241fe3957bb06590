//! A core whose log is damaged puts it aside, and begins another one in the node's next generation.
//!
//! In this order, each step durable before the next:
//!
//! 1. `core-N/abstains` says what was lost, in a boot of the generation that ends.
//! 2. What an earlier loss put aside is deleted; `core-N/damaged-G/` is made, for generation G.
//! 3. Spares are deleted: a recycled one has the header of an old segment, and a crash right after
//!    it became a segment would leave a file that is of the old log by its own word. Every segment,
//!    part of a checkpoint, and the facts that name them are renamed into it.
//! 4. `reached-N` goes: the new log has reached nothing.
//! 5. `core-N/log` names the new log's incarnation.
//! 6. `boot` counts the first boot of generation G. Only then does the node speak, or append.
//!
//! A start finds what is to be done by 1 and 6 alone: a loss noted in a generation that no later
//! boot has ended. So a crash before 6 makes the next start do 2 to 5 again, with whatever is there
//! by then; until 6 nothing is ever in the new log, and while old files are left in their place,
//! `core-N/log` is still theirs. After 6 the loss is made up for, and what is in the log stays.
//! `core-N/abstains` and `core-N/damaged-G/` go when the core has rejoined.

use std::io;
use std::path::{Path, PathBuf};

use engine::abstention::Abstention;
use plog::checkpoint::PartId;
use plog::segment::SegmentFileName;
use plog::vocabulary::{BootEpoch, Generation};

use crate::node::checkpoint_files;
use crate::node::data_directory::abstains::{load_abstention, remove_abstention};
use crate::node::data_directory::contents::core_directory;
use crate::node::data_directory::error::{Result, SPACE, failed};
use crate::node::data_directory::log_life::{LogLife, write_log_life};
use crate::node::data_directory::reached::remove_reached;
use crate::node::two_copies::{COPY_SUFFIX, sync_directory};

/// Begins the name of the directory of what was put aside.
const PREFIX: &str = "damaged-";

/// Whether a name in a core's directory is of what was put aside.
#[must_use]
pub fn is_put_aside(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|generation| generation.parse::<u32>().is_ok())
}

/// What the boots of `generation` and before lost of the core whose directory this is, unless a
/// later generation has begun.
pub(super) fn lost(directory: &Path, generation: Generation) -> Result<Option<Abstention>> {
    let noted = load_abstention(directory)?;
    Ok(noted.filter(|noted| noted.since.generation() >= generation))
}

/// Steps 2 to 5 for one core. `step` is asked before each change; what it refuses is not done.
pub(super) fn begin(
    path: &Path,
    core: u16,
    life: &LogLife,
    mut step: impl FnMut() -> io::Result<()>,
) -> Result<PathBuf> {
    let directory = core_directory(path, core);
    let aside = directory.join(format!("{PREFIX}{}", life.generation.0));
    let moved = move_files(&directory, &aside, &mut step);
    moved.map_err(failed(&directory, "putting a damaged log aside", SPACE))?;
    let goes_on = |step: &mut dyn FnMut() -> io::Result<()>| {
        step().map_err(failed(&directory, "beginning another log", SPACE))
    };
    goes_on(&mut step)?;
    remove_reached(path, core).map_err(failed(path, "writing to it", SPACE))?;
    goes_on(&mut step)?;
    write_log_life(&directory, life)?;
    Ok(aside)
}

fn move_files(
    directory: &Path,
    aside: &Path,
    step: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut to_move = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if is_put_aside(&name) && path != aside {
            step()?;
            std::fs::remove_dir_all(path)?;
        } else if let Some(SegmentFileName::Spare(_)) = SegmentFileName::parse(&name) {
            step()?;
            std::fs::remove_file(path)?;
        } else if is_of_the_log(&name) {
            to_move.push((path, aside.join(name)));
        }
    }
    if !aside.is_dir() {
        step()?;
        std::fs::create_dir(aside)?;
    }
    sync_directory(directory)?;
    to_move.sort();
    for (from, to) in to_move {
        step()?;
        std::fs::rename(from, to)?;
    }
    sync_directory(aside)?;
    sync_directory(directory)
}

fn is_of_the_log(name: &str) -> bool {
    matches!(SegmentFileName::parse(name), Some(SegmentFileName::Segment(_)))
        || PartId::parse(name).is_some()
        || name.strip_suffix(COPY_SUFFIX).unwrap_or(name) == checkpoint_files::POINTER.name
}

/// The core whose directory this is has rejoined in the boot `epoch`: what was put aside goes, and
/// then the note, unless something was lost since.
///
/// # Errors
///
/// The operating system's, and those of [`load_abstention`].
pub fn note_rejoined(directory: &Path, epoch: BootEpoch) -> io::Result<()> {
    let noted = load_abstention(directory).map_err(io::Error::other)?;
    if noted.is_some_and(|noted| !noted.is_made_up_for(epoch)) {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if is_put_aside(&entry.file_name().to_string_lossy()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    sync_directory(directory)?;
    remove_abstention(directory)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;
    use std::path::Path;

    use engine::abstention::Abstention;
    use plog::segment::SegmentId;
    use plog::vocabulary::{BootEpoch, Generation};

    use super::{LogLife, begin, is_of_the_log, note_rejoined};
    use crate::node::data_directory::{
        DataDirectory, ExpectedIdentity, LockedDirectory, load_abstention, load_log_life,
        load_reached, write_abstention, write_log_life, write_reached,
    };
    use crate::node::test_directory::TestDirectory;

    const LOG: [&str; 5] = [
        "0000000000000003.plog",
        "0000000000000004.plog",
        "000000000002-0000.ckpt",
        "checkpoint",
        "checkpoint.copy",
    ];
    const KEPT: [&str; 1] = ["reserve"];
    const SPARES: [&str; 2] = ["spare-7.plog", "spare-8.plog"];
    const NODE: u128 = 0xABCD;

    fn open(path: &Path) -> DataDirectory {
        let expected = ExpectedIdentity {
            cluster_id: 7,
            node_id: 1,
            replicas: 3,
            core_count: Some(2),
            default_core_count: 2,
        };
        LockedDirectory::take(path).unwrap().open(&expected, || Ok(NODE)).unwrap()
    }

    /// A node that was started twice and noted damage in the log of core 1, with what an earlier
    /// loss put aside still there.
    fn damaged() -> TestDirectory {
        let directory = TestDirectory::in_memory();
        let mut data = open(directory.path());
        assert_eq!((data.begin_boot().unwrap(), data.begin_boot().unwrap()), (1, 2));
        let core = data.core(1);
        for name in LOG.iter().chain(&KEPT).chain(&SPARES) {
            std::fs::write(core.join(name), name.as_bytes()).unwrap();
            std::fs::write(data.core(0).join(name), b"of another core").unwrap();
        }
        std::fs::create_dir(core.join("damaged-0")).unwrap();
        std::fs::write(core.join("damaged-0/0000000000000001.plog"), b"earlier").unwrap();
        for core in 0..2 {
            write_reached(data.path(), core, SegmentId(4)).unwrap();
        }
        write_abstention(&core, &loss(2)).unwrap();
        directory
    }

    fn loss(epoch: u32) -> Abstention {
        Abstention { since: BootEpoch(epoch), segment: SegmentId(3), offset: 4096 }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// What a core's directory has to look like when another log can begin in generation 1.
    fn check_put_aside(data: &DataDirectory) {
        let core = data.core(1);
        let aside = core.join("damaged-1");
        assert_eq!(names(&aside), LOG);
        for name in LOG {
            assert_eq!(std::fs::read(aside.join(name)).unwrap(), name.as_bytes());
        }
        let mut wanted = ["abstains", "abstains.copy", "damaged-1", "log", "log.copy"].to_vec();
        wanted.extend(KEPT);
        wanted.sort_unstable();
        assert_eq!(names(&core), wanted);
        assert_eq!(load_reached(data.path(), 1).unwrap(), None);
        assert_eq!(load_abstention(&core).unwrap(), Some(loss(2)), "until it has rejoined");
        let life = load_log_life(&core).unwrap().unwrap();
        assert!(life.generation == Generation(1) && life.incarnation != NODE);
        // The other core lost nothing.
        assert_eq!(load_reached(data.path(), 0).unwrap(), Some(SegmentId(4)));
        assert!(LOG.iter().all(|name| data.core(0).join(name).exists()));
        assert_eq!(load_log_life(&data.core(0)).unwrap(), None);
    }

    fn begin_all(data: &mut DataDirectory) -> Vec<(u16, Abstention)> {
        let lost = data.lost_cores().unwrap();
        let cores: Vec<u16> = lost.iter().map(|(core, _)| *core).collect();
        if !cores.is_empty() {
            data.begin_other_logs(&cores, || Ok(0xFEED)).unwrap();
        }
        lost
    }

    #[test]
    fn a_crash_at_any_point_leaves_a_start_that_goes_on() {
        let mut cuts = 0;
        loop {
            let directory = damaged();
            let path = directory.path();
            let core = path.join("core-1");
            let life = LogLife { incarnation: 0xCAFE, generation: Generation(1) };
            let mut left = cuts;
            let cut = begin(path, 1, &life, || match left {
                0 => Err(io::Error::other("the process is killed")),
                _ => {
                    left -= 1;
                    Ok(())
                }
            });
            // While files of the old log are in their place, it is not said to be another one.
            let is_left = (names(&core).iter())
                .any(|name| is_of_the_log(name) || SPARES.contains(&name.as_str()));
            assert!(!is_left || load_log_life(&core).unwrap().is_none(), "cut {cuts}");
            let mut data = open(path);
            assert_eq!(data.generation(), Generation::FIRST, "no boot was counted");
            assert_eq!(begin_all(&mut data), [(1, loss(2))], "cut {cuts}");
            check_put_aside(&data);
            assert_eq!(data.begin_boot().unwrap(), (1 << 20) + 1);
            if cut.is_ok() {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= LOG.len() + SPARES.len() + 3, "every step was cut before: {cuts}");
    }

    #[test]
    fn once_a_boot_of_the_next_generation_is_counted_the_new_log_stays() {
        let directory = damaged();
        let mut data = open(directory.path());
        begin_all(&mut data);
        data.begin_boot().unwrap();
        drop(data);
        let core = directory.path().join("core-1");
        let life = load_log_life(&core).unwrap();
        std::fs::write(core.join("0000000000000001.plog"), b"new").unwrap();
        write_reached(directory.path(), 1, SegmentId(1)).unwrap();
        let mut data = open(directory.path());
        assert_eq!(begin_all(&mut data), []);
        assert_eq!(data.begin_boot().unwrap(), (1 << 20) + 2);
        assert_eq!(std::fs::read(core.join("0000000000000001.plog")).unwrap(), b"new");
        assert_eq!((load_log_life(&core).unwrap(), data.generation()), (life, Generation(1)));
        // A loss in this generation takes the next one.
        write_abstention(&core, &loss((1 << 20) + 2)).unwrap();
        drop(data);
        let mut data = open(directory.path());
        assert_eq!(begin_all(&mut data).len(), 1);
        assert_eq!(data.begin_boot().unwrap(), (2 << 20) + 1);
        let found = BTreeMap::from([("damaged-1", false), ("damaged-2", true)]);
        for (name, is_there) in found {
            assert_eq!(core.join(name).exists(), is_there, "one is kept: {name}");
        }
    }

    #[test]
    fn what_was_put_aside_goes_when_the_core_has_rejoined_and_lost_nothing_since() {
        let directory = damaged();
        let mut data = open(directory.path());
        begin_all(&mut data);
        let epoch = BootEpoch(data.begin_boot().unwrap());
        let core = data.core(1);
        write_abstention(&core, &loss(epoch.0)).unwrap();
        note_rejoined(&core, epoch).unwrap();
        assert_eq!(load_abstention(&core).unwrap(), Some(loss(epoch.0)));
        assert!(core.join("damaged-1").exists());
        write_abstention(&core, &loss(2)).unwrap();
        note_rejoined(&core, epoch).unwrap();
        assert_eq!(load_abstention(&core).unwrap(), None);
        assert!(!core.join("damaged-1").exists());
        note_rejoined(&core, epoch).unwrap();
        let life = LogLife { incarnation: 0xFEED, generation: Generation(1) };
        assert_eq!(load_log_life(&core).unwrap(), Some(life), "it is that log for ever");
        write_log_life(&core, &life).unwrap();
    }
}
