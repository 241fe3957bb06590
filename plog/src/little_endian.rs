//! Reading and writing fixed-width little-endian fields in order.

use crate::vocabulary::{AcceptorId, Ballot, BootEpoch, ValueId};

/// Writes fields one after the other into a slice that is known to be long enough.
pub(crate) struct Writer<'bytes> {
    bytes: &'bytes mut [u8],
    position: usize,
}

impl<'bytes> Writer<'bytes> {
    pub(crate) fn new(bytes: &'bytes mut [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let end = self.position + bytes.len();
        self.bytes[self.position..end].copy_from_slice(bytes);
        self.position = end;
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn ballot(&mut self, ballot: Ballot) {
        self.u32(ballot.round);
        self.u32(ballot.epoch.0);
        self.bytes(&[ballot.acceptor.0, 0, 0, 0]);
    }

    pub(crate) fn value_id(&mut self, id: ValueId) {
        self.u64(id.counter);
        self.u32(id.epoch.0);
        self.bytes(&[id.originator.0, 0, 0, 0]);
    }

    /// Zeros to the end of the slice.
    pub(crate) fn zeros_to_end(self) {
        self.bytes[self.position..].fill(0);
    }
}

/// Reads fields one after the other. The caller has checked that the slice is long enough for them;
/// reserved bytes that are not zero are remembered in [`Reader::reserved_clean`].
pub(crate) struct Reader<'bytes> {
    bytes: &'bytes [u8],
    clean: bool,
}

impl<'bytes> Reader<'bytes> {
    pub(crate) fn new(bytes: &'bytes [u8]) -> Self {
        Self { bytes, clean: true }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) =
            self.bytes.split_first_chunk::<N>().expect("the caller checked the length");
        self.bytes = rest;
        *head
    }

    pub(crate) fn bytes(&mut self, length: usize) -> &'bytes [u8] {
        let (head, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        head
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn zeros<const N: usize>(&mut self) {
        self.clean &= self.take::<N>() == [0; N];
    }

    pub(crate) fn ballot(&mut self) -> Ballot {
        let (round, epoch) = (self.u32(), BootEpoch(self.u32()));
        let acceptor = AcceptorId(self.u8());
        self.zeros::<3>();
        Ballot { round, epoch, acceptor }
    }

    pub(crate) fn value_id(&mut self) -> ValueId {
        let (counter, epoch) = (self.u64(), BootEpoch(self.u32()));
        let originator = AcceptorId(self.u8());
        self.zeros::<3>();
        ValueId { originator, epoch, counter }
    }

    /// Whether every reserved byte passed so far was zero.
    pub(crate) fn reserved_clean(&self) -> bool {
        self.clean
    }

    pub(crate) fn rest(&self) -> &'bytes [u8] {
        self.bytes
    }
}
