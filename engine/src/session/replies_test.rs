//! Requests and what is answered, word for word.

use std::rc::Rc;

use net::resp::arguments::Arguments;
use net::resp::slot;
use net::resp::value::{Protocol, Value};
use plog::configuration::Change;
use plog::vocabulary::AcceptorId;

use crate::request::{Command, EntityRequest, Freshness};
use crate::session::example::node_info;
use crate::session::{Action, MemberOrder, NodeQuery, Order, Session};

fn session_of(cores: &[u16]) -> Session {
    Session::new(7, "127.0.0.1:5000".to_owned(), Rc::new(node_info(3, cores)))
}

fn session() -> Session {
    session_of(&[1, 1, 1])
}

fn ask(session: &mut Session, words: &[&str]) -> Action {
    session.handle(Arguments::from_slices(words))
}

fn reply(session: &mut Session, words: &[&str]) -> Value {
    match ask(session, words) {
        Action::Reply(value) => value,
        other => panic!("{words:?} is answered by the session, not by {other:?}"),
    }
}

/// The command that a request becomes.
fn command(session: &mut Session, words: &[&str]) -> Command {
    match ask(session, words) {
        Action::Entity { request: EntityRequest::Command(command), .. } => command,
        other => panic!("{words:?} is a command for an entity, not {other:?}"),
    }
}

/// A value on one line: aggregates in brackets, so that their kind is seen.
fn print(value: &Value) -> String {
    let list = |values: &[Value]| values.iter().map(print).collect::<Vec<_>>().join(" ");
    match value {
        Value::Simple(text) => format!("+{text}"),
        Value::Error(error) => format!("-{}", error.text()),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Verbatim { text, .. } => String::from_utf8_lossy(text).into_owned(),
        Value::Null | Value::NullArray => "nil".to_owned(),
        Value::Array(values) => format!("[{}]", list(values)),
        Value::Set(values) => format!("~[{}]", list(values)),
        Value::Map(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{}={}", print(key), print(value)))
                .collect();
            format!("{{{}}}", pairs.join(" "))
        }
        other => panic!("no reply of a session: {other:?}"),
    }
}

/// Runs lines `command → reply` on one connection.
fn script(session: &mut Session, text: &str) {
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        let (request, expected) = line.split_once(" →").expect("a line has an arrow");
        let words: Vec<&str> =
            request.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let printed = print(&reply(session, &words));
        let expected = expected.strip_prefix(' ').unwrap_or(expected);
        assert_eq!(printed.trim_end_matches('\n'), expected, "{request}");
    }
}

