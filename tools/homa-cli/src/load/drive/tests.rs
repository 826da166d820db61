use std::{cell::Cell, collections::VecDeque, ops::Range, rc::Rc};

use bytes::Bytes;
use clap::Parser;

use super::*;
use crate::{
    args::{Cli, Command},
    transport::Outcome as CallOutcome,
};

/// Time that passes only when the servers let it.
type Clock = Rc<Cell<Instant>>;

const MS: Duration = Duration::from_millis(1);

/// Servers that answer each call after a while, the next one only then, and none that begins in a
/// pause.
struct Model {
    clock: Clock,
    service: Duration,
    /// Whether a call waits for those before it.
    one_at_a_time: bool,
    pause: Option<Range<Instant>>,
    calls: VecDeque<(u64, Instant, Bytes)>,
    /// Failure of every call that begins.
    refuses: bool,
    begun: u64,
}

impl Model {
    fn new(service: Duration) -> Self {
        Model {
            clock: Rc::new(Cell::new(Instant::now())),
            service,
            one_at_a_time: false,
            pause: None,
            calls: VecDeque::new(),
            refuses: false,
            begun: 0,
        }
    }
}

impl Pipeline for Model {
    fn start(&mut self, token: u64, _: usize, body: &Bytes) -> Result<(), CliError> {
        self.begun += 1;
        if self.refuses {
            return Err(CliError::Transport("refused".to_owned()));
        }
        let now = self.clock.get();
        let from = match self.calls.back() {
            Some((_, busy, _)) if self.one_at_a_time => now.max(*busy),
            _ => now,
        };
        self.calls.push_back((token, from + self.service, body.clone()));
        Ok(())
    }

    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, CallOutcome<'_>),
    ) -> Result<usize, CliError> {
        let mut ended = 0;
        let due = self.calls.front().map_or(until, |(_, due, _)| until.min(*due));
        let due = due.max(self.clock.get());
        let pause = self.pause.as_ref().filter(|pause| pause.contains(&due));
        self.clock.set(pause.map_or(due, |pause| pause.end));
        let now = self.clock.get();
        while self.calls.front().is_some_and(|(_, due, _)| *due <= now) {
            if let Some((token, _, mut reply)) = self.calls.pop_front() {
                sink(token, Ok(&mut reply));
                ended += 1;
            }
        }
        Ok(ended)
    }
}

/// Keeps the rows.
#[derive(Default)]
struct Rows(Vec<Row>);

impl View for Rows {
    fn row(&mut self, row: &Row, times: &Latency) -> Result<(), CliError> {
        assert_eq!(row.latency.count, times.count());
        self.0.push(*row);
        Ok(())
    }

    fn live(&mut self, _: Duration, _: u64, _: &Tally) {}
}

fn plan(options: &str) -> Plan {
    let line = format!("homa load 127.0.0.1:1 {options}");
    let Command::Load(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
        panic!("not a load");
    };
    Plan::new(&args).unwrap()
}

/// Runs a plan against a model; returns the outcome, the counts and the rows.
fn run(options: &str, model: &mut Model) -> (Outcome, Tally, Vec<Row>) {
    run_until(options, model, |_| false)
}

fn run_until(
    options: &str,
    model: &mut Model,
    stop: impl Fn(Instant) -> bool,
) -> (Outcome, Tally, Vec<Row>) {
    let plan = plan(options);
    let clock = model.clock.clone();
    let mut rows = Rows::default();
    let stop = || stop(clock.get());
    let (outcome, tally) = super::run(&plan, model, &mut rows, || clock.get(), stop);
    (outcome, tally, rows.0)
}

#[test]
fn an_open_loop_begins_calls_at_its_rate_and_counts_those_after_the_warm_up() {
    let mut model = Model::new(MS / 10);
    let (outcome, tally, rows) = run("--rate 1k --secs 10", &mut model);
    assert!((9_700..10_300).contains(&outcome.begun), "{outcome:?}");
    assert!((10_700..11_300).contains(&model.begun), "{}", model.begun);
    assert_eq!((tally.all.ok, tally.all.failed), (outcome.begun, 0));
    assert_eq!((outcome.secs, outcome.unfinished, outcome.never_begun), (10.0, 0, 0));
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| (800..1_200).contains(&row.ok)), "{rows:?}");
    assert_eq!(tally.all.bytes, 200 * tally.all.ok);
}

#[test]
fn calls_at_equal_intervals_are_as_many_in_every_second() {
    let (_, _, rows) = run("--rate 1k --constant --secs 3", &mut Model::new(MS / 10));
    assert!(rows.iter().all(|row| row.ok.abs_diff(1_000) <= 1), "{rows:?}");
}

#[test]
fn a_pause_counts_for_every_call_that_was_meant_to_begin_in_it() {
    let mut model = Model::new(MS / 100);
    let start = model.clock.get();
    model.pause = Some(start + 1_000 * MS..start + 1_500 * MS);
    let (outcome, tally, _) = run("--rate 1k --constant --secs 5 --warm-up 0s", &mut model);
    // A tenth of the calls waited, on average half of the pause.
    assert_eq!(tally.all.ok, outcome.begun);
    let times = tally.all.latency.spread();
    assert!(times.p50_us.unwrap() < 20.0, "{times:?}");
    assert!((445e3..455e3).contains(&times.p99_us.unwrap()), "{times:?}");
    assert!((24e3..26e3).contains(&times.mean_us.unwrap()), "{times:?}");
    // The client was held up as well, so it says that calls began late.
    assert!(tally.lag.spread().max_us > Some(490e3));
}

