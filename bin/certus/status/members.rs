//! Who belongs to the cluster, and what each of them says.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use net::resp::value::Value;

use crate::resp_client::{ClientError, RespClient};
use crate::status::node_status::{Document, NodeStatus};

/// How many digits of a node's name say which cluster it is in; two more say which node it is.
const CLUSTER_DIGITS: usize = 32;

/// Asks the nodes at `addresses`, and those that they name and nobody gave.
pub fn ask_members(addresses: &[SocketAddr], timeout: Duration) -> Vec<NodeStatus> {
    let mut nodes: Vec<NodeStatus> = Vec::new();
    let mut named = BTreeMap::new();
    for &address in addresses {
        if nodes.iter().all(|node| node.address != address) {
            let (node, others) = ask(address, timeout);
            nodes.push(node);
            named.extend(others);
        }
    }
    for (&id, &address) in &named {
        let known =
            nodes.iter_mut().find(|node| node.node_id == Some(id) || node.address == address);
        match known {
            Some(node) => node.node_id = Some(id),
            None => {
                let (mut node, _) = ask(address, timeout);
                node.node_id = node.node_id.or(Some(id));
                nodes.push(node);
            }
        }
    }
    nodes.sort_by_key(|node| (node.node_id.is_none(), node.node_id, node.address));
    nodes
}

/// What one node says, and where it says the nodes of its cluster are.
fn ask(address: SocketAddr, timeout: Duration) -> (NodeStatus, BTreeMap<u8, SocketAddr>) {
    let mut node =
        NodeStatus { address, cluster: String::new(), node_id: None, answer: Err(String::new()) };
    let mut named = BTreeMap::new();
    node.answer = RespClient::connect(address, timeout).map_err(|error| in_words(&error)).and_then(
        |mut client| {
            let mut say = |words: &[&str]| match client.ask(words) {
                Ok(Value::Error(error)) => Err(format!("it answers {}: {error}", words.join(" "))),
                Ok(value) => Ok(value),
                Err(error) => Err(in_words(&error)),
            };
            if let Some((cluster, id)) = text(&say(&["CLUSTER", "MYID"])?).and_then(node_name) {
                node.cluster = cluster.to_owned();
                node.node_id = Some(id);
            }
            named = slots_members(&say(&["CLUSTER", "SLOTS"])?);
            let status = say(&["CERTUS", "STATUS"])?;
            let document = text(&status).and_then(|text| serde_json::from_str(text).ok());
            document.map(Document).ok_or_else(|| "its status is no JSON".to_owned())
        },
    );
    (node, named)
}

fn in_words(error: &ClientError) -> String {
    match error {
        ClientError::Io(error) => match error.kind() {
            std::io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            std::io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
            _ => error.to_string(),
        },
        ClientError::Address { .. } | ClientError::Protocol(_) | ClientError::ReplyTooLong => {
            error.to_string()
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Bulk(bytes) | Value::Verbatim { text: bytes, .. } => std::str::from_utf8(bytes).ok(),
        Value::Simple(text) => Some(text),
        Value::Error(_)
        | Value::Integer(_)
        | Value::Null
        | Value::NullArray
        | Value::Array(_)
        | Value::Map(_)
        | Value::Set(_)
        | Value::Boolean(_)
        | Value::Double(_)
        | Value::Push(_)
        | Value::BigNumber(_) => None,
    }
}

/// Splits a node's name as `CLUSTER MYID` says it into cluster and node.
fn node_name(name: &str) -> Option<(&str, u8)> {
    let cluster = name.get(..CLUSTER_DIGITS)?;
    let id = name.get(CLUSTER_DIGITS..CLUSTER_DIGITS + 2)?;
    Some((cluster, u8::from_str_radix(id, 16).ok()?))
}

/// The members that `CLUSTER SLOTS` names, each with one address.
fn slots_members(slots: &Value) -> BTreeMap<u8, SocketAddr> {
    let mut members = BTreeMap::new();
    let Value::Array(ranges) = slots else { return members };
    for range in ranges {
        let Value::Array(fields) = range else { continue };
        for endpoint in fields.iter().skip(2) {
            if let Some((id, address)) = slots_endpoint(endpoint) {
                // The lowest port, so that the answer does not depend on the order.
                let known = members.entry(id).or_insert(address);
                *known = address.min(*known);
            }
        }
    }
    members
}

fn slots_endpoint(endpoint: &Value) -> Option<(u8, SocketAddr)> {
    let Value::Array(fields) = endpoint else { return None };
    let [host, Value::Integer(port), name, ..] = &fields[..] else { return None };
    let (_, id) = node_name(text(name)?)?;
    let port = u16::try_from(*port).ok()?;
    Some((id, (text(host)?, port).to_socket_addrs().ok()?.next()?))
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;

    use super::{node_name, slots_members};

    fn endpoint(port: i64, name: &str) -> Value {
        let name = Value::bulk(name.as_bytes().to_vec());
        Value::Array(vec![Value::bulk("127.0.0.1"), Value::Integer(port), name])
    }

    #[test]
    fn members_are_read_from_slots_once_each() {
        let name = |node: u8, core: u32| format!("{:0>32}{node:02x}{core:06x}", "c0ffee");
        let range = |endpoints: Vec<Value>| {
            let bounds = vec![Value::Integer(0), Value::Integer(9)];
            Value::Array([bounds, endpoints].concat())
        };
        let slots = Value::Array(vec![
            range(vec![endpoint(7301, &name(0, 2)), endpoint(7311, &name(1, 2))]),
            range(vec![endpoint(7310, &name(1, 1)), endpoint(7300, &name(0, 1))]),
            Value::Null,
            range(vec![Value::Null, endpoint(70_000, &name(2, 0)), endpoint(1, "short")]),
        ]);
        let members = slots_members(&slots);
        let ports: Vec<(u8, u16)> = members.iter().map(|(id, at)| (*id, at.port())).collect();
        assert_eq!(ports, [(0, 7300), (1, 7310)]);
        assert_eq!(node_name(&name(4, 0)), Some((&*format!("{:0>32}", "c0ffee"), 4)));
    }
}
