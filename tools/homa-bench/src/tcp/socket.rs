//! TCP sockets with the options both sides use.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use homa_sys::set_tcp_congestion;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A listening socket; the connections it accepts have this congestion control, if not the
/// system's.
///
/// # Errors
/// The address cannot be taken, the congestion control not be used.
pub fn listen(address: SocketAddr, congestion: Option<&str>) -> io::Result<TcpListener> {
    let socket = open(address, congestion)?;
    // Connections of a server that ended must not keep its successor out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection to a server without Nagle's algorithm.
///
/// # Errors
/// The server cannot be reached within `timeout`, the congestion control not be used.
pub fn connect(
    address: SocketAddr,
    congestion: Option<&str>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = open(address, congestion)?;
    socket.connect_timeout(&address.into(), timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn open(address: SocketAddr, congestion: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(name) = congestion {
        set_tcp_congestion(&socket, name).map_err(|error| {
            io::Error::new(error.kind(), format!("congestion control `{name}`: {error}"))
        })?;
    }
    Ok(socket)
}
