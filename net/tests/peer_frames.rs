//! Frames between replicas: every message kind, every cut, every flipped bit, hostile archives.

mod random;

use std::rc::Rc;

use net::peer::frame::{
    FRAME_HEADER_SIZE, FRAME_SIZE_MAX_DEFAULT, FrameDecoder, FrameEncodeError, FrameEncoder,
    FrameError, archived_size,
};
use net::peer::message::{
    CarriedValue, CatchUpAnswer, CatchUpRequest, ChosenEntry, ChosenNotice, CompareAnswer,
    CompareRequest, CopyRequest, EntityImage, EntryMessage, FinishRequest, FollowAnswer,
    FollowRequest, ForwardAnswer, ForwardedCommand, GenerationsNotice, HeldVotes, LagAnswer,
    LagCursor, LagFound, LagPage, LagPlace, LagQuestion, LagRange, LagRequest, LaggingEntity,
    MembershipMessage, MembershipState, NewerNotice, PeerMessage, Position, ReadAnswer, ReadCheck,
    ReadOutcome, Request, SweepAnswer, SweepRequest, SweptEntity, ToldNotice, ToldValue,
    TransferPage, TransferRequest,
};
use net::peer::message_rules::{ENTRY_MAX, InvalidMessage, ROUND_MAX, Whose};
use plog::configuration::{Configuration, InvalidConfiguration, Members};
use plog::entry_record::{EntryRecord, InvalidRecord};
use plog::vocabulary::{AcceptorId, Ballot, BootEpoch, EntityId, Entry, Generation, ValueId};
use random::Random;

const REPLICAS: u8 = 3;

fn ballot(round: u32, acceptor: u8) -> Ballot {
    Ballot { round, epoch: BootEpoch(4), acceptor: AcceptorId(acceptor) }
}

fn value_id(counter: u64) -> ValueId {
    ValueId { originator: AcceptorId(2), epoch: BootEpoch(7), counter }
}

fn carried(counter: u64, size: usize) -> CarriedValue {
    CarriedValue { id: value_id(counter), bytes: Rc::from(vec![0xA5; size]) }
}

fn entry_message() -> EntryMessage {
    EntryMessage {
        entity: EntityId(0x2F96_0000_0000_0001),
        entry: Entry(17),
        mine: EntryRecord {
            prepared: ballot(2, 0),
            promised: ballot(3, 1),
            accepted: ballot(2, 0),
            value_id: Some(value_id(1)),
            chosen: false,
        },
        yours: EntryRecord::default(),
        request: Some(Request { ballot: ballot(3, 1), value_id: Some(value_id(2)) }),
        values: vec![carried(1, 128), carried(2, 0)],
        max_chosen: Entry(16),
    }
}

fn chosen_notice() -> ChosenNotice {
    ChosenNotice {
        entity: EntityId(1),
        entry: Entry(2),
        ballot: ballot(0, 2),
        value_id: value_id(3),
        chain: 0xDEAD_BEEF,
        value: Some(Rc::from(&b"batch"[..])),
    }
}

fn catch_up_answer() -> CatchUpAnswer {
    let entry =
        |entry| ChosenEntry { entry: Entry(entry), ballot: ballot(1, 1), value: carried(entry, 3) };
    CatchUpAnswer {
        entity: EntityId(3),
        entries: vec![entry(5), entry(6), entry(7)],
        max_chosen: Entry(90),
    }
}

fn told_notice() -> ToldNotice {
    ToldNotice {
        stream: 4,
        number: 3,
        entity: EntityId(3),
        entry: Entry(5),
        chain: 0xDEAD_BEEF,
        value: Some(ToldValue { ballot: ballot(1, 1), value: carried(5, 30) }),
    }
}

fn catch_up(first: u64, last: u64) -> PeerMessage {
    PeerMessage::CatchUp(CatchUpRequest {
        entity: EntityId(3),
        first: Entry(first),
        last: Entry(last),
    })
}

