//! What a tail says, as JSON.

use engine::tail::{Position, Said, TailLine, What};
use serde_json::{Value, json};

use crate::json_bytes::put_bytes;

/// A line of a tail.
pub fn line(line: &TailLine) -> Value {
    let TailLine { core, said, position } = line;
    let mut object = json!({ "core": core, "position": position.to_string() });
    match said {
        Said::Change { entity, entry, what, key, value } => {
            object["op"] = what.word().into();
            object["entity"] = format!("{:016x}", entity.0).into();
            object["version"] = entry.0.into();
            if !matches!(what, What::BeginReset | What::EndReset) {
                put_bytes(&mut object, "key", key);
            }
            if let Some(value) = value {
                put_bytes(&mut object, "value", value);
            }
        }
        Said::BeginPass { reason } => {
            object["op"] = "pass-begin".into();
            object["reason"] = reason.as_str().into();
        }
        Said::EndPass => object["op"] = "pass-end".into(),
    }
    object
}

/// A line that only says where the tail stands.
pub fn progress(position: &Position) -> Value {
    json!({ "op": "position", "position": position.to_string() })
}

#[cfg(test)]
mod tests {
    use engine::tail::{Position, Said, TailLine, What};
    use plog::vocabulary::{EntityId, Entry};

    use super::{line, progress};

    #[test]
    fn each_kind_of_line_is_one_object_and_bytes_that_are_no_text_are_digits() {
        let position: Position = "a.1.1000.0.7,-".parse().unwrap();
        let text = |said| line(&TailLine { core: 1, said, position: position.clone() }).to_string();
        let change = |what, key: &[u8], value: Option<&[u8]>| Said::Change {
            entity: EntityId(255),
            entry: Entry(3),
            what,
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        };
        assert_eq!(
            text(change(What::Set, b"k", Some(b"\xff\n"))),
            r#"{"core":1,"entity":"00000000000000ff","key":"k","op":"set","position":"a.1.1000.0.7,-","value_hex":"ff0a","version":3}"#
        );
        assert_eq!(
            text(change(What::Delete, b"\xfe", None)),
            r#"{"core":1,"entity":"00000000000000ff","key_hex":"fe","op":"delete","position":"a.1.1000.0.7,-","version":3}"#
        );
        assert_eq!(
            text(change(What::BeginReset, b"", None)),
            r#"{"core":1,"entity":"00000000000000ff","op":"reset-begin","position":"a.1.1000.0.7,-","version":3}"#
        );
        assert_eq!(
            text(Said::BeginPass { reason: "why".to_owned() }),
            r#"{"core":1,"op":"pass-begin","position":"a.1.1000.0.7,-","reason":"why"}"#
        );
        assert_eq!(
            text(Said::EndPass),
            r#"{"core":1,"op":"pass-end","position":"a.1.1000.0.7,-"}"#
        );
        let expected = r#"{"op":"position","position":"a.1.1000.0.7,-"}"#;
        assert_eq!(progress(&position).to_string(), expected);
    }
}
