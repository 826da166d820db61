//! Looks at the switch and the machine while load is on.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::network::{Network, PortLevel};

/// Time between looks; each takes a few milliseconds of a core where a program has to be asked.
const EVERY: Duration = Duration::from_millis(500);

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

/// Looks at a network until the load is over.
pub(super) struct Sampler<'a> {
    network: &'a dyn Network,
    round: u32,
    begin: Instant,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(network: &'a dyn Network, round: u32, begin: Instant) -> Self {
        Sampler { network, round, begin }
    }

    /// Samples from `from` until `end`; the last is the share of the machine's processor time that was used.
    pub(super) fn sample(
        &self,
        from: Instant,
        end: Instant,
    ) -> (Vec<QueueSample>, Vec<ThroughputSample>, Option<f64>) {
        let (mut queues, mut throughput) = (Vec::new(), Vec::new());
        sleep_until(from);
        let busy_before = machine_time();
        let mut before: Option<(Instant, Vec<(u32, u64)>)> = None;
        let mut next = from;
        while next < end {
            sleep_until(next);
            let at = Instant::now();
            let levels = self.network.ports();
            let time_ns = at.saturating_duration_since(self.begin).as_nanos() as u64;
            queues.extend(levels.iter().map(|level| QueueSample {
                round: self.round,
                time_ns,
                port: level.host,
                level: level.level,
                bytes: level.queue_bytes,
            }));
            let totals = totals(&levels);
            if let Some((then, earlier)) = &before {
                let seconds = at.duration_since(*then).as_secs_f64();
                throughput.extend(totals.iter().zip(earlier).map(|(now, then)| ThroughputSample {
                    round: self.round,
                    time_ns,
                    host: now.0,
                    rx_bps: now.1.saturating_sub(then.1) as f64 * 8.0 / seconds,
                }));
            }
            before = Some((at, totals));
            next += EVERY;
        }
        sleep_until(end);
        let busy = match (busy_before, machine_time()) {
            (Some(before), Some(after)) if after.1 > before.1 => {
                Some((after.0 - before.0) as f64 / (after.1 - before.1) as f64)
            }
            _ => None,
        };
        (queues, throughput, busy)
    }
}

fn totals(levels: &[PortLevel]) -> Vec<(u32, u64)> {
    let mut found: Vec<(u32, u64)> = Vec::new();
    for level in levels {
        match found.iter_mut().find(|total| total.0 == level.host) {
            Some(total) => total.1 += level.sent_bytes,
            None => found.push((level.host, level.sent_bytes)),
        }
    }
    found
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
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
