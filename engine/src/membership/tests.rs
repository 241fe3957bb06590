use net::peer::message::{MembershipMessage, MembershipState, PeerMessage};
use plog::configuration::{Change, Configuration, Members};
use plog::identity::LogIdentity;
use plog::log::Log;
use plog::log_config::LogConfig;
use plog::vocabulary::{AcceptorId, BootEpoch};

use super::{Membership, MembershipRefused, MembershipVotes};
use crate::config::ShardConfig;
use crate::context::{Context, Event};
use crate::time::Time;

const SLOTS: u8 = 5;

struct Node {
    membership: Membership,
    context: Context,
}

/// Deciding cores that hand each other messages when they are told to.
struct Cluster {
    nodes: Vec<Node>,
    under_way: Vec<(u8, u8, MembershipMessage)>,
}

impl Cluster {
    fn new(voters: u8) -> Self {
        let node = |id| {
            let mut config = ShardConfig::new(AcceptorId(id), SLOTS, BootEpoch(1));
            (config.changes_membership, config.first_voters) = (true, voters);
            let identity =
                LogIdentity { cluster: 1, node: id, incarnation: 1, core: 0, core_count: 1 };
            let log = Log::new(LogConfig::for_identity(identity), None);
            Node { membership: Membership::default(), context: Context::new(config, log) }
        };
        Self { nodes: (0..SLOTS).map(node).collect(), under_way: Vec::new() }
    }

    fn collect(&mut self, from: u8) {
        while let Some(outgoing) = self.nodes[usize::from(from)].context.messages.pop_front() {
            let PeerMessage::Membership(message) = outgoing.message else { continue };
            self.under_way.push((from, outgoing.to.0, message));
        }
    }

    fn adopt(&mut self, node: u8, chosen: Option<Configuration>) {
        let Node { membership, context } = &mut self.nodes[usize::from(node)];
        let version = context.configuration.version;
        if let Some(chosen) = chosen.filter(|chosen| chosen.version > version) {
            context.configuration = chosen;
            membership.adopted(context);
        }
    }

    fn propose(&mut self, node: u8, change: Change) -> Result<Configuration, MembershipRefused> {
        let Node { membership, context } = &mut self.nodes[usize::from(node)];
        let (wanted, chosen) = membership.propose(context, change)?;
        self.adopt(node, chosen);
        self.collect(node);
        Ok(wanted)
    }

    /// Delivers the messages of which `which` says so, and their answers, until none is left.
    fn deliver(&mut self, which: impl Fn(u8, u8) -> bool) {
        while let Some(at) = self.under_way.iter().position(|(from, to, _)| which(*from, *to)) {
            let (from, to, message) = self.under_way.remove(at);
            let Node { membership, context } = &mut self.nodes[usize::from(to)];
            let chosen = membership.handle_message(context, AcceptorId(from), &message);
            self.adopt(to, chosen);
            self.collect(to);
        }
    }

    fn tick(&mut self, node: u8, at: u64) {
        let Node { membership, context } = &mut self.nodes[usize::from(node)];
        context.now = Time::default().after_us(at);
        let chosen = membership.handle_tick(context);
        self.adopt(node, chosen);
        self.collect(node);
    }

    fn version(&self, node: u8) -> u32 {
        self.nodes[usize::from(node)].context.configuration.version
    }
}

#[test]
fn a_majority_of_the_voters_decides_and_learners_are_not_asked() {
    let mut cluster = Cluster::new(3);
    let wanted = cluster.propose(0, Change::AddLearner(AcceptorId(3))).unwrap();
    assert!(cluster.under_way.iter().all(|(_, to, _)| *to < 3));
    cluster.deliver(|from, to| from != 2 && to != 2);
    assert_eq!(cluster.nodes[0].context.configuration, wanted);
    assert_eq!(cluster.version(1), 0, "it hears of it with whatever comes next");
}

#[test]
fn what_a_node_votes_is_told_to_be_made_durable_before_its_answer() {
    let mut cluster = Cluster::new(3);
    cluster.propose(0, Change::AddLearner(AcceptorId(3))).unwrap();
    cluster.deliver(|from, to| (from, to) == (0, 1));
    let events = &cluster.nodes[1].context.events;
    let is_promise = |event: &Event| {
        matches!(event, Event::MembershipVotes(votes) if votes.instance == 1
            && !votes.promised.is_none() && votes.accepted.is_none())
    };
    assert!(events.iter().any(is_promise), "{events:?}");
    let promises = cluster.under_way.iter().filter(|(from, ..)| *from == 1);
    assert_eq!(promises.count(), 1);
}

#[test]
fn of_two_changes_together_one_is_decided_and_nobody_hears_of_another() {
    let mut cluster = Cluster::new(3);
    let first = cluster.propose(0, Change::AddLearner(AcceptorId(3))).unwrap();
    cluster.deliver(|from, to| from + to == 1);
    assert_eq!(cluster.version(0), 1, "nodes 0 and 1 are a majority");
    // Node 2 knows nothing of it, and finds it.
    let other = cluster.propose(2, Change::AddLearner(AcceptorId(4))).unwrap();
    assert_eq!(other.version, 1);
    cluster.deliver(|from, to| from + to == 3);
    for at in 1..40 {
        cluster.tick(2, 100_000 * at);
        cluster.deliver(|from, to| from + to == 3);
    }
    assert_eq!(cluster.nodes[2].context.configuration, first);
}

