//! The one thread of a host: a runtime that runs while the load generator waits.

use std::{
    io,
    time::{Duration, Instant},
};

use homa_sys::{TimerFd, monotonic_ns};
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::mesh::Ended;

/// Runs everything of a host: servers, connections and calls.
#[derive(Debug)]
pub struct Tasks {
    runtime: Runtime,
    /// The runtime's own timers have a precision of a millisecond, too coarse to begin calls by.
    timer: AsyncFd<TimerFd>,
    // Bounded by the calls under way, which the load generator limits.
    sender: UnboundedSender<Ended>,
    receiver: UnboundedReceiver<Ended>,
}

impl Tasks {
    /// A runtime of one thread, which runs in [`poll`](Self::poll) and [`wait_for`](Self::wait_for)
    /// only.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let timer = {
            let _entered = runtime.enter();
            watch(TimerFd::new()?)?
        };
        let (sender, receiver) = unbounded_channel();
        Ok(Tasks { runtime, timer, sender, receiver })
    }

    /// Has a task run beside everything else.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Calls that create sockets and timers must be made within.
    pub fn within<T>(&self, make: impl FnOnce() -> T) -> T {
        let _entered = self.runtime.enter();
        make()
    }

    /// Begins a call; [`poll`](Self::poll) reports its end. The call tells whether it got its
    /// answer.
    pub fn start(&self, token: u64, call: impl Future<Output = bool> + Send + 'static) {
        let sender = self.sender.clone();
        self.runtime.spawn(async move {
            let reply = call.await;
            // The receiver lives as long as the runtime.
            let _ = sender.send(Ended { token, at: Instant::now(), reply });
        });
    }

    /// Runs until `work` is done, at most for `timeout`.
    ///
    /// # Errors
    /// The work's, or `TimedOut`.
    pub fn wait_for<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let done = self.runtime.block_on(async { tokio::time::timeout(timeout, work).await });
        done.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Runs until a call ended or until `until`; adds the calls that ended.
    ///
    /// # Errors
    /// What the system says of its timer.
    pub fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        let left_ns = until.saturating_duration_since(Instant::now()).as_nanos();
        let left_ns = u64::try_from(left_ns).unwrap_or(u64::MAX / 2);
        self.timer.get_ref().arm(monotonic_ns().saturating_add(left_ns))?;
        let (timer, receiver) = (&self.timer, &mut self.receiver);
        self.runtime.block_on(async {
            tokio::select! {
                fired = timer.readable() => {
                    let mut fired = fired?;
                    timer.get_ref().drain()?;
                    fired.clear_ready();
                }
                call = receiver.recv() => ended.extend(call),
            }
            io::Result::Ok(())
        })?;
        while let Ok(call) = self.receiver.try_recv() {
            ended.push(call);
        }
        Ok(())
    }
}

/// Tells the runtime of a timer.
#[allow(
    deprecated,
    reason = "a TimerFd owns its descriptor, which is what the replacement demands a promise for"
)]
fn watch(timer: TimerFd) -> io::Result<AsyncFd<TimerFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_ends_with_the_first_call_or_in_time() {
        let mut tasks = Tasks::new().unwrap();
        let begin = Instant::now();
        let mut ended = Vec::new();
        tasks.poll(begin + Duration::from_millis(5), &mut ended).unwrap();
        assert!(ended.is_empty() && begin.elapsed() >= Duration::from_millis(5));
        tasks.start(7, async { true });
        tasks.start(8, async { false });
        tasks.poll(begin + Duration::from_secs(60), &mut ended).unwrap();
        while ended.len() < 2 {
            tasks.poll(begin + Duration::from_secs(60), &mut ended).unwrap();
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        let found: Vec<_> = ended.iter().map(|call| (call.token, call.reply)).collect();
        assert_eq!(found, [(7, true), (8, false)]);
    }

    #[test]
    fn work_that_takes_too_long_is_given_up() {
        let tasks = Tasks::new().unwrap();
        let forever = std::future::pending::<io::Result<()>>();
        let error = tasks.wait_for(Duration::from_millis(5), forever).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
