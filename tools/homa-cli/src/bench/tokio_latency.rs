//! Latency of one echo call at a time from a task on a current-thread tokio runtime.

use std::{io, time::Instant};

use bytes::Bytes;

use super::{
    job::{Job, Outcome},
    measure::{CALL_TIMEOUT, CpuMeter, Window, cpu_reply, cpu_request, outcome},
};
use crate::{
    body,
    error::CliError,
    latency::Latency,
    transport::{Protocol, connect::run_tokio, homa_udp, tcp::tokio_api::TokioClient},
};

/// A client of either transport; an enum, so that awaiting a call costs no allocation.
enum Client {
    Tcp(TokioClient),
    Homa(homa_udp::TokioClient),
}

impl Client {
    async fn connect(job: &Job) -> Result<Self, CliError> {
        match job.protocol {
            Protocol::Tcp => Ok(Client::Tcp(TokioClient::connect(job.server, &job.settings)?)),
            Protocol::HomaUdp | Protocol::HomaIp | Protocol::HomaIpTcp => Ok(Client::Homa(
                homa_udp::TokioClient::new(job.protocol, job.server, &job.settings)?,
            )),
        }
    }

    async fn call(&mut self, request: &Bytes) -> io::Result<()> {
        match self {
            Client::Tcp(client) => client.call(request).await.map(|_| ()),
            Client::Homa(client) => client.call(request).await.map(|_| ()),
        }
    }

    async fn server_cpu_ns(&mut self) -> io::Result<u64> {
        let request = cpu_request();
        match self {
            Client::Tcp(client) => {
                client.call(&request).await.map(|mut reply| cpu_reply(&mut reply))
            }
            Client::Homa(client) => {
                client.call(&request).await.map(|mut reply| cpu_reply(&mut reply))
            }
        }
    }
}

/// Measures.
pub(crate) fn run(job: &Job, size_bytes: u64) -> Result<Outcome, CliError> {
    run_tokio(async {
        let mut client =
            Client::connect(job).await.map_err(|error| io::Error::other(error.to_string()))?;
        measure(&mut client, size_bytes, job.secs).await
    })
}

async fn measure(client: &mut Client, size_bytes: u64, secs: f64) -> io::Result<Outcome> {
    let request = body::pattern(0, size_bytes as usize);
    // One timeout for the start stands for all: a server that answers here goes on answering, and a
    // timer per call would burden both transports.
    tokio::time::timeout(CALL_TIMEOUT, client.call(&request)).await??;
    let window = Window::new(secs);
    let warm_up = window.warm_up();
    while Instant::now() < warm_up {
        client.call(&request).await?;
    }
    let meter = CpuMeter::start(client.server_cpu_ns().await?);
    let mut latency = Latency::new();
    let begin = Instant::now();
    let mut now = begin;
    while window.is_open(begin, now, latency.count()) {
        client.call(&request).await?;
        let end = Instant::now();
        latency.record(end - now);
        now = end;
    }
    let client_ns = meter.client_ns();
    let cpu_ns = client_ns + meter.server_ns(client.server_cpu_ns().await?);
    Ok(outcome(&latency, now - begin, latency.count() * 2 * size_bytes, cpu_ns))
}
