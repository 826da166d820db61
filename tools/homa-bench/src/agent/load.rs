//! A load as an agent offers and reports it.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use homa_report::stats::quantile;

use super::mesh::{Counters, Mesh};
use crate::{
    arrivals::{Arrivals, Spacing},
    generator::{self, Call, Caller, End, Ended, Load, Record},
    spec::{LoadOrder, LoadSummary, Status, Target},
};

/// How long a load may go on after the controller has gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// RPCs recorded per load; beyond this the load is refused.
pub(crate) const RPCS_MAX: f64 = 2e7;

/// An RPC as it is reported: server, bytes, intended start, latency, status.
pub(super) type Row = (u32, u64, u64, u64, Status);

/// Offers the load and returns its RPCs.
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
    let before = (mesh.counters(), homa_sys::process_cpu_time_ns());
    let expected = (load.rpc_per_s * length_s * 1.2) as usize + 100;
    let (rows, lags_ns) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
    let mut found = Found { load, start, stop, rows, lags_ns };
    let mut targets = Targets { mesh, servers: &load.servers };
    generator::run(&mut targets, ordered(load), start, Instant::now, &mut found)?;
    let cpu_ns = homa_sys::process_cpu_time_ns().saturating_sub(before.1);
    let summary = found.summary(&before.0, &targets.mesh.counters(), cpu_ns);
    Ok((found.rows, summary))
}

/// What the load generator is to do.
fn ordered(order: &LoadOrder) -> Load {
    let (sizes, poisson, servers) = (order.workload.clone(), Spacing::Poisson, order.servers.len());
    let arrivals = Arrivals::new(sizes, order.rpc_per_s, poisson, servers, order.seed);
    let length = Duration::from_secs_f64(order.warm_up_s + order.secs);
    Load::open(arrivals, order.client_max, length, Duration::from_secs_f64(order.drain_s))
}

/// The servers of an order, by their index in it.
struct Targets<'a> {
    mesh: &'a mut dyn Mesh,
    servers: &'a [Target],
}

impl Caller for Targets<'_> {
    type Reply = bool;

    fn start(&mut self, token: u64, server: usize, bytes: u64) -> Result<(), bool> {
        let target = self.servers.get(server).ok_or(false)?;
        self.mesh.start(token, target.index, bytes as usize).map_err(|_| false)
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        self.mesh.poll(until, ended)
    }
}

/// The clock of the machine tells all agents when to begin; from then on each counts by its own.
fn start_time(unix_ns: u64) -> Instant {
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant::now() + Duration::from_nanos(unix_ns).saturating_sub(now_unix)
}

/// All that is reported.
struct Found<'a> {
    load: &'a LoadOrder,
    start: Instant,
    stop: &'a AtomicBool,
    rows: Vec<Row>,
    lags_ns: Vec<u64>,
}

impl Record<bool> for Found<'_> {
    fn look(&mut self, now: Instant, _: usize) -> io::Result<Instant> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the controller is gone")),
            false => Ok(now + LOOK_EVERY),
        }
    }

    fn begins(&mut self, call: &Call) {
        let lag = call.begun.saturating_duration_since(call.intended);
        self.lags_ns.push(lag.as_nanos() as u64);
    }

    fn ends(&mut self, call: &Call, at: Instant, end: End<bool>) {
        let status = match end {
            End::Known(true) => Status::Ok,
            End::Known(false) | End::TimedOut => Status::Failed,
            End::Unfinished => Status::Unfinished,
        };
        self.row(call, at, status);
    }

    fn over(&mut self, now: Instant, _: usize, missed: &mut dyn Iterator<Item = Call>) {
        missed.for_each(|call| self.row(&call, now, Status::Unfinished));
    }
}

impl Found<'_> {
    fn row(&mut self, call: &Call, at: Instant, status: Status) {
        let host = self.load.servers.get(call.server).map_or(u32::MAX, |server| server.host);
        let ns = |from, to: Instant| to.saturating_duration_since(from).as_nanos() as u64;
        let (at_ns, latency_ns) = (ns(self.start, call.intended), ns(call.intended, at));
        self.rows.push((host, call.bytes, at_ns, latency_ns, status));
    }

    fn summary(&mut self, before: &Counters, after: &Counters, cpu_ns: u64) -> LoadSummary {
        self.lags_ns.sort_unstable();
        let lag = |share| quantile(&self.lags_ns, share).unwrap_or(0);
        let named = |list: &Counters, name: &str| {
            list.named.iter().find(|counter| counter.0 == name).map_or(0, |counter| counter.1)
        };
        LoadSummary {
            cpu_ns,
            lag_p50_ns: lag(0.5),
            lag_p99_ns: lag(0.99),
            lag_max_ns: lag(1.0),
            never_begun: self.rows.len().saturating_sub(self.lags_ns.len()) as u64,
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
    use crate::workload::Workload;

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
            ended.extend(self.0.drain(..).map(|token| Ended { token, at, reply: true }));
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
