//! Histories for the tests of the judges: written by hand, or made by chance from the model.

use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::history::command::Command;
use crate::history::model::State;
use crate::history::{ChosenBatch, ChosenLog, Operation, Outcome};

/// The entity of histories written by hand.
pub(super) const ENTITY: EntityId = EntityId(7);

pub(super) fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn operation(text: &str, called_at: u64, outcome: Outcome) -> Operation {
    let (client, request_id) = (1, None);
    Operation { client, entity: ENTITY, words: words(text), request_id, called_at, outcome }
}

/// `text` was called and answered at these times.
pub(super) fn told(text: &str, times: (u64, u64), reply: Value, entry: u64) -> Operation {
    let (called_at, at) = times;
    operation(text, called_at, Outcome::Replied { at, reply, entry: Entry(entry) })
}

/// Nobody knows what became of `text`.
pub(super) fn unknown(text: &str, called_at: u64) -> Operation {
    operation(text, called_at, Outcome::Unknown)
}

/// `text` was refused.
pub(super) fn refused(text: &str, times: (u64, u64)) -> Operation {
    operation(text, times.0, Outcome::Refused { at: times.1 })
}

/// The same operation under a request id.
pub(super) fn once(id: &str, operation: Operation) -> Operation {
    Operation { request_id: Some(id.as_bytes().to_vec()), ..operation }
}

pub(super) fn bulk(text: &str) -> Value {
    Value::bulk(text.as_bytes().to_vec())
}

/// A batch: ids with replies, keys with values.
pub(super) fn batch(requests: &[(&str, Value)], effects: &[(&str, Option<&str>)]) -> ChosenBatch {
    let requests = requests.iter().map(|(id, reply)| (id.as_bytes().to_vec(), reply.to_resp3()));
    let effects = effects.iter().map(|(key, value)| {
        (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
    });
    ChosenBatch { requests: requests.collect(), effects: effects.collect() }
}

/// A batch with a request whose id a replica made up.
pub(super) fn own_batch(id: u8, reply: &Value, effects: &[(&str, Option<&str>)]) -> ChosenBatch {
    let requests = vec![(vec![0xFF, id], reply.to_resp3())];
    ChosenBatch { requests, ..batch(&[], effects) }
}

/// The log of [`ENTITY`] alone.
pub(super) fn log(batches: Vec<ChosenBatch>) -> ChosenLog {
    ChosenLog::from([(ENTITY, batches)])
}

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What clients of a [`Sampler`] do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) clients: usize,
    pub(super) entities: usize,
    pub(super) operations: usize,
    /// Of a hundred writes, how many carry a request id.
    pub(super) with_id: usize,
    /// Of a hundred operations, how many end with their fate unknown.
    pub(super) unknown: usize,
    /// Most commands of one batch.
    pub(super) batch: usize,
    /// Whether all write one key, in ways that are hard to tell apart.
    pub(super) is_hot: bool,
}

/// What became of an operation so far.
#[derive(Clone, Debug)]
enum Stage {
    Waiting,
    /// Evaluated as of an entry; the flag says that its id, if it has one, is in the log.
    Done {
        reply: Value,
        entry: u64,
        is_noted: bool,
    },
}

/// An operation that is not over: its client waits for it, or gave it up.
#[derive(Clone, Debug)]
struct Open {
    number: usize,
    client: Option<usize>,
    stage: Stage,
}

/// A store that does everything right, under clients that do not.
#[derive(Debug)]
pub(super) struct Sampler {
    habits: Habits,
    chance: Chance,
    now: u64,
    pub(super) history: Vec<Operation>,
    pub(super) chosen: ChosenLog,
    pub(super) states: Vec<State>,
    open: Vec<Open>,
}

impl Sampler {
    /// A legal history. The same seed gives the same one.
    pub(super) fn run(seed: u64, habits: Habits) -> Self {
        let mut sampler = Self {
            habits,
            chance: Chance(seed),
            now: 10,
            history: Vec::new(),
            chosen: ChosenLog::new(),
            states: vec![State::default(); habits.entities],
            open: Vec::new(),
        };
        while sampler.history.len() < habits.operations || !sampler.open.is_empty() {
            sampler.now += sampler.chance.next() % 3;
            match sampler.chance.below(10) {
                0..4 => sampler.call(),
                4..7 => sampler.decide(),
                _ => sampler.end_one(),
            }
            if sampler.history.len() == habits.operations && sampler.chance.one_in(20) {
                // Those that nobody waits for may stay so for ever.
                sampler.open.retain(|open| open.client.is_some());
            }
        }
        sampler
    }

    fn log(&mut self, entity: EntityId) -> &mut Vec<ChosenBatch> {
        self.chosen.entry(entity).or_default()
    }

    fn call(&mut self) {
        let client = self.chance.below(self.habits.clients);
        let is_busy = self.open.iter().any(|open| open.client == Some(client));
        if is_busy || self.history.len() == self.habits.operations {
            return;
        }
        let number = self.history.len();
        let index = self.chance.below(self.habits.entities);
        let text = self.command(index, number);
        let operation = Operation {
            client: u32::try_from(client).unwrap(),
            entity: EntityId(u64::try_from(index).unwrap()),
            words: words(&text),
            request_id: None,
            called_at: self.now,
            outcome: Outcome::Unknown,
        };
        let is_write = Command::parse(&operation.words).expect("the model knows it").is_write();
        let has_id = is_write && self.chance.below(100) < self.habits.with_id;
        let request_id = has_id.then(|| format!("id-{number}").into_bytes());
        self.history.push(Operation { request_id, ..operation });
        self.open.push(Open { number, client: Some(client), stage: Stage::Waiting });
    }

