//! Every command that clients may send, as `COMMAND` lists it and as [`super::Session`] finds it.

use crate::state_machine::strings::operation::Operation;

/// A command, or a subcommand.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandSpecification {
    /// In lower case; a subcommand's is `command|subcommand`.
    pub(super) name: &'static str,
    /// What stands behind the name, for help.
    pub(super) usage: &'static str,
    /// One sentence.
    pub(super) summary: &'static str,
    /// How many words it has, the name and subcommand included; negative for "at least".
    pub(super) arity: i32,
    /// What clients should know of it, in Redis's words.
    pub(super) flags: &'static [&'static str],
    /// Where its keys are.
    pub(super) keys: Option<KeyRange>,
    /// Access control categories.
    pub(super) categories: &'static [&'static str],
    /// Group in the documentation.
    pub(super) group: &'static str,
    /// The version of Redis that brought it, or of Certus.
    pub(super) since: &'static str,
    /// Those whose name begins with this one's.
    pub(super) subcommands: &'static [Self],
    /// Who answers it.
    pub(super) route: Route,
}

/// Which of a command's words are keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct KeyRange {
    /// Position of the first key.
    pub(super) first: i64,
    /// Position of the last key, counted from the end when negative: -1 is the last word.
    pub(super) last: i64,
    /// Distance of one key to the next.
    pub(super) step: i64,
    /// What happens to the keys, in Redis's words.
    pub(super) flags: &'static [&'static str],
}

/// Who answers a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// The entity of its keys.
    Operation(Operation),
    /// The session.
    Session(SessionCommand),
}

/// A command that the session answers or hands to the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SessionCommand {
    Auth,
    CertusChanges,
    CertusCheckpoint,
    CertusCleaner,
    CertusEntities,
    CertusEntity,
    CertusMember,
    CertusOnce,
    CertusState,
    CertusStatus,
    ClientGetName,
    ClientId,
    ClientInfo,
    ClientList,
    ClientSetInfo,
    ClientSetName,
    /// `CLIENT NO-EVICT` and `CLIENT NO-TOUCH`: accepted, for there is no eviction.
    ClientToggle,
    ClusterInfo,
    ClusterKeySlot,
    ClusterMyId,
    ClusterNodes,
    ClusterShards,
    ClusterSlots,
    /// `COMMAND` alone.
    Command,
    CommandCount,
    CommandDocs,
    CommandInfo,
    CommandList,
    ConfigGet,
    ConfigSet,
    DbSize,
    Echo,
    Hello,
    /// `HELP` of any command that has subcommands.
    Help,
    Info,
    Ping,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    Select,
    /// A command that needs a subcommand.
    Container,
}

use CommandSpecification as Spec;
use SessionCommand as Do;

const ONE_KEY: KeyRange = KeyRange { first: 1, last: 1, step: 1, flags: &[] };
const READ_KEY: KeyRange = KeyRange { flags: &["RO", "access"], ..ONE_KEY };
const UPDATE_KEY: KeyRange = KeyRange { flags: &["RW", "access", "update"], ..ONE_KEY };

/// A command on one key that reads it.
const READ: Spec = Spec {
    name: "",
    usage: "key",
    summary: "",
    arity: 2,
    flags: &["readonly", "fast"],
    keys: Some(READ_KEY),
    categories: &["@read", "@string", "@fast"],
    group: "string",
    since: "1.0.0",
    subcommands: &[],
    route: Route::Operation(Operation::Get),
};

/// A command on one key that changes it.
const WRITE: Spec = Spec {
    flags: &["write", "denyoom", "fast"],
    keys: Some(UPDATE_KEY),
    categories: &["@write", "@string", "@fast"],
    ..READ
};

/// A command about the connection.
const CONNECTION: Spec = Spec {
    usage: "",
    flags: &["noscript", "loading", "stale", "fast"],
    keys: None,
    categories: &["@fast", "@connection"],
    group: "connection",
    route: Route::Session(Do::Container),
    ..READ
};

/// A command about the node.
const SERVER: Spec =
    Spec { flags: &["loading", "stale"], categories: &["@slow"], group: "server", ..CONNECTION };

