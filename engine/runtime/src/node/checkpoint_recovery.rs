//! Reads a core's checkpoint at a start, and says whether promises may be lost with it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use engine::abstention::Abstention;
use engine::shard::StringShard;
use plog::checkpoint::PartId;
use plog::checkpoint::pointer::Pointer;
use plog::identity::LogIdentity;
use plog::segment::SegmentId;
use plog::vocabulary::{BootEpoch, Lsn};

use crate::node::checkpoint_files::{CheckpointError, read_pointer, read_tables};
use crate::node::log_files::FoundFiles;
use crate::node::log_line;
use crate::node::recovery::{RecoveredLog, RecoveryError};
use crate::node::recovery_progress::Progress;

/// What a core's checkpoint holds.
#[derive(Debug)]
pub struct RecoveredCheckpoint {
    /// The one that counts.
    pub pointer: Option<Pointer>,
    /// Its parts, open for reading.
    pub parts: BTreeMap<PartId, OwnedFd>,
    /// How many entities it names.
    pub rows: u64,
    epoch: BootEpoch,
    /// Where it was found damaged.
    damage: Option<SegmentId>,
}

impl RecoveredCheckpoint {
    /// Reads the tables of the checkpoint that counts into `shard`, and removes the files that no
    /// longer count. A shard that `abstains` already needs none of it, and nothing is removed, nor
    /// is anything once damage was found. Asks `is_stopping` between reads.
    ///
    /// # Errors
    ///
    /// When a file is another log's, or a newer version's, or the device does not read it, and when
    /// the node is stopping.
    pub fn read(
        directory: &Path,
        identity: &LogIdentity,
        found: &mut FoundFiles,
        abstains: bool,
        epoch: BootEpoch,
        is_stopping: impl Fn() -> bool,
        shard: &mut StringShard,
    ) -> Result<Self, RecoveryError> {
        let mut checkpoint =
            Self { pointer: None, parts: BTreeMap::new(), rows: 0, epoch, damage: None };
        let pointer = match read_pointer(directory, !abstains) {
            Ok(pointer) => pointer,
            Err(error) => {
                checkpoint.damaged(error, SegmentId::FIRST)?;
                return Ok(checkpoint);
            }
        };
        checkpoint.pointer = pointer;
        if abstains {
            return Ok(checkpoint);
        }
        if let Some(pointer) = pointer {
            let rows = Cell::new(0);
            let mut progress = Progress::begin("reading the checkpoint", pointer.parts.into());
            let goes_on = |parts_done, bytes| {
                progress.tell(parts_done, bytes, ("entities", rows.get()));
                !is_stopping()
            };
            let read = read_tables(directory, identity, pointer, goes_on, |row| {
                rows.set(rows.get() + 1);
                shard.recover_checkpointed(&row);
            });
            checkpoint.rows = rows.get();
            match read {
                Ok(parts) => checkpoint.parts = parts,
                Err(CheckpointError::Stopped) => return Err(RecoveryError::Stopped),
                Err(error) => {
                    checkpoint.damaged(error, pointer.checkpoint.part(0).file())?;
                    return Ok(checkpoint);
                }
            }
        }
        found
            .remove_superseded(pointer)
            .map_err(|error| RecoveryError::Io { file: directory.to_owned(), error })?;
        Ok(checkpoint)
    }

    fn damaged(&mut self, error: CheckpointError, file: SegmentId) -> Result<(), RecoveryError> {
        if !error.is_damage() {
            return Err(error.into());
        }
        log_line::error("the checkpoint is damaged; this core abstains", &[("reason", &error)]);
        self.damage = Some(file);
        Ok(())
    }

    /// Whether the shard has to abstain for what is missing of the checkpoint, or of the log behind
    /// it.
    #[must_use]
    pub fn judge(&self, log: &RecoveredLog) -> Option<Abstention> {
        let mut damage = self.damage;
        let last = log.tail.map_or(Lsn::ZERO, |tail| tail.last_lsn);
        if let Some(pointer) = self.pointer
            && last < pointer.settled
        {
            log_line::error(
                "the log ends before the record that it reached when its checkpoint was adopted; \
                 this core abstains",
                &[
                    ("last_record", &last.0),
                    ("reached", &pointer.settled.0),
                    ("checkpoint", &pointer.checkpoint),
                ],
            );
            damage = damage.or(Some(pointer.floor));
        }
        damage.map(|segment| Abstention { since: self.epoch, segment, offset: 0 })
    }
}
