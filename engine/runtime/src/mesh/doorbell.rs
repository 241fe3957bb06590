//! Wakes a core that sleeps, and costs a core that is awake nothing.
//!
//! A flag says whether the core sleeps, or is about to. Sender and sleeper each write one thing and
//! then read the other's:
//!
//! ```text
//! sender                         sleeper
//! ──────                         ───────
//! push message                   asleep = true
//! fence(SeqCst)                  fence(SeqCst)
//! if asleep.swap(false) { ring } if rings are empty { sleep }
//! ```
//!
//! The two fences are in one total order. If the sender's comes first, the sleeper's look at the
//! rings sees the message, and it does not sleep. If the sleeper's comes first, the sender's look
//! at the flag sees `true`, and it rings. Without the fences both could read old values (a store
//! may pass a later load even on x86), and the message would lie there until something else wakes
//! the core. The swap makes sure that many senders ring once.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// One core's flag and event counter. On a cache line of its own: all cores look at it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Doorbell {
    asleep: AtomicBool,
    counter: OwnedFd,
}

impl Doorbell {
    /// A doorbell of a core that is awake.
    ///
    /// # Errors
    ///
    /// When the kernel makes no event counter (out of file descriptors).
    pub fn new() -> io::Result<Self> {
        // Blocking on purpose: io_uring waits for a blocking counter, and refuses another at once.
        // SAFETY: plain integers; the result is checked.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made by the kernel, and owned by nobody else.
        let counter = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { asleep: AtomicBool::new(false), counter })
    }

    /// To be called after pushing messages; rings if the core sleeps.
    pub fn ring_if_asleep(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            // SAFETY: an open event counter and a plain integer.
            let rung = unsafe { libc::eventfd_write(self.counter.as_raw_fd(), 1) };
            assert_eq!(rung, 0, "an event counter takes 2^64 rings before it is full");
        }
    }

    /// To be called by the core before it looks at its rings for the last time and sleeps.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// To be called by the core when it is awake again.
    pub fn announce_awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// The event counter, for waiting.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}