/// Every kind, with every optional part there and not there.
fn every_kind() -> Vec<PeerMessage> {
    let entity = EntityId(0x0123_4567_89AB_CDEF);
    vec![
        PeerMessage::Entry(entry_message()),
        PeerMessage::Entry(EntryMessage { request: None, values: vec![], ..entry_message() }),
        PeerMessage::Chosen(chosen_notice()),
        PeerMessage::Chosen(ChosenNotice { value: None, ..chosen_notice() }),
        PeerMessage::Newer(NewerNotice { entity, max_chosen: Entry(8) }),
        PeerMessage::ReadCheck(ReadCheck { entity, entry: Entry(9), check: u64::MAX }),
        PeerMessage::ReadAnswer(ReadAnswer {
            entity,
            entry: Entry(9),
            check: 5,
            outcome: ReadOutcome::Started,
            max_chosen: Entry(8),
            applied: Entry(8),
            chain: 1,
        }),
        catch_up(1, 1000),
        PeerMessage::CatchUpAnswer(catch_up_answer()),
        PeerMessage::CatchUpAnswer(CatchUpAnswer { entries: vec![], ..catch_up_answer() }),
        PeerMessage::Image(EntityImage {
            entity,
            applied: Entry(44),
            chain: 2,
            last_value_id: Some(value_id(9)),
            recent: vec![value_id(9), value_id(8)],
            state: Rc::from(vec![7; 1000]),
            max_chosen: Entry(45),
        }),
        PeerMessage::Forward(ForwardedCommand {
            forward: 6,
            entity,
            request_id: b"client-1".to_vec(),
            patience_us: 1_000_000,
            arguments: vec![b"SET".to_vec(), b"key".to_vec(), vec![], vec![0; 77]],
        }),
        PeerMessage::ForwardAnswer(ForwardAnswer {
            forward: 6,
            entity,
            reply: Some(b"+OK\r\n".to_vec()),
            entry: Entry(9),
        }),
        PeerMessage::ForwardAnswer(ForwardAnswer {
            forward: 6,
            entity,
            reply: None,
            entry: Entry::ZERO,
        }),
        PeerMessage::Sweep(SweepRequest { after: None, limit: 100 }),
        PeerMessage::Sweep(SweepRequest { after: Some(entity), limit: 1 }),
        PeerMessage::SweepAnswer(SweepAnswer {
            after: Some(entity),
            entities: vec![SweptEntity { entity, chosen: Entry(3), last: Entry(4) }; 5],
            done: true,
            counts_for: Some(Generation(2)),
        }),
        PeerMessage::SweepAnswer(SweepAnswer {
            after: None,
            entities: vec![],
            done: true,
            counts_for: None,
        }),
        PeerMessage::SweepHint,
        PeerMessage::Heartbeat,
        PeerMessage::Generations(GenerationsNotice { known: [0, 1, 2, 0, 4094].map(Generation) }),
        PeerMessage::Finish(FinishRequest { entity, entry: Entry(9) }),
        PeerMessage::Compare(CompareRequest { entity, check: 4 }),
        PeerMessage::Compared(CompareAnswer { entity, check: 4, applied: Entry(9), chain: 6 }),
        PeerMessage::Copy(CopyRequest { entity, entry: Entry(9) }),
        PeerMessage::Transfer(TransferRequest { begin: None, bytes: 1 << 20, core_count: 4 }),
        PeerMessage::TransferPage(TransferPage {
            begin: Some(entity),
            next: Some(EntityId(u64::MAX)),
            sent: true,
        }),
        PeerMessage::Follow(FollowRequest { number: 7, stream: Some(4), core_count: 2 }),
        PeerMessage::FollowAnswer(FollowAnswer { number: 7, stream: Some(4), told: 2 }),
        PeerMessage::FollowAnswer(FollowAnswer { number: 7, stream: None, told: 0 }),
        PeerMessage::Told(told_notice()),
        PeerMessage::Told(ToldNotice { value: None, ..told_notice() }),
    ]
    .into_iter()
    .chain(lag_messages())
    .chain(membership_messages())
    .collect()
}

