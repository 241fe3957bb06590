//! Both judges on histories made by chance: legal ones pass, spoiled ones mostly do not.

use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::history::sample::{Chance, Habits, Sampler};
use crate::history::versions::check;
use crate::history::wgl::check_windows;
use crate::history::{ChosenLog, Operation, Outcome};

/// From histories in which nearly everything is known to such in which nearly nothing is.
fn habits(seed: u64) -> Habits {
    let mut chance = Chance(!seed);
    Habits {
        clients: 2 + chance.below(9),
        entities: 1 + chance.below(3),
        operations: 20 + chance.below(60),
        with_id: [0, 50, 80, 100][chance.below(4)],
        unknown: [0, 5, 20, 60][chance.below(4)],
        batch: [1, 3, 6, 12][chance.below(4)],
        is_hot: chance.one_in(4),
    }
}

/// As a run of the simulator with faults leaves them: most writes carry ids.
const USUAL: Habits = Habits {
    clients: 6,
    entities: 2,
    operations: 60,
    with_id: 70,
    unknown: 5,
    batch: 4,
    is_hot: false,
};

#[test]
fn legal_histories_pass_both_judges() {
    let (mut replayed, mut searched, mut given_up, mut reallotted) = (0, 0, 0, 0);
    let (mut unknown_applied, mut duplicates, mut tokens, mut windows) = (0, 0, 0, 0);
    for seed in 0..1000 {
        let sample = Sampler::run(seed, habits(seed));
        let checked = check(&sample.history, &sample.chosen)
            .unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        windows += check_windows(&sample.history, &sample.chosen)
            .unwrap_or_else(|violation| panic!("seed {seed}, second judge: {violation}"));
        let answered = (sample.history.iter())
            .filter(|operation| matches!(operation.outcome, Outcome::Replied { .. }));
        assert_eq!(checked.reads + checked.writes, answered.count());
        let batches: usize = sample.chosen.values().map(Vec::len).sum();
        assert_eq!(checked.replayed + checked.searched, batches);
        for (entity, state) in &checked.states {
            assert_eq!(state, &sample.states[usize::try_from(entity.0).unwrap()]);
        }
        replayed += checked.replayed;
        searched += checked.searched;
        given_up += checked.given_up;
        reallotted += checked.reallotted;
        unknown_applied += checked.unknown_applied;
        duplicates += checked.duplicates;
        tokens += checked.tokens;
    }
    assert!(replayed > 10_000 && searched > 5000 && unknown_applied > 3000 && windows > 1500);
    assert!(duplicates > 500 && tokens > 50);
    assert!(reallotted > 10, "conflicts between batches must come up");
    assert!(given_up * 1000 < searched, "{given_up} of {searched} searches were given up");
}

/// Something else that a reply might have said.
fn other_reply(chance: &mut Chance, reply: &Value) -> Value {
    match reply {
        Value::Integer(number) if chance.one_in(2) => Value::Integer(number + 1),
        Value::Integer(number) => Value::Integer(number - 1),
        Value::Null => Value::bulk(format!("v{}", chance.below(60)).into_bytes()),
        Value::Array(values) => {
            let mut values = values.clone();
            let index = chance.below(values.len());
            values[index] = other_reply(chance, &values[index]);
            Value::Array(values)
        }
        Value::Bulk(bytes) if chance.one_in(2) => Value::bulk([bytes, &b"x"[..]].concat()),
        _ => Value::Null,
    }
}

/// Any answered operation, by number.
fn pick_answered(chance: &mut Chance, history: &[Operation]) -> usize {
    loop {
        let number = chance.below(history.len());
        if let Outcome::Replied { .. } = history[number].outcome {
            return number;
        }
    }
}

fn spoil_reply(chance: &mut Chance, history: &mut [Operation], _: &mut ChosenLog) {
    let number = pick_answered(chance, history);
    if let Outcome::Replied { reply, .. } = &mut history[number].outcome {
        *reply = other_reply(chance, reply);
    }
}

