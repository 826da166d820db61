//! What endpoints, calls and requests hold: together they keep the endpoint open.

use std::io;
use std::net::SocketAddr;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use homa_core::{
    Carriage, Config, CutoffSource, Cutoffs, Engine, HostBudget, PeerSettings, PortOptions, Seed,
};
use homa_io::ip::{IpConfig, IpDriver, IpError, TcpForm};
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_io::{AnyDriver, Body, Shard};
use homa_sys::{monotonic_ns, random_bytes};

use super::accept::{AcceptQueue, Acceptor, ServingMode};
use super::call::{CallMode, Order, PendingCall, Sending};
use super::completions::Queue;
use super::core::Core;
use super::guard_thread::GuardThread;
use super::ops::Operation;
use super::room::Room;
use crate::drive::parker::Parker;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, lock};
use crate::drive::wait::{Host, wait};
use crate::{AcceptError, BindError, CallError, CallOptions, EndpointBuilder, Stats};

/// The receive buffer that Linux gives without being asked, in its own accounting.
const STOCK_RECEIVE_BUFFER_BYTES: usize = 212_992;

/// A share of an endpoint; dropping the last one closes it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    /// Whoever waits through this handle does so in a runtime.
    in_runtime: bool,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    guard: Mutex<Option<GuardThread>>,
}

/// Handlers and wakers run without any of the locks, so a panic of theirs leaves nothing half changed.
impl RefUnwindSafe for Shared {}

impl Handle {
    /// Opens the first of `addresses` that works.
    pub(crate) fn bind(
        builder: EndpointBuilder,
        addresses: &[SocketAddr],
        serve: bool,
        in_runtime: bool,
    ) -> Result<Self, BindError> {
        builder.config.validate()?;
        let (driver, address) = open(&builder, addresses, serve)?;
        let seed = match builder.seed {
            Some(seed) => Seed::from(seed),
            None => Seed::from(random_bytes().map_err(BindError::Resources)?),
        };
        let mut engine = Engine::new(engine_config(&builder), HostBudget::local(), seed)?;
        // The engine's age counts from here: it tells clients whether a request can have met an earlier life.
        engine.handle_timeout(homa_core::Instant::from_nanos(monotonic_ns()), false);
        let port = homa_io::driver::Driver::local_addr(&driver).port();
        let mode = match (serve, builder.streaming_requests) {
            (false, _) => None,
            (true, false) => Some(ServingMode::Whole),
            (true, true) => Some(ServingMode::Streaming),
        };
        let options = match mode {
            None => PortOptions::CLIENT,
            Some(ServingMode::Whole) => PortOptions::SERVE,
            Some(ServingMode::Streaming) => PortOptions::SERVE.with_streaming_requests(),
        };
        let no_memory = |_| BindError::Resources(io::ErrorKind::OutOfMemory.into());
        engine.bind_port(port, options).map_err(no_memory)?;
        let accept = AcceptQueue::new(builder.accept_queue_max, mode);
        let core = Core::new(&builder, Shard::new(engine, driver), accept)
            .map_err(|reason| BindError::Socket { address, reason })?;
        let core = Arc::new(core);
        let guard = GuardThread::start(&core).map_err(BindError::Resources)?;
        let shared = Arc::new(Shared { core, guard: Mutex::new(Some(guard)) });
        Ok(Self { shared, in_runtime })
    }

    /// The same endpoint, waited for in a runtime or not.
    #[cfg(feature = "tokio")]
    pub(crate) fn in_runtime(mut self, in_runtime: bool) -> Self {
        self.in_runtime = in_runtime;
        self
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.shared.core
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.core().local_addr
    }

    pub(crate) fn max_message_bytes(&self) -> u32 {
        self.core().max_message_bytes
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.core().is_forked()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.core().is_closed()
    }

    /// Whether a deadline has come.
    pub(crate) fn is_past(&self, deadline_ns: u64) -> bool {
        deadline_ns != NEVER_NS && monotonic_ns() >= deadline_ns
    }

    /// Whether new calls can begin.
    pub(crate) fn check_open(&self) -> Result<(), CallError> {
        if self.is_forked() {
            return Err(CallError::Forked);
        }
        if let Some(error) = self.core().socket_error() {
            return Err(CallError::Socket(error));
        }
        if self.core().is_open() { Ok(()) } else { Err(CallError::Closed) }
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.is_forked() { Stats::default() } else { self.core().stats() }
    }

