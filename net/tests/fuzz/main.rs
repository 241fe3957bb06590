//! Fuzz targets: frames and handshakes of peers, requests and replies of clients.

#[path = "../../../plog/tests/fuzzing/mod.rs"]
mod fuzzing;
mod handshakes;
mod messages;
mod peer_frames;
mod replies;
mod requests;
