//! State of one RPC in the library, shared by its user and the thread that drives.

use std::net::SocketAddr;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::Bytes;
use homa_core::RpcKey;
use homa_io::{Body, Message, Metadata};

use super::frame::{Frame, Leg, Malformed, length_u32};
use super::room::Charge;
use super::set::{CallQueue, Finished};
use super::wakes::Wakes;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, MutexGuard, lock};
use crate::{CallError, CallErrorKind, Rejection};

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
    /// Server: it was queued for those who accept.
    pub(crate) queued: bool,
    /// Server: when it was complete, if it had to wait before it was queued.
    pub(crate) arrived_ns: Option<u64>,
    /// Server: when its client gives it up, if it said so.
    pub(crate) deadline_ns: Option<u64>,
    /// The incoming message.
    pub(crate) incoming: Incoming,
    /// The outgoing message, if it is supplied piece by piece.
    pub(crate) outgoing: Outgoing,
    /// Client: it brings the body of a call whose response comes by another RPC.
    pub(crate) is_upload: bool,
    /// The same, when its server reads no more of it.
    pub(crate) is_stopped: bool,
    /// The other RPC of a call that goes both ways at once.
    pub(crate) partner: Option<Weak<Rpc>>,
    /// Server: a response given before the request was complete.
    pub(crate) early_response: Option<Box<EarlyResponse>>,
    /// Waits for what comes in.
    pub(crate) reader: Option<Waker>,
    /// Waits for room for what goes out, or for cancellation.
    pub(crate) writer: Option<Waker>,
    /// The set of calls to be told about the end.
    pub(crate) queue: Option<(Arc<CallQueue>, u64)>,
}

/// The incoming message.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Bytes of the whole message, once known; of an open one, those that are known of.
    pub(crate) length_bytes: Option<u32>,
    /// It begins with a frame, which was not read.
    pub(crate) framed: bool,
    /// Its frame, once it was read.
    pub(crate) frame: Option<Box<Frame>>,
    /// Bytes moved out of the store and not read: of a stream the next ones, else none or all.
    unread: Message,
    /// Not a stream: `unread` is the whole message, which was not polled yet.
    is_whole: bool,
    /// Read as a stream.
    pub(crate) streaming: bool,
    /// It will not be read: discard it as it comes.
    pub(crate) discarded: bool,
    /// All of it is kept for its reader, however much: the response waits for its end.
    pub(crate) read_ahead: bool,
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
    /// Bytes announced; `None`: not known.
    pub(crate) length_bytes: Option<u32>,
    /// Bytes that the engine does not need any more.
    pub(crate) released_upto: u32,
}

/// A message to send.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it.
    Whole(Body),
    /// Its bytes are supplied later: their number, if it is known, and what goes ahead of them.
    Announced(Option<u32>, Box<Frame>),
    /// Nothing: its response is that of the call whose body goes by the other RPC of this pair.
    Download(u64),
    /// The rejection of a request.
    Rejection(Box<Rejection>),
}

impl Content {
    /// Bytes held from now on: of what is announced little is held at a time.
    pub(crate) fn held_bytes(&self) -> u64 {
        match self {
            Self::Whole(body) => body.len() as u64,
            Self::Announced(..) | Self::Download(_) => 0,
            Self::Rejection(rejection) => rejection.text.len() as u64,
        }
    }

    /// What is to travel beside the body.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Whole(body) => Some(body.metadata()),
            Self::Announced(_, frame) => Some(&frame.metadata),
            Self::Rejection(_) | Self::Download(_) => None,
        }
    }

    /// The same to be changed.
    pub(crate) fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        match self {
            Self::Whole(body) => Some(body.metadata_mut()),
            Self::Announced(_, frame) => Some(&mut frame.metadata),
            Self::Rejection(_) | Self::Download(_) => None,
        }
    }
}

/// A response that waits for the end of its request.
#[derive(Debug)]
pub(crate) struct EarlyResponse {
    pub(crate) content: Content,
    /// Of an announced one, what was supplied so far.
    pub(crate) pieces: Vec<Bytes>,
    /// Of one of unknown length: that is all.
    pub(crate) finished: bool,
}

