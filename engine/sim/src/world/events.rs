//! What an event does when its time has come.

use engine::shard::ReadFailed;
use plog::block::BLOCK_SIZE;
use plog::frame::FrameHeader;
use plog::log::SegmentWrite;
use plog::log_record::LogRecord;

use crate::checkers::{Boot, Violation};
use crate::trace::What;
use crate::world::{CoreId, Event, World};

impl World {
    /// Lets the next thing happen. False when nothing is left to happen, or a rule was broken.
    pub fn step(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some(due) = self.events.pop() else { return false };
        self.now = self.now.max(due.at);
        let (to, from) = due.event.parties();
        let frozen = |node: u8| self.nodes[usize::from(node)].frozen_until;
        let thaws = frozen(to.node).max(from.map_or(0, |from| frozen(from.node)));
        if thaws > self.now {
            self.events.put_off(due, thaws);
            return true;
        }
        match due.event {
            Event::Frame { from, to, sender, generation, bytes } => {
                self.handle_frame((from, sender), to, generation, &bytes);
            }
            Event::Register { node, to, start } => self.register(node, to, start),
            Event::Written { to, start, failed } => self.handle_written(to, start, failed),
            Event::Read { to, start, read } => {
                if !self.is_current(to, start) {
                    return true;
                }
                let may_fail = self.is_damageable(to.node);
                let fails = may_fail && self.chances.errors.happens(self.config.faults.read_error);
                let now = self.clock_of(to.node);
                let core = self.core(to);
                let bytes = core.disk.read(read.location);
                let blocks = if fails { Err(ReadFailed) } else { Ok(&bytes[..]) };
                let up_us = now.since_us(core.started);
                let shard = core.shard.as_mut().expect("just seen");
                shard.handle_read(now, read.read, blocks);
                let load = shard.poll_finished_load();
                if let Some(load) = load {
                    let boot = Boot { node: to.node, core: to.core, start };
                    self.note(self.checker.loaded(boot, up_us, load));
                }
                self.coverage.reads += 1;
                self.coverage.read_errors += u64::from(fails);
                self.pump(to);
            }
            Event::PartWritten { to, start } => self.handle_part_written(to, start),
            Event::Adopted { to, start, pointer } => self.handle_adopted(to, start, pointer),
            Event::Freed { to, start, segment, becomes } => {
                self.handle_freed(to, start, segment, becomes);
            }
            Event::Tick { to, start, at } => {
                // An earlier one may have taken its place.
                if !self.is_current(to, start) || self.core(to).tick_at != Some(at) {
                    return true;
                }
                let now = self.clock_of(to.node);
                let core = self.core(to);
                core.tick_at = None;
                core.shard.as_mut().expect("just seen").handle_tick(now);
                self.pump(to);
            }
            Event::Mirror { to } => self.step_mirror(to),
            Event::Dial { from, to, generation } => self.dial(from, to, generation),
            Event::Silence { from, to, generation } => {
                let current = self.links[&(from, to)].generation == generation;
                if current && self.is_cut(from.node, to.node) {
                    self.break_link(from, to);
                }
            }
        }
        true
    }

    pub(super) fn clock_of(&self, node: u8) -> engine::time::Time {
        self.nodes[usize::from(node)].clock.at(self.now)
    }

    /// Whether a core runs, and in that boot.
    pub(super) fn is_current(&self, id: CoreId, start: u32) -> bool {
        self.nodes[usize::from(id.node)].starts == start && self.is_up(id.node)
    }

    /// A log write goes to the disk.
    pub(super) fn begin_write(&mut self, id: CoreId, start: u32, write: SegmentWrite) {
        let size = usize::try_from(self.config.segment_size).expect("32 bits fit a usize");
        let recycles = self.config.recycles;
        let core = self.core(id);
        if write.opens.is_some() {
            let recycled = recycles && core.disk.create_recycled(write.segment, size);
            if !recycles {
                core.disk.create(write.segment, size);
            }
            self.coverage.segments += 1;
            self.coverage.recycled_segments += u64::from(recycled);
        }
        let core = self.core(id);
        assert!(core.write.is_none(), "one write is in flight at a time");
        core.write = Some(write);
        let delay = 1 + self.chances.disk.below(self.config.faults.write_max_us);
        let failed = self.chances.errors.happens(self.config.faults.write_error);
        self.schedule(delay, Event::Written { to: id, start, failed });
    }

    fn handle_written(&mut self, to: CoreId, start: u32, failed: bool) {
        if !self.is_current(to, start) {
            return;
        }
        if failed {
            // What the disk did is not known; the daemon ends, and says so.
            self.coverage.write_errors += 1;
            self.crash(to.node);
            return;
        }
        let now = self.clock_of(to.node);
        let core = self.core(to);
        let write = core.write.take().expect("a write was under way");
        core.disk.write(write.segment, write.offset, &write.buffer);
        let seen = self.show_records(to, &write);
        self.note(seen);
        self.trace.note(self.now, What::Written { node: to.node, bytes: write.buffer.len() });
        let core = self.core(to);
        let shard = core.shard.as_mut().expect("just seen");
        shard.handle_written(now, write.buffer);
        self.pump(to);
    }

    /// Shows the checkers what a write made durable.
    fn show_records(&mut self, id: CoreId, write: &SegmentWrite) -> Result<(), Violation> {
        let node = &self.nodes[usize::from(id.node)];
        let boot = Boot { node: id.node, core: id.core, start: node.starts };
        let identity = node.log_identity(id);
        let core = &node.cores[usize::from(id.core)];
        let known = core.shard.as_ref().expect("it writes").known_generations();
        // A new segment's header stands before its first frame.
        let begin = if write.offset == 0 { BLOCK_SIZE } else { 0 };
        let frame = &write.buffer[begin..];
        let header = FrameHeader::parse(frame, &identity, write.segment)
            .expect("what the log writes is a frame of its own");
        let mut payload = header.payload(frame).expect("its checksum is right");
        while !payload.is_empty() {
            let (record, used) = LogRecord::decode(payload).expect("its records are whole");
            payload = &payload[used..];
            self.checker.written(boot, &known, &record)?;
            let is_vote = matches!(&record, LogRecord::Entry { record, .. } if !record.chosen);
            let has_lost = self.checker.has_lost(id.node, id.core);
            self.coverage.votes_after_losses += u64::from(is_vote && has_lost);
        }
        self.core(id).durable = header.last_lsn();
        Ok(())
    }
}

impl Event {
    /// Whom it concerns, and who else has to be awake.
    fn parties(&self) -> (CoreId, Option<CoreId>) {
        match self {
            Self::Frame { to, .. }
            | Self::Written { to, .. }
            | Self::Read { to, .. }
            | Self::PartWritten { to, .. }
            | Self::Adopted { to, .. }
            | Self::Freed { to, .. }
            | Self::Tick { to, .. }
            | Self::Mirror { to }
            | Self::Silence { to, .. } => (*to, None),
            Self::Dial { from, to, .. } => (*to, Some(*from)),
            Self::Register { node, to, .. } => (*node, Some(CoreId { node: *to, core: 0 })),
        }
    }
}
