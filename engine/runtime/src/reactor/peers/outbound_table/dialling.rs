//! How a link comes up, and what becomes of it when its connection breaks.
//!
//! ```text
//!           tick            found          connected         welcome
//!  Resting ──────▶ LookingUp ────▶ Connecting ───────▶ Greeting ──────▶ Up
//!     ▲                                │                  │             │
//!     └────────── Closing ◀────────────┴──────────────────┴─────────────┘
//!       the kernel is done               broken, late, or no longer needed
//! ```
//!
//! An address needs no look-up, and an attempt that fails before there is a connection goes back to
//! its rest at once. Rests grow until there is a welcome. A link that is no longer needed goes when
//! the kernel is done with it.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use engine::time::Time;
use net::peer::frame::FrameEncoder;
use net::peer::handshake::{
    ANY_CORE, DiallerStep, HandshakeDialler, PeerIdentity, Remembered, Target,
};
use plog::vocabulary::BootEpoch;

use crate::node::log_line;
use crate::reactor::peers::address_lookup::{Address, address_of};
use crate::reactor::peers::outbound::LinkPhase;
use crate::reactor::peers::outbound_table::OutboundTable;
use crate::reactor::peers::pairing::share_entities;
use crate::reactor::ring::{Completion, Payload, Ring};
use crate::reactor::slab::Key;
use crate::reactor::user_data::Kind;

impl OutboundTable {
    /// Begins an attempt: looks the peer up, or connects at once.
    pub(super) fn dial(&mut self, key: Key, now: Time, ring: &mut Ring) {
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

    /// Connects to the address that was found.
    pub(super) fn connect(&mut self, key: Key, address: SocketAddr, now: Time, ring: &mut Ring) {
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
    pub(crate) fn handle_connected(&mut self, now: Time, completion: &Completion, ring: &mut Ring) {
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
    pub(crate) fn handle_received(&mut self, now: Time, completion: Completion, ring: &mut Ring) {
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
        let acquaintances = &self.acquaintances;
        let is_follower = self.shared.peer(self.peers[link.peer].address.node_id).is_none();
        let step = dialler.handle_bytes(&buffer[..count], |node_id| {
            if is_follower { Remembered::NeverMet } else { acquaintances.remembered(node_id) }
        });
        match step {
            Ok(DiallerStep::Incomplete) => {}
            Ok(DiallerStep::Accepted { identity, .. }) => {
                if let Err(reason) = self.acquaintances.remember(&identity) {
                    return self.end_connection(key, now, ring, &reason.to_string());
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
        let PeerIdentity { core_count, core, node_id, boot_epoch, .. } = *identity;
        link.generation = BootEpoch(boot_epoch).generation();
        let shared = share_entities(self.local.core, self.local.core_count, core, core_count);
        if shared {
            link.phase = LinkPhase::Up;
            // A link that only asked becomes the link to the core it reached.
            link.peer_core = Some(core);
            self.listed.push(key);
            if let Some(flags) = self.shared.peer(node_id) {
                flags.outbound_links.fetch_add(1, Ordering::Relaxed);
            }
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

    /// Ends a link for good.
    pub(super) fn retire(&mut self, key: Key, now: Time, ring: &mut Ring) {
        if let Some(link) = self.links.get_mut(key) {
            link.retired = true;
            link.failure_logged = true;
            self.end_connection(key, now, ring, "no longer needed");
        }
    }

    /// Shuts the connection at hand down, if there is one; when the kernel is done with it, the
    /// link rests, or goes if it is retired.
    pub(super) fn end_connection(&mut self, key: Key, now: Time, ring: &mut Ring, reason: &str) {
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
                if let Some(flags) = self.shared.peer(node_id) {
                    flags.outbound_links.fetch_sub(1, Ordering::Relaxed);
                }
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
    pub(super) fn link_failed(&mut self, key: Key, now: Time, reason: &str) {
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
}

fn open_socket(address: SocketAddr) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
