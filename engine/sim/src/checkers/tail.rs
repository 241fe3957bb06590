//! What a tail tells is what happened: each change of a key once, in order, with nothing left out
//! between; where it tells states in their place it never goes back; and in the end it comes to
//! what all entities hold.

use std::collections::{BTreeMap, BTreeSet};

use engine::tail::{Said, What};
use net::resp::slot::shard_of;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::Violation;
use crate::history::{ChosenBatch, ChosenLog};

/// What a program kept of a tail, line by line.
#[derive(Debug, Default)]
pub struct TailModel {
    kept: Vec<(u16, Said)>,
}

/// How much of each was told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// Changes.
    pub changes: u64,
    /// States.
    pub states: u64,
    /// Entities told as a whole.
    pub resets: u64,
}

type Name = (EntityId, Vec<u8>);

/// What is known of a key.
type Known = (Entry, Option<Vec<u8>>);

#[derive(Default)]
struct Replay {
    keys: BTreeMap<Name, Known>,
    /// Not named since a pass began: what changed before it is not told one by one.
    before_pass: BTreeSet<Name>,
    /// Named in the pass of a core that is under way.
    passes: BTreeMap<u16, BTreeSet<Name>>,
    /// Named of an entity that is told as a whole.
    resets: BTreeMap<EntityId, BTreeSet<Name>>,
}

impl TailModel {
    /// Another line.
    pub fn keep(&mut self, core: u16, said: Said) {
        self.kept.push((core, said));
    }

    /// Looks at all lines, of a node with so many cores.
    ///
    /// # Errors
    ///
    /// When they are not what happened.
    pub fn check(&self, node: u8, cores: u16, chosen: &ChosenLog) -> Result<Told, Violation> {
        let wrong = |what: String| Violation::new("tail", format!("of node {node}: {what}"));
        let mut replay = Replay::default();
        let mut told = Told::default();
        for (core, said) in &self.kept {
            match said {
                Said::BeginPass { .. } => replay.begin_pass(*core, cores),
                Said::EndPass => replay.end_pass(*core, cores),
                Said::Change { entity, entry, what, key, value } => {
                    told.changes += u64::from(matches!(what, What::Set | What::Delete));
                    told.states += u64::from(*what == What::State);
                    told.resets += u64::from(*what == What::EndReset);
                    if shard_of(*entity, cores) != *core {
                        return Err(wrong(format!("core {core} tells of {entity:?}")));
                    }
                    let name = (*entity, key.clone());
                    replay.take(chosen, name, *entry, *what, value.as_ref()).map_err(wrong)?;
                }
            }
        }
        replay.compare(chosen).map_err(wrong)?;
        Ok(told)
    }
}

fn effects<'log>(
    chosen: &'log ChosenLog,
    name: &Name,
) -> impl Iterator<Item = (Entry, Option<&'log [u8]>)> + use<'log> {
    let (entity, key) = name.clone();
    let batches = chosen.get(&entity).map_or(&[][..], Vec::as_slice);
    let effect = move |batch: &'log ChosenBatch| {
        let effect = batch.effects.iter().find(|(changed, _)| *changed == key);
        effect.map(|(_, value)| value.as_deref())
    };
    (1..).map(Entry).zip(batches).filter_map(move |(entry, batch)| Some((entry, effect(batch)?)))
}

impl Replay {
    fn take(
        &mut self,
        chosen: &ChosenLog,
        name: Name,
        entry: Entry,
        what: What,
        value: Option<&Vec<u8>>,
    ) -> Result<(), String> {
        let (entity, key) = (name.0, name.1.escape_ascii().to_string());
        match what {
            What::BeginReset => {
                self.resets.insert(entity, BTreeSet::new());
                return Ok(());
            }
            What::EndReset => {
                let named = self.resets.remove(&entity).unwrap_or_default();
                let of_entity = self.keys.iter_mut().filter(|((of, _), _)| *of == entity);
                for (name, known) in of_entity {
                    if !named.contains(name) {
                        *known = (entry, None);
                    }
                }
                return Ok(());
            }
            What::Set | What::Delete | What::State => {}
        }
        let mut happened = effects(chosen, &name);
        if !happened.any(|(at, is)| at == entry && is == value.map(Vec::as_slice)) {
            return Err(format!("{what:?} of {key} in {entity:?} {entry:?} never happened"));
        }
        if let Some((before, _)) = self.keys.get(&name) {
            let goes_on = if what == What::State { entry >= *before } else { entry > *before };
            if !goes_on {
                return Err(format!(
                    "{what:?} of {key} in {entity:?} {entry:?} comes after {before:?}"
                ));
            }
            let between = |at: Entry| *before < at && at < entry;
            let missed = effects(chosen, &name).find(|(at, _)| between(*at));
            let is_told_whole = what == What::State || self.before_pass.contains(&name);
            if let Some((missed, _)) = missed.filter(|_| !is_told_whole) {
                return Err(format!(
                    "of {key} in {entity:?} {missed:?} was left out between {before:?} and {entry:?}"
                ));
            }
        }
        self.passes.values_mut().for_each(|named| {
            named.insert(name.clone());
        });
        if let Some(named) = self.resets.get_mut(&entity) {
            named.insert(name.clone());
        }
        self.before_pass.remove(&name);
        self.keys.insert(name, (entry, value.cloned()));
        Ok(())
    }

