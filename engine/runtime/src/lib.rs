//! The world around the engine: threads, sockets, files, the clock.
//!
//! Everything that decides lives in `engine`, `plog` and `net`, which are pure. This crate carries
//! bytes and time to them and carries out what they ask for. It never decides anything about an
//! entity itself.
//!
//! 1. [`node`] turns a configuration file into a running node: it checks the machine, takes the
//!    data directory, recovers each core's log, and stops everything in order.
//! 2. [`executor`] starts one pinned thread per core. It alone names glommio.
//! 3. [`core_setup`] is what the node hands to each of those threads.
//! 4. [`reactor`] is what then runs there: one ring, one shard, its clients and its peers.
//! 5. [`mesh`] carries requests of clients to the core that owns their entity, and back.

pub mod core_setup;
pub mod executor;
pub mod mesh;
pub mod node;
pub mod reactor;
