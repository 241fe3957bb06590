//! Makes a failing run smaller: fewer commands, fewer scheduled faults, fewer kinds of faults, as
//! long as the same rule is broken.

use crate::faults::Faults;
use crate::mixes::Mix;
use crate::run::{Plan, Report};
use crate::schedule::Item;

/// A smaller plan that breaks the same rule, and how it went. `try_plan` runs one, and catches
/// whatever it throws.
pub fn minimise(
    plan: &Plan,
    invariant: &str,
    mut try_plan: impl FnMut(&Plan) -> Report,
) -> (Plan, usize) {
    let mut best = plan.clone();
    let mut tries = 0;
    let mut fails = |plan: &Plan| {
        tries += 1;
        let report = try_plan(plan);
        report.violation.is_some_and(|(violation, _)| violation.invariant == invariant)
    };
    // Commands first: whatever comes after the last one that matters goes with them.
    let mut step = best.operations / 2;
    while step > 0 {
        if best.operations > step {
            let fewer = Plan { operations: best.operations - step, ..best.clone() };
            if fails(&fewer) {
                best = fewer;
                continue;
            }
        }
        step /= 2;
    }
    // Whole classes of faults.
    for calm in CALMING {
        let without = Plan { mix: calmer(best.mix, *calm), ..best.clone() };
        if fails(&without) {
            best = without;
        }
    }
    // Then the schedule, in ever smaller pieces (Zeller's delta debugging, its removing half).
    let mut piece = best.schedule.len().div_ceil(2);
    while piece > 0 && !best.schedule.is_empty() {
        let mut begin = 0;
        while begin < best.schedule.len() {
            let end = (begin + piece).min(best.schedule.len());
            let rest: Vec<Item> = [&best.schedule[..begin], &best.schedule[end..]].concat();
            let fewer = Plan { schedule: rest, ..best.clone() };
            if fails(&fewer) {
                best = fewer;
            } else {
                begin = end;
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    (best, tries)
}

/// Ways to leave one class of faults out.
const CALMING: &[fn(&mut Faults)] = &[
    |faults| faults.loss = 0,
    |faults| faults.duplication = 0,
    |faults| faults.corruption = 0,
    |faults| faults.straggler = 0,
    |faults| faults.write_error = 0,
    |faults| faults.read_error = 0,
    |faults| faults.delay_max_us = Faults::NONE.delay_max_us,
    |faults| faults.write_max_us = Faults::NONE.write_max_us,
];

/// The mix with one class of faults left out.
fn calmer(mix: &Mix, calm: fn(&mut Faults)) -> &'static Mix {
    let mut calmer = *mix;
    calm(&mut calmer.faults);
    // A handful per minimised run, which ends the process.
    Box::leak(Box::new(calmer))
}

#[cfg(test)]
mod tests {
    use super::minimise;
    use crate::checkers::Violation;
    use crate::coverage::Coverage;
    use crate::mixes;
    use crate::run::{Plan, Report};
    use crate::schedule::Kind;

    fn report(violation: Option<Violation>) -> Report {
        Report {
            operations: 0,
            completed: 0,
            coverage: Coverage::default(),
            compared: 0,
            hash: 0,
            violation: violation.map(|violation| (violation, String::new())),
        }
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let mix = mixes::find("rough").expect("a mix of that name");
        let plan = Plan::new(1, 3, mix, 200);
        assert!(plan.schedule.len() > 5);
        // It fails when at least 17 commands and the two of these items are there.
        let needed = [plan.schedule[1], plan.schedule[4]];
        let (small, _) = minimise(&plan, "agreement", |plan| {
            let fails =
                plan.operations >= 17 && needed.iter().all(|item| plan.schedule.contains(item));
            report(fails.then(|| Violation::new("agreement", "planted")))
        });
        assert_eq!(small.operations, 17);
        assert_eq!(small.schedule, needed);
        assert_eq!(small.mix.faults.loss, 0);
        // Another rule broken on the way does not count.
        let (same, _) = minimise(&plan, "agreement", |plan| {
            let other = plan.schedule.iter().any(|item| item.kind == Kind::Crash);
            report(other.then(|| Violation::new("order", "planted")))
        });
        assert_eq!(same.operations, plan.operations);
    }
}
