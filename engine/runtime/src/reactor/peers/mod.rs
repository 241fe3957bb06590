//! The other replicas: connections to them, on which this node speaks, and connections from them,
//! on which it listens.

pub mod address_lookup;
pub mod back_off;
pub mod inbound;
pub mod outbound;
pub mod pairing;
pub mod peer_table;
