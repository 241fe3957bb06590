//! The one clock of a core.

use engine::time::Time;

/// Microseconds of the machine's monotonic clock: the same on every core of the machine, and never
/// going back.
#[must_use]
pub fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(result, 0, "every Linux has a monotonic clock");
    let seconds = u64::try_from(time.tv_sec).expect("the monotonic clock starts at 0");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("below a second, and not negative");
    Time(seconds * 1_000_000 + nanoseconds / 1_000)
}
