//! What is asked: which operation on which key, and its bytes.
//!
//! The draws repeat with the seed; values and identifiers never do, because a value that an earlier
//! run wrote must not pass for one of this run.

use crate::arguments::Arguments;
use crate::clock::run_number;
use crate::command::{push_command, push_decimal, write_hex};
use crate::connection::{Purpose, Request};
use crate::distribution::KeySampler;
use crate::operation::{Operation, Workload};
use crate::random::{Random, mix};
use crate::value::{SEQUENCE_SIZE, ValueMaker};

/// Makes the requests of one worker.
#[derive(Debug)]
pub(super) struct RequestMaker<'a> {
    arguments: &'a Arguments,
    random: Random,
    sampler: KeySampler,
    values: ValueMaker,
    once_run: [u8; 16],
    once_count: u64,
    key: Vec<u8>,
}

impl<'a> RequestMaker<'a> {
    /// Returns the maker of worker number `number`.
    pub(super) fn new(arguments: &'a Arguments, number: u32) -> Self {
        let mut random = Random::new(mix(arguments.seed) ^ mix(u64::from(number) + 1));
        // Values and ONCE identifiers must not repeat those of an earlier run with the same seed.
        let run = Random::new(run_number()).next_u64();
        let mut once_run = [0; 16];
        write_hex(&mut once_run, run ^ mix(u64::from(number)));
        let first_sequence = run.wrapping_add(u64::from(number) << 48);
        Self {
            arguments,
            sampler: KeySampler::new(arguments.dist, arguments.keys),
            values: ValueMaker::new(
                arguments.value_kind(),
                arguments.value_size,
                first_sequence,
                &mut random,
            ),
            random,
            once_run,
            once_count: 0,
            key: Vec::new(),
        }
    }

    /// Draws what the next request does.
    pub(super) fn draw_operation(&mut self) -> (Operation, Purpose) {
        match self.arguments.workload {
            Workload::Write => (Operation::Set, Purpose::Measured),
            Workload::Read | Workload::ReadLocal => (Operation::Get, Purpose::Measured),
            Workload::Mixed { read_percent } => {
                if self.random.below(100) < u64::from(read_percent) {
                    (Operation::Get, Purpose::Measured)
                } else {
                    (Operation::Set, Purpose::Measured)
                }
            }
            Workload::Incr => (Operation::Incr, Purpose::Measured),
            Workload::Cas => (Operation::Get, Purpose::CasRead),
        }
    }

    /// Draws the key of the next request.
    pub(super) fn draw_key(&mut self) -> u64 {
        self.sampler.sample(&mut self.random)
    }

    /// Makes the key with index `key_index` the current one.
    pub(super) fn write_key(&mut self, key_index: u64) {
        self.key.clear();
        self.key.extend_from_slice(self.arguments.key_prefix.as_bytes());
        push_decimal(&mut self.key, key_index);
    }

    /// Returns the current key.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Appends the command of `request` on the current key to `out`; `old` is what a
    /// compare-and-set expects.
    pub(super) fn encode(&mut self, request: &Request, old: Option<&[u8]>, out: &mut Vec<u8>) {
        let (key, values) = (&self.key[..], &mut self.values);
        match (request.operation, old) {
            (Operation::Get, _) => push_command(out, &[b"GET", key]),
            (Operation::Incr, _) if self.arguments.once => {
                self.once_count += 1;
                let mut id = [b'-'; 2 * SEQUENCE_SIZE + 1];
                id[..SEQUENCE_SIZE].copy_from_slice(&self.once_run);
                write_hex(&mut id[SEQUENCE_SIZE + 1..], self.once_count);
                push_command(out, &[b"CERTUS", b"ONCE", &id, b"INCR", key]);
            }
            (Operation::Incr, _) => push_command(out, &[b"INCR", key]),
            (Operation::Cas, Some(old)) => {
                push_command(out, &[b"SET", key, values.make(key), b"IFEQ", old]);
            }
            // There was no value to compare with.
            (Operation::Cas, None) => {
                push_command(out, &[b"SET", key, values.make(key), b"NX"]);
            }
            (Operation::Set | Operation::Setup, _) => {
                push_command(out, &[b"SET", key, values.make(key)]);
            }
        }
    }
}
