//! The faults. Each begins, shows that it took effect, and is healed.

mod clock;
mod damage;
mod full;
mod kill;
mod partition;
mod pause;

use crate::arguments::FaultKind;
use crate::failure::Failure;
use crate::plan::Planned;
use crate::random::Random;
use crate::scene::Scene;

/// A fault of one node.
pub trait Fault: std::fmt::Debug {
    /// Does it; what was done.
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure>;

    /// What shows that it took effect; [`None`] as long as nothing does. Asked again and again.
    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure>;

    /// Ends it, and waits until the node serves again; what was seen.
    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure>;
}

/// The fault that is planned.
pub fn make(planned: &Planned) -> Box<dyn Fault> {
    let Planned { victim, .. } = *planned;
    let random = Random::new(planned.seed);
    match planned.kind {
        FaultKind::Kill => Box::new(kill::Kill::new(victim, random)),
        FaultKind::Pause => Box::new(pause::Pause::new(victim)),
        FaultKind::Partition => Box::new(partition::Partition::new(victim, random)),
        FaultKind::Clock => Box::new(clock::Clock::new(victim, random)),
        FaultKind::Damage => Box::new(damage::Damage::new(victim, random)),
        FaultKind::Full => Box::new(full::Full::new(victim)),
    }
}

/// A fault that is announced and not done: it never takes effect.
#[derive(Debug)]
pub struct Pretended;

impl Fault for Pretended {
    fn begin(&mut self, _scene: &mut Scene) -> Result<String, Failure> {
        Ok("nothing is done".to_owned())
    }

    fn effect(&mut self, _scene: &mut Scene) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    fn heal(&mut self, _scene: &mut Scene) -> Result<String, Failure> {
        Ok("nothing to heal".to_owned())
    }
}
