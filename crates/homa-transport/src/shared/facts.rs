//! Immutable properties of an endpoint.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use homa_core::Carriage;
use homa_io::driver::Driver;

use crate::EndpointBuilder;
use crate::drive::seat::NEVER_NS;

/// Where an endpoint is, how packets travel, and what it was set to.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) address: SocketAddr,
    pub(crate) carriage: Carriage,
    /// A second descriptor of what the driver receives from, to wait on without the lock.
    pub(crate) readable: Option<OwnedFd>,
    pub(crate) max_message_bytes: u32,
    /// Silence after which a peer counts as gone.
    pub(crate) timeout_ns: u64,
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
            readable: driver.readable().map(|fd| fd.try_clone_to_owned()).transpose()?,
            max_message_bytes: config.limits.max_message_bytes,
            timeout_ns: u64::try_from(config.recovery.timeout.as_nanos()).unwrap_or(NEVER_NS),
            linger: builder.linger,
        })
    }
}
