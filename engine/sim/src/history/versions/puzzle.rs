//! One batch as a puzzle: in which order do its commands give what was chosen?
//!
//! Known are the state before the batch and the state after it, and the commands with request ids,
//! in order. To be fitted in between are the *pieces*: commands without an id whose replies name
//! the batch, reads that were evaluated in it, and commands of unknown fate, which may be in it.
//! A request whose id a replica made up says only what was replied: any fitting piece may be it.
//!
//! The search goes forward, one command at a time. Whatever observes a state without changing it is
//! fitted in as soon as it can be, for that never hinders another piece. What is of unknown fate
//! and left no id is used as sparingly as possible: first not at all, then once, and so on. The
//! search is bounded; one that was given up proves nothing.

use std::collections::BTreeSet;

use net::resp::value::Value;

use crate::history::command::Command;
use crate::history::model::{Change, State};

/// Steps of one search, beyond which it is given up.
const STEPS_MAX: usize = 5_000;

/// How many pieces of unknown fate may be fitted in without an id, attempt by attempt; the first
/// attempt is without any.
const BUDGETS: [usize; 4] = [1, 2, 3, usize::MAX];

/// Most explanations collected of one batch.
const EXPLANATIONS_MAX: usize = 64;

/// Most pieces of a puzzle that can be searched.
pub(super) const PIECES_MAX: usize = 128;

/// See the module page.
#[derive(Debug)]
pub(super) struct Puzzle<'p, 'a> {
    /// The batch's entry.
    pub(super) entry: u64,
    /// The state before it.
    pub(super) before: &'p State,
    /// The state after it.
    pub(super) after: &'p State,
    /// Commands with request ids, in order.
    pub(super) requests: Vec<Request<'a>>,
    /// What is to be fitted in.
    pub(super) pieces: Vec<Piece<'a>>,
    /// Whether these are all that may be in the batch.
    pub(super) is_whole: bool,
}

/// A command with a request id.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The command; `None` when a replica made up the id, and the command is one of the pieces.
    pub(super) command: Option<Command<'a>>,
    /// The reply that was chosen with it.
    pub(super) reply: Value,
}

/// A command whose place is to be found.
#[derive(Clone, Debug)]
pub(super) struct Piece<'a> {
    pub(super) command: Command<'a>,
    /// What the client was told; `None` when it was told nothing.
    pub(super) reply: Option<&'a Value>,
    /// How often it may be in the batch: operations alike are one piece.
    pub(super) limit: usize,
    /// Whether it has to be in the batch, or to have observed one of its states.
    pub(super) is_due: bool,
    /// Whether it can only be there under an id that a replica made up.
    pub(super) needs_request: bool,
}

/// An order that explains the batch, as far as anybody else needs to know it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Explanation {
    /// How often each piece is in the batch.
    pub(super) used: Vec<usize>,
    /// Which pieces only observed a state, one bit each.
    pub(super) seen: u128,
}

/// What a search came to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) explanations: Vec<Explanation>,
    /// Whether there is no other. If not, the search was stopped, or given up.
    pub(super) is_complete: bool,
}