    fn command(&mut self, index: usize, number: usize) -> String {
        if self.habits.is_hot {
            let chance = &mut self.chance;
            return match chance.below(8) {
                0..3 => format!("INCR {{{index}}}n"),
                3 => format!("INCRBY {{{index}}}n {}", chance.below(3)),
                4 => format!("SET {{{index}}}n {}", chance.below(5)),
                5 => format!("SETNX {{{index}}}n 1"),
                6 => format!("GET {{{index}}}n"),
                _ => format!("DEL {{{index}}}n"),
            };
        }
        let chance = &mut self.chance;
        let names = ["a", "a", "b", "n"];
        let key = format!("{{{index}}}{}", names[chance.below(4)]);
        let other = format!("{{{index}}}{}", names[chance.below(4)]);
        let version = self.chosen.get(&EntityId(u64::try_from(index).unwrap())).map_or(0, Vec::len);
        let version = version.saturating_sub(chance.below(3));
        match chance.below(24) {
            0..5 => format!("GET {key}"),
            5 => format!("MGET {key} {other}"),
            6 => format!("STRLEN {key}"),
            7 => format!("EXISTS {key} {other} {key}"),
            8 => format!("CERTUS VERSION {key}"),
            9..11 => format!("SET {key} v{number}"),
            11 => format!("SET {key} v{number} NX GET"),
            12 => format!("SET {key} {} XX", chance.below(9)),
            13 => format!("SETNX {key} v{number}"),
            14 => format!("GETSET {key} v{number}"),
            15 => format!("MSET {key} v{number} {other} w{number}"),
            16..18 => format!("APPEND {key} t{number};"),
            18..20 => format!("INCR {{{index}}}n"),
            20 => format!("DECRBY {key} {}", chance.below(3)),
            21 => format!("DEL {key} {other}"),
            22 => format!("GETDEL {key}"),
            _ => format!("CERTUS CAS {key} {version} v{number}"),
        }
    }

    /// Some of what waits for one entity is evaluated, in any order: together, as a batch, if that
    /// changes or notes anything; else as reads.
    fn decide(&mut self) {
        let waiting = |open: &Open| matches!(open.stage, Stage::Waiting);
        let mut places: Vec<usize> =
            (0..self.open.len()).filter(|place| waiting(&self.open[*place])).collect();
        if places.is_empty() {
            return;
        }
        for place in (1..places.len()).rev() {
            places.swap(place, self.chance.below(place + 1));
        }
        let entity = self.history[self.open[places[0]].number].entity;
        places.retain(|place| self.history[self.open[*place].number].entity == entity);
        places.truncate(1 + self.chance.below(self.habits.batch));
        let index = usize::try_from(entity.0).unwrap();
        let before = self.states[index].clone();
        let last = u64::try_from(self.log(entity).len()).unwrap();
        let mut state = before.clone();
        let mut batch = ChosenBatch::default();
        let mut replies = Vec::new();
        // What comes and goes within a batch leaves nothing, but the batch is chosen all the same.
        let mut is_changed = false;
        for place in &places {
            let operation = &self.history[self.open[*place].number];
            let command = Command::parse(&operation.words).expect("the model knows it");
            let evaluated = state.evaluate(&command);
            state.apply(&evaluated.changes, last + 1);
            is_changed |= !evaluated.changes.is_empty();
            let own = || {
                let number = u32::try_from(self.open[*place].number).unwrap();
                [&[0xFF][..], &number.to_le_bytes()].concat()
            };
            // Some were forwarded by another replica, which gave them an id of its own.
            let is_forwarded = self.chance.one_in(4);
            let id = operation.request_id.clone().or_else(|| is_forwarded.then(own));
            let id = id.filter(|_| command.is_write());
            let is_noted = id.is_some();
            batch.requests.extend(id.map(|id| (id, evaluated.reply.to_resp3())));
            replies.push((evaluated.reply, is_noted));
        }
        let is_chosen = is_changed || !batch.requests.is_empty();
        let entry = last + u64::from(is_chosen);
        if is_chosen {
            for (key, record) in &state.keys {
                if record.version == entry {
                    batch.effects.push((key.to_vec(), Some(record.value.to_vec())));
                }
            }
            let gone = before.keys.keys().filter(|key| !state.keys.contains_key(*key));
            batch.effects.extend(gone.map(|key| (key.to_vec(), None)));
            batch.effects.sort();
            self.log(entity).push(batch);
            self.states[index] = state;
        }
        for (place, (reply, is_noted)) in places.into_iter().zip(replies) {
            self.open[place].stage = Stage::Done { reply, entry, is_noted };
        }
    }

    /// An operation is answered, refused, or given up by its client.
    fn end_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let place = self.chance.below(self.open.len());
        let Open { number, client, stage } = self.open[place].clone();
        let (at, entity) = (self.now, self.history[number].entity);
        match stage {
            _ if client.is_none() => {
                if !matches!(stage, Stage::Waiting) {
                    self.open.remove(place);
                }
            }
            _ if self.chance.below(100) < self.habits.unknown => self.open[place].client = None,
            Stage::Waiting => {
                if self.chance.one_in(8) {
                    self.history[number].outcome = Outcome::Refused { at };
                    self.open.remove(place);
                }
            }
            Stage::Done { reply, entry, is_noted } => {
                // A copy is answered from memory, as of the last entry.
                let is_copy = is_noted && self.chance.one_in(4);
                let last = u64::try_from(self.log(entity).len()).unwrap();
                let entry = Entry(if is_copy { last } else { entry });
                self.history[number].outcome = Outcome::Replied { at, reply, entry };
                self.open.remove(place);
            }
        }
    }
}
