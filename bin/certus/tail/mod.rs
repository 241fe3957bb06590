//! `certus tail`: the change stream of a node as JSON lines.
//!
//! What is said, and from where on, is [`engine::tail`]'s; here are the connection, the file with
//! the position, and patience. Lines are printed before their position is kept, so a crash repeats
//! some and leaves out none.

mod line;
mod node;
mod position_file;

use std::thread::sleep;
use std::time::{Duration, Instant};

use engine::tail::{Begin, CoreTail, Passes, Position, Tail, TailError};

use crate::arguments::Tail as Arguments;
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::tail::line::{line, progress};
use crate::tail::node::{Node, NodeError};
use crate::tail::position_file::{PositionFile, PositionFileError};

/// When nothing changes, a node is asked again after this time.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Nodes that cannot be reached are tried again after this time, twice as long each time, …
const BACK_OFF: Duration = Duration::from_millis(100);

/// … up to this.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Questions on their way at a time.
const QUESTIONS_MAX: usize = 8;

/// A position that moved without a line is kept after this time.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Why it ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Tail(#[from] TailError),
    #[error("{0}")]
    File(#[from] PositionFileError),
    #[error("no node was reached for {0:?}: {1}")]
    Nobody(Duration, NodeError),
}

/// Prints what changes.
pub fn run(arguments: &Arguments, console: &mut Console) -> ExitStatus {
    match Run::begin(arguments, console).and_then(|mut run| run.go_on()) {
        Ok(()) => ExitStatus::Ok,
        Err(end) => {
            complain(&end);
            match end {
                End::Tail(TailError::Gone { .. }) => ExitStatus::Degraded,
                _ => ExitStatus::Failed,
            }
        }
    }
}

struct Run<'a> {
    arguments: &'a Arguments,
    console: &'a mut Console,
    file: Option<PositionFile>,
    /// Where it stands.
    begin: Begin,
    /// With the line printed last, and when.
    said: Option<Position>,
    said_at: Instant,
    /// When the position was kept last.
    kept_at: Instant,
    /// What the node said last when it refused.
    refusal: Option<String>,
}

impl<'a> Run<'a> {
    fn begin(arguments: &'a Arguments, console: &'a mut Console) -> Result<Self, End> {
        let file = arguments.position_file.as_deref().map(PositionFile::open).transpose()?;
        let kept = file.as_ref().and_then(PositionFile::kept).or(arguments.from.as_ref());
        let begin = match kept {
            Some(position) => Begin::After(position.clone()),
            None if arguments.from_start => Begin::Start,
            None => Begin::Now,
        };
        let now = Instant::now();
        let (said_at, kept_at) = (now, now);
        Ok(Self { arguments, console, file, begin, said: None, said_at, kept_at, refusal: None })
    }

    fn go_on(&mut self) -> Result<(), End> {
        let passes = if self.arguments.exact { Passes::Refused } else { Passes::Allowed };
        let mut tail: Option<Tail> = None;
        loop {
            let mut node = self.find_node()?;
            let fits = |tail: &Tail| tail.cores().len() == usize::from(node.core_count);
            let current = match tail.take().filter(fits) {
                Some(tail) => tail,
                None => Tail::new(&self.begin, node.core_count, passes)?,
            };
            let current = tail.insert(current);
            let lost = match self.follow(&mut node, current) {
                Ok(()) => return Ok(()),
                Err(Trouble::End(end)) => return Err(end),
                Err(Trouble::Lost(error)) => error,
            };
            complain(format_args!("{}: {lost}; connecting again", node.address));
            current.handle_lost();
            sleep(BACK_OFF);
        }
    }

    /// Asks and prints until the end, or until the connection is lost.
    fn follow(&mut self, node: &mut Node, tail: &mut Tail) -> Result<(), Trouble> {
        let pattern = self.arguments.pattern.as_deref().map(str::as_bytes);
        let mut reached_end = vec![false; tail.cores().len()];
        let mut waiting = vec![false; tail.cores().len()];
        loop {
            let (core, _) = tail.next_question();
            let place = usize::from(core);
            let questions = tail.cores()[place].questions(QUESTIONS_MAX);
            let replies = node.ask(core, &questions, pattern)?;
            for (question, reply) in questions.into_iter().zip(replies) {
                if tail.cores()[place].question() != question {
                    break; // a reply before it changed what is wanted
                }
                let heard = tail.handle_reply(core, &reply)?;
                waiting[place] = heard.waits;
                reached_end[place] |=
                    heard.waits && heard.refusal.is_none() && !tail.cores()[place].is_in_pass();
                self.note_refusal(heard.refusal, node);
                for said in &heard.lines {
                    self.console.line(line(said));
                }
                if self.console.is_closed() {
                    return Ok(());
                }
                // Before all cores are known the position would be of some.
                if !tail.cores().iter().any(CoreTail::is_to_begin) {
                    self.keep(tail.position(), !heard.lines.is_empty())?;
                }
            }
            if self.arguments.until_end && reached_end.iter().all(|reached| *reached) {
                self.keep_now(&tail.position())?;
                return Ok(());
            }
            if waiting.iter().all(|waits| *waits) {
                sleep(ASK_EVERY);
            }
        }
    }

