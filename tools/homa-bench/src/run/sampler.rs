//! Looks at the switch and the machine while load is on.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use homa_report::summary::Looks;
use serde::Serialize;

use super::traced;
use crate::{
    agent::real_time,
    network::{Network, PortLevel, PortReading},
    watch::{Watch, sleep_until},
};

/// Looks at the counters come at least this far apart.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// And so many times as far apart as one takes: they cost one per cent of a core at most.
const COST_FACTOR: u32 = 100;

/// Rows of queue lengths of a round at most: what a plot and a file can bear.
const ROWS_MAX: u32 = 60_000;

/// Throughput is taken over at least this time: a frame more or less makes little of it.
const THROUGHPUT_MIN: Duration = Duration::from_millis(100);

/// Length of a queue of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueSample {
    /// Round, from 0.
    pub round: u32,
    /// Nanoseconds after the begin of the load.
    pub time_ns: u64,
    /// Host at the port.
    pub port: u32,
    /// Priority level; 7 goes first.
    pub level: u8,
    /// Bytes of frames.
    pub bytes: u64,
}

/// What a port has carried towards its host since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ThroughputSample {
    /// Round, from 0.
    pub round: u32,
    /// Nanoseconds after the begin of the load.
    pub time_ns: u64,
    /// The host.
    pub host: u32,
    /// Bits of frames per second.
    pub rx_bps: f64,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub queues: Vec<QueueSample>,
    pub throughput: Vec<ThroughputSample>,
    /// How late looks at the network began, in nanoseconds: so long did a program wait that wanted
    /// to run.
    pub late_ns: Vec<u64>,
    /// Share of the machine's processor time that was used.
    pub busy: Option<f64>,
    pub looks: Option<Looks>,
}

/// Looks at a network until the load is over.
pub(super) struct Sampler<'a> {
    network: &'a dyn Network,
    round: u32,
    begin: Instant,
    /// What a link carries, in bits of frames per second; none if that is not known for sure.
    link_bps: Option<f64>,
    watch: &'a dyn Watch,
}

impl Seen {
    /// The same, and what was seen after it.
    pub(super) fn and(mut self, later: Seen) -> Seen {
        self.queues.extend(later.queues);
        self.throughput.extend(later.throughput);
        self.late_ns.extend(later.late_ns);
        let both = self.busy.zip(later.busy).map(|(before, after)| (before + after) / 2.0);
        Seen { busy: both, looks: later.looks.or(self.looks), ..self }
    }
}

impl<'a> Sampler<'a> {
    pub(super) fn new(
        network: &'a dyn Network,
        round: u32,
        begin: Instant,
        link_bps: Option<f64>,
        watch: &'a dyn Watch,
    ) -> Self {
        Sampler { network, round, begin, link_bps, watch }
    }

    /// Looks from `span.start` until its end.
    pub(super) fn sample(&self, span: Range<Instant>) -> Seen {
        // What was recorded until now belongs to nobody.
        let recorded = self.network.take_queues().is_some();
        let every = self.interval(&span, recorded);
        sleep_until(span.start, self.watch);
        let busy_before = machine_time();
        let mut seen = match every {
            Some(every) => self.look_until_end(&span, every, recorded),
            None => Seen::default(),
        };
        sleep_until(span.end, self.watch);
        seen.busy = busy_since(busy_before);
        seen.looks = every.map(|every| Looks { recorded, every_ms: every.as_secs_f64() * 1e3 });
        if let Some(record) = self.network.take_queues() {
            let every_ms = record.interval_ns as f64 / 1e6;
            seen.looks = Some(Looks { recorded, every_ms });
            let samples = traced::samples(&record, self.network.hosts(), self.begin, &span);
            let round = self.round;
            seen.queues.extend(samples.map(|sample| QueueSample { round, ..sample }));
        }
        seen
    }

