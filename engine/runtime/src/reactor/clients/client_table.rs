//! All clients of one core.
//!
//! Per connection: a receive that stays armed, one send in flight, and at the end of each turn one
//! send of all replies that became ready in it. A client that asks more than it may have in flight,
//! or whose request finds its shard or the way there full, is left unread until there is room:
//! nothing is dropped, and nobody waits for it.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use engine::request::{EntityRequest, Ticket};
use engine::session::{Action, NodeInfo, NodeQuery, Session};
use engine::time::Time;
use net::resp::arguments::Arguments;
use net::resp::request_parser::{self, Parsed, RequestParser};
use net::resp::value::{RespError, Value};
use socket2::SockRef;

use crate::core_setup::Limits;
use crate::node::log_line;
use crate::reactor::clients::connection::{Connection, Phase, Receiving};
use crate::reactor::clients::reply_queue::{Asked, Intent};
use crate::reactor::clients::ticket;
use crate::reactor::metrics::{Counters, record};
use crate::reactor::ring::{Completion, OperationKey, Payload, Ring};
use crate::reactor::router::Router;
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::Kind;

/// How long accepting rests after it failed, in microseconds: out of descriptors, most likely.
const ACCEPT_REST_US: u64 = 100_000;

/// How long a client that was told all may go on sending, in microseconds.
const LINGER_US: u64 = 1_000_000;

/// How often idle connections are looked for, in microseconds.
const IDLE_SWEEP_US: u64 = 1_000_000;

/// Unconsumed input is moved to the front of its buffer when at least this much stands before it.
const COMPACT_FROM: usize = 64 << 10;

/// What a client asks of the node rather than of an entity; answered by the core.
#[derive(Debug)]
pub struct AskedOfNode {
    /// Where the reply goes.
    pub ticket: Ticket,
    /// What is asked.
    pub query: NodeQuery,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    accepting: Option<OperationKey>,
    retry_at_us: u64,
}

/// The clients of one core.
#[derive(Debug)]
pub struct ClientTable {
    core: u16,
    limits: Limits,
    node_info: Rc<NodeInfo>,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    /// Numbers connections for `CLIENT ID`: unique in the node, the core in the low bits.
    accepted: u64,
    core_count: u16,
    /// Connections to be looked at when the turn ends.
    listed: Vec<Key>,
    /// Connections whose next request found no room, in the order in which they get some.
    stalled: VecDeque<Key>,
    /// Questions for the core.
    asked: Vec<AskedOfNode>,
    next_idle_sweep_us: u64,
    /// Connections that were told all and still send, with the time at which they are cut off.
    lingering: VecDeque<(u64, Key)>,
    stopping: bool,
}

impl ClientTable {
    /// No clients yet; call [`ClientTable::start`] next.
    #[must_use]
    pub fn new(
        core: u16,
        core_count: u16,
        limits: Limits,
        node_info: Rc<NodeInfo>,
        listeners: Vec<TcpListener>,
    ) -> Self {
        let listeners = listeners
            .into_iter()
            .map(|socket| Listener { socket, accepting: None, retry_at_us: 0 })
            .collect();
        Self {
            core,
            core_count,
            limits,
            node_info,
            listeners,
            connections: Slab::new(),
            accepted: 0,
            listed: Vec::new(),
            stalled: VecDeque::new(),
            asked: Vec::new(),
            next_idle_sweep_us: 0,
            lingering: VecDeque::new(),
            stopping: false,
        }
    }

