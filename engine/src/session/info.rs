//! What `INFO` and `DBSIZE` say, from what was gathered of all cores.

use std::fmt::Write;

use net::resp::value::Value;

use crate::session::node_facts::NodeFacts;
use crate::session::node_info::{NodeInfo, REDIS_VERSION};

/// The sections of `INFO` in their order.
pub(super) const SECTIONS: [&str; 8] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace"];

/// Names that stand for all sections.
pub(super) const ALL_SECTIONS: [&str; 3] = ["default", "all", "everything"];

/// The reply to `DBSIZE`.
#[must_use]
pub fn render_dbsize(facts: &NodeFacts) -> Value {
    Value::Integer(i64::try_from(facts.keys).unwrap_or(i64::MAX))
}

/// The reply to `INFO` with these sections, as
/// [`NodeQuery::Info`](crate::session::NodeQuery::Info) has them. Without any, it is empty.
#[must_use]
pub fn render_info(info: &NodeInfo, facts: &NodeFacts, sections: &[String]) -> Value {
    let wants = |name: &str| sections.iter().any(|section| section == name);
    let all = ALL_SECTIONS.iter().any(|name| wants(name));
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| all || wants(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let (initial, rest) = section.split_at(1);
        let mut lines =
            Lines { text: format!("{text}# {}{rest}\r\n", initial.to_ascii_uppercase()) };
        match section {
            "server" => server(info, facts, &mut lines),
            "clients" => clients(facts, &mut lines),
            "memory" => memory(facts, &mut lines),
            "persistence" => persistence(facts, &mut lines),
            "stats" => stats(facts, &mut lines),
            "replication" => replication(info, facts, &mut lines),
            // Both answers are true in part: slots are routed by, but nothing is ever redirected.
            // 1, because older versions of redis-py's cluster client and `redis-cli --cluster`
            // refuse a node that says 0, while plain clients do not ask, and tools that switch to
            // cluster mode on a 1 find all the CLUSTER commands that they then need.
            "cluster" => lines.put("cluster_enabled", 1),
            _ => keyspace(facts, &mut lines),
        }
        text = lines.text;
    }
    Value::Verbatim { format: *b"txt", text: text.into() }
}

/// Lines `name:value`.
#[derive(Debug)]
struct Lines {
    text: String,
}

impl Lines {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.text, "{name}:{value}\r\n").expect("a string takes any text");
    }
}

fn server(info: &NodeInfo, facts: &NodeFacts, lines: &mut Lines) {
    lines.put("redis_version", REDIS_VERSION);
    lines.put("certus_version", &info.certus_version);
    // In agreement with `cluster_enabled`.
    lines.put("redis_mode", "cluster");
    lines.put("arch_bits", usize::BITS);
    lines.put("process_id", info.process_id);
    // Forty digits that differ after each start, as clients expect of a run.
    let cluster = info.cluster_id.get(..24).unwrap_or(&info.cluster_id);
    let (node, epoch) = (info.node_id, info.boot_epoch);
    lines.put("run_id", format_args!("{cluster:0>24}{node:08x}{epoch:08x}"));
    lines.put("tcp_port", info.address(info.node_id).map_or(0, |own| own.client_port));
    lines.put("uptime_in_seconds", facts.uptime_s);
    lines.put("uptime_in_days", facts.uptime_s / 86_400);
    lines.put("certus_cluster_id", &info.cluster_id);
    lines.put("certus_node_id", node);
    lines.put("certus_boot_epoch", epoch);
    lines.put("certus_cores", info.core_count);
}

fn clients(facts: &NodeFacts, lines: &mut Lines) {
    lines.put("connected_clients", facts.connected_clients);
    lines.put("blocked_clients", 0);
}

fn memory(facts: &NodeFacts, lines: &mut Lines) {
    lines.put("used_memory", facts.accounted_bytes);
    lines.put("used_memory_rss", facts.resident_bytes);
    lines.put("maxmemory", facts.memory_limit);
    lines.put("certus_state_bytes", facts.state_bytes);
    lines.put("certus_index_bytes", facts.index_bytes);
    lines.put("certus_entities_in_memory", facts.entities_in_memory);
}

fn persistence(facts: &NodeFacts, lines: &mut Lines) {
    lines.put("loading", u8::from(facts.loading));
    lines.put("certus_log_bytes", facts.log_bytes);
    lines.put("certus_abstaining_cores", facts.abstaining_cores);
    lines.put("certus_rejoining_cores", facts.rejoining_cores);
    lines.put("certus_generation", facts.generation);
    lines.put("certus_cleaner_paused_cores", facts.cleaner_paused_cores);
    lines.put("certus_log_full_cores", facts.log_full_cores);
}

fn stats(facts: &NodeFacts, lines: &mut Lines) {
    lines.put("total_connections_received", facts.connections_received);
    lines.put("total_commands_processed", facts.commands_processed);
    lines.put("instantaneous_ops_per_sec", facts.commands_per_s);
    lines.put("total_net_input_bytes", facts.input_bytes);
    lines.put("total_net_output_bytes", facts.output_bytes);
    lines.put("rejected_connections", facts.connections_rejected);
}

