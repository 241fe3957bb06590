//! Reads RESP2 replies (and RESP3's null) out of a receive buffer.
//!
//! A reply borrows from the buffer and only an array allocates, so the replies of the measured
//! commands cost no memory. An incomplete reply is read again from its start when more bytes are
//! there, which is cheap: a long string is skipped by its length, not byte by byte.

/// Longest string accepted, in bytes: the limit servers themselves keep.
const STRING_SIZE_MAX: i64 = 512 * 1024 * 1024;
/// Most items accepted in one array.
const ARRAY_COUNT_MAX: i64 = 1024 * 1024;
/// Deepest nesting of arrays accepted.
const DEPTH_MAX: u32 = 8;
/// Longest line accepted after a type byte (a length, an integer, a status or an error), in bytes.
const LINE_SIZE_MAX: usize = 64 * 1024;

/// One reply of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`.
    Simple(&'a [u8]),
    /// `-ERR what went wrong`.
    Error(&'a [u8]),
    /// `:7`.
    Integer(i64),
    /// `$3`, then three bytes.
    Bulk(&'a [u8]),
    /// `$-1`, `*-1` or `_`.
    Nil,
    /// `*2`, then two replies.
    Array(Vec<Self>),
}

/// Why bytes are no reply; the connection they came from cannot be used any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// The first byte names no type.
    #[error("a reply begins with byte 0x{0:02x}, which names no RESP2 type")]
    UnknownType(u8),
    /// A length or an integer is not a number.
    #[error("a length or an integer in a reply is not a number")]
    NotANumber,
    /// A length is negative or too large.
    #[error("a reply announces length {0}, which is outside the limits")]
    LengthOutOfRange(i64),
    /// A string is not followed by a line end.
    #[error("a string in a reply does not end with a line end")]
    MissingLineEnd,
    /// A line has no end.
    #[error("a line in a reply is longer than {LINE_SIZE_MAX} bytes")]
    LineTooLong,
    /// Arrays in arrays in arrays.
    #[error("arrays in a reply are nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Reads the reply at the start of `bytes`, and how many bytes it takes; `None` when it is not
/// complete yet.
///
/// # Errors
///
/// Returns a [`ProtocolError`] when no continuation of `bytes` would be a reply.
pub fn read_reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, ProtocolError> {
    let mut reader = Reader { bytes, position: 0 };
    let reply = reader.reply(0)?;
    Ok(reply.map(|reply| (reply, reader.position)))
}

/// A cursor over the buffer.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: u32) -> Result<Option<Reply<'a>>, ProtocolError> {
        let Some(&kind) = self.bytes.get(self.position) else { return Ok(None) };
        if !b"+-:$*_".contains(&kind) {
            return Err(ProtocolError::UnknownType(kind));
        }
        self.position += 1;
        let Some(line) = self.line()? else { return Ok(None) };
        match kind {
            b'+' => Ok(Some(Reply::Simple(line))),
            b'-' => Ok(Some(Reply::Error(line))),
            b':' => Ok(Some(Reply::Integer(integer(line)?))),
            b'_' if line.is_empty() => Ok(Some(Reply::Nil)),
            b'_' => Err(ProtocolError::MissingLineEnd),
            b'$' => self.bulk(integer(line)?),
            _ => self.array(integer(line)?, depth),
        }
    }

    fn bulk(&mut self, size: i64) -> Result<Option<Reply<'a>>, ProtocolError> {
        let Some(size) = length(size, STRING_SIZE_MAX)? else { return Ok(Some(Reply::Nil)) };
        let rest = &self.bytes[self.position..];
        let Some(string) = rest.get(..size) else { return Ok(None) };
        match &rest[size..] {
            [] | [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] => {
                self.position += size + 2;
                Ok(Some(Reply::Bulk(string)))
            }
            [..] => Err(ProtocolError::MissingLineEnd),
        }
    }

    fn array(&mut self, count: i64, depth: u32) -> Result<Option<Reply<'a>>, ProtocolError> {
        let Some(count) = length(count, ARRAY_COUNT_MAX)? else { return Ok(Some(Reply::Nil)) };
        if depth == DEPTH_MAX {
            return Err(ProtocolError::TooDeep);
        }
        // The count is the peer's word: memory is taken as items arrive, not ahead of them.
        let mut items = Vec::new();
        for _ in 0..count {
            let Some(item) = self.reply(depth + 1)? else { return Ok(None) };
            items.push(item);
        }
        Ok(Some(Reply::Array(items)))
    }

    /// Returns the bytes up to the next line end, and moves behind it.
    fn line(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        let rest = &self.bytes[self.position..];
        match rest.iter().position(|&byte| byte == b'\r') {
            None if rest.len() > LINE_SIZE_MAX => Err(ProtocolError::LineTooLong),
            None => Ok(None),
            Some(end) => match rest.get(end + 1) {
                None => Ok(None),
                Some(b'\n') => {
                    self.position += end + 2;
                    Ok(Some(&rest[..end]))
                }
                Some(_) => Err(ProtocolError::MissingLineEnd),
            },
        }
    }
}

