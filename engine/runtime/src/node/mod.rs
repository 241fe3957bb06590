//! From a configuration file to a running node, and back to a clean end.
//!
//! Starting is where most of what an operator can get wrong is found, and the only time when
//! refusing costs nothing. So the order is: understand the configuration, look at the machine,
//! take the data directory, read the logs; and nothing is changed on disk before everything that
//! can be refused has been looked at. The boot epoch is the last thing made durable before the
//! node speaks.
//!
//! ```text
//! config ─▶ preflight ─▶ data_directory ─▶ recovery ─▶ start ═ reactor per core ═▶ stop
//!   2           3              4              5, 6                                  0, 6, 7
//! ```
//! (the numbers are the exit statuses of [`fatal::ExitStatus`])

pub mod admin;
mod another_generation;
pub mod checkpoint_files;
pub mod checkpoint_recovery;
pub mod config;
pub mod config_error;
mod core_start;
pub mod data_directory;
pub mod fatal;
pub mod file_worker;
pub mod known_incarnations;
pub mod known_life;
pub mod known_membership;
pub mod log_files;
pub mod log_line;
pub mod membership_facts;
pub mod preflight;
pub mod recovery;
mod recovery_progress;
mod registration;
pub mod reserve_file;
pub mod segment_preparer;
pub mod start;
#[cfg(test)]
pub(crate) mod test_directory;
pub mod two_copies;
