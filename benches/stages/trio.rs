//! Three replicas in one thread: their shards, and all that stands between these but sockets and
//! disks. What a shard writes is durable at once; what it sends goes through real frames.

use engine::config::ShardConfig;
use engine::request::{Command, EntityRequest, Freshness, Ticket};
use engine::shard::{PeerCore, PeerLife, StringShard};
use engine::time::Time;
use net::peer::frame_decoder::FrameDecoder;
use net::peer::frame_encoder::FrameEncoder;
use net::peer::message::PeerMessage;
use net::resp::arguments::Arguments;
use net::resp::slot::entity_of;
use net::resp::value::Protocol;
use plog::identity::LogIdentity;
use plog::log_config::LogConfig;
use plog::vocabulary::{AcceptorId, BootEpoch, Generation};

const REPLICAS: u8 = 3;

/// Large enough for everything that a run writes.
const SEGMENT_SIZE: u32 = 256 << 20;

/// A turn of a core takes so long.
const TURN_US: u64 = 50;

/// A command as a session hands it on.
pub fn command(words: &[&[u8]], freshness: Freshness) -> EntityRequest {
    let arguments = Arguments::from_slices(words);
    EntityRequest::Command(Command { arguments, request_id: None, freshness })
}

/// What one replica has.
struct Node {
    shard: StringShard,
    /// To each replica.
    encoders: Vec<FrameEncoder>,
    /// From each replica.
    decoders: Vec<FrameDecoder>,
    /// For each replica, in this turn.
    messages: Vec<Vec<PeerMessage>>,
}

impl Node {
    fn new(id: u8) -> Self {
        let identity = LogIdentity { cluster: 1, node: id, incarnation: 9, core: 0, core_count: 1 };
        let log_config =
            LogConfig { segment_size: SEGMENT_SIZE, ..LogConfig::for_identity(identity) };
        let config = ShardConfig::new(AcceptorId(id), REPLICAS, BootEpoch(1));
        let mut shard = StringShard::new(config, log_config);
        shard.finish_recovery(None, None);
        for _ in 0..2 {
            let spare = shard.name_spare();
            shard.handle_spare(spare);
        }
        Self {
            shard,
            encoders: (0..REPLICAS).map(|_| FrameEncoder::default()).collect(),
            decoders: (0..REPLICAS)
                .map(|_| FrameDecoder::new(net::peer::frame::FRAME_SIZE_MAX_DEFAULT, REPLICAS))
                .collect(),
            messages: (0..REPLICAS).map(|_| Vec::new()).collect(),
        }
    }
}

/// See the module page.
pub struct Trio {
    nodes: Vec<Node>,
    now: Time,
    /// Bytes of the frame or reply at hand.
    output: Vec<u8>,
    /// Replies so far.
    pub replies: usize,
    /// Bytes of replies so far, so that nobody can leave out making them.
    pub reply_bytes: usize,
    next: u64,
}

impl Trio {
    /// Three replicas that know each other.
    pub fn start() -> Self {
        let mut trio = Self {
            nodes: (0..REPLICAS).map(Node::new).collect(),
            now: Time(1_000_000),
            output: Vec::new(),
            replies: 0,
            reply_bytes: 0,
            next: 0,
        };
        for node in 0..REPLICAS {
            for peer in (0..REPLICAS).filter(|peer| *peer != node) {
                let peer = PeerCore { acceptor: AcceptorId(peer), core: 0 };
                let life = PeerLife { generation: Generation::FIRST, core_count: 1 };
                trio.nodes[usize::from(node)].shard.handle_peer_up(trio.now, peer, life);
            }
        }
        trio.run();
        trio
    }

    /// A client of `node` asks.
    pub fn request(&mut self, node: usize, words: &[&[u8]], freshness: Freshness) {
        let entity = entity_of(words[1]);
        self.next += 1;
        let ticket = Ticket { core: 0, connection: 1, sequence: self.next };
        let request = command(words, freshness);
        self.nodes[node].shard.handle_request(self.now, ticket, entity, request);
    }

    /// Turns of all cores until nothing is left to do.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// Lets so much time pass, for what waits for it.
    pub fn pass(&mut self, time_us: u64) {
        let end = Time(self.now.0 + time_us);
        while self.now < end {
            let due = self.nodes.iter().filter_map(|node| node.shard.poll_timeout()).min();
            self.now = Time(due.map_or(end.0, |due| due.0.clamp(self.now.0 + 1, end.0)));
            for node in &mut self.nodes {
                node.shard.handle_tick(self.now);
            }
            self.run();
        }
    }

    /// One turn of each core. Whether any did something.
    fn turn(&mut self) -> bool {
        self.now = Time(self.now.0 + TURN_US);
        let mut is_busy = false;
        for node in 0..self.nodes.len() {
            is_busy |= self.receive(node);
            is_busy |= self.write(node);
            self.send(node);
            self.reply(node);
        }
        is_busy
    }

    fn receive(&mut self, to: usize) -> bool {
        let mut is_busy = false;
        let Node { shard, decoders, .. } = &mut self.nodes[to];
        for (from, decoder) in decoders.iter_mut().enumerate() {
            let from = u8::try_from(from).expect("few replicas");
            let from = PeerCore { acceptor: AcceptorId(from), core: 0 };
            while let Some(messages) = decoder.next_frame().expect("frames of this process") {
                is_busy = true;
                shard.expect(messages.iter().filter_map(PeerMessage::entity));
                for message in messages {
                    shard.handle_message(self.now, from, Generation::FIRST, message);
                }
            }
        }
        is_busy
    }

    fn write(&mut self, node: usize) -> bool {
        let shard = &mut self.nodes[node].shard;
        let Some(write) = shard.poll_write() else { return false };
        shard.handle_written(self.now, write.buffer);
        true
    }

    fn send(&mut self, from: usize) {
        let node = &mut self.nodes[from];
        while let Some(outgoing) = node.shard.poll_message() {
            node.messages[usize::from(outgoing.to.0)].push(outgoing.message);
        }
        for to in 0..self.nodes.len() {
            let Node { messages, encoders, .. } = &mut self.nodes[from];
            encoders[to].encode(&messages[to], &mut self.output).expect("it fits");
            messages[to].clear();
            self.nodes[to].decoders[from].push(&self.output);
            self.output.clear();
        }
    }

    fn reply(&mut self, node: usize) {
        while let Some(reply) = self.nodes[node].shard.poll_reply() {
            assert!(!reply.value.is_error(), "{:?}", reply.value);
            reply.value.encode(Protocol::Resp2, &mut self.output);
            self.replies += 1;
        }
        self.reply_bytes += self.output.len();
        self.output.clear();
    }
}
