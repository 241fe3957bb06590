//! The load: clients that each keep one request out, and note what they were told.

pub mod client;
pub mod keys;
pub mod value;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::workload::client::{Client, Record};

/// What the clients share with who runs them.
#[derive(Debug)]
pub struct Shared {
    /// The beginning of the run: times of the history count from it.
    begin: Instant,
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Shared {
    fn new(begin: Instant) -> Self {
        Self { begin, stop: AtomicBool::new(false), answered: AtomicU64::new(0) }
    }

    /// Microseconds of the run.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).expect("shorter than an age")
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The running clients.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Record>>,
}

impl Workload {
    /// Starts `clients` clients of the nodes at `addresses`.
    pub fn start(addresses: &[SocketAddr], clients: u16, seed: u64, begin: Instant) -> Self {
        let shared = Arc::new(Shared::new(begin));
        let start = |id: u16| {
            let mut client = Client::new(id, addresses.to_vec(), seed, Arc::clone(&shared));
            std::thread::spawn(move || {
                client.run();
                client.into_record()
            })
        };
        let threads = (1..=clients).map(start).collect();
        Self { shared, threads }
    }

    /// A client with the clock of the others that its owner drives.
    pub fn client(&self, id: u16, addresses: Vec<SocketAddr>) -> Client {
        Client::new(id, addresses, 0, Arc::clone(&self.shared))
    }

    /// Microseconds of the run.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// How many requests were answered with what they asked for.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Stops the clients, each after its request, and returns what they noted.
    pub fn finish(&mut self) -> Record {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Record::default();
        for thread in self.threads.drain(..) {
            all.extend(thread.join().expect("clients end"));
        }
        all
    }
}
