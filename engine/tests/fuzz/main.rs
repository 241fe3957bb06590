//! Fuzz targets: what an entry's value, an entity's state and its image are made of.

mod batches;
#[path = "../../../plog/tests/fuzzing/mod.rs"]
#[expect(dead_code, reason = "nothing here is read in pieces")]
mod fuzzing;
mod images;
mod states;