    /// Begins to accept.
    pub fn start(&mut self, ring: &mut Ring) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            let owner = listener_key(index);
            listener.accepting =
                Some(ring.accept(Kind::ClientAccept, owner, listener.socket.as_fd()));
        }
    }

    /// Connections open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Questions that the core has to answer.
    pub fn take_asked(&mut self, out: &mut Vec<AskedOfNode>) {
        out.append(&mut self.asked);
    }

    /// A connection was accepted, or accepting ended.
    pub fn handle_accept(
        &mut self,
        completion: &Completion,
        now: Time,
        ring: &mut Ring,
        counters: &mut Counters,
    ) {
        let now_us = now.0;
        if !completion.more {
            let index = usize::try_from(completion.owner.index).expect("a u32 fits a position");
            let listener = &mut self.listeners[index];
            listener.accepting = None;
            listener.retry_at_us = now_us;
        }
        match completion.accepted() {
            Ok(descriptor) => {
                self.admit(TcpStream::from(descriptor), ring, now_us, counters);
            }
            Err(_) if completion.was_cancelled() => {}
            Err(error) => {
                log_line::warn(
                    "cannot accept client connections; trying again",
                    &[("error", &error)],
                );
                let rest = now_us + ACCEPT_REST_US;
                self.listeners.iter_mut().for_each(|listener| listener.retry_at_us = rest);
            }
        }
    }

    fn admit(
        &mut self,
        mut socket: TcpStream,
        ring: &mut Ring,
        now_us: u64,
        counters: &mut Counters,
    ) {
        if self.stopping {
            return;
        }
        if self.connections.len() >= self.limits.connections_max {
            counters.refused_connections += 1;
            log_line::warn(
                "client refused: too many connections",
                &[("limit", &self.limits.connections_max)],
            );
            // A new socket's send buffer is empty, so this short line never blocks. If the client
            // is gone already, there is nobody to tell.
            socket.write_all(b"-ERR max number of clients reached\r\n").ok();
            return;
        }
        let Ok(remote) = socket.peer_addr() else { return };
        if socket.set_nodelay(true).is_err() {
            return;
        }
        counters.accepted += 1;
        self.accepted += 1;
        let id = self.accepted * u64::from(self.core_count) + u64::from(self.core);
        let session = Session::new(id, remote.to_string(), Rc::clone(&self.node_info));
        let parser = RequestParser::new(request_parser::Limits {
            bulk_size_max: self.limits.bulk_size_max,
            arguments_max: self.limits.arguments_max,
            request_size_max: self.limits.request_size_max,
            ..request_parser::Limits::default()
        });
        let key = self.connections.insert(Connection::new(socket, session, parser, now_us));
        let connection = self.connections.get_mut(key).expect("just inserted");
        let operation = ring.receive_pooled(Kind::ClientReceive, key, connection.socket.as_fd());
        connection.receiving = Receiving::Yes(operation);
    }

    /// Data arrived, or receiving ended.
    pub fn handle_received(
        &mut self,
        mut completion: Completion,
        ring: &mut Ring,
        router: &mut Router<'_>,
    ) {
        let key = completion.owner;
        let connection =
            self.connections.get_mut(key).expect("kept until the kernel is done with it");
        if !completion.more {
            connection.receiving = Receiving::No;
        }
        let outcome = completion.outcome();
        if let Some(selected) = completion.selected.take() {
            let bytes = ring.received(&selected);
            router.metrics.counters.client_bytes_in +=
                u64::try_from(bytes.len()).expect("a length fits 64 bits");
            if connection.phase == Phase::Open && !bytes.is_empty() {
                connection.active_us = router.now.0;
                take_input(
                    key,
                    connection,
                    bytes,
                    router,
                    self.core,
                    &self.limits,
                    &mut self.asked,
                );
            }
            ring.give_back(selected);
        }
        match outcome {
            Ok(0) => connection.input_ended = true,
            Ok(_) => {}
            Err(_) if completion.was_cancelled() => {}
            Err(_) if completion.was_out_of_buffers() => {
                router.metrics.counters.out_of_buffers += 1;
            }
            Err(_) => {
                // Reset by the client, or gone: nobody is left to answer.
                self.close(key);
                self.list(key);
                return;
            }
        }
        self.list(key);
    }

    /// A send ended.
    pub fn handle_sent(
        &mut self,
        completion: Completion,
        ring: &mut Ring,
        counters: &mut Counters,
    ) {
        let key = completion.owner;
        let connection =
            self.connections.get_mut(key).expect("kept until the kernel is done with it");
        let outcome = completion.outcome();
        let Payload::Bytes(buffer) = completion.payload else {
            unreachable!("a send carries bytes")
        };
        match outcome {
            Ok(sent) if sent > 0 && connection.phase != Phase::Closing => {
                counters.client_bytes_out += u64::try_from(sent).expect("a length fits 64 bits");
                if sent < connection.sending {
                    connection.sending -= sent;
                    connection.sending_begin += sent;
                    let begin = connection.sending_begin;
                    ring.send(Kind::ClientSend, key, connection.socket.as_fd(), buffer, begin);
                    return;
                }
                connection.sending = 0;
                connection.keep(buffer);
            }
            _ => {
                connection.sending = 0;
                self.close(key);
            }
        }
        self.list(key);
    }

    /// A reply of this core's shard.
    pub fn handle_reply(
        &mut self,
        ticket: Ticket,
        value: &Value,
        now_us: u64,
        stages: &mut Stages<'_>,
    ) {
        let protocol = ticket::protocol(ticket);
        self.answer(ticket, now_us, stages, |out| value.encode(protocol, out));
    }

    /// A reply that another core has encoded.
    pub fn handle_encoded_reply(
        &mut self,
        ticket: Ticket,
        encoded: &[u8],
        now_us: u64,
        stages: &mut Stages<'_>,
    ) {
        self.answer(ticket, now_us, stages, |out| out.extend_from_slice(encoded));
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        now_us: u64,
        stages: &mut Stages<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let key = ticket::connection(ticket);
        // A client that left meanwhile gets no reply.
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase == Phase::Closing {
            return;
        }
        let sequence = ticket::sequence(ticket);
        if let Some(asked) = connection.replies.answer(sequence, &mut connection.output, write) {
            let took_us = now_us.saturating_sub(asked.at_us);
            match asked.intent {
                Intent::Read => record(stages.read_us, took_us),
                Intent::Write => record(stages.write_us, took_us),
            }
        }
        self.list(key);
    }

    /// Lets the connections that were waiting for room go on, first come first served.
    /// Whether one could.
    fn retry_stalled(&mut self, router: &mut Router<'_>) -> bool {
        let mut resumed = false;
        for _ in 0..self.stalled.len() {
            let Some(key) = self.stalled.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.queued_for_room = false;
            let Some(stalled) = connection.stalled.take() else { continue };
            match router.offer(stalled.ticket, stalled.entity, stalled.request) {
                Ok(()) => {
                    resumed = true;
                    self.list(key);
                }
                Err(again) => {
                    connection.stalled = Some(again);
                    connection.queued_for_room = true;
                    self.stalled.push_back(key);
                }
            }
        }
        resumed
    }

    /// Ends the turn: goes on with input that waited, sends what is ready, closes what is done.
    /// Whether requests were taken, which the shard has not been asked about yet.
    pub fn finish_turn(&mut self, ring: &mut Ring, router: &mut Router<'_>) -> bool {
        let requests_before = router.metrics.counters.requests;
        let resumed = self.retry_stalled(router);
        let mut position = 0;
        // Answers given at once may list further connections.
        while position < self.listed.len() {
            let key = self.listed[position];
            position += 1;
            self.finish_one(key, ring, router);
        }
        self.listed.clear();
        resumed || router.metrics.counters.requests > requests_before
    }

    fn finish_one(&mut self, key: Key, ring: &mut Ring, router: &mut Router<'_>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.listed = false;
        if connection.phase == Phase::Open {
            if !connection.waiting_input().is_empty() && may_take_more(connection, &self.limits) {
                take_input(key, connection, &[], router, self.core, &self.limits, &mut self.asked);
            }
            if connection.stalled.is_some() && !connection.queued_for_room {
                connection.queued_for_room = true;
                self.stalled.push_back(key);
            }
            let was_paused = connection.paused;
            connection.paused = connection.stalled.is_some()
                || connection.replies.len() >= self.limits.pipeline_max
                || (was_paused && connection.replies.len() > self.limits.pipeline_max / 2);
            if connection.paused && !was_paused {
                router.metrics.counters.paused += 1;
            }
        }
        if connection.unread_bytes() > self.limits.output_buffer_max
            && connection.phase != Phase::Closing
        {
            router.metrics.counters.output_overflows += 1;
            log_line::warn(
                "client closed: it does not read its replies",
                &[
                    (
                        "client",
                        &connection
                            .socket
                            .peer_addr()
                            .map_or_else(|_| "unknown".to_owned(), |address| address.to_string()),
                    ),
                    ("unread_bytes", &connection.unread_bytes()),
                    ("limit", &self.limits.output_buffer_max),
                ],
            );
            self.close(key);
        }
        let connection = self.connections.get_mut(key).expect("closing does not remove");
        if connection.phase != Phase::Closing && connection.sending == 0 {
            if !connection.output.is_empty() {
                let buffer = connection.take_output();
                connection.sending = buffer.len();
                connection.sending_begin = 0;
                router.metrics.counters.client_sends += 1;
                ring.send(Kind::ClientSend, key, connection.socket.as_fd(), buffer, 0);
            } else if connection.is_flushed()
                && connection.stalled.is_none()
                && (connection.phase == Phase::Finishing
                    || (connection.input_ended && !connection.paused))
            {
                if connection.input_ended || self.stopping {
                    self.close(key);
                } else if !connection.lingers {
                    // It is still sending. Closed now, its last reply could be lost to a reset, or
                    // its sending block for a minute on a connection nobody reads.
                    connection.lingers = true;
                    connection.socket.shutdown(std::net::Shutdown::Write).ok();
                    self.lingering.push_back((router.now.0 + LINGER_US, key));
                }
            }
        }
        self.settle(key, ring);
    }

    /// Arms or ends receiving as the connection's state asks for, and removes one that is done.
    fn settle(&mut self, key: Key, ring: &mut Ring) {
        let connection = self.connections.get_mut(key).expect("the caller found it");
        if connection.phase == Phase::Closing {
            if !connection.is_in_kernel() {
                self.connections.remove(key);
            }
            return;
        }
        let wanted =
            connection.phase == Phase::Open && !connection.paused && !connection.input_ended;
        match connection.receiving {
            Receiving::No if wanted => {
                let operation =
                    ring.receive_pooled(Kind::ClientReceive, key, connection.socket.as_fd());
                connection.receiving = Receiving::Yes(operation);
            }
            Receiving::Yes(operation) if connection.paused => {
                ring.cancel(operation);
                connection.receiving = Receiving::Ending;
            }
            // A finishing connection goes on receiving, to throw away what comes: an end of the
            // connection with data unread would take the last replies with it.
            Receiving::No | Receiving::Yes(_) | Receiving::Ending => {}
        }
    }

    /// Timers: accepting after a rest, and idle connections.
    pub fn handle_tick(&mut self, now_us: u64, ring: &mut Ring, counters: &mut Counters) {
        if !self.stopping {
            for (index, listener) in self.listeners.iter_mut().enumerate() {
                if listener.accepting.is_none() && listener.retry_at_us <= now_us {
                    let owner = listener_key(index);
                    listener.accepting =
                        Some(ring.accept(Kind::ClientAccept, owner, listener.socket.as_fd()));
                }
            }
        }
        while self.lingering.front().is_some_and(|(until, _)| *until <= now_us) {
            let Some((_, key)) = self.lingering.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            // A reset, so that whoever is still sending learns of it.
            SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO)).ok();
            self.close(key);
            self.list(key);
        }
        let timeout_us = self.limits.idle_timeout_ms.saturating_mul(1000);
        if timeout_us == 0 || now_us < self.next_idle_sweep_us {
            return;
        }
        self.next_idle_sweep_us = now_us + IDLE_SWEEP_US;
        let idle: Vec<Key> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection.phase == Phase::Open
                    && connection.replies.is_empty()
                    && now_us.saturating_sub(connection.active_us) > timeout_us
            })
            .map(|(key, _)| key)
            .collect();
        for key in idle {
            counters.idle_closed += 1;
            self.close(key);
            self.list(key);
        }
    }

    /// No more connections and no more requests: what was asked is answered, then each closes.
    pub fn stop(&mut self, ring: &mut Ring) {
        self.stopping = true;
        for listener in &mut self.listeners {
            if let Some(operation) = listener.accepting.take() {
                ring.cancel(operation);
            }
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let connection = self.connections.get_mut(key).expect("just listed");
            if connection.phase == Phase::Open {
                connection.phase = Phase::Finishing;
                // Never offered, so nothing happened: its client sees the connection close.
                connection.stalled = None;
            }
            self.list(key);
        }
    }

    /// Closes what is left, answered or not.
    pub fn close_all(&mut self) {
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            self.close(key);
            self.list(key);
        }
    }

    /// Shuts the connection down; it is removed once the kernel is done with its buffers.
    fn close(&mut self, key: Key) {
        let connection = self.connections.get_mut(key).expect("the caller found it");
        if connection.phase != Phase::Closing {
            connection.phase = Phase::Closing;
            connection.stalled = None;
            // Fails only when the client has closed it already.
            connection.socket.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    fn list(&mut self, key: Key) {
        let connection = self.connections.get_mut(key).expect("the caller found it");
        if !connection.listed {
            connection.listed = true;
            self.listed.push(key);
        }
    }
}

/// Where reply times are recorded.
#[derive(Debug)]
pub struct Stages<'a> {
    /// For requests that may write.
    pub write_us: &'a mut hdrhistogram::Histogram<u64>,
    /// For reads.
    pub read_us: &'a mut hdrhistogram::Histogram<u64>,
}

