//! *agreement*, *ballot-unique* and the content of values: one value per entry, one value per
//! ballot, one content per value.
//!
//! Chosen is what a majority of disks accepted at one ballot, in one version of the membership,
//! whoever knows it.

use std::collections::BTreeMap;
use std::rc::Rc;

use net::peer::message::{ChosenEntry, LagAnswer, LagFound, LaggingEntity, PeerMessage};
use net::resp::slot::shard_of;
use plog::configuration::Configuration;
use plog::log_record::{LogRecord, LoggedValue};
use plog::vocabulary::{Ballot, EntityId, Entry, ValueId};

use crate::checkers::votes::{Known, Votes};
use crate::checkers::{Table, Violation};

/// See the module page.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// The configurations there were, by version.
    configurations: Vec<Configuration>,
    /// Cores of each node.
    cores: Vec<u16>,
    /// The version of each core; 0 where it is not named.
    goes_by: BTreeMap<(u8, u16), u32>,
    /// At which ballots each node accepted an entry that its disk does not hold as chosen.
    votes: BTreeMap<(u8, EntityId, Entry), Vec<Ballot>>,
    /// The value of each ballot, and whose disks accepted it.
    ballots: Table<(EntityId, Entry, Ballot), (ValueId, Votes)>,
    /// A value is named within its entity: the cores of a node count for themselves.
    values: Table<(EntityId, ValueId), Rc<[u8]>>,
    chosen: BTreeMap<EntityId, EntityHistory>,
    /// Nodes that were made to pretend another history, one bit each: their chains are not
    /// compared.
    pub(crate) pretenders: u8,
}

/// What is chosen of one entity.
#[derive(Clone, Debug, Default)]
struct EntityHistory {
    chosen: BTreeMap<Entry, ValueId>,
    /// The checksum chain at entries 1, 2, …, as far as they are chosen without a hole.
    chains: Vec<u32>,
}

impl Agreement {
    pub(super) fn new(first: Configuration, cores: &[u16]) -> Self {
        Self { configurations: vec![first], cores: cores.to_vec(), ..Self::default() }
    }

    /// The configurations there were, by version.
    pub(super) fn configurations(&self) -> &[Configuration] {
        &self.configurations
    }

    /// There is a later configuration.
    pub(super) fn learn_configuration(&mut self, configuration: Configuration) {
        if configuration.version > self.configurations[self.configurations.len() - 1].version {
            self.configurations.push(configuration);
        }
    }

    /// The version by which a core goes.
    #[must_use]
    pub fn version_of(&self, node: u8, core: u16) -> u32 {
        self.goes_by.get(&(node, core)).copied().unwrap_or_default()
    }

    fn version_for(&self, node: u8, entity: EntityId) -> u32 {
        self.version_of(node, shard_of(entity, self.cores[usize::from(node)]))
    }

    /// A core goes by this version: what it accepted in an entry that it does not know to be chosen
    /// counts in it, too.
    pub(super) fn goes_by(&mut self, node: u8, core: u16, version: u32) -> Result<(), Violation> {
        if self.goes_by.insert((node, core), version).unwrap_or_default() >= version {
            return Ok(());
        }
        let cores = self.cores[usize::from(node)];
        let is_here = |entity| shard_of(entity, cores) == core;
        let votes: Vec<(EntityId, Entry, Ballot)> = (self.votes.iter())
            .filter(|((of, entity, _), _)| *of == node && is_here(*entity))
            .flat_map(|((_, entity, entry), ballots)| {
                ballots.iter().map(|ballot| (*entity, *entry, *ballot))
            })
            .collect();
        votes.into_iter().try_for_each(|vote| self.judge(vote))
    }

    /// A core lost what it held; its votes go on counting where they were seen.
    pub(super) fn lost(&mut self, node: u8, owns: impl Fn(EntityId) -> bool) {
        let lost: Vec<(EntityId, Entry)> = (self.votes.keys())
            .filter(|(of, entity, _)| *of == node && owns(*entity))
            .map(|(_, entity, entry)| (*entity, *entry))
            .collect();
        for (entity, entry) in lost {
            self.votes_no_more(node, entity, entry);
        }
    }

    /// A node's disk holds an entry as chosen, or nothing of it any more.
    fn votes_no_more(&mut self, node: u8, entity: EntityId, entry: Entry) {
        let ballots = self.votes.remove(&(node, entity, entry)).unwrap_or_default();
        let version = self.version_for(node, entity);
        for ballot in ballots {
            if let Some((_, votes)) = self.ballots.get_mut(&(entity, entry, ballot)) {
                votes.end(node, version);
            }
        }
    }

