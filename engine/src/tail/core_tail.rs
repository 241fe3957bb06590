//! Following the log of one core of a node, question by question.
//!
//! While the position is in the log the core is asked for page after page. Where it is not, because
//! the segments are gone or it is another log, a *pass* tells all entities, mixed with the log so
//! that no key ever goes back:
//!
//! ```text
//! begin ──now──▶ list ──some entities──▶ states ──all read──▶ settle ──log told up to there──┐
//!                 ▲  └─none left──▶ stream                                                   │
//!                 └──────────────────── their states, but for keys that the log named ───────┘
//! ```
//!
//! A state was read at some record of the log, and may hold what the log tells after the place
//! where the stream stands. So the stream goes on to that record first; keys that it names have
//! been told as they are, or as they were later, and their states are dropped. What is left is as
//! the log has it up to there, and what the stream tells afterwards is newer. (This is how DBLog
//! mixes a change log with the rows of a table.)

use std::collections::{BTreeMap, VecDeque};

use net::resp::value::Value;
use plog::planted;
use plog::vocabulary::{EntityId, Entry, Lsn};

use crate::tail::change::{Change, GONE, KeyState, Listing, NotUnderstood, Page, State, What};
use crate::tail::position::{CorePlace, LogPosition, PassPlace};

/// Entities whose states are read before the stream goes on, …
pub const CHUNK_ENTITIES_MAX: usize = 256;

/// … and bytes of keys and values, but for the last entity's.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Lines on a page, at most.
const CHANGES_COUNT: usize = 1000;

/// What a core is to be asked next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// `CERTUS CHANGES`: what comes after a position; `None`: only where the log ends now.
    Changes(Option<LogPosition>),
    /// `CERTUS ENTITIES`: which entities come after one.
    Entities(Option<EntityId>),
    /// `CERTUS STATE`: the keys of an entity.
    State(EntityId),
}

impl Question {
    /// The command for a core, with the keys that match `pattern` alone.
    #[must_use]
    pub fn words(self, core: u16, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let mut words = vec![b"CERTUS".to_vec()];
        let mut push = |word: String| words.push(word.into_bytes());
        match self {
            Self::Changes(after) => {
                let after = after.map_or_else(|| "NOW".to_owned(), |after| after.to_string());
                ["CHANGES".to_owned(), core.to_string(), after].into_iter().for_each(&mut push);
                ["COUNT".to_owned(), CHANGES_COUNT.to_string()].into_iter().for_each(&mut push);
            }
            Self::Entities(after) => {
                let after =
                    after.map_or_else(|| "FIRST".to_owned(), |after| format!("{:x}", after.0));
                ["ENTITIES".to_owned(), core.to_string(), after].into_iter().for_each(&mut push);
            }
            Self::State(entity) => {
                ["STATE".to_owned(), format!("{:x}", entity.0)].into_iter().for_each(&mut push);
            }
        }
        if let Some(pattern) = pattern.filter(|_| !matches!(self, Self::Entities(_))) {
            words.extend([b"MATCH".to_vec(), pattern.to_vec()]);
        }
        words
    }
}

/// What a tail says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// A change, or a state.
    Change {
        /// The entity.
        entity: EntityId,
        /// The entry: a key's version.
        entry: Entry,
        /// What is said.
        what: What,
        /// The key; empty for what is of the whole entity.
        key: Vec<u8>,
        /// Its value, if it has one.
        value: Option<Vec<u8>>,
    },
    /// Everything that the core holds follows; keys of it that are not named up to
    /// [`Said::EndPass`] do not exist.
    BeginPass {
        /// Why.
        reason: String,
    },
    /// Everything was told.
    EndPass,
}

/// A line, with where the core stands after it.
pub type Line = (Said, CorePlace);

/// What came of a reply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// What to say.
    pub lines: Vec<Line>,
    /// Nothing more is there by now: ask again after a while.
    pub waits: bool,
    /// The core cannot answer now, in its words: ask again after a while.
    pub refusal: Option<String>,
}

