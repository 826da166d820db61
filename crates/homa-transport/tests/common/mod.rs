//! What several tests need.
#![allow(dead_code, reason = "not every test file uses everything")]

use std::net::SocketAddr;

use homa::blocking::Endpoint;

/// Bytes of which none repeats at a distance that a packet boundary could hide.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Answers every request with its own bytes, in a thread of its own, until the test ends.
pub(crate) fn serve_echo(server: Endpoint) {
    std::thread::spawn(move || {
        while let Ok(Some(request)) = server.accept() {
            let answer = request.body().clone();
            // The client may have given up.
            let _ = request.reply(answer);
        }
    });
}

/// An echo server and where it is.
pub(crate) fn echo_server(address: &str) -> SocketAddr {
    let server = Endpoint::bind(address).unwrap();
    let address = server.local_addr();
    serve_echo(server);
    address
}
