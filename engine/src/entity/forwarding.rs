//! The lease policy: while another replica proposes an entity, commands are handed to it.
//!
//! A hint that keeps replicas from duelling, never needed for safety (Certain's `LeasePolicy`,
//! which made clients wait or turned them away). A forwarded command carries a request id, so that
//! it can be retried here when the other replica falls silent, and is still applied once.

use net::peer::message::{ForwardAnswer, ForwardedCommand, PeerMessage};
use net::resp::arguments::Arguments;

use crate::batch::{OWN_REQUEST_ID, REQUEST_ID_SIZE_MAX, decode_reply};
use crate::context::{Context, Origin};
use crate::entity::{Entity, Waiting};
use crate::errors;
use crate::request::{Command, Freshness};
use crate::state_machine::StateMachine;
use crate::time::Time;
use plog::planted;
use plog::vocabulary::{AcceptorId, EntityId, Entry};

/// A command that another replica was asked to propose.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) command: Waiting,
    pub(crate) sent_at: Time,
    to: AcceptorId,
}

impl<M: StateMachine> Entity<M> {
    /// Whether another live replica proposed here a moment ago.
    pub(super) fn should_forward(&self, context: &Context) -> bool {
        self.duel_lease.is_some_and(|(peer, seen)| {
            context.is_up(peer) && context.now < seen.after_us(context.config.duel_lease_us)
        })
    }

    /// Hands the commands over, but for those that must stay; these are proposed here later.
    pub(super) fn forward(&mut self, context: &mut Context, commands: Vec<Waiting>) {
        let Some((to, _)) = self.duel_lease else { return };
        let mut kept = Vec::new();
        for mut command in commands {
            if command.keep {
                kept.push(command);
                continue;
            }
            let forward = context.new_forward();
            let request_id =
                command.request_id.get_or_insert_with(|| own_request_id(context, forward));
            let (deadline, arguments) = (command.deadline, &command.arguments);
            let message =
                forwarded_command(context, forward, self.id, request_id, deadline, arguments);
            context.counters.forwarded += 1;
            context.send(to, PeerMessage::Forward(message));
            let sent_at = context.now;
            self.forwarded.insert(forward, Forwarded { command, sent_at, to });
            self.wake_by(context, sent_at.after_us(2 * context.config.retry_us));
        }
        if !kept.is_empty() {
            // Others' commands are never handed on: they are proposed here, after a random pause.
            self.back_off_until =
                context.now.after_us(1 + context.random.below(context.config.back_off_us));
            self.duel_lease = None;
            self.put_back(kept);
            self.wake_by(context, self.back_off_until);
        }
    }

    /// A peer's client wants this; the peer sees this node propose.
    pub(crate) fn handle_forward(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        message: &ForwardedCommand,
    ) {
        let id = &message.request_id;
        let refused = self.has_diverged()
            || context.log_full.is_some()
            || context.commands_held >= context.config.waiting_commands_max
            || id.is_empty()
            || id.len() > REQUEST_ID_SIZE_MAX
            || message.arguments.is_empty();
        if refused {
            let forward = message.forward;
            let (entity, entry) = (self.id, Entry::ZERO);
            let answer = ForwardAnswer { forward, entity, reply: None, entry };
            context.send(from, PeerMessage::ForwardAnswer(answer));
            return;
        }
        let origin = Origin::Forwarded { from, forward: message.forward, entity: self.id };
        let mut arguments = Arguments::default();
        for argument in &message.arguments {
            arguments.push(argument);
        }
        let command = Command {
            arguments,
            request_id: Some(id.clone().into_boxed_slice()),
            freshness: Freshness::Linearizable,
        };
        let patience = message.patience_us.min(context.config.request_timeout_us);
        let deadline = context.now.after_us(patience);
        self.handle_command_until(context, origin, command, deadline);
    }

    pub(crate) fn handle_forward_answer(
        &mut self,
        context: &mut Context,
        from: AcceptorId,
        answer: &ForwardAnswer,
    ) {
        let is_asked = self.forwarded.get(&answer.forward).is_some_and(|asked| asked.to == from);
        if !is_asked {
            return; // answered, or taken back, before
        }
        let asked = self.forwarded.remove(&answer.forward).expect("just seen");
        let reply = answer.reply.as_deref().and_then(decode_reply);
        match reply {
            // The other replica could not get it done: it may still be done here. If it was
            // proposed there, the request id keeps it from being applied twice.
            Some(reply) if !errors::is_transient(&reply) => {
                context.reply(asked.command.origin, reply, answer.entry);
            }
            // Even a refusal may be of a repeated frame, and the first copy still be under way.
            Some(_) | None => self.take_back(context, asked.command),
        }
        self.drive(context);
    }

    fn take_back(&mut self, context: &mut Context, mut command: Waiting) {
        command.keep = true;
        command.exposed = true;
        self.duel_lease = None;
        self.wake_by(context, command.deadline);
        self.waiting.push_back(command);
    }

    pub(super) fn retry_forwarded(&mut self, context: &mut Context) {
        let patience = 2 * context.config.retry_us;
        let now = context.now;
        let silent = |_: &u64, asked: &mut Forwarded| asked.sent_at.after_us(patience) <= now;
        let late: Vec<_> = self.forwarded.extract_if(.., silent).collect();
        for (_, asked) in late {
            context.counters.retries += 1;
            self.take_back(context, asked.command);
        }
    }

    pub(super) fn expire_forwarded(&mut self, context: &mut Context) {
        let now = context.now;
        let expired = |_: &u64, asked: &mut Forwarded| asked.command.deadline <= now;
        let late: Vec<_> = self.forwarded.extract_if(.., expired).collect();
        for (_, asked) in late {
            context.counters.unknown += 1;
            context.refuse(asked.command.origin, errors::unknown());
        }
    }
}

/// The message that hands a command to another replica.
pub(crate) fn forwarded_command(
    context: &Context,
    forward: u64,
    entity: EntityId,
    request_id: &[u8],
    deadline: Time,
    arguments: &Arguments,
) -> ForwardedCommand {
    ForwardedCommand {
        forward,
        entity,
        request_id: request_id.to_vec(),
        patience_us: deadline.since_us(context.now),
        arguments: arguments.iter().map(<[u8]>::to_vec).collect(),
    }
}

/// A request id for a command that came without one: the mark, acceptor, boot epoch, core, counter.
pub(crate) fn own_request_id(context: &Context, forward: u64) -> Box<[u8]> {
    let mut id = Vec::with_capacity(16);
    id.push(OWN_REQUEST_ID);
    id.push(context.me().0);
    if !planted!("forward-id-not-unique") {
        id.extend_from_slice(&context.config.epoch.0.to_le_bytes());
    }
    id.extend_from_slice(&context.config.core.to_le_bytes());
    let forward = if planted!("forward-id-not-unique") { forward & 3 } else { forward };
    id.extend_from_slice(&forward.to_le_bytes());
    id.into_boxed_slice()
}
