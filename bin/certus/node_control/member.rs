//! `certus member`: who votes, and having nodes added, removed and replaced, step by step, until it
//! is done and settled.
//!
//! A node does one step at a time (`CERTUS MEMBER`); what comes next follows from how the
//! membership stands. So a command that was interrupted goes on when it is repeated, and one that
//! was carried out does nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::arguments::{Member, MemberChange, MemberCommand, ToldNodes};
use crate::console::{Console, complain};
use crate::exit_status::ExitStatus;
use crate::node_control::{Node, OrderError, cores, number};
use crate::resp_client::resolve;

/// How often a node is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What an operator wants of the membership.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Goal {
    /// Who is to vote.
    joins: Option<u8>,
    /// Who is to be no member.
    leaves: Option<u8>,
}

/// What comes next.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Next {
    /// This, of `CERTUS MEMBER`.
    Step(&'static str, u8),
    /// It is as wanted, and has to be settled.
    Settle,
    /// It is as wanted and settled.
    Done,
}

impl Goal {
    fn next(self, present: &Membership) -> Next {
        if let Some(joins) = self.joins.filter(|joins| !present.voters.contains(joins)) {
            let is_learner = present.learners.contains(&joins);
            return Next::Step(if is_learner { "PROMOTE" } else { "ADD" }, joins);
        }
        if let Some(leaves) = self.leaves
            && (present.voters.contains(&leaves) || present.learners.contains(&leaves))
        {
            return Next::Step("REMOVE", leaves);
        }
        if present.is_settled { Next::Done } else { Next::Settle }
    }
}

/// How the membership stands, by one node's word.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Membership {
    changes: bool,
    slots: u64,
    version: u64,
    voters: Vec<u8>,
    learners: Vec<u8>,
    settled: Vec<u8>,
    heard: Vec<u8>,
    is_settled: bool,
    /// Why a step was not begun: the kind, and words.
    refused: Option<(String, String)>,
}

impl Membership {
    fn of(document: &Json) -> Self {
        let nothing = Json::Null;
        let said = cores(document).iter().find(|core| number(core, "/core") == 0);
        let said = said.unwrap_or(&nothing);
        let list = |pointer: &str| -> Vec<u8> {
            let list = said.pointer(pointer).and_then(Json::as_array);
            list.into_iter().flatten().filter_map(|id| u8::try_from(id.as_u64()?).ok()).collect()
        };
        let flag = |name: &str| said.get(name).and_then(Json::as_bool).unwrap_or(false);
        let word = |pointer: &str| said.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        Self {
            changes: flag("changes"),
            slots: number(said, "/slots"),
            version: number(said, "/configuration/version"),
            voters: list("/configuration/voters"),
            learners: list("/configuration/learners"),
            settled: list("/settled"),
            heard: list("/heard"),
            is_settled: flag("is_settled"),
            refused: word("/refused/kind").zip(word("/refused/text")),
        }
    }

    /// It in a line.
    fn line(&self) -> String {
        let Self { version, .. } = self;
        if self.voters.is_empty() {
            return "it knows no members yet: it waits until it is added".to_owned();
        }
        let (voters, learners) = (names(&self.voters), names(&self.learners));
        let settled = if self.is_settled {
            "settled: the next change may follow".to_owned()
        } else {
            format!("settled by {} so far: the next change waits", names(&self.settled))
        };
        format!("version {version}, voters {voters}, learners {learners}; {settled}")
    }
}

fn names(nodes: &[u8]) -> String {
    if nodes.is_empty() {
        return "nobody".to_owned();
    }
    nodes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// Does what is wanted.
pub fn member(arguments: &Member, console: &mut Console) -> ExitStatus {
    let (goal, change) = match &arguments.command {
        MemberCommand::List(nodes) => return list(nodes, console),
        MemberCommand::Add { node, change } => (Goal { joins: Some(*node), leaves: None }, change),
        MemberCommand::Remove { node, change } => {
            (Goal { joins: None, leaves: Some(*node) }, change)
        }
        MemberCommand::Replace { node, by, .. } if node == by => {
            complain(format_args!(
                "node {node} cannot replace itself by a change of the membership: with an empty \
                 data directory, start it with certusd --replace"
            ));
            return ExitStatus::Failed;
        }
        MemberCommand::Replace { node, by, change } => {
            (Goal { joins: Some(*by), leaves: Some(*node) }, change)
        }
    };
    let mut pursuit = Pursuit { goal, said: String::new(), console };
    match pursuit.pursue(change) {
        Ok(true) => ExitStatus::Ok,
        Ok(false) => {
            complain(
                "not done in time; what was begun goes on by itself: repeat the command to go on \
                 with the rest",
            );
            ExitStatus::Degraded
        }
        Err(error) => {
            complain(error);
            ExitStatus::Failed
        }
    }
}

fn list(nodes: &ToldNodes, console: &mut Console) -> ExitStatus {
    let mut status = ExitStatus::Ok;
    for name in &nodes.addr {
        match ask(name, nodes.timeout, &["CERTUS", "MEMBER", "LIST"]) {
            Ok((present, address)) if present.changes => {
                let heard = names(&present.heard);
                console.line(format_args!("{address}: {}; it hears {heard}", present.line()));
            }
            Ok((_, address)) => console.line(format_args!("{address}: {NEVER}")),
            Err(error) => {
                complain(error);
                status = ExitStatus::Failed;
            }
        }
    }
    status
}

const NEVER: &str = "its configuration has no replica_slots, so its members never change";

fn ask(
    name: &str,
    timeout: Duration,
    words: &[&str],
) -> Result<(Membership, std::net::SocketAddr), OrderError> {
    let address = resolve(name).map_err(OrderError::Address)?;
    let document = Node::connect(address, timeout)?.ask(words)?;
    Ok((Membership::of(&document), address))
}

struct Pursuit<'a> {
    goal: Goal,
    /// What was printed last, so that it is not again.
    said: String,
    console: &'a mut Console,
}

