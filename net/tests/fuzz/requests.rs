//! Requests of clients: cut anywhere, they give the same; nothing beyond the limits is kept.

use std::ops::Range;
use std::rc::Rc;

use net::resp::arguments::Arguments;
use net::resp::request_parser::{Limits, Parsed, ProtocolError, RequestParser};
use net::resp::value::{put_array_header, put_bulk};

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};

const LIMITS: Limits =
    Limits { bulk_size_max: 200, arguments_max: 24, inline_size_max: 120, request_size_max: 700 };

/// The most of one request that its connection has to keep: all within the limit, and the line that
/// shows that it goes beyond.
const KEPT_MAX: usize = LIMITS.request_size_max + LIMITS.inline_size_max + 2;

thread_local! {
    static PIPELINES: Rc<[Vec<u8>]> =
        (0..24).map(|seed| made_pipeline(&mut Random(seed))).collect();
}

fn made_arguments(random: &mut Random) -> Arguments {
    (0..1 + random.below(5)).map(|_| random.bytes(30)).collect()
}

/// As client libraries send it.
fn put_array(arguments: &Arguments, out: &mut Vec<u8>) {
    put_array_header(arguments.len(), out);
    arguments.iter().for_each(|argument| put_bulk(argument, out));
}

/// As somebody types it, everything unusual in double quotes.
fn put_line(arguments: &Arguments, out: &mut Vec<u8>) {
    for argument in arguments {
        out.extend_from_slice(b" \"");
        for byte in argument {
            match byte {
                b'a'..=b'z' => out.push(*byte),
                b'"' | b'\\' => out.extend([b'\\', *byte]),
                byte => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            }
        }
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

fn made_pipeline(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => out.extend_from_slice(b"\r\n"),
            1 => out.extend_from_slice(b"*0\r\n*-1\r\n"),
            2 => out.extend_from_slice(b"SET 'a b' \"\\n\"\n"),
            3 => {
                // Beyond a limit, or not.
                let large =
                    (0..1 + random.below(4)).map(|_| vec![random.byte(); 130 + random.below(80)]);
                put_array(&large.collect(), &mut out);
            }
            4 => put_line(&Arguments::from_slices(&[b"GET".to_vec(), random.bytes(20)]), &mut out),
            _ => put_array(&made_arguments(random), &mut out),
        }
    }
    out
}

/// Numbers in text, behind the byte that announces one.
pub struct Announcements;

impl Format for Announcements {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut fields = Vec::new();
        for at in 0..bytes.len() {
            let announces = at == 0 || bytes[at - 1] == b'\n';
            if announces && b"*$%~>!=".contains(&bytes[at]) {
                let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit());
                fields.push(at + 1..at + 1 + digits.count());
            }
        }
        fields
    }

    fn repair(&self, _bytes: &mut [u8]) {}

    fn read(&self, field: &[u8]) -> u64 {
        std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn write(&self, number: u64, _width: usize) -> Vec<u8> {
        number.to_string().into_bytes()
    }
}

/// What a connection's bytes gave.
#[derive(Debug, PartialEq)]
struct Requests {
    found: Vec<Arguments>,
    error: Option<ProtocolError>,
    /// Bytes of a request that is not complete.
    left: usize,
}

type Parse = fn(&[&[u8]]) -> Requests;

/// Hands over as a connection does: what is not used stays in front of the next piece.
fn parse(pieces: &[&[u8]]) -> Requests {
    let mut parser = RequestParser::new(LIMITS);
    let (mut input, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next_request(&input) {
                Err(error) => return Requests { found, error: Some(error), left: 0 },
                Ok(Parsed::Incomplete) => {
                    let wanted = parser.size_wanted();
                    assert!(wanted > input.len(), "{wanted} bytes wanted, {} there", input.len());
                    assert!(wanted <= KEPT_MAX && input.len() <= KEPT_MAX, "{wanted}");
                    break;
                }
                Ok(Parsed::Empty { consumed }) => {
                    assert!(consumed > 0);
                    input.drain(..consumed);
                }
                Ok(Parsed::Request { arguments, consumed }) => {
                    assert!(consumed > 0 && !arguments.is_empty());
                    assert!(arguments.len() <= LIMITS.arguments_max);
                    assert!(arguments.iter().all(|one| one.len() <= LIMITS.bulk_size_max));
                    assert!(consumed <= LIMITS.request_size_max);
                    input.drain(..consumed);
                    found.push(arguments);
                }
            }
        }
    }
    Requests { found, error: None, left: input.len() }
}