    pub(crate) fn set_peer(&self, peer: SocketAddr, settings: PeerSettings) -> bool {
        let open = self.check_open().is_ok();
        if open {
            self.submit(Operation::SetPeer(peer, settings));
        }
        open
    }

    pub(crate) fn calls(&self) -> &Room {
        &self.core().calls
    }

    pub(crate) fn answers(&self) -> &Room {
        &self.core().answers
    }

    pub(crate) fn accept_queue(&self) -> Result<&AcceptQueue, AcceptError> {
        if self.is_forked() {
            return Err(AcceptError::Forked);
        }
        match self.core().socket_error() {
            Some(error) => Err(AcceptError::Socket(error)),
            None => Ok(&self.core().accept),
        }
    }

    pub(crate) fn acceptor(&self, mode: ServingMode) -> Result<Acceptor<'_>, AcceptError> {
        Acceptor::new(self, mode)
    }

    pub(crate) fn start(
        &self,
        server: SocketAddr,
        body: Body,
        options: CallOptions,
        mode: CallMode,
    ) -> PendingCall {
        let order = order(body, options, mode, Sending::Now, None);
        PendingCall::start(self.clone(), server, order)
    }

    pub(crate) fn try_start(
        &self,
        server: SocketAddr,
        body: Body,
        options: CallOptions,
        mode: CallMode,
    ) -> Result<PendingCall, CallError> {
        self.start(server, body, options, mode).without_waiting()
    }

    /// As [`Handle::start`], sent with others; `queue` is told when the call is over.
    pub(crate) fn start_later(
        &self,
        server: SocketAddr,
        body: Body,
        options: CallOptions,
        mode: CallMode,
        queue: Option<(Arc<Queue>, u64)>,
    ) -> PendingCall {
        let order = order(body, options, mode, Sending::Later, queue);
        PendingCall::start(self.clone(), server, order)
    }

    pub(crate) fn submit(&self, operation: Operation) {
        self.core().submit(operation);
    }

    pub(crate) fn submit_later(&self, operation: Operation) {
        self.core().submit_later(operation);
    }

    /// Sends an answer: with others if more requests wait already, since whoever answers will
    /// probably accept the next one at once.
    pub(crate) fn submit_reply(&self, operation: Operation) {
        if self.core().accept.len() > 0 {
            self.core().submit_later(operation);
            self.core().flush_if_old();
        } else {
            self.core().submit(operation);
        }
    }

    pub(crate) fn flush(&self) {
        if !self.is_forked() {
            self.core().flush();
        }
    }

    pub(crate) fn flush_if_old(&self) {
        self.core().flush_if_old();
    }

    pub(crate) fn renew_deadline(&self) {
        self.core().renew_deadline();
    }

    /// Called by every poll that has to wait: inside a runtime, a task of it drives.
    pub(crate) fn drive_by_task(&self) {
        #[cfg(feature = "tokio")]
        if self.in_runtime {
            crate::asynchronous::ensure_task(self.core());
        }
    }

    /// Blocks until `poll` is ready.
    pub(crate) fn wait<T>(&self, poll: impl FnMut(&Waker) -> Poll<T>) -> T {
        let mut poll = poll;
        loop {
            if let Some(value) = self.wait_until_ns(NEVER_NS, &mut poll) {
                return value;
            }
        }
    }

    /// Blocks until `poll` is ready or the time has come.
    pub(crate) fn wait_until<T>(
        &self,
        until: Instant,
        poll: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        self.wait_until_ns(to_ns(until), poll)
    }

    fn wait_until_ns<T>(
        &self,
        until_ns: u64,
        mut poll: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let core = self.core();
        if core.is_forked() {
            // Nothing may be driven here; the poll says so.
            return match poll(Waker::noop()) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
        }
        let waited = Parker::with(|parker| wait(&**core, parker, until_ns, &mut poll));
        match waited {
            Ok(value) => value,
            // Out of descriptors: no way to sleep on one, so look now and then.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(1));
                core.attend();
                core.turn();
                while !core.try_leave() {
                    core.turn();
                }
                match poll(Waker::noop()) {
                    Poll::Ready(value) => Some(value),
                    Poll::Pending if monotonic_ns() < until_ns => {
                        self.wait_until_ns(until_ns, poll)
                    }
                    Poll::Pending => None,
                }
            }
        }
    }

    /// Looks for packets once, then whether `poll` is ready.
    pub(crate) fn look<T>(&self, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
        self.wait_until_ns(1, &mut poll)
    }

    pub(crate) fn close(&self) -> Closing {
        if !self.is_forked() {
            self.core().begin_close();
        }
        Closing { handle: self.clone(), ticket: None }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.core.is_forked() {
            return;
        }
        self.core.begin_close();
        if let Some(guard) = lock(&self.guard).take() {
            guard.end(self.core.is_closed());
        }
    }
}

