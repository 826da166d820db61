//! TCP: one thread for all connections, as client and as server.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    mesh::{Counters, Ended, Mesh},
    snmp::snmp_counter,
};
use crate::{
    spec::HostSpec,
    tcp::{Answer, Host, Pace, Settings, Wait, Writes, socket},
    transport::Transport,
};

/// A host that speaks TCP.
pub(crate) struct TcpMesh {
    host: Host,
    address: SocketAddr,
    payload: Bytes,
}

impl TcpMesh {
    /// Binds and serves as the specification says.
    pub(crate) fn new(spec: &HostSpec) -> io::Result<Self> {
        let Transport::Tcp { congestion, connections } = &spec.transport else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let message_bytes_max = spec.message_bytes_max as usize;
        let settings = Settings {
            wait: Wait::Sleep,
            writes: Writes::Gathered,
            connections: *connections as usize,
            congestion: Some(congestion.clone()),
            message_bytes_max,
        };
        let pace = match Duration::from_micros(spec.service_us) {
            Duration::ZERO => Pace::AtOnce,
            time => Pace::OneByOne(time),
        };
        let payload = Bytes::from(vec![0x5a; message_bytes_max]);
        let (reply, content) = (spec.reply, payload.clone());
        let listen = SocketAddr::new(spec.listen, spec.port);
        let listener = socket::listen(listen, settings.congestion.as_deref())?;
        let address = listener.local_addr()?;
        let host = Host::server(listener, &settings, pace, move |request| {
            let bytes = reply.bytes(request.len() as u64) as usize;
            Answer::Bytes(content.slice(..bytes.min(content.len())))
        })?;
        Ok(TcpMesh { host, address, payload })
    }
}

impl Mesh for TcpMesh {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        servers.iter().try_for_each(|server| self.host.connect(*server, timeout))
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        self.host.start(token, server, &self.payload.slice(..bytes.min(self.payload.len())))
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        self.host.poll(until, &mut |token, reply| {
            ended.push(Ended { token, at: Instant::now(), reply: reply.is_some() });
        })?;
        // Its calls have failed; those over other connections go on.
        self.host.take_lost();
        Ok(())
    }

    fn counters(&self) -> Counters {
        Counters {
            retransmitted_packets: snmp_counter("Tcp", "RetransSegs"),
            ..Counters::default()
        }
    }
}
