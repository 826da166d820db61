//! What must hold of all calls together, whatever happens: checked while journals are read, and at
//! the end.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use foldhash::fast::FixedState;

use super::{
    client::caller,
    journal::{Event, Line, Resources},
    plan::{Cast, Fault, Kind, Target, Who},
    server::life_of,
};
use crate::failures::Failures;

/// A call ends within this time, beyond what faults of its client, its server and the network
/// between them took.
const BOUND: Duration = Duration::from_secs(10);

/// A call that ended is remembered for this time, in which its handler must not run again.
const REMEMBERED: Duration = Duration::from_secs(30);

/// What memory may grow by under faults, in bytes: calls that waited, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// Descriptors that a process may have more than usual, besides one per actor: over raw IP one
/// process answers for closed ports and is connected to all others, and another takes over when it
/// ends.
const RESPONDER_DESCRIPTORS: u64 = 5;

/// Violations that are kept; all are counted.
const VIOLATIONS_MAX: usize = 100;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Answered(u64),
    /// With a failure that says that no handler ran.
    NotRun(String),
    Failed,
    Dropped,
    /// With its client.
    Lost,
}

#[derive(Debug, Default)]
struct Call {
    /// When, and to which server; journals are not read in the order of time.
    began: Option<(u64, usize)>,
    end: Option<(u64, End)>,
    /// Lives of servers whose handler ran.
    runs: Vec<u64>,
    late: bool,
}

/// A fault that came, with its times.
#[derive(Debug)]
struct Span {
    fault: Fault,
    from_ns: u64,
    until_ns: Option<u64>,
    /// From its end to the first answer that it could have kept.
    recovery_ns: Option<u64>,
}

/// How calls ended, in numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub began: u64,
    pub answered: u64,
    pub failures: Failures,
    pub failed: u64,
    pub dropped: u64,
    pub lost: u64,
    pub ran: u64,
    pub ran_in_two_lives: u64,
    pub worst_ns: u64,
    pub clock_moves: u64,
    pub withheld_lines: u64,
}

/// Faults of a kind, in numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Injected {
    pub count: u64,
    /// The longest time from a fault's end to the first good answer.
    pub recovery_ns_max: u64,
}

/// The ledger of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    cast: Cast,
    bound_ns: Option<u64>,
    calls: HashMap<u64, Call, FixedState>,
    usual: HashMap<(Who, u64), Resources>,
    spans: Vec<Span>,
    /// When the last call ended of which that is known.
    pub last_end_ns: u64,
    pub counts: Counts,
    pub violations: Vec<String>,
    pub violation_count: u64,
}

impl Ledger {
    /// An empty one. Without `bounded` calls may take any time.
    pub(super) fn new(cast: Cast, bounded: bool) -> Self {
        Ledger {
            cast,
            bound_ns: bounded.then(|| ns(BOUND)),
            calls: HashMap::default(),
            usual: HashMap::new(),
            spans: Vec::new(),
            last_end_ns: 0,
            counts: Counts::default(),
            violations: Vec::new(),
            violation_count: 0,
        }
    }