#[test]
fn servers_that_carry_half_the_rate_leave_the_rest_in_flight_and_never_begun() {
    let mut model = Model::new(MS);
    model.one_at_a_time = true;
    let options = "--rate 2k --outstanding 100 --secs 10 --warm-up 0s";
    let (outcome, tally, _) = run(options, &mut model);
    assert_eq!(outcome.in_flight, 100);
    assert!((9_990..=10_000).contains(&tally.carried.0), "{}", tally.carried.0);
    assert!((9_000..10_500).contains(&outcome.never_begun), "{outcome:?}");
    assert!(!outcome.client_late, "all places were taken");
    // The last calls began five seconds after they were meant to.
    assert!(tally.all.latency.spread().max_us > Some(4.5e6));
    // They found a place late, but then began at once.
    assert!(tally.lag.spread().max_us < Some(1e3), "{:?}", tally.lag.spread());
}

#[test]
fn a_closed_loop_keeps_its_calls_under_way() {
    let mut model = Model::new(10 * MS);
    let (outcome, tally, rows) = run("--outstanding 8 --secs 2 --warm-up 0s", &mut model);
    assert!((1_592..=1_608).contains(&outcome.begun), "{outcome:?}");
    assert_eq!(tally.all.ok, outcome.begun);
    assert!(rows.iter().all(|row| row.in_flight <= 8));
    let times = tally.all.latency.spread();
    assert!((times.p50_us.unwrap() - 1e4).abs() < 20.0, "{times:?}");
}

#[test]
fn exactly_the_calls_ordered_are_made() {
    for options in ["--count 1234 --outstanding 10", "--count 1234 --rate 10k"] {
        let mut model = Model::new(MS);
        let (outcome, tally, _) = run(options, &mut model);
        assert_eq!((outcome.begun, tally.all.ok, model.begun), (1_234, 1_234, 1_234), "{options}");
        assert_eq!(tally.carried.0, 1_234);
        assert_eq!(outcome.in_flight, 0);
    }
}

#[test]
fn calls_without_a_reply_fail_in_time_and_have_no_part_in_the_times() {
    let mut model = Model::new(Duration::from_secs(3_600));
    let options = "--rate 100 --secs 5 --timeout 1s --outstanding 5000 --warm-up 0s";
    let (outcome, tally, _) = run(options, &mut model);
    assert_eq!(tally.all.failed, outcome.begun);
    assert_eq!(tally.failures.sorted(), [("no reply from 127.0.0.1:1 within 1s", outcome.begun)]);
    assert_eq!((tally.all.latency.count(), tally.all.bytes, outcome.unfinished), (0, 0, 0));
    assert!(model.clock.get() - Instant::now() < Duration::from_secs(7), "it ends with its calls");
}

#[test]
fn a_reply_that_comes_after_its_call_was_given_up_counts_for_no_other() {
    let mut model = Model::new(1_500 * MS);
    let options = "--outstanding 1 --secs 4 --timeout 1s --warm-up 0s";
    let (outcome, tally, _) = run(options, &mut model);
    // Each call fails after a second, while the reply to the one before arrives in the next one's
    // place.
    assert_eq!(tally.all.ok, 0, "{outcome:?}");
    assert_eq!(tally.all.failed, outcome.begun);
}

#[test]
fn calls_that_fail_at_once_are_counted() {
    let mut model = Model::new(MS);
    model.refuses = true;
    let (outcome, tally, _) = run("--rate 1k --secs 1 --warm-up 0s", &mut model);
    assert_eq!(tally.failures.sorted(), [("refused", outcome.begun)]);
    assert_eq!((tally.all.ok, tally.carried), (0, (0, 0)));
}

#[test]
fn an_interrupted_run_tells_what_it_measured_until_then() {
    let mut model = Model::new(50 * MS);
    let stop_at = model.clock.get() + 2_500 * MS;
    let options = "--rate 1k --secs 60 --warm-up 0s";
    let (outcome, tally, rows) = run_until(options, &mut model, |now| now >= stop_at);
    assert!(outcome.interrupted);
    assert!((2.5..2.61).contains(&outcome.secs), "{outcome:?}");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows.iter().map(|row| row.ok).sum::<u64>(), tally.all.ok);
    assert_eq!(outcome.begun, tally.all.ok + outcome.unfinished);
    assert_eq!(outcome.never_begun, 0);
}

#[test]
fn requests_have_the_lengths_of_the_workload_and_room_for_an_order() {
    let plan = plan("--workload w1 --reply-bytes 5 --rate 1k");
    let mut model = Model::new(MS);
    let calls = Calls::new(&mut model, plan.payload.clone(), Instant::now);
    let calls = Calls { bytes_min: plan.bytes_min, ..calls };
    let mut arrivals = plan.arrivals().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10_000 {
        let body = calls.request(arrivals.take().bytes);
        assert!(crate::body::Order::decode(&body).is_some(), "{body:?}");
        seen.insert(body.len());
    }
    assert_eq!(seen.first(), Some(&crate::body::ORDER_BYTES));
    assert!(seen.len() > 50, "{seen:?}");
}
