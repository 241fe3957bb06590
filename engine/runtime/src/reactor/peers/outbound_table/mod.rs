//! All links of one core to the cores of its peers: on these this node speaks and the peers listen.
//!
//! A core first dials core 0 of a peer, learns from the welcome how many cores the peer has, and
//! then keeps a link to each of them that it shares entities with (see
//! [`pairing`](crate::reactor::peers::pairing)). How a link comes up, and what becomes of it when
//! its connection breaks, is the business of `dialling`; here stands which links there are, and
//! what is said on them.
//!
//! A link never holds up the core: what does not fit its bounded buffer is dropped by whole
//! messages, and the shard is told once when the peer can be told to ask for what it missed.

use std::os::fd::AsFd;
use std::sync::Arc;

use engine::context::Outgoing;
use engine::shard::{PeerCore, StringShard};
use engine::time::Time;
use net::peer::handshake::LocalNode;
use net::peer::message::PeerMessage;
use net::resp::slot::shard_of;
use plog::configuration::Members;
use plog::vocabulary::{AcceptorId, Generation};

use crate::core_setup::{Limits, PeerAddress};
use crate::node::log_line;
use crate::reactor::metrics::Counters;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::acquaintances::Acquaintances;
use crate::reactor::peers::outbound::{LinkPhase, Outbound};
use crate::reactor::ring::{Completion, Payload, Ring};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::Kind;

mod dialling;

/// A link that was silent for this long says that it is alive, in microseconds.
const HEARTBEAT_US: u64 = 200_000;

#[derive(Debug)]
struct Peer {
    address: PeerAddress,
    /// Known from its last welcome.
    core_count: Option<u16>,
    /// By its core; `None` where no entities are shared.
    links: Vec<Option<Key>>,
    /// The link that asks how many cores it has, while that is not known.
    asking: Option<Key>,
    /// Whether messages were dropped before there was a link to drop them on.
    dropped: bool,
    /// Not spoken to: a follower that is not heard, or a node that is no member and not heard.
    is_gone: bool,
}

/// All links of one core to its peers.
#[derive(Debug)]
pub(super) struct OutboundTable {
    local: LocalNode,
    limits: Limits,
    acquaintances: Acquaintances,
    shared: Arc<NodeShared>,
    peers: Vec<Peer>,
    /// Members of which it was said that nobody knows where they are.
    unknown: Members,
    /// Position in `peers` by node id.
    position: Vec<Option<usize>>,
    links: Slab<Outbound>,
    /// Links with messages of this turn, or whose send ended in it.
    listed: Vec<Key>,
}

impl OutboundTable {
    /// No links yet; call [`OutboundTable::start`] next.
    pub(super) fn new(
        local: LocalNode,
        peers: Vec<PeerAddress>,
        limits: Limits,
        acquaintances: Acquaintances,
        shared: Arc<NodeShared>,
    ) -> Self {
        let mut position = vec![None; usize::from(u8::MAX) + 1];
        let peers: Vec<Peer> = peers
            .into_iter()
            .enumerate()
            .map(|(index, address)| {
                position[usize::from(address.node_id)] = Some(index);
                let (core_count, links, asking) = (None, Vec::new(), None);
                Peer { address, core_count, links, asking, dropped: false, is_gone: false }
            })
            .collect();
        Self {
            local,
            limits,
            acquaintances,
            shared,
            peers,
            unknown: Members::NONE,
            position,
            links: Slab::new(),
            listed: Vec::new(),
        }
    }

    /// Begins to dial.
    pub(super) fn start(&mut self) {
        for index in 0..self.peers.len() {
            // Core 0 shares entities with core 0 whatever the counts are.
            let core = if self.local.core == 0 { Some(0) } else { None };
            self.peers[index].asking = Some(self.add_link(index, core));
        }
    }

    /// All links, as JSON.
    pub(super) fn json(&self) -> Vec<serde_json::Value> {
        self.links
            .iter()
            .map(|(_, link)| {
                serde_json::json!({
                    "node": self.peers[link.peer].address.node_id,
                    "core": link.peer_core,
                    "up": link.is_up(),
                    "unsent_bytes": link.unsent_bytes(),
                })
            })
            .collect()
    }

    /// A follower or a member came, and hears where `address` says: it is dialled there, unless it
    /// hears already.
    pub(super) fn add_peer(&mut self, address: PeerAddress, now: Time, ring: &mut Ring) {
        let node_id = address.node_id;
        let known = self.position[usize::from(node_id)];
        if let Some(index) = known {
            let peer = &self.peers[index];
            let is_member = self.shared.peer(node_id).is_some();
            // A member's address may be known by another name than that by which it came.
            let is_reached = is_member && self.is_reached(peer);
            if !peer.is_gone && (peer.address == address || is_reached) {
                return;
            }
            self.retire_peer(index, now, ring);
        }
        let (core_count, links, asking) = (None, Vec::new(), None);
        let peer = Peer { address, core_count, links, asking, dropped: false, is_gone: false };
        let index = match known {
            Some(index) => {
                self.peers[index] = peer;
                index
            }
            None => {
                self.peers.push(peer);
                self.position[usize::from(node_id)] = Some(self.peers.len() - 1);
                self.peers.len() - 1
            }
        };
        let core = if self.local.core == 0 { Some(0) } else { None };
        self.peers[index].asking = Some(self.add_link(index, core));
        if self.shared.peer(node_id).is_none() {
            log_line::info("a follower is told what this core learns", &[("node", &node_id)]);
        } else {
            let address = &self.peers[index].address;
            log_line::info(
                "a node is reached where it came from",
                &[("node", &node_id), ("host", &address.host), ("port", &address.port)],
            );
        }
    }