fn listener_key(index: usize) -> Key {
    Key { index: u32::try_from(index).expect("a core has two listeners"), generation: 0 }
}

fn may_take_more(connection: &Connection, limits: &Limits) -> bool {
    connection.phase == Phase::Open
        && connection.stalled.is_none()
        && connection.replies.len() < limits.pipeline_max
}

/// Parses what is there and hands on each request, until the input ends or there is no room.
fn take_input(
    key: Key,
    connection: &mut Connection,
    bytes: &[u8],
    router: &mut Router<'_>,
    core: u16,
    limits: &Limits,
    asked: &mut Vec<AskedOfNode>,
) {
    if connection.waiting_input().is_empty() {
        // The usual case: requests are parsed where the kernel put them.
        connection.input.clear();
        connection.input_begin = 0;
        let consumed = take_requests(key, connection, bytes, router, core, limits, asked);
        connection.input.extend_from_slice(&bytes[consumed..]);
        return;
    }
    connection.input.extend_from_slice(bytes);
    let input = std::mem::take(&mut connection.input);
    let begin = connection.input_begin;
    let consumed = take_requests(key, connection, &input[begin..], router, core, limits, asked);
    connection.input = input;
    connection.input_begin = begin + consumed;
    if connection.input_begin == connection.input.len() {
        // A large request's buffer is not kept.
        if connection.input.capacity() > COMPACT_FROM {
            connection.input = Vec::new();
        }
        connection.input.clear();
        connection.input_begin = 0;
    } else if connection.input_begin >= COMPACT_FROM {
        connection.input.drain(..connection.input_begin);
        connection.input_begin = 0;
    }
}

