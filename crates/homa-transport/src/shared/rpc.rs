//! State of one RPC in the library, shared by its user and the thread that drives.

use std::net::SocketAddr;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;
use homa_core::RpcKey;
use homa_io::{Body, Message};

use super::ready::ReadyQueue;
use super::room::Charge;
use super::wakes::Wakes;
use crate::CallError;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// One RPC, of either role.
#[derive(Debug)]
pub(crate) struct Rpc {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The role of this end.
    pub(crate) role: Role,
    /// The RPC failed; readable without the lock.
    has_failed: AtomicBool,
    state: Mutex<RpcState>,
}

/// As with the whole endpoint: handlers and wakers run without the lock.
impl RefUnwindSafe for Rpc {}

/// Role of an end of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Client.
    Client,
    /// Server.
    Server,
}

/// Mutable state. The thread that drives locks it after the shard, users lock it alone; so the
/// shard's lock must not be taken while this one is held.
#[derive(Debug, Default)]
pub(crate) struct RpcState {
    /// Known once the engine has it; `None` again when it has ended.
    pub(crate) key: Option<RpcKey>,
    /// Why it ended without (all of) its message. Without meaning after `delivered`.
    pub(crate) failed: Option<Box<CallError>>,
    /// Room taken in the endpoint's limits and not given back.
    pub(crate) charge: Option<Charge>,
    /// The incoming message.
    pub(crate) incoming: Incoming,
    /// The outgoing message, if it is supplied piece by piece.
    pub(crate) outgoing: Outgoing,
    /// Server: a response given before the request was complete.
    pub(crate) early_response: Option<Box<EarlyResponse>>,
    /// Waits for what comes in.
    pub(crate) reader: Option<Waker>,
    /// Waits for room for what goes out, or for cancellation.
    pub(crate) writer: Option<Waker>,
    /// The set of calls to be told about the end.
    pub(crate) queue: Option<(Arc<ReadyQueue>, u64)>,
}

/// The incoming message.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Bytes of the whole message, once known.
    pub(crate) length_bytes: Option<u32>,
    /// Bytes moved out of the store and not read: of a stream the next ones, else none or all.
    unread: Message,
    /// Not a stream: `unread` is the whole message, which was not polled yet.
    is_whole: bool,
    /// Read as a stream.
    pub(crate) streaming: bool,
    /// It will not be read: discard it as it comes.
    pub(crate) discarded: bool,
    /// It is complete at the engine.
    pub(crate) complete: bool,
    /// Streams: bytes that have arrived without a gap.
    pub(crate) contiguous_upto: u32,
    /// Streams: bytes moved out of the store.
    pub(crate) taken_upto: u32,
}

/// The outgoing message of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outgoing {
    /// Bytes announced.
    pub(crate) length_bytes: u32,
    /// Bytes that the engine does not need any more.
    pub(crate) released_upto: u32,
}

/// A message to send: its bytes, or how many will be supplied later.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Body),
    Announced(u32),
}

impl Content {
    pub(crate) fn length_bytes(&self) -> u64 {
        match self {
            Self::Whole(body) => body.len() as u64,
            Self::Announced(length_bytes) => u64::from(*length_bytes),
        }
    }

    /// Bytes held from now on: of what is announced little is held at a time.
    pub(crate) fn held_bytes(&self) -> u64 {
        match self {
            Self::Whole(body) => body.len() as u64,
            Self::Announced(_) => 0,
        }
    }
}

/// A response that waits for the end of its request.
#[derive(Debug)]
pub(crate) struct EarlyResponse {
    pub(crate) content: Content,
    /// Of an announced one, what was supplied so far.
    pub(crate) pieces: Vec<Bytes>,
}

impl Rpc {
    // Inlined, so that the state is made where it stays.
    #[inline(always)]
    pub(crate) fn new(peer: SocketAddr, role: Role, state: RpcState) -> Arc<Self> {
        Arc::new(Self { peer, role, has_failed: AtomicBool::new(false), state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, RpcState> {
        lock(&self.state)
    }

    /// Whether it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Ends it with an error; the first one counts. Wakers of those concerned go to `wakes`.
    pub(crate) fn fail(&self, error: CallError, wakes: &mut Wakes) {
        let mut state = self.lock();
        state.failed.get_or_insert_with(|| Box::new(error));
        self.has_failed.store(true, Ordering::Release);
        wakes.add(state.writer.take());
        state.wake_reader(wakes);
    }
}

impl RpcState {
    /// Tells `queue` by that number when it is over; returns who is to be woken if it is.
    pub(crate) fn set_queue(&mut self, (queue, id): (Arc<ReadyQueue>, u64)) -> Option<Waker> {
        if self.is_over() {
            return queue.push(id);
        }
        self.queue = Some((queue, id));
        None
    }

    /// Whether a call has its whole response, or none will come.
    fn is_over(&self) -> bool {
        self.incoming.is_whole || self.failed.is_some()
    }

    /// Wakes the reader of the incoming message.
    pub(crate) fn wake_reader(&mut self, wakes: &mut Wakes) {
        wakes.add(self.reader.take());
        if self.is_over() {
            if let Some((queue, id)) = self.queue.take() {
                wakes.add(queue.push(id));
            }
        }
    }
}

impl Incoming {
    /// Keeps the whole message until it is polled.
    pub(crate) fn set_whole(&mut self, message: Message) {
        self.unread = message;
        self.is_whole = true;
    }

    /// The whole message, once.
    pub(crate) fn take_whole(&mut self) -> Option<Message> {
        std::mem::take(&mut self.is_whole).then(|| std::mem::take(&mut self.unread))
    }

    /// Keeps the next bytes of a stream for its reader.
    pub(crate) fn add_part(&mut self, part: Message) {
        self.unread.append(part);
    }

    /// The next bytes of a stream, if they are here.
    pub(crate) fn next_chunk(&mut self) -> Option<Bytes> {
        self.unread.pop_chunk()
    }

    /// Bytes of a stream that wait for its reader.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.unread.len()
    }
}
