//! Why a batch that nothing explains is wrong: which invariant is broken, and by what.
//!
//! Nothing here decides whether there is a violation; that is certain already.

use std::collections::BTreeSet;

use crate::history::versions::Subject;
use crate::history::versions::judge::Judge;
use crate::history::versions::pieces::Allowance;
use crate::history::versions::puzzle::{PIECES_MAX, Piece};
use crate::history::{Violation, describe};

impl<'a> Judge<'a> {
    /// The violation that the batch of `entry` is, which no order of what can be in it explains.
    pub(super) fn blame(&self, entry: u64) -> Violation {
        if let Err(phantom) = self.check_phantoms(entry) {
            return phantom;
        }
        if let Some(misplaced) = self.misplaced(entry) {
            return Violation::new("linearizable", misplaced);
        }
        let due = self.due(entry);
        if self.is_solved_with(entry, &due, |subject| !subject.is_refused()) {
            let what = format!("only a command that took effect twice explains entry {entry}");
            return Violation::new("exactly-once", what);
        }
        if self.is_solved_with(entry, &due, |_| true) {
            let what = format!("only a command that was refused explains entry {entry}");
            return Violation::new("validity", what);
        }
        let why = self.replay(entry).err().unwrap_or_default();
        let answered = due.iter().map(|number| describe(self.subjects[*number].operation));
        let answered: Vec<String> = answered.collect();
        let what = format!(
            "no order of its commands explains entry {entry}: {why}; also answered as of it: [{}]",
            answered.join("; ")
        );
        Violation::new("linearizable", what)
    }

    /// Checks that every effect of the batch is what somebody asked for in time.
    ///
    /// # Errors
    ///
    /// The effect that nobody asked for.
    pub(super) fn check_phantoms(&self, entry: u64) -> Result<(), Violation> {
        for (key, value) in &self.batch(entry).effects {
            let leaves = |subject: &&Subject<'_>| subject.command.can_leave(key, value.as_deref());
            let mut possible = self.subjects.iter().filter(leaves);
            if possible.clone().any(|subject| self.is_in_time(subject, entry)) {
                continue;
            }
            let asked = match possible.next() {
                Some(subject) => format!("was asked for only by {}", describe(subject.operation)),
                None => "was never asked for".to_owned(),
            };
            let what = match value {
                Some(value) => format!("{}, as the value of", shorten(value)),
                None => "a deletion of".to_owned(),
            };
            let what = format!("entry {entry} has {what} {}: it {asked}", shorten(key));
            return Err(Violation::new("validity", what));
        }
        Ok(())
    }

    /// Whether an operation can have taken effect in this batch, as far as its times say.
    fn is_in_time(&self, subject: &Subject<'_>, entry: u64) -> bool {
        !subject.is_refused() && subject.operation.called_at <= self.known_by(entry)
    }

    /// A read, or a write, that alone makes the batch a riddle.
    fn misplaced(&self, entry: u64) -> Option<String> {
        let is_read = |number: &usize| !self.subjects[*number].command.is_write();
        let (reads, writes): (Vec<usize>, Vec<usize>) =
            self.due(entry).into_iter().partition(is_read);
        let is_solved = |due: &[usize]| {
            let (puzzle, _) = self.puzzle(entry, due, Allowance::All);
            !puzzle.solve().explanations.is_empty()
        };
        let operation = |number: usize| describe(self.subjects[number].operation);
        if is_solved(&writes) {
            let read =
                reads.into_iter().find(|read| !is_solved(&[&writes[..], &[*read]].concat()))?;
            let read = operation(read);
            return Some(format!("no state of entry {entry} is what was seen by {read}"));
        }
        let others = |place: usize| [&writes[..place], &writes[place + 1..]].concat();
        let place = (0..writes.len()).find(|place| is_solved(&others(*place)))?;
        let write = operation(writes[place]);
        Some(format!("entry {entry} has no place for {write}"))
    }

    /// Whether the batch could be explained if the writes that `may` lets could take effect here,
    /// too, wherever else they did.
    fn is_solved_with(
        &self,
        entry: u64,
        due: &[usize],
        may: impl Fn(&Subject<'a>) -> bool,
    ) -> bool {
        let mut pieces: Vec<Piece<'a>> =
            due.iter().map(|number| self.piece(*number, true, false)).collect();
        let mut kinds = BTreeSet::new();
        for subject in &self.subjects {
            let command = subject.command;
            let is_possible = may(subject)
                && subject.operation.called_at <= self.known_by(entry)
                && (self.has_own(entry) || self.may_touch(entry, &command));
            if is_possible
                && command.is_write()
                && pieces.len() < PIECES_MAX
                && kinds.insert(&subject.operation.words)
            {
                let (limit, is_due, needs_request) = (2, false, false);
                pieces.push(Piece { command, reply: None, limit, is_due, needs_request });
            }
        }
        !self.puzzle_of(entry, pieces).solve().explanations.is_empty()
    }
}

fn shorten(bytes: &[u8]) -> String {
    let shown = bytes[..bytes.len().min(60)].escape_ascii();
    if bytes.len() > 60 { format!("{shown}…") } else { shown.to_string() }
}