#[test]
fn errors_are_in_the_words_of_redis() {
    script(
        &mut session(),
        "SET a → -ERR wrong number of arguments for 'set' command
         get → -ERR wrong number of arguments for 'get' command
         get a b → -ERR wrong number of arguments for 'get' command
         MSET a → -ERR wrong number of arguments for 'mset' command
         MSET a b a → -ERR wrong number of arguments for 'mset' command
         Incr a b → -ERR wrong number of arguments for 'incr' command
         PING a b → -ERR wrong number of arguments for 'ping' command
         ECHO → -ERR wrong number of arguments for 'echo' command
         DBSIZE x → -ERR wrong number of arguments for 'dbsize' command
         SELECT → -ERR wrong number of arguments for 'select' command
         AUTH → -ERR wrong number of arguments for 'auth' command
         READONLY x → -ERR wrong number of arguments for 'readonly' command
         CLIENT → -ERR wrong number of arguments for 'client' command
         CLIENT SETNAME → -ERR wrong number of arguments for 'client|setname' command
         CLIENT ID a → -ERR wrong number of arguments for 'client|id' command
         CLUSTER → -ERR wrong number of arguments for 'cluster' command
         CLUSTER KEYSLOT → -ERR wrong number of arguments for 'cluster|keyslot' command
         CONFIG GET → -ERR wrong number of arguments for 'config|get' command
         CONFIG SET → -ERR wrong number of arguments for 'config|set' command
         CONFIG SET a → -ERR wrong number of arguments for 'config|set' command
         CONFIG SET a b c → -ERR wrong number of arguments for 'config|set' command
         CERTUS VERSION → -ERR wrong number of arguments for 'certus|version' command
         CERTUS CAS a 0 → -ERR wrong number of arguments for 'certus|cas' command
         CERTUS ONCE id → -ERR wrong number of arguments for 'certus|once' command
         Client Foo → -ERR unknown subcommand 'Foo'. Try CLIENT HELP.
         client maint_notifications on → -ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP.
         config foo → -ERR unknown subcommand 'foo'. Try CONFIG HELP.
         cluster foo → -ERR unknown subcommand 'foo'. Try CLUSTER HELP.
         command foo → -ERR unknown subcommand 'foo'. Try COMMAND HELP.
         certus foo → -ERR unknown subcommand 'foo'. Try CERTUS HELP.
         Foo a b → -ERR unknown command 'Foo', with args beginning with: 'a' 'b' \n\
         MULTI → -ERR unknown command 'MULTI', with args beginning with: \n\
         client|id → -ERR unknown command 'client|id', with args beginning with: \n\
         SELECT x → -ERR value is not an integer or out of range
         SELECT 1 → -ERR DB index is out of range
         SELECT -1 → -ERR DB index is out of range
         CONFIG SET nope 1 → -ERR Unknown option or number of arguments for CONFIG SET - 'nope'
         CONFIG SET save 1 nope 1 → -ERR Unknown option or number of arguments for CONFIG SET - 'nope'
         AUTH x y z → -ERR syntax error",
    );
    let refused = reply(&mut session(), &["CONFIG", "SET", "maxmemory", "1"]);
    assert!(print(&refused).starts_with(
        "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - can't set immutable config"
    ));
    assert!(reply(&mut session(), &[]).is_error());
    assert!(reply(&mut session(), &[""]).is_error());
}

#[test]
fn rates_of_catching_up_are_set_together_or_not_at_all() {
    let set = |words: &[&str]| {
        let request: Vec<&str> = ["CONFIG", "SET"].iter().chain(words).copied().collect();
        ask(&mut session(), &request)
    };
    let action = set(&["catch_up.rate_bytes_per_s", "0", "CATCH_UP.peer_rate_entries_per_s", "7"]);
    let Action::Node(NodeQuery::Order(Order::SetCatchUpRates(changes))) = action else {
        panic!("it concerns all cores, not {action:?}")
    };
    assert_eq!(
        changes.settings().collect::<Vec<_>>(),
        [("catch_up.rate_bytes_per_s", 0), ("catch_up.peer_rate_entries_per_s", 7)]
    );
    let rate = "catch_up.rate_bytes_per_s";
    for (words, why) in [
        (&[rate, "-1"][..], "must be between 0 (no limit) and 1099511627776 inclusive"),
        (&[rate, "1099511627777"], "must be between"),
        (&[rate, "10mb"], "must be between"),
        (&[rate, "1", rate, "2"], "duplicate parameter"),
        (&[rate, "1", "save", ""], "possibly related to argument 'save') - can't set immutable"),
        (
            &[rate, "1", "nope", "2"],
            "Unknown option or number of arguments for CONFIG SET - 'nope'",
        ),
    ] {
        let Action::Reply(refusal) = set(words) else { panic!("{words:?} is refused") };
        assert!(print(&refusal).contains(why), "{words:?}: {}", print(&refusal));
    }
}

