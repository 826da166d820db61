//! The thread that gives the switch frames and the time.

use std::{
    io,
    num::NonZeroU64,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::set_current_timer_slack,
};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::{
    core::{SwitchConfig, SwitchCore},
    frame::Frame,
    socket::{BATCH, Headers, PacketSocket},
};
use crate::{LabError, QueueTrace, Reading, kernel::port_name, namespace::NetNs};

/// Sleeping for less than this would end later than going on at once.
const SPIN_NS: u64 = 20_000;

/// Scheduling priority of the switch's thread, as of the command `nice`, where it may not be a
/// real-time thread.
const SWITCH_NICE: i32 = -15;

/// Priority among real-time threads, of 99: ahead of programs that are real-time threads
/// themselves, such as the load generator's, below what the kernel itself needs.
const SWITCH_REAL_TIME: u8 = 20;

/// The longest sleep: an idle switch looks this often whether it is to end.
const SLEEP_NS_MAX: u64 = 50_000_000;

/// A switch at work.
#[derive(Debug)]
pub(crate) struct RunningSwitch {
    core: Arc<Mutex<SwitchCore>>,
    /// Closing it ends the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningSwitch {
    /// Starts the switch on the ports of `fabric`; `since` is the zero of its time.
    pub(crate) fn start(
        fabric: &NetNs,
        config: SwitchConfig,
        since: Instant,
    ) -> Result<Self, LabError> {
        let ports = config.ports;
        let sockets = fabric
            .run(|| (0..ports).map(|port| PacketSocket::open(&port_name(port))).collect())
            .map_err(|error: io::Error| LabError::setup("open the ports of the switch", error))?;
        let core = Arc::new(Mutex::new(SwitchCore::new(config)));
        let (stop, stopped) = mpsc::channel();
        let mut work = Work::new(sockets, Arc::clone(&core), since);
        let thread = thread::Builder::new()
            .name("lab-switch".into())
            .spawn(move || work.run(&stopped))
            .map_err(|error| LabError::setup("start the switch", error))?;
        Ok(Self { core, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn read(&self) -> Reading {
        let core = lock(&self.core);
        let at_ns = core.now_ns();
        Reading { from_ns: at_ns, until_ns: at_ns, ports: core.counters() }
    }

    pub(crate) fn trace(&self) -> QueueTrace {
        lock(&self.core).trace()
    }

    pub(crate) fn take_trace(&self) -> QueueTrace {
        lock(&self.core).take_trace()
    }
}

impl Drop for RunningSwitch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the switch was printed when it happened.
            let _ = thread.join();
        }
    }
}

struct Work {
    sockets: Vec<PacketSocket>,
    core: Arc<Mutex<SwitchCore>>,
    since: Instant,
    /// Frames for each host, sent together.
    outgoing: Vec<Vec<Frame>>,
    incoming: Vec<Frame>,
}

impl Work {
    fn new(sockets: Vec<PacketSocket>, core: Arc<Mutex<SwitchCore>>, since: Instant) -> Self {
        let outgoing = sockets.iter().map(|_| Vec::new()).collect();
        Self { sockets, core, since, outgoing, incoming: Vec::new() }
    }

    fn run(&mut self, stopped: &mpsc::Receiver<()>) {
        // Without this the kernel makes sleeps 50 microseconds longer, to save wake-ups.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        ahead_of_programs();
        let mut headers = Headers::new();
        let mut readable = vec![true; self.sockets.len()];
        loop {
            let next_ns = self.turn(&mut headers, &readable);
            if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                return;
            }
            self.wait(next_ns, &mut readable);
        }
    }

    /// Takes in what has arrived, does what is due, and says when more is due.
    fn turn(&mut self, headers: &mut Headers, readable: &[bool]) -> Option<u64> {
        let mut core = lock(&self.core);
        for (port, socket) in self.sockets.iter().enumerate() {
            if readable.get(port).copied().unwrap_or(false) {
                self.incoming.resize_with(BATCH, || core.buffer());
                // A socket that fails has lost its device: its host is gone, the others go on.
                let count = socket.receive(headers, &mut self.incoming).unwrap_or(0);
                let now_ns = elapsed_ns(self.since);
                for frame in self.incoming.drain(..count) {
                    core.arrive(now_ns, port, frame);
                }
            }
        }
        core.advance(elapsed_ns(self.since), |host, frame| {
            if let Some(frames) = self.outgoing.get_mut(host) {
                frames.push(frame);
            }
        });
        for (socket, frames) in self.sockets.iter().zip(&mut self.outgoing) {
            for batch in frames.chunks(BATCH) {
                // What the kernel does not take is lost, as on a host that cannot keep up.
                let _ = socket.send(headers, batch);
            }
            for frame in frames.drain(..) {
                core.recycle(frame);
            }
        }
        core.next_event_ns()
    }

    /// Waits for frames or the next event; afterwards `readable` tells which ports have frames.
    fn wait(&self, next_ns: Option<u64>, readable: &mut [bool]) {
        let left_ns = next_ns
            .map_or(SLEEP_NS_MAX, |next_ns| next_ns.saturating_sub(elapsed_ns(self.since)))
            .min(SLEEP_NS_MAX);
        let sleep_ns = left_ns.saturating_sub(SPIN_NS);
        let mut descriptors: Vec<_> = self
            .sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
            .collect();
        // Far less than a second; without a limit a stop would not be seen.
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep_ns as _ };
        // An interrupted wait is a short one.
        let found = poll(&mut descriptors, Some(&timeout)).unwrap_or(0);
        for (readable, descriptor) in readable.iter_mut().zip(&descriptors) {
            *readable = found > 0 && !descriptor.revents().is_empty();
        }
    }
}

/// A switch that waits for the hosts' programs would not be one. Only root may; otherwise it
/// shares.
fn ahead_of_programs() {
    let _ = rustix::process::setpriority_process(None, SWITCH_NICE);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    if let Ok(priority) = ThreadPriorityValue::try_from(SWITCH_REAL_TIME) {
        let priority = ThreadPriority::Crossplatform(priority);
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A panic elsewhere leaves the counters as they are, which is all that is read.
fn lock(core: &Mutex<SwitchCore>) -> MutexGuard<'_, SwitchCore> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}
