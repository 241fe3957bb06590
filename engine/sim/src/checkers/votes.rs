//! Which votes may be counted together.
//!
//! A node that lost its votes goes on as a later generation. A vote of its earlier one counts
//! together with another node's as long as that one did not know of the later generation when it
//! gave it: it had forgotten the earlier one by then, and says so with every vote it shows.

use plog::vocabulary::Generation;

/// The generations that a node knows, its own among them.
pub(super) type Known = [Generation; 5];

/// The votes at one ballot.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    votes: Vec<(u8, Known)>,
}

impl Votes {
    /// A vote of a node is durable. One that is written once more stays what it was.
    pub(super) fn add(&mut self, node: u8, known: &Known) {
        let own = |known: &Known| known[usize::from(node)];
        if self.votes.iter().all(|(of, had)| *of != node || own(had) != own(known)) {
            self.votes.push((node, *known));
        }
    }

    /// The most nodes whose votes count together.
    pub(super) fn counted_together(&self) -> usize {
        self.most(0, &mut Vec::new())
    }

    fn most(&self, next: usize, chosen: &mut Vec<usize>) -> usize {
        let mut most = chosen.len();
        for candidate in next..self.votes.len() {
            let vote = &self.votes[candidate];
            if chosen.iter().all(|other| count_together(&self.votes[*other], vote)) {
                chosen.push(candidate);
                most = most.max(self.most(candidate + 1, chosen));
                chosen.pop();
            }
        }
        most
    }
}

fn count_together(one: &(u8, Known), other: &(u8, Known)) -> bool {
    let (a, b) = (usize::from(one.0), usize::from(other.0));
    a != b && one.1[b] <= other.1[b] && other.1[a] <= one.1[a]
}

#[cfg(test)]
mod tests {
    use plog::vocabulary::Generation;

    use super::{Known, Votes};

    fn known(generations: [u32; 5]) -> Known {
        generations.map(Generation)
    }

    #[test]
    fn a_vote_given_in_knowledge_of_a_later_generation_does_not_count_with_the_earlier_one() {
        let mut votes = Votes::default();
        votes.add(0, &known([0, 0, 0, 0, 0]));
        votes.add(1, &known([0, 0, 0, 0, 0]));
        assert_eq!(votes.counted_together(), 2);
        votes.add(2, &known([1, 0, 0, 0, 0]));
        assert_eq!(votes.counted_together(), 2, "node 2 forgot node 0's vote");
        votes.add(0, &known([1, 0, 0, 0, 0]));
        assert_eq!(votes.counted_together(), 3, "node 0 votes again");
        votes.add(2, &known([1, 0, 0, 0, 0]));
        assert_eq!(votes.counted_together(), 3, "one node counts once");
    }
}
