//! The `CLIENT` commands.

use net::resp::arguments::Arguments;
use net::resp::value::{Protocol, Value};

use crate::request::Freshness;
use crate::session::client_name::ClientName;
use crate::session::command_table::{CommandSpecification, SessionCommand};
use crate::session::{Session, wording};
use crate::state_machine::strings::integer;

impl Session {
    /// Answers one of the `CLIENT` commands.
    pub(super) fn run_client(
        &mut self,
        command: SessionCommand,
        specification: &CommandSpecification,
        arguments: &Arguments,
    ) -> Value {
        match command {
            SessionCommand::ClientId => Value::Integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            SessionCommand::ClientGetName if self.name.as_str().is_empty() => Value::Null,
            SessionCommand::ClientGetName => Value::bulk(self.name.as_str().to_owned()),
            SessionCommand::ClientSetName => match ClientName::parse(&arguments[2], "Client names")
            {
                Ok(name) => {
                    self.name = name;
                    Value::OK
                }
                Err(error) => error,
            },
            SessionCommand::ClientSetInfo => self.set_info(&arguments[2], &arguments[3]),
            SessionCommand::ClientInfo => listing(self.line(specification.name)),
            SessionCommand::ClientList => self.list(specification.name, arguments),
            SessionCommand::ClientToggle
                if [&b"on"[..], b"off"]
                    .iter()
                    .any(|word| arguments[2].eq_ignore_ascii_case(word)) =>
            {
                Value::OK
            }
            _ => wording::syntax_error(),
        }
    }

    fn set_info(&mut self, option: &[u8], word: &[u8]) -> Value {
        let (target, what) = if option.eq_ignore_ascii_case(b"lib-name") {
            (&mut self.library_name, "lib-name")
        } else if option.eq_ignore_ascii_case(b"lib-ver") {
            (&mut self.library_version, "lib-ver")
        } else {
            let option = wording::quoted(option, 128);
            return Value::error(format!("ERR Unrecognized option '{option}'"));
        };
        match ClientName::parse(word, what) {
            Ok(name) => {
                *target = name;
                Value::OK
            }
            Err(error) => error,
        }
    }

    /// `CLIENT LIST [TYPE type | ID id …]`: of all connections, a session knows its own.
    fn list(&self, command: &'static str, arguments: &Arguments) -> Value {
        let chosen = match arguments.get(2) {
            None => true,
            Some(option) if option.eq_ignore_ascii_case(b"type") && arguments.len() == 4 => {
                let kind = &arguments[3];
                let others = ["master", "replica", "slave", "pubsub"];
                let normal = kind.eq_ignore_ascii_case(b"normal");
                if !normal
                    && !others.iter().any(|other| kind.eq_ignore_ascii_case(other.as_bytes()))
                {
                    let kind = wording::quoted(kind, 128);
                    return Value::error(format!("ERR Unknown client type '{kind}'"));
                }
                normal
            }
            Some(option) if option.eq_ignore_ascii_case(b"id") && arguments.len() > 3 => {
                let mut found = false;
                for id in arguments.iter_from(3) {
                    let Some(id) = integer::parse(id).and_then(|id| u64::try_from(id).ok()) else {
                        return Value::error("ERR Invalid client ID");
                    };
                    found |= id == self.id;
                }
                found
            }
            Some(_) => return wording::syntax_error(),
        };
        listing(if chosen { self.line(command) } else { String::new() })
    }

    /// The connection as a line of `CLIENT LIST`.
    fn line(&self, command: &'static str) -> String {
        let flags = match self.freshness {
            Freshness::Linearizable => "N",
            Freshness::Local => "r",
        };
        let protocol = match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        format!(
            "id={} addr={} name={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi=-1 cmd={command} \
             user=default redir=-1 resp={protocol} lib-name={} lib-ver={}\n",
            self.id,
            self.remote_address,
            self.name.as_str(),
            self.library_name.as_str(),
            self.library_version.as_str(),
        )
    }
}

fn listing(text: String) -> Value {
    Value::Verbatim { format: *b"txt", text: text.into() }
}
