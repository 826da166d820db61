//! Many calls of one thread or task, their responses in the order they come.

use crate::pending::{Operation, Pending};
use crate::shared::{Completions, Handle, Starting};
use crate::{Call, CallError, Message};

/// Names a call of a [`CallSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub(crate) u64);

/// Calls under way, with one queue of responses. Starting a call and taking a response cost the
/// same for one or 100,000 calls in the set, and calls started together travel together. Dropping
/// the set aborts what is left in it.
///
/// ```
/// # use homa_transport::Endpoint;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Endpoint::bind("127.0.0.1:0")?;
/// # let address = server.local_addr();
/// # std::thread::spawn(move || while let Ok(request) = server.accept().wait() {
/// #     let _ = request.reply("done").wait();
/// # });
/// let client = Endpoint::client()?;
/// let mut calls = client.call_set();
/// for number in 0..100_u32 {
///     calls.add(client.call(address, number.to_be_bytes())).wait()?;
/// }
/// while let Some((_id, answer)) = calls.join_next().wait() {
///     assert_eq!(answer?, "done");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CallSet {
    completions: Completions,
}

impl CallSet {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { completions: Completions::new(handle) }
    }

    /// Adds a call, when there is room for it under the limits of the endpoint. It is sent at the
    /// latest when a response is waited for, by [`CallSet::flush`], or when 64 calls have gathered.
    ///
    /// Cancel-safe: if the future is dropped while it waits for room, the call is not in the set.
    ///
    /// # Errors
    /// Errors known at once; others come from [`CallSet::join_next`].
    #[inline]
    pub fn add(
        &mut self,
        call: Call,
    ) -> Pending<impl Operation<Output = Result<CallId, CallError>>> {
        let start = self.completions.start(call.into_pending());
        Pending::hasty(start, |start: &mut Starting<'_>, waker| start.poll(waker).map_ok(CallId))
    }

    /// Calls in the set: under way, or ready and not taken.
    pub fn len(&self) -> usize {
        self.completions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends what was added and not sent yet.
    pub fn flush(&mut self) {
        self.completions.flush();
    }

    /// Aborts a call and takes it out of the set; `false` if it is not in it.
    pub fn abort(&mut self, call: CallId) -> bool {
        self.completions.abort(call.0)
    }

    /// The next response; `None` if the set is empty.
    ///
    /// Cancel-safe: no response is lost if the future is dropped.
    #[allow(clippy::type_complexity, reason = "a pair in an option")]
    #[inline]
    pub fn join_next(
        &mut self,
    ) -> Pending<impl Operation<Output = Option<(CallId, Result<Message, CallError>)>>> {
        let has_some = self.completions.has_taken();
        Pending::new(&mut self.completions, |completions: &mut &mut Completions, waker| {
            let next = completions.poll_next(waker);
            next.map(|next| next.map(|(id, response)| (CallId(id), response)))
        })
        .hasty_if(has_some)
    }
}
