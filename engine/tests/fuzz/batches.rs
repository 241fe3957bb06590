//! Write batches: one encoding only, read in place, cut short never taken for whole.

use std::ops::Range;
use std::rc::Rc;

use engine::batch::{Batch, BatchBuilder, InvalidBatch, REQUEST_ID_SIZE_MAX, decode_reply};
use net::resp::value::Value;

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};

thread_local! {
    static BATCHES: Rc<[Vec<u8>]> = (0..24).map(|seed| made_batch(&mut Random(seed))).collect();
}

fn any_reply(random: &mut Random) -> Value {
    match random.below(5) {
        0 => Value::OK,
        1 => Value::Integer(i64::from(random.byte())),
        2 => Value::Null,
        3 => Value::Array(vec![Value::bulk(random.bytes(9)), Value::error("ERR no")]),
        _ => Value::bulk(random.bytes(60)),
    }
}

/// Requests with an id of their own each, and their replies.
fn any_requests(random: &mut Random) -> Vec<(Vec<u8>, Value)> {
    let request = |number: usize, random: &mut Random| {
        let mut id = random.bytes(REQUEST_ID_SIZE_MAX - 1);
        id.insert(0, u8::try_from(number).expect("few"));
        (id, any_reply(random))
    };
    (0..random.below(5)).map(|number| request(number, random)).collect()
}

fn encoded(requests: &[(Vec<u8>, Value)], effects: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::default();
    for (id, reply) in requests {
        builder.add_request(id, reply);
    }
    builder.finish(|out| out.extend_from_slice(effects))
}

fn made_batch(random: &mut Random) -> Vec<u8> {
    let requests = any_requests(random);
    encoded(&requests, &random.bytes(80))
}

/// Where the numbers of a list of request ids stand, whose `width` bytes of count begin at `begin`:
/// the count, and the lengths of ids and replies. Gives the end of the list as well.
pub fn request_fields(bytes: &[u8], begin: usize, width: usize) -> (Vec<Range<usize>>, usize) {
    let mut fields = Vec::new();
    let mut at = begin + width;
    let Some(field) = bytes.get(begin..at) else { return (fields, bytes.len()) };
    fields.push(begin..at);
    let count = field.iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    for _ in 0..count {
        let Some(length) = bytes.get(at) else { break };
        let reply = at + 1 + usize::from(*length);
        let Some(size) = bytes.get(reply..reply + 4) else { break };
        fields.extend([at..at + 1, reply..reply + 4]);
        let size = u32::from_le_bytes(*size.first_chunk().expect("four bytes"));
        let next = (reply + 4).saturating_add(usize::try_from(size).expect("fits"));
        if next > bytes.len() {
            break;
        }
        at = next;
    }
    (fields, at)
}

struct Batches;

impl Format for Batches {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let (mut fields, _) = request_fields(bytes, 1, 2);
        fields.push(0..1.min(bytes.len()));
        fields
    }

    fn repair(&self, _bytes: &mut [u8]) {}
}

type Parse = for<'a> fn(&'a [u8]) -> Result<Batch<'a>, InvalidBatch>;

fn check(parse: Parse, plan: &Plan, tally: &mut Tally) {
    let batches = BATCHES.with(Rc::clone);
    let bytes = plan.input(&Batches, &batches, made_batch);
    let (parsed, held) = peak(|| parse(&bytes));
    assert_eq!(held, 0, "a batch is read in place");
    match parsed {
        Ok(batch) if bytes.is_empty() => {
            assert!(batch.requests().next().is_none() && batch.effects().is_empty());
            tally.count(&"NoOp");
        }
        Ok(batch) => {
            let count = u16::try_from(batch.requests().count()).expect("counted by 16 bits");
            let mut again = vec![1];
            again.extend(count.to_le_bytes());
            for (id, reply) in batch.requests() {
                assert!(!id.is_empty() && id.len() <= REQUEST_ID_SIZE_MAX);
                again.push(u8::try_from(id.len()).expect("at most 64"));
                again.extend_from_slice(id);
                again.extend(u32::try_from(reply.len()).expect("fits").to_le_bytes());
                again.extend_from_slice(reply);
                if let Some(value) = decode_reply(reply) {
                    assert!(decode_reply(&value.to_resp3()).is_some(), "{value:?}");
                }
            }
            let requests = again.len();
            again.extend_from_slice(batch.effects());
            assert!(again == bytes, "a batch of {} bytes reads as another", bytes.len());
            for cut in &plan.cuts {
                let end = 1 + usize::from(*cut) % requests;
                let cut = parse(&bytes[..end]).map(|batch| batch.effects().len());
                let expected =
                    if end < requests { Err(InvalidBatch::CutShort(end)) } else { Ok(0) };
                assert_eq!(cut, expected, "cut at {end} of {requests}");
            }
            tally.count(&if count > 0 { "Requests" } else { "Effects" });
        }
        Err(error) => tally.count(&error),
    }
    check_made(parse, plan.seed, &bytes);
}

/// A batch that is built reads back.
fn check_made(parse: Parse, seed: u64, effects: &[u8]) {
    let requests = any_requests(&mut Random(seed));
    let bytes = encoded(&requests, effects);
    let batch = parse(&bytes).expect("built by us");
    assert_eq!(batch.effects(), effects);
    let read: Vec<_> = batch.requests().map(|(id, reply)| (id, decode_reply(reply))).collect();
    let built = requests.iter().map(|(id, reply)| (&id[..], Some(reply.clone())));
    assert_eq!(read, built.collect::<Vec<_>>());
}

#[test]
fn fuzz_batch() {
    fuzz!(60_000, |plan, tally| check(|bytes| Batch::parse(bytes), plan, tally), |tally| {
        tally.expect(2000, &["Requests", "Effects", "CutShort", "UnknownFormat"]);
        tally.expect(20, &["NoOp"]);
    });
}

#[test]
fn a_batch_reader_that_is_wrong_is_found() {
    let fails = |parse: Parse| fails(2000, |plan, tally| check(parse, plan, tally));
    // Takes what is cut short for a batch without requests.
    assert!(fails(|bytes| Batch::parse(bytes).or_else(|_| Batch::parse(&[]))));
    // Reads any format.
    assert!(fails(|bytes| match Batch::parse(bytes) {
        Err(InvalidBatch::UnknownFormat(_)) => Batch::parse(&[1, 0, 0]),
        parsed => parsed,
    }));
    // Wants nothing behind the requests.
    assert!(fails(|bytes| {
        let batch = Batch::parse(bytes)?;
        if batch.effects().is_empty() { Ok(batch) } else { Err(InvalidBatch::CutShort(0)) }
    }));
}
