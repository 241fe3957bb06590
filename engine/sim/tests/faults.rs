//! Random faults: a safety phase with crashes and a rough network, then a liveness phase without.

use engine::config::ShardConfig;
use net::resp::slot::entity_of;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::history::counters::{Operation, check_counters};
use sim::world::World;

struct Client {
    node: u8,
    open: Option<Open>,
}

/// The operation under way.
#[derive(Clone)]
struct Open {
    ticket: u64,
    request_id: String,
    /// Its place in the history.
    place: usize,
    /// The node that was asked, and its boot: a reply dies with it.
    asked: (u8, u32),
}

struct Run {
    world: World,
    history: Vec<Operation>,
    clients: Vec<Client>,
    submitted: usize,
    retries: usize,
    crashes: usize,
}

const KEYS: u64 = 5;

impl Run {
    fn start_operation(&mut self, client: usize) {
        let node = self.clients[client].node;
        if !self.world.is_up(node) {
            let next = (node + 1) % self.world.node_count();
            self.clients[client].node = next;
            return;
        }
        let key = format!("counter{}", self.world.below(KEYS));
        let is_increment = self.world.below(10) < 6;
        let id = format!("{client}-{}", self.submitted);
        let ticket = if is_increment {
            self.world.submit_once(node, &["INCR", &key], &id)
        } else {
            self.world.submit(node, &["GET", &key])
        };
        let called_at = self.world.now();
        self.history.push(Operation { key, is_increment, called_at, replied: None });
        let (place, asked) = (self.history.len() - 1, (node, self.world.epoch(node)));
        self.clients[client].open = Some(Open { ticket, request_id: id, place, asked });
        self.submitted += 1;
    }

    /// The reply is in, or the node died: note it, or try the same again elsewhere.
    fn look_at(&mut self, client: usize) {
        let Some(open) = self.clients[client].open.clone() else { return };
        let Open { ticket, request_id, place, asked: (node, epoch) } = open;
        let reply = self.world.reply(ticket).map(|(at, value)| (at, value.clone()));
        let failed = match &reply {
            Some((_, Value::Error(_))) => true,
            Some(_) => false,
            None => !self.world.is_up(node) || self.world.epoch(node) != epoch,
        };
        if let (Some(replied), false) = (reply, failed) {
            self.history[place].replied = Some(replied);
            self.clients[client].open = None;
        } else if failed {
            let next = (self.clients[client].node + 1) % self.world.node_count();
            self.clients[client].node = next;
            if !self.world.is_up(next) {
                return;
            }
            self.retries += 1;
            let key = self.history[place].key.clone();
            let ticket = if self.history[place].is_increment {
                self.world.submit_once(next, &["INCR", &key], &request_id)
            } else {
                // A read may be given up: nobody saw its answer.
                self.clients[client].open = None;
                return;
            };
            let asked = (next, self.world.epoch(next));
            self.clients[client].open = Some(Open { ticket, request_id, place, asked });
        }
    }
}

fn random_node(world: &mut World) -> u8 {
    let nodes = u64::from(world.node_count());
    u8::try_from(world.below(nodes)).expect("few nodes")
}

fn run(seed: u64, cores: &[u16], operations: usize, configure: fn(&mut ShardConfig)) -> Run {
    let mut world = World::new(seed, cores, Faults::ROUGH, configure);
    world.run_for(50_000);
    let nodes = world.node_count();
    let clients = (0..8).map(|client| Client { node: client % nodes, open: None }).collect();
    let mut run = Run { world, history: Vec::new(), clients, submitted: 0, retries: 0, crashes: 0 };
    // Safety: faults of every kind, at most a minority down at a time for long.
    while run.submitted < operations {
        for client in 0..run.clients.len() {
            if run.clients[client].open.is_none() {
                run.start_operation(client);
            } else {
                run.look_at(client);
            }
        }
        let pause = 1 + run.world.below(3_000);
        run.world.run_for(pause);
        match run.world.below(200) {
            0..4 => {
                let node = random_node(&mut run.world);
                if run.world.is_up(node) {
                    run.world.crash(node);
                    run.crashes += 1;
                }
            }
            4..12 => {
                let node = random_node(&mut run.world);
                if !run.world.is_up(node) {
                    run.world.start(node);
                }
            }
            12..14 => {
                let from = random_node(&mut run.world);
                let to = random_node(&mut run.world);
                run.world.cut(from, to);
            }
            14..20 => run.world.heal(),
            20 => {
                for node in 0..nodes {
                    if run.world.is_up(node) {
                        run.world.crash(node);
                        run.crashes += 1;
                    }
                }
            }
            _ => {}
        }
    }
    // Liveness: no more faults; everything ends and all replicas converge.
    run.world.set_faults(Faults::NONE);
    run.world.heal();
    for node in 0..nodes {
        if !run.world.is_up(node) {
            run.world.start(node);
        }
    }
    for _ in 0..2000 {
        for client in 0..run.clients.len() {
            run.look_at(client);
        }
        if run.clients.iter().all(|client| client.open.is_none()) {
            break;
        }
        run.world.run_for(10_000);
    }
    if let Some(open) = run.clients.iter().find_map(|client| client.open.clone()) {
        let key = &run.history[open.place].key;
        let everywhere = inspect_everywhere(&mut run.world, key);
        panic!("seed {seed}: a command on {key} did not end:\n{everywhere}");
    }
    run
}

