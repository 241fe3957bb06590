//! Placeholder entry point, replaced by the next commits.
fn main() {}
