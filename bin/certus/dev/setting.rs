//! A key of the nodes' configuration, given on the command line as `KEY=VALUE`.

use std::str::FromStr;

use toml::{Table, Value};

/// One key, perhaps in a table (`log.spare_segments`), and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Table and key, or the key alone.
    path: Vec<String>,
    /// A TOML value, or text where the argument is none.
    value: Value,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| "write KEY=VALUE, for example log.spare_segments=1".to_owned())?;
        let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
        if path.len() > 2 || path.iter().any(String::is_empty) {
            return Err(format!("`{key}` names no key: write KEY=VALUE or TABLE.KEY=VALUE"));
        }
        let value = value.trim();
        let parsed = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"));
        Ok(Self { path, value: parsed.unwrap_or_else(|| Value::String(value.to_owned())) })
    }
}

impl Setting {
    /// Puts the value into `table`, over what is there.
    pub fn put_into(&self, table: &mut Table) {
        match &self.path[..] {
            [key] => {
                table.insert(key.clone(), self.value.clone());
            }
            [name, key, ..] => {
                let inner = table.entry(name.clone()).or_insert_with(|| Table::new().into());
                if !inner.is_table() {
                    *inner = Table::new().into();
                }
                if let Some(inner) = inner.as_table_mut() {
                    inner.insert(key.clone(), self.value.clone());
                }
            }
            [] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::Setting;

    #[test]
    fn values_keep_their_type_and_bare_words_are_text() {
        let mut table = Table::new();
        for text in ["log.spare_segments=1", "log_level=debug", "pin_cores = false", "log.x=\"1\""]
        {
            text.parse::<Setting>().unwrap().put_into(&mut table);
        }
        let expected =
            "log_level = \"debug\"\npin_cores = false\n\n[log]\nspare_segments = 1\nx = \"1\"\n";
        assert_eq!(toml::to_string(&table).unwrap(), expected);
    }

    #[test]
    fn what_names_no_key_is_refused() {
        for text in ["x", "=1", "a.b.c=1", "a.=1"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }
}