    /// Whether some core of a peer hears this one.
    fn is_reached(&self, peer: &Peer) -> bool {
        let links = peer.links.iter().flatten().chain(&peer.asking);
        links.filter_map(|key| self.links.get(*key)).any(Outbound::is_up)
    }

    /// A follower is heard no more: nothing is said to it until it comes again.
    pub(super) fn remove_follower(&mut self, node_id: u8, now: Time, ring: &mut Ring) {
        let Some(index) = self.position[usize::from(node_id)] else { return };
        self.retire_peer(index, now, ring);
    }

    /// Says once of each member that nobody knows where it is.
    pub(super) fn warn_of_unknown(&mut self, members: Members) {
        for member in members.without(AcceptorId(self.local.node_id)).iter() {
            let is_known = self.position[member.index()].is_some();
            if !is_known && !self.unknown.contains(member) {
                self.unknown = self.unknown.with(member);
                log_line::warn(
                    "a member's address is not known here: it is spoken to once it connects; list \
                     it in the [[node]] tables",
                    &[("node", &member.0)],
                );
            }
        }
    }

    /// Speaks to those of the replica set who are `wanted`, and to no others.
    pub(super) fn speak_to(&mut self, wanted: impl Fn(u8) -> bool, now: Time, ring: &mut Ring) {
        for node_id in 0..self.local.replicas {
            let Some(index) = self.position[usize::from(node_id)] else { continue };
            match (wanted(node_id), self.peers[index].is_gone) {
                (true, true) => {
                    let address = self.peers[index].address.clone();
                    self.add_peer(address, now, ring);
                }
                (false, false) => {
                    log_line::info(
                        "a node is no member: no connection is kept",
                        &[("node", &node_id)],
                    );
                    self.retire_peer(index, now, ring);
                }
                (true, false) | (false, true) => {}
            }
        }
    }

    fn retire_peer(&mut self, index: usize, now: Time, ring: &mut Ring) {
        let peer = &mut self.peers[index];
        let links = std::mem::take(&mut peer.links).into_iter().flatten().chain(peer.asking.take());
        let links: Vec<Key> = links.collect();
        (peer.core_count, peer.is_gone) = (None, true);
        for link in links {
            self.retire(link, now, ring);
        }
    }

    fn add_link(&mut self, peer: usize, core: Option<u16>) -> Key {
        let node_id = u64::from(self.peers[peer].address.node_id);
        let seed = u64::from(self.local.boot_epoch) << 32
            | u64::from(self.local.node_id) << 24
            | node_id << 16
            | u64::from(self.local.core) << 8
            | u64::from(core.unwrap_or(u16::MAX));
        let mut link = Outbound::new(peer, core, self.limits.frame_size_max, seed);
        link.dropped = self.peers[peer].dropped;
        self.links.insert(link)
    }

    /// Takes a message of the shard. It leaves with the turn, or is dropped.
    pub(super) fn send(&mut self, outgoing: Outgoing, counters: &mut Counters) {
        let Some(Some(position)) = self.position.get(outgoing.to.index()).copied() else {
            // The shard knows the replica set by its size, and peers are configured for all of it.
            counters.peer_dropped += 1;
            return;
        };
        let peer = &mut self.peers[position];
        let Some(core_count) = peer.core_count else {
            peer.dropped = true;
            if let Some(link) = peer.asking.and_then(|key| self.links.get_mut(key)) {
                link.dropped = true;
            }
            counters.peer_dropped += 1;
            return;
        };
        let owner = match (outgoing.core, outgoing.message.entity()) {
            (Some(core), _) => core,
            (None, Some(entity)) => shard_of(entity, core_count),
            (None, None) => {
                let all: Vec<Key> = peer.links.iter().flatten().copied().collect();
                for key in all {
                    self.send_on(key, outgoing.message.clone(), counters);
                }
                return;
            }
        };
        match peer.links.get(usize::from(owner)).copied().flatten() {
            Some(key) => self.send_on(key, outgoing.message, counters),
            None => counters.peer_dropped += 1,
        }
    }

    fn send_on(&mut self, key: Key, message: PeerMessage, counters: &mut Counters) {
        let link = self.links.get_mut(key).expect("links of a peer are in the table");
        if !link.is_up() || link.unsent_bytes() > self.limits.peer_send_buffer_max {
            link.dropped = true;
            counters.peer_dropped += 1;
            return;
        }
        if link.messages.is_empty() {
            self.listed.push(key);
        }
        link.messages.push(message);
    }

