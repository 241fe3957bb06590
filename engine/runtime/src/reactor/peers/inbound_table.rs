//! All connections that peers opened to one core: on these the peers speak and this node listens.
//!
//! A connection begins with a handshake. Who was met in another life is refused; a core that shares
//! no entities with this one is told the number of cores; from everybody else frames are taken, and
//! their messages handed to the shard. Of two connections from one peer core the newer counts.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::shard::{PeerCore, PeerLife, StringShard};
use engine::time::Time;
use net::peer::frame::FrameDecoder;
use net::peer::handshake::{AcceptorStep, HandshakeAcceptor, LocalNode, PeerIdentity, Role};
use net::peer::message::PeerMessage;
use net::peer::refusal::Refusal;
use net::resp::slot::shard_of;
use plog::vocabulary::{AcceptorId, BootEpoch, Generation};

use crate::core_setup::{Limits, PeerAddress};
use crate::node::log_line;
use crate::reactor::metrics::Counters;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::acquaintances::{Acquaintances, NotLetIn};
use crate::reactor::peers::inbound::{Inbound, InboundPhase, RECEIVE_SIZE};
use crate::reactor::peers::pairing::share_entities;
use crate::reactor::ring::{Completion, OperationKey, Payload, Ring};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::Kind;

/// How long accepting rests after it failed, in microseconds.
const ACCEPT_REST_US: u64 = 100_000;

/// Inbound connections beyond four for each core of each peer are closed: each peer core needs one.
const INBOUND_MAX: usize = 4096;

/// The owner of the accept.
const NOBODY: Key = Key { index: 0, generation: 0 };

/// Nodes that may follow a core.
const FOLLOWER_NODES_MAX: u8 = 16;

/// A follower comes or goes; it is spoken to as long as it is heard. A member comes, perhaps from
/// another place than before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PeerChange {
    /// It connected, and listens there.
    Came(PeerAddress),
    /// Its last connection ended.
    Went(u8),
}

/// All connections of one core that peers opened.
#[derive(Debug)]
pub(super) struct InboundTable {
    local: LocalNode,
    listener: TcpListener,
    accepting: Option<OperationKey>,
    accept_retry_us: u64,
    limits: Limits,
    acquaintances: Acquaintances,
    shared: Arc<NodeShared>,
    inbound: Slab<Inbound>,
    /// Established inbound connections.
    established: Vec<(PeerCore, Key)>,
    peer_changes: Vec<PeerChange>,
    stopping: bool,
}

impl InboundTable {
    /// No connections yet; call [`InboundTable::start`] next.
    pub(super) fn new(
        local: LocalNode,
        listener: TcpListener,
        limits: Limits,
        acquaintances: Acquaintances,
        shared: Arc<NodeShared>,
    ) -> Self {
        Self {
            local,
            listener,
            accepting: None,
            accept_retry_us: 0,
            limits,
            acquaintances,
            shared,
            inbound: Slab::new(),
            established: Vec::new(),
            peer_changes: Vec::new(),
            stopping: false,
        }
    }

    /// Begins to accept.
    pub(super) fn start(&mut self, ring: &mut Ring) {
        self.accepting = Some(ring.accept(Kind::PeerAccept, NOBODY, self.listener.as_fd()));
    }

    /// Accepts again when accepting ended and has rested.
    pub(super) fn resume_accepting(&mut self, now: Time, ring: &mut Ring) {
        if self.accepting.is_none() && self.accept_retry_us <= now.0 {
            self.accepting = Some(ring.accept(Kind::PeerAccept, NOBODY, self.listener.as_fd()));
        }
    }

    /// Accepts nobody from now on.
    pub(super) fn stop_accepting(&mut self, ring: &mut Ring) {
        self.stopping = true;
        if let Some(operation) = self.accepting.take() {
            ring.cancel(operation);
        }
    }

    /// Whether nobody is accepted any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Who is heard, as JSON.
    pub(super) fn json(&self) -> Vec<serde_json::Value> {
        self.established
            .iter()
            .map(|(peer, _)| serde_json::json!({ "node": peer.acceptor.0, "core": peer.core }))
            .collect()
    }