fn spoil_entry(chance: &mut Chance, history: &mut [Operation], chosen: &mut ChosenLog) {
    let number = pick_answered(chance, history);
    let entries = chosen.get(&history[number].entity).map_or(0, Vec::len);
    if let Outcome::Replied { entry, .. } = &mut history[number].outcome {
        let other =
            (usize::try_from(entry.0).unwrap() + 1 + chance.below(entries + 1)) % (entries + 2);
        *entry = Entry(u64::try_from(other).unwrap());
    }
}

/// A batch, any.
fn pick_batch(chance: &mut Chance, chosen: &ChosenLog) -> (EntityId, usize) {
    let entities: Vec<EntityId> = chosen.keys().copied().collect();
    let entity = entities[chance.below(entities.len())];
    (entity, chance.below(chosen[&entity].len()))
}

fn drop_batch(chance: &mut Chance, _: &mut [Operation], chosen: &mut ChosenLog) {
    let (entity, index) = pick_batch(chance, chosen);
    chosen.get_mut(&entity).unwrap().remove(index);
}

fn repeat_effects(chance: &mut Chance, _: &mut [Operation], chosen: &mut ChosenLog) {
    let (entity, index) = pick_batch(chance, chosen);
    let log = chosen.get_mut(&entity).unwrap();
    let mut batch = log[index].clone();
    batch.requests.clear();
    log.insert(index + 1, batch);
}

fn spoil_effect(chance: &mut Chance, _: &mut [Operation], chosen: &mut ChosenLog) {
    let (entity, index) = pick_batch(chance, chosen);
    let effects = &mut chosen.get_mut(&entity).unwrap()[index].effects;
    if effects.is_empty() {
        effects.push((b"{0}a".to_vec(), Some(b"5".to_vec())));
        return;
    }
    let which = chance.below(effects.len());
    match &mut effects[which].1 {
        Some(value) => value.push(b'1'),
        None => drop(effects.remove(which)),
    }
}

type Spoil = fn(&mut Chance, &mut [Operation], &mut ChosenLog);

/// Of a hundred histories spoiled so, how many each judge finds.
fn found_of_hundred(spoil: Spoil, habits: Habits) -> (usize, usize) {
    const COUNT: usize = 200;
    let (mut first, mut second) = (0, 0);
    for seed in 0..u64::try_from(COUNT).unwrap() {
        let sample = Sampler::run(seed, habits);
        let (mut history, mut chosen) = (sample.history.clone(), sample.chosen.clone());
        spoil(&mut Chance(seed), &mut history, &mut chosen);
        assert!(history != sample.history || chosen != sample.chosen, "seed {seed}");
        first += usize::from(check(&history, &chosen).is_err());
        second += usize::from(check_windows(&history, &chosen).is_err());
    }
    (100 * first / COUNT, 100 * second / COUNT)
}

#[test]
fn most_spoiled_histories_are_found() {
    // The second judge looks at replies and times: of the log it sees where windows begin.
    let spoils: [(&str, Spoil, usize, usize); 5] = [
        ("another reply", spoil_reply, 96, 85),
        ("another entry", spoil_entry, 90, 5),
        ("a batch left out", drop_batch, 96, 85),
        ("effects twice", repeat_effects, 92, 15),
        ("another effect", spoil_effect, 96, 0),
    ];
    for (what, spoil, first_at_least, second_at_least) in spoils {
        let (first, second) = found_of_hundred(spoil, USUAL);
        assert!(first >= first_at_least, "{what}: the main judge found {first} of 100");
        assert!(second >= second_at_least, "{what}: the second judge found {second} of 100");
    }
}

#[test]
fn where_little_is_known_a_wrong_reply_is_still_found() {
    let vague = Habits { with_id: 0, unknown: 30, ..USUAL };
    let (first, second) = found_of_hundred(spoil_reply, vague);
    assert!(first >= 80, "the main judge found {first} of 100");
    assert!(second >= 50, "the second judge found {second} of 100");
    let alike = Habits { is_hot: true, ..vague };
    let (first, second) = found_of_hundred(spoil_reply, alike);
    assert!(first >= 30, "the main judge found {first} of 100");
    assert!(second >= 10, "the second judge found {second} of 100");
}
