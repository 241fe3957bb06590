//! The verdict: whether the cluster is healthy, how many more nodes may fail, and why not more.

use std::collections::BTreeMap;

use crate::status::node_status::{Document, Membership, NodeStatus, number};

/// How a cluster is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// Size of the replica set, as far as any node says.
    pub replicas: usize,
    /// How many vote.
    pub voters: usize,
    /// Nodes that answer and hear a majority, themselves included.
    pub serving: usize,
    /// Nodes that may fail with everything still served; [`None`] when it is not served now.
    pub more_may_fail: Option<usize>,
    /// What is wrong.
    pub why: Vec<String>,
    /// What is being put right.
    pub on_its_way: Vec<String>,
    /// What an operator did and may have forgotten.
    pub notes: Vec<String>,
}

impl Health {
    /// Judges by what every node said.
    pub fn of(nodes: &[NodeStatus]) -> Self {
        let said = nodes
            .iter()
            .filter_map(|node| Some(usize::try_from(node.document()?.number("/replicas"))));
        let replicas = said.filter_map(Result::ok).max().unwrap_or(0);
        // The newest configuration that any node goes by, where members change.
        let membership = nodes.iter().filter_map(|node| node.document()?.membership()).max();
        let votes = |id: u8| match &membership {
            Some(present) => present.voters.contains(&id),
            None => usize::from(id) < replicas,
        };
        let voters = membership.as_ref().map_or(replicas, |present| present.voters.len());
        let majority = voters / 2 + 1;
        let mut health = Self { replicas, voters, ..Self::default() };
        // Of those that serve, the nodes that vote for everything.
        let mut voting: usize = 0;
        for node in nodes {
            let name = node.name();
            let document = match &node.answer {
                Ok(document) => document,
                Err(reason) => {
                    health.why.push(format!("{name} cannot be asked: {reason}"));
                    continue;
                }
            };
            let mut live = document.live();
            live.retain(|id| votes(*id));
            if let Some(present) = &membership
                && let Some(id) = node.node_id.filter(|id| !present.voters.contains(id))
                && !node.is_follower(replicas)
            {
                health.judge_no_voter(&name, document, present.learners.contains(&id));
                continue;
            }
            if let Some(own) = document.membership()
                && membership.as_ref().is_some_and(|present| *present != own)
            {
                let version = own.version;
                let text = format!(
                    "{name} goes by version {version} of the members, and hears of the newest yet"
                );
                health.on_its_way.push(text);
            }
            if node.is_follower(replicas) {
                health.judge_follower(&name, document);
                health.judge_links(node, nodes, &live, &votes);
                continue;
            }
            let abstaining = document.sum("/shard/gauges/abstaining_cores");
            let rejoining = document.sum("/shard/gauges/rejoining_cores");
            if live.len() >= majority {
                health.serving += 1;
                voting += usize::from(abstaining == 0 && rejoining == 0);
            }
            if abstaining > 0 {
                health.why.push(format!(
                    "{name}: {abstaining} cores abstain, because their log was found damaged, and \
                     there was no room for another: their clients are served through the other \
                     nodes; check the disk, make room, and start the node again"
                ));
            }
            if rejoining > 0 {
                let left = document.sum("/shard/gauges/rejoin_left");
                health.why.push(format!(
                    "{name}: {rejoining} cores rejoin after a loss, and vote on everything again \
                     when no entities are left; {left} are"
                ));
            }
            health.judge_links(node, nodes, &live, &votes);
            health.judge_cleaner(&name, document);
            health.judge_counts(&name, document);
        }
        health.judge_nodes(nodes, membership.as_ref());
        if voters > 0 {
            health.more_may_fail = voting.checked_sub(majority);
        }
        health
    }

    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.why.is_empty() && self.more_may_fail.is_some()
    }

    /// What is counted, and should be nothing.
    fn judge_counts(&mut self, name: &str, document: &Document) {
        for (pointer, what) in [
            (
                "/shard/gauges/abstaining",
                "entities abstain here: their copy is damaged \
                  or differs from the peers'",
            ),
            (
                "/metrics/counters/log_reads_failed",
                "reads of the log failed since the start: \
                  check the disk",
            ),
            (
                "/metrics/counters/spares_failed",
                "times there was no space for a new log \
                  segment since the start: free space",
            ),
        ] {
            let count = document.sum(pointer);
            if count > 0 {
                self.why.push(format!("{name}: {count} {what}"));
            }
        }
        for (pointer, what) in [
            ("/shard/gauges/behind", "entities are behind a peer and catch up"),
            ("/shard/gauges/sweep_left", "entities have advanced and are to be told by peers yet"),
            ("/shard/gauges/loading", "entities are being read back from the log"),
        ] {
            let count = document.sum(pointer);
            if count > 0 {
                self.on_its_way.push(format!("{name}: {count} {what}"));
            }
        }
    }

    /// A node that is no voter: it learns, was removed, or waits to be added.
    fn judge_no_voter(&mut self, name: &str, document: &Document, learns: bool) {
        if !learns {
            self.notes.push(format!(
                "{name} is no member: it serves nothing; add it (certus member add), or stop it"
            ));
            return;
        }
        let left = document.sum("/shard/gauges/settling_left");
        let text = if left > 0 {
            format!("{name} learns what was chosen before it was added: {left} entities are left")
        } else {
            format!("{name} has learned all, and can be made a voter (certus member add)")
        };
        self.on_its_way.push(text);
    }

    /// A follower serves on with what it has, and nothing depends on it.
    fn judge_follower(&mut self, name: &str, document: &Document) {
        let cores = document.cores();
        let of_cores = |pointer: &str| -> Vec<Option<u64>> {
            cores.iter().map(|core| core.pointer(pointer)?.as_u64()).collect()
        };
        if of_cores("/following/replica").contains(&None) {
            self.why.push(format!("{name} is a follower and finds no replica to follow"));
        }
        let staleness: Option<Vec<u64>> = of_cores("/following/staleness_us").into_iter().collect();
        match staleness.and_then(|staleness| staleness.into_iter().max()) {
            Some(longest) => {
                let milliseconds = longest / 1000;
                let note = format!("{name} is a follower, in step {milliseconds} ms ago");
                self.notes.push(note);
            }
            None => self.on_its_way.push(format!("{name} is a follower and not in step yet")),
        }
    }

    fn judge_cleaner(&mut self, name: &str, document: &Document) {
        let gauge = |core: &serde_json::Value, gauge: &str| {
            number(core, &format!("/shard/gauges/{gauge}")) > 0
        };
        let paused: Vec<_> =
            document.cores().iter().filter(|core| gauge(core, "cleaner_paused")).collect();
        if paused.is_empty() {
            return;
        }
        let remedy = "run `certus cleaner resume` when you are done";
        if paused.iter().any(|core| gauge(core, "log_full")) {
            self.why.push(format!(
                "{name}: its cleaner is paused and its log is full, so it refuses writes: {remedy}"
            ));
        } else if paused.iter().any(|core| gauge(core, "log_near_limit")) {
            self.why.push(format!(
                "{name}: its cleaner is paused and its log nears its limit, where writes are \
                 refused: {remedy}"
            ));
        } else {
            self.notes.push(format!("{name}: its cleaner is paused: {remedy}"));
        }
    }

    fn judge_links(
        &mut self,
        node: &NodeStatus,
        nodes: &[NodeStatus],
        live: &[u8],
        votes: &dyn Fn(u8) -> bool,
    ) {
        for other in nodes {
            let Some(id) = other.node_id.filter(|id| Some(*id) != node.node_id) else { continue };
            if !votes(id) {
                continue;
            }
            // That one which answers nobody is not heard either is said once.
            if other.document().is_some() && !live.contains(&id) {
                self.why.push(format!("{} does not hear node {id}", node.name()));
            }
        }
    }

    fn judge_nodes(&mut self, nodes: &[NodeStatus], membership: Option<&Membership>) {
        let mut by_id: BTreeMap<u8, &NodeStatus> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.document().is_some()) {
            let Some(id) = node.node_id else { continue };
            if let Some(other) = by_id.insert(id, node) {
                let (first, second) = (other.address, node.address);
                if other.cluster == node.cluster {
                    self.why.push(format!("{first} and {second} both say that they are node {id}"));
                }
            }
        }
        let mut clusters: Vec<(&str, String)> = nodes
            .iter()
            .filter(|node| !node.cluster.is_empty())
            .map(|node| (node.cluster.trim_start_matches('0'), node.address.to_string()))
            .collect();
        clusters.sort();
        clusters.dedup_by(|later, earlier| later.0 == earlier.0);
        if clusters.len() > 1 {
            let list: Vec<String> = clusters
                .iter()
                .map(|(cluster, address)| format!("{address} in {cluster}"))
                .collect();
            self.why.push(format!("these are nodes of different clusters: {}", list.join(", ")));
        }
        let Some(membership) = membership else {
            let named = nodes.iter().filter(|node| !node.is_follower(self.replicas)).count();
            if self.replicas > named {
                self.why.push(format!("only {named} of {} nodes are known", self.replicas));
            }
            return;
        };
        let is_known = |id: &&u8| nodes.iter().any(|node| node.node_id == Some(**id));
        for id in membership.voters.iter().filter(|id| !is_known(id)) {
            self.why.push(format!(
                "node {id} votes, and its address is not known here: name it with --addr, and list \
                 it in the [[node]] tables"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Health;
    use crate::status::node_status::{Document, NodeStatus};

    fn node(id: u8, live: &[u8]) -> NodeStatus {
        let document = json!({
            "replicas": 3, "live": live,
            "cores": [{ "shard": { "gauges": { "behind": 0 } } }, {}],
        });
        NodeStatus {
            address: format!("127.0.0.1:700{id}").parse().unwrap(),
            cluster: "c0ffee".to_owned(),
            node_id: Some(id),
            answer: Ok(Document(document)),
        }
    }

    fn silent(id: u8) -> NodeStatus {
        NodeStatus { answer: Err("nothing listens there".to_owned()), ..node(id, &[]) }
    }

    #[test]
    fn with_all_nodes_one_of_three_may_fail() {
        let all = [0, 1, 2];
        let health = Health::of(&all.map(|id| node(id, &all)));
        assert!(health.is_healthy(), "{health:?}");
        assert_eq!((health.serving, health.more_may_fail), (3, Some(1)));
    }

    #[test]
    fn a_follower_counts_for_nobody_and_says_how_stale_it_is() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all)).to_vec();
        let mut follower = node(7, &all);
        let following = json!({ "replica": 1, "staleness_us": 170_400, "lagging": 0 });
        let cores = json!([{ "following": following }, { "following": following }]);
        follower.answer.as_mut().unwrap().0["cores"] = cores;
        nodes.push(follower);
        let health = Health::of(&nodes);
        assert!(health.is_healthy(), "{health:?}");
        assert_eq!((health.serving, health.more_may_fail), (3, Some(1)));
        assert!(health.notes[0].ends_with("is a follower, in step 170 ms ago"), "{health:?}");
        let following = &mut nodes[3].answer.as_mut().unwrap().0["cores"][1]["following"];
        *following = json!({ "replica": null, "staleness_us": null, "lagging": 0 });
        let health = Health::of(&nodes);
        assert!(health.why[0].contains("finds no replica"), "{health:?}");
        assert!(health.on_its_way[0].contains("not in step"), "{health:?}");
    }

    #[test]
    fn with_one_gone_the_rest_serves_and_none_may_fail() {
        let health = Health::of(&[node(0, &[0, 1]), node(1, &[0, 1]), silent(2)]);
        assert_eq!((health.serving, health.more_may_fail), (2, Some(0)));
        assert_eq!(health.why.len(), 1, "{:?}", health.why);
        assert!(health.why[0].contains("node 2 (127.0.0.1:7002)"), "{}", health.why[0]);
    }

    #[test]
    fn without_a_majority_nothing_is_served() {
        let health = Health::of(&[node(0, &[0]), silent(1), silent(2)]);
        assert_eq!((health.serving, health.more_may_fail), (0, None));
        assert!(!Health::of(&[silent(0)]).is_healthy());
    }

    #[test]
    fn a_link_that_is_down_one_way_is_named() {
        let all = [0, 1, 2];
        let health = Health::of(&[node(0, &all), node(1, &all), node(2, &[1, 2])]);
        assert_eq!(health.more_may_fail, Some(1));
        assert_eq!(health.why, ["node 2 (127.0.0.1:7002) does not hear node 0"]);
    }

    #[test]
    fn catching_up_is_no_illness_and_a_damaged_entity_is() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all));
        let set = |node: &mut NodeStatus, gauge: &str| {
            let document = node.answer.as_mut().unwrap();
            document.0["cores"][1]["shard"]["gauges"][gauge] = json!(7);
        };
        set(&mut nodes[0], "behind");
        let health = Health::of(&nodes);
        assert!(health.is_healthy());
        assert!(health.on_its_way[0].contains("7 entities"), "{:?}", health.on_its_way);
        set(&mut nodes[1], "abstaining");
        assert!(!Health::of(&nodes).is_healthy());
    }

    #[test]
    fn a_node_that_abstains_serves_and_does_not_count_among_those_that_may_fail() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all));
        let document = nodes[1].answer.as_mut().unwrap();
        document.0["cores"][0]["shard"]["gauges"]["abstaining_cores"] = json!(1);
        let health = Health::of(&nodes);
        assert_eq!((health.serving, health.more_may_fail), (3, Some(0)));
        assert!(health.why[0].contains("abstain"), "{:?}", health.why);
    }

    #[test]
    fn a_node_that_rejoins_does_not_count_among_those_that_may_fail() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all));
        let gauges = &mut nodes[1].answer.as_mut().unwrap().0["cores"][0]["shard"]["gauges"];
        (gauges["rejoining_cores"], gauges["rejoin_left"]) = (json!(1), json!(12));
        let health = Health::of(&nodes);
        assert_eq!((health.serving, health.more_may_fail), (3, Some(0)));
        assert!(health.why[0].contains("1 cores rejoin") && health.why[0].ends_with("12 are"));
    }

    #[test]
    fn a_paused_cleaner_is_no_illness_until_the_log_nears_its_limit() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all));
        let set = |node: &mut NodeStatus, gauge: &str| {
            let document = node.answer.as_mut().unwrap();
            document.0["cores"][0]["shard"]["gauges"][gauge] = json!(1);
        };
        set(&mut nodes[2], "log_near_limit");
        assert!(Health::of(&nodes).is_healthy(), "checkpoints hurry, which is their business");
        set(&mut nodes[0], "cleaner_paused");
        let health = Health::of(&nodes);
        assert!(health.is_healthy() && health.notes.len() == 1, "{health:?}");
        set(&mut nodes[0], "log_near_limit");
        let health = Health::of(&nodes);
        assert!(!health.is_healthy() && health.why[0].contains("nears its limit"), "{health:?}");
        set(&mut nodes[0], "log_full");
        let health = Health::of(&nodes);
        assert!(health.why[0].contains("refuses writes"), "{health:?}");
    }

    #[test]
    fn nodes_of_two_clusters_are_told_apart() {
        let all = [0, 1, 2];
        let mut nodes = all.map(|id| node(id, &all));
        nodes[2].cluster = "decaf".to_owned();
        let why = Health::of(&nodes).why;
        assert_eq!(why.len(), 1, "{why:?}");
        assert!(why[0].contains("different clusters"), "{why:?}");
    }

    #[test]
    fn where_members_change_those_that_vote_are_counted() {
        let present = json!({ "version": 4, "voters": [0, 3, 4], "learners": [1] });
        let of = |id: u8, live: &[u8]| {
            let mut node = node(id, live);
            let document = node.answer.as_mut().unwrap();
            (document.0["replicas"], document.0["membership"]) = (json!(5), present.clone());
            node
        };
        let all = [0, 1, 2, 3, 4];
        let health = Health::of(&[of(0, &all), of(3, &all), of(4, &all)]);
        assert!(health.is_healthy(), "{health:?}");
        assert_eq!((health.voters, health.serving, health.more_may_fail), (3, 3, Some(1)));
        // Of who is heard only voters count.
        let health = Health::of(&[of(0, &[0, 1, 2]), of(3, &[3]), silent(4)]);
        assert_eq!((health.serving, health.more_may_fail), (0, None));
        let mut learner = of(1, &all);
        let gauges = &mut learner.answer.as_mut().unwrap().0["cores"][0]["shard"]["gauges"];
        gauges["settling_left"] = json!(7);
        let mut late = of(4, &all);
        late.answer.as_mut().unwrap().0["membership"]["version"] = json!(3);
        let health = Health::of(&[of(0, &all), of(3, &all), late, learner, of(2, &all)]);
        assert_eq!((health.serving, health.more_may_fail), (3, Some(1)));
        assert!(health.on_its_way.iter().any(|text| text.ends_with("7 entities are left")));
        assert!(health.on_its_way.iter().any(|text| text.contains("goes by version 3")));
        assert!(health.notes[0].starts_with("node 2") && health.notes[0].contains("no member"));
        let health = Health::of(&[of(0, &all), of(3, &all)]);
        assert!(health.why[0].starts_with("node 4 votes, and its address is not known"));
    }
}
