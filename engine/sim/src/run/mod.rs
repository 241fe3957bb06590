//! One run: a cluster from one seed, a safety phase with faults, then a liveness phase without.
//!
//! In the safety phase clients ask while the [`schedule`](crate::schedule) happens; the checkers
//! look at every step. Then the faults stop, everybody who can come back does, and in bounded time
//! every command must end and all replicas must hold the same. At last the judges look at what
//! clients were told.

use std::collections::BTreeMap;

use engine::request::Freshness;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::Violation;
use crate::clients::Clients;
use crate::coverage::Coverage;
use crate::faults::Faults;
use crate::history::model::State;
use crate::history::{ChosenBatch, ChosenLog, versions, wgl};
use crate::mixes::Mix;
use crate::random::Random;
use crate::schedule::{Item, Kind, generate};
use crate::world::{Lagging, World, WorldConfig};

mod divergence;
mod followers;
mod membership;
mod tails;

/// The clients come to an end within this time, whatever happens before the schedule is over: else
/// a cluster that lost its majority for good would be a run without an end.
const SAFETY_WITHIN_US: u64 = 60_000_000;

/// The world's time for which a schedule is made, in microseconds; most runs are shorter.
const SCHEDULE_US: u64 = 3_000_000;

/// The links come up before the first command.
const BEGIN_US: u64 = 20_000;

/// A node that ended by itself is started again after this time, in microseconds.
const RESTARTS_AFTER_US: u64 = 30_000;

/// After the faults every command must end within this time.
const ENDS_WITHIN_US: u64 = 20_000_000;

/// The key of commands that are no part of the history.
const PROMPT_KEY: &[u8] = b"{prompt}";

/// A command that nothing hinders is answered within this time: half a client's patience.
const PROMPT_US: u64 = 500_000;

/// So long nothing must be chosen before the history is looked at: many times the longest retry and
/// back-off.
const QUIET_US: u64 = 400_000;

/// And all replicas must hold the same within this time after that.
const CONVERGES_WITHIN_US: u64 = 10_000_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// 3 or 5: nodes, or where the membership changes, those that vote at first.
    pub replicas: u8,
    /// The mix.
    pub mix: &'static Mix,
    /// Commands.
    pub operations: usize,
    /// What happens; see [`Plan::new`].
    pub schedule: Vec<Item>,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Commands asked.
    pub operations: usize,
    /// Commands answered without an error.
    pub completed: usize,
    /// What it reached.
    pub coverage: Coverage,
    /// Comparisons made by the checkers and judges.
    pub compared: u64,
    /// Tells runs apart.
    pub hash: u64,
    /// The first rule that was broken, with the last events.
    pub violation: Option<(Violation, String)>,
}

impl Plan {
    /// The run of a seed, with the schedule that follows from it.
    #[must_use]
    pub fn new(seed: u64, replicas: u8, mix: &'static Mix, operations: usize) -> Self {
        let victims = victims(seed, replicas);
        let nodes = nodes(mix, replicas);
        let schedule = generate(seed, &mix.rates, nodes, &victims, BEGIN_US, SCHEDULE_US);
        Self { seed, replicas, mix, operations, schedule }
    }
}

/// How many nodes there are.
fn nodes(mix: &Mix, replicas: u8) -> u8 {
    if mix.changes_membership() { plog::configuration::SLOTS_MAX } else { replicas }
}

/// The nodes whose disks may be damaged: as many as may fail at a time.
fn victims(seed: u64, replicas: u8) -> Vec<u8> {
    let first = u8::try_from(Random::stream(seed, "victims").below(u64::from(replicas)));
    let first = first.expect("few replicas");
    (0..replicas / 2).map(|number| (first + number) % replicas).collect()
}

/// How many cores each node has.
fn cores(seed: u64, replicas: u8) -> Vec<u16> {
    let mut random = Random::stream(seed, "cores");
    // Most runs have one core per node: with fewer links they are faster.
    let most = [1, 1, 2, 3][random.index(4)];
    (0..replicas).map(|_| 1 + u16::try_from(random.below(most)).expect("few")).collect()
}

