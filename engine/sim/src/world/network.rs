//! Connections between cores: dialling, sending, losing, breaking.

use std::{iter, slice};

use engine::shard::{PeerLife, StringShard};
use net::peer::frame_decoder::FrameDecoder;
use net::peer::frame_encoder::FrameEncoder;
use net::peer::handshake::{
    AcceptorFailure, AcceptorStep, DiallerFailure, DiallerStep, HandshakeAcceptor,
    HandshakeDialler, PeerIdentity, Remembered, Target,
};
use net::peer::message::{GenerationsNotice, PeerMessage};
use plog::configuration::Configuration;
use plog::vocabulary::{AcceptorId, BootEpoch, Generation};

use crate::trace::What;
use crate::world::link::{FRAME_SIZE_MAX, Link, UNDER_WAY_MAX};
use crate::world::{CoreId, Event, Hold, Transport, World};

/// A connection on which nothing arrives for so long is given up, in microseconds.
const SILENCE_US: u64 = 1_000_000;

/// Longest pause before a broken connection is dialled again, in microseconds.
const REDIAL_MAX_US: u64 = 20_000;

/// Writes one frame.
fn encode(
    encoder: &mut FrameEncoder,
    (generations, configuration): (Option<GenerationsNotice>, Option<Configuration>),
    message: PeerMessage,
    bytes: &mut Vec<u8>,
) {
    if generations.is_none() && configuration.is_none() {
        let encoded = encoder.encode(slice::from_ref(&message), bytes);
        encoded.expect("messages fit a frame");
        return;
    }
    let notices = generations.map(PeerMessage::Generations);
    let notices = notices.into_iter().chain(configuration.map(PeerMessage::Configuration));
    let messages: Vec<PeerMessage> = notices.chain([message]).collect();
    encoder.encode(&messages, bytes).expect("messages fit a frame");
}

/// Who refused, and why.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandshakeFailed {
    Acceptor(AcceptorFailure),
    Dialler(DiallerFailure),
}

