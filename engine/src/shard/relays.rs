//! Commands for entities that abstain or are in doubt: a live replica does them, and its answer
//! goes to the client.
//!
//! A command that was asked of one replica may be asked of the next after silence or a refusal,
//! because it carries a request id, the client's or one made for it: however many replicas propose
//! it, it is applied once, and every copy has the same answer. So the first answer counts,
//! whichever replica gives it, as long as it is to a question of this boot. Asking doubles its
//! patience with every round of the replicas, and ends with the command's own time.

use std::collections::{BTreeMap, BTreeSet};

use net::peer::message::{ForwardAnswer, PeerMessage};
use net::resp::arguments::Arguments;
use plog::vocabulary::{AcceptorId, EntityId};

use crate::batch::decode_reply;
use crate::context::{Context, Origin};
use crate::entity::forwarding::{forwarded_command, own_request_id};
use crate::errors;
use crate::request::Command;
use crate::time::Time;

/// Beyond this many rounds of the replicas patience no longer doubles.
const DOUBLINGS_MAX: u32 = 6;

/// A command that other replicas are asked to do.
#[derive(Debug)]
struct Relayed {
    entity: EntityId,
    origin: Origin,
    arguments: Arguments,
    request_id: Box<[u8]>,
    /// Whether the command may change something, so that its fate matters.
    is_write: bool,
    deadline: Time,
    /// Questions sent so far.
    questions: u32,
    /// Who was asked at all, one bit each.
    asked: u8,
    /// Who was asked last.
    last: Option<AcceptorId>,
    /// When the next is asked, or the command ends.
    due: Time,
}

/// See the module page. Its commands count as held by the shard, and so are bounded with them.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    commands: BTreeMap<u64, Relayed>,
    /// The same by when something is due.
    due: BTreeSet<(Time, u64)>,
}

impl Relays {
    /// How many of an entity's commands are under way.
    pub(crate) fn waiting(&self, entity: EntityId) -> usize {
        self.commands.values().filter(|relayed| relayed.entity == entity).count()
    }

    /// Whether a question of that name waits for its answer.
    pub(crate) fn holds(&self, forward: u64) -> bool {
        self.commands.contains_key(&forward)
    }

    pub(crate) fn next_due(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes on a command of an entity that abstains here, and asks a replica to do it.
    pub(crate) fn begin(
        &mut self,
        context: &mut Context,
        entity: EntityId,
        origin: Origin,
        command: Command,
        is_write: bool,
    ) {
        context.counters.commands += 1;
        context.counters.relayed += 1;
        context.commands_held += 1;
        let forward = context.new_forward();
        let request_id = command.request_id.unwrap_or_else(|| own_request_id(context, forward));
        let relayed = Relayed {
            entity,
            origin,
            arguments: command.arguments,
            request_id,
            is_write,
            deadline: context.now.after_us(context.config.request_timeout_us),
            questions: 0,
            asked: 0,
            last: None,
            due: context.now,
        };
        self.ask(context, forward, relayed);
    }

    /// Asks the next live replica, and waits.
    fn ask(&mut self, context: &mut Context, forward: u64, mut relayed: Relayed) {
        let live = live_replicas(context, relayed.entity);
        let pause = if live.is_empty() {
            context.config.retry_us
        } else {
            let count = u32::try_from(live.len()).expect("few replicas");
            let to = live[relayed.questions as usize % live.len()];
            let message = forwarded_command(
                context,
                forward,
                relayed.entity,
                &relayed.request_id,
                relayed.deadline,
                &relayed.arguments,
            );
            context.send(to, PeerMessage::Forward(message));
            let rounds = (relayed.questions / count).min(DOUBLINGS_MAX);
            relayed.questions += 1;
            relayed.asked |= 1 << to.0;
            relayed.last = Some(to);
            (2 * context.config.retry_us) << rounds
        };
        self.wait(context, forward, relayed, pause);
    }

    fn wait(&mut self, context: &Context, forward: u64, mut relayed: Relayed, pause_us: u64) {
        relayed.due = context.now.after_us(pause_us).min(relayed.deadline);
        self.due.insert((relayed.due, forward));
        self.commands.insert(forward, relayed);
    }

    fn take(&mut self, forward: u64) -> Option<Relayed> {
        let relayed = self.commands.remove(&forward)?;
        assert!(self.due.remove(&(relayed.due, forward)), "each command waits for its time");
        Some(relayed)
    }

    /// A replica's answer. One that is late, repeated or of another boot names no command.
    pub(crate) fn handle_answer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: &ForwardAnswer,
    ) {
        let forward = answer.forward;
        let is_asked = self.commands.get(&forward).is_some_and(|relayed| {
            relayed.entity == answer.entity && relayed.asked & (1 << from.0) != 0
        });
        if !is_asked {
            return;
        }
        let reply = answer.reply.as_deref().and_then(decode_reply);
        if let Some(reply) = reply.filter(|reply| !errors::is_transient(reply)) {
            let relayed = self.take(forward).expect("just seen");
            context.reply(relayed.origin, reply, answer.entry);
            return;
        }
        // It could not, or it abstains, too. Who was asked before that has had its turn already.
        if self.commands.get(&forward).is_some_and(|relayed| relayed.last == Some(from)) {
            let relayed = self.take(forward).expect("just seen");
            context.counters.retries += 1;
            let live = live_replicas(context, relayed.entity).len();
            if live == 0 || (relayed.questions as usize).is_multiple_of(live) {
                // All were asked: give them time.
                let mut relayed = relayed;
                relayed.last = None;
                self.wait(context, forward, relayed, context.config.retry_us);
            } else {
                self.ask(context, forward, relayed);
            }
        }
    }

    /// Asks on for what was not answered, and ends what ran out of time.
    pub(crate) fn handle_tick(&mut self, context: &mut Context) {
        while let Some((at, forward)) = self.due.first().copied()
            && at <= context.now
        {
            let relayed = self.take(forward).expect("what is due is held");
            if relayed.deadline > context.now {
                context.counters.retries += 1;
                self.ask(context, forward, relayed);
            } else if relayed.is_write && relayed.asked != 0 {
                context.counters.unknown += 1;
                context.refuse(relayed.origin, errors::unknown());
            } else {
                context.counters.cluster_down += 1;
                context.refuse(relayed.origin, errors::cluster_down());
            }
        }
    }
}

/// The live replicas in the order in which they are asked: the same for all commands of an entity,
/// so that one replica proposes them all, and another for the next entity.
fn live_replicas(context: &Context, entity: EntityId) -> Vec<AcceptorId> {
    let order = context.replicas_from(entity.0);
    order.filter(|peer| *peer != context.me() && context.is_up(*peer)).collect()
}
