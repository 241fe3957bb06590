//! `HELLO`, with which a client chooses its protocol.

use net::resp::arguments::Arguments;
use net::resp::value::{Protocol, Value};

use crate::session::client_name::ClientName;
use crate::session::wording;
use crate::state_machine::strings::integer;

/// What a `HELLO` asks for; nothing of it is done before all of it is known to be right.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Hello {
    /// The protocol to speak from now on, the reply included.
    pub(super) protocol: Option<Protocol>,
    /// The connection's name.
    pub(super) name: Option<ClientName>,
}

impl Hello {
    /// Reads `HELLO [version [AUTH user password] [SETNAME name]]`, or says what is wrong.
    pub(super) fn parse(arguments: &Arguments) -> Result<Self, Value> {
        let mut hello = Self::default();
        let mut words = arguments.iter_from(1);
        let Some(version) = words.next() else { return Ok(hello) };
        let version = integer::parse(version).ok_or_else(|| {
            Value::error("ERR Protocol version is not an integer or out of range")
        })?;
        hello.protocol = Some(match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Value::error("NOPROTO unsupported protocol version")),
        });
        while let Some(option) = words.next() {
            if option.eq_ignore_ascii_case(b"auth") && words.len() >= 2 {
                return Err(wording::no_password());
            }
            match words.next() {
                Some(name) if option.eq_ignore_ascii_case(b"setname") => {
                    hello.name = Some(ClientName::parse(name, "Client names")?);
                }
                _ => {
                    let option = wording::quoted(option, 128);
                    return Err(Value::error(format!(
                        "ERR Syntax error in HELLO option '{option}'"
                    )));
                }
            }
        }
        Ok(hello)
    }
}
