//! `CERTUS STATUS` and operators' orders: one document out of what every core says.

use engine::request::Ticket;
use engine::session::Order;
use serde_json::Value;

/// What every core is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// Its status.
    Status,
    /// What came of an order.
    Order(Order),
}

/// A question that every core has answered.
#[derive(Debug, PartialEq)]
pub struct Gathered {
    /// Who asked.
    pub ticket: Ticket,
    /// For what.
    pub wanted: Wanted,
    /// The answers, by core.
    pub parts: Vec<Value>,
}

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
    wanted: Wanted,
    /// By core.
    parts: Vec<Option<Value>>,
}

impl StatusGather {
    /// Opens a question to `core_count` cores, and names it.
    pub fn ask(&mut self, ticket: Ticket, wanted: Wanted, core_count: u16) -> u64 {
        let name = self.next;
        self.next += 1;
        let parts = (0..core_count).map(|_| None).collect();
        self.open.push(Question { name, ticket, wanted, parts });
        name
    }

    /// A core's answer. Returns all of them when it was the last one missing.
    pub fn answer(&mut self, name: u64, core: u16, part: Value) -> Option<Gathered> {
        let position = self.open.iter().position(|question| question.name == name)?;
        let question = &mut self.open[position];
        *question.parts.get_mut(usize::from(core))? = Some(part);
        if question.parts.iter().any(Option::is_none) {
            return None;
        }
        let Question { ticket, wanted, parts, .. } = self.open.remove(position);
        Some(Gathered { ticket, wanted, parts: parts.into_iter().flatten().collect() })
    }
}

#[cfg(test)]
mod tests {
    use engine::request::Ticket;
    use serde_json::json;

    use engine::session::Order;

    use super::{Gathered, StatusGather, Wanted};

    #[test]
    fn a_question_is_answered_when_every_core_has_spoken_in_any_order() {
        let mut gather = StatusGather::default();
        let ticket = |sequence| Ticket { core: 0, connection: 0, sequence };
        let first = gather.ask(ticket(1), Wanted::Status, 3);
        let second = gather.ask(ticket(2), Wanted::Order(Order::Checkpoint), 3);
        assert_ne!(first, second);
        assert_eq!(gather.answer(first, 2, json!("c")), None);
        assert_eq!(gather.answer(second, 0, json!("x")), None);
        assert_eq!(gather.answer(first, 0, json!("a")), None);
        let parts = vec![json!("a"), json!("b"), json!("c")];
        let whole = Gathered { ticket: ticket(1), wanted: Wanted::Status, parts };
        assert_eq!(gather.answer(first, 1, json!("b")), Some(whole));
        assert_eq!(gather.answer(first, 1, json!("b")), None, "it was answered");
    }
}
