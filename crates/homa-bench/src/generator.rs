//! Open-loop load: RPCs begin at random times whatever has ended, and count from when they were
//! meant to begin, so that neither a server that stands still nor a client that falls behind is
//! spared (coordinated omission).

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    arrivals::{Arrivals, Spacing},
    spec::{LoadOrder, Status},
};

/// Calls under way at most, so that memory stays bounded.
const OUTSTANDING_MAX: u32 = 100_000;

/// Who can call servers.
pub trait Caller {
    /// Begins a call with a request of `bytes` to the server of this index; [`poll`](Self::poll)
    /// reports its end with `token`.
    ///
    /// # Errors
    /// What is known at once.
    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()>;

    /// Sends and receives until a call ended or until `until`; adds calls that ended.
    ///
    /// # Errors
    /// No more calls can be made.
    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()>;
}

/// The end of a call.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What the call was started with.
    pub token: u64,
    /// When its last byte was here.
    pub at: Instant,
    /// Whether it has its answer.
    pub ok: bool,
}

/// An RPC whose time has come.
#[derive(Debug, Clone, Copy)]
pub struct Rpc {
    /// When it was meant to begin, in nanoseconds from the start of the load.
    pub at_ns: u64,
    /// The server, by its index.
    pub server: usize,
    /// Length of the request.
    pub bytes: u64,
}

/// Who is told of the RPCs of a load, those of the warm-up included.
pub trait Record {
    /// An RPC begins, so much later than it was meant to.
    fn begins(&mut self, rpc: Rpc, lag_ns: u64);

    /// An RPC is over: the time since it was meant to begin, and what became of it. RPCs that found
    /// no place under way to the end have not begun.
    fn ends(&mut self, rpc: Rpc, latency_ns: u64, status: Status);
}

/// Offers the load from `start` on, by what `now` says of the time.
///
/// # Errors
/// The caller cannot go on; `stop` was set.
pub fn run(
    caller: &mut (impl Caller + ?Sized),
    load: &LoadOrder,
    start: Instant,
    now: impl Fn() -> Instant,
    stop: &AtomicBool,
    record: &mut dyn Record,
) -> io::Result<()> {
    Run::new(load, start, record).all(caller, now, stop)
}

struct Run<'a> {
    load: &'a LoadOrder,
    record: &'a mut dyn Record,
    arrivals: Option<Arrivals>,
    start: Instant,
    next: Option<Rpc>,
    waiting: VecDeque<Rpc>,
    under_way: Vec<Option<Rpc>>,
    free: Vec<u32>,
}

impl<'a> Run<'a> {
    fn new(load: &'a LoadOrder, start: Instant, record: &'a mut dyn Record) -> Self {
        let slots = load.client_max.clamp(1, OUTSTANDING_MAX);
        let (sizes, servers) = (load.workload.clone(), load.servers.len());
        let mut run = Run {
            load,
            record,
            arrivals: Arrivals::new(sizes, load.rpc_per_s, Spacing::Poisson, servers, load.seed),
            start,
            next: None,
            waiting: VecDeque::new(),
            under_way: vec![None; slots as usize],
            free: (0..slots).rev().collect(),
        };
        run.next = run.arrival();
        run
    }

    /// The next arrival; none after the end of the load.
    fn arrival(&mut self) -> Option<Rpc> {
        let next = self.arrivals.as_mut()?.take();
        if next.at_s >= self.load.warm_up_s + self.load.secs {
            return None;
        }
        Some(Rpc {
            at_ns: (next.at_s * 1e9) as u64,
            server: self.load.servers.get(next.server).map_or(0, |server| server.index),
            bytes: next.bytes,
        })
    }

    fn all(
        &mut self,
        caller: &mut (impl Caller + ?Sized),
        now: impl Fn() -> Instant,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let end = self.start + Duration::from_secs_f64(self.load.warm_up_s + self.load.secs);
        let give_up = end + Duration::from_secs_f64(self.load.drain_s);
        let mut ended = Vec::new();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("the controller is gone"));
            }
            let at = now();
            self.begin_due(caller, at);
            let busy = self.free.len() < self.under_way.len() || !self.waiting.is_empty();
            if (at >= end && !busy) || at >= give_up {
                break;
            }
            let until = self.next.map_or(if at < end { end } else { give_up }, |next| {
                self.start + Duration::from_nanos(next.at_ns)
            });
            caller.poll(until, &mut ended)?;
            for call in ended.drain(..) {
                self.ended(call);
            }
        }
        self.give_up_rest(now());
        Ok(())
    }

    fn begin_due(&mut self, caller: &mut (impl Caller + ?Sized), now: Instant) {
        let now_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        if now < self.start {
            return;
        }
        while let Some(next) = self.next.filter(|next| next.at_ns <= now_ns) {
            self.waiting.push_back(next);
            self.next = self.arrival();
        }
        while let (Some(rpc), Some(slot)) = (self.waiting.front().copied(), self.free.last()) {
            let slot = *slot;
            self.waiting.pop_front();
            self.record.begins(rpc, now_ns.saturating_sub(rpc.at_ns));
            match caller.start(u64::from(slot), rpc.server, rpc.bytes as usize) {
                Ok(()) => {
                    self.free.pop();
                    self.under_way[slot as usize] = Some(rpc);
                }
                Err(_) => self.ends(rpc, now, Status::Failed),
            }
        }
    }

    fn ended(&mut self, call: Ended) {
        // Calls of earlier orders have other tokens.
        let slot = usize::try_from(call.token).unwrap_or(usize::MAX);
        let Some(rpc) = self.under_way.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot as u32);
        self.ends(rpc, call.at, if call.ok { Status::Ok } else { Status::Failed });
    }

    fn ends(&mut self, rpc: Rpc, at: Instant, status: Status) {
        let at_ns = at.saturating_duration_since(self.start).as_nanos() as u64;
        self.record.ends(rpc, at_ns.saturating_sub(rpc.at_ns), status);
    }

    fn give_up_rest(&mut self, now: Instant) {
        let under_way = std::mem::take(&mut self.under_way).into_iter().flatten();
        for rpc in under_way.chain(std::mem::take(&mut self.waiting)) {
            self.ends(rpc, now, Status::Unfinished);
        }
    }
}
