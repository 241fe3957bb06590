//! Replies leave in the order of their requests, whatever order they become ready in.
//!
//! ```text
//! first              end
//!   │ waiting │ ready │ waiting │ ready │        ready ones behind the first waiting one are kept
//! ```
//!
//! The usual case costs nothing: a reply to the first waiting request is written straight into the
//! connection's output.

use std::collections::VecDeque;

/// What is remembered of a request while its reply is awaited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// When the request was parsed, in microseconds of the core's clock.
    pub at_us: u64,
    /// Whether it may write.
    pub intent: Intent,
}

/// What a request is, for the statistics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Intent {
    /// Only reads, by its name.
    Read,
    /// Anything else.
    Write,
}

#[derive(Debug)]
enum Slot {
    Waiting(Asked),
    Ready(Vec<u8>),
}

/// The unanswered requests of one connection, and the replies that wait for them.
#[derive(Debug, Default)]
pub struct ReplyQueue {
    /// Sequence of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Bytes of replies that are ready and kept.
    kept_bytes: usize,
}

impl ReplyQueue {
    /// How many requests have no reply in the output yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether every request was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of replies kept here because an earlier one is missing.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The sequence that the next request gets.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.first + u64::try_from(self.slots.len()).expect("a count fits 64 bits")
    }

    /// Adds a request whose reply comes later; it is named by [`ReplyQueue::next_sequence`] as it
    /// was before.
    pub fn push_waiting(&mut self, asked: Asked) {
        self.slots.push_back(Slot::Waiting(asked));
    }

    /// Adds a request that is answered at once: `write` appends the reply, to `out` if it is its
    /// turn.
    pub fn push_ready(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self.slots.is_empty() {
            self.first += 1;
            write(out);
            return;
        }
        let mut reply = Vec::new();
        write(&mut reply);
        self.kept_bytes += reply.len();
        self.slots.push_back(Slot::Ready(reply));
    }

    /// Answers the request `sequence`: `write` appends the reply, to `out` if it is its turn; kept
    /// replies behind it follow. Returns what was remembered of the request, or `None`, without
    /// writing, when it was answered before or never asked.
    pub fn answer(
        &mut self,
        sequence: u64,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Asked> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get_mut(index)?;
        let Slot::Waiting(asked) = *slot else { return None };
        if index > 0 {
            let mut reply = Vec::new();
            write(&mut reply);
            self.kept_bytes += reply.len();
            *slot = Slot::Ready(reply);
            return Some(asked);
        }
        write(out);
        self.slots.pop_front();
        self.first += 1;
        while let Some(Slot::Ready(reply)) = self.slots.front() {
            out.extend_from_slice(reply);
            self.kept_bytes -= reply.len();
            self.slots.pop_front();
            self.first += 1;
        }
        Some(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Intent, ReplyQueue};

    const ASKED: Asked = Asked { at_us: 5, intent: Intent::Read };

    fn text(text: &str) -> impl FnOnce(&mut Vec<u8>) {
        move |out| out.extend_from_slice(text.as_bytes())
    }

    #[test]
    fn replies_leave_in_the_order_of_their_requests_for_every_order_of_answers() {
        // All orders of four answers, with a request that is answered at once in the middle.
        for order in 0..24_usize {
            let mut left = vec![0_u64, 1, 3, 4];
            let mut rest = order;
            let mut queue = ReplyQueue::default();
            let mut out = Vec::new();
            for sequence in 0..5 {
                assert_eq!(queue.next_sequence(), sequence);
                if sequence == 2 {
                    queue.push_ready(&mut out, text("2"));
                } else {
                    queue.push_waiting(ASKED);
                }
            }
            while !left.is_empty() {
                let sequence = left.remove(rest % left.len());
                rest /= left.len() + 1;
                let digit = sequence.to_string();
                assert_eq!(queue.answer(sequence, &mut out, text(&digit)), Some(ASKED));
                let so_far = "01234".get(..out.len()).unwrap();
                assert_eq!(out, so_far.as_bytes(), "a prefix of the whole, never out of order");
            }
            assert_eq!(out, b"01234");
            assert!(queue.is_empty());
            assert_eq!(queue.kept_bytes(), 0);
        }
    }

    #[test]
    fn a_reply_that_nobody_waits_for_changes_nothing() {
        let mut queue = ReplyQueue::default();
        let mut out = Vec::new();
        assert_eq!(queue.answer(0, &mut out, text("x")), None);
        queue.push_waiting(ASKED);
        queue.push_waiting(ASKED);
        assert!(queue.answer(1, &mut out, text("b")).is_some());
        assert_eq!(queue.answer(1, &mut out, text("again")), None);
        assert_eq!(queue.kept_bytes(), 1);
        assert!(queue.answer(0, &mut out, text("a")).is_some());
        assert_eq!(queue.answer(0, &mut out, text("again")), None);
        assert_eq!(out, b"ab");
    }
}
