//! Keys and values in JSON, whatever bytes they are.

use serde_json::Value;

/// Bytes under `name` when they are text, else in hexadecimal digits under `name_hex`.
pub fn put_bytes(line: &mut Value, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => line[name] = text.into(),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            line[format!("{name}_hex")] = digits.into();
        }
    }
}
