//! The sizes and limits of one core's log.

use crate::block::BLOCK_SIZE;
use crate::identity::LogIdentity;

/// The sizes and limits of one core's log. Sizes are bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// Whose log.
    pub identity: LogIdentity,
    /// Size of a segment file, a multiple of [`BLOCK_SIZE`]; at least four blocks. Default 64 MiB.
    pub segment_size: u32,
    /// A frame is closed before it grows beyond this, header and padding included; a multiple of
    /// [`BLOCK_SIZE`]. A larger record gets a frame of its own. Default 1 MiB.
    pub frame_size_max: u32,
    /// From here on the owner should stop appending until writes catch up. Default 8 MiB.
    pub pending_bytes_max: usize,
    /// How many pre-written spare segments to keep ready. Default 2.
    pub spare_segments: usize,
    /// Segments that the log may hold, spares included; beyond it, no further spare is asked for,
    /// and the log is full until old segments are freed. Of these, as many as hold
    /// `pending_bytes_max` and two more are kept for [`crate::log::Log::open_reserve`]. Default: no
    /// bound.
    pub segments_max: usize,
    /// How many idle buffers to keep for reuse. Default 4.
    pub pooled_buffers: usize,
}

impl LogConfig {
    /// The defaults, for the log of `identity`.
    #[must_use]
    pub fn for_identity(identity: LogIdentity) -> Self {
        Self {
            identity,
            segment_size: 64 << 20,
            frame_size_max: 1 << 20,
            pending_bytes_max: 8 << 20,
            spare_segments: 2,
            segments_max: usize::MAX,
            pooled_buffers: 4,
        }
    }

    /// The longest record that can be appended: one that fills a segment alone.
    #[must_use]
    pub fn record_size_max(&self) -> usize {
        let segment = usize::try_from(self.segment_size).expect("32 bits fit a usize");
        segment - BLOCK_SIZE - crate::frame::FRAME_HEADER_SIZE
    }

    /// Segments of [`LogConfig::segments_max`] that are kept in reserve.
    #[must_use]
    pub fn reserve_segments(&self) -> usize {
        self.pending_bytes_max / self.record_size_max() + 2
    }

    pub(crate) fn check(&self) {
        let block = u32::try_from(BLOCK_SIZE).expect("a block is small");
        assert!(self.segment_size.is_multiple_of(block) && self.segment_size >= 4 * block);
        assert!(self.frame_size_max.is_multiple_of(block) && self.frame_size_max >= block);
        assert!(self.frame_size_max <= self.segment_size - block, "a frame fits a segment");
        let records = self.frame_size_max / 32;
        assert!(u64::from(records) < crate::log::RECOVERY_LSN_GAP, "the gap passes any frame");
        assert!(self.spare_segments > 0, "without a spare the log cannot open a segment");
    }
}
