//! Homa: one endpoint that calls and serves, on a runtime of one thread.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use homa_transport::{Endpoint, EndpointBuilder};

use super::{
    mesh::{Counters, Ended, Mesh},
    tasks::Tasks,
};
use crate::{
    spec::{HostSpec, Reply},
    transport::{Carriage, Transport},
};

/// A host that speaks Homa.
#[derive(Debug)]
pub(crate) struct HomaMesh {
    tasks: Tasks,
    endpoint: Endpoint,
    servers: Vec<SocketAddr>,
    payload: Bytes,
}

impl HomaMesh {
    /// Binds and serves as the specification says.
    pub(crate) fn new(spec: &HostSpec) -> io::Result<Self> {
        let tasks = Tasks::new()?;
        let endpoint = builder(spec)?.bind((spec.listen, spec.port))?;
        tasks.spawn(serve(endpoint.clone(), Server::new(spec)));
        Ok(HomaMesh {
            tasks,
            endpoint,
            servers: Vec::new(),
            payload: vec![0x5a; spec.message_bytes_max as usize].into(),
        })
    }
}

impl Mesh for HomaMesh {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        self.servers = servers.to_vec();
        // Without connections; a first call makes the peers known to each other (incarnations,
        // cutoffs).
        for server in servers {
            let call = self.endpoint.call(*server, self.payload.slice(..1));
            self.tasks.wait_for(timeout, async { Ok(call.await?) })?;
        }
        Ok(())
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        let server = *self.servers.get(server).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let body = self.payload.slice(..bytes.min(self.payload.len()));
        let call = self.endpoint.call(server, body).start();
        self.tasks.start(token, async move { call.await.is_ok() });
        Ok(())
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        self.tasks.poll(until, ended)
    }

    fn counters(&self) -> Counters {
        let stats = self.endpoint.stats();
        let engine = stats.engine;
        Counters {
            retransmitted_bytes: engine.bytes_retransmitted,
            retransmitted_packets: 0,
            dropped_by_system: stats.dropped_by_system,
            named: engine.counters().map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }
}

fn builder(spec: &HostSpec) -> io::Result<EndpointBuilder> {
    let Transport::Homa(carriage) = &spec.transport else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let carriage = match carriage {
        Carriage::Udp => homa_transport::Carriage::Udp,
        Carriage::Ip => homa_transport::Carriage::Ip,
    };
    // The hosts of a lab share few cores: one that looks for packets keeps another from running.
    Ok(EndpointBuilder::new()
        .carriage(carriage)
        // It would cost TCP time, which is compared with.
        .tcp_understood(false)
        .config(spec.homa.clone())
        .spin(Duration::ZERO)
        .linger(Duration::ZERO))
}

/// How requests are answered.
struct Server {
    reply: Reply,
    short: Bytes,
    service: Duration,
}

impl Server {
    fn new(spec: &HostSpec) -> Self {
        let short = match spec.reply {
            Reply::Echo => Bytes::new(),
            Reply::Bytes(bytes) => vec![0xa5; bytes.min(spec.message_bytes_max) as usize].into(),
        };
        Server { reply: spec.reply, short, service: Duration::from_micros(spec.service_us) }
    }
}

async fn serve(endpoint: Endpoint, server: Server) {
    while let Ok(mut request) = endpoint.accept().await {
        if !server.service.is_zero() {
            tokio::time::sleep(server.service).await;
        }
        let body = request.take_body();
        // A client that gave up needs no answer.
        let _ = match server.reply {
            Reply::Echo => request.reply(body).await,
            Reply::Bytes(_) => request.reply(server.short.clone()).await,
        };
    }
}