/// The end of closing.
#[derive(Debug)]
pub(crate) struct Closing {
    handle: Handle,
    ticket: Option<u64>,
}

impl Closing {
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        if self.handle.is_forked() || self.handle.core().wait_closed(&mut self.ticket, waker) {
            return Poll::Ready(());
        }
        self.handle.drive_by_task();
        Poll::Pending
    }
}

/// The engine's settings with what depends on the carriage and on the room for answers.
fn engine_config(builder: &EndpointBuilder) -> Config {
    let mut config = builder.config.clone();
    let automatic = builder.automatic_cutoffs.unwrap_or(builder.carriage == Carriage::Udp);
    if !automatic && matches!(config.cutoffs, CutoffSource::Automatic { .. }) {
        config.cutoffs = CutoffSource::Fixed(Cutoffs::default_for(config.num_priorities));
    }
    // Who enters a full room drives others out.
    config.kept_responses_bytes = config.kept_responses_bytes.min(builder.outstanding_bytes_max);
    config
}

/// Opens a driver at the first of `addresses` that works.
fn open(
    builder: &EndpointBuilder,
    addresses: &[SocketAddr],
    serve: bool,
) -> Result<(AnyDriver, SocketAddr), BindError> {
    let bytes = builder.receive_buffer_bytes.map_or(STOCK_RECEIVE_BUFFER_BYTES, |b| b as usize);
    let mut failed = BindError::Resolve(io::ErrorKind::NotFound.into());
    for &address in addresses {
        let opened = match builder.carriage {
            Carriage::Udp => open_udp(address, bytes, serve),
            Carriage::Ip => open_ip(address, bytes, builder.tcp_form),
            other => return Err(BindError::Carriage(other)),
        };
        failed = match opened {
            Ok(driver) => return Ok((driver, address)),
            Err(error) => error,
        };
    }
    Err(failed)
}

fn open_udp(address: SocketAddr, bytes: usize, serve: bool) -> Result<AnyDriver, BindError> {
    let config = UdpConfig::default().receive_buffer_bytes(bytes).one_peer(!serve);
    match UdpDriver::bind(address, &config) {
        Ok(driver) => Ok(driver.into()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(BindError::InUse { address }),
        Err(reason) => Err(BindError::Socket { address, reason }),
    }
}

fn open_ip(address: SocketAddr, bytes: usize, form: TcpForm) -> Result<AnyDriver, BindError> {
    let config = IpConfig::default().receive_buffer_bytes(bytes).tcp_form(form);
    IpDriver::bind(address, &config).map(AnyDriver::from).map_err(|error| match error {
        IpError::NoCapability => BindError::NoCapability(error),
        IpError::KernelModule => BindError::KernelModule(error),
        IpError::PortInUse { .. } => BindError::InUse { address },
        IpError::PortReserved { .. } => BindError::PortReserved { address },
        IpError::System(reason) => BindError::Socket { address, reason },
        other => BindError::Socket { address, reason: io::Error::other(other) },
    })
}

fn order(
    body: Body,
    options: CallOptions,
    mode: CallMode,
    sending: Sending,
    queue: Option<(Arc<Queue>, u64)>,
) -> Order {
    let deadline_ns = options.deadline.map_or(NEVER_NS, to_ns);
    let timeout_ns = options.timeout.map_or(NEVER_NS, |timeout| {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(NEVER_NS);
        monotonic_ns().saturating_add(timeout_ns)
    });
    let deadline_ns = deadline_ns.min(timeout_ns);
    Order { body, mode, sending, deadline_ns, priority_hint: options.priority_hint, queue }
}

/// A point in time of the standard library on the clock of all deadlines.
fn to_ns(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    monotonic_ns().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}
