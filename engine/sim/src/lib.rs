//! The simulated world around the engine: a whole cluster in one thread, driven by one seed.
//!
//! Every node runs the same [`engine::shard::Shard`], the same log code and the same frame codec as
//! the daemon; only the network, the disks and the clock are simulated. Same seed, same run.
//!
//! How to drive it:
//!
//! 1. make a [`world::World`] from a [`faults::Faults`] and a seed;
//! 2. [`world::World::submit`] commands, [`world::World::step`] or `run_until` something holds;
//! 3. crash and restart nodes by hand, or let the faults do it;
//! 4. look at the replies, and let [`checker::Checker`], which the world calls after every event,
//!    find what must never happen.

pub mod checker;
pub mod disk;
pub mod faults;
pub mod history;
pub mod world;