const CLUSTER: Spec = Spec { flags: &["stale"], since: "3.0.0", group: "cluster", ..SERVER };
const CERTUS: Spec = Spec { since: "0.1.0", group: "certus", ..SERVER };

/// Of commands that change how a node runs.
const ADMIN_FLAGS: &[&str] = &["admin", "noscript", "stale"];
const ADMIN_CATEGORIES: &[&str] = &["@admin", "@slow", "@dangerous"];

/// A command that does nothing without a subcommand.
const fn container(
    base: Spec,
    name: &'static str,
    summary: &'static str,
    subcommands: &'static [Spec],
) -> Spec {
    Spec { name, usage: "<subcommand>", summary, arity: -2, flags: &[], subcommands, ..base }
}

const fn help(base: Spec, name: &'static str) -> Spec {
    Spec {
        name,
        usage: "",
        summary: "Prints this help.",
        arity: 2,
        route: Route::Session(Do::Help),
        ..base
    }
}

/// All commands, by name.
pub(super) static COMMANDS: &[Spec] = &[
    Spec {
        name: "append",
        usage: "key value",
        summary: "Appends to a value, creating it if absent.",
        arity: 3,
        since: "2.0.0",
        route: Route::Operation(Operation::Append),
        ..WRITE
    },
    Spec {
        name: "auth",
        usage: "[username] password",
        summary: "Authenticates the connection.",
        arity: -2,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        route: Route::Session(Do::Auth),
        ..CONNECTION
    },
    container(CERTUS, "certus", "Commands of Certus's own.", CERTUS_SUBCOMMANDS),
    container(CONNECTION, "client", "Commands about the connection.", CLIENT_SUBCOMMANDS),
    container(CLUSTER, "cluster", "Commands about the cluster.", CLUSTER_SUBCOMMANDS),
    Spec {
        name: "command",
        summary: "Describes all commands.",
        arity: -1,
        since: "2.8.13",
        subcommands: COMMAND_SUBCOMMANDS,
        route: Route::Session(Do::Command),
        ..SERVER
    },
    container(SERVER, "config", "Commands about the configuration.", CONFIG_SUBCOMMANDS),
    Spec {
        name: "dbsize",
        summary: "Counts the keys.",
        arity: 1,
        flags: &["readonly", "fast"],
        categories: &["@keyspace", "@read", "@fast"],
        route: Route::Session(Do::DbSize),
        ..SERVER
    },
    Spec {
        name: "decr",
        summary: "Subtracts one from an integer.",
        route: Route::Operation(Operation::Decrement),
        ..WRITE
    },
    Spec {
        name: "decrby",
        usage: "key decrement",
        summary: "Subtracts from an integer.",
        arity: 3,
        route: Route::Operation(Operation::DecrementBy),
        ..WRITE
    },
    Spec {
        name: "del",
        usage: "key [key ...]",
        summary: "Deletes keys.",
        arity: -2,
        flags: &["write"],
        keys: Some(KeyRange { last: -1, flags: &["RM", "delete"], ..ONE_KEY }),
        categories: &["@keyspace", "@write", "@slow"],
        group: "generic",
        route: Route::Operation(Operation::Delete),
        ..WRITE
    },
    Spec {
        name: "echo",
        usage: "message",
        summary: "Returns the message.",
        arity: 2,
        route: Route::Session(Do::Echo),
        ..CONNECTION
    },
    Spec {
        name: "exists",
        usage: "key [key ...]",
        summary: "Counts the keys that exist.",
        arity: -2,
        keys: Some(KeyRange { last: -1, flags: &["RO"], ..ONE_KEY }),
        categories: &["@keyspace", "@read", "@fast"],
        group: "generic",
        route: Route::Operation(Operation::Exists),
        ..READ
    },
    Spec {
        name: "get",
        summary: "Returns a value.",
        route: Route::Operation(Operation::Get),
        ..READ
    },
    Spec {
        name: "getdel",
        summary: "Returns a value and deletes its key.",
        flags: &["write", "fast"],
        keys: Some(KeyRange { flags: &["RW", "access", "delete"], ..ONE_KEY }),
        since: "6.2.0",
        route: Route::Operation(Operation::GetDel),
        ..WRITE
    },
    Spec {
        name: "getset",
        usage: "key value",
        summary: "Returns a value and sets another.",
        arity: 3,
        route: Route::Operation(Operation::GetSet),
        ..WRITE
    },
    Spec {
        name: "hello",
        usage: "[protover [AUTH username password] [SETNAME clientname]]",
        summary: "Chooses the protocol and describes the server.",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        since: "6.0.0",
        route: Route::Session(Do::Hello),
        ..CONNECTION
    },
    Spec {
        name: "incr",
        summary: "Adds one to an integer.",
        route: Route::Operation(Operation::Increment),
        ..WRITE
    },
    Spec {
        name: "incrby",
        usage: "key increment",
        summary: "Adds to an integer.",
        arity: 3,
        route: Route::Operation(Operation::IncrementBy),
        ..WRITE
    },
    Spec {
        name: "info",
        usage: "[section [section ...]]",
        summary: "Describes the node.",
        arity: -1,
        categories: &["@slow", "@dangerous"],
        route: Route::Session(Do::Info),
        ..SERVER
    },
    Spec {
        name: "mget",
        usage: "key [key ...]",
        summary: "Returns the values of keys that share a tag.",
        arity: -2,
        keys: Some(KeyRange { last: -1, ..READ_KEY }),
        route: Route::Operation(Operation::GetMany),
        ..READ
    },
    Spec {
        name: "mset",
        usage: "key value [key value ...]",
        summary: "Sets keys that share a tag, atomically.",
        arity: -3,
        flags: &["write", "denyoom"],
        keys: Some(KeyRange { first: 1, last: -1, step: 2, flags: &["OW", "update"] }),
        categories: &["@write", "@string", "@slow"],
        since: "1.0.1",
        route: Route::Operation(Operation::SetMany),
        ..WRITE
    },
    Spec {
        name: "ping",
        usage: "[message]",
        summary: "Returns the message, or PONG.",
        arity: -1,
        flags: &["fast"],
        route: Route::Session(Do::Ping),
        ..CONNECTION
    },
    Spec {
        name: "quit",
        summary: "Closes the connection.",
        arity: -1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        route: Route::Session(Do::Quit),
        ..CONNECTION
    },
    Spec {
        name: "readonly",
        summary: "Lets reads on this connection be answered from this replica, possibly stale.",
        arity: 1,
        group: "cluster",
        since: "3.0.0",
        route: Route::Session(Do::ReadOnly),
        ..CONNECTION
    },
    Spec {
        name: "readwrite",
        summary: "Makes reads on this connection linearizable again.",
        arity: 1,
        group: "cluster",
        since: "3.0.0",
        route: Route::Session(Do::ReadWrite),
        ..CONNECTION
    },
    Spec {
        name: "reset",
        summary: "Makes the connection as it was when it was new.",
        arity: 1,
        flags: &["noscript", "loading", "stale", "fast", "no_auth"],
        since: "6.2.0",
        route: Route::Session(Do::Reset),
        ..CONNECTION
    },
    Spec {
        name: "select",
        usage: "index",
        summary: "Chooses the database, of which there is only 0.",
        arity: 2,
        route: Route::Session(Do::Select),
        ..CONNECTION
    },
    Spec {
        name: "set",
        usage: "key value [NX | XX | IFEQ old-value] [GET]",
        summary: "Sets a value, perhaps on a condition.",
        arity: -3,
        flags: &["write", "denyoom"],
        categories: &["@write", "@string", "@slow"],
        route: Route::Operation(Operation::Set),
        ..WRITE
    },
    Spec {
        name: "setnx",
        usage: "key value",
        summary: "Sets a value if the key is absent.",
        arity: 3,
        keys: Some(KeyRange { flags: &["OW", "insert"], ..ONE_KEY }),
        route: Route::Operation(Operation::SetIfAbsent),
        ..WRITE
    },
    Spec {
        name: "strlen",
        summary: "Returns the size of a value in bytes.",
        keys: Some(KeyRange { flags: &["RO"], ..ONE_KEY }),
        since: "2.2.0",
        route: Route::Operation(Operation::Length),
        ..READ
    },
    Spec {
        name: "type",
        summary: "Returns the kind of a value.",
        keys: Some(KeyRange { flags: &["RO"], ..ONE_KEY }),
        categories: &["@keyspace", "@read", "@fast"],
        group: "generic",
        route: Route::Operation(Operation::Type),
        ..READ
    },
    Spec {
        name: "unlink",
        usage: "key [key ...]",
        summary: "Deletes keys.",
        arity: -2,
        flags: &["write", "fast"],
        keys: Some(KeyRange { last: -1, flags: &["RM", "delete"], ..ONE_KEY }),
        categories: &["@keyspace", "@write", "@fast"],
        group: "generic",
        since: "4.0.0",
        route: Route::Operation(Operation::Unlink),
        ..WRITE
    },
];