fn membership_messages() -> Vec<PeerMessage> {
    let configuration = Configuration { version: 7, ..Configuration::initial(3) };
    let (instance, ballot) = (7, ballot(3, 1));
    let state = |held, settled| MembershipState { version: 6, held, settled };
    let next = Some((ballot, configuration));
    let messages = [
        MembershipMessage::Ask,
        MembershipMessage::State(state(None, false)),
        MembershipMessage::State(state(Some(HeldVotes { promised: ballot, accepted: None }), true)),
        MembershipMessage::State(state(Some(HeldVotes { promised: ballot, accepted: next }), true)),
        MembershipMessage::Prepare { instance, ballot },
        MembershipMessage::Promise { instance, ballot, accepted: None },
        MembershipMessage::Promise { instance, ballot, accepted: Some((ballot, configuration)) },
        MembershipMessage::Accept { instance, ballot, configuration },
        MembershipMessage::Accepted { instance, ballot },
        MembershipMessage::Refused { instance, ballot },
    ];
    let messages = messages.map(PeerMessage::Membership);
    messages.into_iter().chain([PeerMessage::Configuration(configuration)]).collect()
}

fn lag_messages() -> Vec<PeerMessage> {
    let entity = EntityId(77);
    let position = Position { boot: BootEpoch(3), mark: 9 };
    let range = LagRange {
        after: Some(entity),
        last: None,
        entities: 512,
        core_count: 2,
        digest: u64::MAX,
        chains: Some(1),
    };
    let more = |cursor| LagQuestion::More(LagPlace { from: 8, to: position, cursor });
    let questions = [
        LagQuestion::Nothing,
        LagQuestion::Since,
        more(LagCursor::Recent(1 << 40)),
        more(LagCursor::After(None)),
        LagQuestion::Range(range),
        LagQuestion::Range(LagRange { chains: None, last: Some(entity), ..range }),
    ];
    let ask = |asks| {
        let confirmed = Some(position);
        PeerMessage::Lag(LagRequest { question: 5, core_count: 3, confirmed, asks })
    };
    let lagging = LaggingEntity { entity, chosen: Entry(4), chain: Some(2) };
    let page = LagPage {
        entities: vec![lagging; 3],
        from: 8,
        next: Some(LagCursor::After(Some(entity))),
        left: None,
    };
    let found = [
        LagFound::Abstains,
        LagFound::Unknown,
        LagFound::Equal,
        LagFound::EqualWithoutChains,
        LagFound::Page(page),
        LagFound::Page(LagPage { entities: vec![], from: 0, next: None, left: Some(7) }),
    ];
    let answer =
        |found| PeerMessage::LagAnswer(LagAnswer { question: 5, to: Some(position), found });
    questions.map(ask).into_iter().chain(found.map(answer)).collect()
}

fn encode(messages: &[PeerMessage]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameEncoder::default().encode(messages, &mut out).expect("the messages fit");
    out
}

fn decoder() -> FrameDecoder {
    FrameDecoder::new(FRAME_SIZE_MAX_DEFAULT, REPLICAS)
}

fn decode(bytes: &[u8]) -> Result<Option<Vec<PeerMessage>>, FrameError> {
    let mut decoder = decoder();
    decoder.push(bytes);
    decoder.next_frame()
}

/// Makes the checksums right again, so that what stands behind them is put to the test.
fn reseal(frame: &mut [u8]) {
    let payload = crc32fast::hash(&frame[FRAME_HEADER_SIZE..]);
    frame[24..28].copy_from_slice(&payload.to_le_bytes());
    let header = crc32fast::hash(&frame[..28]);
    frame[28..32].copy_from_slice(&header.to_le_bytes());
}

fn refused(message: PeerMessage) -> InvalidMessage {
    match decode(&encode(&[PeerMessage::Heartbeat, message.clone()])) {
        Err(FrameError::Message { sequence: 0, index: 1, reason, .. }) => reason,
        other => panic!("{message:?} gave {other:?}"),
    }
}

