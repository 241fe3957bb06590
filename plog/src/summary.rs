//! What the index needs to know of a record.

use crate::entry_record::EntryRecord;
use crate::log_record::{LogRecord, LoggedValue};
use crate::vocabulary::{Ballot, EntityId, Entry, ValueId};

/// A record without its bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordSummary {
    /// Of a [`LogRecord::Entry`].
    Entry {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// What the acceptor holds of it.
        record: EntryRecord,
        /// Whether the value's bytes are in this very record.
        inline: bool,
    },
    /// Of a [`LogRecord::Value`].
    Value {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// The value's name.
        value_id: ValueId,
    },
    /// Of a [`LogRecord::Chosen`].
    Chosen {
        /// Whose entry.
        entity: EntityId,
        /// Which entry.
        entry: Entry,
        /// The ballot at which it was chosen.
        ballot: Ballot,
        /// What was chosen.
        value_id: ValueId,
        /// The entity's checksum chain at this entry.
        chain: u32,
    },
    /// Of a [`LogRecord::Image`].
    Image {
        /// Which entity.
        entity: EntityId,
        /// The last entry that is part of the state.
        applied: Entry,
        /// The entity's checksum chain there; `None` where only a checkpoint's table was read.
        chain: Option<u32>,
    },
}

impl RecordSummary {
    /// The summary of `record`.
    #[must_use]
    pub fn of(record: &LogRecord) -> Self {
        match record {
            LogRecord::Entry { entity, entry, record, value } => Self::Entry {
                entity: *entity,
                entry: *entry,
                record: *record,
                inline: matches!(value, LoggedValue::Inline(_)),
            },
            LogRecord::Value { entity, entry, value_id, .. } => {
                Self::Value { entity: *entity, entry: *entry, value_id: *value_id }
            }
            LogRecord::Chosen { entity, entry, ballot, value_id, chain } => Self::Chosen {
                entity: *entity,
                entry: *entry,
                ballot: *ballot,
                value_id: *value_id,
                chain: *chain,
            },
            LogRecord::Image { entity, applied, chain, .. } => {
                Self::Image { entity: *entity, applied: *applied, chain: Some(*chain) }
            }
        }
    }

    /// The entity the record is of.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        match self {
            Self::Entry { entity, .. }
            | Self::Value { entity, .. }
            | Self::Chosen { entity, .. }
            | Self::Image { entity, .. } => *entity,
        }
    }

    /// The entry the record is of; of an image the last one that is part of it.
    #[must_use]
    pub fn entry(&self) -> Entry {
        match self {
            Self::Entry { entry, .. } | Self::Value { entry, .. } | Self::Chosen { entry, .. } => {
                *entry
            }
            Self::Image { applied, .. } => *applied,
        }
    }
}
