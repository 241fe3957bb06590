//! Stories as data: a short text says what is done to a cluster, line by line, and what happened
//! comes out as text, to be read and compared.
//!
//! ```text
//! nodes 1 1 1                      cores of each node; first
//! memory 2                         entities in memory, if not many; before anything else happens
//! ask A at 0: SET k 1              a command under a name
//! hold 0 -> 1: accept request      from now on such messages are kept back; * for any node or kind
//! release                          ends all holds and sends what was kept back
//! drop                             ends all holds and forgets what was kept back
//! cut 0 -> 1 | heal                nothing gets through, in one direction
//! crash 2 | start 2
//! pass 10 ms                       time goes by
//! expect A: OK                     the answer so far; \"nothing\" for none
//! ```
//!
//! A blank line or one that begins with `#` is copied to the output. Messages are printed when they
//! leave, held or lost ones not at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::config::ShardConfig;
use net::resp::slot::entity_of;
use net::resp::value::{Protocol, Value};
use plog::vocabulary::EntityId;

use crate::faults::Faults;
use crate::trace::{What, describe};
use crate::world::World;

/// Why a story cannot be told.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ScenarioError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Runs a story; what happened, as text.
///
/// # Errors
///
/// When a line makes no sense, an expectation is not met, or a rule is broken.
pub fn tell(text: &str) -> Result<String, ScenarioError> {
    let mut story = Story::default();
    for (number, line) in (1..).zip(text.lines()) {
        let told = story.line(line.trim_end());
        told.map_err(|what| ScenarioError { line: number, what })?;
    }
    Ok(story.output)
}

#[derive(Debug, Default)]
struct Story {
    world: Option<World>,
    cores: Vec<u16>,
    little_memory: bool,
    output: String,
    /// Commands by name: ticket.
    asked: BTreeMap<String, u64>,
    names: BTreeMap<EntityId, String>,
    holds: Vec<(Option<u8>, Option<u8>, Option<String>)>,
}

fn patient(config: &mut ShardConfig) {
    // No timer interferes with a story; what is lost stays lost until time passes.
    config.retry_us = 1_000_000;
    config.sweep_every_us = 3_600_000_000;
    config.duel_lease_us = 0;
}

fn patient_with_little_memory(config: &mut ShardConfig) {
    patient(config);
    config.entities_in_memory_max = 2;
}

fn node(text: &str) -> Result<Option<u8>, String> {
    match text.trim() {
        "*" => Ok(None),
        number => number.parse().map(Some).map_err(|_| format!("`{number}` is no node")),
    }
}

fn arrow(text: &str) -> Result<(Option<u8>, Option<u8>), String> {
    let (from, to) = text.split_once("->").ok_or_else(|| format!("`{text}` has no `->`"))?;
    Ok((node(from)?, node(to)?))
}

fn one_node(text: &str) -> Result<u8, String> {
    node(text)?.ok_or_else(|| "name one node".to_owned())
}

