//! Operations of users, and their execution under the lock.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use homa_core::{FailReason, PeerSettings, RequestOptions, RpcError, RpcKey, SendError};
use homa_io::ShardView;

use super::context::Context;
use super::origin::Origin;
use super::registry::Entry;
use super::room::Charge;
use super::rpc::{Content, Role, Rpc};
use super::send;
use super::set::{CallQueue, Member};
use crate::{CallError, CallErrorKind, Limit};

/// One operation. Those about an RPC do nothing if it is over.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Begin a call; the body has taken room.
    Start(Arc<Rpc>, Content, RequestOptions),
    /// Begin the calls that a set has gathered.
    StartMembers(Arc<CallQueue>),
    /// Give up a member of a set, by its number, or all that are under way.
    AbortMembers(Arc<CallQueue>, Option<u64>),
    /// Answer; the body has taken room.
    Reply(Arc<Rpc>, Content, Charge),
    /// The same of a request without a state that is shared.
    ReplyPlain(RpcKey, Content, Charge),
    /// Give such a request that state.
    Share(RpcKey, Arc<Rpc>),
    /// The next bytes of an announced message.
    Supply(Arc<Rpc>, Bytes),
    /// All of a message of unknown length was supplied.
    Finish(Arc<Rpc>),
    /// Read what comes in as a stream from now on.
    Stream(Arc<Rpc>),
    /// Move what has arrived of a stream to its reader.
    Take(Arc<Rpc>),
    /// Throw away what comes in.
    Discard(Arc<Rpc>),
    /// Give up: a call is cancelled, a request rejected.
    Abort(Arc<Rpc>),
    /// Reject a request without a state that is shared.
    AbortPlain(RpcKey),
    /// Refuse a request of which nothing was executed, for want of capacity.
    Refuse(Arc<Rpc>),
    /// The same of one without a state that is shared.
    RefusePlain(RpcKey),
    /// There is room in the accept queue again.
    RefillAccept,
    /// Refuse new requests and these.
    StopAccepting(Vec<Origin>),
    /// Change the settings of a peer.
    SetPeer(SocketAddr, PeerSettings),
}

impl Operation {
    /// Refuses a request that no handler has seen.
    pub(crate) fn refuse(origin: Origin) -> Self {
        match origin {
            Origin::Plain { key, .. } => Self::RefusePlain(key),
            Origin::Shared { request, .. } => Self::Refuse(request),
        }
    }
}

/// Executes one operation.
pub(crate) fn execute(operation: Operation, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    match operation {
        Operation::Start(rpc, content, options) => start(rpc, content, options, shard, context),
        Operation::StartMembers(queue) => start_members(queue, shard, context),
        Operation::AbortMembers(queue, id) => abort_members(&queue, id, shard, context),
        Operation::Reply(rpc, content, charge) => {
            let mut state = rpc.lock();
            state.charge = Some(charge);
            context.reply(&rpc, state, content, shard);
        }
        Operation::ReplyPlain(key, content, charge) => {
            context.answer_plain(key, content, charge, shard);
        }
        Operation::Share(key, rpc) => context.share_plain(key, rpc),
        Operation::Supply(rpc, bytes) => supply(&rpc, bytes, shard, context),
        Operation::Finish(rpc) => finish(&rpc, shard, context),
        Operation::Stream(rpc) => stream(&rpc, shard),
        Operation::Take(rpc) => context.take(&rpc, shard),
        Operation::Discard(rpc) => {
            let mut state = rpc.lock();
            state.incoming.discarded = true;
            let stops = state.partner.is_some() && !state.incoming.complete;
            drop(state);
            if stops {
                let kind = CallErrorKind::BodyIncomplete;
                context.end_one(&rpc, FailReason::Rejected, kind, shard);
            } else {
                context.take(&rpc, shard);
            }
        }
        Operation::Abort(rpc) => abort(&rpc, shard, context),
        Operation::AbortPlain(key) => context.end_plain(key, FailReason::Rejected, shard),
        Operation::RefusePlain(key) => context.end_plain(key, FailReason::Overloaded, shard),
        Operation::Refuse(rpc) => context.refuse(&rpc, FailReason::Overloaded, shard),
        Operation::RefillAccept => context.refill_accept(shard),
        Operation::StopAccepting(refused) => stop_accepting(refused, shard, context),
        Operation::SetPeer(peer, settings) => {
            let now = shard.now();
            let path = context.path_to(peer);
            // A full table of peers leaves the defaults in force.
            let _known = shard.engine_mut().set_peer(now, path, settings);
        }
    }
}

