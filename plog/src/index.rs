//! Where the records of every entity are.
//!
//! The index is what makes an idle entity cheap: its state may leave memory, because the index
//! still says which records rebuild it. It is split into 256 sub-tables, so that
//! no rehash of a large table ever stalls the core and a walk over all entities has the same order
//! everywhere.
//!
//! The rule by which records combine (the same that [`crate::assemble::Assembler`] applies to the
//! records themselves), per entity and entry, in LSN order:
//!
//! 1. An image replaces everything at or below its applied entry. An image with a smaller applied
//!    entry than the one before it is ignored.
//! 2. The prepared and promised ballots are those of the latest entry record.
//! 3. Once an entry record says chosen, or a chosen mark was noted, the entry stays chosen; the
//!    latest of these says at which ballot and what. Before that, the latest entry record says what
//!    is accepted.
//! 4. The value's bytes are those of the newest record that holds bytes under the value id of
//!    rule 3.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use ahash::RandomState;

use crate::advances::{Advances, Mark};
use crate::assemble::Assembler;
use crate::checkpoint::table::Row;
use crate::location::Location;
use crate::memory::{block_bytes, hash_table_bytes};
use crate::planted;
use crate::segment::SegmentId;
use crate::summary::RecordSummary;
use crate::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, ValueId};

const SUB_TABLES: usize = 256;
/// What an id in an ordered set takes, with its share of the nodes.
const ORDER_BYTES: usize = 16;
const ABSENT: Location = Location::new(SegmentId(0), 0, 0, 0);
const NO_VALUE_ID: ValueId = ValueId { originator: AcceptorId(0), epoch: BootEpoch(0), counter: 0 };

/// What is known of one entry without reading anything. 96 bytes; there is one for every entry that
/// is held, so it is packed by hand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IndexedEntry {
    entry: Entry,
    /// The latest entry record, `ABSENT` when there is none.
    record: Location,
    /// The newest bytes under `value_id`, `ABSENT` when there are none.
    value: Location,
    value_id: ValueId,
    ballot: Ballot,
    chain: u32,
    /// Bytes stored under other value ids; a later record may still choose one of them.
    #[allow(clippy::box_collection, reason = "rarely there, and 16 bytes less in every entry")]
    others: Option<Box<Vec<(ValueId, Location)>>>,
    has_value_id: bool,
    has_chain: bool,
    chosen: bool,
}

const _: () = assert!(size_of::<IndexedEntry>() == 96);

impl IndexedEntry {
    fn new(entry: Entry) -> Self {
        Self {
            entry,
            record: ABSENT,
            value: ABSENT,
            value_id: NO_VALUE_ID,
            ballot: Ballot::NONE,
            chain: 0,
            others: None,
            has_value_id: false,
            has_chain: false,
            chosen: false,
        }
    }

    /// Which entry.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// The latest entry record.
    #[must_use]
    pub fn record(&self) -> Option<Location> {
        (self.record != ABSENT).then_some(self.record)
    }

    /// The record that holds the bytes of the accepted or chosen value.
    #[must_use]
    pub fn value(&self) -> Option<Location> {
        (self.value != ABSENT).then_some(self.value)
    }

    /// The accepted value, or the chosen one once it is.
    #[must_use]
    pub fn value_id(&self) -> Option<ValueId> {
        self.has_value_id.then_some(self.value_id)
    }

    /// The ballot at which the value was accepted, or chosen once it is.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Whether a durable record says that the entry is chosen.
    #[must_use]
    pub fn chosen(&self) -> bool {
        self.chosen
    }

    /// The entity's checksum chain at this entry, when a chosen mark named it.
    #[must_use]
    pub fn chain(&self) -> Option<u32> {
        self.has_chain.then_some(self.chain)
    }

    /// Makes `id` the entry's value, and finds the bytes stored under it earlier.
    fn name_value(&mut self, id: Option<ValueId>) {
        if self.value_id() == id {
            return;
        }
        if let Some(old) = self.value_id()
            && self.value != ABSENT
        {
            self.others.get_or_insert_default().push((old, self.value));
        }
        self.has_value_id = id.is_some();
        self.value_id = id.unwrap_or(NO_VALUE_ID);
        self.value = ABSENT;
        if let Some(id) = id {
            self.value = self.take_other(id).unwrap_or(ABSENT);
        }
    }

