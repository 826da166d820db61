//! Drivers around drivers: to lose packets on purpose, to count them, to watch them. They nest.

/// Writes the methods of `Driver` that a wrapper leaves to the driver in its field `inner`.
macro_rules! leave_to_inner {
    () => {
        fn path(&mut self, remote: std::net::SocketAddr) -> (Option<u32>, Option<u32>) {
            self.inner.path(remote)
        }

        fn rx_capacity(&self) -> homa_io::driver::RxCapacity {
            self.inner.rx_capacity()
        }

        fn local_addr(&self) -> std::net::SocketAddr {
            self.inner.local_addr()
        }

        fn carriage(&self) -> homa_core::Carriage {
            self.inner.carriage()
        }

        fn readable(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            self.inner.readable()
        }

        fn tx_backlog_bytes(&self) -> Option<u64> {
            self.inner.tx_backlog_bytes()
        }

        fn rx_dropped(&self) -> u64 {
            self.inner.rx_dropped()
        }
    };
}

/// Writes the methods of `PacketSink` that a wrapper leaves to the sink in its field `sink`: all
/// but `packet`.
macro_rules! leave_to_sink {
    () => {
        fn refused_port(&self) -> bool {
            self.sink.refused_port()
        }

        fn icmp_error(
            &mut self,
            kind: homa_core::IcmpKind,
            destination: std::net::SocketAddr,
            quoted: &[u8],
        ) {
            self.sink.icmp_error(kind, destination, quoted);
        }

        fn path_mtu(&mut self, destination: std::net::SocketAddr, mtu: u32) {
            self.sink.path_mtu(destination, mtu);
        }
    };
}

mod count;
mod fault;
mod trace;

pub use count::{Counter, Counts};
pub use fault::{FaultInjector, FaultRates};
pub(crate) use trace::append_packet;
pub use trace::{Direction, Tracer};