const CERTUS_SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "certus|cas",
        usage: "<key> <version> <value>",
        summary: "Sets a value if the key's version is equal, 0 for an absent key: 1 if set, else 0.",
        arity: 5,
        flags: &["write", "denyoom", "fast"],
        keys: Some(KeyRange { first: 2, last: 2, ..UPDATE_KEY }),
        categories: &["@write", "@string", "@fast"],
        route: Route::Operation(Operation::CompareAndSet),
        ..CERTUS
    },
    Spec {
        name: "certus|changes",
        usage: "<core> <position>|NOW [MATCH <pattern>] [COUNT <count>]",
        summary: "Returns what changed on a core after a position; NOW: where its log ends.",
        arity: -4,
        flags: &["readonly"],
        categories: &["@read", "@slow"],
        route: Route::Session(Do::CertusChanges),
        ..CERTUS
    },
    Spec {
        name: "certus|checkpoint",
        summary: "Begins a checkpoint on every core of this node, and says its numbers as JSON.",
        arity: 2,
        flags: ADMIN_FLAGS,
        categories: ADMIN_CATEGORIES,
        route: Route::Session(Do::CertusCheckpoint),
        ..CERTUS
    },
    Spec {
        name: "certus|cleaner",
        usage: "PAUSE|RESUME|STATUS",
        summary: "Keeps old log segments until resumed or restarted, or shows the cleaner as JSON.",
        arity: 3,
        flags: ADMIN_FLAGS,
        categories: ADMIN_CATEGORIES,
        route: Route::Session(Do::CertusCleaner),
        ..CERTUS
    },
    Spec {
        name: "certus|entities",
        usage: "<core> <entity>|FIRST [COUNT <count>]",
        summary: "Lists entities of a core after one of them, in a fixed order.",
        arity: -4,
        flags: &["readonly"],
        categories: &["@read", "@slow"],
        route: Route::Session(Do::CertusEntities),
        ..CERTUS
    },
    Spec {
        name: "certus|entity",
        usage: "<key>",
        summary: "Shows what this replica knows of the key's entity.",
        arity: 3,
        flags: &["readonly"],
        keys: Some(KeyRange { first: 2, last: 2, step: 1, flags: &["RO"] }),
        route: Route::Session(Do::CertusEntity),
        ..CERTUS
    },
    help(CERTUS, "certus|help"),
    Spec {
        name: "certus|member",
        usage: "LIST|ADD <node>|PROMOTE <node>|REMOVE <node>",
        summary: "Begins one change of who votes, or shows who does as JSON; see certus member.",
        arity: -3,
        flags: ADMIN_FLAGS,
        categories: ADMIN_CATEGORIES,
        route: Route::Session(Do::CertusMember),
        ..CERTUS
    },
    Spec {
        name: "certus|once",
        usage: "<id> <command> [<arg> ...]",
        summary: "Runs a command that writes at most once under this id, however often it is sent.",
        arity: -4,
        flags: &["write", "denyoom"],
        categories: &["@write", "@slow"],
        route: Route::Session(Do::CertusOnce),
        ..CERTUS
    },
    Spec {
        name: "certus|state",
        usage: "<entity> [MATCH <pattern>]",
        summary: "Returns the keys of an entity as this node has them, with values and versions.",
        arity: -3,
        flags: &["readonly"],
        categories: &["@read", "@slow"],
        route: Route::Session(Do::CertusState),
        ..CERTUS
    },
    Spec {
        name: "certus|status",
        summary: "Describes the node and its view of the cluster as JSON.",
        arity: 2,
        route: Route::Session(Do::CertusStatus),
        ..CERTUS
    },
    Spec {
        name: "certus|version",
        usage: "<key>",
        summary: "Returns the entry of the key's last change, null for an absent key.",
        arity: 3,
        flags: &["readonly", "fast"],
        keys: Some(KeyRange { first: 2, last: 2, ..READ_KEY }),
        categories: &["@read", "@string", "@fast"],
        route: Route::Operation(Operation::Version),
        ..CERTUS
    },
];