    fn take_other(&mut self, id: ValueId) -> Option<Location> {
        let others = self.others.as_mut()?;
        let position = others.iter().position(|(other, _)| *other == id)?;
        let (_, location) = others.swap_remove(position);
        if others.is_empty() {
            self.others = None;
        }
        Some(location)
    }

    fn store_value(&mut self, id: ValueId, location: Location) {
        if self.value_id() == Some(id) {
            self.value = location;
            return;
        }
        let others = self.others.get_or_insert_default();
        match others.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => *old = location,
            None => others.push((id, location)),
        }
    }

    fn note(&mut self, summary: &RecordSummary, location: Location) {
        match *summary {
            RecordSummary::Entry { record, inline, .. } => {
                self.record = location;
                if record.chosen && self.chosen && self.value_id() != record.value_id {
                    // The mark before it spoke of another value; its chain is not this one's.
                    self.has_chain = false;
                }
                if record.chosen || !self.chosen {
                    self.chosen = record.chosen;
                    self.ballot = record.accepted;
                    self.name_value(record.value_id);
                }
                if inline && let Some(id) = record.value_id {
                    self.store_value(id, location);
                }
            }
            RecordSummary::Value { value_id, .. } => self.store_value(value_id, location),
            RecordSummary::Chosen { ballot, value_id, chain, .. } => {
                self.chosen = true;
                self.ballot = ballot;
                self.name_value(Some(value_id));
                self.chain = chain;
                self.has_chain = true;
            }
            RecordSummary::Image { .. } => unreachable!("an image is not of one entry"),
        }
    }

    fn oldest_segment(&self) -> Option<SegmentId> {
        let others = self.others.iter().flat_map(|others| others.iter());
        self.record()
            .into_iter()
            .chain(self.value())
            .chain(others.map(|(_, location)| *location))
            .map(|location| location.segment())
            .min()
    }
}

/// What is known of one entity. 72 bytes; there is one for every entity ever written.
///
/// Invariant: `entries` ascends strictly; every entry above the image that has a durable record is
/// in it.
#[derive(Clone, Debug)]
pub struct EntityIndex {
    /// The entry applied in the latest image, [`Entry::ZERO`] without one.
    applied: Entry,
    entries: Vec<IndexedEntry>,
    /// The latest image, `ABSENT` without one.
    image: Location,
    /// Stays at the greatest number.
    bytes_since_image: u32,
    keys: u32,
    /// When it advanced last in this boot.
    advanced: Mark,
    /// The entity's checksum chain at the image, if that is known.
    image_chain: u32,
    has_image_chain: bool,
}

const _: () = assert!(size_of::<EntityIndex>() == 72);

impl Default for EntityIndex {
    fn default() -> Self {
        Self {
            applied: Entry::ZERO,
            entries: Vec::new(),
            image: ABSENT,
            bytes_since_image: 0,
            keys: 0,
            advanced: Mark::ZERO,
            image_chain: 0,
            has_image_chain: false,
        }
    }
}

impl Eq for EntityIndex {}

impl PartialEq for EntityIndex {
    /// Of all that follows from the log: when an entity advanced is of one boot.
    fn eq(&self, other: &Self) -> bool {
        let of = |known: &Self| (known.applied, known.image, known.bytes_since_image, known.keys);
        of(self) == of(other)
            && self.image_chain() == other.image_chain()
            && self.entries == other.entries
    }
}

impl EntityIndex {
    /// When it advanced last in this boot.
    #[must_use]
    pub fn advanced(&self) -> Mark {
        self.advanced
    }

    /// The checksum chain at the latest image. Not known of an image that a start found in a
    /// checkpoint's table, until it was read.
    fn image_chain(&self) -> Option<u32> {
        self.has_image_chain.then_some(self.image_chain)
    }

    /// The entity's checksum chain at an entry that is chosen, if it is known without reading.
    #[must_use]
    pub fn chain_at(&self, entry: Entry) -> Option<u32> {
        if entry == Entry::ZERO {
            return Some(0);
        }
        if entry == self.applied
            && let Some(chain) = self.image_chain()
        {
            return Some(chain);
        }
        let position = self.entries.binary_search_by_key(&entry, |held| held.entry).ok()?;
        self.entries[position].chain()
    }

    /// The latest image: its applied entry, and where it is.
    #[must_use]
    pub fn image(&self) -> Option<(Entry, Location)> {
        (self.image != ABSENT).then_some((self.applied, self.image))
    }

