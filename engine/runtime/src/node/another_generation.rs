//! At a start: cores that lost what they may have promised begin another log, in the next
//! generation of the node, and rejoin. Where there is no room for it they go on abstaining.

use std::path::Path;

use engine::abstention::Abstention;

use crate::node::config::Config;
use crate::node::data_directory::{DataDirectory, random_incarnation, write_abstention};
use crate::node::fatal::Fatal;
use crate::node::log_files::FoundFiles;
use crate::node::log_line;
use crate::node::preflight::free_space;
use crate::node::recovery::RecoveryError;

/// Begins another log for each core that lost something in this generation or before, if there is
/// room for them.
///
/// # Errors
///
/// When a note cannot be read, or something cannot be made durable.
pub(super) fn begin_other_logs(data: &mut DataDirectory, config: &Config) -> Result<(), Fatal> {
    let lost = data.lost_cores()?;
    let cores: Vec<u16> = lost.iter().map(|(core, _)| *core).collect();
    if cores.is_empty() || !has_room(data, &cores, config)? {
        return Ok(());
    }
    let aside = data.begin_other_logs(&cores, random_incarnation)?;
    for ((core, loss), aside) in lost.iter().zip(aside) {
        log_line::warn(
            "this core lost what it may have promised: what is left of its log was put aside, and \
             it rejoins with another one, in the node's next generation",
            &[
                ("core", core),
                ("reason", loss),
                ("generation", &data.generation().0),
                ("aside", &aside.display()),
            ],
        );
    }
    Ok(())
}

/// Whether the disk has room for another log of each of these cores, beside the old ones. Says so
/// if not.
///
/// # Errors
///
/// When a core's directory cannot be listed.
pub(super) fn has_room(
    data: &DataDirectory,
    cores: &[u16],
    config: &Config,
) -> Result<bool, Fatal> {
    let mut needed: u64 = 0;
    for core in cores {
        let directory = data.core(*core);
        let found = look(&directory, config.log.segment_size_bytes)?;
        // They are deleted, and leave their room to new ones.
        let present = u64::try_from(found.spares.len()).unwrap_or(u64::MAX);
        let files = u64::from(config.log.spare_segments).saturating_add(1).saturating_sub(present);
        needed = needed.saturating_add(files.saturating_mul(config.log.segment_size_bytes.into()));
    }
    let free = free_space(data.path())
        .map_err(|error| Fatal::from(RecoveryError::Io { file: data.path().to_owned(), error }))?;
    if free < needed {
        log_line::error(
            "a core lost what it may have promised, and there is no room for another log beside \
             the old one: it abstains; make room and start the node again",
            &[("cores", &format_args!("{cores:?}")), ("needed", &needed), ("free", &free)],
        );
    }
    Ok(free >= needed)
}

/// What logs were found to have lost at this start is noted, in the generation that it belongs to.
///
/// # Errors
///
/// When it cannot be made durable.
pub(super) fn note_losses(data: &DataDirectory, losses: &[(u16, Abstention)]) -> Result<(), Fatal> {
    for (core, loss) in losses {
        write_abstention(&data.core(*core), loss)?;
    }
    Ok(())
}

/// The files of a core.
pub(super) fn look(directory: &Path, segment_size: u32) -> Result<FoundFiles, Fatal> {
    FoundFiles::look(directory, segment_size)
        .map_err(|error| Fatal::from(RecoveryError::Io { file: directory.to_owned(), error }))
}

#[cfg(test)]
mod tests {
    use engine::abstention::Abstention;
    use plog::segment::SegmentId;
    use plog::vocabulary::{BootEpoch, Generation};

    use super::{begin_other_logs, has_room, note_losses};
    use crate::node::config::Config;
    use crate::node::data_directory::{ExpectedIdentity, LockedDirectory, load_abstention};
    use crate::node::test_directory::TestDirectory;

    #[test]
    fn without_room_for_another_log_the_damaged_one_stays_where_it_is() {
        let directory = TestDirectory::new();
        let expected = ExpectedIdentity {
            cluster_id: 7,
            node_id: 1,
            replicas: 3,
            core_count: Some(1),
            default_core_count: 1,
        };
        let locked = LockedDirectory::take(directory.path()).unwrap();
        let mut data = locked.open(&expected, || Ok(9)).unwrap();
        data.begin_boot().unwrap();
        let segment = data.core(0).join("0000000000000001.plog");
        std::fs::write(&segment, b"damaged").unwrap();
        let loss = Abstention { since: BootEpoch(1), segment: SegmentId(1), offset: 0 };
        note_losses(&data, &[(0, loss)]).unwrap();
        let mut config = Config::default();
        config.log.spare_segments = u16::MAX;
        config.log.segment_size_bytes = u32::MAX;
        assert!(!has_room(&data, &[0], &config).unwrap());
        begin_other_logs(&mut data, &config).unwrap();
        assert!(segment.exists() && data.generation() == Generation::FIRST);
        (config.log.spare_segments, config.log.segment_size_bytes) = (1, 1 << 16);
        assert!(has_room(&data, &[0], &config).unwrap());
        begin_other_logs(&mut data, &config).unwrap();
        assert!(!segment.exists() && data.generation() == Generation(1));
        assert_eq!(load_abstention(&data.core(0)).unwrap(), Some(loss));
    }
}