    /// A record reached the disk of a node that knew the others' generations so.
    pub(super) fn durable(
        &mut self,
        node: u8,
        known: &Known,
        version: u32,
        record: &LogRecord,
    ) -> Result<(), Violation> {
        match record {
            LogRecord::Entry { entity, entry, record, value } => {
                if let (LoggedValue::Inline(bytes), Some(id)) = (value, record.value_id) {
                    self.value(*entity, id, bytes)?;
                }
                let Some(id) = record.value_id else { return Ok(()) };
                if record.chosen {
                    self.votes_no_more(node, *entity, *entry);
                    return self.said_to_be_chosen(node, *entity, *entry, id);
                }
                self.accepted(node, (known, version), (*entity, *entry, record.accepted), id)
            }
            LogRecord::Value { entity, value_id, bytes, .. } => {
                self.value(*entity, *value_id, bytes)
            }
            LogRecord::Chosen { entity, entry, value_id, chain, .. } => {
                self.votes_no_more(node, *entity, *entry);
                self.said_to_be_chosen(node, *entity, *entry, *value_id)?;
                self.chain_is(node, *entity, *entry, *chain)
            }
            LogRecord::Image { entity, applied, chain, .. } => {
                let closed = (node, *entity, Entry::ZERO)..=(node, *entity, *applied);
                let closed: Vec<Entry> =
                    self.votes.range(closed).map(|((_, _, entry), _)| *entry).collect();
                closed.into_iter().for_each(|entry| self.votes_no_more(node, *entity, entry));
                self.chain_is(node, *entity, *applied, *chain)
            }
        }
    }

    fn accepted(
        &mut self,
        node: u8,
        (known, version): (&Known, u32),
        (entity, entry, ballot): (EntityId, Entry, Ballot),
        id: ValueId,
    ) -> Result<(), Violation> {
        self.ballot(entity, entry, ballot, id)?.add(node, known, version);
        let ballots = self.votes.entry((node, entity, entry)).or_default();
        if !ballots.contains(&ballot) {
            ballots.push(ballot);
        }
        self.judge((entity, entry, ballot))
    }

