//! How much memory a decoder takes: an allocator that counts, per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
#[derive(Debug)]
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes allocated less bytes freed by this thread. Below 0 when it frees another's.
    static HELD: Cell<i64> = const { Cell::new(0) };
    /// The most that [`HELD`] was since it was last set.
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(change: i64) {
    // A thread that ends no longer has its counters.
    let held = HELD.try_with(|held| {
        held.set(held.get() + change);
        held.get()
    });
    if let Ok(held) = held {
        let _gone = PEAK.try_with(|peak| peak.set(peak.get().max(held)));
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("no allocation has so many bytes")
}

// SAFETY: every call is handed on to the system's allocator as it came, and what that returns is
// returned; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the pointer came from `System`, and the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: the pointer came from `System`, and the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What `action` returns, and the most bytes it held at any time beyond those held before it.
pub fn peak<R>(action: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = action();
    (result, usize::try_from(PEAK.get() - before).expect("it was at least what it was before"))
}

#[test]
fn the_peak_of_an_action_is_what_it_held_at_once() {
    let ((), nothing) = peak(|| ());
    assert_eq!(nothing, 0);
    let (kept, one) = peak(|| {
        drop(std::hint::black_box(vec![1_u8; 1000]));
        std::hint::black_box(vec![1_u8; 700])
    });
    assert_eq!((kept.len(), one), (700, 1000), "one after the other");
    let (_, both) = peak(|| (vec![1_u8; 1000], vec![1_u8; 700]));
    assert_eq!(both, 1700);
}
