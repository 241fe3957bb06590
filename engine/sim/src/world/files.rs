//! Checkpoints and freed segments: what a shard wants done with files.

use engine::shard::{FileJob, FileStep};
use plog::block::BLOCK_SIZE;
use plog::checkpoint::pointer::Pointer;
use plog::frame::FrameHeader;
use plog::log_record::LogRecord;
use plog::segment::{SegmentId, SpareId};

use crate::checkers::Violation;
use crate::world::{CoreId, Event, World};

/// How long a checkpoint waits before it tries again to find room, in microseconds.
const RETRY_US: u64 = 5_000;

impl World {
    /// Does what a core's shard wants done with files.
    pub(super) fn pump_files(&mut self, id: CoreId, start: u32) {
        let now = self.clock_of(id.node);
        while let Some(shard) = self.core(id).shard.as_mut()
            && let Some(step) = shard.poll_file_step(now)
        {
            let delay = 1 + self.chances.disk.below(self.config.faults.write_max_us);
            match step {
                FileStep::Write(write) => {
                    let core = self.core(id);
                    assert!(core.part_write.is_none(), "one write is in flight at a time");
                    core.part_write = Some(write);
                    self.schedule(delay, Event::PartWritten { to: id, start });
                }
                FileStep::Job(FileJob::Adopt(pointer)) => {
                    self.schedule(delay, Event::Adopted { to: id, start, pointer });
                }
                FileStep::Job(FileJob::Remove { checkpoint, .. }) => {
                    self.core(id).disk.remove_checkpoint(checkpoint);
                }
                FileStep::Job(FileJob::Free { segment, becomes }) => {
                    self.schedule(delay, Event::Freed { to: id, start, segment, becomes });
                }
            }
        }
    }

    /// Whether a deed with files that is due now does not happen: there is no room, and `again` is
    /// tried later; or the disk fails, and the node ends.
    fn is_kept_from(&mut self, to: CoreId, again: Event) -> bool {
        if self.full.contains(&to.node) {
            self.coverage.checkpoint_waits += 1;
            self.schedule(RETRY_US, again);
            return true;
        }
        self.fails(to)
    }

    /// Whether the disk fails, and with it the node.
    fn fails(&mut self, to: CoreId) -> bool {
        let fails = self.chances.files.happens(self.config.faults.file_error);
        if fails {
            self.coverage.file_errors += 1;
            self.crash(to.node);
        }
        fails
    }

    pub(super) fn handle_part_written(&mut self, to: CoreId, start: u32) {
        if !self.is_current(to, start) || self.is_kept_from(to, Event::PartWritten { to, start }) {
            return;
        }
        let now = self.clock_of(to.node);
        let core = self.core(to);
        let write = core.part_write.take().expect("a write was under way");
        core.disk.write_part(write.part, write.offset, &write.buffer);
        let shard = core.shard.as_mut().expect("just seen");
        shard.handle_checkpoint_written(now, write.buffer);
        self.pump(to);
    }

    pub(super) fn handle_adopted(&mut self, to: CoreId, start: u32, pointer: Pointer) {
        if !self.is_current(to, start)
            || self.is_kept_from(to, Event::Adopted { to, start, pointer })
        {
            return;
        }
        let now = self.clock_of(to.node);
        self.core(to).disk.adopt(pointer);
        let seen = self.show_checkpoint(to, pointer);
        self.note(seen);
        // It may fail when it has done all that counts.
        if self.fails(to) {
            return;
        }
        let shard = self.core(to).shard.as_mut().expect("just seen");
        shard.handle_adopted(now, pointer);
        self.pump(to);
    }

    pub(super) fn handle_freed(
        &mut self,
        to: CoreId,
        start: u32,
        segment: SegmentId,
        becomes: Option<SpareId>,
    ) {
        // A crash may come between the decision and the deed: the next start sees to the file.
        if !self.is_current(to, start) || self.fails(to) {
            return;
        }
        let core = self.core(to);
        core.disk.free(segment, becomes.is_some());
        let shard = core.shard.as_mut().expect("just seen");
        shard.handle_freed(segment);
        if let Some(spare) = becomes {
            shard.handle_spare(spare);
        }
        self.pump(to);
    }

    /// Shows the checkers what a checkpoint that counts from now on holds.
    fn show_checkpoint(&mut self, id: CoreId, pointer: Pointer) -> Result<(), Violation> {
        let node = &self.nodes[usize::from(id.node)];
        let identity = node.log_identity(id);
        let parts = node.cores[usize::from(id.core)].disk.parts(pointer.checkpoint);
        let mut images = Vec::new();
        for (part, bytes) in parts {
            let mut rest = &bytes[BLOCK_SIZE..];
            while let Ok(header) = FrameHeader::parse(rest, &identity, part.file()) {
                let length = usize::try_from(header.frame_length).expect("32 bits fit a usize");
                let mut payload = header.payload(&rest[..length]).expect("just written");
                while !payload.is_empty() {
                    let (record, used) = LogRecord::decode(payload).expect("just written");
                    payload = &payload[used..];
                    images.push(record);
                }
                rest = &rest[length..];
            }
        }
        self.coverage.checkpointed += images.len() as u64;
        let shard = self.core(id).shard.as_ref().expect("it adopts");
        let known = shard.known_generations();
        let version = shard.configuration().version;
        for image in images {
            self.checker.durable(id.node, &known, version, &image)?;
        }
        Ok(())
    }
}
