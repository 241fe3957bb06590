//! What tails ask: `CERTUS CHANGES`, `CERTUS ENTITIES`, `CERTUS STATE`.

use net::resp::arguments::Arguments;
use net::resp::value::Value;
use plog::vocabulary::EntityId;

use crate::request::{ChangesQuestion, CoreQuestion, EntityRequest};
use crate::session::action::Action;
use crate::session::wording;
use crate::state_machine::strings::integer;

/// Lines on a page, and entities listed, unless `COUNT` says otherwise.
const COUNT: usize = 256;

/// `MATCH pattern` and `COUNT n`, in any order.
#[derive(Debug, Default)]
struct Options {
    pattern: Option<Box<[u8]>>,
    count: Option<usize>,
}

/// `CERTUS CHANGES core position|NOW [MATCH pattern] [COUNT n]`
pub(super) fn changes(arguments: &Arguments, core_count: u16) -> Action {
    answer(|| {
        let entity = entity_of_core(&arguments[2], core_count)?;
        let after = if arguments[3].eq_ignore_ascii_case(b"NOW") {
            None
        } else {
            let text = String::from_utf8_lossy(&arguments[3]);
            let position = text.parse();
            Some(position.map_err(|_| {
                Value::error(format!(
                    "ERR '{}' is no position of a core's log: send one that CERTUS CHANGES \
                     replied with, or NOW",
                    wording::quoted(&arguments[3], 128)
                ))
            })?)
        };
        let Options { pattern, count } = options(arguments, 4, &["MATCH", "COUNT"])?;
        let question = ChangesQuestion { after, pattern, count: count.unwrap_or(COUNT) };
        let request = EntityRequest::Core(CoreQuestion::Changes(Box::new(question)));
        Ok(Action::Entity { entity, request })
    })
}

/// `CERTUS ENTITIES core entity|FIRST [COUNT n]`
pub(super) fn entities(arguments: &Arguments, core_count: u16) -> Action {
    answer(|| {
        let entity = entity_of_core(&arguments[2], core_count)?;
        let after = if arguments[3].eq_ignore_ascii_case(b"FIRST") {
            None
        } else {
            Some(parse_entity(&arguments[3])?)
        };
        let count = options(arguments, 4, &["COUNT"])?.count.unwrap_or(COUNT);
        let request = EntityRequest::Core(CoreQuestion::Entities { after, count });
        Ok(Action::Entity { entity, request })
    })
}

/// `CERTUS STATE entity [MATCH pattern]`
pub(super) fn state(arguments: &Arguments) -> Action {
    answer(|| {
        let entity = parse_entity(&arguments[2])?;
        let pattern = options(arguments, 3, &["MATCH"])?.pattern;
        Ok(Action::Entity { entity, request: EntityRequest::State { pattern } })
    })
}

fn answer(parse: impl FnOnce() -> Result<Action, Value>) -> Action {
    parse().unwrap_or_else(Action::Reply)
}

/// An entity that the core owns: the way of a question to it.
fn entity_of_core(word: &[u8], core_count: u16) -> Result<EntityId, Value> {
    let core = integer::parse(word).and_then(|core| u16::try_from(core).ok());
    match core.filter(|core| *core < core_count) {
        // Sixteen slots at a time belong to one core: see `slot::shard_of`.
        Some(core) => Ok(EntityId((u64::from(core) * 16) << 48)),
        None => Err(Value::error(format!(
            "ERR '{}' is no core of this node: its cores are 0 to {}",
            wording::quoted(word, 128),
            core_count - 1
        ))),
    }
}

