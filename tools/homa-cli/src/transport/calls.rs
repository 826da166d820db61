//! A client as the load generator calls it.

use std::{io, time::Instant};

use bytes::Bytes;
use homa_bench::generator::{Caller, Ended};

use super::Pipeline;
use crate::error::CliError;

/// The length of a reply, or why there is none.
pub(crate) type Reply = Result<usize, String>;

/// Calls with requests of any length.
pub(crate) struct Calls<'a, N> {
    /// Makes the calls.
    pub client: &'a mut dyn Pipeline,
    /// The longest request; others are the front of it.
    pub payload: Bytes,
    /// Length of the shortest request.
    pub bytes_min: u64,
    /// Whether one look at the clock stands for all calls that one poll ends, where that many end
    /// that a look for each would show in their rate.
    pub one_look: bool,
    /// What the time is.
    pub now: N,
}

impl<'a, N: Fn() -> Instant> Calls<'a, N> {
    /// Calls with requests of at least a byte, each with its own time.
    pub(crate) fn new(client: &'a mut dyn Pipeline, payload: Bytes, now: N) -> Self {
        Calls { client, payload, bytes_min: 1, one_look: false, now }
    }

    /// A request of this length, as far as there may be one.
    pub(crate) fn request(&self, bytes: u64) -> Bytes {
        self.payload.slice(..self.payload.len().min(bytes.max(self.bytes_min) as usize))
    }
}

impl<N: Fn() -> Instant> Caller for Calls<'_, N> {
    type Reply = Reply;

    fn start(&mut self, token: u64, server: usize, bytes: u64) -> Result<(), Reply> {
        let request = self.request(bytes);
        self.client.start(token, server, &request).map_err(|error| Err(error.to_string()))
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended<Reply>>) -> io::Result<()> {
        let (before, one_look) = (ended.len(), self.one_look);
        let polled = self.client.poll(until, &mut |token, outcome| {
            let reply = outcome.map(|reply| reply.remaining());
            let at = if one_look { until } else { (self.now)() };
            ended.push(Ended { token, at, reply });
        });
        if one_look && ended.len() > before {
            let at = (self.now)();
            ended[before..].iter_mut().for_each(|call| call.at = at);
        }
        polled.map(drop).map_err(io::Error::other)
    }
}

/// Why a load ended early, from what the generator says.
pub(crate) fn failure(error: io::Error) -> CliError {
    error.downcast().unwrap_or_else(|error| CliError::Transport(error.to_string()))
}
