//! Whole configurations, and what is said of each mistake in one.

use std::path::Path;

use net::peer::handshake::Role;
use plog::configuration::Configuration;
use plog::vocabulary::BootEpoch;

use crate::node::config::{Config, Override, environment_overrides, known_keys};
use crate::node::config_error::ConfigError;

const NODES: &str = "
    [[node]]
    id = 0
    client = \"127.0.0.1:7000\"
    peer = \"127.0.0.1:7400\"
    [[node]]
    id = 1
    client = \"127.0.0.1:8000\"
    peer = \"127.0.0.1:8400\"
    [[node]]
    id = 2
    client = \"127.0.0.1:9000\"
    peer = \"127.0.0.1:9400\"
";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("certusd.toml"), &[])
}

fn parse_with_nodes(top: &str) -> Result<Config, ConfigError> {
    parse(&format!("{top}\n{NODES}"))
}

#[test]
fn a_list_of_nodes_is_all_a_configuration_needs() {
    assert_eq!(parse_with_nodes("").unwrap(), Config::default());
    let error = parse("node_id = 1").unwrap_err();
    assert!(error.to_string().contains("`node` is missing"), "{error}");
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    let config = parse_with_nodes("cluster_id = \"0xc0ffee\"\nnode_id = 2\ncores = 2").unwrap();
    assert_eq!(config.cluster_id.0, 0xC0_FFEE);
    assert_eq!(parse(&config.to_toml()).unwrap(), config);
    let number = parse_with_nodes("cluster_id = 12648430").unwrap();
    assert_eq!(number.cluster_id, config.cluster_id);
}

#[test]
fn each_mistake_has_one_message_that_names_key_value_and_remedy() {
    let cases: &[(&str, &[&str])] = &[
        ("node_idd = 1", &["`node_idd` (= 1)", "did you mean `node_id`?"]),
        ("segment_size_bytes = 1", &["did you mean `log.segment_size_bytes`?"]),
        ("[log]\nsegment_size = 1", &["`log.segment_size`", "`log.segment_size_bytes`"]),
        ("[limits]\nqqqqqqqq = 1", &["`limits.qqqqqqqq` (= 1) is not known; correct"]),
        ("[quux]\na = 1", &["`quux`", "not known"]),
        ("node_id = 3", &["`node_id` is 3", "0 to 2", "for a follower", "from 16"]),
        ("node_id = \"a\"", &["line 1", "`node_id = \"a\"`", "expected u8"]),
        ("\nnode_id = 300", &["line 2", "`node_id = 300`"]),
        ("cores = -1", &["`cores = -1`", "line 1"]),
        ("cores = 257", &["`cores` is 257", "0 to 256"]),
        ("cluster_id = 0", &["`cluster_id` is 0", "from 1"]),
        ("cluster_id = \"xyz\"", &["`cluster_id = \"xyz\"`", "hexadecimal"]),
        ("data_directory = \"\"", &["`data_directory` is empty", "name the directory"]),
        ("client_address = \"7000\"", &["`client_address` is `7000`", "127.0.0.1:7000"]),
        ("client_address = \"127.0.0.1:0\"", &["`client_address`", "1 to 65535"]),
        (
            "client_address = \"0.0.0.0:7000\"",
            &["`client_address` is 0.0.0.0:7000", "no authentication", "loopback"],
        ),
        ("peer_address = \"10.0.0.1:7400\"", &["`peer_address`", "no authentication"]),
        ("admin_address = \"[::]:7800\"", &["`admin_address`", "no authentication"]),
        ("peer_address = \"127.0.0.1:7000\"", &["`peer_address`", "`client_address`", "overlap"]),
        (
            "cores = 4\ncore_client_port_first = 7398",
            &["`core_client_port_first` is 127.0.0.1:7398 to 7401", "`peer_address`"],
        ),
        ("cores = 8\npeer_address = \"127.0.0.1:65530\"", &["`peer_address`", "65535"]),
        ("node_id = 15", &["`node_id` is 15", "for a follower"]),
        (
            "node_id = 1\n[follower]\nstaleness_max_ms = 5",
            &["`follower.staleness_max_ms` is 5", "`node_id` is 1", "follows nobody"],
        ),
        ("[log]\nsegment_size_bytes = 4096", &["`log.segment_size_bytes` is 4096", "4194304"]),
        ("[log]\nsegment_size_bytes = 67108865", &["67108865", "multiple of 4096"]),
        (
            "[log]\nslow_operation_ms = 60001",
            &["`log.slow_operation_ms` is 60001", "from 0 to 60000"],
        ),
        ("[log]\nspare_segments = 0", &["`log.spare_segments` is 0", "from 1 to 64"]),
        (
            "[log]\nsegment_size_bytes = 8388608",
            &["`log.segment_size_bytes` is 8388608", "whatever fits a frame, 8519680 bytes"],
        ),
        (
            "[limits]\npeer_frame_size_max_bytes = 6291456",
            &["`limits.peer_frame_size_max_bytes` is 6291456", "a frame must hold one entry"],
        ),
        (
            "[limits]\npeer_frame_size_max_bytes = 5242880\nrequest_size_max_bytes = 1048576",
            &["`limits.peer_frame_size_max_bytes` is 5242880", "hold the largest entity"],
        ),
        (
            "[log]\npending_max_bytes = 1048576\nframe_size_max_bytes = 2097152",
            &["`log.pending_max_bytes`", "`log.frame_size_max_bytes` is 2097152"],
        ),
        (
            "[consensus]\nretry_ms = 1000\nrequest_timeout_ms = 500",
            &["`consensus.retry_ms` is 1000", "`consensus.request_timeout_ms` is 500"],
        ),
        ("[limits]\nvalue_size_max_bytes = 2097152", &["`limits.value_size_max_bytes`"]),
        (
            "[limits]\nrequest_size_max_bytes = 16777216",
            &["`limits.request_size_max_bytes`", "`limits.peer_frame_size_max_bytes`"],
        ),
        ("log_level = \"loud\"", &["`log_level = \"loud\"`", "`info`"]),
        ("this is not toml", &["line 1 (`this is not toml`)"]),
    ];
    for (text, words) in cases {
        let message = parse_with_nodes(text).expect_err(text).to_string();
        for word in *words {
            assert!(message.contains(word), "{text:?} says {message:?}, without {word:?}");
        }
        assert!(!message.contains('\n'), "{message:?} is one line");
    }
}

