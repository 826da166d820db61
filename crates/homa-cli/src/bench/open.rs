//! The mixed workload: calls of many sizes that begin at random times, whether others have ended or not.
//!
//! A call's time counts from the moment it was *meant* to begin. A client that falls behind therefore shows
//! in the figures, instead of sparing the transport (coordinated omission).

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hdrhistogram::Histogram;
use homa_bench::{rng::Rng, workload::Workload};

use super::{
    job::{Outcome, Slowdown},
    measure::{CpuMeter, outcome, server_cpu_ns},
};
use crate::{body, error::CliError, latency::Latency, transport::Client};

/// Calls under way at a time; further ones wait, which counts as their time.
const OUTSTANDING_MAX: usize = 10_000;

/// How long calls may go on after the last one was meant to begin.
const DRAIN: Duration = Duration::from_secs(2);

/// The first part of the time, in which calls are made but not counted.
const WARM_UP_SHARE: f64 = 0.2;

/// Larger slowdowns count as this one.
const SLOWDOWN_MAX_THOUSANDTHS: u64 = 1_000_000_000;

/// What to offer.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    /// Sizes of the messages.
    pub workload: &'a Workload,
    /// Mean number of calls per second.
    pub rpc_per_s: f64,
    /// Unloaded time by size, in order of size: bytes and microseconds.
    pub unloaded: &'a [(u64, f64)],
    /// Upper ends of the classes of sizes, in order; bytes.
    pub classes_bytes: &'a [u64],
    /// Seed of sizes and arrivals.
    pub seed: u64,
    /// Counted seconds.
    pub secs: f64,
}

/// Makes the calls and measures their slowdown.
pub(crate) fn mixed(client: &mut dyn Client, offer: &Offer<'_>) -> Result<Outcome, CliError> {
    let before_ns = server_cpu_ns(client)?;
    let meter = CpuMeter::start(before_ns);
    let mut run = Run::new(offer, Instant::now);
    run.all(client)?;
    let client_ns = meter.client_ns();
    let server_ns = meter.server_ns(server_cpu_ns(client)?);
    Ok(run.outcome(client_ns + server_ns))
}

/// Calls in the order in which they are meant to begin.
struct Arrivals<'a> {
    offer: &'a Offer<'a>,
    rng: Rng,
    next_s: f64,
}

impl<'a> Arrivals<'a> {
    fn new(offer: &'a Offer<'a>) -> Self {
        Arrivals { offer, rng: Rng::new(offer.seed), next_s: 0.0 }
    }

    /// When the next call is meant to begin, in seconds from the start, and its size.
    fn take(&mut self) -> (f64, u64) {
        let size = self.offer.workload.sample(&mut self.rng);
        let at = self.next_s;
        self.next_s += self.rng.exponential(1.0 / self.offer.rpc_per_s);
        (at, size)
    }
}

/// A call under way.
#[derive(Debug, Clone, Copy)]
struct Slot {
    intended: Instant,
    size_bytes: u64,
    counted: bool,
}

/// The calls of an offer, by what `now` says of the time.
struct Run<'a, N> {
    offer: &'a Offer<'a>,
    now: N,
    payload: Bytes,
    start: Instant,
    count_from: Instant,
    end: Instant,
    slots: Vec<Option<Slot>>,
    free: Vec<u64>,
    classes: Vec<Histogram<u64>>,
    all: Histogram<u64>,
    latency: Latency,
    payload_bytes: u64,
    /// All calls made, counted or not.
    calls_made: u64,
    unfinished: u64,
}

impl<'a, N: Fn() -> Instant> Run<'a, N> {
    fn new(offer: &'a Offer<'a>, now: N) -> Self {
        let start = now();
        let count_from = start + Duration::from_secs_f64(offer.secs * WARM_UP_SHARE);
        Run {
            offer,
            now,
            payload: body::pattern(
                0,
                offer.classes_bytes.last().map_or(1, |bytes| *bytes as usize),
            ),
            start,
            count_from,
            end: count_from + Duration::from_secs_f64(offer.secs),
            slots: vec![None; OUTSTANDING_MAX],
            free: (0..OUTSTANDING_MAX as u64).rev().collect(),
            classes: offer.classes_bytes.iter().map(|_| slowdowns()).collect(),
            all: slowdowns(),
            latency: Latency::new(),
            payload_bytes: 0,
            calls_made: 0,
            unfinished: 0,
        }
    }