    /// A peer's connection was accepted, or accepting ended.
    pub(super) fn handle_accept(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
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
            accepted_us: now.0,
            heard_us: now.0,
        });
        let inbound = self.inbound.get(key).expect("just inserted");
        // A stranger gets a small buffer; an established peer a large one.
        ring.receive(Kind::InboundReceive, key, inbound.socket.as_fd(), vec![0; 512]);
    }

    /// A peer spoke, or its connection ended.
    pub(super) fn handle_received(
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
        let acquaintances = &self.acquaintances;
        let step = acceptor.handle_bytes(bytes, |node_id| acquaintances.remembered(node_id));
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
        if let Role::Follower { .. } = identity.role
            && self.is_full_for(identity.node_id)
        {
            let (node_id, max) = (identity.node_id, FOLLOWER_NODES_MAX);
            let refusal = Refusal::TooManyFollowers { node_id, max };
            log_line::warn("refused a follower", &[("node", &node_id), ("reason", &refusal)]);
            let inbound = self.inbound.get_mut(key).expect("the caller found it");
            inbound.phase = InboundPhase::Refused;
            self.answer_inbound(key, refusal.encode().to_vec(), ring);
            return Ok(());
        }
        // Durable before the answer leaves: what this node answered it must not forget.
        if let Err(reason) = self.acquaintances.remember(&identity) {
            let node_id = identity.node_id;
            log_line::warn("refused a peer connection", &[("node", &node_id), ("reason", &reason)]);
            let NotLetIn::Refused(refusal) = reason else { return Err(reason.to_string()) };
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
        if let Some(flags) = self.shared.peer(identity.node_id) {
            flags.inbound_links.fetch_add(1, Ordering::Relaxed);
        }
        match identity.role {
            Role::Replica => {}
            Role::Member { peer_port } | Role::Follower { peer_port } => {
                self.peer_came(key, &identity, peer_port);
            }
        }
        let inbound = self.inbound.get_mut(key).expect("the caller found it");
        inbound.phase = InboundPhase::Up(identity);
        log_line::info(
            "a peer connected",
            &[("node", &identity.node_id), ("peer_core", &identity.core)],
        );
        let generation = BootEpoch(identity.boot_epoch).generation();
        shard.handle_peer_up(now, peer, PeerLife { generation, core_count: identity.core_count });
    }

    /// The nodes that follow this core, each as often as it has connections.
    fn follower_nodes(&self) -> impl Iterator<Item = u8> {
        let is_follower = |peer: &PeerCore| self.shared.peer(peer.acceptor.0).is_none();
        let peers = self.established.iter().map(|(peer, _)| *peer);
        peers.filter(move |peer| is_follower(peer)).map(|peer| peer.acceptor.0)
    }

    /// Whether a follower cannot be taken beside those that are there.
    fn is_full_for(&self, node_id: u8) -> bool {
        let nodes: BTreeSet<u8> = self.follower_nodes().collect();
        !nodes.contains(&node_id) && nodes.len() >= usize::from(FOLLOWER_NODES_MAX)
    }

    /// A follower or member hears on connections that this node opens: where it dialled from.
    fn peer_came(&mut self, key: Key, identity: &PeerIdentity, port: u16) {
        let inbound = self.inbound.get(key).expect("the caller found it");
        // Without an address it is gone already.
        let Ok(from) = inbound.socket.peer_addr() else { return };
        let host = from.ip().to_canonical().to_string();
        let node_id = identity.node_id;
        self.peer_changes.push(PeerChange::Came(PeerAddress { node_id, host, port }));
    }

    fn follower_went(&mut self, node_id: u8) {
        if !self.follower_nodes().any(|other| other == node_id) {
            self.peer_changes.push(PeerChange::Went(node_id));
        }
    }

    /// Who came and went since this was last asked.
    pub(super) fn take_peer_changes(&mut self) -> Vec<PeerChange> {
        std::mem::take(&mut self.peer_changes)
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
        let generation = BootEpoch(identity.boot_epoch).generation();
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
                if message == PeerMessage::Heartbeat {
                    continue;
                }
                let owner = message
                    .entity()
                    .map_or(self.local.core, |entity| shard_of(entity, self.local.core_count));
                if owner == self.local.core {
                    shard.handle_message(now, from, generation, message);
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
    pub(super) fn handle_sent(
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
                match self.shared.peer(identity.node_id) {
                    Some(flags) => drop(flags.inbound_links.fetch_sub(1, Ordering::Relaxed)),
                    None => self.follower_went(identity.node_id),
                }
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

    /// Ends what earlier generations than these say.
    pub(super) fn end_older(
        &mut self,
        now: Time,
        shard: &mut StringShard,
        known: &[Generation; 5],
    ) {
        let is_older = |inbound: &Inbound| match inbound.phase {
            InboundPhase::Up(PeerIdentity { node_id, boot_epoch, .. }) => {
                let known = known.get(usize::from(node_id));
                known.is_some_and(|known| BootEpoch(boot_epoch).generation() < *known)
            }
            _ => false,
        };
        let all: Vec<Key> = self.inbound.keys().collect();
        for key in all {
            if is_older(self.inbound.get(key).expect("just listed")) {
                self.end_inbound(key, now, shard, "a later generation of that node is about");
            }
        }
    }

    /// Timers: silence, and handshakes that take longer than `patience_us` from the accept on.
    pub(super) fn handle_tick(&mut self, now: Time, shard: &mut StringShard, patience_us: u64) {
        let keys: Vec<Key> = self.inbound.keys().collect();
        for key in keys {
            let inbound = self.inbound.get(key).expect("just listed");
            if let Some(reason) = inbound.overdue(now, patience_us) {
                self.end_inbound(key, now, shard, reason);
            }
        }
    }

    /// Closes all connections.
    pub(super) fn stop(&mut self, now: Time, shard: &mut StringShard) {
        let inbound: Vec<Key> = self.inbound.keys().collect();
        for key in inbound {
            self.end_inbound(key, now, shard, "stopping");
        }
    }
}
