//! Replica to replica: messages, frames of many messages, and the handshake.

pub mod frame;
pub mod frame_decoder;
pub mod frame_encoder;
pub mod handshake;
pub mod handshake_acceptor;
pub mod handshake_dialler;
pub mod membership_message;
pub mod message;
pub mod message_rules;
pub mod refusal;
pub mod shared_bytes;