#[test]
fn each_mistake_in_the_list_of_nodes_is_named() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("id = 2", "id = 1", &["`node[2].id`", "`node[1].id`"]),
        ("id = 2", "id = 3", &["`node[2].id` is 3", "0 to 2"]),
        ("127.0.0.1:9400", "127.0.0.1:8400", &["`node[2].peer`", "`node[1].peer`"]),
        ("127.0.0.1:9400", "127.0.0.1", &["`node[2].peer` is `127.0.0.1`", "host and port"]),
        ("127.0.0.1:9000", "::1:9000", &["`node[2].client` is `::1:9000`", "[fd00::2]"]),
        ("id = 2", "id = 2\nlcient = \"x:1\"", &["`node.lcient`", "`node.client`"]),
        (
            "id = 2",
            "id = 2\ncore_client_port_first = 9100",
            &["`node[2].core_client_port_first` is 9100", "how many cores"],
        ),
        ("id = 0", "id = 0\ncores = 3", &["`cores` is 2", "cores of [[node]] 0"]),
    ];
    for (from, to, words) in cases {
        let text = format!("cores = 2\n{}", NODES.replacen(from, to, 1));
        let message = parse(&text).expect_err(to).to_string();
        for word in *words {
            assert!(message.contains(word), "{to:?} says {message:?}, without {word:?}");
        }
    }
    let two = NODES.rsplit_once("[[node]]").unwrap().0;
    assert!(parse(two).unwrap_err().to_string().contains("2 nodes"));
    let named = NODES.replacen("127.0.0.1:9400", "db3.example:9400", 1);
    assert!(parse(&named).is_ok(), "host names are allowed for others");
}

#[test]
fn a_remote_address_is_allowed_when_said_so() {
    let text = "allow_remote_without_authentication = true\nclient_address = \"0.0.0.0:7000\"";
    assert!(parse_with_nodes(text).is_ok());
}

