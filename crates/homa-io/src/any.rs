//! The driver an endpoint runs on, chosen when it is opened.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use homa_core::{Carriage, Segment, Transmit};

use crate::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use crate::ip::IpDriver;
use crate::udp::UdpDriver;

/// One of the drivers over sockets; each call goes to it by a `match`.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyDriver {
    /// UDP datagrams.
    Udp(UdpDriver),
    /// Raw IP.
    Ip(IpDriver),
}

/// Does the same with whichever driver it is.
macro_rules! each {
    ($any:expr, $driver:ident => $call:expr) => {
        match $any {
            AnyDriver::Udp($driver) => $call,
            AnyDriver::Ip($driver) => $call,
        }
    };
}

impl From<UdpDriver> for AnyDriver {
    fn from(driver: UdpDriver) -> Self {
        Self::Udp(driver)
    }
}

impl From<IpDriver> for AnyDriver {
    fn from(driver: IpDriver) -> Self {
        Self::Ip(driver)
    }
}

impl Driver for AnyDriver {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        each!(self, driver => driver.receive(sink))
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        each!(self, driver => driver.transmit(transmit, segments, payloads))
    }

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        each!(self, driver => driver.path(remote))
    }

    fn rx_capacity(&self) -> RxCapacity {
        each!(self, driver => driver.rx_capacity())
    }

    fn local_addr(&self) -> SocketAddr {
        each!(self, driver => driver.local_addr())
    }

    fn carriage(&self) -> Carriage {
        each!(self, driver => driver.carriage())
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        each!(self, driver => driver.readable())
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        each!(self, driver => driver.tx_backlog_bytes())
    }

    fn rx_dropped(&self) -> u64 {
        each!(self, driver => driver.rx_dropped())
    }
}
