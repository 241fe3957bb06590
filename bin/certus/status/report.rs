//! The status as text for people and as JSON for programs.

use serde_json::{Value, json};

use crate::status::health::Health;
use crate::status::node_status::{Document, NodeStatus, number};

/// Everything that was said, and the verdict.
pub fn document(health: &Health, nodes: &[NodeStatus]) -> Value {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let (status, error) = match &node.answer {
                Ok(Document(document)) => (document.clone(), Value::Null),
                Err(reason) => (Value::Null, Value::from(reason.as_str())),
            };
            json!({
                "node_id": node.node_id,
                "address": node.address.to_string(),
                "error": error,
                "status": status,
            })
        })
        .collect();
    json!({
        "healthy": health.is_healthy(),
        "replicas": health.replicas,
        "voters": health.voters,
        "serving": health.serving,
        "more_nodes_may_fail": health.more_may_fail,
        "why": health.why,
        "on_its_way": health.on_its_way,
        "notes": health.notes,
        "nodes": nodes,
    })
}

/// What an operator asks first, then the figures.
pub fn text(health: &Health, nodes: &[NodeStatus]) -> String {
    let mut lines = vec![verdict(health)];
    lines.extend(health.why.iter().map(|why| format!("  why: {why}")));
    lines.extend(health.on_its_way.iter().map(|what| format!("  on its way: {what}")));
    lines.extend(health.notes.iter().map(|note| format!("  note: {note}")));
    let answered: Vec<(&NodeStatus, &Document)> =
        nodes.iter().filter_map(|node| Some((node, node.document()?))).collect();
    if !answered.is_empty() {
        for table in [node_table(nodes), core_table(&answered), link_table(&answered)] {
            lines.push(String::new());
            lines.extend(align(&table));
        }
    }
    lines.join("\n") + "\n"
}

fn verdict(health: &Health) -> String {
    let Health { serving, voters, .. } = health;
    let count = format!("{serving} of {voters} nodes serve");
    match (health.more_may_fail, health.is_healthy()) {
        (None, _) if health.replicas == 0 => "UNREACHABLE: no node answers".to_owned(),
        (None, _) => format!("NOT SERVED: {count}, too few for a majority"),
        (Some(0), true) if *voters == 1 => format!("healthy: {count}; it may not fail"),
        (Some(more), healthy) => {
            let word = if healthy { "healthy" } else { "DEGRADED" };
            let may = match more {
                0 => "no more node may fail".to_owned(),
                1 => "1 more node may fail".to_owned(),
                more => format!("{more} more nodes may fail"),
            };
            format!("{word}: {count}; {may}")
        }
    }
}

type Row = Vec<String>;

fn row<const N: usize>(cells: [&str; N]) -> Row {
    cells.map(str::to_owned).into()
}

fn node_table(nodes: &[NodeStatus]) -> Vec<Row> {
    let mut table = vec![row([
        "node",
        "address",
        "state",
        "up",
        "generation",
        "epoch",
        "keys",
        "entities",
        "durable LSN",
        "waiting",
        "clients",
        "version",
    ])];
    for node in nodes {
        let id = node.node_id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        let mut cells = vec![id, node.address.to_string()];
        match &node.answer {
            Ok(document) => cells.extend([
                "up".to_owned(),
                duration(document.number("/uptime_s")),
                document.number("/generation").to_string(),
                document.number("/boot_epoch").to_string(),
                document.sum("/shard/gauges/keys").to_string(),
                document.sum("/shard/gauges/entities_on_disk").to_string(),
                durable_lsns(document),
                document.sum("/shard/gauges/commands_held").to_string(),
                document.sum("/connections").to_string(),
                document.text("/version").to_owned(),
            ]),
            Err(reason) => cells.push(format!("DOWN: {reason}")),
        }
        table.push(cells);
    }
    table
}

/// Each core has a log of its own, so its own numbers.
fn durable_lsns(document: &Document) -> String {
    let lsns: Vec<String> = document
        .cores()
        .iter()
        .map(|core| number(core, "/shard/gauges/lsn_durable").to_string())
        .collect();
    lsns.join(" ")
}

