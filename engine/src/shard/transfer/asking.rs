//! The asker's half: which peer, how far each of its cores has come, and how fast.

use std::collections::{BTreeMap, VecDeque};

use net::peer::message::{EntityImage, PeerMessage, TransferPage, TransferRequest};
use plog::index::walk_order;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId};

use crate::shard::transfer::PAGES_UNDER_WAY_MAX;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// An unanswered page is asked for again after so many times the retry, …
const PATIENCE_RETRIES: u64 = 10;

/// … and so often before another peer is asked.
const TRIES_MAX: u32 = 3;

/// While the log has no room the next page waits for so long, in microseconds.
const NO_ROOM_US: u64 = 10_000;

/// How far one core of the peer has come.
#[derive(Debug)]
struct Walk {
    /// Pages asked for and not all here, in order.
    pages: VecDeque<Asked>,
    /// The page after these; `None` while its place is not known, and when there is none.
    next: Option<Next>,
    tries: u32,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    begin: Option<EntityId>,
    at: Time,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    begin: Option<EntityId>,
    /// It is asked for then, or when there is room.
    due: Time,
}

impl Walk {
    fn is_done(&self) -> bool {
        self.pages.is_empty() && self.next.is_none()
    }

    /// Goes back to the first page that is not here. Whether there is one.
    fn ask_again(&mut self, now: Time) -> bool {
        let Some(oldest) = self.pages.front().copied() else { return false };
        self.pages.clear();
        self.next = Some(Next { begin: oldest.begin, due: now });
        self.tries += 1;
        true
    }

    /// A peer tells where a page ends.
    fn take(&mut self, page: TransferPage, now: Time) {
        let Some(place) = self.pages.iter().position(|asked| asked.begin == page.begin) else {
            return; // an answer to an earlier question
        };
        let is_last = place + 1 == self.pages.len();
        // Without a step forward there would be no end.
        let is_forward =
            |next: &EntityId| page.begin.is_none_or(|begin| walk_order(begin) < walk_order(*next));
        if is_last && self.next.is_none() {
            let next = page.next.filter(is_forward);
            self.next = next.map(|next| Next { begin: Some(next), due: now });
        }
        if page.sent {
            self.tries = 0;
            self.pages.remove(place);
        }
    }
}

/// A transfer under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    from: AcceptorId,
    /// By core of that peer.
    walks: BTreeMap<u16, Walk>,
    /// Peers that were asked in this transfer, and left it unfinished.
    given_up: Vec<AcceptorId>,
}

impl<M: StateMachine> Shard<M> {
    /// Begins a transfer, if it is worth it and somebody is there to ask.
    pub(in crate::shard) fn begin_transfer(&mut self) {
        if self.context.floors.len() >= self.context.config.transfer_entities_min {
            self.transfer_from_next(Vec::new());
        }
    }

    /// Whether what a sweep finds has to wait: the transfer may well bring it.
    pub(in crate::shard) fn is_transferring(&self) -> bool {
        self.transfer.is_some()
    }

    fn transfer_from_next(&mut self, given_up: Vec<AcceptorId>) {
        let members = self.context.configuration.members();
        let peers = self.sweeps.peers().filter(move |peer| members.contains(peer.acceptor));
        let next = peers.clone().find(|peer| !given_up.contains(&peer.acceptor));
        let now = self.context.now;
        // What is there already was brought before a restart, by another peer, or by live traffic.
        let begin = self.context.floors.keys().copied().min_by_key(|id| walk_order(*id));
        self.transfer = next.map(|PeerCore { acceptor: from, .. }| {
            let cores = peers.filter(|peer| peer.acceptor == from).map(|peer| peer.core);
            let next = Some(Next { begin, due: now });
            let walk = || Walk { pages: VecDeque::new(), next, tries: 0 };
            Transfer { from, walks: cores.map(|core| (core, walk())).collect(), given_up }
        });
        match &self.transfer {
            Some(_) => {
                self.context.counters.transfers += 1;
                self.continue_transfer();
            }
            None => self.continue_catch_ups(),
        }
    }

