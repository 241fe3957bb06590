//! From a client's bytes to requests.
//!
//! A client sends arrays of byte strings (`*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n`) or, by hand, plain
//! lines (`GET key\r\n`), as many as it likes without waiting. The bytes arrive cut anywhere. The
//! parser keeps how far it got in the request at hand, so that no byte is looked at twice however
//! small the pieces; the bytes themselves stay with the caller until the request is complete, and
//! are then copied once, into the request's [`Arguments`].
//!
//! ```text
//! input:  *2\r\n $3\r\nGET\r\n $5\r\nab
//!                                    └ position: the second byte string begins here
//!                     └─┘ bounds[0]
//! ```

use std::fmt;

use crate::resp::arguments::Arguments;

/// What one request may ask for. Beyond it the connection is closed with a [`ProtocolError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest single argument, in bytes.
    pub bulk_size_max: usize,
    /// Most arguments of one request, the command's name included.
    pub arguments_max: usize,
    /// Longest inline request, and longest line that announces a count or length, in bytes.
    pub inline_size_max: usize,
    /// Largest whole request as it stands on the wire, in bytes. Bounds what the caller has to
    /// keep of a request that is not complete yet. Below 4 GiB.
    pub request_size_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_size_max: 1024 * 1024,
            arguments_max: 65_536,
            inline_size_max: 64 * 1024,
            request_size_max: 64 * 1024 * 1024,
        }
    }
}

/// What [`RequestParser::next_request`] found at the beginning of the input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// No complete request yet: call again with the same bytes and more.
    Incomplete,
    /// A request of at least one argument.
    Request {
        /// The command's name and arguments.
        arguments: Arguments,
        /// How many bytes of the input it took; the next call's input begins after them.
        consumed: usize,
    },
    /// An empty line or array, which is to be skipped without an answer.
    Empty {
        /// How many bytes of the input it took.
        consumed: usize,
    },
}

/// Bytes that are no request, in Redis's words. Send the text as an error reply, then close the
/// connection: where the next request would begin is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// The count after `*` is no number, or above [`Limits::arguments_max`].
    InvalidMultibulkLength,
    /// The length after `$` is no number, negative, or above [`Limits::bulk_size_max`].
    InvalidBulkLength,
    /// Something else stands where an argument's `$` should.
    ExpectedDollar {
        /// What stands there.
        got: u8,
    },
    /// An argument is longer than announced.
    ExpectedLineBreak {
        /// The length that was announced, in bytes.
        bulk_size: usize,
    },
    /// The line after `*` is longer than [`Limits::inline_size_max`].
    TooBigMultibulkCount,
    /// The line after `$` is longer than [`Limits::inline_size_max`].
    TooBigBulkCount,
    /// An inline request is longer than [`Limits::inline_size_max`].
    TooBigInline,
    /// An inline request has an open quote, or a quote that is followed by more than a space.
    UnbalancedQuotes,
    /// The request is larger than [`Limits::request_size_max`].
    TooBigRequest {
        /// Its size as far as it is known, in bytes.
        size: usize,
        /// The limit, in bytes.
        size_max: usize,
    },
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ERR Protocol error: ")?;
        match self {
            Self::InvalidMultibulkLength => formatter.write_str("invalid multibulk length"),
            Self::InvalidBulkLength => formatter.write_str("invalid bulk length"),
            Self::ExpectedDollar { got } => {
                write!(formatter, "expected '$', got '{}'", got.escape_ascii())
            }
            Self::ExpectedLineBreak { bulk_size } => {
                write!(formatter, "expected a line break after a bulk of {bulk_size} bytes")
            }
            Self::TooBigMultibulkCount => formatter.write_str("too big mbulk count string"),
            Self::TooBigBulkCount => formatter.write_str("too big bulk count string"),
            Self::TooBigInline => formatter.write_str("too big inline request"),
            Self::UnbalancedQuotes => formatter.write_str("unbalanced quotes in request"),
            Self::TooBigRequest { size, size_max } => {
                write!(formatter, "request of at least {size} bytes, the limit is {size_max}")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// What the parser waits for next in an array request.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The first byte of a request tells which kind it is.
    Begin,
    /// The line `$<length>`.
    Length,
    /// An argument of this many bytes, and its line break.
    Bulk(usize),
}

/// Where an argument stands in the input, half-open.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    begin: usize,
    end: usize,
}

