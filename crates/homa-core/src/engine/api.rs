//! Calls of the application.

use homa_wire::Data;

use crate::addr::Path;
use crate::config::{LINUX_MESSAGE_BYTES_MAX, Limits};
use crate::engine::Engine;
use crate::engine::profile::Profile;
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, State};
use crate::engine::stats::Count;
use crate::event::{FailReason, RpcKey};
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// Options of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// Fail with [`FailReason::DeadlineExceeded`] at this time.
    pub deadline: Option<Instant>,
    /// The body is provided later, by [`Engine::supply`]; otherwise all of it is there.
    pub streaming_body: bool,
    /// The request is open: it grows by [`Engine::supply`] until [`Engine::finish`]. One byte is
    /// there less than its length says, whatever `streaming_body` says. Not towards Linux hosts.
    pub open: bool,
    /// The response is read as a stream, see [`Engine::set_streaming`].
    pub streaming_response: bool,
    /// Priority for unscheduled data instead of the one the peer's cutoffs give, 0 to 7.
    pub priority_hint: Option<u8>,
    /// The request begins with a frame of the application's library: a mark that the server is told
    /// ([`Event::RequestStarted`](crate::Event::RequestStarted)). Not towards Linux hosts.
    pub framed: bool,
}

/// Options of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseOptions {
    /// The body is provided later, by [`Engine::supply`]; otherwise all of it is there.
    pub streaming_body: bool,
    /// The response is open: it grows by [`Engine::supply`] until [`Engine::finish`]. One byte is
    /// there less than its length says, whatever `streaming_body` says. Not towards Linux hosts.
    pub open: bool,
    /// The response begins with a frame of the application's library: a mark that the client is
    /// told ([`Event::ResponseStarted`](crate::Event::ResponseStarted)). Not towards Linux hosts.
    pub framed: bool,
}

/// Why a message was not accepted for sending. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendError {
    /// A message has at least one byte.
    EmptyMessage,
    /// Longer than `limits.max_message_bytes`.
    TooLong {
        /// That limit.
        max: u32,
    },
    /// Longer than the peer (a Linux host) takes.
    PeerLimit {
        /// Its limit.
        max: u32,
    },
    /// `limits.max_rpcs` RPCs are alive: wait until some end.
    RpcLimit,
    /// `peers.max` peers are in use: wait until their RPCs end.
    PeersLimit,
    /// The local port is not open.
    NoSuchPort,
    /// Port 0, or an address that cannot be a peer's (unspecified, multicast).
    BadAddress,
    /// The system has no memory.
    OutOfMemory,
    /// The RPC is over (the client gave up, or the endpoint closed).
    Stale,
    /// The RPC does not wait for a response: its request is not complete or was answered.
    NotInService,
    /// Linux hosts do not understand the options. Over raw IP a peer counts as one until it has
    /// announced itself, and 10 s after it last did.
    NotNative,
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::EmptyMessage => f.write_str("a message has at least one byte"),
            Self::TooLong { max } => write!(f, "longer than limits.max_message_bytes ({max})"),
            Self::PeerLimit { max } => write!(f, "longer than the peer takes ({max} bytes)"),
            Self::NotNative => f.write_str("options that the peer (a Linux host) does not know"),
            Self::RpcLimit => f.write_str("limits.max_rpcs RPCs are alive"),
            Self::PeersLimit => f.write_str("peers.max peers are in use"),
            Self::NoSuchPort => f.write_str("the local port is not open"),
            Self::BadAddress => f.write_str("not the address of a peer"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Stale => f.write_str("the RPC is over"),
            Self::NotInService => f.write_str("the RPC does not wait for a response"),
        }
    }
}

impl core::error::Error for SendError {}

/// Why a call about an RPC had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcError {
    /// The RPC is over.
    Stale,
    /// A position beyond what is there or may be, or a call that does not fit the RPC's state.
    OutOfRange,
}

impl core::fmt::Display for RpcError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Stale => "the RPC is over",
            Self::OutOfRange => "position out of range",
        })
    }
}

impl core::error::Error for RpcError {}

