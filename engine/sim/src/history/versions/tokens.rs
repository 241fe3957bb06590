//! Appended tokens in final values: none there more often than it was asked for.
//!
//! The replay of batches implies it; this looks at nothing but the outcome, and so also where a
//! search was given up.

use crate::history::Violation;
use crate::history::command::Command;
use crate::history::model::State;
use crate::history::versions::Subject;

/// Counts the pieces of every value that is made of pieces alone: whatever was set or appended to
/// its key ends in one byte, the same for all, which is nowhere else in it. Returns how many pieces
/// were counted.
///
/// # Errors
///
/// The token that is there too often.
pub(super) fn check_tokens(subjects: &[Subject<'_>], state: &State) -> Result<usize, Violation> {
    let mut counted = 0;
    for (key, record) in &state.keys {
        let Some((&end, _)) = record.value.split_last() else { continue };
        let Some(mut asked) = pieces_asked_for(subjects, key, end) else { continue };
        asked.sort_unstable();
        let mut there: Vec<&[u8]> = record.value.split_inclusive(|byte| *byte == end).collect();
        there.sort_unstable();
        counted += there.len();
        for same in there.chunk_by(|left, right| left == right) {
            let token = same[0];
            let first = asked.partition_point(|piece| *piece < token);
            let after = asked.partition_point(|piece| *piece <= token);
            if same.len() > after - first {
                let what = format!(
                    "{} is in the final value of {} {} times, and was asked for {} times",
                    token.escape_ascii(),
                    key.escape_ascii(),
                    same.len(),
                    after - first
                );
                return Err(Violation::new("exactly-once", what));
            }
        }
    }
    Ok(counted)
}

/// All that can have become part of `key`'s value, if each piece ends in `end`, and only ends so,
/// and some was appended.
fn pieces_asked_for<'a>(subjects: &[Subject<'a>], key: &[u8], end: u8) -> Option<Vec<&'a [u8]>> {
    let is_whole = |piece: &[u8]| {
        piece.split_last().is_some_and(|(last, rest)| *last == end && !rest.contains(&end))
    };
    let mut pieces = Vec::new();
    let mut appended = false;
    for subject in subjects {
        let piece = match subject.command {
            Command::Append(to, tail) if to == key => {
                appended = true;
                tail
            }
            Command::Set { key: to, value, .. } | Command::CompareAndSet { key: to, value, .. }
                if to == key =>
            {
                value
            }
            Command::Add(to, _) if to == key => return None,
            Command::SetMany(pairs) if pairs.iter().step_by(2).any(|to| to == key) => return None,
            _ => continue,
        };
        // One that is empty adds nothing.
        if !piece.is_empty() && !is_whole(piece) {
            return None;
        }
        pieces.push(piece);
    }
    appended.then_some(pieces)
}
