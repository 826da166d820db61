//! TCP sockets with the options both sides use.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{error::CliError, transport::Settings};

/// How long a client tries to reach a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A listening socket.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of a server that ended must not keep its successor out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| CliError::Bind { address, protocol: "tcp", source })
}

/// A connection to a server, with the options of [`prepare`].
pub(crate) fn connect(address: SocketAddr, settings: &Settings) -> Result<TcpStream, CliError> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
        .map_err(|source| CliError::Connect { address, protocol: "tcp", source })?;
    // The server was reached: what goes wrong now is this side's.
    prepare(&stream, settings).map_err(|error| CliError::io("tcp", &error))?;
    Ok(stream)
}

/// Sets NODELAY and the congestion control of a connection, on either side.
pub(crate) fn prepare(stream: &TcpStream, settings: &Settings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(name) = &settings.congestion_control {
        SockRef::from(stream).set_tcp_congestion(name.as_bytes()).map_err(|error| {
            io::Error::new(error.kind(), format!("congestion control `{name}`: {error}"))
        })?;
    }
    Ok(())
}
