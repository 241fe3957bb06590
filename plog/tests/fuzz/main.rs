//! Fuzz targets: records, frames, the scan of a whole log, and manifests of backups.

#[path = "../scenarios/disk.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod disk;
#[path = "../fuzzing/mod.rs"]
mod fuzzing;
mod manifests;
mod records;
#[path = "../scenarios/run.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod run;
mod scan;
