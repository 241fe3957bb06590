//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use engine::tail::Position;
use plog::vocabulary::EntityId;

use crate::dev::setting::Setting;

/// Runs, watches and examines Certus.
#[derive(Clone, Debug, Parser)]
#[command(name = "certus", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    // A comment here would take the place of all that the type says in `--help`.
    Dev(Dev),
    Status(Status),
    Checkpoint(Checkpoint),
    Cleaner(Cleaner),
    Member(Member),
    /// Prints the change stream of a node as JSON lines, and goes on from where it stood.
    ///
    /// A line for each key that a command set or deleted, in order for each key, with the version
    /// (the entry) and the value it has then. Each line has a "position": given to --from it goes
    /// on with the line after that one, exactly, also after restarts of the node. A program that
    /// keeps the position together with its own data gets each change once; with --position-file
    /// lines are printed again after a crash, never left out.
    ///
    /// Where the single changes are no longer there (the log was freed, or is another node's), it
    /// tells all keys instead, between "pass-begin" and "pass-end": keys that are not named between
    /// them do not exist. "reset-begin" and "reset-end" say the same of one entity. With --exact it
    /// ends with status 1 rather than that.
    ///
    /// A node that is away is waited for. With several addresses another one is taken when the one
    /// whose log the position is of stays away for --turn-after; its log is another one, so it
    /// begins with a pass.
    ///
    /// Exit status: 0 the end was reached (--until-end), or nobody reads any more; 1 the changes
    /// after the position are gone, and --exact; 2 wrong usage, a node refuses, the position file
    /// cannot be read or written, or nobody was reached for --give-up-after.
    Tail(Tail),
    /// Copies all that a node has applied into a directory of files.
    ///
    /// Reads the node's files, whether it runs or not, and changes nothing: the checkpoint that
    /// counts, and the log behind it. Each entity (a key, or the keys that share a tag) is in it
    /// once, as it was after one of its entries, with its checksum chain and its request ids.
    /// Entities are of different moments, all of them while the backup was taken; there is no one
    /// moment of all.
    ///
    /// It is what THIS NODE HAS APPLIED AND NOTED ON DISK. What only other nodes hold is not in it,
    /// nor what was acknowledged so recently that no mark of it is on this node's disk
    /// (log.lazy_flush_ms). To have all that was acknowledged: stop the clients, wait until `certus
    /// status` says healthy with nothing on its way, stop the node in order, and back it up.
    ///
    /// Memory goes by what changed since the checkpoint, and 128 bytes an entity that did; beyond
    /// --memory it stops with an error, and nothing is left behind. `certus checkpoint --addr
    /// HOST:PORT`, right before, makes that little.
    ///
    /// Exit status: 0 the backup is there, whole and durable; 1 the node's files are damaged or it
    /// abstains, so it is refused: back up another node; 2 anything else. After 1 and 2 there is
    /// none.
    Backup(Backup),
    /// Makes the data directory of a node of a new cluster from a backup.
    ///
    /// Run it once for each node of the new cluster, with that node's configuration and THE SAME
    /// backup, before any of them starts. The number of nodes and of cores may be another one than
    /// before. All nodes begin with the same entries and chains, so they agree from the first
    /// moment. The configuration's data_directory must be empty, or not there.
    ///
    /// The configuration's cluster_id must be one that names the backup: `certus backup verify`
    /// prints which, and so does a refusal. Nodes that were made from another backup, or from none,
    /// or that belong to the old cluster, are of another cluster then, and refuse each other. The
    /// last four digits are free, to tell clusters made from one backup apart.
    ///
    /// Exit status: 0 the node can be started; 1 the backup is damaged or was interrupted; 2
    /// anything else. After 1 and 2 the directory is as it was, or refused by every start.
    Restore(Restore),
    /// Reads the log files of a node, without changing them.
    #[command(subcommand)]
    Plog(PlogCommand),
}

/// Which nodes are told something.
#[derive(Clone, Debug, Args)]
pub struct ToldNodes {
    /// Addresses of the nodes to tell, HOST:PORT, separated by commas; no other node is told.
    #[arg(long, value_delimiter = ',', value_name = "LIST", required = true)]
    pub addr: Vec<String>,
    /// How long a node may take to answer, in seconds.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = positive_seconds)]
    pub timeout: Duration,
}

