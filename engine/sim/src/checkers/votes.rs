//! Which votes may be counted together.
//!
//! A vote counts in the versions of the membership in which its node may have shown it: from the
//! one in which it became durable to the one in which what was chosen did, or the log was lost. A
//! majority of the voters of one version has to have voted so in that version.
//!
//! A node that lost its votes goes on as a later generation. A vote of its earlier one counts
//! together with another node's as long as that one did not know of the later generation when it
//! gave it: it had forgotten the earlier one by then, and says so with every vote it shows.

use plog::configuration::Configuration;
use plog::vocabulary::{AcceptorId, Generation};

/// The generations that a node knows, its own among them.
pub(super) type Known = [Generation; 5];

#[derive(Clone, Copy, Debug)]
struct Vote {
    node: u8,
    known: Known,
    /// The first version in which it counts.
    first: u32,
    /// The last one; `None` as long as it may be shown.
    last: Option<u32>,
}

/// The votes at one ballot.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    votes: Vec<Vote>,
}

impl Votes {
    /// A vote of a node is durable in a version. One that is written once more stays what it was.
    pub(super) fn add(&mut self, node: u8, known: &Known, version: u32) {
        let own = |known: &Known| known[usize::from(node)];
        let is_new = |vote: &Vote| vote.node != node || own(&vote.known) != own(known);
        if self.votes.iter().all(is_new) {
            self.votes.push(Vote { node, known: *known, first: version, last: None });
        }
    }

    /// A node shows this no more in versions after this one.
    pub(super) fn end(&mut self, node: u8, version: u32) {
        let held = self.votes.iter_mut().filter(|vote| vote.node == node && vote.last.is_none());
        held.for_each(|vote| vote.last = Some(version));
    }

    /// Whether a majority of the voters of one version voted for this in that version. `goes_by` is
    /// the version of each node by now.
    pub(super) fn are_majority(
        &self,
        configurations: &[Configuration],
        goes_by: impl Fn(u8) -> u32,
    ) -> bool {
        configurations.iter().any(|configuration| {
            let version = configuration.version;
            let counts = |vote: &&Vote| {
                let last = vote.last.unwrap_or_else(|| goes_by(vote.node));
                (vote.first..=last).contains(&version)
                    && configuration.voters.contains(AcceptorId(vote.node))
            };
            let held: Vec<&Vote> = self.votes.iter().filter(counts).collect();
            held.len() >= configuration.majority()
                && most(&held, 0, &mut Vec::new()) >= configuration.majority()
        })
    }
}

/// The most nodes whose votes count together.
fn most(votes: &[&Vote], next: usize, chosen: &mut Vec<usize>) -> usize {
    let mut best = chosen.len();
    for candidate in next..votes.len() {
        if chosen.iter().all(|other| count_together(votes[*other], votes[candidate])) {
            chosen.push(candidate);
            best = best.max(most(votes, candidate + 1, chosen));
            chosen.pop();
        }
    }
    best
}

fn count_together(one: &Vote, other: &Vote) -> bool {
    let (a, b) = (usize::from(one.node), usize::from(other.node));
    a != b && one.known[b] <= other.known[b] && other.known[a] <= one.known[a]
}

#[cfg(test)]
mod tests {
    use plog::configuration::{Change, Configuration};
    use plog::vocabulary::{AcceptorId, Generation};

    use super::{Known, Votes};

    fn known(generations: [u32; 5]) -> Known {
        generations.map(Generation)
    }

    /// The largest set in which these are a majority, of those with an odd number of voters.
    fn together(votes: &Votes) -> usize {
        let of = |voters| [Configuration::initial(voters)];
        let sizes = [5, 4, 3, 2, 1].into_iter();
        let size = sizes.filter(|size| votes.are_majority(&of(*size), |_| 0)).max();
        Configuration::initial(size.unwrap()).majority()
    }

    #[test]
    fn a_vote_given_in_knowledge_of_a_later_generation_does_not_count_with_the_earlier_one() {
        let mut votes = Votes::default();
        votes.add(0, &known([0, 0, 0, 0, 0]), 0);
        votes.add(1, &known([0, 0, 0, 0, 0]), 0);
        assert_eq!(together(&votes), 2);
        votes.add(2, &known([1, 0, 0, 0, 0]), 0);
        assert_eq!(together(&votes), 2, "node 2 forgot node 0's vote");
        votes.add(0, &known([1, 0, 0, 0, 0]), 0);
        assert_eq!(together(&votes), 3, "node 0 votes again");
        votes.add(2, &known([1, 0, 0, 0, 0]), 0);
        assert_eq!(together(&votes), 3, "one node counts once");
    }

    #[test]
    fn votes_count_together_in_a_version_in_which_all_of_them_count() {
        let first = Configuration::initial(3);
        let second = first.after(Change::AddLearner(AcceptorId(3)), 5).unwrap();
        let third = second.after(Change::Promote(AcceptorId(3)), 5).unwrap();
        let all = [first, second, third];
        let known = known([0; 5]);
        let mut votes = Votes::default();
        votes.add(0, &known, 0);
        votes.end(0, 0);
        votes.add(1, &known, 1);
        assert!(!votes.are_majority(&all, |_| 1), "node 0's counts in version 0 only");
        votes.add(2, &known, 1);
        assert!(votes.are_majority(&all, |_| 1));
        assert!(votes.are_majority(&all[..2], |_| 2), "and later, too");
        assert!(!votes.are_majority(&all[2..], |_| 2), "two of four are no majority");
        votes.add(3, &known, 2);
        assert!(!votes.are_majority(&all[2..], |_| 1), "not before they go by it");
        assert!(votes.are_majority(&all[2..], |_| 2));
    }
}
