//! Which commands may be in a batch: what its puzzle is made of.

use net::resp::value::Value;

use crate::history::command::Command;
use crate::history::versions::judge::{Judge, index_of, recorded};
use crate::history::versions::puzzle::{Explanation, PIECES_MAX, Piece, Puzzle, Request};

/// Operations of unknown fate that are alike, and left no id.
#[derive(Debug)]
pub(super) struct Class<'a> {
    pub(super) command: Command<'a>,
    /// When each was called, ascending.
    pub(super) called_at: Vec<u64>,
}

/// What might be in one of several batches.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Loose {
    /// Any of a class, by number.
    Class(usize),
    /// An answered subject, by number: in the batch that its reply names, or in an earlier one
    /// under an id that a replica made up.
    Subject(usize),
}

/// Where a piece of a puzzle comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A subject that can be in this batch only.
    Fixed(usize),
    /// One that may be elsewhere.
    Loose(Loose),
}

/// How much of what is loose a puzzle gets: each of these, and all before it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Allowance {
    /// What was answered as of this batch, and is in no batch before it.
    Answered,
    /// What was answered as of a later one, perhaps as a copy, and is in no batch before it.
    Copies,
    /// Of what is of unknown fate, and no batch before it was found to need, what can be seen in
    /// its effects.
    Likely,
    /// All that is of unknown fate and not needed before.
    Unused,
    /// All that can be in it at all, whoever else needs it.
    All,
}

impl Allowance {
    /// One after the other, until the batch is explained, at nobody's cost.
    pub(super) const STEPS: [Self; 4] = [Self::Answered, Self::Copies, Self::Likely, Self::Unused];
}

impl<'a> Judge<'a> {
    /// The batch as a puzzle, and where each piece comes from.
    pub(super) fn puzzle(
        &self,
        entry: u64,
        due: &[usize],
        allowance: Allowance,
    ) -> (Puzzle<'_, 'a>, Vec<Origin>) {
        let all = allowance == Allowance::All;
        let mut pieces = Vec::new();
        let mut origins = Vec::new();
        for number in due {
            let loose = Loose::Subject(*number);
            if self.earlier_places(*number).is_empty() {
                pieces.push(self.piece(*number, true, false));
                origins.push(Origin::Fixed(*number));
            } else if all || self.used(loose) == 0 {
                pieces.push(self.piece(*number, !all, false));
                origins.push(Origin::Loose(loose));
            }
        }
        if allowance >= Allowance::Copies {
            for number in self.later(entry) {
                let loose = Loose::Subject(number);
                if all || self.used(loose) == 0 {
                    pieces.push(self.piece(number, false, true));
                    origins.push(Origin::Loose(loose));
                }
            }
        }
        let mut is_whole = true;
        if allowance >= Allowance::Likely {
            let mut classes = self.possible_classes(entry);
            if allowance == Allowance::Likely {
                classes.retain(|number| self.can_show(entry, &self.classes[*number].command));
            }
            is_whole = pieces.len() + classes.len() <= PIECES_MAX;
            classes.truncate(PIECES_MAX.saturating_sub(pieces.len()));
            for number in classes {
                let loose = Loose::Class(number);
                let used = if all { 0 } else { self.used(loose) };
                let limit = self.available(number, entry).saturating_sub(used);
                if limit > 0 {
                    let command = self.classes[number].command;
                    let (is_due, needs_request) = (false, false);
                    pieces.push(Piece { command, reply: None, limit, is_due, needs_request });
                    origins.push(Origin::Loose(loose));
                }
            }
        }
        (Puzzle { is_whole, ..self.puzzle_of(entry, pieces) }, origins)
    }

    /// Classes that may be in this batch, the most promising first.
    fn possible_classes(&self, entry: u64) -> Vec<usize> {
        let command = |number: usize| &self.classes[number].command;
        let mut possible: Vec<usize> = (0..self.classes.len())
            .filter(|number| self.available(*number, entry) > 0)
            // A request is noted also when it changed nothing.
            .filter(|number| self.has_own(entry) || self.may_touch(entry, command(*number)))
            .collect();
        possible.sort_by_key(|number| !self.can_show(entry, command(*number)));
        possible
    }

