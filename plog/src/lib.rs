//! The PLog: one core's append-only log of acceptor records.
//!
//! Everything an acceptor promised or accepted must be on disk before anybody hears of it. This
//! crate decides what the bytes are, where they go, when a record counts as durable, and what a
//! crashed log still says. It never touches a file, a clock, a thread or a random source; a
//! *driver* (the daemon, or the simulator) does the reading and writing.
//!
//! How to drive it:
//!
//! 1. Start: feed every segment file in ascending order to a [`recovery::Scanner`], noting each
//!    record in an [`index::Index`]; look at the [`recovery::Recovered`] outcome.
//! 2. Make a [`log::Log`] from the outcome's tail, hand it the index and the spare segments on
//!    disk.
//! 3. `append` records; while `poll_write` returns a write, perform it and report it with
//!    `handle_written` once it is durable. One write is in flight at a time.
//! 4. Keep `spares_wanted` spares ready, and report each with `handle_spare`.
//! 5. To load an entity, read the locations of its [`index::LoadPlan`], parse each with
//!    [`location::read_back`] and feed them to the plan's [`assemble::Assembler`].
//!
//! Every byte on disk is described in `docs/FORMAT.md`.

pub mod advances;
pub mod assemble;
pub mod backup_manifest;
pub mod block;
pub mod checkpoint;
pub mod configuration;
pub mod dump;
pub mod entry_record;
pub mod frame;
pub mod frame_walk;
pub mod identity;
pub mod index;
mod little_endian;
pub mod location;
pub mod log;
pub mod log_config;
pub mod log_record;
pub mod memory;
pub mod plants;
pub mod recovery;
pub mod segment;
pub mod summary;
pub mod verify;
pub mod vocabulary;
