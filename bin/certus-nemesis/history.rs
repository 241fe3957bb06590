//! What clients did and were told: the history that the checks judge.

/// The value of a key that nobody has written yet.
pub const NOTHING: u64 = 0;

/// The end of what was never answered.
pub const NEVER: u64 = u64::MAX;

/// One command of one client that was answered, or that may have changed something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// Who asked.
    pub client: u16,
    /// The node whose answer it is, or that was asked last.
    pub node: u8,
    /// Position of the key in the key space.
    pub key: u32,
    /// When it was first sent, in microseconds of the run.
    pub called: u64,
    /// When it was answered; [`NEVER`] if it was not.
    pub ended: u64,
    /// What was asked, and what came of it.
    pub deed: Deed,
}

/// What was asked, and what came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// This value was read; [`NOTHING`] where the key was absent.
    Read(u64),
    /// This value was written and acknowledged.
    Wrote {
        /// No other operation writes it.
        value: u64,
        /// What stood there just before, if the reply or the condition says so.
        replaced: Option<u64>,
        /// The version it was made conditional on.
        on_version: Option<u64>,
    },
    /// Another value than this was there, so that a write on condition of it did nothing.
    Differed(u64),
    /// Nobody knows whether this value was written.
    MayHaveWritten(u64),
    /// The key had this version.
    Version(u64),
    /// The key had this version before and after this value was read, so that they belong together.
    Bound {
        /// The version.
        version: u64,
        /// Its value.
        value: u64,
    },
    /// One was added, to this count.
    Added(u64),
    /// Nobody knows whether one was added.
    MayHaveAdded,
    /// The counter stood at this.
    Count(u64),
}

/// A request to a node without an answer that says what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unknown {
    /// The node that was asked.
    pub node: u8,
    /// When it was sent, in microseconds of the run.
    pub called: u64,
    /// When the client gave up or heard that nobody knows.
    pub ended: u64,
    /// What was asked, and why there is no answer.
    pub what: String,
}

impl Operation {
    /// For a reader of a violation.
    pub fn describe(&self) -> String {
        let Self { client, node, called, ended, deed, .. } = self;
        let ended = if *ended == NEVER { "never".to_owned() } else { ended.to_string() };
        format!("{called}..{ended} us: client {client} at node {node}: {deed:?}")
    }
}
