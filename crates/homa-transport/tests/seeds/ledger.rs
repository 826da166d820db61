//! What was promised about each call, and what became of it.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use homa_transport::{CallError, CallErrorKind, Message, Metadata, StreamError};

use super::plan::{Answer, Call, Plan, SECOND, Style};

/// A broken promise: which one, and the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

/// One life of a host's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) host: usize,
    pub(crate) number: u32,
}

/// What happened to a life.
#[derive(Clone, Debug, Default)]
pub(crate) struct LifeRecord {
    /// When it began, in ns.
    pub(crate) began_ns: u64,
    /// When it stopped to accept, in ns.
    pub(crate) stopped_ns: Option<u64>,
    /// When it is closed at the latest, if it is told to: the earliest time counts.
    pub(crate) close_by_ns: Option<u64>,
    /// When it began to close.
    pub(crate) closing_ns: Option<u64>,
    /// When it was closed, or its process ended.
    pub(crate) ended_ns: Option<u64>,
    /// It ended while requests were served, or without a word.
    pub(crate) cut_short: bool,
    /// It closed before its time was over: all was answered, and all answers were through.
    pub(crate) in_order: bool,
}

/// A handler that got a request.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    life: Life,
    /// The life began when the call was over: a copy came late to another process.
    too_late: bool,
    given: Given,
}

/// What a handler did to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Nothing yet.
    Nothing,
    /// The reply was taken.
    Reply,
    /// A part of a stream, or all of it.
    Stream {
        complete: bool,
    },
    Rejected,
    /// The request was dropped without an answer.
    Dropped,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Answered,
    Failed(CallError),
    /// Its user dropped it, or its host ended.
    GivenUp,
}

#[derive(Clone, Debug, Default)]
struct Record {
    begun: Option<(Life, u64)>,
    ended: Option<(End, u64)>,
    executions: Vec<Execution>,
    /// The writer of its body was dropped.
    writer_dropped: bool,
    /// All of an open body was written.
    writer_finished: bool,
    /// A handler dropped the reader of its body.
    reader_dropped: bool,
    /// What the writer of an open body was told.
    writer_failed: Option<(CallError, u64)>,
    /// Its caller got every byte of the response.
    has_read_all: bool,
    /// Its reader or its response were given up.
    gave_up: bool,
    /// It is in a set, whose user looks at it some time.
    in_set: bool,
}

/// Calls by number, and lives.
pub(crate) struct Ledger {
    plans: BTreeMap<u32, Call>,
    records: BTreeMap<u32, Record>,
    pub(crate) lives: BTreeMap<Life, LifeRecord>,
    plan: Plan,
    pub(crate) violations: Vec<Violation>,
    /// What happened, in order.
    digest: DefaultHasher,
    /// How often calls ended in each way.
    pub(crate) counts: BTreeMap<String, u64>,
    shows: bool,
}

/// Timers of the engine may be so late, in ns.
const TIMER_NS: u64 = 1_000_000;
/// What the two responses to a call have ahead of the body at most.
const FRAMES_BYTES: u64 = 200;
/// Violations that are kept.
const VIOLATIONS_MAX: usize = 20;

/// The byte at `offset` of a message.
fn byte(call: u32, response: bool, offset: u64) -> u8 {
    let mixed = (offset / 7).wrapping_add(offset).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let of_call = (u64::from(call) * 2 + u64::from(response)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ of_call) >> 32) as u8
}

/// Bytes of a call's message. A request begins with the number of its call.
pub(crate) fn bytes_of(call: u32, response: bool, range: std::ops::Range<u32>) -> Vec<u8> {
    let number = call.to_be_bytes();
    let one = |offset: u32| match number.get(offset as usize) {
        Some(byte) if !response => *byte,
        _ => byte(call, response, u64::from(offset)),
    };
    range.map(one).collect()
}

/// The text of a rejection.
pub(crate) fn text_of(call: u32, length: u32) -> String {
    (0..length).map(|at| char::from(b'a' + byte(call, true, u64::from(at)) % 26)).collect()
}

/// A value beside the body of a call's message.
pub(crate) fn value_of(call: u32, length: u32) -> Vec<u8> {
    bytes_of(call, true, 0..length)
}

