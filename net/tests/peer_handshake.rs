//! Handshakes: whom a node talks to, and in which words it refuses the others.

mod random;

use net::peer::handshake::{
    ANY_CORE, AcceptorFailure, AcceptorStep, DiallerFailure, DiallerStep, HANDSHAKE_SIZE,
    HandshakeAcceptor, HandshakeDialler, HandshakeError, Hello, LocalNode, PeerIdentity, Refusal,
    Remembered, Role, Target, Welcome,
};
use random::Random;

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

fn met(node: &LocalNode) -> Remembered {
    Remembered::Met { incarnation: node.incarnation, boot_epoch: node.boot_epoch }
}

fn hello() -> Hello {
    Hello { version_min: 1, version_max: 1, sender: node(0), receiver_node_id: 2, receiver_core: 3 }
}

fn welcome() -> Welcome {
    let node = node(2);
    Welcome {
        version: 1,
        node_id: 2,
        incarnation: node.incarnation,
        boot_epoch: node.boot_epoch,
        core_count: 4,
        core: 3,
    }
}

/// What node 2 answers.
fn answer_to(hello: &Hello, remembered: Remembered) -> Result<AcceptorStep, AcceptorFailure> {
    HandshakeAcceptor::new(node(2)).handle_bytes(&hello.encode(), |_| remembered)
}

fn refusal_of(hello: &Hello, remembered: Remembered) -> Refusal {
    match answer_to(hello, remembered) {
        Err(AcceptorFailure::Refused(refusal)) => refusal,
        other => panic!("{hello:?} gave {other:?}"),
    }
}

/// A dialler on node 0 that means core 3 of node 2.
fn dialler() -> HandshakeDialler {
    HandshakeDialler::new(node(0), Target { node_id: 2, core: 3 })
}

fn verdict_on(welcome: &Welcome, remembered: Remembered) -> Result<DiallerStep, DiallerFailure> {
    dialler().handle_bytes(&welcome.encode(), |_| remembered)
}

#[test]
fn two_nodes_get_to_know_each_other_however_the_bytes_are_cut() {
    for cut in 0..HANDSHAKE_SIZE {
        let mut acceptor = HandshakeAcceptor::new(node(2));
        let mut dialler = dialler();
        let hello = dialler.hello();
        assert_eq!(
            acceptor.handle_bytes(&hello[..cut], |_| panic!("too early")),
            Ok(AcceptorStep::Incomplete)
        );
        let mut rest = hello[cut..].to_vec();
        rest.extend_from_slice(b"first frame");
        let step = acceptor.handle_bytes(&rest, |node_id| {
            assert_eq!(node_id, 0);
            Remembered::NeverMet
        });
        let Ok(AcceptorStep::Accepted { identity, answer, consumed }) = step else {
            panic!("{step:?}");
        };
        assert_eq!(consumed, HANDSHAKE_SIZE - cut, "what follows belongs to the first frame");
        let dialling = PeerIdentity {
            version: 1,
            node_id: 0,
            incarnation: node(0).incarnation,
            boot_epoch: 5,
            core_count: 4,
            core: 1,
            local_core: 3,
            role: Role::Replica,
        };
        assert_eq!(identity, dialling);

        assert_eq!(
            dialler.handle_bytes(&answer[..cut], |_| panic!("too early")),
            Ok(DiallerStep::Incomplete)
        );
        let step = dialler.handle_bytes(&answer[cut..], |_| met(&node(2)));
        let accepting = PeerIdentity {
            version: 1,
            node_id: 2,
            incarnation: node(2).incarnation,
            boot_epoch: 5,
            core_count: 4,
            core: 3,
            local_core: 1,
            role: Role::Replica,
        };
        let consumed = HANDSHAKE_SIZE - cut;
        assert_eq!(step, Ok(DiallerStep::Accepted { identity: accepting, consumed }));
    }
}

#[test]
fn a_dialler_that_wants_any_core_gets_the_one_that_accepted() {
    let mut dialler = HandshakeDialler::new(node(0), Target { node_id: 2, core: ANY_CORE });
    let step = HandshakeAcceptor::new(node(2))
        .handle_bytes(&dialler.hello(), |_| Remembered::NeverMet)
        .expect("nothing is wrong");
    let AcceptorStep::Accepted { identity, answer, .. } = step else { panic!("{step:?}") };
    assert_eq!(identity.local_core, 1);
    let step = dialler.handle_bytes(&answer, |_| Remembered::NeverMet).expect("nothing is wrong");
    let DiallerStep::Accepted { identity, .. } = step else { panic!("{step:?}") };
    assert_eq!((identity.core, identity.core_count), (1, 4));
}

