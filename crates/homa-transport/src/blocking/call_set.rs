//! Many calls from one thread, their responses in the order they come.

use std::net::SocketAddr;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::shared::{Completions, Handle};
use crate::{Body, CallError, CallOptions, Message};

/// Names a call of a [`CallSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// Calls under way from one thread, with one queue of responses. Starting a call and taking a
/// response cost the same for one or 100,000 calls in the set, and calls started together travel
/// together. Dropping the set aborts what is left in it.
///
/// ```
/// # use homa_transport::blocking::Endpoint;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Endpoint::bind("127.0.0.1:0")?;
/// # let address = server.local_addr();
/// # std::thread::spawn(move || while let Ok(Some(request)) = server.accept() {
/// #     let _ = request.reply("done");
/// # });
/// let client = Endpoint::client()?;
/// let mut calls = client.call_set();
/// for number in 0..100_u32 {
///     calls.start(address, number.to_be_bytes())?;
/// }
/// while let Some((_id, answer)) = calls.wait() {
///     assert_eq!(answer?, "done");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CallSet {
    handle: Handle,
    completions: Completions,
}

impl CallSet {
    pub(crate) fn new(handle: Handle) -> Self {
        let completions = Completions::new(handle.clone());
        Self { handle, completions }
    }

    /// Adds a call. It is sent at the latest by the next `wait`, [`CallSet::flush`], or when 64
    /// calls have gathered; waits for room at a limit of the endpoint.
    ///
    /// # Errors
    /// Errors known at once; others come from [`CallSet::wait`].
    pub fn start(
        &mut self,
        server: SocketAddr,
        body: impl Into<Body>,
    ) -> Result<CallId, CallError> {
        self.start_with(server, body, CallOptions::default())
    }

    /// As [`CallSet::start`], with options.
    ///
    /// # Errors
    /// As [`CallSet::start`].
    pub fn start_with(
        &mut self,
        server: SocketAddr,
        body: impl Into<Body>,
        options: CallOptions,
    ) -> Result<CallId, CallError> {
        let mut start = self.completions.start(server, body.into(), options);
        // There nearly always is room.
        let started = match start.poll(Waker::noop()) {
            Poll::Ready(started) => started,
            Poll::Pending => self.handle.wait(|waker| start.poll(waker)),
        };
        started.map(CallId)
    }

    /// Calls in the set: under way, or ready and not taken.
    pub fn len(&self) -> usize {
        self.completions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what was started and not sent yet.
    pub fn flush(&mut self) {
        self.completions.flush();
    }

    /// Aborts a call and takes it out of the set; `false` if it is not in it.
    pub fn abort(&mut self, call: CallId) -> bool {
        self.completions.abort(call.0)
    }

    /// Waits for the next response; `None` if the set is empty.
    pub fn wait(&mut self) -> Option<(CallId, Result<Message, CallError>)> {
        // Responses come in batches, so there often is one.
        let next = match self.completions.take_ready() {
            Some(ready) => Some(ready),
            None => self.handle.wait(|waker| self.completions.poll_next(waker)),
        };
        next.map(named)
    }

    /// As [`CallSet::wait`], for at most `timeout`: `None` also then.
    pub fn wait_timeout(
        &mut self,
        timeout: Duration,
    ) -> Option<(CallId, Result<Message, CallError>)> {
        let until = Instant::now() + timeout;
        self.handle.wait_until(until, |waker| self.completions.poll_next(waker))?.map(named)
    }

    /// A response that is here already; looks for packets once.
    pub fn try_next(&mut self) -> Option<(CallId, Result<Message, CallError>)> {
        self.handle.look(|waker| self.completions.poll_next(waker))?.map(named)
    }
}

fn named(
    (id, response): (u64, Result<Message, CallError>),
) -> (CallId, Result<Message, CallError>) {
    (CallId(id), response)
}
