//! Replies: what is read can be written and read again, a prefix is never mistaken for a value, and
//! an announced count makes no room.

use std::rc::Rc;

use net::resp::value::{DEPTH_MAX, DecodeError, Protocol, Value};

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Plan, Random, Tally, fails, fuzz};
use crate::requests::Announcements;

thread_local! {
    static REPLIES: Rc<[Vec<u8>]> = (0..24).map(|seed| made_reply(&mut Random(seed))).collect();
}

/// A value of any kind that RESP3 has, nested at most `depth` deep.
fn any_value(random: &mut Random, depth: usize) -> Value {
    let values = |random: &mut Random| -> Vec<Value> {
        (0..random.below(4)).map(|_| any_value(random, depth - 1)).collect()
    };
    match random.below(if depth > 1 { 14 } else { 9 }) {
        0 => Value::simple(format!("line {}", random.next())),
        1 => Value::error(format!("ERR {}", random.next())),
        2 => Value::Integer(i64::from_le_bytes(random.next().to_le_bytes())),
        3 => Value::bulk(random.bytes(20)),
        4 => Value::Null,
        5 => Value::Boolean(random.below(2) == 0),
        6 => Value::Double(f64::from(random.byte()) / 16.0),
        7 => Value::Verbatim { format: *b"mkd", text: format!("{}", random.next()).into() },
        8 => Value::BigNumber(format!("-{}", random.next()).into()),
        9 | 10 => Value::Array(values(random)),
        11 => Value::Set(values(random)),
        12 => Value::Push(values(random)),
        _ => {
            let values = values(random).into_iter();
            Value::Map(values.map(|value| (Value::bulk("key"), value)).collect())
        }
    }
}

/// In RESP3, or in the RESP2 that is read as well.
fn made_reply(random: &mut Random) -> Vec<u8> {
    let value = any_value(random, 4);
    let mut out = Vec::new();
    let protocol = if random.below(3) == 0 { Protocol::Resp2 } else { Protocol::Resp3 };
    value.encode(protocol, &mut out);
    if random.below(8) == 0 {
        out.extend_from_slice(b"!5\r\nE a\rb\r\n");
    }
    if random.below(8) == 0 {
        out.splice(0..0, b"*1\r\n".repeat(DEPTH_MAX - 3 + random.below(4)));
    }
    out
}

/// How deep a value is nested, itself included.
fn depth(value: &Value) -> usize {
    let inside = match value {
        Value::Array(values) | Value::Set(values) | Value::Push(values) => {
            values.iter().map(depth).max()
        }
        Value::Map(pairs) => pairs.iter().map(|(key, value)| depth(key).max(depth(value))).max(),
        _ => None,
    };
    1 + inside.unwrap_or(0)
}

type Decode = fn(&[u8]) -> Result<Option<(Value, usize)>, DecodeError>;

fn check(decode: Decode, plan: &Plan, tally: &mut Tally) {
    let replies = REPLIES.with(Rc::clone);
    let bytes = plan.input(&Announcements, &replies, made_reply);
    let (decoded, held) = peak(|| decode(&bytes));
    // Each level may make room for as many values as the bytes behind it could hold.
    let room = (bytes.len() / 3 + 1) * size_of::<Value>() * (DEPTH_MAX + 1);
    assert!(held <= room + bytes.len() + 64, "{held} bytes were held for {} bytes", bytes.len());
    for cut in &plan.cuts {
        let part = decode(&bytes[..usize::from(*cut) % (bytes.len() + 1)]);
        match (&part, &decoded) {
            (Ok(None), _) => {}
            (Ok(Some((_, size))), Ok(Some((_, whole)))) => assert_eq!(size, whole),
            (Ok(Some(_)), other) => panic!("a part is whole, and all is {other:?}"),
            (Err(early), Err(late)) => assert_eq!(early, late, "it was clear before"),
            (Err(early), other) => panic!("a part is {early:?}, and all is {other:?}"),
        }
    }
    match decoded {
        Ok(Some((value, size))) => {
            assert!(size > 0 && size <= bytes.len());
            assert!(depth(&value) <= DEPTH_MAX, "nested too deep");
            for end in (0..size).rev().take(40) {
                assert!(matches!(decode(&bytes[..end]), Ok(None)), "cut at {end} of {size}");
            }
            // What was read from another form (RESP2, a long error) is RESP3 from here on.
            let written = value.to_resp3();
            let (again, length) = decode(&written).expect("our own words").expect("all of them");
            assert_eq!((length, again.to_resp3()), (written.len(), written), "{value:?}");
            let mut resp2 = Vec::new();
            value.encode(Protocol::Resp2, &mut resp2);
            assert!(matches!(decode(&resp2), Ok(Some((_, length))) if length == resp2.len()));
            tally.count(&value);
        }
        Ok(None) => tally.count(&"Incomplete"),
        Err(error) => tally.count(&error),
    }
    let value = any_value(&mut Random(plan.seed), 4);
    let written = value.to_resp3();
    assert_eq!(decode(&written), Ok(Some((value, written.len()))), "it comes back as it went");
}

#[test]
fn fuzz_resp_value() {
    fuzz!(80_000, |plan, tally| check(Value::decode, plan, tally), |tally| {
        tally.expect(1000, &["Incomplete", "UnknownKind", "Array"]);
        tally.expect(100, &["BadLine", "MissingLineBreak", "Map", "Bulk", "Set", "Push", "Null"]);
        tally.expect(20, &["TooLong", "TooDeep", "Verbatim", "BigNumber", "Double", "Error"]);
    });
}

#[test]
fn a_decoder_of_replies_that_is_wrong_is_found() {
    let fails = |decode: Decode| fails(2000, |plan, tally| check(decode, plan, tally));
    // Takes a value for whole before its line break.
    assert!(fails(|bytes| match Value::decode(bytes) {
        Ok(None) if bytes.ends_with(b"\r") => Value::decode(&[bytes, b"\n"].concat()),
        decoded => decoded,
    }));
    // Makes room for what is announced.
    assert!(fails(|bytes| {
        let count = bytes.iter().filter(|byte| **byte == b'9').count();
        drop(std::hint::black_box(Vec::<u8>::with_capacity(count << 20)));
        Value::decode(bytes)
    }));
    // Says how long the input is, not the value.
    assert!(fails(|bytes| Ok(Value::decode(bytes)?.map(|(value, _)| (value, bytes.len())))));
    // Reads a number as another.
    assert!(fails(|bytes| match Value::decode(bytes)? {
        Some((Value::Integer(number), size)) => Ok(Some((Value::Integer(number | 1), size))),
        decoded => Ok(decoded),
    }));
}
