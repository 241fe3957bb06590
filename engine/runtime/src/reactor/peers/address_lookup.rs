//! A peer's host as a socket address, without blocking the core.
//!
//! Most configurations name addresses, which need no lookup. A host name is looked up on a thread
//! of its own each time the peer is dialled anew, because where it points to may have changed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// A lookup on its way.
#[derive(Debug)]
pub struct AddressLookup {
    answer: Receiver<Result<SocketAddr, String>>,
}

/// The outcome of asking for an address.
#[derive(Debug)]
pub enum Address {
    /// It needs no lookup.
    Known(SocketAddr),
    /// Ask again later.
    Pending(AddressLookup),
}

/// The address of `port` at `host`.
///
/// # Errors
///
/// When no thread can be started for a lookup.
pub fn address_of(host: &str, port: u16) -> Result<Address, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Address::Known(SocketAddr::new(ip, port)));
    }
    let (sender, answer) = channel();
    let host = host.to_owned();
    std::thread::Builder::new()
        .name("address-lookup".to_owned())
        .spawn(move || {
            let found = (host.as_str(), port)
                .to_socket_addrs()
                .map_err(|error| error.to_string())
                .and_then(|mut all| all.next().ok_or_else(|| "the name has no address".to_owned()));
            // The link may have been given up meanwhile.
            sender.send(found).ok();
        })
        .map_err(|error| error.to_string())?;
    Ok(Address::Pending(AddressLookup { answer }))
}

impl AddressLookup {
    /// The answer, once it is there.
    #[must_use]
    pub fn poll(&self) -> Option<Result<SocketAddr, String>> {
        match self.answer.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err("the lookup ended early".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, address_of};

    #[test]
    fn an_address_needs_no_lookup_and_a_name_does() {
        assert!(matches!(
            address_of("127.0.0.1", 7100),
            Ok(Address::Known(address)) if address.to_string() == "127.0.0.1:7100"
        ));
        assert!(matches!(
            address_of("::1", 7100),
            Ok(Address::Known(address)) if address.to_string() == "[::1]:7100"
        ));
        assert!(matches!(address_of("localhost", 7100), Ok(Address::Pending(_))));
    }
}
