//! A file system of its own for each node, so that it can be full.
//!
//! It is an ext4 image on a loop device, or where there are none a memory file system; without the
//! right to mount it is a plain directory, which never fills up. Mounts are made in a mount
//! namespace of this process (see [`crate::guard`]), and go with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of an image.
const SIZE: u64 = 1 << 30;

/// The file that takes the room.
const FILLER: &str = "filler";

/// What the data of a node is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An ext4 image.
    Image,
    /// Memory.
    Memory,
    /// A directory of a file system that others use, too.
    Directory,
}

/// One node's file system.
#[derive(Debug)]
pub struct Disk {
    /// What it is.
    pub kind: Kind,
    /// Where it is mounted.
    pub root: PathBuf,
}

impl Disk {
    /// Makes one at `root`, and the image beside it.
    pub fn make(root: PathBuf, may_mount: bool) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        if !may_mount {
            return Ok(Self { kind: Kind::Directory, root });
        }
        if make_image(&root.with_extension("image"), &root).is_ok() {
            return Ok(Self { kind: Kind::Image, root });
        }
        let size = format!("size={SIZE}");
        run("mount", &["-t", "tmpfs", "-o", &size, "certus-nemesis"], &[&root])?;
        Ok(Self { kind: Kind::Memory, root })
    }

    /// Takes all the room that is left; how many bytes that was.
    pub fn fill(&self) -> io::Result<u64> {
        assert!(self.kind != Kind::Directory, "this would fill the disk of others");
        let path = self.root.join(FILLER);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        let before = file.metadata()?.len();
        let mut step = SIZE;
        while step >= 4096 {
            let length = file.metadata()?.len();
            let [offset, count] = [length, step]
                .map(|bytes| libc::off_t::try_from(bytes).expect("an image is smaller"));
            // SAFETY: a descriptor that is open, and numbers.
            match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset, count) } {
                0 => {}
                libc::ENOSPC => step /= 2,
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        // What the file system keeps for writes that it does not know the place of yet.
        while let Ok(count) = file.write(&[0; 4096]) {
            if count < 4096 {
                break;
            }
        }
        Ok(file.metadata()?.len() - before)
    }

    /// Gives it back.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.root.join(FILLER))
    }
}

fn make_image(image: &Path, root: &Path) -> io::Result<()> {
    File::create(image)?.set_len(SIZE)?;
    // Without room kept for the super-user, who the nodes may run as.
    run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0"], &[image])?;
    run("mount", &["-o", "loop"], &[image, root])
}

fn run(program: &str, words: &[&str], paths: &[&Path]) -> io::Result<()> {
    let output = Command::new(program).args(words).args(paths).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {}: {}", words.join(" "), said.trim())))
}
