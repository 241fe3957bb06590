//! Frames to messages.
//!
//! Bytes arrive cut anywhere and may be anything. The decoder keeps what is not used yet in one
//! buffer, never more than one frame's limit beyond what it is handed at once, and lets nothing
//! through that has not passed every check: header, checksums, the archive's structure, each
//! message's rules. After an error there is no telling where the next frame would begin: the
//! connection has to be closed.

use plog::planted;
use rkyv::api::low;
use rkyv::rancor;
use rkyv::vec::ArchivedVec;

use crate::peer::frame::{
    BadHeader, FRAME_HEADER_SIZE, FRAME_MAGIC, FRAME_SIZE_MAX_LEAST, FRAME_SIZE_MAX_MOST,
    FrameHeader, PROTOCOL_VERSION,
};
use crate::peer::frame_encoder::message_kind;
use crate::peer::message::{ArchivedPeerMessage, PeerMessage};
use crate::peer::message_rules::{self, InvalidMessage};

/// Why bytes from a peer are no frame. Close the connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// No frame begins here.
    #[error("a frame begins with {FRAME_MAGIC:#010x}, got {got:#010x}: not a Certus peer's bytes")]
    Magic {
        /// What stands there.
        got: u32,
    },
    /// A version that was not agreed on.
    #[error("frame of protocol version {got}, agreed on {PROTOCOL_VERSION}")]
    Version {
        /// The frame's version.
        got: u16,
    },
    /// The header was damaged on the way.
    #[error("frame header checksum is {got:#010x}, its bytes give {computed:#010x}")]
    HeaderChecksum {
        /// The checksum in the header.
        got: u32,
        /// The checksum of the header's bytes.
        computed: u32,
    },
    /// Flags that this version does not know.
    #[error("unknown frame flags {got:#06x}")]
    Flags {
        /// The flags.
        got: u16,
    },
    /// Larger than this node accepts.
    #[error(
        "frame of {size} bytes, above the limit of {size_max}; \
         set the same frame size limit on every node"
    )]
    TooLarge {
        /// Size of the whole frame, in bytes.
        size: usize,
        /// The limit, in bytes.
        size_max: usize,
    },
    /// A frame is missing or came twice.
    #[error("frame {got} of the connection where frame {expected} should be")]
    Sequence {
        /// The frame's number.
        got: u64,
        /// The number after the last frame's.
        expected: u64,
    },
    /// The payload was damaged on the way.
    #[error("frame {sequence}: payload checksum is {got:#010x}, its bytes give {computed:#010x}")]
    PayloadChecksum {
        /// The frame's number.
        sequence: u64,
        /// The checksum in the header.
        got: u32,
        /// The checksum of the payload's bytes.
        computed: u32,
    },
    /// The payload is no archive of messages: the sender is broken or hostile.
    #[error(
        "frame {sequence}: payload of {payload_size} bytes is no archive of messages: {reason}"
    )]
    Archive {
        /// The frame's number.
        sequence: u64,
        /// Size of the payload, in bytes.
        payload_size: u32,
        /// What the archive's check says.
        reason: String,
    },
    /// Header and payload disagree.
    #[error("frame {sequence}: {announced} messages announced, {found} found")]
    MessageCount {
        /// The frame's number.
        sequence: u64,
        /// The header's count.
        announced: u32,
        /// The archive's count.
        found: usize,
    },
    /// A frame without a message has no purpose.
    #[error("frame {sequence} holds no message")]
    Empty {
        /// The frame's number.
        sequence: u64,
    },
    /// A message breaks a rule.
    #[error("frame {sequence}, message {index} ({kind}): {reason}")]
    Message {
        /// The frame's number.
        sequence: u64,
        /// Which message of the frame.
        index: usize,
        /// What kind of message.
        kind: &'static str,
        /// Which rule.
        reason: InvalidMessage,
    },
}

impl From<BadHeader> for FrameError {
    fn from(bad: BadHeader) -> Self {
        match bad {
            BadHeader::Magic { got } => Self::Magic { got },
            BadHeader::Version { got } => Self::Version { got },
            BadHeader::Checksum { got, computed } => Self::HeaderChecksum { got, computed },
            BadHeader::Flags { got } => Self::Flags { got },
        }
    }
}

/// Buffer kept allocated while nothing is in it, in bytes.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Reads the frames of one connection, in order.
#[derive(Debug)]
pub struct FrameDecoder {
    frame_size_max: usize,
    replicas: u8,
    /// All of it is initialised; `begin..end` is received and not used yet.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    /// The header at `begin`, once it is there and was checked.
    header: Option<FrameHeader>,
    /// Number of the next frame.
    sequence: u64,
    /// Set for good by the first error.
    error: Option<FrameError>,
}

impl FrameDecoder {
    /// A decoder for a new connection from a peer in a replica set of `replicas`.
    ///
    /// # Panics
    ///
    /// When `frame_size_max`, in bytes with the header, is not within [`FRAME_SIZE_MAX_LEAST`] and
    /// [`FRAME_SIZE_MAX_MOST`], or `replicas` is 0.
    #[must_use]
    pub fn new(frame_size_max: usize, replicas: u8) -> Self {
        assert!((FRAME_SIZE_MAX_LEAST..=FRAME_SIZE_MAX_MOST).contains(&frame_size_max));
        assert!(replicas > 0, "a replica set has at least one replica");
        Self {
            frame_size_max,
            replicas,
            buffer: Vec::new(),
            begin: 0,
            end: 0,
            header: None,
            sequence: 0,
            error: None,
        }
    }

