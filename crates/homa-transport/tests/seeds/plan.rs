//! What happens in a world: all of it is known before it begins, so that parts can be left out.

use std::fmt;
use std::time::Duration;

use homa_virtual::{Cut, Dice};

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) link: Link,
    pub(crate) hosts: Vec<Settings>,
    /// Age of the endpoints when it begins, in ns.
    pub(crate) age_ns: u64,
    /// One poll in so many; 0: none.
    pub(crate) spurious_one_in: u64,
    pub(crate) moved_one_in: u64,
    pub(crate) actions: Vec<Action>,
}

/// Faults of all links.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) delay_ns: u64,
    pub(crate) jitter_ns: u64,
    pub(crate) loss_ppm: u32,
    pub(crate) duplicate_ppm: u32,
    pub(crate) spike_ppm: u32,
    pub(crate) spike_ns: u64,
    pub(crate) line_mbps: Option<u32>,
}

impl Link {
    /// How long a packet is on its way at most, with what waits in queues of slow lines.
    pub(crate) fn packet_life(&self) -> Duration {
        let spike_ns = if self.spike_ppm > 0 { self.spike_ns } else { 0 };
        let queue_ns = if self.line_mbps.is_some() { 20 * MS } else { 0 };
        Duration::from_nanos(self.delay_ns + self.jitter_ns + spike_ns + queue_ns)
    }
}

/// Settings of a host's endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) serves: bool,
    pub(crate) streams: bool,
    pub(crate) calls_max: usize,
    pub(crate) bytes_max: u64,
    pub(crate) queue_max: usize,
    pub(crate) queue_time_ns: Option<u64>,
    pub(crate) message_max: u32,
    pub(crate) timeout_ns: u64,
    pub(crate) linger_ns: u64,
    pub(crate) acceptors: usize,
    /// Acceptors that stop to wait after so long and begin again, in ns.
    pub(crate) impatient_ns: Option<u64>,
}

impl Settings {
    pub(crate) const AMPLE: Self = Self {
        serves: true,
        streams: false,
        calls_max: 1_000,
        bytes_max: 1 << 30,
        queue_max: 1_000,
        queue_time_ns: None,
        message_max: 1_000_000,
        timeout_ns: SECOND,
        linger_ns: SECOND,
        acceptors: 2,
        impatient_ns: None,
    };
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub(crate) at_ns: u64,
    pub(crate) host: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Call(Call),
    Set(Set),
    StopAccepting,
    WaitIdle,
    Drain {
        within_ns: u64,
    },
    Close,
    /// Acceptors and the endpoint itself; calls and handlers go on.
    DropHandles,
    /// The process ends without a word.
    Crash,
    /// A new endpoint at the same address; what is left of the former one ends.
    Begin,
    Pause {
        for_ns: u64,
    },
    /// Nothing passes between the host and all others.
    CutOff {
        for_ns: u64,
    },
}

/// Calls in one set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) calls: Vec<Call>,
    /// Each future of the next response is dropped after one poll.
    pub(crate) restless: bool,
    /// The first call is aborted when all were added.
    pub(crate) aborts: bool,
    /// The set is dropped, so long after it was begun.
    pub(crate) drop_ns: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u32,
    /// `None`: nobody is there.
    pub(crate) to: Option<usize>,
    pub(crate) bytes: u32,
    pub(crate) style: Style,
    pub(crate) timeout_ns: Option<u64>,
    /// Bytes of a value beside the body.
    pub(crate) metadata: Option<u32>,
    /// Its future is dropped after so long.
    pub(crate) cancel_ns: Option<u64>,
    pub(crate) read: Read,
    /// The handler calls another server before it answers.
    pub(crate) before: Option<Box<Self>>,
    /// How long the handler takes to answer.
    pub(crate) work_ns: u64,
    pub(crate) answer: Answer,
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Await,
    /// Started, and awaited later.
    Start {
        later_ns: u64,
    },
    TryStart,
    /// The response is read while it arrives; the reader is dropped after so many bytes.
    Reader {
        drop_after: Option<u32>,
        gap_ns: u64,
    },
    /// The body is written piece by piece; the writer is dropped after so many bytes.
    Written {
        piece: u32,
        gap_ns: u64,
        drop_after: Option<u32>,
    },
    /// The body is written without a length while the response is read.
    BothWays(BothWays),
}

