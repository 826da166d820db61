//! Open-loop load: RPCs begin at random times whatever has ended, and count from when they were meant to begin.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::mesh::{Counters, Ended, Mesh};
use crate::{
    arrivals::{Arrivals, Spacing},
    quantile::at_share,
    spec::{LoadOrder, LoadSummary, Status},
};

/// Calls under way at most, so that memory stays bounded.
const OUTSTANDING_MAX: u32 = 100_000;
/// RPCs recorded per load; beyond this the load is refused.
pub(crate) const RPCS_MAX: f64 = 2e7;

/// An RPC as it is reported: server, bytes, intended start, latency, status.
pub(super) type Row = (u32, u64, u64, u64, Status);

/// Offers the load and returns its RPCs, those of the warm-up and those without an end included.
pub(super) fn run(
    mesh: &mut dyn Mesh,
    load: &LoadOrder,
    stop: &AtomicBool,
) -> io::Result<(Vec<Row>, LoadSummary)> {
    let length_s = load.warm_up_s + load.secs;
    let good =
        load.rpc_per_s >= 0.0 && length_s.is_finite() && length_s >= 0.0 && load.drain_s >= 0.0;
    if !good || load.rpc_per_s * length_s > RPCS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the load is too long"));
    }
    let start = start_time(load.start_unix_ns);
    let mut run = Run::new(load, start);
    let before = (mesh.counters(), homa_sys::process_cpu_time_ns());
    run.all(mesh, stop)?;
    let cpu_ns = homa_sys::process_cpu_time_ns().saturating_sub(before.1);
    let summary = run.summary(&before.0, &mesh.counters(), cpu_ns);
    Ok((run.rows, summary))
}

/// The clock of the machine tells all agents when to begin; from then on each counts by its own.
fn start_time(unix_ns: u64) -> Instant {
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + Duration::from_nanos(unix_ns).saturating_sub(now_unix)
}

/// An RPC whose time has come.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at_ns: u64,
    server: usize,
    bytes: u64,
}

struct Run<'a> {
    load: &'a LoadOrder,
    arrivals: Option<Arrivals>,
    start: Instant,
    next: Option<Arrival>,
    waiting: VecDeque<Arrival>,
    under_way: Vec<Option<Arrival>>,
    free: Vec<u32>,
    rows: Vec<Row>,
    lags_ns: Vec<u64>,
    never_begun: u64,
}

impl<'a> Run<'a> {
    fn new(load: &'a LoadOrder, start: Instant) -> Self {
        let slots = load.client_max.clamp(1, OUTSTANDING_MAX);
        let expected = (load.rpc_per_s * (load.warm_up_s + load.secs) * 1.2) as usize + 100;
        let mut run = Run {
            load,
            arrivals: Arrivals::new(
                load.workload.clone(),
                load.rpc_per_s,
                Spacing::Poisson,
                load.servers.len(),
                load.seed,
            ),
            start,
            next: None,
            waiting: VecDeque::new(),
            under_way: vec![None; slots as usize],
            free: (0..slots).rev().collect(),
            rows: Vec::with_capacity(expected),
            lags_ns: Vec::with_capacity(expected),
            never_begun: 0,
        };
        run.next = run.arrival();
        run
    }

    /// The next arrival; none after the end of the load.
    fn arrival(&mut self) -> Option<Arrival> {
        let next = self.arrivals.as_mut()?.take();
        if next.at_s >= self.load.warm_up_s + self.load.secs {
            return None;
        }
        Some(Arrival {
            at_ns: (next.at_s * 1e9) as u64,
            server: self.load.servers.get(next.server).map_or(0, |server| server.index),
            bytes: next.bytes,
        })
    }