/// Bounds kept allocated between requests; more are given back.
const BOUNDS_KEPT: usize = 1024;

/// Splits a client's bytes into requests; one per connection.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    step: Step,
    /// Everything before it has been understood.
    position: usize,
    /// No end of the line at `position` stands before it.
    searched: usize,
    /// Size of the input that was not enough.
    seen: usize,
    /// Arguments still to come in the array at hand.
    arguments_left: usize,
    /// Arguments found in the array at hand.
    bounds: Vec<Bounds>,
    /// Their bytes together.
    arguments_size: usize,
}

impl RequestParser {
    /// A parser at the beginning of a connection.
    ///
    /// # Panics
    ///
    /// When `limits.request_size_max` or `limits.inline_size_max` is not below 4 GiB.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        assert!(u32::try_from(limits.request_size_max).is_ok(), "arguments end below 4 GiB");
        assert!(u32::try_from(limits.inline_size_max).is_ok(), "arguments end below 4 GiB");
        Self {
            limits,
            step: Step::Begin,
            position: 0,
            searched: 0,
            seen: 0,
            arguments_left: 0,
            bounds: Vec::new(),
            arguments_size: 0,
        }
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Changes the limits, from the next count or length on.
    ///
    /// # Panics
    ///
    /// As [`RequestParser::new`].
    pub fn set_limits(&mut self, limits: Limits) {
        assert!(u32::try_from(limits.request_size_max).is_ok(), "arguments end below 4 GiB");
        assert!(u32::try_from(limits.inline_size_max).is_ok(), "arguments end below 4 GiB");
        self.limits = limits;
    }

    /// How long the input has to be, in bytes, before another call can make progress. A hint for
    /// how much room to make: bounded by the limits.
    #[must_use]
    pub fn size_wanted(&self) -> usize {
        match self.step {
            Step::Begin | Step::Length => self.seen + 1,
            Step::Bulk(size) => self.position + size + 2,
        }
    }

    /// Looks for one request at the beginning of `input`.
    ///
    /// After [`Parsed::Incomplete`] the next call's `input` has to begin with the same bytes.
    /// After the others it has to begin where `consumed` ended.
    ///
    /// # Errors
    ///
    /// When the bytes are no request or exceed a limit; the connection cannot go on.
    pub fn next_request(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        self.seen = input.len();
        if let Step::Begin = self.step {
            match input.first() {
                None => return Ok(Parsed::Incomplete),
                Some(b'*') => {}
                Some(_) => return self.inline_request(input),
            }
            let too_big = ProtocolError::TooBigMultibulkCount;
            let Some(count) = self.announcement(input, too_big)? else {
                return Ok(Parsed::Incomplete);
            };
            let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
            let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
                return Ok(Parsed::Empty { consumed: self.start_over() });
            };
            if count > self.limits.arguments_max {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            self.arguments_left = count;
            self.step = Step::Length;
        }
        while self.arguments_left > 0 {
            let size = match self.step {
                Step::Bulk(size) => size,
                Step::Begin | Step::Length => match self.bulk_size(input)? {
                    Some(size) => size,
                    None => return Ok(Parsed::Incomplete),
                },
            };
            let end = self.position + size;
            let Some(line_break) = input.get(end..end + 2) else {
                return Ok(Parsed::Incomplete);
            };
            if line_break != b"\r\n" {
                return Err(ProtocolError::ExpectedLineBreak { bulk_size: size });
            }
            self.bounds.push(Bounds { begin: self.position, end });
            self.arguments_size += size;
            self.arguments_left -= 1;
            self.position = end + 2;
            self.step = Step::Length;
        }
        let mut arguments = Arguments::with_capacity(self.bounds.len(), self.arguments_size);
        for bounds in &self.bounds {
            arguments.push(&input[bounds.begin..bounds.end]);
        }
        Ok(Parsed::Request { arguments, consumed: self.start_over() })
    }

