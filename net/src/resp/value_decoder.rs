//! Reads a reply back: RESP3 as it is kept and forwarded, and RESP2 as a client sees it.
//!
//! The bytes may come from another node, so nothing in them is believed before it is there: a
//! length reserves no memory beyond what the remaining bytes could hold, and nesting is limited.

use crate::resp::value::{BulkBytes, RespError, Value};

/// How deep values may be nested, the outermost included. No command's reply is deeper than 4,
/// except that `EXEC` adds one level.
pub const DEPTH_MAX: usize = 32;

/// Longest line accepted where a number, a status or an error stands, in bytes.
const LINE_SIZE_MAX: usize = 64 * 1024;

/// Largest byte string or count accepted.
const LENGTH_MAX: u64 = 512 * 1024 * 1024;

/// Fewest bytes a value can take: `_\r\n`.
const VALUE_SIZE_MIN: usize = 3;

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte names no kind of value.
    #[error("byte {kind:#04x} at offset {offset} names no kind of value")]
    UnknownKind {
        /// The byte.
        kind: u8,
        /// Where it stands.
        offset: usize,
    },
    /// A number, length, boolean or double does not read as one.
    #[error("the line at offset {offset} does not read as its kind {:?} asks", char::from(*kind))]
    BadLine {
        /// The kind of value.
        kind: u8,
        /// Where the value begins.
        offset: usize,
    },
    /// A length or count is above every limit.
    #[error("length {length} at offset {offset} is above the limit of {LENGTH_MAX}")]
    TooLong {
        /// The length.
        length: u64,
        /// Where the value begins.
        offset: usize,
    },
    /// No line break in a line's greatest length.
    #[error("the line at offset {offset} does not end within {LINE_SIZE_MAX} bytes")]
    EndlessLine {
        /// Where the value begins.
        offset: usize,
    },
    /// A byte string is not followed by a line break.
    #[error("no line break at offset {offset}, after a byte string")]
    MissingLineBreak {
        /// Where it should stand.
        offset: usize,
    },
    /// Text is not UTF-8.
    #[error("the text at offset {offset} is not UTF-8")]
    NotText {
        /// Where the value begins.
        offset: usize,
    },
    /// Nested too deep.
    #[error("the value at offset {offset} is nested deeper than {DEPTH_MAX}")]
    TooDeep {
        /// Where the value begins.
        offset: usize,
    },
}

/// Why a value cannot be read: not yet, or never.
enum Stop {
    Incomplete,
    Invalid(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Invalid(error)
    }
}

