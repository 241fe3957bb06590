//! A copy whose checksum chain differs from a peer's is *in doubt*: this replica serves nothing of
//! the entity and votes on nothing, until it is known which copies are right.
//!
//! Two chains that differ do not say which one is wrong. The replica asks all others for theirs, in
//! rounds. At most a minority of the copies is wrong, so a chain that a majority of the replica set
//! has at one entry is right: if the own copy is among them, the doubt was unfounded; if a majority
//! of others contradicts it, it is replaced by a peer's image, which is put to the same test before
//! anything is served from it. Copies in doubt go on learning what is chosen, else their words
//! could not be compared with those of copies that are not.
//!
//! What the acceptor promised and accepted is none of this: it is kept as it is, and an image never
//! takes the entity back, so that no entry that was closed to votes is opened again. Where records
//! of it could not be read, nothing is healed: another promise might be among them.

use net::peer::message::{CompareAnswer, CompareRequest, CopyRequest, EntityImage, PeerMessage};
use plog::planted;
use plog::vocabulary::{AcceptorId, Entry};

use crate::context::{Context, Event};
use crate::entity::Entity;
use crate::state_machine::StateMachine;
use crate::time::Time;

/// Images under way at a time in a shard, in place of copies that are wrong.
pub(crate) const COPIES_MAX: usize = 32;

/// Rounds after which a copy that was taken from a peer, and that too few confirm, makes room for
/// another's.
const TAKEN_ROUNDS_MAX: u32 = 8;

/// Rounds are `retry_us` apart at first, and at most so many times that.
const PAUSE_RETRIES_MAX: u64 = 8;

/// What stands in the place of a copy that was right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Held {
    /// The own copy: one word among those of the peers.
    Own,
    /// A peer's image, which has to be confirmed: a majority of the peers has to have the same.
    Taken,
    /// Nothing that could be gone on with.
    Nothing,
    /// Nothing, and records of promises may be missing, too: it is not healed.
    Lost,
}

/// Words on a copy.
#[derive(Debug)]
pub(crate) struct Doubt {
    held: Held,
    /// Names the round under way.
    check: u64,
    /// Who has the same chain at the same entry in this round, one bit each.
    agree: u8,
    /// Who has another.
    differ: u8,
    /// Rounds since the copy came to be what it is.
    rounds: u32,
    /// When the next round begins.
    due: Time,
    /// Who is to send an image.
    asked: Option<AcceptorId>,
    /// Whose turn it is to be asked.
    turn: u8,
}

impl Doubt {
    /// From now on this stands in the place of the copy: no word was heard on it yet.
    fn hold(&mut self, held: Held) {
        self.held = held;
        self.rounds = 0;
        (self.agree, self.differ) = (0, 0);
    }
}

fn count(bits: u8) -> usize {
    usize::try_from(bits.count_ones()).expect("few")
}

impl<M: StateMachine> Entity<M> {
    /// Stops serving: this history is not that of a peer, or it cannot be gone on with.
    pub(super) fn diverge(
        &mut self,
        context: &mut Context,
        entry: Entry,
        held: Held,
        reason: &'static str,
    ) {
        if self.doubt.is_none() {
            context.counters.diverged += 1;
            context.events.push_back(Event::Diverged { entity: self.id, entry, reason });
        }
        self.doubt_copy(context, held);
    }

    /// The copy here cannot be served.
    pub(super) fn doubt_copy(&mut self, context: &mut Context, held: Held) {
        match &mut self.doubt {
            Some(doubt) if held == Held::Own || doubt.held == Held::Lost => {}
            Some(doubt) => doubt.hold(held),
            None => {
                self.doubt = Some(Box::new(Doubt {
                    held,
                    check: 0,
                    agree: 0,
                    differ: 0,
                    rounds: 0,
                    due: context.now,
                    asked: None,
                    turn: context.me().0 % context.config.replicas,
                }));
                context.in_doubt += 1;
            }
        }
        self.refuse_all(context);
        self.wake_by(context, context.now.after_us(1));
    }

