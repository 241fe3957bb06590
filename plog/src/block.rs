//! Memory that direct IO accepts.
//!
//! `O_DIRECT` wants addresses, offsets and lengths that are multiples of the device's block. The
//! one idea: allocate whole aligned blocks, and look at a *window* of them, so that room reserved
//! in front (for a segment header) need not be moved away when it is not used.
//!
//! ```text
//! blocks   |  0  |  1  |  2  |  3  |  4  |
//! window         ^begin            ^end         what `Deref` shows
//! ```

use std::fmt;
use std::ops::{Deref, DerefMut, Range};

/// Size and alignment in bytes of everything read from or written to a segment file.
pub const BLOCK_SIZE: usize = 4096;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_SIZE]);

const _: () = assert!(size_of::<Block>() == BLOCK_SIZE && align_of::<Block>() == BLOCK_SIZE);

/// Rounds `length` bytes up to whole blocks.
#[must_use]
pub fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK_SIZE)
}

/// Whether every byte is zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Wide strides without an early exit inside, so that the compiler can use vector registers.
    bytes.chunks(256).all(|stride| stride.iter().fold(0, |seen, byte| seen | byte) == 0)
}

/// A heap buffer aligned to [`BLOCK_SIZE`], seen through a window of whole blocks.
///
/// Invariant: `begin ≤ end ≤ capacity`, all multiples of [`BLOCK_SIZE`]. Dereferences to the
/// window.
pub struct AlignedBuffer {
    blocks: Vec<Block>,
    window: Range<usize>,
}

impl AlignedBuffer {
    /// A buffer of zeros whose window is `length` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        let length = padded(length);
        let blocks = vec![Block([0; BLOCK_SIZE]); length / BLOCK_SIZE];
        Self { blocks, window: 0..length }
    }

    /// Bytes allocated, in and outside the window.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK_SIZE
    }

    /// Makes room for `capacity` bytes, at least doubling, and keeps what is there. New bytes are
    /// zero.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity > self.capacity() {
            let blocks = padded(capacity) / BLOCK_SIZE;
            self.blocks.resize(blocks.max(self.blocks.len() * 2), Block([0; BLOCK_SIZE]));
        }
    }

    /// Moves the window.
    ///
    /// # Panics
    ///
    /// When the window is not made of whole blocks inside the capacity.
    pub fn set_window(&mut self, window: Range<usize>) {
        assert!(window.start.is_multiple_of(BLOCK_SIZE) && window.end.is_multiple_of(BLOCK_SIZE));
        assert!(window.start <= window.end && window.end <= self.capacity());
        self.window = window;
    }

    /// All bytes, in and outside the window.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        let length = self.capacity();
        // SAFETY: `blocks` owns `length` initialised bytes without padding (`Block` is `repr(C)`,
        // and its size is that of its array), and `u8` has no alignment or validity demands.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast::<u8>(), length) }
    }

    /// All bytes, in and outside the window.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        let length = self.capacity();
        // SAFETY: as in `whole`; the exclusive borrow of `self` makes the slice the only access,
        // and any byte written leaves every `Block` valid.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast::<u8>(), length) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let window = self.window.clone();
        &self.whole()[window]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let window = self.window.clone();
        &mut self.whole_mut()[window]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AlignedBuffer")
            .field("capacity", &self.capacity())
            .field("window", &self.window)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{AlignedBuffer, BLOCK_SIZE, is_zero};

    #[test]
    fn a_window_is_aligned_and_made_of_whole_blocks() {
        let mut buffer = AlignedBuffer::zeroed(BLOCK_SIZE + 1);
        assert_eq!(buffer.len(), 2 * BLOCK_SIZE);
        buffer.set_window(BLOCK_SIZE..2 * BLOCK_SIZE);
        assert_eq!(buffer.as_ptr().addr() % BLOCK_SIZE, 0);
        assert_eq!(buffer.len(), BLOCK_SIZE);
    }

    #[test]
    fn growing_keeps_the_bytes_and_adds_zeros() {
        let mut buffer = AlignedBuffer::zeroed(BLOCK_SIZE);
        buffer.fill(7);
        buffer.reserve(3 * BLOCK_SIZE);
        assert!(buffer.whole()[..BLOCK_SIZE].iter().all(|byte| *byte == 7));
        assert!(is_zero(&buffer.whole()[BLOCK_SIZE..]));
        assert_eq!(buffer.len(), BLOCK_SIZE, "the window stays");
    }
}
