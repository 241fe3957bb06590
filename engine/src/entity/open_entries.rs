//! The open entries of an entity: nearly always none or one, a handful when a replica is behind.

use plog::memory::block_bytes;
use plog::vocabulary::Entry;

use crate::entity::entry_slot::EntrySlot;

/// Slots that are not in use, to be used again: opening an entry is the most frequent allocation.
#[derive(Debug, Default)]
pub(crate) struct SlotPool {
    #[expect(
        clippy::vec_box,
        reason = "a slot goes in and out by its box, half a kilobyte is not moved"
    )]
    slots: Vec<Box<EntrySlot>>,
}

/// Idle slots kept.
const POOLED_MAX: usize = 256;

impl SlotPool {
    fn take(&mut self) -> Box<EntrySlot> {
        self.slots.pop().unwrap_or_default()
    }

    /// Takes a slot back.
    pub(crate) fn give(&mut self, mut slot: Box<EntrySlot>) {
        if self.slots.len() < POOLED_MAX {
            slot.clear();
            self.slots.push(slot);
        }
    }
}

/// Slots by entry, ascending.
#[derive(Debug, Default)]
pub(crate) struct OpenEntries {
    slots: Vec<(Entry, Box<EntrySlot>)>,
}

impl OpenEntries {
    fn position(&self, entry: Entry) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&entry, |(open, _)| *open)
    }

    pub(crate) fn get(&self, entry: Entry) -> Option<&EntrySlot> {
        let position = self.position(entry).ok()?;
        Some(&self.slots[position].1)
    }

    pub(crate) fn get_mut(&mut self, entry: Entry) -> Option<&mut EntrySlot> {
        let position = self.position(entry).ok()?;
        Some(&mut self.slots[position].1)
    }

    /// The slot of `entry`, made empty when there was none.
    pub(crate) fn open(&mut self, pool: &mut SlotPool, entry: Entry) -> &mut EntrySlot {
        let position = self.position(entry).unwrap_or_else(|position| {
            self.slots.insert(position, (entry, pool.take()));
            position
        });
        &mut self.slots[position].1
    }

    pub(crate) fn remove(&mut self, entry: Entry) -> Option<Box<EntrySlot>> {
        let position = self.position(entry).ok()?;
        Some(self.slots.remove(position).1)
    }

    /// Forgets the entries up to `applied`.
    pub(crate) fn close_up_to(&mut self, applied: Entry) {
        self.slots.retain(|(entry, _)| *entry > applied);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut EntrySlot> {
        self.slots.iter_mut().map(|(_, slot)| &mut **slot)
    }

    /// Memory of the open entries, in bytes.
    pub(crate) fn block_bytes(&self) -> usize {
        let table = block_bytes(self.slots.capacity() * size_of::<(Entry, Box<EntrySlot>)>());
        table + self.slots.iter().map(|(_, slot)| slot.memory_bytes()).sum::<usize>()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Entry, &EntrySlot)> {
        self.slots.iter().map(|(entry, slot)| (*entry, &**slot))
    }
}