fn core_table(answered: &[(&NodeStatus, &Document)]) -> Vec<Row> {
    let columns = [
        ("writes", "/shard/counters/writes"),
        ("reads", "/shard/counters/reads"),
        ("local reads", "/shard/counters/local_reads"),
        ("read checks", "/shard/counters/read_checks"),
        ("failed", "/shard/counters/read_checks_failed"),
        ("flushes", "/log/frames"),
        ("flush p50 µs", "/metrics/stages/log_write_us/p50"),
        ("p99 µs", "/metrics/stages/log_write_us/p99"),
        ("behind", "/shard/gauges/behind"),
        ("unconfirmed", "/shard/gauges/unconfirmed"),
        ("gated", "/shard/gauges/gated"),
        ("lost rounds", "/shard/counters/lost_rounds"),
        ("dropped", "/metrics/counters/peer_dropped"),
    ];
    let mut header = row(["core"]);
    header.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    let mut table = vec![header];
    for (node, document) in answered {
        for core in document.cores() {
            let mut cells = vec![place(node, number(core, "/core"))];
            cells.extend(columns.iter().map(|(_, pointer)| number(core, pointer).to_string()));
            table.push(cells);
        }
    }
    table
}

fn link_table(answered: &[(&NodeStatus, &Document)]) -> Vec<Row> {
    let mut table = vec![row(["link", "to", "state", "unsent bytes"])];
    for (node, document) in answered {
        for core in document.cores() {
            let links = core.pointer("/peers/links").and_then(Value::as_array);
            for link in links.into_iter().flatten() {
                let is_up = link.get("up").and_then(Value::as_bool).unwrap_or(false);
                let peer_core = link.get("core").and_then(Value::as_u64);
                let peer_core = peer_core.map_or_else(|| "?".to_owned(), |core| core.to_string());
                table.push(vec![
                    place(node, number(core, "/core")),
                    format!("{}.{peer_core}", number(link, "/node")),
                    if is_up { "up" } else { "DOWN" }.to_owned(),
                    number(link, "/unsent_bytes").to_string(),
                ]);
            }
        }
    }
    table
}

/// A core's name: node and core.
fn place(node: &NodeStatus, core: u64) -> String {
    let id = node.node_id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    format!("{id}.{core}")
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Pads the cells of each column to one width. A row's last cell may be longer.
fn align(table: &[Row]) -> Vec<String> {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let inner = table.iter().filter(|cells| column + 1 < cells.len());
            inner.map(|cells| cells[column].chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &Row| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{document, duration, text};
    use crate::status::health::Health;
    use crate::status::node_status::{Document, NodeStatus};

    fn nodes() -> Vec<NodeStatus> {
        let document = json!({
            "node_id": 0, "replicas": 3, "boot_epoch": 4, "version": "0.1.0", "uptime_s": 3700,
            "live": [0, 1],
            "cores": [{
                "core": 0, "connections": 2,
                "shard": {
                    "gauges": { "keys": 11, "entities_on_disk": 12, "lsn_durable": 13 },
                    "counters": { "writes": 14, "reads": 15 },
                },
                "log": { "frames": 16 },
                "peers": { "links": [
                    { "node": 1, "core": 0, "up": true, "unsent_bytes": 17 },
                    { "node": 2, "core": null, "up": false, "unsent_bytes": 0 },
                ] },
            }],
        });
        let node = |id: u8, answer| NodeStatus {
            address: format!("127.0.0.1:700{id}").parse().unwrap(),
            cluster: String::new(),
            node_id: Some(id),
            answer,
        };
        vec![
            node(0, Ok(Document(document.clone()))),
            node(1, Ok(Document(document))),
            node(2, Err("nothing listens there".to_owned())),
        ]
    }

    #[test]
    fn the_first_line_is_what_an_operator_asks_first() {
        let nodes = nodes();
        let text = text(&Health::of(&nodes), &nodes);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("DEGRADED: 2 of 3 nodes serve; no more node may fail"));
        assert!(lines.next().unwrap().contains("nothing listens there"));
        assert!(text.contains(
            "0     127.0.0.1:7000  up     1 h 1 min  0           4      11    12        13"
        ));
        assert!(text.contains("2     127.0.0.1:7002  DOWN: nothing listens there\n"), "{text}");
        assert!(text.contains("0.0   1.0  up     17\n"), "{text}");
        assert!(text.contains("0.0   2.?  DOWN   0\n"), "{text}");
    }

    #[test]
    fn the_json_says_the_same() {
        let nodes = nodes();
        let document = document(&Health::of(&nodes), &nodes);
        assert_eq!(document["healthy"], json!(false));
        assert_eq!(document["more_nodes_may_fail"], json!(0));
        assert_eq!(document["nodes"][0]["status"]["cores"][0]["log"]["frames"], json!(16));
        assert_eq!(document["nodes"][2]["error"], json!("nothing listens there"));
    }

    #[test]
    fn nobody_answering_is_said_shortly() {
        let nodes = &nodes()[2..];
        let text = text(&Health::of(nodes), nodes);
        assert!(text.starts_with("UNREACHABLE: no node answers\n"), "{text}");
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn durations_are_rounded_to_what_one_reads() {
        let words = [59, 60, 3700, 90_000].map(duration);
        assert_eq!(words, ["59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}
