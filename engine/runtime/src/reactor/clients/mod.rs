//! The clients of one core: their sockets, what they ask, and the order of their replies.

pub mod client_table;
pub mod connection;
pub mod reply_queue;
pub mod ticket;