    fn all(&mut self, mesh: &mut dyn Mesh, stop: &AtomicBool) -> io::Result<()> {
        let end = self.start + Duration::from_secs_f64(self.load.warm_up_s + self.load.secs);
        let give_up = end + Duration::from_secs_f64(self.load.drain_s);
        let mut ended = Vec::new();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the controller is gone"));
            }
            let now = Instant::now();
            self.begin_due(mesh, now)?;
            let busy = self.free.len() < self.under_way.len() || !self.waiting.is_empty();
            if (now >= end && !busy) || now >= give_up {
                break;
            }
            let until = self.next.map_or(if now < end { end } else { give_up }, |next| {
                self.start + Duration::from_nanos(next.at_ns)
            });
            mesh.poll(until, &mut ended)?;
            for call in ended.drain(..) {
                self.ended(call);
            }
        }
        self.give_up_rest(Instant::now());
        Ok(())
    }

    fn begin_due(&mut self, mesh: &mut dyn Mesh, now: Instant) -> io::Result<()> {
        let now_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        if now < self.start {
            return Ok(());
        }
        while let Some(next) = self.next.filter(|next| next.at_ns <= now_ns) {
            self.waiting.push_back(next);
            self.next = self.arrival();
        }
        while let (Some(arrival), Some(slot)) = (self.waiting.front().copied(), self.free.last()) {
            let slot = *slot;
            self.waiting.pop_front();
            self.lags_ns.push(now_ns.saturating_sub(arrival.at_ns));
            match mesh.start(u64::from(slot), arrival.server, arrival.bytes as usize) {
                Ok(()) => {
                    self.free.pop();
                    self.under_way[slot as usize] = Some(arrival);
                }
                Err(_) => self.record(arrival, Instant::now(), Status::Failed),
            }
        }
        Ok(())
    }

    fn ended(&mut self, call: Ended) {
        // Calls of earlier orders have other tokens.
        let slot = usize::try_from(call.token).unwrap_or(usize::MAX);
        let Some(arrival) = self.under_way.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot as u32);
        self.record(arrival, call.at, if call.ok { Status::Ok } else { Status::Failed });
    }

    fn record(&mut self, arrival: Arrival, at: Instant, status: Status) {
        let at_ns = at.saturating_duration_since(self.start).as_nanos() as u64;
        let server = self.load.servers.iter().find(|server| server.index == arrival.server);
        let host = server.map_or(u32::MAX, |server| server.host);
        let latency_ns = at_ns.saturating_sub(arrival.at_ns);
        self.rows.push((host, arrival.bytes, arrival.at_ns, latency_ns, status));
    }

    fn give_up_rest(&mut self, now: Instant) {
        for arrival in std::mem::take(&mut self.under_way).into_iter().flatten() {
            self.record(arrival, now, Status::Unfinished);
        }
        for arrival in std::mem::take(&mut self.waiting) {
            self.never_begun += 1;
            self.record(arrival, now, Status::Unfinished);
        }
    }

    fn summary(&mut self, before: &Counters, after: &Counters, cpu_ns: u64) -> LoadSummary {
        self.lags_ns.sort_unstable();
        let lag = |share| at_share(&self.lags_ns, share).unwrap_or(0);
        let named = |list: &Counters, name: &str| {
            list.named.iter().find(|counter| counter.0 == name).map_or(0, |counter| counter.1)
        };
        LoadSummary {
            cpu_ns,
            lag_p50_ns: lag(0.5),
            lag_p99_ns: lag(0.99),
            lag_max_ns: lag(1.0),
            never_begun: self.never_begun,
            retransmitted_bytes: after
                .retransmitted_bytes
                .saturating_sub(before.retransmitted_bytes),
            retransmitted_packets: after
                .retransmitted_packets
                .saturating_sub(before.retransmitted_packets),
            dropped_by_system: after.dropped_by_system.saturating_sub(before.dropped_by_system),
            counters: after
                .named
                .iter()
                .map(|(name, count)| (name.clone(), count.saturating_sub(named(before, name))))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{spec::Target, workload::Workload};

    /// Every call ends at once.
    #[derive(Default)]
    struct Instantly(Vec<u64>);

    impl Mesh for Instantly {
        fn address(&self) -> SocketAddr {
            SocketAddr::from(([127, 0, 0, 1], 1))
        }

        fn connect(&mut self, _: &[SocketAddr], _: Duration) -> io::Result<()> {
            Ok(())
        }

        fn start(&mut self, token: u64, _: usize, _: usize) -> io::Result<()> {
            self.0.push(token);
            Ok(())
        }

        fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
            if self.0.is_empty() {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            let at = Instant::now();
            ended.extend(self.0.drain(..).map(|token| Ended { token, at, ok: true }));
            Ok(())
        }

        fn counters(&self) -> Counters {
            Counters::default()
        }
    }

    #[test]
    fn the_rpcs_of_the_warm_up_are_reported_as_well() {
        let load = LoadOrder {
            servers: vec![Target { index: 0, host: 1 }],
            rpc_per_s: 10_000.0,
            workload: Workload::load("fixed:100").unwrap(),
            client_max: 100,
            seed: 1,
            start_unix_ns: 0,
            warm_up_s: 0.05,
            secs: 0.05,
            drain_s: 1.0,
        };
        let (rows, _) = run(&mut Instantly::default(), &load, &AtomicBool::new(false)).unwrap();
        let warm_up = rows.iter().filter(|row| row.2 < 50_000_000).count();
        assert!((350..650).contains(&warm_up), "{warm_up} of about 500");
        assert!((850..1150).contains(&rows.len()), "{} of about 1000", rows.len());
    }
}
