//! What one replica's shard tells another's.
//!
//! Consensus itself needs a single symmetric message, [`EntryMessage`]: prepare, promise, accept,
//! accepted and learn are all "my record, and yours as I know it" (PaxosStore section 3,
//! "semi-symmetric message passing"). The others carry reads, notices, catch-up and forwarding.

use std::rc::Rc;

use plog::configuration::Configuration;
use plog::entry_record::EntryRecord;
use plog::vocabulary::{Ballot, BootEpoch, EntityId, Entry, Generation, ValueId};
use rkyv::{Archive, Deserialize, Serialize};

use crate::peer::shared_bytes::{OptionalSharedBytes, SharedBytes};

pub use crate::peer::membership_message::{HeldVotes, MembershipMessage, MembershipState};

/// One message between two shards. Losing, duplicating, delaying or reordering any of them is safe.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[repr(u8)]
pub enum PeerMessage {
    /// The symmetric message of consensus.
    Entry(EntryMessage),
    /// An entry became chosen.
    Chosen(ChosenNotice),
    /// "You are behind": the receiver asked about an entry that is long chosen ("`RemoteNewer`").
    Newer(NewerNotice),
    /// Is this entry empty where you are?
    ReadCheck(ReadCheck),
    /// Answer to a [`ReadCheck`].
    ReadAnswer(ReadAnswer),
    /// Asks for a range of chosen entries.
    CatchUp(CatchUpRequest),
    /// Chosen entries.
    CatchUpAnswer(CatchUpAnswer),
    /// A whole entity, where its entries are no longer held.
    Image(EntityImage),
    /// A client's command handed to the replica that proposes this entity just now.
    Forward(ForwardedCommand),
    /// Outcome of a [`ForwardedCommand`].
    ForwardAnswer(ForwardAnswer),
    /// Asks which entities the receiver holds, and how far.
    Sweep(SweepRequest),
    /// Answer to a [`SweepRequest`].
    SweepAnswer(SweepAnswer),
    /// "I had to drop messages to you", or "you may lack what I hold": sweep me.
    SweepHint,
    /// Nothing to say, but alive.
    Heartbeat,
    /// Which generation of each replica the sender knows. Holds for all that it sends later.
    Generations(GenerationsNotice),
    /// Asks the receiver to see to it that an entry is chosen.
    Finish(FinishRequest),
    /// Asks what the sender lacks of what the receiver holds as chosen.
    Lag(LagRequest),
    /// Answer to a [`LagRequest`].
    LagAnswer(LagAnswer),
    /// Asks for many whole entities: [`PeerMessage::Image`]s, then a [`PeerMessage::TransferPage`].
    Transfer(TransferRequest),
    /// Where the page that a [`TransferRequest`] asked for ends; again when its images were sent.
    TransferPage(TransferPage),
    /// Asks for the chain of an entity of which the sender's copy is in doubt.
    Compare(CompareRequest),
    /// Answer to a [`CompareRequest`]. Only a copy that is the sender's own has a word.
    Compared(CompareAnswer),
    /// Asks for an entity's [`PeerMessage::Image`] in place of a copy that a majority contradicts.
    Copy(CopyRequest),
    /// A follower's core asks to be told of what the receiver learns; said again now and then.
    Follow(FollowRequest) = 23,
    /// Answer to a [`FollowRequest`].
    FollowAnswer(FollowAnswer),
    /// To a follower's core: an entry was learned.
    Told(ToldNotice),
    /// The configuration by which the sender goes. What follows in the frame is said in it.
    Configuration(Configuration) = 28,
    /// About the next configuration.
    Membership(MembershipMessage),
}

/// A value's name and bytes.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct CarriedValue {
    /// The value's name.
    pub id: ValueId,
    /// The write batch.
    #[rkyv(with = SharedBytes)]
    pub bytes: Rc<[u8]>,
}

/// What a proposer asks for, ahead of its own record being durable.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// The ballot to promise, and to accept at if there is a value.
    pub ballot: Ballot,
    /// The value to accept; `None` asks for a promise only.
    pub value_id: Option<ValueId>,
}