/// How replicas find out what they lack: in a quarter of the runs by what each peer confirmed
/// alone, in a quarter by comparing everything alone, so that neither makes up for the other.
fn lagging(seed: u64) -> Lagging {
    let mut random = Random::stream(seed, "lagging");
    let entities_max = [2, 6, 1024][random.index(3)];
    match random.below(4) {
        0 => Lagging { digest_every_us: 0, entities_max },
        1 => Lagging { digest_every_us: 500_000, entities_max: 0 },
        _ => Lagging { digest_every_us: 2_000_000, entities_max },
    }
}

/// What ends a while after it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Start(u8),
    Heal,
    MakeRoom(u8),
}

struct Run<'a> {
    plan: &'a Plan,
    world: World,
    clients: Clients,
    next_item: usize,
    /// What ends when, ascending.
    ends: Vec<(u64, End)>,
    /// What followers were asked: a write, a read, and a local read each time.
    follower_asked: Vec<[u64; 3]>,
    /// What operators want of the membership.
    goals: Vec<membership::Goal>,
    members_random: Random,
    tails: Vec<tails::SimTail>,
}

/// Runs a plan to its end, or to the first violation.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let mix = plan.mix;
    let mut world = World::with_config(WorldConfig {
        seed: plan.seed,
        cores: cores(plan.seed, nodes(mix, plan.replicas)),
        faults: mix.faults,
        transport: mix.transport,
        configure: mix.configure,
        segment_size: mix.segment_size,
        frame_size_max: mix.frame_size_max,
        segments_max: mix.segments_max,
        recycles: mix.recycles,
        drift_ppm_max: mix.drift_ppm_max,
        mirrors: mix.mirrors,
        followers: followers::cores(plan.seed, mix),
        lagging: Some(lagging(plan.seed)),
        membership: mix.changes_membership().then_some(plan.replicas),
    });
    let victims = victims(plan.seed, plan.replicas);
    let harms = mix.rates.rot + mix.rates.misdirections > 0 || mix.faults.read_error > 0;
    for victim in victims.iter().filter(|_| harms) {
        world.may_be_damaged(*victim);
    }
    world.advance(BEGIN_US);
    let tails = tails::tails(plan.seed, mix, &world);
    let mut run = Run {
        plan,
        world,
        clients: Clients::new(plan.seed, mix.workload, plan.operations),
        next_item: 0,
        ends: Vec::new(),
        follower_asked: Vec::new(),
        goals: Vec::new(),
        members_random: Random::stream(plan.seed, "members"),
        tails,
    };
    let result = run.phases();
    run.report(result)
}