#[test]
fn long_words_of_an_unknown_command_are_cut() {
    let long = "x".repeat(300);
    let cut = "x".repeat(128);
    let replied = reply(&mut session(), &[&long, "a", &long, "b"]);
    // As much of the arguments as fits 128 bytes with what is before them.
    let arguments = format!("'a' '{}' ", "x".repeat(124));
    assert_eq!(
        print(&replied),
        format!("-ERR unknown command '{cut}', with args beginning with: {arguments}")
    );
    let subcommand = reply(&mut session(), &["client", &long]);
    assert_eq!(print(&subcommand), format!("-ERR unknown subcommand '{cut}'. Try CLIENT HELP."));
    let binary = session().handle(Arguments::from_slices(&[b"\xff\r\n+OK"]));
    let Action::Reply(binary) = binary else { panic!("an unknown command is answered") };
    let mut encoded = Vec::new();
    binary.encode(Protocol::Resp2, &mut encoded);
    let lines = encoded.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 1, "a client's words cannot forge a reply of their own");
}

#[test]
fn the_connection_commands_answer_as_redis_does() {
    script(
        &mut session(),
        "PING → +PONG
         ping hello → hello
         ECHO hello → hello
         SELECT 0 → +OK
         CLIENT ID → :7
         CLIENT GETNAME → nil
         CLIENT SETNAME worker-1 → +OK
         CLIENT GETNAME → worker-1
         CLIENT SETINFO LIB-NAME redis-py → +OK
         CLIENT SETINFO lib-ver 8.0.0 → +OK
         CLIENT SETINFO lib-ver '' → +OK
         CLIENT SETINFO LIB-FOO x → -ERR Unrecognized option 'LIB-FOO'
         CLIENT NO-EVICT on → +OK
         CLIENT NO-TOUCH OFF → +OK
         CLIENT NO-EVICT maybe → -ERR syntax error
         CLIENT INFO → id=7 addr=127.0.0.1:5000 name=worker-1 flags=N db=0 sub=0 psub=0 ssub=0 \
                       multi=-1 cmd=client|info user=default redir=-1 resp=2 lib-name=redis-py lib-ver=
         CLIENT LIST TYPE replica →
         CLIENT LIST TYPE foo → -ERR Unknown client type 'foo'
         CLIENT LIST ID 1 2 →
         CLIENT LIST ID 1 x → -ERR Invalid client ID
         CLIENT LIST foo → -ERR syntax error
         READONLY → +OK
         CLIENT LIST ID 1 7 → id=7 addr=127.0.0.1:5000 name=worker-1 flags=r db=0 sub=0 psub=0 ssub=0 \
                       multi=-1 cmd=client|list user=default redir=-1 resp=2 lib-name=redis-py lib-ver=
         CLIENT SETNAME '' → +OK
         CLIENT GETNAME → nil
         CLUSTER KEYSLOT foo → :12182
         CLUSTER MYID → 0000000000000000c0ffee00c0ffee0001000001
         CONFIG GET save → {save=}
         CONFIG GET MAX* append?nly → {appendonly=yes maxmemory=0 maxmemory-policy=noeviction}
         CONFIG GET nope → {}",
    );
    let no_password = "-ERR AUTH <password> called without any password configured for the default \
                       user. Are you sure your configuration is correct?";
    for words in [&["AUTH", "x"][..], &["AUTH", "default", "x"], &["HELLO", "3", "AUTH", "a", "b"]]
    {
        assert_eq!(print(&reply(&mut session(), words)), no_password);
    }
    let unprintable = reply(&mut session(), &["CLIENT", "SETNAME", "a b"]);
    assert_eq!(
        print(&unprintable),
        "-ERR Client names cannot contain spaces, newlines or special characters."
    );
    let unprintable = reply(&mut session(), &["CLIENT", "SETINFO", "LIB-NAME", "a\nb"]);
    assert_eq!(
        print(&unprintable),
        "-ERR lib-name cannot contain spaces, newlines or special characters."
    );
    assert_eq!(ask(&mut session(), &["QUIT"]), Action::ReplyAndClose(Value::OK));
    assert_eq!(ask(&mut session(), &["quit", "now"]), Action::ReplyAndClose(Value::OK));
}

