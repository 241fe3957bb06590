//! Fuzz targets: records, frames, and the scan of a whole log.

#[path = "../scenarios/disk.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod disk;
#[path = "../fuzzing/mod.rs"]
mod fuzzing;
mod records;
#[path = "../scenarios/run.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod run;
mod scan;
