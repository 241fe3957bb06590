//! *membership*: one configuration for each version, chosen by the disks of the one before; none
//! before the last one is settled; and nobody speaks in a version before the one on its disk.
//!
//! What a core has to hold when it settled a version is what the disks had chosen when the version
//! was first adopted: only the observer knows that. That two versions which are not neighbours can
//! form majorities is read off the versions that the nodes' disks name.

use std::collections::{BTreeMap, BTreeSet};

use engine::membership::MembershipVotes;
use plog::configuration::{Configuration, Members};
use plog::log_record::LogRecord;
use plog::vocabulary::{AcceptorId, Ballot, EntityId, Entry};

use crate::checkers::agreement::Agreement;
use crate::checkers::{Boot, Table, Violation};

/// See the module page.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The configurations that were adopted, by version.
    configurations: Vec<Configuration>,
    /// Whose disks accepted a configuration at a ballot of an instance.
    votes: BTreeMap<(u32, Ballot), (Configuration, Members)>,
    /// What was chosen when a version was first adopted.
    chosen_before: Vec<Vec<(EntityId, Entry)>>,
    /// The last entry of each entity that a node's disk holds as chosen.
    held: Table<(u8, EntityId), Entry>,
    /// The version on each node's disk; none while it lost what it held.
    on_disk: BTreeMap<u8, u32>,
    /// In which version each core spoke last.
    said: BTreeMap<(u8, u16), u32>,
    /// Cores that settled a version.
    settled: BTreeSet<(u32, u8, u16)>,
    /// Cores of each node.
    cores: Vec<u16>,
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation::new("membership", what))
}

impl Membership {
    pub(super) fn new(first: Configuration, cores: &[u16]) -> Self {
        let nodes = 0..u8::try_from(cores.len()).expect("few nodes");
        Self {
            configurations: vec![first],
            votes: BTreeMap::new(),
            chosen_before: vec![Vec::new()],
            held: Table::default(),
            on_disk: nodes.map(|node| (node, 0)).collect(),
            said: BTreeMap::new(),
            settled: BTreeSet::new(),
            cores: cores.to_vec(),
        }
    }

    /// The configurations that were adopted, by version.
    #[must_use]
    pub fn configurations(&self) -> &[Configuration] {
        &self.configurations
    }

    /// The newest of them.
    #[must_use]
    pub fn newest(&self) -> Configuration {
        *self.configurations.last().expect("there is a first one")
    }

    /// Whether all cores of a node settled a version.
    #[must_use]
    pub fn has_settled(&self, node: u8, version: u32) -> bool {
        let cores = 0..self.cores[usize::from(node)];
        version == 0 || cores.into_iter().all(|core| self.settled.contains(&(version, node, core)))
    }

    /// A record is on a node's disk.
    pub(super) fn durable(&mut self, node: u8, record: &LogRecord) {
        let (entity, entry) = match record {
            LogRecord::Chosen { entity, entry, .. } => (*entity, *entry),
            LogRecord::Entry { entity, entry, record, .. } if record.chosen => (*entity, *entry),
            LogRecord::Image { entity, applied, .. } => (*entity, *applied),
            LogRecord::Entry { .. } | LogRecord::Value { .. } => return,
        };
        let held = self.held.entry((node, entity)).or_default();
        *held = entry.max(*held);
    }

    /// A core lost what it held.
    pub(super) fn lost(&mut self, node: u8, owns: impl Fn(EntityId) -> bool) {
        self.held.retain(|(of, entity), _| *of != node || !owns(*entity));
    }

    /// A node lost its disks.
    pub(super) fn wiped(&mut self, node: u8) {
        self.held.retain(|(of, _), _| *of != node);
        self.on_disk.remove(&node);
        self.said.retain(|(of, _), _| *of != node);
    }

    /// A node that lost its disks is whole again, with this version.
    pub(super) fn whole_again(&mut self, node: u8, version: u32) -> Result<(), Violation> {
        self.on_disk.insert(node, version);
        self.only_neighbours_form_majorities()
    }

    /// What a node's acceptor says is on its disk.
    pub(super) fn voted(&mut self, node: u8, votes: &MembershipVotes) -> Result<(), Violation> {
        let Some((ballot, configuration)) = votes.accepted else { return Ok(()) };
        let fresh = || (configuration, Members::NONE);
        let (value, nodes) = self.votes.entry((votes.instance, ballot)).or_insert_with(fresh);
        if *value != configuration {
            return broken(format!("{ballot:?} carries {value} and {configuration}"));
        }
        *nodes = nodes.with(AcceptorId(node));
        Ok(())
    }

    /// A node goes by a configuration, which is on its disk. Whether nobody did before.
    pub(super) fn adopted(
        &mut self,
        node: u8,
        configuration: Configuration,
        agreement: &Agreement,
    ) -> Result<(), Violation> {
        let version = configuration.version;
        let place = usize::try_from(version).expect("32 bits fit");
        if let Some(on_disk) = self.on_disk.get_mut(&node) {
            *on_disk = version.max(*on_disk);
        }
        match self.configurations.get(place) {
            Some(known) if *known == configuration => {}
            Some(known) => {
                return broken(format!("node {node} goes by {configuration}, others by {known}"));
            }
            None => self.first_adopted(node, configuration, agreement)?,
        }
        self.only_neighbours_form_majorities()
    }

