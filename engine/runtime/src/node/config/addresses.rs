//! Addresses as they are configured: where this node listens, and where others are reached.
//!
//! This node listens on an IP address and a port, and each core on a port of its own; others may be
//! named by host.

use std::net::{IpAddr, SocketAddr};

use crate::node::config_error::ConfigError;

/// Ports `first..=last` that one key takes on one address.
pub(super) struct PortRange {
    pub(super) key: &'static str,
    pub(super) ip: IpAddr,
    pub(super) first: u16,
    last: u16,
}

impl PortRange {
    pub(super) fn new(
        key: &'static str,
        address: SocketAddr,
        count: u16,
    ) -> Result<Self, ConfigError> {
        let first = address.port();
        let last =
            first.checked_add(count.saturating_sub(1)).ok_or_else(|| ConfigError::OutOfRange {
                key: key.to_owned(),
                value: address.to_string(),
                rule: format!("the ports of {count} cores must end at 65535; choose a lower one"),
            })?;
        Ok(Self { key, ip: address.ip(), first, last })
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let same = self.ip == other.ip || self.ip.is_unspecified() || other.ip.is_unspecified();
        same && self.first <= other.last && other.first <= self.last
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", SocketAddr::new(self.ip, self.first))?;
        if self.last > self.first { write!(formatter, " to {}", self.last) } else { Ok(()) }
    }
}

/// The address of `key` on which this node listens: an IP address, and a port that others can find.
pub(super) fn listen_address(key: &str, address: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |rule: &str| ConfigError::OutOfRange {
        key: key.to_owned(),
        value: format!("`{address}`"),
        rule: rule.to_owned(),
    };
    let parsed: SocketAddr = address.parse().map_err(|_| {
        wrong("write an IP address and a port, such as \"127.0.0.1:7000\" or \"[::1]:7000\"")
    })?;
    if parsed.port() == 0 {
        return Err(wrong("choose a port from 1 to 65535, since others must find this node"));
    }
    Ok(parsed)
}

/// Splits `address`, the value of `key`, into host and port. Host names are allowed.
///
/// # Errors
///
/// Says that the value is not of the form host:port.
pub fn host_and_port(key: &str, address: &str) -> Result<(String, u16), ConfigError> {
    let wrong = || ConfigError::OutOfRange {
        key: key.to_owned(),
        value: format!("`{address}`"),
        rule: "write host and port, such as \"10.0.0.2:7000\", \"db2.example:7000\" or \
               \"[fd00::2]:7000\""
            .to_owned(),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.ok_or_else(wrong)?,
        None if host.contains(':') => return Err(wrong()),
        None => host,
    };
    if host.is_empty() || host.contains(char::is_whitespace) || port == 0 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}
