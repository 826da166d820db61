//! How an endpoint is opened.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use homa_core::{
    Carriage, Config, CutoffSource, Cutoffs, Engine, HostBudget, Instant, PortOptions, Seed,
};
use homa_io::Shard;
use homa_io::driver::Driver;
use homa_io::ip::{IpConfig, IpDriver, IpError, TcpForm};
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_io::xdp::{SocketDriver, XdpDriver, XdpError, XdpParts};
use homa_sys::random_bytes;

use super::accept::{AcceptQueue, ServingMode};
use super::alarms::Alarms;
use super::core::Core;
use super::facts::Facts;
use super::frame::{FRAME_BYTES_MAX, length_u32};
use super::guard_thread::GuardThread;
use super::handle::Handle;
use super::lifecycle::Lifecycle;
use super::locked::LockedShard;
use super::room::{Limits, Room};
use super::rooms::Rooms;
use super::service::Service;
use super::spin::SpinBudget;
use crate::clock::{Clock, SystemClock};
use crate::drive::seat::NEVER_NS;
use crate::{BindError, DriverChoice, DriverInUse, EndpointBuilder};

/// The receive buffer that Linux gives without being asked, in its own accounting.
const STOCK_RECEIVE_BUFFER_BYTES: usize = 212_992;

/// Opens an endpoint at the first of `addresses` that works.
pub(crate) fn open(
    builder: &EndpointBuilder,
    addresses: &[SocketAddr],
    serve: bool,
) -> Result<Handle, BindError> {
    builder.config.validate()?;
    guarded(open_core(builder, addresses, serve)?)
}

/// Opens an endpoint that serves at a socket that is bound already.
pub(crate) fn open_socket(
    builder: &EndpointBuilder,
    socket: UdpSocket,
) -> Result<Handle, BindError> {
    builder.config.validate()?;
    let config = UdpConfig::default().receive_buffer_bytes(receive_buffer_bytes(builder));
    let driver = UdpDriver::from_bound(socket, &config).map_err(BindError::Resources)?;
    guarded(core_over_sockets(builder, true, driver, None)?)
}

/// A core and the thread that drives it while nobody waits.
fn guarded(core: Core) -> Result<Handle, BindError> {
    let core = Arc::new(core);
    let guard = GuardThread::start(&core).map_err(BindError::Resources)?;
    Ok(Handle::new(core, Some(guard)))
}

/// An endpoint's core on any driver and clock.
pub(crate) fn core_on<D, C>(
    builder: &EndpointBuilder,
    serve: bool,
    driver: D,
    clock: C,
) -> Result<Core, BindError>
where
    D: Driver + fmt::Debug + Send + 'static,
    C: Clock + 'static,
{
    let mode = match (serve, builder.streaming_requests) {
        (false, _) => None,
        (true, false) => Some(ServingMode::Whole),
        (true, true) => Some(ServingMode::Streaming),
    };
    let address = driver.local_addr();
    let facts =
        Facts::new(&driver, builder).map_err(|reason| BindError::Socket { address, reason })?;
    let engine = engine(builder, address.port(), mode, clock.now_ns())?;
    Ok(Core::new(
        Box::new(LockedShard::new(Shard::new(engine, driver), clock)),
        facts,
        rooms(builder, mode),
        Lifecycle::new(),
        SpinBudget::new(builder.spin, builder.busy_poll),
    ))
}

/// An engine that has `port`.
fn engine(
    builder: &EndpointBuilder,
    port: u16,
    mode: Option<ServingMode>,
    now_ns: u64,
) -> Result<Engine, BindError> {
    let seed = match builder.seed {
        Some(seed) => Seed::from(seed),
        None => Seed::from(random_bytes().map_err(BindError::Resources)?),
    };
    let mut engine = Engine::new(engine_config(builder), HostBudget::local(), seed)?;
    // The engine's age counts from here: it tells clients whether a request can have met an
    // earlier incarnation.
    engine.handle_timeout(Instant::from_nanos(now_ns), false);
    let options = match mode {
        None => PortOptions::CLIENT,
        Some(ServingMode::Whole) => PortOptions::SERVE,
        Some(ServingMode::Streaming) => PortOptions::SERVE.with_streaming_requests(),
    };
    let no_memory = |_| BindError::Resources(io::ErrorKind::OutOfMemory.into());
    engine.bind_port(port, options).map_err(no_memory)?;
    Ok(engine)
}

fn rooms(builder: &EndpointBuilder, mode: Option<ServingMode>) -> Rooms {
    let bytes_max = builder.outstanding_bytes_max;
    let messages_max = builder.outstanding_calls_max;
    let queue_max = builder.queue_time_max.map(|max| u64::try_from(max.as_nanos()));
    let queue_max_ns = queue_max.and_then(Result::ok).unwrap_or(NEVER_NS);
    Rooms {
        calls: Room::new(Limits::Each { messages_max, bytes_max }),
        responses: Room::new(Limits::Shared { bytes_max }),
        requests: AcceptQueue::new(builder.accept_queue_max, queue_max_ns, mode),
        service: Service::default(),
        alarms: Alarms::default(),
    }
}

