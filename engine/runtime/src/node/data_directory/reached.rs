//! The newest segment that a core's log is known to have reached: the bytes of `reached-N`. It is
//! written soon after the first frame of a segment is durable. A log that ends before has lost
//! segments: nothing in the log itself could tell that from one that never came so far.
//!
//! It stands beside the cores' directories, so that it is still there when one was emptied.
//!
//! ```text
//! offset  bytes  meaning, little-endian
//!      0      8  segment
//! ```

use std::io;
use std::path::Path;

use plog::segment::SegmentId;

use crate::node::data_directory::error::{Result, SPACE, failed};
use crate::node::data_directory::facts::{Noted, find_fact};
use crate::node::two_copies::{self, COPY_SUFFIX, FactKind};

/// Begins the name of a core's fact.
const PREFIX: &str = "reached-";

pub(super) const REACHED: FactKind = FactKind { name: "reached", magic: *b"CertRchd", version: 1 };

pub(super) fn name_of(core: u16) -> String {
    format!("{PREFIX}{core}")
}

/// Whether a file of the data directory is one of these facts, or its copy.
pub(super) fn is_name(name: &str) -> bool {
    let name = name.strip_suffix(COPY_SUFFIX).unwrap_or(name);
    name.strip_prefix(PREFIX).is_some_and(|core| core.parse::<u16>().is_ok())
}

pub(super) fn decode(bytes: &[u8]) -> Option<SegmentId> {
    Some(SegmentId(u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// What the log of `core` under the data directory `path` has reached, as far as it was noted.
/// Changes nothing.
///
/// # Errors
///
/// When neither copy that is there is usable, or one is of a newer version.
pub fn load_reached(path: &Path, core: u16) -> Result<Option<SegmentId>> {
    Ok(find(path, core)?.map(|noted| noted.fact))
}

/// Like [`load_reached`], and makes both copies whole again and equal, if one is not.
///
/// # Errors
///
/// As [`load_reached`], and when a copy cannot be made durable.
pub fn repair_reached(path: &Path, core: u16) -> Result<Option<SegmentId>> {
    let Some(Noted { fact: segment, copies_agree }) = find(path, core)? else { return Ok(None) };
    if !copies_agree {
        write_reached(path, core, segment).map_err(failed(path, "writing to it", SPACE))?;
    }
    Ok(Some(segment))
}

fn find(path: &Path, core: u16) -> Result<Option<Noted<SegmentId>>> {
    // A crash between the two leaves the first ahead.
    let both = |[first, second]: [SegmentId; 2]| Some(first.max(second));
    find_fact(path, &REACHED, &name_of(core), decode, both)
}

/// Makes durable that the log of `core` has reached `segment`.
///
/// # Errors
///
/// The operating system's reason.
pub fn write_reached(path: &Path, core: u16, segment: SegmentId) -> io::Result<()> {
    two_copies::write(path, &REACHED, &name_of(core), &segment.0.to_le_bytes())
}

/// Removes what was noted of the log of `core`, durably: another log begins.
pub(super) fn remove_reached(path: &Path, core: u16) -> io::Result<()> {
    two_copies::remove(path, &name_of(core))
}

#[cfg(test)]
mod tests {
    use plog::segment::SegmentId;

    use super::{is_name, load_reached, repair_reached, write_reached};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn what_was_reached_is_known_with_one_copy_lost_and_not_guessed_with_both_damaged() {
        let directory = TestDirectory::new();
        let path = directory.path();
        assert_eq!(load_reached(path, 3).unwrap(), None);
        write_reached(path, 3, SegmentId(7)).unwrap();
        assert_eq!(load_reached(path, 3).unwrap(), Some(SegmentId(7)));
        assert_eq!(load_reached(path, 2).unwrap(), None, "each core has its own");
        for lost in ["reached-3", "reached-3.copy"] {
            std::fs::remove_file(path.join(lost)).unwrap();
            assert_eq!(load_reached(path, 3).unwrap(), Some(SegmentId(7)));
            assert_eq!(repair_reached(path, 3).unwrap(), Some(SegmentId(7)));
            assert!(path.join(lost).exists());
        }
        for file in ["reached-3", "reached-3.copy"] {
            std::fs::write(path.join(file), b"noise").unwrap();
        }
        let words = load_reached(path, 3).unwrap_err().to_string();
        assert!(words.contains("reached"), "{words}");
    }

    #[test]
    fn a_crash_between_the_two_copies_leaves_the_later_one_true() {
        let directory = TestDirectory::new();
        let path = directory.path();
        write_reached(path, 0, SegmentId(7)).unwrap();
        let older = std::fs::read(path.join("reached-0.copy")).unwrap();
        write_reached(path, 0, SegmentId(8)).unwrap();
        std::fs::write(path.join("reached-0.copy"), older).unwrap();
        assert_eq!(load_reached(path, 0).unwrap(), Some(SegmentId(8)));
    }

    #[test]
    fn only_cores_have_such_a_fact() {
        assert!(is_name("reached-0") && is_name("reached-255.copy"));
        assert!(!is_name("reached-") && !is_name("reached-x") && !is_name("reached-1.new"));
    }
}
