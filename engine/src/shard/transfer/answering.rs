//! The answerer's half: pages of images, from memory and from disk.

use std::collections::{BTreeMap, VecDeque};

use net::peer::message::{EntityImage, PeerMessage, TransferPage, TransferRequest};
use net::resp::slot::shard_of;
use plog::location::{Location, copy_back};
use plog::log_record::LogRecord;
use plog::planted;
use plog::vocabulary::{EntityId, Entry};

use crate::shard::checkpointing::{joins, span};
use crate::shard::log_reads::{Purpose, ReadFailed};
use crate::shard::transfer::PAGES_UNDER_WAY_MAX;
use crate::shard::{PeerCore, Shard};
use crate::state_machine::StateMachine;

/// Entities looked at for a page: so many take no longer than a batch of clients' commands.
const LOOKED_AT_MAX: usize = 4096;

/// Entities taken from the index at a time.
const STRIDE: usize = 512;

/// What an asking core is being sent.
#[derive(Debug)]
struct Job {
    to: PeerCore,
    page: TransferPage,
    images: Vec<Option<EntityImage>>,
    /// Images that lie together on disk.
    runs: Vec<Vec<OnDisk>>,
    /// Runs not read yet.
    missing: usize,
}

#[derive(Clone, Copy, Debug)]
struct OnDisk {
    /// Where in the page.
    position: usize,
    entity: EntityId,
    location: Location,
}

/// The pages being made: [`PAGES_UNDER_WAY_MAX`] at most for each core of a peer, its latest.
#[derive(Debug, Default)]
pub(crate) struct TransferPages {
    next: u64,
    jobs: BTreeMap<u64, Job>,
    /// By who asked, oldest first.
    of: BTreeMap<PeerCore, VecDeque<u64>>,
}

impl TransferPages {
    /// A link went down: whoever was at its end asks anew.
    pub(crate) fn forget(&mut self, peer: PeerCore) {
        for job in self.of.remove(&peer).unwrap_or_default() {
            self.jobs.remove(&job);
        }
    }

    fn start(&mut self, number: u64, job: Job) {
        let of = self.of.entry(job.to).or_default();
        if of.len() >= PAGES_UNDER_WAY_MAX
            && let Some(oldest) = of.pop_front()
        {
            self.jobs.remove(&oldest);
        }
        of.push_back(number);
        self.jobs.insert(number, job);
    }

    fn end(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        if let Some(of) = self.of.get_mut(&job.to) {
            of.retain(|other| *other != number);
        }
        Some(job)
    }
}

impl<M: StateMachine> Shard<M> {
    /// A peer's core wants the entities it owns after a place.
    pub(in crate::shard) fn answer_transfer(&mut self, from: PeerCore, request: TransferRequest) {
        let limit = u64::from(request.bytes.min(self.context.config.transfer_page_bytes).max(1));
        let mut job = Job {
            to: from,
            page: TransferPage { begin: request.begin, next: None, sent: false },
            images: Vec::new(),
            runs: Vec::new(),
            missing: 0,
        };
        // The one asked from may be gone, or never have been here.
        let index = self.context.log.index();
        let mut ids: VecDeque<EntityId> =
            request.begin.filter(|id| index.get(*id).is_some()).into_iter().collect();
        let (mut bytes, mut looked_at, mut cursor) = (0, 0, request.begin);
        loop {
            if ids.is_empty() {
                let stride = self.context.log.index().entities_after(cursor, STRIDE);
                ids.extend(stride.iter().map(|held| held.entity));
            }
            let Some(id) = ids.pop_front() else { break };
            if bytes >= limit || looked_at >= LOOKED_AT_MAX {
                job.page.next = Some(id);
                break;
            }
            (looked_at, cursor) = (looked_at + 1, Some(id));
            if shard_of(id, request.core_count) == from.core {
                bytes += self.add_to_page(&mut job, id);
            }
        }
        self.transfer_pages.next += 1;
        let number = self.transfer_pages.next;
        job.missing = job.runs.len();
        if job.page.next.is_some() && job.missing > 0 {
            self.context.send_to_core(from, PeerMessage::TransferPage(job.page));
        }
        for (run, place) in job.runs.iter().zip(0..) {
            let location = span(run[0].location, run[run.len() - 1].location);
            self.log_reads.start(Purpose::Transfer(number, place), location);
        }
        if job.missing == 0 {
            self.send_page(job);
        } else {
            self.transfer_pages.start(number, job);
        }
    }

    /// Adds an entity, if there is an image of it. How many bytes it has.
    fn add_to_page(&mut self, job: &mut Job, id: EntityId) -> u64 {
        if self.abstaining.covers(id) || self.is_rejoining(id) {
            return 0;
        }
        if let Some(entity) = self.entities.get(id) {
            if entity.has_diverged() || entity.applied() == Entry::ZERO {
                return 0;
            }
            let image = entity.image();
            let bytes = image.state.len();
            job.images.push(Some(image));
            return u64::try_from(bytes).expect("a size fits 64 bits");
        }
        let known = self.context.log.index().get(id);
        let Some((_, location)) = known.and_then(|known| known.image()) else { return 0 };
        let position = job.images.len();
        job.images.push(None);
        let held = OnDisk { position, entity: id, location };
        match job.runs.last_mut() {
            Some(run) if joins(run[0].location, run[run.len() - 1].location, location) => {
                run.push(held);
            }
            Some(_) | None => job.runs.push(vec![held]),
        }
        u64::from(location.length)
    }

    /// The images of a run were read.
    pub(in crate::shard) fn handle_transfer_read(
        &mut self,
        number: u64,
        run: usize,
        location: Location,
        blocks: Result<&[u8], ReadFailed>,
    ) {
        let known = |id: EntityId| {
            let known = self.context.log.index().get(id);
            known.map_or(Entry::ZERO, |known| known.contiguous_chosen())
        };
        let Some(job) = self.transfer_pages.jobs.get_mut(&number) else { return };
        for held in std::mem::take(&mut job.runs[run]) {
            // What cannot be read is found out, and told, when it is asked for by itself.
            let bytes = blocks.ok().and_then(|blocks| {
                let bytes = copy_back(held.location, location, blocks).ok()?;
                LogRecord::decode(bytes).ok()
            });
            if let Some((record, _)) = bytes
                && let Some(mut image) = image_in(record, held.entity)
            {
                if planted!("transferred-image-taken-for-newest") {
                    image.applied = known(held.entity).max(image.applied);
                }
                job.images[held.position] = Some(image);
            }
        }
        job.missing -= 1;
        if job.missing == 0 {
            let job = self.transfer_pages.end(number).expect("just seen");
            self.send_page(job);
        }
    }

    fn send_page(&mut self, job: Job) {
        for image in job.images.into_iter().flatten() {
            // What began to abstain meanwhile has no more to say.
            if !self.abstaining.covers(image.entity) {
                self.context.counters.transfer_images_sent += 1;
                self.context.send_to_core(job.to, PeerMessage::Image(image));
            }
        }
        let page = TransferPage { sent: true, ..job.page };
        self.context.send_to_core(job.to, PeerMessage::TransferPage(page));
    }
}

/// The image of `entity` in a record that should hold it.
fn image_in(record: LogRecord, entity: EntityId) -> Option<EntityImage> {
    let LogRecord::Image { entity: of, applied, chain, last_value_id, state } = record else {
        return None;
    };
    (of == entity).then(|| EntityImage {
        entity,
        applied,
        chain,
        last_value_id,
        recent: last_value_id.into_iter().collect(),
        state,
        max_chosen: applied,
    })
}
