//! SIGKILL, and a start.

use std::time::Duration;

use crate::failure::Failure;
use crate::fault::Fault;
use crate::random::Random;
use crate::scene::Scene;

/// A node is killed; sometimes once more while it starts.
#[derive(Debug)]
pub struct Kill {
    victim: u8,
    was_killed: bool,
    /// How long the first start goes on before that one is killed, too.
    again_after: Option<Duration>,
}

impl Kill {
    /// Of node `victim`.
    pub fn new(victim: u8, mut random: Random) -> Self {
        let again = random.below(3) == 0;
        let pause = Duration::from_millis(u64::try_from(random.below(150)).expect("small"));
        Self { victim, was_killed: false, again_after: again.then_some(pause) }
    }
}

impl Fault for Kill {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        self.was_killed = scene.cluster.node(self.victim).kill()?;
        Ok("SIGKILL".to_owned())
    }

    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        if !self.was_killed {
            let what = format!("node {} did not end by SIGKILL", self.victim);
            return Err(Failure::ProvedNothing(what));
        }
        let is_gone = scene.cluster.node(self.victim).connect().is_none();
        Ok(is_gone.then(|| "ended by signal 9, takes no connections".to_owned()))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let mut again = "";
        if let Some(pause) = self.again_after {
            scene.cluster.start(self.victim)?;
            scene.sleep(pause)?;
            if scene.cluster.node(self.victim).kill()? {
                again = ", killed again while it started";
            }
        }
        scene.cluster.start(self.victim)?;
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("serves {} ms after its start{again}", took.as_millis()))
    }
}
