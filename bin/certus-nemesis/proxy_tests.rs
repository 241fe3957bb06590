//! What a proxy's links do to what they carry, with a server that sends everything back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::proxy::{Proxy, Rule, Way};

/// A proxy before a server that sends back what it gets.
fn echo() -> (Proxy, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count) = stream.read(&mut bytes) {
                    if count == 0 || stream.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    // Somebody else may take a port between these two steps.
    (0..20)
        .find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let from = free.local_addr().unwrap();
            drop(free);
            Some((Proxy::start(&[Way { from, to }]).ok()?, from))
        })
        .expect("a free port")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A connection that has carried something both ways.
fn connect_and_ask(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_open_link_carries_everything_in_order() {
    let (_proxy, address) = echo();
    let mut stream = connect(address);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let thread = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received).unwrap();
    thread.join().unwrap();
    assert!(sent == received);
}

#[test]
fn a_stalled_link_holds_bytes_back_until_it_is_open() {
    let (proxy, address) = echo();
    let mut stream = connect_and_ask(address);
    let mut received = [0; 4];
    for rule in [Rule::Stall, Rule::StallAnswers] {
        let before = proxy.effects(&[0])[2];
        proxy.set(0, rule);
        wait_until("bytes to be withheld", || {
            let mut writer = &stream;
            writer.write_all(b"pong").unwrap();
            std::thread::sleep(Duration::from_millis(20));
            proxy.effects(&[0])[2] > before
        });
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while stream.read(&mut received).is_ok() {}
        proxy.set(0, Rule::Open);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read_exact(&mut received).unwrap();
    }
}

#[test]
fn a_garbled_link_changes_one_bit_of_each_connection() {
    let (proxy, address) = echo();
    proxy.set(0, Rule::Garble(1_000));
    let mut stream = connect(address);
    let mut received = vec![0; 2_000];
    for round in 0..3 {
        stream.write_all(&[0; 2_000]).unwrap();
        stream.read_exact(&mut received).unwrap();
        let ones: u32 = received.iter().map(|byte| byte.count_ones()).sum();
        assert!(round == 0 || ones == 0, "once");
    }
    assert_eq!(proxy.effects(&[0])[3], 1);
}

#[test]
fn a_cut_link_ends_connections_and_a_broken_one_ends_them_halfway() {
    let (proxy, address) = echo();
    let mut stream = connect_and_ask(address);
    let mut received = [0; 4];
    proxy.set(0, Rule::Cut);
    assert!(matches!(stream.read(&mut received), Ok(0) | Err(_)), "it is reset");
    wait_until("new ones to be refused", || {
        let mut stream = connect(address);
        drop(stream.write_all(b"ping"));
        stream.read_exact(&mut received).is_err() && proxy.effects(&[0])[0] > 1
    });
    proxy.set(0, Rule::Break(10));
    wait_until("a connection to break", || {
        let mut stream = connect(address);
        drop(stream.write_all(b"ping"));
        if stream.read_exact(&mut received).is_err() {
            return false;
        }
        drop(stream.write_all(b"twelve bytes"));
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        assert!(rest.len() < 12, "half of it at most: {rest:?}");
        proxy.effects(&[0])[1] > 0
    });
    proxy.set(0, Rule::Slow(2000));
    wait_until("bytes to be slow", || {
        let mut stream = connect(address);
        drop(stream.write_all(&[7; 1000]));
        drop(stream.read_exact(&mut [0; 1000]));
        proxy.effects(&[0])[2] > 0
    });
}