/// What to tail, from where on, and for how long.
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// Addresses of nodes, replicas or followers, HOST:PORT, separated by commas; one of them is
    /// tailed at a time.
    #[arg(long, value_delimiter = ',', value_name = "LIST", required = true)]
    pub addr: Vec<String>,
    /// Only keys that match, as in KEYS of Redis: *, ?, [a-c], [^a] and \.
    #[arg(long, value_name = "GLOB")]
    pub pattern: Option<String>,
    /// Go on behind the line with this position. Without it, without --from-start and without a
    /// position file, it begins with what changes from now on.
    #[arg(long, value_name = "POSITION", conflicts_with = "from_start")]
    pub from: Option<Position>,
    /// Begin with all keys there are.
    #[arg(long)]
    pub from_start: bool,
    /// Keep the position of what was printed in this file, and go on from what it holds: then
    /// --from and --from-start count only while it does not exist.
    #[arg(long, value_name = "FILE")]
    pub position_file: Option<PathBuf>,
    /// End when all that was there has been printed.
    #[arg(long, conflicts_with = "follow")]
    pub until_end: bool,
    /// Wait for changes to come, for ever: as without --until-end.
    #[arg(long)]
    pub follow: bool,
    /// Rather end than tell all keys where single changes are gone.
    #[arg(long)]
    pub exact: bool,
    /// Print a line with the position alone when it moved and nothing was printed for so many
    /// seconds: for patterns that rarely match.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub progress: Option<Duration>,
    /// Wait so long for the node whose log the position is of before another one is taken, in
    /// seconds.
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = positive_seconds)]
    pub turn_after: Duration,
    /// End when no node was reached for so long, in seconds; without it, it goes on trying.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    pub give_up_after: Option<Duration>,
    /// How long a node may take to answer, in seconds.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = positive_seconds)]
    pub timeout: Duration,
}

/// Has running nodes write a checkpoint of all they hold, now.
///
/// Every core of each node begins one, whatever it logged since its last, and serves on meanwhile.
/// Waits until they count: from then on a start reads them and the log behind, and the log before
/// may be freed.
///
/// Exit status: 0 done (with --no-wait: asked for), 1 when one is not done within --wait, 2 when a
/// node cannot be reached, refuses, or is started again meanwhile.
#[derive(Clone, Debug, Args)]
pub struct Checkpoint {
    /// Which nodes.
    #[command(flatten)]
    pub nodes: ToldNodes,
    /// Only ask for it.
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait at most, in seconds.
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = positive_seconds)]
    pub wait: Duration,
}

/// Pauses the cleaner of running nodes, resumes it, or says how it is.
///
/// Exit status: 0 done, 2 when a node cannot be reached or refuses.
#[derive(Clone, Debug, Args)]
pub struct Cleaner {
    /// What to do.
    #[command(subcommand)]
    pub command: CleanerCommand,
}

/// What to do about the cleaner.
#[derive(Clone, Debug, Subcommand)]
pub enum CleanerCommand {
    /// Frees no segment of the log until it is resumed, or the node starts again. The log's limit
    /// holds all the same: when it is reached, the node refuses writes.
    Pause(ToldNodes),
    /// Lets it go on.
    Resume(ToldNodes),
    /// Says how it is on each core.
    Status(ToldNodes),
}

/// Says who votes, or has nodes added, removed and replaced while the cluster serves.
///
/// Only in clusters whose nodes were started with `replica_slots`. Each change goes step by step,
/// one node at a time, and the next step waits until what was chosen before has moved on. Repeating
/// a command is harmless: it goes on where the last one was interrupted, and does nothing when
/// everything is as wanted.
///
/// Exit status: 0 done and settled, 1 not within --wait (what was begun goes on), 2 refused, or no
/// node can be reached.
#[derive(Clone, Debug, Args)]
pub struct Member {
    /// What to do.
    #[command(subcommand)]
    pub command: MemberCommand,
}

/// What to do about the members.
#[derive(Clone, Debug, Subcommand)]
pub enum MemberCommand {
    /// Says by which configuration nodes go, and who settled it.
    List(ToldNodes),
    /// Has a node vote. It runs, with an empty data directory and the present members in its
    /// [[node]] tables; it takes over everything, and votes then.
    Add {
        /// Its id.
        #[arg(value_name = "NODE")]
        node: u8,
        /// Whom to tell.
        #[command(flatten)]
        change: MemberChange,
    },
    /// Has a node vote no more, up or down. Stop it when this is done, and not before.
    Remove {
        /// Its id.
        #[arg(value_name = "NODE")]
        node: u8,
        /// Whom to tell.
        #[command(flatten)]
        change: MemberChange,
    },
    /// Adds one node, then removes another.
    Replace {
        /// The id of the one that goes.
        #[arg(value_name = "NODE")]
        node: u8,
        /// The id of the one that comes.
        #[arg(value_name = "BY")]
        by: u8,
        /// Whom to tell.
        #[command(flatten)]
        change: MemberChange,
    },
}

