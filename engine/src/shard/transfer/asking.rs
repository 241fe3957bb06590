//! The asker's half: which peer, how far each of its cores has come, and how fast.

use std::collections::BTreeMap;

use net::peer::message::{EntityImage, PeerMessage, TransferPage, TransferRequest};
use plog::index::walk_order;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId};

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
#[derive(Clone, Copy, Debug)]
struct Walk {
    begin: Option<EntityId>,
    state: WalkState,
    tries: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WalkState {
    /// The next page is asked for then.
    Due(Time),
    /// A page was asked for at that time.
    Asked(Time),
    Done,
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
        let peers = self.sweeps.peers();
        let next = peers.clone().find(|peer| !given_up.contains(&peer.acceptor));
        let now = self.context.now;
        // What is there already was brought before a restart, by another peer, or by live traffic.
        let begin = self.context.floors.keys().copied().min_by_key(|id| walk_order(*id));
        self.transfer = next.map(|PeerCore { acceptor: from, .. }| {
            let cores = peers.filter(|peer| peer.acceptor == from).map(|peer| peer.core);
            let walk = Walk { begin, state: WalkState::Due(now), tries: 0 };
            Transfer { from, walks: cores.map(|core| (core, walk)).collect(), given_up }
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
        let due = |walk: &Walk| match walk.state {
            WalkState::Due(at) => Some(at),
            WalkState::Asked(at) => Some(at.after_us(patience)),
            WalkState::Done => None,
        };
        self.transfer.as_ref()?.walks.values().filter_map(due).min()
    }

    /// Asks for whatever is due.
    pub(in crate::shard) fn continue_transfer(&mut self) {
        let now = self.context.now;
        let patience = PATIENCE_RETRIES * self.context.config.retry_us;
        let Some(transfer) = &self.transfer else { return };
        let opens_at = self.pace.opens_at(transfer.from);
        let has_room = !self.is_log_near_its_limit() && self.has_log_taken_pages();
        let Some(transfer) = &mut self.transfer else { return };
        let (from, mut gives_up) = (transfer.from, false);
        for (core, walk) in &mut transfer.walks {
            match walk.state {
                WalkState::Asked(at) if at.after_us(patience) > now => continue,
                WalkState::Due(at) if at > now => continue,
                WalkState::Done => continue,
                WalkState::Asked(_) => walk.tries += 1,
                WalkState::Due(_) => {}
            }
            if walk.tries >= TRIES_MAX {
                gives_up = true;
                break;
            }
            if !has_room || opens_at > now {
                let room_at = if has_room { now } else { now.after_us(NO_ROOM_US) };
                walk.state = WalkState::Due(room_at.max(opens_at));
                continue;
            }
            if self.context.floors.is_empty() {
                walk.state = WalkState::Done;
                continue;
            }
            walk.state = WalkState::Asked(now);
            let core_count = self.context.config.core_count;
            let bytes = self.context.config.transfer_page_bytes;
            let request = TransferRequest { begin: walk.begin, bytes, core_count };
            let peer = PeerCore { acceptor: from, core: *core };
            self.context.send_to_core(peer, PeerMessage::Transfer(request));
        }
        let is_done = transfer.walks.values().all(|walk| walk.state == WalkState::Done);
        if gives_up {
            let mut given_up = std::mem::take(&mut transfer.given_up);
            given_up.push(from);
            self.transfer_from_next(given_up);
        } else if is_done {
            self.transfer = None;
            self.continue_catch_ups();
        }
    }

    /// Whether what waits for the log leaves room for further pages: when it is full, images that
    /// come are refused.
    fn has_log_taken_pages(&self) -> bool {
        let page = usize::try_from(self.context.config.transfer_page_bytes).unwrap_or(usize::MAX);
        let pending = self.context.log.pending_bytes();
        pending.saturating_add(page) <= self.context.log.config().pending_bytes_max / 2
    }

    /// The log took what was written: pages that waited for it may come.
    pub(in crate::shard) fn ask_for_waiting_pages(&mut self) {
        let now = self.context.now;
        let Some(transfer) = &mut self.transfer else { return };
        for walk in transfer.walks.values_mut() {
            if matches!(walk.state, WalkState::Due(_)) {
                walk.state = WalkState::Due(now);
            }
        }
        self.continue_transfer();
    }

    /// A page that is on its way may be lost: a peer's core had to drop messages, or its link is up
    /// again, and what was on its way on the one before is lost.
    pub(in crate::shard) fn ask_for_page_again(&mut self, peer: PeerCore) {
        let now = self.context.now;
        let Some(transfer) = self.transfer.as_mut().filter(|known| known.from == peer.acceptor)
        else {
            return;
        };
        let walk = transfer.walks.get_mut(&peer.core);
        if let Some(walk) = walk.filter(|walk| matches!(walk.state, WalkState::Asked(_))) {
            // A link that never has room for a page is a reason to give up, too.
            (walk.state, walk.tries) = (WalkState::Due(now), walk.tries + 1);
            self.continue_transfer();
        }
    }

    /// All images of a page were sent.
    pub(in crate::shard) fn handle_transfer_page(&mut self, from: PeerCore, page: TransferPage) {
        let now = self.context.now;
        let Some(transfer) = self.transfer.as_mut().filter(|known| known.from == from.acceptor)
        else {
            return;
        };
        let Some(walk) = transfer.walks.get_mut(&from.core) else { return };
        if !matches!(walk.state, WalkState::Asked(_)) || walk.begin != page.begin {
            return; // an answer to an earlier question
        }
        self.context.counters.transfer_pages += 1;
        walk.tries = 0;
        // Without a step forward there would be no end.
        let is_forward =
            |next: &EntityId| walk.begin.is_none_or(|begin| walk_order(begin) < walk_order(*next));
        match page.next.filter(is_forward) {
            Some(next) => (walk.begin, walk.state) = (Some(next), WalkState::Due(now)),
            None => walk.state = WalkState::Done,
        }
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
