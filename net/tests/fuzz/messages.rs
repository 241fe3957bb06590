//! Messages of every kind that keep every rule.

use std::rc::Rc;

use net::peer::message::{
    CarriedValue, CatchUpAnswer, CatchUpRequest, ChosenEntry, ChosenNotice, CompareAnswer,
    CompareRequest, CopyRequest, EntityImage, EntryMessage, FinishRequest, FollowAnswer,
    FollowRequest, ForwardAnswer, ForwardedCommand, GenerationsNotice, HeldVotes, LagAnswer,
    LagCursor, LagFound, LagPage, LagPlace, LagQuestion, LagRange, LagRequest, LaggingEntity,
    MembershipMessage, MembershipState, NewerNotice, PeerMessage, Position, ReadAnswer, ReadCheck,
    ReadOutcome, Request, SweepAnswer, SweepRequest, SweptEntity, ToldNotice, ToldValue,
    TransferPage, TransferRequest,
};
use net::peer::message_rules::ENTRY_MAX;
use plog::configuration::{Configuration, Members};
use plog::entry_record::EntryRecord;
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Generation, ValueId};

use crate::fuzzing::Random;

/// Size of the replica set that the messages are of.
pub const REPLICAS: u8 = 3;

fn small(random: &mut Random, end: usize) -> u64 {
    u64::try_from(random.below(end)).expect("fits")
}

fn acceptor(random: &mut Random) -> AcceptorId {
    AcceptorId(random.byte() % REPLICAS)
}

fn ballot(random: &mut Random, round: u32) -> Ballot {
    Ballot { round, epoch: BootEpoch(1 + u32::from(random.byte())), acceptor: acceptor(random) }
}

fn value_id(random: &mut Random) -> ValueId {
    let epoch = BootEpoch(1 + u32::from(random.byte()));
    ValueId { originator: acceptor(random), epoch, counter: random.next() }
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(2) == 0).then(|| make(random))
}

fn entity(random: &mut Random) -> EntityId {
    EntityId(random.next())
}

/// An entry, from 1.
fn entry(random: &mut Random) -> Entry {
    Entry(1 + (random.next() >> (2 + random.below(62))))
}

fn shared(random: &mut Random) -> Rc<[u8]> {
    random.bytes(40).into()
}

fn record(random: &mut Random) -> EntryRecord {
    let prepared = ballot(random, 1);
    let round = 2 + u32::from(random.byte());
    let promised = ballot(random, round);
    let value = maybe(random, |random| (ballot(random, 1), value_id(random)));
    EntryRecord {
        prepared,
        promised,
        accepted: value.map_or(Ballot::NONE, |(accepted, _)| accepted),
        value_id: value.map(|(_, id)| id),
        chosen: value.is_some() && random.below(2) == 0,
    }
}

fn carried(random: &mut Random) -> CarriedValue {
    CarriedValue { id: value_id(random), bytes: shared(random) }
}

fn entry_message(random: &mut Random) -> EntryMessage {
    EntryMessage {
        entity: entity(random),
        entry: entry(random),
        mine: record(random),
        yours: record(random),
        request: maybe(random, |random| Request {
            ballot: ballot(random, 3),
            value_id: maybe(random, value_id),
        }),
        values: (0..random.below(3)).map(|_| carried(random)).collect(),
        max_chosen: Entry(small(random, 1000)),
    }
}

fn image(random: &mut Random) -> EntityImage {
    EntityImage {
        entity: entity(random),
        applied: entry(random),
        chain: 3,
        last_value_id: maybe(random, value_id),
        recent: (0..random.below(4)).map(|_| value_id(random)).collect(),
        state: shared(random),
        max_chosen: entry(random),
    }
}

fn catch_up_answer(random: &mut Random) -> CatchUpAnswer {
    let first = 1 + small(random, 100);
    let count = small(random, 4);
    let entries = (first..first + count).map(|number| ChosenEntry {
        entry: Entry(number),
        ballot: ballot(random, 1),
        value: carried(random),
    });
    let entries = entries.collect();
    CatchUpAnswer { entity: entity(random), entries, max_chosen: entry(random) }
}

fn forwarded(random: &mut Random) -> ForwardedCommand {
    ForwardedCommand {
        forward: random.next(),
        entity: entity(random),
        request_id: random.bytes(20),
        patience_us: random.next(),
        arguments: (0..random.below(4)).map(|_| random.bytes(12)).collect(),
    }
}

fn sweep_answer(random: &mut Random) -> SweepAnswer {
    let swept = |random: &mut Random| {
        let chosen = entry(random);
        let last = Entry(chosen.0 + small(random, 9));
        SweptEntity { entity: entity(random), chosen, last: last.min(ENTRY_MAX) }
    };
    SweepAnswer {
        after: maybe(random, entity),
        entities: (0..random.below(5)).map(|_| swept(random)).collect(),
        done: random.below(2) == 0,
        counts_for: maybe(random, generation),
    }
}

