//! Opens clients and servers of either transport.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

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
    Ok(match (protocol, servers) {
        (Protocol::Tcp, [first, ..]) => Box::new(tcp::event::Connections::open(*first, settings)?),
        _ => Box::new(HomaClient::new(protocol, servers, settings, timeout)?),
    })
}

/// A server that has its address but serves nobody yet.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address it has.
    pub address: SocketAddr,
    listener: Listener,
    api: Api,
    settings: Settings,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Homa(homa_transport::blocking::Endpoint),
}

/// Takes an address to serve at.
pub(crate) fn bind(
    protocol: Protocol,
    api: Api,
    address: SocketAddr,
    settings: &Settings,
) -> Result<Bound, CliError> {
    match protocol {
        Protocol::Tcp => {
            let listener = tcp::listen(address, settings)?;
            let address = listener.local_addr().map_err(|error| CliError::io("socket", &error))?;
            Ok(Bound {
                address,
                listener: Listener::Tcp(listener),
                api,
                settings: settings.clone(),
            })
        }
        Protocol::HomaUdp | Protocol::HomaIp | Protocol::HomaIpTcp => {
            let endpoint = homa_udp::bind(protocol, address, settings)?;
            let address = endpoint.local_addr();
            Ok(Bound {
                address,
                listener: Listener::Homa(endpoint),
                api,
                settings: settings.clone(),
            })
        }
    }
}

impl Bound {
    /// Serves for ever; each reply leaves `delay` after its request arrived (not with
    /// [`Api::Tokio`] and [`Api::Blocking`], which only the benchmark uses).
    pub(crate) fn serve(self, responder: &Responder, delay: Duration) -> Result<(), CliError> {
        let failed = |error: std::io::Error| CliError::io("tokio", &error);
        match (self.listener, self.api) {
            (Listener::Tcp(listener), Api::Blocking) => {
                tcp::blocking::serve(&listener, &self.settings, responder)
            }
            (Listener::Tcp(listener), Api::Event) => {
                tcp::event::serve(listener, &self.settings, responder, delay)
            }
            (Listener::Tcp(listener), Api::Tokio) => {
                run_tokio(tcp::tokio_api::serve(listener, responder))?.map_err(failed)
            }
            (Listener::Homa(endpoint), Api::Tokio) => {
                let endpoint = endpoint.to_async();
                run_tokio(homa_udp::serve_tokio(&endpoint, responder))?.map_err(failed)
            }
            (Listener::Homa(endpoint), _) => homa_udp::serve(&endpoint, responder, delay),
        }
    }
}

/// Runs a future on a current-thread runtime of its own.
pub(crate) fn run_tokio<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::io("tokio", &error))?;
    Ok(runtime.block_on(future))
}
