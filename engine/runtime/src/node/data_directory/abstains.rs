//! That a core lost what it may have promised: the bytes of `core-N/abstains`. While one of its
//! copies stands the core abstains, whatever its log looks like, until a later generation begins;
//! from then on it rejoins.
//!
//! ```text
//! offset  bytes  meaning, all little-endian
//!      0      4  boot epoch that found it; the last one of a lost directory's generation
//!      4      8  segment in which the damage begins; 0: the whole data directory was lost
//!     12      8  byte offset in it
//! ```

use std::io;
use std::path::Path;

use engine::abstention::Abstention;
use plog::segment::SegmentId;
use plog::vocabulary::BootEpoch;

use crate::node::data_directory::error::Result;
use crate::node::data_directory::facts::{Noted, find_fact, write_fact};
use crate::node::log_line;
use crate::node::two_copies::{self, FactKind};

const ABSTAINS: FactKind = FactKind { name: "abstains", magic: *b"CertAbst", version: 1 };

fn encode(abstention: &Abstention) -> Vec<u8> {
    let mut bytes = abstention.since.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&abstention.segment.0.to_le_bytes());
    bytes.extend_from_slice(&abstention.offset.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Abstention> {
    let bytes: &[u8; 20] = bytes.try_into().ok()?;
    Some(Abstention {
        since: BootEpoch(u32::from_le_bytes(bytes[..4].try_into().ok()?)),
        segment: SegmentId(u64::from_le_bytes(bytes[4..12].try_into().ok()?)),
        offset: u64::from_le_bytes(bytes[12..].try_into().ok()?),
    })
}

/// What an earlier start noted of the core whose log is in `directory`. A copy that is missing or
/// damaged is made again from the other.
///
/// # Errors
///
/// When neither copy that is there is usable, one is of a newer version, or one cannot be repaired.
pub fn load_abstention(directory: &Path) -> Result<Option<Abstention>> {
    // Either is true: damage once found stays.
    let found = find_fact(directory, &ABSTAINS, ABSTAINS.name, decode, |[first, _]| Some(first))?;
    let Some(Noted { fact: found, copies_agree }) = found else { return Ok(None) };
    if !copies_agree {
        log_line::warn(
            "one copy of the note that this core abstains was repaired from the other",
            &[("directory", &directory.display())],
        );
        write_abstention(directory, &found)?;
    }
    Ok(Some(found))
}

/// Whether it is noted of the core whose log is in `directory` that it lost something, in a copy
/// that is whole or not. Changes nothing.
#[must_use]
pub fn is_loss_noted(directory: &Path) -> bool {
    two_copies::paths(directory, ABSTAINS.name).iter().any(|path| path.exists())
}

/// Makes durable that the core whose log is in `directory` abstains from now on.
///
/// # Errors
///
/// When it cannot be made durable; the core must not speak then.
pub fn write_abstention(directory: &Path, abstention: &Abstention) -> Result<()> {
    write_fact(directory, &ABSTAINS, &encode(abstention))
}

/// Removes the note on the core whose log is in `directory`, durably. A crash may leave one copy,
/// which counts.
pub(super) fn remove_abstention(directory: &Path) -> io::Result<()> {
    two_copies::remove(directory, ABSTAINS.name)
}

#[cfg(test)]
mod tests {
    use engine::abstention::Abstention;
    use plog::segment::SegmentId;
    use plog::vocabulary::BootEpoch;

    use super::{load_abstention, write_abstention};
    use crate::node::test_directory::TestDirectory;

    const FOUND: Abstention =
        Abstention { since: BootEpoch(4), segment: SegmentId(7), offset: 8192 };

    #[test]
    fn a_core_that_abstains_says_so_with_one_copy_lost_and_is_not_guessed_with_both_damaged() {
        let directory = TestDirectory::new();
        assert_eq!(load_abstention(directory.path()).unwrap(), None);
        write_abstention(directory.path(), &FOUND).unwrap();
        for lost in ["abstains", "abstains.copy"] {
            std::fs::remove_file(directory.path().join(lost)).unwrap();
            assert_eq!(load_abstention(directory.path()).unwrap(), Some(FOUND));
            assert!(directory.path().join(lost).exists(), "it was repaired");
            std::fs::write(directory.path().join(lost), b"noise").unwrap();
            assert_eq!(load_abstention(directory.path()).unwrap(), Some(FOUND));
        }
        // What is damaged everywhere is not taken for what was never there.
        std::fs::remove_file(directory.path().join("abstains")).unwrap();
        std::fs::write(directory.path().join("abstains.copy"), b"noise").unwrap();
        assert!(load_abstention(directory.path()).is_err());
    }
}
