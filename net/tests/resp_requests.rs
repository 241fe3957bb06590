//! Requests from clients: every cut, both forms, Redis's words for what is wrong.

mod random;

use net::resp::arguments::Arguments;
use net::resp::request_parser::{Limits, Parsed, ProtocolError, RequestParser};
use random::Random;

/// Everything in `parts`, handed over part by part as a connection would.
fn parse_parts(parts: &[&[u8]], limits: Limits) -> Result<Vec<Arguments>, ProtocolError> {
    let mut parser = RequestParser::new(limits);
    let mut input = Vec::new();
    let mut requests = Vec::new();
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match parser.next_request(&input)? {
                Parsed::Incomplete => {
                    assert!(parser.size_wanted() > input.len(), "more is wanted than is there");
                    break;
                }
                Parsed::Request { arguments, consumed } => {
                    input.drain(..consumed);
                    requests.push(arguments);
                }
                Parsed::Empty { consumed } => {
                    input.drain(..consumed);
                }
            }
        }
    }
    assert!(input.is_empty(), "left over: {}", input.escape_ascii());
    Ok(requests)
}

fn parse(input: &[u8]) -> Result<Vec<Arguments>, ProtocolError> {
    parse_parts(&[input], Limits::default())
}

/// The error, which has to be the same however the input is cut.
fn error_of(input: &[u8], limits: Limits) -> ProtocolError {
    let error = parse_parts(&[input], limits).expect_err("the input is wrong");
    for cut in 0..input.len() {
        let parts = [&input[..cut], &input[cut..]];
        assert_eq!(parse_parts(&parts, limits), Err(error), "cut at {cut}");
    }
    error
}

fn text_of(input: &[u8]) -> String {
    error_of(input, Limits::default()).to_string()
}

fn request(arguments: &[&str]) -> Arguments {
    Arguments::from_slices(arguments)
}

const PIPELINE: &[u8] = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$7\r\na\r\nb\0\xff$\r\n\
    PING\r\n\
    *1\r\n$0\r\n\r\n\
    \r\n\n\
    *0\r\n*-1\r\n\
    set  \"a b\" 'c d'\t\n\
    *10\r\n$1\r\n0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$1\r\n9\r\n\
    *2\r\n$3\r\nGET\r\n$1\r\n*\r\n";

