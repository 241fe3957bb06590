//! How fast a shard catches up: two token buckets, of entries and of bytes, for all that it is sent
//! and for what each peer sends.
//!
//! What comes is counted when it is there; the next entity that a sweep found is asked for when no
//! bucket is overdrawn. So a large answer is paid for afterwards, and the rate holds over time.
//! What live traffic shows to be missing is asked for at once, and counts all the same: a client
//! waits for it. Certain's `TrafficLimiter` and `CountLimiter` are the source.

use plog::vocabulary::AcceptorId;

use crate::context::REPLICAS_MAX;
use crate::time::Time;

/// So much of a second's worth may come at once after a pause, in microseconds.
const BURST_US: u64 = 100_000;

/// A whole entity that was asked for alone counts as so many entries: it takes about as much of
/// both sides, with the question, the state that is encoded and the image that is logged.
pub(crate) const IMAGE_ENTRIES: u64 = 8;

/// Entities asked for at a time: with it the memory and traffic of a sweep is bounded.
const WINDOW_MAX: usize = 256;
const WINDOW_MIN: usize = 8;

/// No more are asked for at a time than come to so many bytes, if they are like those before.
const WINDOW_BYTES: u64 = 16 << 20;

/// With a limit on entries, no more entities are asked for at a time than may come as a whole in so
/// many microseconds: what comes together keeps a core from its clients meanwhile.
const WINDOW_US: u64 = 2_000;

/// A rate in both measures, per second; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rate {
    /// Chosen entries; a whole entity counts as eight, or as one if it comes with many others on a
    /// page.
    pub entries: u64,
    /// Bytes of values, and of whole entities.
    pub bytes: u64,
}

/// How fast one shard may catch up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CatchUpRates {
    /// From all peers together.
    pub all: Rate,
    /// From each peer.
    pub peer: Rate,
}

/// What one shard out of `shards` gets of a node's rate: at least 1 of any limit.
#[must_use]
pub fn share_of_rate(rate: u64, shards: u16) -> u64 {
    rate.div_ceil(u64::from(shards.max(1)))
}

/// When each measure of a rate is even again.
#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    entries: Time,
    bytes: Time,
}

/// Adds what `amount` takes at `rate`; a pause before counts for no more than the burst.
fn charge(even_at: &mut Time, now: Time, rate: u64, amount: u64) {
    if rate == 0 {
        return;
    }
    let begin = (*even_at).max(Time(now.0.saturating_sub(BURST_US)));
    let takes = u128::from(amount) * 1_000_000 / u128::from(rate);
    *even_at = begin.after_us(u64::try_from(takes).unwrap_or(u64::MAX));
}

impl Buckets {
    fn charge(&mut self, now: Time, rate: Rate, entries: u64, bytes: u64) {
        charge(&mut self.entries, now, rate.entries, entries);
        charge(&mut self.bytes, now, rate.bytes, bytes);
    }

    fn opens_at(&self) -> Time {
        self.entries.max(self.bytes)
    }
}

/// See the module page.
#[derive(Debug)]
pub(crate) struct Pace {
    rates: CatchUpRates,
    all: Buckets,
    peers: [Buckets; REPLICAS_MAX],
    /// What an answer had lately: a moving mean.
    answer_bytes: u64,
}

impl Pace {
    pub(crate) fn new(rates: CatchUpRates) -> Self {
        let peers = [Buckets::default(); REPLICAS_MAX];
        Self { rates, all: Buckets::default(), peers, answer_bytes: 0 }
    }

    pub(crate) fn rates(&self) -> CatchUpRates {
        self.rates
    }

    /// Changes the rates; nothing is owed from before.
    pub(crate) fn set_rates(&mut self, rates: CatchUpRates) {
        *self = Self { answer_bytes: self.answer_bytes, ..Self::new(rates) };
    }

    /// How many entities may catch up at a time.
    pub(crate) fn window(&self) -> usize {
        let by_bytes = u128::from(WINDOW_BYTES / self.answer_bytes.max(1));
        let limits = [self.rates.all.entries, self.rates.peer.entries];
        let limit = limits.into_iter().filter(|limit| *limit > 0).min();
        let by_rate = limit.map_or(u128::MAX, |limit| {
            u128::from(limit) * u128::from(WINDOW_US) / u128::from(1_000_000 * IMAGE_ENTRIES)
        });
        let entities = usize::try_from(by_bytes.min(by_rate)).unwrap_or(WINDOW_MAX);
        entities.clamp(WINDOW_MIN, WINDOW_MAX)
    }