const CLIENT_SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "client|getname",
        summary: "Returns the connection's name.",
        arity: 2,
        since: "2.6.9",
        route: Route::Session(Do::ClientGetName),
        ..CONNECTION
    },
    help(CONNECTION, "client|help"),
    Spec {
        name: "client|id",
        summary: "Returns the connection's number.",
        arity: 2,
        since: "5.0.0",
        route: Route::Session(Do::ClientId),
        ..CONNECTION
    },
    Spec {
        name: "client|info",
        summary: "Describes the connection.",
        arity: 2,
        since: "6.2.0",
        route: Route::Session(Do::ClientInfo),
        ..CONNECTION
    },
    Spec {
        name: "client|list",
        usage: "[TYPE <type>] [ID <id> ...]",
        summary: "Describes this connection, if the options choose it.",
        arity: -2,
        since: "2.4.0",
        route: Route::Session(Do::ClientList),
        ..CONNECTION
    },
    Spec {
        name: "client|no-evict",
        usage: "ON|OFF",
        summary: "Accepted for compatibility.",
        arity: 3,
        since: "7.0.0",
        route: Route::Session(Do::ClientToggle),
        ..CONNECTION
    },
    Spec {
        name: "client|no-touch",
        usage: "ON|OFF",
        summary: "Accepted for compatibility.",
        arity: 3,
        since: "7.2.0",
        route: Route::Session(Do::ClientToggle),
        ..CONNECTION
    },
    Spec {
        name: "client|setinfo",
        usage: "LIB-NAME <name> | LIB-VER <version>",
        summary: "Names the client's library.",
        arity: 4,
        since: "7.2.0",
        route: Route::Session(Do::ClientSetInfo),
        ..CONNECTION
    },
    Spec {
        name: "client|setname",
        usage: "<name>",
        summary: "Names the connection.",
        arity: 3,
        since: "2.6.9",
        route: Route::Session(Do::ClientSetName),
        ..CONNECTION
    },
];

