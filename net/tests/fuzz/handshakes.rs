//! Both sides of a handshake: whoever is let in keeps every rule, what one side says the other
//! understands, and pieces do not matter.

use std::ops::Range;

use net::peer::handshake::{
    ANY_CORE, AcceptorFailure, AcceptorStep, DiallerFailure, DiallerStep, HANDSHAKE_SIZE,
    HandshakeAcceptor, HandshakeDialler, HandshakeError, Hello, LocalNode, PeerIdentity, Refusal,
    Remembered, Role, Target, Welcome,
};

use plog::vocabulary::BootEpoch;

use crate::fuzzing::allocation::peak;
use crate::fuzzing::{Format, Plan, Random, Tally, fails, fuzz};

fn node(node_id: u8) -> LocalNode {
    LocalNode {
        cluster_id: 0xC1,
        node_id,
        replicas: 3,
        incarnation: u128::from(node_id) << 100 | 0xABCD,
        boot_epoch: 5,
        core_count: 4,
        core: 1,
        role: Role::Replica,
    }
}

/// Node 0 was met, node 1 was not, and no other is known.
fn remembered(node_id: u8) -> Remembered {
    match node_id {
        0 => Remembered::Met { incarnation: node(0).incarnation, boot_epoch: 4 },
        1 => Remembered::NeverMet,
        2 => Remembered::Met { incarnation: node(2).incarnation, boot_epoch: 5 },
        _ => Remembered::Unknown,
    }
}

/// Mostly the right number.
fn near<T>(random: &mut Random, right: T, wrong: impl FnOnce(&mut Random) -> T) -> T {
    if random.below(8) == 0 { wrong(random) } else { right }
}

fn short(random: &mut Random) -> u16 {
    u16::from(random.byte()) << random.below(9)
}

fn made_hello(random: &mut Random) -> Vec<u8> {
    let known = u8::from(random.below(2) == 0);
    let is_follower = random.below(4) == 0;
    let (node_id, role) = if is_follower {
        (16 + random.byte() % 9, Role::Follower { peer_port: 1 + short(random) % 9000 })
    } else {
        (known, Role::Replica)
    };
    let sender = node(near(random, node_id, |random| random.byte() % 5));
    let sender = LocalNode {
        cluster_id: near(random, sender.cluster_id, Random::next),
        replicas: near(random, 3, Random::byte),
        incarnation: near(random, sender.incarnation, |random| u128::from(random.next())),
        boot_epoch: near(random, 5, |random| u32::from(random.byte() % 6)),
        core_count: near(random, 4, short),
        core: near(random, 1, short),
        role: near(random, role, |random| match short(random) {
            0 => Role::Replica,
            peer_port => Role::Follower { peer_port },
        }),
        ..sender
    };
    let core = [0, 3, ANY_CORE][random.below(3)];
    let hello = Hello {
        version_min: near(random, 1, short),
        version_max: near(random, 1, short),
        sender,
        receiver_node_id: near(random, 2, Random::byte),
        receiver_core: near(random, core, short),
    };
    hello.encode().to_vec()
}

fn made_welcome(random: &mut Random) -> Vec<u8> {
    let welcome = Welcome {
        version: near(random, 1, short),
        node_id: near(random, 2, Random::byte),
        incarnation: near(random, node(2).incarnation, |random| u128::from(random.next())),
        boot_epoch: near(random, 5, |random| u32::from(random.byte() % 6)),
        core_count: near(random, 4, short),
        core: near(random, 3, |random| u16::from(random.byte() % 6)),
    };
    welcome.encode().to_vec()
}

fn made_refusal(random: &mut Random) -> Refusal {
    let node_id = random.byte();
    let (core, core_count) = (short(random), short(random));
    match random.below(16) {
        0 => Refusal::Version {
            dialler_min: core,
            dialler_max: core_count,
            acceptor_min: short(random),
            acceptor_max: short(random),
        },
        1 => Refusal::Cluster { expected: random.next(), got: random.next() },
        2 => Refusal::WrongReceiver { wanted: random.byte(), actual: node_id },
        3 => Refusal::OwnId { node_id },
        4 => Refusal::UnknownNode { node_id },
        5 => Refusal::Replicas { expected: random.byte(), got: random.byte() },
        6 => Refusal::Incarnation {
            node_id,
            remembered: u128::from(random.next()) << 64,
            got: u128::from(random.next()),
            generation: u32::from(core),
        },
        7 => Refusal::BootEpoch { node_id, seen: u32::from(core), got: u32::MAX },
        8 => Refusal::ReceiverCore { core, core_count },
        9 => Refusal::PeerCore { node_id, core, core_count },
        10 => Refusal::OtherCore { node_id, wanted: core, actual: core_count },
        11 => Refusal::FollowerId { node_id, replicas: random.byte() },
        12 => Refusal::NotAReplica { node_id },
        13 => Refusal::TooManyFollowers { node_id, max: random.byte() },
        14 => Refusal::Membership { node_id, changes: random.below(2) == 0 },
        _ => Refusal::Unnamed { code: 16 | node_id },
    }
}