    /// The entry applied in the latest image, [`Entry::ZERO`] without one.
    #[must_use]
    pub fn applied(&self) -> Entry {
        self.applied
    }

    /// Highest entry that a durable record or image says is chosen.
    #[must_use]
    pub fn chosen(&self) -> Entry {
        // An entry that is chosen stays so, and only those at or below the image are ever dropped.
        let held = self.entries.iter().rev().find(|held| held.chosen);
        held.map_or(self.applied, |held| held.entry.max(self.applied))
    }

    /// Highest entry up to which all are chosen here, with their values: what a load comes to.
    /// Below [`EntityIndex::chosen`] after a crash that lost a part of what was learned out of
    /// order.
    #[must_use]
    pub fn contiguous_chosen(&self) -> Entry {
        let mut last = self.applied();
        for held in &self.entries {
            if held.entry <= last {
                continue;
            }
            if held.entry != last.next() || !held.chosen() || held.value().is_none() {
                break;
            }
            last = held.entry;
        }
        last
    }

    /// Highest entry with any durable record.
    #[must_use]
    pub fn last(&self) -> Entry {
        self.entries.last().map_or(self.applied, |held| held.entry.max(self.applied))
    }

    /// The oldest segment with a record of that entry.
    #[must_use]
    pub fn oldest_segment_of(&self, entry: Entry) -> Option<SegmentId> {
        let position = self.entries.binary_search_by_key(&entry, |held| held.entry).ok()?;
        self.entries[position].oldest_segment()
    }

    /// Entries that are held, ascending.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &IndexedEntry> {
        self.entries.iter()
    }

    /// Bytes of records noted since the latest image: what loading the entity costs beyond it, at
    /// most. Counts up to 4 GiB.
    #[must_use]
    pub fn bytes_since_image(&self) -> u64 {
        self.bytes_since_image.into()
    }

    /// The count last given to [`Index::set_keys`].
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.keys
    }

    fn entry_mut(&mut self, entry: Entry) -> &mut IndexedEntry {
        // Almost every record is of the last entry or a new one.
        let position = match self.entries.last() {
            Some(last) if last.entry == entry => self.entries.len() - 1,
            Some(last) if last.entry > entry => {
                let position = self.entries.partition_point(|held| held.entry < entry);
                if self.entries[position].entry != entry {
                    self.entries.insert(position, IndexedEntry::new(entry));
                }
                position
            }
            _ => {
                if self.entries.capacity() == 0 {
                    // Most entities are written once in a while; do not begin with room for four.
                    self.entries.reserve_exact(1);
                }
                self.entries.push(IndexedEntry::new(entry));
                self.entries.len() - 1
            }
        };
        &mut self.entries[position]
    }

    /// Drops what the image made useless: at or below it, only chosen entries serve peers that
    /// catch up.
    fn prune(&mut self, held_entries: usize) {
        let applied = self.applied();
        let below = self.entries.partition_point(|held| held.entry <= applied);
        if self.entries[..below].iter().any(|held| !held.chosen) {
            self.entries.retain(|held| held.entry > applied || held.chosen);
        }
        let below = self.entries.partition_point(|held| held.entry <= applied);
        self.entries.drain(..below.saturating_sub(held_entries));
        if self.entries.is_empty() {
            self.entries = Vec::new();
        }
    }

    fn entry_bytes(&self) -> usize {
        block_bytes(self.entries.capacity() * size_of::<IndexedEntry>())
    }
}

/// An entry that the index knows to be chosen, handed to the assembler because the record that says
/// so is not read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KnownChosen {
    /// Which entry.
    pub entry: Entry,
    /// The ballot at which it was chosen.
    pub ballot: Ballot,
    /// What was chosen.
    pub value_id: ValueId,
    /// The entity's checksum chain at this entry, when a chosen mark named it.
    pub chain: Option<u32>,
}

/// What must be read to load an entity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoadPlan {
    /// The entity.
    pub entity: EntityId,
    /// Its latest image; read it first.
    pub image: Option<Location>,
    /// Records of the entries above the image, in LSN order. At most two for each entry, and one
    /// for an entry whose value is in its latest entry record.
    pub records: Vec<Location>,
    /// The entries above the image known to be chosen. [`LoadPlan::assembler`] takes them over.
    pub chosen: Vec<KnownChosen>,
}