/// Returns how many bytes of `input` were consumed.
fn take_requests(
    key: Key,
    connection: &mut Connection,
    input: &[u8],
    router: &mut Router<'_>,
    core: u16,
    limits: &Limits,
    asked: &mut Vec<AskedOfNode>,
) -> usize {
    let mut position = 0;
    while position < input.len() && may_take_more(connection, limits) {
        match connection.parser.next_request(&input[position..]) {
            Ok(Parsed::Incomplete) => break,
            Ok(Parsed::Empty { consumed }) => position += consumed,
            Ok(Parsed::Request { arguments, consumed }) => {
                position += consumed;
                router.metrics.counters.requests += 1;
                take_request(key, connection, arguments, router, core, asked);
            }
            Err(error) => {
                router.metrics.counters.protocol_errors += 1;
                let protocol = connection.session.protocol();
                let value = Value::Error(RespError::new(error.to_string()));
                connection
                    .replies
                    .push_ready(&mut connection.output, |out| value.encode(protocol, out));
                connection.phase = Phase::Finishing;
                return input.len();
            }
        }
    }
    if connection.phase == Phase::Open { position } else { input.len() }
}

fn take_request(
    key: Key,
    connection: &mut Connection,
    arguments: Arguments,
    router: &mut Router<'_>,
    core: u16,
    asked: &mut Vec<AskedOfNode>,
) {
    let action = connection.session.handle(arguments);
    let protocol = connection.session.protocol();
    match action {
        Action::Reply(value) => {
            connection
                .replies
                .push_ready(&mut connection.output, |out| value.encode(protocol, out));
        }
        Action::ReplyAndClose(value) => {
            connection
                .replies
                .push_ready(&mut connection.output, |out| value.encode(protocol, out));
            connection.phase = Phase::Finishing;
        }
        Action::Entity { entity, request } => {
            let intent = intent_of(&request);
            let ticket = ticket::make(core, key, connection.replies.next_sequence(), protocol);
            connection.replies.push_waiting(Asked { at_us: router.now.0, intent });
            if let Err(stalled) = router.offer(ticket, entity, request) {
                connection.stalled = Some(stalled);
            }
        }
        Action::Node(query) => {
            let ticket = ticket::make(core, key, connection.replies.next_sequence(), protocol);
            let intent = Intent::Read;
            connection.replies.push_waiting(Asked { at_us: router.now.0, intent });
            asked.push(AskedOfNode { ticket, query });
        }
    }
}