#[test]
fn every_kind_of_message_comes_back_as_it_went() {
    let messages = every_kind();
    assert_eq!(decode(&encode(&messages)), Ok(Some(messages.clone())));
    for message in messages {
        assert_eq!(decode(&encode(std::slice::from_ref(&message))), Ok(Some(vec![message])));
    }
}

#[test]
fn the_size_of_a_message_is_known_exactly_before_it_is_encoded() {
    let one = |message: &PeerMessage| encode(std::slice::from_ref(message)).len();
    let overhead = one(&PeerMessage::Heartbeat) - archived_size(&PeerMessage::Heartbeat);
    for message in every_kind() {
        assert_eq!(one(&message), overhead + archived_size(&message), "{message:?}");
    }
    let all = every_kind();
    let sum: usize = all.iter().map(archived_size).sum();
    assert_eq!(encode(&all).len(), overhead + sum);
}

#[test]
fn frames_may_be_cut_at_every_byte() {
    let messages = every_kind();
    let mut bytes = Vec::new();
    let mut encoder = FrameEncoder::default();
    for message in &messages {
        assert_eq!(encoder.encode(std::slice::from_ref(message), &mut bytes), Ok(1));
    }
    for cut in 0..=bytes.len() {
        let mut decoder = decoder();
        let mut decoded = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            decoder.push(part);
            while let Some(mut frame) = decoder.next_frame().expect("the bytes are good") {
                decoded.append(&mut frame);
            }
        }
        assert_eq!(decoded, messages, "cut at {cut}");
        assert_eq!(decoder.pending_size(), 0);
    }
    let mut decoder = decoder();
    let mut decoded = Vec::new();
    for byte in &bytes {
        decoder.spare_mut(1)[0] = *byte;
        decoder.filled(1);
        while let Some(mut frame) = decoder.next_frame().expect("the bytes are good") {
            decoded.append(&mut frame);
        }
    }
    assert_eq!(decoded, messages);
    assert_eq!(decoder.frame_count(), encoder.frame_count());
}

#[test]
fn every_flipped_bit_is_detected() {
    let frame = encode(&every_kind());
    for index in 0..frame.len() {
        for bit in 0..8 {
            let mut damaged = frame.clone();
            damaged[index] ^= 1 << bit;
            assert!(decode(&damaged).is_err(), "bit {bit} of byte {index}");
        }
    }
}

#[test]
fn each_damage_to_a_header_is_named_with_its_number() {
    let frame = encode(&[PeerMessage::Heartbeat]);
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frame.clone();
        change(&mut frame);
        decode(&frame).expect_err("the frame is damaged")
    };
    assert_eq!(
        damaged(&|frame| frame[0] = b'*'),
        FrameError::Magic { got: u32::from_le_bytes(*b"*RTF") }
    );
    assert_eq!(damaged(&|frame| frame[4] = 9), FrameError::Version { got: 9 });
    assert!(matches!(damaged(&|frame| frame[8] ^= 1), FrameError::HeaderChecksum { .. }));
    let last = frame.len() - 1;
    assert!(matches!(
        damaged(&|frame| frame[last] ^= 1),
        FrameError::PayloadChecksum { sequence: 0, .. }
    ));
    assert_eq!(
        damaged(&|frame| {
            frame[6] = 2;
            reseal(frame);
        }),
        FrameError::Flags { got: 2 }
    );
    assert_eq!(
        damaged(&|frame| {
            frame[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
            reseal(frame);
        }),
        FrameError::TooLarge {
            size: FRAME_HEADER_SIZE + usize::try_from(u32::MAX).unwrap(),
            size_max: FRAME_SIZE_MAX_DEFAULT
        }
    );
    assert_eq!(
        damaged(&|frame| {
            frame[12] = 2;
            reseal(frame);
        }),
        FrameError::MessageCount { sequence: 0, announced: 2, found: 1 }
    );
    assert_eq!(
        damaged(&|frame| {
            frame[16] = 3;
            reseal(frame);
        }),
        FrameError::Sequence { got: 3, expected: 0 }
    );
}

