//! Rebuilding an entity from its log records: all of them in order at start, or those of a load
//! plan when a cold entity is touched.

use std::rc::Rc;

use plog::assemble::LoadedEntity;
use plog::log_record::{LogRecord, LoggedValue};
use plog::planted;
use plog::vocabulary::Entry;

use crate::context::Context;
use crate::entity::doubt::Held;
use crate::entity::{Entity, LastChosen};
use crate::state_machine::StateMachine;

impl<M: StateMachine> Entity<M> {
    /// The next record of this entity, in LSN order, while the node starts. False when it names a
    /// value that came before the checkpoint's floor: a copy of both comes later, so this entity
    /// has to be loaded from where the index finds them in the end.
    #[must_use]
    pub(crate) fn recover_record(&mut self, context: &mut Context, record: &LogRecord) -> bool {
        let entry = record.entry();
        match record {
            LogRecord::Image { applied, chain, last_value_id, state, .. } => {
                if *applied > self.applied {
                    let restored =
                        self.restore_image(context, *applied, *chain, *last_value_id, state);
                    if restored.is_err() {
                        self.diverge(
                            context,
                            *applied,
                            Held::Lost,
                            "the logged image cannot be read",
                        );
                    }
                } else if *applied == self.applied {
                    self.image_at = *applied;
                    self.bytes_since_image = 0;
                }
            }
            _ if entry <= self.applied => {
                if let LogRecord::Chosen { chain, .. } = record {
                    self.check_logged_chain(context, entry, *chain);
                }
            }
            LogRecord::Entry { record, value, .. } => {
                let slot = self.slots.open(&mut context.slot_pool, entry);
                if let (LoggedValue::Inline(bytes), Some(id)) = (value, record.value_id) {
                    slot.restore_value(id, Rc::clone(bytes));
                }
                if record.value_id.is_some_and(|id| slot.value(id).is_none()) {
                    return false;
                }
                slot.restore_record(*record);
            }
            LogRecord::Value { value_id, bytes, .. } => {
                let slot = self.slots.open(&mut context.slot_pool, entry);
                slot.restore_value(*value_id, Rc::clone(bytes));
            }
            LogRecord::Chosen { ballot, value_id, chain, .. } => {
                let slot = self.slots.open(&mut context.slot_pool, entry);
                if slot.restore_chosen(*ballot, *value_id) {
                    self.apply_recovered(context);
                    self.check_logged_chain(context, entry, *chain);
                }
                self.max_chosen = self.max_chosen.max(entry);
            }
        }
        self.apply_recovered(context);
        true
    }

    /// Everything a load plan named was read, but for the image at `applied`. What was promised and
    /// accepted since is there; the state has to come from the others.
    pub(crate) fn restore_without_image(
        &mut self,
        context: &mut Context,
        applied: Entry,
        loaded: &LoadedEntity,
    ) {
        assert!(loaded.image.is_none(), "called without an image");
        (self.applied, self.max_chosen, self.image_at) = (applied, applied, applied);
        self.slots.close_up_to(applied);
        if !planted!("lost-image-serves") {
            self.doubt_copy(context, Held::Nothing);
        }
        self.restore(context, loaded);
    }

    /// Everything a load plan named was read.
    pub(crate) fn restore(&mut self, context: &mut Context, loaded: &LoadedEntity) {
        if let Some(image) = &loaded.image {
            let (applied, chain) = (image.applied, image.chain);
            let last = image.last_value_id;
            if self.restore_image(context, applied, chain, last, &image.state).is_err() {
                self.diverge(context, applied, Held::Lost, "the logged image cannot be read");
                return;
            }
        }
        for held in &loaded.entries {
            let slot = self.slots.open(&mut context.slot_pool, held.entry);
            if let (Some(id), Some(bytes)) = (held.record.value_id, &held.value) {
                slot.restore_value(id, Rc::clone(bytes));
            } else if held.record.value_id.is_some() {
                self.diverge(context, held.entry, Held::Lost, "a logged record's value is missing");
                return;
            }
            slot.restore_record(held.record);
            let before = self.applied;
            self.apply_recovered(context);
            match held.chain {
                Some(chain) => self.check_logged_chain(context, held.entry, chain),
                None if self.applied > before => self.mark_applied(context),
                None => {}
            }
        }
        self.max_chosen = self.max_chosen.max(self.applied);
    }

    /// A crash took the mark of the entry just applied: see [`marks`](crate::shard::marks).
    fn mark_applied(&mut self, context: &mut Context) {
        let last =
            self.last.as_ref().and_then(|last| Some((last.value_id, last.decided.as_ref()?)));
        let Some((value_id, (ballot, _))) = last else { return };
        context.counters.marks_made_up_for += 1;
        let (entity, entry, chain) = (self.id, self.applied, self.chain);
        let mark = LogRecord::Chosen { entity, entry, ballot: *ballot, value_id, chain };
        self.last_lsn = context.append_lazily(&mark);
    }

    fn apply_recovered(&mut self, context: &mut Context) {
        loop {
            let entry: Entry = self.applied.next();
            if !self.learns() || !self.slots.get(entry).is_some_and(|slot| slot.local().chosen) {
                return;
            }
            let slot = self.slots.remove(entry).expect("just seen");
            let record = slot.local();
            let id = record.value_id.expect("a chosen record names its value");
            let value = Rc::clone(slot.value(id).expect("restored with its bytes"));
            if self.apply_value(context, entry, id, record.accepted, &value) {
                self.last =
                    Some(LastChosen { value_id: id, decided: Some((record.accepted, value)) });
            }
        }
    }
}
