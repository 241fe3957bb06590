//! A cluster's number, which people write in two ways: as an integer, or in hexadecimal.
//!
//! The file tells the two apart by quotes. The environment has none, so there decimal digits alone
//! are the integer that they are in the file without quotes, and a hexadecimal number that has no
//! letter needs its `0x`: what is copied from one place to the other must not name another cluster.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

/// What is said when a number is written in neither way.
const WANTED: &str = "cluster_id is an integer from 1 to 2^63 - 1, or a string of up to 16 \
                      hexadecimal digits such as \"0xc0ffee\"";

/// What an override's `text` would be in the file.
///
/// # Errors
///
/// What is wanted, when it has only decimal digits but is too large for an integer of the file.
pub(super) fn value_of_override(text: &str) -> Result<Value, &'static str> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        text.replace('_', "").parse().map(Value::Integer).map_err(|_| WANTED)
    } else {
        Ok(Value::String(text.to_owned()))
    }
}

/// A cluster's number: written as a hexadecimal string or as an integer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterId(pub u64);

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:#018x}", self.0))
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(u64),
        }
        match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(WANTED))? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                let digits = text.strip_prefix("0x").unwrap_or(&text).replace('_', "");
                // The conversion would take a sign, too.
                let are_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = u64::from_str_radix(&digits, 16).ok().filter(|_| are_plain);
                number.map(Self).ok_or_else(|| serde::de::Error::custom(WANTED))
            }
        }
    }
}