#[test]
fn a_frame_that_comes_twice_or_not_at_all_is_an_error() {
    let mut bytes = Vec::new();
    let mut encoder = FrameEncoder::default();
    encoder.encode(&[PeerMessage::Heartbeat], &mut bytes).expect("it fits");
    let first = bytes.clone();
    bytes.clear();
    encoder.encode(&[PeerMessage::SweepHint], &mut bytes).expect("it fits");
    assert_eq!(decode(&bytes), Err(FrameError::Sequence { got: 1, expected: 0 }));
    let mut decoder = decoder();
    decoder.push(&first);
    decoder.push(&first);
    assert_eq!(decoder.next_frame(), Ok(Some(vec![PeerMessage::Heartbeat])));
    let error = FrameError::Sequence { got: 0, expected: 1 };
    assert_eq!(decoder.next_frame(), Err(error.clone()));
    decoder.push(&bytes);
    assert_eq!(decoder.next_frame(), Err(error), "after an error nothing is read any more");
}

#[test]
fn many_messages_are_split_over_frames_and_one_too_large_is_refused() {
    let size_max = 4096;
    let mut encoder = FrameEncoder::new(size_max);
    let mut decoder = FrameDecoder::new(size_max, REPLICAS);
    let mut random = Random(1);
    let messages: Vec<PeerMessage> = (1..200)
        .map(|entry| {
            let values =
                vec![carried(entry, random.below(1500)), carried(entry, random.below(1500))];
            PeerMessage::Entry(EntryMessage { entry: Entry(entry), values, ..entry_message() })
        })
        .collect();
    let mut bytes = Vec::new();
    let count = encoder.encode(&messages, &mut bytes).expect("each message fits");
    assert!(count > 50, "{count}");
    decoder.push(&bytes);
    let mut decoded = Vec::new();
    while let Some(mut frame) = decoder.next_frame().expect("the frames are good") {
        decoded.append(&mut frame);
    }
    assert_eq!(decoded, messages);
    assert_eq!(decoder.frame_count(), count);

    let with_value_of = |size| {
        let values = vec![carried(1, size)];
        PeerMessage::Entry(EntryMessage { values, ..entry_message() })
    };
    let overhead = encode(&[with_value_of(0)]).len();
    let written = bytes.len();
    assert_eq!(encoder.encode(&[with_value_of(size_max - overhead)], &mut bytes), Ok(1));
    assert_eq!(bytes.len() - written, size_max, "a frame may be exactly as large as the limit");
    let written = bytes.len();
    let too_large = [PeerMessage::Heartbeat, with_value_of(size_max - overhead + 1)];
    let error = encoder.encode(&too_large, &mut bytes).expect_err("one byte above the limit");
    assert_eq!(
        error,
        FrameEncodeError::MessageTooLarge {
            index: 1,
            kind: "entry",
            entity: Some(EntityId(0x2F96_0000_0000_0001)),
            size: size_max + 1,
            size_max,
        }
    );
    assert!(error.to_string().contains("entity 0x2f96000000000001"), "{error}");
    assert_eq!(bytes.len(), written, "nothing is written on an error");
    assert_eq!(encoder.encode(&[], &mut bytes), Ok(0));
    assert_eq!(bytes.len(), written);
}

#[test]
fn a_record_that_breaks_its_rules_is_refused() {
    let mut message = entry_message();
    message.mine.prepared = ballot(9, 0);
    let reason = InvalidRecord::PreparedAbovePromised;
    assert_eq!(
        refused(PeerMessage::Entry(message)),
        InvalidMessage::Record { whose: Whose::Mine, reason }
    );
    let mut message = entry_message();
    message.yours.promised = ballot(1, 3);
    let reason = InvalidRecord::ForeignAcceptor { acceptor: 3, replicas: 3 };
    assert_eq!(
        refused(PeerMessage::Entry(message)),
        InvalidMessage::Record { whose: Whose::Yours, reason }
    );
}

