//! The cleaner: frees the log's oldest segments once nothing in them is needed.
//!
//! What is before the floor of the checkpoint that counts is superseded by it; of that, a *hold* is
//! kept for peers that were away for a while, and what locks and mirrors need (see `consumers`). The
//! floor is durable before a file goes: a start never looks for what was freed.

use plog::planted;
use plog::segment::SegmentId;

use crate::shard::Shard;
use crate::shard::checkpointing::FileJob;
use crate::state_machine::StateMachine;

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    /// An operator stopped it.
    is_paused: bool,
    /// A segment's file is being renamed or deleted: one at a time.
    is_under_way: bool,
}

impl<M: StateMachine> Shard<M> {
    /// Stops freeing segments, or goes on.
    pub fn pause_cleaner(&mut self, is_paused: bool) {
        self.cleaning.is_paused = is_paused;
    }

    /// Whether checkpoints must hurry: the log holds most of the segments that it may.
    pub(super) fn is_log_near_its_limit(&self) -> bool {
        let log = &self.context.log;
        let limit = log.config().segments_max.saturating_sub(log.config().reserve_segments());
        log.segments_held() >= limit - limit / 4
    }

    pub(super) fn poll_free(&mut self) -> Option<FileJob> {
        if self.cleaning.is_paused || self.cleaning.is_under_way {
            return None;
        }
        self.limit_consumers();
        let log = &self.context.log;
        let oldest = log.oldest_segment();
        let mut floor = self.stands_at();
        if planted!("freed-beyond-floor") {
            floor = floor.next();
        }
        if oldest >= floor {
            return None;
        }
        let held = u64::try_from(log.segments_held() - 1).expect("a count fits 64 bits");
        let held_bytes = held * u64::from(self.log_config.segment_size);
        let is_held = held_bytes <= self.context.config.log_hold_bytes;
        if is_held && !self.is_log_near_its_limit() {
            return None;
        }
        // A read under way would find another segment's bytes.
        if self.log_reads.reads_from(|file| file == oldest) && !planted!("freed-under-a-read") {
            return None;
        }
        let freed = self.context.log.free(oldest).ok()?;
        let becomes = self.context.log.take_recycled().then_some(freed.spare);
        self.cleaning.is_under_way = true;
        self.context.counters.segments_freed += 1;
        Some(FileJob::Free { segment: freed.segment, becomes })
    }

    /// The segment polled for freeing is gone under its name.
    ///
    /// # Panics
    ///
    /// When none was handed out.
    pub fn handle_freed(&mut self, segment: SegmentId) {
        assert!(segment < self.context.log.oldest_segment());
        assert!(self.cleaning.is_under_way, "one at a time");
        self.cleaning.is_under_way = false;
    }
}
