//! Something under way, awaited by a task or by a thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::shared::{Handle, HasHandle};

/// Something under way: a future for tasks, and [`Pending::wait`] for threads. Nothing happens
/// before it is polled or waited for, and dropping it ends it; what that means is said where it is
/// made.
///
/// A future in a tokio runtime has its protocol run by a task of that runtime; in other runtimes,
/// and without one, a thread of the endpoint does it.
#[must_use = "nothing happens until it is awaited or waited for"]
pub struct Pending<O> {
    operation: O,
    /// It probably is ready at once.
    hasty: bool,
}

/// What a [`Pending`] waits for. Only this crate has such operations.
pub trait Operation: sealed::Operation<Output = <Self as Operation>::Output> {
    /// Result of the operation.
    type Output;
}

impl<O: sealed::Operation> Operation for O {
    type Output = <O as sealed::Operation>::Output;
}

mod sealed {
    use std::task::{Poll, Waker};

    use crate::shared::Handle;

    pub trait Operation: Unpin {
        type Output;
        fn poll(&mut self, waker: &Waker) -> Poll<Self::Output>;
        /// Of the endpoint that it waits for.
        #[allow(private_interfaces, reason = "nobody else can name this trait")]
        fn handle(&self) -> &Handle;
    }
}

/// What is polled with a part of an endpoint.
pub(crate) struct Polled<P, F> {
    part: P,
    poll: F,
}

impl<P, F, T> sealed::Operation for Polled<P, F>
where
    P: HasHandle + Unpin,
    F: FnMut(&mut P, &Waker) -> Poll<T> + Unpin,
{
    type Output = T;

    #[inline]
    fn poll(&mut self, waker: &Waker) -> Poll<T> {
        (self.poll)(&mut self.part, waker)
    }

    #[inline]
    fn handle(&self) -> &Handle {
        self.part.handle()
    }
}

impl<P, F> Pending<Polled<P, F>> {
    #[inline]
    pub(crate) fn new<T>(part: P, poll: F) -> Self
    where
        F: FnMut(&mut P, &Waker) -> Poll<T>,
    {
        Self { operation: Polled { part, poll }, hasty: false }
    }

    /// The same of an operation that probably is ready at once.
    #[inline]
    pub(crate) fn hasty<T>(part: P, poll: F) -> Self
    where
        F: FnMut(&mut P, &Waker) -> Poll<T>,
    {
        Self { hasty: true, ..Self::new(part, poll) }
    }

    /// Says whether it probably is ready at once.
    #[inline]
    pub(crate) fn hasty_if(self, hasty: bool) -> Self {
        Self { hasty, ..self }
    }
}

impl<O: Operation> Pending<O> {
    /// Waits in this thread, which runs the protocol meanwhile.
    #[inline]
    pub fn wait(mut self) -> <O as Operation>::Output {
        if self.hasty {
            if let Poll::Ready(ready) = self.operation.poll(Waker::noop()) {
                return ready;
            }
        }
        let handle = self.operation.handle().clone();
        handle.wait(|waker| self.operation.poll(waker))
    }

    /// As [`Pending::wait`], for at most `timeout`; `None`: it goes on. Not to be waited for again
    /// after `Some`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<<O as Operation>::Output> {
        let until = Instant::now() + timeout;
        let handle = self.operation.handle().clone();
        handle.wait_until(until, |waker| self.operation.poll(waker))
    }

    /// The result if it is there; looks for packets once. Not to be asked again after `Some`.
    pub fn try_wait(&mut self) -> Option<<O as Operation>::Output> {
        let handle = self.operation.handle().clone();
        handle.look(|waker| self.operation.poll(waker))
    }
}

impl<O: Operation> Future for Pending<O> {
    type Output = <O as Operation>::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let operation = &mut self.operation;
        let polled = operation.poll(context.waker());
        if polled.is_pending() {
            operation.handle().drive_by_task();
        }
        polled
    }
}

impl<O: Operation> fmt::Debug for Pending<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("endpoint", &self.operation.handle().local_addr()).finish()
    }
}

/// Polls in a task; if it has to wait, a task of its runtime drives the endpoint.
#[inline]
pub(crate) fn poll<P: HasHandle, T>(
    part: &mut P,
    context: &Context<'_>,
    poll: impl FnOnce(&mut P, &Waker) -> Poll<T>,
) -> Poll<T> {
    let polled = poll(part, context.waker());
    if polled.is_pending() {
        part.handle().drive_by_task();
    }
    polled
}
