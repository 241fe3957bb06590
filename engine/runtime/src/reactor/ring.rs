//! One core's own io_uring: every operation in a request's path, and the only place that is unsafe
//! about it.
//!
//! The one idea: *the ring owns what the kernel may touch.* An operation takes its buffer by value;
//! the buffer stands in the table of operations in flight until its completion hands it back. No
//! caller can free, move or read a buffer that the kernel is still writing, whatever becomes of the
//! connection it was for. Client data arrives in buffers of a pool that the ring owns as well.
//!
//! One turn of a core is one [`Ring::enter`], which submits all that was queued and waits for what
//! comes next. Completions are posted only then (`DEFER_TASKRUN`), so nothing interrupts a turn.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use plog::block::AlignedBuffer;
use socket2::SockAddr;

use crate::reactor::buffer_pool::{BufferPool, SelectedBuffer};
use crate::reactor::slab::{Key, Slab};
use crate::reactor::user_data::{self, Kind};

/// Entries of the submission queue. When a turn queues more, they are submitted in between.
const SUBMISSIONS: u32 = 1024;

/// Entries of the completion queue. Multishot operations post many completions for one submission.
const COMPLETIONS: u32 = 8192;

/// How long a ring that is dropped waits for its operations to end.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// A buffer that an operation carries.
#[derive(Debug)]
pub enum Payload {
    /// The operation has none, or will complete again and keeps it.
    None,
    /// Bytes of a socket.
    Bytes(Vec<u8>),
    /// Blocks of the log.
    Blocks(AlignedBuffer),
    /// Where a connection goes to.
    Address(Box<SockAddr>),
}

/// One outcome of an operation.
#[derive(Debug)]
pub struct Completion {
    /// What it did.
    pub kind: Kind,
    /// For whom, as the submitter said.
    pub owner: Key,
    /// What the kernel said: a count, a descriptor, or a negative error number.
    result: i32,
    /// Whether the operation goes on and will complete again.
    pub more: bool,
    /// Where received data stands, if the operation used the pool. Must be given back.
    pub selected: Option<SelectedBuffer>,
    /// The buffer, handed back.
    pub payload: Payload,
}

impl Completion {
    /// The count, or the descriptor's number.
    ///
    /// # Errors
    ///
    /// What the kernel refused the operation with.
    pub fn outcome(&self) -> io::Result<usize> {
        usize::try_from(self.result)
            .map_err(|_| io::Error::from_raw_os_error(self.result.wrapping_neg()))
    }

    /// The descriptor that an accept made.
    ///
    /// # Errors
    ///
    /// What the kernel refused the accept with.
    pub fn accepted(&self) -> io::Result<std::os::fd::OwnedFd> {
        use std::os::fd::FromRawFd;
        assert!(matches!(self.kind, Kind::ClientAccept | Kind::PeerAccept));
        self.outcome()?;
        // SAFETY: the kernel made this descriptor for this completion; `accepted` is called once
        // per completion, by the one who processes it, so nobody else owns it.
        Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(self.result) })
    }

    /// Whether the operation was ended by [`Ring::cancel`].
    #[must_use]
    pub fn was_cancelled(&self) -> bool {
        self.result == -libc::ECANCELED
    }

    /// Whether the pool had no buffer: the operation ended and is to be started again.
    #[must_use]
    pub fn was_out_of_buffers(&self) -> bool {
        self.result == -libc::ENOBUFS
    }
}

/// Names an operation in flight, for [`Ring::cancel`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OperationKey {
    kind: Kind,
    key: Key,
}

#[derive(Debug)]
struct Operation {
    kind: Kind,
    owner: Key,
    payload: Payload,
}

/// What the ring did so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct RingCounters {
    /// System calls that submitted or waited.
    pub enters: u64,
    /// Operations submitted.
    pub submitted: u64,
    /// Completions processed.
    pub completed: u64,
}

