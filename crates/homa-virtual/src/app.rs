//! The application of a virtual host: answers requests as their plan says, reads responses, and
//! watches that the events keep the engine's promises.

use std::collections::HashMap;

use bytes::Bytes;
use homa_core::{Event, FailReason, Path, ResponseOptions, RpcKey, SendError};

use crate::ledger::{CallEnd, Ledger};
use crate::pattern::Pattern;
use crate::plan::{CallPlan, Response};
use crate::time::world_ns;
use homa_io::{Body, Message};
use homa_io::{EventHandler, ShardView};

/// After this time a forgetful application drops a request.
pub(crate) const FORGETFUL_NS: u64 = 3_000_000_000;

/// Deferred action of the application.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Answer the request.
    Reply { rpc: RpcKey, call: usize },
    /// Supply the next piece of an outgoing message.
    Supply { rpc: RpcKey, pattern: Pattern, from: u32, piece_bytes: u32, gap_ns: u64 },
    /// Write the next bytes of an open message, or finish it.
    Write { rpc: RpcKey, call: usize, pattern: Pattern, from: u32 },
    /// Read what has arrived.
    Read { rpc: RpcKey, upto: u32 },
    /// Drop the request unanswered.
    Drop { rpc: RpcKey },
    /// Give the call up.
    Abort { call: usize },
}

/// State of the application of one host during one incarnation of it.
#[derive(Debug, Default)]
pub(crate) struct App {
    watched: HashMap<RpcKey, Watch>,
    /// Things to do later: when (ns), and what.
    pub(crate) later: Vec<(u64, Task)>,
    /// Time between news of stream bytes and reading them, in ns.
    pub(crate) read_delay_ns: u64,
    pub(crate) life: usize,
}

/// Events that the engine has reported about one RPC.
#[derive(Debug)]
struct Watch {
    role: Role,
    outgoing: Option<u32>,
    released: u32,
    /// Bytes of a stream read so far.
    body: Message,
    incoming: u32,
    /// The incoming message is marked as beginning with a frame.
    framed: bool,
    /// It is open: its length may grow until it is complete.
    open: bool,
    complete: bool,
    /// Final news were handed out, or the application gave up.
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client { call: usize },
    Server { path: Path },
}

/// One turn's handler: the application with the ledger and the hosts' addresses.
pub(crate) struct Handler<'a> {
    pub(crate) app: &'a mut App,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) addresses: &'a [std::net::SocketAddr],
    pub(crate) host: usize,
}

impl App {
    /// The application at the beginning of an incarnation of its host.
    pub(crate) fn new(read_delay_ns: u64, life: usize) -> Self {
        Self { read_delay_ns, life, ..Self::default() }
    }

    /// A call was accepted by the engine.
    pub(crate) fn watch_call(&mut self, rpc: RpcKey, call: usize, length: u32) {
        let mut watch = Watch::new(Role::Client { call });
        watch.outgoing = Some(length);
        self.watched.insert(rpc, watch);
    }

    /// RPCs that have not ended.
    pub(crate) fn watching(&self) -> usize {
        self.watched.len()
    }

    /// The calls of this host that are under way.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = usize> {
        self.watched.values().filter(|watch| !watch.over).filter_map(|watch| match watch.role {
            Role::Client { call } => Some(call),
            Role::Server { .. } => None,
        })
    }
}

impl Watch {
    fn new(role: Role) -> Self {
        Self {
            role,
            outgoing: None,
            released: 0,
            body: Message::new(),
            incoming: 0,
            framed: false,
            open: false,
            complete: false,
            over: false,
        }
    }
}

impl EventHandler for Handler<'_> {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        event.parts().for_each(|part| self.part(part, shard));
    }
}