impl<'a> Puzzle<'_, 'a> {
    /// One explanation that uses as few pieces of unknown fate as it can.
    pub(super) fn solve(&self) -> Found {
        self.search(1)
    }

    /// All explanations, but for those that only use more of the same.
    pub(super) fn solve_all(&self) -> Found {
        self.search(EXPLANATIONS_MAX)
    }

    fn search(&self, wanted: usize) -> Found {
        if self.pieces.len() > PIECES_MAX {
            return Found { explanations: Vec::new(), is_complete: false };
        }
        let root =
            Node { next: 0, used: vec![0; self.pieces.len()], seen: 0, state: self.before.clone() };
        let grown_only = self.keys_grown_only();
        let mut budgets = BUDGETS.into_iter();
        let mut budget = 0;
        loop {
            let mut search = Search {
                puzzle: self,
                grown_only: &grown_only,
                wanted,
                budget,
                steps: 0,
                budget_reached: false,
                visited: BTreeSet::new(),
                found: BTreeSet::new(),
            };
            search.visit(root.clone());
            // One explanation of the smallest budget will do; all are those of the largest.
            let is_enough = wanted == 1 && !search.found.is_empty() || !search.budget_reached;
            let next = if search.is_stopped() { Some(usize::MAX) } else { budgets.next() };
            match next.filter(|next| !is_enough && *next > budget) {
                Some(next) => budget = next,
                None => {
                    let is_complete = self.is_whole && !search.is_stopped();
                    let explanations = search.found.into_iter().collect();
                    return Found { explanations, is_complete };
                }
            }
        }
    }

    /// Keys that nothing in the puzzle does more to than to append: their values only grow.
    fn keys_grown_only(&self) -> BTreeSet<&'a [u8]> {
        let requests = self.requests.iter().filter_map(|request| request.command);
        let commands = requests.chain(self.pieces.iter().map(|piece| piece.command));
        let (appends, others): (Vec<_>, Vec<_>) = commands
            .filter(Command::is_write)
            .partition(|command| matches!(command, Command::Append(..)));
        let mut keys: BTreeSet<&[u8]> = appends.iter().flat_map(Command::keys).collect();
        for key in others.iter().flat_map(Command::keys) {
            keys.remove(key);
        }
        keys
    }

    /// Whether more than one order may be possible.
    fn has_choice(&self) -> bool {
        self.pieces.iter().any(|piece| piece.command.is_write())
    }
}

/// A point of the search.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Node {
    /// The next request.
    next: usize,
    /// How often each piece was fitted in.
    used: Vec<usize>,
    /// Pieces that observed a state, one bit each.
    seen: u128,
    state: State,
}

struct Search<'s, 'p, 'a> {
    puzzle: &'s Puzzle<'p, 'a>,
    /// Keys whose values only grow.
    grown_only: &'s BTreeSet<&'a [u8]>,
    wanted: usize,
    /// Pieces of unknown fate that may be fitted in without an id.
    budget: usize,
    steps: usize,
    /// Whether a piece was left out for the budget's sake.
    budget_reached: bool,
    visited: BTreeSet<Node>,
    found: BTreeSet<Explanation>,
}

impl<'a> Search<'_, '_, 'a> {
    fn is_stopped(&self) -> bool {
        self.steps > STEPS_MAX || self.found.len() >= self.wanted
    }

    fn visit(&mut self, mut node: Node) {
        self.steps += 1;
        if self.is_stopped() {
            return;
        }
        self.observe(&mut node);
        let puzzle = self.puzzle;
        if puzzle.has_choice() {
            if self.is_dead(&node.state) || self.visited.contains(&node) {
                return;
            }
            self.visited.insert(node.clone());
        }
        if node.next == puzzle.requests.len()
            && node.state == *puzzle.after
            && (puzzle.pieces.iter().enumerate())
                .all(|(index, piece)| !piece.is_due || node.has_place(index))
        {
            self.found.insert(Explanation { used: node.used.clone(), seen: node.seen });
            // To go on is of use only to those who were answered, and have no place elsewhere.
            let is_settled = |(index, piece): (usize, &Piece<'_>)| {
                piece.reply.is_none() || piece.needs_request || node.has_place(index)
            };
            if self.is_stopped() || puzzle.pieces.iter().enumerate().all(is_settled) {
                return;
            }
        }
        self.take_request(&node);
        // What looks like a step towards the end first.
        let nexts: Vec<Node> =
            (0..puzzle.pieces.len()).filter_map(|index| self.after_piece(&node, index)).collect();
        let (promising, others): (Vec<_>, Vec<_>) =
            nexts.into_iter().partition(|next| self.is_promising(&node.state, &next.state));
        for next in promising.into_iter().chain(others) {
            self.visit(next);
        }
    }

