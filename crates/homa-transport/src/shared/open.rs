//! How an endpoint is opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::{
    Carriage, Config, CutoffSource, Cutoffs, Engine, HostBudget, Instant, PortOptions, Seed,
};
use homa_io::driver::Driver;
use homa_io::ip::{IpConfig, IpDriver, IpError, TcpForm};
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_io::{AnyDriver, Shard};
use homa_sys::random_bytes;

use super::accept::{AcceptQueue, ServingMode};
use super::core::Core;
use super::facts::Facts;
use super::guard_thread::GuardThread;
use super::handle::{EnsureTask, Handle};
use super::lifecycle::Lifecycle;
use super::locked::LockedShard;
use super::room::{Limits, Room};
use super::rooms::Rooms;
use super::spin::SpinBudget;
use crate::clock::{Clock, SystemClock};
use crate::{BindError, EndpointBuilder};

/// The receive buffer that Linux gives without being asked, in its own accounting.
const STOCK_RECEIVE_BUFFER_BYTES: usize = 212_992;

/// Opens an endpoint at the first of `addresses` that works.
pub(crate) fn open(
    builder: &EndpointBuilder,
    addresses: &[SocketAddr],
    serve: bool,
    task: Option<EnsureTask>,
) -> Result<Handle, BindError> {
    builder.config.validate()?;
    let driver = open_driver(builder, addresses, serve)?;
    let core = Arc::new(core_on(builder, serve, driver, SystemClock)?);
    let guard = GuardThread::start(&core).map_err(BindError::Resources)?;
    Ok(Handle::new(core, Some(guard), task))
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
    let facts = Facts::new(&driver, &builder.config)
        .map_err(|reason| BindError::Socket { address, reason })?;
    let engine = engine(builder, address.port(), mode, clock.now_ns())?;
    Ok(Core::new(
        Box::new(LockedShard::new(Shard::new(engine, driver), clock)),
        facts,
        rooms(builder, mode),
        Lifecycle::new(builder.linger),
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
    Rooms {
        calls: Room::new(Limits::Each { messages_max, bytes_max }),
        answers: Room::new(Limits::Shared { bytes_max }),
        requests: AcceptQueue::new(builder.accept_queue_max, mode),
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
fn open_driver(
    builder: &EndpointBuilder,
    addresses: &[SocketAddr],
    serve: bool,
) -> Result<AnyDriver, BindError> {
    let bytes = builder.receive_buffer_bytes.map_or(STOCK_RECEIVE_BUFFER_BYTES, |b| b as usize);
    let mut failed = BindError::Resolve(io::ErrorKind::NotFound.into());
    for &address in addresses {
        let opened = match builder.carriage {
            Carriage::Udp => open_udp(address, bytes, serve),
            Carriage::Ip => open_ip(address, bytes, builder.tcp_form),
            other => return Err(BindError::Carriage(other)),
        };
        failed = match opened {
            Ok(driver) => return Ok(driver),
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
