//! All connections of one core with the cores of its peers.
//!
//! Connections speak in one direction: this node speaks on those it opened, and listens on those
//! that were opened to it. So each side re-dials what it needs by itself, and two nodes that dial
//! each other at once never have to agree which connection counts.
//!
//! A core first dials core 0 of a peer, learns from the welcome how many cores the peer has, and
//! then keeps a link to each of them that it shares entities with (see
//! [`pairing`](crate::reactor::peers::pairing)).
//!
//! A link never holds up the core: what does not fit its bounded buffer is dropped by whole
//! messages, and the shard is told once when the peer can be told to ask for what it missed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::context::Outgoing;
use engine::shard::{PeerCore, StringShard};
use engine::time::Time;
use net::peer::frame::{FrameDecoder, FrameEncoder};
use net::peer::handshake::{
    ANY_CORE, AcceptorStep, DiallerStep, HandshakeAcceptor, HandshakeDialler, LocalNode,
    PeerIdentity, Remembered, Target,
};
use net::peer::message::PeerMessage;
use net::peer::refusal::Refusal;
use net::resp::slot::shard_of;
use plog::vocabulary::AcceptorId;

use crate::core_setup::{Limits, NodeIdentity, PeerAddress};
use crate::node::known_incarnations::KnownIncarnations;
use crate::node::log_line;
use crate::reactor::metrics::Counters;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::address_lookup::{Address, address_of};
use crate::reactor::peers::inbound::{Inbound, InboundPhase, RECEIVE_SIZE};
use crate::reactor::peers::outbound::{LinkPhase, Outbound};
use crate::reactor::peers::pairing::share_entities;
use crate::reactor::ring::{Completion, OperationKey, Payload, Ring};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::Kind;

/// How often timers of connections are looked at, in microseconds.
pub const TICK_US: u64 = 50_000;

/// A link that was silent for this long says that it is alive, in microseconds.
const HEARTBEAT_US: u64 = 200_000;

/// A peer that was silent for this long is taken for gone, in microseconds.
const SILENCE_US: u64 = 2_000_000;

/// How long accepting rests after it failed, in microseconds.
const ACCEPT_REST_US: u64 = 100_000;

/// Inbound connections beyond four for each core of each peer are closed: each peer core needs one.
const INBOUND_MAX: usize = 4096;

/// The owner of the accept.
const NOBODY: Key = Key { index: 0, generation: 0 };

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
}

/// What the table needs of the node.
#[derive(Debug)]
pub struct PeerTableSetup {
    /// This core.
    pub core: u16,
    /// Cores of this node.
    pub core_count: u16,
    /// This node.
    pub identity: NodeIdentity,
    /// All peers.
    pub peers: Vec<PeerAddress>,
    /// Where peers connect.
    pub listener: TcpListener,
    /// See [`Limits`].
    pub limits: Limits,
    /// Which incarnation of each peer was met.
    pub known_incarnations: Arc<KnownIncarnations>,
    /// Which peers are live.
    pub shared: Arc<NodeShared>,
}

/// All connections of one core with its peers.
#[derive(Debug)]
pub struct PeerTable {
    local: LocalNode,
    listener: TcpListener,
    accepting: Option<OperationKey>,
    accept_retry_us: u64,
    limits: Limits,
    known_incarnations: Arc<KnownIncarnations>,
    shared: Arc<NodeShared>,
    peers: Vec<Peer>,
    /// Position in `peers` by node id.
    position: Vec<Option<usize>>,
    links: Slab<Outbound>,
    inbound: Slab<Inbound>,
    /// Established inbound connections.
    established: Vec<(PeerCore, Key)>,
    /// Links with messages of this turn, or whose send ended in it.
    listed: Vec<Key>,
    /// Receive buffers of inbound connections that ended, for the next ones.
    next_tick_us: u64,
    stopping: bool,
}