/// Either side's words.
fn made_message(random: &mut Random) -> Vec<u8> {
    match random.below(3) {
        0 => made_hello(random),
        1 => made_welcome(random),
        _ => made_refusal(random).encode().to_vec(),
    }
}

fn samples() -> Vec<Vec<u8>> {
    (0..24).map(|seed| made_message(&mut Random(seed))).collect()
}

struct Handshakes;

impl Format for Handshakes {
    fn fields(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let fields =
            [8..9, 9..10, 10..12, 12..14, 14..15, 15..16, 16..24, 24..40, 40..44, 44..46, 46..48];
        let more = [48..50, 16..20, 10..11, 16..32, 32..48, 50..52];
        fields.into_iter().chain(more).filter(|field| field.end <= bytes.len()).collect()
    }

    fn repair(&self, bytes: &mut [u8]) {
        if let Some(message) = bytes.first_chunk_mut::<HANDSHAKE_SIZE>() {
            let crc = crc32fast::hash(&message[..52]);
            message[52..].copy_from_slice(&crc.to_le_bytes());
        }
    }
}

/// The same error, but for how much of a stranger's words had come when it was clear.
fn without_words(error: HandshakeError) -> HandshakeError {
    match error {
        HandshakeError::NotAPeer { .. } => HandshakeError::NotAPeer { got: [0; 8], received: 0 },
        error => error,
    }
}

type Accepted = Result<AcceptorStep, AcceptorFailure>;
type Accept = fn(&[&[u8]]) -> Accepted;

/// Hands over piece by piece until something comes of it, with `consumed` counted from the first.
fn accept(pieces: &[&[u8]]) -> Accepted {
    let mut acceptor = HandshakeAcceptor::new(node(2));
    let mut before = 0;
    for piece in pieces {
        let step = acceptor.handle_bytes(piece, remembered).map_err(|failure| match failure {
            AcceptorFailure::Invalid(error) => AcceptorFailure::Invalid(without_words(error)),
            refused @ AcceptorFailure::Refused(_) => refused,
        });
        match step? {
            AcceptorStep::Incomplete => before += piece.len(),
            AcceptorStep::Accepted { identity, answer, consumed } => {
                let consumed = before + consumed;
                return Ok(AcceptorStep::Accepted { identity, answer, consumed });
            }
        }
    }
    Ok(AcceptorStep::Incomplete)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*bytes[at..].first_chunk().expect("within the message"))
}

/// Every rule by which a dialler is let in, read from the message's bytes as the page on the
/// protocol lays them out.
fn may_be_let_in(hello: &[u8]) -> bool {
    let node_id = hello[14];
    let incarnation = u128::from_le_bytes(*hello[24..].first_chunk().expect("within"));
    let boot_epoch = u32::from_le_bytes(*hello[40..].first_chunk().expect("within"));
    let is_follower = u16_at(hello, 50) > 0;
    let is_itself = match remembered(node_id) {
        _ if is_follower => node_id > 2,
        Remembered::Unknown => false,
        Remembered::NeverMet => true,
        Remembered::Met { incarnation: known, boot_epoch: seen } => {
            let generation = |epoch| BootEpoch(epoch).generation();
            incarnation == known && boot_epoch >= seen
                || incarnation != known && generation(boot_epoch) > generation(seen)
        }
    };
    hello[..9] == *b"CERTPEER\x01"
        && (u16_at(hello, 10)..=u16_at(hello, 12)).contains(&1)
        && hello[16..24] == 0xC1_u64.to_le_bytes()
        && (hello[9], hello[15]) == (3, 2)
        && node_id != 2
        && is_itself
        && u16_at(hello, 46) < u16_at(hello, 44)
        && (u16_at(hello, 48) < 4 || u16_at(hello, 48) == ANY_CORE)
}

