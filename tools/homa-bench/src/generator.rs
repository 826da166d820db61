//! The load generator. In an open loop calls begin at times of their own and count from then, so
//! that neither a server that stands still nor a client that falls behind is spared (coordinated
//! omission); in a closed loop each call is followed by the next. Memory does not grow with rate or
//! length.

use std::{
    io, iter,
    time::{Duration, Instant},
};

use crate::arrivals::{Arrival, Arrivals};

/// Calls under way at most, so that memory stays bounded.
const OUTSTANDING_MAX: u32 = 100_000;
/// Calls begun before ends are collected again.
const BATCH: usize = 256;
/// The longest and the shortest time between two looks for calls that take too long.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_MIN: Duration = Duration::from_millis(1);

/// Who can call servers.
pub trait Caller {
    /// What becomes of a call.
    type Reply;

    /// Begins a call with a request of `bytes` to the server of this index; [`poll`](Self::poll)
    /// reports its end with `token`.
    ///
    /// # Errors
    /// The end of a call that cannot begin.
    fn start(&mut self, token: u64, server: usize, bytes: u64) -> Result<(), Self::Reply>;

    /// Sends and receives until a call ended or until `until`; adds calls that ended.
    ///
    /// # Errors
    /// No more calls can be made.
    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended<Self::Reply>>) -> io::Result<()>;
}

/// The end of a call.
#[derive(Debug, Clone, Copy)]
pub struct Ended<R = bool> {
    /// What the call was started with.
    pub token: u64,
    /// When its last byte was here.
    pub at: Instant,
    /// What became of it; by default whether it has its answer.
    pub reply: R,
}

/// A call of a load.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// When it was meant to begin.
    pub intended: Instant,
    /// When it could begin, once there were fewer under way than may be.
    pub possible: Instant,
    /// When it began.
    pub begun: Instant,
    /// The server, by its index.
    pub server: usize,
    /// Length of the request.
    pub bytes: u64,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<R> {
    /// As the caller says.
    Known(R),
    /// It took too long.
    TimedOut,
    /// It was under way when the load was over.
    Unfinished,
}

/// Who is told of the calls of a load, and decides how long it goes on.
pub trait Record<R> {
    /// Looks at the time between two calls; returns when to look again at the latest.
    ///
    /// # Errors
    /// The load is to end at once.
    fn look(&mut self, now: Instant, under_way: usize) -> io::Result<Instant>;

    /// Whether one more call is to begin.
    fn wants_more(&self) -> bool {
        true
    }

    /// A call begins.
    fn begins(&mut self, _: &Call) {}

    /// A call that began is over.
    fn ends(&mut self, call: &Call, at: Instant, end: End<R>);

    /// No more calls begin; `missed` are those that were meant to and found no place under way.
    fn over(&mut self, _: Instant, _under_way: usize, _missed: &mut dyn Iterator<Item = Call>) {}
}

/// What to offer.
#[derive(Debug, Clone)]
pub struct Load {
    /// The calls; none: no calls for as long as the load goes on.
    pub arrivals: Option<Arrivals>,
    /// Whether calls begin as soon as they may, whatever their arrivals say.
    pub closed: bool,
    /// Calls under way at most; others wait, which counts as their time.
    pub outstanding: u32,
    /// For how long calls are meant to begin; none: as long as the record wants more.
    pub length: Option<Duration>,
    /// How long after that they may begin that could not before; no longer than the drain.
    pub late_max: Duration,
    /// How long after that calls may go on; none: until they end or are given up.
    pub drain: Option<Duration>,
    /// When a call is given up.
    pub timeout: Option<Duration>,
}

impl Load {
    /// Calls that begin at times of their own for a `length`, and may begin late and go on for
    /// `drain` after that.
    pub fn open(
        arrivals: Option<Arrivals>,
        outstanding: u32,
        length: Duration,
        drain: Duration,
    ) -> Self {
        let (length, late_max, drain) = (Some(length), drain, Some(drain));
        Load { closed: false, length, late_max, drain, ..Load::closed(arrivals, outstanding) }
    }

    /// So many calls under way at a time; of the arrivals only whom they ask and how long they are
    /// matters.
    pub fn closed(arrivals: Option<Arrivals>, outstanding: u32) -> Self {
        let (late_max, drain) = (Duration::ZERO, None);
        Load { arrivals, closed: true, outstanding, length: None, late_max, drain, timeout: None }
    }
}

/// Offers the load from `start` on, by what `now` says of the time.
///
/// # Errors
/// The caller cannot go on, or the record ends the load. Calls under way have been recorded as
/// unfinished.
pub fn run<C: Caller + ?Sized>(
    caller: &mut C,
    load: Load,
    start: Instant,
    now: impl Fn() -> Instant,
    record: &mut dyn Record<C::Reply>,
) -> io::Result<()> {
    let mut run = Run::new(load, start, record);
    let done = run.turns(caller, &now);
    run.give_up_rest(now());
    done
}

/// A place for a call under way; replies to an earlier call in it have another generation.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    generation: u32,
    call: Option<Call>,
}

struct Run<'a, R> {
    load: Load,
    record: &'a mut dyn Record<R>,
    start: Instant,
    end: Option<Instant>,
    next: Option<Arrival>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Since when there has been a free place.
    room_since: Instant,
    expire_at: Instant,
}

impl<'a, R> Run<'a, R> {
    fn new(mut load: Load, start: Instant, record: &'a mut dyn Record<R>) -> Self {
        let slots = load.outstanding.clamp(1, OUTSTANDING_MAX);
        Run {
            end: load.length.map(|length| start + length),
            next: load.arrivals.as_mut().map(Arrivals::take),
            load,
            record,
            start,
            slots: vec![Slot::default(); slots as usize],
            free: (0..slots).rev().collect(),
            room_since: start,
            expire_at: start,
        }
    }

