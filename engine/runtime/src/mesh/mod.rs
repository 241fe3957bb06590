//! The way from one core of a node to another.
//!
//! One bounded lock-free ring for each ordered pair of cores carries requests for entities that
//! another core owns, and the replies to them. Two ideas:
//!
//! *Credit.* A ring must never be full for a reply, or two cores with full rings would wait for
//! each other for ever. So a core has at most [`CREDIT`] unanswered requests at another core, and a
//! ring has room for that many requests and that many replies. A request beyond the credit stays
//! with its client, whose socket is not read until a reply frees credit.
//!
//! *Doorbells.* A core that is awake looks at its rings once per turn anyway; only one that sleeps
//! in the kernel has to be woken, by a write to its event counter. See [`doorbell`] for why no
//! wake-up is ever lost.

pub mod doorbell;
pub mod message;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::mesh::doorbell::Doorbell;
use crate::mesh::message::MeshMessage;

/// Unanswered requests that one core may have at another.
pub const CREDIT: usize = 2048;

/// Places in a ring: the requests of one core, and its replies to the other's requests.
const RING_SIZE: usize = 2 * CREDIT;

/// What one core holds of the mesh.
#[derive(Debug)]
pub struct MeshEnd {
    core: u16,
    /// By core; `None` at this core's own place.
    links: Vec<Option<MeshLink>>,
    /// By core.
    doorbells: Arc<[Doorbell]>,
}

#[derive(Debug)]
struct MeshLink {
    to: Producer<MeshMessage>,
    from: Consumer<MeshMessage>,
    /// Requests sent and not answered, at most [`CREDIT`].
    unanswered: usize,
    /// Whether something was sent since the doorbell was last looked at.
    unannounced: bool,
}

/// The mesh of a node: one end per core, in order.
///
/// # Errors
///
/// When the kernel makes no event counter (out of file descriptors).
pub fn mesh(core_count: u16) -> io::Result<Vec<MeshEnd>> {
    let doorbells =
        (0..core_count).map(|_| Doorbell::new()).collect::<io::Result<Arc<[Doorbell]>>>()?;
    let mut ends: Vec<MeshEnd> = (0..core_count)
        .map(|core| MeshEnd {
            core,
            links: (0..core_count).map(|_| None).collect(),
            doorbells: Arc::clone(&doorbells),
        })
        .collect();
    for low in 0..ends.len() {
        for high in low + 1..ends.len() {
            let (up_producer, up_consumer) = RingBuffer::new(RING_SIZE);
            let (down_producer, down_consumer) = RingBuffer::new(RING_SIZE);
            ends[low].links[high] = Some(MeshLink::new(up_producer, down_consumer));
            ends[high].links[low] = Some(MeshLink::new(down_producer, up_consumer));
        }
    }
    Ok(ends)
}

impl MeshLink {
    fn new(to: Producer<MeshMessage>, from: Consumer<MeshMessage>) -> Self {
        Self { to, from, unanswered: 0, unannounced: false }
    }
}

impl MeshEnd {
    /// The core this end belongs to.
    #[must_use]
    pub fn core(&self) -> u16 {
        self.core
    }

    /// How many cores the mesh has.
    #[must_use]
    pub fn core_count(&self) -> u16 {
        u16::try_from(self.links.len()).expect("made from a u16")
    }

    /// Whether a request to `core` would cross now.
    #[must_use]
    pub fn has_credit(&self, core: u16) -> bool {
        self.links[usize::from(core)].as_ref().is_some_and(|link| link.unanswered < CREDIT)
    }

    /// Sends something that will be answered. The caller has made sure of the credit.
    ///
    /// # Panics
    ///
    /// Without credit, or when `core` is this core itself or none of the node's.
    pub fn send_request(&mut self, core: u16, message: MeshMessage) {
        debug_assert!(!message.is_answer());
        let link = self.link(core);
        assert!(link.unanswered < CREDIT, "a request is sent with credit");
        link.unanswered += 1;
        link.push(message);
    }

    /// Sends the answer to a request of `core`; there is always room for it.
    ///
    /// # Panics
    ///
    /// When `core` asked for nothing, and its ring is full.
    pub fn send_answer(&mut self, core: u16, message: MeshMessage) {
        debug_assert!(message.is_answer());
        self.link(core).push(message);
    }

    /// The next message from `core`, if there is one. An answer frees credit.
    pub fn receive(&mut self, core: u16) -> Option<MeshMessage> {
        let link = self.links[usize::from(core)].as_mut()?;
        let message = link.from.pop().ok()?;
        if message.is_answer() {
            assert!(link.unanswered > 0, "an answer belongs to a request");
            link.unanswered -= 1;
        }
        Some(message)
    }

    /// Wakes the cores that were sent something since the last call, as far as they sleep. Once
    /// per turn, so that a turn wakes a core at most once.
    pub fn ring_doorbells(&mut self) {
        for (core, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            if link.unannounced {
                link.unannounced = false;
                self.doorbells[core].ring_if_asleep();
            }
        }
    }

    /// Announces that this core goes to sleep. `false` when something arrived meanwhile: then it
    /// must look again instead. After sleeping, call [`MeshEnd::wake`].
    #[must_use]
    pub fn prepare_sleep(&mut self) -> bool {
        let doorbell = &self.doorbells[usize::from(self.core)];
        doorbell.announce_sleep();
        if self.links.iter().flatten().all(|link| link.from.is_empty()) {
            return true;
        }
        doorbell.announce_awake();
        false
    }

    /// Announces that this core is awake and looks at its rings by itself.
    pub fn wake(&mut self) {
        self.doorbells[usize::from(self.core)].announce_awake();
    }