#[test]
fn hello_chooses_the_protocol_only_when_all_of_it_is_right() {
    let mut session = session();
    let wrong = [
        (&["HELLO", "4"][..], "-NOPROTO unsupported protocol version"),
        (&["HELLO", "x"], "-ERR Protocol version is not an integer or out of range"),
        (&["HELLO", "3", "FOO"], "-ERR Syntax error in HELLO option 'FOO'"),
        (&["HELLO", "3", "setname"], "-ERR Syntax error in HELLO option 'setname'"),
        (&["HELLO", "3", "auth", "a"], "-ERR Syntax error in HELLO option 'auth'"),
        (
            &["HELLO", "3", "SETNAME", "a b"],
            "-ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        (&["HELLO", "3", "SETNAME", "a", "FOO"], "-ERR Syntax error in HELLO option 'FOO'"),
    ];
    for (words, error) in wrong {
        assert_eq!(print(&reply(&mut session, words)), error);
        assert_eq!(session.protocol(), Protocol::Resp2);
        assert_eq!(reply(&mut session, &["CLIENT", "GETNAME"]), Value::Null);
    }
    let shape = |protocol| {
        format!(
            "{{server=redis version=7.2.0 proto=:{protocol} id=:7 mode=cluster role=master modules=[]}}"
        )
    };
    assert_eq!(print(&reply(&mut session, &["HELLO"])), shape(2));
    assert_eq!(print(&reply(&mut session, &["hello", "3", "setname", "w"])), shape(3));
    assert_eq!(session.protocol(), Protocol::Resp3);
    assert_eq!(print(&reply(&mut session, &["CLIENT", "GETNAME"])), "w");
    assert_eq!(print(&reply(&mut session, &["HELLO"])), shape(3));
    let mut encoded = Vec::new();
    reply(&mut session, &["HELLO", "3"]).encode(session.protocol(), &mut encoded);
    assert!(encoded.starts_with(b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"));

    assert_eq!(reply(&mut session, &["RESET"]), Value::simple("RESET"));
    assert_eq!(session.protocol(), Protocol::Resp2);
    assert_eq!(reply(&mut session, &["CLIENT", "GETNAME"]), Value::Null);
    let mut encoded = Vec::new();
    reply(&mut session, &["HELLO", "2"]).encode(session.protocol(), &mut encoded);
    assert!(encoded.starts_with(b"*14\r\n"));
}

#[test]
fn key_commands_go_to_the_entity_of_their_keys() {
    let requests: [&[&str]; 13] = [
        &["get", "{t}a"],
        &["SET", "{t}a", "1"],
        &["SET", "{t}a", "1", "NX", "GET"],
        &["MGET", "{t}a", "{t}b", "t"],
        &["MSET", "{t}a", "1", "{t}b", "x"],
        &["DEL", "{t}a", "{t}b"],
        &["UNLINK", "{t}a"],
        &["EXISTS", "{t}a", "{t}a"],
        &["TYPE", "{t}a"],
        &["INCRBY", "{t}a", "not checked here"],
        &["CERTUS", "VERSION", "{t}a"],
        &["certus", "cas", "{t}a", "0", "x"],
        &["GETDEL", "t"],
    ];
    for words in requests {
        let Action::Entity { entity, request } = ask(&mut session(), words) else {
            panic!("{words:?} is for an entity");
        };
        assert_eq!(entity, slot::entity_of(b"t"), "{words:?}");
        assert_eq!(
            request,
            EntityRequest::Command(Command {
                arguments: Arguments::from_slices(words),
                request_id: None,
                freshness: Freshness::Linearizable,
            })
        );
    }
    assert_eq!(
        ask(&mut session(), &["CERTUS", "ENTITY", "{t}x"]),
        Action::Entity { entity: slot::entity_of(b"t"), request: EntityRequest::Inspect }
    );
}

#[test]
fn keys_of_several_entities_are_refused() {
    let refused: [&[&str]; 6] = [
        &["MGET", "a", "b"],
        &["MSET", "a", "1", "b", "2"],
        &["DEL", "{t}a", "{u}a"],
        &["UNLINK", "a", "b"],
        &["EXISTS", "a", "a", "b"],
        &["CERTUS", "ONCE", "id", "DEL", "a", "b"],
    ];
    for words in refused {
        assert_eq!(
            print(&reply(&mut session(), words)),
            "-CROSSSLOT Keys in request don't hash to the same slot",
            "{words:?}"
        );
    }
    // The values of MSET are not keys.
    command(&mut session(), &["MSET", "a", "b"]);
}

#[test]
fn readonly_makes_reads_local_and_leaves_writes_alone() {
    let mut session = session();
    let mut freshness = |words: &[&str]| command(&mut session, words).freshness;
    assert_eq!(freshness(&["GET", "a"]), Freshness::Linearizable);
    assert_eq!(reply(&mut session, &["READONLY"]), Value::OK);
    let mut freshness = |words: &[&str]| command(&mut session, words).freshness;
    for words in [&["GET", "a"][..], &["MGET", "a"], &["EXISTS", "a"], &["CERTUS", "VERSION", "a"]]
    {
        assert_eq!(freshness(words), Freshness::Local, "{words:?}");
    }
    for words in [&["SET", "a", "1"][..], &["DEL", "a"], &["GETDEL", "a"], &["SET", "a", "1", "NX"]]
    {
        assert_eq!(freshness(words), Freshness::Linearizable, "{words:?}");
    }
    assert_eq!(reply(&mut session, &["READWRITE"]), Value::OK);
    assert_eq!(command(&mut session, &["GET", "a"]).freshness, Freshness::Linearizable);
    assert_eq!(reply(&mut session, &["READONLY"]), Value::OK);
    assert_eq!(reply(&mut session, &["RESET"]), Value::simple("RESET"));
    assert_eq!(command(&mut session, &["GET", "a"]).freshness, Freshness::Linearizable);
}

#[test]
fn once_takes_an_id_of_1_to_64_bytes_and_a_command_that_writes() {
    let longest = "i".repeat(64);
    for id in ["i", &longest] {
        for words in
            [&["INCR", "a"][..], &["set", "a", "1", "NX"], &["CERTUS", "CAS", "a", "0", "x"]]
        {
            let request: Vec<&str> = ["CERTUS", "once", id].iter().chain(words).copied().collect();
            let command = command(&mut session(), &request);
            assert_eq!(command.arguments, Arguments::from_slices(words));
            assert_eq!(command.request_id.as_deref(), Some(id.as_bytes()));
            assert_eq!(command.freshness, Freshness::Linearizable);
        }
    }
    for size in [0, 65, 1000] {
        let refused = reply(&mut session(), &["CERTUS", "ONCE", &"i".repeat(size), "INCR", "a"]);
        assert_eq!(
            print(&refused),
            format!("-ERR the request id of CERTUS ONCE has {size} bytes: it must have 1 to 64")
        );
    }
    let only_writes = |name: &str| {
        format!("-ERR CERTUS ONCE is for commands that write keys: send '{name}' without it")
    };
    let refused = [
        (&["GET", "a"][..], only_writes("GET")),
        (&["PING"], only_writes("PING")),
        (&["CERTUS", "ONCE", "x", "INCR", "a"], only_writes("CERTUS")),
        (&["CERTUS", "VERSION", "a"], only_writes("CERTUS")),
        (&["INCR"], "-ERR wrong number of arguments for 'incr' command".to_owned()),
        (&["FOO", "a"], "-ERR unknown command 'FOO', with args beginning with: 'a' ".to_owned()),
    ];
    for (words, error) in refused {
        let request: Vec<&str> = ["CERTUS", "ONCE", "id"].iter().chain(words).copied().collect();
        assert_eq!(print(&reply(&mut session(), &request)), error);
    }
}

#[test]
fn a_change_of_the_membership_that_is_none_is_told() {
    let told = |words: &str| {
        format!(
            "-ERR unknown words '{words}': CERTUS MEMBER takes LIST, or ADD, PROMOTE or REMOVE and \
             a node id"
        )
    };
    for words in ["list 3", "add", "add x", "add 256", "add 3 4", "join 3"] {
        let request: Vec<&str> = ["CERTUS", "MEMBER"].into_iter().chain(words.split(' ')).collect();
        assert_eq!(print(&reply(&mut session(), &request)), told(words));
    }
}

#[test]
fn what_concerns_all_cores_is_asked_of_the_node() {
    let query = |words: &[&str]| match ask(&mut session(), words) {
        Action::Node(query) => query,
        other => panic!("{words:?} concerns the node, not {other:?}"),
    };
    let info = |sections: &[&str]| NodeQuery::Info {
        sections: sections.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(query(&["DBSIZE"]), NodeQuery::DbSize);
    assert_eq!(query(&["certus", "status"]), NodeQuery::Status);
    assert_eq!(query(&["CERTUS", "checkpoint"]), NodeQuery::Order(Order::Checkpoint));
    assert_eq!(query(&["certus", "CLEANER", "Pause"]), NodeQuery::Order(Order::PauseCleaner));
    assert_eq!(query(&["certus", "cleaner", "resume"]), NodeQuery::Order(Order::ResumeCleaner));
    assert_eq!(query(&["certus", "cleaner", "status"]), NodeQuery::Order(Order::ShowCleaner));
    let member = |order| NodeQuery::Order(Order::Member(order));
    assert_eq!(query(&["CERTUS", "member", "List"]), member(MemberOrder::List));
    for (name, change) in [
        ("ADD", Change::AddLearner(AcceptorId(3))),
        ("promote", Change::Promote(AcceptorId(3))),
        ("Remove", Change::Remove(AcceptorId(3))),
    ] {
        assert_eq!(query(&["CERTUS", "MEMBER", name, "3"]), member(MemberOrder::Change(change)));
    }
    assert_eq!(query(&["INFO"]), info(&["default"]));
    assert_eq!(
        query(&["INFO", "Keyspace", "server", "SERVER", "x"]),
        info(&["server", "keyspace"])
    );
    assert_eq!(query(&["INFO", "everything"]), info(&["everything"]));
    assert_eq!(query(&["INFO", "nope"]), info(&[]));
}

#[test]
fn cluster_slots_names_the_preferred_node_first() {
    let node = |node: u16, port: u16, core: u16| {
        let id = format!("0000000000000000c0ffee00c0ffee00{node:02x}{core:06x}");
        format!("[10.0.0.{node} :{port} {id} {{}}]")
    };
    let slots = print(&reply(&mut session(), &["CLUSTER", "SLOTS"]));
    let (a, b, c) = (node(0, 7000, 1), node(1, 7100, 1), node(2, 7200, 1));
    assert_eq!(
        slots,
        format!("[[:0 :5461 {a} {b} {c}] [:5462 :10922 {b} {c} {a}] [:10923 :16383 {c} {a} {b}]]")
    );

    // Without ports of their own, the port that the cores share.
    let slots = print(&reply(&mut session_of(&[0, 0, 0]), &["CLUSTER", "SLOTS"]));
    let (a, b, c) = (node(0, 6379, 0), node(1, 6380, 0), node(2, 6381, 0));
    assert!(slots.starts_with(&format!("[[:0 :5461 {a} {b} {c}] ")), "{slots}");
}

#[test]
fn cluster_slots_of_two_cores_alternate_every_16_slots() {
    let Value::Array(ranges) = reply(&mut session_of(&[2, 2, 2]), &["CLUSTER", "SLOTS"]) else {
        panic!("CLUSTER SLOTS is an array");
    };
    // 1024 stretches, two of which are divided between two preferred nodes.
    assert_eq!(ranges.len(), 1026);
    let ports = |range: &Value| -> (i64, i64, Vec<i64>) {
        let Value::Array(parts) = range else { panic!("a range is an array") };
        let number = |value: &Value| match value {
            Value::Integer(number) => *number,
            other => panic!("no integer: {other:?}"),
        };
        let port = |node: &Value| match node {
            Value::Array(parts) => number(&parts[1]),
            other => panic!("no node: {other:?}"),
        };
        (number(&parts[0]), number(&parts[1]), parts[2..].iter().map(port).collect())
    };
    assert_eq!(ports(&ranges[0]), (0, 15, vec![7000, 7100, 7200]));
    assert_eq!(ports(&ranges[1]), (16, 31, vec![7001, 7101, 7201]));
    assert_eq!(ports(&ranges[2]), (32, 47, vec![7000, 7100, 7200]));
    assert_eq!(ports(&ranges[341]), (5456, 5461, vec![7001, 7101, 7201]));
    assert_eq!(ports(&ranges[342]), (5462, 5471, vec![7101, 7201, 7001]));
    assert_eq!(ports(&ranges[1025]), (16_368, 16_383, vec![7201, 7001, 7101]));
}

#[test]
fn cluster_nodes_and_shards_say_the_same_as_slots() {
    let id = |node: u16, core: u16| format!("0000000000000000c0ffee00c0ffee00{node:02x}{core:06x}");
    let nodes = print(&reply(&mut session(), &["CLUSTER", "NODES"]));
    assert_eq!(
        nodes,
        format!(
            "{} 10.0.0.0:7000@9000 master - 0 0 1 connected 0-5461\n\
             {} 10.0.0.1:7100@9001 myself,master - 0 0 2 connected 5462-10922\n\
             {} 10.0.0.2:7200@9002 master - 0 0 3 connected 10923-16383\n",
            id(0, 1),
            id(1, 1),
            id(2, 1)
        )
    );
    let nodes = print(&reply(&mut session_of(&[2, 2, 2]), &["CLUSTER", "NODES"]));
    let lines: Vec<&str> = nodes.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with(&format!(
        "{} 10.0.0.0:7000@9000 master - 0 0 1 connected 0-15 32-47 ",
        id(0, 1)
    )));
    assert!(
        lines[1].starts_with(&format!(
            "{} 10.0.0.0:7001@9000 master - 0 0 1 connected 16-31 ",
            id(0, 2)
        ))
    );
    assert!(lines[2].contains("myself,master"), "this session's core");
    assert!(!lines[3].contains("myself"));

    let node = |node: u16, port: u16, role: &str| {
        format!(
            "{{id={} port=:{port} ip=10.0.0.{node} endpoint=10.0.0.{node} role={role} \
             replication-offset=:0 health=online}}",
            id(node, 1)
        )
    };
    let shards = print(&reply(&mut session(), &["CLUSTER", "SHARDS"]));
    let first = format!(
        "[{{slots=[:0 :5461] nodes=[{} {} {}]}} ",
        node(0, 7000, "master"),
        node(1, 7100, "replica"),
        node(2, 7200, "replica")
    );
    assert!(shards.starts_with(&first), "{shards}");
    let Value::Array(shards) = reply(&mut session_of(&[2, 2, 2]), &["CLUSTER", "SHARDS"]) else {
        panic!("CLUSTER SHARDS is an array");
    };
    assert_eq!(shards.len(), 6, "a shard for each core of each node");
    let info = print(&reply(&mut session_of(&[2, 2, 2]), &["CLUSTER", "INFO"]));
    for line in ["cluster_state:ok", "cluster_slots_assigned:16384", "cluster_known_nodes:6"] {
        assert!(info.contains(&format!("{line}\r\n")), "{info}");
    }
}

#[test]
fn commands_describe_themselves_as_those_of_redis_do() {
    let mut session = session();
    assert_eq!(
        print(&reply(&mut session, &["COMMAND", "INFO", "get", "nope"])),
        "[[get :2 ~[+readonly +fast] :1 :1 :1 ~[+@read +@string +@fast] [] \
         [{flags=~[+RO +access] begin_search={type=index spec={index=:1}} \
         find_keys={type=range spec={lastkey=:0 keystep=:1 limit=:0}}}] []] nil]"
    );
    let mset = print(&reply(&mut session, &["command", "info", "MSET"]));
    assert!(mset.starts_with("[[mset :-3 ~[+write +denyoom] :1 :-1 :2 "), "{mset}");
    let id = print(&reply(&mut session, &["command", "info", "client|id"]));
    assert!(id.starts_with("[[client|id :2 "), "{id}");

    let Value::Array(all) = reply(&mut session, &["COMMAND"]) else { panic!("an array") };
    assert_eq!(reply(&mut session, &["COMMAND", "INFO"]), Value::Array(all.clone()));
    let count = Value::Integer(i64::try_from(all.len()).expect("few"));
    assert_eq!(reply(&mut session, &["COMMAND", "COUNT"]), count);
    let Value::Array(names) = reply(&mut session, &["COMMAND", "LIST"]) else { panic!("an array") };
    assert_eq!(names.len(), all.len());
    let Value::Map(documents) = reply(&mut session, &["COMMAND", "DOCS"]) else { panic!("a map") };
    assert_eq!(documents.len(), all.len());
    script(
        &mut session,
        "COMMAND DOCS get nope → {get={summary=Returns a value. since=1.0.0 group=string}}
         COMMAND DOCS nope → {}
         COMMAND LIST FILTERBY PATTERN *incr* → [incr incrby]
         COMMAND LIST FILTERBY ACLCAT admin → [certus|checkpoint certus|cleaner certus|member config|get config|set]
         COMMAND LIST FILTERBY MODULE x → []
         COMMAND LIST FILTERBY x y → -ERR syntax error
         COMMAND LIST FILTERBY PATTERN a b → -ERR syntax error
         COMMAND LIST x → -ERR syntax error",
    );
    for container in ["client", "cluster", "command", "config", "certus"] {
        let help = print(&reply(&mut session, &[container, "HELP"]));
        let name = container.to_uppercase();
        assert!(help.starts_with(&format!("[+{name} <subcommand>")), "{help}");
        assert!(help.contains("+HELP +    Prints this help."), "{help}");
    }
}

#[test]
fn no_request_whatever_its_words_makes_a_session_panic() {
    const WORDS: [&[u8]; 24] = [
        b"",
        b"GET",
        b"set",
        b"mset",
        b"CERTUS",
        b"once",
        b"cas",
        b"client",
        b"list",
        b"id",
        b"type",
        b"CONFIG",
        b"get",
        b"set",
        b"COMMAND",
        b"docs",
        b"info",
        b"HELLO",
        b"3",
        b"auth",
        b"setname",
        b"\xff\xfe",
        b"cluster",
        b"slots",
    ];
    let mut chance = 1_u64;
    let (mut errors, mut others) = (0, 0);
    let mut session = session();
    for _ in 0..20_000 {
        let mut arguments = Arguments::new();
        loop {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = usize::try_from(chance >> 40).expect("24 bits");
            if pick % 5 == 0 {
                break;
            }
            arguments.push(WORDS[pick / 5 % WORDS.len()]);
        }
        match session.handle(arguments) {
            Action::Reply(Value::Error(_)) => errors += 1,
            _ => others += 1,
        }
    }
    assert!(errors > 1000 && others > 1000, "{errors} {others}");
}
