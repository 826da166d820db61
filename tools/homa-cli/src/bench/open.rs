//! The mixed workload: calls of many sizes that begin at random times, whether others have ended or
//! not.
//!
//! A call's time counts from the moment it was *meant* to begin. A client that falls behind
//! therefore shows in the figures, instead of sparing the transport (coordinated omission).

use std::{
    io,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use homa_bench::{
    arrivals::{Arrivals, Spacing},
    generator::{self, Call, End, Load, Record},
    workload::Workload,
};
use homa_report::stats::interpolate;

use super::{
    job::{Mixed, Outcome, Slowdown},
    measure::{CpuMeter, outcome, server_cpu_ns},
};
use crate::{
    body,
    error::CliError,
    latency::Latency,
    transport::{
        Pipeline,
        calls::{Calls, Reply, failure},
    },
};

/// Calls under way at a time; further ones wait, which counts as their time.
const OUTSTANDING_MAX: u32 = 10_000;

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
    pub sizes: Workload,
    /// How many, and how they are measured.
    pub mixed: &'a Mixed,
    /// Counted seconds.
    pub secs: f64,
}

/// Makes the calls and measures their slowdown.
pub(crate) fn mixed(client: &mut dyn Pipeline, offer: &Offer<'_>) -> Result<Outcome, CliError> {
    let before_ns = server_cpu_ns(client)?;
    let meter = CpuMeter::start(before_ns);
    let found = offered(client, offer, Instant::now)?;
    let client_ns = meter.client_ns();
    let server_ns = meter.server_ns(server_cpu_ns(client)?);
    Ok(found.outcome(client_ns + server_ns))
}

/// Makes the calls, by what `now` says of the time.
fn offered<'a>(
    client: &mut dyn Pipeline,
    offer: &'a Offer<'a>,
    now: impl Fn() -> Instant,
) -> Result<Found<'a>, CliError> {
    let longest = offer.mixed.classes_bytes.last().map_or(1, |bytes| *bytes as usize);
    let (start, payload) = (now(), body::pattern(0, longest));
    let mut calls = Calls::new(client, payload, &now);
    let mut found = Found::new(offer, start);
    generator::run(&mut calls, offer.load(), start, &now, &mut found).map_err(failure)?;
    Ok(found)
}

impl Offer<'_> {
    fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.secs * WARM_UP_SHARE)
    }

    fn load(&self) -> Load {
        let (sizes, poisson) = (self.sizes.clone(), Spacing::Poisson);
        let arrivals = Arrivals::new(sizes, self.mixed.rpc_per_s, poisson, 1, self.mixed.seed);
        let length = self.warm_up() + Duration::from_secs_f64(self.secs);
        Load::open(arrivals, OUTSTANDING_MAX, length, DRAIN)
    }
}

/// What is found of an offer.
struct Found<'a> {
    offer: &'a Offer<'a>,
    count_from: Instant,
    classes: Vec<Histogram<u64>>,
    all: Histogram<u64>,
    latency: Latency,
    payload_bytes: u64,
    /// All calls made, counted or not.
    calls_made: u64,
    unfinished: u64,
    /// Why a call failed, which ends the measurement.
    failure: Option<CliError>,
}

impl Record<Reply> for Found<'_> {
    fn look(&mut self, now: Instant, _: usize) -> io::Result<Instant> {
        self.failure.take().map_or(Ok(now + DRAIN), |failure| Err(io::Error::other(failure)))
    }

    fn begins(&mut self, _: &Call) {
        self.calls_made += 1;
    }

    fn ends(&mut self, call: &Call, at: Instant, end: End<Reply>) {
        if let End::Known(Err(reason)) = end {
            self.failure.get_or_insert(CliError::Transport(reason));
            return;
        }
        if call.intended < self.count_from {
            return;
        }
        match end {
            // An echo.
            End::Known(Ok(_)) => self.payload_bytes += 2 * call.bytes,
            _ => self.unfinished += 1,
        }
        let latency = at.saturating_duration_since(call.intended);
        self.latency.record(latency);
        let unloaded_us =
            interpolate(&self.offer.mixed.unloaded, call.bytes).unwrap_or(0.0).max(1e-3);
        let thousandths = (latency.as_nanos() as f64 / unloaded_us).min(1e15) as u64;
        self.all.saturating_record(thousandths);
        let class = self.offer.mixed.classes_bytes.partition_point(|end| *end < call.bytes);
        if let Some(class) = self.classes.get_mut(class) {
            class.saturating_record(thousandths);
        }
    }

    fn over(&mut self, now: Instant, _: usize, missed: &mut dyn Iterator<Item = Call>) {
        missed.for_each(|call| self.ends(&call, now, End::Unfinished));
    }
}

impl<'a> Found<'a> {
    fn new(offer: &'a Offer<'a>, start: Instant) -> Self {
        Found {
            offer,
            count_from: start + offer.warm_up(),
            classes: offer.mixed.classes_bytes.iter().map(|_| slowdowns()).collect(),
            all: slowdowns(),
            latency: Latency::new(),
            payload_bytes: 0,
            calls_made: 0,
            unfinished: 0,
            failure: None,
        }
    }

