//! Tails in a run: programs that follow a node's change stream, die, and go on from what they kept.

use engine::tail::{Begin, Passes, Position, Said, Tail, TailLine};
use net::resp::slot::entity_of;
use net::resp::value::Value;

use crate::checkers::Violation;
use crate::checkers::tail::TailModel;
use crate::history::ChosenLog;
use crate::mixes::Mix;
use crate::random::Random;
use crate::run::{CONVERGES_WITHIN_US, PROMPT_KEY, Run};
use crate::world::World;

/// One line in so many is the last that a tail keeps before it dies.
const DIES_ONE_IN: u64 = 60;

/// A tail does something one turn of the clients in so many, …
const ASKS_ONE_IN: u64 = 3;

/// … and now and then nothing for so many turns at most.
const SLEEPS_ONE_IN: u64 = 120;
const SLEEP_TURNS_MAX: u64 = 150;

/// Lines on a page, at most.
const COUNT_MAX: u64 = 6;

/// A tail of one node, and the program that keeps what it says, together with the position.
#[derive(Debug)]
pub(super) struct SimTail {
    node: u8,
    random: Random,
    /// `None` before it has begun, and once it died.
    tail: Option<Tail>,
    /// With the last line kept.
    kept: Option<Position>,
    /// The question under way: of which core, its ticket, and in which start of the node.
    asked: Option<(u16, u64, u32)>,
    sleeps: u64,
    /// Of each core, whether it had nothing more to say when it was asked last.
    at_end: Vec<bool>,
    model: TailModel,
}

/// The tails of a run, each of another node.
pub(super) fn tails(seed: u64, mix: &Mix, world: &World) -> Vec<SimTail> {
    let mut random = Random::stream(seed, "tails");
    let nodes = u64::from(world.all_nodes().end);
    let first = random.below(nodes);
    (0..u64::from(mix.tails))
        .map(|number| SimTail {
            node: u8::try_from((first + number) % nodes).expect("few nodes"),
            random: Random::new(random.draw()),
            tail: None,
            kept: None,
            asked: None,
            sleeps: 0,
            at_end: Vec::new(),
            model: TailModel::default(),
        })
        .collect()
}

impl SimTail {
    /// Does what comes next.
    fn step(&mut self, world: &mut World) -> Result<(), Violation> {
        if let Some((core, ticket, start)) = self.asked {
            if let Some((_, reply)) = world.take_reply(ticket) {
                self.asked = None;
                return self.hear(world, core, &reply.value);
            }
            if world.is_up(self.node) && world.starts(self.node) == start {
                return Ok(());
            }
            self.asked = None;
            if let Some(tail) = &mut self.tail {
                tail.handle_lost();
            }
        }
        if world.is_up(self.node) {
            self.ask(world);
        }
        Ok(())
    }

    fn ask(&mut self, world: &mut World) {
        let cores = world.core_count(self.node);
        let tail = self.tail.get_or_insert_with(|| {
            let begin = match &self.kept {
                None => Begin::Start,
                Some(kept) => {
                    let text = kept.to_string();
                    Begin::After(text.parse().expect("it is what was said"))
                }
            };
            Tail::new(&begin, cores, Passes::Allowed).expect("passes are allowed")
        });
        self.at_end.resize(usize::from(cores), false);
        let (core, question) = tail.next_question();
        let count = 1 + usize::try_from(self.random.below(COUNT_MAX)).expect("few");
        let ticket = world.ask_tail(self.node, core, question, count);
        self.asked = Some((core, ticket, world.starts(self.node)));
    }

    fn hear(&mut self, world: &mut World, core: u16, reply: &Value) -> Result<(), Violation> {
        let tail = self.tail.as_mut().expect("it asked");
        let heard = tail
            .handle_reply(core, reply)
            .map_err(|error| Violation::new("tail", format!("of node {}: {error}", self.node)))?;
        let is_in_pass = tail.cores()[usize::from(core)].is_in_pass();
        self.at_end[usize::from(core)] = heard.waits && heard.refusal.is_none() && !is_in_pass;
        world.coverage.tail_refusals += u64::from(heard.refusal.is_some());
        // Commands beside the history are judged by nobody.
        let prompt = entity_of(PROMPT_KEY);
        for line in heard.lines {
            let TailLine { core, said, position } = line;
            world.coverage.tail_passes += u64::from(said == Said::EndPass);
            world.coverage.tail_lines += 1;
            let is_of_prompt = matches!(&said, Said::Change { entity, .. } if *entity == prompt);
            if !is_of_prompt {
                self.model.keep(core, said);
            }
            self.kept = Some(position);
            if self.random.below(DIES_ONE_IN) == 0 {
                world.coverage.tails_died += 1;
                self.tail = None;
                self.at_end.fill(false);
                break;
            }
        }
        Ok(())
    }

    /// Whether it told all that the node holds.
    fn is_at_end(&self) -> bool {
        self.tail.is_some() && !self.at_end.is_empty() && self.at_end.iter().all(|at_end| *at_end)
    }
}

impl Run<'_> {
    /// Each tail does something, or sleeps.
    pub(super) fn step_tails(&mut self) -> Result<(), Violation> {
        for tail in &mut self.tails {
            if tail.sleeps > 0 {
                tail.sleeps -= 1;
            } else if tail.random.below(SLEEPS_ONE_IN) == 0 {
                tail.sleeps = tail.random.below(SLEEP_TURNS_MAX);
            } else if tail.random.below(ASKS_ONE_IN) == 0 {
                tail.step(&mut self.world)?;
            }
        }
        Ok(())
    }

    /// With nothing in the way each tail tells everything, and what it told is what happened.
    pub(super) fn tails_tell_everything(&mut self, chosen: &ChosenLog) -> Result<(), Violation> {
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        // What was applied last is in the log, and can be told, a moment later.
        if !self.tails.is_empty() {
            self.world.advance(100_000);
        }
        for tail in &mut self.tails {
            // What was answered before says nothing of the end.
            if tail.asked.is_some() {
                tail.step(&mut self.world)?;
            }
            tail.at_end.fill(false);
        }
        while !self.tails.iter().all(SimTail::is_at_end) {
            for tail in &mut self.tails {
                tail.step(&mut self.world)?;
            }
            self.world.advance(2_000);
            self.fine()?;
            if self.world.now() > deadline {
                let slow = self.tails.iter().find(|tail| !tail.is_at_end()).expect("not all are");
                let what = format!("the tail of node {} never comes to an end", slow.node);
                return Err(Violation::new("tail", what));
            }
        }
        for tail in &self.tails {
            let cores = self.world.core_count(tail.node);
            let told = tail.model.check(tail.node, cores, chosen)?;
            self.world.coverage.tail_changes += told.changes;
            self.world.coverage.tail_states += told.states;
            self.world.coverage.tail_resets += told.resets;
        }
        Ok(())
    }
}
