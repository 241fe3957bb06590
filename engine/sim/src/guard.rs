//! Runs a plan and catches what the engine's own assertions throw: a broken assertion is a
//! violation like any other.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::Once;

use crate::checkers::Violation;
use crate::coverage::Coverage;
use crate::plants::Plant;
use crate::run::{Plan, Report, run};

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Runs `plan` with a planted bug, if any, acting.
///
/// # Panics
///
/// When a planted bug is asked for in a build without them.
#[must_use]
pub fn run_guarded(plan: &Plan, plant: Option<&Plant>) -> Report {
    HOOK.call_once(|| {
        // The words are kept for the report, not printed in the middle of others.
        set_hook(Box::new(|info| SAID.set(info.to_string())));
    });
    activate(plant);
    let report = catch_unwind(AssertUnwindSafe(|| run(plan)));
    activate(None);
    report.unwrap_or_else(|_| Report {
        operations: 0,
        completed: 0,
        coverage: Coverage::default(),
        compared: 0,
        hash: 0,
        violation: Some((Violation::new("assertion", SAID.take()), String::new())),
    })
}

#[cfg(plants)]
fn activate(plant: Option<&Plant>) {
    plog::plants::activate(plant.map_or("", |plant| plant.name));
}

#[cfg(not(plants))]
fn activate(plant: Option<&Plant>) {
    assert!(plant.is_none(), "this build holds no planted bugs");
}
