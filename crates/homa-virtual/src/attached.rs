//! The driver of a host that somebody else turns.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use homa_core::{Carriage, Segment, Transmit};
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};

use crate::driver::VirtualDriver;

/// A [`VirtualDriver`] that its host and a [`World`](crate::World) share: the world moves packets
/// and time, whoever holds this takes the turns.
#[derive(Clone, Debug)]
pub struct AttachedDriver(Arc<Mutex<VirtualDriver>>);

impl AttachedDriver {
    pub(crate) fn new(driver: VirtualDriver) -> Self {
        Self(Arc::new(Mutex::new(driver)))
    }

    /// Whether packets or reports of the network wait to be received, so that a turn is due.
    pub fn has_received(&self) -> bool {
        self.lock().has_received()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, VirtualDriver> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for AttachedDriver {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        self.lock().receive(sink)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        self.lock().transmit(transmit, segments, payloads)
    }

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        self.lock().path(remote)
    }

    fn rx_capacity(&self) -> RxCapacity {
        self.lock().rx_capacity()
    }

    fn local_addr(&self) -> SocketAddr {
        self.lock().local_addr()
    }

    fn carriage(&self) -> Carriage {
        self.lock().carriage()
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        self.lock().tx_backlog_bytes()
    }

    fn rx_dropped(&self) -> u64 {
        self.lock().rx_dropped()
    }
}
