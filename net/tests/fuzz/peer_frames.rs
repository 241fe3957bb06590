//! Frames of messages: cut anywhere, they give the same; what is let through keeps the rules, and
//! encodes again.

use std::ops::Range;
use std::rc::Rc;

use net::peer::frame::{FRAME_HEADER_SIZE, FrameDecoder, FrameEncoder, FrameError, archived_size};
use net::peer::message::PeerMessage;
use net::peer::message_rules;

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};
use crate::messages::{REPLICAS, any_message, unruly_message};

const FRAME_SIZE_MAX: usize = 4096;

thread_local! {
    static STREAMS: Rc<[Vec<u8>]> = (0..24).map(|seed| made_stream(&mut Random(seed))).collect();
}

fn made_messages(random: &mut Random) -> Vec<PeerMessage> {
    (0..1 + random.below(5)).map(|_| any_message(random)).collect()
}

/// A few frames, as a connection begins.
fn made_stream(random: &mut Random) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(FRAME_SIZE_MAX);
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        let mut messages = made_messages(random);
        if random.below(12) == 0 {
            messages.push(unruly_message(random));
        }
        encoder.encode(&messages, &mut bytes).expect("the messages are small");
    }
    bytes
}

struct Frames;

/// The size that a frame's header gives for it.
fn size_of(frame: &[u8]) -> usize {
    let size = u32::from_le_bytes(*frame[8..].first_chunk().expect("within the header"));
    FRAME_HEADER_SIZE + usize::try_from(size).expect("fits")
}

/// Where the frames begin, as far as their lengths lead.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut begin = 0;
    while bytes.len() - begin >= FRAME_HEADER_SIZE {
        let end = (begin + size_of(&bytes[begin..])).min(bytes.len());
        found.push(begin..end);
        begin = end;
    }
    found
}

impl Format for Frames {
    /// Version, flags, sizes, counts and numbers; and every four bytes of the archives, which are
    /// made of small numbers, lengths and relative pointers.
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut fields = Vec::new();
        for frame in frames(bytes) {
            let header = [4..6, 6..8, 8..12, 12..16, 16..24];
            fields.extend(header.map(|field| frame.start + field.start..frame.start + field.end));
            let archive = (frame.start + FRAME_HEADER_SIZE..frame.end).step_by(4);
            fields.extend(archive.map(|at| at..(at + 4).min(frame.end)));
        }
        fields
    }

    /// Checksums, and the size of a last frame that is not all there.
    fn repair(&self, bytes: &mut [u8]) {
        for frame in frames(bytes) {
            let frame = &mut bytes[frame];
            if size_of(frame) <= FRAME_SIZE_MAX {
                let size = u32::try_from(frame.len() - FRAME_HEADER_SIZE).expect("small");
                frame[8..12].copy_from_slice(&size.to_le_bytes());
            }
            let payload = crc32fast::hash(&frame[FRAME_HEADER_SIZE..]);
            frame[24..28].copy_from_slice(&payload.to_le_bytes());
            let header = crc32fast::hash(&frame[..28]);
            frame[28..32].copy_from_slice(&header.to_le_bytes());
        }
    }
}

/// What a decoder made of a stream.
#[derive(Debug, PartialEq)]
struct Decoded {
    frames: Vec<Vec<PeerMessage>>,
    error: Option<FrameError>,
    /// Bytes that are not used yet.
    pending: usize,
}

/// What the archive's check says names places in memory, which differ from run to run.
fn without_addresses(error: FrameError) -> FrameError {
    match error {
        FrameError::Archive { sequence, payload_size, .. } => {
            FrameError::Archive { sequence, payload_size, reason: String::new() }
        }
        error => error,
    }
}

type Decode = fn(&[&[u8]]) -> Decoded;

/// Pushes piece by piece, and stops at an error as the owner of a connection does.
fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX, REPLICAS);
    let mut frames = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        if number % 2 == 0 {
            decoder.push(piece);
        } else {
            decoder.spare_mut(piece.len())[..piece.len()].copy_from_slice(piece);
            decoder.filled(piece.len());
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(messages)) => frames.push(messages),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_frame(), Err(error.clone()), "an error stays");
                    assert_eq!(decoder.pending_size(), 0, "what was received is let go");
                    decoder.push(&STREAMS.with(Rc::clone)[0]);
                    assert_eq!(decoder.next_frame(), Err(error.clone()), "whatever comes after");
                    let error = Some(without_addresses(error));
                    return Decoded { frames, error, pending: 0 };
                }
            }
        }
        assert!(decoder.pending_size() < FRAME_SIZE_MAX, "a whole frame is taken out");
    }
    assert_eq!(decoder.frame_count(), frames.len() as u64);
    Decoded { frames, error: None, pending: decoder.pending_size() }
}

