//! What several tests need.
#![allow(dead_code, reason = "not every test file uses everything")]
#![allow(unused_imports, reason = "not every test file uses everything")]

pub(crate) mod craft;
pub(crate) mod raw;
pub(crate) mod routed;
mod world;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use homa_transport::{BindError, Config, Endpoint, EndpointBuilder};

pub(crate) use world::{
    address, any_address, at, at_client, at_server, is_raw, new_host, second_server_ip,
    send_garbage, server_ip, server_ip_of_each_version, spawn_at_client, spawn_at_server,
    unused_address,
};

/// Asserts that a call fails with an error of this kind that names this server, which is returned.
#[allow(unused_macros, reason = "not every test file uses everything")]
macro_rules! assert_fails {
    ($result:expr, $expected:pat, $server:expr) => {{
        let error = $result.unwrap_err();
        assert!(matches!(error.kind(), $expected), "{error:?}");
        assert_eq!(error.server(), Some($server));
        error
    }};
}
pub(crate) use assert_fails;

/// The error of a call to a port that nobody serves. On a busy machine the request is asked about
/// before the refusal comes: then it might have been executed.
#[allow(unused_macros, reason = "not every test file uses everything")]
macro_rules! nobody_serves {
    () => {
        homa_transport::CallErrorKind::NoService | homa_transport::CallErrorKind::ServiceGone
    };
}
#[allow(unused_imports, reason = "not every test file uses everything")]
pub(crate) use nobody_serves;

/// When something that happens at once has happened at the latest, however busy the machine is.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Settings of an endpoint, with the carriage that this binary tests. Peers that are only kept from
/// running by others on the machine do not count as dead.
pub(crate) fn builder() -> EndpointBuilder {
    let config = Config::default().with(|config| config.recovery.timeout = Duration::from_secs(10));
    EndpointBuilder::new()
        .config(config)
        .carriage(world::carriage())
        .tcp_encapsulated(world::is_tcp_form())
}

/// An endpoint that serves where servers are.
pub(crate) fn bind() -> Endpoint {
    bind_with(|builder| builder)
}

/// The same with other settings.
pub(crate) fn bind_with(set: impl FnOnce(EndpointBuilder) -> EndpointBuilder + Send) -> Endpoint {
    at_server(|| set(builder()).bind(address())).unwrap()
}

/// An endpoint that serves at this address, if it can be had.
pub(crate) fn bind_at(address: impl ToSocketAddrs + Send) -> Result<Endpoint, BindError> {
    at_server(|| builder().bind(address))
}

/// An endpoint that only calls, where clients are.
pub(crate) fn client() -> Endpoint {
    client_with(|builder| builder)
}

/// The same with other settings.
pub(crate) fn client_with(set: impl FnOnce(EndpointBuilder) -> EndpointBuilder + Send) -> Endpoint {
    at_client(|| set(builder()).client()).unwrap()
}

/// Over raw IP a peer counts as a Linux host until it has said that it is not, which this brings
/// about: then the extensions (long messages, reasons, cancelling) are there as they always are
/// over UDP.
pub(crate) fn acquaint(client: &Endpoint, server: &Endpoint) {
    acquaint_by(client, server, || server.accept().wait().unwrap().reply("hello").wait().unwrap());
}

/// The same with a server that takes requests in its own way.
pub(crate) fn acquaint_by(client: &Endpoint, server: &Endpoint, answer: impl FnOnce() + Send) {
    if is_raw() {
        std::thread::scope(|scope| {
            scope.spawn(answer);
            assert_eq!(client.call(server.local_addr(), "hello").wait().unwrap(), "hello");
        });
    }
}

/// Bytes of which none repeats at a distance that a packet boundary could hide.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Answers every request with its own bytes, in a thread of its own, until the test ends.
pub(crate) fn serve_echo(server: Endpoint) {
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            let answer = request.body().clone();
            // The client may have given up.
            let _ = request.reply(answer).wait();
        }
    });
}

/// A runtime of one thread.
#[cfg(feature = "tokio")]
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// An echo server and where it is.
pub(crate) fn echo_server(address: impl ToSocketAddrs + Send) -> SocketAddr {
    let server = bind_at(address).unwrap();
    let address = server.local_addr();
    serve_echo(server);
    address
}