#[test]
fn each_rule_of_messages_is_enforced() {
    let foreign = ValueId { originator: AcceptorId(3), ..value_id(1) };
    let foreign_error = InvalidMessage::ForeignAcceptor { acceptor: 3, replicas: 3 };
    let entry = |change: &dyn Fn(&mut EntryMessage)| {
        let mut message = entry_message();
        change(&mut message);
        refused(PeerMessage::Entry(message))
    };
    assert_eq!(entry(&|message| message.entry = Entry::ZERO), InvalidMessage::EntryZero);
    assert_eq!(
        entry(&|message| message.entry = ENTRY_MAX.next()),
        InvalidMessage::ImplausibleEntry { entry: ENTRY_MAX.next() }
    );
    assert_eq!(
        entry(&|message| message.max_chosen = Entry(u64::MAX)),
        InvalidMessage::ImplausibleEntry { entry: Entry(u64::MAX) }
    );
    assert_eq!(
        entry(&|message| message.mine.promised = ballot(u32::MAX, 0)),
        InvalidMessage::ImplausibleRound { round: u32::MAX }
    );
    assert_eq!(
        entry(&|message| message.request = Some(Request { ballot: Ballot::NONE, value_id: None })),
        InvalidMessage::RequestWithoutBallot
    );
    let foreign_ballot = Request { ballot: ballot(1, 3), value_id: None };
    assert_eq!(entry(&|message| message.request = Some(foreign_ballot)), foreign_error);
    let foreign_value = Request { ballot: ballot(1, 1), value_id: Some(foreign) };
    assert_eq!(entry(&|message| message.request = Some(foreign_value)), foreign_error);
    assert_eq!(
        entry(&|message| message.values = vec![carried(1, 1); 3]),
        InvalidMessage::TooManyValues { count: 3 }
    );
    assert_eq!(entry(&|message| message.values[1].id = foreign), foreign_error);

    let chosen = |notice| refused(PeerMessage::Chosen(notice));
    let notice = chosen_notice();
    assert_eq!(
        chosen(ChosenNotice { entry: Entry::ZERO, ..notice.clone() }),
        InvalidMessage::EntryZero
    );
    assert_eq!(
        chosen(ChosenNotice { ballot: ballot(ROUND_MAX + 1, 0), ..notice.clone() }),
        InvalidMessage::ImplausibleRound { round: ROUND_MAX + 1 }
    );
    assert_eq!(chosen(ChosenNotice { value_id: foreign, ..notice }), foreign_error);

    assert_eq!(refused(catch_up(0, 4)), InvalidMessage::EntryZero);
    assert_eq!(
        refused(catch_up(5, 4)),
        InvalidMessage::InvertedRange { first: Entry(5), last: Entry(4) }
    );
    let mut answer = catch_up_answer();
    answer.entries.remove(1);
    assert_eq!(
        refused(PeerMessage::CatchUpAnswer(answer)),
        InvalidMessage::NotConsecutive { previous: Entry(5), next: Entry(7) }
    );
    let read_check = ReadCheck { entity: EntityId(1), entry: Entry::ZERO, check: 1 };
    assert_eq!(refused(PeerMessage::ReadCheck(read_check)), InvalidMessage::EntryZero);
    let finish = FinishRequest { entity: EntityId(3), entry: Entry::ZERO };
    assert_eq!(refused(PeerMessage::Finish(finish)), InvalidMessage::EntryZero);
    let follow = FollowRequest { number: 1, stream: None, core_count: 0 };
    assert_eq!(refused(PeerMessage::Follow(follow)), InvalidMessage::NoCores);
    let told = |notice| refused(PeerMessage::Told(notice));
    let notice = told_notice();
    assert_eq!(
        told(ToldNotice { entry: Entry::ZERO, ..notice.clone() }),
        InvalidMessage::EntryZero
    );
    let ballot = ballot(1, 3);
    let value = Some(ToldValue { ballot, value: carried(5, 30) });
    assert_eq!(told(ToldNotice { value, ..notice }), foreign_error);
    let transfer = TransferRequest { begin: None, bytes: 1, core_count: 0 };
    assert_eq!(refused(PeerMessage::Transfer(transfer)), InvalidMessage::NoCores);
    let known = [0, 0, 4095, 0, 0].map(Generation);
    assert_eq!(
        refused(PeerMessage::Generations(GenerationsNotice { known })),
        InvalidMessage::ImplausibleGeneration { generation: 4095 }
    );
    for message in lag_messages() {
        match message {
            PeerMessage::Lag(request) => {
                let request = LagRequest { core_count: 0, ..request };
                assert_eq!(refused(PeerMessage::Lag(request)), InvalidMessage::NoCores);
            }
            PeerMessage::LagAnswer(LagAnswer { found: LagFound::Page(mut page), .. }) => {
                let entity = EntityId(1);
                page.entities.push(LaggingEntity { entity, chosen: Entry::ZERO, chain: None });
                let found = LagFound::Page(page);
                let answer = LagAnswer { question: 1, to: None, found };
                assert_eq!(refused(PeerMessage::LagAnswer(answer)), InvalidMessage::EntryZero);
            }
            _ => {}
        }
    }
    let swept = SweptEntity { entity: EntityId(3), chosen: Entry(5), last: Entry(4) };
    let (after, counts_for) = (None, None);
    let answer = SweepAnswer { after, entities: vec![swept], done: true, counts_for };
    assert_eq!(
        refused(PeerMessage::SweepAnswer(answer)),
        InvalidMessage::InvertedRange { first: Entry(5), last: Entry(4) }
    );
}

