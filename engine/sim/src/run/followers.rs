//! Followers in a run: how many there are, what happens to them, and what they are asked meanwhile.

use engine::request::Freshness;
use net::resp::value::Value;

use crate::checkers::Violation;
use crate::mixes::Mix;
use crate::random::Random;
use crate::run::{CONVERGES_WITHIN_US, End, Run};
use crate::schedule::Item;

/// Without followers of its own, one run in so many of a mix has one.
const ONE_IN: u64 = 13;

/// A follower is asked something one turn of the clients in so many.
const ASKS_ONE_IN: u64 = 16;

/// How many cores each follower has.
pub(super) fn cores(seed: u64, mix: &Mix) -> Vec<u16> {
    let mut random = Random::stream(seed, "followers");
    let count = match mix.followers {
        0 => u8::from(seed % ONE_IN == ONE_IN - 1),
        count => count,
    };
    (0..count).map(|_| 1 + u16::try_from(random.below(2)).expect("few")).collect()
}

impl Run<'_> {
    /// The follower that something happens to; `None` when there are none.
    fn follower_of(&self, item: Item) -> Option<u8> {
        let mut followers = self.world.followers();
        let count = u64::try_from(followers.len()).expect("few").max(1);
        followers.nth(usize::try_from(item.at % count).expect("few"))
    }

    pub(super) fn crash_follower(&mut self, item: Item, until: u64) {
        let Some(node) = self.follower_of(item).filter(|node| self.world.is_up(*node)) else {
            return;
        };
        self.crash(node, until);
        if item.duration_us.is_multiple_of(4) {
            self.world.wipe_follower(node);
        }
    }

    pub(super) fn cut_follower(&mut self, item: Item, until: u64) {
        let Some(node) = self.follower_of(item) else { return };
        self.world.cut(node, item.node);
        if item.duration_us.is_multiple_of(2) {
            self.world.cut(item.node, node);
        }
        self.ends_at(until, End::Heal);
    }

    /// Now and then a follower is asked to read, which it may do, and to write, which it must not.
    pub(super) fn ask_followers(&mut self) {
        let followers = self.world.followers();
        if followers.is_empty() || self.world.below(ASKS_ONE_IN) != 0 {
            return;
        }
        let entities = self.entities();
        for node in followers {
            if entities.is_empty() || !self.world.is_up(node) {
                continue;
            }
            let chance = self.world.below(u64::try_from(entities.len()).expect("few"));
            let entity = entities[usize::try_from(chance).expect("few")];
            let write = ["SET", "nothing", "1"];
            let read = ["GET", "nothing"];
            let asked = [
                self.world.submit_for(node, entity, &write, None, Freshness::Linearizable),
                self.world.submit_for(node, entity, &read, None, Freshness::Linearizable),
                self.world.submit_for(node, entity, &read, None, Freshness::Local),
            ];
            self.follower_asked.push(asked);
        }
    }

    /// With nothing in the way, every core of a follower comes to know that it is in step.
    pub(super) fn followers_in_step(&mut self) -> Result<(), Violation> {
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        for node in self.world.followers() {
            while !self.world.is_in_step(node) {
                if self.world.now() > deadline {
                    let what = format!("follower {node} does not know that it is in step");
                    return Err(Violation::new("staleness", what));
                }
                self.world.advance(20_000);
                self.fine()?;
            }
        }
        Ok(())
    }

    /// What followers said to that.
    pub(super) fn follower_replies(&mut self) -> Result<(), Violation> {
        for [write, read, local] in std::mem::take(&mut self.follower_asked) {
            for ticket in [write, read] {
                // Without a reply its node died.
                let Some((_, reply)) = self.world.reply(ticket) else { continue };
                let is_refused = matches!(reply, Value::Error(error) if error.word() == "READONLY");
                if !is_refused {
                    let what = format!("a follower answers what is for replicas: {reply:?}");
                    return Err(Violation::new("follower", what));
                }
            }
            let Some((_, reply)) = self.world.reply(local) else { continue };
            let is_fine = match reply {
                Value::Null => true,
                Value::Error(error) => ["MASTERDOWN", "BUSY", "ERR"].contains(&error.word()),
                _ => false,
            };
            if !is_fine {
                let what = format!("a follower answers a read of nothing: {reply:?}");
                return Err(Violation::new("follower", what));
            }
        }
        Ok(())
    }
}
