//! Opens clients and servers of either transport.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use super::{Api, Client, Protocol, Responder, Settings, tcp};
use crate::error::CliError;

/// A client for calls that go to `server`.
///
/// [`Api::Tokio`] is not for this: its loops are written with `async`.
pub(crate) fn connect(
    protocol: Protocol,
    api: Api,
    server: SocketAddr,
    settings: &Settings,
) -> Result<Box<dyn Client>, CliError> {
    match (protocol, api) {
        (Protocol::Tcp, Api::Blocking) => Ok(Box::new(tcp::blocking::BlockingClient::connect(
            server, settings,
        )?)),
        (Protocol::Tcp, _) => Ok(Box::new(tcp::event_client::EventClient::connect(
            server, settings,
        )?)),
        (Protocol::HomaUdp, _) => Err(not_built()),
    }
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
            let listener = tcp::socket::listen(address)?;
            let address = listener
                .local_addr()
                .map_err(|error| CliError::io("socket", &error))?;
            Ok(Bound {
                address,
                listener: Listener::Tcp(listener),
                api,
                settings: settings.clone(),
            })
        }
        Protocol::HomaUdp => Err(not_built()),
    }
}

impl Bound {
    /// Serves for ever; each reply leaves `delay` after its request arrived (not with [`Api::Tokio`] and
    /// [`Api::Blocking`], which only the benchmark uses).
    pub(crate) fn serve(self, responder: &Responder, delay: Duration) -> Result<(), CliError> {
        let Listener::Tcp(listener) = self.listener;
        match self.api {
            Api::Blocking => tcp::blocking::serve(&listener, &self.settings, responder),
            Api::Event => tcp::event_server::serve(listener, &self.settings, responder, delay),
            Api::Tokio => run_tokio(tcp::tokio_api::serve(listener, &self.settings, responder)),
        }
    }
}

/// Runs a future on a current-thread runtime of its own.
pub(crate) fn run_tokio<T>(
    future: impl Future<Output = std::io::Result<T>>,
) -> Result<T, CliError> {
    let failed = |error: std::io::Error| CliError::io("tokio", &error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(future).map_err(failed)
}

fn not_built() -> CliError {
    CliError::Transport("homa-udp is not yet built".to_owned())
}
