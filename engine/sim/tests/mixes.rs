//! A few runs of every mix, as a first look; `scripts/sim` runs as many as one likes.

use sim::coverage::Coverage;
use sim::guard::run_guarded;
use sim::mixes::{self, MIXES};
use sim::run::{Plan, Report, run};

fn fine(plan: &Plan) -> Report {
    let report = run_guarded(plan, None);
    if let Some((violation, trace)) = &report.violation {
        let Plan { seed, replicas, mix, .. } = plan;
        panic!("seed {seed}, mix {}, {replicas} replicas: {violation}\n{trace}", mix.name);
    }
    report
}

#[test]
fn no_mix_breaks_a_rule_and_moderate_ones_complete() {
    let mut coverage = Coverage::default();
    for mix in MIXES {
        let (mut operations, mut completed) = (0, 0);
        for seed in 0..8 {
            let report = fine(&Plan::new(seed, if seed % 4 == 3 { 5 } else { 3 }, mix, 200));
            assert!(report.compared > 1000, "{}: {} comparisons", mix.name, report.compared);
            operations += report.operations;
            completed += report.completed;
            coverage = coverage.plus(&report.coverage);
        }
        assert!(
            !mix.moderate || completed * 10 >= operations * 9,
            "{}: {completed} of {operations} commands completed",
            mix.name
        );
    }
    // What every range has to reach; `scripts/sim --floors` asks for all of it.
    let reached = coverage.named();
    for name in ["crashes", "torn_writes", "one_way_cuts", "duels", "rescues", "evictions", "loads"]
    {
        let count = reached.iter().find(|(known, _)| *known == name).map(|(_, count)| *count);
        assert!(count.is_some_and(|count| count > 0), "{name}: {count:?}");
    }
}

#[test]
fn the_same_plan_gives_the_same_run() {
    for mix in ["everything", "streams"] {
        let mix = mixes::find(mix).unwrap();
        let [once, again] = [(); 2].map(|()| run(&Plan::new(7, 3, mix, 200)));
        assert_eq!((once.hash, once.coverage), (again.hash, again.coverage));
        let other = run(&Plan::new(8, 3, mix, 200));
        assert_ne!(once.hash, other.hash);
    }
}

#[test]
fn runs_that_found_something_about_changing_members_are_fine() {
    let mix = mixes::find("replacing").unwrap();
    for (seed, replicas) in [(8293, 3), (10_035, 3), (904, 5), (11_071, 5)] {
        fine(&Plan::new(seed, replicas, mix, 200));
    }
}
