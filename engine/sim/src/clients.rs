//! The clients of a run: one command at a time each, at any node, again elsewhere when it fails.

use engine::request::{Freshness, Reply};
use net::resp::value::Value;

use crate::history::{Operation, Outcome};
use crate::random::Random;
use crate::workload::{Asked, Workload};
use crate::world::World;

/// A client gives a node this long before it turns to another, in microseconds.
const PATIENCE_US: u64 = 3_000_000;

/// A command under way.
#[derive(Clone, Debug)]
struct Open {
    /// Its place in the history.
    place: usize,
    /// The attempt's reply; `None` while no node is up to ask.
    ticket: Option<u64>,
    /// The node asked and its boot: a reply dies with it.
    asked: (u8, u32),
    asked_at: u64,
    /// Whether an earlier attempt may have taken effect.
    perhaps_done: bool,
}

#[derive(Clone, Debug)]
struct Client {
    node: u8,
    open: Option<Open>,
}

/// See the module page.
#[derive(Debug)]
pub struct Clients {
    workload: Workload,
    random: Random,
    clients: Vec<Client>,
    operations: usize,
    history: Vec<Operation>,
}

impl Clients {
    /// The clients of a run of so many commands.
    #[must_use]
    pub fn new(seed: u64, workload: Workload, operations: usize) -> Self {
        let clients = (0..workload.clients).map(|number| Client {
            node: u8::try_from(number % 64).expect("below 64"),
            open: None,
        });
        Self {
            workload,
            random: Random::stream(seed, "clients"),
            clients: clients.collect(),
            operations,
            history: Vec::with_capacity(operations),
        }
    }

    /// Whether every command was asked.
    #[must_use]
    pub fn all_asked(&self) -> bool {
        self.history.len() >= self.operations
    }

    /// Whether every command asked has ended.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.clients.iter().all(|client| client.open.is_none())
    }

    /// Commands asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.history.len()
    }

    /// Commands answered without an error.
    #[must_use]
    pub fn completed(&self) -> usize {
        let is_answered =
            |operation: &&Operation| matches!(operation.outcome, Outcome::Replied { .. });
        self.history.iter().filter(is_answered).count()
    }

    /// All commands, and what became of them.
    #[must_use]
    pub fn history(&self) -> &[Operation] {
        &self.history
    }

    /// The commands under way, in words.
    #[must_use]
    pub fn open_commands(&self) -> Vec<String> {
        let open = self.clients.iter().filter_map(|client| client.open.as_ref());
        open.map(|open| {
            let words = self.history[open.place].words.iter();
            let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
            format!("{} at node {}", words.join(" "), open.asked.0)
        })
        .collect()
    }

    /// Every client looks at its command, or asks the next.
    pub fn turn(&mut self, world: &mut World) {
        for client in 0..self.clients.len() {
            if self.clients[client].open.is_some() {
                self.look(world, client);
            } else if !self.all_asked() {
                self.ask(world, client);
            }
        }
    }

    fn ask(&mut self, world: &mut World, client: usize) {
        let Some(node) = self.node_of(world, client) else { return };
        let Asked { entity, words, request_id } =
            self.workload.next(&mut self.random, self.history.len());
        let place = self.history.len();
        self.history.push(Operation {
            client: u32::try_from(client).expect("few clients"),
            entity,
            words,
            request_id,
            called_at: world.now(),
            outcome: Outcome::Unknown,
        });
        let open = Open {
            place,
            ticket: None,
            asked: (node, 0),
            asked_at: world.now(),
            perhaps_done: false,
        };
        self.clients[client].open = Some(open);
        self.attempt(world, client, node);
    }

    /// The client's node, or the next one that is up.
    fn node_of(&mut self, world: &World, client: usize) -> Option<u8> {
        let nodes = world.node_count();
        let first = self.clients[client].node % nodes;
        let node = (0..nodes).map(|step| (first + step) % nodes).find(|node| world.is_up(*node))?;
        self.clients[client].node = node;
        Some(node)
    }

    fn attempt(&mut self, world: &mut World, client: usize, node: u8) {
        let open = self.clients[client].open.as_mut().expect("called for an open command");
        let operation = &self.history[open.place];
        let ticket = world.submit_for(
            node,
            operation.entity,
            &operation.words,
            operation.request_id.as_deref(),
            Freshness::Linearizable,
        );
        open.ticket = Some(ticket);
        open.asked = (node, world.epoch(node));
        open.asked_at = world.now();
    }

    fn look(&mut self, world: &mut World, client: usize) {
        let open = self.clients[client].open.clone().expect("called for an open command");
        let Some(ticket) = open.ticket else {
            self.again(world, client);
            return;
        };
        let (node, epoch) = open.asked;
        match world.take_reply(ticket) {
            Some((at, reply)) => self.handle_reply(client, at, reply),
            None => {
                let is_gone = !world.is_up(node) || world.epoch(node) != epoch;
                if is_gone || world.now() > open.asked_at + PATIENCE_US {
                    self.give_up_attempt(world, client);
                }
            }
        }
    }

    fn handle_reply(&mut self, client: usize, at: u64, reply: Reply) {
        let open = self.clients[client].open.as_mut().expect("it was answered");
        let word = match &reply.value {
            Value::Error(error) => Some(error.word().to_owned()),
            _ => None,
        };
        let may_be_done = match word.as_deref() {
            Some("UNKNOWN") => true,
            Some("BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "MISCONF" | "OOM" | "REMOVED") => false,
            _ => {
                let (reply, entry) = (reply.value, reply.entry);
                let place = open.place;
                self.history[place].outcome = Outcome::Replied { at, reply, entry };
                self.clients[client].open = None;
                return;
            }
        };
        open.perhaps_done |= may_be_done;
        let (perhaps_done, place) = (open.perhaps_done, open.place);
        self.clients[client].node += 1;
        if self.history[place].request_id.is_some() {
            self.clients[client].open.as_mut().expect("still open").ticket = None;
        } else {
            self.history[place].outcome =
                if perhaps_done { Outcome::Unknown } else { Outcome::Refused { at } };
            self.clients[client].open = None;
        }
    }

    /// The node died or is silent: whether the command took effect is not known.
    fn give_up_attempt(&mut self, world: &mut World, client: usize) {
        self.clients[client].node += 1;
        let open = self.clients[client].open.as_mut().expect("called for an open command");
        open.perhaps_done = true;
        open.ticket = None;
        if self.history[open.place].request_id.is_some() {
            self.again(world, client);
        } else {
            self.clients[client].open = None;
        }
    }

    fn again(&mut self, world: &mut World, client: usize) {
        if let Some(node) = self.node_of(world, client) {
            self.attempt(world, client, node);
        }
    }
}