/// Whom to tell of a change, and how long to wait.
#[derive(Clone, Debug, Args)]
pub struct MemberChange {
    /// Voters, the first of which that answers is told.
    #[command(flatten)]
    pub nodes: ToldNodes,
    /// How long to wait at most, in seconds.
    #[arg(long, default_value = "600", value_name = "SECONDS", value_parser = positive_seconds)]
    pub wait: Duration,
}

/// Runs a whole cluster on this machine, for development and trials.
///
/// Starts one process per node and waits until all of them serve. Stays in the foreground until
/// Ctrl-C, which stops every node; a node that ends before is reported and not restarted. A
/// directory that holds a cluster is started again as the same cluster.
///
/// Exit status: 0 when every node was stopped in order (or, with --detach, is ready), 1 when a node
/// did not start or did not stop by itself, 2 when the arguments are wrong or a port is taken.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dev {
    /// Something else than starting.
    #[command(subcommand)]
    pub command: Option<DevCommand>,
    /// How to start.
    #[command(flatten)]
    pub start: DevStart,
}

/// What else `certus dev` does.
#[derive(Clone, Debug, Subcommand)]
pub enum DevCommand {
    Stop(DevStop),
}

// What stands here in `///` would take the place of what `Dev` says.
#[derive(Clone, Debug, Args)]
pub struct DevStart {
    /// How many nodes: 3 or 5, or 1 to try commands.
    #[arg(long, default_value_t = 3, value_parser = node_count)]
    pub nodes: u8,
    /// Cores (threads, shards) of each node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub cores: u16,
    /// Where the nodes' configurations, data and logs are kept. Default: a fresh directory under
    /// the system's directory for temporary files.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Node i serves clients on this port + i; 0 finds ports that are free.
    #[arg(long, default_value_t = 7000, value_name = "PORT")]
    pub client_port: u16,
    /// Core j of node i listens for peers on this port + 10 i + j (with more than 10 cores: + cores
    /// × i + j). Default: client port + 100.
    #[arg(long, value_name = "PORT")]
    pub peer_port: Option<u16>,
    /// Node i answers /healthz, /readyz, /status and /metrics on this port + i. Default: client
    /// port + 200.
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<u16>,
    /// With more than one core, core j of node i also serves clients on this port + 10 i + j (or
    /// cores × i + j). Default: client port + 300.
    #[arg(long, value_name = "PORT")]
    pub core_client_port: Option<u16>,
    /// The program of the nodes. Default: certusd beside this program.
    #[arg(long, value_name = "PATH")]
    pub certusd: Option<PathBuf>,
    /// A further key of each node's configuration, such as log.spare_segments=1; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<Setting>,
    /// Return once every node is ready; stop them with `certus dev stop`.
    #[arg(long)]
    pub detach: bool,
    /// Give up when the nodes are not ready after this many seconds.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = positive_seconds)]
    pub ready_timeout: Duration,
}

/// Stops every node of a cluster, and removes nothing but cluster.json.
///
/// Exit status: 0 when all have stopped in order, 1 when one had to be ended, 2 when there is no
/// such cluster.
#[derive(Clone, Debug, Args)]
pub struct DevStop {
    /// The directory of the cluster.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// Says whether a cluster is healthy, and how many more of its nodes may fail.
///
/// Exit status: 0 healthy (every node is up and hears the others), 1 degraded, 2 when no node can
/// be reached or the arguments are wrong.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Addresses of nodes, HOST:PORT, separated by commas. One is enough: it names the others.
    #[arg(long, value_delimiter = ',', value_name = "LIST", required_unless_present = "dir")]
    pub addr: Vec<String>,
    /// Directory of a cluster that `certus dev` runs; its cluster.json names the nodes.
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    pub dir: Option<PathBuf>,
    /// Print everything the nodes say, as JSON.
    #[arg(long)]
    pub json: bool,
    /// How long a node may take to answer, in seconds.
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = positive_seconds)]
    pub timeout: Duration,
}

/// `certus backup`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    /// Something else than taking one.
    #[command(subcommand)]
    pub command: Option<BackupCommand>,
    /// What to take.
    #[command(flatten)]
    pub take: Option<BackupTake>,
}

/// What else `certus backup` does.
#[derive(Clone, Debug, Subcommand)]
pub enum BackupCommand {
    /// Reads every byte of a backup, and says what it holds.
    ///
    /// Exit status: 0 whole, 1 when something is damaged or missing, or the backup was interrupted,
    /// 2 when it cannot be read.
    Verify(BackupVerify),
}

