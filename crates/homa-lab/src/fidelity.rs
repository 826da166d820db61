//! What the emulation itself adds and how exact it is: measured, not assumed.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Backend, Lab, LabError,
    traffic::{Blast, Sink, elapsed_ns, probe},
};

/// Two quantiles and the maximum of times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quantiles {
    /// Half of them are at most this.
    pub p50_ns: u64,
    /// 99 % of them are at most this.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many there are.
    pub count: u64,
}

impl Quantiles {
    /// Of a sorted list; all zero if it is empty.
    pub fn of_sorted(times_ns: &[u64]) -> Self {
        let at = |share: f64| {
            let place = (times_ns.len() as f64 * share).ceil() as usize;
            times_ns.get(place.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { p50_ns: at(0.5), p99_ns: at(0.99), max_ns: at(1.0), count: times_ns.len() as u64 }
    }
}

/// What the machine does to a thread that wants to run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    /// How much later than asked for a sleep of 100 microseconds ends.
    pub sleep_late: Quantiles,
    /// Gaps of more than 50 microseconds in which a spinning thread did not run.
    pub stalls: Quantiles,
    /// Share of the time spent in these gaps.
    pub stalled_share: f64,
}

/// What a lab measured about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fidelity {
    /// What emulates the switch.
    pub backend: Backend,
    /// Rate that overloaded ports carried, divided by the rate asked for: the smallest of the ports measured.
    pub rate_lowest: f64,
    /// The same: the largest.
    pub rate_highest: f64,
    /// One way of a short datagram through the idle lab, from call to call.
    pub idle: Quantiles,
    /// The same at the highest level while others overload the port at the lowest.
    pub top_level: Quantiles,
    /// The same at the level of the overload; none arrived if the count is zero.
    pub same_level: Quantiles,
    /// One frame of full length takes this long on the link, in nanoseconds.
    pub frame_ns: u64,
    /// The machine.
    pub machine: Machine,
    /// Differences of latency below this are not the network's: the spread of the idle lab between P50 and
    /// P99, in nanoseconds.
    pub latency_resolution_ns: u64,
    /// Differences of throughput below this share are not the network's.
    pub rate_resolution: f64,
}

/// How long each port is overloaded.
const RATE_TIME: Duration = Duration::from_millis(600);

/// The most ports whose rate is measured.
const RATE_PORTS_MAX: usize = 4;

/// Probes per latency measurement, and the time between them.
const PROBES: u32 = 500;
const PROBE_SPACING: Duration = Duration::from_millis(2);

/// Measures a lab in which nothing else runs; takes about six seconds.
///
/// # Errors
/// [`LabError::Spec`] if there are fewer than three hosts, and those of sockets and threads.
pub fn measure(lab: &Lab) -> Result<Fidelity, LabError> {
    let hosts = lab.hosts().len();
    if hosts < 3 {
        let reason = "at least 3 are needed to overload a port".to_owned();
        return Err(LabError::Spec { key: "hosts", reason });
    }
    let machine = machine();
    let idle = Quantiles::of_sorted(&probe(lab, 0, 1, 7, PROBES, PROBE_SPACING)?);
    let rates = (0..hosts.min(RATE_PORTS_MAX))
        .map(|port| port_rate(lab, port))
        .collect::<Result<Vec<_>, _>>()?;
    let (top_level, same_level) = under_overload(lab)?;
    let rate_lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let rate_highest = rates.iter().copied().fold(0.0, f64::max);
    Ok(Fidelity {
        backend: lab.backend(),
        rate_lowest,
        rate_highest,
        idle,
        top_level,
        same_level,
        frame_ns: u64::from(lab.spec().frame_bytes()) * 1_000_000_000
            / lab.spec().port_bytes_per_s().max(1),
        machine,
        latency_resolution_ns: idle.p99_ns.saturating_sub(idle.p50_ns),
        rate_resolution: (1.0 - rate_lowest).abs().max((rate_highest - 1.0).abs()),
    })
}

/// The machine alone: no lab is needed.
pub fn machine() -> Machine {
    let mut late: Vec<u64> = (0..1_000).map(|_| sleep_late_ns()).collect();
    late.sort_unstable();
    let (stalls, stalled_share) = spin(Duration::from_millis(400));
    Machine { sleep_late: Quantiles::of_sorted(&late), stalls, stalled_share }
}

fn sleep_late_ns() -> u64 {
    let asked = Duration::from_micros(100);
    let start = Instant::now();
    thread::sleep(asked);
    elapsed_ns(start).saturating_sub(asked.as_nanos() as u64)
}

/// Reads the clock without pause; what is missing between two readings went to others.
fn spin(time: Duration) -> (Quantiles, f64) {
    const STALL_NS: u64 = 50_000;
    let start = Instant::now();
    let end_ns = time.as_nanos() as u64;
    let mut stalls = Vec::new();
    let mut last_ns = 0;
    while last_ns < end_ns {
        let now_ns = elapsed_ns(start);
        if now_ns - last_ns > STALL_NS {
            stalls.push(now_ns - last_ns);
        }
        last_ns = now_ns;
    }
    stalls.sort_unstable();
    let share = stalls.iter().sum::<u64>() as f64 / last_ns as f64;
    (Quantiles::of_sorted(&stalls), share)
}

/// Two hosts send to a third; what arrives there, divided by the rate of its link.
fn port_rate(lab: &Lab, port: usize) -> Result<f64, LabError> {
    let hosts = lab.hosts().len();
    let frame_bytes = lab.spec().frame_bytes() as usize;
    let sink = Sink::start(lab, port)?;
    let _first = Blast::start(lab, (port + 1) % hosts, sink.address, 0, frame_bytes, None)?;
    let _second = Blast::start(lab, (port + 2) % hosts, sink.address, 0, frame_bytes, None)?;
    thread::sleep(RATE_TIME / 3);
    let (start, before) = (Instant::now(), sink.frames());
    thread::sleep(RATE_TIME);
    let bytes = (sink.frames() - before) * frame_bytes as u64;
    let rate = bytes as f64 / start.elapsed().as_secs_f64();
    Ok(rate / lab.spec().port_bytes_per_s() as f64)
}

/// Probes to a port that two others overload at the lowest level: at the top level, and at the same.
fn under_overload(lab: &Lab) -> Result<(Quantiles, Quantiles), LabError> {
    let hosts = lab.hosts().len();
    let frame_bytes = lab.spec().frame_bytes() as usize;
    let sink = Sink::start(lab, 0)?;
    let _first = Blast::start(lab, 1, sink.address, 0, frame_bytes, None)?;
    let _second = Blast::start(lab, 2, sink.address, 0, frame_bytes, None)?;
    thread::sleep(RATE_TIME / 3);
    // With three hosts one of the senders probes, and waits for its own interface.
    let from = if hosts > 3 { 3 } else { 1 };
    let top = probe(lab, from, 0, 7, PROBES, PROBE_SPACING)?;
    let same = probe(lab, from, 0, 0, PROBES / 2, PROBE_SPACING)?;
    Ok((Quantiles::of_sorted(&top), Quantiles::of_sorted(&same)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_members_of_the_list() {
        let times: Vec<u64> = (1..=100).collect();
        let quantiles = Quantiles::of_sorted(&times);
        assert_eq!((quantiles.p50_ns, quantiles.p99_ns, quantiles.max_ns), (50, 99, 100));
        assert_eq!(Quantiles::of_sorted(&[7]).p99_ns, 7);
        assert_eq!(Quantiles::of_sorted(&[]), Quantiles::default());
    }
}