/// Why a core cannot be followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TailError {
    /// The reply is none.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// The node refuses the question, and will refuse it again.
    #[error("core {core} refuses: {error}")]
    Refused {
        /// The core.
        core: u16,
        /// Its words.
        error: String,
    },
    /// Single changes are missing, and a pass is not wanted.
    #[error("core {core}: the changes after the position cannot be told one by one: {reason}")]
    Gone {
        /// The core.
        core: u16,
        /// Why.
        reason: String,
    },
}

/// Whether a pass may take the place of single changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Passes {
    /// Where the changes are gone, everything is told.
    Allowed,
    /// It is an error.
    Refused,
}

/// Keys of an entity, each with its value and the entry of its last change.
type Keys = BTreeMap<Vec<u8>, (Vec<u8>, Entry)>;

#[derive(Clone, Debug)]
enum Stage {
    /// Where the log ends now is asked; a pass follows, for this reason.
    Begin(String),
    /// Where the log ends now is asked, and the stream begins there.
    Now,
    Stream,
    List,
    States,
    /// The stream goes on to this record.
    Settle(Lsn),
}

/// See the module page.
#[derive(Clone, Debug)]
pub struct CoreTail {
    core: u16,
    passes: Passes,
    place: CorePlace,
    stage: Stage,
    /// Entities to be read, and the one after which the next are listed.
    listed: VecDeque<EntityId>,
    /// States read and not told: in the order of the index.
    chunk: Vec<(EntityId, Keys)>,
    chunk_bytes: usize,
    /// The last record of the log when the latest of them was read.
    read_at: Lsn,
    is_last_chunk: bool,
}

impl CoreTail {
    /// Goes on from `place`; with a pass from one at which nothing was told yet.
    #[must_use]
    pub fn at(core: u16, place: CorePlace, passes: Passes) -> Self {
        let stage = match (place.stream, place.pass) {
            (None, _) => Stage::Begin("nothing was told of this core yet".to_owned()),
            (Some(_), None) => Stage::Stream,
            (Some(_), Some(_)) => Stage::List,
        };
        Self {
            core,
            passes,
            place,
            stage,
            listed: VecDeque::new(),
            chunk: Vec::new(),
            chunk_bytes: 0,
            read_at: Lsn::ZERO,
            is_last_chunk: false,
        }
    }

