//! What a shard wants known: made durable before anything else leaves the core, where others could
//! rest on it, and told to the operator.

use std::sync::atomic::Ordering;

use engine::abstention::Abstention;
use engine::context::Event;
use plog::configuration::Configuration;
use plog::vocabulary::{AcceptorId, BootEpoch};

use crate::node::config::FOLLOWER_ID_FIRST;
use crate::node::known_incarnations::KnownIncarnations;
use crate::node::known_membership::{KnownMembership, MembershipFileError};
use crate::node::log_line;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::file_driver::FileDriver;
use crate::reactor::node_shared::CoreCounters;

/// What the node knows durably, and this core publishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) incarnations: &'a KnownIncarnations,
    pub(super) membership: Option<&'a KnownMembership>,
    pub(super) counters: &'a CoreCounters,
    pub(super) node_id: u8,
}

/// See the module page. Call with all events of a turn before its messages and replies leave.
///
/// # Errors
///
/// When something cannot be made durable, or another process goes on as this node.
pub(super) fn handle_event(
    event: &Event,
    epoch: BootEpoch,
    known: &Known<'_>,
    files: &mut FileDriver,
) -> Result<(), FatalReason> {
    let incarnations = known.incarnations;
    match event {
        Event::Diverged { entity, entry, reason } => log_line::error(
            "an entity's history differs from a peer's; it is not served here",
            &[
                ("entity", &format_args!("{:016x}", entity.0)),
                ("entry", &entry.0),
                ("reason", reason),
            ],
        ),
        Event::Healed { entity, entry, was_right } => log_line::warn(
            "an entity's history is that of a majority; it is served here again",
            &[
                ("entity", &format_args!("{:016x}", entity.0)),
                ("entry", &entry.0),
                ("copy", if *was_right { &"its own" } else { &"a peer's" }),
            ],
        ),
        Event::ImageLost { entity, at } => log_line::error(
            "an entity's image cannot be read back; others serve it until it is taken from them",
            &[
                ("entity", &format_args!("{:016x}", entity.0)),
                ("reason", &Abstention::of_unreadable(epoch, *at)),
            ],
        ),
        Event::Unreadable { entity, at } => {
            files.note_loss(Abstention::of_unreadable(epoch, *at));
            log_line::error(
                "an entity cannot be read back from the log; it abstains, others serve it; after \
                 the next start this core rejoins with another log",
                &[("entity", &format_args!("{:016x}", entity.0))],
            );
        }
        Event::Generation { member, generation } => {
            incarnations
                .hear(member.0, *generation)
                .map_err(|error| FatalReason::Remember { error })?;
            log_line::info(
                "a node goes on as a later generation: it lost what it may have promised, and \
                 votes of earlier ones do not count any more",
                &[("node", &member.0), ("generation", &generation.0)],
            );
        }
        Event::Superseded { by } => return Err(FatalReason::Superseded { by: *by }),
        Event::Swept { entities } => log_line::info(
            "the others told this core what it must not vote on; it catches up",
            &[("entities", entities)],
        ),
        Event::InStep { member, core, entities } => log_line::info(
            "in step with a core of a peer again: what was missing here is durable",
            &[("node", &member.0), ("core", core), ("entities", entities)],
        ),
        Event::ChainDiffers { entity, entry, member } => log_line::warn(
            "a peer's history of an entity differs from the one here; a majority of the others \
             decides who stops serving it",
            &[
                ("entity", &format_args!("{:016x}", entity.0)),
                ("entry", &entry.0),
                ("node", &member.0),
            ],
        ),
        Event::Follows { replica: Some(replica) } => {
            log_line::info("this core follows a replica", &[("node", &replica.0)]);
        }
        Event::Follows { replica: None } => log_line::warn(
            "this core finds no replica to follow: what it holds grows stale; it goes on looking",
            &[],
        ),
        Event::BegunAnew => {
            files.note_rejoined(epoch);
            log_line::info(
                "this core has another log, and what was put aside of the lost one is deleted",
                &[],
            );
        }
        Event::Configuration(_)
        | Event::MembershipVotes(_)
        | Event::Settled { .. }
        | Event::ConfigurationDiffers { .. } => handle_membership_event(event, known)?,
        Event::Rejoined => {
            files.note_rejoined(epoch);
            log_line::info(
                "this core has rejoined: it votes on everything again, and what was put aside of \
                 an earlier log is deleted",
                &[],
            );
        }
    }
    Ok(())
}

/// The same, of what concerns the membership.
fn handle_membership_event(event: &Event, known: &Known<'_>) -> Result<(), FatalReason> {
    let Known { membership, counters, node_id, .. } = *known;
    match event {
        Event::Configuration(configuration) => {
            let is_new = remember(membership, |known| known.adopt(*configuration))?;
            if is_new {
                tell_members(configuration, node_id);
            }
        }
        Event::MembershipVotes(votes) => {
            remember(membership, |known| known.vote(*votes))?;
        }
        Event::Settled { version } => {
            // Only then the others hear of it: what it rests on is durable.
            counters.settled.store(u64::from(*version) + 1, Ordering::Release);
            log_line::info(
                "this core holds what was chosen before this version of the membership",
                &[("version", version)],
            );
        }
        Event::ConfigurationDiffers { member, theirs } => log_line::error(
            "a node names other members in the same version, and is not heard: they were started \
             with different [[node]] tables; stop the one that is wrong, empty its data directory, \
             and correct its configuration",
            &[("node", &member.0), ("its_members", theirs)],
        ),
        _ => {}
    }
    Ok(())
}

/// Keeps something of the membership, before anything leaves that rests on it.
fn remember<T>(
    membership: Option<&KnownMembership>,
    keep: impl FnOnce(&KnownMembership) -> Result<T, MembershipFileError>,
) -> Result<T, FatalReason> {
    let known = membership.expect("members change only where that is known");
    keep(known).map_err(|error| FatalReason::Membership { error })
}

/// Says who the members are now, and what that means for this node.
fn tell_members(configuration: &Configuration, node_id: u8) {
    let own = AcceptorId(node_id);
    let fields: [(&str, &dyn std::fmt::Display); 1] = [("configuration", configuration)];
    if configuration.members().contains(own) {
        log_line::info("who the members are changed", &fields);
    } else if is_follower(node_id) {
        log_line::info("whom this follower may follow changed", &fields);
    } else {
        log_line::warn(
            "this node is no member: it serves nothing and votes on nothing; stop it if it was \
             removed",
            &fields,
        );
    }
}

fn is_follower(node_id: u8) -> bool {
    node_id >= FOLLOWER_ID_FIRST
}
