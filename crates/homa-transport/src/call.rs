//! Calls.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::pending::{self, Operation, Pending};
use crate::shared::{HasHandle, PendingCall};
use crate::{BodyReader, BodyWriter, CallError, Message};

/// The options that both kinds of calls have.
macro_rules! call_options {
    () => {
        /// Fails with [`CallErrorKind::DeadlineExceeded`](crate::CallErrorKind::DeadlineExceeded)
        /// at this time. Waiting for room at a limit counts.
        pub fn deadline(mut self, at: Instant) -> Self {
            self.pending.options().deadline = Some(at);
            self
        }

        /// As a deadline so long after the call began; `None` for none. The server is told how much
        /// time is left, and begins nothing that would come too late.
        pub fn timeout(mut self, after: impl Into<Option<Duration>>) -> Self {
            self.pending.options().timeout = after.into();
            self
        }

        /// Sends the first, unscheduled bytes at this priority (0, lowest, to 7) instead of the one
        /// the server's cutoffs give to a message of this length. Larger values are taken as 7.
        /// Source: docs/spec/protocol.md §5.
        pub fn priority(mut self, priority: u8) -> Self {
            self.pending.options().priority_hint = Some(priority.min(7));
            self
        }

        /// Adds a small named value that travels beside the body. Over UDP, and over raw IP to
        /// servers that are known to be no Linux hosts. See [`Metadata`](crate::Metadata) for the
        /// limits.
        pub fn metadata(
            mut self,
            name: impl Into<Box<str>>,
            value: impl Into<crate::Bytes>,
        ) -> Self {
            if let Some(metadata) = self.pending.metadata_mut() {
                metadata.add(name, value);
            }
            self
        }

        /// The server's address; `None`: it is a name that is not resolved yet.
        pub fn server(&self) -> Option<SocketAddr> {
            self.pending.server()
        }
    };
}

/// A call: its options are set, then it is awaited, waited for, or started to go on while its
/// caller does something else. It is the future of its response.
///
/// Dropping it aborts it, and tells the server, which may have executed it. Poll it no more once it
/// was ready.
///
/// # Errors
/// See [`CallError`]. What [`Call::try_start`] alone returns, others wait for.
#[derive(Debug)]
#[must_use = "a call begins when it is awaited, waited for or started"]
pub struct Call {
    pending: PendingCall,
}

impl Call {
    #[inline]
    pub(crate) fn new(pending: PendingCall) -> Self {
        Self { pending }
    }

    pub(crate) fn into_pending(self) -> PendingCall {
        self.pending
    }

    call_options!();

    /// Begins now, unless a limit is reached: then when it is polled and there is room. Any number
    /// can be under way from one task or thread; for many, [`crate::CallSet`] is faster. Options
    /// that are set later have no effect.
    #[must_use = "dropping a call aborts it"]
    pub fn start(mut self) -> Self {
        self.pending.begin();
        self
    }

    /// Begins now, and never waits for room.
    ///
    /// # Errors
    /// [`LimitReached`](crate::CallErrorKind::LimitReached) at a limit, and what else is known at
    /// once. A name that is not an address is resolved first, in the background.
    pub fn try_start(mut self) -> Result<Self, CallError> {
        self.pending.try_begin()?;
        Ok(self)
    }

    /// Waits for the response in this thread, which runs the protocol meanwhile.
    ///
    /// # Errors
    /// See [`CallError`].
    #[inline]
    pub fn wait(mut self) -> Result<Message, CallError> {
        let handle = self.pending.handle().clone();
        handle.wait(|waker| self.pending.poll_message(waker))
    }

    /// As [`Call::wait`], for at most `timeout`; the call goes on after `None`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Message, CallError>> {
        let until = Instant::now() + timeout;
        let handle = self.pending.handle().clone();
        handle.wait_until(until, |waker| self.pending.poll_message(waker))
    }

    /// The response, if it is here; looks for packets once. Call it no more after `Some`.
    pub fn try_wait(&mut self) -> Option<Result<Message, CallError>> {
        let handle = self.pending.handle().clone();
        handle.look(|waker| self.pending.poll_message(waker))
    }

    /// The response as soon as its first bytes are here, to be read while it arrives.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn reader(self) -> Pending<impl Operation<Output = Result<BodyReader, CallError>>> {
        let mut pending = self.pending;
        pending.stream_response();
        Pending::new(pending, |pending: &mut PendingCall, waker| {
            pending.poll_stream(waker).map_ok(BodyReader::new)
        })
    }
}

impl Future for Call {
    type Output = Result<Message, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        pending::poll(&mut self.pending, context, PendingCall::poll_message)
    }
}

/// A call whose body is written piece by piece: its options are set, then it is opened.
#[derive(Debug)]
#[must_use = "a call begins when it is opened"]
pub struct StreamingCall {
    pending: PendingCall,
}

impl StreamingCall {
    pub(crate) fn new(pending: PendingCall) -> Self {
        Self { pending }
    }

    call_options!();

    /// Says how many bytes the body will have. It goes by one RPC then, also to Linux hosts, and
    /// the response begins when all of it is there. Without a length there are two RPCs, one for
    /// each direction, between hosts of this implementation.
    pub fn length(mut self, body_bytes: u32) -> Self {
        self.pending.announce(body_bytes);
        self
    }

    /// Begins the call, when there is room for it: what writes the body, and the call itself, whose
    /// response can be awaited, or [read](Call::reader), at the same time. Dropping either aborts
    /// both, unless the body is finished.
    ///
    /// Cancel-safe: dropped while it waits for room, nothing was sent.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn open(self) -> Pending<impl Operation<Output = Result<(BodyWriter, Call), CallError>>> {
        Pending::new(self.pending, |pending: &mut PendingCall, waker| {
            let (writer, call) = std::task::ready!(pending.poll_open(waker))?;
            Poll::Ready(Ok((BodyWriter::new(writer), Call::new(call))))
        })
    }
}