    /// Whether a majority holds a ballot in one version: then its value is chosen.
    fn judge(
        &mut self,
        (entity, entry, ballot): (EntityId, Entry, Ballot),
    ) -> Result<(), Violation> {
        let Some((id, votes)) = self.ballots.get(&(entity, entry, ballot)) else { return Ok(()) };
        let id = *id;
        if !votes.are_majority(&self.configurations, |node| self.version_for(node, entity)) {
            return Ok(());
        }
        let history = self.chosen.entry(entity).or_default();
        match history.chosen.insert(entry, id) {
            Some(before) if before != id => {
                let what = format!("{entity:?} {entry:?}: {before:?} was chosen, and now {id:?}");
                return Err(Violation::new("agreement", what));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        // Extend the chain over whatever has become contiguous.
        let mut next = Entry(history.chains.len() as u64 + 1);
        while let Some(id) = history.chosen.get(&next) {
            let Some(value) = self.values.get(&(entity, *id)) else {
                let what = format!("{entity:?} {next:?}: no disk holds the bytes of {id:?}");
                return Err(Violation::new("agreement", what));
            };
            let before = history.chains.last().copied().unwrap_or(0);
            history.chains.push(engine::chain::extend(before, value));
            next = next.next();
        }
        Ok(())
    }

    /// The nodes that accepted a ballot, for its one value.
    fn ballot(
        &mut self,
        entity: EntityId,
        entry: Entry,
        ballot: Ballot,
        id: ValueId,
    ) -> Result<&mut Votes, Violation> {
        let (known, votes) =
            self.ballots.entry((entity, entry, ballot)).or_insert_with(|| (id, Votes::default()));
        if *known != id {
            let what = format!("{entity:?} {entry:?} {ballot:?} carries {known:?} and {id:?}");
            return Err(Violation::new("ballot-unique", what));
        }
        Ok(votes)
    }

    fn value(&mut self, entity: EntityId, id: ValueId, bytes: &Rc<[u8]>) -> Result<(), Violation> {
        let known = self.values.entry((entity, id)).or_insert_with(|| Rc::clone(bytes));
        if known != bytes {
            let what = format!("{id:?} has {} bytes here and {} there", bytes.len(), known.len());
            return Err(Violation::new("validity", what));
        }
        Ok(())
    }

    pub(super) fn message(&mut self, from: u8, message: &PeerMessage) -> Result<(), Violation> {
        match message {
            PeerMessage::Entry(message) => {
                for carried in &message.values {
                    self.value(message.entity, carried.id, &carried.bytes)?;
                }
                let request =
                    message.request.and_then(|request| Some((request.ballot, request.value_id?)));
                if let Some((ballot, id)) = request {
                    self.ballot(message.entity, message.entry, ballot, id)?;
                }
                if let Some(id) = message.mine.value_id
                    && message.mine.chosen
                {
                    self.said_to_be_chosen(from, message.entity, message.entry, id)?;
                }
                Ok(())
            }
            PeerMessage::Chosen(notice) => {
                if let Some(bytes) = &notice.value {
                    self.value(notice.entity, notice.value_id, bytes)?;
                }
                self.said_to_be_chosen(from, notice.entity, notice.entry, notice.value_id)?;
                self.chain_is(from, notice.entity, notice.entry, notice.chain)
            }
            PeerMessage::CatchUpAnswer(answer) => {
                for ChosenEntry { entry, value, .. } in &answer.entries {
                    self.value(answer.entity, value.id, &value.bytes)?;
                    self.said_to_be_chosen(from, answer.entity, *entry, value.id)?;
                }
                Ok(())
            }
            PeerMessage::Image(image) => {
                self.chain_is(from, image.entity, image.applied, image.chain)
            }
            PeerMessage::Told(notice) => {
                if let Some(told) = &notice.value {
                    self.value(notice.entity, told.value.id, &told.value.bytes)?;
                    self.said_to_be_chosen(from, notice.entity, notice.entry, told.value.id)?;
                }
                self.chain_is(from, notice.entity, notice.entry, notice.chain)
            }
            PeerMessage::LagAnswer(LagAnswer { found: LagFound::Page(page), .. }) => {
                for LaggingEntity { entity, chosen, chain } in &page.entities {
                    if let Some(chain) = chain {
                        self.chain_is(from, *entity, *chosen, *chain)?;
                    }
                }
                Ok(())
            }
            PeerMessage::Compared(answer) => {
                self.chain_is(from, answer.entity, answer.applied, answer.chain)
            }
            PeerMessage::LagAnswer(_)
            | PeerMessage::Compare(_)
            | PeerMessage::Copy(_)
            | PeerMessage::Newer(_)
            | PeerMessage::ReadCheck(_)
            | PeerMessage::ReadAnswer(_)
            | PeerMessage::CatchUp(_)
            | PeerMessage::Forward(_)
            | PeerMessage::ForwardAnswer(_)
            | PeerMessage::Sweep(_)
            | PeerMessage::SweepAnswer(_)
            | PeerMessage::SweepHint
            | PeerMessage::Lag(_)
            | PeerMessage::Heartbeat
            | PeerMessage::Generations(_)
            | PeerMessage::Finish(_)
            | PeerMessage::Configuration(_)
            | PeerMessage::Membership(_)
            | PeerMessage::Transfer(_)
            | PeerMessage::TransferPage(_)
            | PeerMessage::Follow(_)
            | PeerMessage::FollowAnswer(_) => Ok(()),
        }
    }

    fn said_to_be_chosen(
        &self,
        node: u8,
        entity: EntityId,
        entry: Entry,
        id: ValueId,
    ) -> Result<(), Violation> {
        if self.chosen_at(entity, entry) == Some(id) {
            return Ok(());
        }
        let chosen = self.chosen_at(entity, entry);
        let what = format!(
            "node {node} takes {id:?} for chosen in {entity:?} {entry:?}; the disks say {chosen:?}"
        );
        Err(Violation::new("agreement", what))
    }

    /// Whether a node's chain at an entry is that of the chosen values.
    ///
    /// # Errors
    ///
    /// When it is not, or the entry is not chosen.
    pub fn chain_is(
        &self,
        node: u8,
        entity: EntityId,
        entry: Entry,
        chain: u32,
    ) -> Result<(), Violation> {
        let expected = self.chain_at(entity, entry);
        if expected == Some(chain) || self.pretenders & (1 << node) != 0 {
            return Ok(());
        }
        let what = format!(
            "node {node} has chain {chain:08x} at {entity:?} {entry:?}; the chosen values give \
             {expected:08x?}"
        );
        Err(Violation::new("agreement", what))
    }

    /// The value chosen in an entry.
    #[must_use]
    pub fn chosen_at(&self, entity: EntityId, entry: Entry) -> Option<ValueId> {
        self.chosen.get(&entity)?.chosen.get(&entry).copied()
    }

    /// The chain of the chosen values up to an entry; `None` when one of them is not chosen.
    #[must_use]
    pub fn chain_at(&self, entity: EntityId, entry: Entry) -> Option<u32> {
        if entry == Entry::ZERO {
            return Some(0);
        }
        let position = usize::try_from(entry.0 - 1).ok()?;
        self.chosen.get(&entity)?.chains.get(position).copied()
    }

    /// The last entry up to which all are chosen.
    #[must_use]
    pub fn last_chosen(&self, entity: EntityId) -> Entry {
        Entry(self.chosen.get(&entity).map_or(0, |history| history.chains.len() as u64))
    }

    /// Every entity with the last entry of it that is chosen, holes or not.
    pub(super) fn last_entries(&self) -> impl Iterator<Item = (EntityId, Entry)> {
        self.chosen.iter().filter_map(|(entity, history)| {
            let (last, _) = history.chosen.last_key_value()?;
            Some((*entity, *last))
        })
    }

    /// Every entity with its chosen values, in order from entry 1.
    pub fn histories(&self) -> impl Iterator<Item = (EntityId, Vec<Rc<[u8]>>)> {
        self.chosen.iter().map(|(entity, history)| {
            let values = history.chosen.values().take(history.chains.len());
            (*entity, values.map(|id| Rc::clone(&self.values[&(*entity, *id)])).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use plog::configuration::Configuration;
    use plog::entry_record::EntryRecord;
    use plog::log_record::{LogRecord, LoggedValue};
    use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

    use super::Agreement;
    use crate::checkers::votes::Known;

    const KNOWN: Known = [plog::vocabulary::Generation::FIRST; 5];

    const ENTITY: EntityId = EntityId(5);

    fn ballot(round: u32) -> Ballot {
        Ballot { round, epoch: BootEpoch(1), acceptor: AcceptorId(0) }
    }

    fn id(counter: u64) -> ValueId {
        ValueId { originator: AcceptorId(0), epoch: BootEpoch(1), counter }
    }

    fn accepted(round: u32, value: u64, chosen: bool) -> LogRecord {
        let record = EntryRecord {
            promised: ballot(round),
            accepted: ballot(round),
            value_id: Some(id(value)),
            chosen,
            ..EntryRecord::default()
        };
        let value = LoggedValue::Inline(Rc::from(value.to_le_bytes()));
        LogRecord::Entry { entity: ENTITY, entry: Entry(1), record, value }
    }

    #[test]
    fn a_majority_of_disks_chooses_and_a_second_value_is_a_violation() {
        let mut agreement = Agreement::new(Configuration::initial(3), &[1; 5]);
        agreement.durable(0, &KNOWN, 0, &accepted(1, 7, false)).unwrap();
        assert_eq!(agreement.chosen_at(ENTITY, Entry(1)), None);
        agreement.durable(0, &KNOWN, 0, &accepted(1, 7, false)).unwrap();
        assert_eq!(agreement.chosen_at(ENTITY, Entry(1)), None, "one node counts once");
        agreement.durable(2, &KNOWN, 0, &accepted(1, 7, false)).unwrap();
        assert_eq!(agreement.chosen_at(ENTITY, Entry(1)), Some(id(7)));
        let chain = engine::chain::extend(0, &7_u64.to_le_bytes());
        assert_eq!(agreement.chain_at(ENTITY, Entry(1)), Some(chain));
        agreement.durable(0, &KNOWN, 0, &accepted(2, 8, false)).unwrap();
        let second = agreement.durable(1, &KNOWN, 0, &accepted(2, 8, false)).unwrap_err();
        assert_eq!(second.invariant, "agreement");
    }

    #[test]
    fn what_no_majority_holds_must_not_be_called_chosen() {
        let mut agreement = Agreement::new(Configuration::initial(3), &[1; 5]);
        agreement.durable(0, &KNOWN, 0, &accepted(1, 7, false)).unwrap();
        assert_eq!(
            agreement.durable(1, &KNOWN, 0, &accepted(1, 7, true)).unwrap_err().invariant,
            "agreement"
        );
    }

    #[test]
    fn a_ballot_with_two_values_and_a_value_with_two_contents_are_violations() {
        let mut agreement = Agreement::new(Configuration::initial(5), &[1; 5]);
        agreement.durable(0, &KNOWN, 0, &accepted(1, 7, false)).unwrap();
        let two = agreement.durable(1, &KNOWN, 0, &accepted(1, 8, false)).unwrap_err();
        assert_eq!(two.invariant, "ballot-unique");
        let LogRecord::Entry { entity, entry, record, .. } = accepted(3, 7, false) else {
            unreachable!()
        };
        let value = LoggedValue::Inline(Rc::from([]));
        let other = LogRecord::Entry { entity, entry, record, value };
        assert_eq!(agreement.durable(2, &KNOWN, 0, &other).unwrap_err().invariant, "validity");
    }
}
