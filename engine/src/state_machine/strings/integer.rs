//! Integers as clients write them: one spelling per number, so that text and number convert without
//! loss.

/// Bytes of the longest integer, `-9223372036854775808`.
pub const TEXT_SIZE_MAX: usize = 20;

/// The integer that `text` spells, or `None` when it spells none in Redis's strict sense: no sign
/// but `-`, no leading zero, no `-0`, no space, and within 64 bits.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if text.len() <= TEXT_SIZE_MAX => {}
        _ => return None,
    }
    let mut value = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        // Built up on the negative side, which reaches one further.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Writes `value` at the end of `buffer` and returns the part that was written.
pub fn format(value: i64, buffer: &mut [u8; TEXT_SIZE_MAX]) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut begin = TEXT_SIZE_MAX;
    loop {
        begin -= 1;
        let digit = u8::try_from(rest % 10).expect("a remainder of ten is below ten");
        buffer[begin] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        begin -= 1;
        buffer[begin] = b'-';
    }
    &buffer[begin..]
}

#[cfg(test)]
mod tests {
    use super::{TEXT_SIZE_MAX, format, parse};

    #[test]
    fn only_the_one_spelling_of_a_number_is_an_integer() {
        let refused: [&[u8]; 16] = [
            b"",
            b"-",
            b"+1",
            b"01",
            b"-0",
            b"-01",
            b"00",
            b" 1",
            b"1 ",
            b"1.0",
            b"1e3",
            b"0x1",
            b"--1",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"123456789012345678901234567890",
        ];
        for text in refused {
            assert_eq!(parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_survive_being_written_and_read() {
        for value in [0, 1, -1, 9, 10, -10, 12_345, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1]
        {
            let mut buffer = [0; TEXT_SIZE_MAX];
            let text = format(value, &mut buffer);
            assert_eq!(text, value.to_string().as_bytes());
            assert_eq!(parse(text), Some(value));
        }
    }
}
