//! Transfers: many whole entities from one peer, in the order of its index.
//!
//! A core that lost its log would ask for one entity after the other. Where there are many, it
//! first asks one peer for all of them, a page at a time:
//!
//! ```text
//! asker                                   answerer
//!   │ ── Transfer: from X on ───────────────▶ │  reads its images, neighbours with one read
//!   │ ◀──────────────── TransferPage: next Y  │
//!   │ ── Transfer: from Y on ───────────────▶ │  and reads these meanwhile
//!   │ ◀───────── Image, Image, …, Image ───── │
//!   │ ◀────────────── TransferPage: all sent  │
//! ```
//!
//! Each image is whole, checked, and installed by itself: nothing is ever half there, and what
//! comes twice or not at all does no harm. A transfer goes on after the last entity that came,
//! whichever side was away or started anew in between, and with another peer when one is silent.
//! Whatever it did not bring, because the answerer holds it as entries only, catches up one by one.
//!
//! `PhxPaxos` and Certain send the files of a checkpoint, which have to be locked meanwhile and are
//! worth something only together. An index that knows where every image is needs neither: images
//! are of now, and files go when the cleaner says so. Checkpoints are written in the same order, so
//! that a page is a few large reads.

mod answering;
mod asking;

/// Pages that a core of a peer is asked for at a time: while one is taken, the next are read.
const PAGES_UNDER_WAY_MAX: usize = 3;

pub(crate) use crate::shard::transfer::answering::TransferPages;
pub(crate) use crate::shard::transfer::asking::Transfer;