    /// Whether the copy here is in doubt: nothing is served from it or voted on.
    pub(crate) fn has_diverged(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether chosen entries can be applied to the copy here, in doubt or not.
    pub(crate) fn learns(&self) -> bool {
        let held = self.doubt.as_ref().map(|doubt| doubt.held);
        !matches!(held, Some(Held::Nothing | Held::Lost))
    }

    /// Whether the copy here follows from this replica's own log, in doubt or not.
    pub(crate) fn is_own(&self) -> bool {
        self.doubt.as_ref().is_none_or(|doubt| doubt.held == Held::Own)
    }

    /// Whether a copy that is not may still become one that serves.
    pub(crate) fn may_heal(&self) -> bool {
        self.doubt.as_ref().is_none_or(|doubt| doubt.held != Held::Lost)
    }

    /// Compares a peer's checksum chain with the own one at the same entry.
    pub(crate) fn check_chain(&mut self, context: &mut Context, entry: Entry, chain: u32) {
        let differs = self.is_another_chain(entry, chain) && self.doubt.is_none();
        if differs && !planted!("chain-unchecked") {
            self.diverge(context, entry, Held::Own, "checksum chain differs from a peer's");
        }
    }

    /// Compares a chain in the log with that of the entries before it.
    pub(super) fn check_logged_chain(&mut self, context: &mut Context, entry: Entry, chain: u32) {
        if self.is_another_chain(entry, chain) && self.learns() {
            let reason = "checksum chain differs from the one in the log";
            self.diverge(context, entry, Held::Nothing, reason);
        }
    }

    fn is_another_chain(&self, entry: Entry, chain: u32) -> bool {
        entry == self.applied && entry > Entry::ZERO && chain != self.chain
    }

    /// When the next round is due.
    pub(super) fn doubt_due(&self) -> Option<Time> {
        self.doubt.as_ref().filter(|doubt| doubt.held != Held::Lost).map(|doubt| doubt.due)
    }

    /// Starts the next round when it is due.
    pub(super) fn continue_doubt(&mut self, context: &mut Context) {
        if self.doubt_due().is_some_and(|due| due <= context.now) {
            self.start_round(context);
        }
    }

    fn start_round(&mut self, context: &mut Context) {
        let Some(doubt) = &mut self.doubt else { return };
        if doubt.asked.take().is_some() {
            context.copies_asked -= 1;
        }
        if doubt.held == Held::Taken && doubt.rounds >= TAKEN_ROUNDS_MAX {
            doubt.hold(Held::Nothing);
        }
        let pause = (1 << doubt.rounds.min(8)).min(PAUSE_RETRIES_MAX) * context.config.retry_us;
        doubt.due = context.now.after_us(pause);
        doubt.rounds = doubt.rounds.saturating_add(1);
        (doubt.agree, doubt.differ) = (0, 0);
        doubt.check = context.new_check();
        let due = doubt.due;
        if doubt.held == Held::Nothing {
            self.ask_for_copy(context, None);
        } else {
            let request = CompareRequest { entity: self.id, check: doubt.check };
            for peer in context.peers() {
                context.send(peer, PeerMessage::Compare(request));
            }
        }
        self.wake_by(context, due);
    }

    /// Asks `from`, or the next peer, for an image.
    fn ask_for_copy(&mut self, context: &mut Context, from: Option<AcceptorId>) {
        let Some(doubt) = &mut self.doubt else { return };
        if doubt.asked.is_some() || context.copies_asked >= COPIES_MAX {
            return; // with the next round
        }
        let next = context
            .replicas_from(u64::from(doubt.turn) + 1)
            .find(|peer| *peer != context.me() && context.is_up(*peer));
        let Some(peer) = from.or(next) else { return };
        doubt.turn = peer.0;
        doubt.asked = Some(peer);
        context.copies_asked += 1;
        let request = CopyRequest { entity: self.id, entry: self.applied };
        context.send(peer, PeerMessage::Copy(request));
    }

    /// A peer's copy is in doubt, and this one's word is asked for.
    pub(crate) fn handle_compare(
        &self,
        context: &mut Context,
        from: AcceptorId,
        request: CompareRequest,
    ) {
        if self.is_own() && self.applied > Entry::ZERO {
            let (applied, chain) = (self.applied, self.chain);
            let answer = CompareAnswer { entity: self.id, check: request.check, applied, chain };
            context.send(from, PeerMessage::Compared(answer));
        }
    }

    /// A peer's word.
    pub(crate) fn handle_compared(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: CompareAnswer,
    ) {
        self.note_max_chosen(answer.applied, from);
        let applied = self.applied;
        if let Some(doubt) = &mut self.doubt
            && doubt.check == answer.check
            && applied == answer.applied
        {
            let bits =
                if answer.chain == self.chain { &mut doubt.agree } else { &mut doubt.differ };
            *bits |= 1 << from.0;
            self.judge(context, from);
        }
        self.drive(context);
    }

    /// Looks what the words of this round come to; `last` spoke last.
    fn judge(&mut self, context: &mut Context, last: AcceptorId) {
        let majority = context.config.majority();
        let Some(doubt) = &mut self.doubt else { return };
        let own = match doubt.held {
            // A follower has no word among those of the replicas.
            Held::Own => usize::from(!context.config.is_follower()),
            Held::Taken => 0,
            Held::Nothing | Held::Lost => return,
        };
        if own + count(doubt.agree) >= majority || planted!("doubt-ends-with-a-word") {
            let was_right = doubt.held == Held::Own;
            self.end_doubt(context);
            context.counters.healed += 1;
            let (entity, entry) = (self.id, self.applied);
            context.events.push_back(Event::Healed { entity, entry, was_right });
        } else if count(doubt.differ) >= majority {
            doubt.hold(Held::Nothing);
            self.refuse_all(context);
            self.ask_for_copy(context, Some(last));
        }
    }

    /// Gives back what a copy in doubt takes of the shard.
    pub(super) fn end_doubt(&mut self, context: &mut Context) {
        if let Some(doubt) = self.doubt.take() {
            context.in_doubt -= 1;
            context.copies_asked -= usize::from(doubt.asked.is_some());
        }
    }

    /// An image came while the copy was in doubt: from here on the copy is the peer's, and no word
    /// of its own.
    pub(super) fn doubt_image(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.hold(Held::Taken);
        }
    }

    /// A peer with a wrong copy wants this one's.
    pub(crate) fn handle_copy(
        &self,
        context: &mut Context,
        from: AcceptorId,
        request: CopyRequest,
    ) {
        if self.doubt.is_none() && self.applied >= request.entry && self.applied > Entry::ZERO {
            context.send(from, PeerMessage::Image(self.image()));
        }
    }

    /// Takes a peer's image in place of a copy that a majority contradicts, if it is one that was
    /// asked for. Whether it was.
    pub(super) fn took_copy(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        image: &EntityImage,
    ) -> bool {
        let Some(doubt) = &mut self.doubt else { return false };
        if doubt.held != Held::Nothing || doubt.asked != Some(from) || image.applied < self.applied
        {
            return false;
        }
        doubt.asked = None;
        context.copies_asked -= 1;
        let (applied, chain, last) = (image.applied, image.chain, image.last_value_id);
        if self.restore_image(context, applied, chain, last, &image.state).is_err() {
            return true; // the next round asks another
        }
        self.go_on_from_image(context, image);
        self.start_round(context);
        true
    }
}