    /// Something that must not be.
    pub(super) fn violate(&mut self, text: String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(text);
        }
    }

    /// A line of the journal of this life of an actor.
    pub(super) fn note(&mut self, who: Who, life: u64, (at_ns, event): Line) {
        match event {
            Event::Ready(_) => {}
            Event::Began(call, server) => {
                self.counts.began += 1;
                self.calls.entry(call).or_default().began = Some((at_ns, server));
            }
            Event::Answered(call, by) => {
                self.counts.answered += 1;
                self.recovered(who, call, at_ns);
                self.end(call, at_ns, End::Answered(by));
            }
            Event::Failed(call, reason, not_run) => {
                self.counts.failed += 1;
                self.counts.failures.add(reason.clone());
                self.end(call, at_ns, if not_run { End::NotRun(reason) } else { End::Failed });
            }
            Event::Dropped(call) => {
                self.counts.dropped += 1;
                self.end(call, at_ns, End::Dropped);
            }
            Event::Wrong(call, what) => {
                self.violate(format!("{who} (life {life}), call {call:x}: {what}"));
                self.end(call, at_ns, End::Failed);
            }
            Event::Ran(call) => self.ran(who, life, call),
            Event::Usual(resources) => drop(self.usual.insert((who, life), resources)),
            Event::Quiet(resources, live) => self.quiet(who, life, resources, live),
            Event::Tried(_, None) => {}
            Event::Tried(what, Some(wrong)) => {
                self.violate(format!("{who} (life {life}), {what}: {wrong}"));
            }
            Event::ClockMoved(_) => self.counts.clock_moves += 1,
            Event::Withheld(_, lines) => self.counts.withheld_lines += lines,
        }
    }

    fn end(&mut self, number: u64, at_ns: u64, end: End) {
        let call = self.calls.entry(number).or_default();
        if let Some((_, before)) = &call.end {
            let text = format!("call {number:x} ended twice: {before:?}, then {end:?}");
            return self.violate(text);
        }
        if let (Some((began_ns, _)), false) = (call.began, end == End::Lost) {
            self.counts.worst_ns = self.counts.worst_ns.max(at_ns.saturating_sub(began_ns));
        }
        call.end = Some((at_ns, end));
        self.last_end_ns = self.last_end_ns.max(at_ns);
        self.check_time(number, at_ns);
    }

    fn ran(&mut self, who: Who, life: u64, number: u64) {
        self.counts.ran += 1;
        let by = life_of(who.number(), life);
        let call = self.calls.entry(number).or_default();
        let again = call.runs.contains(&by);
        self.counts.ran_in_two_lives += u64::from(call.runs.len() == 1 && !again);
        call.runs.push(by);
        if again {
            self.violate(format!("call {number:x} ran twice in life {life} of {who}"));
        }
    }

    fn quiet(&mut self, who: Who, life: u64, now: Resources, live: u64) {
        if live > 0 {
            self.violate(format!(
                "{who} (life {life}) still knows {live} RPCs after all calls ended"
            ));
        }
        let Some(usual) = self.usual.get(&(who, life)).copied() else { return };
        let responder = RESPONDER_DESCRIPTORS + self.cast.all().count() as u64;
        let mut more = |what: &str, usual: u64, now: u64, growth: u64| {
            if now > usual + growth {
                self.violate(format!("{who} (life {life}) leaks {what}: {now} after {usual}"));
            }
        };
        more("descriptors", usual.descriptors, now.descriptors, responder);
        more("threads", usual.threads, now.threads, 0);
        more("memory", usual.resident_bytes, now.resident_bytes, GROWTH_BYTES_MAX);
    }

    /// A life that was killed ends its calls with it. Its journal has been read.
    pub(super) fn life_ended(&mut self, who: Who, life: u64, at_ns: u64) {
        let Who::Client(client) = who else { return };
        let open = |(number, call): (&u64, &Call)| {
            (caller(*number) == (client, life) && call.end.is_none()).then_some(*number)
        };
        for number in self.calls.iter().filter_map(open).collect::<Vec<_>>() {
            self.counts.lost += 1;
            self.end(number, at_ns, End::Lost);
        }
    }

    /// A fault begins; returns its number.
    pub(super) fn fault_begins(&mut self, fault: Fault, at_ns: u64) -> usize {
        self.spans.push(Span { fault, from_ns: at_ns, until_ns: None, recovery_ns: None });
        self.spans.len() - 1
    }

    /// A fault is over.
    pub(super) fn fault_ends(&mut self, number: usize, at_ns: u64) {
        if let Some(span) = self.spans.get_mut(number) {
            span.until_ns = Some(at_ns);
        }
    }

    /// A good answer: faults that could have prevented it are overcome.
    fn recovered(&mut self, who: Who, number: u64, at_ns: u64) {
        let Some((_, server)) = self.calls.get(&number).and_then(|call| call.began) else { return };
        let cast = self.cast;
        // Journals are read one after the other: an earlier answer may be noted after a later one.
        for span in self.spans.iter_mut().rev().take(64) {
            let Some(until_ns) = span.until_ns.filter(|until_ns| *until_ns <= at_ns) else {
                continue;
            };
            if concerns(cast, &span.fault, who, Who::Server(server)) {
                let recovery_ns = at_ns - until_ns;
                span.recovery_ns =
                    Some(span.recovery_ns.map_or(recovery_ns, |before| before.min(recovery_ns)));
            }
        }
    }

    /// Looks at calls that take long, and forgets those that ended long ago.
    pub(super) fn watch(&mut self, now_ns: u64) {
        let open = self.calls.iter().filter(|(_, call)| call.end.is_none());
        for number in open.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.check_time(number, now_ns);
        }
        let over = |(number, call): (&u64, &Call)| {
            let (at_ns, _) = call.end.as_ref()?;
            (at_ns + ns(REMEMBERED) < now_ns).then_some(*number)
        };
        for number in self.calls.iter().filter_map(over).collect::<Vec<_>>() {
            self.settle(number);
        }
    }

    /// Checks that a call has not taken too long by now.
    fn check_time(&mut self, number: u64, now_ns: u64) {
        let Some(bound_ns) = self.bound_ns else { return };
        let Some(call) = self.calls.get(&number).filter(|call| !call.late) else { return };
        let Some((began_ns, server)) = call.began else { return };
        let took_ns = now_ns.saturating_sub(began_ns);
        let lost = matches!(call.end, Some((_, End::Lost)));
        if took_ns <= bound_ns || lost {
            return;
        }
        let (client, life) = caller(number);
        let (client, server) = (Who::Client(client), Who::Server(server));
        let in_the_way = |span: &Span| {
            let from_ns = span.from_ns.max(began_ns);
            let until_ns = span.until_ns.unwrap_or(now_ns).min(now_ns);
            let concerns = concerns(self.cast, &span.fault, client, server);
            if concerns { until_ns.saturating_sub(from_ns) } else { 0 }
        };
        let faults_ns: u64 = self.spans.iter().map(in_the_way).sum();
        if took_ns > bound_ns + faults_ns {
            let (took, faults) = (took_ns as f64 / 1e9, faults_ns as f64 / 1e9);
            self.violate(format!(
                "call {number:x} of {client} (life {life}) to {server} took {took:.1} s, faults {faults:.1} s of them"
            ));
            if let Some(call) = self.calls.get_mut(&number) {
                call.late = true;
            }
        }
    }

    /// Checks a call that is over against all that is known of it, and forgets it.
    fn settle(&mut self, number: u64) {
        let Some(call) = self.calls.remove(&number) else { return };
        let (client, life) = caller(number);
        let Some((_, server)) = call.began else {
            let text =
                format!("call {number:x} ran after it was over for {REMEMBERED:?}, or never began");
            return self.violate(text);
        };
        match call.end {
            Some((_, End::Answered(by))) if !call.runs.contains(&by) => self.violate(format!(
                "call {number:x} to server {server} was answered by life {by:x}, whose handler did not run"
            )),
            Some((_, End::NotRun(reason))) if !call.runs.is_empty() => self.violate(format!(
                "call {number:x} to server {server} failed with {reason}, which says that no handler ran; one did, in \
                 life {:x?}",
                call.runs
            )),
            Some(_) => {}
            None => self.violate(format!(
                "call {number:x} of client {client} (life {life}) to server {server} never ended"
            )),
        }
    }

    /// The last check: every call must have ended, every fault must have been overcome.
    pub(super) fn close(&mut self) {
        for number in self.calls.keys().copied().collect::<Vec<_>>() {
            self.settle(number);
        }
        let clock = self.spans.iter().any(|span| span.fault.kind == Kind::Clock);
        if clock && self.counts.clock_moves == 0 {
            self.violate("no process saw its clock move".to_owned());
        }
        let slow = |span: &Span| {
            let recovery_ns = span.recovery_ns.unwrap_or(u64::MAX);
            // Nobody was called who could show it, as after a fault at the very end.
            let fault = &span.fault;
            (span.recovery_ns.is_some() && recovery_ns > ns(BOUND)).then(|| {
                format!(
                    "{} of {}: first good answer {:.1} s after its end",
                    fault.kind,
                    fault.target,
                    recovery_ns as f64 / 1e9
                )
            })
        };
        for text in self.spans.iter().filter_map(slow).collect::<Vec<_>>() {
            self.violate(text);
        }
    }

    /// Calls without an end.
    pub(super) fn open_calls(&self) -> usize {
        self.calls.values().filter(|call| call.end.is_none()).count()
    }

    /// The faults by kind.
    pub(super) fn injected(&self) -> BTreeMap<Kind, Injected> {
        let mut all: BTreeMap<Kind, Injected> = BTreeMap::new();
        for span in &self.spans {
            let kind = all.entry(span.fault.kind).or_default();
            kind.count += 1;
            kind.recovery_ns_max = kind.recovery_ns_max.max(span.recovery_ns.unwrap_or(0));
        }
        all
    }
}

