//! Feeding a replayer from a simulated disk: the checkpoint that counts, and the log behind it.

use engine::replayer::{KeptIds, ReplayError, Replayer, ReplayerConfig, StateMirror, Wants};
use engine::state_machine::strings::Strings;
use plog::block::BLOCK_SIZE;
use plog::checkpoint::PartId;
use plog::identity::LogIdentity;
use plog::recovery::Scanner;

use crate::disk::Disk;
use crate::part::{PartContent, read_part};

/// A replayer of the machine that the nodes serve.
pub type DiskReplayer = Replayer<StateMirror<Strings>>;

/// One that has nothing yet, for replicas that keep so many request ids.
#[must_use]
pub fn new_replayer(request_ids_max: usize) -> DiskReplayer {
    let mirror = StateMirror::new(KeptIds::Most(request_ids_max));
    Replayer::new(ReplayerConfig::default(), mirror)
}

/// Feeds all that the disk of a core holds.
///
/// # Errors
///
/// What the replayer finds wrong.
pub fn replay(
    replayer: &mut DiskReplayer,
    disk: &Disk,
    identity: &LogIdentity,
) -> Result<(), ReplayError> {
    replayer.begin(disk.pointer.as_ref());
    if let Some(pointer) = disk.pointer {
        for (part, bytes) in disk.parts(pointer.checkpoint) {
            load_part(replayer, identity, part, bytes)?;
        }
    }
    replayer.finish_loading()?;
    follow(replayer, disk, identity, usize::MAX)
}

/// Feeds a part of a checkpoint: rows, then images.
///
/// # Errors
///
/// What the replayer finds wrong.
///
/// # Panics
///
/// When the part is damaged.
pub fn load_part(
    replayer: &mut DiskReplayer,
    identity: &LogIdentity,
    part: PartId,
    bytes: &[u8],
) -> Result<(), ReplayError> {
    let PartContent { frames, rows } = read_part(bytes, identity, part).expect("the disk is whole");
    rows.iter().for_each(|row| replayer.load_row(row));
    let mut result = Ok(());
    if frames.len() > BLOCK_SIZE {
        let mut scanner = Scanner::new(*identity);
        scanner.begin_segment(part.file(), frames.len() as u64);
        let fed = scanner.feed(frames, &mut |scanned| {
            if result.is_ok() {
                result = replayer.load_image(&scanned.record);
            }
        });
        fed.expect("no other log's files come to these disks");
    }
    result
}

/// Feeds the log from where the replayer wants it on, at most about so many records that are new.
///
/// # Errors
///
/// What the replayer finds wrong, a segment that is gone among it.
pub fn follow(
    replayer: &mut DiskReplayer,
    disk: &Disk,
    identity: &LogIdentity,
    limit: usize,
) -> Result<(), ReplayError> {
    let Wants::Log { from, after } = replayer.wants() else { return Ok(()) };
    let mut scanner = Scanner::from_floor(*identity, from);
    let (mut left, mut result) = (limit, Ok(()));
    for (segment, file) in disk.segments(from) {
        if left == 0 || result.is_err() {
            break;
        }
        replayer.begin_segment(segment)?;
        scanner.begin_segment(segment, file.size() as u64);
        for bytes in file.chunks() {
            let fed = scanner.feed(bytes, &mut |scanned| {
                if scanned.lsn > after && left > 0 && result.is_ok() {
                    left -= 1;
                    result = replayer.handle_record(&scanned);
                }
            });
            fed.expect("no other log's files come to these disks");
        }
    }
    result
}
