//! The guard's thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::Waker;
use std::thread::JoinHandle;

use super::core::Core;
use crate::drive::guard;
use crate::drive::parker::Parker;
use crate::drive::wait::Sleeper;

/// Stack of the guard, in bytes: it runs the engine and wakes others, nothing deep.
const STACK_BYTES: usize = 256 << 10;

/// The running guard of one endpoint.
#[derive(Debug)]
pub(crate) struct GuardThread {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl GuardThread {
    pub(crate) fn start(core: &Arc<Core>) -> io::Result<Self> {
        let (stop, core) = (Arc::new(AtomicBool::new(false)), Arc::clone(core));
        let stopped = Arc::clone(&stop);
        let (made, parker) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("homa-guard".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let parker = match Parker::new() {
                    Ok(parker) => parker,
                    Err(error) => return drop(made.send(Err(error))),
                };
                // The other end waits for exactly this.
                let _ = made.send(Ok(parker.waker().clone()));
                let stop = || stopped.load(Ordering::Acquire) && core.life.is_closed();
                guard::run(&*core, &parker, stop, |until_ns| parker.block(until_ns));
            })?;
        let waker = parker.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        Ok(Self { thread, stop, waker })
    }

    /// Ends it, now or when the endpoint is closed; `wait` for it, so that the socket is gone.
    pub(crate) fn end(self, wait: bool) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        if wait && self.thread.thread().id() != std::thread::current().id() {
            // A panic of the guard has been reported by the panic hook.
            let _ = self.thread.join();
        }
    }
}
