//! The executors: one thread per core, pinned, each running one glommio executor.
//!
//! This is the only file that names glommio. What is in a request's path runs in the core's own
//! loop on a ring of its own (see [`crate::reactor`]), as one task of the executor that gives way
//! now and then, so that background tasks (the admin endpoint) get their turn. The settings below
//! are what measurements demanded: each executor locks memory, and below 100 µs of preemption timer
//! the executor does nothing but look at its timer.
//!
//! One trap is worked around here. When the preemption timer fires before the first task queue of a
//! round ran, as it does on a busy machine, the executor (0.12.0) takes that for "nothing to run"
//! and sleeps, with its task ready, until some IO of its own ends: for ever, seen under load. The
//! timer is long, which makes that rare; and a thread outside wakes a core that stays away from its
//! loop, which makes it harmless.

use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, IntoRawFd as _};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

const PREEMPT_TIMER: Duration = Duration::from_millis(20);
const IO_MEMORY: usize = 128 << 10;

/// How often the waker thread looks. A core asleep by mistake goes on after twice this.
const WAKER_PERIOD: Duration = Duration::from_millis(20);

/// How long an exchange may wait for the other side's next bytes.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A core's thread.
#[derive(Debug)]
pub struct CoreThread {
    handle: ExecutorJoinHandle<()>,
}

/// Starts the thread of `core`, on `cpu` only if one is given, and runs what `body` makes until it
/// ends.
///
/// # Errors
///
/// When the thread cannot be made or its CPU does not exist. Trouble inside the new thread is
/// reported by [`CoreThread::join`], and `body` is then dropped without having been called.
pub fn spawn_core<F>(
    core: u16,
    cpu: Option<usize>,
    body: impl FnOnce() -> F + Send + 'static,
) -> io::Result<CoreThread>
where
    F: Future<Output = ()> + 'static,
{
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let handle = LocalExecutorBuilder::new(placement)
        .name(&format!("certus-core-{core}"))
        .io_memory(IO_MEMORY)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(body)
        .map_err(to_io_error)?;
    Ok(CoreThread { handle })
}

impl CoreThread {
    /// Waits until the thread has ended.
    ///
    /// # Errors
    ///
    /// When its executor could not be made.
    pub fn join(self) -> io::Result<()> {
        self.handle.join().map_err(to_io_error)
    }
}

/// A core's way of giving way to its executor, watched from outside.
#[derive(Debug)]
pub struct GiveWay {
    is_away: Arc<AtomicBool>,
}

impl GiveWay {
    /// Starts the thread that wakes this core's task when it stays away too long. It ends with the
    /// core.
    ///
    /// # Errors
    ///
    /// When the thread cannot be made.
    pub async fn watched() -> io::Result<Self> {
        let is_away = Arc::new(AtomicBool::new(false));
        let watched = Arc::downgrade(&is_away);
        let task = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        let watch = move || {
            let mut was_away = false;
            loop {
                std::thread::sleep(WAKER_PERIOD);
                let Some(flag) = watched.upgrade() else { return };
                let away = flag.load(Ordering::Acquire);
                if away && was_away {
                    task.wake_by_ref();
                }
                was_away = away;
            }
        };
        std::thread::Builder::new().name("certus-waker".to_owned()).spawn(watch)?;
        Ok(Self { is_away })
    }

    /// Lets the executor's other tasks run, and looks at their IO, without waiting.
    pub async fn now(&self) {
        self.is_away.store(true, Ordering::Release);
        give_way().await;
        self.is_away.store(false, Ordering::Release);
    }
}

async fn give_way() {
    glommio::executor().yield_task_queue_now().await;
}

/// Runs `task` in the background of this core until it ends or the core does.
fn spawn_background(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

/// How a background server answers.
pub trait Exchange: 'static {
    /// The answer to what arrived so far, after which the connection is closed; `None` when more
    /// is needed.
    fn answer(&self, received: &[u8]) -> Option<Vec<u8>>;

    /// Called when a connection was opened and when one was closed.
    fn connections_changed(&self, open: usize);
}

/// Serves `listener` in the background of this core: of each connection one exchange.
///
/// At most `connections_max` connections are open at once, and each may send `request_size_max`
/// bytes; beyond that they are closed.
pub fn serve_in_background(
    listener: TcpListener,
    exchange: Rc<impl Exchange>,
    connections_max: usize,
    request_size_max: usize,
) {
    // SAFETY: the descriptor is a bound and listening socket, and `into_raw_fd` gave up its
    // ownership just now.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let open = Rc::new(std::cell::Cell::new(0_usize));
    spawn_background(async move {
        loop {
            let Ok(mut stream) = listener.accept().await else {
                // Out of descriptors, or the connection was gone already: the next may do.
                give_way().await;
                continue;
            };
            if open.get() >= connections_max {
                continue;
            }
            open.set(open.get() + 1);
            exchange.connections_changed(open.get());
            let (exchange, open) = (Rc::clone(&exchange), Rc::clone(&open));
            spawn_background(async move {
                let timeout = Some(EXCHANGE_TIMEOUT);
                if stream.set_read_timeout(timeout).is_ok()
                    && stream.set_write_timeout(timeout).is_ok()
                {
                    // The other side going away is no event for this one.
                    exchange_once(&mut stream, &*exchange, request_size_max).await.ok();
                }
                open.set(open.get() - 1);
                exchange.connections_changed(open.get());
            });
        }
    });
}

async fn exchange_once(
    stream: &mut glommio::net::TcpStream,
    exchange: &impl Exchange,
    request_size_max: usize,
) -> io::Result<()> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 4096];
    while received.len() < request_size_max {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&chunk[..count]);
        if let Some(answer) = exchange.answer(&received) {
            stream.write_all(&answer).await?;
            return stream.close().await;
        }
    }
    Ok(())
}

fn to_io_error<T>(error: GlommioError<T>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
