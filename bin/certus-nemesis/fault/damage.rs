//! A file of a stopped node is damaged.
//!
//! The last frames of a log stay as they are: damage there cannot be told from a write that a crash
//! tore, and would take acknowledged votes with it. `certus plog verify` says whether what was done
//! is damage; only then it counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::fault::Fault;
use crate::random::Random;
use crate::scene::Scene;

const PAGE: u64 = 4096;

/// Frames at the end of the log that are left alone.
const SPARED: usize = 4;

/// How often another place is tried when verifying finds nothing wrong.
const TRIES: usize = 20;

/// One file of a node's log or checkpoint is damaged, for good.
#[derive(Debug)]
pub struct Damage {
    victim: u8,
    random: Random,
    /// How much the node had said before.
    log_length: u64,
    is_of_checkpoint: bool,
}

/// Where a frame of the log begins.
#[derive(Clone, Debug)]
struct FramePlace {
    file: PathBuf,
    offset: u64,
}

impl Damage {
    /// Of node `victim`.
    pub fn new(victim: u8, random: Random) -> Self {
        Self { victim, random, log_length: 0, is_of_checkpoint: false }
    }

    /// Does something to a file below `core`; what. [`None`] when there is nothing that may be
    /// damaged so.
    fn damage(&mut self, core: &Path) -> io::Result<Option<String>> {
        let frames = frames(core)?;
        let spared = frames.len().saturating_sub(SPARED);
        let Some(frame) = frames[..spared].get(self.random.below(spared.max(1))) else {
            return Ok(None);
        };
        let file = OpenOptions::new().read(true).write(true).open(&frame.file)?;
        let name = frame.file.display();
        // Header and records; behind them is padding, of which nothing depends.
        let within = u64::try_from(self.random.below(64)).expect("small");
        match self.random.below(5) {
            0 => {
                flip(&file, frame.offset + within, self.random.below(8))?;
                Ok(Some(format!("a bit flipped at byte {} of {name}", frame.offset + within)))
            }
            1 => {
                file.write_all_at(&[0; 4096], frame.offset)?;
                Ok(Some(format!("the page at byte {} of {name} zeroed", frame.offset)))
            }
            2 => {
                let other = &frames[self.random.below(spared)];
                let mut pages = [[0; 4096]; 2];
                let other_file = OpenOptions::new().read(true).write(true).open(&other.file)?;
                file.read_exact_at(&mut pages[0], frame.offset)?;
                other_file.read_exact_at(&mut pages[1], other.offset)?;
                file.write_all_at(&pages[1], frame.offset)?;
                other_file.write_all_at(&pages[0], other.offset)?;
                let places = (frame.offset, other.offset, other.file.display());
                let what = format!(
                    "pages at byte {} of {name} and {} of {} swapped",
                    places.0, places.1, places.2
                );
                Ok(Some(what))
            }
            3 => {
                // A segment with others on both sides: without one at an end it is a shorter log.
                let segments = segments(core)?;
                if segments.len() < 3 {
                    return Ok(None);
                }
                let lost = &segments[1 + self.random.below(segments.len() - 2)];
                fs::remove_file(lost)?;
                Ok(Some(format!("{} removed", lost.display())))
            }
            _ => {
                let parts = files(core, |name| name.ends_with(".ckpt"))?;
                let Some(part) = parts.last() else { return Ok(None) };
                let length = fs::metadata(part)?.len();
                let pages = usize::try_from(length / PAGE).expect("files are small");
                let page = u64::try_from(self.random.below(pages.max(1))).expect("small");
                let file = OpenOptions::new().read(true).write(true).open(part)?;
                flip(&file, page * PAGE + within, self.random.below(8))?;
                Ok(Some(format!(
                    "a bit flipped at byte {} of {}",
                    page * PAGE + within,
                    part.display()
                )))
            }
        }
    }
}

fn flip(file: &File, at: u64, bit: usize) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at)
}

fn files(core: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(core)? {
        let path = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(&is_wanted) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn segments(core: &Path) -> io::Result<Vec<PathBuf>> {
    files(core, |name| name.ends_with(".plog") && !name.starts_with("spare-"))
}

/// Walks the frames of all segments by what their headers say (`docs/FORMAT.md`).
fn frames(core: &Path) -> io::Result<Vec<FramePlace>> {
    let mut frames = Vec::new();
    for path in segments(core)? {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(sequence) = u64::from_str_radix(name, 16) else { continue };
        let file = File::open(&path)?;
        let mut offset = PAGE;
        let mut header = [0; 64];
        while file.read_exact_at(&mut header, offset).is_ok() {
            let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8"));
            let length = u64::from(u32::from_le_bytes(header[40..44].try_into().expect("4")));
            let is_frame = header.starts_with(b"CertFram") && number(16) == sequence;
            if !is_frame || length < PAGE {
                break;
            }
            frames.push(FramePlace { file: path.clone(), offset });
            offset += length;
        }
    }
    Ok(frames)
}

impl Fault for Damage {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let certus = scene.cluster.certus.clone();
        let node = scene.cluster.node(self.victim);
        node.kill()?;
        let data = node.place.data_directory.clone();
        let cores = files(&data, |name| name.starts_with("core-"))?;
        self.log_length = node.log_length();
        let mut done = None;
        for _ in 0..TRIES {
            let core = &cores[self.random.below(cores.len())];
            let Some(what) = self.damage(core)? else { continue };
            let verified = Command::new(&certus).args(["plog", "verify"]).arg(&data).output()?;
            if verified.status.code() == Some(1) {
                self.is_of_checkpoint = what.ends_with(".ckpt");
                done = Some(what);
                break;
            }
        }
        let Some(what) = done else {
            let what = format!("nothing of node {} could be damaged", self.victim);
            return Err(Failure::ProvedNothing(what));
        };
        scene.damaged = Some(self.victim);
        scene.cluster.start(self.victim)?;
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("killed; {what}; started, serves {} ms later", took.as_millis()))
    }

    /// It must say so: it abstains, or tells of the damage and begins another log. What is damaged
    /// in a checkpoint shows only when its entity is read, and if it is read at all.
    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        let node = scene.cluster.node(self.victim);
        if let Some(reason) = node.abstains() {
            return Ok(Some(format!("it abstains: {reason}")));
        }
        let said = node.said_since(self.log_length);
        if said.contains("damaged") {
            return Ok(Some("it tells of the damage, and is rebuilt".to_owned()));
        }
        if self.is_of_checkpoint {
            let entities = node.abstaining().unwrap_or(0);
            let what = format!("verifying finds it; it abstains of {entities} entities so far");
            return Ok(Some(what));
        }
        let what = format!("node {} serves as if nothing were damaged:\n{said}", self.victim);
        Err(Failure::violation("damage", what, scene.now()))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("is rebuilt by itself; serves after {} ms", took.as_millis()))
    }
}
