//! The PLog: one core's append-only log of acceptor records.

pub mod entry_record;
pub mod vocabulary;