    /// When [`Self::continue_transfer`] is next needed.
    pub(in crate::shard) fn next_transfer_due(&self) -> Option<Time> {
        let patience = PATIENCE_RETRIES * self.context.config.retry_us;
        let due = |walk: &Walk| {
            let next = walk.next.filter(|_| walk.pages.len() < PAGES_UNDER_WAY_MAX);
            let late = walk.pages.front().map(|oldest| oldest.at.after_us(patience));
            next.map(|next| next.due).into_iter().chain(late).min()
        };
        self.transfer.as_ref()?.walks.values().filter_map(due).min()
    }

    /// Asks for whatever is due.
    pub(in crate::shard) fn continue_transfer(&mut self) {
        let now = self.context.now;
        let patience = PATIENCE_RETRIES * self.context.config.retry_us;
        let Some(transfer) = &self.transfer else { return };
        let opens_at = self.pace.opens_at(transfer.from);
        let under_way: usize = transfer.walks.values().map(|walk| walk.pages.len()).sum();
        let mut pages_free = self.pages_the_log_takes().saturating_sub(under_way);
        let Some(transfer) = &mut self.transfer else { return };
        let (from, mut gives_up) = (transfer.from, false);
        for (core, walk) in &mut transfer.walks {
            if walk.pages.front().is_some_and(|oldest| oldest.at.after_us(patience) <= now) {
                walk.ask_again(now);
            }
            if walk.tries >= TRIES_MAX {
                gives_up = true;
                break;
            }
            let Some(next) = walk.next.as_mut().filter(|next| next.due <= now) else { continue };
            if walk.pages.len() >= PAGES_UNDER_WAY_MAX {
                continue; // when one of them is here
            }
            if self.context.floors.is_empty() {
                (walk.next, walk.pages) = (None, VecDeque::new());
                continue;
            }
            let has_room = pages_free > 0;
            if !has_room || opens_at > now {
                let room_at = if has_room { now } else { now.after_us(NO_ROOM_US) };
                next.due = room_at.max(opens_at);
                continue;
            }
            pages_free -= 1;
            let begin = next.begin;
            walk.next = None;
            walk.pages.push_back(Asked { begin, at: now });
            let core_count = self.context.config.core_count;
            let bytes = self.context.config.transfer_page_bytes;
            let request = TransferRequest { begin, bytes, core_count };
            let peer = PeerCore { acceptor: from, core: *core };
            self.context.send_to_core(peer, PeerMessage::Transfer(request));
        }
        let is_done = transfer.walks.values().all(Walk::is_done);
        if gives_up {
            let mut given_up = std::mem::take(&mut transfer.given_up);
            given_up.push(from);
            self.transfer_from_next(given_up);
        } else if is_done {
            self.transfer = None;
            self.continue_catch_ups();
        }
    }

    /// How many pages may be under way, for what waits for the log: when it is full, images that
    /// come are refused.
    fn pages_the_log_takes(&self) -> usize {
        if self.is_log_near_its_limit() {
            return 0;
        }
        let page = usize::try_from(self.context.config.transfer_page_bytes).unwrap_or(usize::MAX);
        let pending = self.context.log.pending_bytes();
        (self.context.log.config().pending_bytes_max / 2).saturating_sub(pending) / page.max(1)
    }

    /// The log took what was written: pages that waited for it may come.
    pub(in crate::shard) fn ask_for_waiting_pages(&mut self) {
        let now = self.context.now;
        let Some(transfer) = &mut self.transfer else { return };
        for next in transfer.walks.values_mut().filter_map(|walk| walk.next.as_mut()) {
            next.due = now;
        }
        self.continue_transfer();
    }

    /// Pages that are on their way may be lost: a peer's core had to drop messages, or its link is
    /// up again, and what was on its way on the one before is lost.
    pub(in crate::shard) fn ask_for_page_again(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let Some(transfer) = self.transfer.as_mut().filter(|known| known.from == peer.acceptor)
        else {
            return;
        };
        // A link that never has room for a page is a reason to give up, too.
        if transfer.walks.get_mut(&peer.core).is_some_and(|walk| walk.ask_again(now)) {
            self.continue_transfer();
        }
    }

