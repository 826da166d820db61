//! Homa: one endpoint that calls and serves, on a runtime of one thread.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use homa::{Endpoint, EndpointBuilder};
use homa_sys::{TimerFd, monotonic_ns};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::mesh::{Counters, Ended, Mesh};
use crate::{
    spec::{HostSpec, Reply},
    transport::{Carriage, Transport},
};

/// A host that speaks Homa.
#[derive(Debug)]
pub(crate) struct HomaMesh {
    runtime: Runtime,
    endpoint: Endpoint,
    servers: Vec<SocketAddr>,
    payload: Bytes,
    sender: UnboundedSender<Ended>,
    receiver: UnboundedReceiver<Ended>,
    timer: AsyncFd<TimerFd>,
}

impl HomaMesh {
    /// Binds and serves as the specification says.
    pub(crate) fn new(spec: &HostSpec) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let endpoint = builder(spec)?
            .bind(SocketAddr::new(spec.listen, spec.port))
            .map_err(io::Error::other)?;
        let timer = watch(TimerFd::new()?)?;
        runtime.spawn(serve(endpoint.clone(), Server::new(spec)));
        drop(entered);
        let (sender, receiver) = unbounded_channel();
        Ok(HomaMesh {
            runtime,
            endpoint,
            servers: Vec::new(),
            payload: vec![0x5a; spec.message_bytes_max as usize].into(),
            sender,
            receiver,
            timer,
        })
    }
}

impl Mesh for HomaMesh {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        self.servers = servers.to_vec();
        // Without connections; a first call makes the peers known to each other (incarnations, cutoffs).
        for server in servers {
            let call = self.endpoint.call(*server, self.payload.slice(..1));
            let answer = self.runtime.block_on(async { tokio::time::timeout(timeout, call).await });
            answer.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        let server = *self.servers.get(server).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let body = self.payload.slice(..bytes.min(self.payload.len()));
        let _entered = self.runtime.enter();
        let call = self.endpoint.start(server, body);
        let sender = self.sender.clone();
        self.runtime.spawn(async move {
            let ok = call.await.is_ok();
            // The receiver lives as long as the runtime.
            let _ = sender.send(Ended { token, at: Instant::now(), ok });
        });
        Ok(())
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        let left_ns = until.saturating_duration_since(Instant::now()).as_nanos();
        let left_ns = u64::try_from(left_ns).unwrap_or(u64::MAX / 2);
        self.timer.get_ref().arm(monotonic_ns().saturating_add(left_ns))?;
        let (timer, receiver) = (&self.timer, &mut self.receiver);
        self.runtime.block_on(async {
            tokio::select! {
                fired = timer.readable() => {
                    let mut fired = fired?;
                    timer.get_ref().drain()?;
                    fired.clear_ready();
                }
                call = receiver.recv() => ended.extend(call),
            }
            io::Result::Ok(())
        })?;
        while let Ok(call) = self.receiver.try_recv() {
            ended.push(call);
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        let stats = self.endpoint.stats();
        let engine = stats.engine;
        let named = [
            ("packets_received", engine.packets_received),
            ("packets_sent", engine.packets_sent),
            ("trains_sent", engine.trains_sent),
            ("grants_sent", engine.grants_sent),
            ("resends_gap_sent", engine.resends_gap_sent),
            ("resends_tail_sent", engine.resends_tail_sent),
            ("resends_all_sent", engine.resends_all_sent),
            ("resends_received", engine.resends_received),
            ("busy_received", engine.busy_received),
            ("probes_sent", engine.probes_sent),
            ("need_acks_received", engine.need_acks_received),
            ("acks_received", engine.acks_received),
            ("restarts", engine.restarts),
            ("calls_failed", engine.calls_failed),
            ("peer_timeouts", engine.peer_timeouts),
            ("clock_jumps", engine.clock_jumps),
            ("dropped_duplicate", engine.dropped_duplicate),
            ("transmit_no_room", engine.transmit_no_room),
        ];
        Counters {
            retransmitted_bytes: engine.bytes_retransmitted,
            retransmitted_packets: 0,
            dropped_by_system: stats.dropped_by_system,
            named: named.map(|(name, count)| (name.to_owned(), count)).to_vec(),
        }
    }
}

/// Tells the runtime of a timer.
#[allow(
    deprecated,
    reason = "a TimerFd owns its descriptor, which is what the replacement demands a promise for"
)]
fn watch(timer: TimerFd) -> io::Result<AsyncFd<TimerFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

fn builder(spec: &HostSpec) -> io::Result<EndpointBuilder> {
    let Transport::Homa(carriage) = &spec.transport else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let carriage = match carriage {
        Carriage::Udp => homa::Carriage::Udp,
        Carriage::Ip => homa::Carriage::Ip,
    };
    // The hosts of a lab share few cores: one that looks for packets keeps another from running.
    Ok(EndpointBuilder::new()
        .carriage(carriage)
        // It would cost TCP time, which is compared with.
        .tcp_understood(false)
        .config(spec.homa.config(spec.message_bytes_max))
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
    while let Ok(Some(mut request)) = endpoint.accept().await {
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