    fn all(&mut self, client: &mut dyn Client) -> Result<(), CliError> {
        let mut arrivals = Arrivals::new(self.offer);
        let mut next = self.intended(arrivals.take());
        let deadline = self.end + DRAIN;
        loop {
            let now = (self.now)();
            while next.intended <= now && next.intended < self.end && !self.free.is_empty() {
                self.begin(client, next)?;
                next = self.intended(arrivals.take());
            }
            let offered_all = next.intended >= self.end;
            if (offered_all && self.free.len() == self.slots.len()) || now >= deadline {
                break;
            }
            // With all slots taken, or all calls made, only the end of one lets anything happen.
            let until = match offered_all || self.free.is_empty() {
                true => deadline,
                false => next.intended,
            };
            self.collect(client, until)?;
        }
        self.give_up_rest(&mut arrivals, next);
        Ok(())
    }

    fn intended(&self, (at_s, size_bytes): (f64, u64)) -> Slot {
        let intended = self.start + Duration::from_secs_f64(at_s);
        Slot { intended, size_bytes, counted: intended >= self.count_from }
    }

    fn begin(&mut self, client: &mut dyn Client, slot: Slot) -> Result<(), CliError> {
        // The caller has seen that a slot is free.
        let Some(token) = self.free.pop() else {
            return Ok(());
        };
        let request = self.payload.slice(..self.payload.len().min(slot.size_bytes as usize));
        client.start(token, &request)?;
        self.slots[token as usize] = Some(slot);
        self.calls_made += 1;
        Ok(())
    }

    fn collect(&mut self, client: &mut dyn Client, until: Instant) -> Result<(), CliError> {
        let mut failure = None;
        client.poll(until, &mut |token, outcome| match outcome {
            Ok(reply) => self.ended(token, reply.remaining() as u64),
            Err(error) => failure = Some(error),
        })?;
        failure.map_or(Ok(()), |error| Err(CliError::Transport(error)))
    }

    fn ended(&mut self, token: u64, reply_bytes: u64) {
        let Some(slot) = self.slots.get_mut(token as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(token);
        if slot.counted {
            self.payload_bytes += slot.size_bytes + reply_bytes;
            self.count(slot);
        }
    }

    /// Counts a call with the time from when it was meant to begin until now.
    fn count(&mut self, slot: Slot) {
        let time = (self.now)().saturating_duration_since(slot.intended);
        self.latency.record(time);
        let unloaded_us = interpolate(self.offer.unloaded, slot.size_bytes).max(1e-3);
        let slowdown = time.as_secs_f64() * 1e6 / unloaded_us;
        let thousandths = (slowdown * 1e3).min(1e15) as u64;
        self.all.saturating_record(thousandths);
        let class = self.offer.classes_bytes.partition_point(|end| *end < slot.size_bytes);
        if let Some(class) = self.classes.get_mut(class) {
            class.saturating_record(thousandths);
        }
    }

    /// Calls that have not ended count with the time they have taken so far.
    fn give_up_rest(&mut self, arrivals: &mut Arrivals<'_>, mut next: Slot) {
        let rest: Vec<Slot> = self.slots.iter_mut().filter_map(Option::take).collect();
        for slot in rest {
            self.give_up(slot);
        }
        while next.intended < self.end {
            self.give_up(next);
            next = self.intended(arrivals.take());
        }
    }

    fn give_up(&mut self, slot: Slot) {
        if slot.counted {
            self.unfinished += 1;
            self.count(slot);
        }
    }

    fn outcome(&self, cpu_ns: u64) -> Outcome {
        let class = |(histogram, size_bytes): (&Histogram<u64>, u64)| Slowdown {
            size_bytes,
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5) as f64 / 1e3,
            p99: histogram.value_at_quantile(0.99) as f64 / 1e3,
        };
        let ends = self.offer.classes_bytes.iter().copied();
        let longest = self.offer.classes_bytes.last().copied().unwrap_or(0);
        let counted = self.latency.count();
        // The processes' time covers the calls of the warm-up too.
        let share = counted as f64 / self.calls_made.max(1) as f64;
        let length = Duration::from_secs_f64(self.offer.secs);
        let all =
            outcome(&self.latency, length, self.payload_bytes, (cpu_ns as f64 * share) as u64);
        Outcome {
            calls: counted - self.unfinished,
            unfinished: self.unfinished,
            slowdown: Some(class((&self.all, longest))),
            classes: self.classes.iter().zip(ends).map(class).collect(),
            ..all
        }
    }
}