/// Whether a request only reads, by its name; for the statistics alone.
fn intent_of(request: &EntityRequest) -> Intent {
    const READS: [&[u8]; 5] = [b"GET", b"MGET", b"EXISTS", b"STRLEN", b"TYPE"];
    match request {
        EntityRequest::Inspect | EntityRequest::State { .. } | EntityRequest::Core(_) => {
            Intent::Read
        }
        EntityRequest::Command(command) => {
            let name = command.arguments.get(0).unwrap_or_default();
            let reads = READS.iter().any(|read| name.eq_ignore_ascii_case(read));
            if reads { Intent::Read } else { Intent::Write }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::request::{Command, EntityRequest, Freshness};
    use net::resp::arguments::Arguments;

    use super::{Intent, intent_of};

    #[test]
    fn reads_are_told_from_writes_by_name_in_any_case() {
        let intent = |words: &[&str]| {
            intent_of(&EntityRequest::Command(Command {
                arguments: Arguments::from_slices(words),
                request_id: None,
                freshness: Freshness::Linearizable,
            }))
        };
        assert_eq!(intent(&["get", "k"]), Intent::Read);
        assert_eq!(intent(&["MGET", "k"]), Intent::Read);
        assert_eq!(intent(&["SET", "k", "v"]), Intent::Write);
        assert_eq!(intent(&["GETSET", "k", "v"]), Intent::Write);
        assert_eq!(intent_of(&EntityRequest::Inspect), Intent::Read);
    }
}