/// The symmetric message: everything the sender knows that matters to the receiver about one entry.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EntryMessage {
    /// The entity.
    pub entity: EntityId,
    /// The entry, at least 1.
    pub entry: Entry,
    /// The sender's record. Durable at the sender when this leaves: it may be counted as a vote.
    pub mine: EntryRecord,
    /// The receiver's record as the sender knows it. The receiver answers when this is older than
    /// the truth.
    pub yours: EntryRecord,
    /// A request that does not wait for the sender's disk. Never counted as the sender's vote.
    pub request: Option<Request>,
    /// Bytes of the values named in `mine` and `request`, unless the receiver is known to hold
    /// them; at most two.
    pub values: Vec<CarriedValue>,
    /// Highest entry of this entity the sender knows to be chosen.
    pub max_chosen: Entry,
}

/// An entry became chosen.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ChosenNotice {
    /// The entity.
    pub entity: EntityId,
    /// The chosen entry.
    pub entry: Entry,
    /// A ballot at which the *sender* counted a majority, or at which it was told so. Never
    /// inferred.
    pub ballot: Ballot,
    /// The chosen value.
    pub value_id: ValueId,
    /// The checksum chain at this entry.
    pub chain: u32,
    /// The value's bytes, unless the receiver is known to hold them.
    #[rkyv(with = OptionalSharedBytes)]
    pub value: Option<Rc<[u8]>>,
}

/// "I know `max_chosen` to be chosen."
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct NewerNotice {
    /// The entity.
    pub entity: EntityId,
    /// Highest entry the sender holds as chosen.
    pub max_chosen: Entry,
}

/// Asks whether `entry` is empty.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadCheck {
    /// The entity.
    pub entity: EntityId,
    /// The entry after the reader's last chosen one.
    pub entry: Entry,
    /// Names this check, so that an answer to an earlier one never counts.
    pub check: u64,
}

/// What a replica says of an entry that a reader hopes to be empty.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadOutcome {
    /// Nothing accepted there, in memory or on disk.
    Empty,
    /// Something was accepted: the reader has to finish the entry.
    Started,
    /// The entry, or a later one, is chosen.
    Newer,
}

/// Answer to a [`ReadCheck`].
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadAnswer {
    /// The entity.
    pub entity: EntityId,
    /// The entry asked about.
    pub entry: Entry,
    /// The check's name.
    pub check: u64,
    /// The answer.
    pub outcome: ReadOutcome,
    /// Highest entry the sender knows to be chosen.
    pub max_chosen: Entry,
    /// Last entry the sender applied, and the checksum chain there.
    pub applied: Entry,
    /// The chain at `applied`.
    pub chain: u32,
}

/// Asks for the chosen entries `first..=last`.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct CatchUpRequest {
    /// The entity.
    pub entity: EntityId,
    /// First entry wanted.
    pub first: Entry,
    /// Last entry wanted, inclusive.
    pub last: Entry,
}

/// One chosen entry with its value.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ChosenEntry {
    /// The entry.
    pub entry: Entry,
    /// A ballot at which it was chosen.
    pub ballot: Ballot,
    /// The value's name and bytes.
    pub value: CarriedValue,
}

/// Consecutive chosen entries, as many of those asked for as fit an answer. Whoever still misses
/// some asks again.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct CatchUpAnswer {
    /// The entity.
    pub entity: EntityId,
    /// Ascending, without holes, from the first one asked for. Empty when the sender does not have
    /// that one.
    pub entries: Vec<ChosenEntry>,
    /// Highest entry the sender knows to be chosen.
    pub max_chosen: Entry,
}

/// A whole entity as of `applied`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct EntityImage {
    /// The entity.
    pub entity: EntityId,
    /// Last entry in the state.
    pub applied: Entry,
    /// The checksum chain there.
    pub chain: u32,
    /// The value chosen at `applied`.
    pub last_value_id: Option<ValueId>,
    /// The values chosen at `applied`, at the entry before it, and so on, as far as the sender has
    /// them in mind: they tell a proposer that is overtaken whether its value won.
    pub recent: Vec<ValueId>,
    /// The state machine's own encoding, request ids included.
    #[rkyv(with = SharedBytes)]
    pub state: Rc<[u8]>,
    /// Highest entry the sender knows to be chosen.
    pub max_chosen: Entry,
}

