//! Facts of the directory, read from their two copies and written to both.

use std::path::Path;

use crate::node::data_directory::error::{DataDirectoryError, Result, SPACE, failed};
use crate::node::two_copies::{self, Copies, CopyError, FactKind};

/// Makes `fact` durable in both copies.
pub(super) fn write_fact(path: &Path, kind: &FactKind, fact: &[u8]) -> Result<()> {
    two_copies::write(path, kind, kind.name, fact).map_err(failed(path, "writing to it", SPACE))
}

/// Both copies of the fact `name` as found, unless one is of a newer version.
pub(super) fn usable_copies(path: &Path, kind: &FactKind, name: &str) -> Result<Copies> {
    let copies = Copies::read(path, kind, name);
    match copies.newer() {
        Some(error) => {
            let (path, error) = (path.to_owned(), error.clone());
            Err(DataDirectoryError::Newer { path, file: kind.name, error })
        }
        None => Ok(copies),
    }
}

/// A fact that may be there or not.
pub(super) struct Noted<T> {
    pub(super) fact: T,
    /// Whether both copies are whole and say the same.
    pub(super) copies_agree: bool,
}

/// The fact `name`, if one of its copies is there; see [`choose`]. Changes nothing.
pub(super) fn find_fact<T: Copy>(
    path: &Path,
    kind: &FactKind,
    name: &str,
    decode: impl Fn(&[u8]) -> Option<T>,
    both: impl FnOnce([T; 2]) -> Option<T>,
) -> Result<Option<Noted<T>>> {
    let copies = usable_copies(path, kind, name)?;
    if copies.are_missing() {
        return Ok(None);
    }
    let fact = choose(path, kind, &copies, decode, both)?;
    Ok(Some(Noted { fact, copies_agree: copies.agree() }))
}

/// The fact that the copies tell: the only usable one's, or what `both` makes of two.
pub(super) fn choose<T: Copy>(
    path: &Path,
    kind: &FactKind,
    copies: &Copies,
    decode: impl Fn(&[u8]) -> Option<T>,
    both: impl FnOnce([T; 2]) -> Option<T>,
) -> Result<T> {
    let usable = |copy: &std::result::Result<Vec<u8>, CopyError>| {
        copy.as_ref().ok().and_then(|fact| decode(fact))
    };
    let chosen = match (usable(&copies.first), usable(&copies.second)) {
        (Some(first), Some(second)) => both([first, second]),
        (first, second) => first.or(second),
    };
    let word = |copy: &std::result::Result<Vec<u8>, CopyError>| match copy {
        Ok(fact) if decode(fact).is_some() => "says otherwise than the other copy".to_owned(),
        Ok(_) => "is damaged (it has a wrong size)".to_owned(),
        Err(error) => error.to_string(),
    };
    chosen.ok_or_else(|| DataDirectoryError::Damaged {
        path: path.to_owned(),
        file: kind.name,
        first: word(&copies.first),
        second: word(&copies.second),
    })
}
