//! Nodes are killed under load, over and over: nothing acknowledged is lost, nothing refused
//! happens, nothing happens twice, and all replicas end with one history.
//!
//! `KILL_CYCLES` says how many kills there are, `KILL_SEED` their order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should fail loudly, and say what it did"
)]

mod cluster;

use std::env;
use std::thread;
use std::time::Duration;

use cluster::Cluster;
use cluster::load::{Fate, check_history, under_load};
use cluster::random::Random;

/// Kills of one cluster, a multiple of those of a round. The log only grows and every start reads
/// all of it, so a cluster that is killed a thousand times does little else.
const CYCLES_PER_CLUSTER: u64 = 120;

const CYCLES: u64 = 120;
const CYCLES_PER_ROUND: u64 = 6;

#[test]
fn killed_nodes_lose_nothing_and_agree_when_they_are_back() {
    let number = |name: &str, default: u64| {
        env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (cycles, seed) = (number("KILL_CYCLES", CYCLES), number("KILL_SEED", 1));
    println!("{cycles} kills, KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::start("kill-cycles");
    let (mut cycle, mut round) = (0, 0);
    let mut acknowledged = 0;
    while cycle < cycles {
        if cycle > 0 && cycle % CYCLES_PER_CLUSTER == 0 {
            drop(cluster);
            cluster = Cluster::start("kill-cycles");
        }
        let cycles_here = CYCLES_PER_ROUND.min(cycles - cycle);
        acknowledged += under_load(&mut cluster, round, |cluster, progress| {
            for number in cycle..cycle + cycles_here {
                progress.wait();
                kill_and_restart(cluster, number, &mut random);
            }
        });
        cycle += cycles_here;
        println!("{cycle} kills: {acknowledged} acknowledged words are all there");
        round += 1;
    }
    assert!(acknowledged > cycles, "a run that acknowledged next to nothing proves nothing");
}

/// One kill: of each node in turn, of two, of all, or of one that is just coming back.
fn kill_and_restart(cluster: &mut Cluster, number: u64, random: &mut Random) {
    let first = random.below(3);
    let others = [(first + 1) % 3, (first + 2) % 3];
    match number % 6 {
        kind @ 0..3 => {
            let one = usize::try_from(kind).expect("below three");
            cluster.kill(one);
            cluster.restart(one);
        }
        3 => {
            for id in [first, others[0]] {
                cluster.kill(id);
            }
            for id in [others[0], first] {
                cluster.restart(id);
            }
        }
        4 => {
            for id in [first, others[0], others[1]] {
                cluster.kill(id);
            }
            for id in [others[1], first, others[0]] {
                cluster.restart(id);
            }
        }
        _ => {
            cluster.kill(first);
            cluster.restart(first);
            // Somewhere between its first instruction and its first answer.
            thread::sleep(Duration::from_millis(random.next() % 120));
            cluster.kill(first);
            cluster.restart(first);
        }
    }
    for id in 0..3 {
        cluster.wait_until_ready(id);
    }
}

#[test]
fn the_checks_of_a_history_can_fail() {
    let sent = |fates: &[Fate]| -> Vec<(String, Fate)> {
        fates.iter().enumerate().map(|(word, fate)| (format!("{word},"), *fate)).collect()
    };
    let fails =
        |fates: &[Fate], stored: &[&str]| check_history("key", &sent(fates), stored).is_err();
    use Fate::{Acknowledged, Refused, Unknown};
    assert!(!fails(&[Acknowledged, Unknown, Refused, Acknowledged], &["0,", "3,", "1,"]));
    assert!(fails(&[Acknowledged], &[]), "a lost word");
    assert!(fails(&[Acknowledged], &["0,", "0,"]), "a word twice");
    assert!(fails(&[Unknown], &["0,", "0,"]), "a word of unknown fate twice");
    assert!(fails(&[Refused], &["0,"]), "a refused word");
    assert!(fails(&[Acknowledged, Acknowledged], &["1,", "0,"]), "words out of order");
    assert!(fails(&[Acknowledged], &["0,", "7,"]), "a word nobody sent");
}