/// A histogram of slowdowns in thousandths.
fn slowdowns() -> Histogram<u64> {
    Histogram::new_with_bounds(1, SLOWDOWN_MAX_THOUSANDTHS, 3)
        .expect("bounds of at least a factor of 2 and 3 digits are valid")
}

/// The time for a size between measured ones; beyond them, in proportion to the last two.
pub(crate) fn interpolate(points: &[(u64, f64)], size_bytes: u64) -> f64 {
    let index = points.partition_point(|point| point.0 < size_bytes);
    let (low, high) =
        match (index.checked_sub(1).and_then(|low| points.get(low)), points.get(index)) {
            (_, Some(high)) if high.0 == size_bytes => return high.1,
            (Some(low), Some(high)) => (low, high),
            (None, Some(only)) => return only.1,
            (Some(last), None) => {
                match points.len().checked_sub(2).and_then(|before| points.get(before)) {
                    Some(before) => (before, last),
                    None => return last.1,
                }
            }
            (None, None) => return 0.0,
        };
    let slope = (high.1 - low.1) / (high.0 - low.0).max(1) as f64;
    (low.1 + slope * (size_bytes as f64 - low.0 as f64)).max(low.1.min(high.1))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::VecDeque, ops::Range};

    use super::*;
    use crate::transport::Outcome as CallOutcome;

    #[test]
    fn times_between_measured_sizes_are_interpolated() {
        let points = [(100, 10.0), (1_000, 19.0), (10_000, 100.0)];
        assert_eq!(interpolate(&points, 50), 10.0);
        assert_eq!(interpolate(&points, 1_000), 19.0);
        assert_eq!(interpolate(&points, 550), 14.5);
        assert_eq!(interpolate(&points, 19_000), 181.0);
        assert_eq!(interpolate(&[], 5), 0.0);
        assert_eq!(interpolate(&[(7, 3.0)], 99), 3.0);
    }

    /// Time that passes only when the client lets it.
    type Clock = Cell<Instant>;

    const SERVICE: Duration = Duration::from_micros(1);

    /// Echoes each call after a while, but stands still during one pause, and all of its process with it.
    struct Echo<'a> {
        /// None: real time.
        clock: Option<&'a Clock>,
        service: Duration,
        pause: Option<Range<Instant>>,
        calls: VecDeque<(u64, Instant, Bytes)>,
    }

    impl<'a> Echo<'a> {
        fn new(clock: Option<&'a Clock>, service: Duration) -> Self {
            Echo { clock, service, pause: None, calls: VecDeque::new() }
        }

        fn now(&self) -> Instant {
            self.clock.map_or_else(Instant::now, Cell::get)
        }
    }

    impl Client for Echo<'_> {
        fn call(
            &mut self,
            _: &Bytes,
            _: Duration,
            _: &mut dyn FnMut(&mut dyn Buf),
        ) -> Result<(), CliError> {
            Ok(())
        }

        fn start(&mut self, token: u64, body: &Bytes) -> Result<(), CliError> {
            self.calls.push_back((token, self.now() + self.service, body.clone()));
            Ok(())
        }

        fn poll(
            &mut self,
            until: Instant,
            sink: &mut dyn FnMut(u64, CallOutcome<'_>),
        ) -> Result<usize, CliError> {
            if let Some(clock) = self.clock {
                let next = self.calls.front().map_or(until, |(_, due, _)| until.min(*due));
                let next = next.max(clock.get());
                let paused = self.pause.as_ref().filter(|pause| pause.contains(&next));
                clock.set(paused.map_or(next, |pause| pause.end));
            }
            let now = self.now();
            let ended = self.calls.partition_point(|(_, due, _)| *due <= now);
            for (token, _, mut body) in self.calls.drain(..ended) {
                sink(token, Ok(&mut body));
            }
            Ok(ended)
        }
    }

    /// An offer of so many calls per second for so long, against an unloaded time of [`SERVICE`].
    fn offer<'a>(
        workload: &'a Workload,
        classes: &'a [u64],
        rpc_per_s: f64,
        secs: f64,
    ) -> Offer<'a> {
        Offer { workload, rpc_per_s, unloaded: &[(1, 1.0)], classes_bytes: classes, seed: 1, secs }
    }

    /// When the calls that count are meant to begin, from the start.
    fn counted_arrivals(offer: &Offer<'_>) -> Vec<Duration> {
        let from = Duration::from_secs_f64(offer.secs * WARM_UP_SHARE);
        let end = from + Duration::from_secs_f64(offer.secs);
        let mut arrivals = Arrivals::new(offer);
        std::iter::repeat_with(|| Duration::from_secs_f64(arrivals.take().0))
            .take_while(|at| *at < end)
            .filter(|at| *at >= from)
            .collect()
    }

    /// The value that this share of the times does not exceed, in microseconds.
    fn percentile_us(times: &mut [Duration], share: f64) -> f64 {
        times.sort_unstable();
        times[(times.len() as f64 * share).ceil() as usize - 1].as_secs_f64() * 1e6
    }

    /// Histograms are right to a part in a thousand.
    fn same(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() < 0.001
    }

    #[test]
    fn a_pause_counts_for_every_call_that_was_meant_to_begin_in_it() {
        let workload = Workload::load("w1").unwrap();
        let classes = workload.class_ends_bytes();
        let offer = offer(&workload, &classes, 5_000.0, 0.5);
        let pause = Duration::from_millis(150)..Duration::from_millis(250);
        let start = Instant::now();
        let clock = Clock::new(start);
        let mut client = Echo::new(Some(&clock), SERVICE);
        client.pause = Some(start + pause.start..start + pause.end);
        let mut run = Run::new(&offer, || clock.get());
        run.all(&mut client).unwrap();
        let found = run.outcome(0);

        let mut times: Vec<Duration> = counted_arrivals(&offer)
            .into_iter()
            .map(|at| match pause.contains(&at) {
                // It begins when the pause ends.
                true => pause.end - at + SERVICE,
                false => SERVICE,
            })
            .collect();
        assert_eq!((found.calls, found.unfinished), (times.len() as u64, 0));
        assert_eq!(found.p50_us, 1.0, "most calls did not meet the pause");
        // A fifth of the calls fell into the pause of 100 ms: their P99 shows nearly all of it.
        let p99_us = percentile_us(&mut times, 0.99);
        assert!(p99_us > 90_000.0 && same(found.p99_us, p99_us), "{} {p99_us}", found.p99_us);
        let slowdown = found.slowdown.unwrap();
        assert_eq!(slowdown.p50, 1.0);
        assert!(same(slowdown.p99, p99_us), "{slowdown:?} {p99_us}");
        let counts: u64 = found.classes.iter().map(|class| class.count).sum();
        assert_eq!(counts, found.calls);
    }

    #[test]
    fn calls_without_an_answer_count_with_the_time_until_they_are_given_up() {
        let workload = Workload::load("fixed:100").unwrap();
        // More calls than may be under way: the last ones cannot even begin.
        let offer = offer(&workload, &[100], 20_000.0, 1.0);
        let clock = Clock::new(Instant::now());
        let mut run = Run::new(&offer, || clock.get());
        run.all(&mut Echo::new(Some(&clock), Duration::from_secs(3_600))).unwrap();
        let found = run.outcome(0);

        let given_up = Duration::from_secs_f64(1.0 + WARM_UP_SHARE) + DRAIN;
        let mut times: Vec<Duration> =
            counted_arrivals(&offer).into_iter().map(|at| given_up - at).collect();
        assert!(times.len() > OUTSTANDING_MAX);
        assert_eq!((found.calls, found.unfinished), (0, times.len() as u64));
        for (found, share) in [(found.p50_us, 0.5), (found.p99_us, 0.99)] {
            let expected = percentile_us(&mut times, share);
            assert!(same(found, expected), "{found} instead of {expected}");
        }
    }

    #[test]
    fn in_real_time_every_call_that_is_due_is_counted_once() {
        let workload = Workload::load("w1").unwrap();
        let classes = workload.class_ends_bytes();
        let offer = offer(&workload, &classes, 5_000.0, 0.1);
        let found = mixed(&mut Echo::new(None, Duration::ZERO), &offer).unwrap();
        let due = counted_arrivals(&offer).len() as u64;
        assert!(due > 400, "{due}");
        assert_eq!(found.calls + found.unfinished, due);
        let counts: u64 = found.classes.iter().map(|class| class.count).sum();
        assert_eq!(counts, due);
    }
}
