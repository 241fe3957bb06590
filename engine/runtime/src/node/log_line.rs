//! The daemon's log: one line per event on standard error, in `key=value` form.
//!
//! A log is read when something is wrong, and what is wrong tends to happen ten thousand times a
//! second. So each message has a fixed text (its *kind*), details go into fields, and a kind is
//! written at most [`LINES_PER_SECOND`] times per second and thread; the next line of that kind
//! says how many were left out. A line is one write call, so lines of several cores never mix,
//! and nothing is shared between threads but the level.
//!
//! ```text
//! time=2026-03-01T12:00:00.123Z level=info core=1 message="log recovered" segments=3 bytes=1024
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Lines of one kind that one thread writes within a second; the rest are counted.
pub const LINES_PER_SECOND: u32 = 10;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// Something was lost or refused that should not have been.
    Error = 0,
    /// Works, but an operator should look.
    Warn = 1,
    /// The few events of a normal life: started, recovered, a peer came or went.
    Info = 2,
    /// For whoever looks for a fault.
    Debug = 3,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// One detail of a line.
pub type Field<'a> = (&'static str, &'a dyn Display);

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

thread_local! {
    static CORE: Cell<Option<u16>> = const { Cell::new(None) };
    static RATES: RefCell<BTreeMap<&'static str, Rate>> = const { RefCell::new(BTreeMap::new()) };
}

/// How often one kind was written of late.
struct Rate {
    window: Instant,
    written: u32,
    left_out: u64,
}

/// Lines above `level` are dropped from now on, on every thread.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Lines of this thread say `core=` from now on.
pub fn set_core(core: u16) {
    CORE.set(Some(core));
}

/// Whether lines of `level` are written, for callers whose fields cost something.
#[must_use]
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes a line at [`Level::Error`].
pub fn error(message: &'static str, fields: &[Field<'_>]) {
    line(Level::Error, message, fields);
}

/// Writes a line at [`Level::Warn`].
pub fn warn(message: &'static str, fields: &[Field<'_>]) {
    line(Level::Warn, message, fields);
}

/// Writes a line at [`Level::Info`].
pub fn info(message: &'static str, fields: &[Field<'_>]) {
    line(Level::Info, message, fields);
}

/// Writes a line at [`Level::Debug`].
pub fn debug(message: &'static str, fields: &[Field<'_>]) {
    line(Level::Debug, message, fields);
}

/// Writes one line unless the level or the rate of this `message` forbids it.
pub fn line(level: Level, message: &'static str, fields: &[Field<'_>]) {
    if !enabled(level) {
        return;
    }
    let now = Instant::now();
    let Some(left_out) = RATES.with_borrow_mut(|rates| admit(rates, message, now)) else {
        return;
    };
    raw(&render(SystemTime::now(), level, CORE.get(), message, fields, left_out));
}

/// Writes `text` and a line end to standard error in one call, whatever the level.
pub fn raw(text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    // Standard error may be closed; there is nowhere left to say so.
    std::io::stderr().write_all(&bytes).ok();
}

/// How many lines of this kind were left out before this one; `None` to leave this one out too.
fn admit(
    rates: &mut BTreeMap<&'static str, Rate>,
    kind: &'static str,
    now: Instant,
) -> Option<u64> {
    let rate = rates.entry(kind).or_insert(Rate { window: now, written: 0, left_out: 0 });
    if now.saturating_duration_since(rate.window) >= Duration::from_secs(1) {
        rate.window = now;
        rate.written = 0;
    }
    if rate.written >= LINES_PER_SECOND {
        rate.left_out = rate.left_out.saturating_add(1);
        return None;
    }
    rate.written += 1;
    Some(std::mem::take(&mut rate.left_out))
}

fn render(
    now: SystemTime,
    level: Level,
    core: Option<u16>,
    message: &str,
    fields: &[Field<'_>],
    left_out: u64,
) -> String {
    let mut text = String::with_capacity(160);
    text.push_str("time=");
    push_time(&mut text, now);
    text.push_str(" level=");
    text.push_str(level.word());
    if let Some(core) = core {
        push_field(&mut text, "core", &core);
    }
    push_field(&mut text, "message", &message);
    for (key, value) in fields {
        push_field(&mut text, key, value);
    }
    if left_out > 0 {
        push_field(&mut text, "left_out", &left_out);
    }
    text
}

fn push_field(text: &mut String, key: &str, value: &dyn Display) {
    let value = value.to_string();
    text.push(' ');
    text.push_str(key);
    text.push('=');
    let plain = |character: char| {
        !character.is_whitespace() && !character.is_control() && !"\"=\\".contains(character)
    };
    if !value.is_empty() && value.chars().all(plain) {
        text.push_str(&value);
    } else {
        write!(text, "{value:?}").expect("writing to a String never fails");
    }
}

/// UTC to the millisecond, as in RFC 3339.
pub fn push_time(text: &mut String, now: SystemTime) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (day, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(day);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z",
        second % 60,
        since.subsec_millis()
    )
    .expect("writing to a String never fails");
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil_date(day: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // 146,097 days are exactly 400 years of this calendar: whole cycles first, then at most 400
    // steps.
    let mut year = 1970 + day / 146_097 * 400;
    let mut rest = day % 146_097;
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant, UNIX_EPOCH};

    use super::{LINES_PER_SECOND, Level, admit, civil_date, render};

    #[test]
    fn a_line_has_time_level_core_message_and_quoted_fields() {
        let now = UNIX_EPOCH + Duration::from_millis(1_772_366_400_123);
        let line = render(
            now,
            Level::Info,
            Some(3),
            "log recovered",
            &[("file", &"/a b"), ("bytes", &7), ("empty", &"")],
            2,
        );
        assert_eq!(
            line,
            "time=2026-03-01T12:00:00.123Z level=info core=3 message=\"log recovered\" \
             file=\"/a b\" bytes=7 empty=\"\" left_out=2"
        );
    }

    #[test]
    fn a_value_with_a_line_end_cannot_forge_a_second_line() {
        let line = render(UNIX_EPOCH, Level::Warn, None, "m", &[("name", &"a\nlevel=error")], 0);
        assert!(!line.contains('\n'));
        assert!(line.ends_with("name=\"a\\nlevel=error\""));
    }

    #[test]
    fn a_kind_is_rate_limited_and_the_next_line_says_how_many_were_left_out() {
        let (mut rates, start) = (BTreeMap::new(), Instant::now());
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(admit(&mut rates, "a", start), Some(0));
        }
        assert_eq!(admit(&mut rates, "a", start), None);
        assert_eq!(admit(&mut rates, "a", start), None);
        assert_eq!(admit(&mut rates, "b", start), Some(0), "another kind has its own share");
        assert_eq!(admit(&mut rates, "a", start + Duration::from_secs(1)), Some(2));
        assert_eq!(admit(&mut rates, "a", start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(59), (1970, 3, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(19_782), (2024, 2, 29));
        assert_eq!(civil_date(20_513), (2026, 3, 1));
        assert_eq!(civil_date(47_540), (2100, 2, 28));
        assert_eq!(civil_date(47_541), (2100, 3, 1));
    }
}