    /// Counts what a peer sent.
    pub(crate) fn charge(&mut self, now: Time, from: AcceptorId, entries: u64, bytes: u64) {
        self.answer_bytes = (7 * self.answer_bytes).saturating_add(bytes) / 8;
        self.all.charge(now, self.rates.all, entries, bytes);
        self.peers[from.index()].charge(now, self.rates.peer, entries, bytes);
    }

    /// When the next entity may be asked for at a peer.
    pub(crate) fn opens_at(&self, peer: AcceptorId) -> Time {
        self.opens_for_all_at().max(self.peers[peer.index()].opens_at())
    }

    /// When the next entity may be asked for at whichever peer.
    pub(crate) fn opens_for_all_at(&self) -> Time {
        self.all.opens_at()
    }
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::AcceptorId;

    use super::{CatchUpRates, Pace, Rate};
    use crate::time::Time;

    const ONE: AcceptorId = AcceptorId(1);
    const TWO: AcceptorId = AcceptorId(2);

    fn pace(all: Rate, peer: Rate) -> Pace {
        Pace::new(CatchUpRates { all, peer })
    }

    #[test]
    fn fewer_are_asked_for_at_a_time_where_entries_are_limited() {
        let rate = |entries| Rate { entries, bytes: 0 };
        assert_eq!(pace(rate(0), rate(0)).window(), 256);
        assert_eq!(pace(rate(80_000), rate(0)).window(), 20);
        assert_eq!(pace(rate(80_000), rate(40_000)).window(), 10);
        assert_eq!(pace(rate(1), rate(u64::MAX)).window(), 8);
        assert_eq!(pace(rate(0), rate(u64::MAX)).window(), 256);
    }

    #[test]
    fn fewer_are_asked_for_at_a_time_where_answers_are_large() {
        let mut pace = pace(Rate::default(), Rate::default());
        for _ in 0..100 {
            pace.charge(Time(1), ONE, 1, 1 << 20);
        }
        assert_eq!(pace.window(), 16);
        for _ in 0..100 {
            pace.charge(Time(1), ONE, 1, 100);
        }
        assert_eq!(pace.window(), 256);
    }

    #[test]
    fn over_time_no_more_comes_than_the_rate_says() {
        let rate = Rate { entries: 1_000, bytes: 0 };
        let mut pace = pace(rate, Rate::default());
        let (mut now, mut entries) = (Time(50_000_000), 0);
        let end = now.after_us(10_000_000);
        while now < end {
            if pace.opens_at(ONE) <= now {
                pace.charge(now, ONE, 7, 1 << 20);
                entries += 7;
            }
            now = now.after_us(100);
        }
        // The burst of a tenth of a second, and one answer that was under way.
        assert!((10_000..=10_107).contains(&entries), "{entries}");
    }

    #[test]
    fn a_large_answer_is_paid_for_afterwards() {
        let mut pace = pace(Rate { entries: 0, bytes: 1_000_000 }, Rate::default());
        let now = Time(1_000_000);
        assert!(pace.opens_at(ONE) <= now);
        pace.charge(now, ONE, 1, 3_000_000);
        assert_eq!(pace.opens_at(ONE), Time(900_000 + 3_000_000));
        assert_eq!(pace.opens_at(TWO), pace.opens_at(ONE), "the shard's is everybody's");
    }

    #[test]
    fn a_peer_s_rate_holds_for_that_peer_alone() {
        let mut pace = pace(Rate::default(), Rate { entries: 10, bytes: 10 });
        let now = Time(1_000_000);
        pace.charge(now, ONE, 100, 1);
        assert!(pace.opens_at(ONE) > now && pace.opens_at(TWO) <= now);
    }

    #[test]
    fn without_a_limit_nothing_waits_and_new_rates_begin_anew() {
        let mut pace = pace(Rate::default(), Rate::default());
        pace.charge(Time(1), ONE, u64::MAX, 1 << 60);
        assert_eq!(pace.opens_at(ONE), Time(0));
        let slow = Rate { entries: 1, bytes: 1 };
        pace.set_rates(CatchUpRates { all: slow, peer: slow });
        pace.charge(Time(1), ONE, u64::MAX, 1 << 60);
        assert!(pace.opens_at(TWO) > Time(1 << 60));
        pace.set_rates(CatchUpRates::default());
        assert_eq!(pace.opens_at(TWO), Time(0));
    }
}
