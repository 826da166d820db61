//! What the emulation itself adds and how exact it is: measured, not assumed.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Backend, Lab, LabError, LabSpec,
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
    /// Rate that overloaded ports carried, divided by the rate asked for: the smallest of the ports
    /// measured.
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
    /// Differences of the tail of latencies below this are not the network's, in nanoseconds: the
    /// spread between P50 and P99 in the idle lab, or, if that is more, at the highest level of an
    /// overloaded port besides the time of half a frame.
    pub latency_resolution_ns: u64,
    /// Differences of medians below this are not the network's, in nanoseconds: so far apart were
    /// medians of parts of one series.
    pub median_resolution_ns: u64,
    /// Differences of throughput below this share are not the network's.
    pub rate_resolution: f64,
}

/// How much of a lab is measured, and for how long.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// How long each port is overloaded.
    rate_time: Duration,
    /// The most ports whose rate is measured.
    rate_ports_max: usize,
    /// Probes of the idle lab and of the overloaded port's highest level; half as many of its
    /// lowest.
    probes: u32,
    /// Time between probes, in the mean.
    spacing: Duration,
    /// Sleeps whose ends are measured.
    sleeps: usize,
    /// How long stalls are looked for.
    spin: Duration,
}

const THOROUGH: Effort = Effort {
    rate_time: Duration::from_millis(600),
    rate_ports_max: 4,
    probes: 500,
    spacing: Duration::from_millis(2),
    sleeps: 1_000,
    spin: Duration::from_millis(400),
};

const BRIEF: Effort = Effort {
    rate_time: Duration::from_millis(240),
    rate_ports_max: 2,
    probes: 200,
    spacing: Duration::from_millis(1),
    sleeps: 300,
    spin: Duration::from_millis(200),
};

/// Parts of the idle probes whose medians are compared.
const PARTS: usize = 5;

/// So many hosts show what levels do: two overload a port of a third, to which a fourth, whose own
/// interface has nothing else to send, sends the probes.
const HOSTS_MIN: u32 = 4;

/// Measures a lab in which nothing else runs; takes about six seconds. For ports under overload the
/// place of a lab of less than four hosts is taken by one of four that is like it otherwise, built
/// and taken down meanwhile.
///
/// # Errors
/// Those of sockets and threads, and of [`Lab::up`].
pub fn measure(lab: &Lab) -> Result<Fidelity, LabError> {
    measure_with(lab, &THOROUGH)
}

/// The same in less than two seconds.
///
/// # Errors
/// Those of [`measure`].
pub fn measure_briefly(lab: &Lab) -> Result<Fidelity, LabError> {
    measure_with(lab, &BRIEF)
}

fn measure_with(lab: &Lab, effort: &Effort) -> Result<Fidelity, LabError> {
    let machine = machine_with(effort);
    let times = probe(lab, 0, 1, 7, effort.probes, effort.spacing)?;
    let (idle, median_resolution_ns) = (quantiles(&times), median_spread_ns(&times));
    let larger = larger(lab)?;
    let crowd = larger.as_ref().unwrap_or(lab);
    let rates = (0..lab.hosts().len().min(effort.rate_ports_max))
        .map(|port| port_rate(crowd, port, effort))
        .collect::<Result<Vec<_>, _>>()?;
    let (top_level, same_level) = under_overload(crowd, effort)?;
    let rate_lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let rate_highest = rates.iter().copied().fold(0.0, f64::max);
    let frame_ns =
        u64::from(lab.spec().frame_bytes()) * 1_000_000_000 / lab.spec().port_bytes_per_s().max(1);
    Ok(Fidelity {
        backend: lab.backend(),
        rate_lowest,
        rate_highest,
        idle,
        top_level,
        same_level,
        frame_ns,
        machine,
        // The frame on the link is waited for, between nothing and all of its time: that is the
        // network's.
        latency_resolution_ns: spread_ns(&idle)
            .max(spread_ns(&top_level).saturating_sub(frame_ns / 2)),
        median_resolution_ns,
        rate_resolution: (1.0 - rate_lowest).abs().max((rate_highest - 1.0).abs()),
    })
}

