//! What clients ask: every kind of command, on a few entities of a few keys each.
//!
//! Values are unique, so that whoever sees one knows whose it is; counters count; the keys of an
//! entity change together.

use net::resp::slot::entity_of;
use plog::vocabulary::EntityId;

use crate::random::Random;

/// What clients ask for. Shares are in parts of a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Clients, each with one command at a time.
    pub clients: u32,
    /// Entities they touch.
    pub entities: u64,
    /// Share of commands that go to the first entity, beyond its fair share.
    pub hot: u64,
    /// Share of commands that carry a request id and are retried until they are answered.
    pub with_id: u64,
    /// Share of values that are large.
    pub large_values: u64,
}

impl Workload {
    /// Every kind of command on six entities.
    pub const ALL_KINDS: Self =
        Self { clients: 8, entities: 6, hot: 200, with_id: 500, large_values: 20 };
}

/// A command to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Its entity.
    pub entity: EntityId,
    /// Its words.
    pub words: Vec<Vec<u8>>,
    /// Its request id, if it has one.
    pub request_id: Option<Vec<u8>>,
}

/// Bytes of a large value.
const LARGE: usize = 3_000;

impl Workload {
    /// The `number`-th command of a run.
    pub fn next(&self, random: &mut Random, number: usize) -> Asked {
        let is_hot = random.below(1000) < self.hot;
        let tag = if is_hot { 0 } else { random.below(self.entities) };
        let key = |random: &mut Random, kind: &str| format!("{{e{tag}}}{kind}{}", random.below(2));
        let text = key(random, "text");
        let other = key(random, "text");
        let counter = key(random, "count");
        let list = key(random, "list");
        let value = self.value(random, number);
        // What was perhaps set before: with luck it is there.
        let earlier = format!("v{}", random.below(u64::try_from(number).expect("few") + 1));
        let words: Vec<String> = match random.below(100) {
            0..20 => vec!["GET".into(), text],
            20..25 => vec!["GET".into(), counter],
            25..28 => vec!["GET".into(), list],
            28..32 => vec!["MGET".into(), text, counter, list],
            32..34 => vec!["STRLEN".into(), list],
            34..36 => vec!["EXISTS".into(), text, other],
            36..38 => vec!["CERTUS".into(), "VERSION".into(), text],
            38..50 => vec!["SET".into(), text, value],
            50..53 => vec!["SET".into(), text, value, "NX".into()],
            53..55 => vec!["SET".into(), text, value, "XX".into(), "GET".into()],
            55..58 => vec!["SET".into(), text, value, "IFEQ".into(), earlier],
            58..60 => vec!["SETNX".into(), text, value],
            60..62 => vec!["GETSET".into(), text, value],
            62..64 => vec!["GETDEL".into(), text],
            64..66 => vec!["DEL".into(), text, other],
            66..70 => vec!["MSET".into(), text, value.clone(), other, format!("{value}b")],
            70..84 => vec!["INCR".into(), counter],
            84..86 => vec!["DECRBY".into(), counter, "2".into()],
            86..96 => vec!["APPEND".into(), list, format!("[{number}]")],
            _ => {
                let version = random.below(4).to_string();
                vec!["CERTUS".into(), "CAS".into(), text, version, value]
            }
        };
        let request_id = (random.below(1000) < self.with_id).then(|| format!("id{number}").into());
        Asked {
            entity: entity_of(format!("{{e{tag}}}").as_bytes()),
            words: words.into_iter().map(String::into_bytes).collect(),
            request_id,
        }
    }

    fn value(&self, random: &mut Random, number: usize) -> String {
        let value = format!("v{number}");
        if random.below(1000) < self.large_values {
            format!("{value}-{}", "x".repeat(LARGE))
        } else {
            value
        }
    }
}