fn check(decode: Decode, plan: &Plan, tally: &mut Tally) {
    let streams = STREAMS.with(Rc::clone);
    let bytes = plan.input(&Frames, &streams, made_stream);
    let (decoded, held) = peak(|| decode(&[&bytes]));
    // What is received, once more what is let through, and the buffer of a frame that has begun.
    let limit = 8 * bytes.len() + FRAME_SIZE_MAX + (16 << 10);
    assert!(held <= limit, "{held} bytes were held for {} bytes", bytes.len());
    assert_eq!(decode(&plan.pieces(&bytes)), decoded, "in pieces");
    let Decoded { frames, error, pending } = decoded;
    for frame in self::frames(&bytes).into_iter().take(frames.len()) {
        let mut sealed = bytes[frame.clone()].to_vec();
        Frames.repair(&mut sealed);
        assert!(sealed == bytes[frame], "a frame is let through with a wrong checksum");
    }
    let found: usize = frames.iter().flatten().map(archived_size).sum();
    assert!(found + pending <= bytes.len(), "{found} bytes of messages in {}", bytes.len());
    let mut encoder = FrameEncoder::new(FRAME_SIZE_MAX);
    let mut again = Vec::new();
    for messages in &frames {
        assert!(!messages.is_empty());
        for message in messages {
            assert_eq!(message_rules::check(message, REPLICAS), Ok(()), "{message:?}");
        }
        encoder.encode(messages, &mut again).expect("they came in a frame of this limit");
    }
    let decoded = decode(&[&again]);
    assert!(decoded.frames.iter().flatten().eq(frames.iter().flatten()), "encoded again");
    assert_eq!((decoded.error, decoded.pending), (None, 0));
    tally.count(&if frames.is_empty() { "NoFrame" } else { "Frames" });
    match error {
        Some(error) => {
            assert!(!error.to_string().is_empty());
            tally.count(&error);
        }
        None => tally.count(&if pending > 0 { "Incomplete" } else { "Whole" }),
    }
}

#[test]
fn fuzz_peer_frame() {
    fuzz!(80_000, |plan, tally| check(decode, plan, tally), |tally| {
        tally.expect(1000, &["Frames", "NoFrame", "Whole", "Incomplete"]);
        tally.expect(200, &["Archive", "Magic", "Message", "PayloadChecksum", "HeaderChecksum"]);
        tally.expect(10, &["Version", "Sequence", "MessageCount", "Flags", "TooLarge"]);
    });
}

#[test]
fn messages_come_back_as_they_went() {
    let mut random = Random(11);
    for _ in 0..3000 {
        let messages = made_messages(&mut random);
        let mut bytes = Vec::new();
        FrameEncoder::new(FRAME_SIZE_MAX).encode(&messages, &mut bytes).expect("small");
        let decoded = decode(&[&bytes]);
        assert_eq!((decoded.frames.concat(), decoded.error), (messages, None));
    }
}

#[test]
fn a_frame_decoder_that_is_wrong_is_found() {
    let fails = |decode: Decode| fails(2000, |plan, tally| check(decode, plan, tally));
    // Loses a frame that ends where a piece ends.
    assert!(fails(|pieces| {
        let mut decoded = decode(pieces);
        if pieces.len() > 1 {
            decoded.frames.pop();
        }
        decoded
    }));
    // Lets a message of another replica set through.
    assert!(fails(|pieces| {
        let mut decoder = FrameDecoder::new(FRAME_SIZE_MAX, u8::MAX);
        let mut decoded = decode(pieces);
        decoder.push(&pieces.concat());
        if let Some(FrameError::Message { .. }) = decoded.error {
            decoded.frames.clear();
            while let Ok(Some(messages)) = decoder.next_frame() {
                decoded.frames.push(messages);
            }
        }
        decoded
    }));
    // Forgets a message.
    assert!(fails(|pieces| {
        let mut decoded = decode(pieces);
        if let Some(messages) = decoded.frames.first_mut() {
            messages.pop();
        }
        decoded
    }));
    // Does not look at checksums.
    assert!(fails(|pieces| {
        let mut stream = pieces.concat();
        Frames.repair(&mut stream);
        decode(&[&stream])
    }));
    // Makes room for the largest frame there could be.
    assert!(fails(|pieces| {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
        decode(pieces)
    }));
}