fn start(
    rpc: Arc<Rpc>,
    content: Content,
    options: RequestOptions,
    shard: &mut ShardView<'_>,
    context: &mut Context<'_>,
) {
    // It may have failed, or its partner, before it was known to it. A whole body has none.
    if !matches!(content, Content::Whole(_)) {
        if let Some(error) = rpc.partner().and_then(|partner| partner.failure()) {
            return context.fail_one(&rpc, CallError::new(rpc.peer, error.kind_of_partner()));
        }
    }
    if rpc.has_failed() {
        return context.release(&rpc);
    }
    let begun = send::request(context.path_to(rpc.peer), content, options, shard);
    match begun {
        Ok(key) => {
            context.registry.insert(key, Entry::Rpc(Arc::clone(&rpc)));
            rpc.lock().key = Some(key);
        }
        Err(error) => context.fail(&rpc, call_error(error, rpc.peer), shard),
    }
}

fn start_members(queue: Arc<CallQueue>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    let Some((set, mut starting)) = context.registry.sets.take_starting(queue) else { return };
    for Member { id, server, body, options, charge } in starting.drain(..) {
        let begun = send::request(context.path_to(server), Content::Whole(body), options, shard);
        let sets = &mut context.registry.sets;
        match begun {
            Ok(key) => {
                let member = sets.started(set, key, (id, server), charge);
                context.registry.insert(key, Entry::Member(member));
            }
            Err(error) => sets.finish_one(set, id, Err(call_error(error, server)), charge),
        }
    }
    context.registry.sets.give_back_starting(starting);
}

fn abort_members(
    queue: &Arc<CallQueue>,
    id: Option<u64>,
    shard: &mut ShardView<'_>,
    context: &mut Context<'_>,
) {
    let registry = &mut *context.registry;
    for key in registry.sets.keys(queue, id) {
        // A key that is not the present one of its place names none.
        if let Some(Entry::Member(member)) = registry.remove(key) {
            // Stale: it is over already, which is what was wanted.
            let _ = shard.abort(key, FailReason::Rejected);
            // Its user has forgotten it.
            registry.sets.finish(member, Err(CallErrorKind::Closed.into()));
        }
    }
}

fn call_error(error: SendError, server: SocketAddr) -> CallError {
    let kind = match error {
        SendError::EmptyMessage => CallErrorKind::EmptyMessage,
        SendError::TooLong { max } | SendError::PeerLimit { max } => {
            CallErrorKind::TooLong { max_bytes: Some(max) }
        }
        SendError::RpcLimit => CallErrorKind::LimitReached(Limit::LiveRpcs),
        SendError::PeersLimit => CallErrorKind::LimitReached(Limit::Peers),
        SendError::OutOfMemory => CallErrorKind::LimitReached(Limit::Memory),
        SendError::BadAddress => CallErrorKind::BadAddress,
        SendError::NotNative => CallErrorKind::Unsupported,
        SendError::NoSuchPort => return CallErrorKind::Closed.into(),
        _ => CallErrorKind::TooLong { max_bytes: None },
    };
    CallError::new(server, kind)
}

fn supply(rpc: &Arc<Rpc>, bytes: Bytes, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    let mut state = rpc.lock();
    if let Some(response) = state.early_response.as_deref_mut() {
        response.pieces.push(bytes);
        return;
    }
    let Some(key) = state.key else { return };
    drop(state);
    match shard.supply(key, bytes) {
        Ok(()) | Err(RpcError::Stale) => {}
        // More than announced, which the sender has checked: give up rather than send garbage.
        Err(_) => abort(rpc, shard, context),
    }
}

fn finish(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    let mut state = rpc.lock();
    if let Some(response) = state.early_response.as_deref_mut() {
        response.finished = true;
        return;
    }
    let Some(key) = state.key else { return };
    drop(state);
    match shard.finish(key) {
        Ok(()) | Err(RpcError::Stale) => {}
        Err(_) => abort(rpc, shard, context),
    }
}

fn stream(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>) {
    let mut state = rpc.lock();
    state.incoming.streaming = true;
    if let Some(key) = state.key {
        drop(state);
        // Stale: the events about its end tell the reader.
        let _ = shard.set_streaming(key);
    }
}

fn abort(rpc: &Arc<Rpc>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    context.end(rpc, FailReason::Rejected, CallErrorKind::BodyIncomplete, shard);
}

/// Refuses what no handler has seen, and new requests.
fn stop_accepting(refused: Vec<Origin>, shard: &mut ShardView<'_>, context: &mut Context<'_>) {
    shard.drain_port(context.facts.address.port());
    drop(context.registry.not_queued.take_all());
    context.rooms.requests.set_more(false);
    let is_unseen = |rpc: &&Arc<Rpc>| rpc.role == Role::Server && !rpc.lock().queued;
    let arriving: Vec<_> = context.registry.rpcs().filter(is_unseen).cloned().collect();
    let arriving = arriving.into_iter().map(|request| Origin::Shared { request, answer: None });
    for origin in refused.into_iter().chain(arriving) {
        context.refuse_unseen(&origin, FailReason::NotExecuted, shard);
    }
}
