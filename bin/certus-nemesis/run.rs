//! One run, from the first node's start to the last word.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::{Arguments, FaultKind};
use crate::check::{self, Violation, excerpt, unknown};
use crate::cluster::Cluster;
use crate::conductor::{Conductor, GRACE};
use crate::console::Console;
use crate::disk::Kind;
use crate::ending;
use crate::evidence;
use crate::failure::Failure;
use crate::guard::MAY_MOUNT;
use crate::history::Operation;
use crate::plan::Plan;
use crate::scene::Scene;
use crate::workload::Workload;
use crate::workload::client::Record;

/// Answers before the first fault.
const WARM_UP_ANSWERS: u64 = 1000;

/// How long they may take.
const WARM_UP_WITHIN: Duration = Duration::from_secs(60);

/// Violations that are printed.
const PRINTED: usize = 10;

/// What the run comes to.
#[derive(Debug, Default)]
struct Verdict {
    operations: u64,
    unknown: usize,
    refused: u64,
    faults: u64,
    violations: Vec<Violation>,
    /// Why it proves nothing, if it does not.
    proves_nothing: Option<String>,
    history: Vec<Operation>,
}

impl Verdict {
    fn take(&mut self, failure: Failure) {
        match failure {
            Failure::Violation(violation) => self.violations.push(violation),
            other => {
                self.proves_nothing.get_or_insert_with(|| other.to_string());
            }
        }
    }
}

/// Runs in `directory`; the exit status.
///
/// # Errors
///
/// When nothing could be started.
pub fn run(arguments: &Arguments, directory: &Path, seed: u64) -> io::Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut console = Console::default();
    let faults: Vec<String> = arguments.faults.iter().map(ToString::to_string).collect();
    console.line(format!(
        "seed {seed}: scripts/nemesis --seconds {} --seed {seed} --nodes {} --cores {} --faults {}",
        arguments.seconds,
        arguments.nodes,
        arguments.cores,
        faults.join(",")
    ));
    let may_mount = std::env::var_os(MAY_MOUNT).is_some_and(|value| value == "1");
    let jumps = arguments.faults.contains(&FaultKind::Clock) && !arguments.pretend;
    let mut cluster = Cluster::prepare(arguments, directory, may_mount, jumps)?;
    let kind = cluster.disk_kind();
    if kind == Kind::Directory && arguments.faults.contains(&FaultKind::Full) {
        return Err(io::Error::other(
            "a full disk needs the right to mount one: run as root, or leave `full` out of --faults",
        ));
    }
    for id in cluster.ids() {
        cluster.start(id)?;
    }
    let begin = Instant::now();
    let workload = Workload::start(&cluster.addresses, 0, seed, begin);
    let mut scene = Scene::new(cluster, workload, interrupted);
    let mut verdict = Verdict::default();
    let mut conductor = Conductor::new(arguments.pretend);
    let played = prepare(&mut scene, arguments, seed, begin).and_then(|()| {
        scene.say(&format!(
            "{} clients, {} nodes, data on {kind:?}",
            arguments.clients, arguments.nodes
        ));
        let plan = Plan::new(seed, arguments.nodes, &arguments.faults, arguments.seconds);
        conductor.play(&mut scene, plan, Duration::from_secs(arguments.seconds.into()))?;
        // What comes after the last fault must be answered.
        scene.sleep(GRACE + Duration::from_secs(2))
    });
    verdict.faults = conductor.faults;
    let mut record = scene.workload.finish();
    verdict.operations = scene.workload.answered();
    let rate = verdict.operations / (scene.now() / 1_000_000).max(1);
    match played {
        Ok(()) => match ending::audit(&mut scene) {
            Ok(audited) => record.extend(audited),
            Err(failure) => verdict.take(failure),
        },
        Err(failure) => verdict.take(failure),
    }
    if verdict.proves_nothing.is_none()
        && verdict.violations.is_empty()
        && let Err(failure) = ending::stop(&mut scene)
    {
        verdict.take(failure);
    }
    judge(&mut verdict, record, &scene);
    if rate < arguments.rate_min {
        let what = format!("{rate} answers a second, fewer than --rate-min {}", arguments.rate_min);
        verdict.proves_nothing.get_or_insert(what);
    }
    // Whatever runs still ends here and now, before its files are removed.
    for id in scene.cluster.ids() {
        scene.cluster.node(id).kill()?;
    }
    Ok(report(&verdict, rate, directory, &mut scene))
}

/// Waits for the nodes, then for the clients.
fn prepare(
    scene: &mut Scene,
    arguments: &Arguments,
    seed: u64,
    begin: Instant,
) -> Result<(), Failure> {
    for id in scene.cluster.ids() {
        scene.wait_until_ready(id)?;
    }
    scene.workload = Workload::start(&scene.cluster.addresses, arguments.clients, seed, begin);
    let deadline = Instant::now() + WARM_UP_WITHIN;
    while scene.workload.answered() < WARM_UP_ANSWERS {
        if Instant::now() > deadline {
            let what = format!("no {WARM_UP_ANSWERS} answers within {WARM_UP_WITHIN:?}");
            return Err(Failure::ProvedNothing(what));
        }
        scene.sleep(Duration::from_millis(20))?;
    }
    Ok(())
}

fn judge(verdict: &mut Verdict, record: Record, scene: &Scene) {
    let Record { operations, unknowns, strange, refused } = record;
    verdict.refused = refused;
    verdict.history = operations;
    verdict.unknown = unknowns.len();
    verdict.violations.extend(strange);
    verdict.violations.extend(check::check(&mut verdict.history));
    verdict.violations.extend(unknown::check(&unknowns, &scene.windows));
}

/// Prints what came of it; the exit status.
fn report(verdict: &Verdict, rate: u64, directory: &Path, scene: &mut Scene) -> u8 {
    let mut console = Console::default();
    let Verdict { operations, unknown, refused, faults, violations, proves_nothing, history } =
        verdict;
    let judged = history.len();
    scene.say(&format!(
        "{operations} answers, {rate} a second; {refused} refusals; {judged} operations judged"
    ));
    for violation in violations.iter().take(PRINTED) {
        console.line(format!("violation: {}: {}", violation.rule, violation.what));
        for line in excerpt(history, violation) {
            console.line(line);
        }
    }
    if !violations.is_empty() {
        match evidence::keep(directory, &scene.cluster, history, violations) {
            Ok(kept) => console.line(format!("evidence is in {}", kept.display())),
            Err(error) => console.line(format!("evidence could not be kept: {error}")),
        }
    } else if let Some(why) = proves_nothing {
        console.line(format!("the run proves nothing: {why}"));
    }
    console.line(format!(
        "operations={operations} unknown={unknown} faults={faults} violations={}",
        violations.len()
    ));
    match (violations.is_empty(), proves_nothing) {
        (false, _) => 1,
        (true, Some(_)) => 2,
        (true, None) => 0,
    }
}
