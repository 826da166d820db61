//! Opens clients and servers of either transport.

use std::{io, net::SocketAddr, time::Duration};

use super::{
    Api, Client, Pipeline, Protocol, Responder, Settings,
    homa_udp::{self, HomaClient},
    tcp,
};
use crate::error::CliError;

/// A client of `server` for one call at a time.
pub(crate) fn connect(
    protocol: Protocol,
    server: SocketAddr,
    settings: &Settings,
) -> Result<Box<dyn Client>, CliError> {
    foreign(protocol)?;
    Ok(match protocol {
        Protocol::Tcp => Box::new(tcp::blocking::BlockingClient::connect(server, settings)?),
        _ => Box::new(HomaClient::new(protocol, &[server], settings, None)?),
    })
}

/// A client for many calls at a time to several servers, of which TCP knows the first only; Homa
/// gives calls up after `timeout`.
pub(crate) fn connect_all(
    protocol: Protocol,
    servers: &[SocketAddr],
    settings: &Settings,
    timeout: Option<Duration>,
) -> Result<Box<dyn Pipeline>, CliError> {
    foreign(protocol)?;
    Ok(match (protocol, servers) {
        (Protocol::Tcp, [first, ..]) => Box::new(tcp::event::Connections::open(*first, settings)?),
        _ => Box::new(HomaClient::new(protocol, servers, settings, timeout)?),
    })
}

/// Refuses what another program speaks.
fn foreign(protocol: Protocol) -> Result<(), CliError> {
    match protocol.is_peer() {
        true => {
            Err(CliError::Transport(format!("{} is spoken by homa-bench-peers", protocol.name())))
        }
        false => Ok(()),
    }
}

/// A server that has its address but serves nobody yet.
pub(crate) struct Bound {
    /// The address it has.
    pub address: SocketAddr,
    /// Serves for ever; each reply leaves so long after its request arrived (not with
    /// [`Api::Tokio`] and [`Api::Blocking`] over TCP, which only the benchmark uses).
    pub serve: Serve,
}

type Serve = Box<dyn FnOnce(&Responder, Duration) -> Result<(), CliError> + Send>;

/// Takes an address to serve at.
pub(crate) fn bind(
    protocol: Protocol,
    api: Api,
    address: SocketAddr,
    settings: &Settings,
) -> Result<Bound, CliError> {
    foreign(protocol)?;
    let tokio_failed = |error: io::Error| CliError::io("tokio", &error);
    if protocol != Protocol::Tcp {
        let endpoint = homa_udp::bind(protocol, address, settings)?;
        let address = endpoint.local_addr();
        let serve: Serve = Box::new(move |responder, delay| match api {
            Api::Tokio => {
                run_tokio(homa_udp::serve_tokio(&endpoint, responder))?.map_err(tokio_failed)
            }
            Api::Blocking | Api::Event => homa_udp::serve(&endpoint, responder, delay),
        });
        return Ok(Bound { address, serve });
    }
    let listener = tcp::listen(address, settings)?;
    let address = listener.local_addr().map_err(|error| CliError::io("socket", &error))?;
    let settings = settings.clone();
    let serve: Serve = Box::new(move |responder, delay| match api {
        Api::Blocking => tcp::blocking::serve(&listener, &settings, responder),
        Api::Event => tcp::event::serve(listener, &settings, responder, delay),
        Api::Tokio => run_tokio(tcp::tokio_api::serve(listener, responder))?.map_err(tokio_failed),
    });
    Ok(Bound { address, serve })
}

/// Runs a future on a current-thread runtime of its own.
pub(crate) fn run_tokio<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("tokio", &error))?;
    Ok(runtime.block_on(future))
}
