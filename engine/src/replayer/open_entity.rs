//! What a replayer holds back of one entity.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use plog::segment::SegmentId;
use plog::vocabulary::{Entry, ValueId};

use crate::state_machine::mirror::Standing;

/// What an entry costs beside the bytes of its values: its places in the tables.
const OVERHEAD_BYTES: usize = 160;

/// Entries whose chain a mark is expected to name. A replica learns so many ahead of what it
/// applies at most; a mark that never comes is forgotten.
const EXPECTED_MAX: usize = 16;

/// An entry above what the mirror stands at.
#[derive(Debug, Default)]
pub(super) struct HeldEntry {
    /// Candidate values, and where the newest copy of each is.
    values: Vec<(ValueId, Rc<[u8]>, SegmentId)>,
    /// What the newest vote is for.
    named: Option<ValueId>,
    chosen: Option<Chosen>,
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    value_id: ValueId,
    chain: Option<u32>,
    /// Where that is said.
    segment: SegmentId,
}

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct OpenEntity {
    entries: BTreeMap<Entry, HeldEntry>,
    expected: VecDeque<Standing>,
}

impl HeldEntry {
    /// A copy of a value's bytes. The newest counts: an older one may go with its segment.
    pub(super) fn store(&mut self, id: ValueId, bytes: &Rc<[u8]>, segment: SegmentId) {
        self.values.retain(|(held, ..)| *held != id);
        self.values.push((id, Rc::clone(bytes), segment));
    }

    /// The newest vote.
    pub(super) fn name(&mut self, id: Option<ValueId>) {
        self.named = id;
    }

    /// A record says what is chosen. False when an earlier one said something else.
    pub(super) fn choose(
        &mut self,
        value_id: ValueId,
        chain: Option<u32>,
        segment: SegmentId,
    ) -> bool {
        let before = self.chosen;
        let chain = chain.or_else(|| before.and_then(|chosen| chosen.chain));
        self.chosen = Some(Chosen { value_id, chain, segment });
        before.is_none_or(|chosen| chosen.value_id == value_id)
    }

    fn is_ready(&self) -> bool {
        let id = self.chosen.map(|chosen| chosen.value_id);
        self.values.iter().any(|(held, ..)| Some(*held) == id)
    }

    /// The oldest segment without which it could not be held again. A value that lost its vote is
    /// logged anew when it is voted for again.
    fn oldest_segment(&self) -> Option<SegmentId> {
        let id = self.chosen.map(|chosen| chosen.value_id).or(self.named);
        let counts = |held: &ValueId| id.is_none_or(|id| id == *held);
        let values = self.values.iter().filter(|(held, ..)| counts(held));
        let said = self.chosen.map(|chosen| chosen.segment);
        values.map(|(.., segment)| *segment).chain(said).min()
    }

    fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.values.iter().map(|(_, bytes, _)| bytes.len()).sum::<usize>()
    }
}

impl OpenEntity {
    pub(super) fn held_entry(&mut self, entry: Entry) -> &mut HeldEntry {
        self.entries.entry(entry).or_default()
    }

    /// Entries that are held back.
    pub(super) fn held(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.values().map(HeldEntry::bytes).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.expected.is_empty()
    }

    pub(super) fn oldest_segment(&self) -> Option<SegmentId> {
        self.entries.values().filter_map(HeldEntry::oldest_segment).min()
    }

    /// The mirror stands at `last`: nothing up to it is open.
    pub(super) fn close_up_to(&mut self, last: Entry) {
        if self.entries.first_key_value().is_some_and(|(first, _)| *first <= last) {
            self.entries = self.entries.split_off(&last.next());
        }
    }

    /// The first entry that is chosen, whatever is before it: what the planted bug
    /// `mirror-skips-entry` takes.
    pub(super) fn first_ready(&self) -> Option<Entry> {
        self.entries.iter().find(|(_, held)| held.is_ready()).map(|(entry, _)| *entry)
    }

    /// Takes out `entry` if it is chosen and its bytes are here: its value and the chain that a
    /// mark names.
    pub(super) fn take_ready(&mut self, entry: Entry) -> Option<(ValueId, Rc<[u8]>, Option<u32>)> {
        if !self.entries.get(&entry).is_some_and(HeldEntry::is_ready) {
            return None;
        }
        let held = self.entries.remove(&entry)?;
        let Chosen { value_id, chain, .. } = held.chosen?;
        let value = held.values.into_iter().find(|(id, ..)| *id == value_id)?;
        Some((value_id, value.1, chain))
    }

    /// An entry was executed before a mark named its chain.
    pub(super) fn expect_chain(&mut self, standing: Standing) {
        if self.expected.len() == EXPECTED_MAX {
            self.expected.pop_front();
        }
        self.expected.push_back(standing);
    }

    /// An image names the chain: the marks before it say nothing more.
    pub(super) fn forget_chains(&mut self) {
        self.expected.clear();
    }

    /// The chain that a mark of `entry` has to name. Forgotten, and so is what is before it.
    pub(super) fn expected_chain(&mut self, entry: Entry) -> Option<u32> {
        let position = self.expected.iter().position(|standing| standing.entry == entry)?;
        let found = self.expected[position].chain;
        self.expected.drain(..=position);
        Some(found)
    }
}
