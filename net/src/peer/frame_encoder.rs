//! Messages to frames.
//!
//! The archive is written straight behind its header into the caller's output vector; the only
//! other memory is an arena that lives as long as the connection, so that a frame costs no
//! allocation once both have grown. How large a message becomes is known beforehand, exactly, which
//! is how messages are split over frames without trying.

use std::fmt;
use std::mem::size_of;

use plog::vocabulary::{ArchivedValueId, EntityId};
use rkyv::api::serialize_using;
use rkyv::rancor::{self, Fallible};
use rkyv::ser::allocator::Arena;
use rkyv::ser::{Allocator, Serializer, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Serialize};

use crate::peer::frame::{
    FRAME_HEADER_SIZE, FRAME_SIZE_MAX_DEFAULT, FRAME_SIZE_MAX_LEAST, FRAME_SIZE_MAX_MOST,
    FrameHeader,
};
use crate::peer::message::{
    ArchivedCarriedValue, ArchivedChosenEntry, ArchivedLaggingEntity, ArchivedPeerMessage,
    ArchivedSweptEntity, CarriedValue, LagFound, PeerMessage,
};

/// Size of the archive's root, in bytes.
const ROOT_SIZE: usize = size_of::<ArchivedVec<ArchivedPeerMessage>>();

/// Why messages cannot be put into frames. Nothing was written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameEncodeError {
    /// One message alone is larger than a frame may be.
    #[error(
        "message {index} ({kind}{}) takes a frame of {size} bytes, above the limit of {size_max}; \
         split it, or raise the frame size limit on every node",
        entity.map(|entity| format!(", entity {:#018x}", entity.0)).unwrap_or_default()
    )]
    MessageTooLarge {
        /// Which of the messages.
        index: usize,
        /// What kind of message.
        kind: &'static str,
        /// The entity it is about.
        entity: Option<EntityId>,
        /// Size of a frame with this message alone, in bytes.
        size: usize,
        /// The limit, in bytes.
        size_max: usize,
    },
}

/// Writes the frames of one connection, in order.
pub struct FrameEncoder {
    frame_size_max: usize,
    sequence: u64,
    arena: Arena,
}

impl FrameEncoder {
    /// An encoder for a new connection.
    ///
    /// # Panics
    ///
    /// When `frame_size_max`, in bytes with the header, is not within [`FRAME_SIZE_MAX_LEAST`] and
    /// [`FRAME_SIZE_MAX_MOST`].
    #[must_use]
    pub fn new(frame_size_max: usize) -> Self {
        assert!((FRAME_SIZE_MAX_LEAST..=FRAME_SIZE_MAX_MOST).contains(&frame_size_max));
        Self { frame_size_max, sequence: 0, arena: Arena::new() }
    }

    /// How many frames were written so far.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.sequence
    }

    /// Appends `messages` to `out`, in order, as one frame or as many as the size limit asks for;
    /// none for no messages. Returns how many.
    ///
    /// # Errors
    ///
    /// When one message alone does not fit a frame; then nothing was written.
    pub fn encode(
        &mut self,
        messages: &[PeerMessage],
        out: &mut Vec<u8>,
    ) -> Result<u64, FrameEncodeError> {
        let mut size_total = 0;
        for (index, message) in messages.iter().enumerate() {
            let size = archived_size(message);
            if FRAME_HEADER_SIZE + ROOT_SIZE + size > self.frame_size_max {
                return Err(FrameEncodeError::MessageTooLarge {
                    index,
                    kind: message_kind(message),
                    entity: message.entity(),
                    size: FRAME_HEADER_SIZE + ROOT_SIZE + size,
                    size_max: self.frame_size_max,
                });
            }
            size_total += size;
        }
        let first = self.sequence;
        if FRAME_HEADER_SIZE + ROOT_SIZE + size_total <= self.frame_size_max {
            if !messages.is_empty() {
                out.reserve(FRAME_HEADER_SIZE + ROOT_SIZE + size_total);
                self.encode_frame(messages, out);
            }
            return Ok(self.sequence - first);
        }
        let mut rest = messages;
        while !rest.is_empty() {
            let mut frame_size = FRAME_HEADER_SIZE + ROOT_SIZE;
            let count = rest
                .iter()
                .take_while(|message| {
                    frame_size += archived_size(message);
                    frame_size <= self.frame_size_max
                })
                .count();
            assert!(count > 0, "every message fits a frame of its own");
            let (now, later) = rest.split_at(count);
            self.encode_frame(now, out);
            rest = later;
        }
        Ok(self.sequence - first)
    }

    fn encode_frame(&mut self, messages: &[PeerMessage], out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_SIZE]);
        let mut serializer = Serializer::new(&mut *out, self.arena.acquire(), ());
        serialize_using::<_, rancor::Error>(&Messages(messages), &mut serializer)
            .expect("memory takes whatever is written, and no pointer spans more than a frame");
        let payload = &out[begin + FRAME_HEADER_SIZE..];
        assert!(payload.len() + FRAME_HEADER_SIZE <= self.frame_size_max, "sizes are exact");
        let header = FrameHeader {
            payload_size: u32::try_from(payload.len()).expect("a frame is below 4 GiB"),
            message_count: u32::try_from(messages.len()).expect("a message takes a byte or more"),
            sequence: self.sequence,
            payload_checksum: crc32fast::hash(payload),
        };
        out[begin..begin + FRAME_HEADER_SIZE].copy_from_slice(&header.encode());
        self.sequence += 1;
    }
}