impl EarlyResponse {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, pieces: Vec::new(), finished: false }
    }
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

    /// The other RPC of a call that goes both ways at once, if it is alive.
    pub(crate) fn partner(&self) -> Option<Arc<Self>> {
        self.lock().partner.as_ref()?.upgrade()
    }

    /// Makes the two RPCs of a call known to each other. The earlier deadline is that of both.
    pub(crate) fn pair(upload: &Arc<Self>, download: &Arc<Self>) {
        let mut state = download.lock();
        state.partner = Some(Arc::downgrade(upload));
        let deadline_ns = state.deadline_ns;
        drop(state);
        let mut state = upload.lock();
        state.partner = Some(Arc::downgrade(download));
        state.deadline_ns = state.deadline_ns.into_iter().chain(deadline_ns).min();
    }

    /// Whether it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<CallError> {
        if !self.has_failed() {
            return None;
        }
        self.lock().failed.as_deref().cloned()
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
    /// Server: keeps when its client gives it up, if that is not known, of a request that is here
    /// at `now_ns`. Returns when it was complete.
    #[inline]
    pub(crate) fn note_deadline(&mut self, now_ns: u64) -> u64 {
        let arrived_ns = self.arrived_ns.unwrap_or(now_ns);
        if self.deadline_ns.is_none() {
            let timeout = self.incoming.frame.as_ref().and_then(|frame| frame.timeout);
            let timeout_ns =
                timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(NEVER_NS));
            self.deadline_ns = timeout_ns.map(|after_ns| arrived_ns.saturating_add(after_ns));
        }
        arrived_ns
    }

    /// Tells `queue` by that number when it is over; returns who is to be woken if it is.
    pub(crate) fn set_queue(&mut self, (queue, id): (Arc<CallQueue>, u64)) -> Option<Waker> {
        if self.is_over() {
            return queue.finish(Finished::Call(id));
        }
        self.queue = Some((queue, id));
        None
    }

    /// Whether a call has its whole response, or none will come.
    fn is_over(&self) -> bool {
        self.incoming.is_whole || self.failed.is_some()
    }

    /// Gives the whole response of `server` to its user.
    #[inline]
    pub(crate) fn deliver(
        &mut self,
        server: SocketAddr,
        response: Option<Message>,
        wakes: &mut Wakes,
    ) {
        if let Some(response) = response {
            self.take_response(server, response);
        }
        self.wake_reader(wakes);
    }

    /// Keeps the whole response of `server`, or that it is a rejection.
    #[inline]
    fn take_response(&mut self, server: SocketAddr, response: Message) {
        match self.incoming.response_of(response) {
            Ok(body) => self.incoming.set_whole(body),
            Err(kind) => self.failed = Some(Box::new(CallError::new(server, kind))),
        }
    }

    /// Wakes the reader of the incoming message.
    pub(crate) fn wake_reader(&mut self, wakes: &mut Wakes) {
        wakes.add(self.reader.take());
        if self.is_over() {
            if let Some((queue, id)) = self.queue.take() {
                wakes.add(queue.finish(Finished::Call(id)));
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

    /// The response that a whole message says, which may be a rejection.
    pub(crate) fn whole_response(framed: bool, message: Message) -> Result<Message, CallErrorKind> {
        match framed {
            true => Self { framed, ..Self::default() }.response_of(message),
            false => Ok(message),
        }
    }

    #[inline]
    fn response_of(&mut self, message: Message) -> Result<Message, CallErrorKind> {
        let body = self.body_of(message).map_err(|Malformed| CallErrorKind::Malformed)?;
        if !self.is_rejection() {
            return Ok(body);
        }
        self.unread = body;
        Err(self.take_rejection().map_or(CallErrorKind::Malformed, CallErrorKind::Rejected))
    }

    /// The body of a complete message that is no stream; its frame stays here.
    pub(crate) fn body_of(&mut self, message: Message) -> Result<Message, Malformed> {
        if !self.framed {
            return Ok(message);
        }
        self.unread = message;
        if !self.read_frame()? {
            return Err(Malformed);
        }
        let mut body = std::mem::take(&mut self.unread);
        if self.is_open() {
            body.truncate(body.len().saturating_sub(1));
        }
        Ok(body.with_metadata(self.take_metadata()))
    }

    /// Reads the frame, if there is one and all of it is there. Whether there is none to be read
    /// any more.
    pub(crate) fn read_frame(&mut self) -> Result<bool, Malformed> {
        if self.framed {
            let Some(frame) = Frame::take_off(&mut self.unread)? else { return Ok(false) };
            (self.framed, self.frame) = (false, Some(Box::new(frame)));
        }
        Ok(true)
    }

    /// Whether it is a stream of which a user can read.
    pub(crate) fn has_begun(&self) -> bool {
        self.length_bytes.is_some() && !self.framed && !self.is_rejection()
    }

    /// Whether it is the rejection of a request.
    pub(crate) fn is_rejection(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.rejection.is_some())
    }

    /// Which RPC of a call that goes both ways at once it is, and of which.
    pub(crate) fn leg(&self) -> Option<(Leg, u64)> {
        self.frame.as_ref()?.leg
    }

    /// Whether its body has a byte behind it that is none of its bytes.
    pub(crate) fn is_open(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.open)
    }

    /// Bytes of the body of a message that has begun, if they are known.
    pub(crate) fn body_bytes(&self) -> Option<u32> {
        let frame_bytes = self.frame.as_ref().map_or(0, |frame| length_u32(frame.bytes()));
        let known = self.length_bytes.filter(|_| !self.is_open())?;
        Some(known.saturating_sub(frame_bytes))
    }

    /// Whether a stream was read to its end.
    pub(crate) fn is_at_end(&self) -> bool {
        self.complete && self.unread.is_empty() && Some(self.taken_upto) == self.length_bytes
    }

    /// Takes what travels beside the body.
    pub(crate) fn take_metadata(&mut self) -> Metadata {
        let frame = self.frame.as_mut();
        frame.map_or_else(Metadata::new, |frame| std::mem::take(&mut frame.metadata))
    }

    /// The text of a rejection that is complete, with its code.
    pub(crate) fn take_rejection(&mut self) -> Option<Rejection> {
        let code = self.frame.as_ref()?.rejection?;
        let text = std::mem::take(&mut self.unread).to_vec();
        Some(Rejection { code, text: String::from_utf8_lossy(&text).into_owned() })
    }

    /// The whole message, once.
    pub(crate) fn take_whole(&mut self) -> Option<Message> {
        std::mem::take(&mut self.is_whole).then(|| std::mem::take(&mut self.unread))
    }

    /// Keeps the next bytes of a stream for its reader. Whether its frame, if it has one, was read.
    pub(crate) fn add_part(&mut self, part: Message) -> Result<bool, Malformed> {
        self.taken_upto = self.taken_upto.saturating_add(length_u32(part.len()));
        self.unread.append(part);
        let is_last = Some(self.taken_upto) == self.length_bytes;
        if !self.read_frame()? {
            return if is_last { Err(Malformed) } else { Ok(false) };
        }
        if is_last && self.is_open() {
            self.unread.truncate(self.unread.len().saturating_sub(1));
        }
        Ok(true)
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