/// What a client does with the two halves of a call that goes both ways at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BothWays {
    pub(crate) piece: u32,
    pub(crate) gap_ns: u64,
    /// The writer is dropped after so many bytes, or so long after the call was opened.
    pub(crate) drop_after: Option<u32>,
    pub(crate) drop_ns: Option<u64>,
    /// The response is looked at so long after the call was opened.
    pub(crate) later_ns: u64,
    /// It is read while it arrives, with pauses; otherwise it is awaited.
    pub(crate) read_gap_ns: Option<u64>,
    /// Its reader is dropped after so many bytes.
    pub(crate) read_drop_after: Option<u32>,
}

/// How a handler reads a request that it gets at its first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    All,
    Collect,
    /// The reader is dropped after so many bytes.
    Part(u32),
    /// The answer is given before the body is read.
    Late,
}

/// What a handler does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Reply {
        bytes: u32,
        metadata: bool,
    },
    /// Piece by piece; the writer is dropped after so many bytes.
    Stream {
        bytes: u32,
        /// Its length is not announced.
        open: bool,
        piece: u32,
        gap_ns: u64,
        drop_after: Option<u32>,
    },
    /// A byte for each byte that is read, while it is read. The reader is dropped after so many,
    /// the writer after so many.
    Transform {
        stop_after: Option<u32>,
        gap_ns: u64,
        drop_after: Option<u32>,
        metadata: bool,
    },
    Reject {
        code: u32,
        text: u32,
    },
    /// The request is dropped.
    Drop,
    /// The future of the reply is dropped after one poll.
    Abandon {
        bytes: u32,
    },
    /// Waits for the client to give up, at most for the time of the work, then replies.
    WaitCancelled {
        bytes: u32,
    },
}

fn percent(dice: &mut Dice, chance: u64) -> bool {
    dice.below(100) < chance
}

fn between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    low + dice.below(high - low + 1)
}

/// Between `low` and `high`, each order of magnitude as likely as any other.
fn log_between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    let (low_bits, high_bits) = (low.max(1).ilog2(), high.ilog2());
    let bits = between(dice, u64::from(low_bits), u64::from(high_bits));
    between(dice, 1 << bits, (2 << bits) - 1).clamp(low, high)
}

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

fn maybe<T>(dice: &mut Dice, chance: u64, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    let mut own = Dice::new(dice.roll());
    percent(dice, chance).then(|| make(&mut own))
}

/// Names of what can be left out of a plan as a whole.
pub(crate) const TROUBLES: &[&str] = &[
    "loss",
    "duplicates",
    "jitter",
    "spikes",
    "line",
    "spurious",
    "moved",
    "limits",
    "streams",
    "impatience",
    "age",
    "metadata",
    "timeouts",
    "cancels",
    "nesting",
    "styles",
    "answers",
];

