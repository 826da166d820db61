//! Something under way, awaited by a task or by a thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::shared::Handle;

/// Something under way: a future for tasks, and [`Pending::wait`] for threads. Nothing happens
/// before it is polled or waited for, and dropping it ends it; what that means is said where it is
/// made.
///
/// A future in a tokio runtime has its protocol run by a task of that runtime; in other runtimes,
/// and without one, a thread of the endpoint does it.
#[must_use = "nothing happens until it is awaited or waited for"]
pub struct Pending<O> {
    handle: Handle,
    operation: O,
    /// It mostly is ready at once.
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

    pub trait Operation: Unpin {
        type Output;
        fn poll(&mut self, waker: &Waker) -> Poll<Self::Output>;
    }

    impl<T, F: FnMut(&Waker) -> Poll<T> + Unpin> Operation for F {
        type Output = T;
        #[inline]
        fn poll(&mut self, waker: &Waker) -> Poll<T> {
            self(waker)
        }
    }
}

impl<T, O: FnMut(&Waker) -> Poll<T> + Unpin> Pending<O> {
    #[inline]
    pub(crate) fn new(handle: Handle, operation: O) -> Self {
        Self { handle, operation, hasty: false }
    }

    /// The same of an operation that mostly is ready at once.
    #[inline]
    pub(crate) fn hasty(handle: Handle, operation: O) -> Self {
        Self { handle, operation, hasty: true }
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
        self.handle.wait(|waker| self.operation.poll(waker))
    }

    /// As [`Pending::wait`], for at most `timeout`; `None`: it goes on. Not to be waited for again
    /// after `Some`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<<O as Operation>::Output> {
        let until = Instant::now() + timeout;
        self.handle.wait_until(until, |waker| self.operation.poll(waker))
    }

    /// The result if it is there; looks for packets once. Not to be asked again after `Some`.
    pub fn try_wait(&mut self) -> Option<<O as Operation>::Output> {
        self.handle.look(|waker| self.operation.poll(waker))
    }
}

impl<O: Operation> Future for Pending<O> {
    type Output = <O as Operation>::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { handle, operation, .. } = &mut *self;
        poll(handle, context, |waker| operation.poll(waker))
    }
}

impl<O> fmt::Debug for Pending<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("endpoint", &self.handle.local_addr()).finish()
    }
}

/// Polls in a task; if it has to wait, a task of its runtime drives the endpoint.
#[inline]
pub(crate) fn poll<T>(
    handle: &Handle,
    context: &Context<'_>,
    mut poll: impl FnMut(&Waker) -> Poll<T>,
) -> Poll<T> {
    let polled = poll(context.waker());
    if polled.is_pending() {
        handle.drive_by_task();
    }
    polled
}
