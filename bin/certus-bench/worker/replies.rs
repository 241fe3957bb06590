//! What becomes of the bytes that arrive: each reply ends one request and frees its slot, or lets
//! the second half of a compare-and-set follow.

use std::io::{self, Read};
use std::mem;

use crate::connection::{Purpose, Request};
use crate::operation::{Operation, Workload};
use crate::reply::{Reply, read_reply};
use crate::value::is_intact;
use crate::worker::counts::Outcome;
use crate::worker::issuing::Issue;
use crate::worker::{Phase, Worker};

impl Worker<'_> {
    /// Reads all that a connection holds.
    pub(super) fn handle_readable(&mut self, index: usize, is_read_closed: bool) {
        let mut buffer = mem::take(&mut self.read_buffer);
        while let Some(stream) = &mut self.connections[index].stream {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.close(index, "CONNECTION", "the server closed the connection");
                    break;
                }
                Ok(size) => {
                    self.now_ns = self.shared.clock.now_ns();
                    self.handle_bytes(index, &buffer[..size]);
                    // A buffer that was not filled emptied the socket; asking again would only be
                    // told so. Only the end of the stream brings no event of its own.
                    if size < buffer.len() && !is_read_closed {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.close(index, "CONNECTION", &error.to_string());
                    break;
                }
            }
        }
        self.read_buffer = buffer;
    }

    fn handle_bytes(&mut self, index: usize, bytes: &[u8]) {
        if self.connections[index].partial.is_empty() {
            if let Some(used) = self.handle_replies(index, bytes) {
                self.connections[index].partial.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        let mut partial = mem::take(&mut self.connections[index].partial);
        partial.extend_from_slice(bytes);
        if let Some(used) = self.handle_replies(index, &partial) {
            partial.drain(..used);
            self.connections[index].partial = partial;
        }
    }

    /// Handles all complete replies; returns how many bytes they take, `None` when the connection
    /// had to be closed.
    fn handle_replies(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let mut used = 0;
        loop {
            match read_reply(&bytes[used..]) {
                Ok(None) => return Some(used),
                Ok(Some((reply, size))) => {
                    used += size;
                    if let Some(request) = self.connections[index].take_answered() {
                        self.handle_reply(self.connections[index].client, &request, &reply);
                    } else {
                        self.handle_unsolicited(index, &reply);
                        return None;
                    }
                }
                Err(error) => {
                    self.close(index, "PROTOCOL", &error.to_string());
                    return None;
                }
            }
        }
    }

    /// A reply to nothing: a refusal that names its reason, or a peer that lost count.
    fn handle_unsolicited(&mut self, index: usize, reply: &Reply<'_>) {
        let setup = Request::new(Operation::Setup, Purpose::Setup, 0, self.now_ns);
        if let Reply::Error(text) = reply {
            self.counts.count_reply_error(&setup, text);
        } else {
            self.counts.count_error(&setup, "PROTOCOL", "a reply came without a request");
        }
        self.close(index, "CONNECTION", "closed after a reply without a request");
    }

    fn handle_reply(&mut self, client: usize, request: &Request, reply: &Reply<'_>) {
        match (request.purpose, reply) {
            (Purpose::Setup, Reply::Error(text)) => self.counts.count_reply_error(request, text),
            (Purpose::Setup, _) => {}
            (Purpose::Preload, Reply::Simple(_)) => {
                self.preload.note_written(self.now_ns);
                self.free_slot(client);
            }
            (Purpose::Preload, reply) => {
                let text = match reply {
                    Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => "SET was not answered with OK".to_owned(),
                };
                self.retry_preload(client, request, text);
            }
            (Purpose::Measured | Purpose::CasRead, Reply::Error(text)) => {
                self.counts.count_reply_error(request, text);
                self.free_slot(client);
            }
            (Purpose::Measured, reply) => {
                self.handle_outcome(request, reply);
                self.free_slot(client);
            }
            (Purpose::CasRead, reply) => {
                let old = match reply {
                    Reply::Bulk(old) => Some(*old),
                    _ => None,
                };
                let is_value = self.handle_outcome(request, reply);
                let cas =
                    Request::new(Operation::Cas, Purpose::Measured, request.key_index, self.now_ns);
                let goes_on = is_value && matches!(self.phase, Phase::Running(_));
                if !goes_on || self.issue(client, cas, old) != Issue::Issued {
                    self.free_slot(client);
                }
            }
        }
    }

    /// Records the reply of a measured request; `false` when it is an error after all.
    fn handle_outcome(&mut self, request: &Request, reply: &Reply<'_>) -> bool {
        let arguments = self.shared.arguments;
        let mut outcome = Outcome::Done;
        match (request.operation, reply) {
            (Operation::Get, Reply::Bulk(value)) => {
                if arguments.verify {
                    self.requests.write_key(request.key_index);
                    if !is_intact(self.requests.key(), value) {
                        let start = &value[..value.len().min(64)];
                        let text = format!(
                            "MISMATCH {} holds {:?}",
                            String::from_utf8_lossy(self.requests.key()),
                            String::from_utf8_lossy(start)
                        );
                        self.counts.count_error(request, "MISMATCH", &text);
                        return false;
                    }
                }
            }
            (Operation::Get, Reply::Nil) => {
                // A local read may be behind; any other has no excuse to miss a key written before.
                let must_exist = arguments.verify
                    && arguments.preloads()
                    && arguments.workload != Workload::ReadLocal;
                if must_exist {
                    self.requests.write_key(request.key_index);
                    let key = String::from_utf8_lossy(self.requests.key());
                    let text = format!("MISMATCH {key} has no value, though it was written");
                    self.counts.count_error(request, "MISMATCH", &text);
                    return false;
                }
                outcome = Outcome::Missing;
            }
            (Operation::Cas, Reply::Nil) => outcome = Outcome::Lost,
            (Operation::Set | Operation::Cas, Reply::Simple(b"OK"))
            | (Operation::Incr, Reply::Integer(_)) => {}
            (operation, _) => {
                let text = format!("UNEXPECTED type of reply to {}", operation.name());
                self.counts.count_error(request, "UNEXPECTED", &text);
                return false;
            }
        }
        self.counts.count_reply(request, outcome, self.now_ns);
        true
    }
}