    /// The length of the argument at hand, once its line is complete.
    fn bulk_size(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(got) => return Err(ProtocolError::ExpectedDollar { got: *got }),
        }
        let Some(size) = self.announcement(input, ProtocolError::TooBigBulkCount)? else {
            return Ok(None);
        };
        let size = size
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size <= self.limits.bulk_size_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        let request_size = self.position.saturating_add(size).saturating_add(2);
        if request_size > self.limits.request_size_max {
            let size_max = self.limits.request_size_max;
            return Err(ProtocolError::TooBigRequest { size: request_size, size_max });
        }
        self.step = Step::Bulk(size);
        Ok(Some(size))
    }

    /// Takes the line at `position`, a kind's byte and a number: `None` while it is not complete,
    /// `Some(None)` when it is no number.
    fn announcement(
        &mut self,
        input: &[u8],
        too_big: ProtocolError,
    ) -> Result<Option<Option<i64>>, ProtocolError> {
        let Some(end) = self.find(input, b'\r') else {
            if input.len() - self.position > self.limits.inline_size_max {
                return Err(too_big);
            }
            return Ok(None);
        };
        if end - self.position > self.limits.inline_size_max {
            return Err(too_big);
        }
        match input.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                let number = parse_integer(&input[self.position + 1..end]);
                self.position = end + 2;
                Ok(Some(number))
            }
            Some(_) => Ok(Some(None)),
        }
    }

    /// Where `wanted` stands first in the line at `position`. Does not look at a byte twice.
    fn find(&mut self, input: &[u8], wanted: u8) -> Option<usize> {
        let begin = self.searched.max(self.position);
        let found = input[begin..].iter().position(|byte| *byte == wanted);
        self.searched = found.map_or(input.len(), |offset| begin + offset);
        found.map(|offset| begin + offset)
    }

    fn inline_request(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        let found = self.find(input, b'\n');
        if found.unwrap_or(input.len()) > self.limits.inline_size_max {
            return Err(ProtocolError::TooBigInline);
        }
        let Some(end) = found else {
            return Ok(Parsed::Incomplete);
        };
        let line = &input[..end];
        let arguments = split_inline(line.strip_suffix(b"\r").unwrap_or(line))?;
        if arguments.len() > self.limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        self.position = end + 1;
        let consumed = self.start_over();
        if arguments.is_empty() {
            return Ok(Parsed::Empty { consumed });
        }
        Ok(Parsed::Request { arguments, consumed })
    }

    /// Gets ready for the next request, and says where the one at hand ended.
    fn start_over(&mut self) -> usize {
        self.bounds.clear();
        self.bounds.shrink_to(BOUNDS_KEPT);
        self.step = Step::Begin;
        self.searched = 0;
        self.seen = 0;
        self.arguments_size = 0;
        std::mem::take(&mut self.position)
    }
}

impl Default for RequestParser {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// A decimal integer as Redis reads one in a length: no plus sign, space or leading zero.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    if digits.is_empty() || leading_zero || (negative && digits == b"0") {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        number = number.checked_mul(10)?;
        number = if negative { number.checked_sub(digit)? } else { number.checked_add(digit)? };
    }
    Some(number)
}

/// Splits a line at spaces, by Redis's rules for quotes: in double quotes `\n`, `\r`, `\t`, `\b`,
/// `\a` and `\xhh` have their usual meaning and `\` before anything else stands for that; in single
/// quotes only `\'` is special; a closing quote ends the argument.
fn split_inline(line: &[u8]) -> Result<Arguments, ProtocolError> {
    let mut arguments = Arguments::new();
    let mut argument = Vec::new();
    let mut rest = trim_start(line);
    while !rest.is_empty() {
        argument.clear();
        rest = trim_start(take_argument(rest, &mut argument)?);
        arguments.push(&argument);
    }
    Ok(arguments)
}

/// Takes one argument from the beginning of `rest`, and gives what follows it.
fn take_argument<'a>(
    mut rest: &'a [u8],
    argument: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'"' => return ended(take_double_quoted(after, argument)?),
            b'\'' => return ended(take_single_quoted(after, argument)?),
            byte if is_space(*byte) => break,
            byte => argument.push(*byte),
        }
        rest = after;
    }
    Ok(rest)
}

/// After a closing quote only a space or the line's end may stand.
fn ended(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(byte) if !is_space(*byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn take_double_quoted<'a>(
    mut rest: &'a [u8],
    argument: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                argument.push(hex_digit(*high) << 4 | hex_digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                argument.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                argument.push(*byte);
                after
            }
        };
    }
}

fn take_single_quoted<'a>(
    mut rest: &'a [u8],
    argument: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        rest = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                argument.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                argument.push(*byte);
                after
            }
        };
    }
}

/// The value of a byte that is known to be a hexadecimal digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

/// The C locale's white space, which includes the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

/// Without white space at the beginning.
fn trim_start(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    &text[begin..]
}