fn generation(random: &mut Random) -> Generation {
    Generation(u32::from(random.byte()))
}

fn position(random: &mut Random) -> Position {
    Position { boot: BootEpoch(1 + u32::from(random.byte())), mark: u32::from(random.byte()) }
}

fn lag_cursor(random: &mut Random) -> LagCursor {
    if random.below(2) == 0 {
        LagCursor::Recent(random.next())
    } else {
        LagCursor::After(maybe(random, entity))
    }
}

fn lag_request(random: &mut Random) -> LagRequest {
    let asks = match random.below(4) {
        0 => LagQuestion::Nothing,
        1 => LagQuestion::Since,
        2 => LagQuestion::More(LagPlace {
            from: u32::from(random.byte()),
            to: position(random),
            cursor: lag_cursor(random),
        }),
        _ => LagQuestion::Range(LagRange {
            after: maybe(random, entity),
            last: maybe(random, entity),
            entities: u32::from(random.byte()),
            core_count: 1 + u16::from(random.byte()),
            digest: random.next(),
            chains: maybe(random, Random::next),
        }),
    };
    LagRequest {
        question: random.next(),
        core_count: 1 + u16::from(random.byte()),
        confirmed: maybe(random, position),
        asks,
    }
}

fn lag_answer(random: &mut Random) -> LagAnswer {
    let lagging = |random: &mut Random| LaggingEntity {
        entity: entity(random),
        chosen: entry(random),
        chain: maybe(random, |random| u32::from(random.byte())),
    };
    let found = match random.below(5) {
        0 => LagFound::Abstains,
        1 => LagFound::Unknown,
        2 => LagFound::Equal,
        3 => LagFound::EqualWithoutChains,
        _ => LagFound::Page(LagPage {
            entities: (0..random.below(5)).map(|_| lagging(random)).collect(),
            from: u32::from(random.byte()),
            next: maybe(random, lag_cursor),
            left: maybe(random, Random::next),
        }),
    };
    LagAnswer { question: random.next(), to: maybe(random, position), found }
}

fn configuration(random: &mut Random, version: u32) -> Configuration {
    let learner = AcceptorId(REPLICAS - 1);
    let mut configuration = Configuration::initial(1 + random.byte() % REPLICAS);
    configuration.version = version;
    if random.below(2) == 0 && !configuration.voters.contains(learner) {
        configuration.learners = Members::NONE.with(learner);
    }
    configuration
}

fn membership(random: &mut Random) -> MembershipMessage {
    let instance = 1 + u32::from(random.byte());
    let ballot = ballot(random, 3);
    match random.below(7) {
        0 => MembershipMessage::Ask,
        1 => MembershipMessage::State(MembershipState {
            version: instance - 1,
            held: maybe(random, |random| HeldVotes {
                promised: ballot,
                accepted: maybe(random, |random| (ballot, configuration(random, instance))),
            }),
            settled: random.below(2) == 0,
        }),
        2 => MembershipMessage::Prepare { instance, ballot },
        3 => {
            let accepted = maybe(random, |random| (ballot, configuration(random, instance)));
            MembershipMessage::Promise { instance, ballot, accepted }
        }
        4 => {
            let configuration = configuration(random, instance);
            MembershipMessage::Accept { instance, ballot, configuration }
        }
        5 => MembershipMessage::Accepted { instance, ballot },
        _ => MembershipMessage::Refused { instance, ballot },
    }
}

fn told_notice(random: &mut Random) -> ToldNotice {
    ToldNotice {
        stream: random.next(),
        number: random.next(),
        entity: entity(random),
        entry: entry(random),
        chain: 4,
        value: maybe(random, |random| ToldValue {
            ballot: ballot(random, 1),
            value: carried(random),
        }),
    }
}