/// A lab like this one with as many hosts as are needed; nothing if it has them.
fn larger(lab: &Lab) -> Result<Option<Lab>, LabError> {
    if lab.spec().hosts >= HOSTS_MIN {
        return Ok(None);
    }
    let spec = LabSpec { hosts: HOSTS_MIN, ..lab.spec().clone() };
    Lab::up_with(&spec, lab.choice().clone()).map(Some)
}

fn quantiles(times_ns: &[u64]) -> Quantiles {
    let mut sorted = times_ns.to_vec();
    sorted.sort_unstable();
    Quantiles::of_sorted(&sorted)
}

fn spread_ns(times: &Quantiles) -> u64 {
    times.p99_ns.saturating_sub(times.p50_ns)
}

/// How far apart the medians of the parts of a series lie.
fn median_spread_ns(times_ns: &[u64]) -> u64 {
    let parts = times_ns.chunks(times_ns.len().div_ceil(PARTS).max(1));
    let medians: Vec<u64> = parts.map(|part| quantiles(part).p50_ns).collect();
    let (low, high) = (medians.iter().min(), medians.iter().max());
    high.zip(low).map_or(0, |(high, low)| high - low)
}

/// The machine alone: no lab is needed.
pub fn machine() -> Machine {
    machine_with(&THOROUGH)
}

fn machine_with(effort: &Effort) -> Machine {
    let late: Vec<u64> = (0..effort.sleeps).map(|_| sleep_late_ns()).collect();
    let (stalls, stalled_share) = spin(effort.spin);
    Machine { sleep_late: quantiles(&late), stalls, stalled_share }
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

/// Parts of the time in which a rate is measured.
const RATE_PARTS: u32 = 5;

/// Two other hosts send to a port; what arrives there, divided by the rate of its link: the median
/// of parts of the time, since where the machine stalls one part has less, and the next what waited
/// meanwhile.
fn port_rate(lab: &Lab, port: usize, effort: &Effort) -> Result<f64, LabError> {
    let hosts = lab.hosts().len();
    let frame_bytes = lab.spec().frame_bytes() as usize;
    let sink = Sink::start(lab, port)?;
    let senders = (1..3).map(|distance| {
        Blast::start(lab, (port + distance) % hosts, sink.address, 0, frame_bytes, None)
    });
    let _senders = senders.collect::<Result<Vec<_>, _>>()?;
    thread::sleep(effort.rate_time / 3);
    let mut rates: Vec<f64> = (0..RATE_PARTS)
        .map(|_| {
            let (start, before) = (Instant::now(), sink.frames());
            thread::sleep(effort.rate_time / RATE_PARTS);
            let bytes = (sink.frames() - before) * frame_bytes as u64;
            bytes as f64 / start.elapsed().as_secs_f64() / lab.spec().port_bytes_per_s() as f64
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    Ok(rates[rates.len() / 2])
}

/// Probes to a port that two others overload at the lowest level: at the top level, and at the
/// same.
fn under_overload(lab: &Lab, effort: &Effort) -> Result<(Quantiles, Quantiles), LabError> {
    let frame_bytes = lab.spec().frame_bytes() as usize;
    let sink = Sink::start(lab, 0)?;
    let _first = Blast::start(lab, 1, sink.address, 0, frame_bytes, None)?;
    let _second = Blast::start(lab, 2, sink.address, 0, frame_bytes, None)?;
    thread::sleep(effort.rate_time / 3);
    let top = probe(lab, 3, 0, 7, effort.probes, effort.spacing)?;
    let same = probe(lab, 3, 0, 0, effort.probes / 2, effort.spacing)?;
    Ok((quantiles(&top), quantiles(&same)))
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

    #[test]
    fn medians_of_parts_of_a_series_differ_by_its_drift() {
        let drifting: Vec<u64> = (0..100).map(|index| 1_000 + index / 20 * 7).collect();
        assert_eq!(median_spread_ns(&drifting), 28);
        assert_eq!(median_spread_ns(&[5; 100]), 0);
        assert_eq!(median_spread_ns(&[]), 0);
    }
}