    fn outcome(&self, cpu_ns: u64) -> Outcome {
        let class = |(histogram, size_bytes): (&Histogram<u64>, u64)| Slowdown {
            size_bytes,
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5) as f64 / 1e3,
            p99: histogram.value_at_quantile(0.99) as f64 / 1e3,
        };
        let ends = self.offer.mixed.classes_bytes.iter().copied();
        let longest = self.offer.mixed.classes_bytes.last().copied().unwrap_or(0);
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

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::VecDeque, ops::Range};

    use bytes::Bytes;

    use super::*;
    use crate::transport::Outcome as CallOutcome;

    /// Time that passes only when the client lets it.
    type Clock = Cell<Instant>;

    const SERVICE: Duration = Duration::from_micros(1);

    /// Echoes each call after a while, but stands still during one pause, and all of its process
    /// with it.
    struct Echo<'a> {
        /// None: real time.
        clock: Option<&'a Clock>,
        service: Duration,
        pause: Option<Range<Instant>>,
        /// Whether no call can begin.
        refuses: bool,
        calls: VecDeque<(u64, Instant, Bytes)>,
    }

    impl<'a> Echo<'a> {
        fn new(clock: Option<&'a Clock>, service: Duration) -> Self {
            Echo { clock, service, pause: None, refuses: false, calls: VecDeque::new() }
        }

        fn now(&self) -> Instant {
            self.clock.map_or_else(Instant::now, Cell::get)
        }
    }

    impl Pipeline for Echo<'_> {
        fn start(&mut self, token: u64, _: usize, body: &Bytes) -> Result<(), CliError> {
            if self.refuses {
                return Err(CliError::Transport("refused".to_owned()));
            }
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

    /// So many calls per second, against an unloaded time of [`SERVICE`].
    fn mix(workload: &str, rpc_per_s: f64) -> Mixed {
        let classes_bytes = Workload::load(workload).unwrap().class_ends_bytes();
        let (workload, unloaded) = (workload.to_owned(), vec![(1, 1.0)]);
        Mixed { workload, rpc_per_s, unloaded, classes_bytes, seed: 1 }
    }

    /// An offer for so long.
    fn offer(mixed: &Mixed, secs: f64) -> Offer<'_> {
        Offer { sizes: Workload::load(&mixed.workload).unwrap(), mixed, secs }
    }

    /// When the calls that count are meant to begin, from the start.
    fn counted_arrivals(offer: &Offer<'_>) -> Vec<Duration> {
        let from = Duration::from_secs_f64(offer.secs * WARM_UP_SHARE);
        let end = from + Duration::from_secs_f64(offer.secs);
        let (sizes, mixed) = (offer.sizes.clone(), offer.mixed);
        let mut arrivals =
            Arrivals::new(sizes, mixed.rpc_per_s, Spacing::Poisson, 1, mixed.seed).unwrap();
        std::iter::repeat_with(|| Duration::from_secs_f64(arrivals.take().at_s))
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
        let mixed = mix("w1", 5_000.0);
        let offer = offer(&mixed, 0.5);
        let pause = Duration::from_millis(150)..Duration::from_millis(250);
        let start = Instant::now();
        let clock = Clock::new(start);
        let mut client = Echo::new(Some(&clock), SERVICE);
        client.pause = Some(start + pause.start..start + pause.end);
        let found = offered(&mut client, &offer, || clock.get()).unwrap().outcome(0);

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
        // More calls than may be under way: the last ones cannot even begin.
        let mixed = mix("fixed:100", 20_000.0);
        let offer = offer(&mixed, 1.0);
        let clock = Clock::new(Instant::now());
        let mut client = Echo::new(Some(&clock), Duration::from_secs(3_600));
        let found = offered(&mut client, &offer, || clock.get()).unwrap().outcome(0);

        let given_up = Duration::from_secs_f64(1.0 + WARM_UP_SHARE) + DRAIN;
        let mut times: Vec<Duration> =
            counted_arrivals(&offer).into_iter().map(|at| given_up - at).collect();
        assert!(times.len() > OUTSTANDING_MAX as usize);
        assert_eq!((found.calls, found.unfinished), (0, times.len() as u64));
        for (found, share) in [(found.p50_us, 0.5), (found.p99_us, 0.99)] {
            let expected = percentile_us(&mut times, share);
            assert!(same(found, expected), "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_call_that_cannot_begin_ends_the_measurement_even_if_it_is_the_last() {
        let mixed = mix("w1", 50.0);
        let clock = Clock::new(Instant::now());
        let mut client = Echo::new(Some(&clock), SERVICE);
        client.refuses = true;
        // All are late: they begin in one turn, after which nothing is under way.
        client.pause = Some(clock.get()..clock.get() + Duration::from_secs(2));
        let found = offered(&mut client, &offer(&mixed, 1.0), || clock.get()).map(drop);
        assert_eq!(found.unwrap_err().to_string(), "refused");
    }

    #[test]
    fn in_real_time_every_call_that_is_due_is_counted_once() {
        let mixed = mix("w1", 5_000.0);
        let offer = offer(&mixed, 0.1);
        let found = super::mixed(&mut Echo::new(None, Duration::ZERO), &offer).unwrap();
        let due = counted_arrivals(&offer).len() as u64;
        assert!(due > 400, "{due}");
        assert_eq!(found.calls + found.unfinished, due);
        let counts: u64 = found.classes.iter().map(|class| class.count).sum();
        assert_eq!(counts, due);
    }
}
