//! The cleaner: frees the log's oldest segments once nothing in them is needed.
//!
//! What is before the floor of the checkpoint that counts is superseded by it; of that, a *hold* is
//! kept for peers that were away for a while, and what locks and mirrors need (see `consumers`).
//! The floor is durable before a file goes: a start never looks for what was freed.

use plog::log_config::LogConfig;
use plog::planted;
use plog::segment::SegmentId;

use crate::context::LogFull;
use crate::shard::checkpointing::FileJob;
use crate::shard::{LogSpace, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// See the module page.
#[derive(Debug)]
pub(crate) struct Cleaning {
    /// The log is near its limit with so many segments.
    near_limit: usize,
    /// An operator stopped it.
    is_paused: bool,
    /// A segment's file is being renamed or deleted: one at a time.
    is_under_way: bool,
    /// When the rate limit lets the next one go.
    next_free: Time,
}

impl Cleaning {
    pub(crate) fn new(log: &LogConfig) -> Self {
        let limit = log.segments_max.saturating_sub(log.reserve_segments());
        let near_limit = limit - limit / 4;
        Self { near_limit, is_paused: false, is_under_way: false, next_free: Time::default() }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When the rate limit lets the next segment go, if that is later than `now`.
    pub(crate) fn next_due(&self, now: Time) -> Option<Time> {
        (!self.is_paused && self.next_free > now).then_some(self.next_free)
    }
}

impl<M: StateMachine> Shard<M> {
    /// Stops freeing segments, until it is told to go on or the shard is made anew.
    ///
    /// The log's bound is not given up for it: when the log holds as many segments as it may,
    /// writes are refused. What an operator keeps by a pause (to look at it, to copy it) would
    /// otherwise go behind their back at the moment they need it.
    pub fn pause_cleaner(&mut self) {
        self.cleaning.is_paused = true;
        self.judge_room();
    }

    /// Lets the cleaner go on.
    pub fn resume_cleaner(&mut self) {
        self.cleaning.is_paused = false;
        self.judge_room();
    }

    /// Decides whether writes are taken.
    pub(super) fn judge_room(&mut self) {
        self.context.log_full = if self.log_space != LogSpace::Available {
            Some(LogFull::Disk)
        } else if self.cleaning.is_paused && self.context.log.is_at_its_limit() {
            Some(LogFull::CleanerPaused)
        } else {
            None
        };
    }

    /// Whether checkpoints must hurry, and nothing is held for peers: the log holds most of the
    /// segments that it may, or the disk is full.
    pub(super) fn is_log_near_its_limit(&self) -> bool {
        self.log_space != LogSpace::Available
            || self.context.log.segments_held() >= self.cleaning.near_limit
    }

    /// Segments that nobody needs and that are not held for peers either. Near the log's limit none
    /// is held.
    pub(super) fn freeable_segments(&self) -> u64 {
        let log = &self.context.log;
        let mut floor = self.stands_at();
        if planted!("freed-beyond-floor") {
            floor = floor.next();
        }
        let superseded = floor.0.saturating_sub(log.oldest_segment().0);
        if superseded == 0 || self.is_log_near_its_limit() {
            return superseded;
        }
        // The one being written does not count.
        let complete = u64::try_from(log.segments_held().saturating_sub(1)).expect("few");
        let held = self.context.config.log_hold_bytes / u64::from(self.log_config.segment_size);
        superseded.min(complete.saturating_sub(held))
    }

    pub(super) fn poll_free(&mut self) -> Option<FileJob> {
        if self.cleaning.is_paused || self.cleaning.is_under_way {
            return None;
        }
        if !self.consumers.is_empty() {
            self.limit_consumers();
        }
        let is_hurried = self.is_log_near_its_limit();
        if self.freeable_segments() == 0
            || !is_hurried && self.cleaning.next_free > self.context.now
        {
            return None;
        }
        let oldest = self.context.log.oldest_segment();
        // A read under way would find another segment's bytes.
        if self.log_reads.reads_from(|file| file == oldest) && !planted!("freed-under-a-read") {
            return None;
        }
        let freed = self.context.log.free(oldest).ok()?;
        let is_kept = self.log_space != LogSpace::FullReserveGivenBack;
        let becomes = (is_kept && self.context.log.take_recycled()).then_some(freed.spare);
        self.cleaning.is_under_way = true;
        self.context.counters.segments_freed += 1;
        let pause_us = u64::from(self.log_config.segment_size) * 1_000_000
            / self.context.config.clean_bytes_per_second.max(1);
        self.cleaning.next_free = self.context.now.after_us(pause_us);
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
