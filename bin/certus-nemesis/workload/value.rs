//! Values that are told apart by a number in them, and whose every byte follows from it.

use net::resp::value::Value;

use crate::history::NOTHING;

/// The bytes of the value with this number: mostly short, now and then long enough to be stored
/// apart from the records that name it, or to make several frames.
pub fn render(number: u64) -> Vec<u8> {
    let mixed = (number ^ (number >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let length = match mixed >> 56 {
        0 => 40_000,
        1..10 => 3_000,
        short => usize::try_from(short).expect("one byte"),
    };
    let mut bytes = format!("{number}:").into_bytes();
    let pattern = format!("{mixed:016x}");
    bytes.extend(pattern.bytes().cycle().take(length));
    bytes
}

/// The number in what a node answered; [`NOTHING`] for null.
///
/// # Errors
///
/// When it is no value that anybody writes.
pub fn parse(reply: &Value) -> Result<u64, String> {
    let bytes = match reply {
        Value::Null => return Ok(NOTHING),
        Value::Bulk(bytes) => bytes,
        other => return Err(format!("{other:?} is no value")),
    };
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    let digits = bytes.split(|byte| *byte == b':').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    match number {
        Some(number) if render(number) == **bytes => Ok(number),
        _ => Err(format!("{} bytes that nobody wrote: {}", bytes.len(), shown())),
    }
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;

    use super::{parse, render};

    #[test]
    fn a_value_names_itself_and_no_byte_may_change() {
        for number in [1, 77, 1 << 40, (3 << 40) + 12_345] {
            let bytes = render(number);
            assert_eq!(parse(&Value::bulk(bytes.clone())), Ok(number));
            assert!(parse(&Value::bulk(bytes[..bytes.len() - 1].to_vec())).is_err());
            let mut changed = bytes;
            *changed.last_mut().unwrap() ^= 1;
            assert!(parse(&Value::bulk(changed)).is_err());
        }
        assert_eq!(parse(&Value::Null), Ok(0));
        assert!(parse(&Value::Integer(1)).is_err());
        let sizes: Vec<usize> = (0..4000).map(|number| render(number).len()).collect();
        assert!(sizes.iter().max() > Some(&40_000) && sizes.iter().min() < Some(&40));
    }
}
