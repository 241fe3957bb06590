//! That a node takes the place of one whose data directory was lost, and did not begin yet: the
//! fact `registering`, which says nothing but that. It is written into an empty directory before
//! anything else, and counts until the first boot does; then it goes.

use std::io;
use std::path::Path;

use crate::node::data_directory::error::Result;
use crate::node::data_directory::facts::{find_fact, write_fact};
use crate::node::two_copies::{self, FactKind};

pub(super) const REGISTERING: FactKind =
    FactKind { name: "registering", magic: *b"CertRegs", version: 1 };

pub(super) fn decode(bytes: &[u8]) -> Option<()> {
    bytes.is_empty().then_some(())
}

/// Whether the node in the data directory `path` still has to register.
pub(super) fn is_noted(path: &Path) -> Result<bool> {
    let noted = find_fact(path, &REGISTERING, REGISTERING.name, decode, |_| Some(()))?;
    Ok(noted.is_some())
}

pub(super) fn note(path: &Path) -> Result<()> {
    write_fact(path, &REGISTERING, &[])
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    two_copies::remove(path, REGISTERING.name)
}
