//! A node with new disks makes itself known before it speaks of anything else.
//!
//! It asks the others, one by one and again and again, to know it as a generation beyond all it has
//! heard of; whoever knew an older one makes that durable and lets it in, whoever knows this one or
//! a later one of other disks refuses, and says which. When so many know it that every two such
//! sets have a node in common, the node starts.

use engine::abstention::Abstention;
use net::peer::handshake::{AcceptorFailure, DiallerFailure, Refusal};
use plog::vocabulary::Generation;

use crate::trace::What;
use crate::world::network::HandshakeFailed;
use crate::world::{CoreId, Event, World};

/// Longest pause before a node is asked again, in microseconds.
const ASK_AGAIN_MAX_US: u64 = 10_000;

impl World {
    /// The process of a node with new disks starts, unless it runs.
    pub(super) fn start_registering(&mut self, node: u8) {
        let state = &mut self.nodes[usize::from(node)];
        let registering = state.registering.as_mut().expect("its disks are new");
        if registering.is_up {
            return;
        }
        registering.is_up = true;
        state.starts += 1;
        let start = state.starts;
        for to in (0..self.node_count()).filter(|to| *to != node) {
            self.ask_to_register(node, to, start);
        }
    }

    /// Kills a node that is registering. Whether it was.
    pub fn crash_registering(&mut self, node: u8) -> bool {
        let state = &mut self.nodes[usize::from(node)];
        let Some(registering) = state.registering.as_mut().filter(|state| state.is_up) else {
            return false;
        };
        // Who acknowledged is asked again: the node does not keep it.
        (registering.is_up, registering.acknowledged) = (false, 0);
        self.coverage.crashes_during_rejoin += 1;
        self.trace.note(self.now, What::Crash { node });
        true
    }

    fn ask_to_register(&mut self, node: u8, to: u8, start: u32) {
        let delay = 1 + self.chances.delay.below(ASK_AGAIN_MAX_US);
        self.schedule(delay, Event::Register { node: CoreId { node, core: 0 }, to, start });
    }

    pub(super) fn register(&mut self, from: CoreId, to: u8, start: u32) {
        let node = from.node;
        let state = &self.nodes[usize::from(node)];
        let Some(registering) = state.registering.filter(|_| state.starts == start) else { return };
        if !registering.is_up || registering.acknowledged & (1 << to) != 0 {
            return;
        }
        self.ask_to_register(node, to, start);
        if !self.is_up(to) || self.is_cut(node, to) || self.is_cut(to, node) {
            return;
        }
        let peer = CoreId { node: to, core: 0 };
        match self.shake_hands(from, peer) {
            Ok((acceptor, dialler)) => {
                self.remember(to, &acceptor);
                self.remember(node, &dialler);
                self.coverage.registrations += 1;
                self.acknowledge(node, to);
            }
            Err(
                HandshakeFailed::Acceptor(AcceptorFailure::Refused(refusal))
                | HandshakeFailed::Dialler(DiallerFailure::RefusedByPeer(refusal)),
            ) => {
                self.coverage.refused_handshakes += 1;
                if let Refusal::Incarnation { generation, .. } = refusal {
                    self.ask_beyond(node, Generation(generation));
                }
            }
            Err(HandshakeFailed::Acceptor(_) | HandshakeFailed::Dialler(_)) => {}
        }
    }

    /// A node that registers heard of an earlier life in this generation.
    fn ask_beyond(&mut self, node: u8, known: Generation) {
        let state = &mut self.nodes[usize::from(node)];
        let start = state.starts;
        let registering = state.registering.as_mut().expect("it registers");
        if registering.generation <= known {
            registering.generation = known.next().expect("few losses");
            // Those who had acknowledged the earlier one are asked again.
            let before = std::mem::take(&mut registering.acknowledged);
            for to in (0..self.node_count()).filter(|to| before & (1 << to) != 0) {
                self.ask_to_register(node, to, start);
            }
        }
    }

    fn acknowledge(&mut self, node: u8, by: u8) {
        let majority = u32::from(self.node_count() / 2 + 1);
        let state = &mut self.nodes[usize::from(node)];
        let registering = state.registering.as_mut().expect("it registers");
        registering.acknowledged |= 1 << by;
        if registering.acknowledged.count_ones() < majority {
            return;
        }
        let generation = registering.generation;
        state.epoch = generation.epoch_before().0;
        state.registering = None;
        let since = generation.epoch_before();
        for core in &mut state.cores {
            core.abstention = Some(Abstention::of_new_directory(since));
            core.log_generation = generation;
        }
        self.trace.note(self.now, What::Registered { node, generation: generation.0 });
        for id in self.core_ids(node) {
            self.lose_core(id, generation);
        }
        self.start(node);
    }
}
