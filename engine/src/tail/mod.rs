//! A tail: the change stream of a node, told to a program outside.
//!
//! What a node holds is in the logs of its cores. A tail follows each of them ([`core_tail`]) by
//! asking for pages ([`change`]); the node keeps nothing for it but what it asks now, so any number
//! of slow ones cost a node no memory. Where a tail stands is a [`position`], a word that it prints
//! with each line, and from which a later one goes on exactly.
//!
//! Pure: whoever drives it asks the questions, and prints what comes of the replies.

pub mod change;
pub mod core_tail;
pub mod position;

use net::resp::value::Value;

pub use crate::tail::change::What;
pub use crate::tail::core_tail::{CoreTail, Line, Passes, Question, Said, TailError, Told};
pub use crate::tail::position::{CorePlace, LogPosition, NoPosition, PassPlace, Position};

/// A tail of all cores of a node.
#[derive(Clone, Debug)]
pub struct Tail {
    cores: Vec<CoreTail>,
    /// Who is asked next.
    turn: usize,
}

/// How a tail begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Begin {
    /// With what changes from now on.
    Now,
    /// With everything that the node holds.
    Start,
    /// Behind a line that was printed earlier.
    After(Position),
}

/// What a tail says, of which core, and where it stands in all of them after it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TailLine {
    /// The core.
    pub core: u16,
    /// What it says.
    pub said: Said,
    /// Where to go on.
    pub position: Position,
}

/// What came of a core's reply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Heard {
    /// What to print.
    pub lines: Vec<TailLine>,
    /// Nothing more is there on this core by now: ask it again after a while.
    pub waits: bool,
    /// The core cannot answer now, in its words.
    pub refusal: Option<String>,
}

impl Tail {
    /// A tail of a node with `core_count` cores.
    ///
    /// # Errors
    ///
    /// When the position is of a node with another number of cores, and no pass is allowed.
    pub fn new(begin: &Begin, core_count: u16, passes: Passes) -> Result<Self, TailError> {
        let at = |core: u16, place| CoreTail::at(core, place, passes);
        let from_start = |core: u16, reason: &str| CoreTail::from_start(core, reason, passes);
        let cores = match begin {
            Begin::Now => (0..core_count).map(|core| CoreTail::now(core, passes)).collect(),
            Begin::Start => (0..core_count).map(|core| from_start(core, "asked for")).collect(),
            Begin::After(position) if position.cores.len() == usize::from(core_count) => {
                (0..core_count).zip(&position.cores).map(|(core, place)| at(core, *place)).collect()
            }
            Begin::After(position) => {
                let other = position.cores.len();
                let reason = format!(
                    "the position is of a node with {other} cores, and this one has {core_count}"
                );
                if passes == Passes::Refused {
                    return Err(TailError::Gone { core: 0, reason });
                }
                (0..core_count).map(|core| from_start(core, &reason)).collect()
            }
        };
        Ok(Self { cores, turn: 0 })
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { cores: self.cores.iter().map(CoreTail::place).collect() }
    }

    /// The tail of each core.
    #[must_use]
    pub fn cores(&self) -> &[CoreTail] {
        &self.cores
    }

    /// What to ask next, and which core: each in turn. Where all begin with what changes from now
    /// on, each is asked where its log ends before any tells a line, whose position is of all.
    pub fn next_question(&mut self) -> (u16, Question) {
        let count = self.cores.len();
        let mut turns = (0..count).map(|offset| (self.turn + offset) % count);
        let to_begin = turns.find(|core| self.cores[*core].is_to_begin());
        let core = to_begin.unwrap_or(self.turn);
        self.turn = (core + 1) % count;
        (u16::try_from(core).expect("made from 16 bits"), self.cores[core].question())
    }

    /// The connection was lost.
    pub fn handle_lost(&mut self) {
        self.cores.iter_mut().for_each(CoreTail::handle_lost);
    }

    /// Takes a core's reply to its [`CoreTail::question`].
    ///
    /// # Errors
    ///
    /// When it cannot go on.
    pub fn handle_reply(&mut self, core: u16, reply: &Value) -> Result<Heard, TailError> {
        let place = usize::from(core);
        let mut position = self.position();
        let told = self.cores[place].handle_reply(reply)?;
        let lines = told.lines.into_iter().map(|(said, at)| {
            position.cores[place] = at;
            TailLine { core, said, position: position.clone() }
        });
        let lines = lines.collect();
        Ok(Heard { lines, waits: told.waits, refusal: told.refusal })
    }
}
