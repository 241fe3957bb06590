//! A one-shot timer with nanosecond resolution in the event loop.
//!
//! The timeout of a poll counts in milliseconds, which would turn an open loop of many thousand
//! requests per second into bursts; a busy loop would take the processor from the servers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock::NANOS_PER_SECOND;

/// A timer that wakes the event loop once.
#[derive(Debug)]
pub struct Timer {
    file: OwnedFd,
}

impl Timer {
    /// Creates an unarmed timer whose event carries `token`.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let file = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { file })
    }

    /// Wakes the event loop after `delay_ns`, instead of whatever was set before.
    ///
    /// # Errors
    ///
    /// Returns the error of the kernel.
    pub fn arm(&self, delay_ns: u64) -> io::Result<()> {
        // Zero would disarm it.
        let delay_ns = delay_ns.clamp(1, 1_000_000 * NANOS_PER_SECOND);
        let signed = |value: u64| i64::try_from(value).expect("a clamped delay fits");
        let value = Timespec {
            tv_sec: signed(delay_ns / NANOS_PER_SECOND),
            tv_nsec: signed(delay_ns % NANOS_PER_SECOND),
        };
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: interval, it_value: value };
        timerfd_settime(&self.file, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }
}
