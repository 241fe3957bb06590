//! What the `CLUSTER` commands say.
//!
//! To a cluster client each core's port is a node of its own, a master of the slots for which its
//! node is preferred; that every replica answers for every key is not something Redis's format can
//! say, so the others stand as replicas of each range.

use std::fmt::Write;
use std::rc::Rc;

use net::resp::slot::SLOT_COUNT;
use net::resp::value::Value;

use crate::session::cluster_map::{SlotRange, slot_ranges};
use crate::session::node_info::{Endpoint, NodeInfo};

/// `CLUSTER SLOTS`
pub(super) fn slots(info: &NodeInfo) -> Value {
    let names = EndpointNames::of(info);
    let ranges = slot_ranges(info);
    Value::Array(ranges.iter().map(|range| slot_range(range, &names)).collect())
}

fn slot_range(range: &SlotRange<'_>, names: &EndpointNames<'_>) -> Value {
    let mut parts = Vec::with_capacity(2 + range.endpoints.len());
    parts.push(Value::Integer(i64::from(range.first)));
    parts.push(Value::Integer(i64::from(range.last)));
    for endpoint in &range.endpoints {
        let name = names.get(*endpoint);
        parts.push(Value::Array(vec![
            Value::bulk(Rc::clone(&name.host)),
            Value::Integer(i64::from(endpoint.port())),
            Value::bulk(Rc::clone(&name.id)),
            Value::Map(Vec::new()),
        ]));
    }
    Value::Array(parts)
}

/// `CLUSTER SHARDS`
pub(super) fn shards(info: &NodeInfo) -> Value {
    let names = EndpointNames::of(info);
    // Ranges with the same endpoints are one shard.
    let mut shards: Vec<(Vec<Endpoint<'_>>, Vec<Value>)> = Vec::new();
    for range in slot_ranges(info) {
        let bounds = [range.first, range.last].map(|slot| Value::Integer(i64::from(slot)));
        match shards.iter_mut().find(|(endpoints, _)| *endpoints == range.endpoints) {
            Some((_, slots)) => slots.extend(bounds),
            None => shards.push((range.endpoints, bounds.into())),
        }
    }
    let render = |(endpoints, slots): (Vec<Endpoint<'_>>, Vec<Value>)| {
        let nodes = endpoints.iter().enumerate().map(|(index, endpoint)| {
            let name = names.get(*endpoint);
            Value::Map(vec![
                (text("id"), Value::bulk(Rc::clone(&name.id))),
                (text("port"), Value::Integer(i64::from(endpoint.port()))),
                (text("ip"), Value::bulk(Rc::clone(&name.host))),
                (text("endpoint"), Value::bulk(Rc::clone(&name.host))),
                (text("role"), text(if index == 0 { "master" } else { "replica" })),
                (text("replication-offset"), Value::Integer(0)),
                (text("health"), text("online")),
            ])
        });
        let nodes = Value::Array(nodes.collect());
        Value::Map(vec![(text("slots"), Value::Array(slots)), (text("nodes"), nodes)])
    };
    Value::Array(shards.into_iter().map(render).collect())
}

/// `CLUSTER NODES`
pub(super) fn nodes(info: &NodeInfo) -> Value {
    let own = info.own_endpoint_id();
    let ranges = slot_ranges(info);
    let mut lines = String::new();
    for address in &info.nodes {
        for endpoint in address.endpoints() {
            let id = info.endpoint_id(address.node_id, endpoint.core);
            let flags = if id == own { "myself,master" } else { "master" };
            let (host, port, bus) = (&address.host, endpoint.port(), address.peer_port);
            let epoch = u32::from(address.node_id) + 1;
            write!(lines, "{id} {host}:{port}@{bus} {flags} - 0 0 {epoch} connected")
                .expect("a string takes any text");
            for range in ranges.iter().filter(|range| range.endpoints.first() == Some(&endpoint)) {
                let SlotRange { first, last, .. } = range;
                if first == last {
                    write!(lines, " {first}").expect("a string takes any text");
                } else {
                    write!(lines, " {first}-{last}").expect("a string takes any text");
                }
            }
            lines.push('\n');
        }
    }
    verbatim(lines)
}

/// `CLUSTER INFO`
pub(super) fn info(info: &NodeInfo) -> Value {
    let known = info.nodes.iter().map(|address| address.endpoints().count()).sum::<usize>();
    let epoch = info.nodes.len();
    verbatim(format!(
        "cluster_state:ok\r\n\
         cluster_slots_assigned:{SLOT_COUNT}\r\n\
         cluster_slots_ok:{SLOT_COUNT}\r\n\
         cluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\n\
         cluster_known_nodes:{known}\r\n\
         cluster_size:{known}\r\n\
         cluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{}\r\n",
        u32::from(info.node_id) + 1
    ))
}

/// What is said of an endpoint again in every range, made once.
#[derive(Debug)]
struct EndpointNames<'a> {
    names: Vec<(Endpoint<'a>, EndpointName)>,
    /// For each node id, where its names begin.
    begins: Vec<usize>,
}

#[derive(Debug)]
struct EndpointName {
    host: Rc<[u8]>,
    id: Rc<[u8]>,
}

impl<'a> EndpointNames<'a> {
    fn of(info: &'a NodeInfo) -> Self {
        let mut names = Vec::new();
        let mut begins = vec![0; usize::from(u8::MAX) + 1];
        for address in &info.nodes {
            begins[usize::from(address.node_id)] = names.len();
            for endpoint in address.endpoints() {
                let id = info.endpoint_id(address.node_id, endpoint.core);
                let host = address.host.as_bytes().into();
                names.push((endpoint, EndpointName { host, id: id.into_bytes().into() }));
            }
        }
        Self { names, begins }
    }

    fn get(&self, endpoint: Endpoint<'_>) -> &EndpointName {
        let begin = self.begins[usize::from(endpoint.address.node_id)];
        let (named, name) = &self.names[begin + endpoint.core.map_or(0, usize::from)];
        assert!(*named == endpoint, "a node id stands for one address");
        name
    }
}

fn text(text: &'static str) -> Value {
    Value::bulk(text)
}

fn verbatim(text: String) -> Value {
    Value::Verbatim { format: *b"txt", text: text.into() }
}
