//! Tests of [`crate::resp_client`], apart from it because the process tests use that file too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use net::resp::value::Value;

use crate::resp_client::{ClientError, RespClient, resolve};

#[test]
fn a_reply_in_pieces_is_put_together_and_the_next_one_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut command = [0; 14];
        stream.read_exact(&mut command).unwrap();
        for piece in [&b"$5\r\nhe"[..], b"llo\r\n:7\r\n-ER", b"R no\r\n"] {
            stream.write_all(piece).unwrap();
            stream.flush().unwrap();
        }
        command
    });
    let mut client = RespClient::connect(address, Duration::from_secs(20)).unwrap();
    assert_eq!(client.ask(&["PING"]).unwrap(), Value::bulk("hello"));
    assert_eq!(client.receive().unwrap(), Value::Integer(7));
    assert!(client.receive().unwrap().is_error());
    assert_eq!(&server.join().unwrap(), b"*1\r\n$4\r\nPING\r\n");
    assert!(matches!(client.receive(), Err(ClientError::Io(_))), "the server is gone");
}

#[test]
fn what_is_no_address_is_said_to_be_none() {
    let error = resolve("127.0.0.1").unwrap_err();
    assert!(error.to_string().contains("HOST:PORT"), "{error}");
}