fn is_sealed(message: &[u8]) -> bool {
    message[52..HANDSHAKE_SIZE] == crc32fast::hash(&message[..52]).to_le_bytes()
}

fn check_acceptor(accept: Accept, plan: &Plan, tally: &mut Tally) {
    let bytes = plan.input(&Handshakes, &samples(), made_hello);
    let (step, held) = peak(|| accept(&[&bytes]));
    assert_eq!(held, 0, "a handshake takes no memory");
    assert_eq!(accept(&plan.pieces(&bytes)), step, "in pieces");
    match step {
        Ok(AcceptorStep::Incomplete) => {
            assert!(bytes.len() < HANDSHAKE_SIZE);
            tally.count(&"Incomplete");
        }
        Ok(AcceptorStep::Accepted { identity, answer, consumed }) => {
            assert_eq!(consumed, HANDSHAKE_SIZE);
            assert!(may_be_let_in(&bytes) && is_sealed(&bytes), "{identity:?}");
            check_answer(&bytes, identity, &answer);
            tally.count(&"Accepted");
        }
        Err(failure) => {
            let is_good = bytes.len() >= HANDSHAKE_SIZE && is_sealed(&bytes);
            assert!(!is_good || !may_be_let_in(&bytes), "kept out: {failure}");
            assert!(failure.to_string().len() > 20);
            if let Some(answer) = failure.answer() {
                let AcceptorFailure::Refused(refusal) = failure else {
                    panic!("an answer to {failure}");
                };
                let told = dial(&[&answer]);
                assert_eq!(told, Err(DiallerFailure::RefusedByPeer(refusal)), "both say the same");
                tally.count(&refusal);
            } else {
                tally.count(&"Invalid");
            }
        }
    }
}

/// The dialler that said `hello` accepts the answer, and both sides agree on who they are.
fn check_answer(hello: &[u8], identity: PeerIdentity, answer: &[u8]) {
    let local = LocalNode {
        boot_epoch: identity.boot_epoch,
        incarnation: identity.incarnation,
        core_count: identity.core_count,
        core: identity.core,
        role: identity.role,
        ..node(identity.node_id)
    };
    let target = Target { node_id: 2, core: u16_at(hello, 48) };
    let mut dialler = HandshakeDialler::new(local, target);
    let step = dialler.handle_bytes(answer, |node_id| {
        assert_eq!(node_id, 2);
        Remembered::NeverMet
    });
    let Ok(DiallerStep::Accepted { identity: other, consumed }) = step else {
        panic!("the dialler says {step:?}");
    };
    assert_eq!(consumed, HANDSHAKE_SIZE);
    assert_eq!((other.node_id, other.version), (2, identity.version));
    assert_eq!((other.local_core, other.core), (identity.core, identity.local_core));
    assert_eq!((other.incarnation, other.core_count), (node(2).incarnation, 4));
}

#[test]
fn fuzz_handshake_acceptor() {
    fuzz!(100_000, |plan, tally| check_acceptor(accept, plan, tally), |tally| {
        tally.expect(1000, &["Incomplete", "Accepted", "Invalid"]);
        let rare = ["Version", "Cluster", "WrongReceiver", "OwnId", "UnknownNode", "Replicas"];
        tally.expect(20, &rare);
        tally.expect(20, &["Incarnation", "BootEpoch", "ReceiverCore", "PeerCore"]);
    });
}

#[test]
fn an_acceptor_that_is_wrong_is_found() {
    let fails = |accept: Accept| fails(3000, |plan, tally| check_acceptor(accept, plan, tally));
    // Takes more than the handshake.
    assert!(fails(|pieces| {
        let mut step = accept(pieces);
        if let Ok(AcceptorStep::Accepted { consumed, .. }) = &mut step {
            *consumed = pieces.iter().map(|piece| piece.len()).sum();
        }
        step
    }));
    // Lets in whoever has another number of replicas.
    assert!(fails(|pieces| match accept(pieces) {
        Err(AcceptorFailure::Refused(Refusal::Replicas { .. })) => {
            let mut hello = pieces.concat();
            hello[9] = 3;
            Handshakes.repair(&mut hello);
            accept(&[&hello])
        }
        step => step,
    }));
    // Does not go on where the piece before ended.
    assert!(fails(|pieces| {
        let mut last = Ok(AcceptorStep::Incomplete);
        for piece in pieces {
            last = accept(&[piece]);
        }
        last
    }));
}

type Dialled = Result<DiallerStep, DiallerFailure>;
type Dial = fn(&[&[u8]]) -> Dialled;