impl Engine {
    /// Begins an RPC: `length` bytes go to `path.remote` from `path.local_port`, or, if it is open,
    /// at least as many. `cookie` comes back in the events about it.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was sent then.
    pub fn send_request(
        &mut self,
        now: Instant,
        path: Path,
        length: u32,
        cookie: u64,
        options: RequestOptions,
    ) -> Result<RpcKey, SendError> {
        self.ctx.tick(now, &mut self.peers);
        let remote = path.remote;
        if remote.port() == 0 || remote.ip().is_unspecified() || remote.ip().is_multicast() {
            return Err(SendError::BadAddress);
        }
        if self.ports.get(path.local_port).is_none() {
            return Err(SendError::NoSuchPort);
        }
        let flags = flags(options.framed, options.open);
        self.ctx.config.limits.check(length, flags)?;
        let peers_full = self.peers.len() >= self.ctx.config.peers.max as usize;
        let no_peer = if peers_full { SendError::PeersLimit } else { SendError::OutOfMemory };
        let peer = self.peer_or_new(now, &path).ok_or(no_peer)?;
        let profile = self.peers.profile(self.ctx.now, peer);
        profile.check(length, flags)?;
        let message = (length, flags);
        if let Some(rpc) = self.begin_short_call(&path, peer, message, cookie, &options) {
            return Ok(rpc);
        }
        self.ids.try_reserve_call().map_err(|_| SendError::OutOfMemory)?;
        let rpcs_full = self.rpcs.len() >= self.ctx.config.limits.max_rpcs as usize;
        let no_rpc = if rpcs_full { SendError::RpcLimit } else { SendError::OutOfMemory };
        let index = self.add_rpc(Role::Client, 0, &path, peer).map_err(|_| no_rpc)?;
        let peer = self.peers.known(peer).ok_or(SendError::OutOfMemory)?;
        let id = self.ids.give(index, peer.numbers.first_id);
        self.ctx.stats.requests_sent.inc();
        let unscheduled = peer.unscheduled_bytes(length, &self.ctx.config);
        let interval_ns = self.ctx.next_interval_ns(Some(peer), profile);
        let priority_max = self.ctx.config.top_priority();
        let rpc = self.rpcs.known_mut(index).ok_or(SendError::OutOfMemory)?;
        let key = rpc.key();
        rpc.id = id;
        rpc.tx.begin(
            length,
            there_first(length, options.streaming_body, options.open),
            unscheduled,
        );
        rpc.tx.set_flags(flags);
        rpc.tx.keep_segments_whole(profile == Profile::Linux);
        rpc.begun_in = profile;
        rpc.call.cookie = cookie;
        rpc.pending.set_announced();
        rpc.call.deadline = options.deadline;
        rpc.call.streaming_response = options.streaming_response;
        rpc.call.priority_hint =
            options.priority_hint.map(|hint| Priority::new(hint).min(priority_max));
        rpc.resend.set_interval(interval_ns);
        self.sender.schedule(rpc, &self.ctx.config);
        if let Some(deadline) = options.deadline {
            self.ctx.timers.arm_rpc(index, deadline);
        }
        Ok(key)
    }

    /// Answers a request with `length` bytes, or, if the response is open, with at least as many.
    ///
    /// # Errors
    /// See [`SendError`]; the RPC still waits for a response unless it is [`SendError::Stale`].
    pub fn send_response(
        &mut self,
        now: Instant,
        rpc: RpcKey,
        length: u32,
        options: ResponseOptions,
    ) -> Result<(), SendError> {
        self.ctx.tick(now, &mut self.peers);
        let flags = flags(options.framed, options.open);
        if let Some(index) = self.rpcs.short_of(rpc) {
            if self.short_response(index, (length, flags), &options) {
                return Ok(());
            }
            self.expand(index);
        }
        let birth = self.rpcs.next_birth();
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(SendError::Stale)?;
        match rpc.state() {
            State::InService => {}
            State::Refused(_) => return Err(SendError::Stale),
            _ => return Err(SendError::NotInService),
        }
        let peer = self.peers.known(rpc.peer).ok_or(SendError::Stale)?;
        let profile = rpc.profile_with(Some(peer));
        self.ctx.config.limits.check(length, flags)?;
        profile.check(length, flags)?;
        let unscheduled = peer.unscheduled_bytes(length, &self.ctx.config);
        let there = there_first(length, options.streaming_body, options.open);
        let host = peer.host();
        let interval_ns = self.shares.first_ack_interval_ns(rpc.told_busy, &self.ctx.config);
        rpc.go_on(State::Outgoing);
        rpc.tx.begin(length, there, unscheduled);
        rpc.tx.set_flags(flags);
        rpc.tx.keep_segments_whole(profile == Profile::Linux);
        rpc.tx.set_birth(birth);
        rpc.last_heard = now;
        rpc.progress_at = now;
        rpc.resend.begin(interval_ns);
        self.sender.schedule(rpc, &self.ctx.config);
        self.shares.keep_response(index, (host, there), &mut self.rpcs);
        self.limit_unacknowledged(index);
        Ok(())
    }