fn replication(info: &NodeInfo, facts: &NodeFacts, lines: &mut Lines) {
    if info.is_follower() {
        lines.put("role", "slave");
        let is_up = facts.follows.is_some();
        lines.put("master_link_status", if is_up { "up" } else { "down" });
        let text =
            |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |of| of.to_string());
        lines.put("certus_follows_node", text(facts.follows.map(u64::from)));
        lines.put("certus_staleness_us", text(facts.staleness_us));
    } else {
        // Every replica takes writes.
        lines.put("role", "master");
        lines.put("connected_slaves", 0);
        lines.put("certus_follower_cores", facts.follower_cores);
    }
    lines.put("certus_replicas", info.acceptor_count);
    let live = facts.live.iter().filter(|(_, live)| *live).count();
    lines.put("certus_replicas_live", live);
    for (node_id, live) in &facts.live {
        lines.put(&format!("certus_node{node_id}"), if *live { "live" } else { "silent" });
    }
}

fn keyspace(facts: &NodeFacts, lines: &mut Lines) {
    if facts.keys > 0 {
        lines.put("db0", format_args!("keys={},expires=0,avg_ttl=0", facts.keys));
    }
    lines.put("certus_entities", facts.entities);
}

#[cfg(test)]
mod tests {
    use net::resp::value::{Protocol, Value};

    use super::{SECTIONS, render_dbsize, render_info};
    use crate::session::example::node_info;
    use crate::session::node_facts::NodeFacts;
    use crate::session::node_info::NodeInfo;

    fn text(sections: &[&str], facts: &NodeFacts) -> String {
        let sections: Vec<String> = sections.iter().map(|name| (*name).to_owned()).collect();
        let reply = render_info(&node_info(3, &[2, 2, 2]), facts, &sections);
        let Value::Verbatim { format, text } = reply else {
            panic!("INFO is a verbatim string: {reply:?}");
        };
        assert_eq!(&format, b"txt");
        String::from_utf8(text.to_vec()).expect("text")
    }

    #[test]
    fn what_clients_look_for_is_there() {
        let facts = NodeFacts {
            keys: 7,
            connected_clients: 2,
            uptime_s: 90_000,
            live: vec![(0, true), (1, true), (2, false)],
            ..NodeFacts::default()
        };
        let info = text(&["default"], &facts);
        for line in [
            "redis_version:7.2.0",
            "certus_version:0.1.0",
            "redis_mode:cluster",
            "arch_bits:64",
            "tcp_port:6380",
            "uptime_in_days:1",
            "connected_clients:2",
            "loading:0",
            "role:master",
            "certus_replicas_live:2",
            "certus_node2:silent",
            "cluster_enabled:1",
            "db0:keys=7,expires=0,avg_ttl=0",
        ] {
            assert!(info.contains(&format!("\r\n{line}\r\n")), "{line} in {info}");
        }
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("a run id");
        assert_eq!(run_id, "00000000c0ffee00c0ffee000000000100000009");
        assert_eq!(render_dbsize(&facts), Value::Integer(7));
        assert_eq!(render_dbsize(&NodeFacts { keys: u64::MAX, ..facts }), Value::Integer(i64::MAX));
    }

    #[test]
    fn a_follower_says_whom_it_follows_and_how_stale_it_is() {
        let follower = NodeInfo { node_id: 16, ..node_info(3, &[1, 1, 1]) };
        let sections = ["replication".to_owned()];
        let told = |follows, staleness_us| {
            let facts = NodeFacts { follows, staleness_us, ..NodeFacts::default() };
            let Value::Verbatim { text, .. } = render_info(&follower, &facts, &sections) else {
                panic!("INFO is a verbatim string");
            };
            String::from_utf8(text.to_vec()).expect("text")
        };
        let known = told(Some(2), Some(1_500));
        for line in ["role:slave", "certus_follows_node:2", "certus_staleness_us:1500"] {
            assert!(known.contains(&format!("\r\n{line}\r\n")), "{line} in {known}");
        }
        let unknown = told(None, None);
        for line in ["master_link_status:down", "certus_staleness_us:none"] {
            assert!(unknown.contains(&format!("\r\n{line}\r\n")), "{line} in {unknown}");
        }
    }

    #[test]
    fn only_the_sections_that_were_asked_for_are_shown() {
        let facts = NodeFacts::default();
        assert_eq!(
            text(&["keyspace", "cluster"], &facts),
            "# Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\ncertus_entities:0\r\n"
        );
        assert_eq!(text(&[], &facts), "");
        let all = text(&["everything"], &facts);
        for section in SECTIONS {
            let (initial, rest) = section.split_at(1);
            assert!(all.contains(&format!("# {}{rest}\r\n", initial.to_uppercase())));
        }
        for line in all.split("\r\n") {
            let well_formed = line.is_empty() || line.starts_with("# ") || line.contains(':');
            assert!(well_formed, "{line}");
        }
        let mut encoded = Vec::new();
        render_info(&node_info(3, &[1, 1, 1]), &facts, &["cluster".to_owned()])
            .encode(Protocol::Resp2, &mut encoded);
        assert_eq!(encoded, b"$30\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n");
    }
}