/// A client's command for the replica that proposes this entity just now.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ForwardedCommand {
    /// Names the forwarding, unique within the sender's boot and shard.
    pub forward: u64,
    /// The entity.
    pub entity: EntityId,
    /// Applied at most once under this id, so that the sender may retry it elsewhere.
    pub request_id: Vec<u8>,
    /// How long the client still waits, in microseconds.
    pub patience_us: u64,
    /// The command's arguments, as the client sent them.
    pub arguments: Vec<Vec<u8>>,
}

/// Outcome of a [`ForwardedCommand`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ForwardAnswer {
    /// The forwarding's name.
    pub forward: u64,
    /// The entity.
    pub entity: EntityId,
    /// The reply, encoded as RESP3; `None` when the receiver did not take the command on, and
    /// nothing happened.
    pub reply: Option<Vec<u8>>,
    /// The entry as of which the reply holds.
    pub entry: Entry,
}

/// Asks for the entities after a cursor.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct SweepRequest {
    /// Start after this entity; `None` starts at the beginning.
    pub after: Option<EntityId>,
    /// At most this many.
    pub limit: u32,
}

/// One entity in a [`SweepAnswer`].
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct SweptEntity {
    /// The entity.
    pub entity: EntityId,
    /// Highest entry the sender holds as chosen.
    pub chosen: Entry,
    /// Highest entry of which it holds anything durably: a promise counts. At least `chosen`.
    pub last: Entry,
}

/// Answer to a [`SweepRequest`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SweepAnswer {
    /// The cursor that was asked with.
    pub after: Option<EntityId>,
    /// In the sender's stable order; the last one is the next cursor.
    pub entities: Vec<SweptEntity>,
    /// Whether the sweep is at its end.
    pub done: bool,
    /// The asker's generation as the sender knows it, durably; `None` from a sender that may have
    /// lost something itself, whose word on what was promised does not count.
    pub counts_for: Option<Generation>,
}

/// Which generation of each replica the sender knows: what it counts is of none before.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct GenerationsNotice {
    /// By acceptor; 0 beyond the replica set.
    pub known: [Generation; 5],
}

/// Asks the receiver to see to it that an entry is chosen: the sender may not vote before it is.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct FinishRequest {
    /// The entity.
    pub entity: EntityId,
    /// The entry after the last that the sender applied.
    pub entry: Entry,
}

/// How far a replica's core had come at a moment of one of its boots: what it holds as chosen
/// durably by then is *up to* the position.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// The boot. Positions of different boots cannot be compared.
    pub boot: BootEpoch,
    /// Counts up in a boot; 0 is its beginning.
    pub mark: u32,
}

/// Asks what the sender lacks of what the receiver holds as chosen.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct LagRequest {
    /// Names the question, unique within the sender's boot and core, so that its answer is known
    /// again; a question that is repeated keeps its name.
    pub question: u64,
    /// How many cores the sender has. It asks for the entities that its core owns there.
    pub core_count: u16,
    /// Up to this position of the receiver, the sender holds everything durably that the two cores
    /// share.
    pub confirmed: Option<Position>,
    /// The question.
    pub asks: LagQuestion,
}

/// What a [`LagRequest`] asks.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum LagQuestion {
    /// Nothing: it only confirms. There is no answer.
    Nothing,
    /// What advanced since the sender confirmed something, now or ever.
    Since,
    /// The next page of that.
    More(LagPlace),
    /// Whether the receiver holds no more than the sender in a range of entities.
    Range(LagRange),
}

/// Where a walk over what advanced goes on. All of it stands in the question: the receiver keeps
/// nothing of a walk.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct LagPlace {
    /// The walk begins after this mark of the receiver's, …
    pub from: u32,
    /// … and the position when it began was this one.
    pub to: Position,
    /// Where the next page begins.
    pub cursor: LagCursor,
}

/// Where a page of a [`LagAnswer`] ended.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum LagCursor {
    /// At this number among those that advanced lately.
    Recent(u64),
    /// After this entity, in the order of all entities; `None` is the beginning.
    After(Option<EntityId>),
}