/// The engine's settings with what depends on the carriage and on the room for responses.
fn engine_config(builder: &EndpointBuilder) -> Config {
    let mut config = builder.config.clone();
    // A call of the longest body may have a deadline. The last byte of an open message is one more.
    config.limits.frame_bytes = length_u32(FRAME_BYTES_MAX) + 1;
    let longest = u64::from(config.limits.max_message_bytes + config.limits.frame_bytes);
    config.limits.receive_memory_bytes = config.limits.receive_memory_bytes.max(longest);
    let automatic = builder.automatic_cutoffs.unwrap_or(builder.carriage == Carriage::Udp);
    if !automatic && matches!(config.priorities.cutoffs, CutoffSource::Automatic { .. }) {
        config.priorities.cutoffs =
            CutoffSource::Fixed(Cutoffs::default_for(config.priorities.count));
    }
    // Bytes beyond a full room would displace those of others.
    config.responses.unacknowledged_bytes =
        config.responses.unacknowledged_bytes.min(builder.outstanding_bytes_max);
    config
}

/// Opens a core at the first of `addresses` that works.
fn open_core(
    builder: &EndpointBuilder,
    addresses: &[SocketAddr],
    serve: bool,
) -> Result<Core, BindError> {
    let mut failed = BindError::Resolve(io::ErrorKind::NotFound.into());
    for &address in addresses {
        let opened = match builder.carriage {
            Carriage::Udp => core_of(builder, serve, |beside| {
                // A socket that is connected would refuse what others send.
                open_udp(builder, address, !serve && !beside)
            }),
            Carriage::Ip => core_of(builder, serve, |_| open_ip(builder, address)),
            other => return Err(BindError::Carriage(other)),
        };
        failed = match opened {
            Ok(core) => return Ok(core),
            Err(error) => error,
        };
    }
    Err(failed)
}

/// Opens a core on the driver that was chosen. `open` opens the sockets; it is told whether rings
/// shall be beside them.
fn core_of<D>(
    builder: &EndpointBuilder,
    serve: bool,
    open: impl Fn(bool) -> Result<D, BindError>,
) -> Result<Core, BindError>
where
    D: SocketDriver + fmt::Debug + Send + 'static,
{
    if builder.driver == DriverChoice::Sockets {
        return core_over_sockets(builder, serve, open(false)?, None);
    }
    let mut sockets = open(true)?;
    match open_rings(builder, &mut sockets) {
        Ok(parts) => {
            let driver = XdpDriver::new(sockets, parts);
            let in_use = driver.place().map(DriverInUse::Xdp).unwrap_or(DriverInUse::Own);
            let mut core = core_on(builder, serve, driver, SystemClock)?;
            core.facts.driver = in_use;
            Ok(core)
        }
        Err(error) if builder.driver == DriverChoice::Xdp => Err(BindError::Xdp(error)),
        Err(error) => {
            // They give up the port first.
            drop(sockets);
            core_over_sockets(builder, serve, open(false)?, Some(error.to_string()))
        }
    }
}

fn open_rings(
    builder: &EndpointBuilder,
    sockets: &mut impl SocketDriver,
) -> Result<XdpParts, XdpError> {
    if builder.carriage == Carriage::Ip && builder.tcp_form == TcpForm::Sent {
        return Err(XdpError::TcpForm);
    }
    let native_only = builder.driver == DriverChoice::Auto;
    let config = builder.xdp.clone();
    XdpParts::new(sockets, &if native_only { config.native_only(true) } else { config })
}

fn core_over_sockets<D>(
    builder: &EndpointBuilder,
    serve: bool,
    sockets: D,
    why: Option<String>,
) -> Result<Core, BindError>
where
    D: Driver + fmt::Debug + Send + 'static,
{
    let mut core = core_on(builder, serve, sockets, SystemClock)?;
    core.facts.driver = DriverInUse::Sockets { why };
    Ok(core)
}

fn receive_buffer_bytes(builder: &EndpointBuilder) -> usize {
    builder.receive_buffer_bytes.map_or(STOCK_RECEIVE_BUFFER_BYTES, |bytes| bytes as usize)
}

fn open_udp(
    builder: &EndpointBuilder,
    address: SocketAddr,
    one_peer: bool,
) -> Result<UdpDriver, BindError> {
    let bytes = receive_buffer_bytes(builder);
    let config = UdpConfig::default().receive_buffer_bytes(bytes).one_peer(one_peer);
    UdpDriver::bind(address, &config).map_err(|reason| match reason.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => BindError::Socket { address, reason },
    })
}

fn open_ip(builder: &EndpointBuilder, address: SocketAddr) -> Result<IpDriver, BindError> {
    let bytes = receive_buffer_bytes(builder);
    let config = IpConfig::default().receive_buffer_bytes(bytes).tcp_form(builder.tcp_form);
    IpDriver::bind(address, &config).map_err(|error| match error {
        IpError::NoCapability => BindError::NoCapability(error),
        IpError::KernelModule => BindError::KernelModule(error),
        IpError::PortInUse { .. } => BindError::InUse { address },
        IpError::PortReserved { .. } => BindError::PortReserved { address },
        IpError::System(reason) => BindError::Socket { address, reason },
        other => BindError::Socket { address, reason: io::Error::other(other) },
    })
}