/// What to back up, and where to.
#[derive(Clone, Debug, Args)]
pub struct BackupTake {
    /// Data directory of the node.
    #[arg(long, value_name = "DIR", required = true)]
    pub data_directory: PathBuf,
    /// The directory to make. Nothing may be there yet; it is made as BACKUP_DIR.new and renamed.
    #[arg(long, value_name = "BACKUP_DIR", required = true)]
    pub to: PathBuf,
    /// Read at most this many bytes a second, so that the node keeps its disk. Twice that each time
    /// the node was faster and reading begins anew. Default: no limit.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(65_536..))]
    pub rate: Option<u32>,
    /// Memory for what changed on one core since its checkpoint, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = mebibytes())]
    pub memory: u32,
}

/// Which backup.
#[derive(Clone, Debug, Args)]
pub struct BackupVerify {
    /// The directory of the backup.
    #[arg(value_name = "BACKUP_DIR")]
    pub directory: PathBuf,
}

/// From what, and for which node.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// The directory of the backup.
    #[arg(long, value_name = "BACKUP_DIR")]
    pub from: PathBuf,
    /// The configuration file of the node, as for certusd; its environment variables count, too.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `certus plog`.
#[derive(Clone, Debug, Subcommand)]
pub enum PlogCommand {
    Verify(PlogVerify),
    Dump(PlogDump),
    History(PlogHistory),
    Stats(PlogStats),
    Mirror(PlogMirror),
}

/// Checks every file, and every frame and record of the logs, and reports on each.
///
/// Looks at identity, boot epoch and what is known of peers in both copies, checkpoints, logs,
/// spares, and names that do not belong there. Says of each what is wrong, where, and what it
/// means. Changes nothing; the node may run meanwhile.
///
/// Exit status: 0 clean, also when the last write was cut off or is under way (nothing acknowledged
/// is missing), 1 when something is damaged, 2 when the directory cannot be used.
#[derive(Clone, Debug, Args)]
pub struct PlogVerify {
    /// Data directory of a node, or the directory of one of its cores.
    pub directory: PathBuf,
}

/// Prints one line for each record of a node's logs.
///
/// Exit status: as of `certus plog verify`; 0 when the limit ended the output.
#[derive(Clone, Debug, Args)]
pub struct PlogDump {
    /// Data directory of a node, or the directory of one of its cores.
    pub directory: PathBuf,
    /// Only records of this entity, as `CERTUS ENTITY key` names it.
    #[arg(long, value_name = "HEX", value_parser = entity)]
    pub entity: Option<EntityId>,
    /// Print at most this many records of each core.
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
}

/// Prints everything a node's logs say of one entity, entry by entry.
///
/// Exit status: 0 found, 1 when a log is damaged, 2 when there is no record of it or the directory
/// cannot be used.
#[derive(Clone, Debug, Args)]
pub struct PlogHistory {
    /// Data directory of a node, or the directory of one of its cores.
    pub directory: PathBuf,
    /// The entity, as `CERTUS ENTITY key` names it.
    #[arg(value_name = "ENTITY", value_parser = entity, required_unless_present = "key")]
    entity: Option<EntityId>,
    /// Instead: the entity of this key.
    #[arg(long, value_name = "KEY", conflicts_with = "entity")]
    key: Option<String>,
}

impl PlogHistory {
    /// Which entity is meant.
    pub fn entity(&self) -> EntityId {
        match (self.entity, &self.key) {
            (Some(entity), _) => entity,
            (None, Some(key)) => net::resp::slot::entity_of(key.as_bytes()),
            (None, None) => unreachable!("one of them is required"),
        }
    }
}

/// Prints what a node's logs are made of, and which entities take most of them.
///
/// Exit status: as of `certus plog verify`.
#[derive(Clone, Debug, Args)]
pub struct PlogStats {
    /// Data directory of a node, or the directory of one of its cores.
    pub directory: PathBuf,
    /// Name this many of the entities that take most.
    #[arg(long, default_value = "10", value_name = "COUNT")]
    pub top: usize,
}