    /// Looks in a thread that is scheduled like the agents: it waits to run as long as they do.
    fn look_until_end(&self, span: &Range<Instant>, every: Duration, recorded: bool) -> Seen {
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                real_time();
                self.look(span, every, recorded)
            });
            // A panic was printed when it happened; without looks the run goes on.
            looking.join().unwrap_or_default()
        })
    }

    fn look(&self, span: &Range<Instant>, every: Duration, recorded: bool) -> Seen {
        let mut seen = Seen::default();
        let mut before: Option<PortReading> = None;
        let mut next = span.start;
        while next < span.end && !self.watch.stopped() {
            sleep_until(next, self.watch);
            seen.late_ns.push(next.elapsed().as_nanos() as u64);
            if let Some(reading) = self.network.read() {
                if !recorded {
                    seen.queues.extend(self.queues(&reading));
                }
                match &before {
                    Some(earlier) if reading.until - earlier.until < THROUGHPUT_MIN => {}
                    _ => {
                        let earlier = before.replace(reading.clone());
                        seen.throughput
                            .extend(earlier.iter().flat_map(|then| self.rates(then, &reading)));
                    }
                }
            }
            // Looks that a stall has swallowed are not made up for: it counts once.
            next = (next + every).max(Instant::now());
        }
        seen
    }

    /// Time between looks, by what one costs; none if the network tells nothing.
    fn interval(&self, span: &Range<Instant>, recorded: bool) -> Option<Duration> {
        let start = Instant::now();
        let rows = self.network.read()?.levels.len();
        let cost = start.elapsed();
        let length = span.end.saturating_duration_since(span.start);
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let filling = length.saturating_mul(rows) / ROWS_MAX;
        let cheap = LOOK_MIN.max(cost.saturating_mul(COST_FACTOR));
        Some(if recorded { cheap } else { cheap.max(filling) })
    }

    fn time_ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.begin).as_nanos() as u64
    }

    fn queues(&self, reading: &PortReading) -> impl Iterator<Item = QueueSample> {
        let (round, time_ns) = (self.round, self.time_ns(reading.until));
        reading.levels.iter().map(move |level| QueueSample {
            round,
            time_ns,
            port: level.host,
            level: level.level,
            bytes: level.queue_bytes,
        })
    }

    fn rates(&self, then: &PortReading, now: &PortReading) -> Vec<ThroughputSample> {
        let (before, after) = (totals(&then.levels), totals(&now.levels));
        let sample = |(after, before): (&(u32, u64), &(u32, u64))| ThroughputSample {
            round: self.round,
            time_ns: self.time_ns(now.until),
            host: after.0,
            rx_bps: rate_bps(after.1.saturating_sub(before.1), then, now, self.link_bps),
        };
        after.iter().zip(&before).map(sample).collect()
    }
}

/// Bits per second of what was carried between two readings. When within its bounds a reading was
/// made is not known, so a rate above the link's only says that the time was longer; never shorter
/// than arithmetic allows.
fn rate_bps(bytes: u64, then: &PortReading, now: &PortReading, link_bps: Option<f64>) -> f64 {
    let middle = |reading: &PortReading| reading.from + (reading.until - reading.from) / 2;
    let over = |seconds: Duration| bytes as f64 * 8.0 / seconds.as_secs_f64().max(1e-9);
    let likely = over(middle(now).saturating_duration_since(middle(then)));
    let least = over(now.until.saturating_duration_since(then.from));
    match link_bps {
        Some(link_bps) => likely.min(link_bps.max(least)),
        None => likely,
    }
}

fn totals(levels: &[PortLevel]) -> Vec<(u32, u64)> {
    let mut found: Vec<(u32, u64)> = Vec::new();
    for level in levels {
        match found.last_mut().filter(|total| total.0 == level.host) {
            Some(total) => total.1 += level.sent_bytes,
            None => found.push((level.host, level.sent_bytes)),
        }
    }
    found
}

/// The share of all processors' time that was used within this time from now.
pub(crate) fn machine_busy(time: Duration) -> Option<f64> {
    let before = machine_time();
    std::thread::sleep(time);
    busy_since(before)
}

fn busy_since(before: Option<(u64, u64)>) -> Option<f64> {
    let (before, after) = before.zip(machine_time())?;
    let all = after.1.checked_sub(before.1).filter(|all| *all > 0)?;
    Some(after.0.saturating_sub(before.0) as f64 / all as f64)
}

/// Busy and whole time of all processors, in the system's ticks.
fn machine_time() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest times are in the first two already.
    let all: u64 = times.iter().take(8).sum();
    let idle = times.get(3)? + times.get(4)?;
    Some((all.saturating_sub(idle), all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_above_the_links_unless_arithmetic_leaves_no_choice() {
        let zero = Instant::now();
        let at = |from_ms, until_ms| PortReading {
            from: zero + Duration::from_millis(from_ms),
            until: zero + Duration::from_millis(until_ms),
            levels: Vec::new(),
        };
        let link = Some(100e6);
        let exact = (at(0, 0), at(100, 100));
        assert!((rate_bps(1_000_000, &exact.0, &exact.1, link) - 80e6).abs() < 1.0);
        assert!((rate_bps(1_300_000, &exact.0, &exact.1, link) - 104e6).abs() < 1.0);
        // Read at some time within 40 ms: 104 Mbit/s in the middle, 74 at least.
        let vague = (at(0, 0), at(100, 140));
        assert!((rate_bps(1_560_000, &vague.0, &vague.1, link) - 100e6).abs() < 1.0);
        assert!((rate_bps(1_560_000, &vague.0, &vague.1, None) - 104e6).abs() < 1.0);
        // No time between two readings is no rate without end.
        assert!(rate_bps(0, &exact.0, &exact.0, link).is_finite());
    }
}
