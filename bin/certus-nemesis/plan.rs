//! Which faults there are, of whom, in which order and for how long: all from the seed.
//!
//! Kinds come from a shuffled deck, so that each comes once before any comes again. At most a
//! minority of the nodes is hit at a time. Damage comes once, after the first deck, and the damaged
//! node counts as hit from then on: with three nodes, faults go on at that one alone.

use std::time::Duration;

use crate::arguments::FaultKind;
use crate::random::Random;

/// Faults that are there at the same time, each of another node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wave {
    /// How long nothing happens before.
    pub quiet: Duration,
    /// The faults.
    pub faults: Vec<Planned>,
    /// How long they stay, once all have taken effect.
    pub hold: Duration,
}

/// A fault of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Planned {
    /// Its kind.
    pub kind: FaultKind,
    /// The node that is hit.
    pub victim: u8,
    /// Decides the rest.
    pub seed: u64,
}

/// A sequence of waves.
#[derive(Clone, Debug)]
pub struct Plan {
    random: Random,
    nodes: u8,
    /// The kinds asked for, without damage.
    kinds: Vec<FaultKind>,
    deck: Vec<FaultKind>,
    waves: usize,
    /// The wave that damages, if one does.
    damage_at: Option<usize>,
    damaged: Option<u8>,
    is_short: bool,
}

/// Every so many waves the pause before is long enough that nothing explains an unanswered request.
const LONG_QUIET_EVERY: usize = 4;

impl Plan {
    /// The plan of `seed`, for a run of so many seconds.
    pub fn new(seed: u64, nodes: u8, faults: &[FaultKind], seconds: u32) -> Self {
        let mut random = Random::new(seed);
        let mut kinds: Vec<FaultKind> =
            faults.iter().copied().filter(|kind| *kind != FaultKind::Damage).collect();
        kinds.sort();
        kinds.dedup();
        let later = random.below(kinds.len() + 1);
        let damage_at = faults.contains(&FaultKind::Damage).then_some(kinds.len() + later);
        Self {
            random,
            nodes,
            kinds,
            deck: Vec::new(),
            waves: 0,
            damage_at,
            damaged: None,
            is_short: seconds < 40,
        }
    }

    /// Whether a kind that was asked for has not come yet.
    pub fn owes(&self) -> bool {
        self.waves <= self.damage_at.unwrap_or(0).max(self.kinds.len())
    }

    /// What comes next; [`None`] when there is nothing more that may be done.
    pub fn next_wave(&mut self) -> Option<Wave> {
        let number = self.waves;
        self.waves += 1;
        let quiet = if number % LONG_QUIET_EVERY == LONG_QUIET_EVERY - 1 && !self.is_short {
            self.time(8000, 10_000)
        } else {
            self.time(300, if self.is_short { 1000 } else { 2500 })
        };
        let hold = self.time(400, if self.is_short { 1500 } else { 6000 });
        let mut faults = Vec::new();
        if self.damage_at == Some(number) {
            let victim = self.node(&[]);
            self.damaged = Some(victim);
            faults.push(self.planned(FaultKind::Damage, victim));
        } else {
            // At once as many as may fail, without the one that is damaged already.
            let minority = usize::from(self.nodes / 2);
            let most = minority - usize::from(self.damaged.is_some());
            let count = 1 + self.random.below(most.max(1));
            for _ in 0..count {
                let hit: Vec<u8> = faults.iter().map(|fault: &Planned| fault.victim).collect();
                let kind = self.kind()?;
                let victim = match self.damaged {
                    Some(damaged) if most == 0 => damaged,
                    _ => self.node(&hit),
                };
                faults.push(self.planned(kind, victim));
            }
        }
        Some(Wave { quiet, faults, hold })
    }

    fn planned(&mut self, kind: FaultKind, victim: u8) -> Planned {
        Planned { kind, victim, seed: self.random.next() }
    }

    /// The next kind. What is damaged writes nothing, so that it does not notice a full disk: with
    /// no other to hit there is none then.
    fn kind(&mut self) -> Option<FaultKind> {
        let is_useless = |kind: &FaultKind| self.damaged.is_some() && *kind == FaultKind::Full;
        if self.kinds.iter().all(is_useless) {
            return None;
        }
        loop {
            if self.deck.is_empty() {
                self.deck = self.kinds.clone();
                for index in (1..self.deck.len()).rev() {
                    self.deck.swap(index, self.random.below(index + 1));
                }
            }
            let kind = self.deck.pop()?;
            if self.damaged.is_none() || kind != FaultKind::Full {
                return Some(kind);
            }
        }
    }

    fn node(&mut self, except: &[u8]) -> u8 {
        let may_be = |id: &u8| !except.contains(id);
        let nodes: Vec<u8> = (0..self.nodes).filter(may_be).collect();
        nodes[self.random.below(nodes.len())]
    }

    fn time(&mut self, least_ms: usize, most_ms: usize) -> Duration {
        let ms = least_ms + self.random.below(most_ms - least_ms);
        Duration::from_millis(u64::try_from(ms).expect("small"))
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::{Plan, Wave};
    use crate::arguments::FaultKind;

    fn waves(seed: u64, nodes: u8, faults: &[FaultKind]) -> Vec<Wave> {
        let mut plan = Plan::new(seed, nodes, faults, 300);
        (0..40).map_while(|_| plan.next_wave()).collect()
    }

    #[test]
    fn one_seed_is_one_plan() {
        let all = FaultKind::value_variants();
        assert_eq!(waves(7, 5, all), waves(7, 5, all));
        assert_ne!(waves(7, 5, all), waves(8, 5, all));
    }

    #[test]
    fn never_more_than_a_minority_is_hit() {
        for (seed, nodes) in (0..50).flat_map(|seed| [(seed, 3), (seed, 5)]) {
            let mut damaged = None;
            for wave in waves(seed, nodes, FaultKind::value_variants()) {
                let mut hit: Vec<u8> = wave.faults.iter().map(|fault| fault.victim).collect();
                if wave.faults[0].kind == FaultKind::Damage {
                    assert!(damaged.replace(hit[0]).is_none(), "once only");
                }
                hit.extend(damaged);
                hit.sort_unstable();
                hit.dedup();
                assert!(hit.len() <= usize::from(nodes / 2), "seed {seed}: {wave:?}");
            }
            assert!(damaged.is_some(), "seed {seed}");
        }
    }

    #[test]
    fn every_kind_comes_before_the_plan_owes_nothing() {
        for (seed, nodes) in (0..50).flat_map(|seed| [(seed, 3), (seed, 5)]) {
            let mut plan = Plan::new(seed, nodes, FaultKind::value_variants(), 300);
            let mut come = Vec::new();
            while plan.owes() {
                let wave = plan.next_wave().expect("there is more");
                come.extend(wave.faults.iter().map(|fault| fault.kind));
            }
            for kind in FaultKind::value_variants() {
                assert!(come.contains(kind), "seed {seed}: {kind}");
            }
        }
    }

    #[test]
    fn damage_alone_ends_the_plan() {
        assert_eq!(waves(3, 3, &[FaultKind::Damage]).len(), 1);
    }
}