/// See [`Value::decode`].
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, DecodeError> {
    let mut reader = Reader { bytes, position: 0 };
    match reader.value(1) {
        Ok(value) => Ok(Some((value, reader.position))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Invalid(error)) => Err(error),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// The line that begins a value: its kind, what follows it, and where it began.
#[derive(Clone, Copy)]
struct Line<'a> {
    kind: u8,
    text: &'a [u8],
    offset: usize,
}

impl Line<'_> {
    fn bad(&self) -> Stop {
        Stop::Invalid(DecodeError::BadLine { kind: self.kind, offset: self.offset })
    }

    fn text(&self) -> Result<String, Stop> {
        match std::str::from_utf8(self.text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::NotText { offset: self.offset }.into()),
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, Stop> {
        std::str::from_utf8(self.text)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.bad())
    }

    /// A length, or `None` for RESP2's -1.
    fn length(&self) -> Result<Option<usize>, Stop> {
        let length: i64 = self.number()?;
        if length == -1 && matches!(self.kind, b'$' | b'*') {
            return Ok(None);
        }
        let length = u64::try_from(length).map_err(|_| self.bad())?;
        if length > LENGTH_MAX {
            return Err(DecodeError::TooLong { length, offset: self.offset }.into());
        }
        Ok(Some(usize::try_from(length).expect("the limit fits a length in memory")))
    }

    fn is_big_number(&self) -> bool {
        let digits = self.text.strip_prefix(b"-").unwrap_or(self.text);
        !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
    }
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let line = self.line()?;
        if depth > DEPTH_MAX {
            return Err(DecodeError::TooDeep { offset: line.offset }.into());
        }
        Ok(match line.kind {
            b'+' => Value::Simple(line.text()?.into()),
            b'-' => Value::Error(RespError::new(line.text()?)),
            b':' => Value::Integer(line.number()?),
            b'$' => match line.length()? {
                Some(length) => Value::Bulk(BulkBytes::Owned(self.bulk(length)?.to_vec())),
                None => Value::Null,
            },
            b'!' => {
                let length = line.length()?.ok_or_else(|| line.bad())?;
                let text = std::str::from_utf8(self.bulk(length)?)
                    .map_err(|_| DecodeError::NotText { offset: line.offset })?;
                Value::Error(RespError::new(text.to_owned()))
            }
            b'=' => self.verbatim(line)?,
            b'*' => match line.length()? {
                Some(count) => Value::Array(self.values(count, depth)?),
                None => Value::NullArray,
            },
            b'~' => Value::Set(self.counted_values(line, depth)?),
            b'>' => Value::Push(self.counted_values(line, depth)?),
            b'%' => {
                let count = line.length()?.ok_or_else(|| line.bad())?;
                let mut pairs = Vec::with_capacity(self.plausible(count, VALUE_SIZE_MIN * 2));
                for _ in 0..count {
                    pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
                Value::Map(pairs)
            }
            b'_' if line.text.is_empty() => Value::Null,
            b'#' if line.text == b"t" => Value::Boolean(true),
            b'#' if line.text == b"f" => Value::Boolean(false),
            b',' => Value::Double(line.number()?),
            b'(' if line.is_big_number() => Value::BigNumber(line.text()?.into()),
            b'_' | b'#' | b'(' => return Err(line.bad()),
            kind => return Err(DecodeError::UnknownKind { kind, offset: line.offset }.into()),
        })
    }

    fn verbatim(&mut self, line: Line<'_>) -> Result<Value, Stop> {
        let length = line.length()?.ok_or_else(|| line.bad())?;
        match self.bulk(length)? {
            [first, second, third, b':', text @ ..] => Ok(Value::Verbatim {
                format: [*first, *second, *third],
                text: BulkBytes::Owned(text.to_vec()),
            }),
            _ => Err(line.bad()),
        }
    }

    fn counted_values(&mut self, line: Line<'_>, depth: usize) -> Result<Vec<Value>, Stop> {
        let count = line.length()?.ok_or_else(|| line.bad())?;
        self.values(count, depth)
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::with_capacity(self.plausible(count, VALUE_SIZE_MIN));
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    /// `count`, or less when the bytes that are there cannot hold so many.
    fn plausible(&self, count: usize, size_min: usize) -> usize {
        count.min((self.bytes.len() - self.position) / size_min)
    }

    /// A line's kind and text, without its line break.
    fn line(&mut self) -> Result<Line<'a>, Stop> {
        let offset = self.position;
        let rest = &self.bytes[offset..];
        let Some((&kind, rest)) = rest.split_first() else {
            return Err(Stop::Incomplete);
        };
        if !b"+-:$!=*~>%_#,(".contains(&kind) {
            return Err(DecodeError::UnknownKind { kind, offset }.into());
        }
        let window = &rest[..rest.len().min(LINE_SIZE_MAX + 2)];
        match window.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => {
                self.position = offset + 1 + end + 2;
                Ok(Line { kind, text: &rest[..end], offset })
            }
            None if window.len() == LINE_SIZE_MAX + 2 => {
                Err(DecodeError::EndlessLine { offset }.into())
            }
            None => Err(Stop::Incomplete),
        }
    }

    /// A byte string of `length`, and the line break after it.
    fn bulk(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let begin = self.position;
        let end = begin + length;
        let after = end + 2;
        if after > self.bytes.len() {
            return Err(Stop::Incomplete);
        }
        if &self.bytes[end..after] != b"\r\n" {
            return Err(DecodeError::MissingLineBreak { offset: end }.into());
        }
        self.position = after;
        Ok(&self.bytes[begin..end])
    }
}