fn pipeline_requests() -> Vec<Arguments> {
    vec![
        Arguments::from_slices(&[&b"SET"[..], b"key", b"a\r\nb\0\xff$"]),
        request(&["PING"]),
        request(&[""]),
        request(&["set", "a b", "c d"]),
        request(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        request(&["GET", "*"]),
    ]
}

#[test]
fn a_pipeline_may_be_cut_at_every_byte() {
    assert_eq!(parse(PIPELINE), Ok(pipeline_requests()));
    for first in 0..PIPELINE.len() {
        for second in [first, first + (PIPELINE.len() - first) / 2] {
            let parts = [&PIPELINE[..first], &PIPELINE[first..second], &PIPELINE[second..]];
            assert_eq!(parse_parts(&parts, Limits::default()), Ok(pipeline_requests()));
        }
    }
    let bytes: Vec<&[u8]> = PIPELINE.chunks(1).collect();
    assert_eq!(parse_parts(&bytes, Limits::default()), Ok(pipeline_requests()));
}

#[test]
fn inline_requests_follow_the_quoting_rules_of_redis() {
    let cases: [(&[u8], &[&[u8]]); 13] = [
        (b"GET key\n", &[b"GET", b"key"]),
        (b"  GET \t key  \r\n", &[b"GET", b"key"]),
        (b"SET \"a b\" ''\n", &[b"SET", b"a b", b""]),
        (br#"SET "\n\r\t\b\a\"\\\q""#, &[b"SET", b"\n\r\t\x08\x07\"\\q"]),
        (br#"SET "\x00\xfF\x4a\xg1\x1""#, &[b"SET", b"\0\xff\x4axg1x1"]),
        (br"SET 'a\'b\n\\c'", &[b"SET", br"a'b\n\\c"]),
        (br#"SET k"a b""#, &[b"SET", b"ka b"]),
        (br#"SET "'" '"'"#, &[b"SET", b"'", b"\""]),
        (b"a\x0bb\x0cc", &[b"a", b"b", b"c"]),
        (b"\xff\0", &[b"\xff\0"]),
        (b"$3", &[b"$3"]),
        (b"GET a\rb", &[b"GET", b"a", b"b"]),
        (br"SET a\nb", &[b"SET", br"a\nb"]),
    ];
    for (line, arguments) in cases {
        let mut line = line.to_vec();
        if !line.ends_with(b"\n") {
            line.extend_from_slice(b"\r\n");
        }
        let expected = Arguments::from_slices(arguments);
        assert_eq!(parse(&line), Ok(vec![expected]), "{}", line.escape_ascii());
    }
    for line in [
        &b"SET \"a\n"[..],
        b"SET 'a\r\n",
        b"SET \"a\"b\n",
        b"SET 'a'b\n",
        b"SET \"a\\\n",
        b"\"\n",
        b"'a\\'\n",
    ] {
        assert_eq!(text_of(line), "ERR Protocol error: unbalanced quotes in request");
    }
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_redis() {
    let multibulk = "ERR Protocol error: invalid multibulk length";
    for input in [
        "*x\r\n",
        "*\r\n",
        "*1 \r\n",
        "*+1\r\n",
        "*01\r\n",
        "*-\r\n",
        "*-0\r\n",
        "*65537\r\n",
        "*9223372036854775807\r\n",
        "*9223372036854775808\r\n",
        "*1\rx\n",
    ] {
        assert_eq!(text_of(input.as_bytes()), multibulk, "{}", input.escape_debug());
    }
    let bulk = "ERR Protocol error: invalid bulk length";
    for input in [
        "$x\r\n",
        "$\r\n",
        "$-1\r\n",
        "$1048577\r\n",
        "$ 1\r\n",
        "$9999999999999999999\r\n",
        "$1\rx\n",
    ] {
        assert_eq!(text_of(format!("*1\r\n{input}").as_bytes()), bulk, "{}", input.escape_debug());
    }
    let text = text_of(b"*2\r\n$3\r\nGET\r\nx");
    assert_eq!(text, "ERR Protocol error: expected '$', got 'x'");
    assert_eq!(text_of(b"*1\r\n\r\n"), r"ERR Protocol error: expected '$', got '\r'");
    assert_eq!(
        text_of(b"*1\r\n$3\r\nPINGG"),
        "ERR Protocol error: expected a line break after a bulk of 3 bytes"
    );
}

#[test]
fn limits_hold_to_the_byte() {
    let limits =
        Limits { bulk_size_max: 10, arguments_max: 3, inline_size_max: 20, request_size_max: 40 };
    let good = |input: &str| parse_parts(&[input.as_bytes()], limits).expect("within the limits");
    let error = |input: &str| error_of(input.as_bytes(), limits);
    assert_eq!(good("*1\r\n$10\r\n0123456789\r\n"), [request(&["0123456789"])]);
    assert_eq!(error("*1\r\n$11\r\n"), ProtocolError::InvalidBulkLength);
    assert_eq!(good("*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"), [request(&["a", "b", "c"])]);
    assert_eq!(error("*4\r\n"), ProtocolError::InvalidMultibulkLength);
    assert_eq!(good("a b c\r\n"), [request(&["a", "b", "c"])]);
    assert_eq!(error("a b c d\r\n"), ProtocolError::InvalidMultibulkLength);

    let line = "x".repeat(20);
    assert_eq!(good(&format!("{line}\n")), [request(&[&line])]);
    assert_eq!(error(&format!("{line}x\n")), ProtocolError::TooBigInline);
    assert_eq!(error(&format!("{line}x")), ProtocolError::TooBigInline);
    let text = ProtocolError::TooBigInline.to_string();
    assert_eq!(text, "ERR Protocol error: too big inline request");
    assert_eq!(error(&format!("*{line}")), ProtocolError::TooBigMultibulkCount);
    assert_eq!(error(&format!("*{line}\r\n")), ProtocolError::TooBigMultibulkCount);
    assert_eq!(error(&format!("*1\r\n${line}")), ProtocolError::TooBigBulkCount);

    let forty = "*3\r\n$10\r\n0123456789\r\n$7\r\n0123456\r\n$0\r\n\r\n";
    assert_eq!(forty.len(), 40);
    assert_eq!(good(forty), [request(&["0123456789", "0123456", ""])]);
    assert_eq!(
        error("*3\r\n$10\r\n0123456789\r\n$8\r\n01234567\r\n$0\r\n\r\n"),
        ProtocolError::TooBigRequest { size: 41, size_max: 40 }
    );
}

#[test]
fn a_large_value_in_small_pieces_is_not_looked_at_again_and_again() {
    // Looking at every byte again for each piece would take 16 million times 64 KiB here.
    let size = 16 * 1024 * 1024;
    let limits = Limits { bulk_size_max: size, ..Limits::default() };
    let mut whole = format!("*2\r\n$3\r\nSET\r\n${size}\r\n").into_bytes();
    whole.resize(whole.len() + size, b'\r');
    whole.extend_from_slice(b"\r\n");
    let mut parser = RequestParser::new(limits);
    for received in 0..whole.len() {
        assert_eq!(parser.next_request(&whole[..received]), Ok(Parsed::Incomplete));
    }
    assert_eq!(parser.size_wanted(), whole.len());
    let Ok(Parsed::Request { arguments, consumed }) = parser.next_request(&whole) else {
        panic!("the request is complete");
    };
    assert_eq!((arguments.len(), arguments[1].len(), consumed), (2, size, whole.len()));

    let limits = Limits { inline_size_max: size, ..limits };
    let mut parser = RequestParser::new(limits);
    let line = vec![b'x'; size];
    for received in 0..line.len() {
        assert_eq!(parser.next_request(&line[..received]), Ok(Parsed::Incomplete));
    }
}

#[test]
fn an_announced_count_or_length_reserves_nothing() {
    let limits = Limits {
        bulk_size_max: 1 << 31,
        arguments_max: usize::MAX,
        request_size_max: (1 << 32) - 1,
        ..Limits::default()
    };
    let mut parser = RequestParser::new(limits);
    assert_eq!(
        parser.next_request(b"*9223372036854775807\r\n$2147483648\r\n"),
        Ok(Parsed::Incomplete)
    );
}

#[test]
fn random_bytes_never_panic_and_every_cut_gives_the_same() {
    let mut random = Random(6);
    let alphabet = b"*$0123\r\n\"'\\x-ab ";
    let mut found = 0;
    for _ in 0..50_000 {
        let bytes: Vec<u8> = (0..random.below(40))
            .map(|_| match random.below(20) {
                0 => random.byte(),
                _ => alphabet[random.below(alphabet.len())],
            })
            .collect();
        let run = |parts: &[&[u8]]| {
            let mut parser = RequestParser::default();
            let (mut input, mut requests) = (Vec::new(), Vec::new());
            for part in parts {
                input.extend_from_slice(part);
                loop {
                    match parser.next_request(&input) {
                        Err(error) => return (requests, Some(error)),
                        Ok(Parsed::Incomplete) => break,
                        Ok(Parsed::Empty { consumed }) => {
                            assert!(consumed > 0);
                            input.drain(..consumed);
                        }
                        Ok(Parsed::Request { arguments, consumed }) => {
                            assert!(consumed > 0 && !arguments.is_empty());
                            input.drain(..consumed);
                            requests.push(arguments);
                        }
                    }
                }
            }
            (requests, None)
        };
        let whole = run(&[&bytes]);
        found += whole.0.len();
        let cut = random.below(bytes.len() + 1);
        assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), whole, "{}", bytes.escape_ascii());
    }
    assert!(found > 10_000, "{found}");
}
