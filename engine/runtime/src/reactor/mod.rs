//! One core: everything in a request's path, driven by one loop over one io_uring.
//!
//! The reactor carries bytes between the kernel and the pure parts, and decides nothing about an
//! entity. One [`turn`](core::Core::turn) does for everything that arrived what a naive server does
//! for each request: one system call to submit and wait, one write to the log, one frame for each
//! peer core, one send for each client.
//!
//! ```text
//!   clients ──▶ router ──▶ shard ◀──▶ plog_driver          ring: every operation of all of them
//!      ▲          │  ▲       │ ▲
//!      └─ replies ┴─ mesh    ▼ │
//!                           peers
//! ```

pub mod buffer_pool;
pub mod clients;
pub mod clock;
pub mod core;
pub mod disk_reserve;
pub mod events;
pub mod fatal_reason;
pub mod file_driver;
pub(crate) mod member_orders;
pub(crate) mod memory_watch;
pub mod metrics;
pub mod node_shared;
pub mod peers;
pub mod plog_driver;
mod reached_note;
mod rejoin_watch;
pub mod ring;
pub mod router;
pub mod shard_json;
pub mod slab;
pub mod slow_operations;
pub mod status_gather;
pub mod user_data;
