//! Linearizable reads without a disk write: "is the next entry empty at a majority?"
//!
//! If a majority, this node included, says after the read began that nothing was ever accepted
//! beyond `applied`, then nothing beyond it was chosen before the read began, and the state here is
//! current (PaxosStore section 3.4; Certain's check-empty).

use net::peer::message::{PeerMessage, ReadAnswer, ReadCheck, ReadOutcome};
use plog::planted;
use plog::vocabulary::{AcceptorId, Entry};

use crate::context::Context;
use crate::entity::{Entity, Waiting};
use crate::state_machine::StateMachine;
use crate::time::Time;

/// The peers that a majority can do without are asked, too, after this part of the retry.
const SPARE_PEERS_PART: u64 = 10;

/// A check under way. Reads that arrive meanwhile wait for the next one, which serves them all.
#[derive(Debug)]
pub(crate) struct ReadRound {
    check: u64,
    entry: Entry,
    /// Who said "empty", one bit each, this node included.
    empty: u8,
    /// Who was asked, one bit each.
    asked: u8,
    /// When those were asked who were asked last for want of an answer.
    sent_at: Time,
    pub(crate) reads: Vec<Waiting>,
}

impl ReadRound {
    /// When others are asked, or all again, if nothing is heard until then.
    pub(super) fn retry_at(&self, retry_us: u64) -> Time {
        let part = if self.asked == u8::MAX { 1 } else { SPARE_PEERS_PART };
        self.sent_at.after_us(retry_us / part)
    }

    /// The peer lost what it had accepted: its answer has to come from who it is now.
    pub(super) fn forget_peer(&mut self, peer: AcceptorId) {
        self.empty &= !(1 << peer.0);
    }

    /// The configuration is another one: nobody said anything in it yet but this replica itself.
    pub(super) fn begin_anew(&mut self, context: &Context) {
        self.empty = own_word(context);
    }
}

/// That the entry is empty here counts if this replica votes.
fn own_word(context: &Context) -> u8 {
    if context.is_voter(context.me()) { 1 << context.me().0 } else { 0 }
}

impl<M: StateMachine> Entity<M> {
    pub(super) fn start_read_round(&mut self, context: &mut Context, reads: Vec<Waiting>) {
        assert!(self.read_round.is_none() && self.proposal.is_none());
        let entry = self.applied.next();
        assert!(self.slots.get(entry).is_none_or(|slot| slot.local().is_empty()));
        context.counters.read_checks += 1;
        let check = context.new_check();
        let me = own_word(context);
        // A majority needs only some of the peers; the others are asked after silence. One that
        // left a check unanswered, as those who abstain do, or that makes up for an absence is not
        // waited for when others are up.
        let needed = context.majority() - usize::from(me != 0);
        let order = context.replicas_from(check);
        let mut asked = 0_u8;
        for passed_over in [false, true] {
            for peer in order.clone() {
                let is_next = peer != context.me()
                    && context.is_voter(peer)
                    && context.is_up(peer)
                    && context.is_passed_over(peer) == passed_over;
                if is_next && (asked.count_ones() as usize) < needed {
                    asked |= 1 << peer.0;
                }
            }
        }
        let sent_at = context.now;
        let round = ReadRound { check, entry, empty: me, asked, sent_at, reads };
        let retry_at = round.retry_at(context.config.retry_us);
        self.read_round = Some(Box::new(round));
        let is_asked = |peer: &AcceptorId| asked & (1 << peer.0) != 0;
        for peer in order.filter(is_asked) {
            self.send_read_check(context, peer);
        }
        if needed == 0 || planted!("read-from-one-node") {
            self.finish_read_round_if_current(context);
        } else {
            self.wake_by(context, retry_at);
        }
    }

    fn send_read_check(&self, context: &mut Context, peer: AcceptorId) {
        let Some(round) = &self.read_round else { return };
        let check = ReadCheck { entity: self.id, entry: round.entry, check: round.check };
        context.send(peer, PeerMessage::ReadCheck(check));
    }