/// A message of any kind.
pub fn any_message(random: &mut Random) -> PeerMessage {
    let first = 1 + small(random, 100);
    match random.below(28) {
        0 => PeerMessage::Entry(entry_message(random)),
        1 => PeerMessage::Chosen(ChosenNotice {
            entity: entity(random),
            entry: entry(random),
            ballot: ballot(random, 1),
            value_id: value_id(random),
            chain: 1,
            value: maybe(random, shared),
        }),
        2 => {
            let notice = NewerNotice { entity: entity(random), max_chosen: entry(random) };
            PeerMessage::Newer(notice)
        }
        3 => PeerMessage::ReadCheck(ReadCheck {
            entity: entity(random),
            entry: entry(random),
            check: random.next(),
        }),
        4 => PeerMessage::ReadAnswer(ReadAnswer {
            entity: entity(random),
            entry: entry(random),
            check: random.next(),
            outcome: [ReadOutcome::Empty, ReadOutcome::Started, ReadOutcome::Newer]
                [random.below(3)],
            max_chosen: entry(random),
            applied: entry(random),
            chain: 2,
        }),
        5 => PeerMessage::CatchUp(CatchUpRequest {
            entity: entity(random),
            first: Entry(first),
            last: Entry(first + small(random, 50)),
        }),
        6 => PeerMessage::CatchUpAnswer(catch_up_answer(random)),
        7 => PeerMessage::Image(image(random)),
        8 => PeerMessage::Forward(forwarded(random)),
        9 => PeerMessage::ForwardAnswer(ForwardAnswer {
            forward: random.next(),
            entity: entity(random),
            reply: maybe(random, |random| random.bytes(30)),
            entry: Entry(small(random, 50)),
        }),
        10 => {
            let after = maybe(random, entity);
            PeerMessage::Sweep(SweepRequest { after, limit: u32::from(random.byte()) })
        }
        11 => PeerMessage::SweepAnswer(sweep_answer(random)),
        12 => PeerMessage::SweepHint,
        13 => {
            let known = [(); 5].map(|()| generation(random));
            PeerMessage::Generations(GenerationsNotice { known })
        }
        14 => {
            let request = FinishRequest { entity: entity(random), entry: entry(random) };
            PeerMessage::Finish(request)
        }
        15 => PeerMessage::Lag(lag_request(random)),
        16 => PeerMessage::LagAnswer(lag_answer(random)),
        17 => PeerMessage::Transfer(TransferRequest {
            begin: maybe(random, entity),
            bytes: u32::from(random.byte()) << 16,
            core_count: 1 + u16::from(random.byte()),
        }),
        18 => PeerMessage::TransferPage(TransferPage {
            begin: maybe(random, entity),
            next: maybe(random, entity),
            sent: random.below(2) == 0,
        }),
        19 => {
            let request = CompareRequest { entity: entity(random), check: random.next() };
            PeerMessage::Compare(request)
        }
        20 => PeerMessage::Compared(CompareAnswer {
            entity: entity(random),
            check: random.next(),
            applied: entry(random),
            chain: 3,
        }),
        21 => PeerMessage::Copy(CopyRequest { entity: entity(random), entry: entry(random) }),
        22 => PeerMessage::Follow(FollowRequest {
            number: random.next(),
            stream: maybe(random, Random::next),
            core_count: 1 + u16::from(random.byte()),
        }),
        23 => PeerMessage::FollowAnswer(FollowAnswer {
            number: random.next(),
            stream: maybe(random, Random::next),
            told: random.next(),
        }),
        24 => PeerMessage::Told(told_notice(random)),
        25 => PeerMessage::Configuration(configuration(random, 0)),
        26 => PeerMessage::Membership(membership(random)),
        _ => PeerMessage::Heartbeat,
    }
}

/// A message that breaks one rule.
pub fn unruly_message(random: &mut Random) -> PeerMessage {
    let foreign = ValueId { originator: AcceptorId(REPLICAS), ..value_id(random) };
    let entity = entity(random);
    match random.below(11) {
        9 => {
            let instance = 1 + u32::from(random.byte());
            let configuration = configuration(random, instance + 1);
            let ballot = ballot(random, 1);
            PeerMessage::Membership(MembershipMessage::Accept { instance, ballot, configuration })
        }
        0 => {
            let check = ReadCheck { entity, entry: Entry::ZERO, check: 1 };
            PeerMessage::ReadCheck(check)
        }
        1 => PeerMessage::Newer(NewerNotice { entity, max_chosen: Entry(u64::MAX) }),
        2 => {
            let (first, last) = (Entry(9), Entry(8));
            PeerMessage::CatchUp(CatchUpRequest { entity, first, last })
        }
        3 => PeerMessage::Image(EntityImage { last_value_id: Some(foreign), ..image(random) }),
        4 => PeerMessage::Follow(FollowRequest { number: 1, stream: None, core_count: 0 }),
        5 => {
            let value = CarriedValue { id: foreign, ..carried(random) };
            let value = Some(ToldValue { ballot: ballot(random, 1), value });
            let (stream, number, entry, chain) = (1, 1, Entry(1), 0);
            PeerMessage::Told(ToldNotice { stream, number, entity, entry, chain, value })
        }
        6 => {
            let mine = EntryRecord { prepared: ballot(random, u32::MAX), ..record(random) };
            PeerMessage::Entry(EntryMessage { mine, ..entry_message(random) })
        }
        7 => PeerMessage::Lag(LagRequest { core_count: 0, ..lag_request(random) }),
        8 => {
            let entities = vec![LaggingEntity { entity, chosen: Entry::ZERO, chain: None }];
            let page = LagPage { entities, from: 0, next: None, left: None };
            PeerMessage::LagAnswer(LagAnswer { found: LagFound::Page(page), ..lag_answer(random) })
        }
        _ => {
            let values = vec![CarriedValue { id: foreign, ..carried(random) }];
            PeerMessage::Entry(EntryMessage { values, ..entry_message(random) })
        }
    }
}
