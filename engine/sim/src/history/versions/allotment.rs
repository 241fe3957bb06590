//! No operation takes effect twice: who of several batches gets the one that each of them needs.
//!
//! Batches are explained one after the other, each with what none before it was found to need.
//! When that fails, the batch gets all that can be in it at all, and every batch that needs any of
//! it is looked at again, together: which explanation of each of them can stand beside those of the
//! others? Operations of unknown fate that are alike are counted, not told apart: those called in
//! time for one batch are in time for every later one, so it is enough that there are as many.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::Violation;
use crate::history::versions::Checked;
use crate::history::versions::judge::Judge;
use crate::history::versions::pieces::{Allowance, Loose, Origin, needs};

/// Attempts at one allotment, beyond which it is given up.
const ATTEMPTS_MAX: usize = 20_000;

/// A batch, and all that explains it.
#[derive(Debug)]
struct Contender {
    entry: u64,
    options: Vec<Choice>,
    /// Answered subjects that name this batch: each is here, or in an earlier one.
    at_home: Vec<usize>,
    /// Whether there are no other options.
    is_complete: bool,
}

/// One explanation.
#[derive(Clone, Debug)]
struct Choice {
    needs: Vec<(Loose, usize)>,
    /// Those at home that have a place in it.
    settles: Vec<usize>,
}

/// What became of an allotment.
#[derive(Debug)]
enum Allotted {
    /// By entry: what each batch gets.
    Found(BTreeMap<u64, Vec<(Loose, usize)>>),
    /// There is no way.
    Impossible,
    /// The search was given up.
    GivenUp,
}

impl Judge<'_> {
    /// Explains the batch of `entry`, which nothing unused explains, at the cost of earlier ones.
    ///
    /// # Errors
    ///
    /// When there certainly is no way.
    pub(super) fn allot(&mut self, entry: u64, checked: &mut Checked) -> Result<(), Violation> {
        let contender = self.contender(entry);
        if contender.options.is_empty() && contender.is_complete {
            return Err(self.blame(entry));
        }
        if contender.options.is_empty() {
            checked.given_up += 1;
            return self.check_phantoms(entry);
        }
        let contenders = self.gather(contender);
        match self.search(&contenders) {
            Allotted::Found(allotted) => {
                checked.reallotted += usize::from(allotted.len() > 1);
                self.allotted.extend(allotted);
                Ok(())
            }
            Allotted::Impossible => {
                let others = contenders.iter().map(|contender| contender.entry.to_string());
                let others: Vec<String> = others.collect();
                let what = format!(
                    "there is no way to give entries {} the commands that they need, and every \
                     answered command one place: one took effect twice, or another not at all",
                    others.join(", ")
                );
                Err(Violation::new("exactly-once", what))
            }
            Allotted::GivenUp => {
                checked.given_up += 1;
                self.check_phantoms(entry)
            }
        }
    }

    fn contender(&self, entry: u64) -> Contender {
        let (puzzle, origins) = self.puzzle(entry, &self.due(entry), Allowance::All);
        let found = puzzle.solve_all();
        let options = found.explanations.iter().map(|explanation| {
            let has_place =
                |index: usize| explanation.used[index] > 0 || explanation.seen & 1 << index != 0;
            let places = origins.iter().enumerate().filter(|(index, _)| has_place(*index));
            let settles = places.filter_map(|(_, origin)| match origin {
                Origin::Loose(Loose::Subject(number)) => Some(*number),
                Origin::Loose(Loose::Class(_)) | Origin::Fixed(_) => None,
            });
            Choice { needs: needs(explanation, &origins), settles: settles.collect() }
        });
        let at_home =
            origins.iter().zip(&puzzle.pieces).filter_map(|(origin, piece)| match origin {
                Origin::Loose(Loose::Subject(number)) if !piece.needs_request => Some(*number),
                Origin::Loose(_) | Origin::Fixed(_) => None,
            });
        Contender {
            entry,
            options: options.collect(),
            at_home: at_home.collect(),
            is_complete: found.is_complete,
        }
    }

    /// Every batch up to the first one's that needs, or might need, what another one of them does.
    fn gather(&self, first: Contender) -> Vec<Contender> {
        let last = first.entry;
        let mut contenders = BTreeMap::new();
        let mut next = vec![first];
        while let Some(mut contender) = next.pop() {
            let held = self.allotted.get(&contender.entry);
            if let Some(held) = held.filter(|_| !contender.is_complete) {
                // What it has now is an option in any case.
                let settles = contender.at_home.clone();
                contender.options.push(Choice { needs: held.clone(), settles });
            }
            let wanted: BTreeSet<Loose> = (contender.options.iter())
                .flat_map(|option| option.needs.iter().map(|(loose, _)| *loose))
                .chain(contender.at_home.iter().map(|number| Loose::Subject(*number)))
                .collect();
            let holders = self
                .allotted
                .iter()
                .filter(|(_, held)| held.iter().any(|(loose, _)| wanted.contains(loose)));
            // An answered one may be at home, or wherever its reply was noted.
            let places = wanted.iter().flat_map(|loose| match loose {
                Loose::Subject(number) => {
                    let home = self.subjects[*number].reply().map(|reply| reply.2);
                    home.into_iter().chain(self.earlier_places(*number)).collect()
                }
                Loose::Class(_) => Vec::new(),
            });
            let mut entries: BTreeSet<u64> =
                holders.map(|(entry, _)| *entry).chain(places).collect();
            contenders.insert(contender.entry, contender);
            entries.retain(|entry| *entry <= last && !contenders.contains_key(entry));
            entries.retain(|entry| next.iter().all(|contender| contender.entry != *entry));
            next.extend(entries.into_iter().map(|entry| self.contender(entry)));
        }
        contenders.into_values().collect()
    }

    fn search(&self, contenders: &[Contender]) -> Allotted {
        let mut search = Search { judge: self, contenders, used: BTreeMap::new(), attempts: 0 };
        let mut chosen = Vec::new();
        if search.choose(&mut chosen) {
            let needs = contenders.iter().zip(chosen).map(|(contender, option)| {
                (contender.entry, contender.options[option].needs.clone())
            });
            return Allotted::Found(needs.collect());
        }
        let is_complete = contenders.iter().all(|contender| contender.is_complete);
        if is_complete && search.attempts <= ATTEMPTS_MAX {
            Allotted::Impossible
        } else {
            Allotted::GivenUp
        }
    }
}