impl PeerTable {
    /// No connections yet; call [`PeerTable::start`] next.
    #[must_use]
    pub fn new(setup: PeerTableSetup) -> Self {
        let identity = setup.identity;
        let local = LocalNode {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            replicas: identity.replicas,
            incarnation: identity.incarnation,
            boot_epoch: identity.boot_epoch,
            core_count: setup.core_count,
            core: setup.core,
        };
        let mut position = vec![None; usize::from(identity.replicas)];
        let peers: Vec<Peer> = setup
            .peers
            .into_iter()
            .enumerate()
            .map(|(index, address)| {
                position[usize::from(address.node_id)] = Some(index);
                Peer { address, core_count: None, links: Vec::new(), asking: None, dropped: false }
            })
            .collect();
        Self {
            local,
            listener: setup.listener,
            accepting: None,
            accept_retry_us: 0,
            limits: setup.limits,
            known_incarnations: setup.known_incarnations,
            shared: setup.shared,
            peers,
            position,
            links: Slab::new(),
            inbound: Slab::new(),
            established: Vec::new(),
            listed: Vec::new(),
            next_tick_us: 0,
            stopping: false,
        }
    }

    /// Begins to accept and to dial.
    pub fn start(&mut self, ring: &mut Ring) {
        self.accepting = Some(ring.accept(Kind::PeerAccept, NOBODY, self.listener.as_fd()));
        for index in 0..self.peers.len() {
            // Core 0 shares entities with core 0 whatever the counts are.
            let core = if self.local.core == 0 { Some(0) } else { None };
            self.peers[index].asking = Some(self.add_link(index, core));
        }
    }