    fn first_adopted(
        &mut self,
        node: u8,
        configuration: Configuration,
        agreement: &Agreement,
    ) -> Result<(), Violation> {
        let before = self.newest();
        if !configuration.follows(&before) {
            return broken(format!("node {node} goes by {configuration} after {before}"));
        }
        let version = configuration.version;
        let is_chosen = self.votes.iter().any(|((instance, _), (value, nodes))| {
            *instance == version && *value == configuration && before.voters.is_majority(*nodes)
        });
        if !is_chosen {
            return broken(format!(
                "node {node} goes by {configuration}; the disks of {} did not choose it",
                before.voters
            ));
        }
        let all = (0..).zip(&self.cores).map(|(node, _)| node);
        let settled = all.filter(|node| self.has_settled(*node, before.version));
        let settled = settled.fold(Members::NONE, |some, node| some.with(AcceptorId(node)));
        if !before.voters.is_majority(settled) {
            return broken(format!(
                "{configuration} follows {before}, which only {settled} settled"
            ));
        }
        let promoted = before.learners.and(configuration.voters);
        if promoted.and(settled) != promoted {
            return broken(format!("node {promoted} votes before it holds what was chosen"));
        }
        self.configurations.push(configuration);
        self.chosen_before.push(agreement.last_entries().collect());
        Ok(())
    }

    /// No majority can be formed in a version that is followed by two others.
    fn only_neighbours_form_majorities(&self) -> Result<(), Violation> {
        let newest = self.newest().version;
        for configuration in &self.configurations {
            let version = configuration.version;
            if version + 2 > newest {
                break;
            }
            let late = self.on_disk.iter().filter(|(_, on_disk)| **on_disk <= version);
            let late = late.fold(Members::NONE, |some, (node, _)| some.with(AcceptorId(*node)));
            if configuration.voters.is_majority(late) {
                return broken(format!(
                    "{configuration} can form a majority of {late}, and there is version {newest}"
                ));
            }
        }
        Ok(())
    }

    /// A core says that it holds all that was chosen before a version.
    pub(super) fn settled(
        &mut self,
        by: Boot,
        version: u32,
        owns: impl Fn(EntityId) -> bool,
    ) -> Result<(), Violation> {
        let place = usize::try_from(version).expect("32 bits fit");
        for (entity, entry) in &self.chosen_before[place] {
            let held = self.held.get(&(by.node, *entity)).copied().unwrap_or_default();
            if owns(*entity) && held < *entry {
                return broken(format!(
                    "{by:?} settled version {version}, and its disk holds {entity:?} up to \
                     {held:?}; {entry:?} was chosen before"
                ));
            }
        }
        self.settled.insert((version, by.node, by.core));
        Ok(())
    }

    /// A core says something in a version.
    pub(super) fn speaks(&mut self, from: Boot, version: u32) -> Result<(), Violation> {
        let said = self.said.entry((from.node, from.core)).or_default();
        if version < *said {
            return broken(format!("{from:?} speaks in version {version}, and did in {said}"));
        }
        *said = version;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine::membership::MembershipVotes;
    use plog::configuration::{Change, Configuration};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch};

    use super::Membership;
    use crate::checkers::Boot;
    use crate::checkers::agreement::Agreement;

    fn boot(node: u8) -> Boot {
        Boot { node, core: 0, start: 1 }
    }

    fn vote(membership: &mut Membership, node: u8, configuration: Configuration) {
        let ballot = Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(0) };
        let (instance, accepted) = (configuration.version, Some((ballot, configuration)));
        let votes = MembershipVotes { instance, accepted, ..MembershipVotes::NONE };
        membership.voted(node, &votes).unwrap();
    }

    /// Two changes in a row, with a majority of the first settled or not, and adopted or not.
    fn two_changes(settled: bool, adopted: bool) -> bool {
        let first = Configuration::initial(3);
        let second = first.after(Change::AddLearner(AcceptorId(3)), 5).unwrap();
        let third = second.after(Change::AddLearner(AcceptorId(4)), 5).unwrap();
        let mut membership = Membership::new(first, &[1; 5]);
        let agreement = Agreement::new(first, &[1; 5]);
        assert!(membership.adopted(0, second, &agreement).is_err(), "nobody voted for it");
        (0..2).for_each(|node| vote(&mut membership, node, second));
        membership.adopted(0, second, &agreement).unwrap();
        if adopted {
            membership.adopted(1, second, &agreement).unwrap();
        }
        if settled {
            (0..2).for_each(|node| membership.settled(boot(node), 1, |_| true).unwrap());
        }
        (0..2).for_each(|node| vote(&mut membership, node, third));
        membership.adopted(0, third, &agreement).is_ok()
    }

    #[test]
    fn a_version_after_one_that_is_not_settled_or_not_adopted_is_seen() {
        assert!(two_changes(true, true));
        assert!(!two_changes(false, true));
        assert!(!two_changes(true, false));
    }

    #[test]
    fn two_configurations_of_one_version_are_seen() {
        let first = Configuration::initial(3);
        let one = first.after(Change::AddLearner(AcceptorId(3)), 5).unwrap();
        let other = first.after(Change::AddLearner(AcceptorId(4)), 5).unwrap();
        let mut membership = Membership::new(first, &[1; 5]);
        let agreement = Agreement::new(first, &[1; 5]);
        (0..2).for_each(|node| vote(&mut membership, node, one));
        membership.adopted(0, one, &agreement).unwrap();
        assert!(membership.adopted(1, other, &agreement).is_err());
    }

    #[test]
    fn an_earlier_version_spoken_again_is_seen() {
        let mut membership = Membership::new(Configuration::initial(3), &[1; 3]);
        membership.speaks(boot(0), 2).unwrap();
        membership.speaks(boot(1), 1).unwrap();
        assert!(membership.speaks(boot(0), 1).is_err());
        membership.wiped(0);
        membership.speaks(boot(0), 0).unwrap();
    }
}
