//! What is seen of a simulation at a moment.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use homa_sim::{Message, Moment, PortKind, PortView, Span};
use serde::Serialize;

/// Ports of a kind that are shown.
const BUSIEST: usize = 2;
/// Messages that are shown.
const WORST: usize = 10;
/// Slowdowns are counted in these parts of 1.
const PARTS: f64 = 1_000.0;
/// The largest that is counted.
const SLOWDOWN_MAX: u64 = 1_000_000_000;

/// What is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct View {
    /// Part of the load that is done.
    pub(super) part: f64,
    /// Simulated time since the load began.
    pub(super) time_us: f64,
    /// How long the load lasts.
    pub(super) length_us: f64,
    /// Messages that have begun.
    pub(super) begun: usize,
    /// Of those, the ones that have arrived.
    pub(super) ended: u64,
    /// Of the ones that have arrived.
    pub(super) slowdown_p50: Option<f64>,
    pub(super) slowdown_p99: Option<f64>,
    pub(super) ports: Vec<Ports>,
    /// The largest slowdowns so far, also of messages under way.
    pub(super) worst: Vec<Slow>,
}

/// Ports of a kind.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ports {
    pub(super) kind: PortKind,
    pub(super) count: usize,
    /// All of them: means, and the longest queue so far.
    pub(super) all: Busy,
    pub(super) busiest: Vec<(u32, Busy)>,
}

/// How busy a port is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Busy {
    /// Part of the time since the last look in which it sent.
    pub(super) utilization: f64,
    pub(super) queued_bytes: u64,
    /// The most at any look.
    pub(super) queued_bytes_max: u64,
}

/// A message that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Slow {
    pub(super) message_bytes: u32,
    pub(super) from: u32,
    pub(super) to: u32,
    /// Its time, so far if it is under way.
    pub(super) age_us: f64,
    pub(super) slowdown: f64,
    pub(super) has_arrived: bool,
}

/// Follows a simulation.
#[derive(Debug)]
pub(super) struct Watcher {
    time: Span,
    /// Messages that were seen.
    begun: usize,
    /// Those of them that were under way.
    open: Vec<usize>,
    slowdowns: Histogram<u64>,
    /// The worst that have arrived.
    arrived: Vec<Slow>,
    ports: BTreeMap<(PortKind, u32), Seen>,
}

/// What was seen of a port.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent_bytes: Option<u64>,
    /// What it had begun to send then, and not sent.
    rest_bytes: f64,
    busy: Busy,
}

impl Watcher {
    pub(super) fn new() -> Self {
        Self {
            time: Span::ZERO,
            begun: 0,
            open: Vec::new(),
            slowdowns: Histogram::new_with_max(SLOWDOWN_MAX, 3).expect("the bounds are right"),
            arrived: Vec::new(),
            ports: BTreeMap::new(),
        }
    }

    /// Looks at the simulation.
    pub(super) fn look(&mut self, moment: &Moment<'_>) -> View {
        let worst = self.look_at_messages(moment);
        let ports = self.look_at_ports(moment);
        self.time = moment.time;
        let quantile = |share| {
            let is_known = !self.slowdowns.is_empty();
            is_known.then(|| self.slowdowns.value_at_quantile(share) as f64 / PARTS)
        };
        View {
            part: moment.part,
            time_us: us(moment.time),
            length_us: us(moment.length),
            begun: self.begun,
            ended: self.slowdowns.len(),
            slowdown_p50: quantile(0.5),
            slowdown_p99: quantile(0.99),
            ports,
            worst,
        }
    }

    /// The worst so far.
    fn look_at_messages(&mut self, moment: &Moment<'_>) -> Vec<Slow> {
        let messages = moment.messages();
        self.open.extend(self.begun..messages.len());
        self.begun = messages.len();
        let mut worst = std::mem::take(&mut self.arrived);
        self.open.retain(|index| {
            let message = &messages[*index];
            let slow = slow(moment, message);
            worst.push(slow);
            if message.is_over() {
                self.slowdowns.saturating_record((slow.slowdown * PARTS) as u64);
            }
            !message.is_over()
        });
        worst.sort_by(|a, b| b.slowdown.total_cmp(&a.slowdown));
        self.arrived = worst.iter().filter(|slow| slow.has_arrived).take(WORST).copied().collect();
        worst.truncate(WORST);
        worst
    }

    fn look_at_ports(&mut self, moment: &Moment<'_>) -> Vec<Ports> {
        let seconds = us(moment.time) / 1e6 - us(self.time) / 1e6;
        let mut found = Vec::new();
        for kind in PortKind::ALL {
            let views = moment.ports(kind);
            if views.is_empty() {
                continue;
            }
            let look = |view: &PortView| {
                let seen = self.ports.entry((kind, view.index)).or_default();
                seen.look(view, seconds);
                (view.index, seen.busy)
            };
            let mut ports: Vec<(u32, Busy)> = views.iter().map(look).collect();
            let mean = |sum: f64| sum / ports.len() as f64;
            let queued: u64 = ports.iter().map(|(_, busy)| busy.queued_bytes).sum();
            let all = Busy {
                utilization: mean(ports.iter().map(|(_, busy)| busy.utilization).sum()),
                queued_bytes: mean(queued as f64) as u64,
                queued_bytes_max: ports.iter().map(|p| p.1.queued_bytes_max).max().unwrap_or(0),
            };
            ports.sort_by(|(_, a), (_, b)| {
                let by_use = b.utilization.total_cmp(&a.utilization);
                by_use.then(b.queued_bytes.cmp(&a.queued_bytes))
            });
            let count = ports.len();
            ports.truncate(BUSIEST);
            found.push(Ports { kind, count, all, busiest: ports });
        }
        found
    }
}

impl Seen {
    /// So many seconds after the look before.
    fn look(&mut self, view: &PortView, seconds: f64) {
        let queued_bytes = view.queued_bytes.iter().copied().map(u64::from).sum();
        // A port that is measured anew begins with none: what it has sent is not known once.
        let sent = self.sent_bytes.and_then(|before| view.sent_bytes.checked_sub(before));
        if let Some(sent) = sent.filter(|_| seconds > 0.0) {
            let capacity = seconds * f64::from(view.rate.mbps()) * 1e6 / 8.0;
            let bytes = sent as f64 + self.rest_bytes;
            self.rest_bytes = (bytes - capacity).max(0.0);
            self.busy.utilization = (bytes / capacity).min(1.0);
        }
        self.sent_bytes = Some(view.sent_bytes);
        self.busy.queued_bytes = queued_bytes;
        self.busy.queued_bytes_max = self.busy.queued_bytes_max.max(queued_bytes);
    }
}

fn slow(moment: &Moment<'_>, message: &Message) -> Slow {
    Slow {
        message_bytes: message.bytes,
        from: message.from.0,
        to: message.to.0,
        age_us: us(moment.age(message)),
        slowdown: moment.slowdown(message),
        has_arrived: message.is_over(),
    }
}

fn us(span: Span) -> f64 {
    span.as_ps() as f64 / 1e6
}
