//! What an operator wants of the membership (`CERTUS MEMBER`), on core 0: one step of a change, or
//! how it stands. Waiting for the outcome is the operator's side.

use engine::membership::{DECIDING_CORE, MembershipRefused};
use engine::session::MemberOrder;
use engine::shard::StringShard;
use engine::time::Time;
use plog::configuration::{Change, Configuration, Members};
use plog::vocabulary::AcceptorId;
use serde_json::{Value, json};

use crate::node::log_line;
use crate::reactor::node_shared::NodeShared;

/// This node, as far as an order needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrderedNode<'a> {
    pub(super) core: u16,
    pub(super) node_id: u8,
    pub(super) slots: u8,
    pub(super) shared: &'a NodeShared,
}

/// Why a change was not begun.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("{0}")]
    Refused(#[from] MembershipRefused),
    #[error(
        "this node does not hear node {node}: start it first, with the same cluster_id and \
         replica_slots, an empty data directory, and the present members in its [[node]] tables"
    )]
    NotHeard { node: u8 },
    #[error(
        "without node {node} the voters are {voters}, and this node hears {heard} of them: no \
         majority would be left; start those that are down first"
    )]
    NoMajority { node: u8, voters: Members, heard: Members },
}

impl NotBegun {
    /// By which programs tell them apart.
    fn kind(&self) -> &'static str {
        match self {
            Self::Refused(MembershipRefused::Change { .. }) => "change",
            Self::Refused(MembershipRefused::Static) => "static",
            Self::Refused(MembershipRefused::UnderWay { .. }) => "under_way",
            Self::Refused(MembershipRefused::NotAVoter { .. }) => "not_a_voter",
            Self::Refused(MembershipRefused::NotSettled { .. }) => "not_settled",
            Self::Refused(MembershipRefused::LearnerBehind { .. }) => "learner_behind",
            Self::NotHeard { .. } => "not_heard",
            Self::NoMajority { .. } => "no_majority",
        }
    }
}

/// A configuration for programs.
pub(crate) fn configuration_json(configuration: &Configuration) -> Value {
    json!({
        "version": configuration.version,
        "voters": ids(configuration.voters),
        "learners": ids(configuration.learners),
    })
}

fn ids(members: Members) -> Vec<u8> {
    members.iter().map(|member| member.0).collect()
}

impl OrderedNode<'_> {
    /// Does what is wanted, on core 0, and says how the membership stands.
    pub(super) fn obey(self, now: Time, shard: &mut StringShard, order: MemberOrder) -> Value {
        if self.core != DECIDING_CORE {
            return json!({ "core": self.core });
        }
        let outcome = match order {
            MemberOrder::List => {
                shard.ask_members(now);
                Ok(None)
            }
            MemberOrder::Change(change) => self.begin(now, shard, change).map(Some),
        };
        let status = shard.membership_status();
        let mut said = json!({
            "core": self.core,
            "slots": self.slots,
            "changes": shard.config().changes_membership,
            "configuration": configuration_json(&status.configuration),
            "settled": ids(status.settled),
            "is_settled": status.is_settled,
            "under_way": status.under_way,
            "heard": ids(self.heard()),
        });
        match outcome {
            Ok(None) => {}
            Ok(Some(wanted)) => said["begun"] = json!(wanted.version),
            Err(refused) => {
                said["refused"] = json!({ "kind": refused.kind(), "text": refused.to_string() });
            }
        }
        said
    }

    fn begin(
        self,
        now: Time,
        shard: &mut StringShard,
        change: Change,
    ) -> Result<Configuration, NotBegun> {
        let heard = self.heard();
        let (present, node) = (shard.configuration(), change.member().0);
        if matches!(change, Change::AddLearner(_) | Change::Promote(_))
            && node < self.slots
            && !heard.contains(change.member())
        {
            return Err(NotBegun::NotHeard { node });
        }
        if let (Change::Remove(_), Ok(next)) = (change, present.after(change, self.slots))
            && !next.voters.is_majority(heard)
        {
            let (voters, heard) = (next.voters, next.voters.and(heard));
            return Err(NotBegun::NoMajority { node, voters, heard });
        }
        let wanted = shard.change_membership(now, change)?;
        log_line::info("a change of the members is proposed", &[("configuration", &wanted)]);
        Ok(wanted)
    }

    /// Who of the replica set is heard, this node included.
    fn heard(self) -> Members {
        let is_heard = |node: &u8| *node == self.node_id || self.shared.is_live(*node);
        let all = (0..self.slots).filter(is_heard);
        all.fold(Members::NONE, |heard, node| heard.with(AcceptorId(node)))
    }
}