    /// Asks those who were not asked, soon; all, after longer silence.
    pub(super) fn retry_read_round(&mut self, context: &mut Context) {
        let Some(round) = &mut self.read_round else { return };
        let retry_us = context.config.retry_us;
        if context.now < round.retry_at(retry_us) {
            return;
        }
        let silent_at = round.sent_at.after_us(retry_us);
        let is_silent = context.now >= silent_at;
        let unheard = round.asked & !round.empty;
        let mut ask = !round.asked;
        if is_silent {
            ask = u8::MAX;
            round.sent_at = context.now;
            context.counters.retries += 1;
        }
        round.asked = u8::MAX;
        for peer in context.voting_peers() {
            let bit = 1 << peer.0;
            if is_silent && unheard & bit != 0 {
                context.pass_over(peer);
            }
            if ask & bit != 0 {
                self.send_read_check(context, peer);
            }
        }
    }

    /// A peer reads: is the entry empty here, in memory and so on disk?
    pub(crate) fn handle_read_check(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        check: ReadCheck,
    ) {
        if self.has_diverged() {
            return;
        }
        // The reader knows everything below to be chosen.
        self.note_max_chosen(check.entry.previous(), from);
        let outcome = if check.entry <= self.max_chosen {
            ReadOutcome::Newer
        } else if self.slots.get(check.entry).is_some_and(|slot| !slot.local().is_empty())
            && !planted!("started-called-empty")
        {
            ReadOutcome::Started
        } else {
            ReadOutcome::Empty
        };
        let answer = ReadAnswer {
            entity: self.id,
            entry: check.entry,
            check: check.check,
            outcome,
            max_chosen: self.max_chosen,
            applied: self.applied,
            chain: self.chain,
        };
        context.send(from, PeerMessage::ReadAnswer(answer));
        self.drive(context);
    }

    /// A peer's answer.
    pub(crate) fn handle_read_answer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: ReadAnswer,
    ) {
        context.take_in_again(from);
        self.note_max_chosen(answer.max_chosen, from);
        self.check_chain(context, answer.applied, answer.chain);
        let is_current = |round: &&mut Box<ReadRound>| {
            round.check == answer.check && round.entry == answer.entry
        };
        if let Some(round) = self.read_round.as_mut().filter(is_current) {
            match answer.outcome {
                ReadOutcome::Empty if !context.is_voter(from) => {}
                ReadOutcome::Empty => {
                    round.empty |= 1 << from.0;
                    self.finish_read_round_if_current(context);
                }
                ReadOutcome::Started => {
                    self.must_finish = Some(answer.entry);
                    self.fail_read_round(context);
                }
                ReadOutcome::Newer => self.fail_read_round(context),
            }
        }
        self.drive(context);
    }

    fn fail_read_round(&mut self, context: &mut Context) {
        if let Some(round) = self.read_round.take() {
            context.counters.read_checks_failed += 1;
            self.put_back(round.reads);
        }
    }

    fn finish_read_round_if_current(&mut self, context: &mut Context) {
        let mut majority = context.majority();
        if planted!("read-from-one-node") {
            majority = 1;
        }
        let done = |round: &mut Box<ReadRound>| round.empty.count_ones() as usize >= majority;
        let Some(round) = self.read_round.take_if(done) else { return };
        assert!(round.entry <= self.applied.next(), "a reader never goes back");
        // The state may have moved on since: newer is as good. But a command that would change
        // something by now has to be proposed.
        let mut again = Vec::new();
        for read in round.reads {
            if let Some(reply) = read.request_id.as_deref().and_then(|id| self.earlier_reply(id)) {
                // Applied meanwhile, through another replica.
                context.reply(read.origin, reply, self.applied);
                continue;
            }
            let mut overlay = M::Overlay::default();
            let reply = self.state.evaluate(&mut overlay, &read.arguments);
            if M::has_effects(&overlay) {
                again.push(read);
            } else {
                context.counters.reads += 1;
                context.reply(read.origin, reply, self.applied);
            }
        }
        self.put_back(again);
    }
}