impl Pursuit<'_> {
    /// Step after step until it is settled; false when it is not in time.
    fn pursue(&mut self, change: &MemberChange) -> Result<bool, String> {
        let deadline = Instant::now() + change.wait;
        let mut turn = 0;
        loop {
            let addresses = &change.nodes.addr;
            let name = &addresses[turn % addresses.len()];
            match self.turn(name, change.nodes.timeout) {
                Ok(Turn::Done) => return Ok(true),
                Ok(Turn::GoOn) => {}
                // The next address may do what this one cannot.
                Ok(Turn::Elsewhere(_)) | Err(_) if turn + 1 < addresses.len() => {
                    turn += 1;
                    continue;
                }
                Ok(Turn::Elsewhere(reason)) => return Err(reason),
                Err(OrderError::Silent { .. }) if self.said.is_empty() => {
                    return Err(format!("none of {} can be asked", addresses.join(", ")));
                }
                Err(OrderError::Silent { .. }) => turn = 0,
                Err(error) => return Err(error.to_string()),
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(ASK_EVERY);
        }
    }

    fn turn(&mut self, name: &str, timeout: Duration) -> Result<Turn, OrderError> {
        let (present, address) = ask(name, timeout, &["CERTUS", "MEMBER", "LIST"])?;
        if !present.changes {
            return Ok(Turn::Elsewhere(format!("{address}: {NEVER}")));
        }
        let asked = [self.goal.joins, self.goal.leaves].into_iter().flatten();
        if let Some(node) = { asked }.find(|node| u64::from(*node) >= present.slots) {
            let last = present.slots.saturating_sub(1);
            return Ok(Turn::Elsewhere(format!(
                "node {node} cannot be a member: with replica_slots = {}, nodes are numbered from \
                 0 to {last}",
                present.slots
            )));
        }
        let (word, node) = match self.goal.next(&present) {
            Next::Done => {
                self.say(format!("{address}: {}", present.line()));
                return Ok(Turn::Done);
            }
            Next::Settle => {
                self.say(format!("{address}: {}", present.line()));
                return Ok(Turn::GoOn);
            }
            Next::Step(word, node) => (word, node),
        };
        let node_word = node.to_string();
        let (then, _) = ask(name, timeout, &["CERTUS", "MEMBER", word, &node_word])?;
        let Some((kind, text)) = then.refused else {
            let step = match word {
                "ADD" => "is to learn",
                "PROMOTE" => "is to vote",
                _ => "is to leave",
            };
            self.say(format!("{address}: node {node} {step}"));
            return Ok(Turn::GoOn);
        };
        match kind.as_str() {
            "not_settled" | "under_way" | "learner_behind" => {
                self.say(format!("{address}: waiting: {text}"));
                Ok(Turn::GoOn)
            }
            _ => Ok(Turn::Elsewhere(format!("{address}: {text}"))),
        }
    }

    fn say(&mut self, line: String) {
        if line != self.said {
            self.console.line(&line);
            self.said = line;
        }
    }
}

enum Turn {
    Done,
    GoOn,
    /// This node cannot, and why.
    Elsewhere(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Goal, Membership, Next};

    fn membership(voters: &[u8], learners: &[u8], is_settled: bool) -> Membership {
        let document = json!({ "cores": [{ "core": 1 }, {
            "core": 0, "changes": true, "slots": 5, "is_settled": is_settled, "settled": [0],
            "configuration": { "version": 4, "voters": voters, "learners": learners },
            "heard": [0, 1], "refused": { "kind": "static", "text": "never" },
        }] });
        Membership::of(&document)
    }

    #[test]
    fn a_node_is_replaced_by_steps_each_of_which_follows_from_how_it_stands() {
        let goal = Goal { joins: Some(3), leaves: Some(1) };
        let next = |voters: &[u8], learners: &[u8], is_settled| {
            goal.next(&membership(voters, learners, is_settled))
        };
        assert_eq!(next(&[0, 1, 2], &[], true), Next::Step("ADD", 3));
        assert_eq!(next(&[0, 1, 2], &[3], false), Next::Step("PROMOTE", 3));
        assert_eq!(next(&[0, 1, 2, 3], &[], false), Next::Step("REMOVE", 1));
        assert_eq!(next(&[0, 2, 3], &[], false), Next::Settle);
        assert_eq!(next(&[0, 2, 3], &[], true), Next::Done);
        assert_eq!(next(&[0, 2, 3], &[1], true), Next::Step("REMOVE", 1));
    }

    #[test]
    fn what_a_node_says_is_read_and_shown() {
        let said = membership(&[0, 1, 2], &[], false);
        assert_eq!((said.slots, said.version, said.heard.as_slice()), (5, 4, &[0, 1][..]));
        assert_eq!(said.refused, Some(("static".to_owned(), "never".to_owned())));
        let line = "version 4, voters 0, 1, 2, learners nobody; settled by 0 so far: the next \
                    change waits";
        assert_eq!(said.line(), line);
        assert!(Membership::default().line().contains("waits until it is added"));
    }
}