    /// Takes bytes that arrived. Take the frames out with [`FrameDecoder::next_frame`] before more
    /// is pushed: that bounds the buffer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.spare_mut(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Room for at least `size` bytes to receive into, in place of [`FrameDecoder::push`]; say with
    /// [`FrameDecoder::filled`] how much was received.
    pub fn spare_mut(&mut self, size: usize) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        if self.buffer.len() - self.end < size {
            if self.begin > 0 {
                self.buffer.copy_within(self.begin..self.end, 0);
                self.end -= self.begin;
                self.begin = 0;
            }
            // A frame that has begun needs its whole size sooner or later: grow once.
            let needed = (self.end + size).max(self.frame_end().unwrap_or(0));
            if needed > self.buffer.len() {
                self.buffer.resize(needed, 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Says that the first `size` bytes of [`FrameDecoder::spare_mut`] were received.
    ///
    /// # Panics
    ///
    /// When there was not so much room.
    pub fn filled(&mut self, size: usize) {
        assert!(size <= self.buffer.len() - self.end, "more was received than there was room for");
        self.end += size;
    }

    /// How many bytes are received and not used yet.
    #[must_use]
    pub fn pending_size(&self) -> usize {
        self.end - self.begin
    }

    /// How many frames were taken out so far.
    #[must_use]
    pub fn frame_count(&self) -> u64 {
        self.sequence
    }

    /// Takes out the next frame's messages, at least one; `None` when it is not complete yet.
    ///
    /// # Errors
    ///
    /// When the bytes are no valid frame. Every later call gives the same error.
    pub fn next_frame(&mut self) -> Result<Option<Vec<PeerMessage>>, FrameError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let next = self.take_frame();
        if let Err(error) = &next {
            self.error = Some(error.clone());
            self.buffer = Vec::new();
            (self.begin, self.end) = (0, 0);
        }
        next
    }

    fn take_frame(&mut self) -> Result<Option<Vec<PeerMessage>>, FrameError> {
        let Some(header) = self.next_header()? else {
            if self.begin == self.end && self.buffer.len() > BUFFER_KEPT {
                self.buffer = Vec::new();
                (self.begin, self.end) = (0, 0);
            }
            return Ok(None);
        };
        let payload_begin = self.begin + FRAME_HEADER_SIZE;
        let payload_end = payload_begin + memory_size(header.payload_size);
        if payload_end > self.end {
            return Ok(None);
        }
        let messages = self.messages(&header, &self.buffer[payload_begin..payload_end])?;
        self.begin = payload_end;
        self.header = None;
        self.sequence += 1;
        Ok(Some(messages))
    }

    /// The header at `begin`, checked once.
    fn next_header(&mut self) -> Result<Option<FrameHeader>, FrameError> {
        if self.header.is_none() {
            let received = &self.buffer[self.begin..self.end];
            let Some(bytes) = received.first_chunk::<FRAME_HEADER_SIZE>() else {
                return Ok(None);
            };
            let header = FrameHeader::decode(bytes)?;
            let size = memory_size(header.payload_size).saturating_add(FRAME_HEADER_SIZE);
            if size > self.frame_size_max {
                return Err(FrameError::TooLarge { size, size_max: self.frame_size_max });
            }
            if header.sequence != self.sequence {
                let (got, expected) = (header.sequence, self.sequence);
                return Err(FrameError::Sequence { got, expected });
            }
            self.header = Some(header);
        }
        Ok(self.header)
    }

    fn messages(
        &self,
        header: &FrameHeader,
        payload: &[u8],
    ) -> Result<Vec<PeerMessage>, FrameError> {
        let sequence = header.sequence;
        let computed = crc32fast::hash(payload);
        if computed != header.payload_checksum && !planted!("wire-checksum-unchecked") {
            let got = header.payload_checksum;
            return Err(FrameError::PayloadChecksum { sequence, got, computed });
        }
        let unreadable = |error: rancor::Error| FrameError::Archive {
            sequence,
            payload_size: header.payload_size,
            reason: error.to_string(),
        };
        let archived: &ArchivedVec<ArchivedPeerMessage> =
            low::access(payload).map_err(unreadable)?;
        if memory_size(header.message_count) != archived.len() {
            return Err(FrameError::MessageCount {
                sequence,
                announced: header.message_count,
                found: archived.len(),
            });
        }
        if archived.is_empty() {
            return Err(FrameError::Empty { sequence });
        }
        let messages: Vec<PeerMessage> = low::deserialize(archived).map_err(unreadable)?;
        for (index, message) in messages.iter().enumerate() {
            message_rules::check(message, self.replicas).map_err(|reason| FrameError::Message {
                sequence,
                index,
                kind: message_kind(message),
                reason,
            })?;
        }
        Ok(messages)
    }

    /// Where the frame at hand ends in the buffer, when its header is there.
    fn frame_end(&self) -> Option<usize> {
        let header = self.header?;
        Some(self.begin + FRAME_HEADER_SIZE + memory_size(header.payload_size))
    }
}

/// A size or count from the wire as one in memory.
fn memory_size(size: u32) -> usize {
    usize::try_from(size).expect("a u32 fits a size in memory")
}
