//! A node dies under load: the clients of the others see no error and no long pause.

use engine::config::ShardConfig;
use net::resp::value::Value;
use sim::faults::Faults;
use sim::world::World;

fn as_is(_: &mut ShardConfig) {}

/// The longest time a command took, in virtual microseconds.
fn longest_pause(seed: u64, keys: u64) -> u64 {
    let faults = Faults { delay_max_us: 300, write_max_us: 1_000, ..Faults::NONE };
    let mut world = World::new(seed, &[1, 1, 1], faults, as_is);
    world.run_for(50_000);
    let mut open: Vec<Option<(u64, u64, String)>> = vec![None; 9];
    let kill_at = 100_000 + world.below(100_000);
    let mut longest = 0;
    let mut killed = false;
    while world.now() < 2_000_000 {
        if !killed && world.now() >= kill_at {
            killed = true;
            world.crash(1);
        }
        for client in 0..open.len() {
            let node = [0, 1, 2][client % 3];
            if node == 1 && killed {
                continue;
            }
            if let Some((ticket, since, what)) = open[client].clone() {
                let Some((at, value)) = world.reply(ticket).map(|(at, value)| (at, value.clone()))
                else {
                    let waited = world.now() - since;
                    assert!(waited < 1_000_000, "seed {seed}: {what} at {node} waits {waited} us");
                    continue;
                };
                assert!(!matches!(value, Value::Error(_)), "seed {seed}: {what}: {value:?}");
                longest = longest.max(at - since);
            }
            let key = format!("key{}", world.below(keys));
            let is_write = world.below(2) == 0;
            let words: &[&str] = if is_write { &["SET", &key, "v"] } else { &["GET", &key] };
            let since = world.now();
            let what = format!("{words:?}");
            open[client] = Some((world.submit(node, words), since, what));
        }
        let pause = 1 + world.below(100);
        world.run_for(pause);
    }
    assert!(killed);
    longest
}

#[test]
fn the_others_clients_notice_nothing_when_a_node_dies() {
    let seeds = std::env::var("CERTUS_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let first = std::env::var("CERTUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds.unwrap_or(6) {
        let keys = [2, 10, 50][usize::try_from(seed % 3).unwrap()];
        let longest = longest_pause(seed, keys);
        assert!(longest < 1_000_000, "seed {seed}: a command took {longest} us");
    }
}
