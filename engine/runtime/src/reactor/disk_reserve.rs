//! Space that a core keeps for the day when its disk is full: then it is given back, so that the
//! checkpoint under way and the cleaner can finish and make room.
//!
//! It is one file, `reserve`, of reserved blocks in which nothing is ever written. While it is
//! given back, writes stay refused, freed segments are deleted rather than kept as spares, and no
//! spare is made but those that the checkpoint waits for: first it is made again, then the rest.
//!
//! This is the half that decides; the file thread does the deeds ([`ReserveJob`]).

use std::io;

use engine::time::Time;

use crate::node::log_line;
use crate::node::reserve_file::ReserveJob;

/// How long to wait before the reserve is made again when there was no room, in microseconds.
const RETRY_US: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Nothing to be done: it is there, or there is to be none.
    Whole,
    /// It is being made, or deleted.
    UnderWay,
    /// It is to be made, not before that time.
    Missing { again_us: u64 },
}

/// See the module page.
#[derive(Debug)]
pub struct DiskReserve {
    size: u64,
    state: State,
    /// It was given back and is not whole again.
    is_given_back: bool,
    /// How often it was given back.
    given_back: u64,
}

impl DiskReserve {
    /// Of `size` bytes, 0 for none; `found` is the size of the file that is there.
    #[must_use]
    pub fn new(size: u64, found: Option<u64>) -> Self {
        let is_right = if size == 0 { found.is_none() } else { found == Some(size) };
        let state = if is_right { State::Whole } else { State::Missing { again_us: 0 } };
        Self { size, state, is_given_back: false, given_back: 0 }
    }

    /// Whether it was given back and is not whole again: the disk is full.
    #[must_use]
    pub fn is_given_back(&self) -> bool {
        self.is_given_back
    }

    /// How often it was given back.
    #[must_use]
    pub fn times_given_back(&self) -> u64 {
        self.given_back
    }

    /// Bytes set aside now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.state == State::Whole { self.size } else { 0 }
    }

    /// There was no room for a checkpoint. What to do about it; nothing when there is nothing left
    /// to give.
    #[must_use]
    pub fn give_back(&mut self) -> Option<ReserveJob> {
        if self.state != State::Whole || self.size == 0 {
            return None;
        }
        self.state = State::UnderWay;
        self.is_given_back = true;
        self.given_back += 1;
        log_line::warn(
            "the disk is full: the reserve is given back, so that a checkpoint can make room; \
             writes are refused until it is whole again",
            &[("bytes", &self.size)],
        );
        Some(ReserveJob::GiveBack)
    }

    /// What to do at this time, if no checkpoint needs the room.
    #[must_use]
    pub fn poll(&mut self, now: Time) -> Option<ReserveJob> {
        match self.state {
            State::Missing { again_us } if now.0 >= again_us => {
                self.state = State::UnderWay;
                Some(ReserveJob::Make(self.size))
            }
            State::Missing { .. } | State::Whole | State::UnderWay => None,
        }
    }

    /// A job is done.
    ///
    /// # Panics
    ///
    /// When none was under way.
    pub fn handle_done(&mut self, now: Time, job: ReserveJob, result: &io::Result<()>) {
        assert!(self.state == State::UnderWay, "one job at a time");
        self.state = match (job, result) {
            (ReserveJob::Make(_), Ok(())) => {
                if std::mem::take(&mut self.is_given_back) {
                    log_line::info("the reserve is whole again", &[("bytes", &self.size)]);
                }
                State::Whole
            }
            (ReserveJob::GiveBack, Ok(())) => State::Missing { again_us: now.0 + RETRY_US },
            (_, Err(error)) => {
                log_line::warn(
                    "the reserve for a full disk cannot be made or given back; trying again",
                    &[("bytes", &self.size), ("error", &error)],
                );
                State::Missing { again_us: now.0 + RETRY_US }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use engine::time::Time;

    use super::DiskReserve;
    use crate::node::reserve_file::ReserveJob;

    #[test]
    fn it_is_given_back_once_and_made_again_until_there_is_room() {
        let mut reserve = DiskReserve::new(100, Some(100));
        assert_eq!((reserve.poll(Time(0)), reserve.bytes()), (None, 100));
        assert_eq!(reserve.give_back(), Some(ReserveJob::GiveBack));
        assert_eq!((reserve.give_back(), reserve.poll(Time(9))), (None, None), "under way");
        reserve.handle_done(Time(10), ReserveJob::GiveBack, &Ok(()));
        assert!(reserve.is_given_back() && reserve.bytes() == 0);
        assert_eq!(reserve.give_back(), None, "nothing is left to give");
        assert_eq!(reserve.poll(Time(11)), None, "not at once");
        assert_eq!(reserve.poll(Time(1_000_010)), Some(ReserveJob::Make(100)));
        let full = Err(io::Error::from_raw_os_error(libc::ENOSPC));
        reserve.handle_done(Time(1_000_020), ReserveJob::Make(100), &full);
        assert!(reserve.is_given_back() && reserve.poll(Time(1_000_030)).is_none());
        assert_eq!(reserve.poll(Time(2_000_020)), Some(ReserveJob::Make(100)));
        reserve.handle_done(Time(2_000_030), ReserveJob::Make(100), &Ok(()));
        assert!(!reserve.is_given_back());
        assert_eq!((reserve.bytes(), reserve.times_given_back()), (100, 1));
    }

    #[test]
    fn a_start_makes_it_when_it_is_missing_or_of_another_size_and_refuses_nothing_meanwhile() {
        for found in [None, Some(99)] {
            let mut reserve = DiskReserve::new(100, found);
            assert!(!reserve.is_given_back());
            assert_eq!(reserve.give_back(), None);
            assert_eq!(reserve.poll(Time(0)), Some(ReserveJob::Make(100)));
            let full = Err(io::Error::from_raw_os_error(libc::ENOSPC));
            reserve.handle_done(Time(0), ReserveJob::Make(100), &full);
            assert!(!reserve.is_given_back(), "it was never there to be given");
        }
        let mut none = DiskReserve::new(0, None);
        assert_eq!((none.poll(Time(0)), none.give_back(), none.bytes()), (None, None, 0));
        let mut unwanted = DiskReserve::new(0, Some(100));
        assert_eq!(unwanted.poll(Time(0)), Some(ReserveJob::Make(0)), "it goes");
    }
}