#[test]
fn each_rule_of_configurations_is_enforced() {
    let nobody = Configuration { version: 3, voters: Members::NONE, learners: Members::NONE };
    let no_voter =
        InvalidMessage::Configuration { reason: InvalidConfiguration::NoVoter { version: 3 } };
    assert_eq!(refused(PeerMessage::Configuration(nobody)), no_voter);
    let membership = |message| refused(PeerMessage::Membership(message));
    let ballot = ballot(1, 0);
    let accept = |instance, configuration| {
        membership(MembershipMessage::Accept { instance, ballot, configuration })
    };
    assert_eq!(accept(3, nobody), no_voter);
    let other = InvalidMessage::OtherInstance { instance: 2, version: 3 };
    assert_eq!(accept(2, nobody), other);
    let last = Configuration::VERSION_MAX;
    for instance in [0, last + 1] {
        let implausible = InvalidMessage::ImplausibleInstance { instance, last };
        assert_eq!(membership(MembershipMessage::Prepare { instance, ballot }), implausible);
    }
}

#[test]
fn an_empty_archive_is_refused() {
    let heartbeat = encode(&[PeerMessage::Heartbeat]);
    let mut frame = heartbeat[..FRAME_HEADER_SIZE].to_vec();
    // A root of length 0 whose pointer points at itself.
    frame.extend_from_slice(&[0; 8]);
    frame[8..12].copy_from_slice(&8u32.to_le_bytes());
    frame[12..16].copy_from_slice(&0u32.to_le_bytes());
    reseal(&mut frame);
    assert_eq!(decode(&frame), Err(FrameError::Empty { sequence: 0 }));
    frame.truncate(FRAME_HEADER_SIZE);
    frame[8..12].copy_from_slice(&0u32.to_le_bytes());
    reseal(&mut frame);
    assert!(matches!(decode(&frame), Err(FrameError::Archive { payload_size: 0, .. })));
}