struct Search<'s, 'a> {
    judge: &'s Judge<'a>,
    /// By entry, ascending.
    contenders: &'s [Contender],
    used: BTreeMap<Loose, usize>,
    attempts: usize,
}

impl Search<'_, '_> {
    /// Chooses an option for the next contender and all behind it. Whether there is a way.
    fn choose(&mut self, chosen: &mut Vec<usize>) -> bool {
        let Some(contender) = self.contenders.get(chosen.len()) else { return true };
        for (index, option) in contender.options.iter().enumerate() {
            self.attempts += 1;
            if self.attempts > ATTEMPTS_MAX {
                return false;
            }
            if !self.is_free(contender, option) {
                continue;
            }
            for (loose, count) in &option.needs {
                *self.used.entry(*loose).or_default() += count;
            }
            chosen.push(index);
            if self.choose(chosen) {
                return true;
            }
            chosen.pop();
            for (loose, count) in &option.needs {
                *self.used.get_mut(loose).expect("it was just added") -= count;
            }
        }
        false
    }

    fn is_free(&self, contender: &Contender, option: &Choice) -> bool {
        let used = |loose: Loose| self.used.get(&loose).copied().unwrap_or(0);
        let is_available = option.needs.iter().all(|(loose, count)| {
            let limit = match loose {
                Loose::Class(class) => self.judge.available(*class, contender.entry),
                Loose::Subject(_) => 1,
            };
            used(*loose) + count <= limit
        });
        is_available
            && contender
                .at_home
                .iter()
                .all(|number| used(Loose::Subject(*number)) > 0 || option.settles.contains(number))
    }
}
