//! `CERTUS STATUS`: one document out of what every core says of itself.

use engine::request::Ticket;
use serde_json::Value;

/// Questions whose answers are not all there yet, oldest first.
#[derive(Debug, Default)]
pub struct StatusGather {
    next: u64,
    open: Vec<Question>,
}

#[derive(Debug)]
struct Question {
    name: u64,
    ticket: Ticket,
    /// By core.
    parts: Vec<Option<Value>>,
}

impl StatusGather {
    /// Opens a question to `core_count` cores, and names it.
    pub fn ask(&mut self, ticket: Ticket, core_count: u16) -> u64 {
        let name = self.next;
        self.next += 1;
        let parts = (0..core_count).map(|_| None).collect();
        self.open.push(Question { name, ticket, parts });
        name
    }

    /// A core's answer. Returns the client's ticket and all parts when it was the last one missing.
    pub fn answer(&mut self, name: u64, core: u16, part: Value) -> Option<(Ticket, Vec<Value>)> {
        let position = self.open.iter().position(|question| question.name == name)?;
        let question = &mut self.open[position];
        *question.parts.get_mut(usize::from(core))? = Some(part);
        if question.parts.iter().any(Option::is_none) {
            return None;
        }
        let question = self.open.remove(position);
        Some((question.ticket, question.parts.into_iter().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use engine::request::Ticket;
    use serde_json::json;

    use super::StatusGather;

    #[test]
    fn a_question_is_answered_when_every_core_has_spoken_in_any_order() {
        let mut gather = StatusGather::default();
        let ticket = |sequence| Ticket { core: 0, connection: 0, sequence };
        let first = gather.ask(ticket(1), 3);
        let second = gather.ask(ticket(2), 3);
        assert_ne!(first, second);
        assert_eq!(gather.answer(first, 2, json!("c")), None);
        assert_eq!(gather.answer(second, 0, json!("x")), None);
        assert_eq!(gather.answer(first, 0, json!("a")), None);
        let whole = vec![json!("a"), json!("b"), json!("c")];
        assert_eq!(gather.answer(first, 1, json!("b")), Some((ticket(1), whole)));
        assert_eq!(gather.answer(first, 1, json!("b")), None, "it was answered");
    }
}
