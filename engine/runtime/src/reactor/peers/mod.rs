//! The other replicas: connections to them, on which this node speaks, and connections from them,
//! on which it listens.

pub(crate) mod acquaintances;
pub mod address_lookup;
pub mod back_off;
pub mod inbound;
mod inbound_table;
pub mod outbound;
mod outbound_table;
pub mod pairing;
pub mod peer_table;