    /// Where a page ends, or that all of its images were sent.
    pub(in crate::shard) fn handle_transfer_page(&mut self, from: PeerCore, page: TransferPage) {
        let now = self.context.now;
        let Some(transfer) = self.transfer.as_mut().filter(|known| known.from == from.acceptor)
        else {
            return;
        };
        let Some(walk) = transfer.walks.get_mut(&from.core) else { return };
        let before = walk.pages.len();
        walk.take(page, now);
        self.context.counters.transfer_pages += u64::from(walk.pages.len() < before);
        self.continue_transfer();
    }

    /// Takes an image that the transfer brings, of an entity that is not in memory. Whether it did.
    pub(in crate::shard) fn took_transferred(
        &mut self,
        from: PeerCore,
        image: &EntityImage,
    ) -> bool {
        let id = image.entity;
        let is_from = self.transfer.as_ref().is_some_and(|known| known.from == from.acceptor);
        if !is_from || self.entities.get(id).is_some() || !self.context.floors.contains_key(&id) {
            return false;
        }
        if planted!("transfer-ends-rejoining") {
            self.context.floors.remove(&id);
        }
        self.context.counters.transfer_images += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use net::peer::message::TransferPage;
    use plog::index::walk_order;
    use plog::vocabulary::EntityId;

    use super::{Asked, Walk};
    use crate::time::Time;

    const NOW: Time = Time(7);

    /// Three entities in the order of a walk.
    fn places() -> [Option<EntityId>; 3] {
        let mut ids = [1, 2, 3].map(EntityId);
        ids.sort_by_key(|id| walk_order(*id));
        ids.map(Some)
    }

    fn walk(pages: &[Option<EntityId>]) -> Walk {
        let asked = pages.iter().map(|begin| Asked { begin: *begin, at: NOW });
        Walk { pages: asked.collect(), next: None, tries: 2 }
    }

    fn begins(walk: &Walk) -> VecDeque<Option<EntityId>> {
        walk.pages.iter().map(|asked| asked.begin).collect()
    }

    #[test]
    fn the_next_page_is_known_before_this_one_is_here() {
        let [first, second, _] = places();
        let mut walk = walk(&[first]);
        walk.take(TransferPage { begin: first, next: second, sent: false }, NOW);
        assert_eq!(walk.next.map(|next| next.begin), Some(second));
        assert_eq!((begins(&walk), walk.tries), ([first].into(), 2));
        walk.take(TransferPage { begin: first, next: second, sent: true }, NOW);
        assert_eq!((begins(&walk), walk.tries), ([].into(), 0));
        assert!(!walk.is_done());
    }

    #[test]
    fn the_end_of_a_page_that_another_follows_does_not_ask_for_that_again() {
        let [first, second, third] = places();
        let mut walk = walk(&[first, second]);
        walk.take(TransferPage { begin: first, next: second, sent: true }, NOW);
        assert!(walk.next.is_none());
        walk.take(TransferPage { begin: first, next: third, sent: true }, NOW);
        assert!(walk.next.is_none(), "an answer to an earlier question");
        walk.take(TransferPage { begin: second, next: first, sent: true }, NOW);
        assert!(walk.is_done(), "no step forward is the end");
    }

    #[test]
    fn what_is_lost_is_asked_for_from_the_first_page_on_that_is_not_here() {
        let [first, second, third] = places();
        let mut walk = walk(&[first, second]);
        walk.take(TransferPage { begin: second, next: third, sent: true }, NOW);
        assert!(walk.ask_again(NOW));
        assert_eq!(walk.next.map(|next| next.begin), Some(first));
        assert_eq!((begins(&walk), walk.tries), ([].into(), 1));
        assert!(!walk.ask_again(NOW), "it was just asked for");
    }
}
