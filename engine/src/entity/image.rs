//! An entity as one piece: what is logged now and then so that loading it needs few records, and
//! what is sent to a replica that is far behind. Its bytes are [`entity_state`].

use std::rc::Rc;

use net::peer::message::EntityImage;
use plog::log_record::LogRecord;
use plog::planted;
use plog::segment::SegmentId;
use plog::vocabulary::{Entry, ValueId};

use crate::context::Context;
use crate::entity::{Entity, LastChosen};
use crate::entity_state;
use crate::request_ids::RequestIds;
use crate::state_machine::{InvalidState, StateMachine};

/// A large entity's image is logged at the latest after one entry for so many bytes of its state, …
const LARGE_BYTES_PER_ENTRY: u64 = 2048;

/// … but not before so many.
const LARGE_ENTRIES_MIN: u64 = 32;

impl<M: StateMachine> Entity<M> {
    pub(crate) fn encode_image(&self) -> Rc<[u8]> {
        entity_state::encode(&self.request_ids, &self.state).into()
    }

    /// This entity for a peer.
    pub(crate) fn image(&self) -> EntityImage {
        EntityImage {
            entity: self.id,
            applied: self.applied,
            chain: self.chain,
            last_value_id: self.last.as_ref().map(|last| last.value_id),
            recent: self.recent.iter().copied().collect(),
            state: self.encode_image(),
            max_chosen: self.max_chosen,
        }
    }

    /// Approximate size of [`Entity::image`].
    pub(crate) fn image_bytes(&self) -> usize {
        self.accounted_bytes
    }

    /// Takes over a peer's state. False when the image cannot be read.
    pub(super) fn install_image(&mut self, context: &mut Context, image: &EntityImage) -> bool {
        assert!(image.applied > self.applied, "an image never takes a replica back");
        self.restore_image(context, image.applied, image.chain, image.last_value_id, &image.state)
            .is_ok()
    }

    /// Replaces the state by an encoded one.
    ///
    /// # Errors
    ///
    /// When the bytes are not an image; nothing was changed then.
    pub(super) fn restore_image(
        &mut self,
        context: &mut Context,
        applied: Entry,
        chain: u32,
        last: Option<ValueId>,
        bytes: &[u8],
    ) -> Result<(), InvalidState> {
        let (mut request_ids, state) = entity_state::decode(bytes, applied)?;
        if planted!("ids-lost-in-image") {
            request_ids = RequestIds::default();
        }
        self.request_ids = request_ids;
        self.state = state;
        self.applied = applied;
        self.max_chosen = self.max_chosen.max(applied);
        self.chain = chain;
        self.last = last.map(|value_id| LastChosen { value_id, decided: None });
        self.recent = last.into_iter().collect();
        // Entries at or below it are chosen, whatever was held of them: they are no longer voted
        // on here, and never again called empty.
        self.slots.close_up_to(applied);
        self.image_at = applied;
        self.bytes_since_image = 0;
        self.account(context);
        Ok(())
    }

    /// Logs an image when the records since the last one outweigh it.
    ///
    /// An entity that is read back often has to be cheap to read. Records of twice its state and no
    /// more are read with its image, three times the state in all, and the images write half a byte
    /// for each byte of records. Small records are one read each, so their number counts, too: as
    /// many as there are of [`LARGE_BYTES_PER_ENTRY`] in the state.
    pub(super) fn log_image_if_due(&mut self, context: &mut Context) {
        let entries = self.applied.0 - self.image_at.0;
        let outweighs = self.bytes_since_image >= 2 * self.accounted_bytes;
        let above = context.config.values_on_disk_above;
        let is_due = if above > 0 && self.accounted_bytes > above {
            let bytes = u64::try_from(self.accounted_bytes).expect("a size fits 64 bits");
            outweighs || entries >= (bytes / LARGE_BYTES_PER_ENTRY).max(LARGE_ENTRIES_MIN)
        } else {
            outweighs && entries >= context.config.image_every_entries
        };
        if is_due {
            self.log_image(context);
        }
    }

    pub(super) fn log_image(&mut self, context: &mut Context) {
        context.counters.images_logged += 1;
        let record = self.take_image();
        self.last_lsn = context.append_lazily(&record);
    }

    /// The image as a record, which counts as the last one written.
    pub(crate) fn take_image(&mut self) -> LogRecord {
        self.image_at = self.applied;
        self.bytes_since_image = 0;
        LogRecord::Image {
            entity: self.id,
            applied: self.applied,
            chain: self.chain,
            last_value_id: self.last.as_ref().map(|last| last.value_id),
            state: self.encode_image(),
        }
    }

    /// Appends anew what was logged of open entries before `floor`. What this replica promised and
    /// accepted stays as it is, and so does what waits for its records to be durable.
    pub(crate) fn relocate_open_entries(&mut self, context: &mut Context, floor: SegmentId) {
        for (entry, slot) in self.slots.iter() {
            let index = context.log.index();
            let oldest = index.get(self.id).and_then(|known| known.oldest_segment_of(entry));
            if oldest.is_some_and(|oldest| oldest < floor)
                && !planted!("open-entry-not-relocated")
                && let Some(lsn) = slot.log_copy(context, self.id, entry)
            {
                self.last_lsn = lsn;
                context.counters.relocated += 1;
            }
        }
    }
}