#[test]
fn no_ballot_is_used_twice_in_a_boot() {
    let mut cluster = Cluster::new(3);
    // This node lost its votes, so its own promises say nothing of its ballots.
    cluster.nodes[0].membership.recover(MembershipVotes::LOST);
    let mut ballots = Vec::new();
    for round in 0..4_u64 {
        cluster.propose(0, Change::AddLearner(AcceptorId(3))).unwrap();
        for (_, _, message) in cluster.under_way.drain(..) {
            if let MembershipMessage::Prepare { ballot, .. } = message {
                ballots.push(ballot);
            }
        }
        cluster.tick(0, 6_000_000 * (round + 1));
        cluster.under_way.clear();
    }
    assert_eq!(ballots.len(), 8, "two peers each time");
    ballots.dedup();
    assert_eq!(ballots.len(), 4, "{ballots:?}");
}

#[test]
fn a_change_waits_until_a_majority_settled_the_last_one() {
    let mut cluster = Cluster::new(3);
    cluster.propose(0, Change::AddLearner(AcceptorId(3))).unwrap();
    cluster.deliver(|_, _| true);
    let present = cluster.nodes[0].context.configuration;
    for node in 1..4 {
        cluster.adopt(node, Some(present));
    }
    let next = Change::Promote(AcceptorId(3));
    let refused = cluster.propose(0, next).unwrap_err();
    let settled = Members::NONE;
    assert_eq!(refused, MembershipRefused::NotSettled { version: 1, settled, needed: 2 });
    for node in [0, 1] {
        let Node { membership, context } = &mut cluster.nodes[node];
        membership.note_settled(context, context.me(), 1);
    }
    cluster.collect(0);
    cluster.deliver(|_, _| true);
    let refused = cluster.propose(0, next).unwrap_err();
    assert_eq!(refused, MembershipRefused::LearnerBehind { node: 3 });
    let Node { membership, context } = &mut cluster.nodes[3];
    membership.note_settled(context, context.me(), 1);
    cluster.collect(0);
    cluster.deliver(|_, _| true);
    assert_eq!(cluster.propose(0, next).unwrap().voters.count(), 4);
}

#[test]
fn who_lost_its_votes_takes_over_what_a_majority_of_the_others_holds_and_has_none_before() {
    let mut cluster = Cluster::new(3);
    // Nodes 2 and 1 promised, and node 1 accepted; node 0 may have, too, and forgot it.
    let first = cluster.propose(2, Change::AddLearner(AcceptorId(3))).unwrap();
    for _ in 0..2 {
        cluster.deliver(|from, to| (from, to) == (2, 1));
        let is_promise =
            |message: &MembershipMessage| matches!(message, MembershipMessage::Promise { .. });
        cluster.under_way.retain(|(_, to, message)| *to != 0 && is_promise(message));
        cluster.deliver(|from, to| (from, to) == (1, 2));
    }
    cluster.under_way.clear();
    let accepted = cluster.nodes[1].membership.votes().accepted;
    assert_eq!(accepted.map(|(_, configuration)| configuration), Some(first));

    cluster.nodes[0].membership.recover(MembershipVotes::LOST);
    cluster.tick(0, 1);
    cluster.deliver(|from, to| from + to == 2);
    assert_eq!(cluster.nodes[0].membership.votes(), MembershipVotes::LOST, "one answered");
    let voted =
        |cluster: &Cluster| cluster.under_way.iter().filter(|(from, ..)| *from == 0).count();
    cluster.under_way.clear();
    // Without having heard of node 1 it would let another configuration be chosen.
    let other = Change::AddLearner(AcceptorId(4));
    cluster.propose(1, other).unwrap();
    cluster.deliver(|from, to| (from, to) == (1, 0));
    assert_eq!(voted(&cluster), 0, "it may have voted in instance 1");
    cluster.under_way.clear();
    cluster.tick(0, 1_000_000);
    cluster.deliver(|from, to| from + to == 1);
    let votes = cluster.nodes[0].membership.votes();
    assert_eq!((votes.instance, votes.floor), (1, Some(0)));
    assert_eq!(votes.promised, cluster.nodes[1].membership.votes().promised);
    assert_eq!(votes.accepted, accepted);
    // Nodes 0 and 1 decide alone, and what node 1 had accepted.
    cluster.tick(1, 1_000_000);
    cluster.deliver(|from, to| from + to == 1);
    assert_eq!(cluster.nodes[1].context.configuration, first);
}

#[test]
fn a_node_says_why_it_does_not_begin_a_change() {
    let mut cluster = Cluster::new(3);
    let add = Change::AddLearner(AcceptorId(3));
    let voters = Members::first(3);
    let refused = cluster.propose(4, add).unwrap_err();
    assert_eq!(refused, MembershipRefused::NotAVoter { node: 4, voters });
    cluster.propose(0, add).unwrap();
    let refused = cluster.propose(0, add).unwrap_err();
    assert_eq!(refused, MembershipRefused::UnderWay { version: 1 });
    cluster.nodes[1].context.config.changes_membership = false;
    assert_eq!(cluster.propose(1, add).unwrap_err(), MembershipRefused::Static);
    let held = Some(super::NOTHING_HELD);
    let state = MembershipState { version: 0, held, settled: true };
    assert_eq!(cluster.nodes[2].membership.state(&cluster.nodes[2].context), state);
}
