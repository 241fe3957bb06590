//! Writes commands in RESP: an array of length-prefixed strings.

/// Appends one command.
pub fn push_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    push_header(out, b'*', arguments.len());
    for argument in arguments {
        push_header(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    push_decimal(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends `value` in decimal digits, without going through the formatter.
pub fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut begin = digits.len();
    let mut rest = value;
    loop {
        begin -= 1;
        digits[begin] = b'0' + u8::try_from(rest % 10).expect("a digit fits a byte");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// Fills `digits` with the lowest digits of `value`, hexadecimal.
pub fn write_hex(digits: &mut [u8], value: u64) {
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from(rest.to_le_bytes()[0] & 0xF)];
        rest >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::{push_command, push_decimal, write_hex};

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        push_command(&mut out, &[b"SET", b"key:1", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$0\r\n\r\n");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for value in [0, 9, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
        let mut digits = [0; 6];
        write_hex(&mut digits, 0xAB01);
        assert_eq!(&digits, b"00ab01");
    }
}