#[test]
fn a_damaged_archive_under_right_checksums_never_panics_and_never_grows() {
    let mut random = Random(2);
    let mut refused_archives = 0;
    let mut refused_messages = 0;
    let whole = encode(&every_kind());
    let small = encode(&[PeerMessage::CatchUpAnswer(catch_up_answer())]);
    for round in 0..60_000 {
        let mut frame = if round % 2 == 0 { whole.clone() } else { small.clone() };
        for _ in 0..=random.below(3) {
            let index = FRAME_HEADER_SIZE + random.below(frame.len() - FRAME_HEADER_SIZE);
            frame[index] = match random.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => frame[index] ^ 1 << random.below(8),
                _ => random.byte(),
            };
        }
        reseal(&mut frame);
        let payload_size = frame.len() - FRAME_HEADER_SIZE;
        match decode(&frame) {
            Ok(Some(messages)) => {
                let size: usize = messages.iter().map(archived_size).sum();
                assert!(size <= payload_size, "{size} bytes out of {payload_size}");
            }
            Ok(None) => panic!("the frame is complete"),
            Err(FrameError::Archive { .. }) => refused_archives += 1,
            Err(FrameError::Message { .. } | FrameError::MessageCount { .. }) => {
                refused_messages += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused_archives > 1000, "{refused_archives}");
    assert!(refused_messages > 1000, "{refused_messages}");
}

#[test]
fn random_bytes_under_right_checksums_never_panic() {
    let mut random = Random(3);
    let header = encode(&[PeerMessage::Heartbeat])[..FRAME_HEADER_SIZE].to_vec();
    for _ in 0..20_000 {
        let size = random.below(300);
        let mut frame = header.clone();
        frame.extend((0..size).map(|_| random.byte()));
        frame[8..12].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        reseal(&mut frame);
        assert!(decode(&frame).is_err());
    }
}

#[test]
fn garbage_never_panics() {
    let mut random = Random(4);
    for _ in 0..5000 {
        let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
        let decoded = decode(&bytes);
        assert!(bytes.len() < FRAME_HEADER_SIZE || decoded.is_err());
    }
}

#[test]
fn two_vectors_cannot_claim_the_same_bytes() {
    // Otherwise a small payload could unfold into a large one. The two values' pointers are made
    // to point at the first one's bytes.
    let values = vec![carried(1, 64), carried(1, 64)];
    let message = PeerMessage::Entry(EntryMessage { values, ..entry_message() });
    let frame = encode(&[message]);
    let mut unfolded = 0;
    for index in FRAME_HEADER_SIZE..frame.len() {
        for offset in [-64i32, 64, -128, 128] {
            let mut frame = frame.clone();
            let Some(pointer) = frame[index..].first_chunk_mut::<4>() else { continue };
            *pointer = i32::from_le_bytes(*pointer).wrapping_add(offset).to_le_bytes();
            reseal(&mut frame);
            if let Ok(Some(messages)) = decode(&frame) {
                let size: usize = messages.iter().map(archived_size).sum();
                assert!(size <= frame.len() - FRAME_HEADER_SIZE);
                unfolded += 1;
            }
        }
    }
    assert!(unfolded > 0, "some changes hit only a value's bytes");
}

#[test]
fn refusals_read_as_sentences_with_the_offending_number() {
    let frame = encode(&[catch_up(5, 4)]);
    let error = decode(&frame).expect_err("the range is inverted");
    assert_eq!(
        error.to_string(),
        "frame 0, message 0 (catch up): range from entry 5 to entry 4 ends before it begins"
    );
    let size_max = 4096;
    let mut decoder = FrameDecoder::new(size_max, REPLICAS);
    decoder.push(&encode(&[PeerMessage::Forward(ForwardedCommand {
        forward: 1,
        entity: EntityId(1),
        request_id: vec![],
        patience_us: 1,
        arguments: vec![vec![0; size_max]],
    })]));
    let error = decoder.next_frame().expect_err("above the limit").to_string();
    assert!(error.contains("above the limit of 4096"), "{error}");
}

#[test]
fn the_header_is_the_one_in_the_protocol_document() {
    let frame = encode(&[PeerMessage::Heartbeat]);
    let text: Vec<String> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = include_str!("../../docs/PROTOCOL.md");
    for line in text[..FRAME_HEADER_SIZE].chunks(16) {
        assert!(document.contains(&line.join(" ")), "{}", text.join(" "));
    }
    let size = archived_size(&PeerMessage::Heartbeat);
    assert!(document.contains(&format!("{size} bytes plus its own vectors")), "{size}");
}