/// The ring of one core. Belongs to the thread that made it.
#[allow(missing_debug_implementations, reason = "the library's ring has no Debug")]
pub struct Ring {
    ring: IoUring,
    operations: Slab<Operation>,
    pool: BufferPool,
    counters: RingCounters,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ring")
            .field("in_flight", &self.operations.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread, with the setup flags that this kernel knows.
    ///
    /// # Errors
    ///
    /// When the kernel makes no ring: not allowed (`EPERM`), no memory that may be locked
    /// (`ENOMEM`), or too old for the pool of receive buffers (`EINVAL`).
    pub fn new() -> io::Result<Self> {
        let ring = Self::build()?;
        let pool = BufferPool::register(&ring)?;
        Ok(Self { ring, operations: Slab::new(), pool, counters: RingCounters::default() })
    }

    fn build() -> io::Result<IoUring> {
        let mut best = IoUring::builder();
        best.setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_defer_taskrun();
        match best.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => return done,
        }
        let mut cooperative = IoUring::builder();
        cooperative.setup_cqsize(COMPLETIONS).setup_coop_taskrun().setup_taskrun_flag();
        match cooperative.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => return done,
        }
        IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)
    }

    /// What the ring did so far.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Operations that the kernel has not ended yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.operations.len()
    }

    /// Whether something is queued that the kernel does not know of yet.
    pub fn has_queued(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Accepts connections until cancelled; each is a completion.
    pub fn accept(&mut self, kind: Kind, owner: Key, listener: BorrowedFd<'_>) -> OperationKey {
        let entry =
            opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.start(kind, owner, Payload::None, |_| entry)
    }

    /// Receives until cancelled or ended, each piece in a buffer of the pool.
    pub fn receive_pooled(
        &mut self,
        kind: Kind,
        owner: Key,
        socket: BorrowedFd<'_>,
    ) -> OperationKey {
        let entry =
            opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BufferPool::GROUP).flags(0).build();
        self.start(kind, owner, Payload::None, |_| entry)
    }

    /// Receives once into `buffer`, at most its length.
    pub fn receive(
        &mut self,
        kind: Kind,
        owner: Key,
        socket: BorrowedFd<'_>,
        buffer: Vec<u8>,
    ) -> OperationKey {
        let fd = Fd(socket.as_raw_fd());
        self.start(kind, owner, Payload::Bytes(buffer), |payload| {
            let Payload::Bytes(bytes) = payload else { unreachable!("given as bytes") };
            let length = u32::try_from(bytes.len()).expect("receive buffers are below 4 GiB");
            opcode::Recv::new(fd, bytes.as_mut_ptr(), length).build()
        })
    }

    /// Sends `bytes` from `begin` on; the completion says how many of them left.
    pub fn send(
        &mut self,
        kind: Kind,
        owner: Key,
        socket: BorrowedFd<'_>,
        bytes: Vec<u8>,
        begin: usize,
    ) {
        let fd = Fd(socket.as_raw_fd());
        self.start(kind, owner, Payload::Bytes(bytes), |payload| {
            let Payload::Bytes(bytes) = payload else { unreachable!("given as bytes") };
            let rest = &bytes[begin..];
            let length = u32::try_from(rest.len()).expect("send buffers are below 4 GiB");
            opcode::Send::new(fd, rest.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build()
        });
    }

    /// Connects `socket` to `address`.
    pub fn connect(
        &mut self,
        kind: Kind,
        owner: Key,
        socket: BorrowedFd<'_>,
        address: SocketAddr,
    ) -> OperationKey {
        let fd = Fd(socket.as_raw_fd());
        let address = Box::new(SockAddr::from(address));
        self.start(kind, owner, Payload::Address(address), |payload| {
            let Payload::Address(address) = payload else { unreachable!("given as an address") };
            opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
        })
    }

    /// Writes all of `blocks` at `offset`; durable when it completes with their whole length.
    pub fn write_durable(
        &mut self,
        kind: Kind,
        owner: Key,
        file: BorrowedFd<'_>,
        blocks: AlignedBuffer,
        offset: u64,
    ) {
        self.write_with(kind, owner, file, blocks, (offset, libc::RWF_DSYNC));
    }

    /// Writes `blocks` at `offset`; not durable by itself.
    pub fn write(
        &mut self,
        kind: Kind,
        owner: Key,
        file: BorrowedFd<'_>,
        blocks: AlignedBuffer,
        offset: u64,
    ) {
        self.write_with(kind, owner, file, blocks, (offset, 0));
    }

    fn write_with(
        &mut self,
        kind: Kind,
        owner: Key,
        file: BorrowedFd<'_>,
        blocks: AlignedBuffer,
        (offset, flags): (u64, i32),
    ) {
        let fd = Fd(file.as_raw_fd());
        self.start(kind, owner, Payload::Blocks(blocks), |payload| {
            let Payload::Blocks(blocks) = payload else { unreachable!("given as blocks") };
            let length = u32::try_from(blocks.len()).expect("frames are below 4 GiB");
            opcode::Write::new(fd, blocks.as_ptr(), length).offset(offset).rw_flags(flags).build()
        });
    }

    /// Reads at `offset` until `blocks` is full.
    pub fn read(
        &mut self,
        kind: Kind,
        owner: Key,
        file: BorrowedFd<'_>,
        blocks: AlignedBuffer,
        offset: u64,
    ) {
        let fd = Fd(file.as_raw_fd());
        self.start(kind, owner, Payload::Blocks(blocks), |payload| {
            let Payload::Blocks(blocks) = payload else { unreachable!("given as blocks") };
            let length = u32::try_from(blocks.len()).expect("log frames are below 4 GiB");
            opcode::Read::new(fd, blocks.as_mut_ptr(), length).offset(offset).build()
        });
    }

    /// Reads an event counter: completes when another core rang it.
    pub fn wait_for_doorbell(&mut self, owner: Key, doorbell: BorrowedFd<'_>) {
        let fd = Fd(doorbell.as_raw_fd());
        self.start(Kind::Doorbell, owner, Payload::Bytes(vec![0; 8]), |payload| {
            let Payload::Bytes(bytes) = payload else { unreachable!("given as bytes") };
            opcode::Read::new(fd, bytes.as_mut_ptr(), 8).build()
        });
    }

    /// Asks the kernel to end an operation; it completes in its own time, cancelled or not.
    pub fn cancel(&mut self, operation: OperationKey) {
        let target = user_data::encode(operation.kind, operation.key);
        let nobody = operation.key;
        self.start(Kind::Cancel, nobody, Payload::None, |_| {
            opcode::AsyncCancel::new(target).build()
        });
    }

    fn start(
        &mut self,
        kind: Kind,
        owner: Key,
        payload: Payload,
        entry: impl FnOnce(&mut Payload) -> squeue::Entry,
    ) -> OperationKey {
        let key = self.operations.insert(Operation { kind, owner, payload });
        let operation = self.operations.get_mut(key).expect("just inserted");
        let entry = entry(&mut operation.payload).user_data(user_data::encode(kind, key));
        loop {
            let mut queue = self.ring.submission();
            // SAFETY: what `entry` points into is owned by `self.operations` (heap memory that does
            // not move with the table) and stays there, untouched, until the operation's last
            // completion was taken from the queue; `drop` waits for that too.
            if unsafe { queue.push(&entry) }.is_ok() {
                break;
            }
            drop(queue);
            self.counters.enters += 1;
            if let Err(error) = self.ring.submit() {
                // The completion queue is full: the kernel keeps completions back until it is
                // drained, which the caller cannot do now. It takes submissions all the same.
                assert!(is_passing(&error), "io_uring takes no submissions: {error}");
            }
        }
        self.counters.submitted += 1;
        OperationKey { kind, key }
    }

    /// Submits what is queued without waiting.
    ///
    /// # Errors
    ///
    /// When the ring itself fails; there is no way on.
    pub fn submit(&mut self) -> io::Result<()> {
        self.counters.enters += 1;
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Submits what is queued and waits for at least one completion, but not longer than
    /// `wait_max`. Zero polls.
    ///
    /// # Errors
    ///
    /// When the ring itself fails; there is no way on.
    pub fn enter(&mut self, wait_max: Duration) -> io::Result<()> {
        self.counters.enters += 1;
        let entered = if wait_max.is_zero() {
            self.ring.submit()
        } else {
            let timeout = Timespec::from(wait_max);
            let arguments = SubmitArgs::new().timespec(&timeout);
            self.ring.submitter().submit_with_args(1, &arguments)
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Moves all completions that are there to `out`.
    pub fn reap(&mut self, out: &mut Vec<Completion>) {
        for entry in self.ring.completion() {
            self.counters.completed += 1;
            let (kind, key) =
                user_data::decode(entry.user_data()).expect("only this ring makes user data");
            let more = io_uring::cqueue::more(entry.flags());
            let operation = self.operations.get_mut(key).expect("kept until its last completion");
            assert!(operation.kind == kind, "a completion belongs to the operation it names");
            let owner = operation.owner;
            let payload = if more {
                Payload::None
            } else {
                self.operations.remove(key).expect("found above").payload
            };
            if kind == Kind::Cancel {
                continue;
            }
            let selected = io_uring::cqueue::buffer_select(entry.flags())
                .map(|id| self.pool.selected(id, usize::try_from(entry.result()).unwrap_or(0)));
            out.push(Completion { kind, owner, result: entry.result(), more, selected, payload });
        }
    }

    /// The bytes that were received into a buffer of the pool.
    #[must_use]
    pub fn received(&self, selected: &SelectedBuffer) -> &[u8] {
        self.pool.bytes(selected)
    }

    /// Hands a buffer of the pool back to the kernel.
    pub fn give_back(&mut self, selected: SelectedBuffer) {
        self.pool.give_back(selected);
    }
}

/// Errors of entering the ring after which it is simply entered again.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM)
    )
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still write into buffers of operations in flight: end them all first.
        let begin = std::time::Instant::now();
        let mut completions = Vec::new();
        while !self.operations.is_empty() && begin.elapsed() < DROP_PATIENCE {
            let everything = io_uring::types::CancelBuilder::any();
            if self.submit().is_err() {
                break;
            }
            // Nothing to cancel is no failure: the rest completes by itself.
            let _nothing_left = self.ring.submitter().register_sync_cancel(None, everything);
            if self.enter(Duration::from_millis(10)).is_err() {
                break;
            }
            self.reap(&mut completions);
            completions.clear();
        }
        if !self.operations.is_empty() {
            // Rather lose the memory than let the kernel write where something else now lives.
            let _leaked = Box::leak(Box::new(std::mem::take(&mut self.operations)));
        }
        self.pool.unregister(&self.ring);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::{Completion, Payload, Ring};
    use crate::reactor::slab::Key;
    use crate::reactor::user_data::Kind;

    const NOBODY: Key = Key { index: 7, generation: 9 };
    const LONG: Duration = Duration::from_secs(10);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    fn next(ring: &mut Ring) -> Completion {
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.enter(LONG).unwrap();
            ring.reap(&mut completions);
        }
        assert_eq!(completions.len(), 1);
        completions.pop().unwrap()
    }

    #[test]
    fn what_one_side_sends_arrives_in_pooled_buffers_until_the_end() {
        let mut ring = Ring::new().unwrap();
        let (here, mut there) = pair();
        ring.receive_pooled(Kind::ClientReceive, NOBODY, here.as_fd());
        // More pieces than the pool has buffers, so that each is reused.
        for round in 0..3000_u32 {
            there.write_all(&round.to_le_bytes()).unwrap();
            let completion = next(&mut ring);
            assert_eq!(completion.kind, Kind::ClientReceive);
            assert_eq!(completion.owner, NOBODY);
            assert_eq!(completion.outcome().unwrap(), 4);
            assert!(completion.more);
            let selected = completion.selected.unwrap();
            assert_eq!(ring.received(&selected), round.to_le_bytes());
            ring.give_back(selected);
        }
        drop(there);
        let end = next(&mut ring);
        assert_eq!(end.outcome().unwrap(), 0);
        assert!(!end.more && end.selected.is_none());
        assert_eq!(ring.in_flight(), 0);
    }

    #[test]
    fn a_send_hands_its_buffer_back() {
        let mut ring = Ring::new().unwrap();
        let (here, mut there) = pair();
        ring.send(Kind::ClientSend, NOBODY, here.as_fd(), b"abcdef".to_vec(), 2);
        let completion = next(&mut ring);
        assert_eq!(completion.outcome().unwrap(), 4);
        assert!(matches!(completion.payload, Payload::Bytes(bytes) if bytes == b"abcdef"));
        let mut received = [0; 4];
        there.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"cdef");
    }

    #[test]
    fn a_cancelled_receive_completes_once_more_and_then_never() {
        let mut ring = Ring::new().unwrap();
        let (here, _there) = pair();
        let operation = ring.receive_pooled(Kind::ClientReceive, NOBODY, here.as_fd());
        ring.cancel(operation);
        let completion = next(&mut ring);
        assert!(completion.was_cancelled() && !completion.more);
        ring.enter(Duration::ZERO).unwrap();
        ring.reap(&mut Vec::new());
        assert_eq!(ring.in_flight(), 0);
    }

    #[test]
    fn a_ring_dropped_with_operations_in_flight_ends_them() {
        let mut ring = Ring::new().unwrap();
        let (here, _there) = pair();
        ring.receive(Kind::InboundReceive, NOBODY, here.as_fd(), vec![0; 100]);
        ring.enter(Duration::ZERO).unwrap();
        assert_eq!(ring.in_flight(), 1);
        drop(ring);
    }

    #[test]
    fn more_operations_than_the_queue_holds_are_submitted_in_between() {
        let mut ring = Ring::new().unwrap();
        let (here, mut there) = pair();
        for _ in 0..3000 {
            ring.send(Kind::ClientSend, NOBODY, here.as_fd(), vec![b'x'], 0);
        }
        let mut completions = Vec::new();
        while completions.len() < 3000 {
            ring.enter(LONG).unwrap();
            ring.reap(&mut completions);
        }
        let mut received = vec![0; 3000];
        there.read_exact(&mut received).unwrap();
        assert_eq!(received, vec![b'x'; 3000]);
    }
}
