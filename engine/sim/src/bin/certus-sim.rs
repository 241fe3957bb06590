//! `certus-sim`: runs ranges of seeds, on as many threads as asked for. `scripts/sim` builds and
//! calls it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks through them"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::coverage::Coverage;
use sim::guard::run_guarded;
use sim::minimise::minimise;
use sim::mixes::{self, MIXES, Mix};
use sim::plants::{self, PLANTS, Plant};
use sim::run::{Plan, Report};

/// A run allocates all the time and shares nothing with other threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs simulated clusters and looks for broken rules.
///
/// Each seed is one run. Without --mix the mixes take turns, and every fourth run of each has five
/// replicas. The last line sums up; the exit status is 0 when no rule was broken, 1 when one was.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// First seed.
    #[arg(long, default_value_t = 0)]
    begin: u64,
    /// The seed after the last one.
    #[arg(long, default_value_t = 1000)]
    end: u64,
    /// Size of the replica set in every run.
    #[arg(long, value_parser = clap::value_parser!(u8).range(3..=5))]
    replicas: Option<u8>,
    /// The mix of every run; see --list.
    #[arg(long)]
    mix: Option<String>,
    /// Commands per run.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    operations: u32,
    /// Lets a planted bug act; needs a build with it (scripts/sim makes one).
    #[arg(long)]
    plant: Option<String>,
    /// Makes the first failing run smaller before it is shown.
    #[arg(long)]
    minimise: bool,
    /// Shows the last events of a failing run.
    #[arg(long)]
    trace: bool,
    /// Threads; 0 = one per CPU.
    #[arg(long, default_value_t = 0)]
    threads: u32,
    /// Prints what the runs reached.
    #[arg(long)]
    coverage: bool,
    /// Fails if the runs together did not reach every state that matters, or if in a moderate mix
    /// less than 90 % of the commands completed.
    #[arg(long)]
    floors: bool,
    /// Prints mixes and planted bugs.
    #[arg(long)]
    list: bool,
    /// Tries every planted bug, each on up to 5,000 seeds, and prints a table.
    #[arg(long)]
    plants: bool,
    /// With --plants: only these, by name, with commas between.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    let result = if arguments.plants {
        try_plants(&arguments)
    } else {
        Range::new(&arguments).map(|r| r.run())
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("certus-sim: {message}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    println!("mixes:");
    for mix in MIXES {
        let moderate = if mix.moderate { "" } else { " (rough)" };
        println!("  {:<12} {}{moderate}", mix.name, mix.about);
    }
    println!("planted bugs:");
    for plant in PLANTS {
        println!("  {:<32} {}", plant.name, plant.about);
    }
}

/// Seeds to run.
struct Range {
    begin: u64,
    end: u64,
    replicas: Option<u8>,
    mix: Option<&'static Mix>,
    operations: usize,
    plant: Option<&'static Plant>,
    threads: u32,
    minimise: bool,
    trace: bool,
    coverage: bool,
    floors: bool,
}

/// Sums over many runs.
#[derive(Clone, Default)]
struct Sums {
    runs: u64,
    operations: u64,
    completed: u64,
    compared: u64,
    coverage: Coverage,
    by_mix: BTreeMap<&'static str, (u64, u64)>,
}

/// The failing run with the lowest seed.
struct Failure {
    plan: Plan,
    report: Report,
}

fn plant_named(name: &str) -> Result<&'static Plant, String> {
    plants::find(name).ok_or_else(|| format!("there is no planted bug `{name}`; see --list"))
}

fn threads(asked: u32) -> u32 {
    if asked > 0 {
        return asked;
    }
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1))
}

impl Range {
    fn new(arguments: &Arguments) -> Result<Self, String> {
        let mix = arguments.mix.as_deref().map(|name| {
            mixes::find(name).ok_or_else(|| format!("there is no mix `{name}`; see --list"))
        });
        if arguments.replicas == Some(4) {
            return Err("--replicas is 3 or 5".to_owned());
        }
        if arguments.end <= arguments.begin {
            return Err(format!(
                "--end {} is not above --begin {}",
                arguments.end, arguments.begin
            ));
        }
        let plant = arguments.plant.as_deref().map(plant_named).transpose()?;
        if plant.is_some() && !cfg!(plants) {
            return Err("this build holds no planted bugs; scripts/sim makes one that does".into());
        }
        Ok(Self {
            begin: arguments.begin,
            end: arguments.end,
            replicas: arguments.replicas,
            mix: mix.transpose()?,
            operations: usize::try_from(arguments.operations).expect("32 bits fit a usize"),
            plant,
            threads: threads(arguments.threads),
            minimise: arguments.minimise,
            trace: arguments.trace,
            coverage: arguments.coverage,
            floors: arguments.floors,
        })
    }