/// What every node says of a key's entity.
fn inspect_everywhere(world: &mut World, key: &str) -> String {
    let mut said = String::new();
    for node in 0..world.node_count() {
        let ticket = world.inspect(node, key);
        let value = world.answer(ticket, 1_000_000);
        said.push_str(&format!("node {node}: {value:?}\n"));
    }
    said
}

fn check(seed: u64, run: &mut Run) {
    let checked = check_counters(&run.history)
        .unwrap_or_else(|violation| panic!("seed {seed}: linearizable: {violation:?}"));
    assert!(checked > 0, "a run that checked nothing");
    // exactly-once: every increment was retried until it was answered.
    for key in 0..KEYS {
        let key = format!("counter{key}");
        let increments = run.history.iter().filter(|op| op.key == key && op.is_increment).count();
        let get = run.world.submit(0, &["GET", &key]);
        let expected = if increments == 0 {
            Value::Null
        } else {
            Value::bulk(increments.to_string().into_bytes())
        };
        assert_eq!(run.world.answer(get, 10_000_000), expected, "seed {seed}: {key}");
    }
    // convergence, without anybody touching the entities; the slow sweep is the backstop.
    run.world.run_for(2_500_000);
    for key in 0..KEYS {
        let entity = entity_of(format!("counter{key}").as_bytes());
        let chains = run.world.chains(entity);
        let first = chains.first().map(|chain| (chain.1, chain.2));
        if chains.iter().any(|chain| Some((chain.1, chain.2)) != first) {
            let everywhere = inspect_everywhere(&mut run.world, &format!("counter{key}"));
            panic!("seed {seed}: counter{key} did not converge: {chains:?}\n{everywhere}");
        }
    }
    assert!(run.world.checker.compared.applied > 100);
}

fn first_seed() -> u64 {
    std::env::var("CERTUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let count = std::env::var("CERTUS_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    first_seed()..first_seed() + count.unwrap_or(default)
}

fn short_times(config: &mut ShardConfig) {
    config.sweep_every_us = 500_000;
    config.retry_us = 20_000;
    config.request_timeout_us = 1_000_000;
}

#[test]
fn three_replicas_keep_every_promise_under_random_faults() {
    let mut crashes = 0;
    for seed in seeds(40) {
        let mut run = run(seed, &[1, 1, 1], 150, short_times);
        check(seed, &mut run);
        crashes += run.crashes;
    }
    assert!(crashes > 0, "a range without a crash");
}

#[test]
fn five_replicas_with_different_core_counts_keep_every_promise() {
    for seed in seeds(20) {
        let mut run = run(seed, &[1, 2, 1, 3, 1], 100, short_times);
        check(seed, &mut run);
    }
}

#[test]
fn eviction_at_every_turn_forgets_nothing() {
    for seed in seeds(30) {
        let mut run = run(seed, &[1, 1, 1], 150, |config| {
            short_times(config);
            config.entities_in_memory_max = 2;
            config.image_every_entries = 4;
            config.hold_entries = 2;
            config.max_embedded_value = 4;
        });
        // All are evictable again only when nothing is asked.
        check(seed, &mut run);
        assert!(run.retries < 10_000);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let run = run(seed, &[1, 1, 1], 60, short_times);
        (
            run.world.now(),
            run.world.delivered,
            run.world.checker.compared.applied,
            run.history.len(),
        )
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