/// Prints every key that a node's files come to, as JSON, and what changes.
///
/// One object a line: the key's value, its version, and the entry that its entity stands at.
/// Executes what is known to be chosen and nothing else, from the checkpoint and the log behind it;
/// what was acknowledged less than a moment ago may not be marked as chosen yet. Changes nothing;
/// the node may run meanwhile.
///
/// Exit status: 0 printed, 1 when the files are damaged or the core abstains, 2 when the directory
/// cannot be used or --memory is too little.
#[derive(Clone, Debug, Args)]
pub struct PlogMirror {
    /// Data directory of a node, or the directory of one of its cores.
    pub directory: PathBuf,
    /// Only this core.
    #[arg(long, value_name = "N")]
    pub core: Option<u16>,
    /// Only keys that match, as KEYS of Redis has it: *, ?, [a-c], [^a], \\.
    #[arg(long, value_name = "GLOB")]
    pub pattern: Option<String>,
    /// Go on with what is chosen as the log grows, until the reader goes away.
    #[arg(long)]
    pub follow: bool,
    /// Memory for the data of one core, in MiB; all of it is kept in memory.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = mebibytes())]
    pub memory: u32,
}

fn mebibytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 20)
}

fn node_count(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        _ => Err("a cluster has 3 or 5 nodes, or 1 for trials".to_owned()),
    }
}

fn entity(text: &str) -> Result<EntityId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16)
        .map(EntityId)
        .map_err(|_| "an entity is up to 16 hexadecimal digits".to_owned())
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, BackupCommand, Command, DevCommand, PlogCommand};

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn dev_starts_without_arguments_and_stops_by_a_word() {
        let Command::Dev(dev) = Arguments::parse_from(["certus", "dev"]).command else {
            panic!("not dev")
        };
        assert!(dev.command.is_none());
        assert_eq!((dev.start.nodes, dev.start.cores, dev.start.client_port), (3, 1, 7000));
        let stop = Arguments::parse_from(["certus", "dev", "stop", "--dir", "d"]);
        let Command::Dev(dev) = stop.command else { panic!("not dev") };
        assert!(matches!(dev.command, Some(DevCommand::Stop(_))));
    }

    /// A comment on a command's place in the list of commands hides what its type says.
    #[test]
    fn help_tells_every_command_s_exit_status() {
        fn look(command: &clap::Command, parent_tells: bool, told: &mut usize) {
            let about = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            let tells = parent_tells || about.contains("Exit status: ");
            let mut commands = command.get_subcommands().peekable();
            if commands.peek().is_none() {
                assert!(tells, "{}: {about}", command.get_name());
                *told += 1;
            }
            commands.for_each(|command| look(command, tells, told));
        }
        let mut told = 0;
        look(&Arguments::command(), false, &mut told);
        assert!(told > 10, "{told} commands");
    }

    #[test]
    fn numbers_that_cannot_be_meant_are_refused() {
        for words in [
            &["dev", "--nodes", "2"][..],
            &["dev", "--cores", "0"],
            &["dev", "--set", "nothing"],
            &["dev", "--ready-timeout", "0"],
            &["status"],
            &["status", "--addr", "a:1", "--dir", "d"],
            &["checkpoint"],
            &["checkpoint", "--addr", "a:1", "--wait", "0"],
            &["cleaner", "--addr", "a:1"],
            &["cleaner", "stop", "--addr", "a:1"],
            &["cleaner", "pause"],
            &["backup"],
            &["backup", "--to", "b"],
            &["backup", "--data-directory", "d"],
            &["backup", "--data-directory", "d", "--to", "b", "--rate", "0"],
            &["backup", "--data-directory", "d", "--to", "b", "verify", "b"],
            &["backup", "verify"],
            &["restore", "--from", "b"],
            &["plog", "dump", "d", "--entity", "g"],
            &["plog", "mirror", "d", "--memory", "0"],
            &["plog", "mirror", "d", "--core", "x"],
        ] {
            let all = ["certus"].iter().chain(words);
            assert!(Arguments::try_parse_from(all).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_backup_is_taken_by_flags_and_verified_by_a_word() {
        let words = ["certus", "backup", "--data-directory", "d", "--to", "b"];
        let Command::Backup(backup) = Arguments::parse_from(words).command else {
            panic!("not backup")
        };
        let take = backup.take.expect("flags were given");
        assert_eq!((take.to.to_str(), take.rate, take.memory), (Some("b"), None, 1024));
        let verify = Arguments::parse_from(["certus", "backup", "verify", "b"]);
        let Command::Backup(backup) = verify.command else { panic!("not backup") };
        assert!(matches!(backup.command, Some(BackupCommand::Verify(_))));
    }

    #[test]
    fn an_entity_is_read_as_it_is_printed() {
        let words = ["certus", "plog", "dump", "d", "--entity", "00000000000000ff"];
        let Command::Plog(PlogCommand::Dump(dump)) = Arguments::parse_from(words).command else {
            panic!("not dump")
        };
        assert_eq!(dump.entity.map(|entity| entity.0), Some(255));
    }
}