impl Ledger {
    pub(crate) fn new(plan: &Plan, shows: bool) -> Self {
        let plans = plan.calls().into_iter().map(|call| (call.number, call)).collect();
        Self {
            plans,
            records: BTreeMap::new(),
            lives: BTreeMap::new(),
            plan: plan.clone(),
            violations: Vec::new(),
            digest: DefaultHasher::new(),
            counts: BTreeMap::new(),
            shows,
        }
    }

    pub(crate) fn violation(&mut self, kind: &'static str, text: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { kind, text });
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Notes an event for the digest.
    pub(crate) fn note(&mut self, now_ns: u64, what: impl FnOnce() -> String) {
        let what = what();
        if self.shows {
            eprintln!("{now_ns:>14} {what}");
        }
        (now_ns, what).hash(&mut self.digest);
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    pub(crate) fn life(&mut self, life: Life) -> &mut LifeRecord {
        self.lives.entry(life).or_default()
    }

    pub(crate) fn plan_of(&self, call: u32) -> Option<&Call> {
        self.plans.get(&call)
    }

    pub(crate) fn begin(&mut self, call: u32, life: Life, now_ns: u64) {
        self.note(now_ns, || format!("call {call} begins at {life:?}"));
        self.records.entry(call).or_default().begun.get_or_insert((life, now_ns));
    }

    pub(crate) fn joins_set(&mut self, call: u32) {
        self.records.entry(call).or_default().in_set = true;
    }

    pub(crate) fn writer_dropped(&mut self, call: u32) {
        self.records.entry(call).or_default().writer_dropped = true;
    }

    /// The writer of an open body says that this is all.
    pub(crate) fn writer_finished(&mut self, call: u32) {
        self.records.entry(call).or_default().writer_finished = true;
    }

    /// The caller has every byte of the response: to drop its reader gives nothing up.
    pub(crate) fn has_read_all(&mut self, call: u32) {
        self.records.entry(call).or_default().has_read_all = true;
    }

    /// A handler stops to read a request.
    pub(crate) fn stops_reading(&mut self, call: u32) {
        self.records.entry(call).or_default().reader_dropped = true;
    }

    /// A handler came to the end of a request.
    pub(crate) fn read_to_end(&mut self, plan: &Call) {
        let finished = self.records.get(&plan.number).is_some_and(|it| it.writer_finished);
        if plan.goes_both_ways() && !finished {
            self.violation("early end", format!("{plan:?} ended before its writer said so"));
        }
    }

    /// Its user gives a call up.
    pub(crate) fn give_up(&mut self, call: u32) {
        self.records.entry(call).or_default().gave_up = true;
    }

    /// As [`Ledger::give_up`], if it has not ended.
    pub(crate) fn give_up_open(&mut self, call: u32, now_ns: u64) {
        let open = |record: &Record| record.begun.is_some() && record.ended.is_none();
        if self.records.get(&call).is_some_and(open) {
            self.give_up(call);
            self.end(call, End::GivenUp, now_ns);
        }
    }

    /// The process of a life ends, or all of its tasks do: its calls end with it.
    pub(crate) fn end_of_life(&mut self, life: Life, now_ns: u64) {
        self.note(now_ns, || format!("{life:?} ends"));
        let record = self.life(life);
        record.stopped_ns.get_or_insert(now_ns);
        record.closing_ns.get_or_insert(now_ns);
        record.ended_ns.get_or_insert(now_ns);
        record.cut_short = true;
        let of_life = |record: &Record| record.begun.is_some_and(|begun| begun.0 == life);
        let all = self.records.iter().filter(|(_, record)| of_life(record));
        let calls: Vec<u32> = all.map(|(call, _)| *call).collect();
        calls.into_iter().for_each(|call| self.give_up_open(call, now_ns));
    }

    /// A life accepts no more, and perhaps closes, from now on.
    pub(crate) fn stops(&mut self, life: Life, closes: bool, now_ns: u64) {
        self.note(now_ns, || format!("{life:?} stops, closes: {closes}"));
        let record = self.life(life);
        record.stopped_ns.get_or_insert(now_ns);
        if closes {
            record.closing_ns.get_or_insert(now_ns);
        }
    }

    /// A life that closes has so long.
    pub(crate) fn closes_within(&mut self, life: Life, now_ns: u64, within_ns: u64) {
        let record = self.life(life);
        let by_ns = now_ns.saturating_add(within_ns);
        record.close_by_ns = Some(record.close_by_ns.map_or(by_ns, |before| before.min(by_ns)));
    }

    /// A life is closed, which began at a time and was to take no longer than that.
    pub(crate) fn closed(
        &mut self,
        life: Life,
        now_ns: u64,
        (began_ns, within_ns): (u64, u64),
        unanswered: usize,
    ) {
        self.note(now_ns, || format!("{life:?} is closed, {unanswered} unanswered"));
        let record = self.life(life);
        record.ended_ns.get_or_insert(now_ns);
        record.cut_short |= unanswered > 0;
        let in_order = record.close_by_ns.is_some_and(|by_ns| now_ns < by_ns);
        record.in_order = in_order && !record.cut_short;
        let works = |record: &&Record| {
            let works = |it: &Execution| it.life == life && it.given == Given::Nothing;
            record.ended.is_none() && record.executions.iter().any(works)
        };
        // A reader may be held up by a body that never comes.
        let calls = self.records.values().filter(works).count();
        let streams = self.plan.hosts[life.host].streams;
        if in_order && (unanswered > 0 || calls > 0 && !streams) {
            let text =
                format!("{life:?} at {now_ns}, before {calls} calls were answered, {unanswered}");
            self.violation("closed early", text);
        }
        if now_ns > began_ns.saturating_add(within_ns) && !self.plan.is_harsh() {
            let text = format!("{life:?} at {now_ns}, begun at {began_ns} for {within_ns}");
            self.violation("closed late", text);
        }
    }

    /// A request is handed to a handler of a life.
    pub(crate) fn accepted(&mut self, life: Life, at_ns: u64) {
        if let Some(stopped_ns) = self.life(life).stopped_ns {
            let text = format!("at {life:?} at {at_ns}, stopped at {stopped_ns}");
            self.violation("accepted after the stop", text);
        }
    }

    /// Whether an answer may be longer than what there is room for.
    pub(crate) fn may_be_too_much(&self, call: u32, life: Life) -> bool {
        let host = &self.plan.hosts[life.host];
        let long = |plan: &Call| plan.response_bytes() > host.message_max;
        host.bytes_max < 10_000_000 || self.plans.get(&call).is_some_and(long)
    }

    /// Whether a body of unknown length may become longer than what its server takes.
    pub(crate) fn outgrows(&self, plan: &Call, server: Life) -> bool {
        plan.goes_both_ways() && plan.bytes > self.plan.hosts[server.host].message_max
    }

    /// Whether a server may give up a half of a call, and the call with it: its body, which is too
    /// long, or one of its responses, whose room others take.
    fn may_lose_a_half(&self, plan: &Call, server: Life) -> bool {
        let comes = |plan: &&Call| plan.to == Some(server.host);
        let bytes = |plan: &Call| u64::from(plan.response_bytes()) + FRAMES_BYTES;
        let responses_bytes: u64 = self.plans.values().filter(comes).map(bytes).sum();
        let tight = responses_bytes > self.plan.hosts[server.host].bytes_max;
        plan.goes_both_ways() && (tight || self.outgrows(plan, server))
    }

    /// Whether a time is later than the deadline of a call, as far as its server can know: it
    /// counts from the end of a request that is accepted whole, whose packets may come late. A call
    /// that goes both ways at once has a request of one packet.
    pub(crate) fn is_after_its_deadline(&self, plan: &Call, at_ns: u64) -> bool {
        let begun = self.records.get(&plan.number).and_then(|record| record.begun);
        let deadline_ns = begun.and_then(|begun| Some(begun.1 + plan.timeout_ns?));
        let is_late = |deadline_ns| at_ns > deadline_ns + self.late_ns();
        plan.goes_both_ways() && deadline_ns.is_some_and(is_late)
    }

    /// Whether bytes of an open body were taken, or why not.
    pub(crate) fn wrote(&mut self, plan: &Call, sent: &Result<(), StreamError>, now_ns: u64) {
        let call = plan.number;
        self.note(now_ns, || format!("more of call {call} is written: {sent:?}"));
        let Some(record) = self.records.get(&call).cloned() else { return };
        let own_max = record.begun.map_or(0, |begun| self.plan.hosts[begun.0.host].message_max);
        let wrong = match sent {
            Ok(()) => self.writes_in_vain(plan, &record, now_ns),
            Err(StreamError::Stopped { .. }) => {
                self.count("Stopped");
                (!self.may_be_stopped(plan, &record)).then_some("its handler reads on")
            }
            Err(StreamError::Call(error)) => {
                self.records.entry(call).or_default().writer_failed = Some((error.clone(), now_ns));
                None
            }
            Err(StreamError::TooLong { .. }) => {
                self.writer_dropped(call);
                let server_max = plan.to.map_or(u32::MAX, |to| self.plan.hosts[to].message_max);
                (plan.bytes <= own_max.min(server_max)).then_some("it is not so long")
            }
            Err(_) => Some("it is a client"),
        };
        if let Some(why) = wrong {
            let text = format!("call {call} at {now_ns}: {sent:?}: {why}, {record:?}");
            self.violation("writing", text);
        }
    }

    /// Why nobody can want what is written any more, if so.
    fn writes_in_vain(&self, plan: &Call, record: &Record, now_ns: u64) -> Option<&'static str> {
        let deadline_ns = record.begun.and_then(|begun| Some(begun.1 + plan.timeout_ns?));
        let late = deadline_ns.is_some_and(|deadline_ns| now_ns > deadline_ns + TIMER_NS);
        if late && !self.plan.is_harsh() {
            return Some("its deadline has passed");
        }
        match &record.ended {
            Some((End::GivenUp, _)) if record.gave_up && !record.has_read_all => {
                Some("the call was given up")
            }
            Some((End::Failed(error), _)) if error.rejection().is_none() => Some("it has failed"),
            _ => None,
        }
    }

    /// Whether a server may read no more of a body.
    fn may_be_stopped(&self, plan: &Call, record: &Record) -> bool {
        let answered = |it: &Execution| it.given != Given::Nothing;
        let ended = |(life, record): (&Life, &LifeRecord)| {
            Some(life.host) == plan.to && record.closing_ns.or(record.ended_ns).is_some()
        };
        record.reader_dropped
            || record.executions.iter().any(answered)
            || self.lives.iter().any(ended)
    }

    /// A handler gets a request. Whether it is one that was made.
    pub(crate) fn execute(
        &mut self,
        call: u32,
        life: Life,
        metadata: &Metadata,
        at_ns: u64,
    ) -> bool {
        self.note(at_ns, || format!("call {call} is accepted at {life:?}"));
        self.count("accepted");
        let Some(plan) = self.plans.get(&call).cloned() else {
            self.violation("unknown", format!("a handler got call {call}, which nobody made"));
            return false;
        };
        if plan.to != Some(life.host) {
            self.violation("misled", format!("call {call} to {:?} came to {life:?}", plan.to));
        }
        let wanted = plan.metadata.map(|length| value_of(call, length));
        if metadata.get("v").map(|value| value.to_vec()) != wanted {
            self.violation("metadata", format!("metadata of call {call} are others: {metadata:?}"));
        }
        let slack_ns = self.late_ns();
        let record = self.records.entry(call).or_default();
        let deadline_ns = record.begun.and_then(|begun| Some(begun.1 + plan.timeout_ns?));
        if deadline_ns.is_some_and(|deadline_ns| at_ns > deadline_ns + slack_ns) {
            let text = format!("call {call} was accepted at {at_ns}, given up at {deadline_ns:?}");
            self.violation("accepted after the deadline", text);
        }
        let began_ns = self.life(life).began_ns;
        let record = self.records.entry(call).or_default();
        let too_late = record.ended.as_ref().is_some_and(|(_, ended_ns)| *ended_ns <= began_ns);
        let twice = record.executions.iter().any(|execution| execution.life == life);
        record.executions.push(Execution { life, too_late, given: Given::Nothing });
        let begun = record.begun.is_some();
        let before = record.ended.clone();
        if twice {
            self.violation("executed twice", format!("call {call} at {life:?}"));
        }
        if !begun {
            self.violation("unknown", format!("call {call} had not begun"));
        }
        if let Some((End::Failed(error), ended_ns)) = before {
            if !error.may_have_executed() && !too_late {
                let text = format!("call {call} ended at {ended_ns} with {error}, then it was");
                self.violation("executed after all", text);
            }
        }
        true
    }

    /// How much later than its client's deadline a request may be accepted: a server knows of the
    /// time that its packets took as little as of how long its host stood still.
    fn late_ns(&self) -> u64 {
        let Plan { link, .. } = &self.plan;
        let calm = link.loss_ppm == 0 && !self.plan.is_harsh();
        let flights_ns = 40 * (link.delay_ns + link.jitter_ns) + link.spike_ns * 2;
        if calm { flights_ns + 20_000_000 } else { 10 * SECOND }
    }

    pub(crate) fn give(&mut self, call: u32, life: Life, given: Given, now_ns: u64) {
        self.note(now_ns, || format!("call {call} is given {given:?}"));
        let record = self.records.entry(call).or_default();
        let execution = record.executions.iter_mut().rev().find(|it| it.life == life);
        if let Some(execution) = execution {
            execution.given = given;
        }
    }

    /// The client does not wait any more, or its host has ended, or is cut off for a while.
    pub(crate) fn may_be_cancelled(&self, call: u32, server: Life) -> bool {
        let Some(record) = self.records.get(&call) else { return false };
        let Some((client, _)) = record.begun else { return false };
        let ended = |life: Life| {
            self.lives
                .get(&life)
                .is_some_and(|life| life.closing_ns.is_some() || life.ended_ns.is_some())
        };
        let own_max = self.plan.hosts[client.host].message_max;
        let refuses = |plan: &Call| plan.response_bytes() > own_max;
        let timed_out = self.plans.get(&call).is_some_and(|plan| plan.timeout_ns.is_some());
        // It has failed as *restarted*, and its user has not looked.
        let looks_later = |plan: &Call| match plan.style {
            Style::BothWays(ways) => self.plan.age_ns == 0 && ways.later_ns > 0,
            _ => false,
        };
        record.ended.is_some()
            || record.gave_up
            || record.writer_dropped
            || ended(client)
            || ended(server)
            || timed_out
            || self.plans.get(&call).is_some_and(looks_later)
            || self.plans.get(&call).is_some_and(refuses)
            || self.plans.get(&call).is_some_and(|plan| self.may_lose_a_half(plan, server))
            || self.plan.is_harsh()
    }

    /// One who waited for cancellation learned of it when something else woke it.
    pub(crate) fn woken_late(&mut self, call: u32) {
        if !self.plan.is_harsh() {
            self.violation("not woken", format!("call {call} was given up, its handler slept"));
        }
    }

    /// Compares a response with what the handler gave.
    pub(crate) fn answer(&mut self, call: u32, response: &Message, now_ns: u64) {
        let Some(plan) = self.plans.get(&call).cloned() else { return };
        let wanted = bytes_of(call, true, 0..plan.response_bytes());
        if response.len() != wanted.len() || response.to_vec() != wanted {
            let text = format!("{} bytes for call {call}, {} wanted", response.len(), wanted.len());
            self.violation("other bytes", text);
        }
        self.check_metadata(&plan, response.metadata());
        self.end(call, End::Answered, now_ns);
    }

    pub(crate) fn check_metadata(&mut self, plan: &Call, metadata: &Metadata) {
        let wanted = match plan.answer {
            Answer::Reply { metadata: true, .. } | Answer::Transform { metadata: true, .. } => {
                Some(value_of(plan.number, 100))
            }
            _ => None,
        };
        if metadata.get("r").map(|value| value.to_vec()) != wanted {
            let text = format!("metadata of the answer to call {}: {metadata:?}", plan.number);
            self.violation("metadata", text);
        }
    }

    /// A call ends: once, in time, and as its handler says.
    pub(crate) fn end(&mut self, call: u32, end: End, now_ns: u64) {
        self.note(now_ns, || format!("call {call} ends: {end:?}"));
        self.count(&match &end {
            End::Failed(error) => name_of(error.kind()),
            other => format!("{other:?}"),
        });
        let record = self.records.entry(call).or_default();
        if let Some(before) = record.ended.replace((end.clone(), now_ns)) {
            let text =
                format!("call {call} ended at {} with {:?}, then {end:?}", before.1, before.0);
            return self.violation("ended twice", text);
        }
        let record = record.clone();
        let Some(plan) = self.plans.get(&call).cloned() else { return };
        let given: Vec<_> = record.executions.iter().map(|it| it.given).collect();
        self.check_time(&plan, &record, &end, now_ns);
        match &end {
            End::Answered => {
                let whole = |given: &Given| {
                    matches!(given, Given::Reply | Given::Stream { complete: true })
                };
                if !given.iter().any(whole) {
                    let text = format!("call {call} was answered, its handlers gave {given:?}");
                    self.violation("answered by nobody", text);
                }
            }
            End::Failed(error) => {
                if error.is_retryable() && error.may_have_executed() {
                    self.violation("retryable", format!("{error:?}"));
                }
                let executed = !given.is_empty();
                if !error.may_have_executed() && executed {
                    let text = format!("call {call} ended with {error:?}, a handler had it");
                    self.violation("executed after all", text);
                }
                if let Some(why) = self.inexcusable(&plan, &record, error) {
                    let text = format!("call {call} ended with {error:?}: {why}; {given:?}");
                    self.violation("inexcusable", text);
                }
            }
            End::GivenUp => {}
        }
    }

    fn check_time(&mut self, plan: &Call, record: &Record, end: &End, now_ns: u64) {
        let (Some((_, begun_ns)), Some(timeout_ns)) = (record.begun, plan.timeout_ns) else {
            return;
        };
        let deadline_ns = begun_ns + timeout_ns;
        let call = plan.number;
        let paused = self.plan.is_harsh();
        // A user that starts a call and looks later learns of its end later.
        let slack_ns = match plan.style {
            Style::Start { later_ns } => later_ns,
            Style::BothWays(ways) if ways.read_gap_ns.is_none() => ways.later_ns,
            Style::Reader { .. } | Style::Written { .. } | Style::BothWays(_) => return,
            _ => 0,
        } + TIMER_NS;
        if !paused && !record.in_set && now_ns > deadline_ns + slack_ns {
            let text = format!("call {call} ended at {now_ns}, not at {deadline_ns}: {end:?}");
            self.violation("late", text);
        }
    }

    /// Why an error is not what happened.
    fn inexcusable(&self, plan: &Call, record: &Record, error: &CallError) -> Option<String> {
        use CallErrorKind as Kind;
        let Some((client, begun_ns)) = record.begun else { return Some("it never began".into()) };
        let harsh = self.plan.is_harsh();
        let server = plan.to.map(|host| self.plan.hosts[host]);
        let of_server = || self.lives.iter().filter(|(life, _)| Some(life.host) == plan.to);
        let serves = server.is_some_and(|server| server.serves);
        let stopped = of_server().any(|(_, life)| life.stopped_ns.is_some());
        let ended = of_server().any(|(_, life)| life.closing_ns.or(life.ended_ns).is_some());
        let given: Vec<_> = record.executions.iter().map(|it| it.given).collect();
        let own = &self.plan.hosts[client.host];
        let outgrows =
            plan.goes_both_ways() && server.is_some_and(|server| plan.bytes > server.message_max);
        let young = self.plan.age_ns == 0;
        let fine = match error.kind() {
            Kind::NoService => !serves || ended,
            // That nobody serves is said again, and heard the second time only.
            Kind::ServiceGone => ended || !serves,
            Kind::Closing => ended,
            // A young server cannot tell whether it is the one that was asked first.
            Kind::Restarted => ended || harsh || young,
            Kind::NotExecuted => stopped || ended,
            // Endpoints that only call are silent at times.
            Kind::Timeout => harsh || ended || !serves,
            Kind::HostUnreachable => harsh || ended || server.is_none(),
            // Its response broke off, or others took its room, or its body was given up.
            Kind::Forgotten => {
                let tight = server.is_some_and(|server| server.bytes_max < 1 << 30);
                let broke_off = outgrows || given.contains(&Given::Stream { complete: false });
                harsh || tight || ended || broke_off
            }
            Kind::DeadlineExceeded { .. } => plan.timeout_ns.is_some_and(|timeout_ns| {
                record.ended.as_ref().is_some_and(|(_, at_ns)| *at_ns >= begun_ns + timeout_ns)
            }),
            Kind::Rejected(rejection) => match plan.answer {
                Answer::Reject { code, text } => {
                    given.contains(&Given::Rejected)
                        && rejection.code == code
                        && rejection.text == text_of(plan.number, text)
                }
                _ => false,
            },
            Kind::Dropped => {
                let dropped = |given: &Given| {
                    matches!(given, Given::Dropped | Given::Stream { complete: false })
                };
                // Who ends drops what it works on.
                ended || outgrows || given.iter().any(dropped)
            }
            Kind::Overloaded => {
                // One half of it is given up as lost, the other one waits for it in vain.
                let loses_a_half = plan.goes_both_ways() && harsh;
                let queues_for = server.is_some_and(|server| server.queue_time_ns.is_some());
                plan.timeout_ns.is_some() || queues_for || loses_a_half
            }
            Kind::TooLong { .. } => {
                let limit =
                    server.map_or(own.message_max, |it| it.message_max.min(own.message_max));
                plan.bytes > limit
            }
            Kind::ResponseTooLong => plan.response_bytes() > own.message_max,
            Kind::LimitReached(_) => matches!(plan.style, Style::TryStart),
            Kind::BodyIncomplete => record.writer_dropped || outgrows,
            Kind::Closed => self.lives.get(&client).is_some_and(|it| it.closing_ns.is_some()),
            _ => false,
        };
        let answered = |it: &Execution| {
            let whole = matches!(it.given, Given::Reply | Given::Stream { complete: true });
            // A response that others take the room of is given up.
            whole
                && !self.may_be_too_much(plan.number, it.life)
                && self.lives.get(&it.life).is_some_and(|life| life.in_order)
        };
        let lost = matches!(
            error.kind(),
            Kind::Closing | Kind::ServiceGone | Kind::Restarted | Kind::Timeout
        );
        if lost && !harsh && record.executions.iter().any(answered) {
            return Some("its server closed when all was answered".into());
        }
        (!fine).then(|| "nothing in its world explains it".to_owned())
    }

    /// Both halves of a call that failed say why, and the same.
    fn check_writer(&mut self, call: u32, record: &Record) {
        let Some(plan) = self.plans.get(&call).cloned() else { return };
        let Some((error, at_ns)) = &record.writer_failed else { return };
        let wrong = match &record.ended {
            Some((End::Failed(other), _)) if other.rejection().is_none() => {
                (error.kind() != other.kind()).then(|| format!("the call failed with {other:?}"))
            }
            Some((End::GivenUp, _)) if *error.kind() == CallErrorKind::BodyIncomplete => None,
            _ => {
                let end = (End::Failed(error.clone()), *at_ns);
                self.inexcusable(&plan, &Record { ended: Some(end), ..record.clone() }, error)
            }
        };
        if let Some(wrong) = wrong {
            let text = format!("the writer of call {call} was told {error:?}: {wrong}");
            self.violation("halves differ", text);
        }
    }

    /// What has to hold when all is over.
    pub(crate) fn close(&mut self) {
        let records = std::mem::take(&mut self.records);
        for (call, record) in &records {
            if let (Some(begun), None) = (&record.begun, &record.ended) {
                self.violation("hangs", format!("call {call}, begun {begun:?}, never ended"));
            }
            self.check_writer(*call, record);
            let Some((End::Failed(error), _)) = &record.ended else { continue };
            let executed = record.executions.iter().any(|execution| !execution.too_late);
            if !error.may_have_executed() && executed {
                let text = format!("call {call} ended with {error:?}, a handler has seen it");
                self.violation("executed after all", text);
            }
        }
        self.records = records;
    }
}

fn name_of(kind: &CallErrorKind) -> String {
    let text = format!("{kind:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
