//! Why a core cannot go on.

use std::io;

use plog::segment::{SegmentId, SpareId};
use plog::vocabulary::Generation;

use crate::node::known_incarnations::IncarnationError;
use crate::node::known_membership::MembershipFileError;

/// Something after which nothing may be promised any more. Never retried: what reached the disk is
/// not known, and only a restart, which reads it back, finds out.
#[derive(Debug, thiserror::Error)]
pub enum FatalReason {
    /// The kernel refused a write or its sync.
    #[error(
        "writing {length} bytes at {offset} of log segment {:016x} failed: {error}; what reached \
         the disk is unknown, so the node stops; check the disk, then restart", segment.0
    )]
    LogWrite {
        /// The segment.
        segment: SegmentId,
        /// Where in it, in bytes.
        offset: u64,
        /// How much was to be written, in bytes.
        length: usize,
        /// Why.
        error: io::Error,
    },
    /// A write ended early.
    #[error(
        "only {written} of {length} bytes at {offset} of log segment {:016x} were written; the \
         disk is full or failing, so the node stops; check it, then restart", segment.0
    )]
    ShortLogWrite {
        /// The segment.
        segment: SegmentId,
        /// Where in it, in bytes.
        offset: u64,
        /// How much was to be written, in bytes.
        length: usize,
        /// How much was, in bytes.
        written: usize,
    },
    /// A spare file could not become the next segment.
    #[error(
        "opening spare {} as log segment {:016x} failed: {error}; check the data directory, then \
         restart", spare.0, segment.0
    )]
    OpenSegment {
        /// The spare file.
        spare: SpareId,
        /// What it was to become.
        segment: SegmentId,
        /// Why.
        error: io::Error,
    },
    /// The log asked for a segment that is not open.
    #[error("log segment {:016x} is not open, though the log refers to it; this is a bug", segment.0)]
    MissingSegment {
        /// The segment.
        segment: SegmentId,
    },
    /// A file of a checkpoint or a freed segment could not be made, made durable, or renamed.
    #[error(
        "a checkpoint's or freed segment's file cannot be handled: {error}; check the data \
         directory and the disk, then restart"
    )]
    CheckpointFiles {
        /// Why, with the file.
        error: io::Error,
    },
    /// What a peer's generation is could not be made durable.
    #[error(
        "{error}; without it, votes could be counted that no longer count, so the node stops; \
             check the data directory and the disk, then restart"
    )]
    Remember {
        /// Why.
        error: IncarnationError,
    },
    /// By which configuration the node goes, or what it promised of the next, could not be made
    /// durable.
    #[error(
        "who the members are cannot be kept: {error}; the node stops before it says anything that \
         rests on it; check the data directory and the disk, then restart"
    )]
    Membership {
        /// Why.
        error: MembershipFileError,
    },
    /// Another process is this node by now.
    #[error(
        "this node goes on as generation {} in another process, which was started from another \
         data directory: this one must not speak any more; keep it down, and its data directory \
         out of use", by.0
    )]
    Superseded {
        /// Its generation.
        by: Generation,
    },
    /// io_uring itself failed.
    #[error("io_uring failed: {error}; the node cannot go on without it")]
    Ring {
        /// Why.
        error: io::Error,
    },
}
