//! The competitor, in each way in which programs use it.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use homa_bench::tcp::socket;

use super::Settings;
use crate::error::CliError;

pub(crate) mod blocking;
pub(crate) mod event;
pub(crate) mod tasks;
pub(crate) mod tokio_api;

/// How long a client tries to reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A listening socket.
pub(crate) fn listen(address: SocketAddr, settings: &Settings) -> Result<TcpListener, CliError> {
    socket::listen(address, settings.congestion_control.as_deref())
        .map_err(|source| CliError::Bind { address, protocol: "tcp", source })
}

/// A connection to a server.
fn connect(address: SocketAddr, settings: &Settings) -> Result<TcpStream, CliError> {
    socket::connect(address, settings.congestion_control.as_deref(), CONNECT_TIMEOUT)
        .map_err(|source| CliError::Connect { address, protocol: "tcp", source })
}
