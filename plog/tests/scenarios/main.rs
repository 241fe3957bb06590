//! The log against a disk in memory: what is written, what a crash leaves, what is found again.

mod crash_images;
mod disk;
mod format_page;
mod group_commit;
mod loading;
mod records;
mod recovering;
