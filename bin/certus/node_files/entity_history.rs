//! All records of one entity, by entry.

use std::collections::BTreeMap;
use std::fmt;

use plog::dump::record_line;
use plog::log_record::LogRecord;
use plog::recovery::ScannedRecord;
use plog::vocabulary::Entry;

/// What the log of a core says of one entity. Takes as much memory as these records as text.
#[derive(Debug, Default)]
pub struct EntityHistory {
    entries: BTreeMap<Entry, Vec<String>>,
    chosen: BTreeMap<Entry, ()>,
    /// The last entry of the newest image.
    image: Entry,
}

impl EntityHistory {
    pub fn push(&mut self, record: &ScannedRecord) {
        let entry = record.summary().entry();
        match &record.record {
            LogRecord::Chosen { .. } => drop(self.chosen.insert(entry, ())),
            LogRecord::Entry { record, .. } if record.chosen => {
                self.chosen.insert(entry, ());
            }
            LogRecord::Image { .. } => self.image = self.image.max(entry),
            LogRecord::Entry { .. } | LogRecord::Value { .. } => {}
        }
        self.entries.entry(entry).or_default().push(record_line(record));
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last entry up to which all are known to be chosen: part of an image, or marked.
    fn chosen_without_a_hole(&self) -> Entry {
        let mut last = self.image;
        while self.chosen.contains_key(&last.next()) {
            last = last.next();
        }
        last
    }
}

impl fmt::Display for EntityHistory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, _)) = self.entries.last_key_value() else {
            return write!(formatter, "  no record");
        };
        for (entry, lines) in &self.entries {
            writeln!(formatter, "  entry {}:", entry.0)?;
            for line in lines {
                writeln!(formatter, "    {line}")?;
            }
        }
        let records: usize = self.entries.values().map(Vec::len).sum();
        let chosen = self.chosen_without_a_hole();
        let open: Vec<String> = self
            .entries
            .keys()
            .filter(|entry| **entry > chosen && !self.chosen.contains_key(entry))
            .map(|entry| entry.0.to_string())
            .collect();
        let open = if open.is_empty() { "none".to_owned() } else { open.join(" ") };
        write!(
            formatter,
            "  {records} records, last entry {}, newest image at entry {}, known to be chosen \
             without a hole up to entry {}, open: {open}",
            last.0, self.image.0, chosen.0
        )
    }
}
