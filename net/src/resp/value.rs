//! A reply, and how it is written for either version of the protocol.
//!
//! Commands make a [`Value`] without knowing what the client speaks. [`Value::encode`] writes it
//! for RESP3 as it is and for RESP2 as the nearest older type: a map becomes a flat array, a
//! boolean an integer, a double a bulk string. Values that are kept (replies remembered for a
//! retried request) or forwarded between replicas are RESP3, and [`Value::decode`] reads them back.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use crate::resp::value_decoder;
pub use crate::resp::value_decoder::{DEPTH_MAX, DecodeError};

/// Which version of the protocol a client speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// What a connection speaks until `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, sets, booleans, doubles and pushes.
    Resp3,
}

/// A reply to a client, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A short line such as `OK`. Line breaks in it are sent as spaces.
    Simple(Cow<'static, str>),
    /// An error.
    Error(RespError),
    /// A signed integer.
    Integer(i64),
    /// A byte string.
    Bulk(BulkBytes),
    /// Nothing: `$-1` in RESP2, `_` in RESP3.
    Null,
    /// Nothing where an array would stand: `*-1` in RESP2, `_` in RESP3.
    NullArray,
    /// Values in order.
    Array(Vec<Self>),
    /// Pairs in order; in RESP2 an array of twice the length.
    Map(Vec<(Self, Self)>),
    /// Distinct values; in RESP2 an array.
    Set(Vec<Self>),
    /// A truth value; in RESP2 the integer 1 or 0.
    Boolean(bool),
    /// A double; in RESP2 a bulk string of the same digits.
    Double(f64),
    /// Text with its format (`txt` or `mkd`); in RESP2 a bulk string of the text alone.
    Verbatim {
        /// Three characters that name the format.
        format: [u8; 3],
        /// The text.
        text: BulkBytes,
    },
    /// A message out of band; in RESP2 an array.
    Push(Vec<Self>),
    /// An integer of any size, as decimal digits with an optional sign; in RESP2 a bulk string.
    BigNumber(Cow<'static, str>),
}

/// A byte string of a reply: owned, shared with the store, or a literal. Equal when the bytes are.
#[derive(Clone)]
pub enum BulkBytes {
    /// Made for this reply.
    Owned(Vec<u8>),
    /// Shared with whoever holds it, so that a large value is not copied before it is sent.
    Shared(Rc<[u8]>),
    /// A literal.
    Static(&'static [u8]),
}

/// An error as a client sees it: one line that begins with a word in capitals (`ERR`,
/// `WRONGTYPE`, …) by which programs tell errors apart.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct RespError {
    text: Cow<'static, str>,
}

impl RespError {
    /// An error of the whole line `text`, its word included. Line breaks are sent as spaces.
    #[must_use]
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into() }
    }

    /// The word that names the kind of error: what stands before the first space.
    #[must_use]
    pub fn word(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// The whole line, the word included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Deref for BulkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for BulkBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for BulkBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for BulkBytes {}

impl fmt::Debug for BulkBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.escape_ascii())
    }
}

impl From<Vec<u8>> for BulkBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<String> for BulkBytes {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<Rc<[u8]>> for BulkBytes {
    fn from(bytes: Rc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

impl From<&'static str> for BulkBytes {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for BulkBytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl From<RespError> for Value {
    fn from(error: RespError) -> Self {
        Self::Error(error)
    }
}

impl Value {
    /// `+OK`.
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// A short line.
    #[must_use]
    pub fn simple(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Simple(text.into())
    }

    /// An error of the whole line `text`, its word included.
    #[must_use]
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(RespError::new(text))
    }

