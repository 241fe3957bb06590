//! Names that clients give to themselves.

use net::resp::value::Value;

/// A name of printable characters without spaces, so that it can stand in a line of a listing. May
/// be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ClientName(Box<str>);

impl ClientName {
    /// The name in `word`, or the error that `what` cannot be like that.
    pub(super) fn parse(word: &[u8], what: &str) -> Result<Self, Value> {
        match std::str::from_utf8(word) {
            Ok(name) if word.iter().all(u8::is_ascii_graphic) => Ok(Self(name.into())),
            Ok(_) | Err(_) => Err(Value::error(format!(
                "ERR {what} cannot contain spaces, newlines or special characters."
            ))),
        }
    }

    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