    /// Takes note of where it stands.
    fn keep(&mut self, position: Position, has_said: bool) -> Result<(), PositionFileError> {
        let now = Instant::now();
        let is_due = |after: Duration, since: Instant| now.duration_since(since) >= after;
        let is_news = self.said.as_ref() != Some(&position);
        let tells = |after| is_news && is_due(after, self.said_at);
        let tells_progress = !has_said && self.arguments.progress.is_some_and(tells);
        if tells_progress {
            self.console.line(progress(&position));
        }
        if has_said || tells_progress {
            (self.said, self.said_at) = (Some(position.clone()), now);
        }
        let has_moved = self.begin != Begin::After(position.clone());
        if has_said || tells_progress || has_moved && is_due(KEEP_EVERY, self.kept_at) {
            self.keep_now(&position)?;
        }
        Ok(())
    }

    fn keep_now(&mut self, position: &Position) -> Result<(), PositionFileError> {
        self.kept_at = Instant::now();
        self.begin = Begin::After(position.clone());
        match &mut self.file {
            Some(file) => file.keep(position),
            None => Ok(()),
        }
    }

    /// Tells of a refusal once, and of its end.
    fn note_refusal(&mut self, refusal: Option<String>, node: &Node) {
        if refusal != self.refusal
            && let Some(text) = &refusal
        {
            complain(format_args!("{}: waiting: {text}", node.address));
        }
        if refusal.is_some() {
            sleep(ASK_EVERY);
        }
        self.refusal = refusal;
    }

    /// The node whose log the position is of, if it comes back soon; else the first one that can be
    /// reached.
    fn find_node(&self) -> Result<Node, End> {
        let begun = Instant::now();
        let mut back_off = BACK_OFF;
        loop {
            let mut failure = None;
            let mut other = None;
            for address in &self.arguments.addr {
                match self.try_node(address) {
                    Ok((node, true)) => return Ok(node),
                    Ok((node, false)) => drop(other.get_or_insert(node)),
                    Err(error) => failure = Some((address, error)),
                }
            }
            let waited = begun.elapsed();
            // With all of them there, and none the right one, there is nobody to wait for.
            let is_hopeless = failure.is_none() || waited >= self.arguments.turn_after;
            match (other, failure) {
                (Some(node), _) if is_hopeless => return Ok(node),
                (Some(_), _) | (None, None) => {}
                (None, Some((address, error))) => {
                    let limit = self.arguments.give_up_after;
                    if let Some(limit) = limit.filter(|limit| waited >= *limit) {
                        return Err(End::Nobody(limit, error));
                    }
                    complain(format_args!("{address}: {error}; trying again in {back_off:?}"));
                }
            }
            sleep(back_off);
            back_off = (2 * back_off).min(BACK_OFF_MAX);
        }
    }

    /// Connects to a node, and finds out whether the position is of its log.
    fn try_node(&self, address: &str) -> Result<(Node, bool), NodeError> {
        let mut node = Node::connect(address, self.arguments.timeout)?;
        let is_right = match &self.begin {
            Begin::After(position) => node.has_log_of(position)?.unwrap_or(true),
            Begin::Now | Begin::Start => true,
        };
        Ok((node, is_right))
    }
}

/// Why a node is followed no longer.
enum Trouble {
    Lost(NodeError),
    End(End),
}

impl From<NodeError> for Trouble {
    fn from(error: NodeError) -> Self {
        Self::Lost(error)
    }
}

impl From<TailError> for Trouble {
    fn from(error: TailError) -> Self {
        Self::End(error.into())
    }
}

impl From<PositionFileError> for Trouble {
    fn from(error: PositionFileError) -> Self {
        Self::End(error.into())
    }
}
