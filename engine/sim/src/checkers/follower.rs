//! *follower*: who has no vote gives none, whatever it is asked: not on its disk, where a vote
//! begins, and not in a message.

use net::peer::message::PeerMessage;
use plog::log_record::LogRecord;

use crate::checkers::{Boot, Violation};

/// See the module page.
#[derive(Clone, Debug, Default)]
pub(super) struct Follower {
    replicas: usize,
}

impl Follower {
    pub(super) fn new(replicas: usize) -> Self {
        Self { replicas }
    }

    fn is_one(&self, node: u8) -> bool {
        usize::from(node) >= self.replicas
    }

    /// A record reached the disk of a node.
    pub(super) fn durable(&self, node: u8, record: &LogRecord) -> Result<(), Violation> {
        let LogRecord::Entry { entity, entry, record, .. } = record else { return Ok(()) };
        if record.chosen || !self.is_one(node) {
            return Ok(());
        }
        let what =
            format!("node {node} has no vote and gives one: {entity:?} {entry:?} {record:?}");
        Err(Violation::new("follower", what))
    }

    /// A message leaves a core.
    pub(super) fn message(&self, from: Boot, message: &PeerMessage) -> Result<(), Violation> {
        let asks = match message {
            PeerMessage::Follow(_)
            | PeerMessage::Sweep(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_)
            | PeerMessage::SweepHint
            | PeerMessage::Heartbeat
            | PeerMessage::Generations(_)
            | PeerMessage::Configuration(_) => true,
            PeerMessage::Entry(_)
            | PeerMessage::Chosen(_)
            | PeerMessage::Newer(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::ReadAnswer(_)
            | PeerMessage::CatchUpAnswer(_)
            | PeerMessage::Image(_)
            | PeerMessage::Forward(_)
            | PeerMessage::ForwardAnswer(_)
            | PeerMessage::SweepAnswer(_)
            | PeerMessage::Lag(_)
            | PeerMessage::LagAnswer(_)
            | PeerMessage::Transfer(_)
            | PeerMessage::TransferPage(_)
            | PeerMessage::Compared(_)
            | PeerMessage::Finish(_)
            | PeerMessage::FollowAnswer(_)
            | PeerMessage::Told(_)
            | PeerMessage::Membership(_) => false,
        };
        if asks || !self.is_one(from.node) {
            return Ok(());
        }
        Err(Violation::new("follower", format!("{from:?} has no say, and says {message:?}")))
    }
}

#[cfg(test)]
mod tests {
    use net::peer::message::{FollowRequest, NewerNotice, PeerMessage};
    use plog::entry_record::EntryRecord;
    use plog::log_record::{LogRecord, LoggedValue};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

    use super::Follower;
    use crate::checkers::Boot;

    #[test]
    fn a_vote_or_a_word_of_a_follower_is_seen_and_a_replica_s_is_not() {
        let follower = Follower::new(3);
        let (entity, entry) = (EntityId(1), Entry(1));
        let ballot = Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(1) };
        let originator = AcceptorId(1);
        let value_id = Some(ValueId { originator, epoch: BootEpoch(1), counter: 1 });
        for chosen in [false, true] {
            let accepted = EntryRecord { accepted: ballot, value_id, ..EntryRecord::default() };
            let record = EntryRecord { promised: ballot, chosen, ..accepted };
            let value = LoggedValue::Earlier;
            let record = LogRecord::Entry { entity, entry, record, value };
            follower.durable(2, &record).unwrap();
            assert_eq!(follower.durable(3, &record).is_ok(), chosen);
        }
        let newer = PeerMessage::Newer(NewerNotice { entity, max_chosen: entry });
        let follow = PeerMessage::Follow(FollowRequest { number: 1, stream: None, core_count: 1 });
        let boot = Boot { node: 3, core: 0, start: 1 };
        follower.message(Boot { node: 2, ..boot }, &newer).unwrap();
        follower.message(boot, &follow).unwrap();
        assert_eq!(follower.message(boot, &newer).unwrap_err().invariant, "follower");
    }
}