#[test]
fn the_environment_and_flags_replace_top_level_keys() {
    let environment = [
        ("CERTUS_NODE_ID", "2"),
        ("CERTUS_LOG_LEVEL", "debug"),
        ("CERTUS_PIN_CORES", "false"),
        ("CERTUS_NODE", "x"),
        ("CERTUS_NODE_IDD", "x"),
        ("HOME", "/root"),
    ];
    let (mut overrides, unknown) = environment_overrides(
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    assert_eq!(unknown, ["CERTUS_NODE", "CERTUS_NODE_IDD"]);
    overrides.push(Override {
        source_name: "--node-id".to_owned(),
        key: "node_id".to_owned(),
        value: "1".to_owned(),
    });
    let config = Config::parse(NODES, Path::new("x"), &overrides).unwrap();
    assert_eq!(config.node_id, 1, "the flag comes after the environment");
    assert!(!config.pin_cores);
    assert_eq!(config.log_level, crate::node::log_line::Level::Debug);
}

#[test]
fn a_bad_override_names_the_variable_and_the_key() {
    for (key, value) in
        [("node_id", "two"), ("node_id", "-1"), ("pin_cores", "yes"), ("log_level", "loud")]
    {
        let name = format!("CERTUS_{}", key.to_uppercase());
        let replacement =
            Override { source_name: name.clone(), key: key.to_owned(), value: value.to_owned() };
        let message = Config::parse(NODES, Path::new("x"), &[replacement]).unwrap_err().to_string();
        for word in [&name, &format!("`{value}`"), &format!("`{key}`")] {
            assert!(message.contains(word.as_str()), "{message}");
        }
    }
}

#[test]
fn a_cluster_id_means_the_same_in_the_file_and_in_the_environment() {
    let with = |value: &str| Override {
        source_name: "CERTUS_CLUSTER_ID".to_owned(),
        key: "cluster_id".to_owned(),
        value: value.to_owned(),
    };
    // As it is given to the environment, and as it is written in the file.
    let cases = [
        ("10", "10", 10),
        (" 10 ", "10", 10),
        ("1_000", "1_000", 1000),
        ("9223372036854775807", "9223372036854775807", (1 << 63) - 1),
        ("0x10", "0x10", 16),
        ("0x10", "\"0x10\"", 16),
        ("0x0000000000000010", "\"0x0000000000000010\"", 16),
        ("c0ffee", "\"c0ffee\"", 0xC0_FFEE),
        ("0xFFFF_FFFF_FFFF_FFFF", "\"ffffffffffffffff\"", u64::MAX),
    ];
    for (given, written, meant) in cases {
        let given = Config::parse(NODES, Path::new("x"), &[with(given)]).unwrap();
        let written = parse_with_nodes(&format!("cluster_id = {written}")).unwrap();
        assert_eq!((given.cluster_id.0, written.cluster_id.0), (meant, meant));
    }
    for value in ["", "-10", "+10", "0x", "0x+10", "_", "9223372036854775808", "12345678901234567f"]
    {
        let error = Config::parse(NODES, Path::new("x"), &[with(value)]).unwrap_err();
        let message = error.to_string();
        for word in ["CERTUS_CLUSTER_ID", value, "an integer from 1 to 2^63 - 1", "hexadecimal"] {
            assert!(message.contains(word), "{value:?} says {message:?}, without {word:?}");
        }
    }
}

#[test]
fn known_keys_are_complete_and_each_stands_once() {
    let mut keys = known_keys();
    for key in ["cluster_id", "node.id", "node.cores", "log.segment_size_bytes"] {
        assert!(keys.iter().any(|known| known == key), "{key}");
    }
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn what_a_node_may_hold_is_shared_out_among_its_cores() {
    let config = Config::default();
    let one = config.shard_config(0, 1, BootEpoch(1));
    let third = config.shard_config(2, 3, BootEpoch(1));
    assert_eq!((third.core, third.core_count), (2, 3), "it knows which entities are its own");
    assert_eq!(one.memory_bytes_max, 4 << 30);
    assert!(third.memory_bytes_max * 3 >= one.memory_bytes_max);
    assert!(third.memory_bytes_max * 3 < one.memory_bytes_max + 3);
    assert_eq!(one.entities_max, 1 << 32);
    assert!(third.entities_max * 3 >= one.entities_max);
    assert!(third.entities_max * 3 < one.entities_max + 3);
    assert_eq!(third.request_ids_max, one.request_ids_max, "replicated state is not shared out");
    assert_ne!(third.seed, one.seed);
    assert_eq!(config.core_limits(1).connections_max, 10_000);
    assert_eq!(config.core_limits(4).connections_max, 2_500);
    assert_eq!(config.flattened()["log.spare_segments"], "2");
    assert_eq!(config.flattened()["client_address"], "127.0.0.1:7000");
}

#[test]
fn where_members_change_the_file_names_founders_or_whom_a_node_joins() {
    let config = |top: &str| parse_with_nodes(top).unwrap();
    let fixed = config("");
    assert_eq!((fixed.changes_membership(), fixed.replicas()), (false, 3));
    let founder = config("replica_slots = 5\nnode_id = 2");
    assert_eq!((founder.changes_membership(), founder.replicas()), (true, 5));
    assert_eq!(founder.founding(), Configuration::initial(3));
    assert_eq!(founder.role(), Role::Member { peer_port: 7400 });
    let shard = founder.shard_config(0, 1, BootEpoch(1));
    assert!(shard.changes_membership && shard.replicas == 5);
    let joins = config("replica_slots = 5\nnode_id = 4");
    assert_eq!(joins.founding(), Configuration::UNKNOWN);
    assert!(joins.joins() && !founder.joins() && !fixed.joins());
    let follows = config("replica_slots = 5\nnode_id = 16");
    assert_eq!(follows.founding(), Configuration::UNKNOWN);
    assert_eq!(follows.role(), Role::Follower { peer_port: 7400 });
    // Any number that fits, with any ids below the slots.
    let four = NODES.replace("id = 0", "id = 4");
    assert_eq!(parse(&format!("replica_slots = 5\nnode_id = 1\n{four}")).unwrap().replicas(), 5);
    for (top, words) in [
        ("replica_slots = 4", ["`replica_slots` is 4", "choose 3 or 5"]),
        ("replica_slots = 5\nnode_id = 5", ["`node_id` is 5", "0 to 4"]),
        ("replica_slots = 3\nnode_id = 3", ["`node_id` is 3", "0 to 2"]),
    ] {
        let said = parse_with_nodes(top).unwrap_err().to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let said = parse(&format!("replica_slots = 3\n{four}")).unwrap_err().to_string();
    assert!(said.contains("`node[0].id` is 4"), "{said}");
}