impl Plan {
    /// The plan of a seed, without what is cut.
    pub(crate) fn new(seed: u64, cut: &Cut) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x7472_616E_7370);
        let dice = &mut dice;
        let count = pick(dice, &[2, 2, 2, 3, 3, 4]);
        let calm = percent(dice, 30);
        let link = link(dice, calm);
        let limited = percent(dice, 50);
        let hosts: Vec<_> = (0..count).map(|_| settings(dice, limited)).collect();
        let habits = [percent(dice, 30), percent(dice, 30)];
        let mut plan = Self {
            seed,
            link,
            hosts,
            age_ns: if percent(dice, 50) { 20 * SECOND } else { 0 },
            spurious_one_in: if habits[0] { log_between(dice, 2, 50) } else { 0 },
            moved_one_in: if habits[1] { log_between(dice, 1, 10) } else { 0 },
            actions: Vec::new(),
        };
        plan.hosts[0].serves = true;
        let mut calls = Calls { hosts: count as u64, next: 0, long: percent(dice, 20), calm };
        let span_ns = log_between(dice, 100 * US, 500 * MS);
        for _ in 0..log_between(dice, 1, 30) {
            let mut own = Dice::new(dice.roll());
            plan.actions.push(action(&mut own, &mut calls, span_ns));
        }
        let ends = percent(dice, 50);
        for _ in 0..if ends { between(dice, 1, 4) } else { 0 } {
            let mut own = Dice::new(dice.roll());
            plan.actions.push(trouble(&mut own, calls.hosts, span_ns, calm));
        }
        let goes_both_ways = percent(dice, 50);
        for _ in 0..if goes_both_ways { log_between(dice, 1, 12) } else { 0 } {
            let mut own = Dice::new(dice.roll());
            let (at_ns, host) = (own.below(span_ns), own.below(calls.hosts) as usize);
            let what = What::Call(calls.make_both_ways(&mut own, &plan.hosts));
            plan.actions.push(Action { at_ns, host, what });
        }
        plan.cut(cut);
        plan.actions.sort_by_key(|action| action.at_ns);
        plan
    }

    /// Leaves out what is cut. Actions are named by their place in the plan of the seed.
    fn cut(&mut self, cut: &Cut) {
        if let Some(only) = &cut.only {
            let mut place = 0;
            self.actions.retain(|_| {
                place += 1;
                only.contains(&(place - 1))
            });
        }
        for name in &cut.without {
            self.leave_out(name);
        }
        for _ in 0..cut.halved {
            self.each_call(&mut |call| call.bytes /= 2);
        }
    }

    fn leave_out(&mut self, name: &str) {
        match name {
            "loss" => self.link.loss_ppm = 0,
            "duplicates" => self.link.duplicate_ppm = 0,
            "jitter" => self.link.jitter_ns = 0,
            "spikes" => self.link.spike_ppm = 0,
            "line" => self.link.line_mbps = None,
            "spurious" => self.spurious_one_in = 0,
            "moved" => self.moved_one_in = 0,
            "age" => self.age_ns = 0,
            "limits" => {
                for host in &mut self.hosts {
                    *host = Settings {
                        serves: host.serves,
                        streams: host.streams,
                        acceptors: host.acceptors,
                        impatient_ns: host.impatient_ns,
                        ..Settings::AMPLE
                    };
                }
            }
            "streams" => self.hosts.iter_mut().for_each(|host| host.streams = false),
            "impatience" => self.hosts.iter_mut().for_each(|host| host.impatient_ns = None),
            "metadata" => self.each_call(&mut |call| call.metadata = None),
            "timeouts" => {
                for action in &mut self.actions {
                    match &mut action.what {
                        What::Call(call) => call.timeout_ns = None,
                        What::Set(set) => {
                            set.calls.iter_mut().for_each(|call| call.timeout_ns = None);
                        }
                        _ => {}
                    }
                }
            }
            "cancels" => self.each_call(&mut |call| call.cancel_ns = None),
            "nesting" => self.each_call(&mut |call| call.before = None),
            "styles" => self.each_call(&mut |call| call.style = Style::Await),
            "answers" => self.each_call(&mut |call| {
                call.answer = Answer::Reply { bytes: call.response_bytes(), metadata: false };
                call.read = Read::All;
            }),
            _ => {}
        }
    }

    fn each_call(&mut self, change: &mut impl FnMut(&mut Call)) {
        for action in &mut self.actions {
            match &mut action.what {
                What::Call(call) => call.each(change),
                What::Set(set) => set.calls.iter_mut().for_each(|call| call.each(change)),
                _ => {}
            }
        }
    }

    /// All calls, those of handlers too.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut found = Vec::new();
        self.clone().each_call(&mut |call| found.push(call.clone()));
        found
    }

    /// Whether something happens that excuses a failed call: the network or a host fails.
    pub(crate) fn is_harsh(&self) -> bool {
        use What::{Crash, CutOff, Pause};
        let fails = |action: &Action| matches!(action.what, Crash | CutOff { .. } | Pause { .. });
        self.link.loss_ppm > 20_000 || self.actions.iter().any(fails)
    }

    /// When the last thing of the plan happens, in ns.
    pub(crate) fn last_ns(&self) -> u64 {
        self.actions.iter().map(|action| action.at_ns).max().unwrap_or(0)
    }
}

