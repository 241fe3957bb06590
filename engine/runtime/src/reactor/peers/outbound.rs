//! A link to one core of one peer: this node speaks, the peer listens.

use std::net::TcpStream;

use net::peer::frame::{FrameEncodeError, FrameEncoder};
use net::peer::handshake::HandshakeDialler;
use net::peer::message::{GenerationsNotice, PeerMessage};
use plog::configuration::Configuration;
use plog::vocabulary::Generation;

use crate::node::log_line;
use crate::reactor::metrics::Counters;
use crate::reactor::peers::address_lookup::AddressLookup;
use crate::reactor::peers::back_off::BackOff;
use crate::reactor::ring::OperationKey;

/// A send buffer up to this size is kept for the next frames; a larger one is freed.
const OUTPUT_KEPT: usize = 1 << 20;

/// How far a link is.
#[derive(Debug)]
pub enum LinkPhase {
    /// Rests until a time, in microseconds of the core's clock.
    Resting(u64),
    /// Its host name is being looked up.
    LookingUp(AddressLookup),
    /// Connecting, since a time.
    Connecting(u64, OperationKey),
    /// Connected; the peer has not answered yet, since a time.
    Greeting(u64, HandshakeDialler),
    /// Established.
    Up,
    /// Shut down; waits for the kernel to end what it does with its buffers, then rests.
    Closing,
}

/// A link to one core of one peer, over all its connections.
#[derive(Debug)]
pub struct Outbound {
    /// Position of the peer in the table.
    pub peer: usize,
    /// The peer's core, or `None` for a link that asks how many the peer has.
    pub peer_core: Option<u16>,
    /// See [`LinkPhase`].
    pub phase: LinkPhase,
    /// The generation of who answered on the connection at hand.
    pub generation: Generation,
    /// The socket of the connection at hand.
    pub socket: Option<TcpStream>,
    /// Writes the frames of the connection at hand.
    pub encoder: FrameEncoder,
    /// Messages of this turn, which become frames when it ends. Nothing counts their bytes before:
    /// what one turn says may go beyond the bound on [`Outbound::unsent_bytes`].
    pub messages: Vec<PeerMessage>,
    /// Frames to be sent next.
    pub output: Vec<u8>,
    /// Bytes of the send in flight; 0 when there is none.
    pub sending: usize,
    /// Of the send in flight, where it began.
    pub sending_begin: usize,
    /// An empty buffer kept for reuse.
    pub spare: Vec<u8>,
    /// Operations that the kernel has not ended yet.
    pub in_kernel: u32,
    /// Whether messages were dropped that the peer has to be told about when it is reachable.
    pub dropped: bool,
    /// When something was last sent, in microseconds of the core's clock.
    pub sent_us: u64,
    /// See [`BackOff`].
    pub back_off: BackOff,
    /// Not to be dialled again.
    pub retired: bool,
    /// Whether its being down was logged, so that it is not at each attempt.
    pub failure_logged: bool,
}

impl Outbound {
    /// A link that is dialled at the next tick.
    #[must_use]
    pub fn new(peer: usize, peer_core: Option<u16>, frame_size_max: usize, seed: u64) -> Self {
        Self {
            peer,
            peer_core,
            phase: LinkPhase::Resting(0),
            generation: Generation::FIRST,
            socket: None,
            encoder: FrameEncoder::new(frame_size_max),
            messages: Vec::new(),
            output: Vec::new(),
            sending: 0,
            sending_begin: 0,
            spare: Vec::new(),
            in_kernel: 0,
            dropped: false,
            sent_us: 0,
            back_off: BackOff::new(seed),
            retired: false,
            failure_logged: false,
        }
    }

    /// Whether messages can be sent.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.phase, LinkPhase::Up)
    }

    /// Bytes encoded and not sent; those of messages not encoded yet are left out.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.output.len() + self.sending
    }

    /// Puts the messages of the turn into frames, behind what they rest on: what this node knows of
    /// `generations`, and the `configuration` by which it goes. One that no frame can hold is
    /// dropped.
    pub(super) fn encode_messages(
        &mut self,
        generations: Option<GenerationsNotice>,
        configuration: Option<Configuration>,
        counters: &mut Counters,
    ) {
        let mut messages = std::mem::take(&mut self.messages);
        if !messages.is_empty() {
            // It is heeded first: a connection keeps the order.
            let notices = generations.map(PeerMessage::Generations);
            let notices = notices.into_iter().chain(configuration.map(PeerMessage::Configuration));
            messages.splice(0..0, notices);
        }
        while !messages.is_empty() {
            match self.encoder.encode(&messages, &mut self.output) {
                Ok(frames) => {
                    counters.peer_frames_out += frames;
                    counters.peer_messages_out +=
                        u64::try_from(messages.len()).expect("a count fits 64 bits");
                    messages.clear();
                }
                Err(error) => {
                    counters.peer_dropped += 1;
                    log_line::error("a message to a peer was dropped", &[("error", &error)]);
                    let FrameEncodeError::MessageTooLarge { index, .. } = error;
                    messages.remove(index);
                }
            }
        }
        self.messages = messages;
    }

    /// Takes the output to send it, and leaves an empty one.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.output, std::mem::take(&mut self.spare))
    }

    /// Keeps a sent buffer for later, unless it is large.
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= OUTPUT_KEPT && self.spare.capacity() == 0 {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use net::peer::frame::FrameDecoder;
    use net::peer::message::{GenerationsNotice, PeerMessage};
    use plog::configuration::Configuration;
    use plog::vocabulary::Generation;

    use super::Outbound;
    use crate::reactor::metrics::Counters;

    #[test]
    fn messages_count_as_unsent_bytes_once_they_are_frames() {
        let mut link = Outbound::new(0, Some(0), 1 << 20, 1);
        let mut counters = Counters::default();
        link.messages.extend([PeerMessage::Heartbeat, PeerMessage::Heartbeat]);
        assert_eq!(link.unsent_bytes(), 0);
        link.encode_messages(None, None, &mut counters);
        assert!(link.messages.is_empty() && link.unsent_bytes() == link.output.len());
        assert!(link.unsent_bytes() > 0);
        assert_eq!((counters.peer_frames_out, counters.peer_messages_out), (1, 2));
        let frame = link.take_output();
        assert_eq!(link.unsent_bytes(), 0);
        link.sending = frame.len();
        assert_eq!(link.unsent_bytes(), frame.len(), "under way is not sent");
    }

    #[test]
    fn what_is_said_begins_with_what_it_rests_on() {
        let mut link = Outbound::new(0, Some(0), 1 << 20, 1);
        let mut counters = Counters::default();
        let known = [0, 2, 0, 0, 0].map(Generation);
        let notice = GenerationsNotice { known };
        let goes_by = Configuration::initial(3);
        link.encode_messages(Some(notice), Some(goes_by), &mut counters);
        assert!(link.output.is_empty(), "nothing is said");
        link.messages.push(PeerMessage::Heartbeat);
        link.encode_messages(Some(notice), Some(goes_by), &mut counters);
        let mut decoder = FrameDecoder::new(1 << 20, 3);
        decoder.push(&link.output);
        let said = decoder.next_frame().unwrap().unwrap();
        let notices = [PeerMessage::Generations(notice), PeerMessage::Configuration(goes_by)];
        assert_eq!(said[..2], notices);
        assert_eq!(said[2..], [PeerMessage::Heartbeat]);
    }
}
