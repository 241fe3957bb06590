//! A node's clocks jump while it runs.

use crate::clock::{Clocks, Shift};
use crate::failure::Failure;
use crate::fault::Fault;
use crate::random::Random;
use crate::scene::Scene;

const SECOND: i64 = 1_000_000_000;

/// Jumps of the wall clock, in seconds.
const JUMPS: [i64; 6] = [1, 60, 3600, 86_400, 31_536_000, 5];

/// The wall clock jumps, and goes back at the end; in half of the cases the monotonic clock jumps,
/// too, and stays.
#[derive(Debug)]
pub struct Clock {
    victim: u8,
    shift: Shift,
    /// The most that monotonic time is ahead after this one.
    jump: i64,
    before: [u64; 2],
}

impl Clock {
    /// Of node `victim`.
    pub fn new(victim: u8, mut random: Random) -> Self {
        let jump = JUMPS[random.below(JUMPS.len())] * SECOND;
        let wall = if random.below(2) == 0 { jump } else { -jump };
        let ahead = i64::try_from(random.below(30)).expect("small");
        let jump = if random.below(2) == 0 { ahead * SECOND } else { 0 };
        Self { victim, shift: Shift { wall, monotonic: 0 }, jump, before: [0; 2] }
    }

    fn clocks<'a>(&self, scene: &'a mut Scene) -> &'a Clocks {
        scene.cluster.node(self.victim).clocks.as_ref().expect("made when clocks are to jump")
    }

    /// Has the node lose a connection, of which it tells in its log, with the time.
    fn have_it_speak(&self, scene: &mut Scene) {
        for peer in scene.cluster.ids().filter(|id| *id != self.victim) {
            scene.cluster.reset_links(&scene.cluster.peer_links(self.victim, peer));
        }
    }
}

impl Fault for Clock {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        self.before = self.clocks(scene).readings()?;
        self.shift.monotonic = scene.monotonic_shift(self.victim) + self.jump;
        scene.set_monotonic_shift(self.victim, self.shift.monotonic);
        let shift = self.shift;
        self.clocks(scene).set(shift)?;
        let [wall, monotonic] = [shift.wall, self.jump].map(|jump| jump / SECOND);
        Ok(format!("wall clock by {wall} s, monotonic clock by {monotonic} s"))
    }

    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        self.have_it_speak(scene);
        let now = self.clocks(scene).readings()?;
        let [wall, monotonic] = [0, 1].map(|index| now[index] - self.before[index]);
        let took = wall > 0 && (self.jump == 0 || monotonic > 0);
        let what =
            format!("{wall} readings of the wall clock and {monotonic} of the other were off");
        Ok(took.then_some(what))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let right = Shift { wall: 0, ..self.shift };
        self.clocks(scene).set(right)?;
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("wall clock back; serves {} ms later", took.as_millis()))
    }
}
