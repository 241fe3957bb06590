//! The wire half of Certus: bytes in, messages out, and back.
//!
//! Pure: no socket, clock, thread or random source. A driver reads bytes wherever they come from
//! and hands them over; what comes back is a message, a request, a step of a handshake, or a typed
//! error after which the connection has to be closed. Every byte is described in
//! `docs/PROTOCOL.md`.
//!
//! - [`peer`]: what replicas send each other. A connection starts with
//!   [`peer::handshake_dialler`] and [`peer::handshake_acceptor`], then carries [`peer::frame`]s
//!   in one direction.
//! - [`resp`]: what clients send and receive, and how a key finds its entity and shard.

pub mod peer;
pub mod resp;
