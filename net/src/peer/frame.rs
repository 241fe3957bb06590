//! What stands between two replicas on the wire: frames of many messages.
//!
//! One frame carries what a shard has to say to a peer in one turn, so that one checksum, one
//! write and one read serve many messages. A frame is a header of fixed layout and a payload, the
//! rkyv archive of a vector of [`PeerMessage`](crate::peer::message::PeerMessage)s:
//!
//! ```text
//!  0       4       6       8          12         16         24         28         32
//!  ┌───────┬───────┬───────┬──────────┬──────────┬──────────┬──────────┬──────────┬─────────┐
//!  │ magic │version│ flags │ payload  │ message  │ sequence │ payload  │ header   │ payload │
//!  │ u32   │ u16   │ u16 0 │ size u32 │ count u32│ u64      │ CRC u32  │ CRC u32  │ …       │
//!  └───────┴───────┴───────┴──────────┴──────────┴──────────┴──────────┴──────────┴─────────┘
//! ```
//!
//! All integers are little-endian. The header has a checksum of its own, so that no damaged length
//! is ever believed. Frames of a connection are numbered from 0: a missing, repeated or
//! interleaved frame is an error, never a surprise.

pub use crate::peer::frame_decoder::{FrameDecoder, FrameError};
pub use crate::peer::frame_encoder::{FrameEncodeError, FrameEncoder, archived_size};

/// Marks a frame: the bytes `CRTF`.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"CRTF");

/// The version of frames and messages that this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The oldest version that this code still speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// Size of a frame's header, in bytes.
pub const FRAME_HEADER_SIZE: usize = 32;

/// Default limit of a whole frame, header included, in bytes.
pub const FRAME_SIZE_MAX_DEFAULT: usize = 8 * 1024 * 1024;

/// Smallest limit of a whole frame that makes sense, in bytes.
pub const FRAME_SIZE_MAX_LEAST: usize = 4 * 1024;

/// Largest limit of a whole frame: relative pointers in the payload have 32 bits, with a sign.
pub const FRAME_SIZE_MAX_MOST: usize = 1024 * 1024 * 1024;

/// A frame's header, read or about to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    pub(crate) payload_size: u32,
    pub(crate) message_count: u32,
    pub(crate) sequence: u64,
    pub(crate) payload_checksum: u32,
}

/// Why a header cannot be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadHeader {
    Magic { got: u32 },
    Version { got: u16 },
    Checksum { got: u32, computed: u32 },
    Flags { got: u16 },
}

impl FrameHeader {
    pub(crate) fn encode(&self) -> [u8; FRAME_HEADER_SIZE] {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        // 6..8 are the flags: none yet.
        bytes[8..12].copy_from_slice(&self.payload_size.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.message_count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_SIZE]) -> Result<Self, BadHeader> {
        let magic = u32_at(bytes, 0);
        if magic != FRAME_MAGIC {
            return Err(BadHeader::Magic { got: magic });
        }
        let version = u16_at(bytes, 4);
        if version != PROTOCOL_VERSION {
            return Err(BadHeader::Version { got: version });
        }
        let checksum = u32_at(bytes, 28);
        let computed = crc32fast::hash(&bytes[..28]);
        if checksum != computed {
            return Err(BadHeader::Checksum { got: checksum, computed });
        }
        let flags = u16_at(bytes, 6);
        if flags != 0 {
            return Err(BadHeader::Flags { got: flags });
        }
        Ok(Self {
            payload_size: u32_at(bytes, 8),
            message_count: u32_at(bytes, 12),
            sequence: u64_at(bytes, 16),
            payload_checksum: u32_at(bytes, 24),
        })
    }
}

/// The `SIZE` bytes from `offset` of a message of fixed layout, which is long enough.
fn bytes_at<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    *bytes[offset..].first_chunk().expect("the field lies within the layout")
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, offset))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, offset))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, offset))
}

pub(crate) fn u128_at(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(bytes_at(bytes, offset))
}
