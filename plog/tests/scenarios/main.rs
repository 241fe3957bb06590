//! The log against a disk in memory: what is written, what a crash leaves, what is found again.

mod changed_bytes;
mod checkpoints;
mod crash_images;
mod disk;
mod expectation;
mod format_page;
mod group_commit;
mod loading;
mod recorded_crashes;
mod records;
mod recovering;
mod run;