    fn turns<C: Caller<Reply = R> + ?Sized>(
        &mut self,
        caller: &mut C,
        now: &impl Fn() -> Instant,
    ) -> io::Result<()> {
        let mut ended = Vec::new();
        let mut beginning = true;
        loop {
            let at = now();
            let look_at = self.record.look(at, self.under_way())?;
            self.expire(at);
            if !beginning && (self.under_way() == 0 || self.gives_up(at)) {
                return Ok(());
            }
            if beginning && !self.begin_due(at, caller) {
                beginning = false;
                self.over(at);
                continue;
            }
            caller.poll(self.wake_at(at, look_at, beginning), &mut ended)?;
            for call in ended.drain(..) {
                self.ended(call);
            }
        }
    }

    fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// When the next call is meant to begin.
    fn intended(&self, now: Instant) -> Option<Instant> {
        let next = self.next.map(|next| meant_at(self.start, next));
        if self.load.closed { next.map(|_| now) } else { next }
    }

    /// Begins the calls that are due, as many as there are places for; returns whether there are
    /// more to come.
    fn begin_due<C: Caller<Reply = R> + ?Sized>(&mut self, now: Instant, caller: &mut C) -> bool {
        for _ in 0..BATCH {
            let intended = self.intended(now);
            let past = |end| intended.is_none_or(|at| at >= end) || now >= end + self.load.late_max;
            let over = self.end.is_some_and(|end| now >= end && past(end));
            if over || !self.record.wants_more() {
                return false;
            }
            match intended.filter(|at| *at <= now && !self.free.is_empty()) {
                Some(intended) => self.begin(intended, now, caller),
                None => break,
            }
        }
        true
    }

    fn begin<C: Caller<Reply = R> + ?Sized>(
        &mut self,
        intended: Instant,
        now: Instant,
        caller: &mut C,
    ) {
        // The caller of this has seen that there are both.
        let (Some(arrival), Some(index)) = (self.next, self.free.pop()) else { return };
        let Arrival { server, bytes, .. } = arrival;
        let possible = intended.max(self.room_since);
        let call = Call { intended, possible, begun: now, server, bytes };
        self.next = self.load.arrivals.as_mut().map(Arrivals::take);
        self.record.begins(&call);
        let slot = &mut self.slots[index as usize];
        // One bit is left for the tokens of others.
        slot.generation = (slot.generation + 1) & (u32::MAX >> 1);
        slot.call = Some(call);
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        if let Err(reply) = caller.start(token, server, bytes) {
            self.ended(Ended { token, at: now, reply });
        }
    }

    /// Ends a call, unless it was given up before.
    fn ended(&mut self, ended: Ended<R>) {
        let (index, generation) = (ended.token as u32, (ended.token >> 32) as u32);
        let Some(slot) = self.slots.get(index as usize) else { return };
        if slot.generation == generation {
            self.free(index, ended.at, End::Known(ended.reply));
        }
    }

    fn free(&mut self, index: u32, at: Instant, end: End<R>) {
        let Some(call) = self.slots[index as usize].call.take() else { return };
        if self.free.is_empty() {
            self.room_since = at;
        }
        self.free.push(index);
        self.record.ends(&call, at, end);
    }

    /// Gives up the calls that take too long.
    fn expire(&mut self, now: Instant) {
        let Some(timeout) = self.load.timeout.filter(|_| now >= self.expire_at) else { return };
        self.expire_at = now + (timeout / 10).clamp(LOOK_MIN, LOOK);
        for index in 0..self.slots.len() {
            let late = |call: Call| now.saturating_duration_since(call.begun) > timeout;
            if self.slots[index].call.is_some_and(late) {
                self.free(index as u32, now, End::TimedOut);
            }
        }
    }

    fn over(&mut self, now: Instant) {
        let (start, under_way) = (self.start, self.under_way());
        let end = self.end.filter(|_| !self.load.closed).unwrap_or(start);
        let later = self.load.arrivals.iter_mut().flat_map(|all| iter::repeat_with(|| all.take()));
        let mut missed = self.next.into_iter().chain(later).map_while(|arrival| {
            let Arrival { server, bytes, .. } = arrival;
            let intended = meant_at(start, arrival);
            (intended < end).then_some(Call { intended, possible: now, begun: now, server, bytes })
        });
        self.record.over(now, under_way, &mut missed);
    }

    fn gives_up(&self, now: Instant) -> bool {
        let at = self.end.zip(self.load.drain).map(|(end, drain)| end + drain);
        at.is_some_and(|at| now >= at)
    }

    /// When to stop waiting for ends.
    fn wake_at(&self, now: Instant, look_at: Instant, beginning: bool) -> Instant {
        let begin = self.intended(now).filter(|_| beginning && !self.free.is_empty());
        let after = |time: Option<Duration>| Some(self.end? + time?);
        let marks = [self.end, after(Some(self.load.late_max)), after(self.load.drain)];
        let marks = marks.into_iter().flatten().filter(|mark| *mark > now);
        let expire = self.load.timeout.map(|_| self.expire_at);
        marks.chain(begin).chain(expire).fold(look_at, Instant::min)
    }

    fn give_up_rest(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            self.free(index as u32, now, End::Unfinished);
        }
    }
}

/// When a call of an open loop is meant to begin.
fn meant_at(start: Instant, arrival: Arrival) -> Instant {
    start + Duration::from_nanos((arrival.at_s * 1e9) as u64)
}