impl Answer {
    /// Whether the length of the response is not announced.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Stream { open: true, .. } | Self::Transform { .. })
    }
}

impl Call {
    /// Bytes of its response, if all goes well.
    pub(crate) fn response_bytes(&self) -> u32 {
        match self.answer {
            Answer::Reply { bytes, .. }
            | Answer::Stream { bytes, .. }
            | Answer::Abandon { bytes }
            | Answer::WaitCancelled { bytes } => bytes,
            Answer::Transform { stop_after, .. } => {
                stop_after.map_or(self.bytes, |bytes| bytes.min(self.bytes))
            }
            Answer::Reject { .. } | Answer::Drop => 0,
        }
    }

    pub(crate) fn goes_both_ways(&self) -> bool {
        matches!(self.style, Style::BothWays(_))
    }

    fn each(&mut self, change: &mut impl FnMut(&mut Self)) {
        change(self);
        if let Some(before) = &mut self.before {
            before.each(change);
        }
    }
}

fn link(dice: &mut Dice, calm: bool) -> Link {
    let mut link = Link { delay_ns: log_between(dice, US, 200 * US), ..Link::default() };
    link.jitter_ns = maybe(dice, 50, |dice| log_between(dice, US, 500 * US)).unwrap_or(0);
    link.line_mbps = maybe(dice, 30, |dice| pick(dice, &[1_000, 10_000]));
    if !calm {
        let loss_ppm = maybe(dice, 50, |dice| log_between(dice, 1_000, 300_000));
        link.loss_ppm = loss_ppm.unwrap_or(0) as u32;
        let duplicates = maybe(dice, 40, |dice| log_between(dice, 1_000, 100_000));
        link.duplicate_ppm = duplicates.unwrap_or(0) as u32;
        link.spike_ppm = maybe(dice, 20, |dice| log_between(dice, 100, 20_000)).unwrap_or(0) as u32;
        link.spike_ns = log_between(dice, MS, 100 * MS);
    }
    link
}

fn settings(dice: &mut Dice, limited: bool) -> Settings {
    let mut settings = Settings {
        serves: percent(dice, 85),
        streams: percent(dice, 35),
        acceptors: between(dice, 1, 3) as usize,
        impatient_ns: maybe(dice, 30, |dice| log_between(dice, 20 * US, 10 * MS)),
        ..Settings::AMPLE
    };
    if limited {
        settings.calls_max = pick(dice, &[1, 1, 2, 3, 5, 1_000]);
        settings.bytes_max = pick(dice, &[1, 1_000, 20_000, 100_000, 1 << 30]);
        settings.queue_max = pick(dice, &[1, 1, 2, 4, 1_000]);
        settings.queue_time_ns = maybe(dice, 30, |dice| log_between(dice, 50 * US, 20 * MS));
        settings.message_max = pick(dice, &[20_000, 100_000, 1_000_000]);
        settings.timeout_ns = pick(dice, &[100, 300, 1_000]) * MS;
        settings.linger_ns = pick(dice, &[1, 50, 1_000]) * MS;
    }
    settings
}