    /// Supplies the bytes below `upto` of an outgoing message begun as a stream: the application
    /// has them ready. An open message grows, to one byte more.
    ///
    /// # Errors
    /// The RPC is over, or `upto` lies beyond the message, or beyond `limits.max_message_bytes`
    /// less one byte if it is open. Nothing was changed.
    pub fn supply(&mut self, now: Instant, rpc: RpcKey, upto: u32) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        self.expand_key(rpc);
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        let more = if rpc.tx.is_open() {
            self.grow(index, upto)?
        } else if upto <= rpc.tx.length() {
            rpc.tx.supply(upto)
        } else {
            return Err(RpcError::OutOfRange);
        };
        self.note_supplied(index, more);
        Ok(())
    }

    /// Ends an open message: its last byte is there, and its length final.
    ///
    /// # Errors
    /// The RPC is over, or its outgoing message is not open, or has been finished.
    pub fn finish(&mut self, now: Instant, rpc: RpcKey) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        self.expand_key(rpc);
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        if !rpc.tx.is_open() {
            return Err(RpcError::OutOfRange);
        }
        let more = rpc.tx.supply(rpc.tx.length());
        self.note_supplied(index, more);
        Ok(())
    }

    /// Lets an open message grow, so that the bytes below `upto` are there and one is missing.
    /// Returns how many are new.
    fn grow(&mut self, index: RpcIndex, upto: u32) -> Result<u32, RpcError> {
        let length = upto.saturating_add(1);
        let rpc = self.rpcs.known_mut(index).filter(|rpc| rpc.is_sending());
        // Its peer answers a request of which it has not got the end.
        let rpc = rpc.ok_or(RpcError::OutOfRange)?;
        if self.ctx.config.limits.exceeds(length, rpc.tx.flags()) {
            return Err(RpcError::OutOfRange);
        }
        let unscheduled = self.peers.unscheduled_bytes(rpc.peer, length, &self.ctx.config);
        let more = rpc.tx.grow(length, unscheduled);
        // Longer messages wait for the clock.
        self.sender.forget(index);
        if rpc.tx.blocked {
            self.sender.queue_blocked(rpc, &mut self.peers);
        }
        Ok(more)
    }

    /// The application has provided `more` bytes of an outgoing message.
    fn note_supplied(&mut self, index: RpcIndex, more: u32) {
        let now = self.ctx.now;
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.last_heard = now;
        }
        if self.shares.response_supplied(index, more, &mut self.rpcs, &self.peers) {
            self.limit_unacknowledged(index);
        }
        if let Some(rpc) = self.rpcs.known(index) {
            self.sender.schedule(rpc, &self.ctx.config);
        }
    }

    /// Reads the incoming message of `rpc` as a stream from now on: [`crate::Event::BodyProgress`]
    /// reports how far it has come, and its sender is held back while 1 MiB waits unread.
    ///
    /// # Errors
    /// The RPC is over.
    pub fn set_streaming(&mut self, now: Instant, rpc: RpcKey) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        self.expand_key(rpc);
        let (_, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        rpc.call.streaming_response = true;
        rpc.rx.read_as_stream(true);
        if rpc.rx.has_unread() {
            rpc.pending.add(Happened::Progress);
            self.ctx.events.push(rpc);
        }
        Ok(())
    }

    /// Frees the memory of the bytes below `upto` of the incoming message, which the application
    /// has taken. A client's RPC ends when all of a complete response was taken.
    ///
    /// # Errors
    /// The RPC is over, or `upto` lies beyond what has arrived without a gap.
    pub fn consumed(&mut self, now: Instant, rpc: RpcKey, upto: u32) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        if let Some(index) = self.rpcs.short_of(rpc) {
            if self.short_consumed(index, upto) {
                return Ok(());
            }
            self.expand(index);
        }
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        if upto > rpc.rx.contiguous() {
            return Err(RpcError::OutOfRange);
        }
        self.receiver.consume(rpc, upto);
        if rpc.state() == State::Delivered && rpc.rx.is_consumed() {
            self.end_rpc(index);
        }
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
        Ok(())
    }

    /// Ends an RPC that the application does not want to go on with. A client's call is cancelled
    /// at the server. A server's request is refused, and its client told until it acknowledges: as
    /// [`FailReason::Overloaded`] or [`FailReason::NotExecuted`] if that is `why`, which both say
    /// that nothing was executed, as [`FailReason::Forgotten`], otherwise as
    /// [`FailReason::Rejected`]. No [`crate::Event::Failed`] follows, since the caller knows.
    ///
    /// # Errors
    /// The RPC is over.
    pub fn abort(&mut self, now: Instant, rpc: RpcKey, why: FailReason) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        self.expand_key(rpc);
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        match rpc.role {
            Role::Client => {
                self.ctx.tell_cancelled(rpc, &self.peers);
                // It does not want the response any more, whether it has come meanwhile or not.
                if let Some(rpc) = self.rpcs.known_mut(index) {
                    rpc.pending.forget(Happened::Arrived);
                }
                self.end_rpc(index);
            }
            Role::Server
                if rpc.profile(&self.peers).is_native()
                    && matches!(rpc.state(), State::Incoming | State::InService) =>
            {
                self.refuse(index, why);
            }
            Role::Server => self.end_rpc(index),
        }
        Ok(())
    }

    /// Refuses a request: nothing more is received of it, and the client is told until it
    /// acknowledges.
    fn refuse(&mut self, index: RpcIndex, why: FailReason) {
        self.receiver.stop_granting(index, &mut self.rpcs);
        let interval_ns = nanos(self.ctx.config.responses.request_ack_interval);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        self.receiver.release(rpc);
        rpc.go_on(State::Refused(why));
        rpc.last_heard = self.ctx.now;
        rpc.progress_at = self.ctx.now;
        rpc.resend.set_interval(interval_ns);
        self.ctx.tell_refused(rpc, &self.peers);
        self.ctx.arm(index, interval_ns);
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
    }
}

