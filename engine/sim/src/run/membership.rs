//! An operator who has nodes join, leave and replace each other, through whatever node is up.
//!
//! A goal takes several changes. Each is asked for until it took effect, at another node each time,
//! so that two goals under way are two operators who know nothing of each other.

use engine::membership::MembershipRefused;
use plog::configuration::{Change, Configuration};
use plog::vocabulary::AcceptorId;

use crate::checkers::Violation;
use crate::run::{CONVERGES_WITHIN_US, Run};

/// Goals under way at a time.
const GOALS_MAX: usize = 2;

/// How often a change is asked for, in microseconds.
const ASKS_EVERY_US: u64 = 8_000;

/// A goal that was not reached is given up after this time, in microseconds.
const PATIENCE_US: u64 = 600_000;

/// What an operator wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Goal {
    /// Who is to vote, and to be no member.
    joins: Option<AcceptorId>,
    leaves: Option<AcceptorId>,
    /// When it asks next, and when it gives up.
    asks_at: u64,
    until: u64,
}

impl Goal {
    /// The next change towards it; `None` when it is reached.
    fn next(&self, present: &Configuration) -> Option<Change> {
        if let Some(joins) = self.joins
            && !present.voters.contains(joins)
        {
            let is_learner = present.learners.contains(joins);
            return Some(if is_learner {
                Change::Promote(joins)
            } else {
                Change::AddLearner(joins)
            });
        }
        let leaves = self.leaves.filter(|leaves| present.members().contains(*leaves))?;
        Some(Change::Remove(leaves))
    }
}

impl Run<'_> {
    /// An operator wants something of `node`: that it joins, leaves, or makes way for another.
    pub(super) fn want(&mut self, node: u8, other: u8, chance: u64) {
        let present = self.world.newest_configuration();
        let (one, two) = (AcceptorId(node), AcceptorId(other));
        let (joins, leaves) = match (present.voters.contains(one), present.voters.contains(two)) {
            (false, true) if !chance.is_multiple_of(3) => (Some(one), Some(two)),
            (false, _) => (Some(one), None),
            (true, false) if !chance.is_multiple_of(3) => (Some(two), Some(one)),
            (true, _) if present.voters.count() > 3 => (None, Some(one)),
            // Now and then two or one are left.
            (true, _) if present.voters.count() > 1 && chance.is_multiple_of(5) => {
                (None, Some(one))
            }
            (true, _) => return,
        };
        let now = self.world.now();
        if self.goals.len() < GOALS_MAX {
            self.goals.push(Goal { joins, leaves, asks_at: now, until: now + PATIENCE_US });
        }
    }

    /// Asks for the next change of every goal, at a node that is up.
    pub(super) fn pursue(&mut self) {
        let now = self.world.now();
        let mut goals = std::mem::take(&mut self.goals);
        goals.retain_mut(|goal| {
            if goal.asks_at > now {
                return true;
            }
            goal.asks_at = now + ASKS_EVERY_US;
            goal.until > now && self.pursue_one(goal)
        });
        self.goals = goals;
    }

    /// Asks for the next change of a goal. False when it is reached, or cannot be.
    fn pursue_one(&mut self, goal: &Goal) -> bool {
        let nodes = u64::from(self.world.node_count());
        let node = u8::try_from(self.members_random.below(nodes)).expect("few nodes");
        if !self.world.is_up(node) {
            return true;
        }
        // The operator sees what this node sees.
        let present = self.world.configuration_of(node);
        let Some(change) = goal.next(&present) else {
            return goal.next(&self.world.newest_configuration()).is_some();
        };
        if let Change::Remove(_) = change
            && !self.leaves_enough(&present, change)
        {
            return true;
        }
        match self.world.change_membership(node, change) {
            Ok(_) | Err(MembershipRefused::NotSettled { .. }) => true,
            Err(MembershipRefused::UnderWay { .. } | MembershipRefused::LearnerBehind { .. }) => {
                true
            }
            Err(MembershipRefused::NotAVoter { .. }) => true,
            // Another operator was faster.
            Err(MembershipRefused::Change { .. } | MembershipRefused::Static) => false,
        }
    }

    /// Whether those who would vote then can make up for what some of them lost.
    fn leaves_enough(&self, present: &Configuration, change: Change) -> bool {
        let Ok(next) = present.after(change, self.world.node_count()) else { return true };
        let lossy = next.members().iter().filter(|member| !self.world.is_whole_member(member.0));
        lossy.count() <= (next.voters.count() - 1) / 2
    }

    /// Whether a node may lose its disks: also when a voter is removed meanwhile, no more than a
    /// minority has something to make up for. Until the voters have heard of the last change, that
    /// is so in the configurations before it, too: of two voters of which one is removed, that one
    /// may be the only one to know.
    pub(super) fn members_may_lose(&self, node: u8) -> bool {
        // A majority of all nodes, members or not, has to register it.
        let others = (0..self.world.node_count()).filter(|other| *other != node);
        let unregistered = others.filter(|other| !self.world.is_whole(*other)).count();
        let is_registered = unregistered < usize::from(self.world.node_count() / 2);
        let in_force = self.world.configurations_in_force();
        self.world.is_whole(node)
            && is_registered
            && in_force.iter().all(|present| self.may_lose_in(present, node))
    }

    fn may_lose_in(&self, present: &Configuration, node: u8) -> bool {
        let is_lossy =
            |member: &AcceptorId| member.0 == node || !self.world.is_whole_member(member.0);
        let lossy = present.members().iter().filter(is_lossy).count();
        let tolerated = present.voters.count().saturating_sub(2) / 2;
        !present.members().contains(AcceptorId(node)) || lossy <= tolerated
    }

    /// With nothing in the way all members come to go by the newest configuration, settle it, and
    /// have one more change decided.
    pub(super) fn membership(&mut self) -> Result<(), Violation> {
        if !self.world.changes_membership() {
            return Ok(());
        }
        self.goals.clear();
        self.all_in_step()?;
        let present = self.world.newest_configuration();
        let nodes = self.world.node_count();
        let node = u8::try_from(self.members_random.below(u64::from(nodes))).expect("few");
        let other = (node + 1) % nodes;
        self.want(node, other, u64::from(present.version));
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        while let Some(goal) = self.goals.first_mut() {
            goal.until = u64::MAX;
            self.pursue();
            self.world.advance(2_000);
            self.fine()?;
            if self.world.now() > deadline {
                let what = format!("{:?} is never reached from {present}", self.goals);
                return Err(Violation::new("liveness", what));
            }
        }
        self.all_in_step()
    }

    fn all_in_step(&mut self) -> Result<(), Violation> {
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        loop {
            self.world.advance(20_000);
            self.fine()?;
            let mut nodes = self.whole_nodes().into_iter();
            let Some(late) = nodes.find(|node| !self.world.has_settled(*node)) else {
                return Ok(());
            };
            if self.world.now() > deadline {
                let newest = self.world.newest_configuration();
                let what = format!("node {late} never settles {newest}");
                return Err(Violation::new("liveness", what));
            }
        }
    }
}
