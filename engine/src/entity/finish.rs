//! Entries that a replica without its votes waits for.
//!
//! What a replica lost may have mattered in an open entry, so it does not vote there. The others
//! decide the entry when a client touches the entity; this replica cannot wait for that, and asks
//! one of them to finish it: with what was accepted there, else with nothing.

use net::peer::message::{FinishRequest, PeerMessage};
use plog::vocabulary::{AcceptorId, Entry};

use crate::context::Context;
use crate::entity::catch_up::CatchUpRound;
use crate::entity::{ENTRIES_AHEAD_MAX, Entity};
use crate::state_machine::StateMachine;

impl<M: StateMachine> Entity<M> {
    /// Asks the next peer to finish the entry after `applied`.
    pub(super) fn ask_to_finish(&mut self, context: &mut Context) {
        if self.catch_up.is_some() {
            return;
        }
        let asked = self.next_to_ask(context);
        if let Some(peer) = asked {
            context.counters.finishes_asked += 1;
            let request = FinishRequest { entity: self.id, entry: self.applied.next() };
            context.send(peer, PeerMessage::Finish(request));
        }
        let asked = asked.unwrap_or_else(|| context.me());
        self.catch_up = Some(CatchUpRound { asked, sent_at: context.now, finishes: true });
        self.wake_by(context, context.now.after_us(context.config.retry_us));
    }

    /// A peer that may not vote on `entry` waits for it to be chosen.
    pub(crate) fn handle_finish(&mut self, context: &mut Context, from: AcceptorId, entry: Entry) {
        if self.has_diverged() {
            return;
        }
        self.note_max_chosen(entry.previous(), from);
        if entry <= self.applied {
            self.send_newer(context, from);
        } else if entry.0 <= self.applied.0 + ENTRIES_AHEAD_MAX {
            context.counters.finishes += 1;
            self.wanted = Some(entry);
        }
        self.drive(context);
    }

    /// This replica itself has to hold `entry` as chosen.
    pub(crate) fn finish_here(&mut self, context: &mut Context, entry: Entry) {
        if self.has_diverged() || entry <= self.applied {
            return;
        }
        self.note_max_chosen(entry.previous(), context.me());
        if entry.0 <= self.applied.0 + ENTRIES_AHEAD_MAX {
            context.counters.finishes += 1;
            self.wanted = Some(entry);
        }
        self.drive(context);
    }

    /// The configuration is another one: what was said in an earlier one is counted no more.
    pub(crate) fn forget_all_peers(&mut self, context: &Context) {
        let peers = (0..context.config.replicas).map(AcceptorId);
        peers.filter(|peer| *peer != context.me()).for_each(|peer| self.forget_peer(peer));
        if let Some(round) = &mut self.read_round {
            round.begin_anew(context);
        }
        self.forget_words();
    }

    /// A peer lost what it had promised and accepted here: it is counted no more.
    pub(crate) fn forget_peer(&mut self, peer: AcceptorId) {
        self.slots.iter_mut().for_each(|slot| slot.forget_peer(peer));
        if let Some(round) = &mut self.read_round {
            round.forget_peer(peer);
        }
        if self.duel_lease.is_some_and(|(holder, _)| holder == peer) {
            self.duel_lease = None;
        }
    }
}