    /// Whether an effect of the batch can show that a command was in it.
    fn can_show(&self, entry: u64, command: &Command<'_>) -> bool {
        let mut effects = self.batch(entry).effects.iter();
        effects.any(|(key, value)| command.can_be_part_of(key, value.as_deref()))
    }

    /// The batch as a puzzle of these pieces.
    pub(super) fn puzzle_of(&self, entry: u64, pieces: Vec<Piece<'a>>) -> Puzzle<'_, 'a> {
        let requests = self.batch(entry).requests.iter().map(|(id, reply)| {
            let number = self.by_id.get(id.as_slice());
            let command = number.map(|number| self.subjects[*number].command);
            // What is no reply agrees with none.
            Request { command, reply: recorded(reply).unwrap_or(Value::NullArray) }
        });
        let requests = requests.collect();
        let (before, after) = (self.state(entry - 1), self.state(entry));
        Puzzle { entry, before, after, requests, pieces, is_whole: true }
    }

    pub(super) fn piece(&self, number: usize, is_due: bool, needs_request: bool) -> Piece<'a> {
        let subject = &self.subjects[number];
        let reply = subject.reply().map(|(_, reply, _)| reply);
        Piece { command: subject.command, reply, limit: 1, is_due, needs_request }
    }

    /// How many of a class were called before `entry` was known.
    pub(super) fn available(&self, class: usize, entry: u64) -> usize {
        let known_by = self.known_by(entry);
        self.classes[class].called_at.partition_point(|called_at| *called_at <= known_by)
    }

    /// How often this was found to be needed so far.
    fn used(&self, loose: Loose) -> usize {
        let needs = self.allotted.values().flatten();
        needs.filter(|(other, _)| *other == loose).map(|(_, count)| count).sum()
    }

    /// Answered writes that name a later batch, but may be here, under an id that a replica made
    /// up: a copy was answered from memory.
    fn later(&self, entry: u64) -> Vec<usize> {
        if !self.has_own(entry) {
            return Vec::new();
        }
        let members = self.members[index_of(entry) + 1..].iter().flatten().copied();
        members.filter(|number| self.earlier_places(*number).contains(&entry)).collect()
    }

    /// Entries before the one it names in which an answered write may be, under an id that a
    /// replica made up: called in time, and answered the same.
    pub(super) fn earlier_places(&self, number: usize) -> Vec<u64> {
        let subject = &self.subjects[number];
        let Some((_, reply, entry)) = subject.reply() else { return Vec::new() };
        if !subject.command.is_write() {
            return Vec::new();
        }
        let called_at = subject.operation.called_at;
        let is_too_early = |(earlier, _): &(u64, &[u8])| self.known_by(*earlier) < called_at;
        let first = self.own_requests.partition_point(is_too_early);
        let between = self.own_requests[first..].iter().take_while(|(other, _)| *other < entry);
        let mut between = between.peekable();
        if between.peek().is_none() {
            return Vec::new();
        }
        let reply = reply.to_resp3();
        between.filter(|(_, recorded)| *recorded == reply).map(|(earlier, _)| *earlier).collect()
    }

    /// Whether a command may have changed something in this batch: only keys that the batch
    /// changes, or that came and went with it.
    pub(super) fn may_touch(&self, entry: u64, command: &Command<'_>) -> bool {
        let records = &self.state(entry).keys;
        let is_changed =
            |key: &&[u8]| records.get(*key).is_none_or(|record| record.version == entry);
        command.keys().iter().any(is_changed)
    }
}

/// What an explanation needs of what might be elsewhere.
pub(super) fn needs(explanation: &Explanation, origins: &[Origin]) -> Vec<(Loose, usize)> {
    let used = origins.iter().zip(&explanation.used);
    used.filter_map(|(origin, count)| match origin {
        Origin::Loose(loose) if *count > 0 => Some((*loose, *count)),
        Origin::Loose(_) | Origin::Fixed(_) => None,
    })
    .collect()
}