    fn begin_pass(&mut self, core: u16, cores: u16) {
        self.passes.insert(core, BTreeSet::new());
        let of_core = self.keys.keys().filter(|(entity, _)| shard_of(*entity, cores) == core);
        self.before_pass.extend(of_core.cloned());
    }

    fn end_pass(&mut self, core: u16, cores: u16) {
        let named = self.passes.remove(&core).unwrap_or_default();
        for ((entity, key), known) in &mut self.keys {
            let is_of_core = shard_of(*entity, cores) == core;
            let name = (*entity, key.clone());
            if is_of_core && !named.contains(&name) {
                known.1 = None;
            }
        }
    }

    /// What is known in the end is what the entities hold.
    fn compare(&self, chosen: &ChosenLog) -> Result<(), String> {
        let mut held: BTreeMap<Name, &[u8]> = BTreeMap::new();
        for (entity, batches) in chosen {
            for (key, value) in batches.iter().flat_map(|batch| &batch.effects) {
                let name = (*entity, key.clone());
                match value {
                    Some(value) => drop(held.insert(name, value)),
                    None => drop(held.remove(&name)),
                }
            }
        }
        for (name, value) in &held {
            let known = self.keys.get(name).and_then(|(_, value)| value.as_deref());
            if known != Some(*value) {
                let (entity, key) = (name.0, name.1.escape_ascii());
                return Err(format!("{key} in {entity:?} is held, and was told otherwise"));
            }
        }
        let mut live = self.keys.iter().filter(|(_, (_, value))| value.is_some());
        match live.find(|(name, _)| !held.contains_key(*name)) {
            None => Ok(()),
            Some(((entity, key), _)) => {
                let key = key.escape_ascii();
                Err(format!("{key} in {entity:?} is gone, and was told otherwise"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::tail::{Said, What};
    use plog::vocabulary::{EntityId, Entry};

    use super::TailModel;
    use crate::history::{ChosenBatch, ChosenLog};

    const ENTITY: EntityId = EntityId(0);

    /// `a` is set to 1 and 2, then deleted; `b` is set to 3 beside the 2.
    fn history() -> ChosenLog {
        let put =
            |key: &str, value: &str| (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let batch = |effects| ChosenBatch { requests: Vec::new(), effects };
        let log = vec![
            batch(vec![put("a", "1")]),
            batch(vec![put("a", "2"), put("b", "3")]),
            batch(vec![(b"a".to_vec(), None)]),
        ];
        ChosenLog::from([(ENTITY, log)])
    }

    fn said(what: What, key: &str, entry: u64, value: Option<&str>) -> Said {
        let value = value.map(|value| value.as_bytes().to_vec());
        Said::Change { entity: ENTITY, entry: Entry(entry), what, key: key.into(), value }
    }

    fn check(lines: &[Said]) -> Result<super::Told, String> {
        let mut model = TailModel::default();
        lines.iter().for_each(|line| model.keep(0, line.clone()));
        model.check(0, 1, &history()).map_err(|violation| violation.to_string())
    }

    fn set(key: &str, entry: u64, value: &str) -> Said {
        said(What::Set, key, entry, Some(value))
    }

    #[test]
    fn what_happened_passes_change_by_change_and_by_states() {
        let gone = said(What::Delete, "a", 3, None);
        let told = check(&[set("a", 1, "1"), set("a", 2, "2"), set("b", 2, "3"), gone.clone()]);
        assert_eq!(told.unwrap().changes, 4);
        let state = |key, entry, value| said(What::State, key, entry, Some(value));
        let begin = Said::BeginPass { reason: String::new() };
        let amid = [set("a", 1, "1"), begin.clone(), gone, state("b", 2, "3"), Said::EndPass];
        assert_eq!(check(&amid).unwrap().changes, 2, "what was before a pass is not told");
        let pass = [set("a", 1, "1"), begin, state("b", 2, "3"), Said::EndPass];
        assert_eq!(check(&pass).unwrap().states, 1);
        let whole = [said(What::BeginReset, "", 3, None), state("b", 2, "3")];
        let whole =
            [&[set("a", 1, "1")], &whole[..], &[said(What::EndReset, "", 3, None)]].concat();
        assert_eq!(check(&whole).unwrap().resets, 1);
    }

    #[test]
    fn what_is_left_out_repeated_out_of_order_or_made_up_is_seen() {
        let gone = said(What::Delete, "a", 3, None);
        let fine = [set("a", 1, "1"), set("a", 2, "2"), set("b", 2, "3"), gone];
        for left_out in 1..fine.len() {
            let mut lines = fine.to_vec();
            lines.remove(left_out);
            assert!(check(&lines).is_err(), "without {:?}", fine[left_out]);
        }
        let repeated = [&fine[..2], &fine[1..]].concat();
        assert!(check(&repeated).unwrap_err().contains("comes after"));
        let swapped = [&fine[1..2], &fine[..1], &fine[2..]].concat();
        assert!(check(&swapped).unwrap_err().contains("comes after"));
        let made_up = [&fine[..], &[set("b", 3, "4")]].concat();
        assert!(check(&made_up).unwrap_err().contains("never happened"));
        let older = [&fine[..], &[said(What::State, "a", 2, Some("2"))]].concat();
        assert!(check(&older).unwrap_err().contains("comes after"));
    }
}
