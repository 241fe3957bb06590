//! What is done to a world from outside: starts, crashes, freezes, damage, and messages held back.

use engine::config::ShardConfig;
use engine::shard::CatchUpRates;
use engine::shard::{LogSpace, StringShard};
use engine::time::Time;
use net::peer::message::{ChosenNotice, PeerMessage};
use net::resp::slot::shard_of;
use plog::block::BLOCK_SIZE;
use plog::checkpoint::CheckpointId;
use plog::frame::FRAME_HEADER_SIZE;
use plog::recovery::Recovered;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Generation, Lsn};

use crate::checkers::{Boot, Violation};
use crate::disk::Disk;
use crate::faults::Faults;
use crate::mirroring::DiskReplayer;
use crate::trace::What;
use crate::world::node::{RecoveredCore, recover};
use crate::world::{CoreId, Hold, World};

impl World {
    /// Changes what goes wrong by itself from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.config.faults = faults;
    }

    /// Starts a node from its disks, as the daemon does. A core whose log is damaged begins another
    /// in a new generation, if the disk has room, and rejoins; else it abstains. A node whose disks
    /// are new asks the others to register it first.
    ///
    /// # Panics
    ///
    /// When it runs already.
    pub fn start(&mut self, node: u8) {
        assert!(!self.is_up(node), "started when it is down");
        let index = usize::from(node);
        if self.nodes[index].registering.is_some() {
            self.start_registering(node);
            return;
        }
        self.nodes[index].epoch += 1;
        self.nodes[index].starts += 1;
        self.nodes[index].dies_after = None;
        let mut recovered = self.recover_cores(node);
        let boot = self.nodes[index].boot();
        let is_lost =
            |core: &RecoveredCore| core.abstention.is_some_and(|lost| !lost.is_made_up_for(boot));
        // Now and then there is no room for another log beside the damaged one.
        let has_room = !self.full.contains(&node) && self.chances.errors.below(3) > 0;
        if recovered.iter().any(is_lost) && has_room {
            let lost: Vec<CoreId> = (self.core_ids(node).into_iter().zip(&recovered))
                .filter_map(|(id, core)| is_lost(core).then_some(id))
                .collect();
            for (id, core) in self.core_ids(node).into_iter().zip(&recovered) {
                let known = std::mem::replace(&mut self.core(id).abstention, core.abstention);
                self.coverage.damaged_starts += u64::from(known != core.abstention);
            }
            let generation = boot.generation().next().expect("few losses");
            self.nodes[index].epoch = generation.epoch_before().0 + 1;
            for id in lost {
                self.begin_another_log(id, generation);
            }
            recovered = self.recover_cores(node);
        }
        let epoch = self.nodes[index].epoch;
        self.trace.note(self.now, What::Start { node, epoch });
        let boot = self.nodes[index].boot();
        let start = self.nodes[index].starts;
        let known = self.nodes[index].generations;
        let membership = self.nodes[index].membership;
        let is_full = self.full.contains(&node);
        let now = self.clock_of(node);
        for (id, mut core) in self.core_ids(node).into_iter().zip(recovered) {
            core.shard.know_generations(known);
            if self.changes_membership() {
                core.shard.know_membership(membership.configuration, membership.votes);
            }
            let this = Boot { node, core: id.core, start };
            self.look_at_recovery(this, boot, &core);
            let version = core.shard.configuration().version;
            let starts = self.checker.starts_with(this, version);
            self.note(starts);
            let pointer = self.core(id).disk.pointer;
            let tail = core.outcome.tail();
            let mut shard = core.shard;
            match core.abstention {
                None => shard.finish_recovery(tail, pointer),
                Some(lost) if lost.is_made_up_for(boot) => {
                    shard.finish_recovery_rejoining(tail, pointer, lost);
                }
                Some(lost) => shard.finish_recovery_abstaining(tail, lost),
            }
            let is_whole = core.abstention.is_none() && !self.is_damageable(node);
            if is_whole && self.replays_disks() {
                let looked = self.compare_with_files(id, &shard);
                self.note(looked);
            }
            if is_full {
                shard.set_log_space(LogSpace::Full);
            }
            let core = self.core(id);
            core.shard = Some(shard);
            core.started = now;
            core.write = None;
            core.part_write = None;
            core.tick_at = None;
        }
        self.register_mirrors(node);
        self.connect(node);
        for id in self.core_ids(node) {
            self.pump(id);
        }
    }

    /// What the disks of a node's cores hold.
    fn recover_cores(&mut self, node: u8) -> Vec<RecoveredCore> {
        let index = usize::from(node);
        let epoch = self.nodes[index].epoch;
        let replicas = self.node_count();
        let core_count = self.nodes[index].core_count();
        let mut recovered = Vec::new();
        for id in self.core_ids(node) {
            let make =
                if self.is_follower(node) { ShardConfig::follower } else { ShardConfig::new };
            let mut config = make(AcceptorId(node), replicas, BootEpoch(epoch));
            (config.core, config.core_count) = (id.core, core_count);
            config.seed ^= self.config.seed;
            (self.config.configure)(&mut config);
            if let Some(voters) = self.config.membership {
                (config.changes_membership, config.first_voters) = (true, voters);
            }
            if let Some(lagging) = self.config.lagging {
                config.digest_every_us = lagging.digest_every_us;
                config.lag_entities_max = lagging.entities_max;
            }
            let log_config = self.nodes[index].log_config(
                id,
                self.config.segment_size,
                self.config.frame_size_max.unwrap_or(self.config.segment_size / 4),
                self.config.segments_max,
            );
            self.core(id).disk.tidy();
            recovered.push(recover(config, log_config, self.core(id)));
        }
        recovered
    }

    /// A core puts its log aside and begins another in a new generation.
    fn begin_another_log(&mut self, id: CoreId, generation: Generation) {
        assert!(self.is_damageable(id.node), "a crash never damages a log: {id:?}");
        let core = self.core(id);
        core.disk = Disk::default();
        core.durable = Lsn::ZERO;
        core.log_generation = generation;
        self.coverage.logs_put_aside += 1;
        self.lose_core(id, generation);
    }

    /// The checkers hear that a core begins anew.
    pub(super) fn lose_core(&mut self, id: CoreId, generation: Generation) {
        let cores = self.nodes[usize::from(id.node)].core_count();
        let owns = |entity| shard_of(entity, cores) == id.core;
        self.checker.lost(id.node, id.core, generation, owns);
    }

    /// What a core's recovery says, shown to the checkers and kept.
    fn look_at_recovery(&mut self, boot: Boot, epoch: BootEpoch, recovered: &RecoveredCore) {
        let outcome = &recovered.outcome;
        let damageable = self.is_damageable(boot.node);
        let id = CoreId { node: boot.node, core: boot.core };
        let is_lost = recovered.abstention.is_some_and(|lost| !lost.is_made_up_for(epoch));
        self.coverage.rejoining_starts += u64::from(recovered.abstention.is_some() && !is_lost);
        let core = self.core(id);
        let was_known = core.abstention.is_some();
        core.abstention = recovered.abstention;
        if is_lost {
            assert!(damageable, "a crash never damages a log: {boot:?}");
            self.coverage.damaged_starts += u64::from(!was_known);
            self.coverage.abstaining_starts += u64::from(was_known);
            self.checker.found_damaged(boot);
            return;
        }
        let durable = core.durable;
        let last = outcome.tail().map_or(Lsn::ZERO, |tail| tail.last_lsn);
        core.durable = durable.max(last);
        self.coverage.torn_tails += u64::from(matches!(outcome, Recovered::TornTail { .. }));
        let looked = self.checker.recovered(boot, durable, last);
        self.note(looked);
        let known = recovered.shard.known_generations();
        for record in &recovered.unreported {
            // Nobody heard of it: it counts as of when the node stopped.
            let version = self.checker.agreement.version_of(boot.node, boot.core);
            let seen = self.checker.durable(boot.node, &known, version, record);
            self.note(seen);
        }
    }

    /// Whether disks are replayed and compared in this run: in a quarter of all seeds, spread over
    /// mixes and sizes. It costs as much as all other checkers together.
    #[must_use]
    pub fn replays_disks(&self) -> bool {
        self.config.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0
    }

    /// Whether a mirror that is fed with a core's files comes to what its shard is: just started,
    /// or with all of it durable.
    fn compare_with_files(&mut self, id: CoreId, shard: &StringShard) -> Result<(), Violation> {
        let replayer = self.replay_disk(id, shard.config().request_ids_max)?;
        self.checker.replayed(id.node, shard, &replayer)
    }

    /// A mirror of the files of each core of a running node, compared with what the node holds. For
    /// a world at rest.
    ///
    /// # Errors
    ///
    /// What differs.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn replay_files(&mut self, node: u8) -> Result<Vec<DiskReplayer>, Violation> {
        let mut replayers = Vec::new();
        for id in self.core_ids(node) {
            let limit = self.shard(id).config().request_ids_max;
            let replayer = self.replay_disk(id, limit)?;
            let Self { nodes, checker, .. } = self;
            let core = &nodes[usize::from(id.node)].cores[usize::from(id.core)];
            let shard = core.shard.as_ref().expect("just seen");
            checker.replayed(node, shard, &replayer)?;
            replayers.push(replayer);
        }
        Ok(replayers)
    }

    /// Whether a running node holds the same of an entity as the mirrors of its files, if it has it
    /// in memory.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn same_state(
        &mut self,
        node: u8,
        entity: EntityId,
        replayers: &[DiskReplayer],
    ) -> Result<(), Violation> {
        let id = self.owner(node, entity);
        let Self { nodes, checker, .. } = self;
        let core = &nodes[usize::from(id.node)].cores[usize::from(id.core)];
        let shard = core.shard.as_ref().expect("asked while it is up");
        checker.same_state(node, shard, &replayers[usize::from(id.core)], entity)
    }

    /// Does something with a shard of a running node, as who embeds it would.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn with_shard<T>(
        &mut self,
        id: CoreId,
        action: impl FnOnce(&mut StringShard, Time) -> T,
    ) -> T {
        let now = self.clock_of(id.node);
        let result = action(self.core(id).shard.as_mut().expect("the node is up"), now);
        self.pump(id);
        result
    }

    /// What a core has on its disk.
    #[must_use]
    pub fn disk(&self, id: CoreId) -> &Disk {
        &self.nodes[usize::from(id.node)].cores[usize::from(id.core)].disk
    }

    /// Lets a node hear from another that its chain at an entry is not the chosen history's.
    ///
    /// # Panics
    ///
    /// When the node is down, or the entry is not chosen.
    pub fn tell_of_another_history(&mut self, node: u8, from: u8, entity: EntityId, entry: Entry) {
        let agreement = &self.checker.agreement;
        let value_id = agreement.chosen_at(entity, entry).expect("the entry is chosen");
        let chain = !agreement.chain_at(entity, entry).expect("the entry is chosen");
        let ballot = Ballot { round: 1, epoch: BootEpoch(1), acceptor: AcceptorId(from) };
        let notice = ChosenNotice { entity, entry, ballot, value_id, chain, value: None };
        let (to, from) = (self.owner(node, entity), self.owner(from, entity));
        let now = self.clock_of(node);
        let (_, configuration) = self.notices_of(from);
        let shard = self.core(to).shard.as_mut().expect("told while it is up");
        let generation = shard.known_generations()[usize::from(from.node)];
        let first = configuration.map(PeerMessage::Configuration);
        for message in first.into_iter().chain([PeerMessage::Chosen(notice)]) {
            shard.handle_message(now, from.peer(), generation, message);
        }
        self.pump(to);
    }

    /// Makes a node's copy of an entity pretend another history. False, and nothing done, unless it
    /// is in memory there.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn pretend_another_history(&mut self, node: u8, entity: EntityId) -> bool {
        let owner = self.owner(node, entity);
        let shard = self.core(owner).shard.as_mut().expect("asked of a node that is up");
        let pretends = shard.pretend_another_history(entity);
        if pretends {
            self.checker.agreement.pretenders |= 1 << node;
        }
        pretends
    }

    /// Whether a node knows the chain of every entity without reading.
    ///
    /// # Panics
    ///
    /// When the node is down.
    #[must_use]
    pub fn knows_all_chains(&self, node: u8) -> bool {
        self.core_ids(node).into_iter().all(|id| {
            let shard = self.shard(id);
            let mut knows = true;
            shard.log().index().walk_after(None, |entity, known| {
                let is_known = known.chain_at(known.contiguous_chosen()).is_some();
                knows &= is_known || shard.applied(entity).is_some();
                knows
            });
            knows
        })
    }

    /// Whether the node lost something in this generation, and so needs another start to rejoin.
    #[must_use]
    pub fn has_loss(&self, node: u8) -> bool {
        let node = &self.nodes[usize::from(node)];
        let boot = node.boot();
        let lost = node.cores.iter().filter_map(|core| core.abstention);
        lost.into_iter().any(|lost| !lost.is_made_up_for(boot))
    }

    /// Whether the node holds, as far as it knows, all that it ever held.
    #[must_use]
    pub fn is_whole(&self, node: u8) -> bool {
        let node = &self.nodes[usize::from(node)];
        node.registering.is_none() && node.cores.iter().all(|core| core.abstention.is_none())
    }

    /// Whether an entity abstains on a node that runs.
    ///
    /// # Panics
    ///
    /// When the node is down.
    #[must_use]
    pub fn abstains(&self, node: u8, entity: EntityId) -> bool {
        self.shard(self.owner(node, entity)).abstains(entity)
    }

    /// Kills a node: what its disks were writing is torn at random.
    ///
    /// # Panics
    ///
    /// When it is down already.
    pub fn crash(&mut self, node: u8) {
        assert!(self.is_up(node), "crashed when it is up");
        self.coverage.crashes += 1;
        self.coverage.follower_crashes += u64::from(self.is_follower(node));
        let is_rejoining = !self.is_whole(node) && !self.has_loss(node);
        self.coverage.crashes_during_rejoin += u64::from(is_rejoining);
        self.trace.note(self.now, What::Crash { node });
        for id in self.core_ids(node) {
            // All, none, or any subset of the blocks under way survive.
            let survival = [0, 500_000, 1_000_000][self.chances.tear.index(3)];
            let counters = self.core(id).shard.take().map(|shard| *shard.counters());
            self.counters = self.counters.plus(&counters.unwrap_or_default());
            if self.is_follower(node) {
                self.ended_followers = self.ended_followers.plus(&counters.unwrap_or_default());
                self.watches.remove(&id);
            }
            let Some(write) = self.core(id).write.take() else { continue };
            let tear = &mut self.chances.tear;
            let blocks = write.buffer.len() / BLOCK_SIZE;
            let survives: Vec<bool> = (0..blocks).map(|_| tear.happens(survival)).collect();
            let whole = survives.iter().all(|survives| *survives);
            let none = !survives.iter().any(|survives| *survives);
            self.coverage.torn_writes += u64::from(!whole && !none);
            self.coverage.lost_writes += u64::from(none);
            self.coverage.unreported_writes += u64::from(whole);
            let core = self.core(id);
            core.disk.write_some(write.segment, write.offset, &write.buffer, |b| survives[b]);
        }
        self.repair_files(node);
        self.nodes[usize::from(node)].frozen_until = 0;
        self.disconnect(node);
    }

    /// What a check of the file system, or somebody who means well, may do to a damaged log while
    /// the node is down: it is cut off before the damage, and looks whole.
    fn repair_files(&mut self, node: u8) {
        for id in self.core_ids(node) {
            let boot = self.nodes[usize::from(node)].boot();
            let Some(found) = self.core(id).abstention else { continue };
            if found.is_made_up_for(boot) {
                continue; // its log is another one
            }
            if self.chances.errors.below(2) == 0 {
                let block = u64::try_from(BLOCK_SIZE).expect("small");
                let offset = found.offset - found.offset % block;
                self.core(id).disk.cut(found.segment, offset);
                self.coverage.cut_logs += 1;
            }
        }
    }

    /// Lets a node crash in the middle of what it sends: after so many more messages and replies.
    pub fn crash_after_outputs(&mut self, node: u8, outputs: u32) {
        self.nodes[usize::from(node)].dies_after = Some(outputs);
    }

    /// Takes back [`World::crash_after_outputs`].
    pub fn forget_planned_crash(&mut self, node: u8) {
        self.nodes[usize::from(node)].dies_after = None;
    }

    /// Stops a node's threads for a while; what happens meanwhile waits.
    pub fn freeze(&mut self, node: u8, duration_us: u64) {
        let state = &mut self.nodes[usize::from(node)];
        state.frozen_until = state.frozen_until.max(self.now + duration_us);
        self.coverage.freezes += 1;
        self.trace.note(self.now, What::Freeze { node, duration_us });
    }

    /// Lets all frozen nodes go on.
    pub fn thaw(&mut self) {
        for node in &mut self.nodes {
            node.frozen_until = 0;
        }
    }

    /// Lets a node's clock jump forward.
    pub fn jump_clock(&mut self, node: u8, microseconds: u64) {
        self.nodes[usize::from(node)].clock.jump(microseconds);
        self.coverage.clock_jumps += 1;
        // Its timers are due sooner.
        for id in self.core_ids(node) {
            self.core(id).tick_at = None;
            self.pump(id);
        }
    }

    /// The node's disks may lose what they hold: damage and failed reads are allowed there.
    pub fn may_be_damaged(&mut self, node: u8) {
        if !self.is_damageable(node) {
            self.may_be_damaged.push(node);
        }
    }

    /// Whether [`World::may_be_damaged`] was said of a node.
    #[must_use]
    pub fn is_damageable(&self, node: u8) -> bool {
        self.may_be_damaged.contains(&node)
    }

    /// Flips a bit at rest on one of a node's disks. Whether there was anything to damage.
    ///
    /// # Panics
    ///
    /// When the node's disks must not be damaged.
    pub fn rot(&mut self, node: u8) -> bool {
        let Some((id, settled)) = self.choose_damaged(node) else { return false };
        let mut place = self.chances.errors.index(settled);
        if self.chances.errors.below(3) == 0 {
            // What is said of many records at once is worth a closer look.
            place -= place % BLOCK_SIZE;
            place += self.chances.errors.index(FRAME_HEADER_SIZE);
        }
        let bit = u32::try_from(self.chances.errors.below(8)).expect("below 8");
        let hit = self.core(id).disk.rot(place, bit).is_some();
        self.coverage.rotten_bits += u64::from(hit);
        hit
    }

    /// Writes one block of a node's disk over another. Whether anything changed.
    ///
    /// # Panics
    ///
    /// When the node's disks must not be damaged.
    pub fn misdirect(&mut self, node: u8) -> bool {
        let Some((id, settled)) = self.choose_damaged(node) else { return false };
        let from = self.chances.errors.index(settled);
        let to = self.chances.errors.index(settled);
        let hit = self.core(id).disk.misdirect(from, to).is_some();
        self.coverage.misdirected_writes += u64::from(hit);
        hit
    }

    /// A core of the node whose disk is to be damaged, and how many bytes of it may be.
    fn choose_damaged(&mut self, node: u8) -> Option<(CoreId, usize)> {
        assert!(self.is_damageable(node), "said beforehand");
        let ids = self.core_ids(node);
        let id = ids[self.chances.errors.index(ids.len())];
        let settled = self.core(id).disk.settled_bytes();
        if settled == 0 {
            return None;
        }
        self.trace.note(self.now, What::Damage { node });
        Some((id, settled))
    }

    /// Takes a node that is down its disks away: it comes back as an empty one.
    ///
    /// # Panics
    ///
    /// When it runs.
    pub fn wipe(&mut self, node: u8) {
        assert!(!self.is_up(node), "wiped when it is down");
        let fresh = 1 + u128::from(self.chances.errors.draw());
        self.nodes[usize::from(node)].wipe(fresh);
        self.checker.wiped(node);
        self.coverage.wipes += 1;
        self.trace.note(self.now, What::Wipe { node });
    }

    /// A node's disks have no room for further segments, or have some again.
    pub fn set_disk_full(&mut self, node: u8, is_full: bool) {
        self.full.retain(|full| *full != node);
        if is_full {
            self.full.push(node);
            self.coverage.full_disks += 1;
        }
        let space = if is_full { LogSpace::Full } else { LogSpace::Available };
        for id in self.core_ids(node) {
            if let Some(shard) = self.core(id).shard.as_mut() {
                shard.set_log_space(space);
            }
            self.pump(id);
        }
    }

    /// Has every core of a node begin a checkpoint. Their numbers.
    ///
    /// # Panics
    ///
    /// When the node is down, or a core has nothing to hold.
    pub fn request_checkpoint(&mut self, node: u8) -> Vec<CheckpointId> {
        let ids = self.core_ids(node);
        let order = |id: CoreId| {
            let shard = self.core(id).shard.as_mut().expect("told while it is up");
            let number = shard.request_checkpoint().expect("it has written something");
            self.pump(id);
            number
        };
        ids.into_iter().map(order).collect()
    }

    /// Stops or resumes the cleaner of every core of a node that runs.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn pause_cleaner(&mut self, node: u8, is_paused: bool) {
        for id in self.core_ids(node) {
            let shard = self.core(id).shard.as_mut().expect("told while it is up");
            if is_paused {
                shard.pause_cleaner();
            } else {
                shard.resume_cleaner();
            }
            self.pump(id);
        }
    }

    /// Lets every core of a node that runs catch up this fast.
    ///
    /// # Panics
    ///
    /// When the node is down.
    pub fn set_catch_up_rates(&mut self, node: u8, rates: CatchUpRates) {
        for id in self.core_ids(node) {
            let shard = self.core(id).shard.as_mut().expect("told while it is up");
            shard.set_catch_up_rates(rates);
            self.pump(id);
        }
    }

    /// Messages for which `hold` says so are kept back until [`World::release_held`].
    pub fn hold(&mut self, hold: impl Fn(CoreId, CoreId, &PeerMessage) -> bool + 'static) {
        self.hold = Some(Hold(Box::new(hold)));
    }

    /// Delivers the messages kept back, and keeps back no more.
    pub fn release_held(&mut self) -> usize {
        self.hold = None;
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (from, to, message) in held {
            self.send(from, to, message);
        }
        count
    }

    /// Delivers those of the messages kept back that match, in order; the others stay.
    pub fn release_matching(
        &mut self,
        matches: impl Fn(CoreId, CoreId, &PeerMessage) -> bool,
    ) -> usize {
        let held = std::mem::take(&mut self.held);
        let hold = self.hold.take();
        let mut count = 0;
        for (from, to, message) in held {
            if matches(from, to, &message) {
                self.send(from, to, message);
                count += 1;
            } else {
                self.held.push((from, to, message));
            }
        }
        self.hold = hold;
        count
    }

    /// Forgets the messages kept back, and keeps back no more: they are lost.
    pub fn forget_held(&mut self) {
        self.hold = None;
        self.held.clear();
    }

    /// How many messages are kept back.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.held.len()
    }
}
