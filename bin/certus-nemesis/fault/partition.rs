//! Links of a node are cut, stalled, slowed, or break in mid-frame.

use crate::failure::Failure;
use crate::fault::Fault;
use crate::proxy::Rule;
use crate::random::Random;
use crate::scene::Scene;

/// Which of a node's links with its peers are hit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    All,
    /// What it sends.
    Outbound,
    /// What it is sent.
    Inbound,
    /// Both ways with some peers only.
    Some,
}

/// The links of a node with its peers, and perhaps with clients, fail in some way.
#[derive(Debug)]
pub struct Partition {
    victim: u8,
    random: Random,
    peer_links: Vec<usize>,
    client_links: Vec<usize>,
    /// Their effects before.
    before: [u64; 4],
}

impl Partition {
    /// Around node `victim`.
    pub fn new(victim: u8, random: Random) -> Self {
        Self { victim, random, peer_links: Vec::new(), client_links: Vec::new(), before: [0; 4] }
    }

    /// The links of a reach, both ways or one.
    fn links(&mut self, scene: &Scene, reach: Reach) -> Vec<usize> {
        let victim = self.victim;
        let mut peers: Vec<u8> = scene.cluster.ids().filter(|id| *id != victim).collect();
        if reach == Reach::Some {
            peers.remove(self.random.below(peers.len()));
        }
        let mut links = Vec::new();
        for peer in peers {
            if reach != Reach::Inbound {
                links.extend(scene.cluster.peer_links(victim, peer));
            }
            if reach != Reach::Outbound {
                links.extend(scene.cluster.peer_links(peer, victim));
            }
        }
        links
    }

    fn below(&mut self, bound: usize) -> u32 {
        u32::try_from(self.random.below(bound)).expect("small")
    }
}

impl Fault for Partition {
    fn begin(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let reaches = [Reach::All, Reach::Outbound, Reach::Inbound, Reach::Some];
        let reach = reaches[self.random.below(reaches.len())];
        let rule = match self.below(5) {
            0 => Rule::Cut,
            1 => Rule::Stall,
            2 => Rule::Slow(2_000 + self.below(30_000)),
            3 => Rule::Garble(self.below(30_000)),
            _ => Rule::Break(self.below(30_000)),
        };
        self.peer_links = self.links(scene, reach);
        let mut what = format!("{rule:?} of {reach:?} links with peers");
        let client_rule = match self.below(8) {
            0 => Some(Rule::Cut),
            1 => Some(Rule::StallAnswers),
            2 => Some(Rule::Break(self.below(30_000))),
            3 => Some(Rule::Stall),
            _ => None,
        };
        self.before = scene.cluster.proxy.effects(&self.peer_links);
        scene.cluster.set_links(&self.peer_links, rule);
        if let Some(rule) = client_rule {
            self.client_links = vec![scene.cluster.client_link(self.victim)];
            scene.cluster.set_links(&self.client_links, rule);
            what += &format!(", {rule:?} of that with clients");
        }
        Ok(what)
    }

    fn effect(&mut self, scene: &mut Scene) -> Result<Option<String>, Failure> {
        let now = scene.cluster.proxy.effects(&self.peer_links);
        let [cut, broken, withheld, garbled] =
            [0, 1, 2, 3].map(|index| now[index] - self.before[index]);
        let took = cut + broken + withheld + garbled > 0;
        let what = format!(
            "{cut} cut, {broken} broken, {withheld} bytes withheld, {garbled} bits flipped"
        );
        Ok(took.then_some(what))
    }

    fn heal(&mut self, scene: &mut Scene) -> Result<String, Failure> {
        let seen = self.effect(scene)?.unwrap_or_default();
        for links in [&self.peer_links, &self.client_links] {
            scene.cluster.set_links(links, Rule::Open);
        }
        let took = scene.wait_until_ready(self.victim)?;
        Ok(format!("in all {seen}; serves {} ms later", took.as_millis()))
    }
}