/// What the sender holds in a range of entities, summed up.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct LagRange {
    /// The range begins after this entity, in the order of all entities; `None`: with the first.
    pub after: Option<EntityId>,
    /// Its last entity; `None`: it goes on to the end.
    pub last: Option<EntityId>,
    /// So many entities of the range the sender knows; the receiver looks at not many more.
    pub entities: u32,
    /// How many cores the sender takes the receiver to have.
    pub core_count: u16,
    /// The digest of (entity, chosen).
    pub digest: u64,
    /// The digest of (entity, chosen, chain); `None` when the sender does not know every chain.
    pub chains: Option<u64>,
}

/// Answer to a [`LagRequest`].
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LagAnswer {
    /// The question's name.
    pub question: u64,
    /// The sender's position when the walk that the question belongs to began; `None` when it
    /// gives none, or began earlier.
    pub to: Option<Position>,
    /// The answer.
    pub found: LagFound,
}

/// What a [`LagAnswer`] says.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum LagFound {
    /// The sender abstains, and has nothing to tell.
    Abstains,
    /// It does not know what the asker holds: all entities have to be compared.
    Unknown,
    /// The range holds the same on both sides, chains included.
    Equal,
    /// The range holds the same on both sides, as far as is known: not all chains are.
    EqualWithoutChains,
    /// What the sender holds: of what advanced, or of a range that differs.
    Page(LagPage),
}

/// Entities with what the sender holds of them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LagPage {
    /// In the order of the walk.
    pub entities: Vec<LaggingEntity>,
    /// The walk that a question for more has to name: where it began, …
    pub from: u32,
    /// … and where it goes on; `None` at its end. Of a range, after the last entity it looked at.
    pub next: Option<LagCursor>,
    /// How many more there are at most, where that is known.
    pub left: Option<u64>,
}

/// One entity in a [`LagPage`].
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaggingEntity {
    /// The entity.
    pub entity: EntityId,
    /// Highest entry the sender holds as chosen.
    pub chosen: Entry,
    /// The checksum chain there, if the sender knows it.
    pub chain: Option<u32>,
}

/// Asks for the images of the entities from a place on, in the order in which a sweep walks them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransferRequest {
    /// Begin with this entity, or with what comes after it; `None` begins at the beginning.
    pub begin: Option<EntityId>,
    /// About so many bytes of images; the answerer may send less.
    pub bytes: u32,
    /// How many cores the asking node has, at least 1: only entities of the asking core are sent.
    pub core_count: u16,
}

/// The end of a page of images. It is told at once, so that the next page can be asked for while
/// this one is read and sent, and again after the images.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct TransferPage {
    /// The place that was asked with.
    pub begin: Option<EntityId>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<EntityId>,
    /// Whether all images of this page have been sent.
    pub sent: bool,
}

/// Asks how far the receiver's copy of an entity is, and for its chain there.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompareRequest {
    /// The entity.
    pub entity: EntityId,
    /// Names this round of questions, so that a word of an earlier one never counts.
    pub check: u64,
}

/// A replica's word on an entity's history.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompareAnswer {
    /// The entity.
    pub entity: EntityId,
    /// The question's name.
    pub check: u64,
    /// The last entry the sender applied.
    pub applied: Entry,
    /// The checksum chain there.
    pub chain: u32,
}

/// Asks for a whole entity, at an entry or a later one. Who has no such copy, or one that is itself
/// in doubt, does not answer.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyRequest {
    /// The entity.
    pub entity: EntityId,
    /// The last entry the asker applied.
    pub entry: Entry,
}

/// Asks the receiver's core to tell the sender, a follower's core, of every entry that it learns.
/// Holds for a while; who is to be told on says it again in time.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct FollowRequest {
    /// Names the question, unique within the sender's boot and core.
    pub number: u64,
    /// The stream of notices that it follows; `None` before it was told of one. Where that is not
    /// the receiver's, another begins.
    pub stream: Option<u64>,
    /// Cores of the sender's node, at least 1: it is told of the entities that its core owns.
    pub core_count: u16,
}

