//! What a shard wants known: made durable before anything else leaves the core, where others could
//! rest on it, and told to the operator.

use engine::abstention::Abstention;
use engine::context::Event;
use plog::vocabulary::BootEpoch;

use crate::node::known_incarnations::KnownIncarnations;
use crate::node::log_line;
use crate::reactor::fatal_reason::FatalReason;
use crate::reactor::file_driver::FileDriver;

/// See the module page. Call with all events of a turn before its messages and replies leave.
///
/// # Errors
///
/// When something cannot be made durable, or another process goes on as this node.
pub(super) fn handle_event(
    event: &Event,
    epoch: BootEpoch,
    known: &KnownIncarnations,
    files: &mut FileDriver,
) -> Result<(), FatalReason> {
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
            known.hear(member.0, *generation).map_err(|error| FatalReason::Remember { error })?;
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
        // Begun by an operator's word, which the daemon does not take yet.
        Event::Configuration(_) | Event::MembershipVotes(_) | Event::Settled { .. } => {
            unreachable!("the daemon's shards go by one configuration for ever")
        }
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