    fn plan(&self, seed: u64) -> Plan {
        let mixes = u64::try_from(MIXES.len()).expect("few mixes");
        let place = usize::try_from(seed % mixes).expect("few mixes");
        let mix = self.mix.or_else(|| self.plant.and_then(|plant| mixes::find(plant.mix)));
        let by_seed = if (seed / mixes) % 4 == 3 { 5 } else { 3 };
        let replicas =
            self.replicas.or_else(|| self.plant.map(|plant| plant.replicas)).unwrap_or(by_seed);
        Plan::new(seed, replicas, mix.unwrap_or(&MIXES[place]), self.operations)
    }

    /// Runs until the end or the first failure: the one of the lowest seed, of those that the
    /// threads found before they stopped.
    fn search(&self) -> (Sums, Option<Failure>) {
        let next = AtomicU64::new(self.begin);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|_| scope.spawn(|| self.search_here(&next, &stop))).collect();
            let mut sums = Sums::default();
            let mut first: Option<Failure> = None;
            for thread in threads {
                let (own, failure) = thread.join().expect("a run's panics are caught");
                sums = sums.plus(&own);
                first = match (first, failure) {
                    (Some(one), Some(other)) if other.plan.seed < one.plan.seed => Some(other),
                    (Some(one), _) => Some(one),
                    (None, failure) => failure,
                };
            }
            (sums, first)
        })
    }

    /// One thread's part of it.
    fn search_here(&self, next: &AtomicU64, stop: &AtomicBool) -> (Sums, Option<Failure>) {
        let mut sums = Sums::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                break;
            }
            let plan = self.plan(seed);
            let report = run_guarded(&plan, self.plant);
            sums.add(&plan, &report);
            if report.violation.is_some() {
                stop.store(true, Ordering::Relaxed);
                return (sums, Some(Failure { plan, report }));
            }
        }
        (sums, None)
    }

    fn run(&self) -> bool {
        let start = Instant::now();
        let (sums, failure) = self.search();
        if self.coverage {
            for (name, count) in sums.coverage.named() {
                println!("{name:<28} {count:>14}");
            }
            for (mix, (operations, completed)) in &sums.by_mix {
                let share = 100 * completed / operations.max(&1);
                println!("completed in {mix:<15} {share:>13} %");
            }
            println!("{:<28} {:>14}", "comparisons", sums.compared);
        }
        let mut fine = failure.is_none();
        if let Some(failure) = &failure {
            self.show(failure);
        } else if self.floors {
            fine = self.check_floors(&sums);
        }
        println!(
            "seeds={} operations={} completed={} violations={} seconds={:.1}",
            sums.runs,
            sums.operations,
            sums.completed,
            u32::from(failure.is_some()),
            start.elapsed().as_secs_f64()
        );
        fine
    }

    fn check_floors(&self, sums: &Sums) -> bool {
        let mut fine = true;
        for (name, count) in sums.coverage.named() {
            if count < self.floor(name) {
                println!("not reached: {name} {count} times, at least {}", self.floor(name));
                fine = false;
            }
        }
        for (name, (operations, completed)) in &sums.by_mix {
            let moderate = mixes::find(name).is_some_and(|mix| mix.moderate);
            if moderate && completed * 10 < operations * 9 {
                println!("{name}: {completed} of {operations} commands completed, less than 90 %");
                fine = false;
            }
        }
        fine
    }

    /// What a thousand runs of all mixes reach at the very least, scaled to this range.
    fn floor(&self, name: &str) -> u64 {
        let seeds = self.end - self.begin;
        let per_thousand = match name {
            // Rare by their nature.
            "values_unresolved" => return seeds / 5000,
            "messages_ahead" | "removed_while_down" | "damaged_starts" => 1,
            "no_ops" | "torn_writes" | "torn_tails" | "cut_logs" => 3,
            "dropped_messages" | "misdirected_writes" | "wipes" | "full_disks" => 5,
            "refused_handshakes" => 5,
            "abstaining_starts" | "unreadable_entities" => 5,
            "logs_put_aside" | "rotten_bits" => 10,
            "file_errors" | "read_errors" | "write_errors" | "unreported_writes" => 5,
            "checkpoint_locks_expired" => 5,
            "follows_refused" => 10,
            "wrong_copies_alike" | "lost_images" => 1,
            _ => 20,
        };
        (per_thousand * seeds / 1000).max(u64::from(seeds >= 1000))
    }

    fn show(&self, failure: &Failure) {
        let Failure { plan, report } = failure;
        let (violation, trace) = report.violation.as_ref().expect("a failure has one");
        println!("violation of {violation}");
        let command = |plan: &Plan, more: &str| {
            let plant =
                self.plant.map_or(String::new(), |plant| format!(" --plant {}", plant.name));
            format!(
                "scripts/sim --begin {} --end {} --replicas {} --mix {} --operations {}{plant}{more}",
                plan.seed,
                plan.seed + 1,
                plan.replicas,
                plan.mix.name,
                plan.operations
            )
        };
        println!("seed {}, mix {}, {} replicas", plan.seed, plan.mix.name, plan.replicas);
        println!("commit {}", option_env!("CERTUS_COMMIT").unwrap_or("not known"));
        println!("replay: {}", command(plan, " --trace"));
        if self.minimise {
            let (small, tries) =
                minimise(plan, violation.invariant, |plan| run_guarded(plan, self.plant));
            println!("smaller, after {tries} tries: {} commands", small.operations);
            for item in &small.schedule {
                println!("  {item:?}");
            }
            println!("  with {:?}", small.mix.faults);
            let report = run_guarded(&small, self.plant);
            if let Some((violation, trace)) = report.violation {
                println!("violation of {violation}\n{trace}");
            }
        } else if self.trace {
            println!("{trace}");
        }
        std::io::stdout().flush().ok();
    }
}

