//! How far something long is, told once a second, and held to a rate if that is wanted.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::console::complain;

/// Pause between two lines, and before the first.
const EVERY: Duration = Duration::from_secs(1);

/// Counts bytes that are read. Shared by those who read one after the other.
#[derive(Debug)]
pub struct Progress {
    /// Bytes a second, as asked for.
    rate: Option<u32>,
    /// How often that is doubled just now.
    doublings: Cell<u32>,
    is_silent: bool,
    begun: Instant,
    next_line: Cell<Instant>,
    /// Before this nothing more may be read.
    free_at: Cell<Instant>,
    bytes: Cell<u64>,
    what: RefCell<String>,
}

impl Progress {
    /// Reading begins, at so many bytes a second at most.
    pub fn begin(rate: Option<u32>) -> Self {
        let now = Instant::now();
        Self {
            rate,
            doublings: Cell::new(0),
            is_silent: false,
            begun: now,
            next_line: Cell::new(now + EVERY),
            free_at: Cell::new(now),
            bytes: Cell::new(0),
            what: RefCell::default(),
        }
    }

    /// Nobody is told, and nothing is held back.
    pub fn silent() -> Self {
        Self { is_silent: true, ..Self::begin(None) }
    }

    /// What is read from now on.
    pub fn come_to(&self, what: impl Into<String>) {
        *self.what.borrow_mut() = what.into();
    }

    /// Reads at twice the rate from now on: at this one it would never be done.
    pub fn double_rate(&self) {
        self.doublings.set(self.doublings.get() + 1);
    }

    /// Reads at the rate that was asked for.
    pub fn restore_rate(&self) {
        self.doublings.set(0);
    }

    /// Bytes a second, just now.
    fn bytes_per_second(&self) -> Option<u64> {
        self.rate.map(|rate| u64::from(rate) << self.doublings.get().min(u32::BITS))
    }

    /// So many bytes were read. Waits while that is faster than is wanted: a pause is not made up
    /// for by reading faster after it.
    pub fn took(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).expect("a length fits 64 bits");
        self.bytes.set(self.bytes.get() + bytes);
        if let Some(rate) = self.bytes_per_second() {
            let micros = bytes.saturating_mul(1_000_000) / rate;
            let free_at = self.free_at.get().max(Instant::now()) + Duration::from_micros(micros);
            self.free_at.set(free_at);
            while let wait = free_at.saturating_duration_since(Instant::now())
                && !wait.is_zero()
            {
                std::thread::sleep(wait.min(EVERY / 4));
                self.tell();
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let now = Instant::now();
        if self.is_silent || now < self.next_line.get() {
            return;
        }
        self.next_line.set(now + EVERY);
        let (bytes, seconds) = (self.bytes.get(), self.begun.elapsed().as_secs());
        complain(format_args!(
            "{}: {} MB read in {seconds} s",
            self.what.borrow(),
            bytes / 1_000_000
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Progress;

    #[test]
    fn what_is_read_takes_as_long_as_the_rate_says() {
        let begun = Instant::now();
        let progress = Progress { is_silent: true, ..Progress::begin(Some(1 << 20)) };
        for _ in 0..4 {
            progress.took(16 << 10);
        }
        assert!(begun.elapsed() >= Duration::from_micros(62_500), "64 KiB at 1 MiB/s");
        assert_eq!(progress.bytes.get(), 64 << 10);
    }

    #[test]
    fn a_rate_is_doubled_until_the_one_asked_for_is_restored() {
        let progress = Progress::begin(Some(100));
        progress.double_rate();
        progress.double_rate();
        assert_eq!(progress.bytes_per_second(), Some(400));
        (0..100).for_each(|_| progress.double_rate());
        assert_eq!(progress.bytes_per_second(), Some(100 << 32));
        progress.restore_rate();
        assert_eq!(progress.bytes_per_second(), Some(100));
        assert_eq!(Progress::begin(None).bytes_per_second(), None);
    }
}