#[test]
fn every_refusal_arrives_as_it_was_meant_and_is_a_sentence_with_a_remedy() {
    let refusals = [
        Refusal::Version { dialler_min: 2, dialler_max: 3, acceptor_min: 4, acceptor_max: 65_535 },
        Refusal::Cluster { expected: u64::MAX, got: 7 },
        Refusal::WrongReceiver { wanted: 1, actual: 2 },
        Refusal::OwnId { node_id: 255 },
        Refusal::UnknownNode { node_id: 9 },
        Refusal::Replicas { expected: 3, got: 5 },
        Refusal::Incarnation { node_id: 2, remembered: u128::MAX, got: 1 << 90, generation: 3 },
        Refusal::BootEpoch { node_id: 2, seen: u32::MAX, got: 5 },
        Refusal::ReceiverCore { core: 8, core_count: 4 },
        Refusal::PeerCore { node_id: 1, core: 8, core_count: 4 },
        Refusal::OtherCore { node_id: 1, wanted: 8, actual: 4 },
        Refusal::FollowerId { node_id: 2, replicas: 5 },
        Refusal::NotAReplica { node_id: 17 },
        Refusal::TooManyFollowers { node_id: 17, max: 16 },
        Refusal::Membership { node_id: 2, changes: true },
        Refusal::Membership { node_id: 2, changes: false },
        Refusal::Unnamed { code: 200 },
    ];
    for refusal in refusals {
        let arrived = dialler().handle_bytes(&refusal.encode(), |_| Remembered::NeverMet);
        assert_eq!(arrived, Err(DiallerFailure::RefusedByPeer(refusal)));
        let text = refusal.to_string();
        assert!(text.ends_with('.') && text.contains(' '), "{text}");
        assert!(text.chars().next().is_some_and(char::is_uppercase), "{text}");
        assert!(text.matches(". ").count() >= 1, "what happened, then what to do: {text}");
    }
}

#[test]
fn the_acceptor_refuses_each_wrong_dialler() {
    let good = hello();
    let known = met(&node(0));
    assert!(matches!(answer_to(&good, known), Ok(AcceptorStep::Accepted { .. })));
    let sender = node(0);
    let cases = [
        (
            Hello { version_min: 2, version_max: 7, ..good },
            known,
            Refusal::Version { dialler_min: 2, dialler_max: 7, acceptor_min: 1, acceptor_max: 1 },
        ),
        (
            Hello { sender: LocalNode { cluster_id: 9, ..sender }, ..good },
            known,
            Refusal::Cluster { expected: 0xC1, got: 9 },
        ),
        (
            Hello { receiver_node_id: 1, ..good },
            known,
            Refusal::WrongReceiver { wanted: 1, actual: 2 },
        ),
        (
            Hello { sender: LocalNode { node_id: 2, ..sender }, ..good },
            known,
            Refusal::OwnId { node_id: 2 },
        ),
        (good, Remembered::Unknown, Refusal::UnknownNode { node_id: 0 }),
        (
            Hello { sender: LocalNode { replicas: 5, ..sender }, ..good },
            known,
            Refusal::Replicas { expected: 3, got: 5 },
        ),
        (
            good,
            Remembered::Met { incarnation: 77, boot_epoch: 1 },
            Refusal::Incarnation {
                node_id: 0,
                remembered: 77,
                got: sender.incarnation,
                generation: 0,
            },
        ),
        (
            good,
            Remembered::Met { incarnation: sender.incarnation, boot_epoch: 6 },
            Refusal::BootEpoch { node_id: 0, seen: 6, got: 5 },
        ),
        (
            Hello { sender: LocalNode { core: 4, ..sender }, ..good },
            known,
            Refusal::PeerCore { node_id: 0, core: 4, core_count: 4 },
        ),
        (
            Hello { receiver_core: 4, ..good },
            known,
            Refusal::ReceiverCore { core: 4, core_count: 4 },
        ),
    ];
    for (hello, remembered, refusal) in cases {
        assert_eq!(refusal_of(&hello, remembered), refusal);
        let failure = answer_to(&hello, remembered).expect_err("just refused");
        assert_eq!(failure.answer(), Some(refusal.encode()), "the dialler is told");
        assert_eq!(failure.to_string(), refusal.to_string());
    }
    let other = |boot_epoch| Remembered::Met { incarnation: 77, boot_epoch };
    let of = |generation: u32| (generation << 20) + 1;
    let replaced = |epoch| Hello { sender: LocalNode { boot_epoch: epoch, ..sender }, ..hello() };
    assert!(answer_to(&replaced(of(3)), other(of(3) - 1)).is_ok(), "of a later generation");
    for (known, said) in [(of(3), of(3) + 9), (of(4), of(3))] {
        let refusal = refusal_of(&replaced(said), other(known));
        let told = matches!(refusal, Refusal::Incarnation { generation, .. } if generation >= 3);
        assert!(told, "{refusal}");
    }
    let older = Remembered::Met { incarnation: sender.incarnation, boot_epoch: 4 };
    assert!(answer_to(&good, older).is_ok(), "a later boot of the same directory is welcome");
    let wide = Hello { version_min: 0, version_max: 9, ..good };
    assert!(answer_to(&wide, known).is_ok(), "one common version is enough");
}

