//! The simulated world around the engine: a whole cluster in one thread, driven by one seed.
//!
//! Every node runs the same [`engine::shard::Shard`], the same log code, handshake and frame codec
//! as the daemon; only the network, the disks and the clocks are simulated. Same seed, same run.
//!
//! How to drive it:
//!
//! 1. make a [`world::World`] from a [`faults::Faults`] and a seed;
//! 2. [`world::World::submit`] commands, [`world::World::step`] or `run_until` something holds;
//! 3. crash and restart nodes by hand, or let the faults do it;
//! 4. look at the replies, and let [`checkers::Checkers`], which the world calls for every event,
//!    find what must never happen.

pub mod checkers;
pub mod clients;
pub mod coverage;
pub mod disk;
pub mod faults;
pub mod guard;
pub mod history;
pub mod minimise;
pub mod mirroring;
pub mod mixes;
pub mod part;
pub mod plants;
pub mod random;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod trace;
pub mod violation;
pub mod workload;
pub mod world;
