//! One echo call at a time, through each of the interfaces that programs use.

use std::{io, time::Instant};

use bytes::{Buf, Bytes};

use super::{
    job::{Measurement, Outcome, Side},
    measure::{CALL_TIMEOUT, CpuMeter, Window, cpu_reply, cpu_request, outcome},
};
use crate::{
    body,
    error::CliError,
    latency::Latency,
    transport::{
        self, Api, Protocol,
        connect::{connect, run_tokio},
        homa_udp,
        tcp::tokio_api::TokioClient,
    },
};

/// A client; an enum, so that awaiting a call costs no allocation.
enum Client {
    Blocking(Box<dyn transport::Client>),
    Tcp(TokioClient),
    Homa(homa_udp::TokioClient),
}

impl Client {
    /// Connects to the server; call on a runtime.
    fn connect(job: &Measurement) -> Result<Self, CliError> {
        let Side { protocol, api, settings, .. } = &job.side;
        Ok(match (api, protocol) {
            (Api::Tokio, Protocol::Tcp) => Client::Tcp(TokioClient::connect(job.server, settings)?),
            (Api::Tokio, _) => {
                Client::Homa(homa_udp::TokioClient::new(*protocol, job.server, settings)?)
            }
            _ => Client::Blocking(connect(*protocol, job.server, settings)?),
        })
    }

    async fn call(
        &mut self,
        request: &Bytes,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        let failed = |error: io::Error| CliError::io("tokio", &error);
        match self {
            Client::Blocking(client) => return client.call(request, CALL_TIMEOUT, sink),
            Client::Tcp(client) => sink(&mut client.call(request).await.map_err(failed)?),
            Client::Homa(client) => sink(&mut client.call(request).await.map_err(failed)?),
        }
        Ok(())
    }

    async fn server_cpu_ns(&mut self) -> Result<u64, CliError> {
        let mut server_ns = 0;
        self.call(&cpu_request(), &mut |reply| server_ns = cpu_reply(reply)).await?;
        Ok(server_ns)
    }
}

/// Calls of each of these lengths in turn, which share the time; found are the P50 of each, and
/// all figures of the last.
pub(crate) fn run(job: &Measurement, sizes_bytes: &[u64]) -> Result<Outcome, CliError> {
    run_tokio(async {
        let mut client = Client::connect(job)?;
        let share = job.secs / sizes_bytes.len().max(1) as f64;
        let mut found = Outcome::default();
        for size_bytes in sizes_bytes {
            let mut one = latency(&mut client, *size_bytes, share).await?;
            one.unloaded = std::mem::take(&mut found.unloaded);
            one.unloaded.push((*size_bytes, one.p50_us));
            found = one;
        }
        Ok(found)
    })?
}

async fn latency(client: &mut Client, size_bytes: u64, secs: f64) -> Result<Outcome, CliError> {
    let request = body::pattern(0, size_bytes as usize);
    // One timeout for the start stands for all: a server that answers here goes on answering, and a
    // timer per call would burden both transports.
    tokio::time::timeout(CALL_TIMEOUT, client.call(&request, &mut |_| {}))
        .await
        .map_err(|_| CliError::Transport(format!("no reply within {CALL_TIMEOUT:?}")))??;
    let window = Window::new(secs);
    let warm_up = window.warm_up();
    while Instant::now() < warm_up {
        client.call(&request, &mut |_| {}).await?;
    }
    let meter = CpuMeter::start(client.server_cpu_ns().await?);
    let mut latency = Latency::new();
    let begin = Instant::now();
    let mut now = begin;
    while window.is_open(begin, now, latency.count()) {
        client.call(&request, &mut |_| {}).await?;
        let end = Instant::now();
        latency.record(end - now);
        now = end;
    }
    let client_ns = meter.client_ns();
    let cpu_ns = client_ns + meter.server_ns(client.server_cpu_ns().await?);
    Ok(outcome(&latency, now - begin, latency.count() * 2 * size_bytes, cpu_ns))
}
