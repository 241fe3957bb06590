//! What a log is made of, and whose records take the most of it.

use std::collections::BTreeMap;

use plog::recovery::ScannedRecord;
use plog::verify::VerifyReport;
use plog::vocabulary::EntityId;

/// Entities that are told apart; records of further ones are counted together.
const ENTITIES_MAX: usize = 4 << 20;

/// Sums over the records of one core's log.
#[derive(Debug, Default)]
pub struct LogStats {
    entities: BTreeMap<EntityId, Share>,
    others: Share,
    longest: u32,
}

/// What an entity has of the log.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    records: u64,
    bytes: u64,
}

impl LogStats {
    pub fn push(&mut self, scanned: &ScannedRecord) {
        let entity = scanned.record.entity();
        let is_known = self.entities.len() < ENTITIES_MAX || self.entities.contains_key(&entity);
        let share =
            if is_known { self.entities.entry(entity).or_default() } else { &mut self.others };
        share.records += 1;
        share.bytes += u64::from(scanned.location.length);
        self.longest = self.longest.max(scanned.location.length);
    }

    /// The report, with the `top` entities that take most.
    pub fn lines(&self, report: &VerifyReport, top: usize) -> Vec<String> {
        let sum = |count: &dyn Fn(&plog::verify::SegmentReport) -> u64| -> u64 {
            report.segments.iter().map(count).sum()
        };
        let frames = sum(&|segment| segment.frames);
        let bytes = sum(&|segment| segment.bytes);
        let payload = sum(&|segment| segment.payload_bytes);
        let counts = [
            ("entry", sum(&|segment| segment.records.entries)),
            ("value", sum(&|segment| segment.records.values)),
            ("chosen", sum(&|segment| segment.records.chosen)),
            ("image", sum(&|segment| segment.records.images)),
        ];
        let records: u64 = counts.iter().map(|(_, count)| count).sum();
        let mut lines = vec![
            format!("segments {}, frames {frames}, records {records}", report.segments.len()),
            counts.map(|(kind, count)| format!("{kind} records {count}")).join(", "),
            format!(
                "bytes of frames {bytes}, of records {payload} ({}), longest record {}",
                per_cent(payload, bytes),
                self.longest
            ),
            format!("records per frame {}", ratio(records, frames)),
        ];
        let mut entities: Vec<_> = self.entities.iter().collect();
        entities.sort_by_key(|(entity, share)| (std::cmp::Reverse(share.bytes), **entity));
        lines.push(format!("entities {}", entities.len()));
        if self.others.records > 0 {
            let Share { records, bytes } = self.others;
            lines.push(format!("and more, not told apart: {records} records, {bytes} bytes"));
        }
        for (entity, Share { records, bytes }) in entities.into_iter().take(top) {
            let share = per_cent(*bytes, payload);
            lines.push(format!(
                "entity {:016x}: {records} records, {bytes} bytes ({share})",
                entity.0
            ));
        }
        lines.extend(report.to_string().lines().last().map(str::to_owned));
        lines
    }
}

/// `part` of `whole` in per cent, rounded down.
fn per_cent(part: u64, whole: u64) -> String {
    format!("{} %", part * 100 / whole.max(1))
}

/// `count` by `by`, with one digit.
fn ratio(count: u64, by: u64) -> String {
    let tenths = count * 10 / by.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}