    /// When [`PeerTable::handle_tick`] is due.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        Time(self.next_tick_us)
    }

    /// Established links, as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let links: Vec<serde_json::Value> = self
            .links
            .iter()
            .map(|(_, link)| {
                serde_json::json!({
                    "node": self.peers[link.peer].address.node_id,
                    "core": link.peer_core,
                    "up": link.is_up(),
                    "unsent_bytes": link.unsent_bytes(),
                })
            })
            .collect();
        let heard: Vec<serde_json::Value> = self
            .established
            .iter()
            .map(|(peer, _)| serde_json::json!({ "node": peer.acceptor.0, "core": peer.core }))
            .collect();
        serde_json::json!({ "links": links, "heard": heard })
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

    // ---- messages out

    /// Takes a message of the shard. It leaves with the turn, or is dropped.
    pub fn send(&mut self, outgoing: Outgoing, counters: &mut Counters) {
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
    pub fn finish_turn(
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
            encode_messages(link, counters);
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

    // ---- connections to peers

    fn dial(&mut self, key: Key, now: Time, ring: &mut Ring) {
        let link = self.links.get_mut(key).expect("the caller found it");
        let address = &self.peers[link.peer].address;
        let port = address.port.checked_add(link.peer_core.unwrap_or(0));
        let found = match port {
            Some(port) => address_of(&address.host, port),
            None => Err(format!("port {} has no room for that core", address.port)),
        };
        match found {
            Ok(Address::Known(address)) => self.connect(key, address, now, ring),
            Ok(Address::Pending(lookup)) => link.phase = LinkPhase::LookingUp(lookup),
            Err(error) => self.link_failed(key, now, &error),
        }
    }

    fn connect(&mut self, key: Key, address: SocketAddr, now: Time, ring: &mut Ring) {
        let socket = match open_socket(address) {
            Ok(socket) => socket,
            Err(error) => {
                self.link_failed(key, now, &error.to_string());
                return;
            }
        };
        let link = self.links.get_mut(key).expect("the caller found it");
        assert_eq!(link.in_kernel, 0, "a link is dialled when its last connection has ended");
        let operation = ring.connect(Kind::OutboundConnect, key, socket.as_fd(), address);
        link.in_kernel += 1;
        link.socket = Some(socket);
        link.phase = LinkPhase::Connecting(now.0, operation);
    }

    /// A connection to a peer was made, or not.
    pub fn handle_connected(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
        let key = completion.owner;
        let link = self.links.get_mut(key).expect("kept until the kernel is done with it");
        link.in_kernel -= 1;
        let LinkPhase::Connecting(since_us, _) = link.phase else {
            self.end_connection(key, now, ring, "stopped");
            return;
        };
        if let Err(error) = completion.outcome() {
            self.end_connection(key, now, ring, &error.to_string());
            return;
        }
        let target = Target {
            node_id: self.peers[link.peer].address.node_id,
            core: link.peer_core.unwrap_or(ANY_CORE),
        };
        let dialler = HandshakeDialler::new(self.local, target);
        let hello = dialler.hello().to_vec();
        link.phase = LinkPhase::Greeting(since_us, dialler);
        link.encoder = FrameEncoder::new(self.limits.frame_size_max);
        link.sending = hello.len();
        link.sending_begin = 0;
        link.in_kernel += 2;
        let socket = link.socket.as_ref().expect("just connected");
        ring.send(Kind::OutboundSend, key, socket.as_fd(), hello, 0);
        ring.receive(Kind::OutboundReceive, key, socket.as_fd(), vec![0; 128]);
    }

    /// The peer answered the handshake, or closed the connection.
    pub fn handle_link_received(&mut self, now: Time, completion: Completion, ring: &mut Ring) {
        let key = completion.owner;
        let outcome = completion.outcome();
        let Payload::Bytes(buffer) = completion.payload else {
            unreachable!("a receive carries bytes")
        };
        let link = self.links.get_mut(key).expect("kept until the kernel is done with it");
        link.in_kernel -= 1;
        let count = match outcome {
            Ok(0) => return self.end_connection(key, now, ring, "closed by the peer"),
            Ok(count) => count,
            Err(error) => return self.end_connection(key, now, ring, &error.to_string()),
        };
        let LinkPhase::Greeting(_, dialler) = &mut link.phase else {
            // A peer only answers the handshake on this connection.
            return self.end_connection(key, now, ring, "the peer spoke out of turn");
        };
        let (known, shared) = (&self.known_incarnations, &self.shared);
        let step =
            dialler.handle_bytes(&buffer[..count], |node_id| remembered(known, shared, node_id));
        match step {
            Ok(DiallerStep::Incomplete) => {}
            Ok(DiallerStep::Accepted { identity, .. }) => {
                if let Err(reason) = self.remember(&identity) {
                    return self.end_connection(key, now, ring, &reason);
                }
                self.link_up(key, now, &identity, ring);
            }
            Err(failure) => return self.end_connection(key, now, ring, &failure.to_string()),
        }
        // A link that only asked is gone by now.
        let Some(link) = self.links.get_mut(key) else { return };
        if let (Some(socket), LinkPhase::Greeting(..) | LinkPhase::Up) = (&link.socket, &link.phase)
        {
            link.in_kernel += 1;
            ring.receive(Kind::OutboundReceive, key, socket.as_fd(), buffer);
        }
    }

    fn link_up(&mut self, key: Key, now: Time, identity: &PeerIdentity, ring: &mut Ring) {
        let link = self.links.get_mut(key).expect("the caller found it");
        let position = link.peer;
        link.back_off.reset();
        link.failure_logged = false;
        link.sent_us = now.0;
        let PeerIdentity { core_count, core, node_id, .. } = *identity;
        let shared = share_entities(self.local.core, self.local.core_count, core, core_count);
        if shared {
            link.phase = LinkPhase::Up;
            // A link that only asked becomes the link to the core it reached.
            link.peer_core = Some(core);
            self.listed.push(key);
            self.shared.peers[usize::from(node_id)].outbound_links.fetch_add(1, Ordering::Relaxed);
            log_line::info("connected to a peer", &[("node", &node_id), ("peer_core", &core)]);
        }
        let peer = &self.peers[position];
        if peer.core_count == Some(core_count) && peer.asking.is_none() {
            return;
        }
        // First contact, or the peer came back with another number of cores.
        let old: Vec<Key> = peer
            .links
            .iter()
            .flatten()
            .copied()
            .chain(peer.asking)
            .filter(|old| *old != key)
            .collect();
        for old in old {
            self.retire(old, now, ring);
        }
        let mut links = vec![None; usize::from(core_count)];
        for peer_core in 0..core_count {
            let wanted =
                share_entities(self.local.core, self.local.core_count, peer_core, core_count);
            links[usize::from(peer_core)] = if shared && peer_core == core {
                Some(key)
            } else if wanted {
                Some(self.add_link(position, Some(peer_core)))
            } else {
                None
            };
        }
        let peer = &mut self.peers[position];
        peer.links = links;
        peer.core_count = Some(core_count);
        peer.asking = None;
        peer.dropped = false;
        if !shared {
            self.retire(key, now, ring);
        }
    }

    fn retire(&mut self, key: Key, now: Time, ring: &mut Ring) {
        if let Some(link) = self.links.get_mut(key) {
            link.retired = true;
            link.failure_logged = true;
            self.end_connection(key, now, ring, "no longer needed");
        }
    }

    /// Part of a send left, or all of it, or the connection broke.
    pub fn handle_link_sent(
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

    /// Shuts the connection at hand down, if there is one; when the kernel is done with it, the
    /// link rests, or goes if it is retired.
    fn end_connection(&mut self, key: Key, now: Time, ring: &mut Ring, reason: &str) {
        let link = self.links.get_mut(key).expect("the caller found it");
        let was_up = link.is_up();
        if let LinkPhase::Connecting(_, operation) = link.phase {
            ring.cancel(operation);
        }
        if !matches!(link.phase, LinkPhase::Closing) {
            if was_up {
                // What was under way is lost.
                link.dropped = true;
                let node_id = self.peers[link.peer].address.node_id;
                self.shared.peers[usize::from(node_id)]
                    .outbound_links
                    .fetch_sub(1, Ordering::Relaxed);
            }
            if let Some(socket) = &link.socket {
                // Fails only when it is not connected, which is as good.
                socket.shutdown(std::net::Shutdown::Both).ok();
            }
            link.phase = LinkPhase::Closing;
            link.messages.clear();
            link.output.clear();
            if !link.failure_logged {
                link.failure_logged = true;
                let address = &self.peers[link.peer].address;
                log_line::warn(
                    "no connection to a peer; trying again",
                    &[
                        ("node", &address.node_id),
                        ("host", &address.host),
                        (
                            "port",
                            &(u32::from(address.port) + u32::from(link.peer_core.unwrap_or(0))),
                        ),
                        ("reason", &reason),
                    ],
                );
            }
        }
        let link = self.links.get_mut(key).expect("the caller found it");
        if link.in_kernel > 0 {
            return;
        }
        link.socket = None;
        link.sending = 0;
        if link.retired {
            self.links.remove(key);
        } else {
            let rest_us = link.back_off.next_us();
            link.phase = LinkPhase::Resting(now.0 + rest_us);
        }
    }

    /// An attempt failed before there was a connection.
    fn link_failed(&mut self, key: Key, now: Time, reason: &str) {
        let link = self.links.get_mut(key).expect("the caller found it");
        let rest_us = link.back_off.next_us();
        link.phase = LinkPhase::Resting(now.0 + rest_us);
        if !link.failure_logged {
            link.failure_logged = true;
            let address = &self.peers[link.peer].address;
            log_line::warn(
                "cannot dial a peer; trying again",
                &[("node", &address.node_id), ("host", &address.host), ("reason", &reason)],
            );
        }
    }

    // ---- connections from peers

    /// A peer's connection was accepted, or accepting ended.
    pub fn handle_accept(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
        if !completion.more {
            self.accepting = None;
            self.accept_retry_us = now.0;
        }
        match completion.accepted() {
            Ok(descriptor) => self.admit(descriptor, now, ring),
            Err(_) if completion.was_cancelled() => {}
            Err(error) => {
                log_line::warn(
                    "cannot accept peer connections; trying again",
                    &[("error", &error)],
                );
                self.accept_retry_us = now.0 + ACCEPT_REST_US;
            }
        }
    }

    fn admit(&mut self, descriptor: OwnedFd, now: Time, ring: &mut Ring) {
        let socket = TcpStream::from(descriptor);
        if self.stopping || self.inbound.len() >= INBOUND_MAX || socket.set_nodelay(true).is_err() {
            return;
        }
        let key = self.inbound.insert(Inbound {
            socket,
            phase: InboundPhase::Greeting(HandshakeAcceptor::new(self.local)),
            decoder: FrameDecoder::new(self.limits.frame_size_max, self.local.replicas),
            in_kernel: 1,
            heard_us: now.0,
        });
        let inbound = self.inbound.get(key).expect("just inserted");
        // A stranger gets a small buffer; an established peer a large one.
        ring.receive(Kind::InboundReceive, key, inbound.socket.as_fd(), vec![0; 512]);
    }

    /// A peer spoke, or its connection ended.
    pub fn handle_inbound_received(
        &mut self,
        now: Time,
        completion: Completion,
        ring: &mut Ring,
        shard: &mut StringShard,
        counters: &mut Counters,
    ) {
        let key = completion.owner;
        let outcome = completion.outcome();
        let Payload::Bytes(mut buffer) = completion.payload else {
            unreachable!("a receive carries bytes")
        };
        let inbound = self.inbound.get_mut(key).expect("kept until the kernel is done with it");
        inbound.in_kernel -= 1;
        let count = match outcome {
            Ok(0) => return self.end_inbound(key, now, shard, "closed by the peer"),
            Ok(count) => count,
            Err(error) => return self.end_inbound(key, now, shard, &error.to_string()),
        };
        inbound.heard_us = now.0;
        counters.peer_bytes_in += u64::try_from(count).expect("a length fits 64 bits");
        let bytes = &buffer[..count];
        let result = match &inbound.phase {
            InboundPhase::Greeting(_) => self.greet(key, now, bytes, ring, shard, counters),
            InboundPhase::Up(_) => {
                inbound.decoder.push(bytes);
                self.take_frames(key, now, shard, counters)
            }
            InboundPhase::Asking => Err("it spoke though it only asked for the cores".to_owned()),
            InboundPhase::Refused => Ok(()),
            InboundPhase::Closing => return self.end_inbound(key, now, shard, "closed"),
        };
        if let Err(reason) = result {
            return self.end_inbound(key, now, shard, &reason);
        }
        let inbound = self.inbound.get_mut(key).expect("not ended");
        if matches!(inbound.phase, InboundPhase::Up(_)) && buffer.len() < RECEIVE_SIZE {
            buffer = vec![0; RECEIVE_SIZE];
        }
        inbound.in_kernel += 1;
        ring.receive(Kind::InboundReceive, key, inbound.socket.as_fd(), buffer);
    }

    fn greet(
        &mut self,
        key: Key,
        now: Time,
        bytes: &[u8],
        ring: &mut Ring,
        shard: &mut StringShard,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        let InboundPhase::Greeting(acceptor) = &mut inbound.phase else {
            unreachable!("the caller looked")
        };
        let (known, shared) = (&self.known_incarnations, &self.shared);
        let step = acceptor.handle_bytes(bytes, |node_id| remembered(known, shared, node_id));
        let (identity, answer, consumed) = match step {
            Ok(AcceptorStep::Incomplete) => return Ok(()),
            Ok(AcceptorStep::Accepted { identity, answer, consumed }) => {
                (identity, answer, consumed)
            }
            Err(failure) => {
                log_line::warn("refused a peer connection", &[("reason", &failure)]);
                let Some(answer) = failure.answer() else { return Err(failure.to_string()) };
                inbound.phase = InboundPhase::Refused;
                self.answer_inbound(key, answer.to_vec(), ring);
                return Ok(());
            }
        };
        if identity.local_core != self.local.core {
            return Err(format!(
                "it wants core {}, but this port is core {}'s; check the peer's address list",
                identity.local_core, self.local.core
            ));
        }
        // Durable before the answer leaves: what this node answered it must not forget.
        if let Err(reason) = self.remember(&identity) {
            let node_id = identity.node_id;
            log_line::warn("refused a peer connection", &[("node", &node_id), ("reason", &reason)]);
            let Some(remembered) = self.known_incarnations.lookup(node_id) else {
                return Err(reason);
            };
            let got = identity.incarnation;
            let refusal = Refusal::Incarnation { node_id, remembered, got };
            let inbound = self.inbound.get_mut(key).expect("the caller found it");
            inbound.phase = InboundPhase::Refused;
            self.answer_inbound(key, refusal.encode().to_vec(), ring);
            return Ok(());
        }
        self.answer_inbound(key, answer.to_vec(), ring);
        let (core, core_count) = (identity.core, identity.core_count);
        if !share_entities(self.local.core, self.local.core_count, core, core_count) {
            let inbound = self.inbound.get_mut(key).expect("the caller found it");
            inbound.phase = InboundPhase::Asking;
            return Ok(());
        }
        self.establish(key, now, identity, shard);
        let inbound = self.inbound.get_mut(key).expect("just established");
        inbound.decoder.push(&bytes[consumed..]);
        self.take_frames(key, now, shard, counters)
    }

    fn establish(&mut self, key: Key, now: Time, identity: PeerIdentity, shard: &mut StringShard) {
        let peer = PeerCore { acceptor: AcceptorId(identity.node_id), core: identity.core };
        let older = self.established.iter().find(|(known, _)| *known == peer).map(|(_, old)| *old);
        if let Some(older) = older {
            self.end_inbound(older, now, shard, "replaced by a newer connection");
        }
        self.established.push((peer, key));
        self.shared.peers[usize::from(identity.node_id)]
            .inbound_links
            .fetch_add(1, Ordering::Relaxed);
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        inbound.phase = InboundPhase::Up(identity);
        log_line::info(
            "a peer connected",
            &[("node", &identity.node_id), ("peer_core", &identity.core)],
        );
        shard.handle_peer_up(now, peer);
    }

    fn take_frames(
        &mut self,
        key: Key,
        now: Time,
        shard: &mut StringShard,
        counters: &mut Counters,
    ) -> Result<(), String> {
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        let InboundPhase::Up(identity) = inbound.phase else {
            unreachable!("frames are taken from established peers")
        };
        let from = PeerCore { acceptor: AcceptorId(identity.node_id), core: identity.core };
        loop {
            let messages = match inbound.decoder.next_frame() {
                Ok(None) => return Ok(()),
                Ok(Some(messages)) => messages,
                Err(error) => return Err(error.to_string()),
            };
            counters.peer_frames_in += 1;
            counters.peer_messages_in +=
                u64::try_from(messages.len()).expect("a count fits 64 bits");
            shard.expect(messages.iter().filter_map(PeerMessage::entity));
            for message in messages {
                if matches!(message, PeerMessage::Heartbeat) {
                    continue;
                }
                let owner = message
                    .entity()
                    .map_or(self.local.core, |entity| shard_of(entity, self.local.core_count));
                if owner == self.local.core {
                    shard.handle_message(now, from, message);
                } else {
                    counters.peer_misrouted += 1;
                }
            }
        }
    }

    fn answer_inbound(&mut self, key: Key, answer: Vec<u8>, ring: &mut Ring) {
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        inbound.in_kernel += 1;
        ring.send(Kind::InboundSend, key, inbound.socket.as_fd(), answer, 0);
    }

    /// The handshake's answer left.
    pub fn handle_inbound_sent(
        &mut self,
        now: Time,
        completion: &Completion,
        shard: &mut StringShard,
    ) {
        let key = completion.owner;
        let inbound = self.inbound.get_mut(key).expect("kept until the kernel is done with it");
        inbound.in_kernel -= 1;
        // So few bytes on a new connection always leave at once, or it is broken.
        let broken = completion.outcome().is_err();
        if broken || matches!(inbound.phase, InboundPhase::Refused | InboundPhase::Closing) {
            self.end_inbound(key, now, shard, "refused");
        }
    }

    fn end_inbound(&mut self, key: Key, now: Time, shard: &mut StringShard, reason: &str) {
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        if !matches!(inbound.phase, InboundPhase::Closing) {
            // Fails only when the peer has closed it already.
            inbound.socket.shutdown(std::net::Shutdown::Both).ok();
            let phase = std::mem::replace(&mut inbound.phase, InboundPhase::Closing);
            if let InboundPhase::Up(identity) = phase {
                self.established.retain(|(_, established)| *established != key);
                self.shared.peers[usize::from(identity.node_id)]
                    .inbound_links
                    .fetch_sub(1, Ordering::Relaxed);
                log_line::warn(
                    "a peer's connection ended",
                    &[
                        ("node", &identity.node_id),
                        ("peer_core", &identity.core),
                        ("reason", &reason),
                    ],
                );
                let acceptor = AcceptorId(identity.node_id);
                shard.handle_peer_down(now, PeerCore { acceptor, core: identity.core });
            } else {
                log_line::debug("a peer connection ended", &[("reason", &reason)]);
            }
        }
        let inbound = self.inbound.get(key).expect("the caller found it");
        if inbound.in_kernel == 0 {
            self.inbound.remove(key);
        }
    }

    // ---- both

    /// Timers: dialling, heartbeats, silence, handshakes that take too long.
    pub fn handle_tick(&mut self, now: Time, ring: &mut Ring, shard: &mut StringShard) {
        self.next_tick_us = now.0 + TICK_US;
        if self.stopping {
            return;
        }
        if self.accepting.is_none() && self.accept_retry_us <= now.0 {
            self.accepting = Some(ring.accept(Kind::PeerAccept, NOBODY, self.listener.as_fd()));
        }
        let patience_us = self.limits.handshake_timeout_ms.saturating_mul(1000);
        let keys: Vec<Key> = self.links.keys().collect();
        for key in keys {
            self.tend_link(key, now, ring, patience_us);
        }
        let keys: Vec<Key> = self.inbound.keys().collect();
        for key in keys {
            let inbound = self.inbound.get(key).expect("just listed");
            let silent_us = now.since_us(Time(inbound.heard_us));
            match inbound.phase {
                InboundPhase::Up(_) if silent_us > SILENCE_US => {
                    self.end_inbound(key, now, shard, "silent for 2 s");
                }
                InboundPhase::Greeting(_) | InboundPhase::Asking | InboundPhase::Refused
                    if silent_us > patience_us =>
                {
                    self.end_inbound(key, now, shard, "no handshake in time");
                }
                InboundPhase::Up(_)
                | InboundPhase::Greeting(_)
                | InboundPhase::Asking
                | InboundPhase::Refused
                | InboundPhase::Closing => {}
            }
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

    /// Closes everything.
    pub fn stop(&mut self, now: Time, ring: &mut Ring, shard: &mut StringShard) {
        self.stopping = true;
        if let Some(operation) = self.accepting.take() {
            ring.cancel(operation);
        }
        let links: Vec<Key> = self.links.keys().collect();
        for key in links {
            self.retire(key, now, ring);
        }
        let inbound: Vec<Key> = self.inbound.keys().collect();
        for key in inbound {
            self.end_inbound(key, now, shard, "stopping");
        }
    }

    /// Remembers a peer's incarnation for ever, and its boot epoch while this node runs.
    fn remember(&self, identity: &PeerIdentity) -> Result<(), String> {
        let PeerIdentity { node_id, incarnation, boot_epoch, .. } = *identity;
        let known = self
            .known_incarnations
            .remember(node_id, incarnation)
            .map_err(|error| error.to_string())?;
        if known != incarnation {
            let refusal = Refusal::Incarnation { node_id, remembered: known, got: incarnation };
            return Err(refusal.to_string());
        }
        self.shared.peers[usize::from(node_id)].boot_epoch.fetch_max(boot_epoch, Ordering::Relaxed);
        Ok(())
    }
}

/// What this node knows of a peer that says who it is.
fn remembered(known: &KnownIncarnations, shared: &NodeShared, node_id: u8) -> Remembered {
    let Some(peer) = shared.peers.get(usize::from(node_id)) else { return Remembered::Unknown };
    known.lookup(node_id).map_or(Remembered::NeverMet, |incarnation| Remembered::Met {
        incarnation,
        boot_epoch: peer.boot_epoch.load(Ordering::Relaxed),
    })
}

fn open_socket(address: SocketAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Puts the messages of the turn into frames. One that no frame can hold is dropped.
fn encode_messages(link: &mut Outbound, counters: &mut Counters) {
    let mut messages = std::mem::take(&mut link.messages);
    while !messages.is_empty() {
        match link.encoder.encode(&messages, &mut link.output) {
            Ok(frames) => {
                counters.peer_frames_out += frames;
                counters.peer_messages_out +=
                    u64::try_from(messages.len()).expect("a count fits 64 bits");
                messages.clear();
            }
            Err(error) => {
                counters.peer_dropped += 1;
                log_line::error("a message to a peer was dropped", &[("error", &error)]);
                let net::peer::frame::FrameEncodeError::MessageTooLarge { index, .. } = error;
                messages.remove(index);
            }
        }
    }
    link.messages = messages;
}
