//! Acknowledged is durable: a reply rests on entries that a majority of disks holds.

use engine::request::Reply;
use net::resp::value::Value;
use plog::vocabulary::{EntityId, Entry};

use crate::checkers::Violation;
use crate::checkers::agreement::Agreement;

pub(super) fn reply(
    node: u8,
    entity: EntityId,
    reply: &Reply,
    agreement: &Agreement,
) -> Result<(), Violation> {
    let is_error = matches!(reply.value, Value::Error(_));
    if is_error || reply.entry == Entry::ZERO {
        return Ok(());
    }
    if agreement.chain_at(entity, reply.entry).is_none() {
        let what = format!(
            "node {node} answers {:?} as of {entity:?} {:?}, which is not on a majority of disks",
            reply.value, reply.entry
        );
        return Err(Violation::new("acknowledged-is-durable", what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use engine::request::{Reply, Ticket};
    use net::resp::value::Value;
    use plog::vocabulary::{EntityId, Entry};

    use crate::checkers::agreement::Agreement;

    #[test]
    fn an_answer_that_rests_on_nothing_is_seen() {
        let agreement = Agreement::new(plog::configuration::Configuration::initial(3), &[1; 5]);
        let reply = |value, entry| Reply { ticket: Ticket::default(), value, entry: Entry(entry) };
        let check = |given: Reply| super::reply(0, EntityId(1), &given, &agreement);
        check(reply(Value::Null, 0)).unwrap();
        check(reply(Value::error("BUSY"), 3)).unwrap();
        assert!(check(reply(Value::OK, 1)).is_err());
    }
}