/// Makes calls with numbers.
struct Calls {
    hosts: u64,
    next: u32,
    long: bool,
    calm: bool,
}

impl Calls {
    fn bytes(&self, dice: &mut Dice) -> u32 {
        match dice.below(20) {
            0 | 1 => dice.below(5) as u32,
            2..8 => log_between(dice, 1, 1_400) as u32,
            8..16 => log_between(dice, 1, 20_000) as u32,
            _ if self.long => log_between(dice, 1_000, 300_000) as u32,
            _ => log_between(dice, 1_000, 60_000) as u32,
        }
    }

    fn make(&mut self, dice: &mut Dice, depth: u32) -> Call {
        let number = self.next;
        self.next += 1;
        let bytes = self.bytes(dice);
        let to = (!percent(dice, 3)).then(|| dice.below(self.hosts) as usize);
        let style = match dice.below(10) {
            0..3 => Style::Await,
            3 | 4 => Style::Start { later_ns: log_between(dice, US, 5 * MS) },
            5 => Style::TryStart,
            6 | 7 => Style::Reader {
                drop_after: maybe(dice, 25, |dice| log_between(dice, 1, 10_000) as u32),
                gap_ns: maybe(dice, 30, |dice| log_between(dice, US, MS)).unwrap_or(0),
            },
            _ => Style::Written {
                piece: log_between(dice, u64::from(bytes / 20).max(1), 30_000) as u32,
                gap_ns: maybe(dice, 40, |dice| log_between(dice, US, MS)).unwrap_or(0),
                drop_after: maybe(dice, 20, |dice| dice.below(u64::from(bytes).max(1)) as u32),
            },
        };
        let read = match dice.below(8) {
            0..4 => Read::All,
            4 | 5 => Read::Collect,
            6 => Read::Part(log_between(dice, 1, 20_000) as u32),
            _ => Read::Late,
        };
        let length = self.bytes(dice);
        let answer = match dice.below(12) {
            0..6 => Answer::Reply { bytes: length, metadata: percent(dice, 30) },
            6 | 7 => Answer::Stream {
                bytes: length,
                open: false,
                piece: log_between(dice, u64::from(length / 20).max(1), 30_000) as u32,
                gap_ns: maybe(dice, 40, |dice| log_between(dice, US, MS)).unwrap_or(0),
                drop_after: maybe(dice, 20, |dice| dice.below(u64::from(length).max(1)) as u32),
            },
            8 => Answer::Reject { code: dice.roll() as u32, text: dice.below(3_000) as u32 },
            9 => Answer::Drop,
            10 => Answer::Abandon { bytes: length },
            _ => Answer::WaitCancelled { bytes: length },
        };
        let nests = depth < 3 && percent(dice, 12);
        let timeout_low_ns = if self.calm { MS } else { 10 * US };
        Call {
            number,
            to,
            bytes,
            style,
            // Handlers that wait for each other do so for a while only.
            timeout_ns: maybe(dice, if depth > 0 { 100 } else { 30 }, |dice| {
                log_between(dice, timeout_low_ns, 5 * SECOND)
            }),
            metadata: maybe(dice, 35, |dice| dice.below(2_000) as u32),
            cancel_ns: maybe(dice, 15, |dice| log_between(dice, 1, 20 * MS)),
            read,
            before: if nests { Some(Box::new(self.make(dice, depth + 1))) } else { None },
            work_ns: maybe(dice, 60, |dice| log_between(dice, US, 50 * MS)).unwrap_or(0),
            answer,
        }
    }
}

