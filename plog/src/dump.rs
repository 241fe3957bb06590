//! One line of text for each record, for an operator.

use crate::entry_record::EntryRecord;
use crate::log_record::{LogRecord, LoggedValue};
use crate::recovery::ScannedRecord;
use crate::vocabulary::{Ballot, ValueId};

/// The line for one record: LSN, place, entity, entry, and what it says. No line break.
#[must_use]
pub fn record_line(scanned: &ScannedRecord) -> String {
    let ScannedRecord { lsn, location, record, after_damage } = scanned;
    let place = format!("{}+{}", location.segment(), location.offset);
    let head = format!("{:>12} {place} {:>6}", lsn.0, location.length);
    let whose = format!("entity {:016x} entry {}", record.entity().0, record.entry().0);
    let what = match record {
        LogRecord::Entry { record, value, .. } => {
            let value = match value {
                LoggedValue::None => "no value".to_owned(),
                LoggedValue::Inline(bytes) => format!("{} bytes inline", bytes.len()),
                LoggedValue::Earlier => "value earlier".to_owned(),
            };
            format!("{}, {value}", record_text(record))
        }
        LogRecord::Value { value_id, bytes, .. } => {
            format!("value {}, {} bytes", id_text(*value_id), bytes.len())
        }
        LogRecord::Chosen { ballot, value_id, chain, .. } => {
            let (ballot, id) = (ballot_text(*ballot), id_text(*value_id));
            format!("chosen {id} at {ballot}, chain {chain:08x}")
        }
        LogRecord::Image { chain, last_value_id, state, .. } => {
            let id = last_value_id.map_or_else(|| "-".to_owned(), id_text);
            format!("image of {} bytes, last value {id}, chain {chain:08x}", state.len())
        }
    };
    let mark = if *after_damage { " (after damage)" } else { "" };
    format!("{head} {whose} {what}{mark}")
}

fn record_text(record: &EntryRecord) -> String {
    let [prepared, promised, accepted] =
        [record.prepared, record.promised, record.accepted].map(ballot_text);
    let id = record.value_id.map_or_else(|| "-".to_owned(), id_text);
    let chosen = if record.chosen { " chosen" } else { "" };
    format!("prepared {prepared} promised {promised} accepted {accepted} value {id}{chosen}")
}

/// Round, boot epoch and acceptor.
fn ballot_text(ballot: Ballot) -> String {
    if ballot.is_none() {
        return "-".to_owned();
    }
    format!("{}.{}@{}", ballot.round, ballot.epoch.0, ballot.acceptor.0)
}

/// Counter, boot epoch and originator.
fn id_text(id: ValueId) -> String {
    format!("{}.{}@{}", id.counter, id.epoch.0, id.originator.0)
}
