//! Replies: both versions of the protocol, and back.

mod random;

use std::rc::Rc;

use net::resp::value::{
    BulkBytes, DEPTH_MAX, DecodeError, Protocol, RespError, Value, format_double,
};
use random::Random;

fn encode(value: &Value, protocol: Protocol) -> String {
    let mut out = Vec::new();
    value.encode(protocol, &mut out);
    String::from_utf8(out).expect("these tests use text")
}

fn both(value: &Value) -> (String, String) {
    (encode(value, Protocol::Resp2), encode(value, Protocol::Resp3))
}

fn map() -> Value {
    Value::Map(vec![
        (Value::bulk("a"), Value::Integer(1)),
        (Value::bulk("b"), Value::Boolean(true)),
    ])
}

#[test]
fn every_kind_is_written_as_each_version_wants_it() {
    let two = || vec![Value::Integer(1), Value::Null];
    let cases = [
        (Value::OK, "+OK\r\n", "+OK\r\n"),
        (Value::error("ERR no"), "-ERR no\r\n", "-ERR no\r\n"),
        (Value::Integer(0), ":0\r\n", ":0\r\n"),
        (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (Value::Integer(i64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
        (Value::bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
        (Value::bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Value::bulk(Rc::<[u8]>::from(&b"shared"[..])), "$6\r\nshared\r\n", "$6\r\nshared\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::NullArray, "*-1\r\n", "_\r\n"),
        (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Value::Array(two()), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"),
        (Value::Set(two()), "*2\r\n:1\r\n$-1\r\n", "~2\r\n:1\r\n_\r\n"),
        (Value::Push(two()), "*2\r\n:1\r\n$-1\r\n", ">2\r\n:1\r\n_\r\n"),
        (
            map(),
            "*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:1\r\n",
            "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n#t\r\n",
        ),
        (Value::Boolean(false), ":0\r\n", "#f\r\n"),
        (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (
            Value::Verbatim { format: *b"txt", text: "Some".into() },
            "$4\r\nSome\r\n",
            "=8\r\ntxt:Some\r\n",
        ),
        (Value::BigNumber("-12".into()), "$3\r\n-12\r\n", "(-12\r\n"),
    ];
    for (value, resp2, resp3) in cases {
        assert_eq!(both(&value), (resp2.to_owned(), resp3.to_owned()), "{value:?}");
        let decoded = Value::decode(resp3.as_bytes());
        if value != Value::NullArray {
            assert_eq!(decoded, Ok(Some((value, resp3.len()))));
        }
    }
}

#[test]
fn a_line_break_in_a_line_cannot_forge_a_reply() {
    let forged = RespError::new("ERR key 'a\r\n+OK' is wrong");
    assert_eq!(encode(&forged.clone().into(), Protocol::Resp2), "-ERR key 'a  +OK' is wrong\r\n");
    assert_eq!(forged.word(), "ERR");
    assert_eq!(encode(&Value::simple("a\nb".to_owned()), Protocol::Resp3), "+a b\r\n");
}

#[test]
fn doubles_are_laid_out_as_redis_does() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-17.0, "-17"),
        (3.25, "3.25"),
        (0.1, "0.1"),
        (-0.1, "-0.1"),
        (0.30000000000000004, "0.30000000000000004"),
        (123_456_789.125, "123456789.125"),
        (1e15, "1000000000000000"),
        (9_007_199_254_740_991.0, "9007199254740991"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (-2.5e-10, "-2.5e-10"),
        (1e-7, "1e-7"),
        (0.001, "0.001"),
        (0.000_001, "0.000001"),
        (0.000_001_5, "1.5e-6"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::INFINITY, "inf"),
        (f64::NAN, "nan"),
    ];
    for (number, text) in cases {
        assert_eq!(format_double(number), text);
    }
    let mut random = Random(7);
    for _ in 0..50_000 {
        let number = f64::from_bits(random.next());
        if number.is_finite() {
            let text = format_double(number);
            assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(number.to_bits()), "{text}");
            assert!(text.len() <= 25, "{text}");
        }
    }
}

#[test]
fn bulk_bytes_are_equal_when_their_bytes_are() {
    let owned = BulkBytes::from(b"x".to_vec());
    assert_eq!(owned, BulkBytes::from("x"));
    assert_eq!(owned, BulkBytes::from(Rc::<[u8]>::from(&b"x"[..])));
    assert_ne!(owned, BulkBytes::from("y"));
    assert_eq!(format!("{:?}", Value::bulk("a\n")), r#"Bulk("a\n")"#);
}

/// A value of any kind, nested at most `depth` deep.
fn any_value(random: &mut Random, depth: usize) -> Value {
    let kinds = if depth > 1 { 14 } else { 9 };
    let count = random.below(4);
    let values = |random: &mut Random| -> Vec<Value> {
        (0..count).map(|_| any_value(random, depth - 1)).collect()
    };
    match random.below(kinds) {
        0 => Value::simple(format!("line {}", random.next())),
        1 => Value::error(format!("ERR {}", random.next())),
        2 => Value::Integer(i64::from_le_bytes(random.next().to_le_bytes())),
        3 => Value::Bulk((0..random.below(20)).map(|_| random.byte()).collect::<Vec<u8>>().into()),
        4 => Value::Null,
        5 => Value::Boolean(random.below(2) == 0),
        6 => Value::Double(f64::from(random.byte()) / 16.0),
        7 => Value::Verbatim { format: *b"mkd", text: format!("{}", random.next()).into() },
        8 => Value::BigNumber(format!("-{}", random.next()).into()),
        9 | 10 => Value::Array(values(random)),
        11 => Value::Set(values(random)),
        12 => Value::Push(values(random)),
        _ => {
            Value::Map(values(random).into_iter().map(|value| (Value::Integer(1), value)).collect())
        }
    }
}

#[test]
fn any_value_comes_back_from_resp3_wherever_it_is_cut() {
    let mut random = Random(8);
    for _ in 0..2000 {
        let value = any_value(&mut random, 4);
        let mut bytes = value.to_resp3();
        let size = bytes.len();
        for cut in 0..size {
            assert_eq!(Value::decode(&bytes[..cut]), Ok(None), "{value:?} cut at {cut}");
        }
        bytes.extend_from_slice(b"+next\r\n");
        assert_eq!(Value::decode(&bytes), Ok(Some((value, size))));
    }
}

#[test]
fn replies_of_resp2_are_read_too() {
    let decode = |text: &str| Value::decode(text.as_bytes()).map(|value| value.expect("whole").0);
    assert_eq!(decode("$-1\r\n"), Ok(Value::Null));
    assert_eq!(decode("*-1\r\n"), Ok(Value::NullArray));
    assert_eq!(decode("*1\r\n$-1\r\n"), Ok(Value::Array(vec![Value::Null])));
    assert_eq!(decode("!6\r\nERR \r\n\r\n"), Ok(Value::error("ERR \r\n")));
    assert_eq!(decode(",inf\r\n"), Ok(Value::Double(f64::INFINITY)));
}

#[test]
fn what_is_no_reply_is_refused_with_its_offset() {
    let error = |text: &str| Value::decode(text.as_bytes()).expect_err("this is no reply");
    assert_eq!(error("?"), DecodeError::UnknownKind { kind: b'?', offset: 0 });
    assert_eq!(error("*2\r\n:1\r\n|"), DecodeError::UnknownKind { kind: b'|', offset: 8 });
    for text in [
        ":x\r\n",
        ":\r\n",
        "$-2\r\n",
        "$x\r\n",
        "%-1\r\n",
        "~-1\r\n",
        "!-1\r\n",
        "#x\r\n",
        "_x\r\n",
        "(1.5\r\n",
        "(\r\n",
        ",x\r\n",
        "=3\r\ntxt\r\n",
        "=5\r\ntxtxx\r\n",
    ] {
        let kind = text.as_bytes()[0];
        assert_eq!(error(text), DecodeError::BadLine { kind, offset: 0 }, "{text:?}");
    }
    assert_eq!(error("$1\r\nabc"), DecodeError::MissingLineBreak { offset: 5 });
    assert_eq!(error("$9999999999\r\n"), DecodeError::TooLong { length: 9_999_999_999, offset: 0 });
    assert_eq!(error(&format!("+{}", "x".repeat(70_000))), DecodeError::EndlessLine { offset: 0 });
    assert_eq!(Value::decode(b"+\xff\r\n"), Err(DecodeError::NotText { offset: 0 }));
}

#[test]
fn nesting_is_limited_and_an_announced_count_reserves_nothing() {
    let nested = |depth: usize| format!("{}:1\r\n", "*1\r\n".repeat(depth - 1));
    assert!(matches!(Value::decode(nested(DEPTH_MAX).as_bytes()), Ok(Some(_))));
    assert_eq!(
        Value::decode(nested(DEPTH_MAX + 1).as_bytes()),
        Err(DecodeError::TooDeep { offset: DEPTH_MAX * 4 })
    );
    assert!(Value::decode("*1\r\n".repeat(1_000_000).as_bytes()).is_err());
    assert_eq!(Value::decode(b"*536870912\r\n:1\r\n"), Ok(None));
    assert_eq!(Value::decode(b"%536870912\r\n:1\r\n"), Ok(None));
    assert_eq!(Value::decode(b"$536870912\r\nx"), Ok(None));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(9);
    let alphabet = b"+-:$!=*~>%_#,(0123tf\r\n";
    let mut whole = 0;
    for _ in 0..100_000 {
        let mut bytes = any_value(&mut random, 3).to_resp3();
        for _ in 0..random.below(3) {
            let index = random.below(bytes.len());
            bytes[index] = alphabet[random.below(alphabet.len())];
        }
        if let Ok(Some((_, size))) = Value::decode(&bytes) {
            assert!(size > 0 && size <= bytes.len());
            whole += 1;
        }
    }
    assert!(whole > 10_000, "{whole}");
}