#[test]
fn a_follower_is_let_in_by_replicas_alone_under_an_id_of_its_own_whatever_its_life() {
    let role = Role::Follower { peer_port: 7400 };
    let follower = LocalNode { node_id: 16, role, ..node(0) };
    let said = Hello { sender: follower, ..hello() };
    let step = HandshakeAcceptor::new(node(2))
        .handle_bytes(&said.encode(), |_| panic!("nothing is remembered of a follower"));
    let Ok(AcceptorStep::Accepted { identity, .. }) = step else { panic!("{step:?}") };
    assert_eq!((identity.node_id, identity.role), (16, role));
    for node_id in [0, 1] {
        let said = Hello { sender: LocalNode { node_id, ..follower }, ..said };
        let refusal = refusal_of(&said, Remembered::NeverMet);
        assert_eq!(refusal, Refusal::FollowerId { node_id, replicas: 3 });
    }
    let is_voter = Hello { sender: LocalNode { role: Role::Replica, ..follower }, ..said };
    let refusal = refusal_of(&is_voter, Remembered::Unknown);
    assert_eq!(refusal, Refusal::UnknownNode { node_id: 16 });
    let smaller = Hello { sender: LocalNode { replicas: 5, ..follower }, ..said };
    let refusal = refusal_of(&smaller, Remembered::Unknown);
    assert_eq!(refusal, Refusal::Replicas { expected: 3, got: 5 });
    let other = LocalNode { node_id: 17, ..follower };
    let to_other = Hello { receiver_node_id: 17, ..said };
    let step = HandshakeAcceptor::new(other)
        .handle_bytes(&to_other.encode(), |_| panic!("nothing is remembered of a follower"));
    let refusal = Refusal::NotAReplica { node_id: 17 };
    assert_eq!(step, Err(AcceptorFailure::Refused(refusal)));
}

#[test]
fn where_members_change_a_node_says_where_it_listens_and_nobody_else_is_let_in() {
    let member = |node_id: u8| {
        let role = Role::Member { peer_port: 7400 + u16::from(node_id) };
        LocalNode { replicas: 5, role, ..node(node_id) }
    };
    // The set has five slots, and three members: the fourth comes from somewhere.
    let said = Hello { sender: member(3), ..hello() };
    let judge = |said: &Hello, by: LocalNode| {
        HandshakeAcceptor::new(by).handle_bytes(&said.encode(), |_| Remembered::NeverMet)
    };
    let step = judge(&said, member(2));
    let Ok(AcceptorStep::Accepted { identity, .. }) = step else { panic!("{step:?}") };
    assert_eq!((identity.node_id, identity.role), (3, Role::Member { peer_port: 7403 }));
    let fixed = |node: LocalNode| LocalNode { role: Role::Replica, ..node };
    for (sender, by, changes) in
        [(member(3), fixed(member(2)), true), (fixed(member(3)), member(2), false)]
    {
        let refusal = Refusal::Membership { node_id: 3, changes };
        let step = judge(&Hello { sender, ..said }, by);
        assert_eq!(step, Err(AcceptorFailure::Refused(refusal)));
    }
    // Followers are let in by both.
    let role = Role::Follower { peer_port: 7416 };
    let follower = LocalNode { node_id: 16, role, ..member(3) };
    for by in [member(2), fixed(member(2))] {
        let step = judge(&Hello { sender: follower, ..said }, by);
        assert!(matches!(step, Ok(AcceptorStep::Accepted { .. })), "{step:?}");
    }
}