const CLUSTER_SUBCOMMANDS: &[Spec] = &[
    help(CLUSTER, "cluster|help"),
    Spec {
        name: "cluster|info",
        summary: "Describes the cluster.",
        arity: 2,
        route: Route::Session(Do::ClusterInfo),
        ..CLUSTER
    },
    Spec {
        name: "cluster|keyslot",
        usage: "<key>",
        summary: "Returns the key's slot.",
        arity: 3,
        route: Route::Session(Do::ClusterKeySlot),
        ..CLUSTER
    },
    Spec {
        name: "cluster|myid",
        summary: "Returns the name of this node, or of its core.",
        arity: 2,
        route: Route::Session(Do::ClusterMyId),
        ..CLUSTER
    },
    Spec {
        name: "cluster|nodes",
        summary: "Lists the nodes with their slots, a line each.",
        arity: 2,
        route: Route::Session(Do::ClusterNodes),
        ..CLUSTER
    },
    Spec {
        name: "cluster|shards",
        summary: "Lists which nodes serve which slots.",
        arity: 2,
        since: "7.0.0",
        route: Route::Session(Do::ClusterShards),
        ..CLUSTER
    },
    Spec {
        name: "cluster|slots",
        summary: "Lists the slots with the nodes that serve them, the preferred one first.",
        arity: 2,
        route: Route::Session(Do::ClusterSlots),
        ..CLUSTER
    },
];