impl LoadPlan {
    /// The assembler to feed the image and then the records to.
    #[must_use]
    pub fn assembler(&self) -> Assembler {
        Assembler::with_chosen(self.entity, self.chosen.clone())
    }
}

/// One entity as [`Index::entities_after`] shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EntityOverview {
    /// The entity.
    pub entity: EntityId,
    /// Highest entry known to be chosen.
    pub chosen: Entry,
    /// Highest entry with any durable record.
    pub last: Entry,
    /// The entry applied in its latest image.
    pub applied: Entry,
    /// Bytes of records noted since the image.
    pub bytes_since_image: u64,
    /// The owner's count.
    pub keys: u32,
}

/// One of the sub-tables: every lookup goes through the hash table, every walk through the order.
#[derive(Clone, Debug)]
struct SubTable {
    by_id: HashMap<EntityId, EntityIndex, RandomState>,
    order: BTreeSet<EntityId>,
}

impl SubTable {
    fn bytes(&self) -> usize {
        hash_table_bytes(self.by_id.capacity(), size_of::<(EntityId, EntityIndex)>())
    }
}

impl Default for SubTable {
    fn default() -> Self {
        // Fixed seeds: nothing about a run depends on chance.
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self { by_id: HashMap::with_hasher(hasher), order: BTreeSet::new() }
    }
}

/// Where the records of every entity ever written on this core are.
#[derive(Clone, Debug)]
pub struct Index {
    tables: Vec<SubTable>,
    held_entries: usize,
    entities: usize,
    /// Bytes of the hash tables, and of all entries that are held.
    table_bytes: usize,
    entry_bytes: usize,
    /// Segments before it were freed: what is held of them cannot be read any more.
    oldest: SegmentId,
    /// New entities are not put in order before [`Index::put_in_order`], and nothing advances.
    defers_order: bool,
    advances: Advances,
}

impl Index {
    /// An empty index that keeps up to `held_entries` chosen entries at or below each entity's
    /// image.
    #[must_use]
    pub fn new(held_entries: usize) -> Self {
        let tables = (0..SUB_TABLES).map(|_| SubTable::default()).collect();
        Self {
            tables,
            held_entries,
            entities: 0,
            table_bytes: 0,
            entry_bytes: 0,
            oldest: SegmentId(0),
            defers_order: false,
            advances: Advances::default(),
        }
    }

    /// The same, to be filled from a whole log. Entities are put in order once in the end
    /// ([`crate::log::Log::with_index`] does it), which is faster than one by one; nothing may be
    /// walked before.
    #[must_use]
    pub fn for_recovery(held_entries: usize) -> Self {
        Self { defers_order: true, ..Self::new(held_entries) }
    }

    /// Makes the walks possible again after [`Index::for_recovery`].
    pub(crate) fn put_in_order(&mut self) {
        if std::mem::take(&mut self.defers_order) {
            for table in &mut self.tables {
                // A set made from an iterator is sorted first, and so does not depend on the table.
                table.order = table.by_id.keys().copied().collect();
            }
        }
    }

    /// What is known of an entity, `None` when it has no durable record.
    #[must_use]
    pub fn get(&self, entity: EntityId) -> Option<&EntityIndex> {
        self.tables[sub_table(entity)].by_id.get(&entity)
    }

