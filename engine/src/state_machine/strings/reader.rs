//! Reads the pieces of an encoding, and says where it went wrong.

use crate::state_machine::InvalidState;

/// A position in bytes that may be anything.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of `bytes`, which are meant to be `what`.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, offset: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Whether everything was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// Checks that everything was read.
    pub(super) fn end(&self) -> Result<(), InvalidState> {
        if self.is_at_end() { Ok(()) } else { Err(self.invalid_at(self.offset)) }
    }

    /// The error that what begins at `offset` makes no sense.
    pub(super) fn invalid_at(&self, offset: usize) -> InvalidState {
        InvalidState { what: self.what, offset, length: self.bytes.len() }
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], InvalidState> {
        let rest = &self.bytes[self.offset..];
        let Some((piece, _)) = rest.split_at_checked(count) else {
            return Err(self.invalid_at(self.offset));
        };
        self.offset += count;
        Ok(piece)
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], InvalidState> {
        let piece = self.bytes(SIZE)?;
        Ok(piece.try_into().expect("as many bytes as were asked for"))
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Result<u8, InvalidState> {
        self.array().map(u8::from_le_bytes)
    }

    /// The next four bytes as a size or a count.
    pub(super) fn size(&mut self) -> Result<usize, InvalidState> {
        let size = self.array().map(u32::from_le_bytes)?;
        Ok(usize::try_from(size).expect("positions in memory have at least 32 bits"))
    }

    /// The next eight bytes as an integer.
    pub(super) fn u64(&mut self) -> Result<u64, InvalidState> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Appends the size of `bytes` as [`Reader::size`] reads it.
pub(super) fn put_size(bytes: &[u8], out: &mut Vec<u8>) {
    let size = u32::try_from(bytes.len()).expect("a request is limited to less than 4 GiB");
    out.extend_from_slice(&size.to_le_bytes());
}

/// Appends a count as [`Reader::size`] reads it.
pub(super) fn put_count(count: usize, out: &mut Vec<u8>) {
    let count = u32::try_from(count).expect("things in one entity are counted by 32 bits");
    out.extend_from_slice(&count.to_le_bytes());
}