    /// Begins with a pass.
    #[must_use]
    pub fn from_start(core: u16, reason: &str, passes: Passes) -> Self {
        let stage = Stage::Begin(reason.to_owned());
        Self { stage, ..Self::at(core, CorePlace::default(), passes) }
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> CorePlace {
        self.place
    }

    /// Begins with what changes from now on.
    #[must_use]
    pub fn now(core: u16, passes: Passes) -> Self {
        Self { stage: Stage::Now, ..Self::at(core, CorePlace::default(), passes) }
    }

    /// Whether it does not know yet where the log ends that it begins at.
    #[must_use]
    pub fn is_to_begin(&self) -> bool {
        matches!(self.stage, Stage::Now)
    }

    /// Whether a pass is under way, or about to begin.
    #[must_use]
    pub fn is_in_pass(&self) -> bool {
        !matches!(self.stage, Stage::Now | Stage::Stream)
    }

    /// What to ask next.
    #[must_use]
    pub fn question(&self) -> Question {
        match &self.stage {
            Stage::Begin(_) | Stage::Now => Question::Changes(None),
            Stage::Stream | Stage::Settle(_) => Question::Changes(self.place.stream),
            Stage::List => Question::Entities(self.place.pass.and_then(|pass| pass.after)),
            Stage::States => Question::State(*self.listed.front().expect("else it settles")),
        }
    }

    /// Questions that can be asked together, [`CoreTail::question`] first; `most` of them at most.
    /// When the reply to one changes what is asked next, those to the rest mean nothing any more.
    #[must_use]
    pub fn questions(&self, most: usize) -> Vec<Question> {
        match self.stage {
            Stage::States => {
                self.listed.iter().take(most).map(|entity| Question::State(*entity)).collect()
            }
            _ => vec![self.question()],
        }
    }

    /// The connection was lost: a question without a reply is asked again, and what was read of
    /// states and not told is read again, since it rests on the life of the node that ended.
    pub fn handle_lost(&mut self) {
        self.forget_chunk();
        if matches!(self.stage, Stage::States | Stage::Settle(_)) {
            self.stage = Stage::List;
        }
    }

    fn forget_chunk(&mut self) {
        self.listed.clear();
        self.chunk.clear();
        self.chunk_bytes = 0;
        self.read_at = Lsn::ZERO;
        self.is_last_chunk = false;
    }

    /// Takes the reply to [`CoreTail::question`].
    ///
    /// # Errors
    ///
    /// When it cannot go on.
    pub fn handle_reply(&mut self, reply: &Value) -> Result<Told, TailError> {
        if let Value::Error(error) = reply {
            return self.handle_error(error.word(), error.text());
        }
        let mut told = Told::default();
        match self.stage.clone() {
            Stage::Begin(reason) => {
                self.place.stream = Some(Page::read(reply)?.next);
                self.place.pass = Some(PassPlace { after: None });
                self.stage = Stage::List;
                told.lines.push((Said::BeginPass { reason }, self.place));
            }
            Stage::Now => {
                self.place.stream = Some(Page::read(reply)?.next);
                self.stage = Stage::Stream;
            }
            Stage::Stream | Stage::Settle(_) => self.take_page(Page::read(reply)?, &mut told)?,
            Stage::List => self.take_listing(Listing::read(reply)?, &mut told),
            Stage::States => {
                let state = State::read(reply)?;
                if self.place.stream.is_some_and(|stream| stream.log != state.log) {
                    self.begin_anew("this core has another log now".to_owned())?;
                } else {
                    self.take_state(state);
                }
            }
        }
        Ok(told)
    }

    fn handle_error(&mut self, word: &str, text: &str) -> Result<Told, TailError> {
        match word {
            GONE => {
                let reason = text.strip_prefix(GONE).unwrap_or(text).trim().to_owned();
                self.begin_anew(reason)?;
                Ok(Told::default())
            }
            "TRYAGAIN" | "BUSY" | "CLUSTERDOWN" | "MASTERDOWN" | "UNKNOWN" => {
                let refusal = Some(text.to_owned());
                Ok(Told { refusal, waits: true, ..Told::default() })
            }
            _ => Err(TailError::Refused { core: self.core, error: text.to_owned() }),
        }
    }

    /// The stream cannot go on from where it stands.
    fn begin_anew(&mut self, reason: String) -> Result<(), TailError> {
        if self.passes == Passes::Refused {
            return Err(TailError::Gone { core: self.core, reason });
        }
        self.forget_chunk();
        self.stage = Stage::Begin(reason);
        Ok(())
    }

    fn take_page(&mut self, page: Page, told: &mut Told) -> Result<(), TailError> {
        let pass = self.place.pass;
        for change in page.changes {
            let Change { position, entity, entry, what, key, value } = change;
            if what == What::BeginReset && self.passes == Passes::Refused {
                if !told.lines.is_empty() {
                    return Ok(()); // it comes again, alone
                }
                let (core, entity, entry) = (self.core, entity.0, entry.0);
                let reason =
                    format!("the node took entity {entity:x} over as a whole, as of entry {entry}");
                return Err(TailError::Gone { core, reason });
            }
            self.place.stream = Some(position);
            self.drop_from_chunk(entity, what, &key);
            let place = CorePlace { stream: Some(position), pass };
            told.lines.push((Said::Change { entity, entry, what, key, value }, place));
        }
        self.place.stream = Some(page.next);
        told.waits = page.is_at_end;
        if let Stage::Settle(record) = self.stage
            && page.next.told >= record
        {
            self.tell_chunk(told);
            told.waits = false;
        }
        Ok(())
    }

    /// A key of a state that was read has been told as of then, or as of later.
    fn drop_from_chunk(&mut self, entity: EntityId, what: What, key: &[u8]) {
        if planted!("pass-tells-older-states") {
            return;
        }
        let read = self.chunk.iter_mut().find(|(read, _)| *read == entity);
        if let Some((_, keys)) = read {
            match what {
                What::Set | What::Delete | What::State => drop(keys.remove(key)),
                What::BeginReset | What::EndReset => keys.clear(),
            }
        }
    }

    fn take_listing(&mut self, listing: Listing, told: &mut Told) {
        self.listed = listing.entities.into_iter().take(CHUNK_ENTITIES_MAX).collect();
        self.is_last_chunk = listing.next.is_none();
        if !self.listed.is_empty() {
            self.stage = Stage::States;
            return;
        }
        if self.is_last_chunk {
            self.end_pass(told);
        } else {
            // None of the entities looked at is of the core's own, or has anything to tell.
            self.place.pass = Some(PassPlace { after: listing.next });
        }
    }

    fn end_pass(&mut self, told: &mut Told) {
        self.place.pass = None;
        self.stage = Stage::Stream;
        told.lines.push((Said::EndPass, self.place));
    }

    fn take_state(&mut self, state: State) {
        let entity = self.listed.pop_front().expect("one was asked for");
        self.read_at = self.read_at.max(state.record);
        let size = |(key, value, _): &KeyState| key.len() + value.len();
        self.chunk_bytes += state.keys.iter().map(size).sum::<usize>();
        let keys = state.keys.into_iter().map(|(key, value, entry)| (key, (value, entry)));
        self.chunk.push((entity, keys.collect()));
        if self.chunk_bytes >= CHUNK_BYTES_MAX && !self.listed.is_empty() {
            self.listed.clear();
            self.is_last_chunk = false;
        }
        if self.listed.is_empty() {
            self.stage = Stage::Settle(self.read_at);
        }
    }

    fn tell_chunk(&mut self, told: &mut Told) {
        for (entity, keys) in std::mem::take(&mut self.chunk) {
            for (key, (value, entry)) in keys {
                let value = Some(value);
                let said = Said::Change { entity, entry, what: What::State, key, value };
                told.lines.push((said, self.place));
            }
            self.place.pass = Some(PassPlace { after: Some(entity) });
        }
        let is_last = self.is_last_chunk;
        self.forget_chunk();
        self.stage = Stage::List;
        if is_last {
            self.end_pass(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use net::resp::value::Value;
    use plog::frame_walk::FramePlace;
    use plog::segment::SegmentId;
    use plog::vocabulary::{EntityId, Entry, Lsn};

    use super::{CoreTail, Passes, Question, Said, TailError, Told};
    use crate::tail::change::{Change, Listing, Page, State, What};
    use crate::tail::position::{CorePlace, LogPosition, PassPlace};

    const A: EntityId = EntityId(1);
    const B: EntityId = EntityId(2);

    fn at(record: u64) -> LogPosition {
        let scan = FramePlace { segment: SegmentId(1), offset: 4096, chain: 0 };
        LogPosition { log: 7, scan, told: Lsn(record), lines: 0 }
    }

    fn page(next: u64, changes: Vec<Change>) -> Value {
        Page { next: at(next), is_at_end: true, changes }.into_value()
    }

    fn change(record: u64, entity: EntityId, what: What, key: &str, entry: u64) -> Change {
        let value = matches!(what, What::Set | What::State).then(|| b"new".to_vec());
        let (position, entry) = (at(record), Entry(entry));
        Change { position, entity, entry, what, key: key.into(), value }
    }

    fn state(record: u64, keys: &[(&str, u64)]) -> Value {
        let key = |(key, version): &(&str, u64)| {
            (key.as_bytes().to_vec(), b"old".to_vec(), Entry(*version))
        };
        State { log: 7, record: Lsn(record), keys: keys.iter().map(key).collect() }.into_value()
    }

    fn keys(told: &Told) -> Vec<(What, String, u64)> {
        let of_line = |(said, _): &(Said, CorePlace)| match said {
            Said::Change { what, key, entry, .. } => {
                Some((*what, String::from_utf8(key.clone()).unwrap(), entry.0))
            }
            Said::BeginPass { .. } | Said::EndPass => None,
        };
        told.lines.iter().filter_map(of_line).collect()
    }

    /// A tail amid a pass that read both entities at record 20.
    fn amid_pass() -> CoreTail {
        let mut tail = CoreTail::from_start(0, "asked for", Passes::Allowed);
        assert_eq!(tail.question(), Question::Changes(None));
        let begun = tail.handle_reply(&page(10, Vec::new())).unwrap();
        assert!(matches!(begun.lines[..], [(Said::BeginPass { .. }, _)]));
        assert_eq!(tail.question(), Question::Entities(None));
        let listing = Listing { next: None, entities: vec![A, B] };
        tail.handle_reply(&listing.into_value()).unwrap();
        assert_eq!(tail.questions(8), [Question::State(A), Question::State(B)]);
        tail.handle_reply(&state(19, &[("a", 3), ("b", 5)])).unwrap();
        tail.handle_reply(&state(20, &[("c", 1)])).unwrap();
        tail
    }

    #[test]
    fn a_state_waits_for_the_log_and_gives_way_to_what_the_log_tells() {
        let mut tail = amid_pass();
        assert_eq!(tail.question(), Question::Changes(Some(at(10))));
        let set = change(15, A, What::Set, "a", 3);
        let told = tail.handle_reply(&page(15, vec![set])).unwrap();
        assert_eq!(keys(&told), [(What::Set, "a".to_owned(), 3)], "record 20 is not told yet");
        let gone = change(21, B, What::Delete, "c", 2);
        let told = tail.handle_reply(&page(22, vec![gone])).unwrap();
        let expected = [(What::Delete, "c".to_owned(), 2), (What::State, "b".to_owned(), 5)];
        assert_eq!(keys(&told), expected);
        assert_eq!(told.lines.last(), Some(&(Said::EndPass, tail.place())));
        assert_eq!(tail.place(), CorePlace { stream: Some(at(22)), pass: None });
        assert_eq!(tail.question(), Question::Changes(Some(at(22))));
    }

    #[test]
    fn a_lost_connection_or_a_new_log_has_states_read_again() {
        let mut tail = amid_pass();
        tail.handle_lost();
        assert_eq!(tail.question(), Question::Entities(None));
        let place = tail.place();
        assert_eq!(place.pass, Some(PassPlace { after: None }));
        let resumed = CoreTail::at(0, place, Passes::Allowed);
        assert_eq!(resumed.question(), Question::Entities(None));
        let listing = Listing { next: Some(A), entities: vec![A] };
        tail.handle_reply(&listing.into_value()).unwrap();
        let other = State { log: 8, record: Lsn(1), keys: Vec::new() };
        tail.handle_reply(&other.into_value()).unwrap();
        assert_eq!(tail.question(), Question::Changes(None), "it begins anew");
    }

    #[test]
    fn what_cannot_be_told_one_by_one_is_an_error_where_it_has_to_be_exact() {
        let place = CorePlace { stream: Some(at(10)), pass: None };
        let gone = Value::error("GONE segment 1 was freed");
        let mut tail = CoreTail::at(3, place, Passes::Refused);
        let error = tail.handle_reply(&gone).unwrap_err();
        let reason = "segment 1 was freed".to_owned();
        assert_eq!(error, TailError::Gone { core: 3, reason });
        let mut tail = CoreTail::at(3, place, Passes::Refused);
        let begin = change(12, A, What::BeginReset, "", 9);
        let first = change(11, A, What::Set, "a", 1);
        let told = tail.handle_reply(&page(12, vec![first, begin.clone()])).unwrap();
        assert_eq!(told.lines.len(), 1, "what comes before it is told");
        assert_eq!(tail.place().stream, Some(at(11)));
        let error = tail.handle_reply(&page(12, vec![begin])).unwrap_err();
        assert!(error.to_string().contains("took entity 1 over as a whole"), "{error}");
        // Where a pass is allowed it begins; what passes is waited for; a refusal is an error.
        let mut tail = CoreTail::at(0, place, Passes::Allowed);
        assert_eq!(tail.handle_reply(&gone), Ok(Told::default()));
        assert_eq!(tail.question(), Question::Changes(None));
        let told = tail.handle_reply(&Value::error("TRYAGAIN later")).unwrap();
        assert!(told.waits && told.refusal.as_deref() == Some("TRYAGAIN later"));
        let error = tail.handle_reply(&Value::error("ERR unknown subcommand")).unwrap_err();
        assert!(matches!(error, TailError::Refused { .. }));
        assert!(matches!(tail.handle_reply(&Value::OK), Err(TailError::NotUnderstood(_))));
    }
}
