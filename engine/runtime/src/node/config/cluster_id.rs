//! A cluster's number, which people write in two ways.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
        let wanted = "cluster_id is an integer of at least 1, or a string of up to 16 hexadecimal \
                      digits such as \"0xc0ffee\"";
        match Written::deserialize(deserializer).map_err(|_| serde::de::Error::custom(wanted))? {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                let digits = text.strip_prefix("0x").unwrap_or(&text).replace('_', "");
                u64::from_str_radix(&digits, 16)
                    .map(Self)
                    .map_err(|_| serde::de::Error::custom(wanted))
            }
        }
    }
}