#[test]
fn the_dialler_refuses_each_wrong_acceptor() {
    let good = welcome();
    let known = met(&node(2));
    assert!(verdict_on(&good, known).is_ok());
    let cases = [
        (
            Welcome { version: 2, ..good },
            known,
            Refusal::Version { dialler_min: 1, dialler_max: 1, acceptor_min: 2, acceptor_max: 2 },
        ),
        (Welcome { node_id: 1, ..good }, known, Refusal::WrongReceiver { wanted: 2, actual: 1 }),
        (good, Remembered::Unknown, Refusal::UnknownNode { node_id: 2 }),
        (
            good,
            Remembered::Met { incarnation: 3, boot_epoch: 1 },
            Refusal::Incarnation {
                node_id: 2,
                remembered: 3,
                got: good.incarnation,
                generation: 0,
            },
        ),
        (
            good,
            Remembered::Met { incarnation: good.incarnation, boot_epoch: 6 },
            Refusal::BootEpoch { node_id: 2, seen: 6, got: 5 },
        ),
        (
            Welcome { core: 3, core_count: 3, ..good },
            known,
            Refusal::PeerCore { node_id: 2, core: 3, core_count: 3 },
        ),
        (
            Welcome { core: 2, ..good },
            known,
            Refusal::OtherCore { node_id: 2, wanted: 3, actual: 2 },
        ),
    ];
    for (welcome, remembered, refusal) in cases {
        assert_eq!(verdict_on(&welcome, remembered), Err(DiallerFailure::Refused(refusal)));
    }
}

#[test]
fn whoever_is_no_peer_is_seen_at_the_first_wrong_byte_and_not_answered() {
    let failure = HandshakeAcceptor::new(node(2))
        .handle_bytes(b"C", |_| panic!("too early"))
        .map(|step| assert_eq!(step, AcceptorStep::Incomplete));
    assert_eq!(failure, Ok(()));
    let mut acceptor = HandshakeAcceptor::new(node(2));
    let failure = acceptor.handle_bytes(b"*1\r\n$4\r\nPING\r\n", |_| panic!("too early"));
    let failure = failure.expect_err("a Redis client is no peer");
    assert_eq!(failure.answer(), None);
    let text = failure.to_string();
    assert!(text.contains(r#""*1\r\n$4\r\n""#) && text.contains("port"), "{text}");
    let failure = dialler().handle_bytes(b"-", |_| panic!("too early"));
    let got = *b"-\0\0\0\0\0\0\0";
    assert_eq!(
        failure,
        Err(DiallerFailure::Invalid(HandshakeError::NotAPeer { got, received: 1 }))
    );
}

#[test]
fn a_message_where_it_makes_no_sense_is_an_error() {
    let mut acceptor = HandshakeAcceptor::new(node(2));
    let failure = acceptor.handle_bytes(&welcome().encode(), |_| panic!("no hello"));
    let unexpected = |got| HandshakeError::UnexpectedKind { got };
    assert_eq!(failure, Err(AcceptorFailure::Invalid(unexpected(2))));
    let failure = dialler().handle_bytes(&hello().encode(), |_| panic!("no welcome"));
    assert_eq!(failure, Err(DiallerFailure::Invalid(unexpected(1))));
}

#[test]
fn every_flipped_bit_is_detected() {
    for (message, to_acceptor) in [(hello().encode(), true), (welcome().encode(), false)] {
        for bit in 0..HANDSHAKE_SIZE * 8 {
            let mut damaged = message;
            damaged[bit / 8] ^= 1 << (bit % 8);
            if to_acceptor {
                let failure =
                    HandshakeAcceptor::new(node(2)).handle_bytes(&damaged, |_| met(&node(0)));
                assert!(matches!(failure, Err(AcceptorFailure::Invalid(_))), "bit {bit}");
            } else {
                let failure = dialler().handle_bytes(&damaged, |_| met(&node(2)));
                assert!(matches!(failure, Err(DiallerFailure::Invalid(_))), "bit {bit}");
            }
        }
    }
}

#[test]
fn random_messages_under_a_right_checksum_never_panic() {
    let mut random = Random(5);
    for _ in 0..20_000 {
        let mut message = [0; HANDSHAKE_SIZE];
        message.fill_with(|| random.byte());
        message[..8].copy_from_slice(b"CERTPEER");
        message[8] = u8::try_from(random.below(5)).unwrap();
        let checksum = crc32fast::hash(&message[..52]);
        message[52..].copy_from_slice(&checksum.to_le_bytes());
        assert!(HandshakeAcceptor::new(node(2)).handle_bytes(&message, |_| met(&node(0))).is_err());
        assert!(dialler().handle_bytes(&message, |_| met(&node(2))).is_err());
    }
}

#[test]
fn the_layout_is_the_one_in_the_protocol_document() {
    let bytes = hello().encode();
    let text: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let document = include_str!("../../docs/PROTOCOL.md");
    for line in text.chunks(16) {
        assert!(document.contains(&line.join(" ")), "{}", text.join(" "));
    }
}