    /// Ends the turn: one frame and one send for each link that has something to say. Whether the
    /// shard has more to say now.
    pub(super) fn finish_turn(
        &mut self,
        now: Time,
        ring: &mut Ring,
        shard: &mut StringShard,
        counters: &mut Counters,
    ) -> bool {
        let mut told = false;
        while let Some(key) = self.listed.pop() {
            let Some(link) = self.links.get_mut(key) else { continue };
            if !link.is_up() {
                link.messages.clear();
                continue;
            }
            link.encode_messages(shard.generations(), shard.configuration_notice(), counters);
            if link.sending > 0 {
                continue;
            }
            if link.output.is_empty() {
                if let (true, Some(core)) = (link.dropped, link.peer_core) {
                    // Everything that was to be sent is sent: the peer can hear what it missed.
                    link.dropped = false;
                    let acceptor = AcceptorId(self.peers[link.peer].address.node_id);
                    shard.handle_dropped(PeerCore { acceptor, core });
                    told = true;
                }
                continue;
            }
            let buffer = link.take_output();
            link.sending = buffer.len();
            link.sending_begin = 0;
            link.sent_us = now.0;
            link.in_kernel += 1;
            let socket = link.socket.as_ref().expect("a link that is up has a socket");
            ring.send(Kind::OutboundSend, key, socket.as_fd(), buffer, 0);
        }
        told
    }

    /// Part of a send left, or all of it, or the connection broke.
    pub(super) fn handle_sent(
        &mut self,
        now: Time,
        completion: Completion,
        ring: &mut Ring,
        counters: &mut Counters,
    ) {
        let key = completion.owner;
        let outcome = completion.outcome();
        let Payload::Bytes(buffer) = completion.payload else {
            unreachable!("a send carries bytes")
        };
        let link = self.links.get_mut(key).expect("kept until the kernel is done with it");
        link.in_kernel -= 1;
        let sent = match outcome {
            Ok(sent) if sent > 0 => sent,
            Ok(_) => return self.end_connection(key, now, ring, "closed by the peer"),
            Err(error) => return self.end_connection(key, now, ring, &error.to_string()),
        };
        counters.peer_bytes_out += u64::try_from(sent).expect("a length fits 64 bits");
        link.sent_us = now.0;
        if matches!(link.phase, LinkPhase::Closing) {
            return self.end_connection(key, now, ring, "closed");
        }
        if sent < link.sending {
            link.sending -= sent;
            link.sending_begin += sent;
            link.in_kernel += 1;
            let begin = link.sending_begin;
            let socket = link.socket.as_ref().expect("a link that sends has a socket");
            ring.send(Kind::OutboundSend, key, socket.as_fd(), buffer, begin);
            return;
        }
        link.sending = 0;
        link.keep(buffer);
        if link.is_up() && (!link.output.is_empty() || link.dropped) && link.messages.is_empty() {
            self.listed.push(key);
        }
    }

    /// Timers: dialling, heartbeats, handshakes that take longer than `patience_us`.
    pub(super) fn handle_tick(&mut self, now: Time, ring: &mut Ring, patience_us: u64) {
        let keys: Vec<Key> = self.links.keys().collect();
        for key in keys {
            self.tend_link(key, now, ring, patience_us);
        }
    }

    fn tend_link(&mut self, key: Key, now: Time, ring: &mut Ring, patience_us: u64) {
        let Some(link) = self.links.get_mut(key) else { return };
        match &link.phase {
            LinkPhase::Resting(until_us) if *until_us <= now.0 => self.dial(key, now, ring),
            LinkPhase::LookingUp(lookup) => match lookup.poll() {
                Some(Ok(address)) => self.connect(key, address, now, ring),
                Some(Err(error)) => self.link_failed(key, now, &error),
                None => {}
            },
            LinkPhase::Connecting(since_us, _) | LinkPhase::Greeting(since_us, _)
                if now.since_us(Time(*since_us)) > patience_us =>
            {
                self.end_connection(key, now, ring, "no answer in time");
            }
            LinkPhase::Up if now.since_us(Time(link.sent_us)) >= HEARTBEAT_US => {
                if link.messages.is_empty() {
                    self.listed.push(key);
                }
                link.messages.push(PeerMessage::Heartbeat);
            }
            LinkPhase::Resting(_)
            | LinkPhase::Connecting(..)
            | LinkPhase::Greeting(..)
            | LinkPhase::Up
            | LinkPhase::Closing => {}
        }
    }

    /// Ends what is said to earlier generations than these.
    pub(super) fn end_older(&mut self, now: Time, ring: &mut Ring, known: &[Generation; 5]) {
        let all: Vec<Key> = self.links.keys().collect();
        for key in all {
            let link = self.links.get(key).expect("just listed");
            let known = known.get(usize::from(self.peers[link.peer].address.node_id));
            if link.is_up() && known.is_some_and(|known| link.generation < *known) {
                self.end_connection(key, now, ring, "a later generation of that node is about");
            }
        }
    }

    /// Closes all links for good.
    pub(super) fn stop(&mut self, now: Time, ring: &mut Ring) {
        let links: Vec<Key> = self.links.keys().collect();
        for key in links {
            self.retire(key, now, ring);
        }
    }
}