impl Story {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            writeln!(self.output, "{line}").expect("a string takes whatever is written");
            return Ok(());
        }
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "nodes" => {
                let cores = rest.split_whitespace().map(str::parse);
                self.cores = cores.collect::<Result<_, _>>().map_err(|_| "cores are numbers")?;
                return Ok(());
            }
            "memory" => {
                self.little_memory = true;
                return Ok(());
            }
            _ => {}
        }
        self.world()?;
        writeln!(self.output, "> {line}").expect("a string takes whatever is written");
        self.act(verb, rest)?;
        self.print_events();
        let world = self.world.as_ref().expect("made above");
        world.violation().map_or(Ok(()), |violation| Err(violation.to_string()))
    }

    /// The world, made at the first line that needs it.
    fn world(&mut self) -> Result<&mut World, String> {
        if self.world.is_none() {
            if self.cores.is_empty() {
                return Err("begin with `nodes`".to_owned());
            }
            let configure = if self.little_memory { patient_with_little_memory } else { patient };
            let mut world = World::new(1, &self.cores, Faults::NONE, configure);
            world.advance(50_000);
            world.trace.take();
            self.world = Some(world);
        }
        Ok(self.world.as_mut().expect("made above"))
    }

    fn act(&mut self, verb: &str, rest: &str) -> Result<(), String> {
        match verb {
            "ask" => self.ask(rest),
            "hold" => self.hold(rest),
            "release" => {
                self.holds.clear();
                self.world()?.release_held();
                Ok(())
            }
            "drop" => {
                self.holds.clear();
                self.world()?.forget_held();
                Ok(())
            }
            "cut" => {
                let (from, to) = arrow(rest)?;
                let (from, to) = from.zip(to).ok_or("name two nodes")?;
                self.world()?.cut(from, to);
                Ok(())
            }
            "heal" => {
                self.world()?.heal();
                Ok(())
            }
            "crash" => {
                let node = one_node(rest)?;
                self.is_known_and_up(node)?;
                self.world()?.crash(node);
                Ok(())
            }
            "start" => {
                let node = one_node(rest)?;
                let world = self.world()?;
                if node >= world.node_count() || world.is_up(node) {
                    return Err(format!("node {node} is not down"));
                }
                world.start(node);
                Ok(())
            }
            "pass" => {
                let (number, unit) = rest.split_once(' ').ok_or("say how long, as in `10 ms`")?;
                let number: u64 = number.parse().map_err(|_| format!("`{number}` is no time"))?;
                let unit = match unit {
                    "us" => 1,
                    "ms" => 1_000,
                    "s" => 1_000_000,
                    _ => return Err(format!("`{unit}` is no unit: us, ms or s")),
                };
                self.world()?.advance(number * unit);
                Ok(())
            }
            "expect" => self.expect(rest),
            _ => Err(format!("`{verb}` means nothing")),
        }
    }

    fn ask(&mut self, rest: &str) -> Result<(), String> {
        let (head, words) = rest.split_once(": ").ok_or("`ask NAME at NODE: COMMAND`")?;
        let (name, at) = head.split_once(" at ").ok_or("`ask NAME at NODE: COMMAND`")?;
        let at = one_node(at)?;
        self.is_known_and_up(at)?;
        let words: Vec<&str> = words.split(' ').collect();
        let key = words.get(1).ok_or("a command has a key")?;
        self.names.insert(entity_of(key.as_bytes()), (*key).to_owned());
        let ticket = self.world()?.submit(at, &words);
        self.asked.insert(name.to_owned(), ticket);
        Ok(())
    }

    fn is_known_and_up(&mut self, node: u8) -> Result<(), String> {
        let world = self.world()?;
        if node >= world.node_count() || !world.is_up(node) {
            return Err(format!("node {node} is not there"));
        }
        Ok(())
    }

    fn hold(&mut self, rest: &str) -> Result<(), String> {
        let (ends, kind) = rest.split_once(": ").ok_or("`hold FROM -> TO: KIND`")?;
        let (from, to) = arrow(ends)?;
        self.holds.push((from, to, (kind != "*").then(|| kind.to_owned())));
        let holds = self.holds.clone();
        self.world()?.hold(move |source, target, message| {
            holds.iter().any(|(from, to, kind)| {
                from.is_none_or(|from| from == source.node)
                    && to.is_none_or(|to| to == target.node)
                    && kind.as_ref().is_none_or(|kind| kind == describe(message).0)
            })
        });
        Ok(())
    }

    fn expect(&mut self, rest: &str) -> Result<(), String> {
        let (name, wanted) = rest.split_once(": ").ok_or("`expect NAME: REPLY`")?;
        let ticket = *self.asked.get(name).ok_or_else(|| format!("nobody asked `{name}`"))?;
        let reply = self.world()?.reply(ticket).map(|(_, value)| value.clone());
        let said = reply.as_ref().map_or_else(|| "nothing".to_owned(), in_words);
        if said == wanted { Ok(()) } else { Err(format!("`{name}` was answered `{said}`")) }
    }

    fn print_events(&mut self) {
        let world = self.world.as_mut().expect("something happened in it");
        for (_, what) in world.trace.take() {
            let line = match what {
                What::Sent { kind: "sweep" | "sweep answer" | "sweep hint", .. } => continue,
                What::Sent { kind: "lag question" | "lag confirmed" | "digest", .. } => continue,
                What::Sent { kind, .. } if kind.starts_with("lag answer") => continue,
                What::Sent { from, to, kind, entity, entry, .. } => {
                    let name = self.names.get(&entity).map_or("?", String::as_str);
                    format!("  {from} -> {to}  {kind}, {name} entry {}", entry.0)
                }
                What::Replied { node, ticket, entry, .. } => {
                    let asked = self.asked.iter().find(|(_, known)| **known == ticket);
                    let name = asked.map_or("?", |(name, _)| name.as_str());
                    let reply = world.reply(ticket).map(|(_, value)| in_words(value));
                    let reply = reply.unwrap_or_default();
                    format!("  {node} answers {name}: {reply}, as of entry {}", entry.0)
                }
                What::Written { node, .. } => format!("  {node} wrote"),
                What::Start { node, .. } => format!("  {node} starts"),
                What::Crash { node } => format!("  {node} dies"),
                What::Asked { .. }
                | What::LinkUp { .. }
                | What::LinkDown { .. }
                | What::Freeze { .. }
                | What::Wipe { .. }
                | What::Registered { .. }
                | What::Damage { .. } => continue,
            };
            writeln!(self.output, "{line}").expect("a string takes whatever is written");
        }
    }
}

/// A reply as one would say it.
fn in_words(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Null => "null".to_owned(),
        other => {
            let mut bytes = Vec::new();
            other.encode(Protocol::Resp2, &mut bytes);
            String::from_utf8_lossy(&bytes).trim_start_matches(['+', ':', '-']).trim().to_owned()
        }
    }
}
