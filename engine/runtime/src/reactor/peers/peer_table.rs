//! All connections of one core with the cores of its peers.
//!
//! Connections speak in one direction: this node speaks on those it opened, and listens on those
//! that were opened to it. So each side re-dials what it needs by itself, and two nodes that dial
//! each other at once never have to agree which connection counts.
//!
//! The two halves are `OutboundTable` and `InboundTable`; they share nothing but what is known
//! of the peers.

use std::net::TcpListener;
use std::sync::Arc;

use engine::context::Outgoing;
use engine::shard::StringShard;
use engine::time::Time;
use net::peer::handshake::LocalNode;
use plog::vocabulary::AcceptorId;

use crate::core_setup::{Limits, NodeIdentity, PeerAddress};
use crate::node::known_incarnations::KnownIncarnations;
use crate::reactor::metrics::Counters;
use crate::reactor::node_shared::NodeShared;
use crate::reactor::peers::acquaintances::Acquaintances;
use crate::reactor::peers::inbound_table::{InboundTable, PeerChange};
use crate::reactor::peers::outbound_table::OutboundTable;
use crate::reactor::ring::{Completion, Ring};

/// How often timers of connections are looked at, in microseconds.
const TICK_US: u64 = 50_000;

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
    acquaintances: Acquaintances,
    outbound: OutboundTable,
    inbound: InboundTable,
    shared: Arc<NodeShared>,
    limits: Limits,
    next_tick_us: u64,
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
            role: identity.role,
        };
        let acquaintances = Acquaintances::new(setup.known_incarnations, Arc::clone(&setup.shared));
        Self {
            outbound: OutboundTable::new(
                local,
                setup.peers,
                setup.limits,
                acquaintances.clone(),
                Arc::clone(&setup.shared),
            ),
            inbound: InboundTable::new(
                local,
                setup.listener,
                setup.limits,
                acquaintances.clone(),
                Arc::clone(&setup.shared),
            ),
            shared: setup.shared,
            acquaintances,
            limits: setup.limits,
            next_tick_us: 0,
        }
    }

    /// Begins to accept and to dial.
    pub fn start(&mut self, ring: &mut Ring) {
        self.inbound.start(ring);
        self.outbound.start();
    }

    /// A later generation of some peer is known: tells the shard, and ends connections with earlier
    /// ones.
    pub fn learn_generations(&mut self, now: Time, ring: &mut Ring, shard: &mut StringShard) {
        let known = self.acquaintances.generations();
        for (member, generation) in (0..).map(AcceptorId).zip(known) {
            shard.handle_generation(now, member, generation);
        }
        self.inbound.end_older(now, shard, &known);
        self.outbound.end_older(now, ring, &known);
    }

    /// Where members change: speaks to them, and to who is heard. Of a node that knows no members
    /// all that the configuration lists may know some.
    fn speak_to_members(&mut self, now: Time, ring: &mut Ring, shard: &StringShard) {
        let Some(present) = shard.configuration_notice() else { return };
        let knows_none = present.voters.count() == 0;
        let members = present.members();
        let shared = Arc::clone(&self.shared);
        let wanted =
            |node: u8| knows_none || members.contains(AcceptorId(node)) || shared.is_live(node);
        if !knows_none {
            self.outbound.warn_of_unknown(members);
        }
        self.outbound.speak_to(wanted, now, ring);
    }

    /// When [`PeerTable::handle_tick`] is due.
    #[must_use]
    pub fn next_tick(&self) -> Time {
        Time(self.next_tick_us)
    }

    /// Established links, as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let (links, heard) = (self.outbound.json(), self.inbound.json());
        serde_json::json!({ "links": links, "heard": heard })
    }

    /// Takes a message of the shard. It leaves with the turn, or is dropped.
    pub fn send(&mut self, outgoing: Outgoing, counters: &mut Counters) {
        self.outbound.send(outgoing, counters);
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
        self.outbound.finish_turn(now, ring, shard, counters)
    }

    /// A connection to a peer was made, or not.
    pub fn handle_connected(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
        self.outbound.handle_connected(now, completion, ring);
    }

    /// The peer answered the handshake, or closed the connection.
    pub fn handle_link_received(&mut self, now: Time, completion: Completion, ring: &mut Ring) {
        self.outbound.handle_received(now, completion, ring);
    }

    /// Part of a send left, or all of it, or the connection broke.
    pub fn handle_link_sent(
        &mut self,
        now: Time,
        completion: Completion,
        ring: &mut Ring,
        counters: &mut Counters,
    ) {
        self.outbound.handle_sent(now, completion, ring, counters);
    }

    /// A peer's connection was accepted, or accepting ended.
    pub fn handle_accept(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
        self.inbound.handle_accept(now, completion, ring);
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
        self.inbound.handle_received(now, completion, ring, shard, counters);
        self.answer_peers(now, ring);
    }

    /// Opens connections to those that came, and ends those to followers that went.
    fn answer_peers(&mut self, now: Time, ring: &mut Ring) {
        for change in self.inbound.take_peer_changes() {
            match change {
                PeerChange::Came(address) => self.outbound.add_peer(address, now, ring),
                PeerChange::Went(node_id) => self.outbound.remove_follower(node_id, now, ring),
            }
        }
    }

    /// The handshake's answer left.
    pub fn handle_inbound_sent(
        &mut self,
        now: Time,
        completion: &Completion,
        shard: &mut StringShard,
    ) {
        self.inbound.handle_sent(now, completion, shard);
    }

    /// Timers: dialling, heartbeats, silence, handshakes that take too long.
    pub fn handle_tick(&mut self, now: Time, ring: &mut Ring, shard: &mut StringShard) {
        self.next_tick_us = now.0 + TICK_US;
        if self.inbound.is_stopping() {
            return;
        }
        self.inbound.resume_accepting(now, ring);
        self.speak_to_members(now, ring, shard);
        let patience_us = self.limits.handshake_timeout_ms.saturating_mul(1000);
        self.outbound.handle_tick(now, ring, patience_us);
        self.inbound.handle_tick(now, shard, patience_us);
        self.answer_peers(now, ring);
    }

    /// Closes everything.
    pub fn stop(&mut self, now: Time, ring: &mut Ring, shard: &mut StringShard) {
        self.inbound.stop_accepting(ring);
        self.outbound.stop(now, ring);
        self.inbound.stop(now, shard);
    }
}