impl World {
    /// From now on nothing gets from `from` to `to`.
    pub fn cut(&mut self, from: u8, to: u8) {
        if from == to || self.is_cut(from, to) {
            return;
        }
        self.cut.push((from, to));
        let links: Vec<(CoreId, CoreId, u32)> = (self.links.iter())
            .filter(|((source, target), link)| {
                source.node == from && target.node == to && link.is_up
            })
            .map(|((source, target), link)| (*source, *target, link.generation))
            .collect();
        if self.config.transport == Transport::Streams {
            for (from, to, generation) in links {
                self.schedule(SILENCE_US, Event::Silence { from, to, generation });
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.cut.clear();
        let ends: Vec<(CoreId, CoreId)> = self.links.keys().copied().collect();
        for (from, to) in ends {
            let link = self.links.get_mut(&(from, to)).expect("just listed");
            let generation = link.generation;
            if link.is_up {
                while let Some(bytes) =
                    self.links.get_mut(&(from, to)).expect("still there").stalled.pop_front()
                {
                    self.send_stream_bytes(from, to, generation, bytes);
                }
            } else {
                let delay = 1 + self.chances.delay.below(REDIAL_MAX_US);
                self.schedule(delay, Event::Dial { from, to, generation });
            }
        }
    }

    pub(super) fn is_cut(&self, from: u8, to: u8) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Dials all links from and to a node that was started: followers have none with each other.
    pub(super) fn connect(&mut self, node: u8) {
        let replicas = self.node_count();
        let both_follow = |other: u8| self.is_follower(node) && self.is_follower(other);
        let others: Vec<CoreId> = (self.all_nodes())
            .filter(|other| *other != node && !both_follow(*other))
            .flat_map(|id| self.core_ids(id))
            .collect();
        for me in self.core_ids(node) {
            for other in &others {
                for (from, to) in [(me, *other), (*other, me)] {
                    let link = self.links.entry((from, to)).or_insert_with(|| Link::new(replicas));
                    let generation = link.generation;
                    let delay = 1 + self.chances.delay.below(self.config.faults.delay_max_us);
                    self.schedule(delay, Event::Dial { from, to, generation });
                }
            }
        }
    }

    /// A connection attempt: the handshake of the daemon, at one go.
    pub(super) fn dial(&mut self, from: CoreId, to: CoreId, generation: u32) {
        let link = &self.links[&(from, to)];
        let possible = link.generation == generation
            && !link.is_up
            && self.is_up(from.node)
            && self.is_up(to.node)
            && !self.is_cut(from.node, to.node)
            && !self.is_cut(to.node, from.node);
        if !possible {
            return;
        }
        let Ok((acceptor, dialler)) = self.shake_hands(from, to) else {
            self.coverage.refused_handshakes += 1;
            return;
        };
        self.remember(to.node, &acceptor);
        self.remember(from.node, &dialler);
        self.coverage.handshakes += 1;
        let replicas = self.node_count();
        self.links.get_mut(&(from, to)).expect("dialled").begin(replicas);
        let now = self.clock_of(to.node);
        self.trace.note(self.now, What::LinkUp { from: from.node, to: to.node });
        let life = PeerLife {
            generation: BootEpoch(acceptor.boot_epoch).generation(),
            core_count: acceptor.core_count,
        };
        self.core(to).shard.as_mut().expect("it is up").handle_peer_up(now, from.peer(), life);
        self.pump(to);
    }

    /// A node remembers durably whom it shook hands with. If that one is of a later generation than
    /// was known, connections of the earlier one end.
    pub(super) fn remember(&mut self, node: u8, identity: &PeerIdentity) {
        if self.is_follower(identity.node_id) {
            return; // it has promised nothing
        }
        let Some(generation) = self.nodes[usize::from(node)].remember(identity) else { return };
        self.break_links(node, identity.node_id);
        let now = self.clock_of(node);
        for id in self.core_ids(node) {
            if let Some(shard) = self.core(id).shard.as_mut() {
                shard.handle_generation(now, AcceptorId(identity.node_id), generation);
                self.pump(id);
            }
        }
    }

    /// Who the acceptor and the dialler find at the other end, unless one refuses.
    pub(super) fn shake_hands(
        &self,
        from: CoreId,
        to: CoreId,
    ) -> Result<(PeerIdentity, PeerIdentity), HandshakeFailed> {
        let replicas = self.node_count();
        let nodes = &self.nodes;
        let introduce = |id: CoreId| nodes[usize::from(id.node)].introduction(id, replicas);
        let remembers = |node: u8, of: u8| {
            let known = nodes[usize::from(node)].remembered.get(usize::from(of));
            known.copied().unwrap_or(Remembered::NeverMet)
        };
        let target = Target { node_id: to.node, core: to.core };
        let mut dialler = HandshakeDialler::new(introduce(from), target);
        let mut acceptor = HandshakeAcceptor::new(introduce(to));
        let hello = dialler.hello();
        let step = acceptor
            .handle_bytes(&hello, |of| remembers(to.node, of))
            .map_err(HandshakeFailed::Acceptor)?;
        let AcceptorStep::Accepted { identity: accepted, answer, .. } = step else {
            unreachable!("all bytes came at once");
        };
        let step = dialler
            .handle_bytes(&answer, |of| remembers(from.node, of))
            .map_err(HandshakeFailed::Dialler)?;
        let DiallerStep::Accepted { identity: dialled, .. } = step else {
            unreachable!("all bytes came at once");
        };
        Ok((accepted, dialled))
    }

    /// Ends a connection; whoever receives on it notices, and the sender dials again.
    pub fn break_link(&mut self, from: CoreId, to: CoreId) {
        let link = self.links.get_mut(&(from, to)).expect("a link between two nodes");
        if !link.is_up {
            return; // it is dialled already, and that must stay valid
        }
        link.end();
        let generation = link.generation;
        self.coverage.broken_links += 1;
        self.trace.note(self.now, What::LinkDown { from: from.node, to: to.node });
        let delay = 1 + self.chances.delay.below(REDIAL_MAX_US);
        self.schedule(delay, Event::Dial { from, to, generation });
        let now = self.clock_of(to.node);
        if let Some(shard) = self.core(to).shard.as_mut() {
            shard.handle_peer_down(now, from.peer());
            self.pump(to);
        }
    }

    /// Breaks the connections between two nodes, in both directions.
    pub fn break_links(&mut self, node: u8, other: u8) {
        let between = |from: CoreId, to: CoreId| {
            (from.node, to.node) == (node, other) || (from.node, to.node) == (other, node)
        };
        let ends: Vec<(CoreId, CoreId)> =
            self.links.keys().filter(|(from, to)| between(*from, *to)).copied().collect();
        for (from, to) in ends {
            self.break_link(from, to);
        }
    }

    /// A node went down, and all its connections with it.
    pub(super) fn disconnect(&mut self, node: u8) {
        let ended: Vec<(CoreId, CoreId)> = (self.links.iter_mut())
            .filter(|((from, to), _)| from.node == node || to.node == node)
            .filter_map(|(ends, link)| link.end().then_some(*ends))
            .collect();
        for (from, to) in ended {
            let now = self.clock_of(to.node);
            if let Some(shard) = self.core(to).shard.as_mut() {
                shard.handle_peer_down(now, from.peer());
                self.pump(to);
            }
        }
    }

    /// A message leaves a core.
    pub(super) fn send(&mut self, from: CoreId, to: CoreId, message: PeerMessage) {
        if self.hold.as_ref().is_some_and(|Hold(hold)| hold(from, to, &message)) {
            self.held.push((from, to, message));
            return;
        }
        self.trace.note_message(self.now, from.node, to.node, &message);
        let Some(link) = self.links.get_mut(&(from, to)) else { return };
        if !link.is_up {
            return; // as in the daemon: nobody is there to send to
        }
        match self.config.transport {
            Transport::Datagrams => self.send_datagram(from, to, message),
            Transport::Streams => self.send_on_stream(from, to, message),
        }
    }

    fn send_datagram(&mut self, from: CoreId, to: CoreId, message: PeerMessage) {
        let faults = self.config.faults;
        if self.is_cut(from.node, to.node) || self.chances.loss.happens(faults.loss) {
            self.coverage.lost_frames += 1;
            return;
        }
        let generation = self.links[&(from, to)].generation;
        let mut bytes = Vec::new();
        let mut encoder = FrameEncoder::new(FRAME_SIZE_MAX);
        encode(&mut encoder, self.notices_of(from), message, &mut bytes);
        let sender = self.nodes[usize::from(from.node)].boot().generation();
        if self.chances.duplication.happens(faults.duplication) {
            self.coverage.duplicated_frames += 1;
            let delay = self.delay();
            let bytes = bytes.clone();
            self.schedule(delay, Event::Frame { from, to, sender, generation, bytes });
        }
        self.corrupt(&mut bytes);
        let delay = self.delay();
        self.schedule(delay, Event::Frame { from, to, sender, generation, bytes });
    }

    fn send_on_stream(&mut self, from: CoreId, to: CoreId, message: PeerMessage) {
        let is_cut = self.is_cut(from.node, to.node);
        let notices = self.notices_of(from);
        let link = self.links.get_mut(&(from, to)).expect("it is up");
        if link.under_way > UNDER_WAY_MAX {
            link.is_behind = true;
            self.coverage.dropped_messages += 1;
            return;
        }
        let mut bytes = Vec::new();
        encode(&mut link.encoder, notices, message, &mut bytes);
        link.under_way += bytes.len();
        let generation = link.generation;
        if is_cut {
            link.stalled.push_back(bytes);
            return;
        }
        if self.chances.loss.happens(self.config.faults.loss) {
            // The connection breaks in the middle of this frame.
            self.coverage.lost_frames += 1;
            self.break_link(from, to);
            return;
        }
        self.corrupt(&mut bytes);
        self.send_stream_bytes(from, to, generation, bytes);
    }

    /// Puts bytes of a stream on their way, now and then in two pieces.
    fn send_stream_bytes(&mut self, from: CoreId, to: CoreId, generation: u32, bytes: Vec<u8>) {
        let mut first = bytes;
        let mut rest = None;
        if self.chances.split.below(4) == 0 {
            let at = self.chances.split.index(first.len());
            rest = Some(first.split_off(at));
        }
        for bytes in iter::once(first).chain(rest) {
            let arrives = self.now + self.delay();
            let link = self.links.get_mut(&(from, to)).expect("it is up");
            link.clear_at = link.clear_at.max(arrives);
            let at = link.clear_at;
            let sender = self.nodes[usize::from(from.node)].boot().generation();
            self.schedule_at(at, Event::Frame { from, to, sender, generation, bytes });
        }
    }

    fn corrupt(&mut self, bytes: &mut [u8]) {
        if self.chances.corruption.happens(self.config.faults.corruption) {
            let place = self.chances.corruption.index(bytes.len());
            bytes[place] ^= 1 << self.chances.corruption.below(8);
            self.coverage.corrupted_frames += 1;
        }
    }

    /// What every frame of a core begins with, when it has something to say of generations, or
    /// when the membership changes.
    pub(super) fn notices_of(
        &self,
        from: CoreId,
    ) -> (Option<GenerationsNotice>, Option<Configuration>) {
        let core = &self.nodes[usize::from(from.node)].cores[usize::from(from.core)];
        let shard = core.shard.as_ref();
        let generations = shard.and_then(StringShard::generations);
        (generations, shard.and_then(StringShard::configuration_notice))
    }

    pub(super) fn handle_frame(
        &mut self,
        (from, sender): (CoreId, Generation),
        to: CoreId,
        generation: u32,
        bytes: &[u8],
    ) {
        let replicas = self.node_count();
        let link = self.links.get_mut(&(from, to)).expect("sent on a link");
        let is_current = link.generation == generation && link.is_up;
        let datagrams = self.config.transport == Transport::Datagrams;
        if !is_current && !datagrams {
            return;
        }
        // A datagram may outlive its connection; it never reaches a node that is down.
        let mut single = datagrams.then(|| FrameDecoder::new(FRAME_SIZE_MAX, replicas));
        let decoder = single.as_mut().unwrap_or(&mut link.decoder);
        decoder.push(bytes);
        let mut arrived = Vec::new();
        let decoded = loop {
            match decoder.next_frame() {
                Ok(Some(messages)) => arrived.extend(messages),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        link.under_way = link.under_way.saturating_sub(bytes.len());
        let has_room = link.is_behind && link.under_way < UNDER_WAY_MAX / 2;
        if has_room {
            link.is_behind = false;
        }
        let now = self.clock_of(to.node);
        if let Some(shard) = self.core(to).shard.as_mut() {
            for message in arrived {
                shard.handle_message(now, from.peer(), sender, message);
            }
            self.delivered += 1;
            self.pump(to);
        }
        if !decoded {
            self.coverage.refused_frames += 1;
            self.break_link(from, to);
        } else if has_room && let Some(shard) = self.core(from).shard.as_mut() {
            shard.handle_dropped(to.peer());
            self.pump(from);
        }
    }

    fn delay(&mut self) -> u64 {
        let faults = self.config.faults;
        let delay = 1 + self.chances.delay.below(faults.delay_max_us);
        if self.chances.straggler.happens(faults.straggler) { delay * 50 } else { delay }
    }
}