const COMMAND_SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "command|count",
        summary: "Counts the commands.",
        arity: 2,
        since: "2.8.13",
        route: Route::Session(Do::CommandCount),
        ..SERVER
    },
    Spec {
        name: "command|docs",
        usage: "[<command-name> ...]",
        summary: "Documents commands, all if none is named.",
        arity: -2,
        since: "7.0.0",
        route: Route::Session(Do::CommandDocs),
        ..SERVER
    },
    help(SERVER, "command|help"),
    Spec {
        name: "command|info",
        usage: "[<command-name> ...]",
        summary: "Describes commands, all if none is named.",
        arity: -2,
        since: "2.8.13",
        route: Route::Session(Do::CommandInfo),
        ..SERVER
    },
    Spec {
        name: "command|list",
        usage: "[FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]",
        summary: "Lists the names of commands.",
        arity: -2,
        since: "7.0.0",
        route: Route::Session(Do::CommandList),
        ..SERVER
    },
];

const CONFIG_SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "config|get",
        usage: "<pattern> [<pattern> ...]",
        summary: "Returns the parameters whose names match.",
        arity: -3,
        categories: &["@admin", "@slow", "@dangerous"],
        since: "2.0.0",
        route: Route::Session(Do::ConfigGet),
        ..SERVER
    },
    help(SERVER, "config|help"),
    Spec {
        name: "config|set",
        usage: "<parameter> <value> [<parameter> <value> ...]",
        summary: "Changes parameters that can change while the node runs: catch_up.*rate*_per_s.",
        arity: -4,
        categories: &["@admin", "@slow", "@dangerous"],
        since: "2.0.0",
        route: Route::Session(Do::ConfigSet),
        ..SERVER
    },
];

impl CommandSpecification {
    /// The name without the command's that it is a subcommand of.
    pub(super) fn last_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }

    /// The subcommand of this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Self> {
        self.subcommands
            .iter()
            .find(|specification| specification.last_name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static CommandSpecification> {
    COMMANDS.iter().find(|specification| specification.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The command, or the subcommand as in `client|id`, of this name, in any case.
pub(super) fn find_full(name: &[u8]) -> Option<&'static CommandSpecification> {
    match name.iter().position(|byte| *byte == b'|') {
        None => find(name),
        Some(at) => find(&name[..at])?.subcommand(&name[at + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{COMMANDS, CommandSpecification, Route, find_full};
    use crate::state_machine::strings::operation::Operation;

    fn all() -> Vec<&'static CommandSpecification> {
        COMMANDS
            .iter()
            .flat_map(|command| [command].into_iter().chain(command.subcommands))
            .collect()
    }

    #[test]
    fn every_operation_is_listed_once_and_as_it_says_of_itself() {
        let mut listed = BTreeMap::new();
        for specification in all() {
            let Route::Operation(operation) = specification.route else { continue };
            assert_eq!(specification.name, operation.name());
            assert_eq!(specification.arity, operation.arity(), "{}", specification.name);
            assert_eq!(specification.flags.contains(&"write"), operation.is_write());
            assert_eq!(specification.flags.contains(&"readonly"), !operation.is_write());
            let keys = specification.keys.expect("an operation has keys");
            let positions = operation.key_positions();
            assert_eq!(usize::try_from(keys.first), Ok(positions.first));
            assert_eq!(keys.last == -1, positions.step.is_some(), "{}", specification.name);
            assert_eq!(usize::try_from(keys.step), Ok(positions.step.unwrap_or(1)));
            assert!(listed.insert(specification.name, ()).is_none());
        }
        assert_eq!(listed.len(), Operation::ALL.len());
    }

    #[test]
    fn names_are_sorted_and_found_in_any_case() {
        for list in COMMANDS.iter().map(|command| command.subcommands).chain([COMMANDS]) {
            assert!(list.is_sorted_by(|left, right| left.name < right.name));
        }
        for specification in all() {
            let upper = specification.name.to_uppercase();
            let found = find_full(upper.as_bytes()).expect("a listed command");
            assert_eq!(found.name, specification.name);
            assert!(!found.summary.is_empty() && found.summary.ends_with('.'));
            assert_eq!(found.subcommands.is_empty(), found.subcommand(b"help").is_none());
        }
        assert!(find_full(b"client|nope").is_none());
        assert!(find_full(b"|").is_none());
        assert!(find_full(b"").is_none());
    }
}
