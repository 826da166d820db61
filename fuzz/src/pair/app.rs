//! The application of a host: serves and reads, compares every byte, and watches the order of
//! events.

use std::collections::HashMap;

use homa_core::{Event, ResponseOptions, RpcKey};
use homa_io::{Body, EventHandler, Message, ShardView};
use homa_virtual::Pattern;
use homa_wire::RpcId;

/// A call and what became of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) rpc: RpcKey,
    /// Its id on the wire, in the client's form.
    pub(super) id: u64,
    pub(super) request_bytes: u32,
    pub(super) response_bytes: u32,
    /// The server takes its time.
    pub(super) held: bool,
    /// Executions in the present incarnation of the server.
    pub(super) executed: u32,
    pub(super) outcome: Option<Outcome>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    /// The client's host restarted.
    Lost,
}

/// One life of an application.
#[derive(Default)]
pub(super) struct App {
    rpcs: HashMap<RpcKey, Watch>,
    /// Requests that wait for an answer to call `number`.
    held: Vec<(RpcKey, usize)>,
}

/// What was told about an RPC.
#[derive(Debug, Default)]
struct Watch {
    is_call: bool,
    outgoing: Option<u32>,
    released: u32,
    body: Message,
    over: bool,
}

impl App {
    pub(super) fn called(&mut self, rpc: RpcKey, length: u32) {
        let watch = Watch { is_call: true, outgoing: Some(length), ..Watch::default() };
        assert!(self.rpcs.insert(rpc, watch).is_none(), "a key in use");
    }

    pub(super) fn aborted(&mut self, rpc: RpcKey) {
        self.watch(rpc).over = true;
    }

    pub(super) fn watching(&self) -> usize {
        self.rpcs.len()
    }

    pub(super) fn answer_held(&mut self, shard: &mut ShardView<'_>, calls: &[Call]) {
        for (rpc, number) in std::mem::take(&mut self.held) {
            self.answer(rpc, Some((number, &calls[number])), shard);
        }
    }

    fn answer(&mut self, rpc: RpcKey, call: Option<(usize, &Call)>, shard: &mut ShardView<'_>) {
        let body = match call {
            Some((number, call)) => Pattern::response(number as u32, call.response_bytes).body(),
            None => Body::from("who are you?"),
        };
        let length = body.len() as u32;
        if let Some(watch) = self.rpcs.get_mut(&rpc).filter(|watch| !watch.over) {
            if shard.send_response(rpc, body, ResponseOptions::default()).is_ok() {
                watch.outgoing = Some(length);
            } else {
                // Longer than a Linux host takes, or than is allowed here. If the client has just
                // given up, the news are still to come.
                watch.over = shard.abort(rpc, homa_core::FailReason::Rejected).is_ok();
            }
        }
    }

    fn watch(&mut self, rpc: RpcKey) -> &mut Watch {
        self.rpcs.get_mut(&rpc).unwrap_or_else(|| panic!("an event for {rpc:?}, which is unknown"))
    }
}

/// One turn's handler.
pub(super) struct Handler<'a> {
    pub(super) app: &'a mut App,
    pub(super) calls: &'a mut Vec<Call>,
    pub(super) host: usize,
    /// Ids that forged packets named.
    pub(super) forged: &'a [u64],
    /// What has happened may make a request run twice.
    pub(super) careless: bool,
}

impl EventHandler for Handler<'_> {
    fn event(&mut self, event: Event, shard: &mut ShardView<'_>) {
        event.parts().for_each(|part| self.part(part, shard));
    }
}

impl Handler<'_> {
    fn part(&mut self, event: Event, shard: &mut ShardView<'_>) {
        match event {
            Event::RequestStarted { rpc, .. } => {
                assert!(self.app.rpcs.insert(rpc, Watch::default()).is_none(), "a key in use");
            }
            Event::RequestArrived { rpc, .. } => self.request(rpc, shard),
            Event::ResponseArrived { rpc, cookie, .. } => {
                self.response(rpc, cookie as usize, shard)
            }
            Event::BodyProgress { rpc, contiguous_upto, .. } => {
                let part = shard.take_upto(rpc, contiguous_upto).expect("it was announced");
                self.app.watch(rpc).body.append(part);
            }
            Event::Failed { rpc, cookie, .. } => self.failed(rpc, cookie as usize),
            Event::Released { rpc, upto } => {
                let watch = self.app.watch(rpc);
                assert!(upto > watch.released && Some(upto) <= watch.outgoing, "{upto}: {watch:?}");
                watch.released = upto;
            }
            Event::Ended { rpc } => self.ended(rpc, shard),
            _ => {}
        }
    }

    fn request(&mut self, rpc: RpcKey, shard: &mut ShardView<'_>) {
        let id = shard
            .engine()
            .rpcs()
            .find(|info| info.rpc == rpc)
            .map(|info| RpcId(info.id).of_peer().0);
        let watch = self.app.watch(rpc);
        let mut body = std::mem::take(&mut watch.body);
        body.append(shard.take_upto(rpc, u32::MAX).expect("it has arrived"));
        let number = Pattern::number_of(body.clone()) as usize;
        let call = self.calls.get_mut(number).filter(|call| {
            let pattern = Pattern::request(number as u32, call.request_bytes);
            body.len() == call.request_bytes as usize && pattern.matches(0, &body)
        });
        let forged = id.is_none_or(|id| self.forged.contains(&id));
        match call {
            Some(call) if call.client != self.host && (forged || id == Some(call.id)) => {
                call.executed += 1;
                assert!(call.executed == 1 || self.careless, "it runs twice: {call:?}");
                if call.held {
                    self.app.held.push((rpc, number));
                } else {
                    self.app.answer(rpc, Some((number, &self.calls[number])), shard);
                }
            }
            _ => {
                assert!(forged, "a request that nobody made: {number}, id {id:?}, {body:?}");
                self.app.answer(rpc, None, shard);
            }
        }
    }

    fn response(&mut self, rpc: RpcKey, number: usize, shard: &mut ShardView<'_>) {
        let watch = self.app.watch(rpc);
        assert!(watch.is_call && !watch.over, "{watch:?}");
        watch.over = true;
        let mut body = std::mem::take(&mut watch.body);
        body.append(shard.take_upto(rpc, u32::MAX).expect("it has arrived"));
        let call = &mut self.calls[number];
        assert_eq!((call.rpc, call.client, call.outcome), (rpc, self.host, None));
        call.outcome = Some(Outcome::Answered);
        if !self.forged.contains(&call.id) {
            let pattern = Pattern::response(number as u32, call.response_bytes);
            let right = body.len() == call.response_bytes as usize && pattern.matches(0, &body);
            assert!(right, "wrong bytes in the answer to {call:?}: {body:?}");
        }
    }

    fn failed(&mut self, rpc: RpcKey, number: usize) {
        let watch = self.app.watch(rpc);
        assert!(!watch.over, "it failed after its end: {watch:?}");
        watch.over = true;
        if watch.is_call {
            let call = &mut self.calls[number];
            assert_eq!((call.rpc, call.client, call.outcome), (rpc, self.host, None));
            call.outcome = Some(Outcome::Failed);
        }
    }

    fn ended(&mut self, rpc: RpcKey, shard: &ShardView<'_>) {
        let Some(watch) = self.app.rpcs.remove(&rpc) else {
            return assert!(shard.store().incoming(rpc).is_some(), "{rpc:?} was unknown");
        };
        assert!(watch.outgoing.is_none_or(|length| watch.released == length), "{watch:?}");
        assert!(!watch.is_call || watch.over, "a call ended without news: {watch:?}");
    }
}