impl Run<'_> {
    fn phases(&mut self) -> Result<u64, Violation> {
        self.safety()?;
        self.liveness()?;
        self.membership()?;
        self.promptness()?;
        self.quiet_convergence()?;
        self.touch_everything()?;
        self.healing()?;
        self.settle()?;
        let chosen = self.chosen_log()?;
        let history = self.clients.history();
        let checked = versions::check(history, &chosen)?;
        let windows = wgl::check_windows(history, &chosen)?;
        self.followers_in_step()?;
        self.convergence(&chosen, &checked.states)?;
        self.follower_replies()?;
        self.tails_tell_everything(&chosen)?;
        self.files_say_the_same()?;
        self.divergence()?;
        let compared = self.world.checker.compared;
        if compared.votes == 0 || compared.messages == 0 || compared.replies == 0 {
            return Err(Violation::new("the run", "nothing was compared"));
        }
        let judged = checked.reads + checked.writes + checked.real_time_pairs + windows;
        Ok(compared.total() + u64::try_from(judged).expect("counts fit 64 bits"))
    }

    /// Whether a rule was broken.
    fn fine(&self) -> Result<(), Violation> {
        self.world.violation().map_or(Ok(()), |violation| Err(violation.clone()))
    }

    fn safety(&mut self) -> Result<(), Violation> {
        let mut random = Random::stream(self.plan.seed, "pauses");
        while !self.clients.all_asked() {
            self.clients.turn(&mut self.world);
            self.ask_followers();
            self.step_tails()?;
            self.happen();
            let pause = 1 + random.below(2_000);
            self.world.advance(pause);
            self.fine()?;
            if self.world.now() > SAFETY_WITHIN_US {
                return Err(Violation::new("liveness", "the clients come to no end"));
            }
        }
        Ok(())
    }

    /// Does what the schedule has for this time.
    fn happen(&mut self) {
        let now = self.world.now();
        while let Some((at, end)) = self.ends.first().copied()
            && at <= now
        {
            self.ends.remove(0);
            self.end(end);
        }
        while let Some(item) = self.plan.schedule.get(self.next_item).copied()
            && item.at <= now
        {
            self.next_item += 1;
            self.begin(item);
        }
        self.pursue();
        // A node that ended by itself, for a failed write, is started again by its supervisor.
        for node in self.world.all_nodes() {
            let start = End::Start(node);
            let is_planned = self.ends.iter().any(|(_, end)| *end == start);
            if !self.world.is_up(node) && !is_planned {
                self.ends_at(now + RESTARTS_AFTER_US, start);
            }
        }
    }

    fn ends_at(&mut self, at: u64, end: End) {
        let place = self.ends.partition_point(|(other, _)| *other <= at);
        self.ends.insert(place, (at, end));
    }

    fn crash(&mut self, node: u8, starts_at: u64) {
        if self.world.is_up(node) {
            self.world.crash(node);
            self.ends_at(starts_at, End::Start(node));
        } else if self.world.crash_registering(node) {
            self.ends_at(starts_at, End::Start(node));
        }
    }

    /// Whether a node may lose its disks: it holds all it ever held, and with those that may not,
    /// or whose disks may rot, no more than a minority loses anything at a time.
    fn may_lose(&self, node: u8) -> bool {
        let world = &self.world;
        if world.changes_membership() {
            return self.members_may_lose(node);
        }
        let others = (0..world.node_count()).filter(|other| *other != node);
        let lossy = others.filter(|other| !world.is_whole(*other) || world.is_damageable(*other));
        world.is_whole(node) && lossy.count() < usize::from(world.node_count() / 2)
    }

    fn begin(&mut self, item: Item) {
        let Item { kind, node, other, duration_us, .. } = item;
        let until = self.world.now() + duration_us;
        let nodes = self.world.node_count();
        match kind {
            Kind::Crash => self.crash(node, until),
            Kind::CrashBetweenOutputs => {
                let outputs = u32::try_from(duration_us % 12).expect("below 12");
                self.world.crash_after_outputs(node, outputs);
                self.ends_at(until, End::Start(node));
            }
            Kind::AllCrash => {
                for node in 0..nodes {
                    self.crash(node, until + u64::from(node) * 1_000);
                }
            }
            Kind::Cut => {
                self.world.coverage.one_way_cuts += 1;
                self.world.cut(node, other);
                self.ends_at(until, End::Heal);
            }
            Kind::Isolate => {
                self.world.coverage.partitions += 1;
                for other in self.world.all_nodes().filter(|other| *other != node) {
                    self.world.cut(node, other);
                    self.world.cut(other, node);
                }
                self.ends_at(until, End::Heal);
            }
            Kind::BreakLink => self.world.break_links(node, other),
            Kind::Freeze => self.world.freeze(node, duration_us),
            Kind::JumpClock => self.world.jump_clock(node, duration_us),
            Kind::FillDisk => {
                self.world.set_disk_full(node, true);
                self.ends_at(until, End::MakeRoom(node));
            }
            Kind::Rot => {
                self.world.rot(node);
            }
            Kind::Misdirect => {
                self.world.misdirect(node);
            }
            Kind::ChangeMembers => self.want(node, other, duration_us),
            Kind::Wipe => {
                if self.may_lose(node) {
                    self.crash(node, until);
                    self.world.wipe(node);
                }
            }
            Kind::FollowerCrash => self.crash_follower(item, until),
            Kind::FollowerCut => self.cut_follower(item, until),
        }
    }

    fn end(&mut self, end: End) {
        match end {
            End::Start(node) => {
                if !self.world.is_up(node) {
                    self.world.start(node);
                }
            }
            End::Heal => self.world.heal(),
            End::MakeRoom(node) => self.world.set_disk_full(node, false),
        }
    }

    fn liveness(&mut self) -> Result<(), Violation> {
        self.world.set_faults(Faults::NONE);
        self.world.heal();
        self.world.thaw();
        // A write that is to fail may be under way yet, and end its node.
        self.world.advance(RESTARTS_AFTER_US);
        for node in self.world.all_nodes() {
            self.world.forget_planned_crash(node);
            self.world.set_disk_full(node, false);
            if !self.world.is_up(node) {
                self.world.start(node);
            }
        }
        let deadline = self.world.now() + ENDS_WITHIN_US;
        while !self.clients.all_ended() {
            self.fine()?;
            if self.world.now() > deadline {
                let open = self.clients.open_commands().join(", ");
                let what = format!("after the faults these never end: {open}");
                return Err(Violation::new("liveness", what));
            }
            self.clients.turn(&mut self.world);
            self.world.advance(2_000);
        }
        self.healing()
    }

    /// With nothing in the way, whoever lost something comes to hold it again: by itself, or once
    /// it is started anew where it found the loss while it ran.
    fn healing(&mut self) -> Result<(), Violation> {
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        loop {
            for node in self.world.all_nodes() {
                if self.world.is_up(node) && self.world.has_loss(node) {
                    self.world.crash(node);
                    self.world.start(node);
                }
            }
            self.world.advance(20_000);
            self.fine()?;
            let lost = self.takers().find(|node| !self.world.is_whole(*node));
            let Some(node) = lost else { return Ok(()) };
            if self.world.now() > deadline {
                let what = format!("node {node} lost something and never takes part again");
                return Err(Violation::new("rejoin", what));
            }
        }
    }

    /// Every entity of which something is chosen.
    fn entities(&self) -> Vec<EntityId> {
        self.world.checker.agreement.histories().map(|(entity, _)| entity).collect()
    }

    /// Waits for the reply to a command, and stops at a violation; `None` when there is none in
    /// time.
    fn await_reply(&mut self, ticket: u64, deadline: u64) -> Result<Option<Value>, Violation> {
        self.world.run_until(deadline, |world| world.reply(ticket).is_some());
        self.fine()?;
        Ok(self.world.reply(ticket).map(|(_, value)| value.clone()))
    }

    /// Nodes that have to hold everything in the end.
    fn whole_nodes(&self) -> Vec<u8> {
        let world = &self.world;
        self.takers().filter(|node| world.is_up(*node) && !world.is_follower(*node)).collect()
    }

    /// Members and followers.
    fn takers(&self) -> impl Iterator<Item = u8> {
        let world = &self.world;
        world.all_nodes().filter(|node| world.is_member(*node) || world.is_follower(*node))
    }

    /// The same, and the followers.
    fn holders(&self) -> Vec<u8> {
        self.takers().filter(|node| self.world.is_up(*node)).collect()
    }

    fn convergence(
        &mut self,
        chosen: &ChosenLog,
        states: &BTreeMap<EntityId, State>,
    ) -> Result<(), Violation> {
        let last = |log: &Vec<ChosenBatch>| Entry(u64::try_from(log.len()).expect("few entries"));
        self.converge(|_| chosen.iter().map(|(entity, log)| (*entity, last(log))).collect())?;
        // Their content, too, read from each by itself.
        for node in self.holders() {
            for (entity, state) in states {
                // A node whose disks were damaged may lag behind; what it holds it must hold right,
                // and of what it abstains from the others' word.
                let wanted = chosen.get(entity).map_or(Entry::ZERO, last);
                let is_behind = self.world.chosen_here(node, *entity) < wanted;
                if is_behind && !self.world.abstains(node, *entity) {
                    continue;
                }
                for (key, record) in &state.keys {
                    let words = [&b"GET"[..], &**key];
                    assert_eq!(entity_of(key), *entity);
                    let ticket = self.world.submit_bytes(node, &words, None, Freshness::Local);
                    let at = self.world.now() + 1_000_000;
                    let reply = self.await_reply(ticket, at)?;
                    if reply != Some(Value::bulk(record.value.to_vec())) {
                        let key = String::from_utf8_lossy(key);
                        let what = format!("node {node} holds {reply:?} for {key} in the end");
                        return Err(Violation::new("convergence", what));
                    }
                }
            }
        }
        Ok(())
    }

    /// What a node holds follows from its files alone: each entity is read, so that it is in
    /// memory, and compared with a mirror of them.
    fn files_say_the_same(&mut self) -> Result<(), Violation> {
        if !self.world.replays_disks() {
            return Ok(());
        }
        // What was caught up last may wait for the disk yet.
        self.world.advance(QUIET_US);
        self.fine()?;
        for node in self.holders() {
            if self.world.is_damageable(node) {
                continue;
            }
            let replayers = self.world.replay_files(node)?;
            for entity in self.entities() {
                let words = ["GET", "nothing"];
                let ticket = self.world.submit_for(node, entity, &words, None, Freshness::Local);
                let deadline = self.world.now() + PROMPT_US;
                self.await_reply(ticket, deadline)?;
                self.world.same_state(node, entity, &replayers)?;
            }
        }
        Ok(())
    }

    /// With nothing in the way, commands are answered soon, even when all nodes want the same
    /// entity.
    fn promptness(&mut self) -> Result<(), Violation> {
        let nodes = self.whole_nodes();
        let mut tickets = Vec::new();
        for number in 0..3 * nodes.len() {
            let node = nodes[number % nodes.len()];
            tickets.push((node, self.ask_promptly(node)));
            self.world.advance(if number % 3 == 0 { 300 } else { 0 });
        }
        let deadline = self.world.now() + PROMPT_US;
        while let Some((node, ticket)) = tickets.pop() {
            match self.await_reply(ticket, deadline)? {
                Some(Value::Integer(_)) => {}
                // Memory for two entities may be in use for a moment.
                Some(Value::Error(error)) if error.word() == "BUSY" => {
                    self.world.advance(1_000);
                    tickets.push((node, self.ask_promptly(node)));
                }
                reply => {
                    let what = format!("a command without faults was answered {reply:?} in time");
                    return Err(Violation::new("promptness", what));
                }
            }
        }
        Ok(())
    }

    fn ask_promptly(&mut self, node: u8) -> u64 {
        let words = [&b"APPEND"[..], PROMPT_KEY, b"x"];
        self.world.submit_bytes(node, &words, None, Freshness::Linearizable)
    }

    /// Replicas come to hold what any of them knows, without a client touching anything. What only
    /// one that abstains knows, nobody hears of.
    fn quiet_convergence(&mut self) -> Result<(), Violation> {
        let entities = self.entities();
        self.converge(|run| {
            let nodes = run.whole_nodes();
            let known = |entity: &EntityId| {
                let of = |node: &u8| run.world.chosen_here(*node, *entity);
                let speak = nodes.iter().filter(|node| !run.world.abstains(**node, *entity));
                (*entity, speak.map(of).max().unwrap_or_default())
            };
            entities.iter().map(known).collect()
        })
    }

    /// Reads every entity at a node that is whole: what a majority accepted and nobody knows to be
    /// chosen comes to its end. And wherever it abstains: its clients are served all the same.
    fn touch_everything(&mut self) -> Result<(), Violation> {
        let entities = self.entities();
        let nodes = self.whole_nodes();
        let Some(node) = nodes.iter().find(|node| !self.world.is_damageable(**node)) else {
            return Err(Violation::new("the run", "no node is whole"));
        };
        for entity in entities {
            self.touch(*node, entity)?;
            for abstainer in &nodes {
                if self.world.abstains(*abstainer, entity) {
                    self.touch(*abstainer, entity)?;
                }
            }
        }
        Ok(())
    }

    fn touch(&mut self, node: u8, entity: EntityId) -> Result<(), Violation> {
        let words = ["GET", "nothing"];
        let ticket = self.world.submit_for(node, entity, &words, None, Freshness::Linearizable);
        let deadline = self.world.now() + ENDS_WITHIN_US;
        let reply = self.await_reply(ticket, deadline)?;
        if reply != Some(Value::Null) {
            let what = format!("a read of {entity:?} at node {node} in the end: {reply:?}");
            return Err(Violation::new("liveness", what));
        }
        Ok(())
    }

    /// Waits until nothing is chosen any more: a command whose client gave up may be under way yet.
    fn settle(&mut self) -> Result<(), Violation> {
        let chosen = |run: &Self| {
            let histories = run.world.checker.agreement.histories();
            histories.map(|(_, values)| values.len()).sum::<usize>()
        };
        let deadline = self.world.now() + ENDS_WITHIN_US;
        loop {
            let before = chosen(self);
            self.world.advance(QUIET_US);
            self.fine()?;
            if chosen(self) == before {
                return Ok(());
            }
            if self.world.now() > deadline {
                return Err(Violation::new("liveness", "entries are chosen for nobody, for ever"));
            }
        }
    }

    /// Waits until every whole node holds every entity up to what `wanted` says.
    fn converge(
        &mut self,
        wanted: impl Fn(&Self) -> BTreeMap<EntityId, Entry>,
    ) -> Result<(), Violation> {
        let deadline = self.world.now() + CONVERGES_WITHIN_US;
        loop {
            self.world.advance(20_000);
            self.fine()?;
            let Some(behind) = self.first_behind(&wanted(self)) else { return Ok(()) };
            if self.world.now() > deadline {
                return Err(Violation::new("convergence", behind));
            }
        }
    }

    /// A replica that holds less than it should, in words.
    fn first_behind(&self, wanted: &BTreeMap<EntityId, Entry>) -> Option<String> {
        for node in self.holders() {
            for (entity, last) in wanted {
                let held = self.world.chosen_here(node, *entity);
                if held < *last && !self.world.is_damageable(node) {
                    return Some(format!(
                        "node {node} has {entity:?} up to {held:?} of {last:?}, with nothing in \
                         its way"
                    ));
                }
            }
        }
        None
    }

    fn chosen_log(&self) -> Result<ChosenLog, Violation> {
        let mut log = ChosenLog::new();
        for (entity, values) in self.world.checker.agreement.histories() {
            if entity == entity_of(PROMPT_KEY) {
                continue;
            }
            let batches: Result<Vec<ChosenBatch>, _> =
                values.iter().map(|value| ChosenBatch::parse(value)).collect();
            let batches = batches.map_err(|error| {
                Violation::new("validity", format!("{entity:?}: a chosen value: {error}"))
            })?;
            log.insert(entity, batches);
        }
        Ok(log)
    }

    fn report(mut self, result: Result<u64, Violation>) -> Report {
        self.world.coverage.add_counters(&self.world.counters());
        self.world.coverage.add_followers(&self.world.follower_counters());
        self.world.coverage.lag_compared = self.world.checker.compared.confirmed;
        let (compared, violation) = match result {
            Ok(compared) => (compared, None),
            Err(violation) => (0, Some((violation, self.world.trace.to_string()))),
        };
        Report {
            operations: self.clients.asked(),
            completed: self.clients.completed(),
            coverage: self.world.coverage,
            compared,
            hash: self.world.trace.hash(),
            violation,
        }
    }
}
