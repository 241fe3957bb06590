//! Buffers that the kernel picks from when client data arrives.
//!
//! With a receive armed on thousands of connections, a buffer per connection would be megabytes of
//! mostly idle memory. Instead the kernel takes a buffer from one pool at the moment data arrives,
//! and gets it back within the same turn, as soon as the requests in it were parsed.
//!
//! ```text
//! entries: a ring of (address, length, id), its tail advanced by us, its head by the kernel
//! data:    [buffer 0][buffer 1] …  each in exactly one state: offered to the kernel,
//!          or selected (a `SelectedBuffer` exists, and only then we read it)
//! ```

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Buffers in the pool; a power of two, as the kernel asks for.
const COUNT: u16 = 512;

/// Size of one buffer, in bytes. Larger requests arrive in several.
const SIZE: usize = 4096;

const PAGE: usize = 4096;
const ENTRIES: Layout = layout(COUNT as usize * size_of::<BufRingEntry>());
const DATA: Layout = layout(COUNT as usize * SIZE);

const _: () = assert!(COUNT.is_power_of_two());

const fn layout(size: usize) -> Layout {
    match Layout::from_size_align(size, PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("the pool's size is a constant that fits"),
    }
}

/// A buffer that the kernel filled and we have not given back. There is one per filled buffer.
#[derive(Debug)]
pub struct SelectedBuffer {
    id: u16,
    length: usize,
}

/// The pool of one ring.
#[derive(Debug)]
pub struct BufferPool {
    entries: NonNull<BufRingEntry>,
    data: NonNull<u8>,
    tail: u16,
}

impl BufferPool {
    /// The pool's name in receive operations.
    pub const GROUP: u16 = 1;

    /// Makes the pool and offers all of it to `ring`.
    ///
    /// # Errors
    ///
    /// When the kernel does not know buffer rings, or has no memory for it.
    pub fn register(ring: &IoUring) -> io::Result<Self> {
        // SAFETY: the layout's size is not zero.
        let entries = unsafe { alloc_zeroed(ENTRIES) };
        let Some(entries) = NonNull::new(entries.cast::<BufRingEntry>()) else {
            handle_alloc_error(ENTRIES)
        };
        // SAFETY: the layout's size is not zero.
        let Some(data) = NonNull::new(unsafe { alloc_zeroed(DATA) }) else {
            handle_alloc_error(DATA)
        };
        let mut pool = Self { entries, data, tail: 0 };
        let address = u64::try_from(entries.as_ptr().addr()).expect("an address has 64 bits");
        // SAFETY: the memory is page-aligned, holds `COUNT` entries, and is freed by this type
        // alone, after `unregister` or never.
        let registered = unsafe {
            ring.submitter().register_buf_ring_with_flags(address, COUNT, Self::GROUP, 0)
        };
        if let Err(error) = registered {
            pool.free();
            return Err(error);
        }
        for id in 0..COUNT {
            pool.offer(id);
        }
        Ok(pool)
    }

    /// Where buffer `id` begins.
    fn buffer(&self, id: u16) -> *mut u8 {
        assert!(id < COUNT, "the kernel names buffers it was offered");
        // SAFETY: `id` is below `COUNT`, so the offset is inside the allocation.
        unsafe { self.data.as_ptr().add(usize::from(id) * SIZE) }
    }

    fn offer(&mut self, id: u16) {
        let address = u64::try_from(self.buffer(id).addr()).expect("an address has 64 bits");
        let place = usize::from(self.tail & (COUNT - 1));
        // SAFETY: `place` is below `COUNT`, so the entry is inside the allocation.
        let entry = unsafe { self.entries.as_ptr().add(place) };
        // SAFETY: the kernel reads entries between its head and our published tail only, and at
        // most `COUNT` buffers exist, so it does not look at this one until the store below.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(u32::try_from(SIZE).expect("a buffer is small"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the address of the first entry of a registered ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is an aligned u16 inside the allocation that only this thread writes;
        // the kernel reads it with acquire semantics.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The buffer `id`, which the kernel just filled with `length` bytes. To be called once per
    /// completion that names a buffer.
    pub(super) fn selected(&self, id: u16, length: usize) -> SelectedBuffer {
        assert!(id < COUNT && length <= SIZE, "the kernel fills buffers it was offered");
        SelectedBuffer { id, length }
    }

    /// What the kernel filled in.
    #[must_use]
    pub fn bytes(&self, selected: &SelectedBuffer) -> &[u8] {
        let begin = self.buffer(selected.id);
        // SAFETY: the buffer was filled and is not offered again while its `SelectedBuffer` lives,
        // so nobody writes to it; it is initialised since its allocation.
        unsafe { std::slice::from_raw_parts(begin, selected.length) }
    }

    /// Offers a buffer to the kernel again.
    pub fn give_back(&mut self, selected: SelectedBuffer) {
        let SelectedBuffer { id, .. } = selected;
        self.offer(id);
    }

    /// Takes the pool from the kernel and frees it. If the kernel does not let go, the memory is
    /// lost instead.
    pub(super) fn unregister(&mut self, ring: &IoUring) {
        if ring.submitter().unregister_buf_ring(Self::GROUP).is_ok() {
            self.free();
        }
    }

    fn free(&mut self) {
        // SAFETY: allocated in `register` with this layout, and freed once: `register` drops the
        // pool after it, and a ring unregisters its pool only when it is dropped.
        unsafe { dealloc(self.entries.as_ptr().cast(), ENTRIES) };
        // SAFETY: as above.
        unsafe { dealloc(self.data.as_ptr(), DATA) };
    }
}
