//! The engine: consensus, shards and the state machine, free of IO, clocks, threads and chance.
//!
//! [`shard::Shard`] is the whole of one core; its page says how to drive it. The daemon and the
//! simulator drive the same code.

pub mod abstention;
pub mod after_sync;
pub mod batch;
pub mod chain;
pub mod config;
pub mod context;
mod entity;
pub mod entity_state;
mod errors;
pub mod membership;
mod random;
pub mod replayer;
pub mod request;
pub mod request_ids;
pub mod session;
pub mod shard;
pub mod state_machine;
pub mod status;
pub mod tail;
pub mod time;
mod timers;