impl Calls {
    /// A call that goes both ways at once, mostly to a host that reads requests as they come.
    fn make_both_ways(&mut self, dice: &mut Dice, hosts: &[Settings]) -> Call {
        let mut call = self.make(dice, 0);
        let streams = |host: &usize| hosts.get(*host).is_some_and(|host| host.streams);
        let among: Vec<_> = (0..hosts.len()).filter(streams).collect();
        if !among.is_empty() && percent(dice, 70) {
            call.to = Some(pick(dice, &among));
        }
        let bytes = u64::from(call.bytes).max(1);
        call.metadata = maybe(dice, 60, |dice| dice.below(2_000) as u32);
        call.style = Style::BothWays(BothWays {
            piece: log_between(dice, (bytes / 20).max(1), 30_000) as u32,
            gap_ns: maybe(dice, 60, |dice| log_between(dice, US, 5 * MS)).unwrap_or(0),
            drop_after: maybe(dice, 15, |dice| dice.below(bytes) as u32),
            drop_ns: maybe(dice, 10, |dice| log_between(dice, 1, 20 * MS)),
            later_ns: maybe(dice, 30, |dice| log_between(dice, US, 5 * MS)).unwrap_or(0),
            read_gap_ns: maybe(dice, 60, |dice| {
                maybe(dice, 30, |dice| log_between(dice, US, MS)).unwrap_or(0)
            }),
            read_drop_after: maybe(dice, 15, |dice| dice.below(bytes) as u32),
        });
        match &mut call.answer {
            Answer::Stream { open, .. } => *open = percent(dice, 70),
            answer if percent(dice, 50) => {
                *answer = Answer::Transform {
                    stop_after: maybe(dice, 40, |dice| dice.below(bytes) as u32),
                    gap_ns: maybe(dice, 40, |dice| log_between(dice, US, MS)).unwrap_or(0),
                    drop_after: maybe(dice, 15, |dice| dice.below(bytes) as u32),
                    metadata: percent(dice, 30),
                };
            }
            _ => {}
        }
        call
    }
}

fn action(dice: &mut Dice, calls: &mut Calls, span_ns: u64) -> Action {
    let (at_ns, host) = (dice.below(span_ns), dice.below(calls.hosts) as usize);
    let what = if percent(dice, 15) {
        let count = between(dice, 1, 5);
        What::Set(Set {
            calls: (0..count).map(|_| calls.make(dice, 0)).collect(),
            restless: percent(dice, 30),
            aborts: percent(dice, 20),
            drop_ns: maybe(dice, 15, |dice| log_between(dice, 1, 10 * MS)),
        })
    } else {
        What::Call(calls.make(dice, 0))
    };
    Action { at_ns, host, what }
}

fn trouble(dice: &mut Dice, hosts: u64, span_ns: u64, calm: bool) -> Action {
    let (at_ns, host) = (dice.below(span_ns * 3 / 2), dice.below(hosts) as usize);
    let what = match dice.below(if calm { 8 } else { 12 }) {
        0 => What::StopAccepting,
        1 => What::WaitIdle,
        2 | 3 => What::Drain { within_ns: log_between(dice, US, 5 * SECOND) },
        4 => What::Close,
        5 => What::DropHandles,
        6 | 7 => What::Begin,
        8 | 9 => What::Crash,
        10 => What::Pause { for_ns: log_between(dice, 10 * US, 2 * SECOND) },
        _ => What::CutOff { for_ns: log_between(dice, 10 * US, 3 * SECOND) },
    };
    Action { at_ns, host, what }
}

impl fmt::Display for Plan {
    /// A readable list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, link, hosts, age_ns, spurious_one_in, moved_one_in, actions } = self;
        writeln!(f, "seed {seed}, links {link:?}")?;
        writeln!(
            f,
            "age {age_ns} ns, one of {spurious_one_in} polls spurious, one of {moved_one_in} moved"
        )?;
        for (host, settings) in hosts.iter().enumerate() {
            writeln!(f, "host {host}: {settings:?}")?;
        }
        for Action { at_ns, host, what } in actions {
            writeln!(f, "{at_ns:>12} ns, host {host}: {what:?}")?;
        }
        Ok(())
    }
}