    /// A byte string.
    #[must_use]
    pub fn bulk(bytes: impl Into<BulkBytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Appends the value as a client of `protocol` reads it.
    pub fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match (self, protocol) {
            (Self::Simple(text), _) => put_line(b'+', text, out),
            (Self::Error(error), _) => put_line(b'-', error.text(), out),
            (Self::Integer(number), _) => put_number(b':', *number, out),
            (Self::Bulk(bytes), _) => put_bulk(bytes, out),
            (Self::Null, Protocol::Resp2) => out.extend_from_slice(b"$-1\r\n"),
            (Self::NullArray, Protocol::Resp2) => out.extend_from_slice(b"*-1\r\n"),
            (Self::Null | Self::NullArray, Protocol::Resp3) => out.extend_from_slice(b"_\r\n"),
            (Self::Array(values), _)
            | (Self::Set(values) | Self::Push(values), Protocol::Resp2) => {
                put_values(b'*', values, protocol, out);
            }
            (Self::Set(values), Protocol::Resp3) => put_values(b'~', values, protocol, out),
            (Self::Push(values), Protocol::Resp3) => put_values(b'>', values, protocol, out),
            (Self::Map(pairs), _) => {
                match protocol {
                    Protocol::Resp2 => put_count(b'*', pairs.len() * 2, out),
                    Protocol::Resp3 => put_count(b'%', pairs.len(), out),
                }
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
            (Self::Boolean(truth), Protocol::Resp2) => put_number(b':', i64::from(*truth), out),
            (Self::Boolean(true), Protocol::Resp3) => out.extend_from_slice(b"#t\r\n"),
            (Self::Boolean(false), Protocol::Resp3) => out.extend_from_slice(b"#f\r\n"),
            (Self::Double(number), Protocol::Resp2) => {
                put_bulk(format_double(*number).as_bytes(), out);
            }
            (Self::Double(number), Protocol::Resp3) => put_line(b',', &format_double(*number), out),
            (Self::Verbatim { text, .. }, Protocol::Resp2) => put_bulk(text, out),
            (Self::Verbatim { format, text }, Protocol::Resp3) => {
                put_count(b'=', text.len() + 4, out);
                out.extend_from_slice(format);
                out.push(b':');
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            (Self::BigNumber(digits), Protocol::Resp2) => put_bulk(digits.as_bytes(), out),
            (Self::BigNumber(digits), Protocol::Resp3) => put_line(b'(', digits, out),
        }
    }

    /// The value's RESP3 encoding, as it is kept and forwarded.
    #[must_use]
    pub fn to_resp3(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(Protocol::Resp3, &mut out);
        out
    }

    /// Reads one value from the beginning of `bytes`, in RESP3 or RESP2, and how many bytes it
    /// took; `None` when more bytes are needed. Starts over at every call, so it is meant for
    /// replies that are complete or nearly so.
    ///
    /// # Errors
    ///
    /// When the bytes are no value, or nested deeper than [`DEPTH_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        value_decoder::decode(bytes)
    }
}

/// Appends the header of an array of `count` values, for a reply that is written piece by piece.
pub fn put_array_header(count: usize, out: &mut Vec<u8>) {
    put_count(b'*', count, out);
}

/// Appends a byte string.
pub fn put_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 16);
    put_count(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn put_values(kind: u8, values: &[Value], protocol: Protocol, out: &mut Vec<u8>) {
    put_count(kind, values.len(), out);
    for value in values {
        value.encode(protocol, out);
    }
}

fn put_count(kind: u8, count: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_number(kind: u8, number: i64, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A line ends at its first line break, so one inside would let a reply's text forge the next
/// reply.
fn put_line(kind: u8, text: &str, out: &mut Vec<u8>) {
    let is_break = |byte: u8| matches!(byte, b'\r' | b'\n');
    out.push(kind);
    if text.bytes().any(is_break) {
        out.extend(text.bytes().map(|byte| if is_break(byte) { b' ' } else { byte }));
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// The shortest digits that read back as `number`, laid out as Redis does: plain where that is
/// short, else with an exponent (`1e+21`); `inf`, `-inf` and `nan` for the rest.
#[must_use]
pub fn format_double(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    // Integers that a double holds exactly, and zero with its sign, are written as integers.
    if number.trunc() == number && number.abs() < 9_007_199_254_740_992.0 {
        return format!("{number:.0}");
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a decimal exponent");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digit_count = i32::try_from(digits.len()).expect("a double has at most 17 digits");
    // The number is `digits` × 10^scale.
    let scale = exponent - (digit_count - 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let trailing_zeros_max = if sign.is_empty() { 7 } else { 6 };
    if scale >= 0 && exponent < digit_count + trailing_zeros_max {
        return format!("{sign}{digits}{}", zeros(scale));
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            return format!("{sign}0.{}{digits}", zeros(-exponent - 1));
        }
        let (whole, fraction) =
            digits.split_at(usize::try_from(exponent + 1).expect("not negative here"));
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{exponent_sign}{}", exponent.abs())
}
