//! Buffer use of switches, as it was measured with the Linux implementations of Homa, DCTCP and
//! TCP in August 2023: 20 hosts at one switch, 25 Gbit/s, W5 at 80 % load.
//!
//! As there, messages are calls whose response is as long as the request, of up to 1 MB, and what
//! a transport uses is the most bytes that waited in all ports together during a run.

use homa_bench::workload::Workload;
use homa_core::Config;
use serde::Serialize;

use super::sigcomm18::{Messages, Pacing, Profile};
use crate::{
    fabric::{Buffer, PortKind, Shape, Topology},
    run::{Outcome, Run},
    summary::{Sample, percentiles},
    time::{Rate, Span},
    traffic::Demand,
    transport::{
        Choice,
        tcp::{Algorithm, Connections, Offload, Settings},
    },
};

/// The buffer of the study's switch.
pub const BUFFER_BYTES: u64 = 13_200_000;
/// Streams from a host to each other one: as client it had 32 connections to each server, and as
/// server 32 more.
const STREAMS: u16 = 64;
/// Bytes of link time that wait when the study's switch marks.
const MARKING_BYTES: u32 = 78_000;
/// The load of most of the study.
const LOAD: f64 = 0.8;
/// Factor of the free bytes up to which a queue grows.
const ALPHA: f64 = 8.0;

/// A run of the study.
#[derive(Clone, Debug)]
pub struct Point {
    /// What is varied.
    pub study: &'static str,
    /// How.
    pub setting: String,
    /// Buffer use in bytes that was published of it.
    pub published_bytes: Option<u64>,
    /// What is simulated.
    pub run: Run,
}

/// What a run shows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What is varied.
    pub study: &'static str,
    /// What hosts speak.
    pub transport: &'static str,
    /// How.
    pub setting: String,
    /// Part of the links that is used.
    pub load: f64,
    /// The buffer that the switch has.
    pub buffer_bytes: u64,
    /// The most that waited in it.
    pub used_bytes_max: u64,
    /// What waited in it in the mean.
    pub used_bytes_mean: f64,
    /// The most that waited with the Linux implementation.
    pub published_bytes: Option<u64>,
    /// Part of the time in which links to hosts sent.
    pub utilization: f64,
    /// Packets that found no room.
    pub dropped_packets: u64,
    /// Slowdown of the smaller half of the messages.
    pub slowdown_p99_short: f64,
    /// Slowdown of all messages.
    pub slowdown_p99: f64,
    /// Their mean.
    pub slowdown_mean: f64,
    /// Messages that did not arrive.
    pub unfinished: usize,
}

/// What the study asks first: how much of the buffer each transport uses when it has all.
pub fn unrestricted(messages: u32, seed: u64) -> Vec<Point> {
    let published = [3_800_000, 5_800_000, 13_100_000];
    transports()
        .into_iter()
        .zip(published)
        .map(|(transport, bytes)| {
            let point = point("unrestricted", "", transport, messages, seed);
            Point { published_bytes: Some(bytes), ..point }
        })
        .collect()
}

/// The same where the software of hosts takes 3 µs each way in the mean, log-normally with a
/// standard deviation of the logarithm of 1.
pub fn unsteady(messages: u32, seed: u64) -> Vec<Point> {
    let points = transports().into_iter().map(|transport| {
        let mut point = point("unsteady hosts", "", transport, messages, seed);
        point.run.topology.delay_sigma = 1.0;
        point
    });
    points.collect()
}

/// What follows from that: less buffer for each, as parts of what it used, and less load.
pub fn restricted(used: &[Row], parts: &[f64], messages: u32, seed: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for (transport, row) in transports().into_iter().zip(used) {
        for part in parts {
            let setting = format!("{:.0} %", 100.0 * part);
            let mut point = point("buffer", &setting, transport.clone(), messages, seed);
            point.run.topology.buffer = shared((row.used_bytes_max as f64 * part) as u64);
            points.push(point);
        }
        let mut point = point("load", "50 %", transport, messages, seed);
        point.run.load = 0.5;
        points.push(point);
    }
    points
}

/// Settings of DCTCP and Homa.
pub fn settings(messages: u32, seed: u64) -> Vec<Point> {
    let dctcp = |study, setting: &str, change: &dyn Fn(&mut Settings)| {
        let mut settings = tcp(Algorithm::Dctcp);
        change(&mut settings);
        point(study, setting, Choice::Tcp(Box::new(settings)), messages, seed)
    };
    let marked = |setting: &str, bytes| {
        dctcp("marking", setting, &|settings| settings.marking_bytes = bytes)
    };
    let each_packet = Offload {
        receive_bytes: 0,
        interrupt_gap: Span::ZERO,
        interrupt_packets: 1,
        ..Offload::LINUX
    };
    let homa = |study, setting: &str, change: &dyn Fn(&mut Config)| {
        let transport = Choice::Homa(Box::new(homa().with(change)));
        point(study, setting, transport, messages, seed)
    };
    vec![
        dctcp("offload", "none", &|settings| settings.offload = None),
        dctcp("offload", "sending", &|settings| settings.offload = Some(each_packet)),
        dctcp("streams", "8", &|settings| settings.connections = Connections::PerPair(8)),
        marked("50 kB", 50_000),
        marked("200 kB", 200_000),
        marked("500 kB", 500_000),
        homa("window", "50 kB each", &|config| config.grants.window_bytes = 50_000),
        homa("window", "100 kB each", &|config| config.grants.window_bytes = 100_000),
        homa("window", "dynamic of 200 kB", &|config| config.grants.max_incoming_bytes = 200_000),
        homa("window", "dynamic of 800 kB", &|config| config.grants.max_incoming_bytes = 800_000),
        homa("overcommitment", "2", &|config| config.grants.max_overcommit = 2),
        homa("overcommitment", "4", &|config| config.grants.max_overcommit = 4),
        homa("unscheduled", "40 kB", &|config| config.unscheduled.bytes = 40_000),
        homa("unscheduled", "120 kB", &|config| config.unscheduled.bytes = 120_000),
    ]
}