    /// This core's event counter, to wait on.
    #[must_use]
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbells[usize::from(self.core)].descriptor()
    }

    fn link(&mut self, core: u16) -> &mut MeshLink {
        self.links[usize::from(core)].as_mut().expect("a core sends nothing to itself")
    }
}

impl MeshLink {
    fn push(&mut self, message: MeshMessage) {
        self.unannounced = true;
        self.to.push(message).expect("credit bounds what is in a ring to its size");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use engine::request::Ticket;

    use super::{CREDIT, MeshEnd, mesh};
    use crate::mesh::message::MeshMessage;

    fn request(sequence: u64) -> MeshMessage {
        MeshMessage::StatusWanted { gather: sequence }
    }

    fn reply(sequence: u64) -> MeshMessage {
        let ticket = Ticket { core: 0, connection: 0, sequence };
        MeshMessage::Reply { ticket, encoded: Vec::new() }
    }

    fn pair() -> (MeshEnd, MeshEnd) {
        let mut ends = mesh(2).unwrap();
        let one = ends.pop().unwrap();
        (ends.pop().unwrap(), one)
    }

    /// Sleeps in the kernel until rung, as a core would through its ring.
    fn sleep(end: &mut MeshEnd) {
        if end.prepare_sleep() {
            let mut file = std::fs::File::from(end.doorbell().try_clone_to_owned().unwrap());
            file.read_exact(&mut [0; 8]).unwrap();
        }
        end.wake();
    }

    #[test]
    fn credit_is_spent_by_requests_and_freed_by_replies() {
        let (mut zero, mut one) = pair();
        for sequence in 0..CREDIT as u64 {
            zero.send_request(1, request(sequence));
        }
        assert!(!zero.has_credit(1));
        assert!(one.receive(0).is_some());
        one.send_answer(0, reply(0));
        assert!(!zero.has_credit(1), "credit comes with the reply, not with its sending");
        assert!(zero.receive(1).is_some());
        assert!(zero.has_credit(1));
        zero.send_request(1, request(7));
    }

    #[test]
    #[should_panic(expected = "a request is sent with credit")]
    fn a_request_without_credit_is_a_bug() {
        let (mut zero, _one) = pair();
        for sequence in 0..=CREDIT as u64 {
            zero.send_request(1, request(sequence));
        }
    }

    #[test]
    fn both_cores_with_all_credit_spent_can_still_answer_each_other() {
        let (mut zero, mut one) = pair();
        for sequence in 0..CREDIT as u64 {
            zero.send_request(1, request(sequence));
            one.send_request(0, request(sequence));
        }
        // Nobody takes anything out before both have answered everything they can see.
        for sequence in 0..CREDIT as u64 {
            assert!(zero.receive(1).is_some());
            zero.send_answer(1, reply(sequence));
            assert!(one.receive(0).is_some());
            one.send_answer(0, reply(sequence));
        }
        for _ in 0..CREDIT {
            assert!(zero.receive(1).is_some());
            assert!(one.receive(0).is_some());
        }
        assert!(zero.has_credit(1) && one.has_credit(0));
    }

    #[test]
    fn an_awake_core_is_not_rung_and_a_sleeping_one_is_rung_once() {
        let (mut zero, mut one) = pair();
        let mut poll = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
        let mut is_rung = |end: &MeshEnd| {
            use std::os::fd::AsRawFd;
            poll.fd = end.doorbell().as_fd().as_raw_fd();
            // SAFETY: one valid pollfd, and no waiting.
            unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
        };
        zero.send_request(1, request(0));
        zero.ring_doorbells();
        assert!(!is_rung(&one), "it never said that it sleeps");
        assert!(!one.prepare_sleep(), "there is something to do");
        assert!(one.receive(0).is_some());
        assert!(one.prepare_sleep());
        zero.send_request(1, request(1));
        zero.send_request(1, request(2));
        assert!(!is_rung(&one), "only the end of the turn rings");
        zero.ring_doorbells();
        assert!(is_rung(&one));
        sleep_ends_at_once(&mut one);
        assert!(!is_rung(&one));
        zero.ring_doorbells();
        assert!(!is_rung(&one), "nothing new was sent");
    }

    fn sleep_ends_at_once(end: &mut MeshEnd) {
        let mut file = std::fs::File::from(end.doorbell().try_clone_to_owned().unwrap());
        file.read_exact(&mut [0; 8]).unwrap();
        end.wake();
    }

    #[test]
    fn every_message_arrives_in_order_though_both_cores_sleep_whenever_they_can() {
        const COUNT: u64 = 200_000;
        let (mut zero, mut one) = pair();
        let other = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < COUNT {
                while let Some(message) = one.receive(0) {
                    let MeshMessage::StatusWanted { gather } = message else {
                        panic!("only requests are sent here")
                    };
                    assert_eq!(gather, expected);
                    expected += 1;
                    one.send_answer(0, reply(gather));
                }
                one.ring_doorbells();
                if expected < COUNT {
                    sleep(&mut one);
                }
            }
        });
        let (mut sent, mut answered) = (0, 0);
        while answered < COUNT {
            // Odd batch sizes make the rings wrap at ever different places.
            for _ in 0..1 + sent % 7 {
                if sent < COUNT && zero.has_credit(1) {
                    zero.send_request(1, request(sent));
                    sent += 1;
                }
            }
            zero.ring_doorbells();
            let mut idle = true;
            while let Some(message) = zero.receive(1) {
                let MeshMessage::Reply { ticket, .. } = message else {
                    panic!("only replies are sent here")
                };
                assert_eq!(ticket.sequence, answered);
                answered += 1;
                idle = false;
            }
            if idle && answered < COUNT && (sent == COUNT || sent % 3 == 0) && sent > answered {
                sleep(&mut zero);
            }
        }
        other.join().unwrap();
    }
}