impl Handler<'_> {
    fn part(&mut self, event: Event, shard: &mut ShardView<'_>) {
        match event {
            Event::RequestStarted { rpc, path, length, framed, open } => {
                let mut watch = Watch::new(Role::Server { path });
                (watch.incoming, watch.framed, watch.open) = (length, framed, open);
                if self.app.watched.insert(rpc, watch).is_some() {
                    self.complain(rpc, "a request began under a key in use");
                }
            }
            Event::ResponseStarted { rpc, length, framed, open, .. } => {
                if let Some(watch) = self.watch(rpc) {
                    (watch.incoming, watch.framed, watch.open) = (length, framed, open);
                }
            }
            Event::RequestArrived { rpc, length } => self.request_arrived(rpc, length, shard),
            Event::ResponseArrived { rpc, cookie, length } => {
                self.response_arrived(rpc, cookie, length, shard);
            }
            Event::BodyProgress { rpc, contiguous_upto, .. } => {
                self.progress(rpc, contiguous_upto, shard)
            }
            Event::Failed { rpc, cookie, reason } => self.failed(rpc, cookie, reason, shard),
            Event::Released { rpc, upto } => self.released(rpc, upto),
            Event::Ended { rpc } => self.ended(rpc, shard),
            other => self.ledger.violation(format!("unexpected event {other:?}")),
        }
    }

    /// Performs a deferred action.
    pub(crate) fn perform(&mut self, task: Task, shard: &mut ShardView<'_>) {
        match task {
            Task::Reply { rpc, call } => self.reply(rpc, call, shard),
            Task::Drop { rpc } => self.drop_request(rpc, FailReason::Rejected, shard),
            Task::Supply { rpc, pattern, from, piece_bytes, gap_ns } => {
                let upto = pattern.length().min(from.saturating_add(piece_bytes));
                let supplied = pattern
                    .range(from, upto)
                    .into_iter()
                    .all(|chunk| shard.supply(rpc, chunk).is_ok());
                if supplied && upto < pattern.length() {
                    let at = world_ns(shard.now()) + gap_ns;
                    let next = Task::Supply { rpc, pattern, from: upto, piece_bytes, gap_ns };
                    self.app.later.push((at, next));
                } else if supplied && shard.supply(rpc, Bytes::from_static(b"x")).is_ok() {
                    self.complain(rpc, "it takes more bytes than were announced");
                }
            }
            Task::Write { rpc, call, pattern, from } => {
                self.write(rpc, call, pattern, from, shard);
            }
            Task::Read { rpc, upto } => {
                if self.app.watched.get(&rpc).is_some_and(|watch| !watch.over && !watch.complete) {
                    self.read(rpc, upto, shard);
                }
            }
            Task::Abort { call } => {
                let Some(rpc) = self.ledger.calls.get(call).and_then(|call| call.rpc) else {
                    return;
                };
                // If it is over already, its event is on its way.
                if shard.abort(rpc, FailReason::Aborted).is_ok() {
                    if let Some(watch) = self.app.watched.get_mut(&rpc) {
                        watch.over = true;
                    }
                    self.ledger.finish(call, CallEnd::Aborted, world_ns(shard.now()));
                }
            }
        }
    }

    /// Writes the next bytes of an open message, or finishes it.
    fn write(
        &mut self,
        rpc: RpcKey,
        call: usize,
        pattern: Pattern,
        from: u32,
        shard: &mut ShardView<'_>,
    ) {
        let Some(writes) = self.ledger.calls[call].plan.open else {
            return;
        };
        if from == pattern.length() {
            if shard.finish(rpc).is_ok() {
                let more = shard.supply(rpc, Bytes::from_static(b"x")).is_ok();
                if more || shard.finish(rpc).is_ok() {
                    self.complain(rpc, "an open message goes on behind its end");
                }
            }
            return;
        }
        let (bytes, gap_ns) = writes.at(from, call);
        let upto = pattern.length().min(from.saturating_add(bytes));
        let chunks = pattern.range(from, upto);
        if chunks.into_iter().all(|chunk| shard.supply(rpc, chunk).is_ok()) {
            if let Some(watch) = self.app.watched.get_mut(&rpc) {
                watch.outgoing = Some(upto + 1);
            }
            let next = Task::Write { rpc, call, pattern, from: upto };
            self.app.later.push((world_ns(shard.now()) + gap_ns, next));
        }
    }

    fn request_arrived(&mut self, rpc: RpcKey, length: u32, shard: &mut ShardView<'_>) {
        let open = self.length_is_final(rpc, length);
        self.read(rpc, u32::MAX, shard);
        let Some(watch) = self.watch(rpc) else {
            return;
        };
        if watch.complete || watch.over {
            return self.complain(rpc, "a request arrived twice or after its end");
        }
        watch.complete = true;
        let framed = watch.framed;
        let body = without_trailer(std::mem::take(&mut watch.body), open);
        let Role::Server { path } = watch.role else {
            return self.complain(rpc, "a request arrived under a call's key");
        };
        let number = Pattern::number_of(body.clone());
        let call = number as usize;
        let entry = self.ledger.calls.get(call).filter(|call| {
            self.addresses.get(call.plan.client) == Some(&path.remote)
                && self.host == call.plan.server
        });
        let Some(plan) = entry.map(|entry| entry.plan) else {
            return self.forged(rpc, &path, shard);
        };
        if framed != plan.framed || open != plan.open.is_some() {
            self.complain(rpc, &format!("request {number} came with the wrong mark"));
        }
        if body.len() != plan.request_bytes as usize
            || !Pattern::request(number, plan.request_bytes).matches(0, &body)
        {
            return self.complain(rpc, &format!("request {number} has wrong bytes: {body:?}"));
        }
        self.ledger.executed(call, self.app.life);
        let at = world_ns(shard.now());
        match plan.response {
            Response::After { service_ns: 0 } => self.reply(rpc, call, shard),
            Response::After { service_ns } | Response::InPieces { service_ns, .. } => {
                self.app.later.push((at + service_ns, Task::Reply { rpc, call }));
            }
            Response::Rejected => self.drop_request(rpc, FailReason::Rejected, shard),
            Response::NotExecuted => self.drop_request(rpc, FailReason::NotExecuted, shard),
            Response::Never => self.app.later.push((at + FORGETFUL_NS, Task::Drop { rpc })),
        }
    }

    /// A request that no call of the plan explains. From a host of the world it would be damage
    /// that the engine did; a host cannot prevent that unvalidated clients ask.
    fn forged(&mut self, rpc: RpcKey, path: &Path, shard: &mut ShardView<'_>) {
        self.ledger.forged_executions += 1;
        if self.addresses.contains(&path.remote) && !self.ledger.forgeries_expected {
            self.complain(rpc, "a request that nobody made");
        }
        let _ = shard.send_response(rpc, Body::from("who are you?"), ResponseOptions::default());
        if let Some(watch) = self.watch(rpc) {
            watch.outgoing = Some(12);
        }
    }

    fn drop_request(&mut self, rpc: RpcKey, why: FailReason, shard: &mut ShardView<'_>) {
        if let Some(watch) = self.app.watched.get_mut(&rpc).filter(|watch| !watch.over) {
            // If the client gave up in the same turn the news are still to come.
            watch.over = shard.abort(rpc, why).is_ok();
        }
    }

    fn reply(&mut self, rpc: RpcKey, call: usize, shard: &mut ShardView<'_>) {
        // The client no longer waits, which is allowed.
        if self.app.watched.get(&rpc).is_none_or(|watch| watch.over) {
            return;
        }
        let plan = self.ledger.calls[call].plan;
        let pattern = Pattern::response(call as u32, plan.response_bytes);
        let (framed, open) = (plan.framed, plan.open.is_some());
        let options = ResponseOptions { framed, open, ..ResponseOptions::default() };
        let begin = begun(pattern, &plan, call);
        let length = if open { begin + 1 } else { plan.response_bytes };
        let result = match plan.response {
            _ if open => {
                let body = pattern.range(0, begin).into_iter().collect();
                let write = Task::Write { rpc, call, pattern, from: begin };
                self.app.later.push((world_ns(shard.now()), write));
                shard.send_response(rpc, body, options)
            }
            Response::InPieces { piece_bytes, service_ns } => {
                let result = shard.send_response_streaming(rpc, plan.response_bytes, options);
                let supply =
                    Task::Supply { rpc, pattern, from: 0, piece_bytes, gap_ns: service_ns };
                self.app.later.push((world_ns(shard.now()), supply));
                result
            }
            _ => shard.send_response(rpc, pattern.body(), options),
        };
        match result {
            Ok(()) => {
                if let Some(watch) = self.watch(rpc) {
                    watch.outgoing = Some(length);
                }
            }
            // The client gave up in the same turn: the news are still to come.
            Err(SendError::Stale) => {}
            Err(error) => self.complain(rpc, &format!("the answer was refused: {error:?}")),
        }
    }

    fn response_arrived(
        &mut self,
        rpc: RpcKey,
        cookie: u64,
        length: u32,
        shard: &mut ShardView<'_>,
    ) {
        let open = self.length_is_final(rpc, length);
        self.read(rpc, u32::MAX, shard);
        let now_ns = world_ns(shard.now());
        let Some(watch) = self.watch(rpc) else {
            return;
        };
        let repeated = watch.complete || watch.over;
        let framed = watch.framed;
        (watch.complete, watch.over) = (true, true);
        let body = without_trailer(std::mem::take(&mut watch.body), open);
        if watch.role != (Role::Client { call: cookie as usize }) || repeated {
            return self.complain(rpc, "a response for another call, twice, or after its end");
        }
        let entry = &mut self.ledger.calls[cookie as usize];
        if entry.first_byte_ns == 0 {
            entry.first_byte_ns = now_ns;
        }
        let length = entry.plan.response_bytes;
        let marked = (entry.plan.framed, entry.plan.open.is_some());
        if (framed, open) != marked {
            self.complain(rpc, &format!("response {cookie} came with the wrong mark"));
        }
        if body.len() != length as usize
            || !Pattern::response(cookie as u32, length).matches(0, &body)
        {
            self.complain(rpc, &format!("response {cookie} has wrong bytes: {body:?}"));
        }
        self.ledger.finish(cookie as usize, CallEnd::Answered, now_ns);
    }

    fn progress(&mut self, rpc: RpcKey, upto: u32, shard: &mut ShardView<'_>) {
        let at = world_ns(shard.now()) + self.app.read_delay_ns;
        let Some(watch) = self.watch(rpc) else {
            return;
        };
        if watch.over || watch.complete || (upto > watch.incoming && !watch.open) {
            return self.complain(rpc, "progress after the end, or beyond it");
        }
        if let Role::Client { call } = watch.role {
            let entry = &mut self.ledger.calls[call];
            if entry.first_byte_ns == 0 {
                entry.first_byte_ns = world_ns(shard.now());
            }
        }
        match self.app.read_delay_ns {
            0 => self.read(rpc, upto, shard),
            _ => self.app.later.push((at, Task::Read { rpc, upto })),
        }
    }

    /// Takes bytes of an incoming message below `upto` out of the store.
    fn read(&mut self, rpc: RpcKey, upto: u32, shard: &mut ShardView<'_>) {
        let Some(watch) = self.app.watched.get_mut(&rpc) else {
            return;
        };
        let upto = if watch.open { upto } else { upto.min(watch.incoming) };
        let before = watch.body.len();
        let taken = if upto == watch.incoming && before == 0 && !watch.open {
            shard.take(rpc)
        } else {
            shard.take_upto(rpc, upto)
        };
        match taken {
            Some(part) => {
                watch.body.append(part);
                let (read, incoming) = (watch.body.len(), watch.incoming);
                let taken = shard.store().incoming(rpc);
                if taken.is_some_and(|(_, taken)| taken as usize != read) {
                    self.complain(rpc, &format!("{read} of {incoming} B were read, not {taken:?}"));
                }
            }
            None => {
                self.complain(rpc, &format!("bytes below {upto} were announced and are not there"))
            }
        }
    }

    /// A message is complete: notes its length, and whether it was open.
    fn length_is_final(&mut self, rpc: RpcKey, length: u32) -> bool {
        let Some(watch) = self.watch(rpc) else {
            return false;
        };
        let open = std::mem::take(&mut watch.open);
        let said = std::mem::replace(&mut watch.incoming, length);
        if length < said || (length > said && !open) {
            self.complain(rpc, &format!("{length} B have come, {said} B were announced"));
        }
        open
    }

    fn failed(&mut self, rpc: RpcKey, cookie: u64, reason: FailReason, shard: &mut ShardView<'_>) {
        let Some(watch) = self.watch(rpc) else {
            return;
        };
        if watch.over {
            return self.complain(rpc, &format!("it failed after its end: {reason:?}"));
        }
        watch.over = true;
        if let Role::Client { call } = watch.role {
            if cookie != call as u64 {
                self.complain(rpc, "it failed with another call's cookie");
            }
            self.ledger.finish(call, CallEnd::Failed(reason), world_ns(shard.now()));
        }
    }

    fn released(&mut self, rpc: RpcKey, upto: u32) {
        let Some(watch) = self.watch(rpc) else {
            return;
        };
        let length = watch.outgoing.unwrap_or(0);
        if upto <= watch.released || upto > length {
            let before = watch.released;
            self.complain(rpc, &format!("released {upto} of {length} after {before}"));
        } else {
            watch.released = upto;
        }
    }

    fn ended(&mut self, rpc: RpcKey, shard: &ShardView<'_>) {
        let Some(watch) = self.app.watched.remove(&rpc) else {
            if shard.store().incoming(rpc).is_some() {
                // It was over before it was announced; bytes of it were here.
                return;
            }
            return self.complain(rpc, "an RPC ended that was not known, or twice");
        };
        if watch.outgoing.is_some_and(|length| watch.released != length) {
            self.complain(rpc, "it ended before its message was released");
        }
        if matches!(watch.role, Role::Client { .. }) && !watch.over {
            self.complain(rpc, "a call ended without news");
        }
    }

    fn watch(&mut self, rpc: RpcKey) -> Option<&mut Watch> {
        if !self.app.watched.contains_key(&rpc) {
            self.complain(rpc, "an event for an RPC that is not known");
        }
        self.app.watched.get_mut(&rpc)
    }

    fn complain(&mut self, rpc: RpcKey, what: &str) {
        let role = self.app.watched.get(&rpc).map(|watch| watch.role);
        self.ledger.violation(format!("host {}, {rpc:?}, {role:?}: {what}", self.host));
    }
}

/// The message without the last byte that an `open` one has, which is zero unless its sender lies.
fn without_trailer(mut message: Message, open: bool) -> Message {
    if open {
        message.truncate(message.len().saturating_sub(1));
    }
    message
}

/// Bytes of an open message that are there from the beginning.
pub(crate) fn begun(pattern: Pattern, plan: &CallPlan, call: usize) -> u32 {
    let writes = plan.open.filter(|_| call % 2 == 1);
    writes.map_or(0, |writes| writes.at(0, call).0.min(pattern.length()))
}

/// The request of a call.
pub(crate) fn request_body(call: usize, plan: &CallPlan) -> Body {
    Pattern::request(call as u32, plan.request_bytes).body()
}