/// Homa with the engine's defaults, DCTCP, TCP.
fn transports() -> [Choice; 3] {
    let tcp = |algorithm| Choice::Tcp(Box::new(tcp(algorithm)));
    [Choice::Homa(Box::new(homa())), tcp(Algorithm::Dctcp), tcp(Algorithm::Cubic)]
}

fn tcp(algorithm: Algorithm) -> Settings {
    Settings {
        connections: Connections::PerPair(STREAMS),
        offload: Some(Offload::LINUX),
        marking_bytes: MARKING_BYTES,
        ..Settings::new(algorithm)
    }
}

/// The engine's defaults.
fn homa() -> Config {
    Profile::Default.config(&Messages::of(w5()), Pacing::Nic)
}

/// Sizes up to 1 MB.
fn w5() -> Workload {
    Workload::load("w5").expect("it is ours")
}

/// A run with all of the buffer at 80 % load.
fn point(study: &'static str, setting: &str, transport: Choice, messages: u32, seed: u64) -> Point {
    let (topology, sizes) = (topology(), w5());
    let demand = Demand { responses: Some(sizes.clone()), ..Demand::default() };
    let run = Run { topology, sizes, load: LOAD, messages, demand, transport, seed };
    Point { study, setting: setting.to_owned(), published_bytes: None, run }
}

/// The network. A short call takes about 15 µs there and back, with the software of hosts.
fn topology() -> Topology {
    Topology {
        shape: Shape::SingleSwitch { hosts: 20 },
        host_rate: Rate::from_mbps(25_000).expect("not 0"),
        switch_delay: Span::from_ns(500),
        send_delay: Span::from_ns(3_000),
        receive_delay: Span::from_ns(3_000),
        buffer: shared(BUFFER_BYTES),
        ..Topology::sigcomm18(1)
    }
}

fn shared(bytes: u64) -> Buffer {
    Buffer::Shared { bytes, alpha: ALPHA }
}

/// What came of a point. Nothing if no message arrived.
pub fn row(point: &Point, outcome: &Outcome) -> Option<Row> {
    let samples = outcome.samples.all();
    let down = outcome.ports.iter().find(|ports| ports.kind == PortKind::RackDown)?;
    let switch = outcome.switches.first()?;
    let p99 = |samples: &[Sample]| percentiles(samples, [0.99]).map(|[p99]| p99);
    let buffer_bytes = match point.run.topology.buffer {
        Buffer::Shared { bytes, .. } => bytes,
        _ => BUFFER_BYTES,
    };
    let slowdowns: f64 = samples.iter().map(|sample| sample.slowdown).sum();
    Some(Row {
        study: point.study,
        transport: point.run.transport.name(),
        setting: point.setting.clone(),
        load: point.run.load,
        buffer_bytes,
        used_bytes_max: switch.used_bytes_max,
        used_bytes_mean: switch.used_bytes_mean,
        published_bytes: point.published_bytes,
        utilization: down.utilization,
        dropped_packets: down.dropped_packets,
        slowdown_p99_short: p99(&samples[..samples.len().div_ceil(2)])?,
        slowdown_p99: p99(samples)?,
        slowdown_mean: slowdowns / samples.len() as f64,
        unfinished: outcome.samples.unfinished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_can_be_simulated_and_parts_of_the_buffer_are_those_of_what_was_used() {
        let rows: Vec<_> = unrestricted(10, 1)
            .iter()
            .map(|point| {
                let outcome = point.run.run(|_| std::ops::ControlFlow::Continue(()));
                row(point, &outcome.unwrap().unwrap()).unwrap()
            })
            .collect();
        let names: Vec<_> = rows.iter().map(|row| row.transport).collect();
        assert_eq!(names, ["homa", "dctcp", "tcp"]);
        let restricted = restricted(&rows, &[0.5], 10, 1);
        let limit = restricted[0].run.topology.buffer;
        assert_eq!(limit, shared(rows[0].used_bytes_max / 2));
        for point in restricted.iter().chain(&settings(10, 1)).chain(&unsteady(10, 1)) {
            assert_eq!(point.run.check(), Ok(()), "{}: {}", point.study, point.setting);
        }
    }
}