/// A dialler on node 0 that means core 3 of node 2.
fn dial(pieces: &[&[u8]]) -> Dialled {
    let mut dialler = HandshakeDialler::new(node(0), Target { node_id: 2, core: 3 });
    let mut before = 0;
    for piece in pieces {
        let step = dialler.handle_bytes(piece, remembered).map_err(|failure| match failure {
            DiallerFailure::Invalid(error) => DiallerFailure::Invalid(without_words(error)),
            failure => failure,
        });
        match step? {
            DiallerStep::Incomplete => before += piece.len(),
            DiallerStep::Accepted { identity, consumed } => {
                return Ok(DiallerStep::Accepted { identity, consumed: before + consumed });
            }
        }
    }
    Ok(DiallerStep::Incomplete)
}

fn check_dialler(dial: Dial, plan: &Plan, tally: &mut Tally) {
    let made = |random: &mut Random| match random.below(3) {
        0 => made_refusal(random).encode().to_vec(),
        _ => made_welcome(random),
    };
    let bytes = plan.input(&Handshakes, &samples(), made);
    let (step, held) = peak(|| dial(&[&bytes]));
    assert_eq!(held, 0, "a handshake takes no memory");
    assert_eq!(dial(&plan.pieces(&bytes)), step, "in pieces");
    match step {
        Ok(DiallerStep::Incomplete) => {
            assert!(bytes.len() < HANDSHAKE_SIZE);
            tally.count(&"Incomplete");
        }
        Ok(DiallerStep::Accepted { identity, consumed }) => {
            let welcome = Welcome {
                version: 1,
                node_id: 2,
                incarnation: identity.incarnation,
                boot_epoch: identity.boot_epoch,
                core_count: identity.core_count,
                core: 3,
            };
            // Another incarnation than the one known has to be of a later generation.
            let generation = BootEpoch(identity.boot_epoch).generation();
            let is_itself = identity.incarnation == node(2).incarnation;
            assert!(is_itself || generation > BootEpoch(5).generation());
            assert!(identity.boot_epoch >= 5 && identity.core_count > 3 && is_sealed(&bytes));
            assert_eq!((consumed, identity.local_core), (HANDSHAKE_SIZE, 1));
            // Reserved bytes are free for later versions: all else is what was encoded.
            let expected = welcome.encode();
            let fields = [0..20, 24..40];
            assert!(fields.into_iter().all(|field| bytes[field.clone()] == expected[field]));
            tally.count(&"Accepted");
        }
        Err(DiallerFailure::RefusedByPeer(refusal)) => {
            let again = dial(&[&refusal.encode()]);
            assert_eq!(again, Err(DiallerFailure::RefusedByPeer(refusal)), "said again");
            assert!(refusal.to_string().len() > 20);
            tally.count(&refusal);
        }
        Err(failure) => tally.count(&failure),
    }
}

#[test]
fn fuzz_handshake_dialler() {
    fuzz!(100_000, |plan, tally| check_dialler(dial, plan, tally), |tally| {
        tally.expect(1000, &["Incomplete", "Accepted", "Invalid", "Refused"]);
        tally.expect(100, &["Version", "Cluster", "Incarnation", "OtherCore", "Unnamed"]);
    });
}

#[test]
fn a_dialler_that_is_wrong_is_found() {
    let fails = |dial: Dial| fails(3000, |plan, tally| check_dialler(dial, plan, tally));
    // Takes any core that answers.
    assert!(fails(|pieces| match dial(pieces) {
        Err(DiallerFailure::Refused(Refusal::OtherCore { .. })) => {
            let mut dialler = HandshakeDialler::new(node(0), Target { node_id: 2, core: ANY_CORE });
            dialler.handle_bytes(&pieces.concat(), remembered)
        }
        step => step,
    }));
    // Reads another reason than the one that was given.
    assert!(fails(|pieces| match dial(pieces) {
        Err(DiallerFailure::RefusedByPeer(Refusal::ReceiverCore { core, core_count })) => {
            let turned = Refusal::ReceiverCore { core: core_count, core_count: core };
            Err(DiallerFailure::RefusedByPeer(turned))
        }
        step => step,
    }));
}

#[test]
fn a_refusal_reads_back_as_it_was_given() {
    let mut random = Random(5);
    for _ in 0..2000 {
        let refusal = made_refusal(&mut random);
        assert_eq!(dial(&[&refusal.encode()]), Err(DiallerFailure::RefusedByPeer(refusal)));
    }
}