impl Sums {
    fn add(&mut self, plan: &Plan, report: &Report) {
        let count = |number: usize| u64::try_from(number).expect("counts fit 64 bits");
        self.runs += 1;
        self.operations += count(report.operations);
        self.completed += count(report.completed);
        self.compared += report.compared;
        self.coverage = self.coverage.plus(&report.coverage);
        let of_mix = self.by_mix.entry(plan.mix.name).or_default();
        of_mix.0 += count(report.operations);
        of_mix.1 += count(report.completed);
    }

    fn plus(&self, other: &Self) -> Self {
        let mut by_mix = self.by_mix.clone();
        for (name, (operations, completed)) in &other.by_mix {
            let sum = by_mix.entry(name).or_default();
            *sum = (sum.0 + operations, sum.1 + completed);
        }
        Self {
            runs: self.runs + other.runs,
            operations: self.operations + other.operations,
            completed: self.completed + other.completed,
            compared: self.compared + other.compared,
            coverage: self.coverage.plus(&other.coverage),
            by_mix,
        }
    }
}

/// Tries the planted bugs. Whether each was caught.
fn try_plants(arguments: &Arguments) -> Result<bool, String> {
    if !cfg!(plants) {
        return Err("this build holds no planted bugs; scripts/sim --plants makes one".into());
    }
    let chosen: Vec<&Plant> = match &arguments.only {
        Some(names) => names.split(',').map(plant_named).collect::<Result<_, _>>()?,
        None => PLANTS.iter().collect(),
    };
    println!("| planted bug | what it breaks | mix | caught by | first seed |");
    println!("|---|---|---|---|---:|");
    let mut all = true;
    for plant in chosen {
        let range = Range {
            begin: 0,
            end: 5000,
            replicas: None,
            mix: None,
            operations: 200,
            plant: Some(plant),
            threads: threads(arguments.threads),
            minimise: false,
            trace: false,
            coverage: false,
            floors: false,
        };
        let (_, failure) = range.search();
        let (by, seed) = match &failure {
            Some(Failure { plan, report }) => {
                let (violation, _) = report.violation.as_ref().expect("a failure has one");
                (violation.invariant, plan.seed.to_string())
            }
            None => ("**nobody**", "–".to_owned()),
        };
        all &= failure.is_some();
        let Plant { name, about, mix, .. } = plant;
        println!("| `{name}` | {about} | {mix} | {by} | {seed} |");
    }
    Ok(all)
}
