//! Plays a plan: faults begin, are seen to take effect, stay for a while, and are healed.

use std::time::{Duration, Instant};

use crate::check::unknown::Window;
use crate::failure::Failure;
use crate::fault::{self, Fault, Pretended};
use crate::plan::{Plan, Planned, Wave};
use crate::scene::Scene;

/// A fault that is not seen to take effect in this time did not.
const EFFECT_WITHIN: Duration = Duration::from_secs(60);

/// For as long after a fault its requests may stay without an answer: the nodes' own time-out.
pub const GRACE: Duration = Duration::from_secs(5);

/// Within this time somebody is answered, whatever a minority of the nodes suffers.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Who plays.
#[derive(Debug)]
pub struct Conductor {
    /// How many faults took effect.
    pub faults: u64,
    /// Whether they are announced and not done.
    is_pretending: bool,
}

impl Conductor {
    /// One that has played nothing yet.
    pub fn new(is_pretending: bool) -> Self {
        Self { faults: 0, is_pretending }
    }

    /// Plays for so long, and until every kind that was asked for has come.
    ///
    /// # Errors
    ///
    /// What ends the run.
    pub fn play(
        &mut self,
        scene: &mut Scene,
        mut plan: Plan,
        time: Duration,
    ) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end || plan.owes() {
            let Some(wave) = plan.next_wave() else {
                // Nothing more may be done; what was done is still judged over the time asked for.
                return scene.sleep(end.saturating_duration_since(Instant::now()));
            };
            scene.sleep(wave.quiet)?;
            self.play_wave(scene, &wave)?;
        }
        Ok(())
    }

    fn play_wave(&mut self, scene: &mut Scene, wave: &Wave) -> Result<(), Failure> {
        for id in scene.cluster.ids() {
            scene.check_running(id)?;
        }
        let begin = scene.now();
        scene.windows.push(Window { begin, end: u64::MAX });
        let answered = scene.workload.answered();
        let mut active: Vec<(Planned, Box<dyn Fault>)> = Vec::new();
        for planned in &wave.faults {
            let mut fault: Box<dyn Fault> =
                if self.is_pretending { Box::new(Pretended) } else { fault::make(planned) };
            let what = fault.begin(scene)?;
            scene.say(&format!("{} of node {}: {what}", planned.kind, planned.victim));
            active.push((*planned, fault));
        }
        for (planned, fault) in &mut active {
            let effect = self.wait_for_effect(scene, planned, fault.as_mut())?;
            scene
                .say(&format!("{} of node {} took effect: {effect}", planned.kind, planned.victim));
            self.faults += 1;
        }
        scene.sleep(wave.hold)?;
        wait_for_answer(scene, answered)?;
        for (planned, fault) in &mut active {
            let what = fault.heal(scene)?;
            scene.say(&format!("{} of node {} healed: {what}", planned.kind, planned.victim));
        }
        for id in scene.cluster.ids() {
            scene.check_running(id)?;
        }
        let grace = u64::try_from(GRACE.as_micros()).expect("seconds");
        let end = scene.now() + grace;
        scene.windows.last_mut().expect("pushed above").end = end;
        Ok(())
    }

    fn wait_for_effect(
        &self,
        scene: &mut Scene,
        planned: &Planned,
        fault: &mut dyn Fault,
    ) -> Result<String, Failure> {
        let within = if self.is_pretending { Duration::from_secs(1) } else { EFFECT_WITHIN };
        let deadline = Instant::now() + within;
        loop {
            if let Some(effect) = fault.effect(scene)? {
                return Ok(effect);
            }
            if Instant::now() > deadline {
                let Planned { kind, victim, .. } = planned;
                let what = format!("{kind} of node {victim} did not take effect in {within:?}");
                return Err(Failure::ProvedNothing(what));
            }
            scene.sleep(Duration::from_millis(50))?;
        }
    }
}

/// The others go on: somebody was answered since there were `before` answers.
fn wait_for_answer(scene: &mut Scene, before: u64) -> Result<(), Failure> {
    let begin = Instant::now();
    while scene.workload.answered() == before {
        if begin.elapsed() > ANSWERED_WITHIN {
            let what = format!(
                "nobody was answered for {ANSWERED_WITHIN:?}, although a majority of the nodes is well"
            );
            return Err(Failure::violation("availability", what, scene.now()));
        }
        scene.sleep(Duration::from_millis(10))?;
    }
    Ok(())
}