fn check(parse: Parse, plan: &Plan, tally: &mut Tally) {
    let pipelines = PIPELINES.with(Rc::clone);
    let bytes = plan.input(&Announcements, &pipelines, made_pipeline);
    let (requests, held) = peak(|| parse(&[&bytes]));
    // The input, the arguments and where each ends, in vectors that double as they grow.
    let limit = 16 * bytes.len() + 4096;
    assert!(held <= limit, "{held} bytes were held for {} bytes", bytes.len());
    assert_eq!(parse(&plan.pieces(&bytes)), requests, "in pieces");
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(parse(&singles), requests, "byte by byte");
    // Whatever form a request came in, as an array it is the same.
    let Requests { found, error, left } = requests;
    for arguments in &found {
        let mut array = Vec::new();
        put_array(arguments, &mut array);
        // The shorter inline form may hold what is too large as an array.
        if array.len() <= LIMITS.request_size_max {
            let again = parse(&[&array]);
            let alone = Requests { found: vec![arguments.clone()], error: None, left: 0 };
            assert_eq!(again, alone, "as an array");
        }
    }
    // A request made for the occasion, in both forms.
    let made = made_arguments(&mut Random(plan.seed));
    let mut both = Vec::new();
    put_array(&made, &mut both);
    let line = both.len();
    put_line(&made, &mut both);
    if both.len() - line <= LIMITS.inline_size_max {
        let expected = Requests { found: vec![made.clone(), made], error: None, left: 0 };
        assert_eq!(parse(&plan.pieces(&both)), expected);
        tally.count(&"Both");
    }
    tally.count(&if found.is_empty() { "NoRequest" } else { "Requests" });
    match error {
        Some(error) => {
            assert!(error.to_string().starts_with("ERR Protocol error: "));
            tally.count(&error);
        }
        None => tally.count(&if left > 0 { "Incomplete" } else { "Whole" }),
    }
}

#[test]
fn fuzz_resp_request() {
    fuzz!(60_000, |plan, tally| check(parse, plan, tally), |tally| {
        tally.expect(1000, &["Requests", "NoRequest", "Whole", "Incomplete", "Both"]);
        tally.expect(50, &["InvalidMultibulkLength", "InvalidBulkLength", "ExpectedDollar"]);
        tally.expect(50, &["ExpectedLineBreak", "UnbalancedQuotes", "TooBigInline"]);
    });
}

#[test]
fn a_request_parser_that_is_wrong_is_found() {
    let fails = |parse: Parse| fails(2000, |plan, tally| check(parse, plan, tally));
    // Begins anew with each piece.
    assert!(fails(|pieces| {
        let mut all = Requests { found: vec![], error: None, left: 0 };
        for piece in pieces {
            let now = parse(&[piece]);
            all.found.extend(now.found);
            (all.error, all.left) = (now.error, now.left);
        }
        all
    }));
    // Takes the first argument of what was typed for all of it.
    assert!(fails(|pieces| {
        let mut requests = parse(pieces);
        if let Some(last) =
            requests.found.last_mut().filter(|_| pieces.concat().ends_with(b"\"\r\n"))
        {
            *last = last.iter().take(1).collect();
        }
        requests
    }));
    // Makes room for as many bytes as are announced.
    assert!(fails(|pieces| {
        let bytes = pieces.concat();
        for field in Announcements.fields(&bytes) {
            let announced = usize::try_from(Announcements.read(&bytes[field])).unwrap_or(0);
            drop(std::hint::black_box(Vec::<u8>::with_capacity(announced.min(1 << 30))));
        }
        parse(pieces)
    }));
}