    /// How many entities have a durable record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities
    }

    /// Whether no entity has a durable record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities == 0
    }

    /// Brings what is known of entities into the processor's caches: look-ups that do not depend on
    /// each other wait for memory together.
    pub fn touch(&self, entities: impl Iterator<Item = EntityId>) {
        let mut touched = 0;
        for entity in entities {
            if let Some(known) = self.get(entity) {
                touched ^= known.last().0;
            }
        }
        std::hint::black_box(touched);
    }

    /// Takes notice of a durable record. Called in LSN order, when a record becomes durable and
    /// when recovery finds it, so that both lead to the same index.
    pub fn note(&mut self, summary: &RecordSummary, location: Location) {
        assert!(location.length > 0, "a record has bytes");
        let entity = summary.entity();
        let table = &mut self.tables[sub_table(entity)];
        let table_bytes = table.bytes();
        let mut is_new = false;
        let known = table.by_id.entry(entity).or_insert_with(|| {
            is_new = true;
            EntityIndex::default()
        });
        let entry_bytes = known.entry_bytes();
        let chosen = known.chosen();
        known.bytes_since_image = known.bytes_since_image.saturating_add(location.length);
        match *summary {
            RecordSummary::Image { applied, chain, .. } => {
                if applied >= known.applied || planted!("older-image-taken") {
                    known.applied = applied;
                    known.image = location;
                    known.has_image_chain = chain.is_some();
                    known.image_chain = chain.unwrap_or_default();
                    known.bytes_since_image = 0;
                    known.prune(self.held_entries);
                }
            }
            RecordSummary::Entry { entry, .. }
            | RecordSummary::Value { entry, .. }
            | RecordSummary::Chosen { entry, .. } => {
                known.entry_mut(entry).note(summary, location);
                if entry <= known.applied {
                    known.prune(self.held_entries);
                }
            }
        }
        if !self.defers_order && known.chosen() > chosen {
            known.advanced = self.advances.note(entity, known.advanced);
        }
        self.entry_bytes = self.entry_bytes - entry_bytes + known.entry_bytes();
        if is_new {
            self.entities += 1;
            if !self.defers_order {
                table.order.insert(entity);
            }
            self.table_bytes = self.table_bytes - table_bytes + table.bytes();
        }
    }

    /// Takes notice of an entity that a checkpoint holds, before the records of the log after it.
    pub fn note_checkpointed(&mut self, row: &Row) {
        if let Some(location) = row.image {
            let (entity, applied) = (row.entity, row.applied);
            self.note(&RecordSummary::Image { entity, applied, chain: None }, location);
            self.set_keys(row.entity, row.keys);
        }
    }

    /// Segments before `oldest` are gone.
    pub(crate) fn set_oldest(&mut self, oldest: SegmentId) {
        self.oldest = oldest;
    }

    /// Sets the owner's count of an entity; nothing happens when the entity has no durable record.
    pub fn set_keys(&mut self, entity: EntityId, keys: u32) {
        if let Some(known) = self.tables[sub_table(entity)].by_id.get_mut(&entity) {
            known.keys = keys;
        }
    }

    /// Sets the checksum chain of an entity at its latest image, which was read, if that is of
    /// `applied`.
    pub fn set_image_chain(&mut self, entity: EntityId, applied: Entry, chain: u32) {
        let known = self.tables[sub_table(entity)].by_id.get_mut(&entity);
        if let Some(known) = known.filter(|known| known.applied == applied) {
            (known.image_chain, known.has_image_chain) = (chain, true);
        }
    }

    /// Which entities advanced last.
    #[must_use]
    pub fn advances(&self) -> &Advances {
        &self.advances
    }

    /// Remembers of up to `limit` entities that they advanced lately; 0: of none.
    pub fn keep_advances(&mut self, limit: usize) {
        self.advances.set_limit(limit);
    }

    /// The mark of all that advanced so far; see [`Advances`]. `None` when marks have run out.
    pub fn mark_advances(&mut self) -> Option<Mark> {
        self.advances.close()
    }

    /// What must be read to load an entity. Empty for one that has no durable record.
    #[must_use]
    pub fn load_plan(&self, entity: EntityId) -> LoadPlan {
        let mut plan = LoadPlan { entity, image: None, records: Vec::new(), chosen: Vec::new() };
        let Some(known) = self.get(entity) else { return plan };
        plan.image = known.image().map(|(_, location)| location);
        let applied = known.applied();
        for held in known.entries.iter().filter(|held| held.entry > applied) {
            plan.records.extend(held.record());
            plan.records.extend(held.value());
            if held.chosen
                && let Some(value_id) = held.value_id()
            {
                let (entry, ballot, chain) = (held.entry, held.ballot, held.chain());
                plan.chosen.push(KnownChosen { entry, ballot, value_id, chain });
            }
        }
        plan.records.sort_unstable();
        plan.records.dedup();
        plan
    }

    /// Entry, ballot, value id and the record holding the value, of every entry `first..=last`;
    /// `None` when one of them is not held, not known to be chosen, or held without its value.
    #[must_use]
    pub fn chosen_range(
        &self,
        entity: EntityId,
        first: Entry,
        last: Entry,
    ) -> Option<Vec<(Entry, Ballot, ValueId, Location)>> {
        let known = self.get(entity)?;
        if first > last || first == Entry::ZERO || last > known.last() {
            return None;
        }
        let begin = known.entries.partition_point(|held| held.entry < first);
        let mut expected = first;
        let mut range = Vec::new();
        for held in &known.entries[begin..] {
            if held.entry != expected || !held.chosen {
                return None;
            }
            let value = held.value().filter(|value| value.segment() >= self.oldest)?;
            range.push((held.entry, held.ballot, held.value_id()?, value));
            if held.entry == last {
                return Some(range);
            }
            expected = expected.next();
        }
        None
    }

    /// Up to `limit` entities after `cursor`, in the index's own order, which never changes: by
    /// sub-table, then by id; see [`walk_order`]. `None` begins at the beginning; fewer than
    /// `limit` means the end was reached.
    #[must_use]
    pub fn entities_after(&self, cursor: Option<EntityId>, limit: usize) -> Vec<EntityOverview> {
        let mut found = Vec::new();
        if limit == 0 {
            return found;
        }
        self.walk_after(cursor, |entity, known| {
            found.push(EntityOverview {
                entity,
                chosen: known.chosen(),
                last: known.last(),
                applied: known.applied(),
                bytes_since_image: known.bytes_since_image(),
                keys: known.keys,
            });
            found.len() < limit
        });
        found
    }

    /// Shows the entities after `cursor`, in the same order, until `look` has seen enough and says
    /// false.
    pub fn walk_after(
        &self,
        cursor: Option<EntityId>,
        mut look: impl FnMut(EntityId, &EntityIndex) -> bool,
    ) {
        assert!(!self.defers_order, "an index is put in order before it is walked");
        let first = cursor.map_or(0, sub_table);
        for (number, table) in self.tables.iter().enumerate().skip(first) {
            let begin = match cursor {
                Some(cursor) if number == first => Bound::Excluded(cursor),
                _ => Bound::Unbounded,
            };
            for entity in table.order.range((begin, Bound::Unbounded)) {
                if !look(*entity, &table.by_id[entity]) {
                    return;
                }
            }
        }
    }

    /// Whether `entity` comes after `other` in the order of walks.
    #[must_use]
    pub fn comes_after(entity: EntityId, other: EntityId) -> bool {
        (sub_table(entity), entity) > (sub_table(other), other)
    }

    /// The oldest segment that still holds something needed to load the entity: no segment from it
    /// on may be freed before the entity has a newer image.
    #[must_use]
    pub fn oldest_needed(&self, entity: EntityId) -> Option<SegmentId> {
        let known = self.get(entity)?;
        let applied = known.applied();
        let entries = known.entries.iter().filter(|held| held.entry > applied);
        let image = known.image().map(|(_, location)| location.segment());
        entries.filter_map(IndexedEntry::oldest_segment).chain(image).min()
    }

    /// Forgets what is only held for peers (entries at or below the image) and lies in segments
    /// before `first_kept`, so that these can be freed.
    pub fn forget_before(&mut self, entity: EntityId, first_kept: SegmentId) {
        let Some(known) = self.tables[sub_table(entity)].by_id.get_mut(&entity) else { return };
        let entry_bytes = known.entry_bytes();
        let applied = known.applied();
        let kept = |held: &IndexedEntry| {
            held.entry > applied || held.oldest_segment().is_none_or(|oldest| oldest >= first_kept)
        };
        known.entries.retain(kept);
        if known.entries.is_empty() {
            known.entries = Vec::new();
        }
        self.entry_bytes = self.entry_bytes - entry_bytes + known.entry_bytes();
    }

    /// Bytes of memory the index takes: its tables at their capacity, the entries held, and who
    /// advanced. Nodes
    /// of the ordered sets are taken to be two thirds full; values held under a second id of the
    /// same entry are not counted.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let order = self.entities * ORDER_BYTES;
        let tables = size_of_val(self.tables.as_slice());
        self.table_bytes + order + self.entry_bytes + tables + self.advances.memory_bytes()
    }
}

/// In which order an index is walked: by sub-table, then by id. The same on every node and in every
/// run, so that a place in one index is a place in another.
#[must_use]
pub fn walk_order(entity: EntityId) -> (usize, EntityId) {
    (sub_table(entity), entity)
}

/// Ids made from keys share their upper bits, and others may be counted up: multiplying by an odd
/// constant near 2^64 / golden ratio spreads both over the upper byte.
fn sub_table(entity: EntityId) -> usize {
    let mixed = (entity.0 ^ (entity.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 56).expect("8 bits fit a usize")
}
