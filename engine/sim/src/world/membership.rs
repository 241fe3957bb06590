//! Who votes: what nodes keep of it on their disks, and what an operator asks for.

use engine::membership::{MembershipRefused, MembershipVotes};
use engine::shard::StringShard;
use net::resp::slot::shard_of;
use plog::configuration::{Change, Configuration};

use crate::checkers::Boot;
use crate::trace::What;
use crate::world::{CoreId, World};

/// What a node's disk holds of the membership.
#[derive(Clone, Copy, Debug)]
pub(super) struct MembershipFacts {
    pub(super) configuration: Configuration,
    pub(super) votes: MembershipVotes,
}

impl World {
    /// Whether who votes may change in this world.
    #[must_use]
    pub fn changes_membership(&self) -> bool {
        self.config.membership.is_some()
    }

    /// The newest configuration that anybody goes by.
    #[must_use]
    pub fn newest_configuration(&self) -> Configuration {
        self.checker.membership.newest()
    }

    /// Whether a node holds all it ever held, its votes on the next configuration included: one
    /// that lost its disks asks the others what they hold of it, and has no vote before it knows.
    #[must_use]
    pub fn is_whole_member(&self, node: u8) -> bool {
        let knows = self.nodes[usize::from(node)].membership.votes.floor.is_some();
        self.is_whole(node) && knows
    }

    /// The configurations by which its voters may still decide: the newest, and the earlier ones by
    /// which a voter of it goes. Who is needed in any of them is needed.
    #[must_use]
    pub fn configurations_in_force(&self) -> Vec<Configuration> {
        let newest = self.newest_configuration();
        let on_disk = newest.voters.iter().map(|voter| self.configuration_of(voter.0));
        let mut all: Vec<Configuration> = on_disk.chain([newest]).collect();
        all.sort_by_key(|configuration| configuration.version);
        all.dedup();
        all
    }

    /// The configuration that a node's disk holds.
    #[must_use]
    pub fn configuration_of(&self, node: u8) -> Configuration {
        self.nodes[usize::from(node)].membership.configuration
    }

    /// Whether a node is a member in the newest configuration.
    #[must_use]
    pub fn is_member(&self, node: u8) -> bool {
        let members = self.newest_configuration().members();
        members.contains(plog::vocabulary::AcceptorId(node))
    }

    /// Asks a running node for a change of the membership.
    ///
    /// # Errors
    ///
    /// When the node refuses.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn change_membership(
        &mut self,
        node: u8,
        change: Change,
    ) -> Result<Configuration, MembershipRefused> {
        let result = self.with_shard(CoreId { node, core: 0 }, |shard, now| {
            shard.change_membership(now, change)
        });
        match &result {
            Ok(_) => self.coverage.changes_proposed += 1,
            Err(MembershipRefused::NotSettled { .. }) => self.coverage.changes_unsettled += 1,
            Err(MembershipRefused::LearnerBehind { .. }) => self.coverage.learners_behind += 1,
            Err(_) => {}
        }
        result
    }

    /// A core goes by a later configuration: it is made durable, and told the node's other cores.
    pub(super) fn adopt(&mut self, id: CoreId, boot: Boot, configuration: Configuration) {
        let facts = &mut self.nodes[usize::from(id.node)].membership;
        let is_news = configuration.is_news_to(&facts.configuration);
        if is_news {
            facts.configuration = configuration;
        }
        let version = configuration.version;
        self.trace.note(self.now, What::Adopted { node: id.node, version });
        let before = self.newest_configuration();
        let adopted = self.checker.adopted(boot, configuration);
        self.note(adopted);
        if configuration.version > before.version {
            self.note_change(before, configuration);
        }
        if !is_news {
            return;
        }
        let now = self.clock_of(id.node);
        for other in self.core_ids(id.node) {
            if other != id
                && let Some(shard) = self.core(other).shard.as_mut()
            {
                shard.handle_configuration(now, configuration);
                self.pump(other);
            }
        }
    }

    fn note_change(&mut self, before: Configuration, after: Configuration) {
        let (had, has) = (before.voters.count(), after.voters.count());
        self.coverage.configurations += 1;
        self.coverage.voters_added += u64::from(has > had);
        self.coverage.voters_removed += u64::from(has < had);
        self.coverage.even_voters += u64::from(has.is_multiple_of(2));
        self.coverage.few_voters += u64::from(has < 3);
        let all = (0..self.node_count()).map(plog::vocabulary::AcceptorId);
        let gone =
            all.filter(|node| before.members().contains(*node) && !after.members().contains(*node));
        let removed_down = gone.filter(|node| !self.is_up(node.0)).count();
        self.coverage.removed_while_down += u64::try_from(removed_down).expect("few");
    }

    /// A node's votes on the membership are on its disk.
    pub(super) fn keep_membership_votes(&mut self, id: CoreId, votes: MembershipVotes) {
        self.nodes[usize::from(id.node)].membership.votes = votes;
        let voted = self.checker.voted(id.node, &votes);
        self.note(voted);
    }

    /// A core settled a version; when all of its node did, the deciding one is told.
    pub(super) fn settle(&mut self, id: CoreId, boot: Boot, version: u32) {
        let cores = self.nodes[usize::from(id.node)].core_count();
        let owns = |entity| shard_of(entity, cores) == id.core;
        let settled = self.checker.settled(boot, version, owns);
        self.note(settled);
        self.coverage.configurations_settled += 1;
        self.core(id).settled = Some((boot.start, version));
        let ids = self.core_ids(id.node);
        let all = ids.iter().all(|id| self.core(*id).settled == Some((boot.start, version)));
        let now = self.clock_of(id.node);
        if let Some(shard) = self.core(ids[0]).shard.as_mut().filter(|_| all) {
            shard.handle_node_settled(now, version);
        }
    }

    /// Whether a node that runs goes by the newest configuration and has settled it.
    #[must_use]
    pub fn has_settled(&self, node: u8) -> bool {
        let newest = self.newest_configuration();
        let cores = &self.nodes[usize::from(node)].cores;
        cores.iter().filter_map(|core| core.shard.as_ref()).all(|shard: &StringShard| {
            let status = shard.status();
            status.configuration == u64::from(newest.version) && status.settling_left == 0
        })
    }
}