    /// Notes who sees exactly this state, and changes nothing.
    fn observe(&self, node: &mut Node) {
        for (index, piece) in self.puzzle.pieces.iter().enumerate() {
            if let Some(reply) = piece.reply
                && !piece.needs_request
                && !node.has_place(index)
                && node.state.is_observed(&piece.command, reply)
            {
                node.seen |= 1 << index;
            }
        }
    }

    /// Whether there is no way to the end: a key was changed that the batch does not change, or
    /// grew into something else than what it is in the end.
    fn is_dead(&self, state: &State) -> bool {
        let after = self.puzzle.after;
        let is_touched = after.keys.iter().any(|(key, record)| {
            record.version != self.puzzle.entry && state.keys.get(key) != Some(record)
        });
        let is_overgrown = self.grown_only.iter().any(|key| {
            let value = state.value(key).unwrap_or_default();
            !after.value(key).unwrap_or_default().starts_with(value)
        });
        is_touched || is_overgrown
    }

    /// Whether every key that differs has, or begins to have, what it has in the end.
    fn is_promising(&self, before: &State, state: &State) -> bool {
        let mut changed =
            (state.keys.iter()).filter(|(key, record)| before.keys.get(*key) != Some(record));
        changed.all(|(key, record)| {
            let value = self.puzzle.after.value(key);
            value.is_some_and(|value| value.starts_with(&record.value))
        })
    }

    fn take_request(&mut self, node: &Node) {
        let puzzle = self.puzzle;
        let Some(request) = puzzle.requests.get(node.next) else { return };
        if let Some(command) = &request.command {
            if let Some(changes) = node.state.changes_if_replied(command, &request.reply) {
                self.visit(self.after(node, &changes, true));
            }
            return;
        }
        for (index, piece) in puzzle.pieces.iter().enumerate() {
            // One that was taken for an observer may as well be this request.
            let fits = piece.command.is_write()
                && node.used[index] < piece.limit
                && piece.reply.is_none_or(|reply| *reply == request.reply);
            if !fits {
                continue;
            }
            if let Some(changes) = node.state.changes_if_replied(&piece.command, &request.reply) {
                let mut next = self.after(node, &changes, true);
                next.used[index] += 1;
                next.seen &= !(1 << index);
                self.visit(next);
            }
        }
    }

    /// What follows if a command that left no id comes next.
    fn after_piece(&mut self, node: &Node, index: usize) -> Option<Node> {
        let piece = &self.puzzle.pieces[index];
        let is_over = node.used[index] == piece.limit || node.seen & 1 << index != 0;
        if is_over || piece.needs_request || !piece.command.is_write() {
            return None;
        }
        let changes = match piece.reply {
            Some(reply) => node.state.changes_if_replied(&piece.command, reply)?,
            None => node.state.evaluate(&piece.command).changes,
        };
        // What changes nothing was an observer, or is of no use.
        if changes.is_empty() {
            return None;
        }
        if piece.reply.is_none() && self.unknown_used(node) >= self.budget {
            self.budget_reached = true;
            return None;
        }
        let mut next = self.after(node, &changes, false);
        next.used[index] += 1;
        Some(next)
    }

    fn unknown_used(&self, node: &Node) -> usize {
        let pieces = self.puzzle.pieces.iter().zip(&node.used);
        pieces.filter(|(piece, _)| piece.reply.is_none()).map(|(_, used)| used).sum()
    }

    fn after(&self, node: &Node, changes: &[Change<'a>], is_request: bool) -> Node {
        let mut after = node.clone();
        after.state.apply(changes, self.puzzle.entry);
        after.next += usize::from(is_request);
        after
    }
}

impl Node {
    fn has_place(&self, index: usize) -> bool {
        self.used[index] > 0 || self.seen & 1 << index != 0
    }
}
