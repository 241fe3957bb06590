//! The closed loop: clients, each with one request in flight, and what they count.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use crate::arguments::{Arguments, Workload};
use crate::connection::Connection;

/// Longest latency told apart, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A member cannot be reached.
    #[error("cannot connect to {address} ({error}): start etcd there, or correct --addr")]
    Connect {
        /// The member.
        address: String,
        /// The reason.
        error: tonic::transport::Error,
    },
    /// A key could not be written before the run.
    #[error("cannot write the keys first: {0}")]
    Preload(tonic::Status),
}

/// What was counted while measuring.
#[derive(Debug)]
pub struct Tally {
    /// From request to reply, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Errors by their code.
    pub errors: BTreeMap<String, u64>,
    /// Reads that found no value.
    pub missing: u64,
}

impl Tally {
    fn new() -> Self {
        let latency_ns =
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Self { latency_ns, errors: BTreeMap::new(), missing: 0 }
    }
}

/// Runs the whole load on this thread.
///
/// # Errors
///
/// When it cannot even begin.
pub async fn run(arguments: &Arguments) -> Result<Tally, LoadError> {
    let count = match arguments.connections {
        0 => arguments.clients,
        count => count.min(arguments.clients),
    };
    let mut connections = Vec::new();
    for address in arguments.addr.iter().cycle().take(count.try_into().unwrap_or(usize::MAX)) {
        let opened = Connection::open(address).await;
        let failed = |error| LoadError::Connect { address: address.clone(), error };
        connections.push(opened.map_err(failed)?);
    }
    let clients: Vec<Connection> = connections
        .iter()
        .cycle()
        .take(arguments.clients.try_into().unwrap_or(usize::MAX))
        .cloned()
        .collect();
    if arguments.workload == Workload::Read && !arguments.no_preload {
        preload(arguments, &clients).await?;
    }
    let begin = Instant::now() + arguments.warmup;
    let schedule = Schedule { begin, end: begin + arguments.seconds };
    let tally = Rc::new(RefCell::new(Tally::new()));
    let tasks = LocalSet::new();
    for (number, connection) in clients.into_iter().enumerate() {
        let random = Random::new(arguments.seed, number);
        let client = Client { connection, random, tally: Rc::clone(&tally) };
        tasks.spawn_local(client.run(arguments.clone(), schedule));
    }
    tasks.await;
    Ok(Rc::into_inner(tally).expect("every client has ended").into_inner())
}

async fn preload(arguments: &Arguments, clients: &[Connection]) -> Result<(), LoadError> {
    let next = Rc::new(RefCell::new(0..arguments.keys));
    let tasks = LocalSet::new();
    let preloaders: Vec<_> = clients
        .iter()
        .cloned()
        .map(|mut connection| {
            let (next, size) = (Rc::clone(&next), arguments.value_size);
            tasks.spawn_local(async move {
                let mut random = Random::new(0, 0);
                loop {
                    let index = next.borrow_mut().next();
                    let Some(index) = index else { return Ok(()) };
                    connection.put(key(index), random.value(size)).await?;
                }
            })
        })
        .collect();
    tasks.await;
    for preloader in preloaders {
        preloader.await.expect("a preloader does not panic").map_err(LoadError::Preload)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    end: Instant,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    random: Random,
    tally: Rc<RefCell<Tally>>,
}

impl Client {
    async fn run(mut self, arguments: Arguments, schedule: Schedule) {
        loop {
            let started = Instant::now();
            if started >= schedule.end {
                return;
            }
            let key = key(self.random.below(arguments.keys));
            let outcome = match arguments.workload {
                Workload::Write => {
                    let value = self.random.value(arguments.value_size);
                    self.connection.put(key, value).await.map(|()| false)
                }
                Workload::Read => self.connection.get(key).await.map(|value| value.is_none()),
            };
            let elapsed = started.elapsed();
            if started >= schedule.begin {
                self.count(&outcome, elapsed);
            }
            if outcome.is_err() {
                // A member that refuses at once must not be asked a million times a second.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn count(&self, outcome: &Result<bool, tonic::Status>, elapsed: Duration) {
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Ok(is_missing) => {
                let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                tally.latency_ns.saturating_record(nanoseconds);
                tally.missing += u64::from(*is_missing);
            }
            Err(status) => {
                *tally.errors.entry(format!("{:?}", status.code())).or_default() += 1;
            }
        }
    }
}

/// The name of key `index`, as certus-bench names it.
fn key(index: u64) -> Vec<u8> {
    format!("key:{index}").into_bytes()
}

/// A fast generator (xorshift64*), seeded for each client.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, client: usize) -> Self {
        let client = u64::try_from(client).expect("a count fits 64 bits");
        let mixed = (seed ^ client.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform below `bound`, up to an error of `bound` / 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("below the bound")
    }

    fn value(&mut self, size: usize) -> Vec<u8> {
        let mut value = Vec::with_capacity(size + 8);
        while value.len() < size {
            value.extend_from_slice(&self.next().to_le_bytes());
        }
        value.truncate(size);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, key};

    #[test]
    fn draws_stay_below_their_bound_and_differ_between_clients() {
        let mut first = Random::new(1, 0);
        let mut second = Random::new(1, 1);
        let draw = |random: &mut Random| (0..100).map(|_| random.below(1000)).collect::<Vec<_>>();
        let (one, other) = (draw(&mut first), draw(&mut second));
        assert!(one.iter().all(|&drawn| drawn < 1000));
        assert_ne!(one, other);
        assert_eq!(first.value(13).len(), 13);
        assert_eq!(key(7), b"key:7");
    }
}