impl Limits {
    /// Whether a message of so many bytes with these flags may be sent.
    fn check(&self, length: u32, flags: u8) -> Result<(), SendError> {
        match length {
            0 => Err(SendError::EmptyMessage),
            _ if self.exceeds(length, flags) => {
                Err(SendError::TooLong { max: self.longest_with(flags) })
            }
            _ => Ok(()),
        }
    }
}

impl Profile {
    /// Whether peers take a message of so many bytes with these flags.
    fn check(self, length: u32, flags: u8) -> Result<(), SendError> {
        match self {
            Self::Linux if flags != 0 => Err(SendError::NotNative),
            Self::Linux if length > LINUX_MESSAGE_BYTES_MAX => {
                Err(SendError::PeerLimit { max: LINUX_MESSAGE_BYTES_MAX })
            }
            _ => Ok(()),
        }
    }
}

/// The flags of a message's packets.
fn flags(framed: bool, open: bool) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(framed, Data::FRAMED) | flag(open, Data::OPEN)
}

/// Bytes of a message of `length` that are there when it begins.
fn there_first(length: u32, streaming: bool, open: bool) -> u32 {
    match (streaming, open) {
        (_, true) => length.saturating_sub(1),
        (true, false) => 0,
        (false, false) => length,
    }
}