/// Answer to a [`FollowRequest`].
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct FollowAnswer {
    /// The question's name.
    pub number: u64,
    /// Names the stream of notices, unique within the sender's generation and core: another name
    /// than before says that some may be missing between the two. `None`: the sender tells nothing,
    /// because it is not whole, or has too many followers.
    pub stream: Option<u64>,
    /// How many notices of the stream were sent so far; what the sender learned before the stream
    /// began is in its sweeps from now on.
    pub told: u64,
}

/// The value of an entry that a follower is told of.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ToldValue {
    /// A ballot at which it was chosen.
    pub ballot: Ballot,
    /// The value's name and bytes.
    pub value: CarriedValue,
}

/// An entry that the sender has applied, for one of its followers.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ToldNotice {
    /// The stream that the notice belongs to.
    pub stream: u64,
    /// Its place in the stream, from 1.
    pub number: u64,
    /// The entity.
    pub entity: EntityId,
    /// The entry.
    pub entry: Entry,
    /// The checksum chain at this entry.
    pub chain: u32,
    /// What was chosen there; `None` when the sender took the whole entity over from another
    /// replica, and the follower has to ask for what it misses.
    pub value: Option<ToldValue>,
}

impl PeerMessage {
    /// The entity the message is about, or `None` for one that is about the connection.
    #[must_use]
    pub fn entity(&self) -> Option<EntityId> {
        match self {
            Self::Entry(message) => Some(message.entity),
            Self::Chosen(message) => Some(message.entity),
            Self::Newer(message) => Some(message.entity),
            Self::ReadCheck(message) => Some(message.entity),
            Self::ReadAnswer(message) => Some(message.entity),
            Self::CatchUp(message) => Some(message.entity),
            Self::CatchUpAnswer(message) => Some(message.entity),
            Self::Image(message) => Some(message.entity),
            Self::Forward(message) => Some(message.entity),
            Self::ForwardAnswer(message) => Some(message.entity),
            Self::Finish(message) => Some(message.entity),
            Self::Compare(message) => Some(message.entity),
            Self::Compared(message) => Some(message.entity),
            Self::Copy(message) => Some(message.entity),
            Self::Told(message) => Some(message.entity),
            Self::Sweep(_)
            | Self::SweepAnswer(_)
            | Self::SweepHint
            | Self::Heartbeat
            | Self::Generations(_)
            | Self::Lag(_)
            | Self::LagAnswer(_)
            | Self::Transfer(_)
            | Self::TransferPage(_)
            | Self::Configuration(_)
            | Self::Membership(_)
            | Self::Follow(_)
            | Self::FollowAnswer(_) => None,
        }
    }

    /// Bytes of the values and arguments in the message: what it takes of memory beyond a little.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Entry(message) => message.values.iter().map(|value| value.bytes.len()).sum(),
            Self::Chosen(message) => message.value.as_ref().map_or(0, |value| value.len()),
            Self::CatchUpAnswer(answer) => {
                answer.entries.iter().map(|entry| entry.value.bytes.len()).sum()
            }
            Self::Image(image) => image.state.len(),
            Self::Forward(command) => command.arguments.iter().map(Vec::len).sum(),
            Self::ForwardAnswer(answer) => answer.reply.as_ref().map_or(0, Vec::len),
            Self::Told(notice) => notice.value.as_ref().map_or(0, |told| told.value.bytes.len()),
            Self::Newer(_)
            | Self::ReadCheck(_)
            | Self::ReadAnswer(_)
            | Self::CatchUp(_)
            | Self::Sweep(_)
            | Self::SweepAnswer(_)
            | Self::Generations(_)
            | Self::Finish(_)
            | Self::Lag(_)
            | Self::LagAnswer(_)
            | Self::Transfer(_)
            | Self::TransferPage(_)
            | Self::Configuration(_)
            | Self::Membership(_)
            | Self::Compare(_)
            | Self::Compared(_)
            | Self::Copy(_)
            | Self::Follow(_)
            | Self::FollowAnswer(_)
            | Self::SweepHint
            | Self::Heartbeat => 0,
        }
    }
}
