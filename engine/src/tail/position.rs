//! Where a tail stands: in the log of one core, in a pass over its entities, in all cores.
//!
//! ```text
//! position   place,place,…                        one for each core of the node, from core 0 on
//! place      -                                    nothing was told yet
//!          | stream                               all changes up to there were told
//!          | stream~after                         the same, amid a pass: all entities up to `after`
//! stream     log.segment.offset.chain.record[+n]  of one core's log; n lines of the next record
//! ```
//!
//! Numbers are in hexadecimal digits. To whoever keeps a position it is a word without meaning.

use std::fmt;
use std::str::FromStr;

use plog::frame_walk::FramePlace;
use plog::segment::SegmentId;
use plog::vocabulary::{EntityId, Lsn};

/// A place in the log of one core: what was told are all changes up to record `told`, and the first
/// `lines` of those that the record after it with any tells.
///
/// What it names is durable in that log, so it stays right over restarts. Reading begins at `scan`,
/// at or before the frame of `told`: there stand the values whose records say only later that they
/// are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogPosition {
    /// Names the log: the lower half of its incarnation. Each log of each core of each node has
    /// another, but for the cores of one node, whose order tells them apart.
    pub log: u64,
    /// Where reading begins.
    pub scan: FramePlace,
    /// The last record all of which was told.
    pub told: Lsn,
    /// Lines told of the next record that has any.
    pub lines: u32,
}

/// How far a pass over all entities of a core is: those up to this one were told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PassPlace {
    /// The last one told, in the order of the index; `None`: none.
    pub after: Option<EntityId>,
}

/// Where a tail stands in one core.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CorePlace {
    /// `None`: nowhere yet.
    pub stream: Option<LogPosition>,
    /// Amid a pass, how far it is.
    pub pass: Option<PassPlace>,
}

/// Where a tail stands in all cores of a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// By core.
    pub cores: Vec<CorePlace>,
}

/// A text that is no position.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is no position: give the \"position\" of a line that certus tail printed, word for word"
)]
pub struct NoPosition(pub String);

impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, scan, told, lines } = self;
        let FramePlace { segment, offset, chain } = scan;
        write!(formatter, "{log:x}.{:x}.{offset:x}.{chain:x}.{:x}", segment.0, told.0)?;
        if *lines > 0 {
            write!(formatter, "+{lines:x}")?;
        }
        Ok(())
    }
}

impl FromStr for LogPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let parse = || {
            let (place, lines) = match text.split_once('+') {
                Some((place, lines)) => (place, u32::try_from(hex(lines)?).ok()?),
                None => (text, 0),
            };
            let mut numbers = place.split('.').map(hex);
            let mut next = || numbers.next().flatten();
            let log = next()?;
            let segment = SegmentId(next()?);
            let offset = u32::try_from(next()?).ok()?;
            let chain = u32::try_from(next()?).ok()?;
            let told = Lsn(next()?);
            let position = Self { log, scan: FramePlace { segment, offset, chain }, told, lines };
            // A position has one text, so what reads back otherwise was never given away.
            (numbers.next().is_none() && position.to_string() == text).then_some(position)
        };
        parse().ok_or_else(|| NoPosition(text.to_owned()))
    }
}

fn hex(digits: &str) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if are_digits { u64::from_str_radix(digits, 16).ok() } else { None }
}

impl fmt::Display for CorePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stream) = self.stream else { return formatter.write_str("-") };
        write!(formatter, "{stream}")?;
        match self.pass {
            None => Ok(()),
            Some(PassPlace { after: None }) => formatter.write_str("~"),
            Some(PassPlace { after: Some(after) }) => write!(formatter, "~{:x}", after.0),
        }
    }
}

impl FromStr for CorePlace {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        if text == "-" {
            return Ok(Self::default());
        }
        let wrong = || NoPosition(text.to_owned());
        let (stream, pass) = match text.split_once('~') {
            None => (text, None),
            Some((stream, "")) => (stream, Some(PassPlace { after: None })),
            Some((stream, after)) => {
                let after = hex(after).filter(|id| format!("{id:x}") == after);
                (stream, Some(PassPlace { after: Some(EntityId(after.ok_or_else(wrong)?)) }))
            }
        };
        Ok(Self { stream: Some(stream.parse().map_err(|_| wrong())?), pass })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, core) in self.cores.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(formatter, "{comma}{core}")?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let cores: Result<Vec<CorePlace>, NoPosition> = text.split(',').map(str::parse).collect();
        Ok(Self { cores: cores.map_err(|_| NoPosition(text.to_owned()))? })
    }
}

#[cfg(test)]
mod tests {
    use plog::frame_walk::FramePlace;
    use plog::segment::SegmentId;
    use plog::vocabulary::{EntityId, Lsn};

    use super::{CorePlace, LogPosition, PassPlace, Position};

    fn stream(lines: u32) -> LogPosition {
        let scan = FramePlace { segment: SegmentId(3), offset: 0x5000, chain: 0xabc };
        LogPosition { log: 0xfeed, scan, told: Lsn(0x1_0000), lines }
    }

    #[test]
    fn a_position_reads_back_as_it_was_given_away() {
        let pass = |after| Some(PassPlace { after });
        let position = Position {
            cores: vec![
                CorePlace { stream: Some(stream(0)), pass: None },
                CorePlace { stream: Some(stream(2)), pass: pass(None) },
                CorePlace { stream: Some(stream(0)), pass: pass(Some(EntityId(0x2a))) },
                CorePlace::default(),
            ],
        };
        let text = position.to_string();
        let expected = "feed.3.5000.abc.10000,feed.3.5000.abc.10000+2~,feed.3.5000.abc.10000~2a,-";
        assert_eq!(text, expected);
        assert_eq!(text.parse(), Ok(position));
    }

    #[test]
    fn what_was_never_given_away_is_refused() {
        for text in [
            "",
            ",",
            "x",
            "1.2.3.4",
            "1.2.3.4.5.6",
            "1.2.3.4.",
            "01.2.3.4.5",
            "1.2.3.4.5+0",
            "1.2.3.4.5+",
            "1.2.3.4.5~~",
            "1.2.3.4.5~0a",
            "1.2.100000000.4.5",
            "-~",
            "+1.2.3.4.5",
            "1.2.3.4.5,",
            " 1.2.3.4.5",
            "A.2.3.4.5",
        ] {
            let refused = text.parse::<Position>();
            assert!(refused.is_err(), "{text:?} is taken for {refused:?}");
        }
        let error = "x".parse::<Position>().unwrap_err().to_string();
        assert!(error.starts_with("\"x\" is no position"), "{error}");
    }
}