impl Default for FrameEncoder {
    fn default() -> Self {
        Self::new(FRAME_SIZE_MAX_DEFAULT)
    }
}

impl fmt::Debug for FrameEncoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FrameEncoder")
            .field("frame_size_max", &self.frame_size_max)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// A borrowed slice that is archived as the vector it could be.
struct Messages<'a>(&'a [PeerMessage]);

impl Archive for Messages<'_> {
    type Archived = ArchivedVec<ArchivedPeerMessage>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(self.0, resolver, out);
    }
}

impl<S> Serialize<S> for Messages<'_>
where
    S: Fallible + Allocator + Writer + ?Sized,
    PeerMessage: Serialize<S>,
{
    fn serialize(&self, serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(self.0, serializer)
    }
}

/// How many bytes a message takes in a frame's payload, exactly. Nothing is padded, so sizes add
/// up.
#[must_use]
pub fn archived_size(message: &PeerMessage) -> usize {
    let vector = size_of::<ArchivedVec<u8>>();
    let carried = |values: &[CarriedValue]| -> usize {
        values.iter().map(|value| size_of::<ArchivedCarriedValue>() + value.bytes.len()).sum()
    };
    let outside = match message {
        PeerMessage::Entry(message) => carried(&message.values),
        PeerMessage::Chosen(message) => message.value.as_ref().map_or(0, |bytes| bytes.len()),
        PeerMessage::CatchUpAnswer(message) => message
            .entries
            .iter()
            .map(|entry| size_of::<ArchivedChosenEntry>() + entry.value.bytes.len())
            .sum(),
        PeerMessage::Image(message) => {
            message.state.len() + message.recent.len() * size_of::<ArchivedValueId>()
        }
        PeerMessage::Forward(message) => {
            let arguments = message.arguments.iter().map(|argument| vector + argument.len());
            message.request_id.len() + arguments.sum::<usize>()
        }
        PeerMessage::ForwardAnswer(message) => message.reply.as_ref().map_or(0, Vec::len),
        PeerMessage::SweepAnswer(message) => {
            message.entities.len() * size_of::<ArchivedSweptEntity>()
        }
        PeerMessage::LagAnswer(message) => match &message.found {
            LagFound::Page(page) => page.entities.len() * size_of::<ArchivedLaggingEntity>(),
            LagFound::Abstains
            | LagFound::Unknown
            | LagFound::Equal
            | LagFound::EqualWithoutChains => 0,
        },
        PeerMessage::Told(message) => {
            message.value.as_ref().map_or(0, |told| told.value.bytes.len())
        }
        PeerMessage::Newer(_)
        | PeerMessage::ReadCheck(_)
        | PeerMessage::ReadAnswer(_)
        | PeerMessage::CatchUp(_)
        | PeerMessage::Sweep(_)
        | PeerMessage::SweepHint
        | PeerMessage::Heartbeat
        | PeerMessage::Generations(_)
        | PeerMessage::Finish(_)
        | PeerMessage::Lag(_)
        | PeerMessage::Transfer(_)
        | PeerMessage::TransferPage(_)
        | PeerMessage::Configuration(_)
        | PeerMessage::Membership(_)
        | PeerMessage::Compare(_)
        | PeerMessage::Compared(_)
        | PeerMessage::Copy(_)
        | PeerMessage::Follow(_)
        | PeerMessage::FollowAnswer(_) => 0,
    };
    size_of::<ArchivedPeerMessage>() + outside
}

/// A message's kind, for people.
pub(crate) fn message_kind(message: &PeerMessage) -> &'static str {
    match message {
        PeerMessage::Entry(_) => "entry",
        PeerMessage::Chosen(_) => "chosen",
        PeerMessage::Newer(_) => "newer",
        PeerMessage::ReadCheck(_) => "read check",
        PeerMessage::ReadAnswer(_) => "read answer",
        PeerMessage::CatchUp(_) => "catch up",
        PeerMessage::CatchUpAnswer(_) => "catch up answer",
        PeerMessage::Image(_) => "image",
        PeerMessage::Forward(_) => "forward",
        PeerMessage::ForwardAnswer(_) => "forward answer",
        PeerMessage::Sweep(_) => "sweep",
        PeerMessage::SweepAnswer(_) => "sweep answer",
        PeerMessage::SweepHint => "sweep hint",
        PeerMessage::Heartbeat => "heartbeat",
        PeerMessage::Generations(_) => "generations",
        PeerMessage::Finish(_) => "finish",
        PeerMessage::Lag(_) => "lag",
        PeerMessage::LagAnswer(_) => "lag answer",
        PeerMessage::Transfer(_) => "transfer",
        PeerMessage::TransferPage(_) => "transfer page",
        PeerMessage::Compare(_) => "compare",
        PeerMessage::Compared(_) => "compared",
        PeerMessage::Copy(_) => "copy",
        PeerMessage::Follow(_) => "follow",
        PeerMessage::FollowAnswer(_) => "follow answer",
        PeerMessage::Told(_) => "told",
        PeerMessage::Configuration(_) => "configuration",
        PeerMessage::Membership(_) => "membership",
    }
}