/// Checks an announced length against its limit; -1 stands for nil.
fn length(announced: i64, limit: i64) -> Result<Option<usize>, ProtocolError> {
    match announced {
        -1 => Ok(None),
        announced if announced > limit => Err(ProtocolError::LengthOutOfRange(announced)),
        announced => usize::try_from(announced)
            .map(Some)
            .map_err(|_| ProtocolError::LengthOutOfRange(announced)),
    }
}

fn integer(line: &[u8]) -> Result<i64, ProtocolError> {
    let (negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(ProtocolError::NotANumber);
    }
    let mut value = 0_i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(ProtocolError::NotANumber);
        }
        let digit = i64::from(byte - b'0');
        // Counted downwards, because the smallest number has no positive counterpart.
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(digit))
            .ok_or(ProtocolError::NotANumber)?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(ProtocolError::NotANumber) }
}

/// Returns the first word of an error reply, by which errors are counted.
pub fn error_word(error: &[u8]) -> &[u8] {
    error.split(|&byte| byte == b' ').next().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::{ProtocolError, Reply, error_word, read_reply};

    fn examples() -> Vec<(&'static [u8], Reply<'static>)> {
        vec![
            (b"+OK\r\n", Reply::Simple(b"OK")),
            (b"-ERR no\r\n", Reply::Error(b"ERR no")),
            (b":-42\r\n", Reply::Integer(-42)),
            (b":9223372036854775807\r\n", Reply::Integer(i64::MAX)),
            (b":-9223372036854775808\r\n", Reply::Integer(i64::MIN)),
            (b"$5\r\na\r\nbc\r\n", Reply::Bulk(b"a\r\nbc")),
            (b"$0\r\n\r\n", Reply::Bulk(b"")),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"_\r\n", Reply::Nil),
            (b"*0\r\n", Reply::Array(vec![])),
            (
                b"*3\r\n:1\r\n*1\r\n$1\r\nx\r\n+y\r\n",
                Reply::Array(vec![
                    Reply::Integer(1),
                    Reply::Array(vec![Reply::Bulk(b"x")]),
                    Reply::Simple(b"y"),
                ]),
            ),
        ]
    }

    #[test]
    fn every_type_is_read_and_what_follows_is_left() {
        for (bytes, want) in examples() {
            let mut stream = bytes.to_vec();
            stream.extend_from_slice(b"+next\r\n");
            assert_eq!(read_reply(&stream), Ok(Some((want, bytes.len()))));
        }
    }

    #[test]
    fn a_reply_cut_at_any_byte_waits_for_the_rest() {
        for (bytes, _) in examples() {
            for cut in 0..bytes.len() {
                assert_eq!(read_reply(&bytes[..cut]), Ok(None), "{bytes:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed_replies_are_refused() {
        let cases: [(&[u8], ProtocolError); 9] = [
            (b"!", ProtocolError::UnknownType(b'!')),
            (b":x\r\n", ProtocolError::NotANumber),
            (b":\r\n", ProtocolError::NotANumber),
            (b":9223372036854775808\r\n", ProtocolError::NotANumber),
            (b"$-2\r\n", ProtocolError::LengthOutOfRange(-2)),
            (b"$999999999999\r\n", ProtocolError::LengthOutOfRange(999_999_999_999)),
            (b"$1\r\nabc", ProtocolError::MissingLineEnd),
            (b"+a\rb", ProtocolError::MissingLineEnd),
            (b"_x\r\n", ProtocolError::MissingLineEnd),
        ];
        for (bytes, want) in cases {
            assert_eq!(read_reply(bytes), Err(want), "{bytes:?}");
        }
        assert_eq!(read_reply(&b"*1\r\n".repeat(9)), Err(ProtocolError::TooDeep));
        assert_eq!(read_reply(&[b'+'; 70_000]), Err(ProtocolError::LineTooLong));
    }

    #[test]
    fn errors_are_counted_by_their_first_word() {
        assert_eq!(error_word(b"CLUSTERDOWN no majority"), b"CLUSTERDOWN");
        assert_eq!(error_word(b"ERR"), b"ERR");
    }
}