fn parse_entity(word: &[u8]) -> Result<EntityId, Value> {
    let digits = std::str::from_utf8(word).ok().filter(|word| {
        (1..=16).contains(&word.len()) && word.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    match digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(id) => Ok(EntityId(id)),
        None => Err(Value::error(format!(
            "ERR '{}' is no entity: send 1 to 16 hexadecimal digits, as CERTUS ENTITIES replies",
            wording::quoted(word, 128)
        ))),
    }
}

fn options(arguments: &Arguments, begin: usize, known: &[&str]) -> Result<Options, Value> {
    let mut options = Options::default();
    let mut place = begin;
    while let Some(name) = arguments.get(place) {
        let is = |word: &str| known.contains(&word) && name.eq_ignore_ascii_case(word.as_bytes());
        let Some(value) = arguments.get(place + 1) else { return Err(wording::syntax_error()) };
        if is("MATCH") {
            options.pattern = Some(value.into());
        } else if is("COUNT") {
            let count = integer::parse(value).and_then(|count| usize::try_from(count).ok());
            let count = count.filter(|count| *count > 0);
            options.count = Some(count.ok_or_else(|| {
                Value::error(format!(
                    "ERR COUNT '{}' is out of range: send 1 or more",
                    wording::quoted(value, 128)
                ))
            })?);
        } else {
            return Err(wording::syntax_error());
        }
        place += 2;
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use net::resp::arguments::Arguments;
    use net::resp::slot::shard_of;
    use net::resp::value::Value;
    use plog::vocabulary::EntityId;

    use super::{COUNT, changes, entities, state};
    use crate::request::{ChangesQuestion, CoreQuestion, EntityRequest};
    use crate::session::Action;

    fn words(words: &str) -> Arguments {
        Arguments::from_slices(&words.split(' ').collect::<Vec<_>>())
    }

    fn refusal(action: Action) -> String {
        match action {
            Action::Reply(Value::Error(error)) => error.text().to_owned(),
            other => panic!("{other:?} is no refusal"),
        }
    }

    #[test]
    fn a_question_finds_its_core() {
        for core in 0..3 {
            let action = changes(&words(&format!("CERTUS CHANGES {core} now")), 3);
            let Action::Entity { entity, request } = action else { panic!("{action:?}") };
            assert_eq!(shard_of(entity, 3), core);
            let question = ChangesQuestion { after: None, pattern: None, count: COUNT };
            let expected = CoreQuestion::Changes(Box::new(question));
            assert_eq!(request, EntityRequest::Core(expected));
        }
        let last = changes(&words("CERTUS CHANGES 1023 NOW"), 1024);
        assert!(matches!(last, Action::Entity { entity, .. } if shard_of(entity, 1024) == 1023));
    }

    #[test]
    fn options_are_read_in_any_order() {
        let asked = words("CERTUS CHANGES 0 1.2.3.4.5+6 count 7 match a*");
        let Action::Entity {
            request: EntityRequest::Core(CoreQuestion::Changes(question)), ..
        } = changes(&asked, 1)
        else {
            panic!("it is a question")
        };
        assert_eq!(question.after.unwrap().to_string(), "1.2.3.4.5+6");
        assert_eq!((question.count, question.pattern.as_deref()), (7, Some(&b"a*"[..])));
        let action = entities(&words("CERTUS ENTITIES 0 2A COUNT 9"), 1);
        let expected = CoreQuestion::Entities { after: Some(EntityId(42)), count: 9 };
        assert!(
            matches!(&action, Action::Entity { request: EntityRequest::Core(asked), .. }
                if *asked == expected),
            "{action:?}"
        );
        let action = state(&words("CERTUS STATE ffffffffffffffff MATCH x"));
        let Action::Entity { entity, request } = action else { panic!("{action:?}") };
        assert_eq!(entity, EntityId(u64::MAX));
        assert_eq!(request, EntityRequest::State { pattern: Some(b"x"[..].into()) });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_value_and_the_remedy() {
        let cases = [
            (
                changes(&words("CERTUS CHANGES 2 NOW"), 2),
                "'2' is no core of this node: its cores are 0 to 1",
            ),
            (changes(&words("CERTUS CHANGES x NOW"), 2), "'x' is no core"),
            (changes(&words("CERTUS CHANGES 0 then"), 2), "'then' is no position"),
            (changes(&words("CERTUS CHANGES 0 NOW COUNT 0"), 2), "COUNT '0' is out of range"),
            (changes(&words("CERTUS CHANGES 0 NOW COUNT"), 2), "syntax error"),
            (changes(&words("CERTUS CHANGES 0 NOW SIZE 3"), 2), "syntax error"),
            (entities(&words("CERTUS ENTITIES 0 FIRST MATCH x"), 2), "syntax error"),
            (entities(&words("CERTUS ENTITIES 0 0x1"), 2), "'0x1' is no entity: send 1 to 16"),
            (state(&words("CERTUS STATE 11112222333344445")), "is no entity"),
        ];
        for (action, expected) in cases {
            let refusal = refusal(action);
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