/// Whether a fault can stand in the way of a call.
fn concerns(cast: Cast, fault: &Fault, client: Who, server: Who) -> bool {
    match fault.target {
        Target::Process(who) => who == client || who == server,
        Target::Host(host) => {
            let (from, to) = (cast.host(client), cast.host(server));
            from != to && (from == host || to == host)
        }
        Target::Disk => true,
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::client::first_call;

    const CAST: Cast = Cast { servers: 2, clients: 1, hosts: 2 };
    const CLIENT: Who = Who::Client(0);
    const S: u64 = 1_000_000_000;

    /// A ledger with a call to server 1 that began at zero, and the call's number.
    fn begun() -> (Ledger, u64) {
        let mut ledger = Ledger::new(CAST, true);
        let call = first_call(0, 0) + 1;
        ledger.note(CLIENT, 0, (0, Event::Began(call, 1)));
        (ledger, call)
    }

    fn violations(mut ledger: Ledger) -> Vec<String> {
        ledger.close();
        ledger.violations
    }

    fn stop(who: Who) -> Fault {
        let target = Target::Process(who);
        Fault { at: Duration::ZERO, lasts: Duration::from_secs(8), kind: Kind::Stop, target }
    }

    #[test]
    fn a_call_that_ran_once_and_was_answered_by_that_life_is_right() {
        let (mut ledger, call) = begun();
        ledger.note(CLIENT, 0, (S, Event::Answered(call, life_of(1, 3))));
        ledger.note(Who::Server(1), 3, (S, Event::Ran(call)));
        assert_eq!(violations(ledger), Vec::<String>::new());
    }

    #[test]
    fn a_handler_that_runs_twice_in_a_life_is_found_and_in_two_lives_counted() {
        let (mut ledger, call) = begun();
        ledger.note(Who::Server(1), 0, (S, Event::Ran(call)));
        ledger.note(Who::Server(1), 1, (S, Event::Ran(call)));
        ledger.note(CLIENT, 0, (S, Event::Answered(call, life_of(1, 1))));
        assert_eq!((ledger.counts.ran_in_two_lives, ledger.violation_count), (1, 0));
        ledger.note(Who::Server(1), 1, (S, Event::Ran(call)));
        assert!(violations(ledger)[0].contains("ran twice"));
    }

    #[test]
    fn an_error_that_says_nothing_ran_is_held_against_the_servers_journal() {
        let (mut ledger, call) = begun();
        ledger.note(CLIENT, 0, (S, Event::Failed(call, "NoService".into(), true)));
        ledger.note(Who::Server(1), 0, (S, Event::Ran(call)));
        assert!(violations(ledger)[0].contains("NoService"));
    }

    #[test]
    fn a_call_that_never_ends_or_runs_again_later_is_found() {
        let (ledger, _) = begun();
        assert!(violations(ledger)[0].contains("never ended"));
        let (mut ledger, call) = begun();
        ledger.note(Who::Server(1), 0, (S, Event::Ran(call)));
        ledger.note(CLIENT, 0, (S, Event::Answered(call, life_of(1, 0))));
        ledger.watch(40 * S);
        ledger.note(Who::Server(1), 0, (41 * S, Event::Ran(call)));
        assert!(violations(ledger)[0].contains("ran after it was over"));
    }

    #[test]
    fn only_faults_that_concern_a_call_may_delay_it() {
        let took = |seconds: u64, who: Who| {
            let (mut ledger, call) = begun();
            let fault = ledger.fault_begins(stop(who), S);
            ledger.fault_ends(fault, 9 * S);
            ledger.note(CLIENT, 0, (seconds * S, Event::Failed(call, "Timeout".into(), false)));
            violations(ledger).len()
        };
        assert_eq!((took(9, Who::Server(0)), took(11, Who::Server(0))), (0, 1));
        assert_eq!((took(17, Who::Server(1)), took(19, Who::Server(1))), (0, 1));
        assert_eq!((took(17, CLIENT), took(19, CLIENT)), (0, 1));
    }

    #[test]
    fn recovery_counts_from_the_end_of_a_fault_to_the_first_answer_it_could_have_kept() {
        let (mut ledger, call) = begun();
        let fault = ledger.fault_begins(stop(Who::Server(1)), 0);
        ledger.fault_ends(fault, 8 * S);
        ledger.note(Who::Server(1), 0, (S, Event::Ran(call)));
        ledger.note(CLIENT, 0, (10 * S, Event::Answered(call, life_of(1, 0))));
        assert_eq!(ledger.injected()[&Kind::Stop].recovery_ns_max, 2 * S);
        assert_eq!(violations(ledger), Vec::<String>::new());
    }

    #[test]
    fn calls_of_a_killed_client_end_with_it() {
        let (mut ledger, call) = begun();
        ledger.life_ended(CLIENT, 1, S);
        assert_eq!(ledger.open_calls(), 1);
        ledger.life_ended(CLIENT, 0, S);
        ledger.note(Who::Server(1), 0, (S, Event::Ran(call)));
        assert_eq!((ledger.open_calls(), ledger.counts.lost), (0, 1));
        assert_eq!(violations(ledger), Vec::<String>::new());
    }

    #[test]
    fn what_a_process_has_more_than_usual_is_a_leak() {
        let usual = Resources { descriptors: 10, threads: 5, resident_bytes: 1 << 20 };
        let mut ledger = Ledger::new(CAST, true);
        ledger.note(CLIENT, 0, (0, Event::Usual(usual)));
        ledger.note(CLIENT, 0, (S, Event::Quiet(usual, 0)));
        assert_eq!(ledger.violation_count, 0);
        let more = Resources { descriptors: 19, threads: 6, resident_bytes: 1 << 30 };
        ledger.note(CLIENT, 0, (S, Event::Quiet(more, 2)));
        assert_eq!(ledger.violation_count, 4);
    }
}
