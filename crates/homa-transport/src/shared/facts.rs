//! Immutable properties of an endpoint.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use homa_core::Carriage;
use homa_io::driver::Driver;

use crate::drive::seat::NEVER_NS;
use crate::{DriverInUse, EndpointBuilder};

/// Resend intervals for which a closing endpoint goes on to refuse: 250 ms by default, within which
/// clients ask even where others keep them from running.
const REFUSED_INTERVALS: u64 = 50;

/// Where an endpoint is, how packets travel, and what it was set to.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) address: SocketAddr,
    pub(crate) carriage: Carriage,
    pub(crate) driver: DriverInUse,
    /// A second descriptor of what the driver receives from, to wait on without the lock.
    pub(crate) readable: Option<OwnedFd>,
    pub(crate) max_message_bytes: u32,
    /// Silence after which a peer counts as gone.
    pub(crate) timeout_ns: u64,
    /// How long a closing endpoint goes on to refuse when all is done, in ns: so long that each
    /// client asks again.
    pub(crate) refusals_ns: u64,
    /// How long accepted requests and their responses have when the endpoint closes.
    pub(crate) linger: Duration,
}

impl Facts {
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn new(driver: &impl Driver, builder: &EndpointBuilder) -> io::Result<Self> {
        let config = &builder.config;
        Ok(Self {
            address: driver.local_addr(),
            carriage: driver.carriage(),
            driver: DriverInUse::Own,
            readable: driver.readable().map(|fd| fd.try_clone_to_owned()).transpose()?,
            max_message_bytes: config.limits.max_message_bytes,
            timeout_ns: u64::try_from(config.recovery.timeout.as_nanos()).unwrap_or(NEVER_NS),
            refusals_ns: u64::try_from(config.recovery.resend_interval.as_nanos())
                .unwrap_or(NEVER_NS)
                .saturating_mul(REFUSED_INTERVALS),
            linger: builder.linger,
        })
    }
}
